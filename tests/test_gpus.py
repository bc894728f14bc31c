"""A task's TensorFlow starts with the GPUs that Spark assigned to it, and with no other, on both engines.

The cluster is real, the GPUs are not: a discovery script reports two addresses, and a library in the place of CUDA
writes down what it would let a worker see. No GPU computes anything here.
"""

import os
import re

import pyspark
import pytest
from support.classifiers import small
from support.cluster import standalone_cluster
from support.connect_server import TESTS, connect_server
from support.cuda import Cuda, discovery_script
from support.drivers import QUICK, driver, fit, members_and_votes
from support.members import digests
from support.processes import LIGHT, output_of, start_python

TWO = {**QUICK, "numMembers": 2, "epochs": 100, "oobSampleSize": 0}
ONE_EACH = [("0", "PCI_BUS_ID"), ("1", "PCI_BUS_ID")]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A worker with two cores and two GPUs."""
    folder = tmp_path_factory.mktemp("gpus")
    gpus = {
        "spark.worker.resource.gpu.amount": 2,
        "spark.worker.resource.gpu.discoveryScript": discovery_script(folder, "0", "1"),
    }
    with standalone_cluster(folder, hosts=("127.0.0.1",), cores=2, **gpus) as running:
        yield running


@pytest.fixture
def cuda(tmp_path):
    return Cuda(tmp_path)


def settings(cuda, **more):
    """Of an application whose tasks have one GPU each."""
    return {
        "spark.executor.memory": "512m",
        "spark.executor.extraJavaOptions": os.environ["SPARK_SUBMIT_OPTS"],
        "spark.executor.resource.gpu.amount": "2",
        "spark.task.resource.gpu.amount": "1",
        "spark.executorEnv.PYTHONPATH": os.pathsep.join([LIGHT, str(TESTS.parent), str(TESTS)]),
        **{f"spark.executorEnv.{name}": value for name, value in cuda.environment.items()},
        **more,
    }


@pytest.fixture
def application(cluster, cuda):
    """A driver on the cluster, whose tasks have one GPU each."""
    conf = settings(cuda, **{"spark.master": cluster.url})
    with driver(cluster.folder, environment=cluster.environment, **conf) as running:
        yield running


def test_a_member_trains_with_the_gpu_of_its_task_alone(application, cuda, train):
    application.ask("setattr(sys.modules['spark_cnn_ensemble.progress'], 'LINE_PERIOD', 0.2)")
    application.start_fit(**{**TWO, "verbose": 1})
    answer = application.answer()
    assert members_and_votes(answer) == members_and_votes(fit(train, **TWO))
    # Executors reach the driver.
    assert re.search(r"training: \d of 2 members in \d+ s, [12] running, epoch \d+ of 100", application.log.read_text())
    assert set(cuda.started()) == set(ONE_EACH)


@pytest.mark.skipif(pyspark.__version__.startswith("3."), reason="Spark 3.5 starts a new worker for the second task")
def test_a_worker_that_started_with_one_gpu_refuses_a_task_with_two_which_runs_in_a_new_worker(application, cuda):
    helper = "__import__('support.cuda').cuda.start_tensorflow"
    assert application.ask(f"{helper}(spark, 1, caught=True)")[::2] == [0, ""]
    attempt, gpus, refusal = application.ask(f"{helper}(spark, 2, caught=True)")
    assert (attempt, gpus) == (0, ["0", "1"])
    assert refusal.startswith("Spark assigned GPU 0, 1 to this task, but TensorFlow has started with GPU ")
    assert "set spark.python.worker.reuse=false, or give each executor the GPUs of one task" in refusal
    attempt, gpus, refusal = application.ask(f"{helper}(spark, 2, caught=False)")
    assert (attempt, gpus, refusal) == (1, ["0", "1"], "")
    assert ("0,1", "PCI_BUS_ID") in cuda.started()


@pytest.fixture
def server(cluster, cuda, tmp_path):
    """The URL of a server on the cluster, whose tasks have one GPU each and a new worker."""
    fresh = settings(cuda, **{"spark.python.worker.reuse": "false"})
    with connect_server(tmp_path / "log", master=cluster.url, **fresh) as url:
        yield url


def test_a_connect_server_trains_and_scores_with_a_gpu_per_task_in_workers_that_are_new(server, cuda, train):
    code = f"""
        import sys
        from pyspark.sql import SparkSession
        from support.classifiers import small
        from support.members import digests
        from spark_cnn_ensemble.datasets import load_digits, to_dataframe
        spark = SparkSession.builder.remote(sys.argv[1]).getOrCreate()
        rows = to_dataframe(spark, *load_digits()[0])
        model = small(**{TWO!r}).fit(rows)
        print(digests(model))
        print([member.retries for member in model.members])
        print(model.transform(rows.repartition(2)).where("prediction IS NOT NULL").count())
        """
    members, retries, scored = output_of(start_python(code, server, path=""))
    assert members == str(digests(small(**TWO).fit(train)))
    assert retries == "[0, 0]"
    assert int(scored) == train.count()
    assert len(cuda.started()) == 4  # two members, and two partitions of scored rows
    assert set(cuda.started()) == set(ONE_EACH)
