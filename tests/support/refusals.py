"""Refusals as a user reads them: one sentence without a trace of Java or Python, best before any job starts."""

import re
import uuid
from contextlib import contextmanager

import pytest
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from spark_cnn_ensemble.worker.refusal import refusal_in


def as_sentence(text):
    """`text`, after a check that a user can read it: one line, one sentence, no trace of Java or Python."""
    assert "\n" not in text, text
    assert text.endswith("."), text
    outside = re.sub(r"\([^()]*\)", "", text).replace(". Got ", " got ")
    assert not re.search(r"[.!?] [A-Z]", outside), f"more than one sentence: {text}"
    assert not re.search(r"Exception|Traceback|Error:|SQLSTATE|\bat (org|java|scala)\.|object at 0x", text), text
    return text


def refused(call, *args, kind=ValueError, **kwargs):
    """The sentence with which `call` is refused."""
    with pytest.raises(kind) as caught:
        call(*args, **kwargs)
    return as_sentence(str(caught.value))


def refused_by_job(frame):
    """The sentence inside the error of the job that computes `frame`."""
    with pytest.raises((PySparkException, Py4JJavaError)) as caught:  # Spark 3.5 gives the latter
        frame.collect()
    sentence = refusal_in(str(caught.value))
    assert sentence, str(caught.value)[:2000]
    return as_sentence(sentence)


@contextmanager
def jobs_started(spark):
    """The ids of the jobs that start inside the block; the list is filled at its end."""
    context, group, ids = spark.sparkContext, uuid.uuid4().hex, []
    context.setJobGroup(group, "a refusal")
    try:
        yield ids
    finally:
        context._jsc.sc().listenerBus().waitUntilEmpty()
        ids.extend(context.statusTracker().getJobIdsForGroup(group))
        context.setLocalProperty("spark.jobGroup.id", None)


def tasks_per_stage(spark, action):
    """The number of tasks of each stage of the jobs that `action` starts."""
    with jobs_started(spark) as jobs:
        action()
    tracker = spark.sparkContext.statusTracker()
    return [tracker.getStageInfo(stage).numTasks for job in jobs for stage in tracker.getJobInfo(job).stageIds]


def refused_before_any_job(spark, call, *args, kind=ValueError):
    """The sentence with which `call` is refused, after a check that it started no job."""
    with jobs_started(spark) as ids:
        text = refused(call, *args, kind=kind)
    assert not ids
    return text
