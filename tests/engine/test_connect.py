"""A client of a real Spark Connect server gets what a classic session gives: members bit for bit, votes, saved models.

`support.engine_cases` holds what is done. A process that has a classic session cannot be a client, so clients are
processes of their own: of a server on two cores, and of one whose executors are those of a standalone cluster. The
workers of both have a Python without this package.
"""

import json
import os
import signal

import pytest
from support import engine_cases
from support.cluster import standalone_cluster
from support.connect_server import TESTS, connect_server
from support.drivers import driver, training_worker
from support.members import digests
from support.processes import LIGHT, python_without_the_package

from spark_cnn_ensemble import CNNEnsembleClassificationModel

CASES = [
    *("a_fit", "several_param_maps", "columns_of_a_fit", "a_bag_on_disk", "a_fit_that_is_resumed"),
    *("fits_that_start_from_models", "soft_labels", "scores", "scores_by_onnx", "a_stream", "numbers_about_a_model"),
    *("parts_of_models", "saved_models"),
    *("a_pipeline", "searches", "forms_of_features", "a_text_matrix", "a_text_that_spark_reads", "progress_in_a_log"),
]
ON_A_CLUSTER = ["a_fit", "a_bag_on_disk", "a_fit_that_is_resumed", "a_stream", "saved_models"]


class Client:
    """A client of a Connect server, which runs cases."""

    def __init__(self, process, folder):
        self.pid = process.pid
        self.folder = folder
        self._process = process

    def start(self, case):
        """Start to run a case."""
        self._process.start(f"cases.run({case!r}, spark, {str(self.folder)!r})")

    def answer(self):
        """What the case returns."""
        answer = self._process.answer()
        assert not (isinstance(answer, dict) and "failed" in answer), answer["failed"]
        return answer

    def run(self, case):
        """Run a case, and return what it returns."""
        self.start(case)
        return self.answer()


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory):
    return python_without_the_package(tmp_path_factory.mktemp("bare"), path=os.pathsep.join([LIGHT, str(TESTS)]))


@pytest.fixture(scope="module")
def server(tmp_path_factory, bare_python):
    daemon = {"spark.python.daemon.module": "support.daemon"}
    with connect_server(tmp_path_factory.mktemp("server") / "log", python=bare_python, **daemon) as url:
        yield url


@pytest.fixture(scope="module")
def client(tmp_path_factory, server):
    folder = tmp_path_factory.mktemp("client")
    with driver(folder, **{"spark.remote": server}) as process:
        yield Client(process, folder)


@pytest.fixture(scope="module")
def client_of_a_cluster(tmp_path_factory, bare_python):
    folder = tmp_path_factory.mktemp("cluster")
    memory = {"spark.executor.memory": "512m", "spark.executor.extraJavaOptions": os.environ["SPARK_SUBMIT_OPTS"]}
    with (
        standalone_cluster(folder) as cluster,
        connect_server(folder / "log", cluster.url, python=bare_python, **memory) as url,
        driver(folder, **{"spark.remote": url}) as process,
    ):
        yield Client(process, folder)


@pytest.fixture(scope="module")
def classic(tmp_path_factory, spark):
    """A function that runs a case in the tests' own session, once."""
    answers = {}

    def run(case):
        if case not in answers:
            answer = engine_cases.run(case, spark, str(tmp_path_factory.mktemp(case)))
            answers[case] = json.loads(json.dumps(answer))
        return answers[case]

    return run


@pytest.mark.parametrize("case", CASES)
def test_a_client_gets_what_a_classic_session_gives(case, client, classic):
    assert client.run(case) == classic(case)


@pytest.mark.parametrize("case", ON_A_CLUSTER)
def test_a_client_of_a_cluster_gets_what_a_classic_session_gives(case, client_of_a_cluster, classic):
    assert client_of_a_cluster.run(case) == classic(case)


def test_a_model_of_a_client_is_loaded_by_a_classic_session(client, classic):
    members = classic("saved_models")[3]
    assert digests(CNNEnsembleClassificationModel.load(str(client.folder / "my model"))) == members


def test_rows_that_would_fill_the_heap_of_a_server_are_refused(client):
    kind, sentence = client.run("too_many_rows_to_send")
    assert kind == "ValueError"
    assert sentence == (
        "x takes 137 MiB as rows, more than the 128 MiB that are sent to a server of Spark Connect at once; write the "
        "rows to files that the server can read, such as Parquet, and read those."
    )


def test_an_interrupt_ends_the_operation(client):
    client.start("a_fit_that_does_not_end")
    training_worker(os.getpid())
    os.kill(client.pid, signal.SIGINT)
    assert "interrupted" in client.answer()
    assert client.run("a_job") == 8  # the slots are free again
