"""Fixtures for every test file: one Spark session with two cores, small sets of real digits, and a model of them."""

import os
import sys

import numpy as np
import pyspark
import pytest
from support.short_jobs import SHORT_JOBS, java_options

os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
# For Spark here and in every process that is started from here.
os.environ.setdefault("SPARK_SUBMIT_OPTS", java_options())

from pyspark.sql import SparkSession
from support.classifiers import small
from support.java_names import look_up_once

from spark_cnn_ensemble.datasets import load_digits, load_mnist, to_dataframe

# Fixtures. The library needs Spark 4.0 for Connect.
STARTS_CONNECT = {"server", "client", "client_of_a_cluster"}
STARTS_SPARK = {"spark", "cluster", "retrying", *STARTS_CONNECT}


def pytest_collection_modifyitems(items):
    """Mark tests that need a Spark session, so that `-m "not spark"` selects the fast ones."""
    for item in items:
        if not STARTS_SPARK.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker("spark")
        if pyspark.__version__.startswith("3.") and not STARTS_CONNECT.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.skip(reason="Spark Connect needs Spark 4.0 or later"))


@pytest.fixture(scope="session")
def spark():
    look_up_once()
    builder = (
        SparkSession.builder.master("local[2]")
        .appName("tests")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.shuffle.partitions", "4")
        .config("spark.python.daemon.module", "support.daemon")
        .config("spark.executorEnv.PYTHONPATH", os.path.dirname(__file__))
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
    )
    for name, value in SHORT_JOBS.items():
        builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("OFF")  # hundreds of refusals are tested; their traces would bury the rest
    yield session
    session.stop()


@pytest.fixture(scope="session")
def digits():
    """scikit-learn's 8x8 digits: ((x_train, y_train), (x_test, y_test))."""
    return load_digits()


@pytest.fixture(scope="session")
def mnist():
    """((x_train, y_train), (x_test, y_test)), all 70,000."""
    return load_mnist()


@pytest.fixture(scope="session")
def train(spark, digits):
    """The digits' training rows as a DataFrame (id, features, label)."""
    return to_dataframe(spark, *digits[0]).cache()


@pytest.fixture(scope="session")
def test(spark, digits):
    """The digits' test rows as a DataFrame (id, features, label)."""
    return to_dataframe(spark, *digits[1]).cache()


@pytest.fixture(scope="session")
def model(train):
    """A model with three members that has learned the digits roughly."""
    return small(bagging="subsample", epochs=4, learningRate=5e-3).fit(train)


@pytest.fixture(scope="session")
def vectors(digits):
    """A few rows of pixels as float arrays."""
    return digits[1][0].reshape(-1, 64).astype(np.float64)[:20]


def pytest_terminal_summary(terminalreporter):
    """Count the cases of bad input; each case is a test."""
    passed = [report.nodeid for report in terminalreporter.stats.get("passed", []) if report.when == "call"]
    refusals, hostile = (sum(f"tests/{folder}/" in node for node in passed) for folder in ("refusals", "hostile"))
    if refusals or hostile:
        terminalreporter.write_line(
            f"Bad input: {refusals} cases of types, shapes and values and {hostile} of hostile files were refused in a "
            "sentence or gave a checked result."
        )
