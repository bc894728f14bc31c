"""The column of features: its type, its cells as workers read them, and what is wrong with an unusable one.

Here are Spark expressions only. `shapes` infers the images' shape, `worker.pixels` reads the cells. Called by the
estimator and the model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pyspark.ml.functions import vector_to_array
from pyspark.ml.linalg import VectorUDT
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    BooleanType,
    ByteType,
    DataType,
    NumericType,
    ShortType,
    StringType,
    StructField,
    StructType,
    UserDefinedType,
)

from spark_cnn_ensemble.rows.columns import column, field, field_path, refusing
from spark_cnn_ensemble.rows.libsvm import LIBSVM_LENGTH, libsvm_remedy
from spark_cnn_ensemble.rows.width import if_not_too_wide
from spark_cnn_ensemble.worker.pixels import BEYOND_FLOAT32, PixelFormat

_IMAGE_FIELDS = {"origin", "height", "width", "nChannels", "data"}
_FILE_FIELDS = {"bytes", "path"}
_DIMENSIONS = 3  # of an array of arrays, at most
_BYTES = {"float": 4, "smallint": 2, "tinyint": 1}  # of a number


@dataclass(frozen=True)
class Source:
    """A column of features as the schema describes it.

    Parameters
    ----------
    name : str
        The user's name of the column.
    entry : StructField
        Its field in the schema.
    form : {"array", "nested", "bytes", "bgr"}
        Numbers; arrays of arrays of numbers; raw or encoded bytes; Spark's image struct.
    value : Column
        The user's value.
    cells : Column
        Its numbers in one array, or its bytes.
    element : str
        The type of the numbers: float, smallint or tinyint.
    row : Column
        string; the name of a row in messages: the path of its file, where a column or field has it, else null.
    """

    name: str
    entry: StructField
    form: str
    value: Column
    cells: Column
    element: str
    row: Column

    @property
    def length_in_metadata(self) -> int | None:
        """The number of features in a vector column's metadata, as VectorAssembler and the libsvm reader write it."""
        metadata = self.entry.metadata or {}
        length = metadata.get("ml_attr", {}).get("num_attrs", metadata.get(LIBSVM_LENGTH))
        return int(length) if length is not None and isinstance(self.entry.dataType, VectorUDT) else None

    @property
    def finite_as_double(self) -> Column:
        """Whether all numbers of a value are finite before they are cast to float32."""
        numbers, kind = self.value, self.entry.dataType
        if isinstance(kind, VectorUDT):
            numbers = vector_to_array(numbers)
        for _ in range(_dimensions(kind) - 1):
            numbers = F.flatten(numbers)
        return ~F.exists(numbers, lambda number: number.isNull() | F.isnan(number) | (F.abs(number) == math.inf))

    @property
    def size(self) -> list[Column]:
        """The sizes of a value: height, width and channels of an image struct, or of each dimension of arrays."""
        if self.form == "bgr":
            return [self.value[name] for name in ("height", "width", "nChannels")]
        sizes, part = [], self.value
        for _ in range(_dimensions(self.entry.dataType)):
            sizes.append(F.when(part.isNotNull(), F.size(part)))  # size(null) is -1 where ANSI mode is off
            part = F.get(part, 0)
        return sizes


@dataclass(frozen=True)
class Features:
    """A column of features whose images have a known shape.

    Parameters
    ----------
    pixels : PixelFormat
        How a cell holds an image.
    cells : Column
        What workers get: an array of numbers, or bytes.
    fault : Column
        string; what is wrong with a row's features and the remedy, null where they are usable.
    row : Column
        string; the name of a row in messages, else null.
    checked_by_spark : bool
        Whether workers do not get all that `fault` checks, such as the sizes of arrays of arrays.
    """

    pixels: PixelFormat
    cells: Column
    fault: Column
    row: Column
    checked_by_spark: bool

    def content(self, cells: Column) -> Column:
        """The cells in the form to hash: arrays of the same numbers are the same, whatever their type."""
        return cells.cast("array<float>") if self.pixels.form == "array" else cells


def source_of(dataset: DataFrame, name: str) -> Source:
    """The features column `name`.

    Raises
    ------
    ValueError
        The column is missing, or its type cannot hold images.
    """
    entry = field(dataset, name, "featuresCol")
    value, kind, no_row = column(dataset, name), entry.dataType, F.lit(None).cast("string")
    if isinstance(kind, VectorUDT):
        cells = F.when(value.isNotNull(), vector_to_array(value, "float32"))  # vector_to_array fails on null
        return Source(name, entry, "array", value, cells, "float", no_row)
    if isinstance(kind, BinaryType):
        parent = _parent(dataset, name)
        if isinstance(parent, StructType) and set(parent.names) >= _IMAGE_FIELDS:
            struct = name.rpartition(".")[0]
            raise ValueError(
                f"Column '{name}' (parameter 'featuresCol') is a part of an image struct; set featuresCol='{struct}', "
                "so that the pixels' order and size are known."
            )
        return Source(name, entry, "bytes", value, value, "", _path_beside(dataset, name))
    if isinstance(kind, StructType) and set(kind.names) >= _IMAGE_FIELDS:
        return Source(name, entry, "bgr", value, value["data"], "", value["origin"])
    if (
        isinstance(kind, StructType)
        and set(kind.names) >= _FILE_FIELDS
        and isinstance(kind["bytes"].dataType, BinaryType)
    ):
        path = value["path"].cast("string")
        return Source(name, entry, "bytes", value, value["bytes"], "", path)
    dimensions, element = _dimensions(kind), _innermost(kind)
    if 1 <= dimensions <= _DIMENSIONS and isinstance(element, NumericType | BooleanType):
        flat = value
        for _ in range(dimensions - 1):
            flat = F.flatten(flat)
        small = "tinyint" if isinstance(element, BooleanType | ByteType) else "smallint"
        small = small if isinstance(element, BooleanType | ByteType | ShortType) else "float"
        return Source(
            name, entry, "array" if dimensions == 1 else "nested", value, flat.cast(f"array<{small}>"), small, no_row
        )
    raise ValueError(_wrong_type(name, kind))


def _wrong_type(name: str, kind: DataType) -> str:
    which = f"Column '{name}' (parameter 'featuresCol') is"
    if isinstance(kind, UserDefinedType) and type(kind).module() == "pyspark.mllib.linalg":
        return (
            f"{which} a vector of the old package pyspark.mllib; convert it with "
            f"pyspark.mllib.util.MLUtils.convertVectorColumnsToML(dataset, '{name}')."
        )
    remedy = "convert the column or set 'featuresCol'"
    if isinstance(kind, StructType):
        remedy = f"set featuresCol='{name}.FIELD' for the images in a field of it"
    return (
        f"{which} of type {kind.simpleString()}, but features must be a vector, an array of numbers, arrays of arrays "
        "[height][width] or [height][width][channels], an image struct, bytes, or a struct of bytes and path; "
        f"{remedy}."
    )


def _dimensions(kind: DataType) -> int:
    return 1 + _dimensions(kind.elementType) if isinstance(kind, ArrayType) else 0


def _innermost(kind: DataType) -> DataType:
    return _innermost(kind.elementType) if isinstance(kind, ArrayType) else kind


def _parent(dataset: DataFrame, name: str) -> DataType:
    """The type that has the column `name` as a field: a struct, or the schema itself."""
    path = field_path(dataset.schema, name)
    return dataset.schema if len(path) < 2 else path[-2].dataType


def _path_beside(dataset: DataFrame, name: str) -> Column:
    """The string column or field `path` next to a column of bytes, as binaryFile has it; null where there is none."""
    parents = [entry.name for entry in field_path(dataset.schema, name)[:-1]]
    beside = ".".join([*parents, "path"])
    path = field_path(dataset.schema, beside)
    found = len(path) == len(parents) + 1 and isinstance(path[-1].dataType, StringType)
    return column(dataset, beside) if found else F.lit(None).cast("string")


def features_of(
    source: Source, shape: tuple[int, int, int], shape_from: str, resize: bool, rows_per_batch: int | None = None
) -> Features:
    """The features column as images of one shape.

    Parameters
    ----------
    source : Source
    shape : tuple of int
        Height, width and channels.
    shape_from : {"param", "rows", "model"}
        Where the shape comes from, for messages.
    resize : bool
        Whether pictures of another size are resized.
    rows_per_batch : int, optional
        See `Engine.rows_per_batch`; the job fails with a sentence if a batch of such rows may not fit in memory.

    Raises
    ------
    ValueError
        The column's metadata has another length than the shape.
    """
    form = "array" if source.form == "nested" else source.form
    pixels = PixelFormat(source.name, form, shape, resize and form != "array", shape_from)
    length = source.length_in_metadata
    if length not in (None, pixels.size):
        remedy = libsvm_remedy(source.entry, pixels.size) if length < pixels.size else None
        if remedy is None and shape_from == "model":
            remedy = "give vectors of that length"
        remedy = remedy or "set 'inputShape' to [height, width, channels]"
        raise ValueError(
            f"Column '{source.name}' (parameter 'featuresCol') has {length} numbers per row, but inputShape "
            f"{list(shape)} needs {pixels.size}; {remedy}."
        )
    fault = F.concat(F.lit(f"column '{source.name}' "), _fault(source, pixels))
    cells = source.cells
    if source.form == "bgr" and resize:
        cells = F.concat(F.encode(F.concat_ws(" ", *source.size, F.lit("\n")), "utf-8"), cells).cast("binary")
    if rows_per_batch is not None:
        width = F.size(cells) * _BYTES[source.element] if source.element else F.length(cells)
        cells = if_not_too_wide(cells, width, source.name, source.row, rows_per_batch)
    checked_here = source.form in ("nested", "bgr") or isinstance(source.entry.dataType, StructType)
    return Features(pixels, cells, fault, source.row, checked_here)


def _fault(source: Source, pixels: PixelFormat) -> Column:
    """What is wrong with a row's features and the remedy, without the column's name."""
    fix = "; fix the row"
    cells, size = source.cells, "x".join(map(str, pixels.shape))
    null = F.when(source.value.isNull(), F.lit(f"is null{fix}"))
    if source.form == "bytes":
        if isinstance(source.entry.dataType, StructType):
            null = null.when(
                cells.isNull() & source.row.isNotNull(),
                F.lit(f"has a path but no bytes (read the file with binaryFile){fix}"),
            )
        return null.when(cells.isNull(), F.lit(f"is null{fix}"))
    if source.form == "bgr":
        return _fault_of_struct(source, pixels, null.when(cells.isNull(), F.lit(f"is null{fix}")))
    remedy = F.lit(f"; {pixels.size_remedy()}")
    if source.form == "nested":
        found = F.concat_ws("x", *source.size)
        dimensions = len(source.size)
        expected = "x".join(map(str, pixels.shape[:dimensions]))
        wrong = found != expected if dimensions == _DIMENSIONS or pixels.shape[2] == 1 else F.lit(True)
        null = null.when(
            F.coalesce(wrong, F.lit(True)),
            F.concat(F.lit("is an array of "), found, F.lit(f" where {size} was expected"), remedy),
        ).when(_is_ragged(source.value, pixels.shape[:dimensions]), F.lit(f"has rows of different lengths{fix}"))
    return null.when(
        F.size(cells) != pixels.size,
        F.concat(F.lit("has "), F.size(cells), F.lit(f" numbers where {pixels.size} were expected"), remedy),
    ).when(_has_unusable(cells, source.element), _why_unusable(source, fix))


def _fault_of_struct(source: Source, pixels: PixelFormat, null: Column) -> Column:
    height, width, channels = source.size
    unreadable = (height <= 0) | (width <= 0) | channels.isNull()
    fault = null.when(F.coalesce(unreadable, F.lit(True)), F.lit("is an unreadable image; fix the row"))
    count: Column = F.lit(pixels.size)
    if pixels.resize:
        fault = fault.when(
            ~channels.isin(1, 3, 4),
            F.concat(F.lit("is an image of "), channels, F.lit(" channels, not 1, 3 or 4; fix the row")),
        )
        count = height.cast("long") * width * channels
    else:
        size, found = "x".join(map(str, pixels.shape)), F.concat_ws("x", *source.size)
        fault = fault.when(
            found != size,
            F.concat(
                F.lit("is an image of "),
                found,
                F.lit(f" where {size} was expected; {pixels.size_remedy(picture=True)}"),
            ),
        )
    return fault.when(F.length(source.cells) != count, F.lit("is an image whose data is cut short; fix the row"))


def _is_ragged(value: Column, shape: tuple[int, ...]) -> Column:
    """Whether arrays in the arrays of `value` are null or have another length than `shape` says."""

    def differs(part: Column, sizes: tuple[int, ...]) -> Column:
        wrong = F.coalesce(F.size(part) != sizes[0], F.lit(True)) | part.isNull()
        return wrong if len(sizes) == 1 else wrong | F.exists(part, lambda inner: differs(inner, sizes[1:]))

    return F.coalesce(differs(value, shape), F.lit(True))


def _has_unusable(cells: Column, element: str) -> Column:
    # array_contains is compiled, unlike exists(); it gives null where the array holds a null but not the value.
    if element != "float":
        return F.array_contains(cells, F.lit(127).cast(element)).isNull()
    unusable = F.coalesce(F.array_contains(cells, F.lit(math.nan).cast("float")), F.lit(True))
    for bound in (math.inf, -math.inf):
        unusable = unusable | F.array_contains(cells, F.lit(bound).cast("float"))
    return unusable


def _why_unusable(source: Source, fix: str) -> Column:
    """What is wrong with numbers that are not finite as float32; computed for such rows alone."""
    fault = F.lit(f"has null, NaN or infinity{fix}")
    if source.element != "float":
        return fault
    return F.when(source.finite_as_double, F.lit(f"{BEYOND_FLOAT32}{fix}")).otherwise(fault)


def cells_to_score(features: Features, refuse: bool) -> Column:
    """The cells to score.

    What does not reach a worker is checked here: unusable cells fail the job, or are null if not `refuse`. The worker
    checks the rest.
    """
    if not features.checked_by_spark:
        return features.cells
    if not refuse:
        return F.when(features.fault.isNull(), features.cells)
    return F.when(refusing(F.lit(1), features.fault, features.row) == 1, features.cells)
