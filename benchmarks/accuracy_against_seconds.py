"""Accuracy against seconds.

Claim: An ensemble votes more accurately than any other tool on Spark did in any of these runs, in at most half of the
seconds that the most accurate of those took.

All train on MNIST's 60,000 rows with both cores. Seconds are those of the whole `fit`, in a session that has trained
before; accuracy is on the 10,000 test rows. The ensembles train on images shifted by up to 2 pixels, in batches of 50,
with a learning rate of 0.002. pyspark's own classifiers get vectors divided by 255, and 4 GB of driver memory because
the default is too little for them. elephas trains the default network, synchronous with 2 workers; Keras trains it in
one process; both have trained on 5,000 rows before. The other tools run in processes of their own. One run each;
docs/accuracy.png shows the table.

Needs: network access, to install elephas into an environment of its own in .peers/ (gigabytes); matplotlib.
Takes: 15 to 25 minutes, plus the installation.
"""

import tempfile
from pathlib import Path

from _mnist import PARAMS
from _peers import save_arrays, train_peer
from _processes import run_apart, start
from _results import record, show, table
from _session import cached, session
from _timing import timed
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from pyspark.ml.classification import MultilayerPerceptronClassifier, RandomForestClassifier
from pyspark.ml.evaluation import MulticlassClassificationEvaluator
from pyspark.ml.functions import array_to_vector
from pyspark.sql import functions as sf

from spark_cnn_ensemble import CNNEnsembleClassifier
from spark_cnn_ensemble.datasets import load_mnist, to_dataframe

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "accuracy.png"
DISJOINT, ALL_ROWS = {"bagging": "disjoint", "epochs": 5}, {"bagging": "subsample"}
ENSEMBLES = {
    "disjoint bags, 5 epochs": [{**DISJOINT, "numMembers": members} for members in (100, 30, 10, 4)],
    "members on all rows, 1 epoch": [{**ALL_ROWS, "epochs": 1, "numMembers": members} for members in (2, 6, 10)],
    "members on all rows, 3 epochs": [{**ALL_ROWS, "epochs": 3, "numMembers": members} for members in (2, 6, 10)],
    "one member, 1, 2 and 4 epochs": [{**ALL_ROWS, "epochs": epochs, "numMembers": 1} for epochs in (1, 2, 4)],
}
PEER_EPOCHS = (1, 3)


def counted(number, noun):
    """A number and its noun: "1 epoch", "3 epochs"."""
    return f"{number} {noun}{'s' * (number != 1)}"


def by_pyspark():
    """Tool -> (setting, seconds, accuracy) of pyspark's own classifiers; runs in a process of its own."""

    def vectors(rows):
        scaled = sf.transform(sf.col("features").cast("array<double>"), lambda value: value / 255)
        return rows.select(array_to_vector(scaled).alias("features"), "label").cache()

    spark = session(driver_memory="4g")
    train, test = (vectors(to_dataframe(spark, *arrays)) for arrays in load_mnist())
    train.count()
    accuracy = MulticlassClassificationEvaluator(metricName="accuracy")
    tools = {
        "pyspark RandomForestClassifier": [
            (f"{trees} trees, depth {depth}", RandomForestClassifier(numTrees=trees, maxDepth=depth, seed=1))
            for trees, depth in ((20, 10), (50, 12))
        ],
        "pyspark MultilayerPerceptronClassifier": [
            (f"128 units, {steps} steps", MultilayerPerceptronClassifier(layers=[784, 128, 10], maxIter=steps, seed=1))
            for steps in (50, 150)
        ],
    }
    found = {}
    for tool, settings in tools.items():
        for setting, classifier in settings:
            seconds, model = timed(classifier.fit, train)
            found.setdefault(tool, []).append((setting, seconds, accuracy.evaluate(model.transform(test))))
    return found


def by_peers(train, test):
    """The same of elephas and Keras."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/mnist.npz"
        save_arrays(path, train, test)
        return {
            peer: [(counted(epochs, "epoch"), *train_peer(peer, path, epochs)) for epochs in PEER_EPOCHS]
            for peer in ("elephas", "Keras")
        }


def by_ensembles(train, test):
    """The same of ensembles."""
    common = {**PARAMS, "randomShift": 2, "learningRate": 2e-3}
    CNNEnsembleClassifier(numMembers=2, epochs=1, **common).fit(train.limit(1000))
    found = {}
    for name, settings in ENSEMBLES.items():
        for params in settings:
            seconds, model = timed(CNNEnsembleClassifier(**common, **params).fit, train)
            setting = f"{counted(params['numMembers'], 'member')}, {counted(params['epochs'], 'epoch')}"
            found.setdefault(name, []).append((setting, seconds, model.evaluate(test).accuracy))
            show((name, *found[name][-1]))
    return found


def plot(found, path):
    """Draw accuracy against seconds; logarithmic axes, so that halving the errors is as wide as doubling the time."""
    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplots()
    for name, points in found.items():
        ours = name in ENSEMBLES
        points = sorted(points, key=lambda point: point[1])
        seconds, errors = [point[1] for point in points], [1 - point[2] for point in points]
        axes.plot(seconds, errors, marker="o" if ours else "s", linestyle="-" if ours else ":", label=name)
    axes.set(xscale="log", yscale="log", xlabel="seconds of fit, two cores", ylabel="accuracy on MNIST's test rows")
    axes.yaxis.set_major_locator(FixedLocator([0.004, 0.006, 0.01, 0.02, 0.04, 0.06, 0.1]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda error, _: f"{1 - error:.1%}"))
    axes.xaxis.set_major_locator(FixedLocator([5, 10, 20, 50, 100, 200, 500]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:g}"))
    axes.invert_yaxis()
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(fontsize=8, frameon=False, loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=150)


def main():
    """Measure each tool, record the table, draw the picture."""
    train, test = load_mnist()
    others = {**run_apart(__file__), **by_peers(train, test)}
    print(others, flush=True)
    spark = session()
    ours = by_ensembles(cached(to_dataframe(spark, *train)), to_dataframe(spark, *test).cache())
    found = {**ours, **others}
    plot(found, PICTURE)
    on_spark = [point for tool, points in others.items() for point in points if tool != "Keras"]
    other = max(on_spark, key=lambda point: point[2])
    ensembles = [point for points in ours.values() for point in points if not point[0].startswith("1 member,")]
    quickest = min((point for point in ensembles if point[2] > other[2]), key=lambda point: point[1])
    rows = [
        (name, setting, f"{seconds:.0f}", f"{accuracy:.2%}")
        for name, points in found.items()
        for setting, seconds, accuracy in points
    ]
    record(
        __file__,
        __doc__,
        f"{quickest[2]:.2%} in {quickest[1]:.0f} s ({quickest[0]}); best other tool on Spark {other[2]:.2%} in "
        f"{other[1]:.0f} s",
        table(("tool", "setting", "fit, s", "accuracy"), rows),
    )


if __name__ == "__main__":
    start(__doc__, main, by_pyspark)
