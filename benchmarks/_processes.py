"""Child processes, and what /proc reports about processes that run.

Imports the standard library alone, because `_peers` runs in environments without Spark and without this library.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
from multiprocessing import get_context
from pathlib import Path

CORES = 2  # of the machine that RESULTS.md is from; every script uses both


def start(doc, main=None, apart=None):
    """Run a script: `main()`, or in a process that `run_apart` started, `apart` with its arguments; --help: `doc`."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--apart", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args().apart
    if arguments is None:
        (main or parser.print_help)()
    else:
        print(json.dumps(apart(*map(json.loads, arguments))))


def run_apart(script, *arguments, python=sys.executable, checkout=None):
    """Run a script in a process of its own; the result of its function `apart`. Arguments and result travel as JSON.

    With `checkout`, a folder, the process and its workers import the package from there.
    """
    environment = {**os.environ, "PYSPARK_PYTHON": str(python), "TF_CPP_MIN_LOG_LEVEL": "3"}
    if checkout:
        environment["PYTHONPATH"] = str(checkout)
    command = [str(python), os.path.abspath(script), "--apart", *map(json.dumps, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=checkout, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def in_processes(count, function, *arguments):
    """Call a function in `count` fresh processes at once; their results."""
    with get_context("spawn").Pool(count) as pool:
        return pool.starmap(function, [arguments] * count)


def family(leader):
    """A process and all that descend from it."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # the process has ended meanwhile
    found = {leader}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def by_kind():
    """The process ids of this driver's Python, of its JVM and of its Python workers."""
    driver = os.getpid()
    kinds = {"driver's Python": {driver}, "JVM": set(), "Python workers": set()}
    for pid in family(driver) - {driver}:
        is_java = "".join(_read(pid, "comm")) == "java"
        kinds["JVM" if is_java else "Python workers"].add(pid)
    return kinds


def total(pids, field, file="status"):
    """The sum over processes of a field in /proc/[pid]/status or another file; memory is in bytes there."""
    values = [line.split() for pid in pids for line in _read(pid, file) if line.startswith(f"{field}:")]
    return sum(int(value[1]) << (10 if value[-1] == "kB" else 0) for value in values)


def _read(pid, file):
    try:
        return Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except OSError:
        return []  # the process has ended meanwhile


class Peak:
    """A context manager: a thread calls `look() -> {name: number}` twice per second; `most` has each name's largest."""

    def __init__(self, look):
        self._look = look
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.most = {}

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()

    def _watch(self):
        while not self._end.wait(0.5):
            for name, value in self._look().items():
                self.most[name] = max(self.most.get(name, 0), value)
