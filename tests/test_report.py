"""The report: what it says, that it needs nothing else, and that it is written whole or not at all."""

import re
import sys
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from support.results import HOSTILE, evaluation, nothing_voted, out_of_bag, summary

from spark_cnn_ensemble import plots, report
from spark_cnn_ensemble.report import write_report
from spark_cnn_ensemble.votes import OutOfBag

VOID = {"meta", "br", "img"}
FETCHING = {"src", "href", "xlink:href", "srcset", "action", "data", "poster"}


class Page(HTMLParser):
    """A page's text, attributes and cells; fails on tags that do not match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes = [], [], []
        self.cells, self.titles, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []
        self.text = " ".join("".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")
        if tag == "h2":
            self.titles.append("")

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if "style" in self.open:
            return
        self.words.append(text)
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1][-1] += text
        if "h2" in self.open:
            self.titles[-1] += text

    def values(self, *names):
        return [value for name, value in self.attributes if name in names]

    @property
    def member_cells(self):
        """The table of members, its head first."""
        start = next(index for index, row in enumerate(self.cells) if row[0] == "member")
        return self.cells[start:]


@pytest.fixture
def written(tmp_path):
    def write(fit, **options):
        path = tmp_path / "report.html"
        write_report(fit, path, **options)
        return path.read_text(encoding="utf-8")

    return write


@pytest.fixture
def told(written, monkeypatch):
    """The page without its pictures, which take time."""
    monkeypatch.setattr(report, "_svg", lambda draw, title: "<svg></svg>")
    return lambda *args, **options: Page(written(*args, **options))


CASES = {
    "three members": (summary(out_of_bag=out_of_bag(3)), {}),
    "held-out rows too": (summary(4, validation=True, out_of_bag=out_of_bag(4)), {"evaluation": evaluation(4)}),
    "one member": (summary(1, 1, out_of_bag=out_of_bag(1)), {}),
    "a hundred members": (summary(100, out_of_bag=out_of_bag(100)), {}),
    "no out-of-bag votes": (summary(), {}),
    "no row out-of-bag": (summary(out_of_bag=nothing_voted()), {}),
    "two classes": (summary(out_of_bag=out_of_bag(3, classes=2)), {"class_names": ["<b>", "&amp;"]}),
    "hostile names": (summary(out_of_bag=out_of_bag(3, classes=4)), {"class_names": HOSTILE, "title": HOSTILE[0]}),
    "thirty classes": (summary(out_of_bag=out_of_bag(3, classes=30, number=0)), {}),
}


@pytest.fixture(scope="module", params=CASES)
def text(request, tmp_path_factory):
    """The page of each case."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    fit, options = CASES[request.param]
    write_report(fit, path, **options)
    return path.read_text(encoding="utf-8")


def test_the_page_is_sound_and_asks_for_nothing(text):
    page = Page(text)
    assert not {"script", "link", "iframe", "object", "base"} & set(page.tags)
    assert all(value.startswith(("data:image/png;base64,", "#")) for value in page.values(*FETCHING))
    namespaces = page.values("xmlns", "xmlns:xlink")
    assert text.count("://") == len(namespaces) == 2 * page.tags.count("svg")
    assert "@import" not in text
    assert set(re.findall(r"url\((.)", text)) <= {"#"}
    assert not [name for name, _ in page.attributes if name.startswith("on")]


def test_each_id_stands_once_and_is_found(text):
    page = Page(text)
    ids = page.values("id")
    assert len(ids) == len(set(ids)) > 0
    pointed = [value[1:] for value in page.values("href", "xlink:href") if value.startswith("#")]
    assert set(pointed) | set(re.findall(r"url\(#([^)]+)\)", text)) <= set(ids)


def test_the_page_follows_the_theme_and_the_paper(text):
    assert "currentColor" in text and "var(--blue)" in text
    assert "#010203" not in text and "#0072b2" not in text.split("</style>", 1)[1]
    assert "prefers-color-scheme: dark" in text and "@media print" in text
    assert ("viewport", "width=device-width, initial-scale=1") in zip(
        Page(text).values("name"), Page(text).values("content"), strict=True
    )


def test_hostile_text_is_shown_and_not_obeyed(written):
    fit, options = CASES["hostile names"]
    text = written(fit, **options)
    page = Page(text)
    assert "<script" not in text
    assert page.text.count(HOSTILE[0]) > 3  # title, heading, story, images
    assert all(name in page.text for name in HOSTILE[1:3])


def test_reasons_of_missing_members_are_escaped(written):
    text = written(summary(missingMembers={7: "<img src=x onerror=alert(1)>"}))
    assert "<img src=x" not in text
    assert "1 more member failed and was left out." in text
    assert "member 7 is missing" in Page(text).text


# ---- what it says


def test_the_story_tells_the_training(told):
    page = told(summary(3, [2, 4, 3], skippedRows=1))
    assert (
        "3 members were trained on 999 rows in 12 seconds, each on 100 to 102 of them and for 2 to 4 epochs. "
        "1 row could not be used and was left out."
    ) in page.text
    alone = told(summary(1, 1))
    assert "1 member was trained on 1,000 rows in 12 seconds, on 100 of them and for 1 epoch." in alone.text


def test_the_story_tells_the_out_of_bag_accuracy(told):
    votes = out_of_bag(3)
    page = told(summary(out_of_bag=votes))
    low, high = votes.accuracyInterval
    assert f"the vote is right on {votes.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%})" in page.text
    assert f"On {votes.rows} sampled rows" in page.text
    alone = votes.memberAccuracies
    assert f"{alone.mean():.2%} on average, {alone.min():.2%} to {alone.max():.2%}" in page.text
    assert page.titles == ["In short", "The fit in figures", "Training", "The vote on out-of-bag rows", "Members"]


def test_held_out_rows_are_shown_as_well(told):
    fit, options = CASES["held-out rows too"]
    page = told(fit, **options)
    assert f"On 300 held-out rows, the vote is right on {options['evaluation'].accuracy:.2%}" in page.text
    assert f"the vote is right on {fit.outOfBag.accuracy:.2%}" in page.text
    assert page.titles[3:5] == ["The vote on held-out rows", "The vote on out-of-bag rows"]
    assert page.tags.count("svg") == 2 + 5 + 5
    assert page.tags.count("img") == len(fit.outOfBag.disputedRows) + len(options["evaluation"].disputedRows)


@pytest.mark.parametrize(("votes", "reason"), [(None, "oobSampleSize is 0"), (nothing_voted(), "of the sample")])
def test_says_why_there_is_no_out_of_bag_estimate(votes, reason, told):
    page = told(summary(out_of_bag=votes))
    assert re.search(f"There is no out-of-bag estimate: [^.]*{re.escape(reason)}", page.text)
    assert page.titles == ["In short", "The fit in figures", "Training", "Members"]
    assert page.tags.count("svg") == 2


def growing(right_by_size, rows=1000):
    """Votes of so many members, of which the first 1, 2, ... get so many rows right."""
    votes = evaluation(len(right_by_size), rows=rows)
    votes.rightBySize[:] = right_by_size
    return votes


@pytest.mark.parametrize(
    ("right", "said"),
    [
        ([700, 800, 850, 900], "2 members together get 80.00% right, 4 get 90.00%: 10.00 points more, beyond the"),
        (
            [700, 895, 850, 900],
            "4 get 90.00%: 0.50 points more, which is within the uncertainty of the estimate (± 1.86 points)",
        ),
        ([700, 900, 850, 900], "the curve has levelled off"),
        ([700, 950, 850, 900], "the curve has levelled off"),
        ([100, 1000, 1000, 1000], "the curve has levelled off"),
        ([800, 900], "? 1 member gets 80.00% right, 2 get 90.00%"),
        ([800, 850, 900], "? 1 member gets 80.00% right, 3 get 90.00%"),
        ([800], "cannot be judged from votes of one size"),
    ],
)
def test_the_story_tells_whether_more_members_would_help(right, said, told):
    page = told(summary(len(right)), evaluation=growing(right))
    assert said in page.text


def test_the_story_tells_what_is_mistaken_most(told):
    votes = evaluation(classes=3)
    votes.confusion[:] = [[50, 0, 7], [2, 1_000, 1], [9, 0, 60]]
    page = told(summary(4), evaluation=votes, class_names=["ant", "bee", "犬"])
    assert "What is mistaken most: 犬 for ant (9 of 69 rows), ant for 犬 (7 of 57 rows) and bee for ant" in page.text
    assert "In all, 19 rows went wrong." in page.text


def test_the_story_of_a_faultless_vote(told):
    labels = np.arange(60) % 3
    votes = OutOfBag(labels, np.repeat(labels[:, None], 4, axis=1), labels, 3)
    page = told(summary(4, out_of_bag=votes))
    assert "No row is confused with another class." in page.text
    assert "On 100.0% of the rows all members that vote agree, and 100.00% of these are right." in page.text
    assert "The members agree on every row." in page.text


def test_the_story_tells_how_sure_the_vote_is(told):
    votes = OutOfBag(
        np.array([0, 0, 0, 0, 1, 1, 1, 1]),
        np.array([[0, 0], [0, 0], [0, 0], [1, 1], [0, 1], [0, 1], [0, 1], [1, -1]]),
        np.array([0, 0, 0, 1, 0, 0, 1, 1]),
        2,
    )
    page = told(summary(2, out_of_bag=votes))
    said = "On 62.5% of the rows all members that vote agree, and 80.00% of these are right; of the other 37.5%, 33.33% are"
    assert said in page.text


def test_a_vote_that_is_never_unanimous(told):
    votes = OutOfBag(np.array([0, 1]), np.array([[0, 1], [0, 1]]), np.array([0, 0]), 2)
    assert "On no row do all members that vote agree" in told(summary(2, out_of_bag=votes)).text


def test_the_facts_are_those_of_the_summary(told):
    fit = summary(out_of_bag=out_of_bag(3))
    page = told(fit)
    assert [tuple(row) for row in page.cells[: len(fit.facts())]] == fit.facts()


def test_the_table_of_members(told):
    fit = summary(3, validation=True, out_of_bag=out_of_bag(3))
    head, *rows = told(fit).member_cells
    assert head[:3] == ["member", "out-of-bag accuracy", "validation accuracy"]
    assert "retries" not in head and "trained from disk" not in head
    table = fit.memberTable
    for member, row in enumerate(rows):
        cells = dict(zip(head, row, strict=True))
        assert cells["member"] == str(member)
        assert cells["out-of-bag accuracy"] == f"{table['oobAccuracy'][member]:.2%}"
        assert cells["loss in training"] == f"{table['loss'][member]:.4f}"
        assert cells["rows"] == str(100 + member)
    assert len(rows) == 3


def test_a_member_without_out_of_bag_rows_has_an_empty_cell(told):
    votes = out_of_bag(3)
    votes.votes[:, 1] = -1
    votes.predictions[(votes.votes < 0).all(axis=1)] = -1
    page = told(summary(out_of_bag=votes))
    assert [row[1] == "" for row in page.member_cells[1:]] == [False, True, False]
    assert "nan" not in page.text.lower()


def test_many_members_are_folded_away_and_all_there(told):
    few, many = (told(summary(members)) for members in (20, 100))
    assert "details" not in few.tags and "details" in many.tags
    assert "All 100 members" in many.text
    assert [row[0] for row in many.member_cells[1:]] == [str(member) for member in range(100)]


def test_one_member_has_no_pictures_of_agreement(told):
    page = told(summary(1, out_of_bag=out_of_bag(1)))
    assert page.tags.count("svg") == 3
    assert "one member always agrees with itself" in page.text


def test_disputed_images_are_in_the_page_with_their_votes(told):
    votes = out_of_bag(3)
    page = told(summary(out_of_bag=votes))
    assert page.values("src") == [f"data:image/png;base64,{row.png}" for row in votes.disputedRows]
    for row in votes.disputedRows:
        assert ", ".join(plots.votes_cast(row, "012")) in page.text


# ---- how it is written


def test_the_same_fit_gives_the_same_bytes(written):
    fit, options = CASES["held-out rows too"]
    assert written(fit, **options) == written(fit, **options)


def test_leaves_no_figure_and_no_setting_behind_and_has_a_style_of_its_own(written):
    with matplotlib.rc_context({"axes.grid": True, "text.color": "red"}):
        before = dict(matplotlib.rcParams)
        text = written(summary())
        assert dict(matplotlib.rcParams) == before
    assert pyplot.get_fignums() == []
    assert text == written(summary())


def test_to_html_writes_it(tmp_path):
    fit = summary()
    fit.to_html(str(tmp_path / "a.html"))
    write_report(fit, tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"folder '.*nowhere' does not exist"):
        write_report(summary(), tmp_path / "nowhere" / "report.html")


@pytest.mark.parametrize(
    "failing", ["os.replace", "pathlib.Path.write_text", "spark_cnn_ensemble.plots.learning_curves"]
)
def test_a_report_that_fails_leaves_the_old_one(failing, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("the old one")

    def fail(*args, **options):
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(failing, fail)
        with pytest.raises(OSError, match="the disk is full"):
            write_report(summary(), path)
    assert path.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_without_matplotlib_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install spark_cnn_ensemble\[plots\]"):
        write_report(summary(), tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_wants_a_name_for_each_class(tmp_path):
    with pytest.raises(ValueError, match="2 names for 3 classes"):
        write_report(summary(out_of_bag=out_of_bag()), tmp_path / "report.html", class_names=["a", "b"])
    assert list(tmp_path.iterdir()) == []


def test_event_files_hold_every_curve(tmp_path):
    import tensorflow as tf

    fitted = summary(2, [2, 3])
    fitted.to_tensorboard(str(tmp_path / "events"))
    for member in fitted.members:
        (file,) = (tmp_path / "events" / f"member_{member.member}").iterdir()
        curves = {}
        for record in tf.data.TFRecordDataset(str(file)):
            for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value:
                assert value.metadata.plugin_data.plugin_name == "scalars"
                curves.setdefault(value.tag, []).append(float(tf.make_ndarray(value.tensor)))
        assert curves.keys() == member.history.keys()
        for name, curve in member.history.items():
            assert curves[name] == pytest.approx(curve)
