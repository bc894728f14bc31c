"""The remedy for files of libsvm, whose vectors are as long as the largest index that a file happens to hold."""

from __future__ import annotations

from pyspark.sql.types import StructField

LIBSVM_LENGTH = "numFeatures"  # what Spark's reader of libsvm writes into a column's metadata


def libsvm_remedy(entry: StructField, size: int) -> str | None:
    """How to read vectors of `size` numbers from libsvm; None for a column that was not read from it.

    Parameters
    ----------
    entry : StructField
        The features' column.
    size : int
    """
    if LIBSVM_LENGTH not in (entry.metadata or {}):
        return None
    return f"libsvm leaves out zeros, so read the file with spark.read.format('libsvm').option('numFeatures', {size})"
