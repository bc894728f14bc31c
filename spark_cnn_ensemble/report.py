"""A report of a fit: one HTML page that tells it in sentences, tables and pictures, and needs nothing else.

Called by `CNNEnsembleTrainingSummary.to_html`. The page asks the network for nothing, fits a phone, a desk and paper,
and follows the reader's light or dark theme: the pictures are inline SVG whose text and axes take the page's colour.
"""

from __future__ import annotations

import functools
import hashlib
import html
import io
import os
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spark_cnn_ensemble import plots

if TYPE_CHECKING:
    from spark_cnn_ensemble.summary import CNNEnsembleTrainingSummary
    from spark_cnn_ensemble.votes import DisputedRow, VoteStatistics

_MOST_OPEN_MEMBERS = 20  # more rows of the table of members are folded away
_MOST_CONFUSED = 3
_INK = "#010203"  # for text and axes, while a picture is drawn
# A picture's colour -> the page's, which follow the theme.
_THEMED = {_INK: "currentColor", plots.BLUE.lower(): "var(--blue)", plots.ORANGE.lower(): "var(--orange)"}
_INKED = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")

_CSS = """
:root { color-scheme: light dark; --page: #ffffff; --ink: #1c2024; --quiet: #5a636d; --line: #d5dae0;
  --blue: #0072b2; --orange: #d55e00; }
@media screen and (prefers-color-scheme: dark) {
  :root { --page: #15181c; --ink: #e4e7eb; --quiet: #a3acb7; --line: #3a424b;
    --blue: #56b4e9; --orange: #e69f00; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 68rem; background: var(--page); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 1rem; }
h3 { font-size: 1rem; margin: 1.75rem 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .75rem; padding-top: .5rem; border-top: 1px solid var(--line); }
p, li { max-width: 44rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
.members { overflow-x: auto; overflow-wrap: normal; }
.members th, .members td { text-align: right; padding: .3rem .5rem; }
.members thead th { vertical-align: bottom; }
th { font-weight: 600; }
.facts th { font-weight: 400; color: var(--quiet); }
summary { cursor: pointer; margin-bottom: .75rem; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1.75rem 2rem; }
figure { margin: 0; min-width: 0; break-inside: avoid; }
figcaption { font-size: .85rem; line-height: 1.4; color: var(--quiet); margin-top: .4rem; }
figcaption b { color: var(--ink); }
svg { display: block; width: 100%; max-width: 34rem; height: auto; }
svg text { font-family: inherit !important; }
.images { display: grid; grid-template-columns: repeat(auto-fill, minmax(7rem, 1fr)); gap: 1rem; }
.images img { display: block; width: 100%; image-rendering: pixelated; border: 1px solid var(--line); }
@page { margin: 14mm; }
@media print {
  body { padding: 0; max-width: none; font-size: 10pt; }
  h2, h3, h3 + p { break-after: avoid; }
  h2 { margin-top: 1.5rem; }
  tr { break-inside: avoid; }
  thead { display: table-header-group; }
  .members { overflow: visible; }
  .members table { font-size: 7.5pt; }
  .members th, .members td { padding: .15rem .3rem; }
  .pictures { display: block; orphans: 1; widows: 1; }
  .pictures figure { display: inline-block; width: 48%; margin: 0 1% 1rem 0; vertical-align: top; }
  .images { grid-template-columns: repeat(6, 1fr); }
  details:not([open])::details-content { content-visibility: visible; block-size: auto; }
}
"""

# Column of memberTable -> its head, how its values are written, and the value that is not worth a column.
_COLUMNS: dict[str, tuple[str, str, Any]] = {
    "oobAccuracy": ("out-of-bag accuracy", "{:.2%}", None),
    "val_accuracy": ("validation accuracy", "{:.2%}", None),
    "accuracy": ("accuracy in training", "{:.2%}", None),
    "val_loss": ("validation loss", "{:.4f}", None),
    "loss": ("loss in training", "{:.4f}", None),
    "epochs": ("epochs", "{:.0f}", None),
    "seconds": ("seconds", "{:.1f}", None),
    "rows": ("rows", "{:,.0f}", None),
    "examples": ("rows with repeats", "{:,.0f}", None),
    "validationRows": ("validation rows", "{:,.0f}", 0),
    "retries": ("retries", "{:.0f}", 0),
    "spilled": ("trained from disk", "{}", False),
}


def write_report(
    summary: CNNEnsembleTrainingSummary,
    path: str | os.PathLike[str],
    title: str = "An ensemble of CNNs, as trained",
    evaluation: VoteStatistics | None = None,
    class_names: Sequence[str] | None = None,
) -> None:
    """Write a fit's report to a local file, whole or not at all.

    Parameters
    ----------
    summary : CNNEnsembleTrainingSummary
        `model.summary`.
    path : str or os.PathLike
        The file, which is replaced if it is there. Its folder must exist.
    title : str
    evaluation : VoteStatistics, optional
        What `model.evaluate(dataset)` gave on held-out rows; it is then reported beside the out-of-bag estimate.
    class_names : sequence of str, optional
        A name for each class; default: the class indices.

    Raises
    ------
    FileNotFoundError
        The folder does not exist.
    ModuleNotFoundError
        matplotlib is not installed.
    ValueError
        There is not one name for each class.
    """
    file = Path(path)
    if not file.parent.is_dir():
        raise FileNotFoundError(f"The folder '{file.parent}' does not exist; make it, or name another for the report.")
    page = _page(summary, title, evaluation, class_names)
    partial = file.with_name(f".{file.name}.tmp")
    try:
        partial.write_text(page, encoding="utf-8")
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def _page(
    summary: CNNEnsembleTrainingSummary,
    title: str,
    evaluation: VoteStatistics | None,
    class_names: Sequence[str] | None,
) -> str:
    out_of_bag = summary.outOfBag
    sections = [
        ("In short", "".join(f"<p>{sentences}</p>" for sentences in _story(summary, evaluation, class_names))),
        ("The fit in figures", _facts(summary.facts())),
        ("Training", _training(summary)),
    ]
    if evaluation is not None and evaluation.rows:
        sections.append(("The vote on held-out rows", _votes(evaluation, class_names)))
    if out_of_bag is not None and out_of_bag.rows:
        sections.append(("The vote on out-of-bag rows", _votes(out_of_bag, class_names)))
    sections.append(("Members", _members(summary)))
    body = "".join(f"<section><h2>{head}</h2>{content}</section>\n" for head, content in sections)
    name = html.escape(title)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n<h1>{name}</h1>\n{body}</body>\n</html>\n"
    )


# ---- the story, in sentences; each is HTML


def _story(
    summary: CNNEnsembleTrainingSummary, evaluation: VoteStatistics | None, class_names: Sequence[str] | None
) -> list[str]:
    paragraphs = [_told_training(summary), _told_out_of_bag(summary)]
    if evaluation is not None:
        paragraphs.append(_told_evaluation(evaluation))
    votes = evaluation if evaluation is not None and evaluation.rows else summary.outOfBag
    if votes is not None and votes.rows:
        names = plots.class_labels(len(votes.confusionMatrix), class_names)
        paragraphs += [_told_growth(votes), _told_confusion(votes, names), _told_agreement(votes)]
    return paragraphs


def _told_training(summary: CNNEnsembleTrainingSummary) -> str:
    members = len(summary.members)
    bags = _span([member.rows for member in summary.members])
    epochs = _span([member.epochs for member in summary.members])
    used = summary.rows - summary.skippedRows
    told = [
        f"{_count(members, 'member')} {'was' if members == 1 else 'were'} trained on {_count(used, 'row')} "
        f"in {summary.seconds:,.0f} seconds, {'on' if members == 1 else 'each on'} {bags} of them and for "
        f"{epochs} epoch{'' if epochs == '1' else 's'}."
    ]
    if summary.skippedRows:
        told.append(f"{_count(summary.skippedRows, 'row')} could not be used and {_was(summary.skippedRows)} left out.")
    if summary.missingMembers:
        count = len(summary.missingMembers)
        told.append(f"{_count(count, 'more member')} failed and {_was(count)} left out.")
    return " ".join(told)


def _told_out_of_bag(summary: CNNEnsembleTrainingSummary) -> str:
    votes = summary.outOfBag
    if votes is None:
        return (
            "There is no out-of-bag estimate: none was asked for (oobSampleSize is 0), or every member was trained on "
            "every row, which leaves none to test it on."
        )
    if not votes.rows:
        return "There is no out-of-bag estimate: every member was trained on every row of the sample."
    return _told_accuracy(votes, f"On {_count(votes.rows, 'sampled row')}, by the members that did not train on them")


def _told_evaluation(evaluation: VoteStatistics) -> str:
    if not evaluation.rows:
        return "The evaluation has no rows, and nothing to show."
    return _told_accuracy(evaluation, f"On {_count(evaluation.rows, 'held-out row')}")


def _told_accuracy(votes: VoteStatistics, where: str) -> str:
    low, high = votes.accuracyInterval
    told = (
        f"{where}, the vote is right on <strong>{votes.accuracy:.2%}</strong> (95 % interval {low:.2%} to {high:.2%})."
    )
    alone = votes.memberAccuracies[~np.isnan(votes.memberAccuracies)]
    if len(alone) > 1:
        told += f" A member alone is right on {alone.mean():.2%} on average, {alone.min():.2%} to {alone.max():.2%}."
    return told


def _told_growth(votes: VoteStatistics) -> str:
    """Whether more members would help: what the second half of them has gained, and how that compares to chance."""
    table = plots.telling_sizes(votes)
    if len(table) < 2:
        return "Whether more members would help cannot be told from votes of one size."
    last = table.iloc[-1]
    half = table[table["size"] <= max(last["size"] / 2, table["size"].iloc[0])].iloc[-1]
    gain, noise = last["accuracy"] - half["accuracy"], (last["high"] - last["low"]) / 2
    fewer = "1 member gets" if half["size"] == 1 else f"{int(half['size'])} members together get"
    told = (
        f"Would more members help? {fewer} {half['accuracy']:.2%} right, {int(last['size'])} get {last['accuracy']:.2%}"
    )
    if round(min(gain, 1 - last["accuracy"]), 4) <= 0:
        return f"{told}: the curve has levelled off, and more are unlikely to help."
    told += f": {100 * gain:.2f} points more"
    if gain < noise:
        return (
            f"{told}, which is within the uncertainty of the estimate (± {100 * noise:.2f} points). Gains shrink with "
            "size, so that twice as many should gain no more than that."
        )
    return f"{told}, beyond the uncertainty of the estimate (± {100 * noise:.2f} points). More are likely to help."


def _told_confusion(votes: VoteStatistics, names: Sequence[str]) -> str:
    matrix = votes.confusionMatrix
    errors = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-errors, axis=None, kind="stable")[:_MOST_CONFUSED]
    pairs = [divmod(int(place), len(matrix)) for place in order if errors.ravel()[place]]
    if not pairs:
        return "No row is confused with another class."
    told = [
        f"{_quoted(names[label])} for {_quoted(names[taken])} ({errors[label, taken]:,} of "
        f"{_count(int(matrix[label].sum()), 'row')})"
        for label, taken in pairs
    ]
    return f"What is mistaken most: {_joined(told)}. In all, {_count(int(errors.sum()), 'row')} went wrong."


def _told_agreement(votes: VoteStatistics) -> str:
    if len(votes.memberAccuracies) < 2:
        return "How sure the ensemble is cannot be told, as one member always agrees with itself."
    table = votes.coverage
    first = table.iloc[0]
    if first["minimumShare"] < 1:
        return "How sure is it? On no row do all members that vote agree."
    told = (
        f"How sure is it? On {first['coverage']:.1%} of the rows all members that vote agree, and "
        f"{first['accuracy']:.2%} of these are right"
    )
    if len(table) == 1:
        return f"{told}."
    rest = 1 - first["coverage"]
    right = (votes.accuracy - first["coverage"] * first["accuracy"]) / rest
    return f"{told}; of the other {rest:.1%}, {max(right, 0):.2%} are."


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


# ---- tables


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(value)}</td></tr>' for name, value in facts
    )
    return f'<table class="facts">{rows}</table>'


def _members(summary: CNNEnsembleTrainingSummary) -> str:
    table = summary.memberTable
    shown = [name for name, (_, _, dull) in _COLUMNS.items() if name in table and not (table[name] == dull).all()]
    head = "".join(f'<th scope="col">{title}</th>' for title in ("member", *(_COLUMNS[name][0] for name in shown)))
    rows = "".join(
        f'<tr><th scope="row">{member}</th>'
        + "".join(f"<td>{_cell(table.loc[member, name], _COLUMNS[name][1])}</td>" for name in shown)
        + "</tr>"
        for member in table.index
    )
    content = f'<div class="members"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    if len(table) <= _MOST_OPEN_MEMBERS:
        return content
    return f"<details><summary>All {len(table):,} members</summary>{content}</details>"


def _cell(value: Any, form: str) -> str:
    if form == "{}":
        return "yes" if value else "no"
    return "" if np.isnan(value) else form.format(value)


# ---- pictures


def _training(summary: CNNEnsembleTrainingSummary) -> str:
    return _pictures(
        [
            (
                functools.partial(plots.learning_curves, summary, "loss"),
                "Loss by epoch.",
                "A thin line for each member, thick their mean.",
            ),
            (
                functools.partial(plots.learning_curves, summary, "accuracy"),
                "Accuracy by epoch.",
                "As measured while training; where there is an out-of-bag estimate, it is that of the whole vote.",
            ),
        ]
    )


def _votes(votes: VoteStatistics, class_names: Sequence[str] | None) -> str:
    drawn = [
        (
            functools.partial(plots.confusion_matrix, votes, class_names),
            "Rows by label and prediction.",
            "Right ones are on the diagonal; the stronger the shade of another cell, the more rows are mistaken so.",
        )
    ]
    if len(votes.memberAccuracies) > 1:
        drawn += [
            (
                functools.partial(plots.accuracy_by_size, votes),
                "Accuracy by the number of members that vote.",
                "Where the curve is flat, more members gain nothing.",
            ),
            (
                functools.partial(plots.coverage, votes),
                "What leaving doubtful rows to people gains.",
                "The fewer rows are decided by the vote, those of most agreement, the more often it is right.",
            ),
            (
                functools.partial(plots.reliability, votes),
                "Whether the share of votes can be taken for a probability.",
                "It can where the points lie on the dotted line; below it, the vote is too sure of itself.",
            ),
            (
                functools.partial(plots.disagreement, votes),
                "How often two members differ.",
                "Members that are right and yet differ are what an ensemble lives on.",
            ),
        ]
    return _pictures(drawn) + _disputed(votes.disputedRows, class_names)


def _pictures(drawn: Iterable[tuple[Callable[..., Any], str, str]]) -> str:
    figures = "".join(
        f"<figure>{_svg(draw, title)}<figcaption><b>{title}</b> {explanation}</figcaption></figure>\n"
        for draw, title, explanation in drawn
    )
    return f'<div class="pictures">{figures}</div>'


def _svg(draw: Callable[..., Any], title: str) -> str:
    """A picture as an SVG element whose text is text, and whose text and axes have the page's colours."""
    matplotlib = plots.load_matplotlib()
    from matplotlib.figure import Figure

    file = io.StringIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's fonts count, not matplotlib's
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({name: _INK for name in _INKED})
        matplotlib.rcParams.update({"font.size": 11, "svg.fonttype": "none", "svg.hashsalt": "report"})
        figure = Figure(figsize=(5.2, 4.4), layout="constrained")
        draw(ax=figure.add_subplot())
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        # The dots per inch are those of heat maps.
        figure.savefig(file, format="svg", transparent=True, dpi=150, metadata=nothing)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    for color, themed in _THEMED.items():
        svg = svg.replace(color, themed)
    # An id may stand only once in a page.
    prefix = f"p{hashlib.sha256(svg.encode()).hexdigest()[:8]}-"
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\1{prefix}", svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(title)}"', 1)


def _disputed(rows: Sequence[DisputedRow], class_names: Sequence[str] | None) -> str:
    if not rows:
        return "<p>The members agree on every row.</p>"
    names = plots.class_labels(len(rows[0].votes), class_names)
    figures = "".join(
        f'<figure><img alt="" src="data:image/png;base64,{html.escape(row.png)}"><figcaption><b>'
        f"{html.escape(names[row.label])}</b><br>{html.escape(', '.join(plots.votes_cast(row, names)))}"
        "</figcaption></figure>\n"
        for row in rows
    )
    return (
        "<h3>The rows that the members dispute most</h3>"
        "<p>Under each image its label, and the members' votes: class (votes).</p>"
        f'<div class="images">{figures}</div>'
    )
