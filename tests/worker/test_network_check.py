"""A network that passes the check on the driver trains in a worker, reproducibly; and what a refusal proposes passes it."""

import functools
from dataclasses import replace

import pytest
from support.bags import SMALL, bag_of, identical, training_plan
from support.networks import network_json

from spark_cnn_ensemble.worker.network import build_network
from spark_cnn_ensemble.worker.network_check import check_network
from spark_cnn_ensemble.worker.refusal import Refusal
from spark_cnn_ensemble.worker.trainer import Trainer

pytestmark = pytest.mark.usefixtures("tensorflow")


def custom(*before, name=None, shape=(8, 8, 1), **softmax):
    """The JSON of a network for the digits that begins with these layers."""
    import keras

    layers = keras.layers
    parts = [*before, layers.Flatten(), layers.Dense(10, activation="softmax", **softmax)]
    if name is None:
        return network_json(*parts, shape=shape)
    return keras.Sequential([keras.Input(shape), *parts], name=name).to_json()


def check_and_train(rows, network, standardization, precision="float32"):
    """The weights of a member, trained twice."""
    architecture = replace(SMALL, network=network, standardization=standardization)
    check_network(architecture, precision)
    plan = training_plan(architecture, epochs=1, precision=precision)
    trainer = Trainer(plan.program)
    first, again = (trainer.train(bag_of(rows), plan)[0] for _ in range(2))
    assert identical(first, again)
    return first


@pytest.fixture(scope="module")
def usual(some_digits):
    """The weights of a member by precision; its network has no layers of a test's own and a name that means nothing."""
    return functools.cache(lambda precision: check_and_train(some_digits, custom(name="usual"), True, precision))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["image", "standardization", "member", "network"])
def test_a_model_may_have_any_name(some_digits, usual, name):
    assert identical(check_and_train(some_digits, custom(name=name), True), usual("float32"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["image", "standardization"])
def test_a_layer_may_have_any_name(some_digits, name):
    import keras

    check_and_train(some_digits, custom(keras.layers.Conv2D(2, 3, name=name)), True, "bfloat16")


def test_a_model_of_another_name_keeps_it():
    layers = [layer.name for layer in build_network(replace(SMALL, network=custom(name="mine"))).layers]
    assert layers == ["image", "standardization", "mine"]


LAYERS = {
    "nested rescaling": lambda k: k.Sequential([k.Input((8, 8, 1)), k.layers.Rescaling(1 / 16)]),
    "normalization": lambda k: k.layers.Normalization(mean=5.0, variance=36.0),
    "random contrast": lambda k: k.layers.RandomContrast(0.2, value_range=(0, 16)),
}


@pytest.mark.parametrize("case", LAYERS)
def test_layers_that_rescale_are_for_networks_without_standardization(some_digits, case):
    import keras

    network = custom(LAYERS[case](keras))
    with pytest.raises(Refusal, match="set standardization=False or remove the layer"):
        check_network(replace(SMALL, network=network), "float32")
    check_and_train(some_digits, network, False)


RANDOM = {
    "dropout": lambda k: k.layers.Dropout(0.3),
    "dropout with a seed": lambda k: k.layers.Dropout(0.3, seed=3),
    "noise": lambda k: k.layers.GaussianNoise(0.3),
    "batch normalization": lambda k: k.layers.BatchNormalization(),
    "flip": lambda k: k.layers.RandomFlip("horizontal"),
    "rotation": lambda k: k.layers.RandomRotation(0.1),
    "translation with a seed": lambda k: k.layers.RandomTranslation(0.1, 0.1, seed=5),
}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", RANDOM)
def test_layers_that_draw_at_random_draw_the_same_again(some_digits, usual, case, precision):
    import keras

    network = custom(RANDOM[case](keras))
    assert not identical(check_and_train(some_digits, network, True, precision), usual(precision))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_layers_may_have_regularizers(some_digits, precision):
    import keras

    regularized = keras.layers.Dense(64, activity_regularizer="l2", kernel_regularizer="l2", bias_regularizer="l1")
    network = custom(keras.layers.Flatten(), regularized, kernel_regularizer="l2")
    check_and_train(some_digits, network, True, precision)


def test_sizes_may_be_open(some_digits):
    import keras

    pooled = keras.layers.GlobalAveragePooling2D()
    check_and_train(some_digits, custom(keras.layers.Conv2D(2, 3), pooled, shape=(None, None, 1)), True)


def test_a_network_that_cannot_be_trained_is_refused():
    import keras

    image = keras.Input((8, 8, 1))
    classes = keras.ops.argmax(keras.layers.Dense(10)(keras.layers.Flatten()(image)), axis=-1)
    network = keras.Model(image, keras.ops.one_hot(classes, 10)).to_json()
    with pytest.raises(Refusal, match="no gradient"):
        check_network(replace(SMALL, network=network), "float32")
