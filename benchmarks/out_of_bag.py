"""How often the interval of the out-of-bag accuracy holds the truth.

Claim: over 20 seeds, the 95 % interval of the out-of-bag accuracy holds the accuracy on held-out rows of the same kind
at least 18 times where each row has many out-of-bag members. MNIST's training rows: 4,000 to fit, drawn anew for each
seed, and 10,000 others held out; samples of 1,000 rows.
"""

import numpy as np
from _results import record, session

from spark_cnn_ensemble import CNNEnsembleClassifier
from spark_cnn_ensemble.datasets import load_mnist, to_dataframe

SETTINGS = [("disjoint", 10, 4), ("bootstrap", 20, 1), ("bootstrap", 5, 2)]
SEEDS = 20


def main():
    """Fit each setting with each seed, record the table."""
    spark = session()
    (x, y), _ = load_mnist()
    lines = [
        "| bagging | members | voters a row | held-out accuracy, mean | out-of-bag, mean | interval holds it |",
        "|---|---|---|---|---|---|",
    ]
    for bagging, members, epochs in SETTINGS:
        truths, estimates, voters, held = [], [], [], 0
        for seed in range(SEEDS):
            order = np.random.default_rng(seed).permutation(len(x))
            rows, others = order[:4000], order[4000:14000]
            classifier = CNNEnsembleClassifier(
                bagging=bagging,
                numMembers=members,
                epochs=epochs,
                seed=seed,
                oobSampleSize=1000,
                learningRate=3e-3,
                batchSize=25,
                numClasses=10,
                inputShape=[28, 28, 1],
                verbose=0,
            )
            model = classifier.fit(to_dataframe(spark, x[rows], y[rows]))
            found = model.summary.outOfBag
            truths.append(model.evaluate(to_dataframe(spark, x[others], y[others])).accuracy)
            estimates.append(found.accuracy)
            voters.append((found.votes >= 0).sum(axis=1).mean())
            low, high = found.accuracyInterval
            held += low <= truths[-1] <= high
        lines.append(
            f"| {bagging} | {members} | {np.mean(voters):.1f} | {np.mean(truths):.2%} | {np.mean(estimates):.2%} | "
            f"{held} of {SEEDS} |"
        )
        record("The interval of the out-of-bag accuracy", __doc__.split("\n\n", 1)[1].strip(), "\n".join(lines))


if __name__ == "__main__":
    main()
