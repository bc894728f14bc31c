"""What a classic session knows about its running jobs, through tags, the status tracker and accumulators."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pyspark import SparkContext
from pyspark.accumulators import AccumulatorParam

from spark_cnn_ensemble.engine.interface import Collector, JobWatch


class TaggedJobs(JobWatch):
    """The jobs with a tag that is the watch's own."""

    def __init__(self, context: SparkContext) -> None:
        self._context = context
        self._tag = f"progress-{uuid.uuid4().hex}"

    def start(self) -> None:
        self._context.addJobTag(self._tag)

    def stop(self, cancel: bool) -> None:
        with suppress(Exception):
            if cancel:
                # Jobs go on after an interrupt: PySpark's handler cannot cancel them while a call to the JVM waits.
                self._context.cancelJobsWithTag(self._tag)
            self._context.removeJobTag(self._tag)

    def stages(self) -> list[tuple[int, int]]:
        jobs = self._context._jsc.sc().statusTracker().getJobIdsForTag(self._tag)
        tracker = self._context._jsc.statusTracker()
        stages = {}
        for job in sorted(jobs):
            info = tracker.getJobInfo(job)
            stages.update({stage: tracker.getStageInfo(stage) for stage in info.stageIds()} if info is not None else {})
        # A stage that Spark skips is never submitted.
        begun = [stage for _, stage in sorted(stages.items()) if stage is not None and stage.submissionTime() > 0]
        return [(stage.numCompletedTasks(), stage.numTasks()) for stage in begun]


class AccumulatorCollector(Collector):
    """Values in an accumulator, which Spark updates as each task ends."""

    def __init__(self, context: SparkContext) -> None:
        self._accumulator = context.accumulator([], _Concatenation())

    @property
    def add(self) -> Callable[[list[Any]], None]:
        return self._accumulator.add

    @property
    def values(self) -> list[Any]:
        return self._accumulator.value


class _Concatenation(AccumulatorParam):
    def zero(self, value: list[Any]) -> list[Any]:
        return []

    def addInPlace(self, value1: list[Any], value2: list[Any]) -> list[Any]:
        return value1 + value2
