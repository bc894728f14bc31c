"""Keras networks as JSON."""

import functools
import json

from spark_cnn_ensemble.worker.runtime import load_tensorflow


def network_json(*layers, shape=(2, 2, 1)):
    """A sequential network of these layers for images of this shape."""
    import keras

    return keras.Sequential([keras.Input(shape), *layers]).to_json()


@functools.cache
def valid_network():
    """The smallest network for 2x2 images in two classes."""
    load_tensorflow()
    from keras import layers

    return network_json(layers.Flatten(), layers.Dense(2, activation="softmax"))


def layer(name, config=None, module="keras.layers", registered=None):
    """A layer, or any other object, as Keras writes it to JSON."""
    return {"module": module, "class_name": name, "config": config or {}, "registered_name": registered}


def network_holding(item, place):
    """A valid network with `item`, a dict for JSON, put in one of `PLACES`."""
    network = json.loads(valid_network())
    layers = network["config"]["layers"]
    dense = next(each for each in layers if each["class_name"] == "Dense")["config"]
    if place == "a layer":
        layers.insert(1, item)
    elif place == "an activation":
        dense["activation"] = item
    elif place == "an initializer":
        dense["kernel_initializer"] = item
    elif place == "a list in a config":
        dense["extra"] = [[{"deep": item}]]
    elif place == "a wrapper":
        layers.insert(1, layer("Bidirectional", {"layer": layer("TimeDistributed", {"layer": item})}))
    elif place == "a model in the model":
        layers.insert(1, layer("Functional", {"layers": [item]}, module="keras.src.models.functional"))
    elif place == "the build config":
        network["build_config"] = {"input_shape": [None, 2, 2, 1], "x": item}
    elif place == "the whole network":
        network = item
    else:
        raise ValueError(place)
    return json.dumps(network)


PLACES = [
    "a layer",
    "an activation",
    "an initializer",
    "a list in a config",
    "a wrapper",
    "a model in the model",
    "the build config",
    "the whole network",
]
