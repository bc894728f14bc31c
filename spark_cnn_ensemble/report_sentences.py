"""The sentences of a report: what a fit and its votes show, in words. Each is HTML. Called by `report`."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np

from spark_cnn_ensemble import plots
from spark_cnn_ensemble.fit_result import FitResult
from spark_cnn_ensemble.votes import VoteStatistics

_MOST_CONFUSED = 3


def story(summary: FitResult, evaluation: VoteStatistics | None, class_names: Sequence[str] | None) -> list[str]:
    """The paragraphs of a report's summary; see `report.write_report`."""
    paragraphs = [_on_training(summary), _on_out_of_bag(summary)]
    if evaluation is not None:
        paragraphs.append(_on_evaluation(evaluation))
    votes = evaluation if evaluation is not None and evaluation.rows else summary.outOfBag
    if votes is not None and votes.rows:
        names = plots.class_labels(len(votes.confusionMatrix), class_names)
        paragraphs += [_on_growth(votes), _on_confusion(votes, names), _on_agreement(votes)]
    return paragraphs


def _on_training(summary: FitResult) -> str:
    members = len(summary.members)
    bags = _span([member.rows for member in summary.members])
    epochs = _span([member.epochs for member in summary.members])
    used = summary.rows - summary.skippedRows
    text = [
        f"{_count(members, 'member')} {'was' if members == 1 else 'were'} trained on {_count(used, 'row')} "
        f"in {summary.seconds:,.0f} seconds, {'on' if members == 1 else 'each on'} {bags} of them and for "
        f"{epochs} epoch{'' if epochs == '1' else 's'}."
    ]
    if summary.skippedRows:
        text.append(f"{_count(summary.skippedRows, 'row')} could not be used and {_was(summary.skippedRows)} left out.")
    if summary.missingMembers:
        count = len(summary.missingMembers)
        text.append(f"{_count(count, 'more member')} failed and {_was(count)} left out.")
    return " ".join(text)


def _on_out_of_bag(summary: FitResult) -> str:
    votes = summary.outOfBag
    if votes is None:
        return (
            "There is no out-of-bag estimate: it is turned off (oobSampleSize is 0), or every member was trained on "
            "every row, so that no row is left to test it on."
        )
    if not votes.rows:
        return "There is no out-of-bag estimate: every member was trained on every row of the sample."
    return _on_accuracy(votes, f"On {_count(votes.rows, 'sampled row')}, by the members that did not train on them")


def _on_evaluation(evaluation: VoteStatistics) -> str:
    if not evaluation.rows:
        return "The evaluation has no rows."
    return _on_accuracy(evaluation, f"On {_count(evaluation.rows, 'held-out row')}")


def _on_accuracy(votes: VoteStatistics, where: str) -> str:
    low, high = votes.accuracyInterval
    text = (
        f"{where}, the vote is right on <strong>{votes.accuracy:.2%}</strong> (95 % interval {low:.2%} to {high:.2%})."
    )
    alone = votes.memberAccuracies[~np.isnan(votes.memberAccuracies)]
    if len(alone) > 1:
        text += f" A member alone is right on {alone.mean():.2%} on average, {alone.min():.2%} to {alone.max():.2%}."
    return text


def _on_growth(votes: VoteStatistics) -> str:
    """Whether more members would help: what the second half of them gained, compared with chance."""
    table = plots.telling_sizes(votes)
    if len(table) < 2:
        return "Votes of one size do not show whether more members would help."
    last = table.iloc[-1]
    half = table[table["size"] <= max(last["size"] / 2, table["size"].iloc[0])].iloc[-1]
    gain, noise = last["accuracy"] - half["accuracy"], (last["high"] - last["low"]) / 2
    fewer = "1 member gets" if half["size"] == 1 else f"{int(half['size'])} members together get"
    text = (
        f"Would more members help? {fewer} {half['accuracy']:.2%} right, {int(last['size'])} get {last['accuracy']:.2%}"
    )
    if round(min(gain, 1 - last["accuracy"]), 4) <= 0:
        return f"{text}: the curve has levelled off, and more members are unlikely to help."
    text += f": {100 * gain:.2f} points more"
    if gain < noise:
        return (
            f"{text}, which is within the uncertainty of the estimate (± {100 * noise:.2f} points). Gains shrink with "
            "size, so twice as many members should gain no more than that."
        )
    return (
        f"{text}, beyond the uncertainty of the estimate (± {100 * noise:.2f} points). More members are likely to help."
    )


def _on_confusion(votes: VoteStatistics, names: Sequence[str]) -> str:
    matrix = votes.confusionMatrix
    errors = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-errors, axis=None, kind="stable")[:_MOST_CONFUSED]
    pairs = [divmod(int(place), len(matrix)) for place in order if errors.ravel()[place]]
    if not pairs:
        return "No row is predicted wrongly."
    text = [
        f"{_quoted(names[label])} for {_quoted(names[taken])} ({errors[label, taken]:,} of "
        f"{_count(int(matrix[label].sum()), 'row')})"
        for label, taken in pairs
    ]
    wrong = int(errors.sum())
    return f"The most frequent errors: {_joined(text)}. In all, {_count(wrong, 'row')} {_was(wrong)} predicted wrongly."


def _on_agreement(votes: VoteStatistics) -> str:
    if len(votes.memberAccuracies) < 2:
        return "One member does not show how sure the ensemble is, as it always agrees with itself."
    table = votes.coverage
    first = table.iloc[0]
    if first["minimumShare"] < 1:
        return "How sure is the vote? There is no row on which all members that vote agree."
    text = (
        f"How sure is the vote? On {first['coverage']:.1%} of the rows all members that vote agree, and "
        f"{first['accuracy']:.2%} of these are right"
    )
    if len(table) == 1:
        return f"{text}."
    rest = 1 - first["coverage"]
    right = (votes.accuracy - first["coverage"] * first["accuracy"]) / rest
    return f"{text}; of the other {rest:.1%}, {max(right, 0):.2%} are."


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _was(number: int) -> str:
    return "was" if number == 1 else "were"


def _span(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _quoted(name: str) -> str:
    return f"<q>{html.escape(name)}</q>"


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
