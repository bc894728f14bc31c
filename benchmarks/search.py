"""Several param maps in one job, against one fit after the other.

Claim: `fit(dataset, maps)` is at least 1.5 times as fast as a fit a map, where members are fewer than task slots. 1
member, 4 learning rates, 2 slots; 20,000 rows of MNIST as text, 3 epochs, in turn, 5 times after a warm-up; seconds,
median (minimum to maximum).
"""

import tempfile

from _results import alternate, ratio, record, session, spread, timed

from spark_cnn_ensemble import CNNEnsembleClassifier
from spark_cnn_ensemble.datasets import load_mnist, read_text_matrix, write_text_matrix

RATES = (5e-4, 1e-3, 2e-3, 4e-3)


def main():
    """Fit in turn, record the table."""
    spark = session()
    (x, y), _ = load_mnist()
    with tempfile.TemporaryDirectory() as folder:
        write_text_matrix(f"{folder}/text", x[:20000], y[:20000])
        rows = read_text_matrix(spark, f"{folder}/text")
        classifier = CNNEnsembleClassifier(
            numMembers=1, epochs=3, numClasses=10, inputShape=[28, 28, 1], idCol="id", oobSampleSize=0, verbose=0
        )
        maps = [{classifier.learningRate: rate} for rate in RATES]
        ways = {
            "one after the other": lambda: timed(lambda: [classifier.fit(rows, values) for values in maps]),
            "together": lambda: timed(lambda: classifier.fit(rows, maps)),
        }
        found = alternate(ways)
    lines = ["| | seconds | one after the other over it |", "|---|---|---|"]
    first = found["one after the other"]
    lines += [f"| {name} | {spread(values)} | {ratio(first, values)} |" for name, values in found.items()]
    record("Several param maps", __doc__.split("\n\n", 1)[1].strip(), "\n".join(lines))


if __name__ == "__main__":
    main()
