"""Fits, saves, loads and transforms in one session, again and again, to see what grows.

Claim: nothing does. Memory of the driver's Python, of the JVM and of the Python workers, threads, open files, files in
Spark's local directories, broadcasts and persistent RDDs are sampled after each round; the median of the last fifth of
the samples is set against that of the second fifth.
"""

import argparse
import gc
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from _processes import family, status
from _results import record, session

from spark_cnn_ensemble import CNNEnsembleClassificationModel, CNNEnsembleClassifier
from spark_cnn_ensemble.datasets import load_digits, to_dataframe


def open_files(pids):
    """File descriptors of processes."""
    total = 0
    for pid in pids:
        try:
            total += len(list(Path(f"/proc/{pid}/fd").iterdir()))
        except OSError:
            continue
    return total


def sample(spark, folder, driver):
    """One look at everything."""
    everyone = family(driver)
    jvm = {pid for pid in everyone if comm(pid) == "java"}
    gc.collect()
    spark.sparkContext._jvm.System.gc()
    time.sleep(1)  # Spark's cleaner works beside us
    files = [path.name for path in folder.rglob("*") if path.is_file()]
    return {
        "memory of the driver's Python, MB": status({driver}, "VmRSS") / 1024,
        "memory of the JVM, MB": status(jvm, "VmRSS") / 1024,
        "memory of the Python workers, MB": status(everyone - jvm - {driver}, "VmRSS") / 1024,
        "threads": status(everyone, "Threads"),
        "open files": open_files(everyone),
        "files in spark.local.dir": len(files),
        "files of broadcasts": sum(name.startswith("broadcast_") for name in files),
        "persistent RDDs": spark.sparkContext._jsc.getPersistentRDDs().size(),
    }


def comm(pid):
    """The name of a process."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def main():
    """Go round for so many minutes, then record what grew."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=20)
    minutes = parser.parse_args().minutes
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    os.environ["SPARK_LOCAL_DIRS"] = str(folder / "local")
    spark = session()
    (x_train, y_train), (x_test, y_test) = load_digits()
    train, test = to_dataframe(spark, x_train, y_train).cache(), to_dataframe(spark, x_test, y_test).cache()
    classifier = CNNEnsembleClassifier(
        numMembers=4, bagging="subsample", subsamplingRate=0.5, filters=[4], kernelSize=3, denseUnits=16, epochs=1
    )
    samples, begun = [], time.monotonic()
    while time.monotonic() - begun < 60 * minutes:
        model = classifier.copy({classifier.seed: len(samples)}).fit(train)
        model.write().overwrite().save(str(folder / "model"))
        loaded = CNNEnsembleClassificationModel.load(str(folder / "model"))
        loaded.transform(test).select("prediction").collect()
        loaded.evaluate(test)
        del model, loaded
        samples.append(sample(spark, folder / "local", os.getpid()))
        print(len(samples), {name: round(value) for name, value in samples[-1].items()}, flush=True)
    fifth = len(samples) // 5
    if not fifth:
        raise SystemExit(f"Only {len(samples)} rounds in {minutes:g} minutes; give more --minutes.")
    lines = ["| | second fifth | last fifth | growth |", "|---|---|---|---|"]
    for name in samples[0]:
        early = statistics.median(each[name] for each in samples[fifth : 2 * fifth])
        late = statistics.median(each[name] for each in samples[-fifth:])
        growth = f"{late / early - 1:+.1%}" if early else f"{late - early:+g}"
        lines.append(f"| {name} | {early:,.0f} | {late:,.0f} | {growth} |")
    lines += ["", f"{len(samples)} rounds in {minutes:g} minutes, 4 members each."]
    spark.stop()
    shutil.rmtree(folder, ignore_errors=True)
    record("What grows", __doc__.split("\n\n", 1)[1].strip(), "\n".join(lines))


if __name__ == "__main__":
    main()
