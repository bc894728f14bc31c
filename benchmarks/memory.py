"""Memory that a Python worker takes for a bag, in memory and on disk, and the time that a bag on disk costs.

Claim: a worker's memory grows with its bag up to maxMemoryInMB and no further, and a bag on disk takes at most 1.3
times the time of the same in memory. A bag of random bytes, images of 64x64x3, one epoch of a tiny network; each peak
is of one fit in a session of its own; the ratio is of five pairs on 0.1 GB, taken in turn, in one session
(maxMemoryInMB 16 and 4096).
"""

import json
import statistics
import subprocess
import sys
import time

from _results import record, session

from spark_cnn_ensemble import CNNEnsembleClassifier

SIDE, PIXELS = 64, 64 * 64 * 3
SIZES = (0.1, 1, 4)  # GB of pixels
LIMITS = (("in memory", 1 << 20), ("maxMemoryInMB=1024", 1024))
PAIRS = 5


def random_rows(frames):
    """Images of random bytes, made where they are needed."""
    import numpy as np
    import pandas as pd

    for frame in frames:
        for begin in range(0, len(frame), 1000):
            ids = frame["id"].to_numpy()[begin : begin + 1000]
            data = np.random.default_rng(int(ids[0])).bytes(len(ids) * PIXELS)
            cells = [data[at : at + PIXELS] for at in range(0, len(data), PIXELS)]
            yield pd.DataFrame({"id": ids, "label": (ids % 2).astype(float), "features": cells})


def peak(frames):
    """The most memory that this worker has had, in bytes."""
    import resource

    for frame in frames:
        yield frame.assign(peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10)


def rows(spark, gigabytes):
    """So many GB of images."""
    count = int(gigabytes * 1e9 / PIXELS)
    return spark.range(0, count, 1, 8).mapInPandas(random_rows, "id long, label double, features binary")


def classifier(limit):
    """One member that trains one epoch of next to nothing on all rows."""
    return CNNEnsembleClassifier(
        numMembers=1,
        bagging="subsample",
        filters=[1],
        kernelSize=3,
        denseUnits=2,
        epochs=1,
        batchSize=100,
        inputShape=[SIDE, SIDE, 3],
        numClasses=2,
        idCol="id",
        oobSampleSize=0,
        maxMemoryInMB=limit,
    )


def one_peak(gigabytes, limit):
    """Fit once, and tell of it: this runs in a process of its own, so that no peak is of a fit before."""
    spark = session("local[1]")
    begun = time.perf_counter()
    model = classifier(limit).fit(rows(spark, gigabytes))
    seconds = time.perf_counter() - begun
    found = spark.range(1).mapInPandas(peak, "id long, peak long").head()["peak"]
    print(json.dumps({"peak": found, "spilled": model.members[0].spilled, "seconds": seconds}))


def ratios():
    """Seconds of training on disk over those in memory, in pairs."""
    spark = session("local[1]")
    data = rows(spark, 0.1)
    classifier(4096).fit(data)  # the first builds and traces the network
    found = []
    for pair in range(PAIRS):
        seconds = {}
        for limit in (16, 4096) if pair % 2 else (4096, 16):
            begun = time.perf_counter()
            model = classifier(limit).fit(data)
            seconds[limit] = time.perf_counter() - begun
            assert model.members[0].spilled == (limit == 16)
        found.append(seconds[16] / seconds[4096])
        print(f"pair {pair}: {seconds}", flush=True)
    return found


def main():
    """Measure each bag in a process of its own, then the pairs, and record both."""
    lines = ["| pixels, GB | bag | spilled | peak of the worker, MB | fit, s |", "|---|---|---|---|---|"]
    for size in SIZES:
        for name, limit in LIMITS:
            command = [sys.executable, __file__, str(size), str(limit)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            spilled = "yes" if found["spilled"] else "no"
            lines.append(f"| {size:g} | {name} | {spilled} | {found['peak'] / 1e6:,.0f} | {found['seconds']:.0f} |")
            print(lines[-1], flush=True)
    found = sorted(ratios())
    lines += [
        "",
        f"Fit from disk over fit in memory, 0.1 GB, {PAIRS} pairs: median {statistics.median(found):.2f}, "
        f"{found[0]:.2f} to {found[-1]:.2f}.",
    ]
    record("Memory of a worker", __doc__.split("\n\n", 1)[1].strip(), "\n".join(lines))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        one_peak(float(sys.argv[1]), int(sys.argv[2]))
    else:
        main()
