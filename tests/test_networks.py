"""The ready-made networks are what their documentation says, and members train and vote with them."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.bags import bag_frame, bag_of, cut, examples, identical, training_plan
from support.images import encoded
from support.refusals import refused

from spark_cnn_ensemble import networks
from spark_cnn_ensemble.worker.bag import BagRules, collect_bag
from spark_cnn_ensemble.worker.network import Architecture, build_network
from spark_cnn_ensemble.worker.network_check import check_network
from spark_cnn_ensemble.worker.pixels import PixelFormat
from spark_cnn_ensemble.worker.scoring import vote_batches
from spark_cnn_ensemble.worker.trainer import Trainer
from spark_cnn_ensemble.worker.voting_plan import VotingPlan
from spark_cnn_ensemble.worker.weights import pack_weights

NETWORKS = {name: getattr(networks, name) for name in networks.__all__}
LEAST = {"article": 4, "vgg": 8, "residual": 8, "depthwise": 16}  # pixels
PAGE = Path(__file__).parents[1] / "docs" / "guide" / "networks.md"


def test_every_network_is_tried_here():
    assert set(NETWORKS) == set(LEAST)


# ---- what the documentation says

# Images, and what the docstring says in millions of operations; None: the docstring does not give it.
SIZES = [
    ("article", (28, 28, 1)),
    ("article", (32, 32, 3)),
    ("vgg", (32, 32, 3)),
    ("residual", (32, 32, 3)),
    ("depthwise", (96, 96, 3)),
    ("depthwise", (224, 224, 3)),
]
IN_DOCSTRING = [(name, shape) for name, shape in SIZES if (name, shape) != ("article", (32, 32, 3))]


def operations(network):
    """Multiplications and additions of the convolutions and dense layers, for one image."""
    total = 0
    for layer in network.layers:
        kind = type(layer).__name__
        if kind in ("Conv2D", "DepthwiseConv2D"):
            total += 2 * np.prod(layer.output.shape[1:3]) * np.prod(layer.kernel.shape)
        elif kind == "Dense":
            total += 2 * np.prod(layer.kernel.shape)
    return int(total)


@pytest.fixture(scope="module")
def measured():
    """Weights, and millions of operations to three digits, as text, of each network and size."""
    import keras

    found = {}
    for name, shape in SIZES:
        network = keras.models.model_from_json(NETWORKS[name](shape, 10))
        millions = f"{operations(network) / 1e6:.3g}"
        found[name, shape] = f"{network.count_params():,}", millions
    return found


@pytest.mark.parametrize(("name", "shape"), IN_DOCSTRING)
def test_a_docstring_gives_weights_and_operations(measured, name, shape):
    weights, millions = measured[name, shape]
    text = " ".join(NETWORKS[name].__doc__.split())
    assert f"{weights} weights" in text
    size = "x".join(map(str, shape))
    assert f"{millions} million operations per image of {size}" in text or f"of {size} {millions} million" in text


@pytest.mark.parametrize(("name", "shape"), SIZES)
def test_the_guide_gives_weights_and_operations(measured, name, shape):
    weights, millions = measured[name, shape]
    assert re.search(
        rf"^\| `{name}` \| {'x'.join(map(str, shape))} \| {weights} \| {millions} \|", PAGE.read_text(), re.M
    )


# ---- members


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    """A narrow network for the smallest pictures that it takes."""
    side = LEAST[request.param]
    text = NETWORKS[request.param]([side, side + 1, 3], 4, width=8)
    return Architecture((side, side + 1, 3), 4, network=text)


@pytest.fixture(scope="module")
def coloured(network):
    """Pictures whose class is their colour."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 96)
    colours = np.array([[250, 20, 20], [20, 250, 20], [20, 20, 250], [20, 20, 20]])[labels]
    noise = rng.integers(-20, 6, (96, *network.input_shape))
    return examples((colours[:, None, None, :] + noise).clip(0, 255).astype(np.uint8), labels)


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def member(request, network, coloured):
    """The weights of a member, and how it trained."""
    check_network(network, request.param)
    plan = training_plan(network, epochs=16, batch_size=16, learning_rate=1e-2, precision=request.param)
    return request.param, *Trainer(plan.program).train(bag_of(coloured), plan)


@pytest.mark.slow
def test_a_member_learns(member):
    _, _, history = member
    assert history["accuracy"][-1] > 0.9


@pytest.mark.slow
def test_votes_do_not_depend_on_the_batch(network, coloured, member):
    precision, weights, _ = member
    pixels = PixelFormat("features", "array", network.input_shape)
    plan = VotingPlan(
        f"{network.network} {precision}", (network,), (0,), pixels, True, outputs=("prediction", "probability")
    )
    cells = pd.Series(list(coloured.images.reshape(len(coloured), -1)))

    def votes(*sizes):
        batches = [(part, [None] * len(part)) for part in cut(cells, sizes)]
        return pd.concat(vote_batches(batches, plan, lambda member: pack_weights(weights)))

    whole, pieces = votes(), votes(1, 30)
    assert np.array_equal(np.stack(whole["probability"]), np.stack(pieces["probability"]))
    assert (whole["prediction"].to_numpy() == coloured.labels).mean() > 0.9


@pytest.mark.slow
def test_larger_pictures_are_resized_into_a_bag_on_disk_and_train_to_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARK_LOCAL_DIRS", str(tmp_path))
    side, rng = 96, np.random.default_rng(0)
    pictures = [
        encoded(np.full((100 + index, 120, 3), (220, 30, 30) if index % 2 else (30, 30, 220), np.uint8), "JPEG")
        for index in range(16)
    ]
    frame = bag_frame([(int(rng.integers(2**62)), index, index % 2, cell) for index, cell in enumerate(pictures)])
    network = networks.depthwise([side, side, 3], 2, width=4)
    plan = training_plan(Architecture((side, side, 3), 2, network=network), epochs=4, batch_size=8, learning_rate=1e-2)
    trainer, trained = Trainer(plan.program), []
    for limit in (None, 4 * side * side * 3):
        pixels = PixelFormat("content", "bytes", (side, side, 3), resize=True)
        bag = collect_bag([frame], 0, BagRules(pixels, memory_limit=limit))
        assert bag.spilled == (limit is not None)
        trained.append(trainer.train(bag, plan))
    (weights, history), (others, other_history) = trained
    assert identical(weights, others)
    assert history == other_history
    assert history["accuracy"][-1] == 1


@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_arguments_give_the_same_text_and_a_network_for_the_smallest_pictures(name):
    side = LEAST[name]
    text = NETWORKS[name]([side, side, 1], 2, width=1)
    assert text == NETWORKS[name]((side, side, 1), 2, width=1)
    assert build_network(Architecture((side, side, 1), 2, network=text)).output_shape == (None, 2)


# ---- refusals

BAD = {
    "two sides": (
        ([8, 8], 10),
        "input_shape of NAME must be [height, width, channels], whole numbers >= 1; got [8, 8].",
    ),
    "a side of 0": (
        ([8, 0, 3], 10),
        "input_shape of NAME must be [height, width, channels], whole numbers >= 1; got [8, 0, 3].",
    ),
    "open sides": (
        ((None, None, 3), 10),
        "input_shape of NAME must be [height, width, channels], whole numbers >= 1; got (None, None, 3).",
    ),
    "no shape": ((28, 10), "input_shape of NAME must be [height, width, channels], whole numbers >= 1; got 28."),
    "one class": (([32, 32, 3], 1), "num_classes of NAME must be a whole number >= 2; got 1."),
    "half a class": (([32, 32, 3], 2.5), "num_classes of NAME must be a whole number >= 2; got 2.5."),
    "no filters": (([32, 32, 3], 10, 0), "width of NAME must be a whole number >= 1; got 0."),
    "half a filter": (([32, 32, 3], 10, 0.5), "width of NAME must be a whole number >= 1; got 0.5."),
}


@pytest.mark.parametrize("case", BAD)
def test_an_argument_out_of_range_is_refused(case):
    arguments, sentence = BAD[case]
    for name, function in NETWORKS.items():
        assert refused(function, *arguments) == sentence.replace("NAME", name)


@pytest.mark.parametrize("name", NETWORKS)
def test_pictures_that_are_too_small_are_refused(name):
    least = LEAST[name]
    assert refused(NETWORKS[name], [least - 1, 99, 3], 10) == (
        f"input_shape of {name} must be at least {least}x{least} pixels, since the network halves them "
        f"{least.bit_length() - 1} times; got {[least - 1, 99, 3]}."
    )


def test_importing_the_networks_imports_no_tensorflow():
    code = "import sys, spark_cnn_ensemble.networks; print(*{'tensorflow', 'keras'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
