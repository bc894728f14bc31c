"""Training against peers.

Claim: Over the whole of `fit`, this library trains on more images per second than Keras' `model.fit`, than PyTorch on
all cores, and than elephas.

All train on MNIST's 60,000 rows: 5 epochs, both cores, batches of 50, Adam, float32, no shifts. This library trains 10
members in disjoint bags, its default; reading the cached rows, the shuffle and collecting the weights are included. The
others train one network each, set up for speed: Keras with 50 batches per call (`steps_per_execution`) from numpy
arrays; PyTorch in a loop over tensors in memory with fused Adam and channels_last; elephas synchronous with 2 workers,
its whole `fit`. No start is measured: each trains on 5,000 rows first, in the same processes. In turn, 5 runs after a
warm-up; images per second, median (minimum to maximum).

Needs: network access, to install PyTorch and elephas into environments of their own in .peers/ (gigabytes).
Takes: 9 to 23 minutes, plus the installation.
"""

import functools
import statistics
import tempfile

from _mnist import TRAINING_ONLY
from _peers import BATCH, FEW, save_arrays, train_peer, versions_of
from _processes import start
from _results import record, table
from _session import cached, session
from _timing import alternate, ratios, seconds_of, spread

from spark_cnn_ensemble import CNNEnsembleClassifier
from spark_cnn_ensemble.datasets import load_mnist, to_dataframe

EPOCHS = 5
PEERS = ("Keras", "PyTorch", "elephas")
VERSIONS = {"PyTorch": ("torch",), "elephas": ("elephas", "tensorflow", "keras", "pyspark")}


def main():
    """Make the environments, train in turn, record the table."""
    versions = [
        f"Versions in the environment of {peer}: {versions_of(peer, packages)}." for peer, packages in VERSIONS.items()
    ]
    spark = session()
    x, y = load_mnist()[0]
    few, rows = cached(to_dataframe(spark, x[:FEW], y[:FEW])), cached(to_dataframe(spark, x, y))
    images = EPOCHS * len(x)

    def ours(precision):
        params = {**TRAINING_ONLY, "numMembers": 10, "batchSize": BATCH, "precision": precision}
        # Spark ends Python workers that were idle for a minute, as these were while the others trained.
        CNNEnsembleClassifier(**params, epochs=1).fit(few)
        return images / seconds_of(CNNEnsembleClassifier(**params, epochs=EPOCHS).fit, rows)

    def theirs(peer, path):
        return images / train_peer(peer, path, EPOCHS)[0]

    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/mnist.npz"
        save_arrays(path, (x, y))
        ways = {"this library": lambda: ours("float32"), "this library, bfloat16": lambda: ours("bfloat16")}
        ways.update({peer: functools.partial(theirs, peer, path) for peer in PEERS})
        found = alternate(ways)
    first, second = found["this library"], found["this library, bfloat16"]
    rows = [
        (name, spread(values, ",.0f"), spread(ratios(first, values), ".2f"), spread(ratios(second, values), ".2f"))
        for name, values in found.items()
    ]
    times = ", ".join(f"{statistics.median(ratios(first, found[peer])):.2f} times {peer}" for peer in PEERS)
    record(
        __file__,
        __doc__,
        f"{statistics.median(first):,.0f} images per second: {times}",
        table(("library", "images per second", "this library over it", "bfloat16 over it"), rows),
        *versions,
    )


if __name__ == "__main__":
    start(__doc__, main)
