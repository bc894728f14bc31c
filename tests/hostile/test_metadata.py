"""Metadata with values of another type, sign or length is refused; it imports nothing and leads to no other path."""

import json
import math
import sys

import pytest
from pyspark.ml import Pipeline
from support.classifiers import small
from support.saved_models import (
    edit_metadata,
    load_damaged,
    load_refused,
    metadata_file,
    set_value,
    write_metadata,
)

from spark_cnn_ensemble import CNNEnsembleClassificationModel, CNNEnsembleClassifier

of_both_classes = pytest.mark.parametrize("cls", [CNNEnsembleClassificationModel, CNNEnsembleClassifier])
NETWORK, MEMBER, VOTES = ("ensemble", "architectures", 0), ("ensemble", "members", 1), ("summary", "outOfBag")


def short(value):
    """A value as the id of a test."""
    text = repr(value)
    return text if len(text) <= 30 else f"{text[:20]}... of {len(text)}"


@pytest.mark.parametrize("depth", [10**5, 10**6])
def test_deeply_nested_metadata_is_refused(copy, depth):
    write_metadata(copy, '{"class": ' + "[" * depth + "]" * depth + "}")
    text = load_refused(copy)
    assert " is not a saved CNNEnsembleClassificationModel: its metadata cannot be read (" in text


# ---- class


@of_both_classes
def test_a_class_that_metadata_names_is_not_imported(copy, tmp_path, monkeypatch, cls):
    created = tmp_path / "created"
    (tmp_path / "hostile_library.py").write_text(f"open({str(created)!r}, 'w')\nclass Model: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    edit_metadata(copy, set_value("class", to="hostile_library.Model"))
    text = load_refused(copy, cls=cls)
    assert " holds a hostile_library.Model, not a spark_cnn_ensemble." in text
    assert not created.exists()
    assert "hostile_library" not in sys.modules


@pytest.mark.parametrize("value", [["a"] * 10**5, "x" * 10**6, "two\nlines", {"a": 1}], ids=short)
def test_a_class_that_is_not_a_name_is_refused_in_a_short_sentence(copy, value):
    edit_metadata(copy, set_value("class", to=value))
    assert len(load_refused(copy)) < 1000


# ---- paths


@pytest.mark.parametrize("uid", ["../../x", "/etc/x", "a/b", "a\\b", "", "x" * 300, 7, None, ["x"], "a b\n"], ids=short)
def test_a_uid_that_could_be_a_path_is_refused(copy, uid):
    edit_metadata(copy, set_value("uid", to=uid))
    assert "its metadata is damaged (" in load_damaged(copy)


def test_an_estimators_uid_that_could_be_a_path_is_refused(spark, tmp_path):
    small().save(str(tmp_path / "estimator"))
    edit_metadata(tmp_path / "estimator", set_value("uid", to="../../x"))
    load_refused(tmp_path / "estimator", cls=CNNEnsembleClassifier)


def test_spark_makes_a_path_of_a_uid(spark, tmp_path):
    """Why a uid that could be a path must be refused: a saved pipeline would escape from its folder."""
    estimator = small()
    estimator._resetUid("x/../../../escaped")
    Pipeline(stages=[estimator]).save(str(tmp_path / "inner" / "pipeline"))
    assert (tmp_path / "inner" / "escaped").exists()


def texts_in(value):
    if isinstance(value, dict):
        return [text for each in value.values() for text in texts_in(each)]
    if isinstance(value, list):
        return [text for each in value for text in texts_in(each)]
    return [value] if isinstance(value, str) else []


def test_metadata_that_is_saved_has_no_path(saved):
    metadata = json.loads(metadata_file(saved).read_text())
    assert metadata.pop("class") == "spark_cnn_ensemble.CNNEnsembleClassificationModel"
    pictures = [row.pop("png") for row in metadata["summary"]["outOfBag"]["disputedRows"]]
    texts = texts_in(metadata)
    assert len(texts) > 10
    assert not [text for text in texts if "/" in text or str(saved) in text], pictures


# ---- values

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
    (*NETWORK, "scaled"): [1, "no", None, []],
    (*NETWORK, "network"): [1, None, [], "not JSON", "{}"],
    ("ensemble", "architectures"): [[], {}, None, [1]],
    ("ensemble", "members"): [[], {}, None, [1], [None, None]],
    ("ensemble", "classNames"): [["a"], ["a", "b", "c"], [1, 2], "ab", {}, 3],
    (*MEMBER, "architecture"): [1, -1, 0.0, True, "0", None, 10**30],
    (*MEMBER, "sha256"): ["", 7, None, "A" * 64],
    (*MEMBER, "member"): [*NOT_COUNTS, "../../x"],
    (*MEMBER, "rows"): NOT_COUNTS,
    (*MEMBER, "retries"): NOT_COUNTS,
    (*MEMBER, "keptEpoch"): [*NOT_COUNTS, 10**6],
    (*MEMBER, "spilled"): [1, "no", None],
    (*MEMBER, "seconds"): ["1", None, True, -1, float("nan"), float("inf"), 10**400],
    (*MEMBER, "classCounts"): [
        [1],
        [1, 2, 3],
        [-1, 2],
        [0.5, 1],
        [-0.5, 1.5],
        [math.nan, 1.0],
        [1e300, 1.0],
        "12",
        None,
    ],
    (*MEMBER, "history"): [{}, [], None, {"loss": [], "accuracy": []}, {"loss": [1.0]}],
    (*MEMBER, "history", "loss"): [["1"], [1.0, 2.0], 3, None, [[1.0]], [10**400], [float("nan")]],
    (*MEMBER, "history", "accuracy"): [[-0.1], [1.1], [float("nan")]],
    (*MEMBER, "history", "<b>loss</b>"): [[1.0]],
    ("summary", "rows"): NOT_COUNTS,
    ("summary", "unusedRows"): NOT_COUNTS,
    ("summary", "seconds"): ["1", None, -1.5, 10**400],
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


@pytest.mark.parametrize(
    ("path", "value"),
    [
        pytest.param(path, value, id=f"{'.'.join(map(str, path))}={short(value)}")
        for path, values in BAD_VALUES.items()
        for value in values
    ],
)
def test_a_value_of_another_type_sign_or_length_is_refused(copy, path, value):
    edit_metadata(copy, set_value(*path, to=value))
    assert "its metadata is damaged (" in load_damaged(copy)


def test_networks_for_different_images_are_refused(copy):
    def add_network(metadata):
        networks = metadata["ensemble"]["architectures"]
        networks.append({**networks[0], "input_shape": [3, 3, 1]})

    edit_metadata(copy, add_network)
    assert "its networks are not all for the same images and classes" in load_damaged(copy)


def test_a_picture_with_markup_is_refused(copy):
    picture = {"uncertainty": 1.0, "label": 0, "votes": [1, 1], "png": '"><script>alert(1)</script>'}
    edit_metadata(copy, set_value(*VOTES, "disputedRows", to=[picture]))
    assert "its metadata is damaged (" in load_damaged(copy)


def test_metadata_of_many_rows_loads(copy):
    votes = {"labels": [0] * 20_000, "votes": [[0, -1]] * 20_000, "predictions": [0] * 20_000}
    edit_metadata(copy, lambda metadata: metadata["summary"]["outOfBag"].update(votes, disputedRows=[]))
    assert CNNEnsembleClassificationModel.load(str(copy)).summary.outOfBag.rows == 20_000
