"""Progress on the driver's stderr: a bar in a terminal or a notebook, elsewhere a line every 30 seconds.

A fit counts members as their tasks end; scoring counts Spark's tasks. One thread polls the counts twice per second and
ends with the job. Called by the estimator (fit) and the command line (scoring).
"""

from __future__ import annotations

import importlib.util
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np
from pyspark.sql import SparkSession

from spark_cnn_ensemble.engine import engine_of

_POLL_PERIOD = 0.5  # seconds between two polls
LINE_PERIOD = 30.0  # seconds between two lines in a log


def note(text: str, shown: bool) -> None:
    """A line about a fit, if anything is shown."""
    if shown:
        print(text, file=sys.stderr, flush=True)


class _Watch(ABC):
    """Watches the jobs that run inside a `with` block, and shows their progress.

    If the block raises, the jobs that still run are cancelled.

    Parameters
    ----------
    spark : SparkSession
    unit : str
        The noun for what is counted, singular.
    shown : bool
        Whether anything is shown.
    """

    def __init__(self, spark: SparkSession, unit: str, shown: bool) -> None:
        self._jobs = engine_of(spark).watch_jobs()
        self._unit = unit
        self._shown = shown
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._display: _Bar | _Lines | None = None

    def __enter__(self) -> Any:
        self._jobs.start()
        if self._shown:
            self._display = _display(self._unit)
            self._thread = threading.Thread(target=self._watch, name="spark-cnn-ensemble-progress", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None and self._display is not None:
            self._stop.set()
            self._thread.join()
            if error is None:
                self._update(self._display)
            self._display.close(finished=error is None)
        self._jobs.stop(cancel=error is not None)

    def _watch(self) -> None:
        assert self._display is not None
        while not self._stop.wait(_POLL_PERIOD):
            try:
                self._update(self._display)
            except Exception:
                return  # the session is gone; the caller who waits for the job gets the reason

    @abstractmethod
    def _update(self, display: _Bar | _Lines) -> None: ...


class FitProgress(_Watch):
    """Progress of a fit, in finished members of `total`."""

    def __init__(self, spark: SparkSession, total: int, shown: bool) -> None:
        super().__init__(spark, "member", shown)
        self._total = total
        self._accuracies: dict[tuple[int, int], float] = {}  # by (plan, member)
        self._reported = engine_of(spark).collector() if shown else None

    @property
    def reporter(self) -> Callable[[list[tuple[tuple[int, int], float]]], None] | None:
        """What workers call with [((plan, member), training accuracy)] when a member is finished.

        None if nothing is shown, or if the engine learns only which tasks have ended.
        """
        return None if self._reported is None else self._reported.add

    def count(self, done: list[tuple[tuple[int, int], float]]) -> None:
        """Count members that were finished before."""
        self._accuracies.update(done)

    def _update(self, display: _Bar | _Lines) -> None:
        before = len(self._accuracies)
        stages = self._jobs.stages()
        if self._reported is not None:
            self._accuracies.update(self._reported.values)
            done = len(self._accuracies)
        else:
            # One task trains one member, in the stage that has as many tasks as there are members to train.
            done = before + max((ended for ended, tasks in stages[1:] if tasks == self._total - before), default=0)
        stage = "training"
        if not done and len(stages) == 1:  # Spark reads the rows in a stage of their own
            stage = f"reading {stages[0][0]}/{stages[0][1]}"
        finite = [accuracy for accuracy in self._accuracies.values() if np.isfinite(accuracy)]
        note = f"accuracy {np.mean(finite):.2%}" if finite else ""
        display.show(done, self._total, stage, note)


class TaskProgress(_Watch):
    """Progress of any other job, in finished tasks."""

    def __init__(self, spark: SparkSession, stage: str, shown: bool) -> None:
        super().__init__(spark, "task", shown)
        self._stage = stage

    def _update(self, display: _Bar | _Lines) -> None:
        done, total = (sum(numbers) for numbers in zip(*self._jobs.stages() or [(0, 0)], strict=True))
        display.show(done, total, self._stage, "")


class _Bar:
    """A bar of tqdm's."""

    def __init__(self, unit: str, notebook: bool) -> None:
        if notebook and importlib.util.find_spec("ipywidgets") is not None:
            from tqdm.notebook import tqdm
        else:
            from tqdm.std import tqdm

        class Bar(tqdm):
            monitor_interval = 0  # tqdm's own thread would outlive the bar

        self._bar = Bar(total=0, unit=unit, file=sys.stderr)

    def show(self, done: int, total: int, stage: str, note: str) -> None:
        self._bar.total, self._bar.n = total, done
        self._bar.set_description_str(stage, refresh=False)
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.refresh()

    def close(self, finished: bool) -> None:
        self._bar.leave = finished
        self._bar.close()


class _Lines:
    """A line every `LINE_PERIOD`, for logs."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._start = self._last = time.monotonic()

    def show(self, done: int, total: int, stage: str, note: str) -> None:
        now = time.monotonic()
        if now - self._last < LINE_PERIOD:
            return
        self._last = now
        seconds = now - self._start
        line = f"{stage}: {done} of {total} {self._unit}s in {seconds:.0f} s"
        if 0 < done < total:
            line += f", about {seconds / done * (total - done):.0f} s to go"
        print(", ".join(filter(None, [line, note])), file=sys.stderr, flush=True)

    def close(self, finished: bool) -> None:
        """Do nothing."""


def _display(unit: str) -> _Bar | _Lines:
    notebook = _in_notebook()
    return _Bar(unit, notebook) if notebook or sys.stderr.isatty() else _Lines(unit)


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"
