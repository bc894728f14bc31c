"""The report of a fit, one page of HTML.

The page loads nothing from the network, fits phones, desktops and paper, and follows the reader's light or dark theme:
pictures are inline SVG whose text and axes take the page's colour. Its sentences are in `report_sentences`, its
pictures in `plots`. Called by `CNNEnsembleTrainingSummary.to_html`. The module is long because the page and its style
stand in one place.
"""

from __future__ import annotations

import functools
import hashlib
import html
import io
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spark_cnn_ensemble import plots
from spark_cnn_ensemble.fit_result import FitResult
from spark_cnn_ensemble.report_sentences import story
from spark_cnn_ensemble.votes import VoteStatistics

_MOST_OPEN_ROWS = 20  # a longer table of members or classes is folded
_INK = "#010203"  # for text and axes while a picture is drawn
# Colours in a picture -> colours of the page, which follow the theme.
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

# Column of memberTable -> its head, the format of its values, and a value that is not worth a column if all have it.
_COLUMNS: dict[str, tuple[str, str, Any]] = {
    "oobAccuracy": ("out-of-bag accuracy", "{:.2%}", None),
    "val_accuracy": ("validation accuracy", "{:.2%}", None),
    "accuracy": ("training accuracy", "{:.2%}", None),
    "val_loss": ("validation loss", "{:.4f}", None),
    "loss": ("training loss", "{:.4f}", None),
    "epochs": ("epochs", "{:.0f}", None),
    "keptEpoch": ("epoch kept", "{:.0f}", None),
    "seconds": ("seconds", "{:.1f}", None),
    "rows": ("rows", "{:,.0f}", None),
    "classes": ("classes", "{:.0f}", None),
    "examples": ("rows, copies counted", "{:,.0f}", None),
    "validationRows": ("validation rows", "{:,.0f}", 0),
    "retries": ("retries", "{:.0f}", 0),
    "spilled": ("trained from disk", "{}", False),
}


def write_report(
    summary: FitResult,
    path: str | os.PathLike[str],
    title: str = "Training report of a CNN ensemble",
    evaluation: VoteStatistics | None = None,
    class_names: Sequence[str] | None = None,
) -> None:
    """Write a fit's report to a local file, whole or not at all.

    Parameters
    ----------
    summary : CNNEnsembleTrainingSummary
        `model.summary`.
    path : str or os.PathLike
        The file; replaced if it exists. Its folder must exist.
    title : str
        Title and heading of the page, in plain text.
    evaluation : VoteStatistics, optional
        The result of `model.evaluate(dataset)` on held-out rows, to report in addition to the out-of-bag estimate.
    class_names : sequence of str, optional
        One name per class; default: the model's names of the classes, else their indices.

    Raises
    ------
    FileNotFoundError, OSError, ModuleNotFoundError
        See `check_report`.
    ValueError
        The number of names differs from the number of classes.
    """
    check_report(path)
    if class_names is None:
        known = (votes.classNames for votes in (evaluation, summary.outOfBag) if votes is not None)
        class_names = next(filter(None, known), None)
    for votes in (evaluation, summary.outOfBag):
        if votes is not None:
            plots.class_labels(len(votes.confusionMatrix), class_names)
    file = Path(os.path.realpath(path))  # a link goes on to lead to the report
    page = _page(summary, title, evaluation, class_names)
    partial = file.with_name(f".{file.name}.tmp")
    try:
        partial.write_text(page, encoding="utf-8")
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def check_report(path: str | os.PathLike[str]) -> None:
    """Refuse a report that cannot be written, before the work that it is to report.

    Parameters
    ----------
    path : str or os.PathLike
        The file.

    Raises
    ------
    FileNotFoundError
        The folder does not exist.
    OSError
        The file cannot be written, or is a folder or a device.
    ModuleNotFoundError
        matplotlib is not installed.
    """
    file = Path(os.path.realpath(path))
    if not file.parent.is_dir():
        raise FileNotFoundError(
            f"The folder '{file.parent}' does not exist; create it, or choose another for the report."
        )
    if file.is_dir():
        raise IsADirectoryError(f"'{file}' is a folder; give the path of a file for the report.")
    if file.exists() and not file.is_file():
        raise OSError(f"'{file}' is not a file; give the path of a file for the report.")
    try:
        tempfile.TemporaryFile(dir=file.parent).close()
    except OSError as error:
        raise OSError(
            f"The folder '{file.parent}' cannot be written to ({error.strerror}); choose another for the report."
        ) from None
    plots.load_matplotlib()


def _page(
    summary: FitResult,
    title: str,
    evaluation: VoteStatistics | None,
    class_names: Sequence[str] | None,
) -> str:
    out_of_bag = summary.outOfBag
    sections = [
        ("Summary", "".join(f"<p>{sentences}</p>" for sentences in story(summary, evaluation, class_names))),
        ("Key figures", _facts(summary.facts())),
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


# ---- tables


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(value)}</td></tr>' for name, value in facts
    )
    return f'<table class="facts">{rows}</table>'


def _members(summary: FitResult) -> str:
    table = summary.memberTable
    if (table["keptEpoch"] == table["epochs"]).all():
        table = table.drop(columns="keptEpoch")
    if not summary.unseenClasses:
        table = table.drop(columns="classes")
    shown = [name for name, (_, _, usual) in _COLUMNS.items() if name in table and not (table[name] == usual).all()]
    heads = ["member", *(_COLUMNS[name][0] for name in shown)]
    rows = [
        (str(member), [_cell(table.loc[member, name], _COLUMNS[name][1]) for name in shown]) for member in table.index
    ]
    return _folded(f"All {len(table):,} members", heads, rows)


def _classes(votes: VoteStatistics, class_names: Sequence[str] | None) -> str:
    table = votes.classTable
    names = plots.class_labels(len(table), class_names)
    rows = [
        (html.escape(names[label]), [f"{rows:,}", _cell(recall, "{:.2%}"), _cell(precision, "{:.2%}")])
        for label, rows, recall, precision in table.itertuples()
    ]
    heads = ["class", "rows", "recall", "precision"]
    return (
        "<h3>Classes</h3><p>Recall is the share of a class's rows that are predicted right, precision the share of its "
        f"predictions that are right.</p>{_folded(f'All {len(table):,} classes', heads, rows)}"
    )


def _folded(what: str, heads: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A table of numbers with a head for each row, folded if it is long; heads and cells are HTML."""
    head = "".join(f'<th scope="col">{title}</th>' for title in heads)
    body = "".join(
        f'<tr><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>' for name, cells in rows
    )
    content = f'<div class="members"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    return content if len(rows) <= _MOST_OPEN_ROWS else f"<details><summary>{what}</summary>{content}</details>"


def _cell(value: Any, form: str) -> str:
    if form == "{}":
        return "yes" if value else "no"
    return "" if np.isnan(value) else form.format(value)


# ---- pictures


def _training(summary: FitResult) -> str:
    return _pictures(
        [
            (
                functools.partial(plots.learning_curves, summary, "loss"),
                "Loss by epoch.",
                "One thin line per member; the thick line is their mean.",
            ),
            (
                functools.partial(plots.learning_curves, summary, "accuracy"),
                "Accuracy by epoch.",
                "Measured while training. The dotted line is the out-of-bag accuracy of the vote, if it was estimated: "
                "of the few members that vote on such a row, so the vote of all may be better.",
            ),
        ]
    )


def _votes(votes: VoteStatistics, class_names: Sequence[str] | None) -> str:
    drawn = [
        (
            functools.partial(plots.confusion_matrix, votes, class_names),
            "Confusion matrix.",
            "Number of rows by label and predicted class. Errors are off the diagonal; a stronger shade means more.",
        )
    ]
    if len(votes.memberAccuracies) > 1:
        drawn += [
            (
                functools.partial(plots.accuracy_by_size, votes),
                "Accuracy by number of members.",
                "A curve that is flat past five members or so has levelled off. Two vote about as well as one.",
            )
        ]
    if len(votes.memberAccuracies) > 1 and len(votes.coverage):  # two members vote on some row
        drawn += [
            (
                functools.partial(plots.coverage, votes),
                "Accuracy if uncertain rows are sent to people.",
                "The vote decides the rows that reach the share of votes shown; people decide the others.",
            ),
            (
                functools.partial(plots.reliability, votes),
                "Reliability of the vote share.",
                "On the dotted line, the share of votes equals the accuracy. Below it, the vote is overconfident.",
            ),
            (
                functools.partial(plots.disagreement, votes),
                "Disagreement of members.",
                "Share of rows on which two members differ. Accurate members that make different errors help the most.",
            ),
        ]
    return _pictures(drawn) + _classes(votes, class_names) + _disputed(votes, class_names)


def _pictures(drawn: Iterable[tuple[Callable[..., Any], str, str]]) -> str:
    figures = "".join(
        f"<figure>{_svg(draw, title)}<figcaption><b>{title}</b> {explanation}</figcaption></figure>\n"
        for draw, title, explanation in drawn
    )
    return f'<div class="pictures">{figures}</div>'


def _svg(draw: Callable[..., Any], title: str) -> str:
    """A picture as an SVG element, with text as text and the page's colours for text and axes."""
    matplotlib = plots.load_matplotlib()
    from matplotlib.figure import Figure

    file = io.StringIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's fonts are used, not matplotlib's
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({name: _INK for name in _INKED})
        matplotlib.rcParams.update({"font.size": 11, "svg.fonttype": "none", "svg.hashsalt": "report"})
        figure = Figure(figsize=(5.2, 4.4), layout="constrained")
        draw(ax=figure.add_subplot())
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        # Dots per inch apply to heat maps only.
        figure.savefig(file, format="svg", transparent=True, dpi=150, metadata=nothing)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    for color, themed in _THEMED.items():
        svg = svg.replace(color, themed)
    # An id must be unique in a page.
    prefix = f"p{hashlib.sha256(svg.encode()).hexdigest()[:8]}-"
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\1{prefix}", svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(title)}"', 1)


def _disputed(votes: VoteStatistics, class_names: Sequence[str] | None) -> str:
    rows = votes.disputedRows
    if not rows:
        if len(votes.disagreement) > 1 and not len(votes.coverage):
            return "<p>No two members vote on the same row.</p>"
        agree = not np.nan_to_num(votes.disagreement).any()
        return f"<p>{'The members agree on every row' if agree else 'Pictures of disputed rows were left out'}.</p>"
    names = plots.class_labels(len(rows[0].votes), class_names)
    figures = "".join(
        f'<figure><img alt="" src="data:image/png;base64,{html.escape(row.png)}"><figcaption><b>'
        f"{html.escape(names[row.label])}</b><br>{html.escape(', '.join(plots.votes_cast(row, names)))}"
        "</figcaption></figure>\n"
        for row in rows
    )
    return (
        "<h3>The most disputed rows</h3>"
        "<p>Below each image: its label, then the predicted classes with their number of votes.</p>"
        f'<div class="images">{figures}</div>'
    )
