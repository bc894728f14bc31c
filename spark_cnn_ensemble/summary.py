"""What training and evaluation found out: plain dataclasses that JSON can hold.

Nothing here touches Spark.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class MemberSummary:
    """How one member was trained.

    Attributes
    ----------
    member : int
        Its number in the fit, from 0.
    rows : int
        Rows of its bag.
    examples : int
        Rows of its bag counted as often as they were drawn: what it saw in an epoch.
    validationRows : int
    classCounts : tuple of int
        Rows of each class in its bag.
    seconds : float
        Wall time of its training, without the wait for its rows.
    history : dict of str to tuple of float
        Per epoch: "loss" and "accuracy" as measured while training, and "val_loss" and "val_accuracy" where there were
        validation rows.
    """

    member: int
    rows: int
    examples: int
    validationRows: int
    classCounts: tuple[int, ...]
    seconds: float
    history: dict[str, tuple[float, ...]]

    @property
    def classes(self) -> tuple[int, ...]:
        """The classes that its bag held."""
        return tuple(index for index, count in enumerate(self.classCounts) if count)

    @property
    def epochs(self) -> int:
        """Epochs it trained."""
        return len(self.history["loss"])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` is the inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> MemberSummary:
        """The summary that `to_dict` and JSON made `values` of; keys of no meaning here are passed over."""
        known = {name: values[name] for name in cls.__dataclass_fields__}
        known["classCounts"] = tuple(known["classCounts"])
        known["history"] = {name: tuple(curve) for name, curve in known["history"].items()}
        return cls(**known)


@dataclass(frozen=True)
class CNNEnsembleTrainingSummary:
    """What a fit found out.

    Attributes
    ----------
    members : tuple of MemberSummary
    rows : int
        Rows read, those left out included.
    skippedRows : int
        Rows that could not be used and were left out (handleInvalid="skip").
    seconds : float
        Wall time of the fit.
    """

    members: tuple[MemberSummary, ...]
    rows: int
    skippedRows: int
    seconds: float

    @property
    def totalIterations(self) -> int:
        """Epochs of the member that trained longest."""
        return max(member.epochs for member in self.members)

    @property
    def objectiveHistory(self) -> list[float]:
        """Training loss per epoch, the mean of the members that trained so long."""
        losses = [member.history["loss"] for member in self.members]
        return [
            float(np.mean([loss[epoch] for loss in losses if len(loss) > epoch]))
            for epoch in range(self.totalIterations)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the members, which a model keeps itself."""
        return {"rows": self.rows, "skippedRows": self.skippedRows, "seconds": self.seconds}


@dataclass(frozen=True, eq=False, repr=False)
class CNNEnsembleEvaluation:
    """The members and their vote, measured on labelled rows.

    Attributes
    ----------
    confusionMatrix : numpy.ndarray
        Shape (classes, classes), int64: rows of label i that were predicted j.
    memberAccuracies : numpy.ndarray
        Shape (members,): share of the rows that each member gets right alone.
    skippedRows : int
        Rows that could not be used and were left out.
    """

    confusionMatrix: np.ndarray
    memberAccuracies: np.ndarray
    skippedRows: int

    def __repr__(self) -> str:
        members = self.memberAccuracies
        return (
            f"{type(self).__name__}(rows={self.rows}, accuracy={self.accuracy:.4f}, {len(members)} members: "
            f"best {members.max():.4f}, mean {members.mean():.4f}, worst {members.min():.4f})"
        )

    @property
    def rows(self) -> int:
        """Rows that were scored."""
        return int(self.confusionMatrix.sum())

    @property
    def accuracy(self) -> float:
        """Share of the rows that the vote gets right."""
        return float(np.trace(self.confusionMatrix) / self.rows)
