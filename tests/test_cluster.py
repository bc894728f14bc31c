"""A real standalone cluster: a master and two workers as processes of their own, on two addresses of this machine.

The package comes to the executors as a zip. One job is submitted by spark-submit, as a user does it; all else runs in
one driver that stays.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pyspark
import pytest
from support.classifiers import small
from support.drivers import QUICK, a_worker_in_training, driver, family, finished, result, told, wait_until

from spark_cnn_ensemble import CNNEnsembleClassificationModel
from spark_cnn_ensemble.cli import main  # noqa: F401 - for the driver that stays
from spark_cnn_ensemble.text.reader import read_text_matrix
from spark_cnn_ensemble.text.writer import write_text_matrix

PACKAGE = Path(__file__).parent.parent / "spark_cnn_ensemble"
SPARK_HOME = Path(pyspark.__file__).parent
TRAIN = ["--num-members", "3", "--filters", "4", "--kernel-size", "3", "--dense-units", "16", "--epochs", "1"]
LONGER = {**QUICK, "epochs": 300}  # members, twice as many as there are slots, that can be caught in the middle


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def wait_for(log, text, count=1):
    deadline = time.monotonic() + 60
    while log.read_text().count(text) < count:
        assert time.monotonic() < deadline, f"no {text!r} in a minute:\n{log.read_text()[-2000:]}"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A master and two workers of one core each: url, environment of clients, folder, pids of the workers."""
    folder = tmp_path_factory.mktemp("cluster")
    environment = {
        **os.environ,
        "SPARK_HOME": str(SPARK_HOME),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_DAEMON_MEMORY": "512m",
        "SPARK_DAEMON_JAVA_OPTS": os.environ["SPARK_SUBMIT_OPTS"],
        "PYSPARK_PYTHON": sys.executable,
    }
    port, processes = free_port(), []

    def start(name, host, role, *arguments):
        log = folder / f"{name}.log"
        command = [SPARK_HOME / "bin" / "spark-class", f"org.apache.spark.deploy.{role}", *arguments]
        command += ["--host", host, "--webui-port", "0"]
        with log.open("w") as file:
            there = {**environment, "SPARK_LOCAL_IP": host}
            processes.append(subprocess.Popen(command, env=there, stdout=file, stderr=subprocess.STDOUT))
        return log

    url = f"spark://127.0.0.1:{port}"
    master = start("master", "127.0.0.1", "master.Master", "--port", str(port))
    wait_for(master, "I have been elected leader")
    # Spark runs no second copy of a task on the host of the first.
    for name, host in (("worker1", "127.0.0.1"), ("worker2", "127.0.0.2")):
        start(name, host, "worker.Worker", url, "-c", "1", "-m", "1g", "-d", str(folder / name))
    wait_for(master, "Registering worker", 2)
    shutil.copytree(PACKAGE, folder / "ship" / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    archive = shutil.make_archive(str(folder / "spark_cnn_ensemble"), "zip", folder / "ship")
    workers = [process.pid for process in processes[1:]]
    yield SimpleNamespace(url=url, environment=environment, folder=folder, archive=archive, workers=workers)
    for process in processes:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def submitted(cluster, digits):
    """What a fit by spark-submit printed, while executors came and went; data and model are in the cluster's folder."""
    folder = cluster.folder
    for name, (x, y) in zip(("train", "test"), digits, strict=True):
        write_text_matrix(str(folder / name), x, y)
    command = [SPARK_HOME / "bin" / "spark-submit", "--master", cluster.url, "--py-files", cluster.archive]
    for name, value in {
        "spark.executor.memory": "512m",
        "spark.executor.extraJavaOptions": os.environ["SPARK_SUBMIT_OPTS"],
        "spark.ui.enabled": "false",
        "spark.dynamicAllocation.enabled": "true",
        "spark.dynamicAllocation.shuffleTracking.enabled": "true",
        "spark.dynamicAllocation.executorIdleTimeout": "1s",
    }.items():
        command += ["--conf", f"{name}={value}"]
    command += [PACKAGE / "__main__.py", "train", "--input", folder / "train", "--output", folder / "model"]
    done = subprocess.run(
        [*command, "--id-col", "id", *TRAIN], env=cluster.environment, cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def far(cluster, submitted):
    """A driver of the cluster, which has all its slots; what hangs is tried on the other host."""
    environment = {**cluster.environment, "PYSPARK_SUBMIT_ARGS": f"--py-files {cluster.archive} pyspark-shell"}
    settings = {
        "spark.master": cluster.url,
        "spark.executor.memory": "512m",
        "spark.executor.extraJavaOptions": os.environ["SPARK_SUBMIT_OPTS"],
        "spark.speculation": "true",
        "spark.speculation.quantile": "0.5",
        "spark.speculation.multiplier": "3",
        "spark.hadoop.fs.viewfs.mounttable.cluster.link./data": cluster.folder.as_uri(),
    }
    with driver(cluster.folder, environment=environment, module="test_cluster", **settings) as running:
        yield running


@pytest.fixture(scope="module")
def near(train):
    """What `LONGER` gives in this process."""
    return result(told(small(**LONGER).fit(train)))


def test_spark_submit_trains_the_members_that_this_process_trains_while_executors_come_and_go(
    spark, cluster, submitted
):
    assert "Trained 3 members on 1,437 rows" in submitted
    stage = next((cluster.folder / "model" / "stages").iterdir())
    model = CNNEnsembleClassificationModel.load(str(stage))
    here = small(idCol="id", inputShape=[8, 8, 1]).fit(read_text_matrix(spark, str(cluster.folder / "train")))
    assert model._ensemble.weights == here._ensemble.weights
    assert model.getFeaturesCol() == "features"


def test_the_command_line_evaluates_and_scores(spark, cluster, far):
    folder = cluster.folder
    assert far.ask(f"main(['evaluate', '--input', '{folder}/test', '--model', '{folder}/model'])") == 0
    rows = read_text_matrix(spark, str(folder / "test"))
    stage = next((folder / "model" / "stages").iterdir())
    accuracy = CNNEnsembleClassificationModel.load(str(stage)).evaluate(rows).accuracy
    assert f"accuracy of the vote {accuracy:.2%}" in "".join(far.printed)

    score = ["score", "--input", f"{folder}/test", "--model", f"{folder}/model", "--output", f"{folder}/scored"]
    assert far.ask(f"main({score!r})") == 0
    scored = spark.read.parquet(str(folder / "scored"))
    assert scored.count() == rows.count()
    assert scored.where("prediction = label").count() == round(accuracy * rows.count())


def places(spark):
    """Where two tasks at the same time run, and where they have the package from."""

    def where(frames):
        import os

        import pandas as pd

        import spark_cnn_ensemble

        for _ in frames:
            yield pd.DataFrame({"cwd": [os.getcwd()], "package": [spark_cnn_ensemble.__file__]})

    both = spark.range(0, 2, 1, 2).mapInPandas(where, "cwd string, package string", barrier=True)
    return [list(row) for row in both.collect()]


def test_both_workers_take_part_and_the_package_comes_from_the_archive(cluster, far):
    found = far.ask("places(spark)")
    assert {Path(cwd).is_relative_to(cluster.folder / "worker1") for cwd, _ in found} == {True, False}
    assert all("spark_cnn_ensemble.zip" in package for _, package in found)


def test_a_driver_that_fits_and_scores_loads_no_tensorflow(far):
    assert far.ask(f"small(**{QUICK!r}).fit(rows).transform(rows).where('prediction is not null').count()") > 0
    assert far.ask("[name for name in ('tensorflow', 'keras') if name in sys.modules]") == []


def executor_of(pid, workers):
    """The executor whose Python worker this is: a child of Spark's worker."""
    return next(
        child
        for worker in workers
        for child in family(worker)
        if pid in family(child) and b"CoarseGrainedExecutorBackend" in Path(f"/proc/{child}/cmdline").read_bytes()
    )


def test_an_executor_that_is_killed_is_replaced_and_the_checkpoint_is_on_hadoops_filesystem(cluster, far, near):
    settings = {**LONGER, "checkpointDir": "viewfs://cluster/data/checkpoint"}
    far.fit(**settings)
    wait_until(lambda: finished(cluster.folder / "checkpoint"))
    trainer = a_worker_in_training(*cluster.workers)
    os.kill(executor_of(trainer, cluster.workers), signal.SIGKILL)
    answer = far.answer()
    assert answer["resumed"] == []
    assert result(answer) == near
    wait_until(lambda: not any(trainer in family(worker) for worker in cluster.workers))
    far.fit(**settings)
    again = far.answer()
    assert again["resumed"] == [0, 1, 2, 3]
    assert result(again) == near


def test_a_worker_that_hangs_is_overtaken_by_a_second_copy_of_its_task(cluster, far, near):
    folder = cluster.folder / "speculative"
    far.fit(**LONGER, checkpointDir=folder.as_uri())
    hanging = a_worker_in_training(*cluster.workers)
    os.kill(hanging, signal.SIGSTOP)
    try:
        assert result(far.answer()) == near
        assert len(finished(folder)) == 4
        wait_until(lambda: not any(hanging in family(worker) for worker in cluster.workers))
    finally:
        if any(hanging in family(worker) for worker in cluster.workers):
            os.kill(hanging, signal.SIGKILL)


def refusal(rows, **params):
    """The sentence with which a fit refuses them."""
    try:
        small(**params).fit(rows)
    except ValueError as error:
        return str(error)


def test_more_members_than_rows_are_refused_in_a_sentence(far):
    sentence = far.ask("refusal(rows.where('id < 3'), numMembers=8)")
    assert sentence.startswith("Member ") and "\n" not in sentence
    assert "has no rows to train on: its bag is empty; set fewer members (numMembers)" in sentence
