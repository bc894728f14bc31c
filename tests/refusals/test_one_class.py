"""Training rows of a single class are refused, whether or not the number of classes is known beforehand."""

import warnings

import numpy as np
import pytest
from pyspark.ml import Pipeline
from pyspark.ml.feature import StringIndexer
from pyspark.sql import functions as F
from support.classifiers import small
from support.digits import first_digits
from support.refusals import refused, refused_before_any_job

from spark_cnn_ensemble.datasets import read_text_matrix, write_text_matrix

REMEDY = (
    "but at least two classes are needed; for text, read the label from the other end of the line (label='first', on the "
    "command line --label first), and for images in folders, make one sub-folder per class."
)


def sentence(label, rows):
    """The refusal of rows that all have this label."""
    return f"All training rows have label {label} in column 'label' (parameter 'labelCol'; {rows} rows were read), {REMEDY}"


@pytest.fixture(scope="module")
def some(spark, digits):
    return first_digits(spark, digits)


@pytest.fixture(scope="module")
def of_one_class(some):
    return some.withColumn("label", F.lit(3))


@pytest.mark.usefixtures("no_training")
def test_one_label_is_refused_before_training_where_classes_are_counted(of_one_class):
    assert refused(small(numClasses=None).fit, of_one_class) == sentence(3, 200)


@pytest.mark.usefixtures("no_training")
def test_the_label_read_from_the_wrong_end_is_refused_and_the_remedy_works(spark, mnist, tmp_path):
    path = str(tmp_path / "mnist.txt")
    write_text_matrix(path, mnist[1][0][:200], mnist[1][1][:200], label="first")
    classifier = small(numClasses=None, inputShape=None)
    assert refused(classifier.fit, read_text_matrix(spark, path)) == sentence(0, 200)
    first = read_text_matrix(spark, path, label="first")
    assert first.select("label").distinct().count() == 10


@pytest.mark.usefixtures("no_training")
def test_labels_of_validation_rows_are_no_second_class(of_one_class):
    marked = of_one_class.withColumn("held", F.col("id") < 50).withColumn(
        "label", F.when(F.col("held"), 1).otherwise(3)
    )
    assert refused(small(numClasses=None, validationIndicatorCol="held").fit, marked) == sentence(3, 200)


@pytest.mark.usefixtures("no_training")
def test_one_class_in_the_metadata_is_refused_before_any_job_of_the_fit(spark, some):
    rows = some.drop("label").withColumn("name", F.lit("photos"))
    indexed = StringIndexer(inputCol="name", outputCol="label").fit(rows).transform(rows)
    text = refused_before_any_job(spark, small(numClasses=None).fit, indexed)
    assert text == f"The metadata of column 'label' (parameter 'labelCol') has one class, 'photos', {REMEDY}"


@pytest.mark.parametrize("bagging", ["disjoint", "subsample", "bootstrap"])
def test_one_label_is_refused_after_training_where_the_number_of_classes_is_set(of_one_class, bagging):
    assert refused(small(bagging=bagging, oobSampleSize=0).fit, of_one_class) == sentence(3, 200)


def test_the_name_of_the_only_class_is_given(some):
    names = some.select("id", "features", F.lit("photos").alias("name"))
    index = StringIndexer(inputCol="name", outputCol="label", handleInvalid="keep")
    text = refused(Pipeline(stages=[index, small(numClasses=None)]).fit, names)
    assert text.startswith("All training rows have label 0 ('photos') in column 'label'")


def test_rows_of_weight_0_are_no_second_class(some):
    weighted = some.withColumn("weight", F.when(F.col("label") == 3, 1.0).otherwise(0.0))
    assert refused(small(numMembers=1, weightCol="weight").fit, weighted) == sentence(3, 200)


def test_rows_that_are_skipped_are_no_second_class(some):
    values = F.when(F.col("label") == 3, F.col("features")).otherwise(F.array(F.lit(1.0)).cast("array<float>"))
    damaged = some.withColumn("features", values)
    assert refused(small(numMembers=1, handleInvalid="skip").fit, damaged) == sentence(3, 200)


def test_a_refused_fit_leaves_a_checkpoint_that_the_next_fit_can_use(some, of_one_class, tmp_path):
    classifier = small(numMembers=2, checkpointDir=str(tmp_path / "members"))
    refused(classifier.fit, of_one_class)
    assert list((tmp_path / "members").glob("[!.]*")) == []
    assert len(classifier.setEpochs(2).fit(some).members) == 2


def test_two_classes_in_all_are_enough_for_bags_of_one_class(some):
    two = some.withColumn("label", F.when(F.col("id") == 0, 1).otherwise(0))
    model = small(numClasses=None).fit(two)
    assert model.numClasses == 2
    assert np.sort([len(member.classes) for member in model.members]).tolist() == [1, 1, 2]


def test_labels_that_begin_at_1_give_a_warning(spark):
    frame = spark.createDataFrame([([1, 2, 3, 4], 1), ([9, 8, 7, 6], 2)] * 4, "features array<int>, label int")
    with pytest.warns(UserWarning, match="begin at 1, so that no training row has class 0; subtract 1 if your classes"):
        model = small(numMembers=1, inputShape=[2, 2, 1], numClasses=None).fit(frame)
    assert model.numClasses == 3
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*begin at 1")
        assert (
            small(numMembers=1, inputShape=[2, 2, 1], numClasses=None)
            .fit(frame.withColumn("label", F.col("label") - 1))
            .numClasses
            == 2
        )
