"""Pictures of results, drawn with matplotlib.

Each function draws into the Axes that it gets, or else into a new figure of pyplot, and returns the Axes, so that
the caller sets title and size. Neutral lines and text take rcParams' text colour, and the shades of heat maps are
transparent where there is nothing, so that pictures fit light pages and dark ones. matplotlib is loaded on first use,
as it is an optional dependency. What is drawn is computed in `fit_result` and `votes`. Called by users and `report`.
The module is long because it has one function per picture, each with its docstring and example.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from spark_cnn_ensemble.fit_result import FitResult
from spark_cnn_ensemble.votes import DisputedRow, VoteStatistics, wilson_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


__all__ = [
    "accuracy_by_size",
    "confusion_matrix",
    "coverage",
    "disagreement",
    "disputed_rows",
    "learning_curves",
    "reliability",
]

# From the palette of Okabe and Ito, which most colour-blind people can distinguish; the two also differ in lightness.
BLUE, ORANGE = "#0072B2", "#D55E00"
_FEW_ROWS = 0.1  # share of the rows with one voter; ensemble sizes with fewer rows are not drawn
_MOST_NUMBERED_CLASSES = 20
_MOST_NUMBERED_MEMBERS = 12
_MOST_MARKERS = 25
_BINS = 10  # of shares of votes, if these are less than the least gap apart
_LEAST_GAP = 0.08
_LONGEST_NAME = 18
_LONGEST_LINE = 32  # under an image
_COLUMNS = 4  # of the grid of images


def load_matplotlib() -> Any:
    """The package matplotlib.

    Raises
    ------
    ModuleNotFoundError
        It is not installed.
    """
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Pictures need matplotlib; install it with pip install 'spark-cnn-ensemble[plots]'.", name=error.name
        ) from None
    return matplotlib


def learning_curves(summary: FitResult, metric: Literal["loss", "accuracy"] = "loss", ax: Axes | None = None) -> Axes:
    """Loss or accuracy by epoch: a thin line per member, and a thick line for their mean.

    Lines of training are solid, those of validation dashed. Where members stopped early, a dot marks the epoch whose
    weights they have. With accuracy, a dotted line shows the vote's accuracy on the out-of-bag sample and a band its
    95 % interval, if it was estimated; fewer members vote on such a row than in the whole ensemble.

    Parameters
    ----------
    summary : CNNEnsembleTrainingSummary
        `model.summary`.
    metric : {"loss", "accuracy"}
        Mean cross-entropy, or the share of rows that are right.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        `metric` is another word, or the summary has no curve.

    Examples
    --------
    >>> from spark_cnn_ensemble import plots
    >>> ax = plots.learning_curves(model.summary, "accuracy")
    >>> ax.get_xlabel()
    'epoch'
    """
    if metric not in ("loss", "accuracy"):
        raise ValueError(f"metric must be 'loss' or 'accuracy', not {metric!r}.")
    curves = {name: _curves(summary, name) for name in (metric, f"val_{metric}")}
    if not curves[metric]:
        raise ValueError(f"The summary has no {metric} by epoch to draw; pass the summary of a model that was fit.")
    ax = _axes(ax)
    for name, color, style, label in (
        (metric, BLUE, "-", "training"),
        (f"val_{metric}", ORANGE, "--", "validation"),
    ):
        _draw_curves(ax, curves[name], color, style, label)
        for member in summary.members:
            if member.keptEpoch < member.epochs and name in member.kept:
                ax.plot(member.keptEpoch, member.kept[name], "o", color=color, markersize=4)
    votes = summary.outOfBag
    if metric == "accuracy" and votes is not None and votes.rows:
        low, high = votes.accuracyInterval
        color = _ink()
        ax.axhspan(low, high, color=color, alpha=0.12, linewidth=0)
        voters = f"{votes.votersPerRow:.1f} of {votes.votes.shape[1]} members"
        label = f"vote, out-of-bag: {votes.accuracy:.1%} ({low:.1%} to {high:.1%}),\nby {voters} per row"
        ax.axhline(votes.accuracy, color=color, linestyle=":", linewidth=1.5, label=label)
    ax.set(xlabel="epoch", ylabel="accuracy" if metric == "accuracy" else "loss (cross-entropy)")
    _integer_ticks(ax.xaxis)
    if metric == "accuracy":
        _percent(ax.yaxis)
    ax.legend(frameon=False)
    return ax


def accuracy_by_size(votes: VoteStatistics, ax: Axes | None = None) -> Axes:
    """Accuracy of the vote by the number of members that vote, with its 95 % interval.

    Sizes that less than a tenth of the rows reach are left out: few rows have that many out-of-bag members.

    Parameters
    ----------
    votes : VoteStatistics
        `summary.outOfBag`, or what `model.evaluate(dataset)` gives.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        No row was voted on.

    Examples
    --------
    >>> from spark_cnn_ensemble import plots
    >>> ax = plots.accuracy_by_size(model.evaluate(test))
    >>> ax.get_xlabel()
    'members that vote'
    """
    _check(votes)
    table = sizes_with_enough_rows(votes)
    ax = _axes(ax)
    _draw_with_band(ax, table["size"], table["accuracy"], table["low"], table["high"])
    ax.set(xlabel="members that vote", ylabel="accuracy of the vote")
    _integer_ticks(ax.xaxis)
    _percent(ax.yaxis)
    ax.legend(frameon=False, loc="upper left")
    return ax


def sizes_with_enough_rows(votes: VoteStatistics) -> pd.DataFrame:
    """The sizes of `accuracyBySize` that at least a tenth of the rows reach."""
    table = votes.accuracyBySize
    return table[table["rows"] >= _FEW_ROWS * table["rows"].iloc[0]]


def confusion_matrix(votes: VoteStatistics, class_names: Sequence[str] | None = None, ax: Axes | None = None) -> Axes:
    """Number of rows by label and predicted class.

    The shades of the errors are scaled to the errors alone, so that they can be seen next to a large diagonal.
    Numbers are written into the cells of up to 20 classes; more classes have a colour bar.

    Parameters
    ----------
    votes : VoteStatistics
        `summary.outOfBag`, or what `model.evaluate(dataset)` gives.
    class_names : sequence of str, optional
        A name for each class; default: the model's names of the classes, else their indices.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        No row was voted on, or there is not one name for each class.

    Examples
    --------
    >>> from spark_cnn_ensemble import plots
    >>> ax = plots.confusion_matrix(model.evaluate(test))
    >>> ax.get_ylabel()
    'label'
    """
    _check(votes)
    matrix = votes.confusionMatrix
    classes = len(matrix)
    names = class_labels(classes, votes.classNames if class_names is None else class_names)
    ax = _axes(ax, (6.4, 5.6))
    right = np.eye(classes, dtype=bool)
    errors = np.ma.masked_where(right | (matrix == 0), matrix)
    ax.imshow(np.ma.masked_where(~right, np.ones_like(matrix)), _shades(BLUE, 0.25, 0.25))
    image = ax.imshow(errors, _shades(ORANGE, 0.15, 0.8), vmin=0, vmax=max(1, errors.max() if errors.count() else 1))
    if classes <= _MOST_NUMBERED_CLASSES:
        _number_cells(ax, [(i, j, str(n)) for (i, j), n in np.ndenumerate(matrix) if n or i == j], classes)
    else:
        _integer_ticks(_color_bar(ax, image, "rows predicted wrongly").ax.yaxis)
    step = math.ceil(classes / 40)
    ticks = range(0, classes, step)
    size = "small" if classes <= _MOST_NUMBERED_CLASSES else "xx-small"
    shown = [_cut(names[index]) for index in ticks]
    turned = 90 if max(map(len, shown)) > 3 else 0
    ax.set_xticks(ticks, shown, rotation=turned, fontsize=size, parse_math=False)
    ax.set_yticks(ticks, shown, fontsize=size, parse_math=False)
    ax.set(xlabel="predicted class", ylabel="label")
    return ax


def disagreement(votes: VoteStatistics, ax: Axes | None = None) -> Axes:
    """Share of rows on which two members differ, in percent, for every pair of members.

    Parameters
    ----------
    votes : VoteStatistics
        `summary.outOfBag`, or what `model.evaluate(dataset)` gives.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        Pairs that share no row have an empty cell.

    Raises
    ------
    ValueError
        No row was voted on, or there is only one member.

    Examples
    --------
    >>> from spark_cnn_ensemble import plots
    >>> ax = plots.disagreement(model.evaluate(test))
    >>> ax.get_xlabel()
    'member'
    """
    _check(votes)
    shares = votes.disagreement
    members = len(shares)
    if members < 2:
        raise ValueError("There is only one member, and disagreement needs two; set 'numMembers' above 1.")
    ax = _axes(ax, (6.4, 5.2))
    cells = np.ma.masked_invalid(np.where(np.eye(members, dtype=bool), np.nan, 100 * shares))
    image = ax.imshow(cells, _shades(BLUE, 0.0, 0.85), vmin=0, vmax=(cells.max() if cells.count() else 0) or 1)
    if members <= _MOST_NUMBERED_MEMBERS:
        drawn = zip(*np.nonzero(~np.ma.getmaskarray(cells)), strict=True)
        _number_cells(ax, [(i, j, f"{cells[i, j]:.1f}") for i, j in drawn], members)
    _color_bar(ax, image, "rows on which they differ, %")
    ax.set(xlabel="member", ylabel="member")
    for axis in (ax.xaxis, ax.yaxis):
        if members <= _MOST_NUMBERED_MEMBERS:
            axis.set_ticks(range(members))
        else:
            _integer_ticks(axis)
    return ax


def coverage(votes: VoteStatistics, ax: Axes | None = None) -> Axes:
    """Accuracy on the rows that the vote decides, if uncertain rows are sent to people.

    Each point is a minimum share of votes for the predicted class, with which some points are labelled: the vote
    decides the rows that reach it. The band is the 95 % interval of the accuracy.

    Parameters
    ----------
    votes : VoteStatistics
        `summary.outOfBag`, or what `model.evaluate(dataset)` gives.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        No row was voted on, or none by two members.

    Notes
    -----
    The accuracy-coverage curve of selective classification: R. El-Yaniv and Y. Wiener, "On the foundations of
    noise-free selective classification", JMLR 11 (2010).

    Examples
    --------
    >>> from spark_cnn_ensemble import plots
    >>> ax = plots.coverage(model.evaluate(test))
    >>> ax.get_ylabel()
    'accuracy on these rows'
    """
    _check(votes, agreement=True)
    table = votes.coverage
    decided, accuracy = table["coverage"].to_numpy(), table["accuracy"].to_numpy()
    rows = votes.agreement["rows"].sum()
    low, high = _intervals(accuracy * decided * rows, decided * rows)
    ax = _axes(ax)
    _draw_with_band(ax, decided, accuracy, low, high)
    ax.margins(y=0.08)
    for place in _apart(decided):
        # The curve falls to the right, so there is room above it, and below its end.
        offset, side = ((4, 4), "left") if place < len(decided) - 1 else ((0, -13), "right")
        text = f"≥ {100 * table['minimumShare'][place]:.3g}%"
        at = (decided[place], accuracy[place])
        ax.annotate(text, at, offset, textcoords="offset points", ha=side, fontsize="small")
    ax.set(xlabel="rows with at least the share of votes shown", ylabel="accuracy on these rows")
    _percent(ax.xaxis)
    _percent(ax.yaxis)
    ax.legend(frameon=False, loc="lower left")
    return ax


def reliability(votes: VoteStatistics, ax: Axes | None = None) -> Axes:
    """How often the vote is right, by the share of votes for the predicted class.

    On the dotted line, the share of votes equals the accuracy; points below it mean that the vote is overconfident.
    Bars and the numbers above them are the rows with each share. Shares that are close together are put into bins of
    ten percent.

    Parameters
    ----------
    votes : VoteStatistics
        `summary.outOfBag`, or what `model.evaluate(dataset)` gives.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        No row was voted on, or none by two members.

    Notes
    -----
    A reliability diagram: A. Niculescu-Mizil and R. Caruana, "Predicting good probabilities with supervised
    learning", ICML (2005).

    Examples
    --------
    >>> from spark_cnn_ensemble import plots
    >>> ax = plots.reliability(model.evaluate(test))
    >>> ax.get_xlabel()
    'share of votes of the predicted class'
    """
    _check(votes, agreement=True)
    table = _binned(votes.agreement)
    share, right = table["share"], table["right"] / table["rows"]
    low, high = _intervals(table["right"], table["rows"])
    width = 0.8 * min(0.1, _least_gap(share))
    start = min(0.5, math.floor(10 * max(0.0, share.min() - 0.05)) / 10)
    ax = _axes(ax, (6.4, 5.0))
    ax.bar(share, table["rows"] / votes.rows, width, color=_ink(), alpha=0.2, label="share of all rows")
    for place, rows in zip(share, table["rows"], strict=True):
        ax.text(place, 1.06, f"{rows:,}", ha="center", va="center", fontsize="x-small")
    ax.plot([start, 1], [start, 1], color=_ink(), linewidth=1, linestyle=":", label="accuracy equal to the share")
    # By rounding, a bound that equals the share can lie on its wrong side.
    error = np.clip([right - low, high - right], 0, None)
    label = "accuracy on these rows (95 % interval)"
    ax.errorbar(share, right, error, color=BLUE, marker="o", linestyle="", capsize=2, elinewidth=1, label=label)
    ax.set(xlabel="share of votes of the predicted class", ylabel="share of rows")
    ax.set(xlim=(start, 1.06), ylim=(0, 1.12), yticks=np.linspace(0, 1, 6))
    _percent(ax.xaxis)
    _percent(ax.yaxis)
    ax.legend(frameon=False, fontsize="small", loc="lower left", bbox_to_anchor=(0, 1))
    return ax


def disputed_rows(
    votes: VoteStatistics, class_names: Sequence[str] | None = None, fig: Figure | None = None
) -> np.ndarray:
    """The images on which the members disagree most, each with its label and the classes with the most votes.

    Parameters
    ----------
    votes : VoteStatistics
        `summary.outOfBag`, or what `model.evaluate(dataset)` gives.
    class_names : sequence of str, optional
        A name for each class; default: the model's names of the classes, else their indices.
    fig : matplotlib.figure.Figure, optional
        Where to draw; default: a new figure.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        Shape (images,): one Axes per image, the most disputed first.

    Raises
    ------
    ValueError
        The members agree on every row, or there is not one name for each class.

    Examples
    --------
    >>> from spark_cnn_ensemble import plots
    >>> axes = plots.disputed_rows(model.evaluate(test))
    >>> len(axes)
    12
    """
    rows = () if votes is None else votes.disputedRows
    if not rows:
        raise ValueError(
            "There are no disputed rows to show: the members agree on every row, no row was voted on, or "
            "'keepDisputedRows' is False; pass what model.evaluate(dataset) gives."
        )
    names = class_labels(len(rows[0].votes), votes.classNames if class_names is None else class_names)
    columns = min(_COLUMNS, len(rows))
    lines = math.ceil(len(rows) / columns)
    load_matplotlib()
    from matplotlib.image import imread

    if fig is None:
        from matplotlib import pyplot

        fig = pyplot.figure(figsize=(2 * columns, 2.5 * lines), layout="constrained")
    grid = fig.subplots(lines, columns, squeeze=False).ravel()
    for ax, row in zip(grid, rows, strict=False):
        ax.imshow(imread(io.BytesIO(row.image)), cmap="gray", vmin=0)
        ax.set(xticks=[], yticks=[])
        cast = votes_cast(row, names)
        line = f"votes: {', '.join(cast)}"
        line = line if len(line) <= _LONGEST_LINE else "\n".join(["votes:", *cast])
        ax.set_xlabel(f"label: {_cut(names[row.label])}\n{line}", fontsize="small", parse_math=False)
    for ax in grid[len(rows) :]:
        ax.remove()
    return grid[: len(rows)]


def votes_cast(row: DisputedRow, names: Sequence[str]) -> list[str]:
    """The three classes with the most votes, each with its votes: "9 (5)", "4 (3)"."""
    order = sorted(range(len(row.votes)), key=lambda index: -row.votes[index])
    cast = [f"{_cut(names[index])} ({row.votes[index]})" for index in order if row.votes[index]]
    return cast if len(cast) <= 3 else [*cast[:3], "…"]


def class_labels(classes: int, class_names: Sequence[str] | None) -> list[str]:
    """A name for each class; its index if no names are given.

    Raises
    ------
    ValueError
        The number of names differs from the number of classes.
    """
    if class_names is None:
        return [str(index) for index in range(classes)]
    if len(class_names) != classes:
        raise ValueError(f"class_names has {len(class_names)} names for {classes} classes; pass one per class.")
    return [str(name) for name in class_names]


def _check(votes: VoteStatistics | None, agreement: bool = False) -> None:
    if votes is None or not votes.rows:
        raise ValueError(
            "There are no votes to draw, as no row was out-of-bag or evaluated; set 'oobSampleSize' and choose bags "
            "that leave rows out, or pass the result of model.evaluate(dataset) on labelled rows."
        )
    if agreement and not votes.agreement["rows"].any():
        raise ValueError(
            "No two members vote on the same row, so that there is no agreement to draw; set more members, or pass the "
            "result of model.evaluate(dataset) on labelled rows."
        )


def _axes(ax: Axes | None, size: tuple[float, float] = (6.4, 4.4)) -> Axes:
    load_matplotlib()
    if ax is None:
        from matplotlib import pyplot

        ax = pyplot.subplots(figsize=size, layout="constrained")[1]
    return ax


def _ink() -> Any:
    return load_matplotlib().rcParams["text.color"]


def _shades(color: str, least: float, most: float) -> Any:
    """A colour map from a faint to a strong shade of a colour; the page shows through."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgba

    return LinearSegmentedColormap.from_list("shades", [to_rgba(color, least), to_rgba(color, most)])


def _percent(axis: Any) -> None:
    axis.set_major_formatter(lambda value, position: f"{100 * value:.6g}%")


def _integer_ticks(axis: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _curves(summary: FitResult, name: str) -> list[tuple[float, ...]]:
    return [curve for member in summary.members if (curve := member.history.get(name))]


def _draw_curves(ax: Axes, curves: list[tuple[float, ...]], color: str, style: str, label: str) -> None:
    if not curves:
        return
    # A line through one epoch has no length.
    marker = "o" if max(map(len, curves)) == 1 else ""
    for curve in curves:
        alpha = 0.45 if len(curves) <= 10 else 0.2
        ax.plot(range(1, len(curve) + 1), curve, style, color=color, linewidth=0.8, alpha=alpha, marker=marker)
    mean = pd.DataFrame(curves).mean()
    legend = label if len(curves) == 1 else f"{label}, mean of {len(curves)} members"
    ax.plot(range(1, len(mean) + 1), mean, style, color=color, linewidth=2.4, marker=marker, label=legend)


def _draw_with_band(ax: Axes, x: Any, y: Any, low: Any, high: Any) -> None:
    marker = "o" if len(x) <= _MOST_MARKERS else ""
    ax.plot(x, y, color=BLUE, linewidth=1.8, marker=marker, markersize=4)
    if len(x) == 1:  # a band through one point has no width
        ax.vlines(x, low, high, color=BLUE, alpha=0.5, label="95 % interval")
    else:
        ax.fill_between(x, low, high, color=BLUE, alpha=0.2, linewidth=0, label="95 % interval")


def _apart(places: np.ndarray) -> list[int]:
    """The indices of the ends of an ascending array, and of values between them that are far enough apart."""
    room = 0.18 * (places[-1] - places[0])
    chosen = [0]
    for index in range(1, len(places) - 1):
        if min(places[index] - places[chosen[-1]], places[-1] - places[index]) >= room:
            chosen.append(index)
    return chosen if len(places) == 1 else [*chosen, len(places) - 1]


def _intervals(right: Any, rows: Any) -> np.ndarray:
    """Shape (2, n): lower and upper bounds of shares of rows."""
    return np.array([wilson_interval(*pair) for pair in zip(right, rows, strict=True)]).T


def _least_gap(places: pd.Series) -> float:
    return float(places.diff().min()) if len(places) > 1 else math.inf


def _binned(agreement: pd.DataFrame) -> pd.DataFrame:
    """Shares that have rows, in bins if there are many; a bin's share is the mean over its rows."""
    table = agreement[agreement["rows"] > 0]
    if _least_gap(table["share"]) >= _LEAST_GAP:
        return table
    # A share on the edge of two bins belongs to the lower one, as 1 belongs to the last.
    numbers = np.ceil(table["share"].round(6) * _BINS)
    sums = table.assign(share=table["share"] * table["rows"]).groupby(numbers, as_index=False).sum()
    return sums.assign(share=sums["share"] / sums["rows"])


def _number_cells(ax: Axes, cells: list[tuple[int, int, str]], across: int) -> None:
    """Write numbers into the cells of a square heat map, as large as fits."""
    points = 72 * min(ax.bbox.width, ax.bbox.height) / ax.figure.dpi / across
    longest = max(len(text) for _, _, text in cells)
    size = min(11.0, points / (0.7 * max(2, longest)))
    for row, column, text in cells:
        ax.text(column, row, text, ha="center", va="center", fontsize=size)


def _color_bar(ax: Axes, image: Any, label: str) -> Any:
    bar: Any = ax.figure.colorbar(image, ax=ax, label=label, shrink=0.8)
    # As vectors, neighbouring shades would show seams.
    bar.solids.set_rasterized(True)
    bar.outline.set_visible(False)
    return bar


def _cut(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
