"""A worker's refusal reaches the user as one sentence."""

import pytest

from spark_cnn_ensemble.worker.refusal import refusal_in, refusing_in_python

PYTHON = "...\nspark_cnn_ensemble.worker.refusal.{}: It is bad; fix it.\n\n\tat org"
SPARK_3 = "Py4JJavaError: ...\nCaused by: java.lang.RuntimeException: {}\n\tat org"
SPARK = "[USER_RAISED_EXCEPTION] {} SQLSTATE: P0001"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param(PYTHON.format("Refusal"), "It is bad; fix it.", id="refusal of a worker"),
        pytest.param(PYTHON.format("Divergence"), "It is bad; fix it.", id="divergence of a worker"),
        pytest.param(f"{SPARK.format('A row: bad; fix it.')}\n\tat java.lang", "A row: bad; fix it.", id="a row"),
        pytest.param(SPARK.format("Row 7: bad; fix it."), "Row 7: bad; fix it.", id="a row by name"),
        pytest.param(SPARK_3.format("A row: bad; fix it."), "A row: bad; fix it.", id="a row, on Spark 3.5"),
        pytest.param(SPARK_3.format("of the user's own."), None, id="raise_error of the user's own, on Spark 3.5"),
        pytest.param(SPARK.format("of the user's own."), None, id="raise_error of the user's own"),
        pytest.param("java.lang.OutOfMemoryError", None, id="another error"),
    ],
)
def test_a_refusal_is_found_in_an_error_of_spark(text, sentence):
    assert refusal_in(text) == sentence
    expected = RuntimeError if sentence is None else ValueError
    with pytest.raises(expected) as caught, refusing_in_python():
        raise RuntimeError(text)
    assert str(caught.value) == (sentence or text)


def test_workers_without_the_package_are_reported_with_the_remedy():
    sentence = "Spark's Python workers have no module 'spark_cnn_ensemble'; set the environment variable PYSPARK_PYTHON"
    with pytest.raises(ModuleNotFoundError, match=f"^{sentence}"), refusing_in_python():
        raise RuntimeError("ModuleNotFoundError: No module named 'spark_cnn_ensemble'")
