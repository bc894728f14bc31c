"""Early decision of a hard vote.

Claim: With 100 members, `transform` of the prediction alone is at least 1.5 times as fast as with rawPrediction and
probability, and gives the same predictions.

Without the two columns, the vote on a row stops once its majority is decided. Each member trains on a tenth of MNIST's
60,000 rows, as many as in article_experiments.py with 100 members: 2 epochs, batches of 25, shifts of 2. The 10,000
test rows, twice over, are cached by Spark in 2 partitions. In turn, 5 runs after a warm-up; seconds, median (minimum to
maximum).

Needs: the library alone.
Takes: 13 minutes.
"""

import functools
import statistics

import numpy as np
from _mnist import PARAMS
from _processes import start
from _results import record, table
from _session import cached, compute, session
from _timing import alternate, ratios, seconds_of, spread

from spark_cnn_ensemble import CNNEnsembleClassifier
from spark_cnn_ensemble.datasets import load_mnist, to_dataframe

MEMBERS = 100


def prediction_only(model):
    """The model without its other output columns."""
    return model.copy({model.rawPredictionCol: "", model.probabilityCol: ""})


def predictions(model, rows):
    """The prediction of each row, in the order of ids."""
    return [row[0] for row in model.transform(rows).orderBy("id").select("prediction").collect()]


def main():
    """Fit 100 members, compare the predictions, score in turn."""
    spark = session()
    train, (tests, labels) = load_mnist()
    params = {**PARAMS, "numMembers": MEMBERS, "epochs": 2, "batchSize": 25, "randomShift": 2, "learningRate": 2e-3}
    classifier = CNNEnsembleClassifier(**params, bagging="subsample", subsamplingRate=0.1)
    full = classifier.fit(to_dataframe(spark, *train))
    best_first = sorted(range(MEMBERS), key=lambda member: -full.members[member].history["accuracy"][-1])
    models = {
        "all votes": full,
        "until decided": prediction_only(full),
        "until decided, best members first": prediction_only(full.subset(best_first)),
    }
    frame = to_dataframe(spark, np.concatenate([tests, tests]), np.concatenate([labels, labels]))
    rows = cached(frame.repartition(2))
    assert predictions(full, rows) == predictions(models["until decided"], rows)

    def score(model):
        return seconds_of(lambda: compute(model.transform(rows)))

    found = alternate({name: functools.partial(score, model) for name, model in models.items()})
    over = {name: ratios(found["all votes"], values) for name, values in found.items()}
    record(
        __file__,
        __doc__,
        f"{statistics.median(over['until decided']):.2f} times as fast; the same predictions",
        table(
            ("votes", "seconds", "all votes over it"),
            [(name, spread(values), spread(over[name], ".2f")) for name, values in found.items()],
        ),
        "All rows have the same prediction, whether all members vote or the vote stops once it is decided.",
    )


if __name__ == "__main__":
    start(__doc__, main)
