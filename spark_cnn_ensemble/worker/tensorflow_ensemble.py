"""Packed weights -> members that TensorFlow runs in this process, and the check of weights against their network.

Called by `loaded_ensemble`; the driver calls the checks.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from spark_cnn_ensemble.worker.blocks import LoadedEnsemble, misfit
from spark_cnn_ensemble.worker.network import (
    Architecture,
    build_network,
    called_with,
    compute_in_bfloat16,
    count_weights,
)
from spark_cnn_ensemble.worker.refusal import Refusal
from spark_cnn_ensemble.worker.runtime import keras_settings
from spark_cnn_ensemble.worker.voting_plan import VotingPlan
from spark_cnn_ensemble.worker.weights import WeightsOf, unpack_weights

_FOLDED = 1000  # numbers in a weight that is a constant of the compiled function, at most


class TensorFlowEnsemble(LoadedEnsemble):
    """Members as compiled functions of TensorFlow, one function per group of members and size of block."""

    def __init__(self, plan: VotingPlan, weights_of: WeightsOf) -> None:
        super().__init__(plan)
        self._members: list[tuple[_Network, list[Any]]] = []
        for index, architecture in enumerate(plan.architecture_of):
            arrays = unpack_weights(weights_of(index))
            check_number(plan.architectures[architecture], arrays, index)
            network = _network(plan.architectures[architecture], plan.precision)
            network.check(arrays, index)
            self._members.append((network, [_weight(array) for array in arrays]))
        self._compiled: dict[tuple[int, int], Any] = {}  # by group and rows

    def _tensor(self, block: np.ndarray) -> Any:
        import tensorflow as tf

        return tf.constant(block)

    def _run(self, group: int, block: Any) -> np.ndarray:
        key = group, len(block)
        if key not in self._compiled:
            self._compiled[key] = self._compile(*key)
        return self._compiled[key](block).numpy()

    @keras_settings()
    def _compile(self, group: int, rows: int) -> Any:
        import tensorflow as tf

        def run(block: Any) -> Any:
            return tf.stack([network(weights, block) for network, weights in self._members[self.groups[group]]])

        signature = [tf.TensorSpec([rows, *self._shape], tf.float32)]
        return tf.function(run, input_signature=signature, autograph=False).get_concrete_function()


def _weight(array: np.ndarray) -> Any:
    """A weight as an array if it becomes a constant, which TensorFlow computes with once; else as a tensor."""
    import tensorflow as tf

    return array if array.size <= _FOLDED else tf.constant(array)


class _Network:
    """The network of an architecture, traced once per shape of block, with a member's weights as arguments."""

    @keras_settings()
    def __init__(self, architecture: Architecture, precision: str) -> None:
        import tensorflow as tf

        self._network = network = build_network(architecture)
        if precision == "bfloat16":
            compute_in_bfloat16(network)
        self._run = tf.function(called_with(network, network.weights), autograph=False)

    def __call__(self, weights: list[Any], block: Any) -> Any:
        """The softmax for a block, inside another compiled function."""
        import tensorflow as tf

        return self._run([tf.convert_to_tensor(weight) for weight in weights], block)

    def check(self, arrays: Sequence[np.ndarray], member: int) -> None:
        check_shapes(self._network, arrays, member)


def check_number(architecture: Architecture, arrays: Sequence[np.ndarray], member: int) -> None:
    """Refuse weights whose number differs from the network's, before it is built: it may claim any size."""
    if sum(array.size for array in arrays) != _weights_of_network(architecture):
        raise Refusal(misfit(member))


def check_shapes(network: Any, arrays: Sequence[np.ndarray], member: int) -> None:
    """Refuse weights whose shapes or types differ from those of a Keras model."""
    expected = [(tuple(variable.shape), variable.dtype) for variable in network.weights]
    if [(array.shape, array.dtype.name) for array in arrays] != expected:
        raise Refusal(misfit(member))


@functools.lru_cache(maxsize=8)
def _weights_of_network(architecture: Architecture) -> int:
    return count_weights(architecture)


@functools.lru_cache(maxsize=8)
def _network(architecture: Architecture, precision: str) -> _Network:
    return _Network(architecture, precision)
