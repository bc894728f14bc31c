"""Pruning by out-of-bag votes.

Claim: `pruned(20)` of 100 members votes at least as accurately as all 100.

The members train on MNIST's 60,000 rows in 100 disjoint bags of 600 rows: batches of 25, 5 epochs, shifts of 2.
Accuracy is on the 10,000 test rows, which the choice of members does not use. One run.

Needs: the library alone.
Takes: not recorded.
"""

from _mnist import PARAMS
from _processes import start
from _results import record, table
from _session import session

from spark_cnn_ensemble import CNNEnsembleClassifier
from spark_cnn_ensemble.datasets import load_mnist, to_dataframe

SIZES = (1, 5, 10, 20, 50, 100)


def main():
    """Fit, prune, evaluate, record the table."""
    spark = session()
    train, test = (to_dataframe(spark, *arrays) for arrays in load_mnist())
    test.cache()
    classifier = CNNEnsembleClassifier(**PARAMS, numMembers=100, batchSize=25, randomShift=2, learningRate=2e-3)
    model = classifier.fit(train)
    accuracies = {
        size: [f"{part.evaluate(test).accuracy:.2%}" for part in (model.pruned(size), model.subset(range(size)))]
        for size in SIZES
    }
    found = model.summary.outOfBag
    record(
        __file__,
        __doc__,
        f"{accuracies[20][0]} with 20, {accuracies[100][0]} with 100",
        table(("members", "pruned", "first members"), [(size, *cells) for size, cells in accuracies.items()]),
        f"Out-of-bag accuracy of all members: {found.accuracy:.2%}, from {found.rows:,} rows.",
    )


if __name__ == "__main__":
    start(__doc__, main)
