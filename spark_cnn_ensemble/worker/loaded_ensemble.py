"""Packed weights -> members that are ready to vote in this process.

A process unpacks an ensemble once and keeps it under the id that the driver gave it. Called by `scoring` and
`evaluation`; the driver calls the checks.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from spark_cnn_ensemble.worker.network import Architecture, build_network, count_weights
from spark_cnn_ensemble.worker.optimizers import compute_in_bfloat16
from spark_cnn_ensemble.worker.refusal import Refusal
from spark_cnn_ensemble.worker.runtime import keras_settings, load_tensorflow_in_task
from spark_cnn_ensemble.worker.voting_plan import VotingPlan
from spark_cnn_ensemble.worker.weights import WeightsOf, unpack_weights

_MAX_LOADED = 3  # ensembles that a process keeps unpacked
_GROUP = 16  # members in one compiled function, at most
_SMALL_SHARE = 4  # small blocks per block
_FOLDED = 1000  # numbers in a weight that is a constant of the compiled function, at most


class LoadedEnsemble:
    """Members that are unpacked and ready to vote.

    Images are scored in blocks of a fixed number of rows, padded with zeros, as kernels may round differently for
    other shapes, and a row's result must not depend on the rows next to it.

    Attributes
    ----------
    groups : list of slice
        The members of each compiled function. Those of the first groups are just enough for a majority.
    """

    def __init__(self, plan: VotingPlan, weights_of: WeightsOf) -> None:
        self._classes = plan.num_classes
        self._block_rows = plan.block_rows
        self._shape = plan.pixels.shape
        self._members: list[tuple[_Network, list[Any]]] = []
        for index, architecture in enumerate(plan.members):
            arrays = unpack_weights(weights_of(index))
            check_number(plan.architectures[architecture], arrays, index)
            network = _network(plan.architectures[architecture], plan.precision)
            network.check(arrays, index)
            self._members.append((network, [_weight(array) for array in arrays]))
        self.groups = groups_of(len(self))
        self._compiled: dict[tuple[int, int], Any] = {}  # by group and rows
        self._small_blocks_agree: bool | None = None

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

    def outputs(self, images: np.ndarray) -> Iterator[tuple[np.ndarray, int, np.ndarray]]:
        """Yield each block's rows, each member, and its softmax (n, classes) for them."""
        for rows, block in self.blocks(images, np.arange(len(images))):
            for group in range(len(self.groups)):
                for member, output in self.group_outputs(group, block, len(rows)):
                    yield rows, member, output

    def group_outputs(self, group: int, block: Any, count: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield each member of a group, and its softmax (n, classes) for the first `count` rows of a block."""
        outputs = self._run(group, block)
        for member, output in zip(range(*self.groups[group].indices(len(self))), outputs, strict=True):
            yield member, output[:count]

    def blocks(self, images: np.ndarray, rows: np.ndarray) -> list[tuple[np.ndarray, Any]]:
        """The images at `rows` in blocks, as tensors, each with its rows; padding is not among them."""
        whole = len(rows) - len(rows) % self._block_rows
        begins = list(range(0, whole, self._block_rows))
        sizes = [self._block_rows] * len(begins)
        left, small = len(rows) - whole, -(-self._block_rows // _SMALL_SHARE)
        if 0 < left <= self._block_rows - small and self._agree(images, small):
            begins += range(whole, len(rows), small)
            sizes += [small] * -(-left // small)
        elif left:
            begins, sizes = [*begins, whole], [*sizes, self._block_rows]
        parts = [rows[begin : begin + size] for begin, size in zip(begins, sizes, strict=True)]
        return [(part, _block(images[part], size)) for part, size in zip(parts, sizes, strict=True)]

    def _agree(self, images: np.ndarray, small: int) -> bool:
        """Whether the kernels round in small blocks as they do in whole ones, by a trial on these images and noise."""
        if self._small_blocks_agree is None:
            low, high = images.min(), images.max()
            trial = np.random.default_rng(0).uniform(low, high, (self._block_rows, *self._shape)).astype(np.float32)
            trial[: len(images)] = images[: self._block_rows]
            starts = range(0, self._block_rows - small + 1, small)
            self._small_blocks_agree = all(
                np.array_equal(whole[:, start : start + small], self._run(group, _block(trial[start:], small)))
                for group in range(len(self.groups))
                for whole in [self._run(group, _block(trial, self._block_rows))]
                for start in starts
            )
        return self._small_blocks_agree

    def _run(self, group: int, block: Any) -> np.ndarray:
        """The softmax of a group's members for a block, shape (members, rows, classes)."""
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


def groups_of(members: int) -> list[slice]:
    """Members that are scored together: just enough for a majority, then the others, in groups of at most `_GROUP`."""
    majority = members // 2 + 1
    begins = [*range(0, majority, _GROUP), *range(majority, members, _GROUP)]
    return [slice(begin, end) for begin, end in itertools.pairwise([*begins, members])]


def _block(images: np.ndarray, rows: int) -> Any:
    """The first images in a tensor of this many rows, which is padded with zeros."""
    import tensorflow as tf

    block = np.zeros((rows, *images.shape[1:]), np.float32)
    block[: len(images)] = images[:rows]
    return tf.constant(block)


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
        place = {id(variable): index for index, variable in enumerate(network.weights)}

        def run(weights: list[Any], block: Any) -> Any:
            def values(variables: list[Any]) -> list[Any]:
                return [weights[place[id(v)]] if id(v) in place else v.value for v in variables]

            return network.stateless_call(
                values(network.trainable_variables), values(network.non_trainable_variables), block, training=False
            )[0]

        self._run = tf.function(run, autograph=False)

    def __call__(self, weights: list[Any], block: Any) -> Any:
        """The softmax for a block, inside another compiled function."""
        import tensorflow as tf

        return self._run([tf.convert_to_tensor(weight) for weight in weights], block)

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
def _network(architecture: Architecture, precision: str) -> _Network:
    return _Network(architecture, precision)


_loaded: OrderedDict[tuple[str, str], LoadedEnsemble] = OrderedDict()  # by id and precision
_loading = threading.Lock()  # threads of the driver may score with several models at once


def load_ensemble(plan: VotingPlan, weights_of: WeightsOf) -> LoadedEnsemble:
    """The members of a plan: kept in this process, or unpacked now."""
    key = plan.ensemble_id, plan.precision
    with _loading:
        load_tensorflow_in_task()
        ensemble = _loaded.pop(key, None)
        if ensemble is None:
            while len(_loaded) >= _MAX_LOADED:
                _loaded.popitem(last=False)
            ensemble = LoadedEnsemble(plan, weights_of)
        _loaded[key] = ensemble
        return ensemble
