"""The defaults of the network and of training, one changed at a time.

Claim: of the network's defaults (filters, kernelSize, denseUnits, dropoutRate) no single change gives more accuracy for
the same seconds on both MNIST and scikit-learn's digits, by more than chance (standard error of as many rows: 0.15
points on MNIST, 0.4 on the digits). Those of training are what users of Keras know; here is what they cost. Training
rows only: of MNIST 50,000 to fit (10 disjoint bags, 5 epochs) and 10,000 to score, one run; of the digits 1,137 to fit
(10 members, half of the rows each, 20 epochs, batches of 25) and 300 to score, mean of 5 draws. Images as small as the
digits' are padded. Seconds of `fit` in a session that has trained before; a change of the network or of a step adds its
tracing.
"""

import numpy as np
from _results import record, session, timed

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
SEEDS = 5


def main():
    """Fit each change on both data sets, record the table."""
    spark = session()
    (x, y), _ = load_mnist()
    mnist = [(to_dataframe(spark, x[:50000], y[:50000]), to_dataframe(spark, x[50000:], y[50000:]))]
    (x, y), _ = load_digits()
    digits = []
    for seed in range(SEEDS):
        order = np.random.default_rng(seed).permutation(len(x))
        digits.append([to_dataframe(spark, x[rows], y[rows]) for rows in (order[300:], order[:300])])
    common = {"numClasses": 10, "oobSampleSize": 0, "verbose": 0, "minMembers": 1}  # some change may let one diverge
    for_mnist = {**common, "inputShape": [28, 28, 1]}
    for_digits = {**common, "inputShape": [8, 8, 1], "epochs": 20, "batchSize": 25}
    for_digits.update(bagging="subsample", subsamplingRate=0.5)

    def mean(pairs, params):
        """Seconds and accuracy."""
        found = []
        for seed, (train, test) in enumerate(pairs):
            models, classifier = [], CNNEnsembleClassifier(seed=seed, **params)
            seconds = timed(
                lambda classifier=classifier, train=train, models=models: models.append(classifier.fit(train))
            )
            found.append((seconds, models[0].evaluate(test).accuracy))
        return np.mean(found, axis=0)

    for pairs in (mnist, digits):
        for train, test in pairs:
            train.cache().count()
            test.cache().count()
    mean(digits[:1], for_digits)
    lines = ["| change | MNIST, s | MNIST | digits, s | digits |", "|---|---|---|---|---|"]
    for name, values in {"none": (None,), **CHANGES}.items():
        for value in values:
            change = {} if name == "none" else {name: value}
            cells = [
                f"{seconds:.1f} | {accuracy:.2%}"
                for seconds, accuracy in (mean(mnist, {**for_mnist, **change}), mean(digits, {**for_digits, **change}))
            ]
            lines.append(f"| {name} {'' if value is None else value} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    record("Defaults", __doc__.split("\n\n", 1)[1].strip(), "\n".join(lines))


if __name__ == "__main__":
    main()
