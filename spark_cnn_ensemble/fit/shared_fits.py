"""Several fits at once: param maps that draw the same bags are trained by one job.

Called by the estimator's `fitMultiple`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any


class SharedFits:
    """The models of several fits, some of which are trained together: an iterator that threads may share.

    Parameters
    ----------
    groups : sequence of list of int
        Indices of the fits that are trained together.
    fit : callable
        Makes the models of a group, in its order; called once per group, when the first of its models is asked for.
    """

    def __init__(self, groups: Sequence[list[int]], fit: Callable[[list[int]], list[Any]]) -> None:
        self._fit = fit
        self._groups: dict[int, tuple[list[int], threading.Lock]] = {}
        for group in groups:
            self._groups.update(dict.fromkeys(group, (group, threading.Lock())))
        self._turns = iter(range(len(self._groups)))
        self._lock = threading.Lock()
        self._made: dict[int, Any] = {}

    def __iter__(self) -> SharedFits:
        return self

    def __next__(self) -> tuple[int, Any]:
        with self._lock:
            index = next(self._turns)
        group, lock = self._groups[index]
        with lock:
            if index not in self._made:
                try:
                    self._made.update(zip(group, self._fit(group), strict=True))
                except Exception as error:
                    self._made.update(dict.fromkeys(group, error))  # the others would fail alike
        made = self._made.pop(index)
        if isinstance(made, Exception):
            raise made
        return index, made
