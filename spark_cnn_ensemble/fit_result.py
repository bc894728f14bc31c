"""The plain record of a fit, with the checks of its JSON form.

Dataclasses, numpy and pandas; nothing here uses Spark. The public class with ways to show the record is in `summary`.
Called by the estimator, which fills the record, and by `model`, which saves and loads it; `plots` and `report` read it.
The module is long because each entry of the record is documented, tabled and checked here.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from spark_cnn_ensemble.checked import check_classes, check_each, check_int, check_list, check_numbers, shortened
from spark_cnn_ensemble.votes import OutOfBag, recall_text

R = TypeVar("R", bound="FitResult")

_MEMBER_COLUMNS = (
    "rows",
    "examples",
    "validationRows",
    "classes",
    "epochs",
    "keptEpoch",
    "seconds",
    "retries",
    "spilled",
)
_MOST_NAMED_CLASSES = 5


@dataclass(frozen=True)
class MemberSummary:
    """How one member was trained.

    Attributes
    ----------
    member : int
        Index in the fit, from 0.
    rows : int
        Rows in its bag.
    examples : int
        Rows in its bag, each counted as often as it has copies: the images of one epoch.
    validationRows : int
        Rows that it validated on.
    classCounts : tuple of int, or of float
        Rows of each class in its bag, those of weight 0 left out; the sums of the probabilities if labels are soft.
    seconds : float
        Wall time of its training, without the wait for its rows.
    history : dict of str to tuple of float
        One value per epoch: "loss" and "accuracy" as measured while training; "val_loss" and "val_accuracy" if there
        were validation rows. Accuracies are 0 to 1.
    retries : int
        Trainings before the one whose weights it has: attempts of its task that failed, and, after a lost executor or
        with spark.speculation, trainings whose result was not used.
    spilled : bool
        Whether its bag exceeded maxMemoryInMB, so that it trained from disk.
    keptEpoch : int
        The epoch, from 1, whose weights it has: the best one if earlyStoppingPatience is set, else the last. 0 is read
        as the last.

    Examples
    --------
    >>> member = model.members[0]
    >>> member.member, member.epochs, member.classes
    (0, 4, (0, 1, 2, 3, 4, 5, 6, 7, 8, 9))
    """

    member: int
    rows: int
    examples: int
    validationRows: int
    classCounts: tuple[float, ...]
    seconds: float
    history: dict[str, tuple[float, ...]]
    retries: int = 0
    spilled: bool = False
    keptEpoch: int = 0  # what version 0.1.0 saved does not have it

    def __post_init__(self) -> None:
        if not self.keptEpoch:
            object.__setattr__(self, "keptEpoch", self.epochs)

    @property
    def kept(self) -> dict[str, float]:
        """The measures of `history` in the epoch whose weights it has."""
        return {name: curve[self.keptEpoch - 1] for name, curve in self.history.items()}

    @property
    def classes(self) -> tuple[int, ...]:
        """The classes in its bag."""
        return tuple(index for index, count in enumerate(self.classCounts) if count)

    @property
    def epochs(self) -> int:
        """Epochs that it trained for."""
        return len(self.history["loss"])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` is the inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> MemberSummary:
        """The inverse of `to_dict` and JSON.

        Parameters
        ----------
        values : dict
            As `to_dict` gives them; unknown keys are ignored.

        Returns
        -------
        MemberSummary
        """
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        known["classCounts"] = tuple(known["classCounts"])
        known["history"] = {name: tuple(curve) for name, curve in known["history"].items()}
        return cls(**known)


@dataclass(frozen=True)
class InitialLayers:
    """What members took from initialModel.

    Attributes
    ----------
    members : tuple of int
        The members that this holds for.
    taken : dict of str to tuple of tuple of int
        The layers that they started with, each with the shapes of its weights.
    fresh : dict of str to str
        The layers that started at random, each with the reason.
    """

    members: tuple[int, ...]
    taken: dict[str, tuple[tuple[int, ...], ...]]
    fresh: dict[str, str]

    def text(self) -> str:
        """One clause, such as "members 0, 1 start with 2 of 3 layers (a, b); c is new: it has 3, not 4"."""
        who = f"member{'' if len(self.members) == 1 else 's'} {_ranges(self.members)}"
        start = "starts" if len(self.members) == 1 else "start"
        layers = len(self.taken) + len(self.fresh)
        new = "".join(f"; {name} is new: {why}" for name, why in self.fresh.items())
        return f"{who} {start} with {len(self.taken)} of {layers} layers ({', '.join(self.taken)}){new}"

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> InitialLayers:
        """The inverse of `dataclasses.asdict` and JSON."""
        taken = {name: tuple(tuple(shape) for shape in shapes) for name, shapes in values["taken"].items()}
        return cls(tuple(values["members"]), taken, dict(values["fresh"]))


def shapes_text(shapes: Sequence[Sequence[int]]) -> str:
    """Shapes of a layer's weights, such as 5x5x1x16 + 16."""
    return " + ".join("x".join(map(str, shape)) or "1 number" for shape in shapes)


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers, runs of them as first-last."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    return ", ".join("-".join(map(str, run)) for run in runs)


@dataclass(frozen=True)
class FitResult:
    """The record of a fit; `CNNEnsembleTrainingSummary` documents the attributes."""

    members: tuple[MemberSummary, ...] = field(repr=False)
    rows: int
    skippedRows: int
    seconds: float
    unusedRows: int = 0
    resumedMembers: tuple[int, ...] = ()
    missingMembers: dict[int, str] = field(default_factory=dict)
    outOfBag: OutOfBag | None = None
    initialLayers: tuple[InitialLayers, ...] = ()

    @property
    def oobAccuracy(self) -> float | None:
        """Accuracy of the vote on the out-of-bag sample, 0 to 1; None if it was not estimated."""
        return self.outOfBag.accuracy if self.outOfBag is not None and self.outOfBag.rows else None

    @property
    def totalIterations(self) -> int:
        """Number of epochs of the member that trained longest."""
        return max(member.epochs for member in self.members)

    @property
    def objectiveHistory(self) -> list[float]:
        """Training loss per epoch, the mean over the members that trained for that many epochs."""
        return self.epochTable.groupby("epoch")["loss"].mean().tolist()

    @property
    def accuracy(self) -> float:
        """Training accuracy in the epoch whose weights a member has, 0 to 1, the mean over the members."""
        return float(np.mean([member.kept["accuracy"] for member in self.members]))

    @property
    def unseenClasses(self) -> dict[int, tuple[int, ...]]:
        """By member, the classes that other members saw and it did not; members without such a class are left out."""
        seen = {label for member in self.members for label in member.classes}
        unseen = {member.member: tuple(sorted(seen.difference(member.classes))) for member in self.members}
        return {member: classes for member, classes in unseen.items() if classes}

    @property
    def epochTable(self) -> pd.DataFrame:
        """One row per member and epoch.

        Columns member, epoch (from 1), loss, accuracy, and val_loss and val_accuracy if there were validation rows.
        """
        tables = [
            pd.DataFrame({"member": member.member, "epoch": range(1, member.epochs + 1), **member.history})
            for member in self.members
        ]
        return pd.concat(tables, ignore_index=True)

    @property
    def memberTable(self) -> pd.DataFrame:
        """One row per member, indexed by member.

        Columns rows, examples, validationRows, classes (the number of classes in its bag), epochs, keptEpoch, seconds,
        retries, spilled, the measures of the epoch whose weights the member has (loss, accuracy, and val_loss and
        val_accuracy if there were validation rows), and oobAccuracy, the member's accuracy on the out-of-bag sample if
        there is one.
        """
        table = pd.DataFrame(
            [
                {
                    **{name: getattr(member, name) for name in _MEMBER_COLUMNS},
                    **member.kept,
                    "classes": len(member.classes),
                }
                for member in self.members
            ],
            pd.Index([member.member for member in self.members], name="member"),
        )
        if self.outOfBag is not None:
            table["oobAccuracy"] = self.outOfBag.memberAccuracies
        return table

    def facts(self) -> list[tuple[str, str]]:
        """The fit as pairs of a name and a value, both text, for reports.

        Returns
        -------
        list of (str, str)
        """
        pairs = [
            ("members", f"{len(self.members)}"),
            ("rows read", f"{self.rows:,}"),
            ("rows left out", f"{self.skippedRows:,}"),
            ("rows in no bag", f"{self.unusedRows:,}"),
            ("seconds", f"{self.seconds:.1f}"),
            ("epochs", f"{self.totalIterations}"),
            ("training accuracy, mean member", f"{self.accuracy:.2%}"),
        ]
        if self.initialLayers:
            pairs.append(("layers from initialModel", "; ".join(layers.text() for layers in self.initialLayers)))
        if self.resumedMembers:
            pairs.append(("members found in checkpointDir", _listed(self.resumedMembers)))
        if unseen := unseen_text(self):
            pairs.append(("members that never saw a class", unseen))
        pairs += [(f"member {member} is missing", why) for member, why in self.missingMembers.items()]
        if self.outOfBag is not None and self.outOfBag.rows:
            low, high = self.outOfBag.accuracyInterval
            pairs += [
                ("out-of-bag accuracy of the vote", f"{self.outOfBag.accuracy:.2%} ({low:.2%} to {high:.2%})"),
                (
                    "members that vote on an out-of-bag row",
                    f"{self.outOfBag.votersPerRow:.1f} of {len(self.members)} on average",
                ),
                ("out-of-bag recall of the classes", recall_text(self.outOfBag)),
                ("rows of the out-of-bag sample", f"{self.outOfBag.rows:,}"),
                ("rows of the sample that all members trained on", f"{self.outOfBag.rowsWithoutMember:,}"),
            ]
        return pairs

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the members, which a model saves itself; `from_dict` is the inverse.

        Returns
        -------
        dict
        """
        return {
            "rows": self.rows,
            "skippedRows": self.skippedRows,
            "seconds": self.seconds,
            "unusedRows": self.unusedRows,
            "resumedMembers": list(self.resumedMembers),
            "missingMembers": {str(member): why for member, why in self.missingMembers.items()},
            "outOfBag": None if self.outOfBag is None else self.outOfBag.to_dict(),
            "initialLayers": [asdict(layers) for layers in self.initialLayers],
        }

    @classmethod
    def from_dict(
        cls: type[R],
        values: dict[str, Any],
        members: Sequence[MemberSummary],
        class_names: tuple[str, ...] | None = None,
    ) -> R:
        """The inverse of `to_dict` and JSON.

        Parameters
        ----------
        values : dict
            As `to_dict` gives them.
        members : sequence of MemberSummary
        class_names : tuple of str, optional
        """
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        known["missingMembers"] = {int(member): why for member, why in known.get("missingMembers", {}).items()}
        known["resumedMembers"] = tuple(known.get("resumedMembers", ()))
        known["initialLayers"] = tuple(map(InitialLayers.from_dict, known.get("initialLayers", ())))
        out_of_bag = known.get("outOfBag")
        known["outOfBag"] = None if out_of_bag is None else OutOfBag.from_dict(out_of_bag, class_names)
        return cls(**{**known, "members": tuple(members)})


def unseen_text(result: FitResult, class_names: Sequence[str] | None = None) -> str:
    """Which classes how many members never saw, in words; empty if each saw every class that others saw."""
    unseen = result.unseenClasses
    if not unseen:
        return ""
    members = Counter(label for classes in unseen.values() for label in classes)
    names = [
        f"class {label if class_names is None else repr(str(class_names[label]))} "
        f"({count} member{'' if count == 1 else 's'})"
        for label, count in members.most_common(_MOST_NAMED_CLASSES)
    ]
    if len(members) > len(names):
        names.append(f"{len(members) - len(names)} more classes")
    return f"{len(unseen)} of {len(result.members)}: {', '.join(names)}"


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(str(number) for number in numbers)


def check_member(member: dict[str, Any], classes: int) -> None:
    """Check a member's report as JSON holds it, before anything is made from it.

    Parameters
    ----------
    member : dict
        As `MemberSummary.to_dict` gives it, from a file that anyone may have written.
    classes : int
        Number of classes.

    Raises
    ------
    KeyError, TypeError, AttributeError, ValueError
        An entry is missing, has another type, or is out of range.
    """
    for name in ("member", "rows", "examples", "validationRows"):
        check_int(name, member[name])
    check_int("retries", member.get("retries", 0))
    check_each(bool, "spilled", [member.get("spilled", False)], 1)
    check_numbers("seconds", [member["seconds"]], 1, 0)
    # Sums of soft labels are all floats.
    kind = int if int in map(type, check_list(member["classCounts"])) else float
    for count in check_each(kind, "classCounts", member["classCounts"], classes):
        if not 0 <= count < 2**63:
            raise ValueError(f"classCounts is {shortened(count)} instead of a finite number >= 0")
    history = member["history"]
    epochs = len(check_list(history["loss"]))
    if not epochs or not set(history) <= {"loss", "accuracy", "val_loss", "val_accuracy"}:
        raise ValueError("history has no epochs, or an unknown measure")
    for name in {"accuracy", *history}:
        check_numbers(name, history[name], epochs, *((0, 1) if name.endswith("accuracy") else ()))
    check_int("keptEpoch", member.get("keptEpoch", 0), 0, epochs + 1)


def check_fit_result(result: dict[str, Any], members: int, classes: int) -> None:
    """Check a fit's record as JSON holds it, before anything is made from it.

    Parameters
    ----------
    result : dict
        As `FitResult.to_dict` gives it, from a file that anyone may have written.
    members, classes : int
        Number of members and of classes.

    Raises
    ------
    KeyError, TypeError, AttributeError, ValueError
        See `check_member`.
    """
    for name in ("rows", "skippedRows"):
        check_int(name, result[name])
    check_int("unusedRows", result.get("unusedRows", 0))
    check_numbers("seconds", [result["seconds"]], 1, 0)
    for member in check_list(result.get("resumedMembers", [])):
        check_int("resumedMembers", member)
    for member, why in result.get("missingMembers", {}).items():
        check_int("missingMembers", int(member))
        check_each(str, "missingMembers", [why], 1)
    for layers in check_list(result.get("initialLayers", [])):
        for member in check_list(layers["members"]):
            check_int("members of initialLayers", member)
        for shapes in layers["taken"].values():
            for shape in check_list(shapes):
                for side in check_list(shape):
                    check_int("taken of initialLayers", side)
        check_each(str, "fresh of initialLayers", list(layers["fresh"].values()), len(layers["fresh"]))
    votes = result.get("outOfBag")
    if votes is None:
        return
    if votes["numClasses"] != classes:
        raise ValueError("numClasses of the out-of-bag votes differs from that of the networks")
    rows = len(check_list(votes["labels"]))
    check_classes("labels", votes["labels"], rows, 0, classes)
    check_classes("predictions", votes["predictions"], rows, -1, classes)
    if len(check_list(votes["votes"])) != rows:
        raise ValueError("votes and labels differ in length")
    for row in votes["votes"]:
        check_classes("votes", row, members, -1, classes)
    for row in check_list(votes["disputedRows"]):
        check_numbers("uncertainty", [row["uncertainty"]], 1, 0, 1)
        check_int("label", row["label"], 0, classes)
        check_each(int, "votes", row["votes"], classes)
        base64.b64decode(row["png"], validate=True)  # reports put it into HTML
