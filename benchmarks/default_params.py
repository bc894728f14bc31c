"""Default Params.

Claim: No single change of filters, kernelSize, denseUnits or dropoutRate gives more accuracy in the same time on both
MNIST and scikit-learn's digits, by more than chance.

The defaults are changed one at a time. Those of training are values that users of Keras know; the table shows what each
change costs. Only training rows are used. MNIST: 50,000 rows to fit (10 disjoint bags, 5 epochs) and 10,000 to score,
one run. Digits: 1,137 rows to fit (10 members on half of the rows each, 20 epochs, batches of 25) and 300 to score,
mean of 5 draws. The standard error of as many rows is 0.15 points on MNIST and 0.4 on the digits. The network pads
images as small as the digits. Seconds are those of `fit` in a session that has trained before; a change of the network
or of the training step adds the time to trace it.

Needs: scikit-learn, for the digits.
Takes: over 14 minutes (sum of the fits).
"""

import numpy as np
from _mnist import PARAMS
from _processes import start
from _results import record, show, table
from _session import cached, session
from _timing import timed

from spark_cnn_ensemble import CNNEnsembleClassifier
from spark_cnn_ensemble.datasets import load_digits, load_mnist, to_dataframe

CHANGES = {
    "filters": ([8, 16], [32, 64], [16], [16, 32, 64]),
    "kernelSize": (3, 7),
    "denseUnits": (64, 256),
    "dropoutRate": (0.25, 0.5),
    "standardization": (False,),
    "learningRate": (5e-4, 2e-3, 4e-3),
    "learningRateSchedule": ("constant", "cosine"),
    "optimizer": ("adamw", "rmsprop", "sgd"),
    "batchSize": (25, 100),
    "randomShift": (1, 2),
}
COMMON = {**PARAMS, "oobSampleSize": 0, "minMembers": 1}  # with some changes, a member may diverge
DIGITS = {**COMMON, "inputShape": [8, 8, 1], "epochs": 20, "batchSize": 25, "bagging": "subsample"}
DIGITS["subsamplingRate"] = 0.5
DRAWS = 5


def mean(draws, params):
    """Mean seconds and accuracy over draws of rows to fit and rows to score; the draw's number is the seed."""
    found = []
    for seed, (train, test) in enumerate(draws):
        seconds, model = timed(CNNEnsembleClassifier(seed=seed, **params).fit, train)
        found.append((seconds, model.evaluate(test).accuracy))
    return np.mean(found, axis=0)


def main():
    """Fit each change on both data sets, record the table."""
    spark = session()

    def draw(arrays, train, test):
        x, y = arrays
        return [cached(to_dataframe(spark, x[rows], y[rows])) for rows in (train, test)]

    mnist = [draw(load_mnist()[0], slice(0, 50000), slice(50000, None))]
    digits = []
    for seed in range(DRAWS):
        arrays = load_digits()[0]
        order = np.random.default_rng(seed).permutation(len(arrays[0]))
        digits.append(draw(arrays, order[300:], order[:300]))
    mean(digits[:1], DIGITS)  # so that the session has trained before
    changes = [("none", {}), *((f"{name} {value}", {name: value}) for name in CHANGES for value in CHANGES[name])]
    rows = []
    for name, change in changes:
        cells = []
        for draws, params in ((mnist, COMMON), (digits, DIGITS)):
            seconds, accuracy = mean(draws, {**params, **change})
            cells += [f"{seconds:.1f}", f"{accuracy:.2%}"]
        rows.append((name, *cells))
        show(rows[-1])
    _, *cells = rows[0]
    record(
        __file__,
        __doc__,
        "defaults: MNIST {1} in {0} s, digits {3} in {2} s".format(*cells),
        table(("change", "MNIST, s", "MNIST", "digits, s", "digits"), rows),
    )


if __name__ == "__main__":
    start(__doc__, main)
