"""Scoring: `transform` against the bare loop, Keras' `predict`, and pyspark's `predict_batch_udf`.

Claim: `transform` scores at least 90 % of the rows a second of a bare loop over the same compiled members in a process
a core, and at least 3 times those of `model.predict` with its default batches, member after member, and of a
`predict_batch_udf` as pyspark's documentation shows it. 10 members of the default network, float32; rows of 784 floats,
cached by Spark, all in turn, 5 times after a warm-up; thousands of rows x members a second, median (minimum to
maximum).
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context

import numpy as np
from _results import alternate, ratio, record, session, spread, timed

from spark_cnn_ensemble import CNNEnsembleClassificationModel, CNNEnsembleClassifier
from spark_cnn_ensemble.datasets import load_mnist, to_dataframe
from spark_cnn_ensemble.worker.pixels import PixelFormat

MEMBERS, ROWS, CORES = 10, 60_000, 2
MILLION = 1_000_000


def bare_loop(weights, plan, seconds):
    """Rows x members a second of this process: the compiled members on a block in memory, and nothing else."""
    from spark_cnn_ensemble.worker.loaded import Ensemble
    from spark_cnn_ensemble.worker.member import load_tensorflow

    load_tensorflow(threads=1)
    ensemble = Ensemble(plan, weights.__getitem__)
    images = load_mnist()[1][0][: plan.block_rows, ..., None]
    ensemble.vote(images)
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        for _ in ensemble.outputs(images):
            count += len(images)
    return count / (time.perf_counter() - begun)


def keras_predict(network_json, weights, batch):
    """Rows x members a second of Keras' `predict` of each member on the test rows, in this process, with both cores."""
    import keras

    from spark_cnn_ensemble.worker.member import unpack_weights

    network = keras.models.model_from_json(network_json)
    images = load_mnist()[1][0][..., None].astype(np.float32)
    network.predict(images[:batch], batch_size=batch, verbose=0)
    begun = time.perf_counter()
    for data in weights:
        network.set_weights(unpack_weights(data))
        network.predict(images, batch_size=batch, verbose=0)
    return len(images) * len(weights) / (time.perf_counter() - begun)


def by_predict_batch_udf(network_json, weights):
    """One function for each member, as Spark's documentation has it."""
    from pyspark.ml.functions import predict_batch_udf
    from pyspark.sql.types import ArrayType, FloatType

    def make_predict(data):
        def make():
            import keras

            from spark_cnn_ensemble.worker.member import unpack_weights

            network = keras.models.model_from_json(network_json)
            network.set_weights(unpack_weights(data))
            return lambda inputs: network.predict(inputs, verbose=0)

        return make

    return [
        predict_batch_udf(
            make_predict(data), return_type=ArrayType(FloatType()), batch_size=1024, input_tensor_shapes=[[28, 28, 1]]
        )
        for data in weights
    ]


def through(scored):
    """Make all rows, and keep none."""
    scored.write.format("noop").mode("overwrite").save()


def score_by_udf(path):
    """Rows x members a second, in a session of its own: the first who uses TensorFlow in a worker fixes its threads."""
    spark = session()
    model = CNNEnsembleClassificationModel.load(path)
    votes = by_predict_batch_udf(model.memberNetwork(0).to_json(), model._ensemble.weights)
    x, y = load_mnist()[1]
    rows = to_dataframe(spark, x.astype(np.float32), y).repartition(CORES).cache()
    scored = rows.select(*[vote("features") for vote in votes])
    through(scored)
    return rows.count() * MEMBERS / timed(lambda: through(scored))


def peak(frames):
    """The most memory that this worker has had, in bytes."""
    for frame in frames:
        yield frame.assign(peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10)


def main():
    """Fit 10 members in a moment, score in turn, then a million rows."""
    spark = session()
    (x, y), _ = load_mnist()
    classifier = CNNEnsembleClassifier(
        numMembers=MEMBERS, epochs=1, numClasses=10, inputShape=[28, 28, 1], oobSampleSize=0, verbose=0
    )
    model = classifier.fit(to_dataframe(spark, x[:10000], y[:10000]))
    network_json, weights = model.memberNetwork(0).to_json(), model._ensemble.weights
    plan = model._plan(PixelFormat("features", "array", (28, 28, 1)))
    rows = to_dataframe(spark, x.astype(np.float32), y).repartition(8).cache()
    rows.count()

    def in_processes():
        with get_context("spawn").Pool(CORES) as pool:
            return sum(pool.starmap(bare_loop, [(weights, plan, 5.0)] * CORES))

    def transform():
        through(
            model.transform(rows.limit(2000).repartition(CORES))
        )  # idle workers end after a minute, TensorFlow with them
        return ROWS * MEMBERS / timed(lambda: through(model.transform(rows)))

    def in_keras(batch):
        with get_context("spawn").Pool(1) as pool:
            return pool.apply(keras_predict, (network_json, weights, batch))

    def by_udf():
        done = subprocess.run([sys.executable, __file__, folder], stdout=subprocess.PIPE, text=True, check=True)
        return json.loads(done.stdout.splitlines()[-1])

    with tempfile.TemporaryDirectory() as folder:
        model.write().overwrite().save(folder)
        found = alternate(
            {
                "bare loop, a process a core": in_processes,
                "transform": transform,
                "Keras predict, batches of 32 (its default)": lambda: in_keras(32),
                "Keras predict, batches of 1,024": lambda: in_keras(1024),
                "predict_batch_udf, one a member": by_udf,
            }
        )
    ours = found["transform"]
    lines = ["| way | thousand rows x members a second | transform over it |", "|---|---|---|"]
    for name, values in found.items():
        lines.append(f"| {name} | {spread([value / 1e3 for value in values])} | {ratio(ours, values)} |")

    many = spark.range(0, MILLION, 1, 16).crossJoin(rows.limit(1).select("features"))
    seconds = timed(lambda: through(model.transform(many)))
    most = spark.range(0, 8, 1, 8).mapInPandas(peak, "id long, peak long").agg({"peak": "max"}).head()[0]
    lines.append(f"\n{MILLION:,} rows: {seconds:.0f} s; the most that a worker took: {most / 1e6:,.0f} MB.")
    record("Scoring", __doc__.split("\n\n", 1)[1].strip(), "\n".join(lines))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(score_by_udf(sys.argv[1])))
    else:
        main()
