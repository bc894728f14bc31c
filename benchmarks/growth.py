"""What ten times the rows, and a second task slot, cost and gain.

Claim: 600,000 rows cost at most 10.5 times what 60,000 cost, two task slots train 600,000 at least 1.9 times as fast
as one, and at a fixed size of bags neither a worker nor the driver's Python takes more memory for more rows, while the
JVM keeps to its default heap. MNIST's training rows as they are and ten times over, in 10 disjoint bags, 5 epochs; then
bags of about 6,000 of either. Each fit in a process of its own, after a fit of a few rows; rows come from a cache of
Spark's on disk. One run each.
"""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

from _processes import family, status
from _results import record, session, timed
from pyspark.storagelevel import StorageLevel

from spark_cnn_ensemble import CNNEnsembleClassifier
from spark_cnn_ensemble.datasets import load_mnist, to_dataframe


def peak(frames):
    """The most memory that this worker has had, in bytes."""
    for frame in frames:
        yield frame.assign(peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10)


def run(copies, slots, params):
    """Fit once; seconds and peaks."""
    spark = session(f"local[{slots}]")
    once = to_dataframe(spark, *load_mnist()[0])
    several = spark.range(0, copies, 1, 1).withColumnRenamed("id", "copy")
    rows = once.crossJoin(several).selectExpr("id * 1000 + copy as id", "features", "label")
    rows = rows.persist(StorageLevel.DISK_ONLY)
    classifier = CNNEnsembleClassifier(
        numMembers=10, epochs=5, numClasses=10, inputShape=[28, 28, 1], idCol="id", oobSampleSize=0, verbose=0, **params
    )
    rows.count()
    classifier.fit(once.limit(2000))
    seconds = timed(lambda: classifier.fit(rows))
    worker = spark.range(0, 8, 1, 8).mapInPandas(peak, "id long, peak long").agg({"peak": "max"}).head()[0]
    java = [pid for pid in family(os.getpid()) if Path(f"/proc/{pid}/comm").read_text().strip() == "java"]
    return {
        "seconds": seconds,
        "worker": worker / 1e6,
        "driver": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "jvm": status(java, "VmHWM") / 1024,
    }


RUNS = [
    ("disjoint", 1, 2, {}),
    ("disjoint", 10, 2, {}),
    ("disjoint", 1, 1, {}),
    ("disjoint", 10, 1, {}),
    ("about 6,000", 1, 2, {"bagging": "subsample", "subsamplingRate": 0.1}),
    ("about 6,000", 10, 2, {"bagging": "subsample", "subsamplingRate": 0.01}),
]


def main():
    """Each run in a process of its own, then the table."""
    lines = [
        "| bags | rows | slots | fit, s | worker, MB | driver's Python, MB | JVM, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    seconds = []
    for name, copies, slots, params in RUNS:
        command = [sys.executable, __file__, str(copies), str(slots), json.dumps(params)]
        found = json.loads(
            subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1]
        )
        seconds.append(found["seconds"])
        lines.append(
            f"| {name} | {60_000 * copies:,} | {slots} | {found['seconds']:.1f} | {found['worker']:,.0f} | "
            f"{found['driver']:,.0f} | {found['jvm']:,.0f} |"
        )
        print(lines[-1], flush=True)
    lines.append(
        f"\nTen times the rows: {seconds[1] / seconds[0]:.2f} times the seconds. Two slots: "
        f"{seconds[2] / seconds[0]:.2f} times as fast as one on 60,000 rows, {seconds[3] / seconds[1]:.2f} on 600,000."
    )
    record("Growth", __doc__.split("\n\n", 1)[1].strip(), "\n".join(lines))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        print(json.dumps(run(int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]))))
    else:
        main()
