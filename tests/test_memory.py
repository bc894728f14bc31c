"""A bag past maxMemoryInMB trains from disk to the same weights, and leaves nothing there."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from support.bags import SMALL, bag_frame, identical, training_plan
from support.classifiers import small
from support.members import digests
from support.processes import files_held, output_of, start_python
from support.refusals import refused

from spark_cnn_ensemble.datasets import to_dataframe
from spark_cnn_ensemble.worker.bag import BagRules, collect_bag
from spark_cnn_ensemble.worker.pixels import PixelFormat
from spark_cnn_ensemble.worker.runtime import load_tensorflow
from spark_cnn_ensemble.worker.trainer import Trainer

# ------------------------------------------------------------------------------------------ one member


def frames_of(kind, **columns):
    """200 rows of a bag in four frames; `columns` are functions of the row's number."""
    rng = np.random.default_rng(9)
    frames = []
    for number in range(4):
        rows = []
        for index in range(50 * number, 50 * number + 50):
            image = rng.integers(0, 256, 64).astype(np.float32)
            if kind == "floats" or (kind == "floats in the third frame" and number == 2):
                image += 0.25
            values = {"ticket": index / 200, **{name: value(index) for name, value in columns.items()}}
            rows.append((int(rng.integers(2**62)), index, index % 10, image, values))
        frames.append(bag_frame(rows))
    return frames


EVERYTHING = {
    "copies": lambda index: (1, 1, 2, 3, 0)[index % 5],
    "weight": lambda index: 0.5 + index % 3,
}
# Columns and changes of the plan.
WAYS = {
    "plain": ({}, {}),
    "weights, validation and copies": (EVERYTHING, {"early_stopping_patience": 2, "epochs": 3}),
    "augmentation": ({}, {"random_shift": 1, "random_flip": True}),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bytes", "floats", "floats in the third frame"])
@pytest.mark.parametrize("way", WAYS)
def test_a_bag_on_disk_trains_to_the_same_weights(kind, way, monkeypatch, tmp_path):
    monkeypatch.setenv("SPARK_LOCAL_DIRS", str(tmp_path))
    monkeypatch.setattr("spark_cnn_ensemble.worker.trainer.CHUNK_BYTES", 10_000)  # so that a bag has several chunks
    load_tensorflow()
    columns, changes = WAYS[way]
    plan = training_plan(SMALL, **changes)
    trained = []
    for limit in (None, 1, 100 * 64):
        rules = BagRules(PixelFormat("features", "array", (8, 8, 1)), memory_limit=limit, sample_size=20)
        bag = collect_bag(frames_of(kind, **columns), 0, rules)
        assert bag.spilled == (limit is not None)
        assert bag.training.images.dtype == (np.uint8 if kind == "bytes" else np.float32)
        assert len(bag.validation) == (40 if columns else 0)
        trained.append((*Trainer(plan.program).train(bag, plan), bag.sample.images, bag.sample.keys))
    weights, history, *sample = trained[0]
    for other_weights, other_history, *other_sample in trained[1:]:
        assert identical(weights, other_weights)
        assert history == other_history
        assert identical(sample, other_sample)
    assert not list(tmp_path.iterdir())


# -------------------------------------------------------------------------------------- through Spark


@pytest.fixture(scope="module")
def images(spark, mnist):
    """1,500 digits of 28x28 pixels: 1.12 MiB."""
    (x, y), _ = mnist
    return to_dataframe(spark, x[:1500], y[:1500]).cache()


def classifier(**params):
    return small(numMembers=2, bagging="subsample", inputShape=[28, 28, 1], **params)


def local_folders(spark):
    """The local directories that Spark gives its Python workers."""

    def report(frames):
        for rows in frames:
            yield rows.assign(folders=os.environ["SPARK_LOCAL_DIRS"])

    folders = spark.range(1).mapInPandas(report, "id long, folders string").head()["folders"]
    return [Path(folder) for folder in folders.split(",")]


def is_python_worker(pid):
    try:
        return b"pyspark.worker" in Path(f"/proc/{pid}/cmdline").read_bytes() and os.access(f"/proc/{pid}/fd", os.R_OK)
    except OSError:
        return False


def left_behind(spark):
    """Temporary files in Spark's local directories that Spark did not write, and those that Python workers hold."""
    folders = local_folders(spark)
    assert folders
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    named = [file for file in files if file.name.startswith("tmp")]
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    held = [line for pid in pids if is_python_worker(pid) for folder in folders for line in files_held(pid, folder)]
    return named + held


def test_a_fit_from_disk_gives_the_same_members_and_leaves_nothing(spark, images):
    one, other = (classifier(maxMemoryInMB=limit, oobSampleSize=0).fit(images) for limit in (1, 1024))
    assert [member.spilled for member in one.members] == [True, True]
    assert [member.spilled for member in other.members] == [False, False]
    assert digests(one) == digests(other)
    assert left_behind(spark) == []


def test_a_fit_that_fails_leaves_nothing(spark, images):
    text = refused(classifier(maxMemoryInMB=1, learningRate=1e30).fit, images)
    assert "diverged" in text
    deadline = time.monotonic() + 60  # workers of failed tasks need time to end
    while files := left_behind(spark):
        assert time.monotonic() < deadline, files
        time.sleep(0.2)


WIDE = """
import json, resource
from functools import partial
import numpy as np
import pandas as pd
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from spark_cnn_ensemble import CNNEnsembleClassifier

spark = (
    SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    .config("spark.ui.showConsoleProgress", "false").config("spark.sql.shuffle.partitions", "2").getOrCreate()
)
rows, side = 120, 224

def make(frames, form):
    for frame in frames:
        for index in frame["id"]:
            numbers = np.random.default_rng(index).integers(0, 256, side * side * 3).astype(np.uint8)
            cell = numbers.tobytes() if form == "binary" else numbers.astype(np.float32) + 0.5
            yield pd.DataFrame({"id": [index], "label": [float(index % 2)], "features": [cell]})

def measure(frames, form):
    most = 0
    for frame in frames:
        most = max(most, sum(len(cell) * (1 if form == "binary" else 4) for cell in frame["features"]))
    yield pd.DataFrame({"bytes": [most]})

def peak(frames):
    for frame in frames:
        yield pd.DataFrame({"bytes": [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10]})

def largest(frame, function):
    return frame.mapInPandas(function, "bytes long").agg(F.max("bytes")).head()[0]

bound = spark.conf.get("spark.sql.execution.arrow.maxBytesPerBatch", "256m")
if spark.version < "4":  # which limits the rows of a batch alone; the library refuses wide rows where that is too high
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", 100)
estimator = CNNEnsembleClassifier(
    numMembers=1, bagging="subsample", filters=[1], kernelSize=3, denseUnits=2, epochs=1, batchSize=10,
    inputShape=[side, side, 3], numClasses=2, idCol="id", maxMemoryInMB=16, oobSampleSize=0,
)
for form, kind in (("binary", "binary"), ("array", "array<float>")):
    wide = spark.range(0, rows, 1, 1).mapInPandas(partial(make, form=form), f"id long, label double, features {kind}")
    wide.cache().count()
    frame_bytes = largest(wide, partial(measure, form=form))
    model = estimator.fit(wide)
    after_fit = largest(spark.range(1), peak)
    scored = model.transform(wide).where("prediction in (0, 1)").count()
    after_scoring = largest(spark.range(1), peak)
    member = model.members[0]
    print(json.dumps({
        "form": form, "frame_bytes": frame_bytes, "bound": bound, "spilled": member.spilled, "rows": member.rows,
        "scored": scored, "peaks": [after_fit, after_scoring],
    }))
"""


@pytest.fixture(scope="module")
def wide_rows():
    """A fit on rows of 224x224x3 numbers and its scoring, by form: 18 MB in all as bytes, 72 MB in all as floats."""
    lines = [json.loads(line) for line in output_of(start_python(WIDE))[-2:]]
    return {line["form"]: line for line in lines}


@pytest.mark.spark
@pytest.mark.parametrize("form", ["binary", "array"])
def test_wide_rows_come_in_batches_of_bounded_bytes_and_take_bounded_memory(wide_rows, form):
    measured = wide_rows[form]
    bound = measured["bound"].lower().rstrip("b")
    limit = int(bound.rstrip("mk")) * {"m": 1 << 20, "k": 1 << 10}.get(bound[-1], 1)
    assert 0 < limit <= 256 << 20
    assert measured["frame_bytes"] <= limit
    assert (measured["spilled"], measured["rows"], measured["scored"]) == (True, 120, 120)
    assert max(measured["peaks"]) < 1500 << 20, measured
