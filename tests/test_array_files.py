"""IDX files and .npz files of any origin are read; damage and hostile headers are refused by name and take no memory."""

import gzip
import io
import re
import struct
import tracemalloc
import zipfile
from contextlib import contextmanager

import numpy as np
import pytest

from spark_cnn_ensemble.datasets import load_mnist

RNG = np.random.default_rng(8)
PARTS = {
    "x_train": RNG.integers(0, 256, (30, 4, 5), np.uint8),
    "y_train": RNG.integers(0, 10, 30).astype(np.uint8),
    "x_test": RNG.integers(0, 256, (7, 4, 5), np.uint8),
    "y_test": RNG.integers(0, 10, 7).astype(np.uint8),
}
CODES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}
MNIST = dict(
    x_train="train-images-idx3-ubyte",
    y_train="train-labels-idx1-ubyte",
    x_test="t10k-images-idx3-ubyte",
    y_test="t10k-labels-idx1-ubyte",
)


def idx(array, shape=None):
    """An IDX file's bytes; `shape` is what its header says."""
    shape = array.shape if shape is None else shape
    header = bytes([0, 0, CODES[array.dtype.name], len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_idx(folder, names=MNIST, end=".gz", **other):
    """Four IDX files; `other` has the bytes of those that differ."""
    folder.mkdir(exist_ok=True)
    for part, name in names.items():
        data = other.get(part, idx(PARTS[part]))
        (folder / (name + end)).write_bytes(gzip.compress(data) if end else data)
    return folder


def same(loaded, parts=PARTS):
    (x_train, y_train), (x_test, y_test) = loaded
    arrays = dict(x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return all(np.array_equal(arrays[name], parts[name]) and arrays[name].flags.writeable for name in parts)


@contextmanager
def using_little_memory():
    """Fail if the block allocates more than 4 MiB."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


# IDX


@pytest.mark.parametrize("end", [".gz", ""], ids=["gzipped", "unpacked"])
@pytest.mark.parametrize(
    "form",
    [
        "{part}-{kind}-idx{n}-ubyte",
        "{part}-{kind}.idx{n}-ubyte",
        "emnist-letters-{test}-{kind}-idx{n}-ubyte",
        "my_{test}_{kind}.idx{n}-ubyte",
    ],
)
def test_files_named_as_mnists_are_read(tmp_path, form, end):
    names = {
        f"{'x' if kind == 'images' else 'y'}_{test}": form.format(part=part, test=test, kind=kind, n=n)
        for part, test in (("train", "train"), ("t10k", "test"))
        for kind, n in (("images", 3), ("labels", 1))
    }
    assert same(load_mnist(write_idx(tmp_path, names, end)))


def test_a_gzipped_file_and_its_unpacked_copy_are_one(tmp_path):
    write_idx(tmp_path)
    assert same(load_mnist(str(write_idx(tmp_path, end=""))))


@pytest.mark.parametrize("dtype", CODES)
def test_each_type_of_idx_is_read(tmp_path, dtype):
    parts = {name: (array.astype(dtype) if name[0] == "x" else array) for name, array in PARTS.items()}
    loaded = load_mnist(write_idx(tmp_path, x_train=idx(parts["x_train"]), x_test=idx(parts["x_test"])))
    assert same(loaded, parts) and loaded[0][0].dtype == dtype


def test_sums_of_a_folder_are_checked(tmp_path):
    write_idx(tmp_path)
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  {MNIST['y_test']}\n")
    with pytest.raises(ValueError, match=r"t10k-labels-idx1-ubyte\.gz is damaged, its SHA-256 is not that"):
        load_mnist(tmp_path)


X, Y = PARTS["x_train"], PARTS["y_train"]
GIGANTIC = (1 << 31, 1 << 10, 1 << 10)


@pytest.mark.parametrize("end", [".gz", ""], ids=["gzipped", "unpacked"])
@pytest.mark.parametrize(
    ("other", "message"),
    [
        pytest.param({"x_train": idx(X)[:-1]}, "is damaged|more than the file holds", id="cut"),
        pytest.param(
            {"x_train": idx(X) + b"\0"}, "is damaged, it has more bytes where its header says 600", id="longer"
        ),
        pytest.param({"x_train": idx(X, GIGANTIC)}, r"is damaged|more than the file holds", id="gigantic"),
        pytest.param({"x_train": idx(X, (2**32 - 1,) * 4)}, "more than the file holds", id="overflow"),
        pytest.param({"x_train": idx(X[:0])}, "is empty or more than the file holds", id="no rows"),
        pytest.param({"x_train": b"\0\0\x08\x03\0"}, "is not an IDX file", id="cut header"),
        pytest.param({"x_train": b""}, "is not an IDX file", id="empty"),
        pytest.param({"x_train": b"\x89PNG" + idx(X)}, "is not an IDX file", id="another format"),
        pytest.param({"x_train": b"\0\0\x0a\x03" + idx(X)[4:]}, "is not an IDX file", id="unknown type"),
        pytest.param({"x_train": b"\0\0\x08\xff" + bytes(5000)}, "is not an IDX file", id="255 dimensions"),
        pytest.param(
            {"y_train": idx(Y[:-1])}, r"labels of shape \(29,\) where .*images of shape \(30", id="fewer labels"
        ),
        pytest.param({"y_train": idx(X)}, "put the files of one data set there", id="images for labels"),
        pytest.param({"x_test": idx(PARTS["x_test"][:, 1:])}, r"\(3, 5\) where .* has \(4, 5\)", id="other sizes"),
    ],
)
def test_damaged_and_hostile_files_are_refused_in_little_memory(tmp_path, other, message, end):
    write_idx(tmp_path, end=end, **other)
    with using_little_memory(), pytest.raises(ValueError, match=message) as caught:
        load_mnist(tmp_path)
    assert "-ubyte" in str(caught.value) and "\n" not in str(caught.value)


def test_two_data_sets_in_a_folder_are_refused(tmp_path):
    write_idx(tmp_path)
    write_idx(tmp_path, {part: f"other-{name}" for part, name in MNIST.items()})
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte.*put the four files of one data set into a folder"):
        load_mnist(tmp_path)


def test_a_folder_without_the_files_names_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte\.gz is missing; copy it there"):
        load_mnist(tmp_path)
    np.savez(tmp_path / "mnist.npz", **PARTS)
    with pytest.raises(FileNotFoundError, match=r"is missing; pass the path of mnist\.npz itself"):
        load_mnist(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"Nothing is at .*nowhere; pass a folder of four IDX files, or"):
        load_mnist(tmp_path / "nowhere")


# npz


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_as_keras_has_it_is_read(tmp_path, save):
    save(tmp_path / "mnist.npz", **PARTS)
    assert same(load_mnist(tmp_path / "mnist.npz")) and same(load_mnist(str(tmp_path / "mnist.npz")))


class Hostile:
    def __reduce__(self):
        return print, ("unpickled",)


def npz_with(x_train):
    """The bytes of an .npz whose x_train.npy has these bytes."""
    out = io.BytesIO()
    np.savez(out, **{name: array for name, array in PARTS.items() if name != "x_train"})
    with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x_train.npy", x_train)
    return out.getvalue()


def npy_header(shape, descr="|u1"):
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"shape": shape, "fortran_order": False, "descr": descr})
    return out.getvalue()


def npz_of(**other):
    out = io.BytesIO()
    np.savez(out, **(PARTS | other))
    return out.getvalue()


ENCRYPTED = bytearray(npz_of())
ENCRYPTED[6] |= 1
ENCRYPTED[ENCRYPTED.index(b"PK\x01\x02") + 8] |= 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(
            npz_of(x_train=np.array([Hostile()] * 30)), "x_train in .* objects are not unpickled", id="objects"
        ),
        pytest.param(npz_of(y_train=Y.astype(str)), r"y_train in .* holds <U3 of shape \(30,\), not rows", id="text"),
        pytest.param(npz_of(y_train=np.uint8(1)), "y_train in .* not rows of numbers", id="a number"),
        pytest.param(npz_of(y_train=Y[1:]), "30 rows in x_train where y_train has 29", id="fewer labels"),
        pytest.param(npz_with(npy_header(GIGANTIC)), "x_train in .* more than the file holds", id="gigantic"),
        pytest.param(
            npz_with(npy_header((30, 4, 5)) + b"\1" * 599), "x_train in .* is damaged .*; copy it again", id="cut array"
        ),
        pytest.param(npz_with(b"no array"), "x_train in .* is not an array of numpy's", id="no array"),
        pytest.param(
            npz_with(b"\x93NUMPY\1\0\x30\0" + b"(" * 48), "x_train in .* is not an array", id="a strange header"
        ),
        pytest.param(npz_of()[:-50], "is damaged", id="cut"),
        pytest.param(bytes(ENCRYPTED), "is damaged", id="encrypted"),
        pytest.param(b"no archive", "is damaged .*; copy it again", id="no archive"),
        pytest.param(b"", "is damaged .*; copy it again", id="empty"),
    ],
)
def test_damaged_and_hostile_npz_are_refused(tmp_path, capsys, data, message):
    (tmp_path / "a.npz").write_bytes(data)
    with using_little_memory(), pytest.raises(ValueError, match=message) as caught:
        load_mnist(tmp_path / "a.npz")
    assert "a.npz" in str(caught.value) and "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""


def test_an_npz_with_other_names_is_refused_and_the_remedy_works(tmp_path):
    np.savez(tmp_path / "a.npz", train_images=PARTS["x_train"], train_labels=PARTS["y_train"])
    message = "has no x_train, only train_images, train_labels; load it with numpy.load, and pass its arrays"
    with pytest.raises(ValueError, match=re.escape(message)):
        load_mnist(tmp_path / "a.npz")
    assert np.array_equal(np.load(tmp_path / "a.npz")["train_images"], PARTS["x_train"])


def test_a_file_that_is_not_npz_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", PARTS["x_train"])
    with pytest.raises(ValueError, match=r"a\.npy is damaged \(File is not a zip file\)"):
        load_mnist(tmp_path / "a.npy")
