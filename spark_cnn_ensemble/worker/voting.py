"""A batch of features -> the members' votes -> the majority.

`vote_batches` is what Spark runs for `transform`; the model runs the same on the driver for a single vector. A
process unpacks an ensemble once and keeps it under the id that the driver gave it. TensorFlow is imported inside
functions.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from spark_cnn_ensemble.worker.bag import row_fault
from spark_cnn_ensemble.worker.member import load_tensorflow_in_task, split_weights, unpack_weights
from spark_cnn_ensemble.worker.network import Architecture, build_network, count_weights
from spark_cnn_ensemble.worker.pixels import PixelFormat, to_pixels
from spark_cnn_ensemble.worker.refusal import Refusal

_BLOCK_BYTES = 8 << 20  # of float32 pixels that a network is given at once

OUTPUT_TYPES = {
    "rawPrediction": "array<double>",
    "probability": "array<double>",
    "prediction": "double",
    "uncertainty": "double",
    "memberPredictions": "array<int>",
}
PARTS_SCHEMA = "member int, part int, bytes binary"

_MAX_LOADED = 3  # ensembles that a process keeps unpacked


@dataclass(frozen=True)
class VotingPlan:
    """Everything a worker must know to score, but the weights: plain values.

    Parameters
    ----------
    ensemble_id : str
        Minted on the driver; the same id always means the same members.
    architectures : tuple of Architecture
        The members' different networks.
    members : tuple of int
        For each member, the index of its network.
    pixels : PixelFormat
    soft : bool
        Mean of softmax rather than majority.
    thresholds : tuple of float or None
        The class with the largest probability / threshold is predicted.
    refuse_invalid : bool
        Whether a row that cannot be scored fails the job; else its prediction is null.
    outputs : tuple of str
        What `vote_batches` gives, of `OUTPUT_TYPES`.
    """

    ensemble_id: str
    architectures: tuple[Architecture, ...]
    members: tuple[int, ...]
    pixels: PixelFormat
    soft: bool = False
    thresholds: tuple[float, ...] | None = None
    refuse_invalid: bool = True
    outputs: tuple[str, ...] = ("rawPrediction", "probability", "prediction")

    @property
    def schema(self) -> str:
        """Of what `vote_batches` gives."""
        return ", ".join(f"{name} {OUTPUT_TYPES[name]}" for name in self.outputs)

    @property
    def block_rows(self) -> int:
        """Rows that the networks see at once, 8 to 256 by the size of an image.

        The last block is filled up with zeros, so that what a row gives does not depend on the rows beside it: kernels
        of another shape may round otherwise.
        """
        return min(256, max(8, _BLOCK_BYTES // (4 * self.pixels.size)))

    @property
    def num_classes(self) -> int:
        """Number of classes, the same for all members."""
        return self.architectures[0].num_classes


WeightsOf = Callable[[int], bytes]  # member -> its packed weights


def broadcast_weights(broadcasts: Sequence[Any], member: int) -> bytes:
    """A member's packed weights from Spark broadcasts, one a member; loaded when they are asked for."""
    return broadcasts[member].value


def member_parts(frames: Iterable[pd.DataFrame], weights_of: WeightsOf) -> Iterator[pd.DataFrame]:
    """The weights of the members in column id, as rows (member, part, bytes) of `PARTS_SCHEMA`."""
    for frame in frames:
        for member in frame["id"]:
            parts = split_weights(weights_of(int(member)))
            yield pd.DataFrame({"member": np.int32(member), "part": range(len(parts)), "bytes": parts})


def vote_batches(batches: Iterable[pd.Series], plan: VotingPlan, weights_of: WeightsOf) -> Iterator[pd.DataFrame]:
    """Score batches of cells; the output is as long as the input, but may be cut elsewhere.

    Parameters
    ----------
    batches : iterable of pandas.Series
        Cells of the features column.
    plan : VotingPlan
    weights_of : callable
        Gives a member's packed weights.

    Yields
    ------
    pandas.DataFrame
        The plan's outputs; nulls for rows that cannot be scored.
    """
    ensemble = None
    for images, faults in _blocks(batches, plan):
        if ensemble is None:
            ensemble = load_ensemble(plan, weights_of)
        votes, softmax = ensemble.vote(images)
        raw, probability, prediction = majority(votes, softmax, plan)
        prediction[list(faults)] = np.nan
        found: dict[str, Any] = {
            "rawPrediction": raw,
            "probability": probability,
            "prediction": prediction,
            "memberPredictions": votes.astype(np.int32),
        }
        if "uncertainty" in plan.outputs:
            found["uncertainty"] = np.where(np.isnan(prediction), np.nan, entropy(probability))
        yield pd.DataFrame({name: _cells(found[name], faults) for name in plan.outputs})


def _cells(values: np.ndarray, faults: Iterable[int]) -> Any:
    if values.ndim == 1:
        return values
    rows: list[Any] = list(values)
    for index in faults:
        rows[index] = None
    return rows


def entropy(probability: np.ndarray) -> np.ndarray:
    """Entropy of each row of shape (n, classes) over log(classes): 0 where all agree, 1 where none does."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(probability > 0, probability * np.log(probability), 0.0)
    return np.abs(terms.sum(axis=1)) / np.log(probability.shape[1])


def vote_once(cell: np.ndarray, plan: VotingPlan, weights_of: WeightsOf) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score one cell in this process; see `majority`.

    Raises
    ------
    Refusal
        The cell cannot be scored.
    """
    images, faults = to_pixels([cell], plan.pixels)
    for fault in faults.values():
        raise Refusal(f"The vector {fault}; give the {plan.pixels.size} numbers of one image.")
    return majority(*load_ensemble(plan, weights_of).vote(images), plan)


def majority(votes: np.ndarray, softmax: np.ndarray, plan: VotingPlan) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """From the members' votes to the ensemble's decision.

    A tie goes to the tied class with the larger summed softmax, then to the lower index.

    Parameters
    ----------
    votes : numpy.ndarray
        Shape (n, members): each member's class.
    softmax : numpy.ndarray
        Shape (n, classes): the members' softmax outputs, summed.

    Returns
    -------
    raw, probability : numpy.ndarray
        Shape (n, classes): votes per class (or summed softmax), and their share of the members.
    prediction : numpy.ndarray
        Shape (n,), float64.
    """
    raw = softmax if plan.soft else votes_per_class(votes, plan.num_classes)
    probability = raw / votes.shape[1]
    return raw, probability, decide(probability, softmax, plan).astype(np.float64)


def decide(probability: np.ndarray, softmax: np.ndarray, plan: VotingPlan) -> np.ndarray:
    """The class of each row, by shares of the votes and, where they tie, by summed softmax; both (n, classes)."""
    score = probability
    if plan.thresholds is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            score = probability / np.asarray(plan.thresholds)
        score = np.where(np.isnan(score), -1.0, score)  # 0 / 0: such a class is never chosen, as in Spark
    tied = score == score.max(axis=1, keepdims=True)
    return np.where(tied, softmax, -1.0).argmax(axis=1)


def votes_per_class(votes: np.ndarray, num_classes: int) -> np.ndarray:
    """Shape (n, classes), of votes (n, members); a vote of -1 is none."""
    counts = np.zeros((len(votes), num_classes))
    row, member = np.nonzero(votes >= 0)
    np.add.at(counts, (row, votes[row, member]), 1.0)
    return counts


class Ensemble:
    """Members unpacked and ready to vote in this process."""

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

    def vote(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Votes (n, members) and summed softmax (n, classes) of images (n, height, width, channels)."""
        votes = np.empty((len(images), len(self._members)), np.int64)
        softmax = np.zeros((len(images), self._classes))
        for rows, member, output in self.outputs(images):
            votes[rows, member] = output.argmax(axis=1)
            softmax[rows] += output
        return votes, softmax

    def outputs(self, images: np.ndarray) -> Iterator[tuple[slice, int, np.ndarray]]:
        """What each member gives for each block: the rows, the member, and its softmax (n, classes)."""
        for begin in range(0, len(images), self._block_rows):
            part = images[begin : begin + self._block_rows]
            block = np.zeros((self._block_rows, *images.shape[1:]), np.float32)
            block[: len(part)] = part
            for member, (network, weights) in enumerate(self._members):
                yield slice(begin, begin + len(part)), member, network(weights, block)[: len(part)]


class _Network:
    """One compiled function for all members of an architecture: their weights are its arguments."""

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

    def __call__(self, weights: list[Any], block: np.ndarray) -> np.ndarray:
        return self._run(weights, block).numpy()

    def check(self, arrays: Sequence[np.ndarray], member: int) -> None:
        check_shapes(self._network, arrays, member)


def check_number(architecture: Architecture, arrays: Sequence[np.ndarray], member: int) -> None:
    """Refuse weights that are not as many as a network has, before it is built: it may claim to be of any size."""
    if sum(array.size for array in arrays) != _weights_of_network(architecture):
        raise Refusal(_misfit(member))


def check_shapes(network: Any, arrays: Sequence[np.ndarray], member: int) -> None:
    """Refuse weights whose shapes and types are not those of a Keras model."""
    wanted = [(tuple(variable.shape), variable.dtype) for variable in network.weights]
    if [(array.shape, array.dtype.name) for array in arrays] != wanted:
        raise Refusal(_misfit(member))


def _misfit(member: int) -> str:
    return f"The weights of member {member} do not fit its network; save the model again."


@functools.lru_cache(maxsize=8)
def _weights_of_network(architecture: Architecture) -> int:
    return count_weights(architecture)


@functools.lru_cache(maxsize=8)
def _network(architecture: Architecture) -> _Network:
    return _Network(architecture)


_loaded: OrderedDict[str, Ensemble] = OrderedDict()


def load_ensemble(plan: VotingPlan, weights_of: WeightsOf) -> Ensemble:
    """The members of a plan, from this process or else unpacked."""
    if plan.ensemble_id not in _loaded:
        load_tensorflow_in_task()
        _loaded[plan.ensemble_id] = Ensemble(plan, weights_of)
        while len(_loaded) > _MAX_LOADED:
            _loaded.popitem(last=False)
    _loaded.move_to_end(plan.ensemble_id)
    return _loaded[plan.ensemble_id]


def _blocks(batches: Iterable[pd.Series], plan: VotingPlan) -> Iterator[tuple[np.ndarray, dict[int, str]]]:
    """Recut batches of any size into multiples of the plan's block; only the last may be another size."""
    cells: list[Any] = []
    for series in batches:
        cells.extend(series)
        whole = len(cells) - len(cells) % plan.block_rows
        if whole:
            yield read_pixels(cells[:whole], plan)
            del cells[:whole]
    if cells:
        yield read_pixels(cells, plan)


def read_pixels(cells: Sequence[Any], plan: VotingPlan) -> tuple[np.ndarray, dict[int, str]]:
    """See `to_pixels`; refuses cells that cannot be scored where the plan does."""
    images, faults = to_pixels(cells, plan.pixels)
    if faults and plan.refuse_invalid:
        raise Refusal(
            f"{row_fault(plan.pixels.column, None, faults[min(faults)])[:-1]}, or 'keep' for a null prediction."
        )
    return images, faults
