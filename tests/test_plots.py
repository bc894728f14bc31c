"""A picture shows the statistics that it gets, and leaves nothing behind."""

import io
import sys
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from PIL import Image
from support.processes import output_of, start_python
from support.results import AWKWARD_NAMES, evaluation, no_votes, out_of_bag, png, summary

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from spark_cnn_ensemble import plots
from spark_cnn_ensemble.votes import DisputedRow, OutOfBag, wilson_interval

OF_VOTES = [
    plots.accuracy_by_size,
    plots.confusion_matrix,
    plots.disagreement,
    plots.coverage,
    plots.reliability,
]
of_votes = pytest.mark.parametrize("draw", OF_VOTES, ids=lambda draw: draw.__name__)


def cases(**votes):
    """Parametrize a test by votes with these ids."""
    return pytest.mark.parametrize("votes", votes.values(), ids=[name.replace("_", " ") for name in votes])


@pytest.fixture
def ax():
    return Figure().add_subplot()


@pytest.fixture(autouse=True)
def close_figures():
    yield
    pyplot.close("all")


def band(ax):
    """The only filled band: its x, and its lower and upper edge at each."""
    (filled,) = (item for item in ax.collections if item.get_label() == "95 % interval")
    corners = filled.get_paths()[0].vertices
    xs = np.unique(corners[:, 0])
    sides = [corners[corners[:, 0] == x, 1] for x in xs]
    return xs, [side.min() for side in sides], [side.max() for side in sides]


def render(ax):
    """Draw the figure; matplotlib reads texts only then."""
    ax.figure.savefig(io.BytesIO())


def texts(ax):
    return [text.get_text() for text in ax.texts]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


# ---- all pictures


@cases(out_of_bag=out_of_bag(), held_out=evaluation(), two_members=evaluation(members=2, classes=2))
@of_votes
def test_a_picture_is_drawn_into_the_axes_given(draw, votes, ax):
    assert draw(votes, ax=ax) is ax
    assert pyplot.get_fignums() == []
    render(ax)
    assert ax.get_xlabel() and ax.get_ylabel()


@of_votes
def test_without_axes_a_picture_is_one_new_figure_of_pyplot(draw):
    ax = draw(evaluation())
    assert [pyplot.figure(number) for number in pyplot.get_fignums()] == [ax.figure]


def test_learning_curves_are_drawn_into_the_axes_given_or_a_new_figure(ax):
    assert plots.learning_curves(summary(), ax=ax) is ax
    assert pyplot.get_fignums() == []
    assert plots.learning_curves(summary()).figure is pyplot.figure(1)


@of_votes
@cases(none=None, no_row_out_of_bag=no_votes())
def test_no_votes_are_refused_and_leave_no_figure(draw, votes):
    with pytest.raises(ValueError, match=r"no votes to draw.*oobSampleSize.*model\.evaluate"):
        draw(votes)
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize(
    "draw", [plots.confusion_matrix, plots.disputed_rows], ids=["confusion_matrix", "disputed_rows"]
)
def test_each_class_needs_a_name(draw):
    with pytest.raises(ValueError, match="2 names for 3 classes"):
        draw(evaluation(), ["a", "b"])
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize(
    ("draw", "results"),
    [(plots.learning_curves, summary()), (plots.disputed_rows, evaluation())],
    ids=["learning_curves", "disputed_rows"],
)
def test_a_missing_matplotlib_is_reported_with_the_extra_to_install(draw, results, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'spark-cnn-ensemble\[plots\]'"):
        draw(results)


def test_importing_plots_and_report_does_not_load_matplotlib():
    process = start_python("import sys, spark_cnn_ensemble.report; print('matplotlib' in sys.modules)", path="")
    assert output_of(process) == ["False"]


def test_the_diagonal_and_the_bars_take_the_colour_of_text(ax):
    with matplotlib.rc_context({"text.color": "#abcdef"}):
        plots.reliability(evaluation(), ax)
    (diagonal,) = (line for line in ax.lines if line.get_label() == "accuracy equal to the share")
    assert diagonal.get_color() == "#abcdef"
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == [ax.get_xlim()[0], 1]
    assert all(bar.get_facecolor()[:3] == to_rgb("#abcdef") for bar in ax.patches)


# ---- learning curves


@pytest.mark.parametrize("metric", ["loss", "accuracy"])
def test_each_member_is_a_thin_line_and_their_mean_a_thick_one(metric, ax):
    fit = summary(3, validation=True)
    plots.learning_curves(fit, metric, ax)
    for name, style in ((metric, "-"), (f"val_{metric}", "--")):
        curves = [member.history[name] for member in fit.members]
        thin = [line for line in ax.lines if line.get_linestyle() == style and line.get_linewidth() < 1]
        (thick,) = (line for line in ax.lines if line.get_linestyle() == style and line.get_linewidth() > 2)
        assert [tuple(line.get_ydata()) for line in thin] == curves
        np.testing.assert_allclose(thick.get_ydata(), np.mean(curves, axis=0))
        assert list(thick.get_xdata()) == [1, 2, 3, 4]
    assert legend(ax) == ["training, mean of 3 members", "validation, mean of 3 members"]


def test_the_mean_at_an_epoch_is_of_the_members_that_reached_it(ax):
    fit = summary(2, [2, 4])
    plots.learning_curves(fit, ax=ax)
    np.testing.assert_allclose(ax.lines[-1].get_ydata(), fit.objectiveHistory)
    np.testing.assert_allclose(ax.lines[-1].get_ydata()[2:], fit.members[1].history["loss"][2:])


def test_a_single_epoch_is_drawn_as_a_marker(ax):
    plots.learning_curves(summary(1, 1), ax=ax)
    assert {line.get_marker() for line in ax.lines} == {"o"}
    assert legend(ax) == ["training"]


def test_accuracy_is_shown_with_the_out_of_bag_accuracy_and_its_interval(ax):
    votes = out_of_bag()
    plots.learning_curves(summary(out_of_bag=votes), "accuracy", ax)
    (line,) = (line for line in ax.lines if "out-of-bag" in line.get_label())
    assert set(line.get_ydata()) == {votes.accuracy}
    assert f"{votes.accuracy:.1%}" in line.get_label()
    (span,) = ax.patches
    edges = ax.transData.inverted().transform(span.get_verts())[:, 1]
    assert (edges.min(), edges.max()) == pytest.approx(votes.accuracyInterval)


@pytest.mark.parametrize(
    ("votes", "metric"),
    [(None, "accuracy"), (no_votes(), "accuracy"), (out_of_bag(), "loss")],
    ids=["no sample", "no row out-of-bag", "loss"],
)
def test_no_out_of_bag_line_without_votes_or_with_loss(votes, metric, ax):
    plots.learning_curves(summary(out_of_bag=votes), metric, ax)
    assert not ax.patches and legend(ax) == ["training, mean of 3 members"]


@pytest.mark.parametrize(
    ("fit", "metric", "message"),
    [
        (summary(), "auc", "'loss' or 'accuracy', not 'auc'"),
        (summary(2, 0), "loss", "no loss by epoch to draw; pass the summary of a model that was fit"),
    ],
    ids=["another metric", "no history"],
)
def test_learning_curves_that_do_not_exist_are_refused(fit, metric, message):
    with pytest.raises(ValueError, match=message):
        plots.learning_curves(fit, metric)
    assert pyplot.get_fignums() == []


# ---- accuracy by size


def test_accuracy_by_size_is_drawn_with_its_interval(ax):
    votes = evaluation(members=6)
    plots.accuracy_by_size(votes, ax)
    table = votes.accuracyBySize
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), table[["size", "accuracy"]])
    sizes, low, high = band(ax)
    np.testing.assert_array_equal(sizes, table["size"])
    np.testing.assert_allclose(low, table["low"])
    np.testing.assert_allclose(high, table["high"])


def test_sizes_that_few_rows_reach_are_left_out(ax):
    votes = out_of_bag(members=8)
    plots.accuracy_by_size(votes, ax)
    table = votes.accuracyBySize
    drawn = [size for size, rows in zip(table["size"], table["rows"], strict=True) if rows >= 0.1 * table["rows"][0]]
    assert list(ax.lines[0].get_xdata()) == drawn
    assert len(drawn) < len(table)


def test_the_interval_of_a_single_size_is_drawn_as_a_line(ax):
    votes = evaluation(members=1)
    plots.accuracy_by_size(votes, ax)
    _, low, high = band(ax)
    assert (low[0], high[0]) == pytest.approx(votes.accuracyInterval)


@pytest.mark.parametrize("members", [1, 2, 3, 100])
def test_ticks_of_members_are_whole_numbers(members, ax):
    plots.accuracy_by_size(evaluation(members=members), ax)
    assert all(tick == int(tick) for tick in ax.get_xticks())


# ---- confusion matrix


@pytest.mark.parametrize("classes", [2, 10, 20])
def test_cells_show_their_number_of_rows(classes, ax):
    votes = evaluation(classes=classes)
    votes.confusion[1, 1] = 0
    plots.confusion_matrix(votes, ax=ax)
    shown = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in ax.texts}
    expected = {at: str(count) for at, count in np.ndenumerate(votes.confusionMatrix) if count or at[0] == at[1]}
    assert shown == expected


def test_many_classes_have_a_colour_bar_in_place_of_numbers(ax):
    votes = evaluation(classes=30)
    plots.confusion_matrix(votes, ax=ax)
    assert not ax.texts
    assert len(ax.figure.axes) == 2
    errors = ax.images[1].get_array()
    assert errors.filled(0).sum() == votes.rows - np.trace(votes.confusionMatrix)


def test_errors_next_to_a_large_diagonal_have_distinct_shades(ax):
    votes = evaluation(classes=3)
    np.fill_diagonal(votes.confusion, 100_000)
    votes.confusion[0, 1], votes.confusion[1, 0], votes.confusion[2, 0] = 1, 9, 0
    plots.confusion_matrix(votes, ax=ax)
    image = ax.images[1]
    alpha = image.to_rgba(image.get_array())[..., 3]
    assert alpha[1, 0] == pytest.approx(0.8, abs=0.01)
    assert 0.1 < alpha[0, 1] < alpha[1, 0]
    assert alpha[2, 0] == alpha[1, 1] == 0


def test_class_names_may_be_an_array(ax):
    votes = evaluation(classes=3)
    plots.confusion_matrix(votes, np.array(["cat", "dog", "eel"]), ax)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cat", "dog", "eel"]
    assert plots.disputed_rows(votes, np.array(["cat", "dog", "eel"])) is not None


@pytest.mark.filterwarnings("ignore:Glyph")
def test_class_names_are_drawn_literally_and_long_ones_are_cut(ax):
    plots.confusion_matrix(evaluation(classes=4), AWKWARD_NAMES, ax)
    render(ax)
    for labels in (ax.get_xticklabels(), ax.get_yticklabels()):
        shown = [label.get_text() for label in labels]
        assert shown[1:3] == AWKWARD_NAMES[1:3]
        assert shown[3] == "a name that is fa…"


# ---- disagreement


def test_disagreement_is_drawn_in_percent(ax):
    votes = out_of_bag(members=4)
    plots.disagreement(votes, ax)
    cells = ax.images[0].get_array()
    pairs = ~np.eye(4, dtype=bool)
    np.testing.assert_allclose(cells[pairs], 100 * votes.disagreement[pairs])
    assert np.ma.getmaskarray(cells).diagonal().all()
    assert texts(ax) == [f"{100 * share:.1f}" for share in votes.disagreement[pairs]]
    assert list(ax.get_xticks()) == list(ax.get_yticks()) == [0, 1, 2, 3]


def test_members_that_share_no_row_have_an_empty_cell(ax):
    votes = OutOfBag(np.array([0, 1, 1]), np.array([[0, -1, 0], [-1, 1, 0], [-1, 0, 0]]), np.array([0, 1, 0]), 2)
    plots.disagreement(votes, ax)
    mask = np.ma.getmaskarray(ax.images[0].get_array())
    assert mask[0, 1] and mask[1, 0] and not mask[1, 2]
    assert texts(ax) == ["0.0", "50.0", "0.0", "50.0"]


def test_a_hundred_members_have_shades_and_few_ticks(ax):
    plots.disagreement(out_of_bag(members=100), ax)
    assert ax.images[0].get_array().shape == (100, 100)
    assert not ax.texts
    assert len(ax.get_xticks()) < 15


def test_members_that_never_differ_can_be_drawn(ax):
    votes = OutOfBag(np.zeros(3, int), np.zeros((3, 2), int), np.zeros(3, int), 2)
    plots.disagreement(votes, ax)
    render(ax)
    assert texts(ax) == ["0.0", "0.0"]


def test_disagreement_of_a_single_member_is_refused():
    with pytest.raises(ValueError, match=r"one member.*numMembers"):
        plots.disagreement(evaluation(members=1))
    assert pyplot.get_fignums() == []


# ---- coverage


@cases(five_members=evaluation(members=5), sixty_members=out_of_bag(members=60, rows=600))
def test_coverage_is_drawn_with_its_interval_and_labels_at_both_ends(votes, ax):
    plots.coverage(votes, ax)
    table = votes.coverage
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), table[["coverage", "accuracy"]])
    first, last = table["minimumShare"].iloc[0], table["minimumShare"].iloc[-1]
    assert texts(ax)[0] == f"≥ {100 * first:.3g}%"
    assert texts(ax)[-1] == f"≥ {100 * last:.3g}%"
    assert len(texts(ax)) <= 7
    rows = table["coverage"] * votes.rows
    _, low, high = band(ax)
    expected = [wilson_interval(share * n, n) for share, n in zip(table["accuracy"], rows, strict=True)]
    np.testing.assert_allclose(list(zip(low, high, strict=True)), expected)


def test_labels_of_coverage_are_at_their_points(ax):
    votes = evaluation(members=5)
    plots.coverage(votes, ax)
    table = votes.coverage.set_index("coverage")
    for text in ax.texts:
        assert text.get_text() == f"≥ {100 * table.loc[text.xy[0], 'minimumShare']:.3g}%"


def test_coverage_of_a_single_member_can_be_drawn(ax):
    plots.coverage(evaluation(members=1), ax)
    assert texts(ax) == ["≥ 100%"]


# ---- reliability


def reliability_points(ax):
    return ax.containers[1].lines[0].get_xydata()


def rows_above_bars(ax):
    return np.array([int(text.replace(",", "")) for text in texts(ax)])


def test_reliability_of_few_shares_has_a_point_with_its_interval_per_share(ax):
    votes = evaluation(members=5)
    plots.reliability(votes, ax)
    table = votes.agreement[votes.agreement["rows"] > 0]
    np.testing.assert_allclose(reliability_points(ax)[:, 0], table["share"])
    np.testing.assert_allclose(reliability_points(ax)[:, 1], table["right"] / table["rows"])
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], table["rows"] / votes.rows)
    assert texts(ax) == [f"{rows:,}" for rows in table["rows"]]
    (bars,) = ax.containers[1].lines[2]
    expected = [wilson_interval(right, rows) for right, rows in zip(table["right"], table["rows"], strict=True)]
    np.testing.assert_allclose([segment[:, 1] for segment in bars.get_segments()], expected, atol=1e-12)


@cases(held_out=evaluation(members=100), out_of_bag=out_of_bag(members=30))
def test_many_shares_are_put_into_bins_that_keep_every_row(votes, ax):
    plots.reliability(votes, ax)
    points, rows = reliability_points(ax), rows_above_bars(ax)
    assert len(votes.agreement) > 10 >= len(points)
    assert rows.sum() == votes.rows
    assert (points[:, 1] * rows).sum() == pytest.approx(votes.accuracy * votes.rows)
    agreement = votes.agreement
    assert (points[:, 0] * rows).sum() == pytest.approx((agreement["share"] * agreement["rows"]).sum())


def test_a_share_on_the_edge_of_two_bins_is_in_the_lower_one(ax):
    # One row, predicted correctly, per share 0.01, 0.02, ... 1.
    one_row_per_share = np.array([0] + [1] * 100)
    votes = replace(evaluation(members=100), rowsByVotes=one_row_per_share, rightByVotes=one_row_per_share)
    plots.reliability(votes, ax)
    assert rows_above_bars(ax).tolist() == [10] * 10
    np.testing.assert_allclose(reliability_points(ax), [(center, 1) for center in np.arange(10) / 10 + 0.055])


def test_a_single_member_always_has_all_votes(ax):
    plots.reliability(evaluation(members=1), ax)
    assert reliability_points(ax)[:, 0].tolist() == [1]


# ---- disputed rows


@pytest.mark.parametrize("number", [1, 4, 5, 12])
def test_disputed_rows_are_shown_with_label_and_votes(number):
    votes, names = evaluation(number=number), ["ant", "bee", "犬"]
    fig = Figure()
    grid = plots.disputed_rows(votes, names, fig)
    assert len(grid) == len(fig.axes) == number
    assert pyplot.get_fignums() == []
    for ax, row in zip(grid, votes.disputedRows, strict=True):
        shown = np.rint(255 * np.asarray(ax.images[0].get_array()))
        np.testing.assert_array_equal(shown, np.asarray(Image.open(io.BytesIO(row.image))))
        first, *rest = ax.get_xlabel().split("\n")
        assert first == f"label: {names[row.label]}"
        for name, count in zip(names, row.votes, strict=True):
            assert (f"{name} ({count})" in " ".join(rest)) == (count > 0)


@pytest.mark.parametrize(
    ("votes", "shown"),
    [((1, 0, 4, 2, 1), "votes: c (4), d (2), a (1), …"), ((1, 0, 4), "votes: c (4), a (1)")],
    ids=["four classes", "two classes"],
)
def test_the_three_classes_with_the_most_votes_are_shown_in_that_order(votes, shown):
    row = DisputedRow(0.9, 0, votes, png(np.zeros((2, 2))))
    (ax,) = plots.disputed_rows(replace(evaluation(), disputedRows=(row,)), "abcde"[: len(votes)])
    assert ax.get_xlabel() == f"label: a\n{shown}"


@pytest.mark.filterwarnings("ignore:Glyph")
def test_disputed_colour_images_with_awkward_class_names_can_be_drawn():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 3))
    votes = replace(evaluation(classes=4), disputedRows=(DisputedRow(1.0, 2, (1, 1, 1, 1), png(pixels)),))
    (ax,) = plots.disputed_rows(votes, AWKWARD_NAMES)
    render(ax)
    assert ax.images[0].get_array().shape == (6, 5, 3)
    assert AWKWARD_NAMES[2] in ax.get_xlabel()


@cases(none=None, full_agreement=evaluation(number=0))
def test_drawing_no_disputed_rows_is_refused(votes):
    with pytest.raises(ValueError, match="no disputed rows"):
        plots.disputed_rows(votes)
    assert pyplot.get_fignums() == []
