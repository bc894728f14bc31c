"""The columns other than features that fit and transform read from a user's DataFrame.

Here: each column found and checked in the schema, its values as a Spark expression, and what is wrong with each row
whose value is unusable (its fault, with the remedy). Not here: features (`features`), keys and bags (`training_rows`).
A function that runs a job says so. Called by the estimator and the model.
"""

from __future__ import annotations

import math

from pyspark.ml.linalg import VectorUDT
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, BooleanType, DataType, NumericType, StructField, StructType

from spark_cnn_ensemble.worker.refusal import OR_SKIP


def field_path(schema: StructType, name: str) -> list[StructField]:
    """The fields that lead to `name`: a column of exactly this name, else a dotted path into structs, else none."""
    for entry in schema.fields:
        if entry.name == name:
            return [entry]
    for end in reversed([index for index, letter in enumerate(name) if letter == "."]):
        for entry in schema.fields:
            if entry.name == name[:end] and isinstance(entry.dataType, StructType):
                rest = field_path(entry.dataType, name[end + 1 :])
                if rest:
                    return [entry, *rest]
    return []


def column(dataset: DataFrame, name: str) -> Column:
    """The column or field that `field` finds."""
    parts = [entry.name for entry in field_path(dataset.schema, name)]
    return F.col(".".join("`" + part.replace("`", "``") + "`" for part in parts))


def field(dataset: DataFrame, name: str, param: str) -> StructField:
    """The schema's field of a column that a Param names: the column of that name, else a dotted path into structs.

    Raises
    ------
    ValueError
        The column is missing, or there is more than one.
    """
    path = field_path(dataset.schema, name)
    if not path:
        names = ", ".join(repr(entry.name) for entry in dataset.schema.fields)
        raise ValueError(f"The DataFrame has no column '{name}' (parameter '{param}'), only {names}; set '{param}'.")
    first = path[0].name
    if dataset.columns.count(first) > 1:
        raise ValueError(
            f"The DataFrame has more than one column '{first}' (parameter '{param}'); rename one, or set '{param}'."
        )
    return path[-1]


def label_values(dataset: DataFrame, name: str) -> tuple[Column, list[str] | None, int | None]:
    """The label column as double, its class names and its number of classes; None for what the metadata does not hold.

    Raises
    ------
    ValueError
        The column is missing, or is not numeric.
    """
    entry = field(dataset, name, "labelCol")
    if not isinstance(entry.dataType, NumericType | BooleanType):
        raise ValueError(
            f"Column '{name}' (parameter 'labelCol') is of type {entry.dataType.simpleString()}, but labels must be "
            f"class indices 0, 1, 2, ...; {_label_remedy(name, entry.dataType)}."
        )
    attributes = (entry.metadata or {}).get("ml_attr", {})
    names = attributes.get("vals")
    count = len(names) if names else attributes.get("num_vals")
    if count is None and attributes.get("type") == "binary":
        count = 2
    return column(dataset, name).cast("double"), names, count


def _label_remedy(name: str, kind: DataType) -> str:
    """What to do about labels of a type that is not numeric."""
    if isinstance(kind, VectorUDT | ArrayType):
        values = f"F.col('{name}')" if isinstance(kind, ArrayType) else f"vector_to_array('{name}')"
        return (
            "turn one-hot labels into indices by "
            f"withColumn('{name}', F.array_position({values}, F.array_max({values})) - 1)"
        )
    return "index the labels with a StringIndexer, or cast the column"


def label_fault(label: Column, name: str, num_classes: int | None, remedy: str = "") -> Column:
    """What is wrong with a label that is not a class index and what to do about it, else null.

    Parameters
    ----------
    label : Column
        double.
    name : str
        The user's name of the column.
    num_classes : int or None
        What class indices are below, if that is to be checked.
    remedy : str
        What to do about a label that is not below `num_classes`.
    """
    indices = "0, 1, 2, ..." if num_classes is None else f"0 to {num_classes - 1}"
    expected, value = f" where a whole number {indices} was expected; ", label.cast("string")
    fault = F.when(label.isNull() | F.isnan(label), F.lit(f"has no label{expected}fix the row")).when(
        (label < 0) | (label != F.rint(label)) | (label == math.inf),
        F.concat(F.lit("has label "), value, F.lit(f"{expected}fix the row")),
    )
    if num_classes is not None:
        fault = fault.when(label >= num_classes, F.concat(F.lit("has label "), value, F.lit(f"{expected}{remedy}")))
    return F.concat(F.lit(f"column '{name}' "), fault)


def new_label_fault(label: Column, name: str, num_classes: int) -> Column:
    """What is wrong with a class index that was not there when the classes were counted, else null."""
    return F.when(
        label >= num_classes,
        F.concat(
            F.lit(f"column '{name}' has label "),
            label.cast("string"),
            F.lit(
                f", but the labels were 0 to {num_classes - 1} when they were counted, so the DataFrame gave other "
                "rows when it was read again; persist it or set 'numClasses'"
            ),
        ),
    )


def weight_fault(weight: Column, name: str) -> Column:
    """What is wrong with a weight that is null, negative, NaN or infinite as float32, else null."""
    bad = weight.isNull() | F.isnan(weight) | (weight < 0) | (weight.cast("float") == math.inf)
    value = F.coalesce(weight.cast("string"), F.lit("null"))
    start, end = F.lit(f"column '{name}' has weight "), F.lit(" where a finite number >= 0 was expected; fix the row")
    return F.when(bad, F.concat(start, value, end))


def indicator(dataset: DataFrame, name: str) -> Column:
    """The boolean validation indicator; null counts as false."""
    entry = field(dataset, name, "validationIndicatorCol")
    if not isinstance(entry.dataType, BooleanType):
        raise ValueError(
            f"Column '{name}' (parameter 'validationIndicatorCol') is of type {entry.dataType.simpleString()}, but "
            "must be boolean; cast the column."
        )
    return F.coalesce(column(dataset, name), F.lit(False))


def numeric(dataset: DataFrame, name: str, param: str) -> Column:
    """A numeric column as double."""
    entry = field(dataset, name, param)
    if not isinstance(entry.dataType, NumericType):
        raise ValueError(
            f"Column '{name}' (parameter '{param}') is of type {entry.dataType.simpleString()}, but must be numeric; "
            "cast the column."
        )
    return column(dataset, name).cast("double")


def refusing(value: Column, fault: Column, row: Column, skippable: bool = True) -> Column:
    """`value` where `fault` is null; elsewhere the job fails with a sentence that names the `row`, if it has a name.

    The sentence ends with handleInvalid='skip' if that helps.
    """
    end = f"{OR_SKIP}." if skippable else "."
    sentence = F.concat(F.coalesce(F.concat(F.lit("Row "), row), F.lit("A row")), F.lit(": "), fault, F.lit(end))
    return F.when(fault.isNull(), value).otherwise(F.raise_error(sentence).cast("int"))
