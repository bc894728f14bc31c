"""The demo: one CNN on one core against an ensemble on all cores, on MNIST.

It prints what it measures. Called by `cli`.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from typing import Any

from pyspark.ml import Pipeline
from pyspark.sql import DataFrame, SparkSession

from spark_cnn_ensemble.datasets import load_mnist, to_dataframe
from spark_cnn_ensemble.engine import engine_of
from spark_cnn_ensemble.estimator import CNNEnsembleClassifier
from spark_cnn_ensemble.model import CNNEnsembleClassificationModel

RECIPE: dict[str, Any] = {
    "bagging": "subsample",
    "subsamplingRate": 1.0,
    "epochs": 2,
    "randomShift": 2,
    "numClasses": 10,
    "inputShape": [28, 28, 1],
}
MEMBERS = 6


def run_demo(spark: SparkSession) -> None:
    """Train both, score with both, and compare the ensemble's votes with those of its saved copy in a new process.

    Parameters
    ----------
    spark : SparkSession

    Raises
    ------
    RuntimeError
        The saved copy predicts another class for some row.
    """
    started = time.perf_counter()
    engine = engine_of(spark)
    print(
        f"MNIST on Spark {spark.version} ({engine.master}, {engine.slots} cores), "
        f"TensorFlow {version('tensorflow')}, Python {platform.python_version()}, {platform.machine()}\n",
        flush=True,
    )
    train_arrays, test_arrays = load_mnist()
    train, test = to_dataframe(spark, *train_arrays), to_dataframe(spark, *test_arrays)

    print("1. Training one CNN on all rows with one core ...", flush=True)
    single, single_seconds = _fit(train, numMembers=1)
    print(f"2. Training {MEMBERS} CNNs on all rows with {engine.slots} cores, one Spark task per CNN ...", flush=True)
    model, seconds = _fit(train, numMembers=MEMBERS)

    print("3. Scoring the test rows with both ...\n", flush=True)
    rows = [_row("one CNN", single, single_seconds, test), _row("ensemble", model, seconds, test)]
    print("             rows  members  seconds     best     mean    worst     vote")
    print("\n".join(rows), end="\n\n", flush=True)

    print("4. A new process loads the saved PipelineModel and scores the test rows ...", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        agreeing = _score_elsewhere(model, test, folder)
    print(f"   {agreeing:,} of {test.count():,} predictions are the same.\n")
    print(f"Done in {time.perf_counter() - started:.0f} s, without the start of Spark.")


def _fit(train: DataFrame, numMembers: int) -> tuple[CNNEnsembleClassificationModel, float]:
    started = time.perf_counter()
    model = CNNEnsembleClassifier(numMembers=numMembers, **RECIPE).fit(train)
    return model, time.perf_counter() - started


def _row(name: str, model: CNNEnsembleClassificationModel, seconds: float, test: DataFrame) -> str:
    evaluation = model.evaluate(test)
    members = evaluation.memberAccuracies
    return (
        f"{name:9s} {model.summary.rows:7,d} {len(members):8d} {seconds:8.1f} "
        f"{members.max():8.2%} {members.mean():8.2%} {members.min():8.2%} {evaluation.accuracy:8.2%}"
    )


def _score_elsewhere(model: CNNEnsembleClassificationModel, test: DataFrame, folder: str) -> int:
    saved, rows, scored = (os.path.join(folder, name) for name in ("model", "test", "scored"))
    Pipeline(stages=[model]).fit(test).write().save(saved)
    test.write.parquet(rows)
    command = [sys.executable, "-m", "spark_cnn_ensemble", "score", "--model", saved, "--input", rows]
    # Under spark-submit, these would lead the new process to the session of this one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYSPARK_GATEWAY_")}
    command += ["--format", "parquet", "--output", scored]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    if ended.returncode:
        raise RuntimeError(f"The saved model could not be scored in a new process: {ended.stderr.strip()}")
    expected = model.transform(test).select("id", "prediction")
    from_copy = test.sparkSession.read.parquet(scored).select("id", "prediction")
    agreeing = expected.join(from_copy, ["id", "prediction"]).count()
    if agreeing != expected.count():
        raise RuntimeError(
            f"Only {agreeing} of {expected.count()} predictions of the saved model equal those of the fitted one."
        )
    return agreeing
