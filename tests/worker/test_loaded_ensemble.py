"""A process unpacks members once, whatever their networks, and refuses weights that do not fit."""

from dataclasses import replace
from multiprocessing.pool import ThreadPool

import numpy as np
import pytest
from support.bags import SMALL
from support.voting import untrained_members, votes_of, voting_plan

from spark_cnn_ensemble.worker.loaded_ensemble import load_ensemble
from spark_cnn_ensemble.worker.refusal import Refusal

pytestmark = pytest.mark.usefixtures("tensorflow")


def test_members_may_have_different_networks(thousand_cells):
    other = replace(SMALL, filters=(2, 3), standardization=False)
    (first,), (one,) = untrained_members(SMALL, 1)
    (second,), (two,) = untrained_members(other, 1, seed=1)
    plan = replace(voting_plan("two kinds", soft=True), architectures=(SMALL, other), members=(1, 0))
    scored = votes_of(thousand_cells[:50], [], plan, [second, first])
    images = np.stack(thousand_cells[:50]).reshape(-1, 8, 8, 1)
    expected = one.predict(images, verbose=0) + two.predict(images, verbose=0)
    assert np.allclose(np.stack(scored["rawPrediction"]), expected, atol=1e-6)


def test_weights_that_do_not_fit_the_network_are_refused(three_members):
    weights, _ = three_members
    (other,), _ = untrained_members(replace(SMALL, dense_units=17), 1)
    with pytest.raises(Refusal, match=r"^The weights of member 1 do not fit its network; save the model again\.$"):
        load_ensemble(voting_plan("misfit"), [weights[0], other, weights[2]].__getitem__)


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
