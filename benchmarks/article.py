"""The article's experiments on two cores: a folder of 11.78 GB of text, from the start of the process to the vote.

Claim: one process reads the folder (MNIST's 60,000 rows as `numpy.savetxt` writes them, ten times over), draws bags,
trains, saves the model and scores the 10,000 test rows by hard vote. The article had 64 cores: 5 min 21 s for 85.1 %
with 2 epochs, 6 min 4 s for 90.5 % with 3, 10 min 35 s for 94.7 % with 5; its single model froze. Seconds are those of
the process, with Python's, Java's and TensorFlow's start; memory is the most that it, the JVM and all workers take
together, sampled twice a second (proportional set size). Driver memory is Spark's default. The test rows are read after
training only. The files' pages may be in the system's cache. One run a row.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _processes import Peak
from _results import record, session

from spark_cnn_ensemble import CNNEnsembleClassifier
from spark_cnn_ensemble.datasets import load_mnist, read_text_matrix, to_dataframe, write_text_matrix

COPIES = 10
NEEDED = 30 << 30  # bytes of disk: the folder, the shuffle, and room
FIXED = {"numClasses": 10, "inputShape": [28, 28, 1], "idCol": "id", "randomShift": 2, "verbose": 0}
FIXED.update(rawPredictionCol="", probabilityCol="")  # the hard vote alone, which stops when it is decided
BIG = {"bagging": "subsample", "subsamplingRate": 0.1, "precision": "bfloat16", "batchSize": 50, "learningRate": 4e-3}
SHARES = {"numMembers": 100, "batchSize": 25, "learningRate": 2e-3, "precision": "bfloat16"}
RUNS = [
    ("4 members of 10 %, 3 epochs", {**BIG, "numMembers": 4, "epochs": 3}),
    (
        "4 members of 10 %, 3 epochs, batches of 100",
        {**BIG, "numMembers": 4, "epochs": 3, "batchSize": 100, "learningRate": 3e-3},
    ),
    ("6 members of 10 %, 4 epochs", {**BIG, "numMembers": 6, "epochs": 4}),
    ("100 members of 1 %, 2 epochs", {**SHARES, "epochs": 2}),
    ("100 members of 1 %, 3 epochs", {**SHARES, "epochs": 3}),
    ("100 members of 1 %, 5 epochs", {**SHARES, "epochs": 5}),
    ("100 members of 1 %, 5 epochs, twice the filters", {**SHARES, "epochs": 5, "filters": [32, 64]}),
]


def run(folder, params):
    """The whole job; this is a process of its own."""
    spark = session()
    classifier = CNNEnsembleClassifier(**FIXED, **params)
    begun = time.perf_counter()
    model = classifier.fit(read_text_matrix(spark, f"{folder}/text"))
    fitted = time.perf_counter()
    model.write().overwrite().save(f"{folder}/model")
    test = to_dataframe(spark, *load_mnist()[1])
    right = model.transform(test).where("prediction = label").count()
    found = model.summary.outOfBag
    print(
        json.dumps(
            {
                "accuracy": right / test.count(),
                "outOfBag": found and found.accuracy,
                "fit": fitted - begun,
                "training": sum(member.seconds for member in model.members) / 2,
                "rows": model.summary.rows,
                "member": model.members[0].rows,
            }
        )
    )


def measure(folder, params):
    """Run it, and watch how long and how much it takes."""
    begun = time.perf_counter()
    command = [sys.executable, __file__, folder, json.dumps(params)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, Peak(process.pid) as peak:
        printed = process.communicate()[0]
    seconds = time.perf_counter() - begun
    if process.returncode:
        raise RuntimeError(f"the run failed: {command}")
    return {**json.loads(printed.splitlines()[-1]), "seconds": seconds, "pss": peak.pss, "rss": peak.rss}


def main():
    """Write the folder, run each setting, record the table, remove the folder."""
    parent = tempfile.gettempdir()
    free = shutil.disk_usage(parent).free
    if free < NEEDED:
        sys.exit(
            f"This takes {NEEDED >> 30} GiB of disk, and {parent} has {free >> 30}; set TMPDIR to a folder with more."
        )
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        write_text_matrix(f"{folder}/text", *load_mnist()[0], copies=COPIES)
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
        lines = [
            "| ensemble | rows a member | vote | out-of-bag | whole process, s | fit, s | training, s | memory, GB |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for name, params in RUNS:
            found = measure(folder, params)
            told = f"{found['outOfBag']:.2%}" if found["outOfBag"] else ""
            lines.append(
                f"| {name} | {found['member']:,} | {found['accuracy']:.2%} | {told} | {found['seconds']:.0f} | "
                f"{found['fit']:.0f} | {found['training']:.0f} | {found['pss'] / 1e9:.1f} |"
            )
            print(lines[-1], flush=True)
    lines.append(f"\nThe folder: {size / 1e9:.2f} GB, {found['rows']:,} rows. Params, besides shifts of 2 pixels:")
    lines += [f"\n- {name}: {', '.join(f'{key} {value}' for key, value in params.items())}" for name, params in RUNS]
    record("The article's experiments", __doc__.split("\n\n", 1)[1].strip(), "\n".join(lines))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        run(sys.argv[1], json.loads(sys.argv[2]))
    else:
        main()
