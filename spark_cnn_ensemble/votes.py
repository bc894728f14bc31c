"""Statistics of votes on labelled rows: accuracy of the vote and of each member, by ensemble size, by agreement.

`VoteStatistics` is the interface, which `plots` and `report` read. `OutOfBag` computes it from the votes themselves;
`evaluation` computes it from counts. Plain numpy and pandas; nothing here uses Spark. The module is long because each
statistic is documented where it is computed.
"""

from __future__ import annotations

import base64
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

LEVEL = 0.95  # of confidence intervals
_ORDERS = 20  # random orders of the members over which accuracy by size is averaged


def wilson_interval(right: float, rows: float, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval [1]_ for the share of `right` in `rows`.

    Parameters
    ----------
    right : float
        Successes, 0 to `rows`.
    rows : float
        Trials.
    level : float
        Confidence, 0 to 1.

    Returns
    -------
    (float, float)
        The bounds, each 0 to 1; NaN if there are no rows.

    References
    ----------
    .. [1] E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the American
       Statistical Association 22, 1927.

    Examples
    --------
    >>> from spark_cnn_ensemble.votes import wilson_interval
    >>> low, high = wilson_interval(90, 100)
    >>> round(low, 3), round(high, 3)
    (0.826, 0.945)
    """
    if not rows:
        return math.nan, math.nan
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = right / rows
    centre = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True)
class DisputedRow:
    """A row on which the members disagree.

    Attributes
    ----------
    uncertainty : float
        Entropy of the shares of votes over log(classes), 0 to 1.
    label : int
        The row's label.
    votes : tuple of int
        Votes per class.
    png : str
        The image, a PNG in base64.

    Examples
    --------
    >>> row = model.evaluate(test).disputedRows[0]
    >>> sum(row.votes), 0 < row.uncertainty <= 1
    (3, True)
    >>> row.image[1:4]
    b'PNG'
    """

    uncertainty: float
    label: int
    votes: tuple[int, ...]
    png: str

    @property
    def image(self) -> bytes:
        """The image as the bytes of a PNG."""
        return base64.b64decode(self.png)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DisputedRow:
        """The inverse of `dataclasses.asdict` and JSON.

        Parameters
        ----------
        values : dict
            The attributes by name.

        Returns
        -------
        DisputedRow
        """
        return cls(float(values["uncertainty"]), int(values["label"]), tuple(values["votes"]), str(values["png"]))


class VoteStatistics(ABC):
    """Statistics of the members' votes on labelled rows; see `OutOfBag` and `CNNEnsembleEvaluation`."""

    disputedRows: tuple[DisputedRow, ...]
    classNames: tuple[str, ...] | None

    @property
    @abstractmethod
    def confusionMatrix(self) -> np.ndarray:
        """Shape (classes, classes), int64: the number of rows with label i and prediction j."""

    @property
    @abstractmethod
    def memberAccuracies(self) -> np.ndarray:
        """Shape (members,): share of rows that each member gets right alone; NaN if it voted on none."""

    @property
    @abstractmethod
    def disagreement(self) -> np.ndarray:
        """Shape (members, members): share of rows on which two members differ; NaN if they share no row."""

    @property
    @abstractmethod
    def accuracyBySize(self) -> pd.DataFrame:
        """Accuracy of the vote by the number of members.

        Columns size, accuracy, low and high (95 % interval), rows.
        """

    @property
    @abstractmethod
    def agreement(self) -> pd.DataFrame:
        """Number of rows by the share of votes for the predicted class.

        Columns share (0 to 1, ascending), rows, and right, the number of these rows that are predicted right. The share
        is 0 where no member voted for the predicted class, which soft voting and thresholds allow.
        """

    @property
    def rows(self) -> int:
        """Rows that were voted on."""
        return int(self.confusionMatrix.sum())

    @property
    def accuracy(self) -> float:
        """Share of rows that the vote gets right, 0 to 1."""
        return float(np.trace(self.confusionMatrix) / self.rows) if self.rows else math.nan

    @property
    def accuracyInterval(self) -> tuple[float, float]:
        """95 % interval of the accuracy of these members on other rows of the same kind (Wilson's score interval)."""
        return wilson_interval(float(np.trace(self.confusionMatrix)), self.rows)

    @property
    def recallByLabel(self) -> np.ndarray:
        """Shape (classes,): share of each label's rows that are predicted right; NaN if the label has no rows."""
        with np.errstate(invalid="ignore"):
            return np.diag(self.confusionMatrix) / self.confusionMatrix.sum(axis=1)

    @property
    def precisionByLabel(self) -> np.ndarray:
        """Shape (classes,): share of each class's predictions that are right; NaN if the class is never predicted."""
        with np.errstate(invalid="ignore"):
            return np.diag(self.confusionMatrix) / self.confusionMatrix.sum(axis=0)

    def _lowest_recall(self) -> str:
        """For `repr`."""
        return f", recall: {recall_text(self)}" if self.rows else ""

    @property
    def classTable(self) -> pd.DataFrame:
        """One row per class, indexed by label: columns rows, recall and precision (see recallByLabel)."""
        return pd.DataFrame(
            {
                "rows": self.confusionMatrix.sum(axis=1),
                "recall": self.recallByLabel,
                "precision": self.precisionByLabel,
            },
            pd.RangeIndex(len(self.confusionMatrix), name="label"),
        )

    @property
    def coverage(self) -> pd.DataFrame:
        """Accuracy if the rows with little agreement are left to people.

        Columns minimumShare (0 to 1, descending), coverage, the share of the rows of `agreement` whose predicted class
        has at least that share of the votes, and accuracy, the share of these rows that are predicted right. The votes
        are those of `memberPredictionsCol`, also where votingStrategy is "soft".
        """
        falling = self.agreement[self.agreement["rows"] > 0].iloc[::-1]
        rows, right = falling["rows"].cumsum(), falling["right"].cumsum()
        return pd.DataFrame(
            {"minimumShare": falling["share"], "coverage": rows / falling["rows"].sum(), "accuracy": right / rows}
        ).reset_index(drop=True)


def recall_text(votes: VoteStatistics, class_names: Sequence[str] | None = None) -> str:
    """The mean and the lowest recall of the classes that have rows, in words; at least one row was voted on."""
    table = votes.classTable
    label = int(table["recall"].idxmin())
    rows, name = table["rows"][label], label if class_names is None else repr(str(class_names[label]))
    return (
        f"mean {table['recall'].mean():.2%}, lowest {table['recall'][label]:.2%} (class {name}, {rows:,} "
        f"row{'' if rows == 1 else 's'})"
    )


@dataclass(frozen=True, eq=False, repr=False)
class OutOfBag(VoteStatistics):
    """The out-of-bag votes: on a sample of the training rows, each row voted on by the members that left it out.

    They estimate accuracy on new rows without held-out data [1]_. Fewer members vote on a row than in the whole
    ensemble (see `votersPerRow`), so the accuracy is pessimistic, and its interval need not hold the accuracy of the
    whole ensemble. If the fit started from an `initialModel` that was trained on these rows, members know rows outside
    of their bags, and the accuracy is optimistic. ``model.summary.outOfBag`` gives the votes.

    Attributes
    ----------
    labels : numpy.ndarray
        Shape (n,).
    votes : numpy.ndarray
        Shape (n, members): each member's class; -1 where the row was in its bag.
    predictions : numpy.ndarray
        Shape (n,): the class that the out-of-bag members vote for; -1 if the row was in every bag.
    numClasses : int
        Number of classes.
    disputedRows : tuple of DisputedRow
        The rows on which the members disagree most, at most twelve.
    classNames : tuple of str or None
        A name for each class, if the label column's metadata had them.

    References
    ----------
    .. [1] L. Breiman, "Out-of-bag estimation", Technical report, Statistics Department, University of California,
       Berkeley, 1996.

    Examples
    --------
    >>> from spark_cnn_ensemble import CNNEnsembleClassifier
    >>> classifier = CNNEnsembleClassifier(numMembers=3, epochs=1, oobSampleSize=200, verbose=0)
    >>> votes = classifier.fit(train).summary.outOfBag
    >>> votes.votes.shape, votes.rowsWithoutMember
    ((200, 3), 0)
    >>> low, high = votes.accuracyInterval
    >>> low < votes.accuracy < high
    True
    >>> sorted(votes.selection(3))
    [0, 1, 2]
    """

    labels: np.ndarray
    votes: np.ndarray
    predictions: np.ndarray
    numClasses: int
    disputedRows: tuple[DisputedRow, ...] = ()
    classNames: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        low, high = self.accuracyInterval
        return (
            f"{type(self).__name__}(rows={self.rows}, rowsWithoutMember={self.rowsWithoutMember}, "
            f"votersPerRow={self.votersPerRow:.1f} of {self.votes.shape[1]}, "
            f"accuracy={self.accuracy:.4f} in [{low:.4f}, {high:.4f}]{self._lowest_recall()})"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OutOfBag) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    @property
    def rowsWithoutMember(self) -> int:
        """Number of rows of the sample that every member trained on, so that no member votes on them."""
        return int((self.predictions < 0).sum())

    @property
    def votersPerRow(self) -> float:
        """Mean number of members that vote on a row; NaN if no member votes on any."""
        voters = (self.votes >= 0).sum(axis=1)
        return float(voters[voters > 0].mean()) if voters.any() else math.nan

    @property
    def accuracyInterval(self) -> tuple[float, float]:
        """95 % interval of the accuracy of votes of `votersPerRow` members on other rows (Wilson's score interval)."""
        return super().accuracyInterval

    @cached_property
    def confusionMatrix(self) -> np.ndarray:
        voted = self.predictions >= 0
        matrix = np.zeros((self.numClasses, self.numClasses), np.int64)
        np.add.at(matrix, (self.labels[voted], self.predictions[voted]), 1)
        return matrix

    @cached_property
    def memberAccuracies(self) -> np.ndarray:
        voted = self.votes >= 0
        with np.errstate(invalid="ignore"):
            return ((self.votes == self.labels[:, None]) & voted).sum(axis=0) / voted.sum(axis=0)

    @cached_property
    def disagreement(self) -> np.ndarray:
        voted = (self.votes >= 0).astype(np.int64)
        same = sum(
            (chose.T @ chose for chose in ((self.votes == index).astype(np.int64) for index in range(self.numClasses))),
            np.zeros((self.votes.shape[1],) * 2, np.int64),
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            return 1 - same / (voted.T @ voted)

    @cached_property
    def accuracyBySize(self) -> pd.DataFrame:
        """Accuracy of the vote by the number of members.

        Columns size, accuracy, low and high (95 % interval), rows. The mean over random orders of the members. For each
        size, that many of a row's out-of-bag members vote, and rows with fewer are left out. They vote by majority,
        whatever votingStrategy and thresholds are; a tie among t classes counts 1/t if the label is one of them, so two
        members vote as well as one.
        """
        rows, members = self.votes.shape
        right, count = np.zeros(members + 1), np.zeros(members + 1)
        rng = np.random.default_rng(0)
        for _ in range(_ORDERS):
            tally, size = np.zeros((rows, self.numClasses)), np.zeros(rows, np.int64)
            for member in rng.permutation(members):
                voting = np.flatnonzero(self.votes[:, member] >= 0)
                tally[voting, self.votes[voting, member]] += 1
                size[voting] += 1
                np.add.at(right, size[voting], credit(tally[voting], self.labels[voting]))
                np.add.at(count, size[voting], 1)
        sizes = np.flatnonzero(count)
        voted = count[sizes] / _ORDERS
        accuracy = right[sizes] / count[sizes]
        bounds = [wilson_interval(share * n, n) for share, n in zip(accuracy, voted, strict=True)]
        low, high = (np.array(side) for side in zip(*bounds, strict=True)) if bounds else (voted, voted)
        return pd.DataFrame(
            {"size": sizes, "accuracy": accuracy, "low": low, "high": high, "rows": voted.round().astype(int)}
        )

    @cached_property
    def agreement(self) -> pd.DataFrame:
        """Number of rows by the share of votes for the predicted class, of the rows on which two members or more vote.

        Columns share (0 to 1, ascending), rows, and right, the number of these rows that are predicted right. The share
        is 0 where no member voted for the predicted class, which soft voting and thresholds allow.
        """
        voters = (self.votes >= 0).sum(axis=1)
        voted = voters > 1  # a single vote agrees with itself alone
        votes, prediction = self.votes[voted], self.predictions[voted]
        share = (votes == prediction[:, None]).sum(axis=1) / voters[voted]
        table = pd.DataFrame({"share": share, "rows": 1, "right": prediction == self.labels[voted]})
        return table.groupby("share", as_index=False).sum().astype({"right": np.int64})

    def selection(self, size: int) -> list[int]:
        """Choose the members that are most accurate on the rows that they did not train on.

        Parameters
        ----------
        size : int
            The number of members to choose.

        Returns
        -------
        list of int
            Indices of members, the best first; of two that are equal, the lower index.

        Notes
        -----
        A greedy choice of members that vote best together [1]_ was measured and gained nothing over this one.

        References
        ----------
        .. [1] R. Caruana, A. Niculescu-Mizil, G. Crew, A. Ksikes, "Ensemble selection from libraries of models", ICML
           2004.
        """
        alone = np.nan_to_num(self.memberAccuracies, nan=-1.0)
        return np.argsort(-alone, kind="stable")[:size].tolist()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the names, which a model saves itself; `from_dict` is the inverse.

        Returns
        -------
        dict
        """
        return {
            "labels": self.labels.tolist(),
            "votes": self.votes.tolist(),
            "predictions": self.predictions.tolist(),
            "numClasses": self.numClasses,
            "disputedRows": [asdict(row) for row in self.disputedRows],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any], class_names: tuple[str, ...] | None = None) -> OutOfBag:
        """The inverse of `to_dict` and JSON.

        Parameters
        ----------
        values : dict
            As `to_dict` gives them.
        class_names : tuple of str, optional

        Returns
        -------
        OutOfBag

        Raises
        ------
        ValueError
            The arrays do not fit together.
        """
        labels, predictions = (np.array(values[name], np.int64) for name in ("labels", "predictions"))
        votes = np.array(values["votes"], np.int64).reshape(len(labels), -1)
        classes = int(values["numClasses"])
        largest = max((int(array.max()) for array in (labels, votes, predictions) if array.size), default=0)
        if len(predictions) != len(labels) or largest >= classes:
            raise ValueError("the out-of-bag labels, votes and predictions do not fit together")
        rows = tuple(DisputedRow.from_dict(row) for row in values["disputedRows"])
        return cls(labels, votes, predictions, classes, rows, class_names)


def credit(tally: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The share of a right prediction that the votes earn on each row.

    Parameters
    ----------
    tally : numpy.ndarray
        Shape (n, classes): votes per class.
    labels : numpy.ndarray
        Shape (n,).

    Returns
    -------
    numpy.ndarray
        Shape (n,): 1 where the label has the most votes, 1/t where it ties with t - 1 other classes, else 0.
    """
    winners = tally == tally.max(axis=1, keepdims=True)
    return winners[np.arange(len(labels)), labels] / winners.sum(axis=1)
