"""Packed weights -> members that are ready to vote in this process.

A process unpacks an ensemble once and keeps it under the id that the driver gave it. Called by `scoring` and
`evaluation`; the driver calls the checks.
"""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from spark_cnn_ensemble.worker.network import Architecture, build_network, count_weights
from spark_cnn_ensemble.worker.refusal import Refusal
from spark_cnn_ensemble.worker.runtime import keras_settings, load_tensorflow_in_task
from spark_cnn_ensemble.worker.voting_plan import VotingPlan
from spark_cnn_ensemble.worker.weights import WeightsOf, unpack_weights

_MAX_LOADED = 3  # ensembles that a process keeps unpacked


class LoadedEnsemble:
    """Members that are unpacked and ready to vote."""

    def __init__(self, plan: VotingPlan, weights_of: WeightsOf) -> None:
        import tensorflow as tf

        self._classes = plan.num_classes
        self._block_rows = plan.block_rows
        self._members: list[tuple[_Network, list[Any]]] = []
        for index, architecture in enumerate(plan.members):
            arrays = unpack_weights(weights_of(index))
            check_number(plan.architectures[architecture], arrays, index)
            network = _network(plan.architectures[architecture])
            network.check(arrays, index)
            self._members.append((network, [tf.constant(array) for array in arrays]))

    def __len__(self) -> int:
        return len(self._members)

    def vote(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Votes (n, members) and summed softmax (n, classes) of images (n, height, width, channels)."""
        votes = np.empty((len(images), len(self)), np.int64)
        softmax = np.zeros((len(images), self._classes))
        for rows, member, output in self.outputs(images):
            votes[rows, member] = output.argmax(axis=1)
            softmax[rows] += output
        return votes, softmax

    def outputs(self, images: np.ndarray) -> Iterator[tuple[slice, int, np.ndarray]]:
        """Yield each block's rows, each member, and its softmax (n, classes) for them."""
        for begin in range(0, len(images), self._block_rows):
            rows = slice(begin, min(begin + self._block_rows, len(images)))
            block = self.block(images[rows])
            for member in range(len(self)):
                yield rows, member, self.output(member, block)[: rows.stop - begin]

    def block(self, images: np.ndarray) -> Any:
        """At most a block of images, padded with zeros to a whole block, as the tensor that every member gets."""
        import tensorflow as tf

        block = np.zeros((self._block_rows, *images.shape[1:]), np.float32)
        block[: len(images)] = images
        return tf.constant(block)

    def output(self, member: int, block: Any) -> np.ndarray:
        """A member's softmax for a block; rows of padding are meaningless."""
        network, weights = self._members[member]
        return network(weights, block)


class _Network:
    """One compiled function for all members of an architecture, with their weights as arguments."""

    def __init__(self, architecture: Architecture) -> None:
        import tensorflow as tf

        self._network = network = build_network(architecture)
        place = {id(variable): index for index, variable in enumerate(network.weights)}

        def run(weights: list[Any], block: Any) -> Any:
            def values(variables: list[Any]) -> list[Any]:
                return [weights[place[id(v)]] if id(v) in place else v.value for v in variables]

            return network.stateless_call(
                values(network.trainable_variables), values(network.non_trainable_variables), block, training=False
            )[0]

        self._run = tf.function(run)

    @keras_settings()
    def __call__(self, weights: list[Any], block: Any) -> np.ndarray:
        return self._run(weights, block).numpy()

    def check(self, arrays: Sequence[np.ndarray], member: int) -> None:
        check_shapes(self._network, arrays, member)


def check_number(architecture: Architecture, arrays: Sequence[np.ndarray], member: int) -> None:
    """Refuse weights whose number differs from the network's, before it is built: it may claim any size."""
    if sum(array.size for array in arrays) != _weights_of_network(architecture):
        raise Refusal(_misfit(member))


def check_shapes(network: Any, arrays: Sequence[np.ndarray], member: int) -> None:
    """Refuse weights whose shapes or types differ from those of a Keras model."""
    expected = [(tuple(variable.shape), variable.dtype) for variable in network.weights]
    if [(array.shape, array.dtype.name) for array in arrays] != expected:
        raise Refusal(_misfit(member))


def _misfit(member: int) -> str:
    return f"The weights of member {member} do not fit its network; save the model again."


@functools.lru_cache(maxsize=8)
def _weights_of_network(architecture: Architecture) -> int:
    return count_weights(architecture)


@functools.lru_cache(maxsize=8)
def _network(architecture: Architecture) -> _Network:
    return _Network(architecture)


_loaded: OrderedDict[str, LoadedEnsemble] = OrderedDict()
_loading = threading.Lock()  # threads of the driver may score with several models at once


def load_ensemble(plan: VotingPlan, weights_of: WeightsOf) -> LoadedEnsemble:
    """The members of a plan: kept in this process, or unpacked now."""
    with _loading:
        load_tensorflow_in_task()
        ensemble = _loaded.pop(plan.ensemble_id, None)
        if ensemble is None:
            while len(_loaded) >= _MAX_LOADED:
                _loaded.popitem(last=False)
            ensemble = LoadedEnsemble(plan, weights_of)
        _loaded[plan.ensemble_id] = ensemble
        return ensemble
