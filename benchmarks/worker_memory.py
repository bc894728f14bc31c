"""Memory of a worker.

Claim: A worker's memory grows with its bag up to `maxMemoryInMB` and no further, and a fit with its bag on disk takes
at most 1.3 times as long as in memory.

The bag holds random bytes, as images of 64x64x3; a tiny network trains on it for one epoch. Each peak is that of one
fit in a session of its own. The ratio comes from 5 pairs of fits on 0.1 GB in one session, with `maxMemoryInMB` 16 and
4096, in turn.

Needs: 10 GB of memory, and 8 GB of disk in Spark's local directories for the shuffle and the bag.
Takes: 10 minutes.
"""

import functools

import numpy as np
import pandas as pd
from _processes import run_apart, start
from _results import record, show, table
from _session import session, worker_peak
from _timing import alternate, ratios, spread, timed

from spark_cnn_ensemble import CNNEnsembleClassifier

SIDE, PIXELS = 64, 64 * 64 * 3
SIZES = (0.1, 1, 4)  # GB of pixels
LIMITS = {"in memory": 1 << 20, "maxMemoryInMB=1024": 1024}


def random_rows(frames):
    """Images of random bytes, made in the workers."""
    for frame in frames:
        for begin in range(0, len(frame), 1000):
            ids = frame["id"].to_numpy()[begin : begin + 1000]
            data = np.random.default_rng(int(ids[0])).bytes(len(ids) * PIXELS)
            cells = [data[at : at + PIXELS] for at in range(0, len(data), PIXELS)]
            yield pd.DataFrame({"id": ids, "label": (ids % 2).astype(float), "features": cells})


def images(spark, gigabytes):
    """A frame of that many GB of pixels."""
    count = int(gigabytes * 1e9 / PIXELS)
    return spark.range(0, count, 1, 8).mapInPandas(random_rows, "id long, label double, features binary")


def fit(rows, limit):
    """Train one member on all rows for one epoch, with next to no computation."""
    network = {"filters": [1], "kernelSize": 3, "denseUnits": 2, "inputShape": [SIDE, SIDE, 3], "numClasses": 2}
    bag = {"bagging": "subsample", "idCol": "id", "oobSampleSize": 0, "maxMemoryInMB": limit}
    return CNNEnsembleClassifier(numMembers=1, epochs=1, batchSize=100, **network, **bag).fit(rows)


def one_fit(gigabytes, limit):
    """Seconds of one fit, whether its bag was on disk, and the worker's peak; runs in a process of its own."""
    spark = session("local[1]")
    seconds, model = timed(fit, images(spark, gigabytes), limit)
    return seconds, model.members[0].spilled, worker_peak(spark)


def seconds_in_pairs():
    """Seconds with the bag on disk and in memory, in turn."""
    rows = images(session("local[1]"), 0.1)

    def measure(limit, on_disk):
        seconds, model = timed(fit, rows, limit)
        assert model.members[0].spilled == on_disk
        return seconds

    found = alternate(
        {"on disk": functools.partial(measure, 16, True), "in memory": functools.partial(measure, 4096, False)}
    )
    return found["on disk"], found["in memory"]


def main():
    """Measure each peak, then the pairs; record both."""
    rows = []
    for gigabytes in SIZES:
        for bag, limit in LIMITS.items():
            seconds, spilled, peak = run_apart(__file__, gigabytes, limit)
            cells = (f"{gigabytes:g}", bag, "yes" if spilled else "no", f"{peak / 1e6:,.0f}", f"{seconds:.0f}")
            rows.append(cells)
            show(cells)
    ratio = spread(ratios(*seconds_in_pairs()), ".2f")
    record(
        __file__,
        __doc__,
        f"{rows[-1][3]} MB with {SIZES[-1]} GB of pixels; on disk {ratio.split()[0]} times as long",
        table(("pixels, GB", "bag", "on disk", "peak of the worker, MB", "fit, s"), rows),
        f"Fit with the bag on disk over fit in memory, 0.1 GB, 5 pairs: {ratio}.",
    )


if __name__ == "__main__":
    start(__doc__, main, one_fit)
