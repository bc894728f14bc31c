"""Interval of the out-of-bag accuracy.

Claim: Where each row has many out-of-bag members, the 95 % interval of the out-of-bag accuracy contains the accuracy on
held-out rows for at least 18 of 20 seeds.

From MNIST's training rows, 4,000 are drawn to fit and 10,000 others are held out, anew for each seed. The out-of-bag
sample has 1,000 rows. Voters are a row's out-of-bag members.

Needs: the library alone.
Takes: 14 minutes.
"""

import numpy as np
from _mnist import PARAMS
from _processes import start
from _results import record, show, table
from _session import session

from spark_cnn_ensemble import CNNEnsembleClassifier
from spark_cnn_ensemble.datasets import load_mnist, to_dataframe

SETTINGS = [("disjoint", 10, 4), ("bootstrap", 20, 1), ("bootstrap", 5, 2)]  # bagging, numMembers, epochs
COMMON = {**PARAMS, "oobSampleSize": 1000, "learningRate": 3e-3, "batchSize": 25}
SEEDS = 20


def main():
    """Fit each setting with each seed, record the table."""
    spark = session()
    x, y = load_mnist()[0]
    rows, contained = [], []
    for bagging, members, epochs in SETTINGS:
        truths, estimates, voters, hits = [], [], [], 0
        for seed in range(SEEDS):
            order = np.random.default_rng(seed).permutation(len(x))
            train, held_out = (to_dataframe(spark, x[ids], y[ids]) for ids in (order[:4000], order[4000:14000]))
            classifier = CNNEnsembleClassifier(bagging=bagging, numMembers=members, epochs=epochs, seed=seed, **COMMON)
            model = classifier.fit(train)
            found = model.summary.outOfBag
            truths.append(model.evaluate(held_out).accuracy)
            estimates.append(found.accuracy)
            voters.append((found.votes >= 0).sum(axis=1).mean())
            low, high = found.accuracyInterval
            hits += low <= truths[-1] <= high
        contained.append(f"{hits} of {SEEDS}")
        accuracies = (f"{np.mean(values):.2%}" for values in (truths, estimates))
        rows.append((bagging, members, f"{np.mean(voters):.1f}", *accuracies, contained[-1]))
        show(rows[-1])
    columns = ("bagging", "members", "voters per row", "held-out accuracy, mean", "out-of-bag accuracy, mean")
    record(__file__, __doc__, ", ".join(contained), table((*columns, "interval contains it"), rows))


if __name__ == "__main__":
    start(__doc__, main)
