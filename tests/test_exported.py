"""An exported ensemble gives, outside Spark and without this library, what `transform` gives."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
from support.bags import SMALL
from support.processes import python_without_the_package
from support.refusals import refused
from support.scored import assert_votes_close, scored_arrays
from support.voting import DIGITS, constant_member, untrained_members, votes_of

import spark_cnn_ensemble
from spark_cnn_ensemble import CNNEnsembleClassificationModel, exported
from spark_cnn_ensemble.ensemble import Ensemble
from spark_cnn_ensemble.worker.network import build_network
from spark_cnn_ensemble.worker.voting_plan import VotingPlan
from spark_cnn_ensemble.worker.weights import pack_weights

# Each prints the metadata of one export; the outputs of all go to files.
RUN = {
    "onnx": """
import json, sys
import numpy as np
import onnxruntime

images = np.load(sys.argv[1])
for path in sys.argv[2:]:
    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    np.savez(f"{path}.npz", **dict(zip(names, session.run(names, {"image": images}))))
metadata = session.get_modelmeta().custom_metadata_map
print(json.dumps({key: value if key in TEXTS else json.loads(value) for key, value in metadata.items()}))
""",
    "tf_saved_model": """
import json, sys
import numpy as np
import tensorflow as tf

images = tf.constant(np.load(sys.argv[1]))
for path in sys.argv[2:]:
    outputs = tf.saved_model.load(path).signatures["serving_default"](images)
    np.savez(f"{path}.npz", **{name: value.numpy() for name, value in outputs.items()})
with open(f"{path}/assets.extra/spark_cnn_ensemble.json") as file:
    print(json.dumps(json.load(file)))
""",
}
CHECK = """
import importlib.util
assert importlib.util.find_spec("spark_cnn_ensemble") is None
TEXTS = {"version", "inputForm", "votingStrategy"}
"""
THRESHOLDS = [0.0, 0.3, *[1.0] * 8]  # a threshold of 0 wins with any vote at all
VOTES = {
    "hard": lambda model: model,
    "soft": lambda model: model.setVotingStrategy("soft"),
    "one member": lambda model: model.subset([1]),
    "thresholds": lambda model: model.setThresholds(THRESHOLDS),
}


@pytest.fixture(scope="module")
def images(digits):
    return digits[1][0][..., None].astype(np.float32)


@pytest.fixture(scope="module")
def voters(model):
    """The model with names of classes, as each of `VOTES`."""
    names = tuple(f"digit {index}" for index in range(10))
    named = model._copyValues(CNNEnsembleClassificationModel(dataclasses.replace(model._ensemble, class_names=names)))
    return {vote: change(named.copy()) for vote, change in VOTES.items()}


@pytest.fixture(scope="module")
def expected(voters, test):
    return {vote: scored_arrays(voter, test) for vote, voter in voters.items()}


@pytest.fixture(scope="module", params=RUN)
def outside(request, voters, images, tmp_path_factory):
    """The outputs of each export as another process computes them, and the metadata of the last."""
    kind, folder = request.param, tmp_path_factory.mktemp(request.param)
    np.save(folder / "images.npy", images)
    paths = {vote: folder / "new" / vote for vote in VOTES}
    for vote, voter in voters.items():
        voter.export(paths[vote], kind)
    python = python_without_the_package(folder, at=folder)
    command = [python, "-c", CHECK + RUN[kind], folder / "images.npy", *paths.values()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert not done.returncode, done.stderr[-3000:]
    return {vote: dict(np.load(f"{path}.npz")) for vote, path in paths.items()}, json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("vote", VOTES)
def test_an_export_votes_as_transform_does(outside, expected, vote):
    outputs, _ = outside
    assert set(outputs[vote]) == {"prediction", "probability", "rawPrediction"}
    assert_votes_close(outputs[vote], expected[vote])


@pytest.mark.slow
def test_the_metadata_describe_the_ensemble(outside):
    _, metadata = outside
    assert "float32 (n, height, width, channels)" in metadata.pop("inputForm")
    assert metadata == {
        "version": spark_cnn_ensemble.__version__,
        "inputShape": [8, 8, 1],
        "numClasses": 10,
        "classNames": [f"digit {index}" for index in range(10)],
        "numMembers": 3,
        "votingStrategy": "hard",
        "thresholds": THRESHOLDS,
    }


# ------------------------------------------------------------------------------------------ the path


@pytest.mark.parametrize("kind", RUN)
def test_an_existing_export_is_replaced_only_if_asked_for(model, kind, tmp_path):
    one, path = model.subset([0]), tmp_path / "export"
    one.export(path, kind)
    text = refused(one.export, str(path), kind, kind=FileExistsError)
    assert text == f"Path {path} exists already; choose another, or export with overwrite=True."
    file = path if path.is_file() else path / "saved_model.pb"
    before = file.read_bytes()
    model.export(path, kind, overwrite=True)
    assert file.read_bytes() != before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", RUN)
@pytest.mark.parametrize(
    "other", ["a folder", "a file", "a script", "a SavedModel", "an ONNX file", "an export of the other format"]
)
def test_what_is_no_export_of_the_format_is_never_replaced(model, kind, other, tmp_path):
    import tensorflow as tf
    from onnx import helper

    path = tmp_path / "thesis"
    if other == "a folder":
        path.mkdir()
    elif other == "a file":
        path.write_text("spark " * 100)
    elif other == "a script":
        path.write_text("from spark_cnn_ensemble import CNNEnsembleClassifier")
    elif other == "a SavedModel":
        tf.saved_model.save(tf.Module(), str(path))
    elif other == "an ONNX file":
        path.write_bytes(helper.make_model(helper.make_graph([], "empty", [], [])).SerializeToString())
    else:
        model.export(path, next(each for each in RUN if each != kind))
    before = sorted((file, file.stat().st_mtime_ns) for file in tmp_path.rglob("*"))
    assert refused(model.export, path, kind, True, kind=FileExistsError) == (
        f"Path {path} exists and is not an export with format={kind!r}, so it is not overwritten; choose another."
    )
    assert sorted((file, file.stat().st_mtime_ns) for file in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", RUN)
@pytest.mark.parametrize("before", ["nothing", "an export"])
def test_an_export_that_fails_leaves_what_was_there(model, kind, before, tmp_path, monkeypatch):
    path = tmp_path / "export"
    if before == "an export":
        model.subset([0]).export(path, kind)
    files = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}

    def write_half(self, content, *encoding):
        with open(self, "wb") as file:
            file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("pathlib.Path.write_bytes", write_half)
    monkeypatch.setattr("pathlib.Path.write_text", write_half)
    with pytest.raises(OSError, match="disk full"):
        model.export(path, kind, overwrite=True)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == files
    assert [file.name for file in tmp_path.iterdir()] == (["export"] if files else [])


@pytest.mark.parametrize("kind", RUN)
def test_an_export_is_written_where_a_link_leads(model, kind, tmp_path):
    (tmp_path / "latest").symlink_to(tmp_path / "export")
    for overwrite in (False, True):
        model.export(tmp_path / "latest", kind, overwrite=overwrite)
        assert (tmp_path / "latest").is_symlink() and (tmp_path / "export").exists()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["export", "latest"]


def computed(path, kind, images):
    """The outputs of an export for images, here."""
    if kind == "onnx":
        session = onnxruntime.InferenceSession(str(path))
        return dict(zip([one.name for one in session.get_outputs()], session.run(None, {"image": images}), strict=True))
    import tensorflow as tf

    outputs = tf.saved_model.load(str(path)).signatures["serving_default"](tf.constant(images))
    return {name: value.numpy() for name, value in outputs.items()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", RUN)
@pytest.mark.parametrize("soft", [False, True])
def test_an_image_that_is_not_finite_has_no_prediction(kind, soft, tmp_path):
    weights, _ = untrained_members(SMALL, 3)
    images = np.ones((4, 8, 8, 1), np.float32)
    images[1, 3, 4], images[2], images[3, 7, 7] = np.nan, np.nan, -np.inf
    ensemble = Ensemble((SMALL,), (0,) * 3, tuple(weights), ())
    exported.export_ensemble(ensemble, tmp_path / "export", kind, soft, None, False)
    outputs = computed(tmp_path / "export", kind, images)
    assert outputs["prediction"][0] >= 0 and outputs["prediction"][1:].tolist() == [-1, -1, -1]
    for name in ("probability", "rawPrediction"):
        assert np.isfinite(outputs[name][0]).all() and np.isnan(outputs[name][1:]).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", RUN)
def test_shares_are_divided_as_transform_divides_them(kind, tmp_path):
    """3 of 5 votes / 0.9 is less than 2 of 5 / 0.6 by the last digit, and would tie with it if it were a product."""
    architecture = dataclasses.replace(SMALL, num_classes=2)
    weights = (*[constant_member(0.999)] * 3, *[constant_member(0.49)] * 2)
    plan = VotingPlan("divided", (architecture,), (0,) * 5, DIGITS, thresholds=(0.9, 0.6))
    ensemble = Ensemble((architecture,), (0,) * 5, weights, ())
    exported.export_ensemble(ensemble, tmp_path / "export", kind, False, [0.9, 0.6], False)
    outputs = computed(tmp_path / "export", kind, np.zeros((1, 8, 8, 1), np.float32))
    expected = votes_of([np.zeros(64)], [], plan, weights)["prediction"].tolist()
    assert outputs["prediction"].tolist() == expected == [1]
    assert outputs["probability"].tolist() == [[0.6, 0.4]]


@pytest.mark.slow
def test_weights_that_do_not_fit_are_not_exported(tmp_path):
    arrays = [np.zeros_like(array) for array in build_network(SMALL).get_weights()]
    arrays[-2] = arrays[-2].T.copy()
    ensemble = Ensemble((SMALL,), (0,), (pack_weights(arrays),), ())
    for kind in RUN:
        with pytest.raises(ValueError, match="The weights of member 0 do not fit its network"):
            exported.export_ensemble(ensemble, tmp_path / "export", kind, False, None, False)


@pytest.mark.parametrize("kind", RUN)
def test_what_comes_to_the_path_during_an_export_stays(model, kind, tmp_path, monkeypatch):
    path, metadata = tmp_path / "export", exported._metadata

    def metadata_late(*values):
        path.write_text("thesis")
        return metadata(*values)

    monkeypatch.setattr(exported, "_metadata", metadata_late)
    text = refused(model.export, path, kind, kind=FileExistsError)
    assert text == f"Path {path} exists already; choose another, or export with overwrite=True."
    assert path.read_text() == "thesis"
    assert list(tmp_path.iterdir()) == [path]


def test_another_format_is_refused(model, tmp_path):
    assert refused(model.export, tmp_path / "export", "keras") == (
        "The 'format' of an export must be one of 'onnx', 'tf_saved_model'. Got 'keras' instead."
    )


def test_a_uri_is_refused(model):
    assert refused(model.export, "hdfs:///models/ensemble", "onnx") == (
        "An export goes to a disk of this machine, and 'hdfs:///models/ensemble' is a URI (hdfs); give a local path, such "
        "as '/tmp/ensemble', and copy the result."
    )


def test_an_ensemble_that_a_file_cannot_hold_is_refused(model, tmp_path, monkeypatch):
    monkeypatch.setattr("spark_cnn_ensemble.exported.MOST_BYTES", 1000)
    text = refused(model.export, tmp_path / "export", "onnx")
    assert text.endswith("export with format='tf_saved_model', or a subset of the members.")


def test_an_export_without_its_package_says_what_to_install(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert refused(model.export, tmp_path / "export", "onnx", kind=ImportError) == (
        "scoringEngine='onnx' and exports to ONNX need the package onnx, which this Python does not have; run pip "
        "install 'spark-cnn-ensemble[onnx]'."
    )
