"""A column that is missing, present twice or of a wrong type is refused by `fit` before any job."""

import re

import pytest
from pyspark.ml.feature import VectorAssembler
from pyspark.mllib.linalg import Vectors as OldVectors
from pyspark.mllib.util import MLUtils
from pyspark.sql import functions as F
from support.feature_forms import BRIGHT, DARK, FORMS, frame_of_cells, two_by_two
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


def test_a_column_that_spark_takes_for_another_is_refused(spark, good):
    text = fit_refused(spark, good.select("*", F.lit(0).alias("Label")))
    assert (
        text == "The DataFrame has more than one column 'label' (parameter 'labelCol'); rename one, or set 'labelCol'."
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
    "arrays in arrays in arrays in arrays": (
        lambda: F.array(F.array(F.array("features"))),
        "array<array<array<array<double>>>>",
    ),
    "arrays of arrays of text": (lambda: F.array(F.array(F.lit("1"))), "array<array<string>>"),
    "a number": (lambda: F.lit(1.0), "double"),
    "another struct": (lambda: F.struct("id", "label"), "struct<id:bigint,label:int>"),
    "a struct of text and path": (
        lambda: F.struct(F.lit("1").alias("bytes"), F.lit("a").alias("path")),
        "struct<bytes:string,path:string>",
    ),
}


@pytest.mark.parametrize("case", NOT_FEATURES)
def test_features_of_another_type_are_refused(spark, good, case):
    features, kind = NOT_FEATURES[case]
    struct = kind.startswith("struct")
    remedy = (
        "set featuresCol='features.FIELD' for the images in a field of it"
        if struct
        else "convert the column or set 'featuresCol'"
    )
    assert fit_refused(spark, good.withColumn("features", features())) == (
        f"Column 'features' (parameter 'featuresCol') is of type {kind}, but features must be a vector, an array of "
        "numbers, arrays of arrays [height][width] or [height][width][channels], an image struct, bytes, or a struct of "
        f"bytes and path; {remedy}."
    )


def test_labels_of_text_are_refused(spark, good):
    text = fit_refused(spark, good.withColumn("label", F.lit("one")))
    assert re.search(
        r"^Column 'label' \(parameter 'labelCol'\) is of type string, but labels must be .*; index the labels with a "
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
        "'inputShape' to [height, width, channels]."
    )


def test_vectors_that_are_not_square_are_refused_without_a_shape(spark, three_long):
    assert fit_refused(spark, three_long, unset=["inputShape"]) == (
        "Column 'features' (parameter 'featuresCol') has 3 numbers per row, which is not a square image with one channel; "
        "set 'inputShape' to [height, width, channels], for example [1, 1, 3]."
    )


def test_the_remedy_for_old_vectors_works(spark):
    rows = [(OldVectors.dense(cell), label) for label, cell in enumerate([DARK, BRIGHT])]
    frame = spark.createDataFrame(rows, ["features", "label"])
    assert fit_refused(spark, frame) == (
        "Column 'features' (parameter 'featuresCol') is a vector of the old package pyspark.mllib; convert it with "
        "pyspark.mllib.util.MLUtils.convertVectorColumnsToML(dataset, 'features')."
    )
    assert two_by_two().fit(MLUtils.convertVectorColumnsToML(frame, "features")).inputShape == [2, 2, 1]


def test_a_part_of_an_image_struct_is_refused(spark):
    frame = frame_of_cells(spark, "image", FORMS["image"].valid)
    assert fit_refused(spark, frame, featuresCol="features.data") == (
        "Column 'features.data' (parameter 'featuresCol') is a part of an image struct; set featuresCol='features', so "
        "that the pixels' order and size are known."
    )


@pytest.mark.parametrize("unset", [[], ["inputShape"]], ids=["given", "inferred"])
def test_the_remedy_for_libsvm_works(spark, tmp_path, unset):
    (tmp_path / "data.txt").write_text("0 1:1 2:2 3:3\n1 1:200 2:150 3:100\n")
    reader = spark.read.format("libsvm")
    text = fit_refused(spark, reader.load(str(tmp_path)), unset=unset)
    assert (
        "; libsvm leaves out zeros, so read the file with spark.read.format('libsvm').option('numFeatures', 4)" in text
    )
    assert two_by_two(unset=unset).fit(reader.option("numFeatures", 4).load(str(tmp_path))).inputShape == [2, 2, 1]
