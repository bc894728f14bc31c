"""The members' votes on a batch of rows -> the ensemble's decision.

Plain numpy; called by scoring and evaluation.
"""

from __future__ import annotations

import numpy as np

from spark_cnn_ensemble.worker.voting_plan import VotingPlan


def majority(votes: np.ndarray, softmax: np.ndarray, plan: VotingPlan) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The ensemble's decision from the members' votes.

    A tie goes to the tied class with the larger summed softmax, then to the lower index.

    Parameters
    ----------
    votes : numpy.ndarray
        Shape (n, members): each member's class.
    softmax : numpy.ndarray
        Shape (n, classes): the members' softmax outputs, summed.
    plan : VotingPlan

    Returns
    -------
    raw, probability : numpy.ndarray
        Shape (n, classes): votes per class (or summed softmax), and the same over the number of members.
    prediction : numpy.ndarray
        Shape (n,), float64.
    """
    raw = softmax if plan.soft else votes_per_class(votes, plan.num_classes)
    probability = raw / votes.shape[1]
    return raw, probability, decide(probability, softmax, plan).astype(np.float64)


def decide(probability: np.ndarray, softmax: np.ndarray, plan: VotingPlan) -> np.ndarray:
    """The class of each row (n,), by its shares of the votes (n, classes); summed softmax (n, classes) breaks ties."""
    score = probability
    if plan.thresholds is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            score = probability / np.asarray(plan.thresholds)
        score = np.where(np.isnan(score), -1.0, score)  # 0 / 0: the class is never chosen, as in Spark
    tied = score == score.max(axis=1, keepdims=True)
    return np.where(tied, softmax, -1.0).argmax(axis=1)


def votes_per_class(votes: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts of shape (n, classes) from votes of shape (n, members); a vote of -1 is not counted."""
    counts = np.zeros((len(votes), num_classes))
    for of_member in votes.T:
        (row,) = np.nonzero(of_member >= 0)
        counts[row, of_member[row]] += 1.0
    return counts


def entropy(probability: np.ndarray) -> np.ndarray:
    """Entropy of each row (n, classes) over log(classes): 0 if one class has everything, 1 if all have as much."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(probability > 0, probability * np.log(probability), 0.0)
    return np.abs(terms.sum(axis=1)) / np.log(probability.shape[1])
