"""What a fit found out: plain dataclasses that JSON can hold.

Nothing here touches Spark.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from spark_cnn_ensemble.votes import CNNEnsembleEvaluation, OutOfBag


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
    retries : int
        How often Spark had tried its task before.
    spilled : bool
        Whether its bag exceeded maxMemoryInMB and was trained on from disk.
    """

    member: int
    rows: int
    examples: int
    validationRows: int
    classCounts: tuple[int, ...]
    seconds: float
    history: dict[str, tuple[float, ...]]
    retries: int = 0
    spilled: bool = False

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
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
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
    unusedRows : int
        Rows that the draw put in no bag.
    resumedMembers : tuple of int
        Members that were found in checkpointDir and not trained again.
    missingMembers : dict of int to str
        Members that the model does not have, and why (see minMembers).
    outOfBag : OutOfBag or None
        The votes on the out-of-bag sample; None where none was drawn, or nothing can be out-of-bag.
    """

    members: tuple[MemberSummary, ...] = field(repr=False)
    rows: int
    skippedRows: int
    seconds: float
    unusedRows: int = 0
    resumedMembers: tuple[int, ...] = ()
    missingMembers: dict[int, str] = field(default_factory=dict)
    outOfBag: OutOfBag | None = None

    @property
    def oobAccuracy(self) -> float | None:
        """Accuracy of the vote on the out-of-bag sample; None where it was not estimated."""
        return self.outOfBag.accuracy if self.outOfBag is not None and self.outOfBag.rows else None

    @property
    def totalIterations(self) -> int:
        """Epochs of the member that trained longest."""
        return max(member.epochs for member in self.members)

    @property
    def objectiveHistory(self) -> list[float]:
        """Training loss per epoch, the mean of the members that trained so long."""
        return self.epochTable.groupby("epoch")["loss"].mean().tolist()

    @property
    def accuracy(self) -> float:
        """Accuracy in training, in the last epoch, the mean of the members."""
        return float(np.mean([member.history["accuracy"][-1] for member in self.members]))

    @property
    def epochTable(self) -> pd.DataFrame:
        """A row for each member and epoch: member, epoch (from 1), loss, accuracy, and val_loss, val_accuracy."""
        tables = [
            pd.DataFrame({"member": member.member, "epoch": range(1, member.epochs + 1), **member.history})
            for member in self.members
        ]
        return pd.concat(tables, ignore_index=True)

    @property
    def memberTable(self) -> pd.DataFrame:
        """A row for each member, with its last epoch's measures and its accuracy on the out-of-bag sample."""
        last = self.epochTable.groupby("member").last().drop(columns="epoch")
        columns = ("rows", "examples", "validationRows", "epochs", "seconds", "retries", "spilled")
        table = pd.DataFrame(
            [{name: getattr(member, name) for name in columns} for member in self.members],
            pd.Index([member.member for member in self.members], name="member"),
        ).join(last)
        if self.outOfBag is not None:
            table["oobAccuracy"] = self.outOfBag.memberAccuracies
        return table

    def to_html(
        self, path: str, evaluation: CNNEnsembleEvaluation | None = None, class_names: Sequence[str] | None = None
    ) -> None:
        """Write a report of this fit to a local file: one page with tables and pictures that needs nothing else.

        Needs matplotlib (`pip install spark_cnn_ensemble[plots]`).

        Parameters
        ----------
        path : str
        evaluation : CNNEnsembleEvaluation, optional
            What `evaluate` found on held-out rows, to be shown as well.
        class_names : sequence of str, optional

        Raises
        ------
        FileNotFoundError
            There is no such folder.
        """
        from spark_cnn_ensemble.report import write_report

        write_report(self, path, evaluation=evaluation, class_names=class_names)

    def to_tensorboard(self, folder: str) -> None:
        """Write the members' losses and accuracies by epoch as TensorBoard's event files, a run a member.

        Parameters
        ----------
        folder : str
            A local folder, or any that TensorFlow can write.
        """
        from spark_cnn_ensemble.worker.member import load_tensorflow

        tf = load_tensorflow()
        kind = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "scalars"})
        for member in self.members:
            with tf.summary.create_file_writer(f"{folder}/member_{member.member}").as_default():
                for name, curve in member.history.items():
                    for epoch, value in enumerate(curve):
                        tf.summary.write(name, tf.constant(value, tf.float32), step=epoch + 1, metadata=kind)

    def facts(self) -> list[tuple[str, str]]:
        """The fit in a few names and values, to read."""
        found = [
            ("members", f"{len(self.members)}"),
            ("rows read", f"{self.rows:,}"),
            ("rows left out", f"{self.skippedRows:,}"),
            ("rows in no bag", f"{self.unusedRows:,}"),
            ("seconds", f"{self.seconds:.1f}"),
            ("epochs", f"{self.totalIterations}"),
            ("accuracy in training, mean member", f"{self.accuracy:.2%}"),
        ]
        if self.resumedMembers:
            found.append(("members found in checkpointDir", _listed(self.resumedMembers)))
        found += [(f"member {member} is missing", why) for member, why in self.missingMembers.items()]
        if self.outOfBag is not None and self.outOfBag.rows:
            low, high = self.outOfBag.accuracyInterval
            found += [
                ("out-of-bag accuracy of the vote", f"{self.outOfBag.accuracy:.2%} ({low:.2%} to {high:.2%})"),
                ("rows of the out-of-bag sample", f"{self.outOfBag.rows:,}"),
                ("rows of it that all members trained on", f"{self.outOfBag.rowsWithoutMember:,}"),
            ]
        return found

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in self.facts()
        )
        return f"<table>{rows}</table>{self.memberTable.to_html(float_format='{:.4g}'.format)}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the members, which a model keeps itself; `from_dict` is the inverse."""
        return {
            "rows": self.rows,
            "skippedRows": self.skippedRows,
            "seconds": self.seconds,
            "unusedRows": self.unusedRows,
            "resumedMembers": list(self.resumedMembers),
            "missingMembers": {str(member): why for member, why in self.missingMembers.items()},
            "outOfBag": None if self.outOfBag is None else self.outOfBag.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any], members: Sequence[MemberSummary]) -> CNNEnsembleTrainingSummary:
        """The summary that `to_dict` and JSON made `values` of."""
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        known["missingMembers"] = {int(member): why for member, why in known.get("missingMembers", {}).items()}
        known["resumedMembers"] = tuple(known.get("resumedMembers", ()))
        out_of_bag = known.get("outOfBag")
        known["outOfBag"] = None if out_of_bag is None else OutOfBag.from_dict(out_of_bag)
        return cls(**{**known, "members": tuple(members)})


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(str(number) for number in numbers)
