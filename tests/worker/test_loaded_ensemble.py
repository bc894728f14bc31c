"""A process unpacks members once, whatever their networks, and refuses weights that do not fit."""

from dataclasses import replace
from multiprocessing.pool import ThreadPool

import numpy as np
import pytest
from support.bags import SMALL
from support.voting import untrained_members, votes_of, voting_plan

from spark_cnn_ensemble.worker.blocks import groups_of
from spark_cnn_ensemble.worker.loaded_ensemble import load_ensemble
from spark_cnn_ensemble.worker.network import Architecture
from spark_cnn_ensemble.worker.pixels import PixelFormat
from spark_cnn_ensemble.worker.refusal import Refusal
from spark_cnn_ensemble.worker.voting_plan import VotingPlan

pytestmark = pytest.mark.usefixtures("tensorflow")


@pytest.mark.slow
def test_members_may_have_different_networks(thousand_cells):
    other = replace(SMALL, filters=(2, 3), standardization=False)
    (first,), (one,) = untrained_members(SMALL, 1)
    (second,), (two,) = untrained_members(other, 1, seed=1)
    plan = replace(voting_plan("two kinds", soft=True), architectures=(SMALL, other), architecture_of=(1, 0))
    scored = votes_of(thousand_cells[:50], [], plan, [second, first])
    images = np.stack(thousand_cells[:50]).reshape(-1, 8, 8, 1)
    expected = one.predict(images, verbose=0) + two.predict(images, verbose=0)
    assert np.allclose(np.stack(scored["rawPrediction"]), expected, atol=1e-6)


def test_weights_that_do_not_fit_the_network_are_refused(three_members):
    weights, _ = three_members
    (other,), _ = untrained_members(replace(SMALL, dense_units=17), 1)
    with pytest.raises(Refusal, match=r"^The weights of member 1 do not fit its network; save the model again\.$"):
        load_ensemble(voting_plan("misfit"), [weights[0], other, weights[2]].__getitem__)


# Kernels round differently for blocks of other sizes in some of these networks.
ARCHITECTURES = {
    "digits": SMALL,
    "MNIST": Architecture((28, 28, 1), 10),
    "wide": Architecture((28, 28, 1), 10, filters=(32, 64), dense_units=1024),
    "colour": Architecture((32, 32, 3), 10),
    "few rows per block": Architecture((160, 160, 3), 5),
    "uneven": Architecture((17, 23, 2), 7, filters=(5, 7), dense_units=33),
}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", ARCHITECTURES)
def test_a_row_gets_the_same_outputs_alone(case, precision):
    architecture = ARCHITECTURES[case]
    weights, _ = untrained_members(architecture, 2)
    pixels = PixelFormat("features", "array", architecture.input_shape)
    plan = VotingPlan(case, (architecture,), (0, 0), pixels, precision=precision)
    ensemble = load_ensemble(plan, weights.__getitem__)
    shape = (plan.block_rows + plan.block_rows // 3, *architecture.input_shape)
    images = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
    _, together = ensemble.vote(images)
    for row in (0, plan.block_rows // 2, plan.block_rows - 1, len(images) - 1):
        assert np.array_equal(ensemble.vote(images[row : row + 1])[1][0], together[row])


def test_bfloat16_gives_other_numbers_and_about_the_same_softmax(three_members, thousand_cells):
    weights, _ = three_members
    exact, mixed = (
        votes_of(thousand_cells, [], voting_plan("both", soft=True, precision=precision), weights)
        for precision in ("float32", "bfloat16")
    )
    exact, mixed = (np.stack(scored["probability"]) for scored in (exact, mixed))
    assert not np.array_equal(exact, mixed)
    assert np.abs(exact - mixed).max() < 0.02


@pytest.mark.parametrize("members", [1, 2, 3, 10, 11, 16, 17, 33, 100])
def test_the_first_groups_are_just_a_majority(members):
    groups = groups_of(members)
    assert [index for group in groups for index in range(members)[group]] == list(range(members))
    assert members // 2 + 1 in [group.stop for group in groups]
    assert max(group.stop - group.start for group in groups) <= 16


def test_an_ensemble_is_unpacked_once_per_id(three_members):
    weights, _ = three_members
    first = load_ensemble(voting_plan("once"), weights.__getitem__)
    assert load_ensemble(voting_plan("once", soft=True), {}.__getitem__) is first


def test_threads_may_score_with_more_models_than_a_process_keeps(three_members):
    weights, _ = three_members
    plans = [voting_plan(f"thread {number}") for number in range(5)]
    with ThreadPool(4) as pool:
        sizes = pool.map(lambda plan: len(load_ensemble(plan, weights.__getitem__)), plans * 8)
    assert sizes == [3] * 40
