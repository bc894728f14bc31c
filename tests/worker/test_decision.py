"""The majority decides, a tie goes by softmax, and thresholds divide the votes."""

import math
from dataclasses import replace

import numpy as np
import pytest
from support.bags import SMALL
from support.voting import voting_plan

from spark_cnn_ensemble.worker.decision import entropy, majority


def plan_of_four_classes(members=3, **changes):
    return replace(voting_plan("by hand", members, **changes), architectures=(replace(SMALL, num_classes=4),))


@pytest.mark.parametrize(
    ("votes", "softmax", "winner"),
    [
        ([2, 2, 1], [0.1, 2.5, 0.3, 0.1], 2),
        ([0, 1, 3], [0.9, 0.2, 0.9, 1.0], 3),
        ([0, 1, 1, 0], [1.4, 1.4, 2.0, 0.0], 0),
        ([3, 2, 1, 0], [1.0, 1.0, 1.0, 1.0], 0),
        ([3], [0.0, 0.0, 0.0, 1.0], 3),
    ],
    ids=[
        "most votes, whatever the softmax",
        "three tied: the larger softmax",
        "votes and softmax tied: the lower index, not the class without votes",
        "all tied: the lowest index",
        "one member",
    ],
)
def test_the_majority_wins_and_ties_are_settled(votes, softmax, winner):
    plan = plan_of_four_classes(len(votes))
    raw, probability, prediction = majority(np.array([votes]), np.array([softmax]), plan)
    counts = np.bincount(votes, minlength=4)
    assert raw.tolist() == [counts.tolist()]
    assert probability.tolist() == [(counts / len(votes)).tolist()]
    assert prediction.tolist() == [winner]
    assert prediction.dtype == np.float64


def test_a_soft_vote_is_the_mean_softmax():
    softmax = np.array([[0.1, 1.5, 1.3, 0.1], [0.5, 0.5, 0.5, 1.5]])
    votes = np.array([[2, 2, 1], [3, 3, 3]])
    raw, probability, prediction = majority(votes, softmax, plan_of_four_classes(soft=True))
    assert np.array_equal(raw, softmax)
    assert np.allclose(probability, softmax / 3)
    assert prediction.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("thresholds", "winner"),
    [
        pytest.param((0.5, 0.5, 0.5, 0.5), 2, id="all alike"),
        pytest.param((0.1, 0.9, 0.9, 0.9), 0, id="0.25 / 0.1 > 0.5 / 0.9"),
        pytest.param((0.9, 0.0, 0.9, 0.9), 1, id="a threshold of 0 wins with any vote"),
        pytest.param((0.9, 0.9, 0.9, 0.0), 2, id="a threshold of 0 never wins without votes"),
        pytest.param((0.3, 0.3, 0.9, 0.3), 1, id="two tied: the larger softmax"),
    ],
)
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_the_largest_probability_over_threshold_wins(thresholds, winner, soft):
    votes = np.array([[2, 0, 2, 1]])
    softmax = np.array([[1.0, 1.0, 2.0, 0.0]]) if soft else np.array([[1.0, 1.1, 1.9, 0.0]])
    if soft and thresholds[0] == 0.3:
        winner = 0  # their softmax is tied as well: the lower index
    plan = plan_of_four_classes(4, thresholds=thresholds, soft=soft)
    _, probability, prediction = majority(votes, softmax, plan)
    assert probability.tolist() == [[0.25, 0.25, 0.5, 0.0]]
    assert prediction.tolist() == [winner]


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ([1, 0, 0, 0], 0),
        ([0.25, 0.25, 0.25, 0.25], 1),
        ([0.5, 0.5, 0, 0], 0.5),
        ([2 / 3, 1 / 3, 0, 0], (2 / 3 * math.log2(3 / 2) + 1 / 3 * math.log2(3)) / 2),
    ],
    ids=["unanimous", "even", "two of four", "two to one"],
)
def test_the_uncertainty_is_the_entropy_of_the_shares_over_that_of_an_even_vote(shares, expected):
    assert entropy(np.array([shares], float)) == pytest.approx(expected, abs=1e-12)
