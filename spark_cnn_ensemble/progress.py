"""Progress on the driver's stderr: a bar in a terminal or a notebook, elsewhere a line every 30 seconds.

A fit counts members as their tasks end, and shows what members that still train report: the count is exact, reports
arrive only where workers reach the driver. Scoring counts Spark's tasks. One thread polls twice per second and ends
with the job. Called by the estimator (fit) and the command line (scoring).
"""

from __future__ import annotations

import importlib.util
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from pyspark.sql import SparkSession

from spark_cnn_ensemble.engine import engine_of
from spark_cnn_ensemble.time_left import in_words, on_a_clock, seconds_left
from spark_cnn_ensemble.worker.live_report import LiveReport, Receiver

_POLL_PERIOD = 0.5  # seconds between two polls
LINE_PERIOD = 30.0  # seconds between two lines in a log


def note(text: str, shown: bool) -> None:
    """A line about a fit, if anything is shown."""
    if shown and sys.stderr is not None:  # as Python has it without a console
        with suppress(OSError):
            print(text, file=sys.stderr, flush=True)


class _State(NamedTuple):
    """What a display shows.

    Parameters
    ----------
    stage : str
    done, total : int
        Members or tasks.
    under_way : float
        Work on those that are not done, in units of one.
    left : float or None
        Seconds to go; None if only `done` and `total` are known.
    running : int
        Members that train.
    note : str
        How far they are.
    accuracy : str
        Of the members that are done.
    """

    stage: str
    done: int
    total: int
    under_way: float = 0.0
    left: float | None = None
    running: int = 0
    note: str = ""
    accuracy: str = ""


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
        self._shown = shown and sys.stderr is not None
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
        try:
            if self._thread is not None and self._display is not None:
                self._stop.set()
                self._thread.join()
                with suppress(Exception):  # a stderr that cannot be written to does not undo the work
                    if error is None:
                        self._update(self._display)
                    self._display.close(finished=error is None)
        finally:
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
        self._live = engine_of(spark).live_reports() if shown else None
        self._arrivals: dict[LiveReport, float] = {}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            super().__exit__(kind, error, trace)
        finally:
            if self._live is not None:
                self._live.close()

    @property
    def reporter(self) -> Callable[[list[tuple[tuple[int, int], float]]], None] | None:
        """What workers call with [((plan, member), training accuracy)] when a member is finished.

        None if nothing is shown, or if the engine learns only which tasks have ended.
        """
        return None if self._reported is None else self._reported.add

    @property
    def receiver(self) -> Receiver | None:
        """Where members report to while they train; None if nothing is shown, or if nothing can arrive."""
        return None if self._live is None else self._live.receiver

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
        reports = {} if self._live is None else self._live.latest()
        stage = "training"
        if not done and not reports and len(stages) == 1:  # Spark reads the rows in a stage of their own
            stage = f"reading {stages[0][0]}/{stages[0][1]}"
        finite = [accuracy for accuracy in self._accuracies.values() if np.isfinite(accuracy)]
        accuracy = f"accuracy {np.mean(finite):.2%}" if finite else ""
        display.show(self._with_reports(reports, _State(stage, done, self._total, accuracy=accuracy)))

    def _with_reports(self, reports: dict[tuple[int, int], LiveReport], state: _State) -> _State:
        now = time.monotonic()
        self._arrivals = {report: self._arrivals.get(report, now) for report in reports.values()}
        running = [report for key, report in reports.items() if key not in self._accuracies]
        if not running:
            return state
        ended = [
            report.seconds / report.done
            for key, report in reports.items()
            if key in self._accuracies and report.seconds
        ]
        waiting = max(0, state.total - state.done - len(running))
        done = [report.done for report in running]
        return state._replace(
            under_way=sum(done),
            left=seconds_left([(report, now - self._arrivals[report]) for report in running], ended, waiting),
            running=len(running),
            note=_how_far(running),
        )


def _how_far(running: list[LiveReport]) -> str:
    """Such as: epoch 2 of 5, loss 0.123; means over the members."""
    epochs = {report.epochs for report in running}
    epoch = np.mean([min(report.epochs, int(report.done * report.epochs + 1e-9) + 1) for report in running])
    of = f"{min(epochs)} to {max(epochs)}" if len(epochs) > 1 else f"{max(epochs)}"
    losses = [report.loss for report in running if report.loss is not None]
    loss = f", loss {np.mean(losses):.3g}" if losses else ""
    return f"epoch {epoch:.0f} of {of}{loss}"


class TaskProgress(_Watch):
    """Progress of any other job, in finished tasks."""

    def __init__(self, spark: SparkSession, stage: str, shown: bool) -> None:
        super().__init__(spark, "task", shown)
        self._stage = stage

    def _update(self, display: _Bar | _Lines) -> None:
        done, total = (sum(numbers) for numbers in zip(*self._jobs.stages() or [(0, 0)], strict=True))
        display.show(_State(self._stage, done, total))


class _Bar:
    """A bar of tqdm's."""

    def __init__(self, unit: str, notebook: bool) -> None:
        if notebook and importlib.util.find_spec("ipywidgets") is not None:
            from tqdm.notebook import tqdm
        else:
            from tqdm.std import tqdm

        class Bar(tqdm):
            monitor_interval = 0  # tqdm's own thread would outlive the bar
            counts = left = ""

            @property
            def format_dict(self) -> dict[str, Any]:
                return {**super().format_dict, "counts": self.counts, "left": self.left}

        # tqdm's own time left would take the bar's first move for the speed of all members.
        form = "{desc}: {percentage:3.0f}%|{bar}| {counts} [{elapsed}{left}{postfix}]"
        self._bar = Bar(total=0, unit=unit, file=sys.stderr, bar_format=form)
        self._unit = unit
        self._start = time.monotonic()

    def show(self, state: _State) -> None:
        left = _seconds_left(state, time.monotonic() - self._start)
        self._bar.total, self._bar.n = state.total, min(state.total, state.done + state.under_way)
        self._bar.counts = f"{state.done}/{state.total} {self._unit}s"
        self._bar.left = "" if left is None else f"<{on_a_clock(left)}"
        self._bar.set_description_str(state.stage, refresh=False)
        self._bar.set_postfix_str(state.note or state.accuracy, refresh=False)  # 80 columns do not hold both
        self._bar.refresh()

    def close(self, finished: bool) -> None:
        self._bar.leave = finished
        self._bar.close()


class _Lines:
    """A line every `LINE_PERIOD`, for logs."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._start = self._last = time.monotonic()

    def show(self, state: _State) -> None:
        now = time.monotonic()
        if now - self._last < LINE_PERIOD:
            return
        self._last = now
        left = _seconds_left(state, now - self._start)
        parts = [
            f"{state.stage}: {state.done} of {state.total} {self._unit}s in {now - self._start:.0f} s",
            f"{state.running} running" if state.running else "",
            state.note,
            "" if left is None else f"about {in_words(left)} to go",
            state.accuracy,
        ]
        print(", ".join(filter(None, parts)), file=sys.stderr, flush=True)

    def close(self, finished: bool) -> None:
        """Do nothing."""


def _seconds_left(state: _State, passed: float) -> float | None:
    if state.left is None and 0 < state.done < state.total:
        return passed / state.done * (state.total - state.done)
    return state.left


def _display(unit: str) -> _Bar | _Lines:
    notebook = _in_notebook()
    terminal = getattr(sys.stderr, "isatty", bool)()
    return _Bar(unit, notebook) if notebook or terminal else _Lines(unit)


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"
