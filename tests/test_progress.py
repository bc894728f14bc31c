"""What a user sees of a running job: a bar in a terminal, lines in a log, or nothing."""

import fcntl
import io
import os
import pty
import re
import struct
import termios
import threading
from contextlib import contextmanager, redirect_stderr, suppress

import pytest
from support.classifiers import small

from spark_cnn_ensemble import progress
from spark_cnn_ensemble.progress import TaskProgress


@contextmanager
def terminal():
    """Make stderr a pseudo-terminal of 120 columns; yields a list that has, in the end, the text written there."""
    reading, writing = pty.openpty()
    fcntl.ioctl(writing, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    chunks, text = [], []

    def drain():
        while True:
            try:
                chunks.append(os.read(reading, 4096))
            except OSError:  # the other side was closed
                return

    reader = threading.Thread(target=drain, daemon=True)
    reader.start()
    with os.fdopen(writing, "w") as stream, redirect_stderr(stream):
        yield text
    reader.join()
    os.close(reading)
    text.append(b"".join(chunks).decode())


@contextmanager
def log():
    """Make stderr a file; yields it."""
    with redirect_stderr(io.StringIO()) as stream:
        yield stream


def threads_left():
    """The names of threads that show progress."""
    return [thread.name for thread in threading.enumerate() if re.search("progress|tqdm", thread.name)]


def test_a_bar_counts_the_members_in_a_terminal(train):
    with terminal() as written:
        small(numMembers=3, bagging="subsample", verbose=1).fit(train)
    assert re.search(r"training: 100%\|.*\| 3/3 members \[\d\d:\d\d, accuracy \d+\.\d\d%\]", written[0]), written
    assert written[0].endswith("\r\n")
    assert not threads_left()


def test_epochs_and_loss_are_shown_before_a_member_ends(train, monkeypatch):
    monkeypatch.setattr(progress, "LINE_PERIOD", 0.5)
    with log() as written:
        small(numMembers=2, epochs=400, bagging="subsample").fit(train)
    lines = written.getvalue().splitlines()
    number = r"\d+(\.\d+)?(e-\d+)?"
    early = rf"training: 0 of 2 members in \d+ s, 2 running, epoch \d+ of 400, loss {number}, about \d+ s to go$"
    assert any(re.match(early, line) for line in lines), lines


def test_a_bar_moves_while_a_member_trains(train):
    with terminal() as written:
        small(numMembers=2, epochs=400, bagging="subsample", verbose=1).fit(train)
    early = r"training: +\d+%\|[^|]*\| 0/2 members \[\d\d:\d\d<\d\d:\d\d, epoch \d+ of 400, loss [\d.e-]+\]"
    assert re.search(early, written[0]), written


def test_a_fit_that_is_not_verbose_writes_nothing(train):
    with terminal() as written:
        small(verbose=0).fit(train)
    assert written == [""]


def test_a_short_fit_writes_nothing_to_a_log(train):
    with log() as written:
        small().fit(train)
    assert written.getvalue() == ""
    assert not threads_left()


def test_a_long_fit_writes_a_line_per_period_to_a_log(train, monkeypatch):
    monkeypatch.setattr(progress, "LINE_PERIOD", 0.5)
    with log() as written:
        small(epochs=100).fit(train)
    lines = written.getvalue().splitlines()
    assert 1 <= len(lines) <= 60
    assert all(re.match(r"(training|reading \d+/\d+): \d of 3 members in \d+ s", line) for line in lines), lines


def test_a_fit_that_fails_wipes_its_bar(train):
    with terminal() as written, pytest.raises(ValueError, match="diverged"):
        small(learningRate=1e30, epochs=3).fit(train)
    assert not re.sub(r"\x1b\[\w", "", written[0].rstrip("\r").rsplit("\r", 1)[-1]).strip()
    assert not threads_left()


def test_a_bar_counts_the_tasks_of_other_jobs(spark):
    with terminal() as written, TaskProgress(spark, "scoring", shown=True):
        spark.range(0, 100, 1, 4).selectExpr("sum(id)").collect()
    assert re.search(r"scoring: 100%\|.*\| 5/5 tasks \[\d\d:\d\d\]", written[0]), written
    assert not threads_left()


def test_a_stderr_that_cannot_be_written_to_does_not_fail_the_job(spark, monkeypatch):
    monkeypatch.setattr(progress, "LINE_PERIOD", 0)
    full = open("/dev/full", "w")  # noqa: SIM115 - what it could not write would fail the end of a `with`
    with redirect_stderr(full), TaskProgress(spark, "counting", shown=True):
        assert spark.range(9).count() == 9
    assert not threads_left()
    with suppress(OSError):
        full.close()


def test_a_job_tag_of_the_user_stays(spark, train):
    spark.sparkContext.addJobTag("mine")
    try:
        small().fit(train)
        assert list(spark.sparkContext.getJobTags()) == ["mine"]
    finally:
        spark.sparkContext.clearJobTags()
