"""The columns that fit and transform read from a user's DataFrame.

Here: each column checked against the schema, its values as a Spark expression, and what is wrong with each row whose
value is unusable (its fault). Not here: keys and bags (`training_rows`). A function that runs a job says so.
Called by the estimator and the model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pyspark.ml.functions import vector_to_array
from pyspark.ml.linalg import VectorUDT
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    BooleanType,
    ByteType,
    NumericType,
    ShortType,
    StructField,
    StructType,
)

from spark_cnn_ensemble.rows.libsvm import libsvm_remedy
from spark_cnn_ensemble.worker.pixels import BEYOND_FLOAT32, PixelFormat, encoded_shape, is_encoded

_IMAGE_FIELDS = {"origin", "height", "width", "nChannels", "data"}
SKIP = "; fix the row, or set handleInvalid='skip' to leave such rows out."


@dataclass(frozen=True)
class Features:
    """A column of features.

    Parameters
    ----------
    pixels : PixelFormat
        How a cell holds an image.
    cells : Column
        What workers get: an array of numbers, or bytes.
    fault : Column
        string; what is wrong with a row's features, null where they are usable.
    name : Column
        string; a row's name in messages (the path of Spark's image struct), else null.
    """

    pixels: PixelFormat
    cells: Column
    fault: Column
    name: Column

    def content(self, cells: Column) -> Column:
        """The cells in the form to hash: arrays of the same numbers are the same, whatever their type."""
        return cells.cast("array<float>") if self.pixels.form == "array" else cells


def column(name: str) -> Column:
    """The column with exactly this name, dots included."""
    return F.col("`" + name.replace("`", "``") + "`")


def field(dataset: DataFrame, name: str, param: str) -> StructField:
    """The schema's field of a column that a Param names.

    Raises
    ------
    ValueError
        The column is missing, or there is more than one.
    """
    entries = [entry for entry in dataset.schema.fields if entry.name == name]
    if not entries:
        names = ", ".join(repr(entry.name) for entry in dataset.schema.fields)
        raise ValueError(f"The DataFrame has no column '{name}' (parameter '{param}'), only {names}; set '{param}'.")
    if len(entries) > 1:
        raise ValueError(
            f"The DataFrame has more than one column '{name}' (parameter '{param}'); rename one, or set '{param}'."
        )
    return entries[0]


def _form(entry: StructField) -> str:
    kind = entry.dataType
    if isinstance(kind, VectorUDT) or (isinstance(kind, ArrayType) and isinstance(kind.elementType, NumericType)):
        return "array"
    if isinstance(kind, BinaryType):
        return "bytes"
    if isinstance(kind, StructType) and set(kind.names) >= _IMAGE_FIELDS:
        return "bgr"
    raise ValueError(
        f"Column '{entry.name}' (parameter 'featuresCol') is of type {kind.simpleString()}, but features must be a "
        "vector, an array of numbers, an image struct, or bytes; convert the column or set 'featuresCol'."
    )


def _cells(entry: StructField) -> Column:
    cells = column(entry.name)
    kind = entry.dataType
    if isinstance(kind, VectorUDT):
        return F.when(cells.isNotNull(), vector_to_array(cells, "float32"))  # vector_to_array fails on null
    if isinstance(kind, StructType):
        return cells["data"]
    if isinstance(kind, ArrayType) and not isinstance(kind.elementType, ByteType | ShortType):
        return cells.cast("array<float>")
    return cells


def features_of(dataset: DataFrame, name: str, shape: tuple[int, int, int]) -> Features:
    """The features column as images of `shape` (height, width, channels).

    Raises
    ------
    ValueError
        The column is missing, its type cannot hold images, or its metadata has another length.
    """
    entry = field(dataset, name, "featuresCol")
    form, cells = _form(entry), _cells(entry)
    pixels = PixelFormat(name, form, shape)
    length = _length_in_metadata(entry)
    if length not in (None, pixels.size):
        raise ValueError(_wrong_length(entry, length, shape))
    fault = F.when(cells.isNull(), F.lit("is null"))
    origin = F.lit(None).cast("string")
    if form == "array":
        fault = fault.when(
            F.size(cells) != pixels.size,
            F.concat(F.lit("has "), F.size(cells), F.lit(f" numbers where {pixels.size} were expected")),
        ).when(_has_unusable(entry, cells), _why_unusable(entry))
    elif form == "bgr":
        image = column(name)
        size = (image["height"], image["width"], image["nChannels"])
        origin = image["origin"]
        fault = (
            fault.when(size[0] < 0, F.lit("is an unreadable image"))
            .when(
                F.concat_ws("x", *size) != "x".join(map(str, shape)),
                F.concat(F.lit("is an image of "), F.concat_ws("x", *size), F.lit(f" where {_by(shape)} was expected")),
            )
            .when(F.length(cells) != pixels.size, F.lit("is an image whose data is cut short"))
        )
    return Features(pixels, cells, F.concat(F.lit(f"column '{name}' "), fault), origin)


def cells_of_known_size(features: Features, refuse: bool) -> Column:
    """The cells to score.

    The height and width of Spark's image struct do not reach a worker, so they are checked here; the worker checks the
    rest. Cells of another size fail the job, or are null if not `refuse`.
    """
    if features.pixels.form != "bgr":
        return features.cells
    if not refuse:
        return F.when(features.fault.isNull(), features.cells)
    return F.when(refusing(F.lit(1), features.fault, features.name) == 1, features.cells)


def _by(shape: tuple[int, int, int]) -> str:
    return "x".join(map(str, shape))


def _has_unusable(entry: StructField, cells: Column) -> Column:
    # array_contains is compiled, unlike exists(); it gives null where the array holds a null but not the value.
    kind = entry.dataType
    if isinstance(kind, ArrayType) and isinstance(kind.elementType, ByteType | ShortType):
        return F.array_contains(cells, F.lit(127).cast(kind.elementType)).isNull()
    unusable = F.coalesce(F.array_contains(cells, F.lit(math.nan).cast("float")), F.lit(True))
    for bound in (math.inf, -math.inf):
        unusable = unusable | F.array_contains(cells, F.lit(bound).cast("float"))
    return unusable


def _why_unusable(entry: StructField) -> Column:
    """What is wrong with numbers that are not finite as float32; computed for such rows alone."""
    numbers, kind = column(entry.name), entry.dataType
    fault = F.lit("has null, NaN or infinity")
    if isinstance(kind, VectorUDT):
        numbers = vector_to_array(numbers)
    elif not isinstance(kind, ArrayType) or isinstance(kind.elementType, ByteType | ShortType):
        return fault
    finite = ~F.exists(numbers, lambda number: number.isNull() | F.isnan(number) | (F.abs(number) == math.inf))
    return F.when(finite, F.lit(BEYOND_FLOAT32)).otherwise(fault)


def _length_in_metadata(entry: StructField) -> int | None:
    """The number of features in a vector column's metadata, as VectorAssembler writes it."""
    length = (entry.metadata or {}).get("ml_attr", {}).get("num_attrs")
    return int(length) if length is not None and isinstance(entry.dataType, VectorUDT) else None


def _wrong_length(entry: StructField, length: int, shape: tuple[int, int, int]) -> str:
    size = math.prod(shape)
    remedy = libsvm_remedy(entry, size) if length < size else None
    remedy = remedy or "set 'inputShape' to the images' [height, width, channels]"
    return (
        f"Column '{entry.name}' (parameter 'featuresCol') has {length} numbers per row, but inputShape {list(shape)} "
        f"needs {size}; {remedy}."
    )


def infer_shape(dataset: DataFrame, name: str) -> tuple[int, int, int]:
    """Height, width and channels, from the column's metadata or else from its first row (a job over that row).

    Raises
    ------
    ValueError
        No row is usable, or the numbers of the first do not make a square image with one channel.
    """
    entry = field(dataset, name, "featuresCol")
    form = _form(entry)
    if form == "bgr":
        image = column(name)
        first = dataset.select(image["height"], image["width"], image["nChannels"]).where(image["height"] > 0).head()
        if first is None:
            raise ValueError(_no_rows(name))
        return int(first[0]), int(first[1]), int(first[2])
    length = _length_in_metadata(entry)
    if length is None:
        cell = first_cell(dataset, name)
        length = len(cell)
        if form == "bytes" and is_encoded(bytes(cell), -1):
            try:
                return encoded_shape(bytes(cell))
            except OSError as error:
                raise ValueError(
                    f"Column '{name}' (parameter 'featuresCol') begins with an unreadable image ({error}); set "
                    "'inputShape' to [height, width, channels]."
                ) from None
    side = math.isqrt(length)
    if side * side != length or not side:
        remedy = libsvm_remedy(entry, (side + 1) ** 2)
        raise ValueError(
            f"Column '{name}' (parameter 'featuresCol') has {length} numbers per row, which is not a square image "
            f"with one channel; {f'{remedy}, or ' if remedy else ''}set 'inputShape' to [height, width, channels]."
        )
    return side, side, 1


def first_cell(dataset: DataFrame, name: str) -> Any:
    """The first cell of the features that is not null; runs a job over the first rows.

    Raises
    ------
    ValueError
        All cells are null.
    """
    cells = _cells(field(dataset, name, "featuresCol"))
    first = dataset.select(cells.alias("cell")).where("cell IS NOT NULL").head()
    if first is None:
        raise ValueError(_no_rows(name))
    return first["cell"]


def _no_rows(name: str) -> str:
    return (
        f"The DataFrame has no rows with a usable column '{name}' (parameter 'featuresCol'); there is nothing to fit."
    )


def label_values(dataset: DataFrame, name: str) -> tuple[Column, list[str] | None, int | None]:
    """The label column as double, its class names and its number of classes; None for what the metadata does not hold.

    Raises
    ------
    ValueError
        The column is missing, or is not numeric.
    """
    entry = field(dataset, name, "labelCol")
    if not isinstance(entry.dataType, NumericType):
        raise ValueError(
            f"Column '{name}' (parameter 'labelCol') is of type {entry.dataType.simpleString()}, but labels must be "
            "class indices 0, 1, 2, ...; index the labels with a StringIndexer, or cast the column."
        )
    attributes = (entry.metadata or {}).get("ml_attr", {})
    names = attributes.get("vals")
    count = len(names) if names else attributes.get("num_vals")
    if count is None and attributes.get("type") == "binary":
        count = 2
    return column(name).cast("double"), names, count


def label_fault(label: Column, name: str, num_classes: int | None) -> Column:
    """What is wrong with a label that is not a class index (below `num_classes`, if given), else null."""
    fault = F.when(label.isNull() | F.isnan(label), F.lit("has no label")).when(
        (label < 0) | (label != F.rint(label)) | (label == math.inf),
        F.concat(F.lit("has label "), label.cast("string")),
    )
    if num_classes is not None:
        fault = fault.when(label >= num_classes, F.concat(F.lit("has label "), label.cast("string")))
    indices = "0, 1, 2, ..." if num_classes is None else f"0 to {num_classes - 1}"
    return F.concat(F.lit(f"column '{name}' "), fault, F.lit(f" where a whole number {indices} was expected"))


def weight_fault(weight: Column, name: str) -> Column:
    """What is wrong with a weight that is null, negative, NaN or infinite as float32, else null."""
    bad = weight.isNull() | F.isnan(weight) | (weight < 0) | (weight.cast("float") == math.inf)
    value = F.coalesce(weight.cast("string"), F.lit("null"))
    start, end = F.lit(f"column '{name}' has weight "), F.lit(" where a finite number >= 0 was expected")
    return F.when(bad, F.concat(start, value, end))


def indicator(dataset: DataFrame, name: str) -> Column:
    """The boolean validation indicator; null counts as false."""
    entry = field(dataset, name, "validationIndicatorCol")
    if not isinstance(entry.dataType, BooleanType):
        raise ValueError(
            f"Column '{name}' (parameter 'validationIndicatorCol') is of type {entry.dataType.simpleString()}, but "
            "must be boolean; cast the column."
        )
    return F.coalesce(column(name), F.lit(False))


def numeric(dataset: DataFrame, name: str, param: str) -> Column:
    """A numeric column as double."""
    entry = field(dataset, name, param)
    if not isinstance(entry.dataType, NumericType):
        raise ValueError(
            f"Column '{name}' (parameter '{param}') is of type {entry.dataType.simpleString()}, but must be numeric; "
            "cast the column."
        )
    return column(name).cast("double")


def refusing(value: Column, fault: Column, row: Column) -> Column:
    """`value` where `fault` is null; elsewhere the job fails with a sentence that names the `row`, if it has a name."""
    sentence = F.concat(F.coalesce(F.concat(F.lit("Row "), row), F.lit("A row")), F.lit(": "), fault, F.lit(SKIP))
    return F.when(fault.isNull(), value).otherwise(F.raise_error(sentence).cast("int"))
