"""The members' votes on a batch of rows -> the ensemble's decision, and the plan that says how it is made.

Plain numpy; called by voting and measuring.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spark_cnn_ensemble.worker.network import Architecture
from spark_cnn_ensemble.worker.pixels import PixelFormat

_BLOCK_BYTES = 8 << 20  # of float32 pixels that a network is given at once

OUTPUT_TYPES = {
    "rawPrediction": "array<double>",
    "probability": "array<double>",
    "prediction": "double",
    "uncertainty": "double",
    "memberPredictions": "array<int>",
}


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
    def may_stop_early(self) -> bool:
        """Whether a row's further votes are of no use once they cannot change its majority."""
        return self.outputs == ("prediction",) and not self.soft and self.thresholds is None

    @property
    def num_classes(self) -> int:
        """Number of classes, the same for all members."""
        return self.architectures[0].num_classes


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


def entropy(probability: np.ndarray) -> np.ndarray:
    """Entropy of each row of shape (n, classes) over log(classes): 0 where all agree, 1 where all classes are even."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(probability > 0, probability * np.log(probability), 0.0)
    return np.abs(terms.sum(axis=1)) / np.log(probability.shape[1])
