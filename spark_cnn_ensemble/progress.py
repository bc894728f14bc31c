"""Progress on the driver's stderr: a bar in a terminal or a notebook, elsewhere a line now and then.

Members are counted as their tasks end, and tasks as Spark counts them. One thread polls both twice a second, and ends
with the job. The estimator shows its fit, the command line its scoring.
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

_PERIOD = 0.5  # seconds between two polls
_LINES_EVERY = 30.0  # seconds between two lines where there is no terminal


class _Watch(ABC):
    """Watches the jobs that run inside a `with` block, and shows their progress.

    Parameters
    ----------
    spark : SparkSession
    unit : str
        The noun for what is counted.
    shown : bool
        False: silence.
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
                self._look(self._display)
            self._display.close(finished=error is None)
        self._jobs.stop(cancel=error is not None)

    def _watch(self) -> None:
        assert self._display is not None
        while not self._stop.wait(_PERIOD):
            try:
                self._look(self._display)
            except Exception:
                return  # the session is gone; whoever waits for the job gets the reason

    @abstractmethod
    def _look(self, display: _Bar | _Lines) -> None: ...


class FitProgress(_Watch):
    """The members that are done, of `total`."""

    def __init__(self, spark: SparkSession, total: int, shown: bool) -> None:
        super().__init__(spark, "member", shown)
        self._total = total
        self._known: dict[tuple[int, int], float] = {}
        self._done = engine_of(spark).collector() if shown else None

    @property
    def reporter(self) -> Callable[[list[tuple[tuple[int, int], float]]], None] | None:
        """What workers call when a member is done: ((plan, member), training accuracy)."""
        return None if self._done is None else self._done.add

    def count(self, done: list[tuple[tuple[int, int], float]]) -> None:
        """Count members that were done before."""
        self._known.update(done)

    def _look(self, display: _Bar | _Lines) -> None:
        assert self._done is not None
        self._known.update(self._done.values)
        stage = "training"
        tasks = self._jobs.tasks()
        if not self._known and len(tasks) == 1:  # Spark reads the rows in a job of its own
            stage = f"reading {tasks[0][0]}/{tasks[0][1]}"
        accuracies = [accuracy for accuracy in self._known.values() if np.isfinite(accuracy)]
        display.show(len(self._known), self._total, stage, f"accuracy {np.mean(accuracies):.2%}" if accuracies else "")


class TaskProgress(_Watch):
    """The tasks that are done, of all."""

    def __init__(self, spark: SparkSession, stage: str, shown: bool) -> None:
        super().__init__(spark, "task", shown)
        self._stage = stage

    def _look(self, display: _Bar | _Lines) -> None:
        done, total = (sum(numbers) for numbers in zip(*self._jobs.tasks() or [(0, 0)], strict=True))
        display.show(done, total, self._stage, "")


class _Bar:
    """tqdm's bar."""

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
    """A line now and then, for logs."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._begun = self._last = time.monotonic()

    def show(self, done: int, total: int, stage: str, note: str) -> None:
        now = time.monotonic()
        if now - self._last < _LINES_EVERY:
            return
        self._last = now
        seconds = now - self._begun
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
