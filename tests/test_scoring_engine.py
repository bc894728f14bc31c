"""With scoringEngine="onnx" a model gives what it gives by TensorFlow, and its workers do not start TensorFlow."""

import dataclasses
import sys

import numpy as np
import pytest
from pyspark.sql import functions as F
from support.classifiers import small
from support.networks import network_json
from support.processes import output_of, start_python
from support.refusals import refused, refused_before_any_job
from support.scored import assert_votes_close, predictions_by_id, scored_arrays

from spark_cnn_ensemble import CNNEnsembleClassificationModel
from spark_cnn_ensemble.worker.network import build_network
from spark_cnn_ensemble.worker.runtime import load_tensorflow
from spark_cnn_ensemble.worker.weights import pack_weights


def by_onnx(model):
    return model.copy().setScoringEngine("onnx")


WAYS = {
    "hard": lambda model: model,
    "soft": lambda model: model.setVotingStrategy("soft"),
    "thresholds": lambda model: model.setThresholds([0.0, 0.3, *[1.0] * 8]),
    "different networks": lambda model: model,
}


@pytest.fixture(scope="module")
def custom_model(train):
    """A member of another network: with batch normalization, and without standardization."""
    load_tensorflow()
    from keras import layers

    hidden = [
        layers.Rescaling(1 / 16),
        layers.Conv2D(4, 3),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Flatten(),
    ]
    text = network_json(*hidden, layers.Dense(10, activation="softmax"), shape=(8, 8, 1))
    return small(network=text, standardization=False, numMembers=1, epochs=2, oobSampleSize=0).fit(train)


@pytest.mark.parametrize("way", WAYS)
def test_the_columns_are_those_of_tensorflow(model, custom_model, test, way):
    voter = WAYS[way](model.merge(custom_model) if way == "different networks" else model.copy())
    assert_votes_close(scored_arrays(by_onnx(voter), test), scored_arrays(voter, test))


def test_the_other_columns_and_invalid_rows_are_those_of_tensorflow(model, test):
    voter = model.copy().setMemberPredictionsCol("each").setUncertaintyCol("uncertainty").setHandleInvalid("keep")
    broken = test.withColumn("features", F.when(F.col("id") != 3, F.col("features")))
    names = ("id", "each", "prediction", F.round("uncertainty", 4))
    ours, theirs = (each.transform(broken).select(*names).orderBy("id").collect() for each in (by_onnx(voter), voter))
    assert ours == theirs


def test_predictions_alone_are_those_of_all_votes_in_any_partitions(model, test):
    whole = predictions_by_id(by_onnx(model), test.coalesce(1))
    fast = by_onnx(model).setRawPredictionCol("").setProbabilityCol("")
    assert predictions_by_id(fast, test.repartition(7)) == whole == predictions_by_id(model, test)


def test_evaluation_is_that_of_tensorflow(model, test):
    ours, theirs = (each.evaluate(test) for each in (by_onnx(model), model))
    assert np.array_equal(ours.confusion, theirs.confusion)
    assert ours.accuracyBySize.equals(theirs.accuracyBySize)


def test_it_is_kept_on_disk(model, tmp_path):
    by_onnx(model).save(str(tmp_path / "model"))
    assert CNNEnsembleClassificationModel.load(str(tmp_path / "model")).getScoringEngine() == "onnx"


# ------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize("act", ["transform", "evaluate"])
def test_bfloat16_is_refused(spark, model, test, act):
    wrong = by_onnx(model).setScoringPrecision("bfloat16")
    assert refused_before_any_job(spark, getattr(wrong, act), test) == (
        "The 'scoringEngine' parameter is 'onnx', which computes in float32 alone, but 'scoringPrecision' is 'bfloat16'; "
        "set scoringPrecision='float32' or scoringEngine='tensorflow'."
    )


def test_a_network_that_cannot_be_converted_is_refused_before_any_job(spark, model, test):
    load_tensorflow()
    from keras import layers

    hidden = [layers.Discretization(bin_boundaries=[0.0], name="steps"), layers.Flatten()]
    text = network_json(*hidden, layers.Dense(10, activation="softmax"), shape=(8, 8, 1))
    architecture = dataclasses.replace(model._ensemble.architectures[0], network=text)
    weights = pack_weights(build_network(architecture).get_weights())
    ensemble = dataclasses.replace(
        model._ensemble, architectures=(architecture,), weights=(weights,) * len(model.members)
    )
    other = by_onnx(model._copyValues(CNNEnsembleClassificationModel(ensemble)))
    assert "has the layer 'steps', which" in refused_before_any_job(spark, other.transform, test)


def test_a_driver_without_onnxruntime_is_refused(model, test, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert refused(by_onnx(model).transform, test, kind=ImportError) == (
        "scoringEngine='onnx' and exports to ONNX need the package onnxruntime, which this Python does not have; run pip "
        "install 'spark-cnn-ensemble[onnx]'."
    )


# ------------------------------------------------------------------------------------------ processes

# The driver and the workers of a session that scores with a loaded model: what they import, and a worker's memory in MB.
SCORE = """
import sys
from pyspark.sql import SparkSession

spark = (
    SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    .config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1").getOrCreate()
)
from spark_cnn_ensemble import CNNEnsembleClassificationModel


def look(batches):
    import re, sys
    import pandas as pd

    for batch in batches:
        yield batch
    heavy = {"keras", "onnx", "onnxruntime", "tensorflow"} & set(sys.modules)
    peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) // 1000
    yield pd.DataFrame({"name": [*sorted(heavy), str(peak)]})


model = CNNEnsembleClassificationModel.load(sys.argv[1]).setScoringEngine("onnx")
rows = spark.read.parquet(sys.argv[2]).coalesce(1)
predictions = model.transform(rows).select(model.getPredictionCol()).collect()
# The same worker, which Spark keeps.
found = spark.range(1, numPartitions=1).selectExpr("'' AS name").mapInPandas(look, "name string").collect()
print(len(predictions), "tensorflow" in sys.modules, *[row["name"] for row in found if row["name"]])
"""


@pytest.mark.slow
def test_neither_driver_nor_workers_start_tensorflow(model, test, tmp_path):
    model.save(str(tmp_path / "model"))
    test.select("features").write.parquet(str(tmp_path / "rows"))
    scored, on_driver, *on_worker, peak = output_of(start_python(SCORE, tmp_path / "model", tmp_path / "rows"))[
        -1
    ].split()
    assert (int(scored), on_driver, on_worker) == (test.count(), "False", ["onnxruntime"])
    assert int(peak) < 300
