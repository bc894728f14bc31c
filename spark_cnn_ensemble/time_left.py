"""How long a fit will go on, from what its members report while they train. Called by `progress`."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from spark_cnn_ensemble.worker.live_report import LiveReport


def seconds_left(running: Sequence[tuple[LiveReport, float]], seconds: Sequence[float], waiting: int) -> float | None:
    """Seconds until the last member is trained, if members that wait take the slots of those that run, in waves.

    Parameters
    ----------
    running : sequence of (LiveReport, float)
        Members that train, each with the seconds since its report.
    seconds : sequence of float
        What members that have ended took.
    waiting : int
        Members that have not begun.

    Returns
    -------
    float or None
        None if nothing is known yet.
    """
    whole = [report.seconds / report.done for report, _ in running if report.seconds] or list(seconds)
    if not whole or not running:
        return None
    typical = sum(whole) / len(whole)
    slots = []
    for report, age in running:
        takes = report.seconds / report.done if report.seconds else typical
        slots.append(max(0.0, takes - report.seconds - age))
    heapq.heapify(slots)
    for _ in range(waiting):
        heapq.heappush(slots, heapq.heappop(slots) + typical)
    return max(slots)


def in_words(seconds: float) -> str:
    """Such as 40 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def on_a_clock(seconds: float) -> str:
    """Such as 00:40, 12:05, 3:20:00."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes:02d}:{rest:02d}"
