"""A network as ONNX bytes without its weights, and the bytes with the weights of a member.

Neither TensorFlow nor the package onnx is needed here. The driver writes the graphs (`onnx_writer`); `onnx_ensemble`
completes them on the workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

IMAGE = "image"  # the input, float32 of shape (n, height, width, channels)
PROBABILITY = "probability"  # the output, float32 of shape (n, classes)

# Types of weights, by their numbers in ONNX.
TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "float16": 10, "float64": 11, "uint32": 12}

MOST_BYTES = (1 << 31) - (1 << 20)  # of a member's weights; a message of protobuf ends at 2 GiB


@dataclass(frozen=True)
class OnnxGraph:
    """A network whose weights are missing.

    Parameters
    ----------
    model : bytes
        An ONNX model (ModelProto) from `IMAGE` to `PROBABILITY`.
    names : tuple of str
        The name of each weight in the graph, in the order of `keras.Model.weights`; "" for one that the graph does
        not use.
    shapes : tuple of (tuple of int, str)
        Each weight's shape and type.
    """

    model: bytes
    names: tuple[str, ...]
    shapes: tuple[tuple[tuple[int, ...], str], ...]

    def fits(self, arrays: Sequence[np.ndarray]) -> bool:
        """Whether a member's weights have these shapes and types."""
        return tuple((array.shape, array.dtype.name) for array in arrays) == self.shapes

    def with_weights(self, arrays: Sequence[np.ndarray]) -> bytes:
        """The ONNX model with a member's weights as its initializers."""
        named = [(name, array) for name, array in zip(self.names, arrays, strict=True) if name]
        graph = b"".join(_field(5, _tensor(name, array)) for name, array in named)  # GraphProto.initializer
        return self.model + _field(7, graph)  # ModelProto.graph; protobuf merges fields that occur twice


def _tensor(name: str, array: np.ndarray) -> bytes:
    """A TensorProto: dims, data_type, name and raw_data."""
    dims = b"".join(_key(1, 0) + _varint(side) for side in array.shape)
    little_endian = array.astype(array.dtype.newbyteorder("<"), copy=False)
    number = _key(2, 0) + _varint(TYPES[array.dtype.name])
    return dims + number + _field(8, name.encode()) + _field(9, little_endian.tobytes())


def _field(number: int, content: bytes) -> bytes:
    return _key(number, 2) + _varint(len(content)) + content


def _key(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def _varint(number: int) -> bytes:
    groups = []
    while number > 127:
        groups.append(number & 127 | 128)
        number >>= 7
    return bytes([*groups, number])
