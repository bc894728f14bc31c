"""The columns that fit and transform read from a user's DataFrame, other than features and labels.

Here: each column found and checked in the schema, its values as a Spark expression, and what is wrong with each row
whose value is unusable (its fault, with the remedy). Not here: features (`features`), labels (`labels`), keys and bags
(`training_rows`). No function runs a job. Called by the estimator and the model.
"""

from __future__ import annotations

import math

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType, NumericType, StructField, StructType

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
    return F.col(".".join(map(_quoted, parts)))


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def without(dataset: DataFrame, name: str) -> DataFrame:
    """The DataFrame without the column or field that `field` finds; a struct of that field alone goes with it."""
    path = field_path(dataset.schema, name)
    if len(path) > 1 and len(path[-2].dataType.fields) > 1:  # type: ignore[attr-defined]
        top, *inner = (entry.name for entry in path)
        return dataset.withColumn(top, column(dataset, top).dropFields(".".join(map(_quoted, inner))))
    return dataset.drop(path[0].name)


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
    if sum(same_column(dataset, first, other) for other in dataset.columns) > 1:
        raise ValueError(
            f"The DataFrame has more than one column '{first}' (parameter '{param}'); rename one, or set '{param}'."
        )
    return path[-1]


def same_column(dataset: DataFrame, one: str, other: str) -> bool:
    """Whether Spark takes two names for the same; by default it ignores case."""
    if one == other or one.lower() != other.lower():
        return one == other
    return dataset.sparkSession.conf.get("spark.sql.caseSensitive") != "true"


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
