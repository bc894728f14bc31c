"""Whether the members of a fit can be trained with a network of the user's.

What a worker builds is built on the driver and tried on random images, before any member trains. Called by the
estimator.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from spark_cnn_ensemble.worker.network import (
    Architecture,
    build_network,
    compute_in_bfloat16,
    innermost_layers,
    keras_reason,
    with_losses_of_layers,
)
from spark_cnn_ensemble.worker.network_json import layers_in
from spark_cnn_ensemble.worker.refusal import Refusal
from spark_cnn_ensemble.worker.runtime import keras_settings


@functools.lru_cache(maxsize=16)  # a search over params fits with the same network many times
def check_network(architecture: Architecture, precision: str) -> None:
    """Refuse, before any member is trained, a custom network that cannot classify these rows.

    Raises
    ------
    Refusal
        Says what does not fit and how to fix it.
    """
    if architecture.network:
        _check_layers(architecture)
        _try(architecture, precision)


def seeds_in(network: str) -> list[str]:
    """The classes of layers and initializers that have a seed of their own, in a network's JSON."""
    # Keras gives RandomCrop a seed if the user gives none.
    seeded = {kind for kind, config in layers_in(network) if isinstance(config.get("seed"), int)}
    return sorted(seeded - {"RandomCrop"})


def _check_layers(architecture: Architecture) -> None:
    """Refuse layers that would build and train, but not as they are meant."""
    for kind, config in layers_in(architecture.network):
        name = config.get("name")
        if config.get("data_format") == "channels_first":
            raise Refusal(
                f"The 'network' parameter has a layer {name!r} with data_format='channels_first', but images have "
                "their channels last; build it with data_format='channels_last'."
            )
        if kind == "Normalization" and config.get("mean") is None:
            raise Refusal(
                f"The 'network' parameter has a Normalization layer {name!r} whose mean and variance are not in the "
                "JSON, as they are weights; remove the layer (standardization=True does the same), or make it with "
                "mean and variance."
            )
        if not architecture.standardization:
            continue
        if kind in ("Rescaling", "Normalization"):
            raise Refusal(
                f"The 'network' parameter rescales its input itself (layer {name!r}) and 'standardization' is True, "
                "so the input would be rescaled twice; set standardization=False or remove the layer."
            )
        if config.get("value_range") is not None:
            raise Refusal(
                f"The 'network' parameter has a layer {name!r} for pixels in {list(config['value_range'])}, but "
                "'standardization' is True, so its input is not in that range; set standardization=False or "
                "remove the layer."
            )


@keras_settings()
def _try(architecture: Architecture, precision: str) -> None:
    import keras

    try:
        network = build_network(architecture)  # calls a network of open sizes with images
    except Refusal:
        raise
    except Exception as error:
        raise Refusal(_not_computed("does not run on images", architecture, error)) from None
    given = {keras.backend.standardize_dtype(tensor.dtype) for tensor in _inputs(network, architecture)}
    if given != {"float32"}:
        raise Refusal(
            f"The 'network' parameter takes numbers of type {min(given - {'float32'})}, but pixels come as float32; "
            "make its keras.Input with dtype='float32'."
        )
    images = np.random.default_rng(0).random((2, *architecture.input_shape), dtype=np.float32)
    try:
        output = network(images)
    except Exception as error:
        raise Refusal(_not_computed("does not run on images", architecture, error)) from None
    if isinstance(output, dict | list | tuple):
        raise Refusal(
            f"The 'network' parameter gives its output in a {type(output).__name__}; pass model.to_json() of a model "
            "whose output is one tensor."
        )
    types = {*(variable.dtype for variable in network.weights), keras.backend.standardize_dtype(output.dtype)}
    types |= {kind for layer in innermost_layers(network) if "float" in (kind := layer.compute_dtype)}
    if types != {"float32"}:
        raise Refusal(
            f"The 'network' parameter has weights, a layer or an output of type {min(types - {'float32'})}; build it "
            "with dtype='float32', and set precision='bfloat16' for mixed precision."
        )
    probability = np.asarray(output)
    if not (np.all(probability >= 0) and np.allclose(probability.sum(axis=1), 1, atol=1e-3)):
        raise Refusal(
            "The 'network' parameter does not give probabilities (its outputs are not >= 0 with sum 1); "
            "end it with activation='softmax'."
        )
    if not network.trainable_variables:
        raise Refusal(
            "The 'network' parameter has no weights to train, so its members would learn nothing; add a layer with "
            "weights, such as Dense, or set trainable=True for its layers."
        )
    try:
        if precision == "bfloat16":
            compute_in_bfloat16(network)
        gradients = _gradients(network, images)
    except Exception as error:
        raise Refusal(_not_computed("cannot be trained on images", architecture, error)) from None
    if not any(gradients):
        raise Refusal(
            "The 'network' parameter has no gradient from its output to a weight, so its members would learn nothing; "
            "leave out what has no derivative, such as argmax or stop_gradient."
        )


def _inputs(network: Any, architecture: Architecture) -> list[Any]:
    """The inputs of the user's network, which `build_network` may have put behind others."""
    inner = network.layers[-1] if architecture.standardization else network
    return list(inner.inputs)


def _gradients(network: Any, images: np.ndarray) -> list[bool]:
    """Whether each trainable weight has a gradient, from a step compiled as in a worker."""
    import keras
    import tensorflow as tf

    present: list[bool] = []

    @tf.function(input_signature=[tf.TensorSpec([None, *images.shape[1:]], tf.float32)], autograph=False)
    def step(batch: Any) -> Any:
        variables = [variable.value for variable in network.trainable_variables]
        with tf.GradientTape(persistent=True) as tape:
            output = network(batch, training=True)
            target = tf.zeros(tf.shape(output)[:1], tf.int32)
            loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(target, output))
            total = with_losses_of_layers(loss, network)
        present.extend(gradient is not None for gradient in tape.gradient(loss, variables))
        return [gradient for gradient in tape.gradient(total, variables) if gradient is not None]

    step(tf.constant(images))
    return present


def _not_computed(what: str, architecture: Architecture, error: Exception) -> str:
    return (
        f"The 'network' parameter {what} of shape {list(architecture.input_shape)} ({keras_reason(error)}); change the "
        "layer that this names, or try the network with model.fit on such images."
    )
