"""Spark drivers in processes of their own, their Python workers, and the outcome of a fit as plain values."""

import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pyspark
from pyspark.sql import SparkSession

from spark_cnn_ensemble import CNNEnsembleClassificationModel, estimator
from spark_cnn_ensemble.cli import main
from spark_cnn_ensemble.engine.failures import failure
from spark_cnn_ensemble.fit import members
from support.classifiers import small
from support.members import digests
from support.processes import LIGHT

TESTS = Path(__file__).parent.parent

QUICK = {"bagging": "subsample", "subsamplingRate": 0.3, "numMembers": 4, "oobSampleSize": 200, "verbose": 0}
SLOW = {**QUICK, "epochs": 200, "verbose": 1}  # seconds per member, so that a process can be killed in the middle

TIMEOUT = 120  # seconds; what takes longer hangs


def outcome(model):
    """What a fit gave, and how: plain values as JSON has them."""
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


def members_and_votes(outcome):
    """The part of an outcome that no fault may change."""
    return outcome["members"], outcome["outOfBag"]


def fit(rows, **params):
    """The outcome of a fit of `small(**params)`."""
    return outcome(small(**params).fit(rows))


def wait_until(condition):
    """The first true value that `condition` returns."""
    deadline = time.monotonic() + TIMEOUT
    while not (value := condition()):
        assert time.monotonic() < deadline, f"the condition did not come true within {TIMEOUT} s"
        time.sleep(0.05)
    return value


def finished_files(folder):
    """The files of finished members in a checkpoint."""
    return sorted(Path(folder).glob("attempt=*/part-*.parquet"))


# Processes


def descendants(pid):
    """The processes that descend from a process or are in the session that it leads, without itself."""
    parents, session_members = {}, set()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):  # not a process, or one that has ended
            state, parent, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if state != "Z":
                parents[int(entry.name)] = int(parent)
                if int(session) == pid:
                    session_members.add(int(entry.name))
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return (found | session_members) - {pid}


def cpu_seconds(pid):
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


def python_workers(*pids):
    """Spark's Python workers and their daemons among the descendants of processes."""
    found = []
    for pid in set().union(*map(descendants, pids)):
        with contextlib.suppress(OSError):
            # Spark 3.5 names the daemon alone.
            if re.search(
                rb"pyspark\.worker|pyspark\.daemon|support\.daemon", Path(f"/proc/{pid}/cmdline").read_bytes()
            ):
                found.append(pid)
    return found


def training_worker(*pids):
    """A Python worker that has loaded TensorFlow and is computing."""
    before = {}

    def busy_worker():
        for pid in python_workers(*pids):
            with contextlib.suppress(OSError):
                if "tensorflow" in Path(f"/proc/{pid}/maps").read_text():
                    now = cpu_seconds(pid)
                    if now - before.setdefault(pid, now) > 0.3:
                        return pid
        return None

    return wait_until(busy_worker)


# Expressions for a driver can call these, in addition to the functions above.


def command_line(*arguments):
    """The exit code of the command line."""
    return main(list(arguments))


def scored(model, rows):
    """The predictions of a model, in the order of the ids."""
    return [row.prediction for row in model.transform(rows).orderBy("id").select("prediction").collect()]


def count_scored(rows, **params):
    """The number of rows that a model of `small(**params)` gives a prediction."""
    return small(**params).fit(rows).transform(rows).where("prediction IS NOT NULL").count()


def refusal_of_fit(rows, **params):
    """The message with which a fit of `small(**params)` is refused."""
    try:
        small(**params).fit(rows)
    except ValueError as error:
        return str(error)


def fit_in_two_steps(rows, folder, step, **params):
    """The outcome of a fit that waits before a step until a file `go` is in a folder; also its warnings.

    The step is "collect_parts", of the weights, or "vote_on_sample". Meanwhile there is a file `waits` in the folder.
    """
    module = members if step == "collect_parts" else estimator
    function = getattr(module, step)

    def later(*arguments, **options):
        Path(folder, "waits").touch()
        wait_until(Path(folder, "go").exists)
        return function(*arguments, **options)

    setattr(module, step, later)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            done = fit(rows, **params)
    finally:
        setattr(module, step, function)
    return {**done, "warnings": [str(one.message) for one in caught]}


def error_of(call):
    """The error that a call raises, as text."""
    try:
        call()
    except Exception as error:
        return str(error)


def new_session(url):
    """A session of a Connect server in place of one that has ended."""
    if pyspark.__version__ < "4.1":  # it would keep the ended one as its default; docs/limits.md says what users can do
        from pyspark.sql.connect.session import SparkSession as Session

        Session._default_session = Session._active_session.session = None
    return SparkSession.builder.remote(url).getOrCreate()


def save_and_load_at_once(model, path, saves, spark):
    """Two threads overwrite a model by 1 or 2 of its members while a third loads it; the errors and the sizes loaded.

    They name the session, as Spark 4.0 needs it where another thread has made it.
    """
    errors, sizes, savers = [], [], []

    def run(work):
        try:
            work()
        except Exception as error:
            errors.append(repr(error))

    def save(size):
        for _ in range(saves):
            model.subset(range(size)).write().session(spark).overwrite().save(path)

    def load():
        while any(saver.is_alive() for saver in savers):
            sizes.append(CNNEnsembleClassificationModel.read().session(spark).load(path).getNumMembers())

    savers += [threading.Thread(target=run, args=[lambda size=size: save(size)]) for size in (1, 2)]
    loader = threading.Thread(target=run, args=[load])
    for thread in (*savers, loader):
        thread.start()
    for thread in (*savers, loader):
        thread.join()
    return errors, sizes


def save_first(model, folder):
    """Save a model to one new path after the other until the process is killed."""
    for number in itertools.count():
        model.save(f"{folder}/{number}")


def save_repeatedly(path):
    """Save a model over itself until the process is killed."""
    model = CNNEnsembleClassificationModel.load(path)
    while True:
        model.write().overwrite().save(path)


def failure_of_lost_executors(spark):
    """The sentence for a job whose task kills its executor each time."""

    def kill(frames):
        import os
        import signal
        from pathlib import Path

        executor = Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[1]
        os.kill(int(executor), signal.SIGKILL)
        yield from frames

    try:
        spark.range(0, 1, 1, 1).mapInPandas(kill, "id long").collect()
    except Exception as error:
        return failure(error)


def task_places(spark):
    """For two tasks that run at once, the working directory and the file that the package was imported from."""

    def place(frames):
        import os

        import pandas as pd

        import spark_cnn_ensemble

        for _ in frames:
            yield pd.DataFrame({"cwd": [os.getcwd()], "package": [spark_cnn_ensemble.__file__]})

    both = spark.range(0, 2, 1, 2).mapInPandas(place, "cwd string, package string", barrier=True)
    return [list(row) for row in both.collect()]


# Drivers


DRIVER = """
import json, os, sys, threading, time

def end_with(parent):
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)

threading.Thread(target=end_with, args=[os.getppid()], daemon=True).start()

from pyspark.sql import SparkSession
from spark_cnn_ensemble.datasets import load_digits, to_dataframe
from spark_cnn_ensemble.engine import engine_of
from support import engine_cases as cases
from support.drivers import *

builder, settings = SparkSession.builder, json.loads(sys.argv[1])
for name, value in settings.items():
    builder.config(name, value)
spark = builder.getOrCreate()
engine_of(spark).quieten()
rows = to_dataframe(spark, *load_digits()[0])
# What an action raises after Ctrl-C; before Spark 4.2, its call through py4j is cut off.
interrupts = KeyboardInterrupt
if pyspark.__version__ < "4.2" and "spark.remote" not in settings:
    from py4j.protocol import Py4JError as interrupts
for line in sys.stdin:
    try:
        answer = eval(line)
    except interrupts:
        answer = {"interrupted": [thread.name for thread in threading.enumerate()]}
    print("answer:", json.dumps(answer), flush=True)
"""


class Driver:
    """A Spark driver in a process of its own, which evaluates expressions.

    An expression can use the names of this module, `spark`, `rows` (the digits' training rows), and `cases`, the module
    `engine_cases`. With the setting spark.remote, the driver is that server's, and the process is its client.
    """

    def __init__(self, folder, environment=None, python=sys.executable, **settings):
        local = settings.get("spark.master", "").startswith("local")
        if "spark.remote" not in settings:
            settings = {
                "spark.ui.enabled": "false",
                "spark.ui.showConsoleProgress": "false",
                "spark.sql.shuffle.partitions": "4",
                "spark.driver.host": "127.0.0.1",
                "spark.executorEnv.PYTHONPATH": os.pathsep.join([LIGHT, str(TESTS)]),
                **({"spark.python.daemon.module": "support.daemon"} if local else {}),
                **settings,
            }
        self.log = folder / f"driver-{time.monotonic_ns()}.log"
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                [python, "-c", DRIVER, json.dumps(settings)],
                cwd=TESTS,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def start(self, expression):
        """Start to evaluate an expression."""
        self._process.stdin.write(f"{expression}\n")
        self._process.stdin.flush()

    def start_fit(self, **params):
        """Start to evaluate the outcome of a fit."""
        self.start(f"fit(rows, **{params!r})")

    def answer(self):
        """The value of the expression, once it has one; `printed` holds the lines that were printed before."""
        self.printed = []
        for line in self._process.stdout:
            if line.startswith("answer: "):
                return json.loads(line.removeprefix("answer: "))
            self.printed.append(line)
        raise AssertionError(f"the driver ended:\n{self.log.read_text()[-3000:]}")

    def ask(self, expression):
        """The value of an expression."""
        self.start(expression)
        return self.answer()

    def end(self):
        """Let the driver end, if it runs, and check that it leaves no process."""
        if self._process.poll() is None:
            self._process.stdin.close()
        self._process.wait(TIMEOUT)
        wait_until(lambda: not descendants(self.pid))

    def kill(self):
        """Kill the driver alone, without its descendants."""
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()


@contextlib.contextmanager
def driver(folder, **settings):
    """A `Driver` while the context is open; it must leave no process."""
    running = Driver(folder, **settings)
    try:
        yield running
        running.end()
    finally:
        running.kill()
        for pid in descendants(running.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
