"""How numMembers, bagging and epochs trade accuracy for seconds, on all of MNIST.

Claim: rows a member matter first, then epochs, then the number of members. One run of each setting; the seconds are the
whole of fit() in a session that has trained before.
"""

import time

from _results import record, session

from spark_cnn_ensemble import CNNEnsembleClassifier
from spark_cnn_ensemble.datasets import load_mnist, to_dataframe

COMMON = {"randomShift": 2, "learningRate": 2e-3, "numClasses": 10, "inputShape": [28, 28, 1]}
SETTINGS = [
    ("disjoint", 1.0, 100, 5),
    ("disjoint", 1.0, 30, 5),
    ("disjoint", 1.0, 10, 5),
    ("subsample", 0.1, 10, 5),
    ("subsample", 0.5, 10, 3),
    ("subsample", 1.0, 10, 1),
    ("bootstrap", 1.0, 10, 3),
    ("subsample", 1.0, 10, 3),
]
SIZES = (1, 2, 3, 5, 7, 10)


def main():
    """Fit each setting, evaluate on the test rows, record the table."""
    spark = session()
    train_arrays, test_arrays = load_mnist()
    train, test = (to_dataframe(spark, *arrays).cache() for arrays in (train_arrays, test_arrays))
    train.count()
    CNNEnsembleClassifier(numMembers=2, epochs=1, **COMMON).fit(train.limit(1000))
    lines = [
        "| bagging | rate | members | rows a member | epochs | fit, s | mean member | vote |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for bagging, rate, members, epochs in SETTINGS:
        classifier = CNNEnsembleClassifier(
            bagging=bagging, subsamplingRate=rate, numMembers=members, epochs=epochs, **COMMON
        )
        begun = time.perf_counter()
        model = classifier.fit(train)
        seconds = time.perf_counter() - begun
        found = model.evaluate(test)
        rows = sum(member.examples for member in model.members) // members
        lines.append(
            f"| {bagging} | {rate:g} | {members} | {rows:,} | {epochs} | {seconds:.0f} | "
            f"{found.memberAccuracies.mean():.2%} | {found.accuracy:.2%} |"
        )
        print(lines[-1], flush=True)
    lines += ["", "The last ensemble cut to its first members:", "", "| members | vote |", "|---|---|"]
    lines += [f"| {size} | {model.subset(range(size)).evaluate(test).accuracy:.2%} |" for size in SIZES]
    record("Choosing numMembers, bagging and epochs", __doc__.split("\n\n", 1)[1].strip(), "\n".join(lines))


if __name__ == "__main__":
    main()
