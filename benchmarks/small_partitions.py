"""Small partitions and a few rows.

Claim: by the medians, `evaluate` of 313 partitions of 32 rows takes at most 1.3 times as long as of two partitions of
the same rows, and a look at five rows that are limited before `transform` takes at most a fifth of one at rows that are
limited after it.

10 members of the default network, trained for 1 epoch on 10,000 rows; MNIST's 10,000 test rows, cached by Spark, on
local[2]. `transform` computes all output columns and keeps the partitions. In turn, 7 runs after a warm-up. Each look
follows one of its own kind, which is not timed: Spark ends a worker whose task stops early, and the next look starts
TensorFlow again. Seconds, median (minimum to maximum).

Needs: the library alone.
Takes: 6 minutes.
"""

import statistics

from _mnist import TRAINING_ONLY
from _processes import start
from _results import record, table
from _session import cached, compute, session
from _timing import alternate, ratios, seconds_of, spread

from spark_cnn_ensemble import CNNEnsembleClassifier
from spark_cnn_ensemble.datasets import load_mnist, to_dataframe

SMALL, LARGE, LOOKED_AT, RUNS = 313, 2, 5, 7


def main():
    """Score the rows in either number of partitions, look at a few in either way, record the tables."""
    spark = session()
    (x, y), (x_test, y_test) = load_mnist()
    classifier = CNNEnsembleClassifier(**TRAINING_ONLY, numMembers=10, epochs=1)
    model = classifier.fit(to_dataframe(spark, x[:10000], y[:10000]))
    rows = to_dataframe(spark, x_test, y_test)
    frames = {count: cached(rows.repartition(count)) for count in (LARGE, SMALL)}

    passes = {"evaluate": model.evaluate, "transform": lambda frame: compute(model.transform(frame))}
    found = alternate(
        {
            (name, count): lambda work=work, frame=frame: seconds_of(work, frame)
            for name, work in passes.items()
            for count, frame in frames.items()
        },
        RUNS,
    )
    over = {name: ratios(found[name, SMALL], found[name, LARGE]) for name in passes}

    looks = {
        "before": lambda: model.transform(frames[LARGE].limit(LOOKED_AT)).collect(),
        "after": lambda: model.transform(frames[LARGE]).limit(LOOKED_AT).collect(),
    }

    def second_look(look):
        look()
        return seconds_of(look)

    looked = alternate({when: lambda look=look: second_look(look) for when, look in looks.items()}, RUNS)
    later = ratios(looked["after"], looked["before"])
    record(
        __file__,
        __doc__,
        f"`evaluate` {statistics.median(over['evaluate']):.2f} times as long in {SMALL} partitions; a limit after "
        f"`transform` takes {statistics.median(later):.1f} times as long",
        table(
            ("pass", f"{LARGE} partitions", f"{SMALL} partitions", "small over large"),
            [
                (name, *(spread(found[name, count], ".2f") for count in frames), spread(over[name], ".2f"))
                for name in passes
            ],
        ),
        table(
            ("look at five rows", "seconds"),
            [(f"limit {when} transform", spread(looked[when], ".2f")) for when in looks],
        ),
        f"A limit after `transform` takes {spread(later)} times as long.",
    )


if __name__ == "__main__":
    start(__doc__, main)
