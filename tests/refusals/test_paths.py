"""A path may be a str or a pathlib.Path wherever one is taken; what cannot be written or reached is one sentence."""

import json
import re
from pathlib import Path, PurePosixPath

import pytest
from support.classifiers import small
from support.feature_forms import two_by_two
from support.members import digests
from support.refusals import refused, refused_before_any_job

from spark_cnn_ensemble import CNNEnsembleClassificationModel, CNNEnsembleClassifier

S3 = r"Spark has no jar for s3a:// paths; set spark\.jars\.packages .*hadoop-aws:[\d.]+ before Spark starts\.$"


def test_a_model_is_saved_to_and_loaded_from_a_path(model, tmp_path):
    model.save(tmp_path / "model")
    model.write().overwrite().save(tmp_path / "model")
    loaded = CNNEnsembleClassificationModel.load(tmp_path / "model")
    again = CNNEnsembleClassificationModel.read().load(tmp_path / "model")
    assert digests(loaded) == digests(again) == digests(model)


def test_an_estimator_with_a_path_is_saved_and_loaded(spark, tmp_path):
    classifier = small(checkpointDir=tmp_path / "checkpoint")
    assert classifier.getCheckpointDir() == str(tmp_path / "checkpoint")
    classifier.setCheckpointDir(tmp_path / "other")
    classifier.save(tmp_path / "estimator")
    loaded = CNNEnsembleClassifier.load(tmp_path / "estimator")
    assert loaded.getCheckpointDir() == str(tmp_path / "other")
    json.dumps([value for value in loaded.extractParamMap().values()])


def test_a_fit_resumes_from_a_path(spark, good, tmp_path):
    classifier = two_by_two(checkpointDir=tmp_path / "checkpoint")
    first, second = classifier.fit(good), classifier.fit(good)
    assert digests(first) == digests(second)
    assert second.summary.resumedMembers


def test_reports_are_written_to_paths(model, tmp_path):
    model.summary.to_html(tmp_path / "report.html")
    model.summary.to_tensorboard(tmp_path / "board")
    assert (tmp_path / "report.html").exists() and list((tmp_path / "board").rglob("*tfevents*"))


@pytest.mark.parametrize("value", [7, b"model", None, ["model"]], ids=str)
def test_what_is_not_a_path_is_refused(model, value):
    with pytest.raises(TypeError):
        model.save(value)
    with pytest.raises(TypeError):
        CNNEnsembleClassificationModel.load(value)


@pytest.mark.parametrize("uri", ["s3a://bucket/x", "hdfs://host:8020/x", "file:///tmp/x", "file:/tmp/x"])
def test_a_uri_that_pathlib_has_changed_is_refused(scorer, uri):
    path = PurePosixPath(uri)
    text = refused(scorer.save, path)
    assert text.startswith(f"PurePosixPath('{path}') was a URI before pathlib removed a slash; pass it as a str")
    assert refused(CNNEnsembleClassificationModel.load, path) == text
    assert refused(two_by_two, kind=(ValueError, TypeError), checkpointDir=path).endswith(text)


# ---- what cannot be written or reached


@pytest.mark.parametrize("kind", ["model", "estimator"])
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("{file}/model", "The folder .* cannot be made; check the path and its permissions, or choose another.$"),
        ("/proc/x/model", "The folder .* cannot be made; check the path and its permissions, or choose another.$"),
        ("s3a://bucket/model", S3),
        ("foo://x/model", "Spark has no filesystem for foo:// paths; check the path, or add the jar .* Spark starts.$"),
    ],
)
def test_save_refuses_a_place_that_cannot_be_written(scorer, tmp_path, kind, path, message):
    (tmp_path / "file").write_text("Dear diary")
    instance = scorer if kind == "model" else two_by_two()
    text = refused(instance.save, path.format(file=tmp_path / "file"), kind=OSError)
    assert re.search(message, text) and "\n" not in text, text


@pytest.mark.parametrize("cls", [CNNEnsembleClassificationModel, CNNEnsembleClassifier])
def test_load_refuses_a_filesystem_without_a_jar(spark, cls):
    assert re.match(S3, refused(cls.load, "s3a://bucket/model", kind=OSError))


@pytest.mark.parametrize(
    ("path", "message"),
    [("{file}/x", "The folder .* cannot be made;"), ("/proc/x", "The folder .* cannot be made;"), ("s3a://b/x", S3)],
)
def test_fit_refuses_a_checkpoint_that_cannot_be_written_before_any_job(spark, good, tmp_path, path, message):
    (tmp_path / "file").write_text("Dear diary")
    path = path.format(file=tmp_path / "file")
    text = refused_before_any_job(spark, two_by_two(checkpointDir=path).fit, good, kind=OSError)
    assert re.match(f"checkpointDir '{path}' cannot be used: {message}", text), text


@pytest.mark.parametrize(
    "path", ["/proc/report.html", "{folder}", "{folder}/nowhere/report.html", "{file}/report.html"]
)
def test_a_report_refuses_a_place_that_cannot_be_written(model, tmp_path, path):
    (tmp_path / "file").write_text("Dear diary")
    path = Path(path.format(folder=tmp_path, file=tmp_path / "file"))
    text = refused(model.summary.to_html, path, kind=OSError)
    assert re.search(
        "folder.*; (choose another for|create it, or choose another for|give the path of a file for) ", text
    )


@pytest.mark.parametrize("path", ["/proc/x", "{file}/x", "foo://x"])
def test_event_files_refuse_a_place_that_cannot_be_written(model, tmp_path, path):
    (tmp_path / "file").write_text("Dear diary")
    text = refused(model.summary.to_tensorboard, path.format(file=tmp_path / "file"), kind=OSError)
    assert re.match(r"TensorFlow cannot write to .* \(.*\); choose another folder\.$", text), text
