"""Votes do not depend on the batches that rows come in, and stop early only if the prediction is certain."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.bags import SMALL, numbers
from support.voting import DIGITS, FAR, constant_member, untrained_members, votes_of, voting_plan

from spark_cnn_ensemble.worker.blocks import groups_of
from spark_cnn_ensemble.worker.decision import majority
from spark_cnn_ensemble.worker.pixels import PixelFormat
from spark_cnn_ensemble.worker.refusal import Refusal
from spark_cnn_ensemble.worker.scoring import decide_early, vote_once
from spark_cnn_ensemble.worker.voting_plan import VotingPlan

pytestmark = pytest.mark.usefixtures("tensorflow")

UNUSABLE = {"null": None, "short": numbers(*range(63)), "NaN": np.full(64, np.nan, np.float32)}


# ------------------------------------------------------------------------------------------ all votes


@pytest.fixture(scope="module")
def in_one_batch(three_members, thousand_cells):
    """The hard vote on all cells, which come in one batch."""
    weights, _ = three_members
    return votes_of(thousand_cells, [1000], voting_plan("cut"), weights)


@pytest.fixture(scope="module")
def soft_vote(three_members, thousand_cells):
    weights, _ = three_members
    return votes_of(thousand_cells, [], voting_plan("alone", soft=True), weights)


@pytest.mark.parametrize(
    "sizes",
    [[1] * 300, [127], [127] * 7, [128], [128] * 7, [129], [129] * 7, [1, 127, 1], [0, 1000], [999, 1]],
    ids=["1 x 300", "127", "127 x 7", "128", "128 x 7", "129", "129 x 7", "1, 127, 1", "0, 1000", "999, 1"],
)
def test_votes_do_not_depend_on_the_batches(three_members, thousand_cells, in_one_batch, sizes):
    weights, _ = three_members
    scored = votes_of(thousand_cells, sizes, voting_plan("cut"), weights)
    assert len(scored) == 1000
    for name in in_one_batch:
        assert np.array_equal(np.stack(scored[name]), np.stack(in_one_batch[name])), name


@pytest.mark.parametrize("count", [1, 31, 32, 33, 96, 97, 127, 128, 129, 161])
def test_a_row_gets_the_same_votes_alone(three_members, thousand_cells, soft_vote, count):
    weights, _ = three_members
    plan = voting_plan("alone", soft=True)
    assert np.array_equal(
        np.stack(votes_of(thousand_cells[:count], [], plan, weights)["rawPrediction"]),
        np.stack(soft_vote["rawPrediction"][:count]),
    )
    alone = vote_once(thousand_cells[count - 1], plan, weights.__getitem__)
    assert np.array_equal(alone[0][0], soft_vote["rawPrediction"][count - 1])


@pytest.mark.slow
def test_the_votes_are_those_of_the_keras_models(three_members, thousand_cells, in_one_batch, soft_vote):
    _, networks = three_members
    images = np.stack(thousand_cells).reshape(-1, 8, 8, 1)
    outputs = np.stack([network.predict(images, verbose=0) for network in networks])
    assert np.allclose(np.stack(soft_vote["probability"]), outputs.mean(axis=0), atol=1e-6)
    votes = outputs.argmax(axis=2)
    counts = np.stack([np.bincount(row, minlength=10) for row in votes.T])
    # Rounding may settle a tie in float32 either way.
    assert (np.stack(in_one_batch["rawPrediction"]) == counts).all(axis=1).mean() > 0.999


def test_the_prediction_of_an_unusable_row_is_null_if_the_plan_says_so(three_members, thousand_cells):
    weights, _ = three_members
    cells = [thousand_cells[0], *UNUSABLE.values(), thousand_cells[1]]
    scored = votes_of(cells, [2, 2], voting_plan("null", refuse_invalid=False), weights)
    assert scored["prediction"].isna().tolist() == [False, True, True, True, False]
    for name in ("rawPrediction", "probability"):
        assert [value is None for value in scored[name]] == [False, True, True, True, False]
    usable = votes_of(thousand_cells[:2], [], voting_plan("null"), weights)
    assert np.array_equal(scored["prediction"].dropna(), usable["prediction"])


@pytest.mark.parametrize("cell", UNUSABLE)
def test_an_unusable_row_is_refused_otherwise(three_members, thousand_cells, cell):
    weights, _ = three_members
    with pytest.raises(Refusal, match=r"^A row: column 'features' (is|has) .*'skip' .*, or 'keep' for a null .*\.$"):
        votes_of([thousand_cells[0], UNUSABLE[cell]], [], voting_plan("refused"), weights)


@pytest.mark.parametrize("outputs", [("prediction",), ("prediction", "probability")], ids=["early", "all votes"])
def test_a_row_that_members_cannot_compute_has_no_prediction(three_members, thousand_cells, outputs):
    weights, _ = three_members
    plan = voting_plan("far", refuse_invalid=False, outputs=outputs)
    scored = votes_of([thousand_cells[0], FAR, thousand_cells[1]], [], plan, weights)
    usable = votes_of(thousand_cells[:2], [], plan, weights)
    assert scored["prediction"].isna().tolist() == [False, True, False]
    assert np.array_equal(scored["prediction"].dropna(), usable["prediction"])
    assert "probability" not in outputs or scored["probability"][1] is None
    sentence = (
        r"^A row: column 'features' has numbers so far from those of the training rows that members compute NaN; .*\.$"
    )
    with pytest.raises(Refusal, match=sentence):
        votes_of([thousand_cells[0], FAR], [], replace(plan, refuse_invalid=True), weights)
    with pytest.raises(Refusal, match=r"^The vector has numbers so far from .*; give numbers like those of"):
        vote_once(FAR, plan, weights.__getitem__)


# ------------------------------------------------------------------------------------ early decisions


class ScriptedMembers:
    """Members whose softmax for a row is written in its image, of shape (members, classes)."""

    def __init__(self, members):
        self.groups = groups_of(members)
        self.calls = 0

    def __len__(self):
        return self.groups[-1].stop

    def blocks(self, images, rows):
        return [(rows[begin : begin + 8], images[rows[begin : begin + 8]]) for begin in range(0, len(rows), 8)]

    def group_outputs(self, group, block, count):
        for member in range(self.groups[group].start, self.groups[group].stop):
            self.calls += 1
            yield member, block[:count, member, :, 0]


def prediction_of_all(images, plan):
    """The majority of all scripted members."""
    votes = images[..., 0].argmax(axis=2).astype(np.int64)
    softmax = np.zeros((len(images), images.shape[2]))
    for member in range(images.shape[1]):
        softmax += images[:, member, :, 0]
    return majority(votes, softmax, plan)[2]


def early_plan(members, classes):
    architecture = replace(SMALL, input_shape=(members, classes, 1), num_classes=classes)
    pixels = PixelFormat("features", "array", (members, classes, 1))
    return VotingPlan("early", (architecture,), (0,) * members, pixels, outputs=("prediction",))


@given(st.data())
def test_an_early_decision_is_that_of_all_votes(data):
    members, classes = data.draw(st.integers(1, 12)), data.draw(st.integers(2, 4))
    # Few values, so that classes tie in members' outputs, in votes and in sums of softmax.
    value = st.sampled_from([0.0, 0.25, 0.5, 0.5 + 2.0**-24, 1.0])
    row = st.lists(value, min_size=members * classes, max_size=members * classes)
    rows = data.draw(st.lists(row, min_size=1, max_size=40))
    images = np.array(rows, np.float32).reshape(-1, members, classes, 1)
    plan = early_plan(members, classes)
    assert np.array_equal(decide_early(ScriptedMembers(members), images, plan)[0], prediction_of_all(images, plan))


def calls_to_decide(votes):
    """How often a member outputs a block until the rows with these votes for 3 classes are decided."""
    members = len(votes[0])
    ensemble, plan = ScriptedMembers(members), early_plan(members, 3)
    images = np.eye(3, dtype=np.float32)[np.array(votes)][..., None]
    assert np.array_equal(decide_early(ensemble, images, plan)[0], prediction_of_all(images, plan))
    return ensemble.calls


@pytest.mark.parametrize("members", [2, 3, 10, 11])
def test_unanimous_rows_need_just_more_than_half_of_the_members(members):
    assert calls_to_decide([[1] * members] * 32) == 4 * (members // 2 + 1)  # four blocks


@pytest.mark.parametrize("members", [2, 3, 10, 11])
def test_one_undecided_row_needs_the_other_members_in_one_block(members):
    undecided = [(index % 2) + 1 for index in range(members)]  # each pair of votes cancels out
    calls = calls_to_decide([*[[1] * members] * 31, undecided])
    assert calls == 4 * (members // 2 + 1) + members - members // 2 - 1


@pytest.fixture(scope="module")
def nine_members(tensorflow):
    return untrained_members(SMALL, 9)[0]


@pytest.mark.parametrize("count", [1, 127, 1000])
def test_real_members_decide_early_as_all_of_them_do(nine_members, thousand_cells, count):
    plan = voting_plan("nine", members=9, refuse_invalid=False)
    early = replace(plan, outputs=("prediction",))
    assert early.may_stop_early and not plan.may_stop_early
    cells = [*thousand_cells[:count], None]
    scored = votes_of(cells, [7], early, nine_members)
    assert list(scored) == ["prediction"]
    expected = votes_of(cells, [], plan, nine_members)
    assert np.array_equal(scored["prediction"], expected["prediction"], equal_nan=True)


@pytest.mark.slow
@pytest.mark.parametrize("soft", [False, True])
def test_the_uncertainty_is_that_of_the_probability(soft):
    """Two members vote for class 0 and one for class 1; the third row cannot be scored."""
    architecture = replace(SMALL, num_classes=2)
    weights = [constant_member(0.9), constant_member(0.8), constant_member(0.4)]
    outputs = ("probability", "uncertainty")
    plan = VotingPlan("u", (architecture,), (0,) * 3, DIGITS, soft=soft, outputs=outputs, refuse_invalid=False)
    found = votes_of([np.zeros(64), None], [], plan, weights)
    first = np.array([0.7, 0.3] if soft else [2 / 3, 1 / 3])
    assert found["probability"][0] == pytest.approx(first, rel=1e-6)
    assert found["uncertainty"][0] == pytest.approx(-(first * np.log2(first)).sum(), rel=1e-6)
    assert pd.isna(found["uncertainty"][1])
