"""Refusals as a user reads them: one sentence, no trace of Java or Python."""

import re

import pytest
from pyspark.errors import PySparkException

from spark_cnn_ensemble.worker.refusal import refusal_in


def a_sentence(text):
    """`text`, if it is what a user can read: one line, one sentence, no trace of Java or Python."""
    assert "\n" not in text, text
    assert text.endswith("."), text
    outside = re.sub(r"\([^()]*\)", "", text).replace(". Got ", " got ")
    assert not re.search(r"[.!?] [A-Z]", outside), f"more than one sentence: {text}"
    assert not re.search(r"Exception|Traceback|Error:|SQLSTATE|\bat (org|java|scala)\.|object at 0x", text), text
    return text


def refused(act, *args, kind=ValueError, **kwargs):
    """The sentence by which `act` is refused."""
    with pytest.raises(kind) as caught:
        act(*args, **kwargs)
    return a_sentence(str(caught.value))


def refused_by_job(frame):
    """The sentence inside the error of a job that `frame` fails in."""
    with pytest.raises(PySparkException) as caught:
        frame.collect()
    found = refusal_in(str(caught.value))
    assert found, str(caught.value)[:2000]
    return a_sentence(found)
