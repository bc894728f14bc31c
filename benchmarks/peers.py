"""Training: `fit()` against Keras, PyTorch and elephas, with the same network on the same rows.

Claim: over the whole of `fit()`, this library trains on more images a second than Keras' `model.fit`, than PyTorch on
all cores, and than elephas. MNIST's 60,000 rows, 5 epochs, both cores, batches of 50, Adam, float32, no shifts. This
library: 10 members in disjoint bags, its default, with the reading of cached rows, the shuffle and the collection of
weights. The others: one network, in ways that suit them: Keras with 50 batches a call (`steps_per_execution`), from
numpy arrays; PyTorch by a loop over tensors in memory with fused Adam, in channels_last; elephas synchronous, 2
workers, its whole `fit`. All without their start: each has just trained on 5,000 rows, in the same processes. In turn,
5 times after a warm-up; images a second, median (minimum to maximum). PyTorch and elephas are each in an environment of
their own, which this makes.
"""

import functools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

BATCH, ROWS, EPOCHS, CORES = 50, 60_000, 5, 2
FEW = 5000  # rows that each trains on first, so that its start is not measured
ENVIRONMENTS = Path(__file__).resolve().parent.parent / ".peers"
PEERS = {"PyTorch": ("torch", "torch numpy"), "elephas": ("elephas", "elephas==7.3.0")}


def keras_network():
    """The default network, by hand: this runs where this library is not installed."""
    import keras
    from keras import layers

    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(16, 5, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(32, 5, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def by_keras(x, y, epochs):
    """Seconds of Keras' fit, and the network that it trained."""
    network = keras_network()
    network.compile("adam", "sparse_categorical_crossentropy", steps_per_execution=50)
    x = x[..., None].astype("float32")
    network.fit(x[:FEW], y[:FEW], batch_size=BATCH, epochs=1, verbose=0)
    begun = time.perf_counter()
    network.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=0)
    return time.perf_counter() - begun, network


def by_pytorch(x, y, epochs):
    """Seconds of a plain loop in PyTorch, and the network that it trained."""
    import torch
    from torch import nn

    torch.set_num_threads(CORES)
    network = nn.Sequential(
        nn.Conv2d(1, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(512, 128), nn.ReLU(), nn.Linear(128, 10),
    ).to(memory_format=torch.channels_last)  # fmt: skip
    adam = torch.optim.Adam(network.parameters(), fused=True)
    images, labels = torch.from_numpy(x)[:, None], torch.from_numpy(y.astype("int64"))

    def train(rows):
        for index in torch.randperm(rows).split(BATCH):
            batch = (images[index].float() / 255).to(memory_format=torch.channels_last)
            loss = nn.functional.cross_entropy(network(batch), labels[index])
            adam.zero_grad()
            loss.backward()
            adam.step()

    train(FEW)
    begun = time.perf_counter()
    for _ in range(epochs):
        train(len(y))
    return time.perf_counter() - begun, network


def by_elephas(x, y, epochs):
    """Seconds of elephas' fit on two workers, and the network that it trained."""
    from elephas.spark_model import SparkModel
    from elephas.utils import to_simple_rdd
    from pyspark.sql import SparkSession

    spark = SparkSession.builder.master(f"local[{CORES}]").config("spark.driver.memory", "4g").getOrCreate()
    network = keras_network()
    network.compile("adam", "sparse_categorical_crossentropy")
    some, rows = (
        to_simple_rdd(spark.sparkContext, x[:count, ..., None].astype("float32"), y[:count]).repartition(CORES).cache()
        for count in (FEW, len(y))
    )
    rows.count()
    model = SparkModel(network, mode="synchronous", num_workers=CORES)
    model.fit(some, epochs=1, batch_size=BATCH, verbose=0)
    begun = time.perf_counter()
    model.fit(rows, epochs=epochs, batch_size=BATCH, verbose=0)
    return time.perf_counter() - begun, model.master_network


WAYS = {"Keras": by_keras, "PyTorch": by_pytorch, "elephas": by_elephas}


def alone(way, python, arrays):
    """Images a second, measured in a process of its own."""
    environment = {**os.environ, "PYSPARK_PYTHON": str(python), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [str(python), __file__, way, str(arrays)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{way} failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def environment_of(name):
    """The Python of a peer's environment; it is made where it is missing."""
    folder, packages = PEERS[name]
    python = ENVIRONMENTS / folder / "bin" / "python"
    if not python.exists():
        print(f"Installing {name} into {python.parent.parent}; this takes gigabytes.", flush=True)
        subprocess.run([sys.executable, "-m", "venv", python.parent.parent], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *packages.split()], check=True)
    return python


def main():
    """Make the environments, measure in turn, record the table."""
    import tempfile

    import numpy as np
    from _results import alternate, ratio, record, session, spread, timed

    from spark_cnn_ensemble import CNNEnsembleClassifier
    from spark_cnn_ensemble.datasets import load_mnist, to_dataframe

    pythons = {"Keras": sys.executable, **{name: environment_of(name) for name in PEERS}}
    spark = session()
    x, y = load_mnist()[0]
    some, train = to_dataframe(spark, x[:FEW], y[:FEW]).cache(), to_dataframe(spark, x, y).cache()
    train.count()

    def ours(precision):
        classifier = CNNEnsembleClassifier(
            numMembers=10,
            epochs=EPOCHS,
            batchSize=BATCH,
            precision=precision,
            numClasses=10,
            inputShape=[28, 28, 1],
            idCol="id",
            oobSampleSize=0,
            verbose=0,
        )
        # Spark ends Python workers that were idle for a minute, as these were while the others trained.
        classifier.copy({classifier.epochs: 1}).fit(some)
        return EPOCHS * ROWS / timed(lambda: classifier.fit(train))

    with tempfile.TemporaryDirectory() as folder:
        arrays = Path(folder) / "mnist.npz"
        np.savez(arrays, x=x, y=y)
        ways = {"this library": lambda: ours("float32"), "this library, bfloat16": lambda: ours("bfloat16")}
        ways.update({name: functools.partial(alone, name, pythons[name], arrays) for name in WAYS})
        found = alternate(ways)
    lines = ["| | images a second | float32 over it | bfloat16 over it |", "|---|---|---|---|"]
    first, second = found["this library"], found["this library, bfloat16"]
    lines += [
        f"| {name} | {spread(values, ',.0f')} | {ratio(first, values)} | {ratio(second, values)} |"
        for name, values in found.items()
    ]
    script = "import importlib.metadata as m, sys; print(', '.join(f'{n} {m.version(n)}' for n in sys.argv[1:]))"
    for name, packages in (("PyTorch", ["torch"]), ("elephas", ["elephas", "tensorflow", "keras", "pyspark"])):
        told = subprocess.run([pythons[name], "-c", script, *packages], stdout=subprocess.PIPE, text=True, check=True)
        lines.append(f"\nIn the environment of {name}: {told.stdout.strip()}.")
    record("Training, against peers", __doc__.split("\n\n", 1)[1].strip(), "\n".join(lines))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        import numpy as np

        with np.load(sys.argv[2]) as arrays:
            seconds, _ = WAYS[sys.argv[1]](arrays["x"], arrays["y"], EPOCHS)
        print(json.dumps(EPOCHS * ROWS / seconds))
    else:
        main()
