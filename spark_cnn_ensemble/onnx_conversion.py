"""A custom network -> nodes of an ONNX graph, by Keras and tf2onnx on the driver.

The graph must then compute what Keras computes. Called by `onnx_writer`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from spark_cnn_ensemble.onnx_nodes import OPSET, GraphBuilder, import_extra, import_onnx
from spark_cnn_ensemble.worker.network import STANDARDIZATION, Architecture, build_network, called_with, keras_reason
from spark_cnn_ensemble.worker.onnx_ensemble import onnx_session
from spark_cnn_ensemble.worker.onnx_graph import IMAGE, TYPES, OnnxGraph
from spark_cnn_ensemble.worker.refusal import Refusal
from spark_cnn_ensemble.worker.runtime import keras_settings

_PREFIX = "network/"  # of the names in a converted network
_TRIAL_ROWS, _TOLERANCE = 4, 1e-4  # images, and the largest difference in their softmax
_REMEDY = "set scoringEngine='tensorflow', or leave that layer out of the network"


@keras_settings()
def convert_network(builder: GraphBuilder, image: str, architecture: Architecture) -> str:
    """Add the nodes of a custom network, behind the standardization; the name of its output.

    Raises
    ------
    Refusal
        A layer cannot be converted.
    ImportError
        A package is missing.
    """
    import tensorflow as tf

    tf2onnx = import_extra("tf2onnx")
    whole = build_network(architecture)
    network = whole.layers[-1] if architecture.standardization else whole
    own = {id(variable) for variable in network.weights}
    weights = [variable for variable in whole.weights if id(variable) in own]
    call = called_with(network, weights)

    def run(block: Any, *values: Any) -> Any:
        return call(values, block)

    signature = [tf.TensorSpec([None, *architecture.input_shape], tf.float32, name=IMAGE)]
    signature += [tf.TensorSpec(v.shape, v.dtype, name=f"weight_{index}") for index, v in enumerate(weights)]
    with _silent("tf2onnx"):
        try:
            function = tf.function(run, input_signature=signature, autograph=False)
            graph = tf2onnx.convert.from_function(
                function, input_signature=signature, opset=OPSET, custom_op_handlers={"Erfc": (_erfc, [])}
            )[0].graph
        except Exception as error:
            raise Refusal(_unsupported(f"({keras_reason(error)})", network, str(error))) from None
    onnx = import_onnx()
    for node in graph.node:
        if node.domain not in ("", "ai.onnx") or not onnx.defs.has(node.op_type, max_inclusive_version=OPSET):
            raise Refusal(_unsupported(f"(operation {node.op_type})", network, node.name))
    graph = onnx.compose.add_prefix_graph(graph, _PREFIX)
    used = {name for node in graph.node for name in node.input}
    builder.add("Identity", [image], output=f"{_PREFIX}{IMAGE}")
    for index, variable in enumerate(weights):
        name, kind = f"{_PREFIX}weight_{index}", variable.dtype
        if kind not in TYPES:
            raise Refusal(_unsupported(f"(weights of type {kind})", network, variable.path))
        builder.weight(tuple(variable.shape), kind, name if name in used else "")
    builder.nodes.extend(graph.node)
    builder.constants.extend(graph.initializer)
    return str(graph.output[0].name)


def _erfc(context: Any, node: Any, name: str, args: Any) -> None:
    """TensorFlow's Erfc, which exact GELU has and tf2onnx does not know, as 1 - Erf."""
    kind = context.get_dtype(node.output[0])
    shape = context.get_shape(node.output[0])
    one = context.make_const(f"{name}/one", np.array(1, import_onnx().helper.tensor_dtype_to_np_dtype(kind)))
    erf = context.make_node("Erf", list(node.input), shapes=[shape], dtypes=[kind])
    context.remove_node(node.name)
    context.make_node(
        "Sub", [one.output[0], erf.output[0]], name=name, outputs=list(node.output), shapes=[shape], dtypes=[kind]
    )


def _unsupported(what: str, network: Any, place: str) -> str:
    """The sentence that refuses a layer: the one whose name occurs in the name of a node or the text of an error."""
    parts = [part.strip() for part in re.split(r"[/:\[\]]", place)]
    layers = [layer.name for layer in network._flatten_layers(include_self=False)]
    # TensorFlow adds _1 to the name of a layer that is called a second time, as here.
    name = next((name for part in parts for name in layers if part in (f"{name}_1", name)), None)
    layer = f"the layer {name!r}" if name else "a layer"
    return f"The network has {layer}, which cannot be converted to ONNX {what}; {_REMEDY}."


@contextmanager
def _silent(logger: str) -> Iterator[None]:
    """A logger without messages: what fails is raised."""
    log = logging.getLogger(logger)
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(level)


@keras_settings()
def check_computation(graph: OnnxGraph, architecture: Architecture) -> None:
    """Refuse a graph that computes other numbers than Keras, by a trial with fresh weights on noise.

    Raises
    ------
    Refusal
        onnxruntime cannot run the graph, or the numbers differ.
    """
    network = build_network(architecture, seed=0)
    images = np.random.default_rng(0).uniform(0, 255, (_TRIAL_ROWS, *architecture.input_shape)).astype(np.float32)
    if architecture.standardization:  # as a member has it for such pixels
        layer = network.get_layer(STANDARDIZATION)
        layer.moving_mean.assign(layer.moving_mean + 127.5)
        layer.moving_variance.assign(layer.moving_variance * 5400.0)
    try:
        found = onnx_session(graph.with_weights(network.get_weights())).run(None, {IMAGE: images})[0]
    except Refusal:
        raise
    except Exception as error:
        raise Refusal(
            f"onnxruntime cannot run the network ({keras_reason(error)}); set scoringEngine='tensorflow'."
        ) from None
    expected = np.asarray(network(images, training=False))
    difference = np.abs(found - expected).max() if found.shape == expected.shape else np.inf
    if not difference <= _TOLERANCE:
        raise Refusal(
            f"onnxruntime computes other numbers than TensorFlow with this network (difference {difference:.2g}); set "
            "scoringEngine='tensorflow'."
        )
