"""Networks for the Param `network`, as functions that give Keras' JSON. Public; nothing in the package calls them.

Importing this module imports neither TensorFlow nor Keras; calling a function does. The same arguments give the same
text, since a checkpoint and a worker's compiled network belong to one text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spark_cnn_ensemble.worker.runtime import keras_settings

__all__ = ["article", "depthwise", "residual", "vgg"]

# Bags are small and members train for few epochs, too few steps for Keras' default of 0.99 to reach a bag's statistics.
_MOMENTUM = 0.9


@keras_settings()
def article(input_shape: Sequence[int], num_classes: int, width: int = 32) -> str:
    """The article's CNN: two convolutions with max-pooling, and two dense layers.

    Convolutions of 5x5 pixels with `width` and 2 * `width` filters, and a dense layer of 32 * `width` units. By default
    3,274,634 weights and 27.8 million operations per image of 28x28x1.

    Parameters
    ----------
    input_shape : sequence of int
        [height, width, channels]; at least 4x4 pixels.
    num_classes : int
        At least 2.
    width : int
        Filters of the first convolution.

    Returns
    -------
    str
        Keras' JSON, for the Param `network`.

    Raises
    ------
    ValueError
        An argument is out of range.

    Examples
    --------
    >>> from spark_cnn_ensemble import CNNEnsembleClassifier, networks
    >>> classifier = CNNEnsembleClassifier(network=networks.article([28, 28, 1], 10))
    """
    image = _image("article", input_shape, num_classes, width, 2)
    from keras import layers

    hidden = image
    for index, filters in enumerate((width, 2 * width)):
        hidden = layers.Conv2D(filters, 5, padding="same", activation="relu", name=f"convolution_{index}")(hidden)
        hidden = layers.MaxPooling2D(2, name=f"pooling_{index}")(hidden)
    hidden = layers.Flatten(name="flat")(hidden)
    hidden = layers.Dense(32 * width, activation="relu", name="dense")(hidden)
    return _json("article", image, hidden, num_classes)


@keras_settings()
def vgg(input_shape: Sequence[int], num_classes: int, width: int = 32) -> str:
    """A small VGG with batch normalization, for colour pictures of about 32x32 pixels.

    Three times two convolutions of 3x3 pixels, of `width`, 2 * `width` and 4 * `width` filters, with max-pooling after
    the first of the two, then the mean over the pixels. By default 289,642 weights and 34.8 million operations per
    image of 32x32x3.

    Parameters
    ----------
    input_shape : sequence of int
        [height, width, channels]; at least 8x8 pixels.
    num_classes : int
        At least 2.
    width : int
        Filters of the first convolution.

    Returns
    -------
    str
        Keras' JSON, for the Param `network`.

    Raises
    ------
    ValueError
        An argument is out of range.

    Examples
    --------
    >>> from spark_cnn_ensemble import CNNEnsembleClassifier, networks
    >>> classifier = CNNEnsembleClassifier(network=networks.vgg([32, 32, 3], 10, width=16))
    """
    image = _image("vgg", input_shape, num_classes, width, 3)
    from keras import layers

    hidden = image
    for block in range(3):
        for index in range(2):
            hidden = _convolution(hidden, width << block, 3, f"{block}_{index}", pool=index == 0)
    hidden = layers.GlobalAveragePooling2D(name="mean")(hidden)
    return _json("vgg", image, hidden, num_classes)


@keras_settings()
def residual(input_shape: Sequence[int], num_classes: int, width: int = 32) -> str:
    """A small residual network, for colour pictures of about 32x32 pixels.

    Three times a convolution of 3x3 pixels with max-pooling and a residual block of two more, of `width`, 2 * `width`
    and 4 * `width` filters, with batch normalization, then the mean over the pixels. By default 484,074 weights and
    49 million operations per image of 32x32x3.

    Parameters
    ----------
    input_shape : sequence of int
        [height, width, channels]; at least 8x8 pixels.
    num_classes : int
        At least 2.
    width : int
        Filters of the first convolution.

    Returns
    -------
    str
        Keras' JSON, for the Param `network`.

    Raises
    ------
    ValueError
        An argument is out of range.

    Examples
    --------
    >>> from spark_cnn_ensemble import CNNEnsembleClassifier, networks
    >>> classifier = CNNEnsembleClassifier(network=networks.residual([32, 32, 3], 10))
    """
    image = _image("residual", input_shape, num_classes, width, 3)
    from keras import layers

    hidden = image
    for block in range(3):
        shortcut = _convolution(hidden, width << block, 3, f"{block}_0", pool=True)
        hidden = _convolution(shortcut, width << block, 3, f"{block}_1")
        hidden = _convolution(hidden, width << block, 3, f"{block}_2", relu=False)
        hidden = layers.ReLU(name=f"relu_{block}")(layers.Add(name=f"sum_{block}")([hidden, shortcut]))
    hidden = layers.GlobalAveragePooling2D(name="mean")(hidden)
    return _json("residual", image, hidden, num_classes)


@keras_settings()
def depthwise(input_shape: Sequence[int], num_classes: int, width: int = 16) -> str:
    """A network of depthwise separable convolutions, for larger pictures such as 96x96 and 224x224.

    A convolution that halves the picture, then seven pairs of a depthwise 3x3 convolution and a 1x1 convolution, from
    2 * `width` to 16 * `width` filters, with batch normalization; three of them halve the picture. Then the mean over
    the pixels. By default 145,258 weights, and per image of 96x96x3 28 million operations, of 224x224x3 152 million.

    Parameters
    ----------
    input_shape : sequence of int
        [height, width, channels]; at least 16x16 pixels.
    num_classes : int
        At least 2.
    width : int
        Filters of the first convolution.

    Returns
    -------
    str
        Keras' JSON, for the Param `network`.

    Raises
    ------
    ValueError
        An argument is out of range.

    Examples
    --------
    >>> from spark_cnn_ensemble import CNNEnsembleClassifier, networks
    >>> classifier = CNNEnsembleClassifier(network=networks.depthwise([96, 96, 3], 10))
    """
    image = _image("depthwise", input_shape, num_classes, width, 4)
    from keras import layers

    hidden = _convolution(image, width, 3, "first", strides=2)
    for index, (filters, strides) in enumerate(((2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2), (16, 1))):
        by_channel = layers.DepthwiseConv2D(3, strides, "same", use_bias=False, name=f"depthwise_{index}")
        hidden = _normalized(by_channel(hidden), f"{index}_depthwise")
        hidden = _convolution(hidden, filters * width, 1, f"{index}")
    hidden = layers.GlobalAveragePooling2D(name="mean")(hidden)
    return _json("depthwise", image, hidden, num_classes)


def _image(name: str, input_shape: Sequence[int], num_classes: int, width: int, halvings: int) -> Any:
    """The input of a network that halves pictures `halvings` times, once its arguments are checked."""
    shape = list(input_shape) if isinstance(input_shape, list | tuple) else []
    if len(shape) != 3 or not all(_is_whole(side, 1) for side in shape):
        raise ValueError(
            f"input_shape of {name} must be [height, width, channels], whole numbers >= 1; got {input_shape!r}."
        )
    least = 1 << halvings
    if min(shape[:2]) < least:
        raise ValueError(
            f"input_shape of {name} must be at least {least}x{least} pixels, since the network halves them {halvings} "
            f"times; got {shape}."
        )
    if not _is_whole(num_classes, 2):
        raise ValueError(f"num_classes of {name} must be a whole number >= 2; got {num_classes!r}.")
    if not _is_whole(width, 1):
        raise ValueError(f"width of {name} must be a whole number >= 1; got {width!r}.")
    import keras

    return keras.Input(shape, name="picture")


def _is_whole(value: Any, least: int) -> bool:
    return type(value) is int and value >= least


def _convolution(
    hidden: Any, filters: int, size: int, name: str, strides: int = 1, pool: bool = False, relu: bool = True
) -> Any:
    from keras import layers

    convolution = layers.Conv2D(filters, size, strides, "same", use_bias=False, name=f"convolution_{name}")
    hidden = convolution(hidden)
    if pool:  # before the normalization, which then has a quarter of the values
        hidden = layers.MaxPooling2D(2, name=f"pooling_{name}")(hidden)
    return _normalized(hidden, name, relu)


def _normalized(hidden: Any, name: str, relu: bool = True) -> Any:
    from keras import layers

    hidden = layers.BatchNormalization(momentum=_MOMENTUM, name=f"normalization_{name}")(hidden)
    return layers.ReLU(name=f"relu_{name}")(hidden) if relu else hidden


def _json(name: str, image: Any, hidden: Any, num_classes: int) -> str:
    import keras

    output = keras.layers.Dense(num_classes, activation="softmax", name="probability")(hidden)
    text: str = keras.Model(image, output, name=name).to_json()
    return text
