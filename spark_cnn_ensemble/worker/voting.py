"""A batch of features -> the members' votes -> the majority.

`vote_batches` and `count_votes` are what Spark runs; the model runs the same on the driver for a single vector. A
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
from spark_cnn_ensemble.worker.network import Architecture, build_network
from spark_cnn_ensemble.worker.pixels import PixelFormat, to_pixels
from spark_cnn_ensemble.worker.refusal import Refusal

# Networks always see blocks of this many rows, the last one filled up with zeros, so that what a row gives does not
# depend on the rows beside it: kernels of another shape may round otherwise.
BLOCK_ROWS = 256

VOTES_SCHEMA = "rawPrediction array<double>, probability array<double>, prediction double"
PARTS_SCHEMA = "member int, part int, bytes binary"
COUNTS_SCHEMA = "confusion array<bigint>, memberRight array<bigint>, skipped bigint"

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
    """

    ensemble_id: str
    architectures: tuple[Architecture, ...]
    members: tuple[int, ...]
    pixels: PixelFormat
    soft: bool = False
    thresholds: tuple[float, ...] | None = None
    refuse_invalid: bool = True

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
        Columns of `VOTES_SCHEMA`; nulls for rows that cannot be scored.
    """
    ensemble = None
    for images, faults in _blocks(((cells, None) for cells in batches), plan.pixels):
        _refuse(faults, plan)
        if ensemble is None:
            ensemble = _ensemble(plan, weights_of)
        raw, probability, prediction = majority(*ensemble.vote(images.rows), plan)
        raw_rows: list[Any] = list(raw)
        probability_rows: list[Any] = list(probability)
        for index in faults:
            raw_rows[index] = probability_rows[index] = None
            prediction[index] = np.nan
        yield pd.DataFrame({"rawPrediction": raw_rows, "probability": probability_rows, "prediction": prediction})


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
    return majority(*_ensemble(plan, weights_of).vote(images), plan)


def count_votes(frames: Iterable[pd.DataFrame], plan: VotingPlan, weights_of: WeightsOf) -> Iterator[pd.DataFrame]:
    """Compare the votes with the labels and count; one row of `COUNTS_SCHEMA` a partition.

    Parameters
    ----------
    frames : iterable of pandas.DataFrame
        Columns features and label, a whole number below the number of classes.
    """
    classes = plan.num_classes
    confusion = np.zeros((classes, classes), np.int64)
    right = np.zeros(len(plan.members), np.int64)
    skipped = 0
    for images, faults in _blocks(((frame["features"], frame["label"].to_numpy()) for frame in frames), plan.pixels):
        _refuse(faults, plan)
        sound = np.ones(len(images.rows), bool)
        sound[list(faults)] = False
        skipped += len(faults)
        labels = images.labels[sound].astype(np.int64)
        votes, softmax = _ensemble(plan, weights_of).vote(images.rows)
        prediction = majority(votes, softmax, plan)[2][sound].astype(np.int64)
        np.add.at(confusion, (labels, prediction), 1)
        right += (votes[sound] == labels[:, None]).sum(axis=0)
    yield pd.DataFrame({"confusion": [confusion.ravel()], "memberRight": [right], "skipped": [skipped]})


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
    count, members = votes.shape
    raw = softmax
    if not plan.soft:
        raw = np.zeros((count, plan.num_classes))
        np.add.at(raw, (np.arange(count)[:, None], votes), 1.0)
    probability = raw / members
    score = probability
    if plan.thresholds is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            score = probability / np.asarray(plan.thresholds)
        score = np.where(np.isnan(score), -1.0, score)  # 0 / 0: such a class is never chosen, as in Spark
    tied = score == score.max(axis=1, keepdims=True)
    prediction = np.where(tied, softmax, -1.0).argmax(axis=1)
    return raw, probability, prediction.astype(np.float64)


class Ensemble:
    """Members unpacked and ready to vote in this process."""

    def __init__(self, plan: VotingPlan, weights_of: WeightsOf) -> None:
        import tensorflow as tf

        self._classes = plan.num_classes
        self._members: list[tuple[_Network, list[Any]]] = []
        for index, architecture in enumerate(plan.members):
            network = _network(plan.architectures[architecture])
            arrays = unpack_weights(weights_of(index))
            network.check(arrays, index)
            self._members.append((network, [tf.constant(array) for array in arrays]))

    def vote(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Votes (n, members) and summed softmax (n, classes) of images (n, height, width, channels)."""
        count = len(images)
        votes = np.empty((count, len(self._members)), np.int64)
        softmax = np.zeros((count, self._classes))
        for begin in range(0, count, BLOCK_ROWS):
            part = images[begin : begin + BLOCK_ROWS].astype(np.float32)
            block = np.zeros((BLOCK_ROWS, *images.shape[1:]), np.float32)
            block[: len(part)] = part
            span = slice(begin, begin + len(part))
            for member, (network, weights) in enumerate(self._members):
                output = network(weights, block)[: len(part)]
                votes[span, member] = output.argmax(axis=1)
                softmax[span] += output
        return votes, softmax


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
        wanted = [(tuple(variable.shape), variable.dtype) for variable in self._network.weights]
        if [(array.shape, array.dtype.name) for array in arrays] != wanted:
            raise Refusal(f"The weights of member {member} do not fit its network; save the model again.")


@functools.lru_cache(maxsize=8)
def _network(architecture: Architecture) -> _Network:
    return _Network(architecture)


_loaded: OrderedDict[str, Ensemble] = OrderedDict()


def _ensemble(plan: VotingPlan, weights_of: WeightsOf) -> Ensemble:
    if plan.ensemble_id not in _loaded:
        load_tensorflow_in_task()
        _loaded[plan.ensemble_id] = Ensemble(plan, weights_of)
        while len(_loaded) > _MAX_LOADED:
            _loaded.popitem(last=False)
    _loaded.move_to_end(plan.ensemble_id)
    return _loaded[plan.ensemble_id]


@dataclass(frozen=True)
class _Images:
    rows: np.ndarray
    labels: np.ndarray


def _blocks(
    batches: Iterable[tuple[pd.Series, np.ndarray | None]], pixels: PixelFormat
) -> Iterator[tuple[_Images, dict[int, str]]]:
    """Recut batches of any size into multiples of `BLOCK_ROWS`; only the last block may be another size."""
    cells: list[Any] = []
    labels: list[Any] = []

    def cut(count: int) -> tuple[_Images, dict[int, str]]:
        rows, faults = to_pixels(cells[:count], pixels)
        part = np.asarray(labels[:count])
        del cells[:count], labels[:count]
        return _Images(rows, part), faults

    for series, batch_labels in batches:
        cells.extend(series)
        labels.extend(batch_labels if batch_labels is not None else ())
        whole = len(cells) - len(cells) % BLOCK_ROWS
        if whole:
            yield cut(whole)
    if cells:
        yield cut(len(cells))


def _refuse(faults: dict[int, str], plan: VotingPlan) -> None:
    if faults and plan.refuse_invalid:
        raise Refusal(
            f"{row_fault(plan.pixels.column, None, faults[min(faults)])[:-1]}, or 'keep' for a null prediction."
        )
