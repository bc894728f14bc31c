"""Scoring speed.

Claim: by the medians, `transform` scores at least 80 % of the rows per second of a bare loop, and at least 3 times
those of Keras' `predict` with its default batches and of a `predict_batch_udf`. With `scoringPrecision="bfloat16"`, the
accuracy of the vote on MNIST's test rows, as the mean of three models, differs by at most 0.05 points.

The bare loop calls the same compiled members in one process per core, on a block in memory. `predict` scores with one
member after the other. The `predict_batch_udf` is written as in pyspark's documentation, one per member. 10 members of
the default network, trained for 3 epochs on 10,000 rows, float32 where nothing else is said; MNIST's training rows as
784 floats, cached by Spark. In turn, 5 runs after a warm-up; thousands of rows x members per second, median (minimum to
maximum).

Needs: the library alone.
Takes: 29 minutes.
"""

import functools
import statistics
import tempfile

import numpy as np
from _mnist import PARAMS
from _processes import CORES, in_processes, run_apart, start
from _results import record, table
from _session import cached, compute, session, worker_peak
from _timing import alternate, rate, ratios, seconds_of, spread
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql.types import ArrayType, FloatType

from spark_cnn_ensemble import CNNEnsembleClassificationModel, CNNEnsembleClassifier
from spark_cnn_ensemble.datasets import load_mnist, to_dataframe
from spark_cnn_ensemble.worker.pixels import PixelFormat
from spark_cnn_ensemble.worker.runtime import load_tensorflow
from spark_cnn_ensemble.worker.tensorflow_ensemble import TensorFlowEnsemble
from spark_cnn_ensemble.worker.weights import unpack_weights

MEMBERS, MILLION = 10, 1_000_000
SEEDS = (1, 2, 3)


def bare_loop(plan, weights, seconds):
    """Rows x members per second of this process: the compiled members on a block in memory, and nothing else."""
    load_tensorflow(threads=1)
    ensemble = TensorFlowEnsemble(plan, weights.__getitem__)
    images = load_mnist()[1][0][: plan.block_rows, ..., None]
    ensemble.vote(images)
    return rate(lambda: sum(len(images) for _ in ensemble.outputs(images)), seconds)


def keras_predict(network_json, weights, batch):
    """Rows x members per second of Keras' `predict` with each member on the test rows; this process uses both cores."""
    import keras

    network = keras.models.model_from_json(network_json)
    images = load_mnist()[1][0][..., None].astype(np.float32)
    network.predict(images[:batch], batch_size=batch, verbose=0)

    def predict():
        for packed in weights:
            network.set_weights(unpack_weights(packed))
            network.predict(images, batch_size=batch, verbose=0)

    return len(images) * len(weights) / seconds_of(predict)


def vote_udf(network_json, packed):
    """A member as a `predict_batch_udf`, as in Spark's documentation."""

    def make():
        import keras

        network = keras.models.model_from_json(network_json)
        network.set_weights(unpack_weights(packed))
        return lambda inputs: network.predict(inputs, verbose=0)

    return predict_batch_udf(
        make, return_type=ArrayType(FloatType()), batch_size=1024, input_tensor_shapes=[[28, 28, 1]]
    )


def by_udfs(path):
    """Rows x members per second of one `predict_batch_udf` per member.

    Runs in a process of its own, because the first code that uses TensorFlow in a worker fixes its threads.
    """
    spark = session()
    model = CNNEnsembleClassificationModel.load(path)
    network_json = model.memberNetwork(0).to_json()
    x, y = load_mnist()[1]
    rows = to_dataframe(spark, x.astype(np.float32), y).repartition(CORES).cache()
    scored = rows.select(*[vote_udf(network_json, packed)("features") for packed in model._ensemble.weights])
    compute(scored)
    return rows.count() * MEMBERS / seconds_of(compute, scored)


def accuracies(models, rows):
    """The hard vote's accuracy on the rows in both precisions, in percent, by model."""
    for model in models:
        halved = model.copy().setScoringPrecision("bfloat16")
        yield tuple(100 * each.evaluate(rows).accuracy for each in (model, halved))


def main():
    """Train briefly, score in turn, then score a million rows, and the test rows in both precisions."""
    spark = session()
    x, y = load_mnist()[0]
    train = cached(to_dataframe(spark, x[:10000], y[:10000]))
    classifier = CNNEnsembleClassifier(**PARAMS, numMembers=MEMBERS, epochs=3, oobSampleSize=0)
    models = [classifier.copy().setSeed(seed).fit(train) for seed in SEEDS]
    model = models[0]
    network_json, weights = model.memberNetwork(0).to_json(), model._ensemble.weights
    plan = model._plan(PixelFormat("features", "array", (28, 28, 1)))
    rows = cached(to_dataframe(spark, x.astype(np.float32), y).repartition(8))

    def transform(precision):
        scorer = model.copy().setScoringPrecision(precision)
        # Spark ends Python workers that were idle for a minute, as these were; new ones must load TensorFlow first.
        compute(scorer.transform(rows.limit(2000).repartition(CORES)))
        return len(x) * MEMBERS / seconds_of(lambda: compute(scorer.transform(rows)))

    def predict(batch):
        return in_processes(1, keras_predict, network_json, weights, batch)[0]

    with tempfile.TemporaryDirectory() as path:
        model.write().overwrite().save(path)
        found = alternate(
            {
                "bare loop, one process per core": lambda: sum(in_processes(CORES, bare_loop, plan, weights, 5.0)),
                "transform": functools.partial(transform, "float32"),
                "transform in bfloat16": functools.partial(transform, "bfloat16"),
                "Keras predict, batches of 32 (its default)": functools.partial(predict, 32),
                "Keras predict, batches of 1,024": functools.partial(predict, 1024),
                "predict_batch_udf, one per member": lambda: run_apart(__file__, path),
            }
        )
    over = {name: ratios(found["transform"], values) for name, values in found.items()}
    table_rows = [
        (name, spread([value / 1e3 for value in values]), spread(over[name], ".2f")) for name, values in found.items()
    ]
    loop, _, _, predict_32, _, udf = (f"{statistics.median(values):.2f}" for values in over.values())
    many = spark.range(0, MILLION, 1, 16).crossJoin(rows.limit(1).select("features"))
    seconds = seconds_of(lambda: compute(model.transform(many)))
    memory = worker_peak(spark)
    votes = list(accuracies(models, cached(to_dataframe(spark, *load_mnist()[1]))))
    points = statistics.mean(halved - full for full, halved in votes)
    record(
        __file__,
        __doc__,
        f"{loop} of the bare loop; {predict_32} times Keras' `predict`; {udf} times `predict_batch_udf`",
        table(("way", "thousands of rows x members per second", "transform over it"), table_rows),
        f"{MILLION:,} rows: {seconds:.0f} s; largest memory of a worker: {memory / 1e6:,.0f} MB.",
        table(
            ("seed", "vote on the test rows in float32", "in bfloat16"),
            [(seed, *(f"{value:.2f}%" for value in both)) for seed, both in zip(SEEDS, votes, strict=True)],
        ),
        f"In bfloat16 {points:+.3f} points on average.",
    )


if __name__ == "__main__":
    start(__doc__, main, by_udfs)
