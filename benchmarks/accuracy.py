"""Accuracy against seconds: ensembles of several sizes, one network, and what else there is on Spark.

Claim: in 10 s an ensemble votes better than what else there is on Spark did in any of these runs. MNIST's 60,000 rows,
both cores; seconds of the whole `fit` in a session that has trained before; accuracy on the 10,000 test rows. The
ensembles shift images by up to 2 pixels and train with batches of 50 and a rate of 0.002. pyspark's own classifiers
have features as vectors, divided by 255, and 4 GB of driver memory, as the default is too little for them; elephas
trains the default network, synchronous with 2 workers; Keras trains it in one process; both have just trained on 5,000
rows. The others are in processes of their own. One run each; docs/accuracy.png shows them.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from peers import WAYS, environment_of

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "accuracy.png"
BAGS, WHOLE = {"bagging": "disjoint", "epochs": 5}, {"bagging": "subsample"}
ENSEMBLES = {
    "disjoint bags, 5 epochs": [{**BAGS, "numMembers": members} for members in (100, 30, 10, 4)],
    "members on all rows, 1 epoch": [{**WHOLE, "epochs": 1, "numMembers": members} for members in (2, 6, 10)],
    "members on all rows, 3 epochs": [{**WHOLE, "epochs": 3, "numMembers": members} for members in (2, 6, 10)],
    "one member, 1, 2 and 4 epochs": [{**WHOLE, "epochs": epochs, "numMembers": 1} for epochs in (1, 2, 4)],
}
EPOCHS = (1, 3)


def counted(number, noun):
    """Such as "1 epoch"."""
    return f"{number} {noun}{'s' * (number != 1)}"


def apart(python, *arguments):
    """What this script prints last for some arguments, in a process of its own."""
    environment = {**os.environ, "PYSPARK_PYTHON": str(python), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [str(python), __file__, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def by_spark():
    """What pyspark itself has: settings, seconds and accuracies of each."""
    from _results import timed
    from pyspark.ml.classification import MultilayerPerceptronClassifier, RandomForestClassifier
    from pyspark.ml.evaluation import MulticlassClassificationEvaluator
    from pyspark.ml.functions import array_to_vector
    from pyspark.sql import SparkSession
    from pyspark.sql import functions as sf

    from spark_cnn_ensemble.datasets import load_mnist, to_dataframe

    def vectors(rows):
        scaled = sf.transform(sf.col("features").cast("array<double>"), lambda value: value / 255)
        return rows.select(array_to_vector(scaled).alias("features"), "label").cache()

    spark = SparkSession.builder.master("local[2]").config("spark.driver.memory", "4g").getOrCreate()
    train, test = (vectors(to_dataframe(spark, *arrays)) for arrays in load_mnist())
    train.count()
    accuracy = MulticlassClassificationEvaluator(metricName="accuracy")
    ways = {
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
    for name, settings in ways.items():
        for setting, classifier in settings:
            models = []
            seconds = timed(lambda classifier=classifier, models=models: models.append(classifier.fit(train)))
            found.setdefault(name, []).append((setting, seconds, accuracy.evaluate(models[0].transform(test))))
    return found


def by_ensembles(train, test):
    """Settings, seconds and accuracies of ensembles."""
    from _results import timed

    from spark_cnn_ensemble import CNNEnsembleClassifier

    common = {"randomShift": 2, "learningRate": 2e-3, "numClasses": 10, "inputShape": [28, 28, 1], "verbose": 0}
    CNNEnsembleClassifier(numMembers=2, epochs=1, **common).fit(train.limit(1000))
    found = {}
    for name, settings in ENSEMBLES.items():
        for params in settings:
            models, classifier = [], CNNEnsembleClassifier(**common, **params)
            seconds = timed(lambda classifier=classifier, models=models: models.append(classifier.fit(train)))
            setting = f"{counted(params['numMembers'], 'member')}, {counted(params['epochs'], 'epoch')}"
            found.setdefault(name, []).append((setting, seconds, models[0].evaluate(test).accuracy))
            print(name, *found[name][-1], flush=True)
    return found


def draw(found):
    """Accuracy against seconds, both as ratios read best: time doubles, errors halve."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    figure, axes = pyplot.subplots(figsize=(8, 6), layout="constrained")
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
    figure.savefig(PICTURE, dpi=150)


def main():
    """Measure each way, record the table, draw the picture."""
    from _results import record, session

    from spark_cnn_ensemble.datasets import load_mnist, to_dataframe

    (x, y), (tests, labels) = load_mnist()
    pythons = {"elephas": environment_of("elephas"), "Keras": Path(sys.executable)}
    with tempfile.TemporaryDirectory() as folder:
        arrays = Path(folder) / "mnist.npz"
        np.savez(arrays, x=x, y=y, tests=tests[..., None].astype("float32"), labels=labels)
        others = {
            way: [(counted(epochs, "epoch"), *apart(python, way, arrays, epochs)) for epochs in EPOCHS]
            for way, python in pythons.items()
        }
    others = {**apart(sys.executable, "pyspark"), **others}
    print(others, flush=True)
    spark = session()
    train, test = (to_dataframe(spark, *pair).cache() for pair in ((x, y), (tests, labels)))
    train.count()
    found = {**by_ensembles(train, test), **others}
    draw(found)
    lines = ["| way | setting | fit, s | accuracy |", "|---|---|---|---|"]
    for name, points in found.items():
        lines += [f"| {name} | {setting} | {seconds:.0f} | {accuracy:.2%} |" for setting, seconds, accuracy in points]
    record("Accuracy against seconds", __doc__.split("\n\n", 1)[1].strip(), "\n".join(lines))


if __name__ == "__main__":
    if sys.argv[1:] == ["pyspark"]:
        print(json.dumps(by_spark()))
    elif len(sys.argv) > 2:
        with np.load(sys.argv[2]) as data:
            seconds, network = WAYS[sys.argv[1]](data["x"], data["y"], int(sys.argv[3]))
            predicted = network.predict(data["tests"], verbose=0).argmax(axis=1)
            print(json.dumps([seconds, float((predicted == data["labels"]).mean())]))
    else:
        main()
