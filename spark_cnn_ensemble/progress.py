"""How a job goes on, shown on the driver's stderr: a bar in a terminal or a notebook, else a line now and then.

Members are counted as their tasks end, by an accumulator; the tasks that read the rows by Spark's status tracker. One
thread looks at both, twice a second, and ends with the job.
"""

from __future__ import annotations

import sys
import threading
import time
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np
from pyspark.accumulators import AccumulatorParam
from pyspark.sql import SparkSession

_PERIOD = 0.5  # seconds between two looks
_LINES_EVERY = 30.0  # seconds between two lines where there is no terminal


class _Collected(AccumulatorParam):
    """Lists that are joined."""

    def zero(self, value: list[Any]) -> list[Any]:
        return []

    def addInPlace(self, value1: list[Any], value2: list[Any]) -> list[Any]:
        return value1 + value2


class Progress:
    """Shows the members that are done, out of all, while a fit runs.

    Parameters
    ----------
    spark : SparkSession
    total : int
        Members to train.
    shown : bool
        False: silence.
    """

    def __init__(self, spark: SparkSession, total: int, shown: bool) -> None:
        self._context = spark.sparkContext
        self._total = total
        self._known: dict[int, float] = {}
        self._accumulator = self._context.accumulator([], _Collected()) if shown else None
        self._tag = f"fit-{uuid.uuid4().hex}"
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._display: _Bar | _Lines | None = None
        self._shown = shown

    @property
    def tell_from_workers(self) -> Callable[[list[tuple[int, float]]], None] | None:
        """What workers call when a member is done: (member, accuracy in training)."""
        return None if self._accumulator is None else self._accumulator.add

    def tell(self, done: list[tuple[int, float]]) -> None:
        """Count members that were done before."""
        self._known.update(done)

    def __enter__(self) -> Progress:
        if self._shown:
            self._context.addJobTag(self._tag)
            self._display = _display(self._total)
            self._thread = threading.Thread(target=self._watch, name="spark-cnn-ensemble-progress", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is None or self._display is None:
            return
        self._stop.set()
        self._thread.join()
        if error is None:
            self._look()
        self._display.close(finished=error is None)
        self._context.removeJobTag(self._tag)

    def _watch(self) -> None:
        while not self._stop.wait(_PERIOD):
            try:
                self._look()
            except Exception:
                return  # the session is gone; whoever waits for the job is told why

    def _look(self) -> None:
        assert self._accumulator is not None and self._display is not None
        # A task that Spark ran twice told of its member twice.
        self._known.update(self._accumulator.value)
        accuracies = [accuracy for accuracy in self._known.values() if np.isfinite(accuracy)]
        self._display.show(
            len(self._known), "training" if self._known else self._reading(), float(np.mean(accuracies or [np.nan]))
        )

    def _reading(self) -> str:
        """What is done before the first member is: tasks of the jobs that came before the last."""
        tracker = self._context._jsc.sc().statusTracker()
        jobs = sorted(tracker.getJobIdsForTag(self._tag))
        public = self._context.statusTracker()
        done = total = 0
        for job in jobs:
            found = public.getJobInfo(job)
            for stage in found.stageIds if found is not None else ():
                told = public.getStageInfo(stage)
                if told is not None and told.numActiveTasks:
                    done, total = told.numCompletedTasks, told.numTasks
        return "training" if len(jobs) > 1 or not total else f"reading {done}/{total}"


class _Bar:
    """tqdm's bar."""

    def __init__(self, total: int, notebook: bool) -> None:
        if notebook:
            from tqdm.auto import tqdm
        else:
            from tqdm.std import tqdm

        class Bar(tqdm):
            monitor_interval = 0  # tqdm's own thread would outlive the bar

        self._bar = Bar(total=total, desc="reading", unit="member", file=None if notebook else sys.stderr, leave=True)

    def show(self, done: int, stage: str, accuracy: float) -> None:
        self._bar.set_description_str(stage, refresh=False)
        if np.isfinite(accuracy):
            self._bar.set_postfix_str(f"accuracy {accuracy:.2%}", refresh=False)
        self._bar.n = done
        self._bar.refresh()

    def close(self, finished: bool) -> None:
        self._bar.leave = finished
        self._bar.close()


class _Lines:
    """A line now and then, for logs."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._begun = self._last = time.monotonic()

    def show(self, done: int, stage: str, accuracy: float) -> None:
        now = time.monotonic()
        if now - self._last < _LINES_EVERY:
            return
        self._last = now
        seconds = now - self._begun
        told = f"{stage}: {done} of {self._total} members in {seconds:.0f} s"
        if done and done < self._total:
            told += f", about {seconds / done * (self._total - done):.0f} s to go"
        if np.isfinite(accuracy):
            told += f", accuracy {accuracy:.2%}"
        print(told, file=sys.stderr, flush=True)

    def close(self, finished: bool) -> None:
        """Nothing is left to say."""


def _display(total: int) -> _Bar | _Lines:
    notebook = _in_notebook()
    return _Bar(total, notebook) if notebook or sys.stderr.isatty() else _Lines(total)


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"
