"""A network that is not a Keras model for the images and classes is refused by `fit` before any job."""

import json
import re

import pytest
from support.feature_forms import two_by_two
from support.networks import network_json, valid_network
from support.refusals import refused_before_any_job

from spark_cnn_ensemble.worker.runtime import load_tensorflow

NOT_JSON = r"The 'network' parameter is not JSON \(.+\); pass model\.to_json\(\) of a Keras model\."
NOT_A_MODEL = r"The 'network' parameter is JSON but not a Keras model; pass model\.to_json\(\) of a Keras model\."
CUSTOM_CODE = (
    r"The 'network' parameter holds '{}', which is custom code rather than a layer of Keras; use Keras' built-in layers "
    r"only\."
)
NOT_BUILT = (
    r"The 'network' parameter is not a model that Keras [\d.]+ can build from class '{}' \(.+\); pass model\.to_json\(\) "
    r"of a model with one input and one output\."
)
INPUT = (
    r"The 'network' parameter takes input of shape {}, but the rows are images of shape \[2, 2, 1\]; change the network's "
    r"Input or set inputShape\."
)
OUTPUT = (
    r"The 'network' parameter gives output of shape {}, but there are 2 classes; end it with Dense\(2, "
    r"activation='softmax'\)\."
)
NOT_PROBABILITIES = r"The 'network' parameter does not give probabilities \(.+\); end it with activation='softmax'\."
TYPE = (
    r"The 'network' parameter has weights or an output of type {}; build it with dtype='float32', and set "
    r"precision='bfloat16' for mixed precision\."
)
TWICE = (
    r"The 'network' parameter rescales its input itself \(layer '(rescaling|normalization)\w*'\) and 'standardization' is "
    r"True, so the input would be rescaled twice; set standardization=False or remove the layer\."
)
SENTENCES = {
    "not JSON": NOT_JSON,
    "truncated JSON": NOT_JSON,
    "deeply nested JSON": NOT_JSON,
    "a list": NOT_A_MODEL,
    "a number": NOT_A_MODEL,
    "a dict": NOT_A_MODEL,
    "a layer": NOT_BUILT.format("Dense"),
    "an unknown layer": NOT_BUILT.format("Sequential"),
    "a broken layer": NOT_BUILT.format("Sequential"),
    "Lambda": CUSTOM_CODE.format("Lambda"),
    "a registered class": CUSTOM_CODE.format("Twice"),
    "a registered class without a module": CUSTOM_CODE.format("Twice"),
    "a foreign module": CUSTOM_CODE.format(r"\w+"),
    "a module named like Keras": CUSTOM_CODE.format(r"\w+"),
    "images of another size": INPUT.format(r"\[3, 3, 1\]"),
    "flat input": INPUT.format(r"\[4\]"),
    "three classes": OUTPUT.format(r"\[3\]"),
    "an output per pixel": OUTPUT.format(r"\[2, 2, 2\]"),
    "logits": NOT_PROBABILITIES,
    "sigmoid": NOT_PROBABILITIES,
    "float64": TYPE.format("float64"),
    "a hidden layer of bfloat16": TYPE.format("bfloat16"),
    "two outputs": (
        r"The 'network' parameter .*; (pass model\.to_json\(\) of a model with one input and one output|end it with "
        r"Dense\(2, activation='softmax'\))\."
    ),
    "two inputs": (
        r"The 'network' parameter .*; (pass model\.to_json\(\) of a model with one input and one output|change the "
        r"network's Input or set inputShape)\."
    ),
    "its own rescaling": TWICE,
    "rescaling in a model in it": TWICE,
    "rescaling in a layer in it": TWICE,
    "normalization by numbers": TWICE,
    "normalization by weights": (
        r"The 'network' parameter has a Normalization layer 'normalization\w*' whose mean and variance are not in the JSON, "
        r"as they are weights; remove the layer \(standardization=True does the same\), or make it with mean and variance\."
    ),
    "pixels in a range": (
        r"The 'network' parameter has a layer 'random_contrast\w*' for pixels in \[0, 255\], but 'standardization' is True, "
        r"so it gets others; set standardization=False or remove the layer\."
    ),
    "channels first": (
        r"The 'network' parameter has a layer 'conv2d\w*' with data_format='channels_first', but images have their channels "
        r"last; build it with data_format='channels_last'\."
    ),
    "whole numbers as input": (
        r"The 'network' parameter takes numbers of type uint8, but pixels come as float32; make its keras\.Input with "
        r"dtype='float32'\."
    ),
    "a dict of one output": (
        r"The 'network' parameter gives its output in a dict; pass model\.to_json\(\) of a model whose output is one tensor\."
    ),
    "nothing to train": (
        r"The 'network' parameter has no weights to train, so its members would learn nothing; add a layer with weights, "
        r"such as Dense, or set trainable=True for its layers\."
    ),
    "two layers of one name": NOT_BUILT.format("Functional"),
}


def replaced(text, old, new):
    assert old in text
    return text.replace(old, new)


@pytest.fixture(scope="module")
def networks():
    """The JSON of each case."""
    load_tensorflow()
    import keras
    from keras import layers

    @keras.saving.register_keras_serializable(package="mine")
    class Twice(layers.Layer):
        def call(self, inputs):
            return 2 * inputs

    flatten = layers.Flatten

    def rescaling():
        return layers.Rescaling(1 / 255)

    def softmax(units=2, **options):
        return layers.Dense(units, activation="softmax", **options)

    registered = network_json(Twice(), flatten(), softmax())
    image, other_image = keras.Input((2, 2, 1)), keras.Input((2, 2, 1))
    flat = flatten()(image)
    whole = keras.Input((2, 2, 1), dtype="uint8")
    nested = keras.Sequential([keras.Input((2, 2, 1)), rescaling()])
    two_layers = keras.Model(image, softmax()(layers.Dense(3, name="second")(layers.Dense(3, name="first")(flat))))
    sum_of_images = flatten()(layers.Add()([image, other_image]))
    keras_layers = '"module": "keras.layers"'
    dense = {"class_name": "Dense", "module": "keras.layers", "config": {"units": 2}, "registered_name": None}
    return {
        "not JSON": "conv5-conv5",
        "truncated JSON": valid_network()[:-9],
        "deeply nested JSON": "[" * 100_000,
        "a list": "[1, 2]",
        "a number": "3",
        "a dict": '{"layers": []}',
        "a layer": json.dumps(dense),
        "an unknown layer": replaced(valid_network(), '"Flatten"', '"Flattest"'),
        "a broken layer": replaced(valid_network(), '"units": 2', '"units": -2'),
        "Lambda": network_json(layers.Lambda(lambda x: x * 2), flatten(), softmax()),
        "a registered class": registered,
        # As the classes of a notebook.
        "a registered class without a module": replaced(registered, json.dumps(Twice.__module__), "null"),
        "a foreign module": replaced(valid_network(), keras_layers, '"module": "os"'),
        "a module named like Keras": replaced(valid_network(), keras_layers, '"module": "kerasy.layers"'),
        "images of another size": network_json(flatten(), softmax(), shape=(3, 3, 1)),
        "flat input": network_json(softmax(), shape=(4,)),
        "three classes": network_json(flatten(), softmax(3)),
        "an output per pixel": network_json(softmax()),
        "logits": network_json(flatten(), layers.Dense(2)),
        "sigmoid": network_json(flatten(), layers.Dense(2, activation="sigmoid")),
        "float64": network_json(flatten(), softmax(dtype="float64")),
        "a hidden layer of bfloat16": network_json(flatten(), layers.Dense(3, dtype="bfloat16"), softmax()),
        "two outputs": keras.Model(image, [softmax()(flat), softmax()(flat)]).to_json(),
        "two inputs": keras.Model([image, other_image], softmax()(sum_of_images)).to_json(),
        "its own rescaling": network_json(rescaling(), flatten(), softmax()),
        "rescaling in a model in it": network_json(nested, flatten(), softmax()),
        "rescaling in a layer in it": network_json(layers.TimeDistributed(rescaling()), flatten(), softmax()),
        "normalization by numbers": network_json(layers.Normalization(mean=3.0, variance=4.0), flatten(), softmax()),
        "normalization by weights": network_json(layers.Normalization(), flatten(), softmax()),
        "pixels in a range": network_json(layers.RandomContrast(0.2), flatten(), softmax()),
        "channels first": network_json(layers.Conv2D(2, 1, data_format="channels_first"), flatten(), softmax()),
        "whole numbers as input": keras.Model(whole, softmax()(flatten()(whole))).to_json(),
        "a dict of one output": keras.Model(image, {"probability": softmax()(flat)}).to_json(),
        "nothing to train": network_json(flatten(), softmax(trainable=False)),
        "two layers of one name": replaced(two_layers.to_json(), '"second"', '"first"'),
    }


@pytest.mark.parametrize("case", SENTENCES)
def test_a_network_that_cannot_be_used_is_refused(spark, good, networks, case):
    text = refused_before_any_job(spark, two_by_two(network=networks[case]).fit, good)
    assert re.fullmatch(SENTENCES[case], text), text


def test_every_network_is_tested(networks):
    assert set(networks) == set(SENTENCES)
