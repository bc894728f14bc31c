"""Members that onnxruntime runs vote as those of TensorFlow do, and a row's votes do not depend on its neighbours."""

import pickle
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from support.bags import SMALL
from support.networks import network_json
from support.processes import output_of, start_python
from support.voting import untrained_members, votes_of, voting_plan

from spark_cnn_ensemble.onnx_writer import onnx_graph
from spark_cnn_ensemble.worker import onnx_ensemble
from spark_cnn_ensemble.worker.loaded_ensemble import load_ensemble
from spark_cnn_ensemble.worker.network import Architecture
from spark_cnn_ensemble.worker.pixels import PixelFormat
from spark_cnn_ensemble.worker.refusal import Refusal
from spark_cnn_ensemble.worker.voting_plan import VotingPlan

pytestmark = pytest.mark.usefixtures("tensorflow")


def by_onnx(plan):
    """The same plan for onnxruntime."""
    graphs = [onnx_graph(architecture) for architecture in plan.architectures]
    return replace(plan, graphs=tuple(graphs[index] for index in plan.architecture_of))


def custom_network():
    from keras import layers

    return network_json(
        *(layers.Conv2D(4, 3, use_bias=False), layers.BatchNormalization(), layers.ReLU(), layers.MaxPooling2D()),
        *(layers.Dropout(0.5), layers.GlobalAveragePooling2D(), layers.Dense(10, activation="softmax")),
        shape=(8, 8, 1),
    )


ARCHITECTURES = {
    "digits": lambda: SMALL,
    "a factor per channel": lambda: replace(SMALL, scaled=True),
    "MNIST": lambda: Architecture((28, 28, 1), 10),
    "colour": lambda: Architecture((32, 32, 3), 10),
    "few rows per block": lambda: Architecture((160, 160, 3), 5),
    "uneven": lambda: Architecture((17, 23, 2), 7, filters=(5, 7), dense_units=33, standardization=False),
    "padded": lambda: Architecture((7, 6, 2), 3, filters=(3, 4, 5), kernel_size=4),
    "custom": lambda: replace(SMALL, network=custom_network()),
    "custom without standardization": lambda: replace(SMALL, network=custom_network(), standardization=False),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", ARCHITECTURES)
def test_a_row_gets_the_softmax_of_keras_and_the_same_alone(case):
    architecture = ARCHITECTURES[case]()
    weights, networks = untrained_members(architecture, 2)
    pixels = PixelFormat("features", "array", architecture.input_shape)
    plan = by_onnx(VotingPlan(f"onnx {case}", (architecture,), (0, 0), pixels))
    ensemble = load_ensemble(plan, weights.__getitem__)
    shape = (plan.block_rows + plan.block_rows // 3, *architecture.input_shape)
    images = np.random.default_rng(0).integers(0, 5, shape).astype(np.float32)
    _, together = ensemble.vote(images)
    expected = sum(np.asarray(network(images, training=False)) for network in networks)
    assert np.allclose(together, expected, atol=1e-5, rtol=0)
    for row in (0, plan.block_rows // 2, plan.block_rows - 1, len(images) - 1):
        assert np.array_equal(ensemble.vote(images[row : row + 1])[1][0], together[row])


@pytest.fixture(scope="module")
def nine_members(tensorflow):
    return untrained_members(SMALL, 9)[0]


@pytest.mark.parametrize("sizes", [[1] * 100, [127] * 3, [128, 129], [0, 1, 999]], ids=str)
def test_votes_do_not_depend_on_the_batches(nine_members, thousand_cells, sizes):
    plan = by_onnx(voting_plan("onnx batches", members=9))
    scored, whole = (votes_of(thousand_cells, cuts, plan, nine_members) for cuts in (sizes, []))
    for name in whole:
        assert np.array_equal(np.stack(scored[name]), np.stack(whole[name])), name


def test_members_decide_early_as_all_of_them_do(nine_members, thousand_cells):
    plan = by_onnx(voting_plan("onnx nine", members=9))
    early = votes_of(thousand_cells, [], replace(plan, outputs=("prediction",)), nine_members)
    assert np.array_equal(early["prediction"], votes_of(thousand_cells, [], plan, nine_members)["prediction"])


def test_members_may_have_different_networks(thousand_cells):
    other = replace(SMALL, filters=(2, 3), standardization=False)
    (first,), _ = untrained_members(SMALL, 1)
    (second,), _ = untrained_members(other, 1, seed=1)
    plan = replace(voting_plan("two kinds by onnx", soft=True), architectures=(SMALL, other), architecture_of=(1, 0))
    ours, theirs = (votes_of(thousand_cells[:50], [], each, [second, first]) for each in (by_onnx(plan), plan))
    assert np.allclose(np.stack(ours["rawPrediction"]), np.stack(theirs["rawPrediction"]), atol=1e-5)


def test_members_share_the_cores_of_the_task(nine_members, thousand_cells, monkeypatch):
    one = votes_of(thousand_cells, [], by_onnx(voting_plan("onnx one core", members=9)), nine_members)
    monkeypatch.setattr(onnx_ensemble, "task_cpus", lambda: 3)
    plan = by_onnx(voting_plan("onnx three cores", members=9))
    three = votes_of(thousand_cells, [], plan, nine_members)
    assert all(np.array_equal(np.stack(three[name]), np.stack(one[name])) for name in one)
    running, most = [], []

    class Watched:
        def __init__(self, session):
            self._session = session

        def run(self, *arguments):
            running.append(self)
            most.append(len(running))
            try:
                time.sleep(0.01)
                return self._session.run(*arguments)
            finally:
                running.remove(self)

    ensemble = load_ensemble(plan, {}.__getitem__)
    monkeypatch.setattr(ensemble, "_sessions", [Watched(session) for session in ensemble._sessions])
    votes_of(thousand_cells, [], plan, {})
    assert max(most) == 3


def test_both_engines_of_one_ensemble_stay_loaded(nine_members):
    plan = voting_plan("both engines", members=9)
    ours, theirs = (load_ensemble(each, nine_members.__getitem__) for each in (by_onnx(plan), plan))
    assert ours is not theirs
    assert load_ensemble(by_onnx(plan), {}.__getitem__) is ours


def test_weights_that_do_not_fit_the_network_are_refused(nine_members):
    (other,), _ = untrained_members(replace(SMALL, dense_units=17), 1)
    plan = by_onnx(voting_plan("onnx misfit", members=2))
    with pytest.raises(Refusal, match=r"^The weights of member 1 do not fit its network; save the model again\.$"):
        load_ensemble(plan, [nine_members[0], other].__getitem__)


def test_a_worker_without_onnxruntime_says_what_to_install(nine_members, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(onnx_ensemble, "_onnxruntime", onnx_ensemble._onnxruntime.__wrapped__)
    with pytest.raises(Refusal, match=r"pip install 'spark-cnn-ensemble\[onnx\]' there, or set scoringEngine="):
        load_ensemble(by_onnx(voting_plan("no onnxruntime", members=1)), nine_members.__getitem__)


VOTE = """
import pickle, sys
from pathlib import Path

plan, weights, images = pickle.loads(Path(sys.argv[1]).read_bytes())
from spark_cnn_ensemble.worker.loaded_ensemble import load_ensemble

load_ensemble(plan, weights.__getitem__).vote(images)
print(*sorted({"keras", "onnx", "onnxruntime", "tensorflow"} & set(sys.modules)))
"""


@pytest.mark.slow
def test_a_process_that_votes_imports_onnxruntime_alone(nine_members, thousand_cells, tmp_path):
    images = np.stack(thousand_cells[:9]).reshape(-1, 8, 8, 1)
    content = by_onnx(voting_plan("process", members=9)), nine_members, images
    (tmp_path / "content").write_bytes(pickle.dumps(content))
    assert output_of(start_python(VOTE, tmp_path / "content")) == ["onnxruntime"]
