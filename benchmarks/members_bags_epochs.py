"""Members, bags and epochs.

Claim: Rows per member affect accuracy most, then epochs, then the number of members.

Ensembles with several values of numMembers, bagging and epochs train on MNIST's 60,000 rows; accuracy is on the 10,000
test rows. Seconds are those of the whole `fit`, in a session that has trained before. One run each.

Needs: the library alone.
Takes: 11 minutes.
"""

from _mnist import PARAMS
from _processes import start
from _results import record, show, table
from _session import cached, session
from _timing import timed

from spark_cnn_ensemble import CNNEnsembleClassifier
from spark_cnn_ensemble.datasets import load_mnist, to_dataframe

COMMON = {**PARAMS, "randomShift": 2, "learningRate": 2e-3}
SETTINGS = [  # bagging, subsamplingRate, numMembers, epochs
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
    """Fit each setting, evaluate on the test rows, record the tables."""
    spark = session()
    train, test = (cached(to_dataframe(spark, *arrays)) for arrays in load_mnist())
    CNNEnsembleClassifier(numMembers=2, epochs=1, **COMMON).fit(train.limit(1000))
    rows = []
    for bagging, rate, members, epochs in SETTINGS:
        params = {"bagging": bagging, "subsamplingRate": rate, "numMembers": members, "epochs": epochs}
        seconds, model = timed(CNNEnsembleClassifier(**params, **COMMON).fit, train)
        found = model.evaluate(test)
        bag = sum(member.examples for member in model.members) // members
        accuracies = (f"{found.memberAccuracies.mean():.2%}", f"{found.accuracy:.2%}")
        rows.append((bagging, f"{rate:g}", members, f"{bag:,}", epochs, f"{seconds:.0f}", *accuracies))
        show(rows[-1])
    sizes = [(size, f"{model.subset(range(size)).evaluate(test).accuracy:.2%}") for size in SIZES]
    first, last = ("{7} in {5} s ({2} members, {3} rows each)".format(*row) for row in (rows[0], rows[-1]))
    columns = ("bagging", "rate", "members", "rows per member", "epochs", "fit, s", "mean of members", "ensemble")
    record(
        __file__,
        __doc__,
        f"{first} to {last}",
        table(columns, rows),
        "Accuracy of the first members of the last ensemble:",
        table(("members", "ensemble"), sizes),
    )


if __name__ == "__main__":
    start(__doc__, main)
