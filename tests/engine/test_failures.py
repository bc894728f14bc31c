"""Errors of Spark's, of the JVM's and of workers, as they come, and the sentence for each."""

import os
import re
import signal

import pytest
from py4j.protocol import Py4JError
from pyspark.errors import PySparkRuntimeError

from spark_cnn_ensemble.engine.failures import failure, from_spark


def killed(frames):
    os.kill(os.getpid(), signal.SIGKILL)
    yield from frames


def out_of_memory(frames):
    raise MemoryError("Unable to allocate 1 TiB")
    yield from frames


def unknown(frames):
    raise RuntimeError("the moon is full")
    yield from frames


WORKERS = {
    killed: r"A process of Spark's was killed or crashed, mostly because memory ran out; make the pictures smaller",
    out_of_memory: r"Memory ran out; make the pictures smaller, let fewer tasks run at once",
    unknown: r"Spark failed: RuntimeError: the moon is full\.$",
}


@pytest.mark.parametrize("work", WORKERS, ids=lambda work: work.__name__)
def test_the_error_of_a_worker_is_one_sentence(spark, work):
    with pytest.raises(Exception) as raised:
        spark.range(1).mapInPandas(work, "id long").collect()
    sentence = failure(raised.value)
    assert from_spark(raised.value)
    assert re.match(WORKERS[work], sentence) and "\n" not in sentence, sentence


STATEMENTS = {
    "SELECT 1 / 0": r"Spark failed: ",
    "SELECT nothing": r"The input has no column 'nothing'; check the name, or pass another input\.$",
    "SELECT * FROM nowhere": r"There is no table or view nowhere; check the name\.$",
    "SELECT * FROM parquet.`/nowhere`": r"Nothing is at /nowhere; check the path\.$",
    "SELECT CAST('x' AS INT)": r"Spark failed: ",
}


@pytest.mark.parametrize("statement", STATEMENTS)
def test_the_error_of_a_statement_is_one_sentence(spark, statement):
    spark.conf.set("spark.sql.ansi.enabled", "true")  # the default since Spark 4.0
    try:
        with pytest.raises(Exception) as raised:
            spark.sql(statement).collect()
    finally:
        spark.conf.unset("spark.sql.ansi.enabled")
    sentence = failure(raised.value)
    assert re.match(STATEMENTS[statement], sentence) and sentence.endswith("."), sentence
    assert not re.search(r"\n|org\.apache|SQLSTATE|Exception|== SQL", sentence), sentence


class Gone(Py4JError):
    """An error whose text must be asked of a JVM that has ended."""

    def __str__(self):
        raise ConnectionRefusedError


def test_an_error_that_has_no_text_any_more_is_one_sentence():
    sentence = "Spark's JVM has ended, perhaps because memory ran out; raise spark.driver.memory and start again."
    assert failure(Gone("gone")) == sentence


@pytest.mark.parametrize("error", [ValueError("x"), OSError("x"), KeyError("x"), MemoryError()])
def test_an_error_of_pythons_is_not_sparks(error):
    assert not from_spark(error)


def test_a_client_that_has_forgotten_its_server_names_a_remedy():
    # What Spark 4.0 raises once a session has ended.
    error = PySparkRuntimeError(
        "[CONNECT_URL_NOT_SET] Cannot create a Spark Connect session because the URL is not set."
    )
    assert from_spark(error)
    assert "session has ended" in failure(error) and "SparkSession.builder.remote(URL).getOrCreate()" in failure(error)
