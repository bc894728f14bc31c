"""A path without a whole model of the class is refused by `load`, a path that is taken or a pattern by `save`."""

import re
import shutil
from pathlib import Path

import pytest
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.linalg import Vectors
from support.feature_forms import two_by_two
from support.members import digests
from support.refusals import refused, refused_before_any_job
from support.saved_models import (
    edit_metadata,
    load_damaged,
    load_refused,
    members_of,
    metadata_file,
    set_value,
    without_checksum,
    write_metadata,
)

from spark_cnn_ensemble import CNNEnsembleClassificationModel, CNNEnsembleClassifier
from spark_cnn_ensemble.engine import engine_of

of_both_classes = pytest.mark.parametrize("cls", [CNNEnsembleClassificationModel, CNNEnsembleClassifier])
ESTIMATOR = "spark_cnn_ensemble.CNNEnsembleClassifier"
MODEL = "spark_cnn_ensemble.CNNEnsembleClassificationModel"


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    """The path of a saved model, which is not to be changed."""
    path = tmp_path_factory.mktemp("saved") / "model"
    model.save(str(path))
    return path


@pytest.fixture
def copy(saved, tmp_path):
    """The path of a copy of the saved model, to be damaged."""
    shutil.copytree(saved, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def estimator(spark, tmp_path):
    """The path of a saved estimator, to be damaged."""
    two_by_two().save(str(tmp_path / "estimator"))
    return tmp_path / "estimator"


def load(path):
    return CNNEnsembleClassificationModel.load(str(path))


def test_an_undamaged_copy_loads(copy, model):
    edit_metadata(copy, lambda metadata: None)
    assert digests(load(copy)) == digests(model)


# ---- what is not a saved model


@of_both_classes
def test_load_refuses_a_path_that_does_not_exist(spark, tmp_path, cls):
    text = load_refused(tmp_path / "nowhere", FileNotFoundError, cls)
    assert text.startswith(f"Folder {tmp_path / 'nowhere'} does not exist;")
    assert text.endswith(f"; pass the path that a {cls.__name__} was saved to.")


@of_both_classes
@pytest.mark.parametrize("case", ["an empty folder", "a file", "other files", "empty metadata"])
def test_load_refuses_a_path_to_something_else(spark, tmp_path, cls, case):
    path = tmp_path / "thing"
    if case == "a file":
        path.write_text("Dear diary")
    else:
        path.mkdir()
    if case == "other files":
        (path / "metadata").write_text("Dear diary")
    if case == "empty metadata":
        (path / "metadata").mkdir()
        (path / "metadata" / "part-00000").write_text("")
    text = load_refused(path, cls=cls)
    assert re.search(rf"is not a saved {cls.__name__}: its metadata cannot be read \(.+\); pass .*\.$", text), text


@pytest.fixture(scope="module")
def saved_by_spark(spark, tmp_path_factory):
    """The path of a saved model of another class."""
    path = tmp_path_factory.mktemp("other") / "model"
    frame = spark.createDataFrame([(Vectors.dense(0.0), 0.0), (Vectors.dense(1.0), 1.0)], ["features", "label"])
    LogisticRegression(maxIter=1).fit(frame).save(str(path))
    return path


@of_both_classes
def test_load_refuses_a_model_of_another_class(saved_by_spark, cls):
    text = load_refused(saved_by_spark, cls=cls)
    assert text.endswith(
        " holds a org.apache.spark.ml.classification.LogisticRegressionModel, not a "
        f"spark_cnn_ensemble.{cls.__name__}; load it with that class."
    ), text


def test_load_of_the_model_refuses_an_estimator(estimator):
    text = load_refused(estimator)
    assert text.endswith(f" holds a {ESTIMATOR}, not a {MODEL}; load it with that class."), text


def test_load_of_the_estimator_refuses_a_model(saved):
    text = load_refused(saved, cls=CNNEnsembleClassifier)
    assert text.endswith(f" holds a {MODEL}, not a {ESTIMATOR}; load it with that class."), text


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_load_refuses_another_format_version(copy, version):
    edit_metadata(copy, set_value("formatVersion", to=version))
    text = load_refused(copy)
    assert text.endswith(
        f" has format version {version}, but this version of spark_cnn_ensemble reads version 1; load it with the version "
        "that wrote it."
    ), text


# ---- damaged metadata

NOT_METADATA = {
    "truncated": lambda text: text[: len(text) // 2],
    "not JSON": lambda text: "Dear diary",
    "a list": lambda text: "[1]",
    "a number": lambda text: "7",
    "an empty dict": lambda text: "{}",
}


@pytest.mark.parametrize("case", NOT_METADATA)
def test_load_refuses_metadata_that_cannot_be_read(copy, case):
    write_metadata(copy, NOT_METADATA[case](metadata_file(copy).read_text()))
    text = load_refused(copy)
    reason = "" if case == "an empty dict" else r": its metadata cannot be read \(.+\)"
    assert re.search(rf"is not a saved CNNEnsembleClassificationModel{reason}.*; pass .*\.$", text), text


def without(*path):
    """An edit that deletes the value at `path`."""

    def edit(metadata):
        for key in path[:-1]:
            metadata = metadata[key]
        metadata.pop(path[-1])

    return edit


INCOMPLETE = {
    "no ensemble": without("ensemble"),
    "no summary": without("summary"),
    "no uid": without("uid"),
    "no paramMap": without("paramMap"),
    "ensemble is null": set_value("ensemble", to=None),
    "no architectures": without("ensemble", "architectures"),
    "members is null": set_value("ensemble", "members", to=None),
    "no sha256 of a member": without("ensemble", "members", 1, "sha256"),
    "no history of a member": without("ensemble", "members", 1, "history"),
    "size of a member is text": set_value("ensemble", "members", 1, "size", to="large"),
    "an unknown field of an architecture": set_value("ensemble", "architectures", 0, "wings", to=2),
    "an unknown param": set_value("paramMap", "wings", to=2),
    "a param of another type": set_value("paramMap", "numMembers", to="three"),
}


@pytest.mark.parametrize("case", INCOMPLETE)
def test_load_refuses_metadata_that_is_incomplete_or_unknown(copy, case):
    edit_metadata(copy, INCOMPLETE[case])
    assert re.search(r"is damaged: its metadata .*;", load_damaged(copy))


def test_load_refuses_an_estimator_with_an_unknown_param(estimator):
    edit_metadata(estimator, set_value("paramMap", "wings", to=2))
    text = load_refused(estimator, cls=CNNEnsembleClassifier)
    assert re.search(r"is damaged: its metadata .*; copy or save the model again\.$", text), text


# ---- damaged weights


def test_load_refuses_a_model_without_the_folder_of_members(copy):
    shutil.rmtree(members_of(copy))
    assert re.search(r"is damaged: its members cannot be read \(.+\);", load_damaged(copy))


def test_load_refuses_a_model_without_files_of_members(copy):
    for file in members_of(copy).iterdir():
        if file.is_file():
            file.unlink()
    assert re.search(r"is damaged: (its|the) ", load_damaged(copy))


def test_load_refuses_a_model_that_lacks_a_file_of_members(copy):
    first, *others = sorted(members_of(copy).glob("*.parquet"))
    assert others
    first.unlink()
    assert "is damaged: the weights of member 0 differ from those that were saved;" in load_damaged(copy)


def flip_bit(folder, where):
    """Flip a bit in the largest file of members, and give the file."""
    file = max(members_of(folder).glob("*.parquet"), key=lambda file: file.stat().st_size)
    data = bytearray(file.read_bytes())
    at = {"magic": 0, "data": len(data) // 2, "name of the writer": -40, "length of the footer": -5}[where]
    data[at] ^= 0x40
    file.write_bytes(data)
    return file


@pytest.mark.parametrize("where", ["magic", "data", "name of the writer", "length of the footer"])
def test_load_refuses_a_flipped_bit(copy, where):
    flip_bit(copy, where)
    assert re.search(r"is damaged: (its|the) ", load_damaged(copy))


@pytest.mark.parametrize("where", ["data", "length of the footer"])
def test_load_refuses_a_flipped_bit_without_hadoops_checksum(copy, where):
    without_checksum(flip_bit(copy, where))
    assert re.search(r"is damaged: (its|the) ", load_damaged(copy))


@pytest.mark.parametrize("where", ["magic", "name of the writer"])
def test_a_flipped_bit_that_no_reader_looks_at_changes_nothing(copy, model, where):
    without_checksum(flip_bit(copy, where))
    assert digests(load(copy)) == digests(model)


def test_load_refuses_weights_whose_sha256_differs(copy):
    edit_metadata(copy, set_value("ensemble", "members", 1, "sha256", to="0" * 64))
    assert "is damaged: the weights of member 1 differ from those that were saved;" in load_damaged(copy)


# ---- saving


@pytest.mark.parametrize("kind", ["model", "estimator"])
def test_save_refuses_a_path_that_exists_and_leaves_it_as_it_is(copy, model, tmp_path, kind):
    instance = model if kind == "model" else two_by_two()
    text = refused(instance.save, str(copy), kind=FileExistsError)
    assert text == f"Path {copy} exists already; choose another, or overwrite it explicitly."
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert digests(load(copy)) == digests(model)


def test_save_refuses_a_path_that_another_job_creates_in_the_meantime(spark, tmp_path):
    target = tmp_path / "model"

    def write(path):
        Path(path).mkdir()
        target.mkdir()
        (target / "of another job").touch()

    text = refused(engine_of(spark).files.write_whole, str(target), write, False, kind=FileExistsError)
    others = f"Path {target} exists already; choose another, or overwrite it explicitly (the result is in "
    assert text.startswith(others)
    assert Path(text.removeprefix(others).removesuffix(").")).is_dir()
    assert [path.name for path in target.iterdir()] == ["of another job"]


PATTERNS = ["run[1]", "run*", "run?", "{a,b}"]


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("kind", ["model", "estimator"])
def test_save_refuses_a_path_that_spark_reads_as_a_pattern(scorer, tmp_path, name, kind):
    instance = scorer if kind == "model" else two_by_two()
    path = str(tmp_path / name)
    assert refused(instance.write().overwrite().save, path) == (
        f"Path '{path}' has a character that Spark reads as a pattern (* ? [ ] {{ }}); choose another."
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", PATTERNS)
def test_fit_refuses_a_checkpoint_path_that_spark_reads_as_a_pattern(spark, good, tmp_path, name):
    path = str(tmp_path / name)
    assert refused_before_any_job(spark, two_by_two(checkpointDir=path).fit, good) == (
        f"checkpointDir '{path}' has a character that Spark reads as a pattern (* ? [ ] {{ }}); choose another."
    )
    assert not list(tmp_path.iterdir())
