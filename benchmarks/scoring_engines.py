"""Scoring engines.

Claim: by the medians, with `scoringEngine="onnx"` members score at least 1.2 times as many images of 28x28 per second
of CPU time as with TensorFlow, and a new session has its first scored row at least 2 seconds earlier. The gain depends
on the size of the images: images of 32x32x3 gain nothing.

Images in memory are scored in one process per engine, in turn: float32, untrained members, blocks as in `transform`.
The first row is that of a new local session which loads a saved model, from its first line of Python to the row. CPU
time rather than time, so that other work on the machine matters less. In turn, 5 runs after a warm-up; median (minimum
to maximum).

Needs: the extra `onnx`.
Takes: 26 minutes.
"""

import dataclasses
import functools
import os
import statistics
import tempfile
import time

import numpy as np
from _processes import run_apart, start
from _results import record, show, table
from _timing import alternate, ratios, spread

from spark_cnn_ensemble.worker.network import Architecture
from spark_cnn_ensemble.worker.pixels import PixelFormat
from spark_cnn_ensemble.worker.voting_plan import VotingPlan

ENGINES = ("tensorflow", "onnx")
SECONDS = 4.0  # of CPU time per run
CASES = {  # shape of the images, members
    "28x28x1, 10 members": ((28, 28, 1), 10),
    "28x28x1, 1 member": ((28, 28, 1), 1),
    "28x28x1, 100 members": ((28, 28, 1), 100),
    "8x8x1, 10 members": ((8, 8, 1), 10),
    "32x32x3, 10 members": ((32, 32, 3), 10),
    "96x96x3, 10 members": ((96, 96, 3), 10),
    "custom network with BatchNormalization, 28x28x1, 10 members": ((28, 28, 1), 10),
}


def plan_of(case):
    """The plan of a case for TensorFlow, and the members' packed weights."""
    from spark_cnn_ensemble.worker.network import build_network
    from spark_cnn_ensemble.worker.weights import pack_weights

    shape, members = CASES[case]
    architecture = Architecture(shape, 10)
    if case.startswith("custom"):
        architecture = dataclasses.replace(architecture, network=batch_normalized(shape))
    weights = [pack_weights(build_network(architecture, seed=seed).get_weights()) for seed in range(members)]
    return VotingPlan(case, (architecture,), (0,) * members, PixelFormat("features", "array", shape)), weights


def batch_normalized(shape):
    """A network with BatchNormalization, as JSON."""
    import keras
    from keras import layers

    hidden = [
        each
        for filters in (16, 32)
        for each in (
            layers.Conv2D(filters, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
        )
    ]
    return keras.Sequential(
        [keras.Input(shape), *hidden, layers.Flatten(), layers.Dense(10, activation="softmax")]
    ).to_json()


def score(case, engine):
    """Images x members per second of this process' CPU time."""
    from spark_cnn_ensemble.onnx_writer import onnx_graph
    from spark_cnn_ensemble.worker.loaded_ensemble import load_ensemble
    from spark_cnn_ensemble.worker.runtime import load_tensorflow

    load_tensorflow(threads=1)
    plan, weights = plan_of(case)
    if engine == "onnx":
        plan = dataclasses.replace(plan, graphs=(onnx_graph(plan.architectures[0]),) * len(weights))
    ensemble = load_ensemble(plan, weights.__getitem__)
    images = np.random.default_rng(0).uniform(0, 255, (8 * plan.block_rows, *plan.pixels.shape)).astype(np.float32)
    ensemble.vote(images)
    begun, done = time.process_time(), 0
    while (spent := time.process_time() - begun) < SECONDS:
        ensemble.vote(images)
        done += len(images) * len(weights)
    return done / spent


def first_row(engine, path):
    """Seconds until a new session has scored its first row with a saved model, and a worker's largest memory in MB."""
    begun = time.perf_counter()
    from _session import session, worker_peak

    spark = session("local[1]")
    from spark_cnn_ensemble import CNNEnsembleClassificationModel

    model = CNNEnsembleClassificationModel.load(path).setScoringEngine(engine)
    rows = spark.range(1).selectExpr("array_repeat(float(1), 784) AS features")
    model.transform(rows).collect()
    seconds = time.perf_counter() - begun
    return seconds, worker_peak(spark) / 1e6


def apart(name, *arguments):
    """A measurement in a process of its own."""
    return {"score": score, "first_row": first_row}[name](*arguments)


def saved_model(path):
    """Save ten default members that have learned a little."""
    from _mnist import PARAMS
    from _session import session

    from spark_cnn_ensemble import CNNEnsembleClassifier
    from spark_cnn_ensemble.datasets import load_mnist, to_dataframe

    x, y = load_mnist()[0]
    classifier = CNNEnsembleClassifier(**PARAMS, numMembers=10, epochs=1, oobSampleSize=0)
    spark = session()
    classifier.fit(to_dataframe(spark, x[:5000], y[:5000])).save(path)
    spark.stop()


def main():
    """Each case with both engines in turn, then first rows of sessions."""
    rows = []
    for case in CASES:
        found = alternate({engine: functools.partial(run_apart, __file__, "score", case, engine) for engine in ENGINES})
        gain = ratios(found["onnx"], found["tensorflow"])
        rows.append((case, *(spread([v / 1e3 for v in found[engine]]) for engine in ENGINES), spread(gain, ".2f")))
        show(rows[-1])
    memory = {engine: [] for engine in ENGINES}
    with tempfile.TemporaryDirectory() as folder:
        saved_model(f"{folder}/model")

        def start_session(engine):
            seconds, peak = run_apart(__file__, "first_row", engine, f"{folder}/model")
            memory[engine].append(peak)
            return seconds

        first = alternate({engine: functools.partial(start_session, engine) for engine in ENGINES})
    earlier = [tensorflow - onnx for tensorflow, onnx in zip(first["tensorflow"], first["onnx"], strict=True)]
    starts = [(engine, spread(first[engine]), spread(memory[engine], ",.0f")) for engine in ENGINES]
    record(
        __file__,
        __doc__,
        f"{rows[0][-1].split()[0]} times TensorFlow; first row {statistics.median(earlier):.1f} s earlier",
        table(("case", *(f"{engine}, thousands of images x members per second" for engine in ENGINES), "ratio"), rows),
        table(("engine", "first row of a session, seconds", "a worker's largest memory, MB"), starts),
        f"First row, seconds earlier: {spread(earlier)}. Load of the machine at the end: {os.getloadavg()[0]:.1f}.",
    )


if __name__ == "__main__":
    start(__doc__, main, apart)
