"""Several param maps in one job.

Claim: `fit(dataset, maps)` is at least 1.5 times as fast as one `fit` per param map, where there are fewer members than
task slots.

1 member, 4 learning rates, 2 slots; 20,000 rows of MNIST as text, 3 epochs. In turn, 5 runs after a warm-up; seconds,
median (minimum to maximum).

Needs: 0.4 GB of disk in the temporary folder, for the text.
Takes: 7 minutes.
"""

import statistics
import tempfile

from _mnist import TRAINING_ONLY
from _processes import start
from _results import record, table
from _session import session
from _timing import alternate, ratios, seconds_of, spread

from spark_cnn_ensemble import CNNEnsembleClassifier
from spark_cnn_ensemble.datasets import load_mnist, read_text_matrix, write_text_matrix

RATES = (5e-4, 1e-3, 2e-3, 4e-3)


def main():
    """Fit both ways in turn, record the table."""
    spark = session()
    x, y = load_mnist()[0]
    with tempfile.TemporaryDirectory() as folder:
        write_text_matrix(f"{folder}/text", x[:20000], y[:20000])
        rows = read_text_matrix(spark, f"{folder}/text")
        classifier = CNNEnsembleClassifier(**TRAINING_ONLY, numMembers=1, epochs=3)
        maps = [{classifier.learningRate: rate} for rate in RATES]
        found = alternate(
            {
                "one after the other": lambda: seconds_of(lambda: [classifier.fit(rows, values) for values in maps]),
                "together": lambda: seconds_of(classifier.fit, rows, maps),
            }
        )
    over = {name: ratios(found["one after the other"], values) for name, values in found.items()}
    record(
        __file__,
        __doc__,
        f"{statistics.median(over['together']):.2f} times as fast",
        table(
            ("fits", "seconds", "one after the other over it"),
            [(name, spread(values), spread(over[name], ".2f")) for name, values in found.items()],
        ),
    )


if __name__ == "__main__":
    start(__doc__, main)
