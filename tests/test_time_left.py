"""The time left is that of the last member, in waves of as many members as train at once."""

import pytest

from spark_cnn_ensemble.time_left import in_words, on_a_clock, seconds_left
from spark_cnn_ensemble.worker.live_report import LiveReport


def running(done, seconds, age=0.0):
    return LiveReport(0, 0, 0, done, 10, 0.5, seconds), age


@pytest.mark.parametrize(
    ("members", "ended", "waiting", "left"),
    [
        ([running(0.5, 60)], [], 0, 60),
        ([running(0.5, 60, age=20)], [], 0, 40),
        ([running(0.5, 60), running(0.25, 60)], [], 0, 180),  # the slower one
        ([running(0.5, 60)] * 2, [], 2, 60 + 120),  # a second wave
        ([running(0.5, 60)] * 2, [], 3, 60 + 120 + 120),  # and one that is not full
        ([running(0.0, 0)], [100, 140], 0, 120),
        ([running(0.1, 0)], [], 3, None),  # only the first report of steps
        ([], [100], 3, None),
    ],
)
def test_seconds_left(members, ended, waiting, left):
    assert seconds_left(members, ended, waiting) == left


@pytest.mark.parametrize(
    ("seconds", "words", "clock"),
    [(0.4, "0 s", "00:00"), (89, "89 s", "01:29"), (720, "12 min", "12:00"), (12_000, "3 h 20 min", "3:20:00")],
)
def test_a_time_in_words(seconds, words, clock):
    assert (in_words(seconds), on_a_clock(seconds)) == (words, clock)
