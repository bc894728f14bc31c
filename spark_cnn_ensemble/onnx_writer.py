"""A network's description -> its ONNX graph without weights, written once per network on the driver.

The graph of the built-in CNN follows from its numbers, so that a driver need not start TensorFlow. A custom network is
converted by `onnx_conversion`. Called by the model and by `exported`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from spark_cnn_ensemble.onnx_conversion import check_computation, convert_network
from spark_cnn_ensemble.onnx_nodes import IR_VERSION, OPSET, GraphBuilder, import_onnx
from spark_cnn_ensemble.worker.network import EPSILON, Architecture, convolution_padding
from spark_cnn_ensemble.worker.onnx_graph import IMAGE, MOST_BYTES, PROBABILITY, TYPES, OnnxGraph
from spark_cnn_ensemble.worker.refusal import Refusal

_TO_CHANNELS_FIRST, _TO_CHANNELS_LAST = [0, 3, 1, 2], [0, 2, 3, 1]


@functools.lru_cache(maxsize=8)
def onnx_graph(architecture: Architecture) -> OnnxGraph:
    """The graph of a network.

    Raises
    ------
    Refusal
        A layer cannot be converted, the graph does not compute what Keras computes, or the weights exceed 2 GiB.
    ImportError
        A package is missing.
    """
    builder = GraphBuilder()
    image = builder.add("Transpose", [IMAGE], perm=_TO_CHANNELS_FIRST)
    if architecture.standardization:
        image = _standardize(builder, image, architecture)
    if architecture.network:
        image = builder.add("Transpose", [image], perm=_TO_CHANNELS_LAST)
        probability = convert_network(builder, image, architecture)
    else:
        probability = _built_in(builder, image, architecture)
    builder.add("Identity", [probability], output=PROBABILITY)
    size = sum(math.prod(shape) * np.dtype(kind).itemsize for shape, kind in builder.shapes)
    if size > MOST_BYTES:
        raise Refusal(
            f"A member's weights take {size / 2**30:.1f} GiB, and an ONNX graph holds less than 2 GiB; use "
            "scoringEngine='tensorflow', or a smaller network."
        )
    graph = OnnxGraph(_model(builder, architecture), tuple(builder.weights), tuple(builder.shapes))
    if architecture.network:
        check_computation(graph, architecture)
    return graph


def _model(builder: GraphBuilder, architecture: Architecture) -> bytes:
    make, float32 = import_onnx().helper, TYPES["float32"]
    graph = make.make_graph(
        builder.nodes,
        "member",
        [make.make_tensor_value_info(IMAGE, float32, ["n", *architecture.input_shape])],
        [make.make_tensor_value_info(PROBABILITY, float32, ["n", architecture.num_classes])],
        builder.constants,
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    return bytes(model.SerializeToString())


def _standardize(builder: GraphBuilder, image: str, architecture: Architecture) -> str:
    """Batch normalization by moving mean and variance, as TensorFlow computes it; channels first."""
    channels = architecture.input_shape[2]
    weights = [builder.weight((channels,)) for _ in range(3 if architecture.scaled else 2)]
    mean, variance = weights[-2:]
    factor = builder.add("Reciprocal", [builder.add("Sqrt", [builder.add("Add", [variance, builder.number(EPSILON)])])])
    if architecture.scaled:
        factor = builder.add("Mul", [factor, weights[0]])
    shift = builder.add("Neg", [builder.add("Mul", [mean, factor])])
    # Per channel rather than per number: onnxruntime is slow where the last axis is repeated.
    shape = builder.constant(np.array([channels, 1, 1]))
    factor, shift = (builder.add("Reshape", [each, shape]) for each in (factor, shift))
    return builder.add("Add", [builder.add("Mul", [image, factor]), shift])


def _built_in(builder: GraphBuilder, image: str, architecture: Architecture) -> str:
    """The layers of `worker.network`'s built-in CNN; channels first up to the dense layers."""
    *sides, channels = architecture.input_shape
    kernel = architecture.kernel_size
    padding = convolution_padding(architecture)
    hidden = image
    for filters in architecture.filters:
        hidden = _convolution(builder, hidden, (kernel, kernel, channels, filters), padding)
        hidden = builder.add("Relu", [hidden])  # onnxruntime makes it a part of the convolution; as after pooling
        hidden = builder.add("MaxPool", [hidden], kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER")
        channels = filters
        sides = [-(-(side - (kernel - 1 if padding == "valid" else 0)) // 2) for side in sides]
    hidden = builder.add("Flatten", [builder.add("Transpose", [hidden], perm=_TO_CHANNELS_LAST)])
    hidden = builder.add("Relu", [_dense(builder, hidden, (math.prod(sides) * channels, architecture.dense_units))])
    logits = _dense(builder, hidden, (architecture.dense_units, architecture.num_classes))
    return builder.add("Softmax", [logits], axis=1)


def _convolution(builder: GraphBuilder, image: str, shape: Sequence[int], padding: str) -> str:
    kernel = builder.add("Transpose", [builder.weight(shape)], perm=[3, 2, 0, 1])
    pad: dict[str, Any] = {} if padding == "valid" else {"auto_pad": "SAME_UPPER"}
    return builder.add("Conv", [image, kernel, builder.weight(shape[-1:])], kernel_shape=shape[:2], **pad)


def _dense(builder: GraphBuilder, hidden: str, shape: Sequence[int]) -> str:
    return builder.add("Gemm", [hidden, builder.weight(shape), builder.weight(shape[-1:])])
