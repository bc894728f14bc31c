"""The sentences of a report, which say in words what a fit and its votes show.

`story` is HTML, for `report`, which has the tables and pictures. The command line prints `voters` too.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np

from spark_cnn_ensemble import plots
from spark_cnn_ensemble.fit_result import FitResult, unseen_text
from spark_cnn_ensemble.votes import OutOfBag, VoteStatistics, recall_text

_MOST_CONFUSED = 3
_FEWEST_MEMBERS = 5  # that must vote before a flat curve says anything; the vote gains most up to three to five


def story(summary: FitResult, evaluation: VoteStatistics | None, class_names: Sequence[str] | None) -> list[str]:
    """The paragraphs of a report's summary; see `report.write_report`."""
    paragraphs = [_training(summary), _out_of_bag(summary)]
    if unseen := unseen_text(summary, class_names):
        paragraphs.insert(1, f"Members that never saw a class that others saw: {html.escape(unseen)}.")
    if evaluation is not None:
        paragraphs.append(_held_out(evaluation))
    votes = evaluation if evaluation is not None and evaluation.rows else summary.outOfBag
    if votes is not None and votes.rows:
        names = plots.class_labels(len(votes.confusionMatrix), class_names)
        paragraphs += [
            _gain_from_more_members(votes),
            f"Recall by class: {html.escape(recall_text(votes, class_names))}.",
            _most_frequent_errors(votes, names),
            _agreement(votes),
        ]
    return paragraphs


def _training(summary: FitResult) -> str:
    members = len(summary.members)
    bags = _span([member.rows for member in summary.members])
    epochs = _span([member.epochs for member in summary.members])
    text = [
        f"{_count(members, 'member')} {_was(members)} trained in {summary.seconds:,.0f} seconds, "
        f"{'' if members == 1 else 'each '}on {bags} of {_count(summary.rows - summary.skippedRows, 'row')} and for "
        f"{epochs} epoch{'' if epochs == '1' else 's'}."
    ]
    if any(member.keptEpoch < member.epochs for member in summary.members):
        kept = _span([member.keptEpoch for member in summary.members])
        text.append(f"Training stopped early, with the weights of the epoch of the lowest validation loss: {kept}.")
    if summary.skippedRows:
        text.append(f"{_count(summary.skippedRows, 'row')} could not be used and {_was(summary.skippedRows)} left out.")
    if summary.missingMembers:
        count = len(summary.missingMembers)
        text.append(f"{_count(count, 'more member')} failed and {_was(count)} left out.")
    return " ".join(text)


def _out_of_bag(summary: FitResult) -> str:
    votes = summary.outOfBag
    if votes is None:
        return (
            "Out-of-bag accuracy was not estimated: it is turned off (oobSampleSize is 0), or every member was trained "
            "on every row, so that no row is left to test it on."
        )
    if not votes.rows:
        return "Out-of-bag accuracy was not estimated: every member was trained on every row of the sample."
    return f"{_accuracy(votes, 'Out-of-bag accuracy', 'sampled row')} {voters(summary)}{_single_members(votes)}"


def voters(summary: FitResult) -> str:
    """Sentences on how many members vote on an out-of-bag row, and what that means for the accuracy."""
    votes = summary.outOfBag
    assert votes is not None
    members = votes.votes.shape[1]
    text = "On each row, only the members that were not trained on it vote"
    if members > 1:
        text += f": {votes.votersPerRow:.1f} of {members} on average"
    text += "."
    if summary.initialLayers:
        return (
            f"{text} They started from initialModel: if that was trained on the row, they know it, and the estimate is "
            "optimistic; evaluate held-out rows."
        )
    if members == 1:
        return text
    return (
        f"{text} So the estimate is pessimistic: on other rows of the same kind, the vote of all {members} may be "
        "better than the interval says."
    )


def _held_out(evaluation: VoteStatistics) -> str:
    if not evaluation.rows:
        return "The evaluation has no rows."
    return f"{_accuracy(evaluation, 'Accuracy', 'held-out row')}{_single_members(evaluation)}"


def _accuracy(votes: VoteStatistics, measure: str, kind: str) -> str:
    low, high = votes.accuracyInterval
    return (
        f"{measure} of the vote: <strong>{votes.accuracy:.2%}</strong> (95 % confidence interval {low:.2%} to "
        f"{high:.2%}), measured on {_count(votes.rows, kind)}."
    )


def _single_members(votes: VoteStatistics) -> str:
    """A sentence on the members' own accuracies, with a space before it; empty if fewer than two voted."""
    alone = votes.memberAccuracies[~np.isnan(votes.memberAccuracies)]
    if len(alone) < 2:
        return ""
    return f" Single members reach {alone.mean():.2%} on average, from {alone.min():.2%} to {alone.max():.2%}."


def _gain_from_more_members(votes: VoteStatistics) -> str:
    """Whether more members would help: the gain from doubling to the present size, compared with chance.

    Votes of few members do not show that more would not help: two vote about as well as one, as they can only tie.
    """
    table = plots.sizes_with_enough_rows(votes)
    if len(table) < 2:
        return "Would more members help? Votes of one size do not show it."
    last = table.iloc[-1]
    half = table[table["size"] <= max(last["size"] / 2, table["size"].iloc[0])].iloc[-1]
    gain, margin = last["accuracy"] - half["accuracy"], (last["high"] - last["low"]) / 2
    vote = "of a majority vote is" if isinstance(votes, OutOfBag) else "is"
    text = (
        f"Would more members help? Accuracy {vote} {half['accuracy']:.2%} with {_count(int(half['size']), 'member')} "
        f"and {last['accuracy']:.2%} with {int(last['size'])}"
    )
    if last["size"] < _FEWEST_MEMBERS and gain < margin and last["accuracy"] < 1:
        return (
            f"{text}. Votes of so few do not show whether more would help: fit with more members and compare on "
            "held-out rows."
        )
    if round(min(gain, 1 - last["accuracy"]), 4) <= 0:
        return f"{text}: it has levelled off, and more members are unlikely to help."
    text += f". The gain of {100 * gain:.2f} points is"
    if gain < margin:
        return (
            f"{text} within the margin of error (± {100 * margin:.2f} points). Gains shrink as members are added: "
            "doubling their number again should add less."
        )
    return f"{text} larger than the margin of error (± {100 * margin:.2f} points): more members are likely to help."


def _most_frequent_errors(votes: VoteStatistics, names: Sequence[str]) -> str:
    matrix = votes.confusionMatrix
    errors = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-errors, axis=None, kind="stable")[:_MOST_CONFUSED]
    pairs = [divmod(int(place), len(matrix)) for place in order if errors.ravel()[place]]
    if not pairs:
        return "Every row is predicted correctly."
    text = [
        f"{_quoted(names[label])} predicted as {_quoted(names[predicted])} ({errors[label, predicted]:,} of "
        f"{_count(int(matrix[label].sum()), 'row')})"
        for label, predicted in pairs
    ]
    wrong = int(errors.sum())
    return f"Most frequent errors: {_joined(text)}. In total, {_count(wrong, 'row')} {_was(wrong)} predicted wrongly."


def _agreement(votes: VoteStatistics) -> str:
    question = "How certain is the vote?"
    if len(votes.memberAccuracies) < 2:
        return f"{question} One member does not show it: agreement needs at least two."
    table = votes.coverage
    if not len(table):
        return f"{question} No two members vote on the same row, so that agreement cannot be measured."
    unanimous = table.iloc[0]
    if unanimous["minimumShare"] < 1:
        return f"{question} No prediction has all votes."
    rows = "rows with two votes or more" if isinstance(votes, OutOfBag) else "rows"
    text = (
        f"{question} All members that vote agree on {unanimous['coverage']:.1%} of the {rows}, and "
        f"{unanimous['accuracy']:.2%} of these predictions are right"
    )
    if len(table) == 1:
        return f"{text}."
    others = 1 - unanimous["coverage"]
    right = (table["accuracy"].iloc[-1] - unanimous["coverage"] * unanimous["accuracy"]) / others
    return f"{text}. On the other {others:.1%} of the rows, {max(right, 0):.2%} are right."


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
