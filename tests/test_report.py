"""A report shows everything of a fit, needs nothing else, and is written whole or not at all."""

import os
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from support.results import AWKWARD_NAMES, evaluation, no_votes, out_of_bag, summary

from spark_cnn_ensemble import plots
from spark_cnn_ensemble.report import write_report
from spark_cnn_ensemble.report_sentences import story
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
def html_of(tmp_path):
    def write(fit, **options):
        path = tmp_path / "report.html"
        write_report(fit, path, **options)
        return path.read_text(encoding="utf-8")

    return write


@pytest.fixture
def page_of(html_of, monkeypatch):
    """Pages whose pictures are empty, which saves time."""
    for name in plots.__all__:
        monkeypatch.setattr(plots, name, lambda *_, ax: ax.set_axis_off())
    return lambda *args, **options: Page(html_of(*args, **options))


CASES = {
    "three members": (summary(out_of_bag=out_of_bag(3)), {}),
    "held-out rows too": (summary(4, validation=True, out_of_bag=out_of_bag(4)), {"evaluation": evaluation(4)}),
    "one member": (summary(1, 1, out_of_bag=out_of_bag(1)), {}),
    "a hundred members": (summary(100, out_of_bag=out_of_bag(100)), {}),
    "no out-of-bag votes": (summary(), {}),
    "no row out-of-bag": (summary(out_of_bag=no_votes()), {}),
    "two classes": (summary(out_of_bag=out_of_bag(3, classes=2)), {"class_names": ["<b>", "&amp;"]}),
    "awkward names": (
        summary(out_of_bag=out_of_bag(3, classes=4)),
        {"class_names": AWKWARD_NAMES, "title": AWKWARD_NAMES[0]},
    ),
    "thirty classes": (summary(out_of_bag=out_of_bag(3, classes=30, number=0)), {}),
}


# ---- a page that stands alone


@pytest.fixture(scope="module", params=CASES)
def text(request, tmp_path_factory):
    """The page of each case."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    fit, options = CASES[request.param]
    write_report(fit, path, **options)
    return path.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_page_is_well_formed_and_fetches_nothing(text):
    page = Page(text)
    assert not {"script", "link", "iframe", "object", "base"} & set(page.tags)
    assert all(value.startswith(("data:image/png;base64,", "#")) for value in page.values(*FETCHING))
    namespaces = page.values("xmlns", "xmlns:xlink")
    assert text.count("://") == len(namespaces) == 2 * page.tags.count("svg")
    assert "@import" not in text
    assert set(re.findall(r"url\((.)", text)) <= {"#"}
    assert not [name for name, _ in page.attributes if name.startswith("on")]


@pytest.mark.slow
def test_ids_are_unique_and_every_reference_has_its_id(text):
    page = Page(text)
    ids = page.values("id")
    assert len(ids) == len(set(ids)) > 0
    referenced = [value[1:] for value in page.values("href", "xlink:href") if value.startswith("#")]
    assert set(referenced) | set(re.findall(r"url\(#([^)]+)\)", text)) <= set(ids)


@pytest.mark.slow
def test_the_page_fits_the_theme_the_screen_and_paper(text):
    assert "currentColor" in text and "var(--blue)" in text
    assert "#010203" not in text and "#0072b2" not in text.split("</style>", 1)[1]
    assert "prefers-color-scheme: dark" in text and "@media print" in text
    assert ("viewport", "width=device-width, initial-scale=1") in zip(
        Page(text).values("name"), Page(text).values("content"), strict=True
    )


def test_names_with_markup_are_shown_as_text(html_of):
    fit, options = CASES["awkward names"]
    text = html_of(fit, **options)
    page = Page(text)
    assert "<script" not in text
    assert page.text.count(AWKWARD_NAMES[0]) > 3  # title, heading, sentences, images
    assert all(name in page.text for name in AWKWARD_NAMES[1:3])


def test_reasons_of_missing_members_are_shown_as_text(page_of, html_of):
    fit = summary(missingMembers={7: "<img src=x onerror=alert(1)>"})
    assert "<img src=x" not in html_of(fit)
    assert "member 7 is missing" in page_of(fit).text


# ---- sections


def test_the_summary_has_every_sentence(page_of):
    fit, options = CASES["held-out rows too"]
    page = page_of(fit, **options)
    paragraphs = [Page(sentences).text for sentences in story(fit, options["evaluation"], None)]
    assert len(paragraphs) == 7
    assert all(paragraph in page.text for paragraph in paragraphs)


def test_out_of_bag_rows_have_a_section(page_of):
    page = page_of(summary(out_of_bag=out_of_bag(3)))
    assert page.titles == ["Summary", "Key figures", "Training", "The vote on out-of-bag rows", "Members"]


def test_held_out_rows_have_a_section_of_their_own(page_of):
    fit, options = CASES["held-out rows too"]
    page = page_of(fit, **options)
    assert page.titles[3:5] == ["The vote on held-out rows", "The vote on out-of-bag rows"]
    assert page.tags.count("svg") == 2 + 5 + 5
    assert page.tags.count("img") == len(fit.outOfBag.disputedRows) + len(options["evaluation"].disputedRows)


@pytest.mark.parametrize("votes", [None, no_votes()], ids=["no sample", "no row out-of-bag"])
def test_without_votes_there_is_no_section_of_votes(votes, page_of):
    page = page_of(summary(out_of_bag=votes))
    assert page.titles == ["Summary", "Key figures", "Training", "Members"]
    assert page.tags.count("svg") == 2


def test_key_figures_are_the_facts_of_the_summary(page_of):
    fit = summary(out_of_bag=out_of_bag(3))
    page = page_of(fit)
    assert [tuple(row) for row in page.cells[: len(fit.facts())]] == fit.facts()


def test_one_member_has_no_pictures_of_agreement(page_of):
    page = page_of(summary(1, out_of_bag=out_of_bag(1)))
    assert page.tags.count("svg") == 3


def test_disputed_images_are_in_the_page_with_their_votes(page_of):
    votes = out_of_bag(3)
    page = page_of(summary(out_of_bag=votes))
    assert page.values("src") == [f"data:image/png;base64,{row.png}" for row in votes.disputedRows]
    for row in votes.disputedRows:
        most_first = sorted(enumerate(row.votes), key=lambda pair: -pair[1])
        assert ", ".join(f"{name} ({count})" for name, count in most_first if count) in page.text


def test_full_agreement_is_stated_in_place_of_disputed_images(page_of):
    labels = np.arange(30) % 3
    page = page_of(summary(out_of_bag=OutOfBag(labels, np.repeat(labels[:, None], 3, axis=1), labels, 3)))
    assert "The members agree on every row." in page.text
    assert "img" not in page.tags


def test_images_that_were_left_out_are_not_taken_for_agreement(page_of):
    page = page_of(summary(out_of_bag=out_of_bag(3, number=0)))
    assert "Pictures of disputed rows were left out." in page.text
    assert "img" not in page.tags


# ---- table of members


def test_each_member_has_a_row_with_its_measures(page_of):
    fit = summary(3, validation=True, out_of_bag=out_of_bag(3))
    head, *rows = page_of(fit).member_cells
    assert head[:3] == ["member", "out-of-bag accuracy", "validation accuracy"]
    table = fit.memberTable
    for member, row in enumerate(rows):
        cells = dict(zip(head, row, strict=True))
        assert cells["member"] == str(member)
        assert cells["out-of-bag accuracy"] == f"{table['oobAccuracy'][member]:.2%}"
        assert cells["training loss"] == f"{table['loss'][member]:.4f}"
        assert cells["rows"] == str(100 + member)
    assert len(rows) == 3


def test_the_table_of_members_has_a_column_per_measure(page_of):
    fit = summary(2, [3, 4], validation=True, out_of_bag=out_of_bag(2))
    first = replace(fit.members[0], keptEpoch=1, retries=1, spilled=True)
    other = replace(fit.members[1], classCounts=(100, 0))
    fit = replace(fit, members=(first, other))
    assert fit.unseenClasses
    head, *_ = page_of(fit).member_cells
    assert len(head) == 1 + len(fit.memberTable.columns)


def test_each_class_has_a_row_with_its_recall_and_precision(page_of):
    votes = evaluation(4, classes=3)
    page = page_of(summary(4), evaluation=votes, class_names=["ant", "bee", "<cat>"])
    shown = {tuple(row) for row in page.cells}
    for name, (rows, recall, precision) in zip(["ant", "bee", "<cat>"], votes.classTable.to_numpy(), strict=True):
        assert (name, f"{rows:,.0f}", f"{recall:.2%}", f"{precision:.2%}") in shown


def test_the_lowest_recall_is_named(page_of):
    votes = replace(evaluation(4, classes=3), confusion=np.array([[200, 0, 0], [0, 1, 3], [0, 0, 96]]))
    page = page_of(summary(4), evaluation=votes, class_names=["ant", "bee", "cat"])
    assert "Recall by class: mean 75.00%, lowest 25.00% (class 'bee', 4 rows)." in page.text


def test_the_epoch_that_members_kept_has_a_column(page_of):
    fit = summary(2, [3, 4])
    fit = replace(fit, members=(replace(fit.members[0], keptEpoch=1), fit.members[1]))
    assert ("epoch kept" in page_of(fit).text) and ("epoch kept" not in page_of(summary(2)).text)


def test_columns_without_information_are_left_out(page_of):
    head, *_ = page_of(summary()).member_cells
    assert "retries" not in head and "trained from disk" not in head


def test_a_member_without_out_of_bag_rows_has_an_empty_cell(page_of):
    votes = out_of_bag(3)
    votes.votes[:, 1] = -1
    votes.predictions[(votes.votes < 0).all(axis=1)] = -1
    page = page_of(summary(out_of_bag=votes))
    assert [row[1] == "" for row in page.member_cells[1:]] == [False, True, False]
    assert "nan" not in page.text.lower()


def test_a_long_table_of_members_is_folded_and_complete(page_of):
    few, many = (page_of(summary(members)) for members in (20, 100))
    assert "details" not in few.tags and "details" in many.tags
    assert "All 100 members" in many.text
    assert [row[0] for row in many.member_cells[1:]] == [str(member) for member in range(100)]


# ---- writing


@pytest.mark.slow
def test_the_same_fit_gives_the_same_bytes(html_of):
    fit, options = CASES["held-out rows too"]
    assert html_of(fit, **options) == html_of(fit, **options)


def test_a_report_has_its_own_style_and_leaves_pyplot_as_it_was(html_of):
    with matplotlib.rc_context({"axes.grid": True, "text.color": "red"}):
        before = dict(matplotlib.rcParams)
        text = html_of(summary())
        assert dict(matplotlib.rcParams) == before
    assert pyplot.get_fignums() == []
    assert text == html_of(summary())


def test_to_html_of_a_summary_writes_the_report(tmp_path):
    fit = summary()
    fit.to_html(str(tmp_path / "a.html"))
    write_report(fit, tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_a_folder_that_does_not_exist_is_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"folder '.*nowhere' does not exist"):
        write_report(summary(), tmp_path / "nowhere" / "report.html")


def test_a_link_goes_on_to_lead_to_its_report(tmp_path):
    (tmp_path / "latest.html").symlink_to(tmp_path / "report.html")
    write_report(summary(), tmp_path / "latest.html")
    assert (tmp_path / "latest.html").is_symlink()
    assert (tmp_path / "report.html").read_text().startswith("<!")


def test_a_pipe_is_refused_and_stays(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="pipe' is not a file; give the path of a file for the report"):
        write_report(summary(), tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


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
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'spark-cnn-ensemble\[plots\]'"):
        write_report(summary(), tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_each_class_needs_a_name(tmp_path):
    with pytest.raises(ValueError, match="2 names for 3 classes"):
        write_report(summary(out_of_bag=out_of_bag()), tmp_path / "report.html", class_names=["a", "b"])
    assert list(tmp_path.iterdir()) == []
