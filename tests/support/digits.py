"""Digits as DataFrames."""

from spark_cnn_ensemble.datasets import to_dataframe


def first_digits(spark, digits, count=200):
    """The first digits of the training set (id, features, label), for what does not depend on training well."""
    (x, y), _ = digits
    return to_dataframe(spark, x[:count], y[:count]).cache()
