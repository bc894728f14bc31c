"""A text matrix is written byte for byte as numpy.savetxt writes it."""

import os
import resource

import numpy as np
import pytest
from support.text_matrices import forbidden, write_file

from spark_cnn_ensemble.text.writer import write_text_matrix


def matrices():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 10, 200)
    gray = rng.integers(0, 256, (200, 6, 5), np.uint8)
    return {
        "uint8": (gray, labels.astype(np.uint8)),
        "uint8 and int64": (gray, labels),
        "bool": (gray > 128, labels.astype(np.uint8)),
        "uint16": (rng.integers(0, 1 << 16, (200, 6), np.uint16), labels),
        "above 65535": (rng.integers(0, 1 << 40, (200, 6)), labels),
        "whole floats": (gray.astype(np.float32), labels),
        "few fractions": (gray / 255, labels),
        "many fractions": (rng.random((200, 7)), labels),
        "float32": (rng.random((200, 7), np.float32), labels.astype(np.int32)),
        "negative": (gray.astype(int) - 100, labels),
        "negative zero": (np.where(gray > 128, -0.0, 1.0), labels),
        "nan and inf": (np.where(gray > 128, np.nan, np.inf), labels),
        "long exponents": (np.where(gray > 128, 1e-300, 1e200), labels),
        "whole numbers, then fractions": (np.concatenate([np.ones((100, 3)), rng.normal(size=(100, 3))]), labels),
    }


MATRICES = matrices()


@pytest.mark.parametrize("label", ["last", "first"])
@pytest.mark.parametrize("name", MATRICES)
def test_text_is_that_of_savetxt(tmp_path, name, label):
    x, y = MATRICES[name]
    flat = x.reshape(len(x), -1)
    np.savetxt(tmp_path / "numpy.txt", np.column_stack((flat, y) if label == "last" else (y, flat)))
    write_text_matrix(tmp_path / "ours", x, y, label=label)
    assert (tmp_path / "ours/part-00000.txt").read_bytes() == (tmp_path / "numpy.txt").read_bytes()


def test_each_copy_is_a_file_with_the_whole_matrix(tmp_path, some_mnist):
    x, y = some_mnist  # 5.9 MB of text, written in several steps
    write_text_matrix(str(tmp_path / "a/b"), x, y, copies=3)
    assert sorted(os.listdir(tmp_path / "a/b")) == [f"part-{i:05d}.txt" for i in range(3)]
    np.savetxt(tmp_path / "numpy.txt", np.column_stack((x.reshape(300, -1), y)))
    for name in os.listdir(tmp_path / "a/b"):
        assert (tmp_path / "a/b" / name).read_bytes() == (tmp_path / "numpy.txt").read_bytes()


X, Y = np.arange(12).reshape(3, 4), np.arange(3)


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        *((X, Y, {"copies": copies}, "copies must be a whole number >= 1") for copies in (0, -1, 1.5, True)),
        (X, Y, {"label": None}, "label must be 'last' or 'first', not None"),
        (X, Y[1:], {}, "one label for each row"),
    ],
    ids=["no copies", "negative copies", "half copies", "boolean copies", "no label", "fewer labels than rows"],
)
def test_arguments_that_cannot_be_written_are_refused(tmp_path, x, y, options, message):
    with pytest.raises(ValueError, match=message):
        write_text_matrix(tmp_path / "new", x, y, **options)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("path", ["full", "full/kept.txt"], ids=["a full folder", "a file"])
def test_a_place_that_is_not_an_empty_folder_is_refused_and_left_alone(tmp_path, path):
    write_file(tmp_path, "full/kept.txt", "1 2\n")
    with pytest.raises(ValueError, match="is not an empty folder"):
        write_text_matrix(tmp_path / path, X, Y)
    assert (tmp_path / "full/kept.txt").read_text() == "1 2\n"


def test_a_uri_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="is not a local folder"):
        write_text_matrix("hdfs://host/new", X, Y)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("below", ["a.txt/new", "forbidden/new", "n" * 300], ids=["a file", "forbidden", "a long name"])
def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path, below):
    (tmp_path / "forbidden").mkdir()
    write_file(tmp_path, "a.txt", "1 2\n")
    with (
        forbidden(tmp_path / "forbidden"),
        pytest.raises(OSError, match=r"cannot be written \(.*\); name a folder") as caught,
    ):
        write_text_matrix(tmp_path / below, X, Y)
    assert str(tmp_path / below) in str(caught.value) and "Errno" not in str(caught.value)


def test_more_text_than_the_disk_can_hold_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"The text takes .* GB free; lower copies"):
        write_text_matrix(tmp_path / "new", X, Y, copies=10**12)


def test_a_failed_write_leaves_no_file(tmp_path, some_mnist):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))  # Python ignores the signal, so that writing raises
    try:
        with pytest.raises(OSError, match="File too large"):
            write_text_matrix(tmp_path / "new", *some_mnist)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path / "new") == []
