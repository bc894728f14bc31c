"""A column that is missing, present twice or of a wrong type is refused by `fit` before any job."""

import re

import pytest
from pyspark.ml.feature import VectorAssembler
from pyspark.sql import functions as F
from support.feature_forms import two_by_two
from support.refusals import jobs_started, refused_before_any_job


def test_a_job_would_be_noticed(spark, good):
    with jobs_started(spark) as ids:
        good.where("id > 3").collect()
    assert ids


def fit_refused(spark, frame, **params):
    return refused_before_any_job(spark, two_by_two(**params).fit, frame)


PARAM_OF_COLUMN = {
    "pixels": "featuresCol",
    "digit": "labelCol",
    "w": "weightCol",
    "nr": "idCol",
    "v": "validationIndicatorCol",
}


@pytest.mark.parametrize(("column", "param"), PARAM_OF_COLUMN.items(), ids=PARAM_OF_COLUMN.values())
def test_a_missing_column_is_refused_with_those_that_exist(spark, good, column, param):
    assert fit_refused(spark, good, **{param: column}) == (
        f"The DataFrame has no column '{column}' (parameter '{param}'), only 'id', 'features', 'label', 'weight', 'held'; "
        f"set '{param}'."
    )


@pytest.mark.parametrize("column", ["features", "label", "weight"])
def test_a_column_that_is_present_twice_is_refused(spark, good, column):
    text = fit_refused(spark, good.select("*", column), weightCol="weight")
    assert text == (
        f"The DataFrame has more than one column '{column}' (parameter '{column}Col'); rename one, or set '{column}Col'."
    )


NOT_FEATURES = {
    "text": (lambda: F.lit("1 2 3 4"), "string"),
    "array of text": (lambda: F.array(F.lit("1")), "array<string>"),
    "array of booleans": (lambda: F.array(F.lit(True)), "array<boolean>"),
    "array of arrays": (lambda: F.array("features"), "array<array<double>>"),
    "a number": (lambda: F.lit(1.0), "double"),
    "another struct": (lambda: F.struct("id", "label"), "struct<id:bigint,label:int>"),
}


@pytest.mark.parametrize("case", NOT_FEATURES)
def test_features_of_another_type_are_refused(spark, good, case):
    features, kind = NOT_FEATURES[case]
    assert fit_refused(spark, good.withColumn("features", features())) == (
        f"Column 'features' (parameter 'featuresCol') is of type {kind}, but features must be a vector, an array of "
        "numbers, an image struct, or bytes; convert the column or set 'featuresCol'."
    )


@pytest.mark.parametrize(("label", "kind"), [("one", "string"), (True, "boolean")], ids=["text", "boolean"])
def test_labels_of_another_type_are_refused(spark, good, label, kind):
    text = fit_refused(spark, good.withColumn("label", F.lit(label)))
    assert re.search(
        rf"^Column 'label' \(parameter 'labelCol'\) is of type {kind}, but labels must be .*; index the labels with a "
        r"StringIndexer, or cast the column\.$",
        text,
    ), text


def test_weights_of_text_are_refused(spark, good):
    text = fit_refused(spark, good.withColumn("weight", F.lit("1")), weightCol="weight")
    assert text == ("Column 'weight' (parameter 'weightCol') is of type string, but must be numeric; cast the column.")


def test_a_validation_indicator_of_numbers_is_refused(spark, good):
    assert fit_refused(spark, good, validationIndicatorCol="label") == (
        "Column 'label' (parameter 'validationIndicatorCol') is of type int, but must be boolean; cast the column."
    )


@pytest.fixture(scope="module")
def three_long(good):
    """Features as vectors whose metadata gives their length, 3."""
    assembler = VectorAssembler(inputCols=["weight"] * 3, outputCol="features")
    return assembler.transform(good.drop("features"))


def test_vectors_of_another_length_than_the_shape_are_refused(spark, three_long):
    assert fit_refused(spark, three_long) == (
        "Column 'features' (parameter 'featuresCol') has 3 numbers per row, but inputShape [2, 2, 1] needs 4; set "
        "'inputShape' to the images' [height, width, channels]."
    )


def test_vectors_that_are_not_square_are_refused_without_a_shape(spark, three_long):
    assert fit_refused(spark, three_long, unset=["inputShape"]) == (
        "Column 'features' (parameter 'featuresCol') has 3 numbers per row, which is not a square image with one channel; "
        "set 'inputShape' to [height, width, channels]."
    )
