"""A saved model, or an image, is data from outside: what is hostile in it is refused, runs nothing, takes nothing."""

import io
import json
import os
import pickle
import resource
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pyspark.ml import Pipeline
from pyspark.sql import functions as F
from support.classifiers import small
from support.networks import network_json
from support.refusals import refused, refused_by_job
from support.saved_models import edit_json, load_refused, only

from spark_cnn_ensemble import CNNEnsembleClassificationModel, CNNEnsembleClassifier
from spark_cnn_ensemble.persistence import read_weights
from spark_cnn_ensemble.worker.network import Architecture, count_weights
from spark_cnn_ensemble.worker.network_json import read_network_json
from spark_cnn_ensemble.worker.pixels import PixelFormat, to_pixels
from spark_cnn_ensemble.worker.refusal import Refusal
from spark_cnn_ensemble.worker.runtime import load_tensorflow
from spark_cnn_ensemble.worker.weights import digest, pack_weights, unpack_weights

DAMAGE = "; copy or save the model again."
WEIGHTS = "A member's weights are damaged ("


@pytest.fixture(scope="module")
def saved(spark, digits, tmp_path_factory):
    """A model of two members of 2x2 images with out-of-bag votes, saved."""
    rows = [([float(index % 7), 0.0, 1.0, float(index % 3)], float(index % 2), index) for index in range(40)]
    frame = spark.createDataFrame(rows, "features array<float>, label double, id int")
    classifier = small(
        numMembers=2, filters=[2], denseUnits=2, inputShape=[2, 2, 1], numClasses=2, oobSampleSize=10, idCol="id"
    )
    path = tmp_path_factory.mktemp("hostile") / "model"
    classifier.fit(frame).save(str(path))
    return path


@pytest.fixture
def hostile(saved, tmp_path):
    """A copy of the model, to be tampered with."""
    shutil.copytree(saved, tmp_path / "model")
    return tmp_path / "model"


def members_of(folder):
    """The rows (member, part, bytes) of a saved model."""
    return pq.read_table(folder / "members").to_pylist()


def put_members(folder, rows, schema=None):
    """Other rows in place of a saved model's."""
    shutil.rmtree(folder / "members")
    (folder / "members").mkdir()
    schema = schema or pa.schema([("member", pa.int32()), ("part", pa.int32()), ("bytes", pa.binary())])
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / "members" / "part-00000.parquet")


def replace_weights(folder, data):
    """Other weights for member 0, with a size and a SHA-256 that fit them."""
    rows = [row for row in members_of(folder) if row["member"] != 0]
    step = 4 << 20
    parts = [data[start : start + step] for start in range(0, len(data), step)]
    put_members(folder, [*rows, *({"member": 0, "part": part, "bytes": cut} for part, cut in enumerate(parts))])
    edit_json(folder, lambda told: told["ensemble"]["members"][0].update(size=len(data), sha256=digest(data)))


def load_damaged(folder):
    """The sentence by which a tampered model is refused."""
    text = load_refused(folder)
    assert text.endswith(DAMAGE), text
    assert len(text) < 1000, "a sentence that nobody reads"
    return text


def test_the_tampering_itself_does_no_harm(hostile, saved):
    data = b"".join(row["bytes"] for row in members_of(hostile) if row["member"] == 0)
    replace_weights(hostile, data)
    one, other = (CNNEnsembleClassificationModel.load(str(path)) for path in (hostile, saved))
    assert one._ensemble == other._ensemble
    assert one.summary.outOfBag == other.summary.outOfBag
    assert one.summary.outOfBag.rows


# ------------------------------------------------------------------------------------ packed weights


def npy(header, data=b"", version=(1, 0)):
    """A .npy file with a header of one's own."""
    text = header.encode() + b"\n"
    length = struct.pack("<H" if version[0] == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text + data


def described(shape, kind="<f4"):
    return repr({"descr": kind, "fortran_order": False, "shape": shape})


def archive(*entries, compression=zipfile.ZIP_STORED):
    """An npz of (name, bytes)."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as packed:
        for name, data in entries:
            packed.writestr(name, data)
    return file.getvalue()


def packed(header, data=b"", **options):
    return archive(("0000.npy", npy(header, data, **options)))


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def overlapping(count=1000, size=1 << 20):
    """An archive in which each array holds all that come after it: a megabyte that claims to be a gigabyte."""
    rest, entries = bytes(size), []
    for index in reversed(range(count)):
        data = npy(described((len(rest),), "|u1"), rest)
        name = b"%04d.npy" % index
        told = struct.pack("<5H3L2H", 20, 0, 0, 0, 33, zlib.crc32(data), len(data), len(data), len(name), 0)
        rest = b"PK\3\4" + told + name + data
        entries.append((told, name, len(rest)))
    directory = b"".join(
        b"PK\1\2" + struct.pack("<H", 20) + told + struct.pack("<3H2L", 0, 0, 0, 0, len(rest) - length) + name
        for told, name, length in reversed(entries)
    )
    return rest + directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(directory), len(rest), 0)


BAD_WEIGHTS = {
    "10 TB in the header": lambda: packed(described((10**13 // 4,)), bytes(64)),
    "a negative shape": lambda: packed(described((-1, -4)), bytes(16)),
    "a shape past 64 bits": lambda: packed(described((2**32, 2**32, 2**32)), bytes(16)),
    "nothing of a shape past 64 bits": lambda: packed(described((0, 10**30))),
    "a shape of floats": lambda: packed(described((4.0,)), bytes(16)),
    "half a number": lambda: packed(described((4,)), bytes(18)),
    "version 2": lambda: packed(described((4,)), bytes(16), version=(2, 0)),
    "version 3": lambda: packed(described((4,)), bytes(16), version=(3, 0)),
    "objects": lambda: packed(described((1,), "|O"), pickle.dumps([1])),
    "text": lambda: packed(described((4,), "<U1"), bytes(16)),
    "records": lambda: packed(described((4,), [("a", "<f4")]), bytes(16)),
    "dates": lambda: packed(described((2,), "<M8[s]"), bytes(16)),
    "a dtype of no bytes": lambda: packed(described((10**12,), "|V0")),
    "a header that is no dict": lambda: packed("[1, 2]"),
    "a header with keys of two kinds": lambda: packed("{1: 2, 'shape': (1,)}"),
    "a header that nests": lambda: packed("-" * 9000 + "1"),
    "a header of brackets": lambda: packed("(" * 9000),
    "a header cut in a string": lambda: packed("{'descr': '''"),
    "a header that is code": lambda: packed("__import__('os').system('true')"),
    "a header that is long": lambda: packed(described((4,)) + " " * 60000, bytes(16)),
    "a bomb of zeros": lambda: archive(
        ("0000.npy", npy(described((1 << 26,)), bytes(1 << 28))), compression=zipfile.ZIP_DEFLATED
    ),
    "arrays that overlap": overlapping,
    "two of one name": lambda: archive(*[("0000.npy", npy(described((4,)), bytes(16)))] * 2),
    "one left out": lambda: archive(*[(f"000{index}.npy", npy(described((4,)), bytes(16))) for index in (0, 2)]),
    "another name": lambda: archive(("../../0000.npy", npy(described((4,)), bytes(16)))),
    "not an array": lambda: archive(("0000.npy", b"Dear diary")),
    "a directory": lambda: archive(("0000.npy/", b"")),
    "nothing": lambda: b"",
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_packed_weights_that_claim_what_they_are_not_are_refused(case):
    data = BAD_WEIGHTS[case]()
    before = peak()
    text = refused(unpack_weights, data, kind=Refusal)
    assert text.startswith(WEIGHTS), text
    assert len(text) < 400
    assert peak() - before < 100 << 20


def peak():
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def test_a_pickle_among_the_weights_is_never_opened(hostile, tmp_path):
    file = io.BytesIO()
    trap = tmp_path / "sprung"
    np.savez(file, **{"0000": np.array([Trap(str(trap))], object)})
    replace_weights(hostile, file.getvalue())
    assert "claims to be object" in load_damaged(hostile)
    assert refused(unpack_weights, file.getvalue(), kind=Refusal).startswith(WEIGHTS)
    assert not trap.exists()
    pickle.loads(pickle.dumps(Trap(str(trap))))
    assert trap.exists(), "the trap works"


@pytest.mark.parametrize("case", ["10 TB in the header", "objects", "a bomb of zeros", "one left out"])
def test_load_refuses_weights_that_are_no_arrays(hostile, case):
    replace_weights(hostile, BAD_WEIGHTS[case]())
    assert "the weights of member 0 cannot be read (A member's weights are damaged" in load_damaged(hostile)


OF_ANOTHER_NETWORK = {
    "a number more": lambda arrays: [np.append(arrays[0], np.float32(1)), *arrays[1:]],
    "an array more": lambda arrays: [*arrays, np.zeros(0, np.float32)],
    "an array fewer": lambda arrays: arrays[:-1],
    "other shapes": lambda arrays: [array.ravel() for array in arrays],
    "another order": lambda arrays: arrays[::-1],
    "doubles": lambda arrays: [array.astype(np.float64) for array in arrays],
    "whole numbers": lambda arrays: [array.astype(np.int32) for array in arrays],
    "none": lambda arrays: [],
}


@pytest.mark.parametrize("case", OF_ANOTHER_NETWORK)
def test_weights_of_another_network_are_refused_when_they_are_used(spark, hostile, case):
    model = CNNEnsembleClassificationModel.load(str(hostile))
    arrays = unpack_weights(model._ensemble.weights[0])
    replace_weights(hostile, pack_weights(OF_ANOTHER_NETWORK[case](arrays)))
    model = CNNEnsembleClassificationModel.load(str(hostile))
    told = "The weights of member 0 do not fit its network; save the model again."
    assert refused(model.predict, np.zeros(4)) == told
    if case == "other shapes":
        frame = spark.createDataFrame([([0.0] * 4,)], "features array<float>")
        assert refused_by_job(model.transform(frame)) == told


# ------------------------------------------------------------------------------------ files of members


def test_weights_of_10_tb_are_looked_for_before_they_are_read(hostile):
    edit_json(hostile, lambda told: told["ensemble"]["members"][0].update(size=10**13))
    assert "the weights of member 0 are not those that were saved" in load_damaged(hostile)


@pytest.mark.parametrize("size", [0, -1, -(10**13), 10**30, 2.5, True, "12", None, [1]])
def test_a_size_that_is_none_is_refused(hostile, size):
    edit_json(hostile, lambda told: told["ensemble"]["members"][0].update(size=size))
    assert "its metadata is not whole (size is " in load_damaged(hostile)


def other_rows(case, rows):
    first, second = (next(row for row in rows if row["member"] == member) for member in (0, 1))
    cut = {**first, "bytes": first["bytes"][:100]}, {**first, "part": 1, "bytes": first["bytes"][100:]}
    return {
        "a part more": [*rows, {**first, "part": 1}],
        "an empty part more": [*rows, {**first, "part": 1, "bytes": b""}],
        "a part twice": [*rows, first],
        "a negative part": [{**first, "part": -1}, second],
        "a part of no number": [*rows, {**first, "part": None}],
        "a part of no bytes": [*rows, {**first, "part": 1, "bytes": None}],
        "parts cut elsewhere": [*cut, second],
        "a member more": [*rows, {**first, "member": 2}],
        "a negative member": [*rows, {**first, "member": -1}],
        "a member of no number": [*rows, {**first, "member": None}],
        "a thousand members more": [*rows, *({**first, "member": 5 + index} for index in range(1000))],
        "a member for the other": [{**first, "member": 1}, {**second, "member": 0}],
        "no rows": [],
    }[case]


@pytest.mark.parametrize(
    "case",
    [
        "a part more",
        "an empty part more",
        "a part twice",
        "a negative part",
        "a part of no number",
        "a part of no bytes",
        "parts cut elsewhere",
        "a member more",
        "a negative member",
        "a member of no number",
        "a thousand members more",
        "a member for the other",
        "no rows",
    ],
)
def test_rows_that_were_not_saved_are_refused(hostile, case):
    put_members(hostile, other_rows(case, members_of(hostile)))
    text = load_damaged(hostile)
    assert "not those that were saved" in text or "that its metadata does not name" in text, text


def test_bytes_that_are_numbers_are_not_taken_for_as_many_bytes(hostile):
    schema = pa.schema([("member", pa.int32()), ("part", pa.int32()), ("bytes", pa.int64())])
    rows = [{"member": member, "part": 0, "bytes": 10**12} for member in (0, 1)]
    put_members(hostile, rows, schema)
    edit_json(hostile, lambda told: [member.update(size=10**12) for member in told["ensemble"]["members"]])
    assert "is damaged: " in load_damaged(hostile)


def test_columns_of_other_types_are_refused(hostile):
    schema = pa.schema([("member", pa.string()), ("part", pa.int32()), ("bytes", pa.binary())])
    put_members(hostile, [{**row, "member": str(row["member"])} for row in members_of(hostile)], schema)
    assert "is damaged: " in load_damaged(hostile)


@pytest.mark.parametrize("left", [0, 3, 100, 0.5, -1])
def test_a_file_of_members_that_is_cut_is_refused(hostile, left):
    file = max((hostile / "members").glob("*.parquet"), key=lambda file: file.stat().st_size)
    data = file.read_bytes()
    put_members(hostile, members_of(hostile))
    file = only(hostile / "members", "*.parquet")
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * left) if isinstance(left, float) else left])
    assert "is damaged: " in load_damaged(hostile)


def test_repeated_parts_take_no_memory(spark, tmp_path):
    # A dictionary of one value makes a terabyte of parts a small file.
    rows = 250_000
    part = pa.array([bytes(4 << 20)], pa.binary())
    columns = [
        pa.array(np.zeros(rows, np.int32)),
        pa.array(np.arange(rows, dtype=np.int32)),
        pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), part),
    ]
    (tmp_path / "members").mkdir()
    file = tmp_path / "members" / "part-00000.parquet"
    pq.write_table(pa.Table.from_arrays(columns, ["member", "part", "bytes"]), file, compression="zstd")
    assert file.stat().st_size < 10 << 20
    before = peak()
    refused(read_weights, spark, str(tmp_path), [{"size": 5000, "sha256": digest(bytes(5000))}])
    assert peak() - before < 300 << 20


# --------------------------------------------------------------------------------------- metadata


@pytest.mark.parametrize("depth", [2000, 10**6])
def test_metadata_that_nests_without_end_is_refused(hostile, depth):
    file = only(hostile / "metadata", "part-*")
    only(hostile / "metadata", ".part-*").unlink()
    file.write_text('{"class": ' + "[" * depth + "]" * depth + "}")
    text = load_refused(hostile)
    assert " is not a saved CNNEnsembleClassificationModel: its metadata cannot be read (" in text


def test_no_class_that_metadata_names_is_imported(hostile, tmp_path, monkeypatch):
    sprung = tmp_path / "sprung"
    (tmp_path / "hostile_library.py").write_text(f"open({str(sprung)!r}, 'w')\nclass Model: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    edit_json(hostile, lambda told: told.update({"class": "hostile_library.Model"}))
    for cls in (CNNEnsembleClassificationModel, CNNEnsembleClassifier):
        text = load_refused(hostile, cls=cls)
        assert " holds a hostile_library.Model, not a spark_cnn_ensemble." in text
    assert not sprung.exists()
    assert "hostile_library" not in sys.modules


@pytest.mark.parametrize("value", [["a"] * 10**5, "x" * 10**6, "two\nlines", {"a": 1}])
def test_a_class_that_is_none_is_told_in_a_short_sentence(hostile, value):
    edit_json(hostile, lambda told: told.update({"class": value}))
    assert len(load_refused(hostile)) < 1000


UIDS = ["../../x", "/etc/x", "a/b", "a\\b", "", "x" * 300, 7, None, ["x"], "a b\n"]


@pytest.mark.parametrize("uid", UIDS)
def test_a_uid_that_could_be_a_path_is_refused(hostile, uid):
    edit_json(hostile, lambda told: told.update(uid=uid))
    assert "its metadata is not whole (" in load_damaged(hostile)


def test_a_uid_is_a_folder_in_a_pipeline_and_so_must_be_no_path(spark, tmp_path):
    # Why the test above is needed: Spark itself makes a path of it.
    estimator = small()
    estimator._resetUid("x/../../../escaped")
    Pipeline(stages=[estimator]).save(str(tmp_path / "inner" / "pipeline"))
    assert (tmp_path / "inner" / "escaped").exists()


def test_an_estimator_of_a_hostile_uid_is_refused_as_well(spark, tmp_path):
    small().save(str(tmp_path / "estimator"))
    edit_json(tmp_path / "estimator", lambda told: told.update(uid="../../x"))
    load_refused(tmp_path / "estimator", cls=CNNEnsembleClassifier)


def test_no_path_is_in_what_is_saved(saved):
    """Nothing in a saved model's own metadata can lead a reader outside of its folder."""

    def texts(value):
        if isinstance(value, dict):
            return [text for each in value.values() for text in texts(each)]
        if isinstance(value, list):
            return [text for each in value for text in texts(each)]
        return [value] if isinstance(value, str) else []

    metadata = json.loads(only(saved / "metadata", "part-*").read_text())
    assert metadata.pop("class") == "spark_cnn_ensemble.CNNEnsembleClassificationModel"
    pictures = [row.pop("png") for row in metadata["summary"]["outOfBag"]["disputedRows"]]
    found = texts(metadata)
    assert len(found) > 10
    assert not [text for text in found if "/" in text or str(saved) in text], pictures


def change(*path, to):
    """A change of metadata: the value at `path`."""

    def changed(told):
        for key in path[:-1]:
            told = told[key]
        told[path[-1]] = to

    return changed


NETWORK, MEMBER, VOTES = ("ensemble", "architectures", 0), ("ensemble", "members", 1), ("summary", "outOfBag")
NOT_COUNTS = [-1, 1.5, "3", True, None, [1], 10**30]
BAD_VALUES = {
    (*NETWORK, "num_classes"): [1, 0, *NOT_COUNTS, 2**31],
    (*NETWORK, "dense_units"): [0, *NOT_COUNTS, 2**31],
    (*NETWORK, "kernel_size"): [0, *NOT_COUNTS],
    (*NETWORK, "filters"): [[0], [-1], [1.5], ["2"], [True], [10**30], "22", None, 3],
    (*NETWORK, "input_shape"): [
        [2, 2],
        [2, 2, 1, 1],
        [0, 2, 1],
        [-2, -2, 1],
        [2.0, 2, 1],
        [10**5, 10**5, 3],
        "221",
        None,
    ],
    (*NETWORK, "dropout_rate"): [-0.1, 1, "0", None, True],
    (*NETWORK, "standardization"): [1, "yes", None],
    (*NETWORK, "network"): [1, None, [], "no JSON", "{}"],
    ("ensemble", "architectures"): [[], {}, None, [1]],
    ("ensemble", "members"): [[], {}, None, [1], [None, None]],
    ("ensemble", "classNames"): [["a"], ["a", "b", "c"], [1, 2], "ab", {}, 3],
    (*MEMBER, "architecture"): [1, -1, 0.0, True, "0", None, 10**30],
    (*MEMBER, "sha256"): ["", 7, None, "A" * 64],
    (*MEMBER, "member"): [*NOT_COUNTS, "../../x"],
    (*MEMBER, "rows"): NOT_COUNTS,
    (*MEMBER, "retries"): NOT_COUNTS,
    (*MEMBER, "spilled"): [1, "no", None],
    (*MEMBER, "seconds"): ["1", None, True],
    (*MEMBER, "classCounts"): [[1], [1, 2, 3], [-1, 2], [0.5, 1], "12", None],
    (*MEMBER, "history"): [{}, [], None, {"loss": [], "accuracy": []}, {"loss": [1.0]}],
    (*MEMBER, "history", "loss"): [["1"], [1.0, 2.0], 3, None, [[1.0]]],
    (*MEMBER, "history", "<b>loss</b>"): [[1.0]],
    ("summary", "rows"): NOT_COUNTS,
    ("summary", "unusedRows"): NOT_COUNTS,
    ("summary", "seconds"): ["1", None],
    ("summary", "resumedMembers"): [[-1], ["0"], "0", 3],
    ("summary", "missingMembers"): [{"x": "why"}, {"-1": "why"}, {"1": 3}, [1]],
    ("summary",): [[], "text", 3],
    VOTES: [[], "text", 3, {}],
    (*VOTES, "numClasses"): [3, 10**9, 1, -2, "2", None],
    (*VOTES, "labels"): [[], [0], "0101", None],
    (*VOTES, "labels", 0): [2, -1, 0.5, "0", None, True, 10**30, [0]],
    (*VOTES, "votes"): [[], [[0, 1]], None],
    (*VOTES, "votes", 0): [[], [0], [0, 1, 0], [0, 2], [0, -2], [0, 0.5], ["0", "1"], None, 3],
    (*VOTES, "predictions", 0): [2, -2, 0.5, None],
    (*VOTES, "disputedRows"): [None, [1], [{}]],
    ("paramMap",): [None, {"summary": 1}, {"__class__": 1}, {"write": 1}, {"numMembers": []}],
    ("defaultParamMap",): [None, {"wings": 2}, {"epochs": "many"}],
    ("sparkVersion",): ["x", None, 4],
}


@pytest.mark.parametrize("place", BAD_VALUES, ids=lambda place: "-".join(map(str, place)))
def test_values_of_another_type_sign_or_number_are_refused(hostile, place):
    sound = only(hostile / "metadata", "part-*").read_text()
    for value in BAD_VALUES[place]:
        edit_json_again(hostile, sound, change(*place, to=value))
        text = load_damaged(hostile)
        assert "its metadata is not whole (" in text, (value, text)


def edit_json_again(folder, sound, change):
    """Change metadata that begins as `sound`, whatever it is now."""
    told = json.loads(sound)
    change(told)
    for file in (folder / "metadata").glob(".part-*"):
        file.unlink()
    only(folder / "metadata", "part-*").write_text(json.dumps(told))


def test_networks_for_different_images_are_refused(hostile):
    def second(told):
        networks = told["ensemble"]["architectures"]
        networks.append({**networks[0], "input_shape": [3, 3, 1]})

    edit_json(hostile, second)
    assert "its networks are not all for the same images and classes" in load_damaged(hostile)


def test_a_picture_that_is_a_page_is_refused(hostile):
    picture = {"uncertainty": 1.0, "label": 0, "votes": [1, 1], "png": '"><script>alert(1)</script>'}
    edit_json(hostile, change(*VOTES, "disputedRows", to=[picture]))
    assert "its metadata is not whole (" in load_damaged(hostile)


def test_metadata_of_many_rows_is_no_fault(hostile):
    votes = {"labels": [0] * 20_000, "votes": [[0, -1]] * 20_000, "predictions": [0] * 20_000}

    def more(told):
        told["summary"]["outOfBag"].update(votes, disputedRows=[])

    edit_json(hostile, more)
    assert CNNEnsembleClassificationModel.load(str(hostile)).summary.outOfBag.rows == 20_000


# ------------------------------------------------------------------------------------ networks as JSON


def sound_network():
    load_tensorflow()
    from keras import layers

    return json.loads(network_json(layers.Flatten(), layers.Dense(2, activation="softmax")))


def layer(name, config=None, module="keras.layers", registered=None):
    return {"module": module, "class_name": name, "config": config or {}, "registered_name": registered}


EVIL = {
    "Lambda": layer("Lambda", {"function": {"class_name": "__lambda__", "config": {"value": ["4wA=", None, None]}}}),
    "Lambda of no module": {"class_name": "Lambda", "config": {"function": ["4wA=", None, None]}},
    "a lambda alone": {"class_name": "__lambda__", "config": {"value": ["4wA=", None, None]}},
    "a saved model of TensorFlow": layer("TFSMLayer", {"filepath": "/tmp/x"}),
    "a module of PyTorch": layer("TorchModuleWrapper", {"module": "x"}),
    "an unknown module": layer("system", module="os"),
    "a class of an unknown module": layer("Popen", {"args": ["true"]}, module="subprocess"),
    "a module that is no text": layer("Dense", module=["os"]),
    "a module that begins like Keras": layer("Dense", module="keras_evil.layers"),
    "a module beside Keras' layers": layer("Dense", module="keras..layers"),
    "a function that fetches files": layer("get_file", {"fname": "x"}, module="keras.utils"),
    "a class that fetches files": layer("GetFile", module="keras.utils"),
    "a function that allows code": layer("enable_unsafe_deserialization", module="keras.config"),
    "a function that loads models": layer("load_model", module="keras.models"),
    "a function that loads models, elsewhere": layer("load_model", module="keras.saving"),
    "a function of an inner module": layer("func_load", module="keras.src.utils.python_utils"),
    "a function": {"class_name": "function", "module": "builtins", "config": "eval", "registered_name": "eval"},
    "a registered object": layer("Twice", registered="mine>Twice"),
    "a registered object by its name": layer("mine>Twice", registered="mine>Twice"),
    "a registered object without a class": {"class_name": None, "config": {}, "registered_name": "mine>Twice"},
    "a class that is a list": {"class_name": ["Lambda"], "config": {}},
    "a class that is empty": layer(""),
    "a type of TensorFlow": {"class_name": "__typespec__", "spec_name": "system", "module": "os", "config": []},
    "words from a file": layer("StringLookup", {"vocabulary": "/etc/passwd"}),
    "more words from a file": layer("TextVectorization", {"vocabulary": "/etc/passwd"}),
    "numbers from a file": layer("IntegerLookup", {"vocabulary": "gs://bucket/x"}),
}


def wrapped(evil, place):
    """A network that would do for two classes of 2x2 images, but for `evil` somewhere in it."""
    network = sound_network()
    layers = network["config"]["layers"]
    dense = next(each for each in layers if each["class_name"] == "Dense")["config"]
    if place == "a layer":
        layers.insert(1, evil)
    elif place == "an activation":
        dense["activation"] = evil
    elif place == "an initializer":
        dense["kernel_initializer"] = evil
    elif place == "a list in a config":
        dense["extra"] = [[{"deep": evil}]]
    elif place == "a wrapper":
        layers.insert(1, layer("Bidirectional", {"layer": layer("TimeDistributed", {"layer": evil})}))
    elif place == "a model in the model":
        layers.insert(1, layer("Functional", {"layers": [evil]}, module="keras.src.models.functional"))
    elif place == "how it was built":
        network["build_config"] = {"input_shape": [None, 2, 2, 1], "x": evil}
    else:
        return json.dumps(evil)
    return json.dumps(network)


PLACES = [
    "a layer",
    "an activation",
    "an initializer",
    "a list in a config",
    "a wrapper",
    "a model in the model",
    "how it was built",
    "all of it",
]


@pytest.mark.parametrize("case", EVIL)
def test_a_network_is_made_of_keras_own_layers_alone(case):
    for place in PLACES:
        text = refused(read_network_json, wrapped(EVIL[case], place), kind=Refusal)
        assert "which is custom code" in text or "reads words from files" in text, (place, text)


@pytest.mark.parametrize("case", ["Lambda", "a function that loads models", "words from a file", "an unknown module"])
def test_load_refuses_a_network_that_is_not_safe(hostile, case):
    edit_json(hostile, change(*NETWORK, "network", to=wrapped(EVIL[case], "a wrapper")))
    text = load_refused(hostile)
    assert "its metadata is not whole (The 'network' parameter holds " in text, text


def test_an_estimator_refuses_a_network_that_is_not_safe(spark, tmp_path, saved):
    frame = spark.createDataFrame([([0.0] * 4, 0.0)], "features array<float>, label double")
    small(inputShape=[2, 2, 1], numClasses=2).save(str(tmp_path / "estimator"))
    edit_json(tmp_path / "estimator", change("paramMap", "network", to=wrapped(EVIL["Lambda"], "a layer")))
    loaded = CNNEnsembleClassifier.load(str(tmp_path / "estimator"))
    assert "holds 'Lambda', which is custom code" in refused(loaded.fit, frame)


def test_a_registered_object_is_not_reached_by_any_name(spark):
    """Objects of the program that loads, which Keras would find before its own layers."""
    load_tensorflow()
    import keras

    called = []

    @keras.saving.register_keras_serializable(package="hostile")
    class Sprung(keras.layers.Layer):
        @classmethod
        def from_config(cls, config):
            called.append(config)
            return cls()

    for evil in (
        layer("Sprung", registered="hostile>Sprung"),
        layer("hostile>Sprung", registered="hostile>Sprung"),
        {"class_name": "hostile>Sprung", "config": {}},
        {"class_name": None, "config": {}, "registered_name": "hostile>Sprung"},
    ):
        for place in PLACES:
            network = wrapped(evil, place)
            refused(count_weights, Architecture((2, 2, 1), 2, network), kind=Refusal)
    assert not called
    keras.models.model_from_json(wrapped(layer("hostile>Sprung", registered="hostile>Sprung"), "a layer"))
    assert called, "Keras itself would have made one"


def test_networks_of_every_usual_kind_are_let_through():
    load_tensorflow()
    import keras
    from keras import layers

    image = keras.Input((8, 8, 3))
    hidden = layers.Conv2D(4, 3, activation="gelu", kernel_regularizer=keras.regularizers.L2(1e-4))(image)
    hidden = keras.ops.relu(layers.BatchNormalization()(hidden)) + 1.0
    hidden = layers.Activation(keras.activations.swish)(layers.GroupNormalization(2)(hidden))
    hidden = layers.Dropout(0.1, seed=3)(layers.DepthwiseConv2D(3, dtype="mixed_bfloat16")(hidden))
    rows = layers.TimeDistributed(layers.Flatten())(layers.RandomFlip("horizontal")(hidden))
    hidden = layers.Bidirectional(layers.LSTM(3, kernel_constraint=keras.constraints.MaxNorm(2.0)))(rows)
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(5, kernel_initializer=keras.initializers.HeNormal())])
    network = keras.Model(image, layers.Dense(2, activation="softmax")(inner(hidden)))
    network.compile(keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 9)), keras.losses.Poisson())
    assert count_weights(Architecture((8, 8, 3), 2, network.to_json())) == network.count_params() + 6


def test_how_a_network_was_compiled_is_not_read():
    load_tensorflow()
    network = sound_network()
    inner = {**sound_network(), "compile_config": EVIL["Lambda"]}
    network["config"]["layers"].insert(1, inner)
    network["compile_config"] = {"loss": EVIL["a function"]}
    assert "compile_config" not in json.dumps(read_network_json(json.dumps(network)))
    network["config"]["layers"].remove(inner)
    assert count_weights(Architecture((2, 2, 1), 2, json.dumps(network), standardization=False)) == 10


def test_a_network_that_claims_a_billion_units_is_refused_before_it_is_built(hostile, saved, tmp_path):
    shutil.copytree(saved, tmp_path / "as JSON")
    edit_json(hostile, change(*NETWORK, "dense_units", to=10**9))
    network = sound_network()
    network["config"]["layers"][-1].pop("build_config")
    network["config"]["layers"].insert(-1, layer("Dense", {"units": 10**9}))
    edit_json(tmp_path / "as JSON", change(*NETWORK, "network", to=json.dumps(network)))
    found = in_process(
        f"""
        from spark_cnn_ensemble import CNNEnsembleClassificationModel
        from pyspark.sql import SparkSession
        SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
        load_tensorflow()
        before = peak()
        for path in {[str(hostile), str(tmp_path / "as JSON")]!r}:
            model = CNNEnsembleClassificationModel.load(path)
            for use in (lambda: model.predict([0.0] * 4), lambda: model.memberNetwork(0), model.toKeras):
                print(sentence(use))
        print(peak() - before < 300 << 20)
        """
    )
    assert found == ["The weights of member 0 do not fit its network; save the model again."] * 6 + ["True"]


def in_process(code):
    """What `code` prints in a process of its own."""
    import textwrap

    begin = """
import os, resource
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
from spark_cnn_ensemble.worker.runtime import load_tensorflow
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
def sentence(act):
    try:
        act()
    except ValueError as error:
        return str(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", begin + textwrap.dedent(code)], capture_output=True, text=True, timeout=120, check=False
    )
    assert not done.returncode, done.stderr[-3000:]
    return done.stdout.splitlines()


# -------------------------------------------------------------------------------------------- images


def chunk(name, data):
    return struct.pack(">L", len(data)) + name + data + struct.pack(">L", zlib.crc32(name + data))


def png(height, width, data, *before, after=()):
    """A PNG of gray pixels whose chunks are what they are."""
    header = chunk(b"IHDR", struct.pack(">2L5B", width, height, 8, 0, 0, 0, 0))
    return b"".join([b"\x89PNG\r\n\x1a\n", header, *before, chunk(b"IDAT", data), *after, chunk(b"IEND", b"")])


def zeros(count):
    """Zlib's bytes for so many zeros, made piece by piece."""
    packer = zlib.compressobj(9)
    return (
        b"".join(packer.compress(bytes(min(1 << 20, count - at))) for at in range(0, count, 1 << 20)) + packer.flush()
    )


def a_jpeg(side=8):
    file = io.BytesIO()
    Image.fromarray(np.arange(side * side, dtype=np.uint8).reshape(side, side)).save(file, "JPEG")
    return file.getvalue()


def a_giant_jpeg():
    """A JPEG whose header tells of 65,500 x 65,500 pixels."""
    data = bytearray(a_jpeg())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">2H", 65_500, 65_500)
    return bytes(data)


SOUND_PNG = png(8, 8, zlib.compress(bytes(9 * 8)))
BOMB = zeros(1 << 28)  # 260 KB
BAD_IMAGES = {
    "a header of 50,000 x 50,000": png(50_000, 50_000, zlib.compress(bytes(72))),
    "a JPEG of 65,500 x 65,500": a_giant_jpeg(),
    "10,000 x 10,000 zeros": png(10_000, 10_000, zeros(10_001 * 10_000)),
    "13,000 x 13,000, all but its last row": png(13_000, 13_000, zeros(13_001 * 12_999)),
    "text that inflates": png(8, 8, zlib.compress(bytes(72)), chunk(b"zTXt", b"a\0\0" + BOMB)),
    "more text that inflates": png(8, 8, zlib.compress(bytes(72)), chunk(b"iTXt", b"a\0\1\0\0\0" + BOMB)),
    "text that inflates at the end": png(8, 8, zlib.compress(bytes(72)), after=[chunk(b"zTXt", b"a\0\0" + BOMB)]),
    "a profile that inflates": png(8, 8, zlib.compress(bytes(72)), chunk(b"iCCP", b"a\0\0" + BOMB)),
    "a PNG cut in its pixels": png(8, 8, zlib.compress(os.urandom(72))[:40])[:70],
    "a PNG cut in its header": SOUND_PNG[:20],
    "a JPEG cut in its pixels": a_jpeg()[:-30],
    "a JPEG cut in its header": a_jpeg()[:30],
    "a negative height": png(2**32 - 1, 8, zlib.compress(bytes(72))),
    "no pixels": png(0, 0, b""),
}
EIGHT = PixelFormat("image", "bytes", (8, 8, 1))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_no_image_takes_more_than_it_should():
    before = peak()
    for case, data in BAD_IMAGES.items():
        assert len(data) < 1 << 20
        block, faults = to_pixels([SOUND_PNG, data, SOUND_PNG], EIGHT)
        assert not block[1].any()
        assert set(faults) <= {1}, case
        if case != "text that inflates at the end":  # which nobody reads
            assert faults[1].startswith(("is a damaged image (", "is an image of ")), (case, faults)
    assert peak() - before < 100 << 20


def test_pixels_past_the_last_row_are_not_inflated():
    before = peak()
    block, faults = to_pixels([png(8, 8, BOMB)], EIGHT)
    assert block.shape == (1, 8, 8, 1)
    assert set(faults) <= {0}
    assert peak() - before < 100 << 20


REFUSED_IMAGES = [case for case in BAD_IMAGES if case != "text that inflates at the end"]


def with_images(spark, *cases):
    """Twelve sound images of two kinds, and the bad ones."""
    cells = [png(8, 8, zlib.compress(bytes([0, *range(1, 9)]) * 8)), SOUND_PNG] * 6
    rows = [(cell, float(index % 2), index) for index, cell in enumerate([*cells, *map(BAD_IMAGES.get, cases)])]
    return spark.createDataFrame(rows, "image binary, label double, id int").coalesce(1)


@pytest.fixture(scope="module")
def scorer(spark):
    return small(numMembers=1, numClasses=2, featuresCol="image").fit(with_images(spark))


@pytest.mark.parametrize("case", ["a header of 50,000 x 50,000", "10,000 x 10,000 zeros", "text that inflates"])
def test_fit_and_transform_refuse_an_image_that_is_a_bomb(spark, scorer, case):
    frame = with_images(spark, case)
    text = refused(small(numMembers=1, numClasses=2, featuresCol="image", idCol="id").fit, frame)
    assert text.startswith("Row id=12: column 'image' is a"), text
    assert refused_by_job(scorer.transform(frame).select("prediction")).startswith("A row: column 'image' is a")


def test_fit_and_transform_leave_out_images_that_are_bombs(spark, scorer):
    frame = with_images(spark, *REFUSED_IMAGES)
    for handle in ("skip", "keep"):
        scored = scorer.copy({scorer.handleInvalid: handle}).transform(frame).select("id", "prediction").collect()
        sound = [row["id"] for row in scored if row["prediction"] is not None]
        assert sorted(sound) == list(range(12))
        assert len(scored) == (12 if handle == "skip" else 12 + len(REFUSED_IMAGES))
    model = small(numMembers=1, numClasses=2, featuresCol="image", handleInvalid="skip").fit(frame)
    assert model.summary.skippedRows == len(REFUSED_IMAGES)
    assert model.members[0].rows == 12


def test_a_first_image_that_claims_to_be_huge_does_not_decide_the_shape(spark):
    estimator = small(numMembers=1, numClasses=2, featuresCol="image")
    estimator.clear(estimator.inputShape)
    frame = (
        with_images(spark)
        .where(F.lit(False))
        .union(
            spark.createDataFrame(
                [(BAD_IMAGES["a header of 50,000 x 50,000"], 0.0, 0)], "image binary, label double, id int"
            )
        )
    )
    text = refused(estimator.fit, frame)
    assert "begins with an unreadable image (its header cannot be read); set 'inputShape'" in text
