"""Soft labels in a fit: an ensemble's probabilities train a student, and every other column and Param goes with them."""

import numpy as np
import pytest
from pyspark.ml.functions import vector_to_array
from pyspark.sql import functions as F
from support.classifiers import small
from support.members import digests
from support.refusals import refused, refused_before_any_job

from spark_cnn_ensemble import CNNEnsembleClassificationModel
from spark_cnn_ensemble.cli import main

STUDENT = {"numMembers": 1, "labelCol": "probability", "epochs": 4, "learningRate": 5e-3, "idCol": "id"}


def distilling(**params):
    """A classifier that takes the number of classes from the probabilities."""
    classifier = small(**STUDENT, **params)
    classifier.clear(classifier.numClasses)
    return classifier


@pytest.fixture(scope="module")
def scored(model, train):
    """The training rows with the votes of the ensemble, and without their labels."""
    return model.transform(train.drop("label")).cache()


@pytest.fixture(scope="module")
def student(scored):
    return distilling().fit(scored)


def test_a_student_learns_from_the_votes_of_an_ensemble(student, model, test):
    teacher, alone = model.evaluate(test).accuracy, student.setLabelCol("label").evaluate(test).accuracy
    assert student.numClasses == 10
    assert alone > 0.9 * teacher


def test_a_student_counts_the_rows_of_a_class_by_their_sums(student, scored, tmp_path):
    sums = np.sum([row.probability.toArray() for row in scored.collect()], axis=0)
    assert student.members[0].classCounts == pytest.approx(sums, abs=2e-3)
    student.save(str(tmp_path / "student"))
    assert CNNEnsembleClassificationModel.load(str(tmp_path / "student")).members == student.members


@pytest.mark.parametrize("kind", ["array<double>", "array<float>"])
def test_arrays_give_the_members_that_vectors_give(student, scored, kind):
    arrays = scored.withColumn("probability", vector_to_array("probability").cast(kind))
    assert digests(small(**STUDENT).fit(arrays)) == digests(student)


def test_columns_that_a_student_would_add_again_are_refused_with_remedies_that_work(spark, student, scored):
    fresh = student.copy()
    for name in ("rawPrediction", "probability", "prediction"):
        assert refused_before_any_job(spark, fresh.transform, scored) == (
            f"The DataFrame has a column '{name}' already (parameter '{name}Col'); drop it, or set '{name}Col' to "
            "another name or to '' to leave the output out."
        )
        fresh._set(**{f"{name}Col": f"student_{name}"})
    assert fresh.transform(scored).where("student_prediction = prediction").count() > 1000
    assert student.transform(scored.select("features")).columns[-1] == "prediction"


def one_hot(label="label"):
    return F.transform(F.sequence(F.lit(0), F.lit(9)), lambda index: (index == F.col(label)).cast("double"))


def test_an_evaluation_compares_the_likeliest_class(model, test):
    soft = test.withColumn("label", F.transform(one_hot(), lambda number: 0.5 * number + 0.05))
    ours, theirs = model.evaluate(soft), model.evaluate(test)
    assert np.array_equal(ours.confusionMatrix, theirs.confusionMatrix)


def test_an_evaluation_names_a_bad_row_or_leaves_it_out(model, test):
    bad = test.withColumn("label", F.when(F.col("id") != 3, one_hot()).otherwise(F.array(F.lit(0.5), F.lit(0.5))))
    assert refused(model.evaluate, bad) == (
        "A row: column 'label' has 2 probabilities where 10 were expected; give labels of the model's classes, or set "
        "handleInvalid='skip' to leave such rows out."
    )
    kept = model.copy().setHandleInvalid("skip").evaluate(bad)
    assert (kept.rows, kept.skippedRows) == (test.count() - 1, 1)


EVERYTHING = {
    "weightCol": "weight",
    "validationIndicatorCol": "held",
    "idCol": "id",
    "bagging": "bootstrap",
    "classWeighting": "balanced",
    "handleInvalid": "skip",
    "oobSampleSize": 300,
}


@pytest.fixture(scope="module")
def everything(train):
    """One-hot labels with weights, ids and marks for validation; 6 rows cannot be used."""
    columns = {"weight": F.col("id") % 3 + 1.0, "held": F.col("id") % 5 == 0, "hard": F.col("label")}
    return train.where("id < 600").withColumns({**columns, "label": F.when(F.col("id") % 100 != 1, one_hot())}).cache()


@pytest.fixture(scope="module")
def resumable(everything, tmp_path_factory):
    """A fit of those rows, and its classifier."""
    classifier = small(**EVERYTHING, checkpointDir=str(tmp_path_factory.mktemp("soft") / "checkpoint"))
    return classifier.fit(everything), classifier


def test_one_hot_labels_draw_and_count_as_class_indices(resumable, everything):
    hard = small(**EVERYTHING).fit(
        everything.where("label IS NOT NULL").drop("label").withColumnRenamed("hard", "label")
    )
    model, _ = resumable
    assert model.summary.skippedRows == 6
    assert [member.classCounts for member in model.members] == [member.classCounts for member in hard.members]
    assert [member.validationRows for member in model.members] == [member.validationRows for member in hard.members]
    for ours, theirs in zip(model.members, hard.members, strict=True):
        assert ours.history["val_loss"] == pytest.approx(theirs.history["val_loss"], rel=1e-4)
    assert np.array_equal(model.summary.outOfBag.labels, hard.summary.outOfBag.labels)


def test_members_of_soft_labels_are_resumed_and_not_for_other_labels(resumable, everything):
    model, classifier = resumable
    again = classifier.fit(everything)
    assert again.summary.resumedMembers == (0, 1, 2)
    assert digests(again) == digests(model)
    other = everything.withColumn("label", F.transform("label", lambda number: 0.5 * number + 0.05))
    assert "that are not the" in refused(classifier.fit, other)


def test_a_table_of_soft_labels_is_trained_on_and_evaluated_from_the_command_line(scored, tmp_path, capsys):
    rows, saved = str(tmp_path / "rows"), str(tmp_path / "model")
    scored.limit(200).select("features", F.col("probability").alias("label")).write.parquet(rows)
    table = ["--input", rows, "--format", "parquet"]
    few = ["--num-members", "1", "--epochs", "1", "--oob-sample-size", "0"]
    assert main(["train", *table, "--output", saved, *few]) == 0
    assert main(["evaluate", *table, "--model", saved]) == 0
    assert "rows 200 (0 left out)" in capsys.readouterr().out
