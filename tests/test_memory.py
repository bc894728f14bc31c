"""A bag that does not fit in memory trains from disk to the same weights, and leaves nothing there."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
from support.bags import SMALL, a_plan, frame, same
from support.classifiers import small
from support.refusals import a_sentence, refused

from spark_cnn_ensemble.datasets import to_dataframe
from spark_cnn_ensemble.worker.bag import BagRules, Examples, collect_bag
from spark_cnn_ensemble.worker.pixel_store import PixelStore
from spark_cnn_ensemble.worker.pixels import PixelFormat
from spark_cnn_ensemble.worker.refusal import Refusal
from spark_cnn_ensemble.worker.runtime import load_tensorflow
from spark_cnn_ensemble.worker.trainer import Trainer
from spark_cnn_ensemble.worker.weights import unpack_weights

REMEDY = (
    "; free the disk, point spark.local.dir to a larger one, raise maxMemoryInMB, or set a smaller subsamplingRate or "
    "more members."
)


# ----------------------------------------------------------------------------------------- the store


def blocks_of(kind, count=6, rows=20):
    """Blocks of images as they arrive: all bytes, all floats, or floats from the fourth on or from the first on."""
    rng = np.random.default_rng(3)
    found = [rng.integers(0, 256, (rows, 8, 8, 1)).astype(np.float32) for _ in range(count)]
    halves = {"bytes": (), "floats": range(count), "floats at last": (3, 5), "floats at first": (0,)}[kind]
    return [block + 0.5 if index in halves else block for index, block in enumerate(found)]


@pytest.mark.parametrize("kind", ["bytes", "floats", "floats at last", "floats at first"])
@pytest.mark.parametrize("limit", [0, 1, 20 * 64, 3 * 20 * 64, 4 * 20 * 64, 10**9])
def test_what_goes_to_disk_comes_back_in_any_order(kind, limit, tmp_path):
    blocks = blocks_of(kind)
    store = PixelStore((8, 8, 1), limit, [str(tmp_path)])
    for block in blocks:
        store.append(block)
    assert store.spilled == (limit < 10**9)
    whole = np.concatenate(blocks)
    order = np.random.default_rng(0).permutation(len(whole))[:50]
    images, places = store.arrange(order)
    found = images if places is None else images[places]
    assert found.dtype == (np.uint8 if kind == "bytes" else np.float32)
    assert np.array_equal(found, whole[order])


def test_blocks_in_memory_are_let_go_while_they_are_put_in_order():
    store = PixelStore((8, 8, 1))
    blocks = [np.zeros((20, 8, 8, 1), np.uint8) for _ in range(3)]
    there = [weakref.ref(block) for block in blocks]
    for block in blocks:
        store.append(block)
    del block, blocks
    assert all(reference() is not None for reference in there)
    images, _ = store.arrange(np.arange(60))
    assert len(images) == 60
    assert all(reference() is None for reference in there)


def test_the_file_has_no_name_and_its_room_is_given_back(tmp_path):
    store = PixelStore((8, 8, 1), 0, [str(tmp_path)])
    for block in blocks_of("floats at last"):
        store.append(block)
    images, _ = store.arrange(np.arange(120))
    assert not list(tmp_path.iterdir())
    assert mapped(os.getpid(), tmp_path), "or else the next line would hold of any store"
    del images, store
    assert not mapped(os.getpid(), tmp_path)


def mapped(pid, folder):
    """The files of a folder that a process has open or mapped, deleted ones too."""
    links = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # which was closed meanwhile
            links.append(os.readlink(link))
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return [line for line in [*links, *maps] if f"{folder}/" in line]


def mapped_megabytes():
    """Of files, in this process's memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssFile:", "RssShmem:"))) / 1024


def test_what_was_read_of_a_bag_on_disk_does_not_stay_in_memory(tmp_path):
    store = PixelStore((64, 64, 1), 0, [str(tmp_path)])
    for value in range(32):
        store.append(np.full((256, 64, 64, 1), value, np.uint8))  # 1 MB
    images, places = store.arrange(np.arange(8192))
    bag = Examples(images, np.zeros(8192, np.int32), None, np.ones(8192, np.int32), places)
    before = mapped_megabytes()
    for rows in np.random.default_rng(0).permutation(8192).reshape(8, -1):
        assert np.array_equal(bag.gather(rows)[:, 0, 0, 0], rows // 256)
        assert mapped_megabytes() - before < 8
    assert images[::16].sum() > 0
    assert mapped_megabytes() - before > 16, "or else the lines above would hold of any bag"


def test_a_folder_that_is_gone_is_passed_over(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "a file").write_text("")
    folders = [str(tmp_path / name) for name in ("gone", "a file", "there")]
    store = PixelStore((8, 8, 1), 0, folders)
    for block in blocks_of("bytes"):
        store.append(block)
    images, places = store.arrange(np.arange(120))
    assert np.array_equal(images[places], np.concatenate(blocks_of("bytes")))
    assert mapped(os.getpid(), tmp_path / "there")


@pytest.mark.parametrize("folders", [[], ["gone"], ["gone", "gone as well"]])
def test_where_no_folder_is_left_the_remedy_is_named(folders, tmp_path):
    store = PixelStore((8, 8, 1), 0, [str(tmp_path / name) for name in folders])
    text = refused(store.append, blocks_of("bytes")[0], kind=Refusal)
    why = f"{tmp_path / folders[-1]}: No such file or directory" if folders else "Spark named none"
    assert text == f"A bag exceeds maxMemoryInMB and does not fit on the local disk of its task ({why}){REMEDY}"


def process(code, *arguments, before=()):
    """A Python process that runs `code` with this package and these tests at hand."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([p for p in sys.path if p]), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [*before, sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def output(running, timeout=240):
    out, err = running.communicate(timeout=timeout)
    assert not running.returncode, err[-3000:]
    return out.splitlines()


def test_a_process_that_is_killed_leaves_nothing(tmp_path):
    running = process(
        """
        import sys, time
        import numpy as np
        from spark_cnn_ensemble.worker.pixel_store import PixelStore
        store = PixelStore((64, 64, 1), 1 << 20, [sys.argv[1]])
        for _ in range(8):
            store.append(np.zeros((256, 64, 64, 1), np.uint8))
        images, _ = store.arrange(np.arange(2048))
        print(store.spilled, images.nbytes, flush=True)
        time.sleep(600)
        """,
        tmp_path,
    )
    assert running.stdout.readline() == f"True {8 << 20}\n"
    assert mapped(running.pid, tmp_path)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    assert running.returncode == -signal.SIGKILL
    assert not list(tmp_path.iterdir())


FILL = """
import resource, sys
import numpy as np
from spark_cnn_ensemble.worker.pixel_store import PixelStore
from spark_cnn_ensemble.worker.refusal import Refusal
limit, *folders = sys.argv[1:]
if int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
store = PixelStore((64, 64, 1), 1 << 19, folders)
blocks = [np.random.default_rng(seed).integers(0, 256, (100, 64, 64, 1), np.uint8) for seed in range(6)]
blocks[4] = blocks[4] + np.float32(0.5)
try:
    for block in blocks:
        store.append(block)
    images, places = store.arrange(np.arange(600))
    print(np.array_equal(images[places], np.concatenate(blocks)))
except Refusal as refusal:
    print(refusal)
"""


def test_where_all_folders_are_full_the_remedy_is_named(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    # No file may be larger than a megabyte: to the one that writes, both folders are full.
    (text,) = output(process(FILL, 1 << 20, tmp_path / "one", tmp_path / "two"))
    assert a_sentence(text) == (
        f"A bag exceeds maxMemoryInMB and does not fit on the local disk of its task ({tmp_path / 'two'}: File too "
        f"large){REMEDY}"
    )
    assert not list((tmp_path / "one").iterdir()) + list((tmp_path / "two").iterdir())


def own_mounts():
    """The command that lets a process mount filesystems that nobody else sees; empty where that is not allowed."""
    command = ["unshare", "--map-root-user", "--mount"]
    try:
        allowed = not subprocess.run([*command, "true"], capture_output=True, check=False).returncode
    except FileNotFoundError:
        allowed = False
    return command if allowed else []


def test_a_folder_that_is_full_is_passed_over(tmp_path):
    full, roomy = tmp_path / "full", tmp_path / "roomy"
    full.mkdir()
    roomy.mkdir()
    before = own_mounts()
    if before:  # a disk of one megabyte
        mount = f'mount -t tmpfs -o size=1m none {full} && exec "$@"'
        found = output(process(FILL, 0, full, roomy, before=[*before, "sh", "-c", mount, "sh"]))
    else:  # a disk that takes nothing
        found = output(process(FILL, 0, "/proc/self", roomy))
    assert found == ["True"]
    assert not list(roomy.iterdir())


# ------------------------------------------------------------------------------------------ training


def frames_of(kind, **columns):
    """The rows of a bag in four frames; `columns` are functions of the row's number."""
    rng = np.random.default_rng(9)
    found = []
    for number in range(4):
        rows = []
        for index in range(50 * number, 50 * number + 50):
            image = rng.integers(0, 256, 64).astype(np.float32)
            if kind == "floats" or (kind == "floats at last" and number == 2):
                image += 0.25
            more = {"ticket": index / 200, **{name: make(index) for name, make in columns.items()}}
            rows.append((int(rng.integers(2**62)), index, index % 10, image, more))
        found.append(frame(rows))
    return found


EVERYTHING = {
    "copies": lambda index: (1, 1, 2, 3, 0)[index % 5],
    "weight": lambda index: 0.5 + index % 3,
}
WAYS = {
    "plain": ({}, {}),
    "weights, validation and copies": (EVERYTHING, {"early_stopping_patience": 2, "epochs": 3}),
    "augmentation": ({}, {"random_shift": 1, "random_flip": True}),
}


@pytest.mark.parametrize("kind", ["bytes", "floats", "floats at last"])
@pytest.mark.parametrize("way", WAYS)
def test_a_bag_on_disk_trains_to_the_same_weights(kind, way, monkeypatch, tmp_path):
    monkeypatch.setenv("SPARK_LOCAL_DIRS", str(tmp_path))
    monkeypatch.setattr("spark_cnn_ensemble.worker.trainer._CHUNK_BYTES", 10_000)  # so that there are several
    load_tensorflow()
    columns, changes = WAYS[way]
    plan = a_plan(SMALL, **changes)
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
        assert same(weights, other_weights)
        assert history == other_history
        assert same(sample, other_sample)
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
    """The local directories that Spark tells its Python workers of."""

    def tell(frames):
        for rows in frames:
            yield rows.assign(folders=os.environ["SPARK_LOCAL_DIRS"])

    told = spark.range(1).mapInPandas(tell, "id long, folders string").head()["folders"]
    return [Path(folder) for folder in told.split(",")]


def left_behind(spark):
    """Files in Spark's local directories that Spark did not make itself, and those that Python workers still hold."""
    folders = local_folders(spark)
    assert folders
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    named = [file for file in files if file.name.startswith("tmp")]
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    held = [line for pid in pids if is_worker(pid) for folder in folders for line in mapped(pid, folder)]
    return named + held


def nothing_left_behind(spark, seconds=60):
    """Whether nothing is left; workers of failed tasks are given the time they need to end."""
    end = time.monotonic() + seconds
    while left := left_behind(spark):
        if time.monotonic() > end:
            raise AssertionError(left)
        time.sleep(0.2)
    return True


def is_worker(pid):
    try:
        return b"pyspark.daemon" in Path(f"/proc/{pid}/cmdline").read_bytes() and os.access(f"/proc/{pid}/fd", os.R_OK)
    except OSError:
        return False


def test_a_fit_from_disk_gives_the_same_members_and_leaves_nothing(spark, images):
    one, other = (classifier(maxMemoryInMB=limit, oobSampleSize=0).fit(images) for limit in (1, 1024))
    assert [member.spilled for member in one.members] == [True, True]
    assert [member.spilled for member in other.members] == [False, False]
    for mine, theirs in zip(one._ensemble.weights, other._ensemble.weights, strict=True):
        assert same(unpack_weights(mine), unpack_weights(theirs))
    assert left_behind(spark) == []


def test_a_fit_that_fails_leaves_nothing(spark, images):
    text = refused(classifier(maxMemoryInMB=1, learningRate=1e30).fit, images)
    assert "diverged" in text
    assert nothing_left_behind(spark)


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

bound = spark.conf.get("spark.sql.execution.arrow.maxBytesPerBatch")
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
    print(json.dumps([frame_bytes, bound, member.spilled, member.rows, after_fit, scored, after_scoring]))
"""


def test_wide_rows_come_in_batches_of_bounded_bytes_and_take_bounded_memory():
    """224x224x3 numbers a row: 18 MB in all as bytes, then 600 KB a row and 72 MB in all as floats."""
    for line in output(process(WIDE))[-2:]:
        check_wide(json.loads(line))


def check_wide(found):
    frame_bytes, bound, spilled, rows, after_fit, scored, after_scoring = found
    limit = int(bound.lower().rstrip("b").replace("m", "").replace("k", "")) * {
        "m": 1 << 20,
        "k": 1 << 10,
    }.get(bound.lower().rstrip("b")[-1], 1)
    assert 0 < limit <= 256 << 20
    assert frame_bytes <= limit
    assert (spilled, rows, scored) == (True, 120, 120)
    assert max(after_fit, after_scoring) < 1500 << 20, found
