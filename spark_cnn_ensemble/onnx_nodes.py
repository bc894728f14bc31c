"""The nodes of an ONNX graph while it is written. Called by `onnx_writer`, `onnx_conversion` and `exported`."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

OPSET, IR_VERSION = 17, 8  # of 2022


def import_onnx() -> Any:
    """The package onnx.

    Raises
    ------
    ImportError
        It is missing.
    """
    return import_extra("onnx")


def import_extra(package: str) -> Any:
    """A package of the extra `onnx`.

    Raises
    ------
    ImportError
        It is missing.
    """
    try:
        return importlib.import_module(package)
    except ImportError:
        raise ImportError(
            f"scoringEngine='onnx' and exports to ONNX need the package {package}, which this Python does not have; "
            "run pip install 'spark-cnn-ensemble[onnx]'."
        ) from None


class GraphBuilder:
    """Nodes, constants and the weights to come, in the order in which they are added.

    Attributes
    ----------
    nodes, constants : list
        NodeProto and TensorProto.
    weights : list of str
        Names of the weights in the graph; "" for one that it does not use.
    shapes : list of (tuple of int, str)
        Their shapes and types.
    """

    def __init__(self) -> None:
        self._onnx = import_onnx()
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.weights: list[str] = []
        self.shapes: list[tuple[tuple[int, ...], str]] = []

    def add(self, operation: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Add a node; the name of its output."""
        output = output or f"{operation.lower()}_{len(self.nodes)}"
        self.nodes.append(self._onnx.helper.make_node(operation, list(inputs), [output], **attributes))
        return output

    def constant(self, array: np.ndarray) -> str:
        """Add a constant; its name."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def number(self, value: float) -> str:
        """Add a float32 constant; its name."""
        return self.constant(np.array(value, np.float32))

    def weight(self, shape: Sequence[int], kind: str = "float32", name: str | None = None) -> str:
        """Add a weight that comes later; its name, "" if nothing uses it."""
        name = f"weight_{len(self.weights)}" if name is None else name
        self.weights.append(name)
        self.shapes.append((tuple(shape), kind))
        return name
