"""The column of labels: class indices, or soft labels, which are probabilities of the classes.

Here: the column found and checked in the schema, its values as Spark expressions, and what is wrong with each row whose
label is unusable (its fault, with the remedy). No function runs a job. Called by the estimator and the model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pyspark.ml.functions import vector_to_array
from pyspark.ml.linalg import VectorUDT
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, BooleanType, DataType, NumericType, UserDefinedType

from spark_cnn_ensemble.rows.columns import column, field

_SUM_TOLERANCE = 1e-3  # of the sum of a row's probabilities, which may have been rounded


@dataclass(frozen=True)
class Labels:
    """A column of labels.

    Parameters
    ----------
    name : str
        The user's name of the column.
    index : Column
        double; the class, which for a soft label is the first of those with the largest probability.
    probabilities : Column or None
        array<float>; the probability of each class. None: the labels are class indices.
    class_names : list of str or None
        From the column's metadata.
    num_classes : int or None
        From the column's metadata.
    """

    name: str
    index: Column
    probabilities: Column | None = None
    class_names: list[str] | None = None
    num_classes: int | None = None

    @property
    def content(self) -> Column:
        """What a hash of the row's content takes."""
        return self.index if self.probabilities is None else self.probabilities

    def fault(self, num_classes: int | None, remedy: str = "") -> Column:
        """What is wrong with a label and what to do about it, else null.

        Parameters
        ----------
        num_classes : int or None
            The number of classes, if labels are to be checked against it.
        remedy : str
            What to do about a label that does not fit it.
        """
        start = F.lit(f"column '{self.name}' ")
        if self.probabilities is None:
            return F.concat(start, _fault_of_index(self.index, num_classes, remedy))
        return F.concat(start, _fault_of_probabilities(self.probabilities, num_classes, remedy))

    def new_fault(self, num_classes: int) -> Column:
        """What is wrong with a sound label that was not there when the classes were counted, else null."""
        if self.probabilities is None:
            new, value, then = self.index >= num_classes, self.index, f"the labels were 0 to {num_classes - 1}"
            what = "label "
        else:
            new, value = F.size(self.probabilities) != num_classes, F.size(self.probabilities)
            then, what = f"there were {num_classes}", "another number of probabilities, "
        end = f", but {then} when they were counted, so the DataFrame gave other rows when it was read again; persist "
        return F.when(
            new,
            F.concat(
                F.lit(f"column '{self.name}' has {what}"), value.cast("string"), F.lit(f"{end}it or set 'numClasses'")
            ),
        )


def labels_of(dataset: DataFrame, name: str) -> Labels:
    """The labels column `name`.

    Raises
    ------
    ValueError
        The column is missing, or its type cannot hold labels.
    """
    entry = field(dataset, name, "labelCol")
    value, kind = column(dataset, name), entry.dataType
    attributes = (entry.metadata or {}).get("ml_attr", {})
    if isinstance(kind, VectorUDT):
        # vector_to_array fails on null
        probabilities = F.when(value.isNotNull(), vector_to_array(value, "float32"))
        return Labels(name, _largest(probabilities), probabilities, None, attributes.get("num_attrs"))
    if isinstance(kind, ArrayType) and isinstance(kind.elementType, NumericType):
        probabilities = value.cast("array<float>")
        return Labels(name, _largest(probabilities), probabilities)
    if not isinstance(kind, NumericType | BooleanType):
        raise ValueError(
            f"Column '{name}' (parameter 'labelCol') is of type {kind.simpleString()}, but labels must be class "
            f"indices 0, 1, 2, ..., or vectors or arrays of probabilities; {_remedy(name, kind)}."
        )
    names = [str(name) for name in attributes.get("vals") or ()]
    count = len(names) if names else attributes.get("num_vals")
    if count is None and attributes.get("type") == "binary":
        count = 2
    return Labels(name, value.cast("double"), None, names or None, count)


def _largest(numbers: Column) -> Column:
    # array_position of Spark 3.5 takes a plain value alone.
    return (F.call_function("array_position", numbers, F.array_max(numbers)) - 1).cast("double")


def _remedy(name: str, kind: DataType) -> str:
    """What to do about labels of a type that cannot be used."""
    if isinstance(kind, UserDefinedType):
        return f"convert a vector of pyspark.mllib with MLUtils.convertVectorColumnsToML(dataset, '{name}')"
    if isinstance(kind, ArrayType):
        return "give one number per class, in an array of numbers"
    return "index the labels with a StringIndexer, or cast the column"


def _fault_of_index(label: Column, num_classes: int | None, remedy: str) -> Column:
    indices = "0, 1, 2, ..." if num_classes is None else f"0 to {num_classes - 1}"
    expected, value = f" where a whole number {indices} was expected; ", label.cast("string")
    fault = F.when(label.isNull() | F.isnan(label), F.lit(f"has no label{expected}fix the row")).when(
        (label < 0) | (label != F.rint(label)) | (label == math.inf),
        F.concat(F.lit("has label "), value, F.lit(f"{expected}fix the row")),
    )
    if num_classes is not None:
        fault = fault.when(label >= num_classes, F.concat(F.lit("has label "), value, F.lit(f"{expected}{remedy}")))
    return fault


def _fault_of_probabilities(label: Column, num_classes: int | None, remedy: str) -> Column:
    size, total = F.size(label), F.aggregate(label, F.lit(0.0), lambda so_far, number: so_far + number)
    expected = "at least 2" if num_classes is None else str(num_classes)
    other = size < 2 if num_classes is None else size != num_classes
    unusable = F.exists(label, lambda number: number.isNull() | F.isnan(number) | (F.abs(number) == math.inf))
    return (
        F.when(label.isNull(), F.lit(f"has no label where {expected} probabilities were expected; fix the row"))
        .when(
            other,
            F.concat(
                F.lit("has "), size, F.lit(f" probabilities where {expected} were expected; {remedy or 'fix the row'}")
            ),
        )
        .when(unusable, F.lit("has null, NaN or infinity among its probabilities; fix the row"))
        .when(
            F.array_min(label) < 0,
            F.concat(
                F.lit("has the probability "),
                F.array_min(label).cast("string"),
                F.lit(" where numbers from 0 to 1 were expected; fix the row"),
            ),
        )
        .when(
            total == 0,
            F.lit("has probabilities that are all 0; fix the row, or set dropLast=False if a OneHotEncoder made it"),
        )
        .when(
            F.abs(total - 1) > _SUM_TOLERANCE,
            F.concat(
                F.lit("has probabilities with the sum "),
                F.round(total, 4).cast("string"),
                F.lit(" where 1 was expected; divide them by their sum"),
            ),
        )
    )
