"""Votes of members that are right with a given probability."""

import numpy as np

from spark_cnn_ensemble import OutOfBag
from support.results import count_votes


def member_votes(rows=200, members=6, classes=4, right=0.7, in_bag=0.4, seed=0):
    """Labels, and votes (rows, members) of members that had a share `in_bag` of the rows in their bags (-1)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    wrong = (labels[:, None] + rng.integers(1, classes, (rows, members))) % classes
    votes = np.where(rng.random((rows, members)) < right, labels[:, None], wrong)
    votes[rng.random((rows, members)) < in_bag] = -1
    return labels, votes


def out_of_bag_of(labels, votes, classes=4):
    """The out-of-bag votes, decided by count alone."""
    return OutOfBag(labels, votes, count_votes(votes, classes)[1], classes)
