"""Scaling with rows and task slots.

Claim: Ten times the rows take at most 10.5 times as long; two task slots train 600,000 rows at least 1.9 times as fast
as one; with bags of one size, more rows need no more memory in a worker or in the driver's Python, and the JVM keeps to
its default heap.

MNIST's 60,000 training rows, once and ten times over, in 10 disjoint bags, 5 epochs; then in bags of about 6,000 rows
in both cases. Each fit runs in a process of its own, after a fit of 2,000 rows; the rows are cached by Spark on disk.
Memory is the peak of the largest worker, of the driver's Python and of the JVM. One run each.

Needs: room in Spark's local directories for 600,000 cached rows.
Takes: 17 minutes.
"""

import os

from _mnist import TRAINING_ONLY
from _processes import by_kind, run_apart, start, total
from _results import record, show, table
from _session import session, worker_peak
from _timing import seconds_of
from pyspark.storagelevel import StorageLevel

from spark_cnn_ensemble import CNNEnsembleClassifier
from spark_cnn_ensemble.datasets import load_mnist, to_dataframe

RUNS = [  # bags, times the rows, slots, Params
    ("disjoint", 1, 2, {}),
    ("disjoint", 10, 2, {}),
    ("disjoint", 1, 1, {}),
    ("disjoint", 10, 1, {}),
    ("about 6,000 rows", 1, 2, {"bagging": "subsample", "subsamplingRate": 0.1}),
    ("about 6,000 rows", 10, 2, {"bagging": "subsample", "subsamplingRate": 0.01}),
]


def one_fit(times, slots, params):
    """Seconds and peaks of one fit; runs in a process of its own."""
    spark = session(f"local[{slots}]")
    once = to_dataframe(spark, *load_mnist()[0])
    copies = spark.range(0, times, 1, 1).withColumnRenamed("id", "copy")
    rows = once.crossJoin(copies).selectExpr("id * 1000 + copy as id", "features", "label")
    rows = rows.persist(StorageLevel.DISK_ONLY)
    rows.count()
    classifier = CNNEnsembleClassifier(**TRAINING_ONLY, numMembers=10, epochs=5, **params)
    classifier.fit(once.limit(2000))
    seconds = seconds_of(classifier.fit, rows)
    peaks = [worker_peak(spark), total({os.getpid()}, "VmHWM"), total(by_kind()["JVM"], "VmHWM")]
    return seconds, [peak / 1e6 for peak in peaks]


def main():
    """Run each fit, record the table."""
    rows, seconds = [], []
    for bags, times, slots, params in RUNS:
        found, peaks = run_apart(__file__, times, slots, params)
        seconds.append(found)
        rows.append((bags, f"{60_000 * times:,}", slots, f"{found:.1f}", *(f"{peak:,.0f}" for peak in peaks)))
        show(rows[-1])
    growth, few, many = seconds[1] / seconds[0], seconds[2] / seconds[0], seconds[3] / seconds[1]
    record(
        __file__,
        __doc__,
        f"ten times the rows: {growth:.2f} times as long; two slots: {many:.2f} times as fast",
        table(("bags", "rows", "slots", "fit, s", "worker, MB", "driver's Python, MB", "JVM, MB"), rows),
        f"Ten times the rows take {growth:.2f} times as long. Two slots are {few:.2f} times as fast as one on 60,000 "
        f"rows, {many:.2f} times on 600,000.",
    )


if __name__ == "__main__":
    start(__doc__, main, one_fit)
