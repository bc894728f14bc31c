"""100 members of 13 MB: whether they train, save, load and score where Spark has its default settings.

Claim: an ensemble of 1.3 GB goes through `fit`, `save`, `load` and `transform` with a driver heap of 1 GB and Spark's
default maxResultSize, and a worker that scores holds each weight once. The wide network (convolutions 5x5x32 and
5x5x64 with padding, 1,024 dense units); 100 disjoint bags of 20 of MNIST's rows, 1 epoch; 2,000 rows scored by a
process that loads the model. The most resident memory that a process of each kind took, sampled twice a second. One
run.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from _processes import family, status
from _results import record, session, timed

from spark_cnn_ensemble import CNNEnsembleClassificationModel, CNNEnsembleClassifier
from spark_cnn_ensemble.datasets import load_mnist, to_dataframe

MEMBERS = 100


def network():
    """Keras' JSON of the wide network."""
    import keras
    from keras import layers

    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(1024, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    ).to_json()


def kind(pid, driver):
    """What a process is to Spark."""
    name = Path(f"/proc/{pid}/comm").read_text().strip()
    return "JVM" if name == "java" else "driver's Python" if pid == driver else "Python worker"


def watch(most, end):
    """Keep the most that one process of each kind takes, in MB."""
    while not end.wait(0.5):
        for pid in family(os.getpid()):
            try:
                which = kind(pid, os.getpid())
            except OSError:
                continue  # it has ended meanwhile
            most[which] = max(most.get(which, 0), status({pid}, "VmRSS") / 1024)


def fit(folder):
    """Train and save."""
    spark = session()
    (x, y), _ = load_mnist()
    classifier = CNNEnsembleClassifier(
        numMembers=MEMBERS, network=network(), epochs=1, numClasses=10, inputShape=[28, 28, 1], idCol="id",
        oobSampleSize=0, verbose=0,
    )  # fmt: skip
    begun = time.perf_counter()
    model = classifier.fit(to_dataframe(spark, x[: 20 * MEMBERS], y[: 20 * MEMBERS]))
    fitted = time.perf_counter()
    model.save(f"{folder}/model")
    size = sum(len(data) for data in model._ensemble.weights)
    return {"fit": fitted - begun, "save": time.perf_counter() - fitted, "GB": size / 1e9}


def score(folder):
    """Load and score."""
    spark = session()
    begun = time.perf_counter()
    model = CNNEnsembleClassificationModel.load(f"{folder}/model")
    loaded = time.perf_counter()
    (x, y), _ = load_mnist()
    rows = to_dataframe(spark, x[:2000], y[:2000]).repartition(4)
    seconds = timed(lambda: model.transform(rows).write.format("noop").mode("overwrite").save())
    return {"load": loaded - begun, "transform": seconds}


def main():
    """Each step in a process of its own, then the table."""
    lines = ["| step | seconds | driver's Python, MB | JVM, MB | a Python worker, MB |", "|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        for step in ("fit", "score"):
            done = subprocess.run(
                [sys.executable, __file__, step, folder], stdout=subprocess.PIPE, text=True, check=True
            )
            found, most = json.loads(done.stdout.splitlines()[-1])
            size = found.pop("GB", None)
            lines.append(
                f"| {' and '.join(found)} | {', '.join(f'{value:.0f}' for value in found.values())} | "
                + " | ".join(f"{most.get(which, 0):,.0f}" for which in ("driver's Python", "JVM", "Python worker"))
                + " |"
            )
            if size is not None:
                told = f"\nThe weights of all members: {size:.2f} GB."
    record("Many and large members", __doc__.split("\n\n", 1)[1].strip(), "\n".join([*lines, told]))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        most, end = {}, threading.Event()
        watcher = threading.Thread(target=watch, args=(most, end))
        watcher.start()
        try:
            found = {"fit": fit, "score": score}[sys.argv[1]](sys.argv[2])
        finally:
            end.set()
            watcher.join()
        print(json.dumps([found, most]))
    else:
        main()
