"""Since version 0.1.

Claim: by the medians, `transform` scores at least 1.15 times as many rows per second as in version 0.1.0, and at least
1.8 times with `scoringPrecision="bfloat16"` on a CPU with AMX; filters on outputs, single rows, small partitions, many
param maps and the weights of many members take at most 0.7 of the time that they took.

Processes of both versions in turn, 5 pairs, each with a session of its own on local[2] and models that both versions
load: ten and 100 default members, trained a little by version 0.1.0. Transforms and filters score MNIST's 60,000
training rows with ten members, all columns; `evaluate` scores the 10,000 test rows. Each is timed after the same on
2,048 rows in two partitions. Seconds, median (minimum to maximum), and the ratio before : now, pair by pair.

A pass over 313 partitions of 32 rows is also compared, on local[1], with one over a single partition of the same rows,
and with a pandas UDF in its place that returns constants, which is what Spark takes for such tasks.

Needs: the library's git repository, for version 0.1.0.
Takes: 22 to 44 minutes.
"""

import io
import statistics
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from _mnist import PARAMS
from _processes import run_apart, start
from _results import record, table
from _session import cached, compute, session
from _timing import ratios, seconds_of, spread
from pyspark.sql import functions as F

COMMIT = "d8c8440"  # version 0.1.0
RUNS = 5
SMALL = 313  # partitions of MNIST's 10,000 test rows, 32 rows in each
MODELS = 4
FORMS = {  # the filters on what a transform gives
    "transform": "true",
    "filter: uncertainty = 0": "uncertainty = 0",
    "filter: prediction = label": "prediction = label",
}


def mnist(spark, partitions=2, test=True):
    """MNIST's test rows, or its training rows; cached."""
    from spark_cnn_ensemble.datasets import load_mnist, to_dataframe

    return cached(to_dataframe(spark, *load_mnist()[test]).repartition(partitions))


def make_models(folder):
    """Save models of ten and of 100 members."""
    from spark_cnn_ensemble import CNNEnsembleClassifier
    from spark_cnn_ensemble.datasets import load_mnist, to_dataframe

    x, y = load_mnist()[0]
    spark = session()
    for members, rows in ((10, 10_000), (100, 20_000)):
        classifier = CNNEnsembleClassifier(**PARAMS, numMembers=members, epochs=1, oobSampleSize=0)
        classifier.fit(to_dataframe(spark, x[:rows], y[:rows])).save(f"{folder}/{members}")
    spark.stop()


def measure(folder):
    """The seconds of each task with the version that this process imports."""
    from spark_cnn_ensemble import CNNEnsembleClassificationModel, CNNEnsembleClassifier
    from spark_cnn_ensemble.datasets import load_digits, to_dataframe

    spark, load = session(), CNNEnsembleClassificationModel.load
    rows, ten, hundred = mnist(spark), load(f"{folder}/10"), load(f"{folder}/100")
    few, many = cached(rows.limit(2048).repartition(2)), mnist(spark, test=False)
    small = cached(rows.repartition(SMALL))
    found = {}

    def task(name, work, *arguments):
        work(few)
        found[name] = seconds_of(work, *arguments)

    for name, condition in FORMS.items():
        model = ten.copy().setUncertaintyCol("uncertainty")
        task(name, lambda frame, model=model, c=condition: compute(model.transform(frame).where(c)), many)
    if hasattr(ten, "setScoringPrecision"):
        halved = ten.copy().setScoringPrecision("bfloat16")
        task("transform in bfloat16", lambda frame: compute(halved.transform(frame)), many)
    task(f"transform of {SMALL} partitions of 32 rows", lambda frame: compute(ten.transform(frame)), small)
    task("evaluate, 100 members", lambda frame: hundred.evaluate(frame).accuracy, rows)
    vector = rows.head().features
    task("predict, 20 single rows", lambda _: [ten.predict(vector) for _ in range(20)], None)
    digits = cached(to_dataframe(spark, *load_digits()[0]))
    classifier = CNNEnsembleClassifier(numClasses=10, inputShape=[8, 8, 1], numMembers=6, epochs=1, verbose=0)
    maps = [{classifier.learningRate: 1e-3 * (i + 1)} for i in range(8)]
    found["fit of 8 param maps, 6 members each"] = seconds_of(classifier.fit, digits, maps)
    one, models = cached(rows.limit(1)), [load(f"{folder}/100") for _ in range(MODELS)]
    found[f"weights of {MODELS} models of 100 members to workers"] = seconds_of(
        lambda: [model.transform(one) for model in models]
    )
    return found


def small_partitions(folder):
    """The seconds of scoring in small partitions and in one, and of constants in small partitions, on one core."""
    from spark_cnn_ensemble import CNNEnsembleClassificationModel

    spark = session("local[1]")
    model = CNNEnsembleClassificationModel.load(f"{folder}/10")

    # Nested, so that it is pickled by value: workers cannot import this file.
    def constants(batches):
        for batch in batches:
            each = [[0.0] * 10] * len(batch)
            yield pd.DataFrame({"rawPrediction": each, "probability": each, "prediction": [0.0] * len(batch)})

    types = "rawPrediction array<double>, probability array<double>, prediction double"
    constants.__annotations__ = {"batches": Iterator[pd.Series], "return": Iterator[pd.DataFrame]}
    plain = F.pandas_udf(constants, types)

    def seconds(partitions, form):
        rows = mnist(spark, partitions)
        compute(form(rows))
        return seconds_of(compute, form(rows))

    return (
        seconds(SMALL, model.transform),
        seconds(1, model.transform),
        seconds(SMALL, lambda rows: rows.select(plain("features"))),
    )


def apart(name, folder):
    """A measurement in a process of its own."""
    return {"models": make_models, "measure": measure, "small": small_partitions}[name](folder)


def main():
    """Pairs of processes, then small partitions."""
    repository = Path(__file__).resolve().parent.parent
    archive = subprocess.run(["git", "archive", COMMIT], cwd=repository, check=True, stdout=subprocess.PIPE).stdout
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(f"{folder}/before", filter="data")
        run_apart(__file__, "models", folder, checkout=f"{folder}/before")
        paths = {"before": f"{folder}/before", "now": repository}
        found = {version: [] for version in paths}
        for turn in range(RUNS):
            for version, path in paths.items():
                found[version].append(run_apart(__file__, "measure", folder, checkout=path))
                print(turn, version, {name: round(value, 2) for name, value in found[version][-1].items()}, flush=True)
        small = [run_apart(__file__, "small", folder) for _ in range(RUNS)]
    report(found, small)


def report(found, small):
    """Record the pairs and the small partitions."""
    rows, gains = [], {}
    for name in found["now"][0]:
        now = [each[name] for each in found["now"]]
        before = [each.get(name, each["transform"]) for each in found["before"]]
        gains[name] = ratios(before, now)
        rows.append((name, spread(before, ".2f"), spread(now, ".2f"), spread(gains[name], ".2f")))
    many, one, constants = zip(*small, strict=True)
    gain, halved = (statistics.median(gains[name]) for name in ("transform", "transform in bfloat16"))
    record(
        __file__,
        __doc__,
        f"transform {gain:.2f} times as fast as version 0.1.0, in bfloat16 {halved:.2f} times",
        table(("task", "version 0.1.0", "now", "before : now"), rows),
        f"On one core, scoring {SMALL} partitions of 32 rows takes {spread(many, '.2f')} s, one partition of the same "
        f"rows {spread(one, '.2f')} s, and a pandas UDF that returns constants in the {SMALL} partitions "
        f"{spread(constants, '.2f')} s.",
    )


if __name__ == "__main__":
    start(__doc__, main, apart)
