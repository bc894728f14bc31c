"""Tables in plain text, as the command line prints them: of a fit's members, and of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from spark_cnn_ensemble.evaluation import CNNEnsembleEvaluation
from spark_cnn_ensemble.summary import CNNEnsembleTrainingSummary
from spark_cnn_ensemble.votes import recall_text

_MOST_CLASSES = 20  # in a confusion matrix
_WIDEST_COLUMN = 10


def member_table(summary: CNNEnsembleTrainingSummary) -> str:
    """One line per member: rows, epochs, seconds, and the accuracies of the epoch whose weights it has.

    Also the classes that it saw, if some member misses one, and that epoch, if some member stopped early.
    """
    stopped = any(member.keptEpoch < member.epochs for member in summary.members)
    lines = [["member", "rows", "epochs", "seconds", "training accuracy", "validation accuracy"]]
    for member in summary.members:
        measured = member.kept
        validation = f"{measured['val_accuracy']:.2%}" if "val_accuracy" in measured else "-"
        accuracy = f"{measured['accuracy']:.2%}"
        lines.append(
            [str(member.member), f"{member.rows:,}", str(member.epochs), f"{member.seconds:.1f}", accuracy, validation]
        )
    # Columns that are worth their place in some fits only.
    if stopped:
        _insert(lines, 3, "epoch kept", [member.keptEpoch for member in summary.members])
    if summary.unseenClasses:
        _insert(lines, 2, "classes", [len(member.classes) for member in summary.members])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.rjust, line, widths)) for line in lines)


def _insert(lines: list[list[str]], place: int, head: str, values: Sequence[int]) -> None:
    for line, value in zip(lines, [head, *values], strict=True):
        line.insert(place, str(value))


def evaluation_text(evaluation: CNNEnsembleEvaluation, names: Sequence[str] | None = None) -> str:
    """The text that `evaluate` prints: accuracy of the vote and of the members, and the confusion matrix.

    `names` are those of the classes; default: their indices.
    """
    members = evaluation.memberAccuracies
    low, high = evaluation.accuracyInterval
    text = (
        f"rows {evaluation.rows:,} ({evaluation.skippedRows:,} left out)\n"
        f"accuracy of the vote {evaluation.accuracy:.2%} ({low:.2%} to {high:.2%})\n"
        f"accuracy of {len(members)} members: best {members.max():.2%}, mean {members.mean():.2%}, "
        f"worst {members.min():.2%}"
    )
    text += f"\nrecall of the classes: {recall_text(evaluation, names)}"
    classes = len(evaluation.confusionMatrix)
    if classes <= _MOST_CLASSES:
        table = _matrix(evaluation.confusionMatrix, [str(n) for n in names or range(classes)], evaluation.recallByLabel)
        text += f"\nconfusion matrix (rows: labels, columns: predictions) and recall:\n{table}"
    return text


def _matrix(matrix: Any, names: Sequence[str], recalls: Any) -> str:
    """A table with a line per label; names too long for a column are cut there."""
    width = max(len(str(matrix.max())), min(max(map(len, names)), _WIDEST_COLUMN)) + 1
    margin = max(map(len, names))
    head = " " * margin + "".join(f"{_cut(name):>{width}}" for name in names) + "  recall"
    lines = [
        f"{name:>{margin}}"
        + "".join(f"{count:{width}d}" for count in row)
        + ("" if math.isnan(recall) else f"{recall:8.1%}")
        for name, row, recall in zip(names, matrix, recalls, strict=True)
    ]
    return "\n".join([head, *lines])


def _cut(name: str) -> str:
    return name if len(name) <= _WIDEST_COLUMN else f"{name[: _WIDEST_COLUMN - 1]}…"
