"""A member's network, from its description to the Keras model.

The description, `Architecture`, is numbers for the built-in CNN and Keras' JSON for a custom network. A saved model
holds it; the numbers do not change with Keras' versions. Called by `trainer` and `tensorflow_ensemble`, and by the
driver.
"""

from __future__ import annotations

import json
import math
import random
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from spark_cnn_ensemble.worker.network_json import read_network_json
from spark_cnn_ensemble.worker.refusal import Refusal
from spark_cnn_ensemble.worker.runtime import keras_settings

STANDARDIZATION = "standardization"  # the name of the layer
EPSILON = 1e-14  # that layer adds it to the variance
_IMAGE = "image"

_MOST = 2**31 - 1  # the largest array in Java; no image, layer or list of classes is larger


@dataclass(frozen=True)
class Architecture:
    """A classifier of images, from which `build_network` makes a Keras model.

    Parameters
    ----------
    input_shape : tuple of int
        Height, width and channels.
    num_classes : int
    network : str
        A Keras model as JSON; "" for the built-in CNN, which the next four fields describe.
    filters : tuple of int
        Filters of each convolution, each followed by 2x2 max-pooling and ReLU.
    kernel_size : int
        Height and width of each convolution, in pixels.
    dense_units : int
        Units of the dense layer before the last.
    dropout_rate : float
        Of the dropout after that layer, 0 <= rate < 1.
    standardization : bool
        Whether the first layer standardizes each channel, by a mean and a variance that are among the weights.
    scaled : bool
        Whether that layer has a factor for each channel as well, for variances that float32 cannot hold.
    """

    input_shape: tuple[int, int, int]
    num_classes: int
    network: str = ""
    filters: tuple[int, ...] = (16, 32)
    kernel_size: int = 5
    dense_units: int = 128
    dropout_rate: float = 0.0
    standardization: bool = True
    scaled: bool = False

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Architecture:
        """The inverse of `dataclasses.asdict` and JSON.

        Raises
        ------
        ValueError
            A number is out of range, or the network is not safe to load.
        """
        lists = {name: tuple(values[name]) for name in ("input_shape", "filters")}
        architecture = cls(**{**values, **lists})
        counts = {
            "num_classes": architecture.num_classes,
            "kernel_size": architecture.kernel_size,
            "dense_units": architecture.dense_units,
            **{f"input_shape[{index}]": side for index, side in enumerate(architecture.input_shape)},
            **{f"filters[{index}]": number for index, number in enumerate(architecture.filters)},
        }
        for name, number in counts.items():
            if type(number) is not int or not 1 <= number <= _MOST:
                raise ValueError(f"{name} of an architecture is not an integer from 1 to {_MOST}")
        if len(architecture.input_shape) != 3 or math.prod(architecture.input_shape) > _MOST:
            raise ValueError("input_shape of an architecture is not a valid image shape")
        if type(architecture.dropout_rate) not in (int, float) or not 0 <= architecture.dropout_rate < 1:
            raise ValueError("dropout_rate of an architecture is not a number in [0, 1)")
        if {type(architecture.standardization), type(architecture.scaled)} != {bool}:
            raise ValueError("standardization or scaled of an architecture is not true or false")
        if type(architecture.network) is not str:
            raise ValueError("network of an architecture is not text")
        if architecture.network:
            read_network_json(architecture.network)
        return architecture


@contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    """Python's random numbers, from which Keras draws the seeds of initializers and layers; as before afterwards."""
    state = random.getstate()
    if seed is not None:
        random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


@keras_settings()
def build_network(architecture: Architecture, seed: int | None = None) -> Any:
    """Build the Keras model of an architecture, with fresh weights.

    Parameters
    ----------
    architecture : Architecture
    seed : int, optional
        Decides the weights and what layers such as Dropout draw.

    Returns
    -------
    keras.Model
        Takes images of shape (n, height, width, channels), float32; gives probabilities of shape (n, classes).

    Raises
    ------
    Refusal
        The JSON is not a Keras model, or its input or output does not fit the data.
    """
    with _seeded(seed):
        return _build(architecture)


def _build(architecture: Architecture) -> Any:
    import keras

    shape = architecture.input_shape
    image = keras.Input(shape, name=_IMAGE)
    standardized = image
    if architecture.standardization:
        # Frozen batch normalization is factor * (x - mean) / deviation. The three are weights; a variance is >= 1e-12.
        standardized = keras.layers.BatchNormalization(
            center=False, scale=architecture.scaled, epsilon=EPSILON, trainable=False, name=STANDARDIZATION
        )(image)
    if architecture.network:
        custom = _custom_network(architecture)
        if not architecture.standardization:
            return custom
        if custom.name in (_IMAGE, STANDARDIZATION):  # layers of a model have different names
            custom.name = f"{custom.name}_network"
        return keras.Model(image, custom(standardized), name="member")
    return keras.Model(image, _built_in(architecture, standardized), name="member")


def innermost_layers(network: Any) -> Iterator[Any]:
    """The layers of a network and of the networks in it."""
    for layer in network.layers:
        if hasattr(layer, "layers"):
            yield from innermost_layers(layer)
        else:
            yield layer


def compute_in_bfloat16(network: Any) -> None:
    """Mixed precision: weights stay float32, and so do the last layer, which gives the probabilities, and rescaling.

    Where pixels are rescaled, the mean is subtracted: they need more digits there than bfloat16 has.
    """
    import keras

    layers = keras.layers

    def scales(layer: Any) -> bool:
        return layer.name == STANDARDIZATION or isinstance(layer, layers.Rescaling | layers.Normalization)

    every = list(innermost_layers(network))
    weighted = next((index for index, layer in enumerate(every) if layer.weights and not scales(layer)), len(every))
    first = max((index + 1 for index in range(weighted) if scales(every[index])), default=0)
    policy = keras.dtype_policies.DTypePolicy("mixed_bfloat16")
    for layer in every[first:-1]:
        if not scales(layer):
            layer.dtype_policy = policy


def called_with(network: Any, weights: Sequence[Any]) -> Callable[[Sequence[Any], Any], Any]:
    """A function of values for these weights of a network, and a block of images, that returns the network's output.

    Other variables, such as the state of random numbers, keep their values.
    """
    place = {id(variable): index for index, variable in enumerate(weights)}

    def run(values: Sequence[Any], block: Any) -> Any:
        def of(variables: list[Any]) -> list[Any]:
            return [values[place[id(v)]] if id(v) in place else v.value for v in variables]

        trainable, others = of(network.trainable_variables), of(network.non_trainable_variables)
        return network.stateless_call(trainable, others, block, training=False)[0]

    return run


def with_losses_of_layers(loss: Any, network: Any) -> Any:
    """A batch's loss and those that layers of the network added when it was called, such as regularizers'."""
    import tensorflow as tf

    if not network.losses:
        return loss
    # In mixed precision, that of an activity regularizer has the type of its layer's output.
    return loss + tf.add_n([tf.cast(each, loss.dtype) for each in network.losses])


def count_weights(architecture: Architecture) -> int:
    """Number of weights of the network that `build_network` makes, counted without allocating them.

    Raises
    ------
    Refusal
        See `build_network`.
    """
    import keras

    result: list[Any] = []  # the number, or the error

    def build() -> None:
        try:
            with keras.StatelessScope(initialize_variables=False):
                result.append(sum(math.prod(variable.shape) for variable in build_network(architecture).weights))
        except Exception as error:
            result.append(error)

    # Keras keeps uninitialized variables per thread, and drops them with the thread.
    thread = threading.Thread(target=build)
    thread.start()
    thread.join()
    if isinstance(result[0], Exception):
        raise result[0]
    return int(result[0])


def _built_in(architecture: Architecture, image: Any) -> Any:
    from keras import layers

    kernel = architecture.kernel_size
    padding = convolution_padding(architecture)
    hidden = image
    for index, filters in enumerate(architecture.filters):
        hidden = layers.Conv2D(filters, kernel, padding=padding, name=f"convolution_{index}")(hidden)
        hidden = layers.MaxPooling2D(2, padding="same", name=f"pooling_{index}")(hidden)
        hidden = layers.ReLU(name=f"relu_{index}")(hidden)  # the same as before pooling, on a quarter of the values
    hidden = layers.Flatten(name="flat")(hidden)
    hidden = layers.Dense(architecture.dense_units, activation="relu", name="dense")(hidden)
    if architecture.dropout_rate > 0:
        hidden = layers.Dropout(architecture.dropout_rate, name="dropout")(hidden)
    return layers.Dense(architecture.num_classes, activation="softmax", name="probability")(hidden)


def convolution_padding(architecture: Architecture) -> str:
    """The padding of the built-in CNN's convolutions, "valid" or "same".

    Without padding the network costs about half the time and votes as well, but small images lose too many pixels at
    their edges.
    """
    side = min(architecture.input_shape[:2])
    for _ in architecture.filters:
        side = -(-(side - architecture.kernel_size + 1) // 2)
    return "valid" if side >= 4 else "same"


def keras_reason(error: Exception) -> str:
    """What Keras or TensorFlow complains about, without the layers of calls around it."""
    message = str(error).rpartition("Exception encountered: ")[2].strip() or type(error).__name__
    called = re.match(
        r"Exception encountered when calling (?:layer )?(\S+?)(?:\.call\(\))?\.\s+(.+)", message, re.DOTALL
    )
    if called:
        message = f"{called[1]}: {called[2]}"
    message = re.sub(r"\x1b\[\d+m|{{.*?}} ", "", message)  # bold, and names of nodes
    return message.splitlines()[0].split(". ")[0].rstrip(".")


def _custom_network(architecture: Architecture) -> Any:
    import keras

    config = read_network_json(architecture.network)
    try:
        network = keras.models.model_from_json(json.dumps(config))
        if not network.built:
            network.build((None, *architecture.input_shape))
        input_shape, expected = tuple(network.input_shape)[1:], architecture.input_shape
        output = tuple(network.output_shape)
    except Exception as error:
        raise Refusal(
            f"The 'network' parameter is not a model that Keras {keras.__version__} can build from class "
            f"{config['class_name']!r} ({keras_reason(error)}); pass model.to_json() of a model with one input and one "
            "output."
        ) from None
    if len(input_shape) != 3 or any(side not in (None, own) for side, own in zip(input_shape, expected, strict=True)):
        raise Refusal(
            f"The 'network' parameter takes input of shape {list(input_shape)}, but the rows are images of shape "
            f"{list(expected)}; change the network's Input or set inputShape."
        )
    if output[1:] != (architecture.num_classes,):
        raise Refusal(
            f"The 'network' parameter gives output of shape {list(output[1:])}, but there are "
            f"{architecture.num_classes} classes; end it with Dense({architecture.num_classes}, activation='softmax')."
        )
    return network
