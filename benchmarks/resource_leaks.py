"""Resource leaks.

Claim: Over many rounds of fit, save, load, transform and evaluate in one session, no resource grows.

Each round trains 4 members on scikit-learn's digits. After each round, the script collects the garbage of Python and of
the JVM. It then samples the memory of the driver's Python, of the JVM and of the Python workers, threads, open files,
files in Spark's local directories, broadcasts and persistent RDDs. The table compares the median of the last fifth of
the samples with that of the second fifth.

Needs: scikit-learn, for the digits.
Takes: 20 minutes, or --minutes.
"""

import argparse
import gc
import os
import statistics
import tempfile
import time
from pathlib import Path

from _processes import by_kind, total
from _results import record, table
from _session import session

from spark_cnn_ensemble import CNNEnsembleClassificationModel, CNNEnsembleClassifier
from spark_cnn_ensemble.datasets import load_digits, to_dataframe


def open_files(pids):
    """The number of file descriptors of processes."""
    count = 0
    for pid in pids:
        try:
            count += len(list(Path(f"/proc/{pid}/fd").iterdir()))
        except OSError:
            continue  # the process has ended meanwhile
    return count


def sample(spark, local):
    """The present amount of each resource."""
    gc.collect()
    spark.sparkContext._jvm.System.gc()
    time.sleep(1)  # Spark's cleaner runs in a thread of its own
    kinds = by_kind()
    everyone = set().union(*kinds.values())
    files = [path.name for path in local.rglob("*") if path.is_file()]
    return {
        **{f"memory of the {kind}, MB": total(pids, "VmRSS") / 1e6 for kind, pids in kinds.items()},
        "threads": total(everyone, "Threads"),
        "open files": open_files(everyone),
        "files in spark.local.dir": len(files),
        "files of broadcasts": sum(name.startswith("broadcast_") for name in files),
        "persistent RDDs": spark.sparkContext._jsc.getPersistentRDDs().size(),
    }


def samples_of(minutes, folder):
    """A sample after each round, until the time is over."""
    os.environ["SPARK_LOCAL_DIRS"] = f"{folder}/local"
    spark = session()
    train, test = (to_dataframe(spark, *arrays).cache() for arrays in load_digits())
    classifier = CNNEnsembleClassifier(
        numMembers=4, bagging="subsample", subsamplingRate=0.5, filters=[4], kernelSize=3, denseUnits=16, epochs=1
    )
    samples, begun = [], time.monotonic()
    while time.monotonic() - begun < 60 * minutes:
        model = classifier.copy({classifier.seed: len(samples)}).fit(train)
        model.write().overwrite().save(f"{folder}/model")
        loaded = CNNEnsembleClassificationModel.load(f"{folder}/model")
        loaded.transform(test).select("prediction").collect()
        loaded.evaluate(test)
        del model, loaded
        samples.append(sample(spark, Path(folder, "local")))
        print(len(samples), {name: round(value) for name, value in samples[-1].items()}, flush=True)
    spark.stop()
    return samples


def main():
    """Sample for the given time, record what grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory(prefix="leaks-", ignore_cleanup_errors=True) as folder:
        samples = samples_of(minutes, folder)
    fifth = len(samples) // 5
    if not fifth:
        raise SystemExit(f"There were {len(samples)} rounds in {minutes:g} minutes, and 5 are needed; raise --minutes.")
    rows, shares = [], {}
    for name in samples[0]:
        early = statistics.median(each[name] for each in samples[fifth : 2 * fifth])
        late = statistics.median(each[name] for each in samples[-fifth:])
        if early:
            shares[name] = late / early - 1
        growth = f"{shares[name]:+.1%}" if early else f"{late - early:+g}"
        rows.append((name, f"{early:,.0f}", f"{late:,.0f}", growth))
    largest = max(shares, key=shares.get)
    record(
        __file__,
        __doc__,
        f"largest growth {shares[largest]:+.1%} ({largest.removesuffix(', MB')})",
        table(("resource", "second fifth", "last fifth", "growth"), rows),
        f"{len(samples)} rounds in {minutes:g} minutes, 4 members each.",
    )


if __name__ == "__main__":
    main()
