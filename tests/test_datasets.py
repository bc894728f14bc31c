"""MNIST, the digits, arrays as data frames, and the text matrix written and read."""

import gzip
import io
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyspark.errors import PySparkException

from spark_cnn_ensemble import datasets
from spark_cnn_ensemble.datasets import load_digits, load_mnist, to_dataframe
from spark_cnn_ensemble.text import files as text_files
from spark_cnn_ensemble.text import lines as text_lines
from spark_cnn_ensemble.text import reader
from spark_cnn_ensemble.text.reader import read_text_matrix
from spark_cnn_ensemble.text.writer import write_text_matrix

MNIST = Path(datasets.__file__).parent.parent / "data" / "mnist"


def write(folder, name, text):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(text.encode())
    return folder


def as_arrays(frame):
    """Ids, features and labels in the order of the files' lines, as far as ids tell it."""
    rows = frame.collect()
    ids = np.array([row.id for row in rows], np.int64)
    features = np.array([row.features for row in rows], np.float32)
    labels = np.array([row.label for row in rows]) if "label" in frame.columns else None
    return ids, features, labels


def as_set(frame):
    return {(row.id, tuple(row.features), row.label) for row in frame.collect()}


@pytest.fixture(scope="module")
def some():
    """300 of MNIST's rows and their labels."""
    (x, y), _ = load_mnist()
    return x[:300], y[:300]


@pytest.fixture
def small_pieces(monkeypatch):
    """Files cut into many partitions, partitions into many reads, reads into many blocks."""
    monkeypatch.setattr(reader, "_LOCAL_CHUNK_BYTES", 1000)
    monkeypatch.setattr(reader, "_READ_BYTES", 300)
    monkeypatch.setattr(reader, "_BLOCK_BYTES", 100)


# ------------------------------------------------------------------------------------- arrays


def test_import_brings_neither_tensorflow_nor_sklearn():
    code = "import spark_cnn_ensemble.datasets, sys; print([m for m in ('tensorflow', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_mnist():
    (x_train, y_train), (x_test, y_test) = load_mnist()
    assert x_train.shape == (60000, 28, 28) and y_train.shape == (60000,)
    assert x_test.shape == (10000, 28, 28) and y_test.shape == (10000,)
    assert {a.dtype for a in (x_train, y_train, x_test, y_test)} == {np.dtype(np.uint8)}
    assert all(a.flags.writeable for a in (x_train, y_train, x_test, y_test))
    # The published counts of the ten digits.
    assert np.bincount(y_train).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert x_train.max() == 255 and round(x_train.mean() / 255, 4) == 0.1307


def test_mnist_damage_is_named(tmp_path):
    folder = shutil.copytree(MNIST, tmp_path / "mnist")
    labels = folder / "train-labels-idx1-ubyte.gz"
    whole = labels.read_bytes()

    flipped = bytearray(whole)
    flipped[len(flipped) // 2] ^= 1
    for damaged in (bytes(flipped), whole[:1000], b"not gzip", gzip.compress(gzip.decompress(whole) + b"\0")):
        labels.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"train-labels-idx1-ubyte\.gz is damaged.*copy it anew"):
            load_mnist(folder)

    labels.unlink()
    with pytest.raises(FileNotFoundError, match=r"train-labels-idx1-ubyte\.gz is missing"):
        load_mnist(folder)
    (folder / "SHA256SUMS").unlink()
    with pytest.raises(FileNotFoundError, match="SHA256SUMS is missing"):
        load_mnist(str(folder))


def test_digits_split_is_stratified_and_the_same_each_time():
    (x_train, y_train), (x_test, y_test) = load_digits()
    assert x_train.shape == (1437, 8, 8) and x_test.shape == (360, 8, 8)
    assert {a.dtype for a in (x_train, y_train, x_test, y_test)} == {np.dtype(np.uint8)}
    assert x_train.max() == 16
    assert np.bincount(y_test).min() >= 34 and np.bincount(y_train).min() >= 138
    again = load_digits()
    assert np.array_equal(again[0][0], x_train) and np.array_equal(again[1][1], y_test)


def test_digits_without_sklearn_name_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'spark_cnn_ensemble\[digits\]'"):
        load_digits()


# --------------------------------------------------------------------------------- data frames


@pytest.mark.parametrize(
    ("dtype", "spark_type"),
    [
        ("bool", "tinyint"),
        ("int8", "tinyint"),
        ("uint8", "smallint"),
        ("int16", "smallint"),
        ("uint16", "int"),
        ("int32", "int"),
        ("uint32", "bigint"),
        ("int64", "bigint"),
        ("float16", "float"),
        ("float32", "float"),
        (">f4", "float"),
        ("float64", "double"),
    ],
)
def test_to_dataframe_keeps_every_value(spark, dtype, spark_type):
    dtype = np.dtype(dtype)
    info = {"b": None, "f": np.finfo}.get(dtype.kind, np.iinfo)
    ends = [0, 1] if info is None else [info(dtype).min, info(dtype).max]
    x = np.array([ends, ends[::-1], [0, 1]], dtype)
    frame = to_dataframe(spark, x)
    assert dict(frame.dtypes) == {"id": "bigint", "features": f"array<{spark_type}>"}
    assert [row.features for row in frame.orderBy("id").collect()] == x.tolist()


def test_to_dataframe_of_images_and_labels(spark, some):
    x, y = some
    frame = to_dataframe(spark, x, y)
    assert frame.dtypes == [("id", "bigint"), ("features", "array<smallint>"), ("label", "int")]
    ids, features, labels = as_arrays(frame.orderBy("id"))
    assert np.array_equal(ids, np.arange(300))
    assert np.array_equal(features, x.reshape(300, 784)) and np.array_equal(labels, y)
    assert frame.rdd.getNumPartitions() == 2
    strided = to_dataframe(spark, x[::3, ::2, ::-1], y[::3].astype(float)).orderBy("id")
    assert np.array_equal(as_arrays(strided)[1], x[::3, ::2, ::-1].reshape(100, -1))


def test_to_dataframe_spreads_over_partitions(spark):
    (x, y), _ = load_mnist()
    assert to_dataframe(spark, x, y).rdd.getNumPartitions() == 15  # of 4,096 rows
    assert to_dataframe(spark, x[:100]).rdd.getNumPartitions() == spark.sparkContext.defaultParallelism
    assert to_dataframe(spark, np.zeros((5, 2_000_000))).rdd.getNumPartitions() == 5  # of 16 MB


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((3, 2)), [0, 1], r"y has shape \(2,\) where x has 3 rows"),
        (np.zeros((3, 2)), [[0], [1], [2]], r"y has shape \(3, 1\)"),
        (np.zeros((2, 2)), [0, 0.5], "whole numbers"),
        (np.zeros((2, 2)), [0, np.nan], "whole numbers"),
        (np.zeros((2, 2)), ["a", "b"], "whole numbers"),
        (np.zeros((2, 2)), [0, 1 << 31], "32 bits"),
        (np.zeros(3), [0, 1, 2], "x has shape"),
        (np.zeros((0, 3)), [], "at least one row"),
        (np.zeros((2, 2), complex), [0, 1], "x holds complex128"),
        (np.zeros((2, 2), np.uint64), [0, 1], "x holds uint64"),
    ],
)
def test_to_dataframe_refuses(spark, x, y, message):
    with pytest.raises(ValueError, match=message):
        to_dataframe(spark, x, y)


# ------------------------------------------------------------------------------------- writing


def matrices():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 10, 200)
    grey = rng.integers(0, 256, (200, 6, 5), np.uint8)
    return {
        "uint8": (grey, labels.astype(np.uint8)),
        "uint8 and int64": (grey, labels),
        "bool": (grey > 128, labels.astype(np.uint8)),
        "uint16": (rng.integers(0, 1 << 16, (200, 6), np.uint16), labels),
        "above 65535": (rng.integers(0, 1 << 40, (200, 6)), labels),
        "whole floats": (grey.astype(np.float32), labels),
        "few fractions": (grey / 255, labels),
        "many fractions": (rng.random((200, 7)), labels),
        "float32": (rng.random((200, 7), np.float32), labels.astype(np.int32)),
        "negative": (grey.astype(int) - 100, labels),
        "negative zero": (np.where(grey > 128, -0.0, 1.0), labels),
        "nan and inf": (np.where(grey > 128, np.nan, np.inf), labels),
        "long exponents": (np.where(grey > 128, 1e-300, 1e200), labels),
        "a change of kind": (np.concatenate([np.ones((100, 3)), rng.normal(size=(100, 3))]), labels),
    }


@pytest.mark.parametrize("label", ["last", "first"])
@pytest.mark.parametrize("case", matrices())
def test_text_is_that_of_savetxt(tmp_path, case, label, monkeypatch):
    x, y = matrices()[case]
    flat = x.reshape(len(x), -1)
    np.savetxt(tmp_path / "numpy.txt", np.column_stack((flat, y) if label == "last" else (y, flat)))
    write_text_matrix(tmp_path / "ours", x, y, label=label)
    assert (tmp_path / "ours/part-00000.txt").read_bytes() == (tmp_path / "numpy.txt").read_bytes()


def test_text_of_many_chunks_and_copies(tmp_path, some):
    x, y = some
    write_text_matrix(str(tmp_path / "a/b"), x, y, copies=3)
    assert sorted(os.listdir(tmp_path / "a/b")) == [f"part-{i:05d}.txt" for i in range(3)]
    np.savetxt(tmp_path / "numpy.txt", np.column_stack((x.reshape(300, -1), y)))
    for name in os.listdir(tmp_path / "a/b"):
        assert (tmp_path / "a/b" / name).read_bytes() == (tmp_path / "numpy.txt").read_bytes()


def test_writing_refuses(tmp_path, some):
    x, y = some
    write(tmp_path, "full/kept.txt", "1 2\n")
    for path in (tmp_path / "full", tmp_path / "full/kept.txt"):
        with pytest.raises(ValueError, match="is not an empty folder"):
            write_text_matrix(path, x, y)
    assert (tmp_path / "full/kept.txt").read_text() == "1 2\n"
    for copies in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="copies must be a whole number >= 1"):
            write_text_matrix(tmp_path / "new", x, y, copies=copies)
    with pytest.raises(ValueError, match="label must be 'last' or 'first', not None"):
        write_text_matrix(tmp_path / "new", x, y, label=None)
    with pytest.raises(ValueError, match="one label for each row"):
        write_text_matrix(tmp_path / "new", x, y[1:])
    with pytest.raises(ValueError, match="is not a local folder"):
        write_text_matrix("hdfs://host/new", x, y)
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match=r"The text takes .* GB free; lower copies"):
        write_text_matrix(tmp_path / "new", x, y, copies=10**9)


def test_a_failed_write_leaves_no_file(tmp_path, some, monkeypatch):
    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(datasets.np, "hstack", fail)
    with pytest.raises(OSError, match="disk full"):
        write_text_matrix(tmp_path / "new", *some)
    assert os.listdir(tmp_path / "new") == []


# ------------------------------------------------------------- lines and numbers, without Spark


@pytest.mark.parametrize("end", ["\n", ""])
def test_every_line_is_in_the_chunk_of_its_first_byte(end):
    rng = np.random.default_rng(2)
    text = ("\n".join("x" * n for n in rng.integers(0, 30, 60)) + end).encode()
    starts = [0] + [i + 1 for i, byte in enumerate(text) if byte == ord("\n") and i + 1 < len(text)]
    for chunk in (1, 2, 7, 50, 333, 5000):
        for read, block in ((5000, 5000), (64, 10), (9, 1)):
            seen = []
            for start in range(0, len(text), chunk):
                stop = min(len(text), start + chunk)
                for offset, lines in text_files.blocks(io.BytesIO(text), start, stop, read, block):
                    assert text[offset : offset + len(lines)] == lines
                    inner = [offset + i + 1 for i, byte in enumerate(lines[:-1]) if byte == ord("\n")]
                    assert all(start <= at < stop for at in [offset, *inner])
                    seen += [offset, *inner]
            assert seen == starts


def test_a_line_longer_than_any_read():
    text = b"1" * 1_000_000 + b"\n2\n"
    blocks = [list(text_files.blocks(io.BytesIO(text), start, start + 500_000, 1000, 1000)) for start in (0, 500_000)]
    assert blocks == [[(0, text[:-2])], []]


@pytest.mark.parametrize(
    ("slots", "chunk", "read", "count"),
    [
        *((1, 5000, 10, 1), (2, 5000, 10, 2), (2, 300, 10, 4), (4, 300, 10, 4), (50, 300, 10, 50), (50, 300, 300, 4)),
        *((3, 5000, 10, 3), (7, 5000, 10, 7)),
    ],
)
def test_partitions_are_few_and_even_and_keep_the_slots_busy(slots, chunk, read, count):
    files = [text_files.Span(str(i), str(i), 0, size) for i, size in enumerate([250, 1, 30, 700, 19])]
    size = reader._part_bytes(1000, slots, chunk, read)
    assert size == math.ceil(1000 / count)
    parts = [text_files.spans(files, i * size, (i + 1) * size) for i in range(count)]
    sizes = [sum(r.stop - r.start for r in part) for part in parts]
    assert sizes == [size] * (count - 1) + [1000 - size * (count - 1)]
    joined = [(r.name, at) for part in parts for r in part for at in range(r.start, r.stop)]
    assert joined == [(file.name, at) for file in files for at in range(file.stop)]
    assert text_files.spans(files, 1000, 1000 + size) == []


def parsed(parse, tokens, columns=1, sep=" "):
    layout = text_lines.Layout(columns, sep, None, 1.0)
    lines = [sep.join(tokens[i : i + columns]) for i in range(0, len(tokens), columns)]
    return parse("".join(line + "\n" for line in lines).encode(), layout)


def test_numbers_are_rightly_rounded():
    rng = np.random.default_rng(3)
    values = np.concatenate(
        [
            rng.normal(size=3000) * 10.0 ** rng.integers(-50, 50, 3000),
            rng.random(3000),
            rng.integers(0, 1 << 24, 3000),
            np.nextafter(rng.random(3000, np.float32), 2, dtype=np.float32).astype(float) + 2.0**-26,
            [0.0, -0.0, np.inf, -np.inf, 1e-320, 1e300, 3.4028235e38, 3.4028236e38, 1.4e-45, 7e-46],
        ]
    )
    for form in ("%.18e", "%r", "%.6g", "%.30f"):
        tokens = [form % value for value in values.tolist()]
        ours = parsed(text_lines.parse, tokens).values.ravel()
        with np.errstate(over="ignore"):
            twice = np.array([float(token) for token in tokens]).astype(np.float32)
        # Rounded once, where Python's float and numpy round twice: they differ where the first rounding hits
        # the middle between two float32 numbers.
        assert (np.signbit(ours) == np.signbit(twice)).all()
        for at in np.flatnonzero(ours != twice):
            middle = (float(ours[at]) + float(twice[at])) / 2
            assert float(tokens[at]) == middle


def test_fixed_width_numbers_are_those_of_arrow():
    rng = np.random.default_rng(4)
    values = np.concatenate(
        [np.arange(70_000), rng.integers(0, 10_000_000, 20_000), rng.integers(0, 10_000_000, 10_000) / 1000]
    )
    tokens = [f"{value:.18e}" for value in values if not 0 < value < 1]
    tokens = [token for token in tokens if token[8:20] == "0" * 12]
    tokens = tokens[: len(tokens) // 10 * 10]
    assert len(tokens) > 70_000
    fast = parsed(text_lines.parse_fixed_width, tokens, 10)
    general = parsed(lambda block, layout: text_lines.parse_any(block, layout, False), tokens, 10)
    assert np.array_equal(fast.values, general.values) and np.array_equal(fast.starts, general.starts)
    assert np.array_equal(fast.values.ravel(), np.array(tokens, float).astype(np.float32))


def test_fixed_width_leaves_everything_else_to_arrow():
    one, *others = (f"{value:.18e}" for value in (1, 0.5, 1e7, 12345678, 1.00000001))
    for other in (*others, one.replace(".", ",")):
        block = [one, other, one, one, one, one]
        assert parsed(text_lines.parse_fixed_width, block, 3) is None
    for at in range(len(one)):  # any character in another's place
        for wrong in "x e+-":
            broken = one[:at] + wrong + one[at + 1 :]
            if broken != one:
                assert parsed(text_lines.parse_fixed_width, [one, broken, one], 3) is None
    assert parsed(text_lines.parse_fixed_width, [one, one, one], 3).values.tolist() == [[1, 1, 1]]
    assert parsed(text_lines.parse_fixed_width, [one, one, one], 3, "\t").values.tolist() == [[1, 1, 1]]


# ------------------------------------------------------------------------------------- reading


def read_here(path, label="last", sep=" ", scale=1.0):
    """What `read_text_matrix` reads, by the same functions in this process: (ids, features, labels)."""
    matrix, count = reader._plan(path, label, sep, scale, 2, reader._LOCAL_CHUNK_BYTES)
    table = pa.Table.from_batches(text_files.read_parts([pa.record_batch({"part": range(count)})], matrix))
    assert table.column_names == reader._schema(label).names
    features = np.array(table["features"].to_pylist(), np.float32)
    return table["id"].to_numpy(), features, None if label is None else table["label"].to_numpy()


def test_what_was_written_is_read(spark, tmp_path, some):
    x, y = some
    write_text_matrix(tmp_path / "m", x, y)
    frame = read_text_matrix(spark, tmp_path / "m")
    assert frame.dtypes == [("id", "bigint"), ("features", "array<float>"), ("label", "int")]
    assert frame.rdd.getNumPartitions() == 2  # of 3 MB, one a slot
    once, again = as_set(frame), as_set(read_text_matrix(spark, str(tmp_path / "m")))
    assert once == again and len(once) == 300
    ids, features, labels = read_here(tmp_path / "m")
    assert np.array_equal(features, x.reshape(300, -1)) and np.array_equal(labels, y)
    assert np.array_equal(np.diff(ids), np.full(299, 785 * 25))
    assert once == set(zip(ids.tolist(), map(tuple, features.tolist()), labels.tolist(), strict=True))


def test_reading_starts_no_job(spark, tmp_path):
    write(tmp_path, "a.txt", "1 2\n")
    spark.sparkContext.setJobGroup("reading", "no job is in this group")
    read_text_matrix(spark, tmp_path)
    assert len(spark.sparkContext.statusTracker().getJobIdsForGroup("reading")) == 0
    spark.sparkContext.setLocalProperty("spark.jobGroup.id", None)


SEPARATED = [(" ", None), (",", "last"), ("\t", "first"), (";", None), (", ", "first"), (" | ", "last")]


@pytest.mark.parametrize(("sep", "label"), SEPARATED)
def test_labels_and_separators(tmp_path, sep, label):
    rows = np.array([[1, -2, 3.25, 7], [2, 255, 0, 4]])
    write(tmp_path, "a.csv", "".join(sep.join(map(str, row)) + "\n" for row in rows.tolist()))
    _, features, labels = read_here(tmp_path, label, sep)
    features_at = {None: slice(None), "first": slice(1, None), "last": slice(-1)}[label]
    assert np.array_equal(features, rows[:, features_at])
    assert labels is None or np.array_equal(labels, rows[:, 0 if label == "first" else -1])


def test_arguments_reach_the_workers(spark, tmp_path):
    write(tmp_path, "a.csv", "5\t10\t20\n6\t30\t40\n")
    frame = read_text_matrix(spark, tmp_path, "first", "\t", 0.5)
    assert sorted(map(tuple, frame.select("label", "features").collect())) == [(5, [5, 10]), (6, [15, 20])]
    frame = read_text_matrix(spark, tmp_path, None, sep="\t")
    assert frame.dtypes == [("id", "bigint"), ("features", "array<float>")]
    assert sorted(row.features for row in frame.collect()) == [[5, 10, 20], [6, 30, 40]]


def test_scale(tmp_path, some):
    x, y = some
    write_text_matrix(tmp_path / "m", x[:20], y[:20])
    _, features, labels = read_here(tmp_path / "m", scale=1 / 255)
    expected = x[:20].reshape(20, -1).astype(np.float32) * np.float32(1 / 255)
    assert features.max() == 1 and np.array_equal(features, expected) and np.array_equal(labels, y[:20])


def test_ids_do_not_depend_on_cuts_place_or_way_in(spark, tmp_path, some, monkeypatch, small_pieces):
    x, y = some
    write_text_matrix(tmp_path / "m", x[:40, 10:13, 10:15], y[:40], copies=3)
    write(tmp_path, "m/deeper/more.txt", "1.5 " * 15 + "3\n")
    pieces = read_text_matrix(spark, tmp_path / "m")
    assert pieces.rdd.getNumPartitions() > 40
    first = as_set(pieces)
    assert len(first) == 3 * 40 + 1 and len({row[0] for row in first}) == len(first)

    def here(path):
        ids, features, labels = read_here(path)
        return set(zip(ids.tolist(), map(tuple, features.tolist()), labels.tolist(), strict=True))

    assert here(tmp_path / "m") == first
    monkeypatch.undo()
    assert here(tmp_path / "m") == first
    shutil.copytree(tmp_path / "m", tmp_path / "other place é%20")
    assert here(f"{tmp_path}/other place é%20/") == first
    assert here((tmp_path / "other place é%20").as_uri()) == first
    assert here(f"file:{tmp_path}/m") == here(f"file://localhost{tmp_path}/m") == first
    monkeypatch.chdir(tmp_path)
    assert here("m") == first
    assert here("m/part-00001.txt") < first


def test_blank_lines_line_ends_and_loose_numbers(tmp_path):
    write(tmp_path, "a.txt", "\n\n1 2 3\n   \n4 5 6\n\n")
    write(tmp_path, "b.txt", "7 8 9\r\n\r\n10 11 12\r\n13 14 15")
    write(tmp_path, "c.txt", "nan inf 16\n+1.5 1E2 17\n-.5 5. 1.8e1")
    write(tmp_path, "d.txt", "\n \n")
    write(tmp_path, "_SUCCESS", "no")
    write(tmp_path, ".a.txt.crc", "no")
    write(tmp_path, "_temporary/x.txt", "no")
    write(tmp_path, "empty.txt", "")
    ids, features, labels = read_here(tmp_path)
    assert labels.tolist() == [3, 6, 9, 12, 15, 16, 17, 18] and len(set(ids.tolist())) == 8
    assert features.tolist()[:5] == [[1, 2], [4, 5], [7, 8], [10, 11], [13, 14]]
    assert np.isnan(features[5, 0]) and features[5, 1] == np.inf
    assert features[6:].tolist() == [[1.5, 100], [-0.5, 5]]
    # Offsets count every byte, also those of blank lines and carriage returns.
    assert (ids[1] - ids[0], ids[3] - ids[2], ids[4] - ids[3]) == (10, 9, 10)
    write(tmp_path, "e/a.csv", "1, 2 ,3\n 4,5,\t6 \n")
    assert read_here(tmp_path / "e", sep=",")[1].tolist() == [[1, 2], [4, 5]]
    write(tmp_path, "_named.txt", "1 2\n")
    assert read_here(tmp_path / "_named.txt")[2].tolist() == [2]


MALFORMED = {
    "1 2 3": "3 columns where 4 were expected",
    "1 2 3 4 5": "5 columns where 4 were expected",
    "1,2,3,4": "1 columns where 4 were expected",
    "1 two 3 4": "'two' in column 2 is not a number",
    "1  3 4": "'' in column 2 is not a number",
    "1 2 0x3 4": "'0x3' in column 3 is not a number",
    "1 2 \x00 4": "'\\x00' in column 3 is not a number",
    "1 2 3 4.5": "the label '4.5' is not a whole number",
    "1 2 3 1.00000000001": "the label '1.00000000001' is not a whole number",
    "1 2 3 nan": "the label 'nan' is not a whole number",
    "1 2 3 3000000000": "the label '3000000000' is not a whole number",
}


def with_malformed(folder, line):
    good = "\n".join(f"{i} 2 3 4" for i in range(200)) + "\n"
    write(folder, "a.txt", good)
    write(folder, "sub/b.txt", "\n" + good + line + "\n" + good)
    return f"sub/b.txt, line 202: {MALFORMED[line]}"


@pytest.mark.parametrize("line", MALFORMED)
def test_a_malformed_line_is_named(tmp_path, line, small_pieces, monkeypatch):
    expected = with_malformed(tmp_path, line)
    with pytest.raises(ValueError, match=re.escape(expected) + ".*; correct or remove the line"):
        read_here(tmp_path)
    monkeypatch.undo()  # one piece
    with pytest.raises(ValueError, match=re.escape(expected)):
        read_here(tmp_path)


def test_a_malformed_line_is_named_by_spark(spark, tmp_path, small_pieces):
    expected = with_malformed(tmp_path, "1 2 3 4.5")
    frame = read_text_matrix(spark, tmp_path)
    with pytest.raises(PySparkException, match=re.escape(f"ValueError: {expected}")):
        frame.collect()


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,b,label\n1,2,3\n", {"sep": ","}, r"a\.txt, first row: 'a' in column 1 is not a number"),
        ("1,2,3\n", {}, "one column, so no feature beside the label, with ' ' between columns"),
        ("1,2,3\n", {"label": None}, "'1,2,3' in column 1 is not a number"),
        ("0.5 1 2\n", {"label": "first"}, "the label '0.5' is not a whole number"),
        ("1 2\n", {"label": "middle"}, "label must be 'last', 'first' or None, not 'middle'"),
        ("1 2\n", {"sep": ""}, "sep must be text"),
        ("1 2\n", {"sep": "\n"}, "sep must be text"),
        ("1 2\n", {"sep": "1"}, "sep must be text"),
        ("1 2\n", {"sep": "e"}, "sep must be text"),
        ("1 2\n", {"sep": None}, "sep must be text"),
        ("1 2\n", {"scale": 0}, "scale must be a number other than 0"),
        ("1 2\n", {"scale": float("nan")}, "scale must be a number other than 0"),
        ("1 2\n", {"scale": float("inf")}, "within float32's range"),
        ("1 2\n", {"scale": 1e-60}, "within float32's range"),
        ("1 2\n", {"scale": "2"}, "scale must be a number"),
        ("", {}, "No row is in"),
        ("\n \r\n\n", {}, "No row is in"),
    ],
)
def test_reading_refuses_before_any_job(spark, tmp_path, text, options, message):
    write(tmp_path, "a.txt", text)
    with pytest.raises(ValueError, match=message):
        read_text_matrix(spark, tmp_path, **options)


def test_reading_refuses_places(spark, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="No row is in"):
        read_text_matrix(spark, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"Nothing is at .*nowhere; give the path"):
        read_text_matrix(spark, tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"cannot open wasb://a/b .*copy the files .* or read them with spark"):
        read_text_matrix(spark, "wasb://a/b")
    write(tmp_path, "a.txt.gz", "1 2\n")
    with pytest.raises(ValueError, match=r"a\.txt\.gz in .* is compressed; unpack it first"):
        read_text_matrix(spark, tmp_path)
    monkeypatch.setattr(text_files, "_LONGEST_LINE", 1000)
    write(tmp_path, "b/a.txt", "1" * 1_000_000)
    with pytest.raises(ValueError, match="longer than 1 GiB"):
        read_text_matrix(spark, tmp_path / "b")


def test_a_folder_that_changes_after_the_call(spark, tmp_path):
    write(tmp_path, "a.txt", "1 2\n" * 10)
    write(tmp_path, "b.txt", "1 2\n" * 10)
    frame = read_text_matrix(spark, tmp_path)
    write(tmp_path, "c.txt", "3 4\n")
    assert frame.count() == 20
    write(tmp_path, "a.txt", "1 2\n" * 20)
    assert frame.count() == 20
    write(tmp_path, "a.txt", "1 2\n" * 5)
    assert frame.count() == 15
    os.remove(tmp_path / "b.txt")
    with pytest.raises(PySparkException, match=r"b\.txt is not on .*; put the files where all executors see"):
        frame.count()


@pytest.mark.parametrize(("threshold", "broadcast"), [("200k", False), ("2m", True)])
def test_spark_knows_about_how_large_the_text_is(spark, tmp_path, some, capsys, threshold, broadcast):
    write_text_matrix(tmp_path / "m", *some)  # 5.9 MB, that is 0.9 MB of floats
    frame = read_text_matrix(spark, tmp_path / "m")
    spark.conf.set("spark.sql.autoBroadcastJoinThreshold", threshold)
    try:
        frame.join(frame.select("id"), "id").explain()
    finally:
        spark.conf.unset("spark.sql.autoBroadcastJoinThreshold")
    assert ("BroadcastHashJoin" in capsys.readouterr().out) == broadcast


def test_spark_takes_no_part_for_one_row(spark, tmp_path):
    write(tmp_path, "a.txt", "".join(f"{i} {i % 3}\n" for i in range(20)))
    frame = read_text_matrix(spark, tmp_path)
    assert frame.rdd.getNumPartitions() == 1
    assert frame.limit(7).count() == 7 and frame.select("label").distinct().count() == 3
    assert [row.label for row in frame.orderBy("features").take(4)] == [0, 1, 2, 0]
    assert frame.coalesce(1).count() == frame.where("label < 9").count() == 20
