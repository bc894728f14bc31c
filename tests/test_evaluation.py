"""An evaluation computes from counts what out-of-bag votes compute from the votes themselves."""

import dataclasses

import numpy as np
import pytest
from pyspark.sql import functions as F
from support.member_votes import member_votes, out_of_bag_of
from support.refusals import tasks_per_stage
from support.results import count_votes, no_votes

from spark_cnn_ensemble import CNNEnsembleClassificationModel, CNNEnsembleEvaluation
from spark_cnn_ensemble.votes import OutOfBag


@pytest.fixture(scope="module")
def both():
    """An evaluation, and out-of-bag votes with no row in a bag."""
    labels, votes = member_votes(in_bag=0.0)
    counts, prediction = count_votes(votes, 4)
    right, winning = prediction == labels, counts.max(axis=1)
    confusion = np.zeros((4, 4), int)
    np.add.at(confusion, (labels, prediction), 1)
    evaluation = CNNEnsembleEvaluation(
        confusion=confusion,
        memberRight=(votes == labels[:, None]).sum(axis=0),
        same=(votes[:, :, None] == votes[:, None, :]).sum(axis=0),
        rowsByVotes=np.bincount(winning, minlength=7),
        rightByVotes=np.bincount(winning[right], minlength=7),
        rightBySize=np.full(6, right.sum()),
        skippedRows=0,
    )
    return evaluation, out_of_bag_of(labels, votes)


def test_the_accuracy_is_the_share_of_right_predictions(both):
    evaluation, votes = both
    assert evaluation.accuracy == votes.accuracy == (votes.predictions == votes.labels).mean()


def test_members_have_the_same_accuracies_and_disagreement(both):
    evaluation, votes = both
    assert np.allclose(evaluation.disagreement, votes.disagreement)
    assert np.allclose(evaluation.memberAccuracies, votes.memberAccuracies)


def test_agreement_has_the_same_rows(both):
    evaluation, votes = both
    table = evaluation.agreement[evaluation.agreement["rows"] > 0].reset_index(drop=True)
    assert table.equals(votes.agreement)


def test_a_share_is_exact(both):
    """A cut of scored rows at minimumShare keeps the rows that it counts."""
    votes = OutOfBag(np.zeros(1, int), np.array([[0, 0, 1]]), np.zeros(1, int), 2)
    assert votes.coverage["minimumShare"].tolist() == [2 / 3]


def test_a_single_vote_does_not_count_as_agreement():
    votes = np.array([[0, -1, -1], [0, 0, -1], [0, 0, 1], [-1, -1, -1]])
    found = OutOfBag(np.zeros(4, int), votes, np.array([0, 0, 0, -1]), 2)
    assert found.agreement[["share", "rows"]].values.tolist() == [[2 / 3, 1], [1, 1]]
    assert found.coverage["coverage"].tolist() == [0.5, 1]


def test_the_counts_are_those_of_the_votes_of_each_member(model, test):
    """Counted here from the votes that `transform` gives."""
    scored = model.copy().setMemberPredictionsCol("each").transform(test).select("label", "each").collect()
    each, label = np.array([row.each for row in scored]), np.array([row.label for row in scored])
    evaluation = model.evaluate(test)
    assert np.allclose(evaluation.disagreement, (each[:, :, None] != each[:, None, :]).mean(axis=0))
    assert np.allclose(evaluation.memberAccuracies, (each == label[:, None]).mean(axis=0))
    sizes = [model.subset(range(size)).evaluate(test).accuracy for size in (1, 2, 3)]
    assert evaluation.accuracyBySize["accuracy"].tolist() == sizes


@pytest.mark.parametrize("names", ["another order", "an unknown name", "other names"])
def test_labels_of_another_indexer_are_refused(model, test, names):
    ours = [f"digit {index}" for index in range(10)]
    named = model._copyValues(
        CNNEnsembleClassificationModel(dataclasses.replace(model._ensemble, class_names=tuple(ours)))
    )
    theirs = {"another order": ours[::-1], "an unknown name": [*ours, "__unknown"], "other names": ["x", *ours[1:]]}[
        names
    ]
    metadata = {"ml_attr": {"type": "nominal", "vals": theirs}}
    rows = test.withColumn("label", F.col("label").cast("double").alias("label", metadata=metadata))
    if names == "an unknown name":
        assert named.evaluate(rows).accuracy == model.evaluate(test).accuracy
        return
    with pytest.raises(ValueError, match=f"has .{theirs[0]}. as class 0, which is .digit 0. in the model; index"):
        named.evaluate(rows)


def test_accuracy_by_size_divides_the_counts(both):
    evaluation, _ = both
    table = evaluation.accuracyBySize
    assert table["size"].tolist() == [1, 2, 3, 4, 5, 6]
    assert table["accuracy"].tolist() == [evaluation.accuracy] * 6
    assert (table["low"] < table["accuracy"]).all() and (table["accuracy"] < table["high"]).all()


def test_the_text_of_an_evaluation_has_the_accuracies(both):
    evaluation, _ = both
    assert repr(evaluation).startswith(f"CNNEnsembleEvaluation(rows=200, accuracy={evaluation.accuracy:.4f}, 6 members")


# Soft votes with such thresholds predict class 0 for all rows, with and without a member that votes for it.
ALL_0 = [1e-9] + [1.0] * 9


def test_rows_whose_prediction_has_no_vote_count_in_agreement_and_coverage(model, test):
    evaluation = model.copy({model.thresholds: ALL_0, model.votingStrategy: "soft"}).evaluate(test)
    first = evaluation.agreement.iloc[0]
    assert first["share"] == 0 and first["rows"] > 300
    assert evaluation.agreement["rows"].sum() == evaluation.rows == 360
    last = evaluation.coverage.iloc[-1]
    assert last[["minimumShare", "coverage"]].tolist() == [0, 1]
    assert last["accuracy"] == pytest.approx(evaluation.accuracy)


def test_small_partitions_of_a_local_session_share_tasks(spark, model, test):
    evaluations = []
    tasks = tasks_per_stage(spark, lambda: evaluations.append(model.evaluate(test.repartition(90))))
    assert max(tasks) == 16  # 8 for each of the two slots
    assert repr(evaluations[0]) == repr(model.evaluate(test))


def test_votes_of_no_rows_have_an_empty_coverage():
    assert len(no_votes().coverage) == 0
