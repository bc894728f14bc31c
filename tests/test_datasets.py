"""MNIST and the digits as arrays, and arrays as DataFrames."""

import gzip
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from support.processes import output_of, start_python
from support.text_matrices import by_columns

from spark_cnn_ensemble import datasets
from spark_cnn_ensemble.datasets import load_digits, load_mnist, to_dataframe

MNIST = Path(datasets.__file__).parent.parent / "data" / "mnist"


def test_import_loads_neither_tensorflow_nor_sklearn():
    code = "import spark_cnn_ensemble.datasets, sys; print([m for m in ('tensorflow', 'sklearn') if m in sys.modules])"
    assert output_of(start_python(code, path="")) == ["[]"]


def test_mnist(mnist):
    (x_train, y_train), (x_test, y_test) = mnist
    assert x_train.shape == (60000, 28, 28) and y_train.shape == (60000,)
    assert x_test.shape == (10000, 28, 28) and y_test.shape == (10000,)
    assert {a.dtype for a in (x_train, y_train, x_test, y_test)} == {np.dtype(np.uint8)}
    assert all(a.flags.writeable for a in (x_train, y_train, x_test, y_test))
    # The published counts of the ten digits.
    assert np.bincount(y_train).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert x_train.max() == 255 and round(x_train.mean() / 255, 4) == 0.1307


LABELS = "train-labels-idx1-ubyte.gz"


@pytest.fixture
def mnist_folder(tmp_path):
    """A copy of MNIST's files."""
    return shutil.copytree(MNIST, tmp_path / "mnist")


def with_a_flipped_bit(data):
    flipped = bytearray(data)
    flipped[len(flipped) // 2] ^= 1
    return bytes(flipped)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(with_a_flipped_bit, id="a flipped bit"),
        pytest.param(lambda data: data[:1000], id="cut"),
        pytest.param(lambda data: b"not gzip", id="not gzip"),
        pytest.param(lambda data: gzip.compress(gzip.decompress(data) + b"\0"), id="one byte more"),
    ],
)
def test_a_damaged_file_of_mnist_is_named(mnist_folder, damage):
    file = mnist_folder / LABELS
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match=r"train-labels-idx1-ubyte\.gz is damaged.*copy it again"):
        load_mnist(mnist_folder)


def test_a_missing_file_of_mnist_is_named(mnist_folder):
    (mnist_folder / LABELS).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{LABELS} is missing"):
        load_mnist(str(mnist_folder))


@pytest.mark.parametrize(
    "sums",
    [pytest.param(None, id="no sums"), pytest.param("", id="empty sums"), pytest.param("no\nsums", id="damaged")],
)
def test_the_bundled_files_are_not_read_without_their_sums(mnist_folder, monkeypatch, sums):
    (mnist_folder / "SHA256SUMS").unlink()
    if sums is not None:
        (mnist_folder / "SHA256SUMS").write_text(sums)
    monkeypatch.setattr(datasets, "_bundled_mnist", lambda: mnist_folder)
    with pytest.raises((FileNotFoundError, ValueError), match="SHA256SUMS"):
        load_mnist()


def test_digits_split_is_stratified_and_the_same_each_time(digits):
    (x_train, y_train), (x_test, y_test) = digits
    assert x_train.shape == (1437, 8, 8) and x_test.shape == (360, 8, 8)
    assert {a.dtype for a in (x_train, y_train, x_test, y_test)} == {np.dtype(np.uint8)}
    assert x_train.max() == 16
    assert np.bincount(y_test).min() >= 34 and np.bincount(y_train).min() >= 138
    again = load_digits()
    assert np.array_equal(again[0][0], x_train) and np.array_equal(again[1][1], y_test)


def test_digits_without_sklearn_name_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'spark-cnn-ensemble\[digits\]'"):
        load_digits()


# Arrays as DataFrames


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


def test_to_dataframe_of_images_and_labels(spark, mnist):
    x, y = mnist[0][0][:300], mnist[0][1][:300]
    frame = to_dataframe(spark, x, y)
    assert frame.dtypes == [("id", "bigint"), ("features", "array<smallint>"), ("label", "int")]
    ids, features, labels = by_columns(frame.orderBy("id"))
    assert np.array_equal(ids, np.arange(300))
    assert np.array_equal(features, x.reshape(300, 784)) and np.array_equal(labels, y)
    assert frame.rdd.getNumPartitions() == 2


def test_to_dataframe_of_strided_images(spark, mnist):
    x, y = mnist[0][0][:300:3, ::2, ::-1], mnist[0][1][:300:3]
    strided = to_dataframe(spark, x, y.astype(float)).orderBy("id")
    assert np.array_equal(by_columns(strided)[1], x.reshape(100, -1))


def test_to_dataframe_spreads_over_partitions(spark, mnist):
    x, y = mnist[0]
    assert to_dataframe(spark, x, y).rdd.getNumPartitions() == 15  # of 4,096 rows
    assert to_dataframe(spark, x[:100]).rdd.getNumPartitions() == spark.sparkContext.defaultParallelism
    assert to_dataframe(spark, np.zeros((5, 2_000_000))).rdd.getNumPartitions() == 5  # of 16 MB


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        pytest.param(np.zeros((3, 2)), [0, 1], r"y has shape \(2,\) where x has 3 rows", id="fewer labels than rows"),
        pytest.param(
            np.zeros((3, 2)), np.eye(3), r"y has shape \(3, 3\) .* pass numpy\.argmax\(y, axis=1\)", id="one-hot"
        ),
        pytest.param(
            np.zeros((3, 2)), [[[0]], [[1]], [[2]]], r"y has shape \(3, 1, 1\)", id="labels of three dimensions"
        ),
        pytest.param(np.zeros((2, 2)), [0, 0.5], "whole numbers", id="half a label"),
        pytest.param(np.zeros((2, 2)), [0, np.nan], "whole numbers", id="NaN as a label"),
        pytest.param(
            np.zeros((2, 2)),
            ["a", "b"],
            r"y holds text .* classes, y = numpy\.unique\(y, return_inverse=True\)",
            id="text",
        ),
        pytest.param(np.zeros((2, 2)), [0, 1 << 31], "32 bits", id="a label of 33 bits"),
        pytest.param(np.zeros(3), [0, 1, 2], "x has shape", id="one dimension"),
        pytest.param(np.zeros((0, 3)), [], "at least one row", id="no rows"),
        pytest.param(np.zeros((2, 2), complex), [0, 1], "x holds complex128", id="complex numbers"),
        pytest.param(np.zeros((2, 2), np.uint64), [0, 1], "x holds uint64", id="unsigned numbers of 64 bits"),
    ],
)
def test_to_dataframe_refuses(spark, x, y, message):
    with pytest.raises(ValueError, match=message):
        to_dataframe(spark, x, y)
