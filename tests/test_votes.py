"""Statistics of out-of-bag votes, on votes made by hand: no Spark, no TensorFlow."""

import json
import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.member_votes import member_votes, out_of_bag_of

from spark_cnn_ensemble import OutOfBag
from spark_cnn_ensemble.votes import credit, wilson_interval


@pytest.fixture(scope="module")
def votes():
    return out_of_bag_of(*member_votes())


# ------------------------------------------------------------------------------------ intervals


@pytest.mark.parametrize(("right", "rows"), [(0, 10), (5, 10), (974, 1000), (10, 10), (1, 1)])
def test_wilsons_interval_is_that_of_scipy(right, rows):
    from scipy.stats import binomtest  # takes a second, which other tests need not wait for

    expected = binomtest(right, rows).proportion_ci(method="wilson")
    assert wilson_interval(right, rows) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_the_interval_of_no_rows_is_unknown():
    assert all(math.isnan(bound) for bound in wilson_interval(0, 0))


# ------------------------------------------------------------------------------------- accuracy


def test_rows_without_an_out_of_bag_member_are_not_counted(votes):
    voted = [row for row in range(len(votes.labels)) if (votes.votes[row] >= 0).any()]
    assert votes.rows == len(voted) < len(votes.labels)
    assert votes.rowsWithoutMember == len(votes.labels) - len(voted)
    assert votes.accuracy == np.mean([votes.predictions[row] == votes.labels[row] for row in voted])


def test_the_number_of_voters_is_the_mean_over_rows_with_a_vote():
    votes = np.array([[0, -1, -1], [1, 1, -1], [-1, -1, -1]])
    assert out_of_bag_of(np.array([0, 1, 1]), votes, 2).votersPerRow == 1.5
    assert math.isnan(out_of_bag_of(np.array([0]), np.array([[-1, -1]]), 2).votersPerRow)


def test_a_members_accuracy_is_that_on_its_out_of_bag_rows(votes):
    for member in range(6):
        out_of_bag = votes.votes[:, member] >= 0
        right = votes.votes[out_of_bag, member] == votes.labels[out_of_bag]
        assert votes.memberAccuracies[member] == right.mean()


def test_disagreement_is_counted_on_the_rows_that_two_members_share(votes):
    for one, other in ((0, 1), (2, 5)):
        both = (votes.votes[:, one] >= 0) & (votes.votes[:, other] >= 0)
        differ = votes.votes[both, one] != votes.votes[both, other]
        assert votes.disagreement[one, other] == pytest.approx(differ.mean())
    assert np.array_equal(votes.disagreement, votes.disagreement.T)
    assert np.all(np.diag(votes.disagreement) == 0)


def test_recall_is_a_share_of_the_labels_rows(votes):
    assert votes.recallByLabel[2] == votes.confusionMatrix[2, 2] / votes.confusionMatrix[2].sum()


@pytest.mark.parametrize("seed", range(3))
def test_the_numbers_of_the_classes_do_not_matter(seed):
    labels, member = member_votes(seed=seed)
    votes = out_of_bag_of(labels, member)
    numbers = np.random.default_rng(seed).permutation(4)
    predictions = np.where(votes.predictions >= 0, numbers[votes.predictions], -1)
    renumbered = OutOfBag(numbers[labels], np.where(member >= 0, numbers[member], -1), predictions, 4)
    assert renumbered.accuracy == votes.accuracy
    assert np.array_equal(renumbered.memberAccuracies, votes.memberAccuracies)
    assert np.allclose(renumbered.disagreement, votes.disagreement)
    assert renumbered.accuracyBySize.equals(votes.accuracyBySize)
    assert renumbered.agreement.equals(votes.agreement)
    assert renumbered.selection(6) == votes.selection(6)


# --------------------------------------------------------------- ensemble size, agreement, choice


def test_accuracy_by_size_approaches_the_mean_of_all_subsets():
    labels, member = member_votes(rows=300, members=4, in_bag=0.0, right=0.6)
    table = out_of_bag_of(labels, member).accuracyBySize
    assert table["size"].tolist() == [1, 2, 3, 4]
    for size, accuracy in zip(table["size"], table["accuracy"], strict=True):
        expected = []
        for subset in combinations(range(4), size):
            counts = np.stack([(member[:, subset] == index).sum(axis=1) for index in range(4)], axis=1)
            expected.append(credit(counts, labels).mean())
        assert accuracy == pytest.approx(np.mean(expected), abs=0.01)
    assert (table["low"] < table["accuracy"]).all() and (table["accuracy"] < table["high"]).all()
    assert (table["rows"] == 300).all()


def test_a_row_counts_for_sizes_up_to_the_number_of_its_members():
    labels = np.zeros(30, int)
    member = np.full((30, 3), -1)
    member[:20, 0] = 0
    member[:5, 1] = 1
    table = out_of_bag_of(labels, member, 2).accuracyBySize
    assert table[["size", "rows"]].to_numpy().tolist() == [[1, 20], [2, 5]]
    assert table["accuracy"].tolist()[1] == 0.5  # a tie of two classes, one of them right


@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_coverage_ends_with_the_accuracy_on_all_rows_with_two_votes_or_more(seed, members):
    votes = out_of_bag_of(*member_votes(rows=60, members=members, seed=seed))
    table = votes.coverage
    counted = (votes.votes >= 0).sum(axis=1) > 1
    if counted.any():
        assert table["coverage"].iloc[-1] == 1
        right = votes.predictions[counted] == votes.labels[counted]
        assert table["accuracy"].iloc[-1] == pytest.approx(right.mean())
        assert table["coverage"].is_monotonic_increasing
        assert table["minimumShare"].is_monotonic_decreasing
    assert votes.agreement["rows"].sum() == counted.sum()


def test_selection_takes_the_most_accurate_members():
    labels = np.zeros(10, int)
    member = np.ones((10, 5), int)  # of the wrong class
    member[:6, 1] = 0
    member[:8, 3] = 0
    member[:6, 4] = 0
    member[:, 2] = -1  # trained on every row
    votes = out_of_bag_of(labels, member, 2)
    assert votes.selection(5) == [3, 1, 4, 0, 2]
    assert votes.selection(2) == [3, 1]


# ----------------------------------------------------------------------------------------- JSON


def test_votes_survive_json(votes):
    again = OutOfBag.from_dict(json.loads(json.dumps(votes.to_dict())))
    for name in ("labels", "votes", "predictions"):
        assert np.array_equal(getattr(again, name), getattr(votes, name))
    assert again == votes != out_of_bag_of(*member_votes(seed=1))
    assert repr(again) == repr(votes)


VALID = {"labels": [0], "votes": [[1]], "predictions": [1], "numClasses": 2, "disputedRows": []}


def test_votes_of_one_row_are_read():
    assert OutOfBag.from_dict(VALID).rows == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("labels", [9]), ("votes", [[7]]), ("predictions", [0, 1]), ("predictions", [5])],
    ids=["an unknown label", "a vote for an unknown class", "more predictions than labels", "an unknown prediction"],
)
def test_arrays_that_do_not_fit_together_are_refused(name, value):
    with pytest.raises(ValueError, match="do not fit"):
        OutOfBag.from_dict({**VALID, name: value})
