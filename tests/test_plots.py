"""The pictures: that they show the statistics that they are given, and leave nothing behind."""

import io
import subprocess
import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support.results import HOSTILE, evaluation, nothing_voted, out_of_bag, png, summary

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


@pytest.fixture
def ax():
    return Figure().add_subplot()


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


def band(ax):
    """Lower and upper edge of the only filled band, by x."""
    (filled,) = (item for item in ax.collections if item.get_label() == "95 % interval")
    corners = filled.get_paths()[0].vertices
    xs = np.unique(corners[:, 0])
    sides = [corners[corners[:, 0] == x, 1] for x in xs]
    return xs, [side.min() for side in sides], [side.max() for side in sides]


def render(ax):
    """Draw for good: only then does matplotlib read the texts."""
    ax.figure.savefig(io.BytesIO())


def texts(ax):
    return [text.get_text() for text in ax.texts]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


# ---- what all have in common


@pytest.mark.parametrize("votes", [out_of_bag(), evaluation(), evaluation(members=2, classes=2)])
@pytest.mark.parametrize("draw", OF_VOTES)
def test_draws_into_the_axes_given_and_leaves_pyplot_alone(draw, votes, ax):
    assert draw(votes, ax=ax) is ax
    assert pyplot.get_fignums() == []
    render(ax)
    assert ax.get_xlabel() and ax.get_ylabel()


@pytest.mark.parametrize("draw", OF_VOTES)
def test_makes_one_figure_of_pyplot_where_no_axes_are_given(draw):
    made = draw(evaluation())
    assert [pyplot.figure(number) for number in pyplot.get_fignums()] == [made.figure]


def test_learning_curves_draw_into_the_axes_given(ax):
    assert plots.learning_curves(summary(), ax=ax) is ax
    assert pyplot.get_fignums() == []
    assert plots.learning_curves(summary()).figure is pyplot.figure(1)


@pytest.mark.parametrize("draw", OF_VOTES)
@pytest.mark.parametrize("votes", [None, nothing_voted()])
def test_refuses_to_draw_no_votes_and_leaves_no_figure(draw, votes):
    with pytest.raises(ValueError, match=r"no votes to draw.*oobSampleSize.*model\.evaluate"):
        draw(votes)
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize("draw", [plots.confusion_matrix, plots.disputed_rows])
def test_wants_a_name_for_each_class(draw):
    with pytest.raises(ValueError, match="2 names for 3 classes"):
        draw(evaluation(), ["a", "b"])
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize("call", [lambda: plots.learning_curves(summary()), lambda: plots.disputed_rows(evaluation())])
def test_names_the_extra_where_matplotlib_is_missing(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install spark_cnn_ensemble\[plots\]"):
        call()


def test_the_modules_load_without_matplotlib():
    code = "import sys, spark_cnn_ensemble.report; print('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_the_diagonal_and_the_bars_take_the_colour_of_text(ax):
    with matplotlib.rc_context({"text.color": "#abcdef"}):
        plots.reliability(evaluation(), ax)
    (diagonal,) = (line for line in ax.lines if line.get_label() == "right as often as the share")
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


def test_the_mean_is_of_the_members_that_trained_so_long(ax):
    fit = summary(2, [2, 4])
    plots.learning_curves(fit, ax=ax)
    np.testing.assert_allclose(ax.lines[-1].get_ydata(), fit.objectiveHistory)
    np.testing.assert_allclose(ax.lines[-1].get_ydata()[2:], fit.members[1].history["loss"][2:])


def test_one_epoch_can_be_seen(ax):
    plots.learning_curves(summary(1, 1), ax=ax)
    assert {line.get_marker() for line in ax.lines} == {"o"}
    assert legend(ax) == ["training"]


def test_accuracy_comes_with_the_out_of_bag_vote(ax):
    votes = out_of_bag()
    plots.learning_curves(summary(out_of_bag=votes), "accuracy", ax)
    (line,) = (line for line in ax.lines if "out-of-bag" in line.get_label())
    assert set(line.get_ydata()) == {votes.accuracy}
    assert f"{votes.accuracy:.1%}" in line.get_label()
    (span,) = ax.patches
    edges = ax.transData.inverted().transform(span.get_verts())[:, 1]
    assert (edges.min(), edges.max()) == pytest.approx(votes.accuracyInterval)


@pytest.mark.parametrize(
    ("votes", "metric"), [(None, "accuracy"), (nothing_voted(), "accuracy"), (out_of_bag(), "loss")]
)
def test_no_out_of_bag_line_without_votes_or_with_loss(votes, metric, ax):
    plots.learning_curves(summary(out_of_bag=votes), metric, ax)
    assert not ax.patches and legend(ax) == ["training, mean of 3 members"]


def test_refuses_another_metric_and_a_summary_without_history():
    with pytest.raises(ValueError, match="'loss' or 'accuracy', not 'auc'"):
        plots.learning_curves(summary(), "auc")
    with pytest.raises(ValueError, match="no loss of any epoch"):
        plots.learning_curves(summary(2, 0))
    assert pyplot.get_fignums() == []


# ---- accuracy by size


def test_accuracy_by_size_is_the_table(ax):
    votes = evaluation(members=6)
    plots.accuracy_by_size(votes, ax)
    table = votes.accuracyBySize
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), table[["size", "accuracy"]])
    sizes, low, high = band(ax)
    np.testing.assert_array_equal(sizes, table["size"])
    np.testing.assert_allclose(low, table["low"])
    np.testing.assert_allclose(high, table["high"])


def test_sizes_that_few_rows_have_are_left_out(ax):
    votes = out_of_bag(members=8)
    plots.accuracy_by_size(votes, ax)
    table = votes.accuracyBySize
    kept = [size for size, rows in zip(table["size"], table["rows"], strict=True) if rows >= 0.1 * table["rows"][0]]
    assert list(ax.lines[0].get_xdata()) == kept
    assert len(kept) < len(table)


def test_one_member_has_an_interval_that_can_be_seen(ax):
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
def test_cells_have_their_counts(classes, ax):
    votes = evaluation(classes=classes)
    votes.confusion[1, 1] = 0
    plots.confusion_matrix(votes, ax=ax)
    found = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in ax.texts}
    wanted = {at: str(count) for at, count in np.ndenumerate(votes.confusionMatrix) if count or at[0] == at[1]}
    assert found == wanted


def test_many_classes_have_shades_with_a_scale_and_no_numbers(ax):
    votes = evaluation(classes=30)
    plots.confusion_matrix(votes, ax=ax)
    assert not ax.texts
    assert len(ax.figure.axes) == 2
    errors = ax.images[1].get_array()
    assert errors.filled(0).sum() == votes.rows - np.trace(votes.confusionMatrix)


def test_errors_are_shaded_among_themselves_beside_a_large_diagonal(ax):
    votes = evaluation(classes=3)
    np.fill_diagonal(votes.confusion, 100_000)
    votes.confusion[0, 1], votes.confusion[1, 0], votes.confusion[2, 0] = 1, 9, 0
    plots.confusion_matrix(votes, ax=ax)
    image = ax.images[1]
    alpha = image.to_rgba(image.get_array())[..., 3]
    assert alpha[1, 0] == pytest.approx(0.8, abs=0.01)
    assert 0.1 < alpha[0, 1] < alpha[1, 0]
    assert alpha[2, 0] == alpha[1, 1] == 0


@pytest.mark.filterwarnings("ignore:Glyph")
def test_class_names_are_drawn_as_they_are_but_cut(ax):
    plots.confusion_matrix(evaluation(classes=4), HOSTILE, ax)
    render(ax)
    for labels in (ax.get_xticklabels(), ax.get_yticklabels()):
        shown = [label.get_text() for label in labels]
        assert shown[1:3] == HOSTILE[1:3]
        assert shown[3] == "a name that is fa…"


# ---- disagreement


def test_disagreement_in_percent(ax):
    votes = out_of_bag(members=4)
    plots.disagreement(votes, ax)
    cells = ax.images[0].get_array()
    others = ~np.eye(4, dtype=bool)
    np.testing.assert_allclose(cells[others], 100 * votes.disagreement[others])
    assert np.ma.getmaskarray(cells).diagonal().all()
    assert texts(ax) == [f"{100 * share:.1f}" for share in votes.disagreement[others]]
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


def test_one_member_cannot_disagree():
    with pytest.raises(ValueError, match=r"one member.*numMembers"):
        plots.disagreement(evaluation(members=1))
    assert pyplot.get_fignums() == []


# ---- coverage and reliability


@pytest.mark.parametrize("votes", [evaluation(members=5), out_of_bag(members=60, rows=600)])
def test_coverage_is_the_table_and_its_ends_are_labelled(votes, ax):
    plots.coverage(votes, ax)
    table = votes.coverage
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), table[["coverage", "accuracy"]])
    first, last = table["minimumShare"].iloc[0], table["minimumShare"].iloc[-1]
    assert texts(ax)[0] == f"≥ {100 * first:.3g}%"
    assert texts(ax)[-1] == f"≥ {100 * last:.3g}%"
    assert len(texts(ax)) <= 7
    kept = table["coverage"] * votes.rows
    _, low, high = band(ax)
    wanted = [wilson_interval(share * n, n) for share, n in zip(table["accuracy"], kept, strict=True)]
    np.testing.assert_allclose(list(zip(low, high, strict=True)), wanted)


def test_labels_of_coverage_stand_where_their_points_are(ax):
    votes = evaluation(members=5)
    plots.coverage(votes, ax)
    table = votes.coverage.set_index("coverage")
    for text in ax.texts:
        assert text.get_text() == f"≥ {100 * table.loc[text.xy[0], 'minimumShare']:.3g}%"


def reliability_points(ax):
    return ax.containers[1].lines[0].get_xydata()


def test_reliability_of_few_shares_is_the_table(ax):
    votes = evaluation(members=5)
    plots.reliability(votes, ax)
    table = votes.agreement[votes.agreement["rows"] > 0]
    np.testing.assert_allclose(reliability_points(ax)[:, 0], table["share"])
    np.testing.assert_allclose(reliability_points(ax)[:, 1], table["right"] / table["rows"])
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], table["rows"] / votes.rows)
    assert texts(ax) == [f"{rows:,}" for rows in table["rows"]]
    (bars,) = ax.containers[1].lines[2]
    wanted = [wilson_interval(right, rows) for right, rows in zip(table["right"], table["rows"], strict=True)]
    np.testing.assert_allclose([segment[:, 1] for segment in bars.get_segments()], wanted, atol=1e-12)


@pytest.mark.parametrize("votes", [evaluation(members=100), out_of_bag(members=30)])
def test_many_shares_are_put_into_bins_that_keep_every_row(votes, ax):
    plots.reliability(votes, ax)
    points = reliability_points(ax)
    assert len(votes.agreement) > 10 >= len(points)
    rows = np.array([int(text.replace(",", "")) for text in texts(ax)])
    assert rows.sum() == votes.rows
    assert (points[:, 1] * rows).sum() == pytest.approx(votes.accuracy * votes.rows)
    agreement = votes.agreement
    assert (points[:, 0] * rows).sum() == pytest.approx((agreement["share"] * agreement["rows"]).sum())


def test_a_share_on_the_edge_of_two_bins_is_in_the_lower():
    shares = np.arange(1, 101) / 100
    table = plots._binned(pd.DataFrame({"share": shares, "rows": 1, "right": 1}))
    assert table["rows"].tolist() == [10] * 10
    np.testing.assert_allclose(table["share"], np.arange(10) / 10 + 0.055)


def test_one_member_is_always_of_one_mind(ax):
    plots.reliability(evaluation(members=1), ax)
    assert reliability_points(ax)[:, 0].tolist() == [1]
    plots.coverage(evaluation(members=1))


# ---- disputed rows


@pytest.mark.parametrize("number", [1, 4, 5, 12])
def test_disputed_rows_are_shown_with_label_and_votes(number):
    votes = evaluation(number=number)
    fig = Figure()
    grid = plots.disputed_rows(votes, ["ant", "bee", "犬"], fig)
    assert len(grid) == len(fig.axes) == number
    assert pyplot.get_fignums() == []
    for ax, row in zip(grid, votes.disputedRows, strict=True):
        shown = np.rint(255 * np.asarray(ax.images[0].get_array()))
        np.testing.assert_array_equal(shown, np.asarray(Image.open(io.BytesIO(row.image))))
        first, *rest = ax.get_xlabel().split("\n")
        assert first == f"label: {['ant', 'bee', '犬'][row.label]}"
        for name, count in zip(["ant", "bee", "犬"], row.votes, strict=True):
            assert (f"{name} ({count})" in " ".join(rest)) == (count > 0)


def test_votes_are_told_from_the_most_to_the_third():
    row = DisputedRow(0.9, 0, (1, 0, 4, 2, 1), "")
    assert plots.votes_cast(row, "abcde") == ["c (4)", "d (2)", "a (1)", "…"]
    assert plots.votes_cast(DisputedRow(0.9, 0, (1, 0, 4), ""), "abc") == ["c (4)", "a (1)"]


@pytest.mark.filterwarnings("ignore:Glyph")
def test_disputed_colour_images_and_hostile_names_can_be_drawn():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 3))
    votes = evaluation(classes=4, number=0)
    object.__setattr__(votes, "disputedRows", (DisputedRow(1.0, 2, (1, 1, 1, 1), png(pixels)),))
    (ax,) = plots.disputed_rows(votes, HOSTILE)
    render(ax)
    assert ax.images[0].get_array().shape == (6, 5, 3)
    assert HOSTILE[2] in ax.get_xlabel()


@pytest.mark.parametrize("votes", [None, evaluation(number=0)])
def test_says_that_there_are_no_disputed_rows(votes):
    with pytest.raises(ValueError, match="no disputed rows"):
        plots.disputed_rows(votes)
    assert pyplot.get_fignums() == []
