"""Cost of the out-of-bag estimate.

Claim: With the default sample of 1,000 rows, `fit` takes less than 1.05 times as long as without a sample.

20,000 rows of MNIST, 10 members ("bootstrap"), 3 epochs. With and without a sample, in turn, 5 runs after a warm-up;
seconds, median (minimum to maximum).

Needs: the library alone.
Takes: 9 minutes.
"""

import functools
import statistics

from _mnist import PARAMS
from _processes import start
from _results import record, table
from _session import session
from _timing import alternate, ratios, spread

from spark_cnn_ensemble import CNNEnsembleClassifier
from spark_cnn_ensemble.datasets import load_mnist, to_dataframe


def main():
    """Fit in turn, record the ratio."""
    spark = session()
    x, y = load_mnist()[0]
    train = to_dataframe(spark, x[:20000], y[:20000]).cache()

    def fit(size):
        classifier = CNNEnsembleClassifier(**PARAMS, bagging="bootstrap", numMembers=10, epochs=3, oobSampleSize=size)
        return classifier.fit(train).summary.seconds

    found = alternate({size: functools.partial(fit, size) for size in (1000, 0)})
    ratio = ratios(found[1000], found[0])
    record(
        __file__,
        __doc__,
        f"{statistics.median(ratio):.3f} times as long",
        table(("rows of the sample", "fit, s"), [(f"{size:,}", spread(values)) for size, values in found.items()]),
        f"Ratio, pair by pair: {spread(ratio, '.3f')}.",
    )


if __name__ == "__main__":
    start(__doc__, main)
