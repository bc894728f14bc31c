"""What a user sees while a fit runs: on a real terminal (a pseudo one), in a log, and nothing where nothing is wanted."""

import fcntl
import io
import os
import pty
import re
import struct
import termios
import threading
from contextlib import contextmanager, redirect_stderr

import pytest
from support.classifiers import small

from spark_cnn_ensemble import progress
from spark_cnn_ensemble.progress import TaskProgress


@contextmanager
def terminal():
    """stderr as a terminal of 120 columns; gives a list that holds, afterwards, what was written there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    found, text = [], []

    def drain():
        while True:
            try:
                found.append(os.read(ours, 4096))
            except OSError:  # the other side was closed
                return

    reader = threading.Thread(target=drain, daemon=True)
    reader.start()
    with os.fdopen(theirs, "w") as stream, redirect_stderr(stream):
        yield text
    reader.join()
    os.close(ours)
    text.append(b"".join(found).decode())


@contextmanager
def log():
    """stderr as a file; gives it."""
    with redirect_stderr(io.StringIO()) as stream:
        yield stream


def left_over():
    return [thread.name for thread in threading.enumerate() if re.search("progress|tqdm", thread.name)]


def test_a_bar_counts_the_members_in_a_terminal(train):
    with terminal() as written:
        small(numMembers=3, bagging="subsample", verbose=1).fit(train)
    assert re.search(r"training: 100%\|.*\| 3/3 \[.*member.*accuracy \d+\.\d\d%", written[0]), written
    assert written[0].endswith("\r\n")
    assert not left_over()


def test_silence_where_it_is_asked_for(train):
    with terminal() as written:
        small(verbose=0).fit(train)
    assert written == [""]


def test_a_short_fit_writes_nothing_to_a_log(train):
    with log() as written:
        small().fit(train)
    assert written.getvalue() == ""
    assert not left_over()


def test_a_long_fit_writes_a_line_now_and_then(train, monkeypatch):
    monkeypatch.setattr(progress, "_LINES_EVERY", 0.5)
    with log() as written:
        small(epochs=20).fit(train)
    lines = written.getvalue().splitlines()
    assert 1 <= len(lines) <= 60
    assert all(re.match(r"(training|reading \d+/\d+): \d of 3 members in \d+ s", line) for line in lines), lines


def test_a_fit_that_fails_leaves_nothing_but_the_reason(train):
    with terminal() as written, pytest.raises(ValueError, match="diverged"):
        small(learningRate=1e30, epochs=3).fit(train)
    assert not re.sub(r"\x1b\[\w", "", written[0].rstrip("\r").rsplit("\r", 1)[-1]).strip()  # the bar is wiped
    assert not left_over()


def test_tasks_are_counted(spark):
    with terminal() as written, TaskProgress(spark, "scoring", shown=True):
        spark.range(0, 100, 1, 4).selectExpr("sum(id)").collect()
    assert re.search(r"scoring: 100%\|.*\| 5/5 \[.*task", written[0]), written
    assert not left_over()


def test_a_tag_of_the_users_own_stays(spark, train):
    spark.sparkContext.addJobTag("mine")
    try:
        small().fit(train)
        assert list(spark.sparkContext.getJobTags()) == ["mine"]
    finally:
        spark.sparkContext.clearJobTags()
