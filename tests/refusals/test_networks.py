"""A network that cannot be trained on the images and classes is refused by `fit` before any job.

What the sentence proposes is accepted.
"""

import json
import re

import pytest
from support.feature_forms import two_by_two
from support.networks import network_json, valid_network
from support.refusals import refused_before_any_job

from spark_cnn_ensemble.worker.network import Architecture
from spark_cnn_ensemble.worker.network_check import check_network
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
    r"The 'network' parameter has weights, a layer or an output of type {}; build it with dtype='float32', and set "
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
    "a layer of mixed precision": TYPE.format("float16"),
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
        r"so its input is not in that range; set standardization=False or remove the layer\."
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
    "no gradient": (
        r"The 'network' parameter has no gradient from its output to a weight, so its members would learn nothing; leave "
        r"out what has no derivative, such as argmax or stop_gradient\."
    ),
    "a layer for other shapes": (
        r"The 'network' parameter does not run on images of shape \[2, 2, 1\] \(.+\); change the layer that this names, or "
        r"try the network with model\.fit on such images\."
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
    chosen = keras.ops.one_hot(keras.ops.argmax(softmax()(flat), axis=-1), 2)
    any_size = keras.Input((None, None, 1))
    pooled = layers.GlobalMaxPooling2D()(layers.Conv2D(2, 3)(any_size))
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
        "a layer of mixed precision": network_json(flatten(), layers.Dense(3, dtype="mixed_float16"), softmax()),
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
        "no gradient": keras.Model(image, chosen).to_json(),
        "a layer for other shapes": keras.Model(any_size, softmax()(pooled)).to_json(),
        "two layers of one name": replaced(two_layers.to_json(), '"second"', '"first"'),
    }


@pytest.mark.parametrize("case", SENTENCES)
def test_a_network_that_cannot_be_used_is_refused(spark, good, networks, case):
    text = refused_before_any_job(spark, two_by_two(network=networks[case]).fit, good)
    assert re.fullmatch(SENTENCES[case], text), text


def test_every_network_is_tested(networks):
    assert set(networks) == set(SENTENCES)


def check(network, shape=(2, 2, 1), **fields):
    check_network(Architecture(shape, 2, network, **fields), "float32")


# Cases that are accepted as they are, with what their sentence says to set.
SET = {
    "images of another size": {"shape": (3, 3, 1)},
    "its own rescaling": {"standardization": False},
    "rescaling in a model in it": {"standardization": False},
    "rescaling in a layer in it": {"standardization": False},
    "normalization by numbers": {"standardization": False},
    "pixels in a range": {"standardization": False},
}


@pytest.mark.parametrize("case", SET)
def test_what_the_sentence_says_to_set_is_accepted(networks, case):
    check(networks[case], **SET[case])


@pytest.fixture(scope="module")
def corrected():
    """By case, the JSON of its network after the change that the sentence proposes."""
    load_tensorflow()
    import keras
    from keras import layers

    def network(*before, **options):
        return network_json(*before, layers.Flatten(), layers.Dense(2, activation="softmax", **options))

    image, any_size = keras.Input((2, 2, 1)), keras.Input((None, None, 1))
    one_output = keras.Model(image, layers.Dense(2, activation="softmax")(layers.Flatten()(image))).to_json()
    pooled = layers.GlobalMaxPooling2D()(layers.Conv2D(2, 2)(any_size))
    return {
        "a layer": network(),
        "Lambda": network(layers.Activation("relu")),
        "flat input": network(),
        "three classes": network(),
        "logits": network(),
        "float64": network(dtype="float32"),
        "a hidden layer of bfloat16": network(layers.Dense(3, dtype="float32")),
        "two outputs": one_output,
        "its own rescaling": network(),
        "normalization by weights": network(layers.Normalization(mean=3.0, variance=4.0)),
        "channels first": network(layers.Conv2D(2, 1, data_format="channels_last")),
        "whole numbers as input": one_output,
        "nothing to train": network(trainable=True),
        "no gradient": one_output,
        "a layer for other shapes": keras.Model(any_size, layers.Dense(2, activation="softmax")(pooled)).to_json(),
    }


CHANGED = {
    **dict.fromkeys(["not JSON", "truncated JSON", "a list", "a layer", "two layers of one name"], "a layer"),
    **dict.fromkeys(["Lambda", "a registered class", "a foreign module"], "Lambda"),
    "flat input": "flat input",
    **dict.fromkeys(["three classes", "an output per pixel"], "three classes"),
    **dict.fromkeys(["logits", "sigmoid"], "logits"),
    "a layer of mixed precision": "a hidden layer of bfloat16",
    **{case: case for case in ("float64", "a hidden layer of bfloat16", "normalization by weights", "channels first")},
    **dict.fromkeys(["two outputs", "two inputs", "a dict of one output"], "two outputs"),
    **dict.fromkeys(["its own rescaling", "pixels in a range"], "its own rescaling"),
    **{
        case: case for case in ("whole numbers as input", "nothing to train", "no gradient", "a layer for other shapes")
    },
}


@pytest.mark.parametrize("case", CHANGED)
def test_what_the_sentence_says_to_change_is_accepted(corrected, case):
    check(corrected[CHANGED[case]], standardization=case != "normalization by weights")


@pytest.mark.parametrize("case", ["float64", "a hidden layer of bfloat16"])
def test_mixed_precision_is_had_by_the_param(corrected, case):
    check_network(Architecture((2, 2, 1), 2, corrected[case]), "bfloat16")
