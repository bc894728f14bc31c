"""What votes tell, on votes made by hand: no Spark, no TensorFlow."""

import json
import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from spark_cnn_ensemble import CNNEnsembleEvaluation, CNNEnsembleTrainingSummary, MemberSummary, OutOfBag
from spark_cnn_ensemble.votes import credit, wilson_interval


def random_votes(rows=200, members=6, classes=4, right=0.7, in_bag=0.4, seed=0):
    """Members that are right with a probability and had a share of the rows in their bags; the vote is by count alone."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    wrong = (labels[:, None] + rng.integers(1, classes, (rows, members))) % classes
    votes = np.where(rng.random((rows, members)) < right, labels[:, None], wrong)
    votes[rng.random((rows, members)) < in_bag] = -1
    return labels, votes


def out_of_bag(labels, votes, classes):
    counts = np.stack([(votes == index).sum(axis=1) for index in range(classes)], axis=1)
    predictions = np.where(counts.sum(axis=1) > 0, counts.argmax(axis=1), -1)
    return OutOfBag(labels, votes, predictions, classes)


@pytest.mark.parametrize(("right", "rows"), [(0, 10), (5, 10), (974, 1000), (10, 10), (1, 1)])
def test_wilson_interval(right, rows):
    expected = binomtest(right, rows).proportion_ci(method="wilson")
    assert wilson_interval(right, rows) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_an_interval_of_no_rows_is_unknown():
    assert all(math.isnan(bound) for bound in wilson_interval(0, 0))


def test_members_and_matrix_are_those_of_the_rows_out_of_bag():
    labels, votes = random_votes()
    found = out_of_bag(labels, votes, 4)
    voted = [row for row in range(len(labels)) if (votes[row] >= 0).any()]
    assert found.rows == len(voted) < len(labels)
    assert found.rowsWithoutMember == len(labels) - len(voted)
    assert found.accuracy == np.mean([found.predictions[row] == labels[row] for row in voted])
    for member in range(6):
        mine = votes[:, member] >= 0
        assert found.memberAccuracies[member] == (votes[mine, member] == labels[mine]).mean()
    for one, other in ((0, 1), (2, 5)):
        both = (votes[:, one] >= 0) & (votes[:, other] >= 0)
        assert found.disagreement[one, other] == pytest.approx((votes[both, one] != votes[both, other]).mean())
    assert np.array_equal(found.disagreement, found.disagreement.T)
    assert np.all(np.diag(found.disagreement) == 0)
    assert found.recallByLabel[2] == found.confusionMatrix[2, 2] / found.confusionMatrix[2].sum()


@pytest.mark.parametrize("seed", range(3))
def test_nothing_depends_on_the_names_of_the_classes(seed):
    labels, votes = random_votes(seed=seed)
    found = out_of_bag(labels, votes, 4)
    names = np.random.default_rng(seed).permutation(4)
    renamed_votes = np.where(votes >= 0, names[votes], -1)
    predictions = np.where(found.predictions >= 0, names[found.predictions], -1)
    renamed = OutOfBag(names[labels], renamed_votes, predictions, 4)
    assert renamed.accuracy == found.accuracy
    assert np.array_equal(renamed.memberAccuracies, found.memberAccuracies)
    assert np.allclose(renamed.disagreement, found.disagreement)
    assert renamed.accuracyBySize.equals(found.accuracyBySize)
    assert renamed.agreement.equals(found.agreement)
    assert renamed.selection(6) == found.selection(6)


def test_accuracy_by_size_is_that_of_all_subsets():
    """Against every subset of the members, which random orders approach."""
    labels, votes = random_votes(rows=300, members=4, in_bag=0.0, right=0.6)
    table = out_of_bag(labels, votes, 4).accuracyBySize
    assert table["size"].tolist() == [1, 2, 3, 4]
    for size, accuracy in zip(table["size"], table["accuracy"], strict=True):
        expected = []
        for members in combinations(range(4), size):
            counts = np.stack([(votes[:, members] == index).sum(axis=1) for index in range(4)], axis=1)
            expected.append(credit(counts, labels).mean())
        assert accuracy == pytest.approx(np.mean(expected), abs=0.01)
    assert (table["low"] < table["accuracy"]).all() and (table["accuracy"] < table["high"]).all()
    assert (table["rows"] == 300).all()


def test_rows_with_few_members_count_for_small_ensembles_only():
    labels = np.zeros(30, int)
    votes = np.full((30, 3), -1)
    votes[:20, 0] = 0
    votes[:5, 1] = 1
    table = out_of_bag(labels, votes, 2).accuracyBySize
    assert table[["size", "rows"]].to_numpy().tolist() == [[1, 20], [2, 5]]
    assert table["accuracy"].tolist()[1] == 0.5  # a tie of two, one of them right


@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_coverage_ends_at_the_accuracy_of_all(seed, members):
    labels, votes = random_votes(rows=60, members=members, seed=seed)
    found = out_of_bag(labels, votes, 4)
    table = found.coverage
    if found.rows:
        assert table["coverage"].iloc[-1] == 1
        assert table["accuracy"].iloc[-1] == pytest.approx(found.accuracy)
        assert table["coverage"].is_monotonic_increasing
        assert table["minimumShare"].is_monotonic_decreasing
    assert found.agreement["rows"].sum() == found.rows


def test_selection_finds_the_members_that_complete_one_another():
    labels = np.repeat([0, 1, 2], 40)
    good_at = [{0, 1}, {1, 2}, {0, 2}, {0, 1}, set()]
    votes = np.stack(
        [
            np.where(np.isin(labels, list(good)), labels, (labels + 1 + member % 2) % 3)
            for member, good in enumerate(good_at)
        ],
        axis=1,
    )
    found = out_of_bag(labels, votes, 3)
    assert found.selection(3) == [0, 1, 2]
    assert len(set(found.selection(5))) == 5
    assert found.selection(5)[-1] == 4
    assert found.selection(2) == found.selection(5)[:2]


def test_out_of_bag_votes_survive_json():
    found = out_of_bag(*random_votes(), 4)
    again = OutOfBag.from_dict(json.loads(json.dumps(found.to_dict())))
    for name in ("labels", "votes", "predictions"):
        assert np.array_equal(getattr(again, name), getattr(found, name))
    assert again == found != out_of_bag(*random_votes(seed=1), 4)
    assert repr(again) == repr(found)


@pytest.mark.parametrize(
    ("name", "value"), [("labels", [9]), ("votes", [[7]]), ("predictions", [0, 1]), ("predictions", [5])]
)
def test_votes_that_do_not_fit_one_another_are_refused(name, value):
    sound = {"labels": [0], "votes": [[1]], "predictions": [1], "numClasses": 2, "disputedRows": []}
    OutOfBag.from_dict(sound)
    with pytest.raises(ValueError, match="do not fit"):
        OutOfBag.from_dict({**sound, name: value})


def a_summary(epochs=(2, 3), **more):
    members = tuple(
        MemberSummary(
            member=number,
            rows=10,
            examples=12,
            validationRows=0,
            classCounts=(4, 6),
            seconds=1.5,
            history={"loss": tuple(1.0 / (e + 1 + number) for e in range(count)), "accuracy": (0.5,) * count},
        )
        for number, count in enumerate(epochs)
    )
    return CNNEnsembleTrainingSummary(members, rows=20, skippedRows=0, seconds=3.0, **more)


def test_tables_of_a_summary():
    votes = out_of_bag(*random_votes(members=2), 4)
    summary = a_summary(outOfBag=votes)
    assert summary.epochTable.columns.tolist() == ["member", "epoch", "loss", "accuracy"]
    assert summary.epochTable[["member", "epoch"]].to_numpy().tolist() == [[0, 1], [0, 2], [1, 1], [1, 2], [1, 3]]
    assert summary.objectiveHistory == pytest.approx([(1 + 1 / 2) / 2, (1 / 2 + 1 / 3) / 2, 1 / 4])
    assert summary.totalIterations == 3
    assert summary.memberTable["oobAccuracy"].tolist() == votes.memberAccuracies.tolist()
    assert summary.oobAccuracy == votes.accuracy
    assert a_summary().oobAccuracy is None


def test_a_summary_survives_json():
    summary = a_summary(
        unusedRows=3,
        resumedMembers=(1,),
        missingMembers={2: "Member 2 diverged."},
        outOfBag=out_of_bag(*random_votes(members=2), 4),
    )
    again = CNNEnsembleTrainingSummary.from_dict(json.loads(json.dumps(summary.to_dict())), summary.members)
    assert again == summary
    assert again.missingMembers == {2: "Member 2 diverged."}
    assert again._repr_html_() == summary._repr_html_()


def test_a_summary_shows_itself_as_html_and_escapes():
    text = a_summary(missingMembers={7: "<script>alert(1)</script>"})._repr_html_()
    assert "member 7 is missing" in text and "<script>" not in text


def test_an_evaluation_of_counts():
    labels, votes = random_votes(in_bag=0.0)
    counts = np.stack([(votes == index).sum(axis=1) for index in range(4)], axis=1)
    prediction = counts.argmax(axis=1)
    right = prediction == labels
    confusion = np.zeros((4, 4), int)
    np.add.at(confusion, (labels, prediction), 1)
    winning = counts.max(axis=1)
    found = CNNEnsembleEvaluation(
        confusion=confusion,
        memberRight=(votes == labels[:, None]).sum(axis=0),
        same=(votes[:, :, None] == votes[:, None, :]).sum(axis=0),
        rowsByVotes=np.bincount(winning, minlength=7),
        rightByVotes=np.bincount(winning[right], minlength=7),
        rightBySize=np.full(6, right.sum()),
        skippedRows=0,
    )
    as_sample = out_of_bag(labels, votes, 4)
    assert found.accuracy == as_sample.accuracy == right.mean()
    assert np.allclose(found.disagreement, as_sample.disagreement)
    assert np.allclose(found.memberAccuracies, as_sample.memberAccuracies)
    theirs = as_sample.agreement.set_index("share")
    for share, rows, good in found.agreement.itertuples(index=False):
        if rows:
            assert theirs.loc[round(share, 4)].tolist() == [rows, good]
