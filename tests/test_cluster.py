"""A real standalone cluster: a master and two workers as processes of their own, driven by spark-submit."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pyspark
import pytest
from conftest import small

from spark_cnn_ensemble import CNNEnsembleClassificationModel
from spark_cnn_ensemble.datasets import read_text_matrix, write_text_matrix

PACKAGE = Path(__file__).parent.parent / "spark_cnn_ensemble"
SPARK_HOME = Path(pyspark.__file__).parent
TRAIN = ["--num-members", "3", "--filters", "4", "--kernel-size", "3", "--dense-units", "16", "--epochs", "1"]


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def wait_for(log, text, count=1):
    deadline = time.monotonic() + 60
    while log.read_text().count(text) < count:
        assert time.monotonic() < deadline, f"no {text!r} in a minute:\n{log.read_text()[-2000:]}"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """URL of a master with two workers of one core each, and the environment of their clients."""
    folder = tmp_path_factory.mktemp("cluster")
    environment = {
        **os.environ,
        "SPARK_HOME": str(SPARK_HOME),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_DAEMON_MEMORY": "512m",
        "PYSPARK_PYTHON": sys.executable,
    }
    port, processes = free_port(), []

    def start(name, *arguments):
        log = folder / f"{name}.log"
        with log.open("w") as file:
            command = [SPARK_HOME / "bin" / "spark-class", f"org.apache.spark.deploy.{arguments[0]}", *arguments[1:]]
            processes.append(subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT))
        return log

    host = ["--host", "127.0.0.1", "--webui-port", "0"]
    url = f"spark://127.0.0.1:{port}"
    master = start("master", "master.Master", "--port", str(port), *host)
    wait_for(master, "I have been elected leader")
    for name in ("worker1", "worker2"):
        start(name, "worker.Worker", url, *host, "-c", "1", "-m", "1g", "-d", str(folder / name))
    wait_for(master, "Registering worker", 2)
    yield url, environment, folder
    for process in processes:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def submit(cluster):
    """Run the command line by spark-submit, with the package shipped as a zip."""
    url, environment, folder = cluster
    shutil.copytree(PACKAGE, folder / "ship" / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    archive = shutil.make_archive(str(folder / "spark_cnn_ensemble"), "zip", folder / "ship")

    def run(*arguments):
        command = [SPARK_HOME / "bin" / "spark-submit", "--master", url, "--conf", "spark.executor.memory=512m"]
        command += ["--conf", "spark.ui.enabled=false", "--py-files", archive, PACKAGE / "__main__.py", *arguments]
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run


def test_spark_submit_trains_evaluates_and_scores(spark, cluster, submit, digits):
    folder = cluster[2]
    (x_train, y_train), (x_test, y_test) = digits
    write_text_matrix(str(folder / "train"), x_train, y_train)
    write_text_matrix(str(folder / "test"), x_test, y_test)
    model_path = str(folder / "model")

    told = submit("train", "--input", str(folder / "train"), "--output", model_path, "--id-col", "id", *TRAIN)
    assert "Trained 3 members on 1,437 rows" in told

    # The same members as in this process: where they were trained does not matter.
    stage = next((folder / "model" / "stages").iterdir())
    far = CNNEnsembleClassificationModel.load(str(stage))
    frame = read_text_matrix(spark, str(folder / "train"))
    near = small(idCol="id", inputShape=[8, 8, 1]).fit(frame)
    assert far._ensemble.weights == near._ensemble.weights
    assert far.getFeaturesCol() == "features"

    told = submit("evaluate", "--input", str(folder / "test"), "--model", model_path)
    accuracy = near.evaluate(read_text_matrix(spark, str(folder / "test"))).accuracy
    assert f"accuracy of the vote {accuracy:.2%}" in told

    submit("score", "--input", str(folder / "test"), "--model", model_path, "--output", str(folder / "scored"))
    scored = spark.read.parquet(str(folder / "scored"))
    assert scored.count() == len(x_test)
    assert scored.where("prediction = label").count() == round(accuracy * len(x_test))


def test_both_workers_take_part_and_the_package_comes_from_the_archive(cluster, submit):
    folder = cluster[2]
    probe = folder / "probe.py"
    probe.write_text(
        "import json, sys\n"
        "from pyspark.sql import SparkSession\n"
        "def where(frames):\n"
        "    import os, pandas as pd, time, spark_cnn_ensemble\n"
        "    for frame in frames:\n"
        "        time.sleep(1)\n"
        "        yield pd.DataFrame({'cwd': [os.getcwd()], 'package': [spark_cnn_ensemble.__file__]})\n"
        "spark = SparkSession.builder.getOrCreate()\n"
        "rows = spark.range(0, 4, 1, 4).mapInPandas(where, 'cwd string, package string').collect()\n"
        "json.dump([row.asDict() for row in rows], open(sys.argv[1], 'w'))\n"
    )
    url, environment, _ = cluster
    archive = folder / "spark_cnn_ensemble.zip"
    command = [SPARK_HOME / "bin" / "spark-submit", "--master", url, "--conf", "spark.executor.memory=512m"]
    command += ["--py-files", archive, probe, folder / "probe.json"]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    found = json.loads((folder / "probe.json").read_text())
    assert {Path(row["cwd"]).is_relative_to(folder / "worker1") for row in found} == {True, False}
    assert all("spark_cnn_ensemble.zip" in row["package"] for row in found)
