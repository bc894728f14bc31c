"""The number of classes: where it comes from, how it is counted in the rows, and the refusals of a single class.

Called by the estimator and `training_rows`.
"""

from __future__ import annotations

import warnings
from typing import Literal, NamedTuple

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from spark_cnn_ensemble.rows.labels import Labels
from spark_cnn_ensemble.worker.refusal import OR_SKIP

MAX_INFERRED_CLASSES = 1000
_TWO_CLASSES = (
    "but at least two classes are needed; for text, read the label from the other end of the line (label='first', on "
    "the command line --label first), and for images in folders, make one sub-folder per class."
)


class Classes(NamedTuple):
    """How many classes there are, and who says so: the user, the label column's metadata, or a pass over the labels."""

    number: int
    source: Literal["param", "metadata", "rows"]

    def remedy(self, soft: bool) -> str:
        """What to do about a class index that is not below the number, or a soft label of another length."""
        if self.source == "metadata":
            if soft:
                return "fix the row"
            return f"fix the row, or set 'numClasses', which the column's metadata gives as {self.number}"
        return f"fix the row, or change 'numClasses', which is {self.number}"


def count_classes(dataset: DataFrame, labels: Labels, skip_invalid: bool, validates: Column | None = None) -> int:
    """The number of classes: the largest class index + 1, and at least 2, or the length of soft labels.

    Runs a job over the label column, and over the rows' `validates` if given. Class indices that begin at 1 give a
    warning.

    Raises
    ------
    ValueError
        A label cannot be used and must not be skipped, no label is usable, the training rows have only one, soft labels
        differ in length, or there are implausibly many classes.
    """
    fault, label, name = labels.fault(None), labels.index, labels.name
    sound = fault.isNull()
    trains = sound if validates is None else sound & ~validates
    size = F.lit(None).cast("int") if labels.probabilities is None else F.when(sound, F.size(labels.probabilities))
    summary = dataset.select(
        F.count(F.lit(1)),
        F.min(fault),
        F.max(F.when(sound, label)),
        F.min(F.when(trains, label)),
        F.max(F.when(trains, label)),
        F.min(size),
        F.max(size),
    ).head()
    assert summary is not None
    rows, first_fault, largest, lowest_trained, highest_trained, shortest, longest = summary
    if first_fault is not None and not skip_invalid:
        raise ValueError(f"A row: {first_fault}{OR_SKIP}.")
    if largest is None:
        raise ValueError(
            f"The DataFrame has no rows with a usable column '{name}' (parameter 'labelCol'); set 'labelCol' to the "
            "column of labels, or give rows that have one."
        )
    if longest is not None:
        if shortest < longest:
            raise ValueError(
                f"Column '{name}' (parameter 'labelCol') holds {shortest} probabilities in one row and {longest} in "
                "another; set 'numClasses' to the number of classes."
            )
        return int(longest)
    if largest >= MAX_INFERRED_CLASSES:
        raise ValueError(
            f"Column '{name}' (parameter 'labelCol') holds label {largest:.0f}; more than {MAX_INFERRED_CLASSES} "
            "classes are not inferred from the data: set 'numClasses' if there are that many, or index the labels."
        )
    if lowest_trained is not None and lowest_trained == highest_trained:
        raise ValueError(one_label(rows, name, int(lowest_trained)))
    if lowest_trained == 1:
        warnings.warn(
            f"The labels in column '{name}' (parameter 'labelCol') begin at 1, so that no training row has class 0; "
            "subtract 1 if your classes are numbered from 1.",
            stacklevel=2,
        )
    return max(2, int(largest) + 1)


def one_label(rows: int, name: str, label: int, class_name: str | None = None) -> str:
    """The sentence that refuses training rows which all have the same label, out of `rows` rows that were read."""
    named = "" if class_name is None else f" ('{class_name}')"
    return (
        f"All training rows have label {label}{named} in column '{name}' (parameter 'labelCol'; {rows:,} rows were "
        f"read), {_TWO_CLASSES}"
    )


def one_class_in_metadata(name: str, class_names: list[str] | None) -> str:
    """The sentence that refuses a label column whose metadata has a single class."""
    named = f", '{class_names[0]}'" if class_names else ""
    return f"The metadata of column '{name}' (parameter 'labelCol') has one class{named}, {_TWO_CLASSES}"


def other_number_in_metadata(labels: Labels, given: int) -> str:
    """The sentence that refuses a numClasses other than the length of soft labels in the column's metadata."""
    return (
        f"Column '{labels.name}' (parameter 'labelCol') holds {labels.num_classes} probabilities per row, but "
        f"'numClasses' is {given}; set it to {labels.num_classes}."
    )
