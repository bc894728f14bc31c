"""Packed weights that are not plain arrays, or are arrays of another network, are refused and run nothing."""

import io
import json
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from support.members import weights_of
from support.memory import memory_grows_less_than
from support.refusals import refused, refused_by_job
from support.saved_models import load_damaged, member_rows, metadata_file, replace_weights

from spark_cnn_ensemble import CNNEnsembleClassificationModel
from spark_cnn_ensemble.worker.refusal import Refusal
from spark_cnn_ensemble.worker.weights import pack_weights, unpack_weights


def load(path):
    return CNNEnsembleClassificationModel.load(str(path))


def test_weights_that_are_replaced_by_themselves_load(copy, saved):
    replace_weights(copy, b"".join(row["bytes"] for row in member_rows(copy) if row["member"] == 0))
    one, other = load(copy), load(saved)
    assert weights_of(one) == weights_of(other)
    assert json.loads(metadata_file(copy).read_text()) == json.loads(metadata_file(saved).read_text())
    assert one.summary == other.summary
    assert one.summary.outOfBag.rows


# ---- archives


def npy(header, data=b"", version=(1, 0)):
    """A .npy file with any header."""
    text = header.encode() + b"\n"
    length = struct.pack("<H" if version[0] == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text + data


def header_of(shape, dtype="<f4"):
    return repr({"descr": dtype, "fortran_order": False, "shape": shape})


def archive(*entries, compression=zipfile.ZIP_STORED):
    """An npz of (name, bytes)."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as packed:
        for name, data in entries:
            packed.writestr(name, data)
    return file.getvalue()


def one_array(header, data=b"", **options):
    """An npz of one .npy file."""
    return archive(("0000.npy", npy(header, data, **options)))


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def overlapping(count=1000, size=1 << 20):
    """An archive in which each array contains all later ones: a megabyte that claims to be a gigabyte."""
    rest, entries = bytes(size), []
    for index in reversed(range(count)):
        data = npy(header_of((len(rest),), "|u1"), rest)
        name = b"%04d.npy" % index
        fields = struct.pack("<5H3L2H", 20, 0, 0, 0, 33, zlib.crc32(data), len(data), len(data), len(name), 0)
        rest = b"PK\3\4" + fields + name + data
        entries.append((fields, name, len(rest)))
    directory = b"".join(
        b"PK\1\2" + struct.pack("<H", 20) + fields + struct.pack("<3H2L", 0, 0, 0, 0, len(rest) - length) + name
        for fields, name, length in reversed(entries)
    )
    return rest + directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(directory), len(rest), 0)


FOUR = npy(header_of((4,)), bytes(16))
ARCHIVES = {
    "10 TB in the header": lambda: one_array(header_of((10**13 // 4,)), bytes(64)),
    "a negative shape": lambda: one_array(header_of((-1, -4)), bytes(16)),
    "a shape beyond 64 bits": lambda: one_array(header_of((2**32, 2**32, 2**32)), bytes(16)),
    "a shape beyond 64 bits without numbers": lambda: one_array(header_of((0, 10**30))),
    "a shape of floats": lambda: one_array(header_of((4.0,)), bytes(16)),
    "half a number": lambda: one_array(header_of((4,)), bytes(18)),
    "version 2": lambda: one_array(header_of((4,)), bytes(16), version=(2, 0)),
    "version 3": lambda: one_array(header_of((4,)), bytes(16), version=(3, 0)),
    "objects": lambda: one_array(header_of((1,), "|O"), pickle.dumps([1])),
    "text": lambda: one_array(header_of((4,), "<U1"), bytes(16)),
    "records": lambda: one_array(header_of((4,), [("a", "<f4")]), bytes(16)),
    "dates": lambda: one_array(header_of((2,), "<M8[s]"), bytes(16)),
    "a dtype of 0 bytes": lambda: one_array(header_of((10**12,), "|V0")),
    "header is not a dict": lambda: one_array("[1, 2]"),
    "header has keys of two types": lambda: one_array("{1: 2, 'shape': (1,)}"),
    "header is deeply nested": lambda: one_array("-" * 9000 + "1"),
    "header is brackets": lambda: one_array("(" * 9000),
    "header ends in a string": lambda: one_array("{'descr': '''"),
    "header is code": lambda: one_array("__import__('os').system('true')"),
    "header is long": lambda: one_array(header_of((4,)) + " " * 60000, bytes(16)),
    "a bomb of zeros": lambda: archive(
        ("0000.npy", npy(header_of((1 << 26,)), bytes(1 << 28))), compression=zipfile.ZIP_DEFLATED
    ),
    "overlapping arrays": overlapping,
    "two arrays of one name": lambda: archive(("0000.npy", FOUR), ("0000.npy", FOUR)),
    "a missing array": lambda: archive(("0000.npy", FOUR), ("0002.npy", FOUR)),
    "a name that is a path": lambda: archive(("../../0000.npy", FOUR)),
    "not an array": lambda: archive(("0000.npy", b"Dear diary")),
    "a directory": lambda: archive(("0000.npy/", b"")),
    "empty": lambda: b"",
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("case", ARCHIVES)
def test_an_archive_that_is_not_plain_arrays_is_refused_and_takes_little_memory(case):
    data = ARCHIVES[case]()
    with memory_grows_less_than(100 << 20):
        text = refused(unpack_weights, data, kind=Refusal)
    assert text.startswith("A member's weights are damaged ("), text
    assert len(text) < 400


@pytest.mark.parametrize("case", ["10 TB in the header", "objects", "a bomb of zeros", "a missing array"])
def test_load_refuses_an_archive_that_is_not_plain_arrays(copy, case):
    replace_weights(copy, ARCHIVES[case]())
    assert "the weights of member 0 cannot be read (A member's weights are damaged" in load_damaged(copy)


def test_a_pickle_in_the_weights_is_never_opened(copy, tmp_path):
    file, created = io.BytesIO(), tmp_path / "created"
    np.savez(file, **{"0000": np.array([Trap(str(created))], object)})
    replace_weights(copy, file.getvalue())
    assert "claims to be object" in load_damaged(copy)
    assert refused(unpack_weights, file.getvalue(), kind=Refusal).startswith("A member's weights are damaged (")
    assert not created.exists()
    pickle.loads(pickle.dumps(Trap(str(created))))
    assert created.exists(), "the trap works"


# ---- arrays of another network

OF_ANOTHER_NETWORK = {
    "one more number": lambda arrays: [np.append(arrays[0], np.float32(1)), *arrays[1:]],
    "one more array": lambda arrays: [*arrays, np.zeros(0, np.float32)],
    "one array fewer": lambda arrays: arrays[:-1],
    "other shapes": lambda arrays: [array.ravel() for array in arrays],
    "another order": lambda arrays: arrays[::-1],
    "float64": lambda arrays: [array.astype(np.float64) for array in arrays],
    "integers": lambda arrays: [array.astype(np.int32) for array in arrays],
    "no arrays": lambda arrays: [],
}
DO_NOT_FIT = "The weights of member 0 do not fit its network; save the model again."


def with_weights_of_another_network(folder, case):
    """The model after its member 0 gets such weights."""
    arrays = unpack_weights(weights_of(load(folder))[0])
    replace_weights(folder, pack_weights(OF_ANOTHER_NETWORK[case](arrays)))
    return load(folder)


@pytest.mark.parametrize("case", OF_ANOTHER_NETWORK)
def test_predict_refuses_weights_that_do_not_fit_the_network(copy, case):
    model = with_weights_of_another_network(copy, case)
    assert refused(model.predict, np.zeros(4)) == DO_NOT_FIT


def test_transform_refuses_weights_that_do_not_fit_the_network(spark, copy):
    model = with_weights_of_another_network(copy, "other shapes")
    frame = spark.createDataFrame([([0.0] * 4,)], "features array<float>")
    assert refused_by_job(model.transform(frame)) == DO_NOT_FIT
