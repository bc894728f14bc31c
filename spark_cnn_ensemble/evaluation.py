"""`CNNEnsembleEvaluation`: the members and their vote, measured on labelled rows.

It holds counts; `worker.evaluation` counts the rows of a task, and `votes` has what is computed from votes one by one.
Made by the model's `evaluate`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from spark_cnn_ensemble.votes import DisputedRow, VoteStatistics, wilson_interval
from spark_cnn_ensemble.worker.disputed_rows import most_disputed


@dataclass(frozen=True, eq=False, repr=False)
class CNNEnsembleEvaluation(VoteStatistics):
    """The members and their vote, measured on labelled rows; ``model.evaluate`` gives it.

    Attributes
    ----------
    confusion : numpy.ndarray
        Shape (classes, classes): number of rows by label and prediction.
    memberRight : numpy.ndarray
        Shape (members,): number of rows that each member gets right alone.
    same : numpy.ndarray
        Shape (members, members): number of rows on which two members vote for the same class.
    rowsByVotes, rightByVotes : numpy.ndarray
        Shape (members + 1,): number of rows whose predicted class has 0, 1, 2, ... votes, and how many of these are
        predicted right.
    rightBySize : numpy.ndarray
        Shape (members,): number of rows that the vote of the first 1, 2, ... members gets right.
    skippedRows : int
        Unusable rows that were left out.
    disputedRows : tuple of DisputedRow
        The rows on which the members disagree most, at most twelve.
    classNames : tuple of str or None
        A name for each class, if the model knows them.

    Examples
    --------
    >>> evaluation = model.evaluate(test)
    >>> evaluation.rows, evaluation.confusionMatrix.shape, evaluation.memberAccuracies.shape
    (360, (10, 10), (3,))
    >>> evaluation.accuracy > 0.8
    True
    >>> low, high = evaluation.accuracyInterval
    >>> low < evaluation.accuracy < high
    True
    >>> evaluation.accuracyBySize["size"].tolist()
    [1, 2, 3]
    """

    confusion: np.ndarray
    memberRight: np.ndarray
    same: np.ndarray
    rowsByVotes: np.ndarray
    rightByVotes: np.ndarray
    rightBySize: np.ndarray
    skippedRows: int
    disputedRows: tuple[DisputedRow, ...] = ()
    classNames: tuple[str, ...] | None = None

    @classmethod
    def from_counts(
        cls, counts: Sequence[Any], classes: int, members: int, class_names: tuple[str, ...] | None = None
    ) -> CNNEnsembleEvaluation:
        """The sum of the counts of all tasks.

        Parameters
        ----------
        counts : sequence of Row
            Rows of `worker.evaluation.COUNTS_SCHEMA`.
        classes, members : int
            Number of classes and of members.
        class_names : tuple of str, optional

        Returns
        -------
        CNNEnsembleEvaluation
        """

        def total(name: str, *shape: int) -> np.ndarray:
            return np.sum([row[name] for row in counts], axis=0, dtype=np.int64).reshape(*shape or (-1,))

        confusion = np.zeros(classes * classes, np.int64)
        for row in counts:
            confusion[np.array(row["cells"], np.int64)] += np.array(row["rowsInCells"], np.int64)
        pictures = most_disputed(picture for row in counts for picture in row["disputed"])
        return cls(
            confusion=confusion.reshape(classes, classes),
            memberRight=total("memberRight"),
            same=total("same", members, members),
            rowsByVotes=total("rowsByVotes"),
            rightByVotes=total("rightByVotes"),
            rightBySize=total("rightBySize"),
            skippedRows=sum(row["skipped"] for row in counts),
            disputedRows=tuple(DisputedRow.from_dict(json.loads(picture)) for picture in pictures),
            classNames=class_names,
        )

    def __repr__(self) -> str:
        members = self.memberAccuracies
        return (
            f"{type(self).__name__}(rows={self.rows}, accuracy={self.accuracy:.4f}, {len(members)} members: "
            f"best {members.max():.4f}, mean {members.mean():.4f}, worst {members.min():.4f}{self._lowest_recall()})"
        )

    @property
    def confusionMatrix(self) -> np.ndarray:
        return self.confusion

    @property
    def memberAccuracies(self) -> np.ndarray:
        return self.memberRight / self.rows

    @property
    def disagreement(self) -> np.ndarray:
        return 1 - self.same / self.rows

    @property
    def accuracyBySize(self) -> pd.DataFrame:
        """Accuracy of the vote of the first 1, 2, ... members.

        Columns size, accuracy, low and high (95 % interval), rows.
        """
        bounds = [wilson_interval(float(right), self.rows) for right in self.rightBySize]
        low, high = zip(*bounds, strict=True)
        size = np.arange(1, len(self.rightBySize) + 1)
        return pd.DataFrame(
            {"size": size, "accuracy": self.rightBySize / self.rows, "low": low, "high": high, "rows": self.rows}
        )

    @property
    def agreement(self) -> pd.DataFrame:
        members = len(self.memberRight)
        votes = np.arange(members + 1)
        return pd.DataFrame({"share": votes / members, "rows": self.rowsByVotes, "right": self.rightByVotes})
