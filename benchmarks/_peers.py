"""One network, trained by Keras, PyTorch or elephas in processes of their own.

This file is also the script of those processes. PyTorch and elephas have environments of their own, without this
library, so Spark and the frameworks are imported inside functions.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
from _processes import CORES, run_apart, start
from _timing import seconds_of

BATCH = 50
FEW = 5000  # rows to train on before the measurement, so that no start is measured
ENVIRONMENTS = Path(__file__).resolve().parent.parent / ".peers"
PACKAGES = {"PyTorch": ("torch", "numpy"), "elephas": ("elephas==7.3.0",)}  # Keras has no environment of its own


def python_of(peer):
    """The Python of a peer's environment, which is made if it is missing."""
    if peer not in PACKAGES:
        return sys.executable
    folder = ENVIRONMENTS / {"PyTorch": "torch"}.get(peer, peer)
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"Installing {peer} into {folder}; this takes gigabytes.", flush=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES[peer]], check=True)
    return python


def versions_of(peer, packages):
    """Versions of packages in a peer's environment."""
    script = "import importlib.metadata as m, sys; print(', '.join(f'{n} {m.version(n)}' for n in sys.argv[1:]))"
    command = [python_of(peer), "-c", script, *packages]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def save_arrays(path, train, test=None):
    """Write the rows for `train_peer`; without test rows, it reports no accuracy."""
    arrays = dict(zip(("x", "y", "tests", "labels"), (*train, *(test or ())), strict=False))
    np.savez(path, **arrays)


def train_peer(peer, path, epochs):
    """Seconds that a peer trains for, and its accuracy on the test rows, or None."""
    return run_apart(__file__, peer, str(path), epochs, python=python_of(peer))


def _train_here(peer, path, epochs):
    with np.load(path) as arrays:
        seconds, network = {"Keras": by_keras, "PyTorch": by_pytorch, "elephas": by_elephas}[peer](
            arrays["x"], arrays["y"], epochs
        )
        if "tests" not in arrays:
            return seconds, None
        predicted = network.predict(arrays["tests"][..., None].astype("float32"), verbose=0).argmax(axis=1)
        return seconds, float((predicted == arrays["labels"]).mean())


def keras_network():
    """The default network of this library, except that it divides pixels by 255 instead of standardizing them."""
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
    return seconds_of(lambda: network.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=0)), network


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

    def train(rows, epochs):
        for _ in range(epochs):
            for index in torch.randperm(rows).split(BATCH):
                batch = (images[index].float() / 255).to(memory_format=torch.channels_last)
                loss = nn.functional.cross_entropy(network(batch), labels[index])
                adam.zero_grad()
                loss.backward()
                adam.step()

    train(min(FEW, len(y)), 1)
    return seconds_of(train, len(y), epochs), network


def by_elephas(x, y, epochs):
    """Seconds of elephas' fit with two workers, and the network that it trained."""
    from _session import cached, session
    from elephas.spark_model import SparkModel
    from elephas.utils import to_simple_rdd

    spark = session(driver_memory="4g")
    network = keras_network()
    network.compile("adam", "sparse_categorical_crossentropy")
    x = x[..., None].astype("float32")
    few = to_simple_rdd(spark.sparkContext, x[:FEW], y[:FEW]).repartition(CORES)
    rows = cached(to_simple_rdd(spark.sparkContext, x, y).repartition(CORES))
    model = SparkModel(network, mode="synchronous", num_workers=CORES)
    model.fit(few, epochs=1, batch_size=BATCH, verbose=0)
    return seconds_of(lambda: model.fit(rows, epochs=epochs, batch_size=BATCH, verbose=0)), model.master_network


if __name__ == "__main__":
    start(__doc__, apart=_train_here)
