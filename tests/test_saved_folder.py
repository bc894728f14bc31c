"""A folder is overwritten by generations: all or nothing, whoever else saves, reads or is killed."""

import json
import os
import shutil
import threading
import time
from pathlib import Path

import pytest
from support.classifiers import small
from support.instances import assert_same

from spark_cnn_ensemble import CNNEnsembleClassificationModel, CNNEnsembleClassifier
from spark_cnn_ensemble.engine import engine_of, hadoop
from spark_cnn_ensemble.saved_folder import SavedFolder

MODEL_V1 = Path(__file__).parent / "data" / "model-v1"


MODEL_V1 = Path(__file__).parent / "data" / "model-v1"


def load(path):
    return CNNEnsembleClassificationModel.load(str(path))


def visible(folder):
    """The names of a folder's files and folders that are not hidden."""
    return sorted(path.name for path in folder.iterdir() if path.name[0] not in "._")


@pytest.mark.parametrize("name", ["model", "my model, 100 % größer #2"])
def test_an_overwritten_model_leaves_one_generation(model, tmp_path, name):
    path = tmp_path / name
    for size in (1, 2, 3):
        model.subset(range(size)).write().overwrite().save(str(path))
        (metadata,) = [json.loads((path / "metadata" / name).read_text()) for name in visible(path / "metadata")]
        assert metadata["generation"] == size
        assert visible(path / "members") == [f"save={metadata['save']}"]
        assert load(path).getNumMembers() == size


def test_a_model_that_version_0_1_saved_is_overwritten(model, tmp_path):
    path = tmp_path / "model"
    shutil.copytree(MODEL_V1, path)
    assert load(path).getNumMembers() != 2
    other = model.subset([0, 1])
    other.write().overwrite().save(str(path))
    assert_same(load(path), other)
    assert len(visible(path / "metadata")) == len(visible(path / "members")) == 1


def test_an_estimator_and_a_model_overwrite_each_other(model, tmp_path):
    path = str(tmp_path / "saved")
    small().save(path)
    model.write().overwrite().save(path)
    assert_same(load(path), model)
    small(numMembers=7).write().overwrite().save(path)
    assert CNNEnsembleClassifier.load(path).getNumMembers() == 7
    assert not visible(tmp_path / "saved" / "members")


def test_what_others_wrote_is_overwritten_whole(spark, model, tmp_path):
    path = tmp_path / "table"
    spark.range(3).write.parquet(str(path))
    with pytest.raises(FileExistsError):
        model.save(str(path))
    assert spark.read.parquet(str(path)).count() == 3
    model.write().overwrite().save(str(path))
    assert_same(load(path), model)
    assert visible(tmp_path) == ["table"]
    assert visible(path) == ["members", "metadata"]


@pytest.fixture
def meeting(spark, monkeypatch):
    """Makes two saves wait for each other before their commits."""
    barrier, kind = threading.Barrier(2, timeout=60), type(engine_of(spark).files)
    add = kind.add

    def add_together(self, folder, name, line):
        if not barrier.broken and name.endswith("1.txt"):
            barrier.wait()
        return add(self, folder, name, line)

    monkeypatch.setattr(kind, "add", add_together)


def save_both(first, second):
    """Run two saves at once; returns the errors."""
    errors = []

    def save(write):
        try:
            write()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=save, args=[write]) for write in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_of_two_first_saves_at_once_one_is_refused(model, tmp_path, meeting):
    path = str(tmp_path / "model")
    one, other = model.subset([0]), model.subset([1, 2])
    (error,) = save_both(lambda: one.save(path), lambda: other.save(path))
    assert isinstance(error, FileExistsError)
    loaded = load(path)
    assert_same(loaded, one if loaded.getNumMembers() == 1 else other)
    assert len(visible(tmp_path / "model" / "members")) == 1


def test_of_two_overwrites_at_once_both_succeed_and_one_stays(model, tmp_path, meeting):
    path = str(tmp_path / "model")
    one, other = model.subset([0]), model.subset([1, 2])
    assert not save_both(lambda: one.write().overwrite().save(path), lambda: other.write().overwrite().save(path))
    loaded = load(path)
    assert_same(loaded, one if loaded.getNumMembers() == 1 else other)
    assert len(visible(tmp_path / "model" / "members")) == 1


def test_a_model_is_loaded_while_it_is_overwritten(model, tmp_path):
    path, sizes, errors, done = str(tmp_path / "model"), [], [], threading.Event()
    model.save(path)

    def load_repeatedly():
        try:
            while not done.is_set():
                sizes.append(load(path).getNumMembers())
        except Exception as error:
            errors.append(error)

    reader = threading.Thread(target=load_repeatedly)
    reader.start()
    saves = 0
    while not errors and (saves < 12 or len(sizes) < 3):
        saves += 1
        model.subset(range(saves % 3 + 1)).write().overwrite().save(path)
    done.set()
    reader.join()
    assert not errors
    assert set(sizes) <= {1, 2, 3}


def killed_save(spark, path):
    """Leave what a save leaves that is killed before its commit."""

    def write(members):
        spark.range(1).write.parquet(members)
        raise SystemExit

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(SavedFolder, "_abandon", lambda self, save: None)
        SavedFolder(spark, str(path)).save(write, overwrite=True)


def test_a_first_save_that_was_killed_does_not_block_the_next(spark, model, tmp_path):
    path = tmp_path / "model"
    killed_save(spark, path)
    assert visible(path) == ["members"]
    with pytest.raises(ValueError, match="is not a saved"):
        load(path)
    model.save(str(path))
    assert_same(load(path), model)


def test_a_model_of_version_0_1_can_be_loaded_after_a_killed_overwrite(spark, tmp_path):
    """Its members are files next to the folder that the killed save has begun."""
    path = tmp_path / "model"
    shutil.copytree(MODEL_V1, path)
    before = load(path)
    killed_save(spark, path)
    assert "save=" in "".join(file.name for file in (path / "members").iterdir())
    assert_same(load(path), before)


@pytest.mark.parametrize("kind", ["a model", "an estimator", "over a model"])
def test_a_save_that_fails_at_its_last_step_leaves_what_was_there(model, tmp_path, monkeypatch, kind):
    path = tmp_path / "saved"
    if kind == "over a model":
        model.save(str(path))
    files = {file for file in path.rglob("*") if file.is_file()}
    instance = small() if kind == "an estimator" else model

    def full(*arguments):
        raise RuntimeError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(hadoop, "_link", full)
        with pytest.raises(RuntimeError, match="disk full"):
            instance.write().overwrite().save(str(path))
    assert {file for file in path.rglob("*") if file.is_file()} == files
    assert path.exists() == (kind == "over a model")
    if kind == "over a model":
        assert_same(load(path), model)
    else:
        instance.save(str(path))


@pytest.mark.parametrize(("hours", "stays"), [(23, True), (25, False)])
def test_members_of_a_killed_save_are_deleted_after_a_day(spark, model, tmp_path, hours, stays):
    path = tmp_path / "model"
    killed_save(spark, path)
    (orphan,) = (path / "members").iterdir()
    os.utime(orphan, times=(time.time() - hours * 3600,) * 2)
    model.save(str(path))
    assert orphan.exists() == stays
    assert_same(load(path), model)


def test_a_failure_while_older_generations_are_deleted_does_not_fail_the_save(spark, model, tmp_path, monkeypatch):
    path = str(tmp_path / "model")
    model.save(path)

    def fail(*_):
        raise OSError("not allowed")

    monkeypatch.setattr(type(engine_of(spark).files), "delete", fail)
    model.subset([0]).write().overwrite().save(path)
    assert load(path).getNumMembers() == 1
    assert len(visible(tmp_path / "model" / "metadata")) == 2
