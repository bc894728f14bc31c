"""The iterator over several fits, in groups that are trained by one job each.

The estimator's `fitMultiple` groups the param maps that one job can train, and returns this iterator.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any


class SharedFits:
    """An iterator over pairs (index, model), which threads may share.

    Parameters
    ----------
    groups : sequence of list of int
        Indices of the fits that are trained together.
    fit : callable
        Returns the models of a group, in its order. Called once per group, when the first of its models is requested;
        an exception that it raises is raised for each of them.
    """

    def __init__(self, groups: Sequence[list[int]], fit: Callable[[list[int]], list[Any]]) -> None:
        self._fit = fit
        self._groups: dict[int, tuple[list[int], threading.Lock]] = {}
        for group in groups:
            self._groups.update(dict.fromkeys(group, (group, threading.Lock())))
        self._turns = iter(range(len(self._groups)))
        self._lock = threading.Lock()
        self._results: dict[int, Any] = {}  # not yet returned: a model, or the exception of its group

    def __iter__(self) -> SharedFits:
        return self

    def __next__(self) -> tuple[int, Any]:
        with self._lock:
            index = next(self._turns)
        group, lock = self._groups[index]
        with lock:
            if index not in self._results:
                try:
                    self._results.update(zip(group, self._fit(group), strict=True))
                except Exception as error:
                    self._results.update(dict.fromkeys(group, error))  # the group is not tried again
        result = self._results.pop(index)
        if isinstance(result, Exception):
            raise result
        return index, result
