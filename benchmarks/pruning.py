"""How many of 100 members keep the accuracy, when they are chosen by their out-of-bag votes.

Claim: `pruned(20)` of 100 members votes at least as well as all of them. MNIST's training rows in 100 disjoint bags of
600 rows, batches of 25, 5 epochs, shifts of 2; accuracy on the 10,000 test rows, which the choice does not see. One
run.
"""

from _results import record, session

from spark_cnn_ensemble import CNNEnsembleClassifier
from spark_cnn_ensemble.datasets import load_mnist, to_dataframe

SIZES = (1, 5, 10, 20, 50, 100)


def main():
    """Fit, prune, evaluate, record the table."""
    spark = session()
    (x, y), test = load_mnist()
    test = to_dataframe(spark, *test).cache()
    classifier = CNNEnsembleClassifier(
        numMembers=100, batchSize=25, randomShift=2, learningRate=2e-3, numClasses=10, inputShape=[28, 28, 1], verbose=0
    )
    model = classifier.fit(to_dataframe(spark, x, y))
    lines = ["| members | chosen, vote | as they come, vote |", "|---|---|---|"]
    for size in SIZES:
        chosen, first = model.pruned(size), model.subset(range(size))
        lines.append(f"| {size} | {chosen.evaluate(test).accuracy:.2%} | {first.evaluate(test).accuracy:.2%} |")
    found = model.summary.outOfBag
    lines.append(f"\nOut-of-bag accuracy of all: {found.accuracy:.2%}, by {found.rows:,} rows.")
    record("Fewer members by their out-of-bag votes", __doc__.split("\n\n", 1)[1].strip(), "\n".join(lines))


if __name__ == "__main__":
    main()
