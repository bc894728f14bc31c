"""What the benchmarks look up in /proc: the processes below one, and what they take."""

import threading
from pathlib import Path


def family(leader):
    """The processes that descend from one, itself included."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # which has ended meanwhile
    found = {leader}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def status(pids, name):
    """The sum of a number in /proc/…/status over processes."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
    return total


class Peak:
    """The most memory that a process and all below it take together, sampled in a thread; a context manager.

    `rss` counts pages that processes share once for each, `pss` (proportional set size) once in all; in bytes.
    """

    def __init__(self, leader, period=0.5):
        self._leader, self._period = leader, period
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.rss = self.pss = 0

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()

    def _watch(self):
        while not self._end.wait(self._period):
            pids = family(self._leader)
            self.rss = max(self.rss, status(pids, "VmRSS") << 10)
            self.pss = max(self.pss, sum(map(_pss, pids)) << 10)


def _pss(pid):
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
