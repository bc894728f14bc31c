"""Drivers in processes of their own, their workers, and checkpoints seen from outside."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from support.classifiers import small  # noqa: F401 - drivers evaluate expressions with the names of this module
from support.members import digests

TESTS = Path(__file__).parent.parent


QUICK = {"bagging": "subsample", "subsamplingRate": 0.3, "numMembers": 4, "oobSampleSize": 200, "verbose": 0}


SLOW = {**QUICK, "epochs": 400, "verbose": 1}  # seconds a member: time enough to be killed in the middle


IN_TIME = 120  # seconds; what takes longer hangs


def told(model):
    """What must be the same, and how it came about, as JSON has it."""
    summary = model.summary
    votes = summary.outOfBag
    return json.loads(
        json.dumps(
            {
                "members": digests(model),
                "outOfBag": votes and [votes.labels.tolist(), votes.votes.tolist(), votes.predictions.tolist()],
                "retries": [member.retries for member in model.members],
                "resumed": summary.resumedMembers,
            }
        )
    )


def result(answer):
    """The part of `told` that no fault may change."""
    return answer["members"], answer["outOfBag"]


def wait_until(condition):
    """What `condition` gives, as soon as that is true."""
    deadline = time.monotonic() + IN_TIME
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


def family(leader):
    """The processes that descend from a process, or are of the session that it leads, without itself."""
    parents, members = {}, set()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):  # no process, or it has ended
            state, parent, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if state != "Z":
                parents[int(entry.name)] = int(parent)
                if int(session) == leader:
                    members.add(int(entry.name))
    found = {leader}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return (found | members) - {leader}


def seconds_of_cpu(pid):
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


def workers(*leaders):
    """The Python workers of Spark below some processes, with Spark's daemons."""
    found = []
    for pid in set().union(*map(family, leaders)):
        with contextlib.suppress(OSError):
            if b"pyspark.daemon" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def a_worker_in_training(*leaders):
    """A worker that has TensorFlow, and computes."""
    before = {}

    def look():
        for pid in workers(*leaders):
            with contextlib.suppress(OSError):
                if "tensorflow" in Path(f"/proc/{pid}/maps").read_text():
                    now = seconds_of_cpu(pid)
                    if now - before.setdefault(pid, now) > 0.3:
                        return pid
        return None

    return wait_until(look)


def finished(folder):
    """The files of finished members in a checkpoint."""
    return sorted(Path(folder).glob("attempt=*/part-*.parquet"))


DRIVER = """
import json, os, sys, threading, time

def end_with(parent):
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)

threading.Thread(target=end_with, args=[os.getppid()], daemon=True).start()

from pyspark.sql import SparkSession
from spark_cnn_ensemble.datasets import load_digits, to_dataframe

exec(f"from {sys.argv[2]} import *")
builder = SparkSession.builder.config("spark.ui.enabled", "false").config("spark.ui.showConsoleProgress", "false")
for name, value in json.loads(sys.argv[1]).items():
    builder.config(name, value)
spark = builder.getOrCreate()
spark.sparkContext.setLogLevel("OFF")
rows = to_dataframe(spark, *load_digits()[0])
for line in sys.stdin:
    try:
        answer = eval(line)
    except KeyboardInterrupt:
        answer = {"interrupted": [thread.name for thread in threading.enumerate()]}
    print("answer:", json.dumps(answer), flush=True)
"""


class Driver:
    """A driver of its own, in a process of its own; it evaluates, among the names of a module, what it is told."""

    def __init__(self, folder, environment=None, module="support.drivers", **settings):
        settings = {
            "spark.sql.shuffle.partitions": "4",
            "spark.driver.host": "127.0.0.1",
            **settings,
        }
        self.log = folder / f"driver-{time.monotonic_ns()}.log"
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", DRIVER, json.dumps(settings), module],
                cwd=TESTS,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def tell(self, expression):
        """Begin to evaluate."""
        self._process.stdin.write(f"{expression}\n")
        self._process.stdin.flush()

    def answer(self):
        """What came of it."""
        self.printed = []
        for line in self._process.stdout:
            if line.startswith("answer: "):
                return json.loads(line.removeprefix("answer: "))
            self.printed.append(line)
        raise AssertionError(f"the driver ended:\n{self.log.read_text()[-3000:]}")

    def ask(self, expression):
        self.tell(expression)
        return self.answer()

    def fit(self, **params):
        """Begin to fit."""
        self.tell(f"told(small(**{params!r}).fit(rows))")

    def end(self):
        """Let it end, if it runs, and see that nothing of it is left."""
        if self._process.poll() is None:
            self._process.stdin.close()
        self._process.wait(IN_TIME)
        wait_until(lambda: not family(self.pid))

    def kill(self):
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()


@contextlib.contextmanager
def driver(folder, **settings):
    """A driver for a while; nothing of it is left."""
    running = Driver(folder, **settings)
    try:
        yield running
        running.end()
    finally:
        running.kill()
        for pid in family(running.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
