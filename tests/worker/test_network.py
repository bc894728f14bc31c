"""The built-in network suits images of any shape and any number of classes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from support.bags import SMALL, bag_of, random_examples, training_plan
from support.networks import network_json

from spark_cnn_ensemble.worker.network import build_network, compute_in_bfloat16, count_weights
from spark_cnn_ensemble.worker.pixels import PixelFormat
from spark_cnn_ensemble.worker.scoring import vote_batches
from spark_cnn_ensemble.worker.trainer import Trainer
from spark_cnn_ensemble.worker.voting_plan import VotingPlan
from spark_cnn_ensemble.worker.weights import pack_weights

pytestmark = pytest.mark.usefixtures("tensorflow")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "classes", "precision", "changes"),
    [
        pytest.param((48, 32, 3), 4, "float32", {}, id="48x32x3"),
        pytest.param((32, 48, 1), 2, "float32", {"filters": (4, 8, 8)}, id="three convolutions"),
        pytest.param((1, 1, 1), 2, "float32", {}, id="one pixel"),
        pytest.param((1, 7, 2), 3, "bfloat16", {"kernel_size": 5}, id="two channels in bfloat16"),
        pytest.param(
            (4, 4, 1), 2, "float32", {"filters": (4, 4), "kernel_size": 5}, id="a kernel larger than the image"
        ),
        pytest.param(
            (28, 28, 3), 10, "bfloat16", {"filters": (4, 8), "kernel_size": 5, "dropout_rate": 0.5}, id="dropout"
        ),
        pytest.param((8, 8, 1), 300, "float32", {}, id="300 classes"),
        pytest.param((28, 28, 1), 10, "float32", {"filters": (2,) * 6}, id="six convolutions"),
    ],
)
def test_the_built_in_network_trains_and_scores(shape, classes, precision, changes):
    architecture = replace(SMALL, input_shape=shape, num_classes=classes, **changes)
    rows = random_examples(architecture)
    plan = training_plan(architecture, epochs=1, batch_size=10, random_shift=1, random_flip=True, precision=precision)
    weights, history = Trainer(plan.program).train(bag_of(rows), plan)
    assert np.isfinite(history["loss"]).all()
    pixels = PixelFormat("features", "array", shape)
    voting = VotingPlan(f"{shape} {classes} {precision}", (architecture,), (0,), pixels)
    cells = pd.Series(list(rows.images.reshape(len(rows), -1)))
    (scored,) = vote_batches([(cells, [None] * len(cells))], voting, lambda _: pack_weights(weights))
    assert np.stack(scored["probability"]).shape == (len(rows), classes)
    assert scored["prediction"].between(0, classes - 1).all()


def test_bfloat16_begins_after_the_layers_that_scale_the_pixels():
    from keras import layers

    parts = [
        *(layers.RandomFlip(name="flip"), layers.Rescaling(1 / 255, name="scale")),
        *(
            layers.ZeroPadding2D(name="pad"),
            layers.Conv2D(2, 3, name="convolution"),
            layers.Rescaling(2.0, name="again"),
        ),
        *(layers.Flatten(name="flatten"), layers.Dense(10, activation="softmax", name="softmax")),
    ]
    network = build_network(replace(SMALL, network=network_json(*parts, shape=(8, 8, 1)), standardization=False))
    compute_in_bfloat16(network)
    types = {layer.name: layer.compute_dtype for layer in network.layers if layer.name in {part.name for part in parts}}
    exact = {"flip", "scale", "again", "softmax"}
    assert types == {name: "float32" if name in exact else "bfloat16" for name in types}
    assert len(types) == len(parts)


@pytest.mark.parametrize("standardization", [True, False])
def test_weights_are_counted_as_the_network_has_them(standardization):
    architecture = replace(SMALL, standardization=standardization)
    assert count_weights(architecture) == sum(array.size for array in build_network(architecture).get_weights())
