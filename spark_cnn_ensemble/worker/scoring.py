"""A batch of features -> the members' votes -> the columns that a model adds.

Spark runs `vote_batches` for `transform`; the model calls `vote_once` on the driver for a single vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from spark_cnn_ensemble.worker.blocks import LoadedEnsemble
from spark_cnn_ensemble.worker.decision import decide, entropy, majority
from spark_cnn_ensemble.worker.loaded_ensemble import load_ensemble
from spark_cnn_ensemble.worker.pixels import to_pixels
from spark_cnn_ensemble.worker.refusal import Fault, Refusal, row_fault
from spark_cnn_ensemble.worker.voting_plan import VotingPlan
from spark_cnn_ensemble.worker.weights import WeightsOf

_NOT_COMPUTED = Fault(
    "has numbers so far from those of the training rows that members compute NaN", "fix or scale the row"
)
_POOL_BYTES = 64 << 20  # float32 pixels of the rows that are decided together


def vote_batches(
    batches: Iterable[tuple[pd.Series, pd.Series]], plan: VotingPlan, weights_of: WeightsOf
) -> Iterator[pd.DataFrame]:
    """Score batches of cells; the output has as many rows as the input, in batches of other sizes.

    Parameters
    ----------
    batches : iterable of (pandas.Series, pandas.Series)
        Cells of the features column, and the rows' names or null.
    plan : VotingPlan
    weights_of : callable
        A member -> its packed weights.

    Yields
    ------
    pandas.DataFrame
        The plan's outputs; null for rows that cannot be scored.
    """
    ensemble = None
    for images, names, faults in _blocks(batches, plan):
        if ensemble is None:
            ensemble = load_ensemble(plan, weights_of)
        vote = _decision if plan.may_stop_early else _votes
        columns, softmax = vote(ensemble, images, plan)
        faults = {**not_computed(softmax), **faults}
        refuse_faults(faults, names, plan)
        columns["prediction"][list(faults)] = np.nan
        if "uncertainty" in plan.outputs:
            columns["uncertainty"] = np.where(np.isnan(columns["prediction"]), np.nan, entropy(columns["probability"]))
        yield pd.DataFrame({name: _cells(columns[name], faults) for name in plan.outputs})


def _votes(ensemble: LoadedEnsemble, images: np.ndarray, plan: VotingPlan) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The columns, and the summed softmax (n, classes)."""
    votes, softmax = ensemble.vote(images)
    raw, probability, prediction = majority(votes, softmax, plan)
    columns = {
        "rawPrediction": raw,
        "probability": probability,
        "prediction": prediction,
        "memberPredictions": votes.astype(np.int32),
    }
    return columns, softmax


def _decision(
    ensemble: LoadedEnsemble, images: np.ndarray, plan: VotingPlan
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The column "prediction", and the summed softmax (n, classes) of the members that voted."""
    pool = plan.block_rows * max(1, _POOL_BYTES // (4 * plan.pixels.size * plan.block_rows))
    parts = [decide_early(ensemble, images[begin : begin + pool], plan) for begin in range(0, len(images), pool)]
    predictions, softmax = map(np.concatenate, zip(*parts, strict=True))
    return {"prediction": predictions.astype(np.float64)}, softmax


def not_computed(softmax: np.ndarray) -> dict[int, Fault]:
    """The rows of summed softmax (n, classes) that are not numbers, which no class can win."""
    return dict.fromkeys(np.flatnonzero(~np.isfinite(softmax).all(axis=1)).tolist(), _NOT_COMPUTED)


def decide_early(ensemble: LoadedEnsemble, images: np.ndarray, plan: VotingPlan) -> tuple[np.ndarray, np.ndarray]:
    """The prediction of `majority` for each image, from as few votes as are certain to give it.

    An image is decided when its leading class is ahead by more votes than are still to come, so that not even a tie is
    possible. The undecided images are gathered into fewer blocks for the next group of members.

    Parameters
    ----------
    images : numpy.ndarray
        Shape (n, height, width, channels).
    plan : VotingPlan
        One that `may_stop_early`.

    Returns
    -------
    predictions : numpy.ndarray
        Shape (n,).
    softmax : numpy.ndarray
        Shape (n, classes): summed over the members that voted.
    """
    counts, softmax = np.zeros((len(images), plan.num_classes)), np.zeros((len(images), plan.num_classes))
    undecided = np.arange(len(images))
    blocks = ensemble.blocks(images, undecided)
    for group, members in enumerate(ensemble.groups):
        for rows, block in blocks:
            for _, output in ensemble.group_outputs(group, block, len(rows)):
                counts[rows, output.argmax(axis=1)] += 1
                softmax[rows] += output
        to_come = len(ensemble) - members.stop
        if to_come >= members.stop:
            continue  # not even a class with all votes so far is that far ahead
        ranked = np.partition(counts[undecided], -2, axis=1)
        undecided = undecided[ranked[:, -1] - ranked[:, -2] <= to_come]
        if not len(undecided):
            break
        blocks = ensemble.blocks(images, undecided)
    return decide(counts, softmax, plan), softmax


def _cells(values: np.ndarray, faults: Iterable[int]) -> Any:
    if values.ndim == 1:
        return values
    rows: list[Any] = list(values)
    for index in faults:
        rows[index] = None
    return rows


def vote_once(cell: np.ndarray, plan: VotingPlan, weights_of: WeightsOf) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score one cell in this process; see `majority`.

    Raises
    ------
    Refusal
        The cell cannot be scored.
    """
    images, faults = to_pixels([cell], plan.pixels)
    for fault in faults.values():
        raise Refusal(f"The vector {fault.what}; give the {plan.pixels.size} numbers of one image.")
    votes, softmax = load_ensemble(plan, weights_of).vote(images)
    for fault in not_computed(softmax).values():
        raise Refusal(f"The vector {fault.what}; give numbers like those of the training rows.")
    return majority(votes, softmax, plan)


def _blocks(
    batches: Iterable[tuple[pd.Series, pd.Series]], plan: VotingPlan
) -> Iterator[tuple[np.ndarray, list[Any], dict[int, Fault]]]:
    """Recut batches of any size into multiples of the plan's block; only the last may have another size.

    Yields pixels, the names of their rows, and faults.
    """
    cells: list[Any] = []
    names: list[Any] = []
    for batch in batches:
        cells.extend(batch[0])
        names.extend(batch[1])
        whole = len(cells) - len(cells) % plan.block_rows
        if whole:
            images, faults = read_pixels(cells[:whole], names, plan)
            yield images, names[:whole], faults
            del cells[:whole], names[:whole]
    if cells:
        images, faults = read_pixels(cells, names, plan)
        yield images, names, faults


def read_pixels(cells: Sequence[Any], names: Sequence[Any], plan: VotingPlan) -> tuple[np.ndarray, dict[int, Fault]]:
    """See `to_pixels`; refuses cells that cannot be scored by their rows' names, if the plan says so."""
    images, faults = to_pixels(cells, plan.pixels)
    refuse_faults(faults, names, plan)
    return images, faults


def refuse_faults(faults: Mapping[int, Fault], names: Sequence[Any], plan: VotingPlan) -> None:
    """Refuse rows that cannot be scored by the name of the first one, if the plan says so.

    Raises
    ------
    Refusal
    """
    if faults and plan.refuse_invalid:
        first = min(faults)
        sentence = row_fault(plan.pixels.column, names[first], faults[first])
        raise Refusal(f"{sentence[:-1]}, or 'keep' for a null prediction.")
