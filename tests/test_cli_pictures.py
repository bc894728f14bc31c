"""The command line on pictures: trained on class folders, scored in any folder, with the names of the classes shown."""

import shutil

import numpy as np
import pytest
from PIL import Image
from pyspark.ml import PipelineModel

from spark_cnn_ensemble.cli import main

NAMES = ["100% cotton", "c++"]
SMALL = ["--num-members", "2", "--filters", "4", "--kernel-size", "3", "--dense-units", "16", "--epochs", "4"]
SMALL += ["--learning-rate", "0.01", "--batch-size", "10", "--bagging", "bootstrap", "--verbose", "0"]
PICTURES = ["--format", "images"]


@pytest.fixture(scope="module")
def photos(digits, tmp_path_factory):
    """Folders of digits 0 and 1: train and test with one folder per class, and new, which is flat."""
    folder = tmp_path_factory.mktemp("photos")
    (x, y), _ = digits
    for count, index in enumerate(np.flatnonzero(y < 2)[:200]):
        place = "new" if count % 10 == 0 else f"{'test' if count % 10 == 1 else 'train'}/{NAMES[y[index]]}"
        (folder / place).mkdir(parents=True, exist_ok=True)
        Image.fromarray((x[index] * 15).astype(np.uint8)).save(folder / place / f"{y[index]}-{index}.png")
    return folder


@pytest.fixture(scope="module")
def trained(spark, photos):
    """The path of the model that `train` wrote; its report is beside it."""
    files = ["--output", str(photos / "model"), "--report", str(photos / "report.html")]
    assert main(["train", "--input", str(photos / "train"), *PICTURES, *files, *SMALL]) == 0
    return str(photos / "model")


def test_a_flat_folder_of_new_pictures_is_scored(spark, photos, trained, tmp_path):
    output = str(tmp_path / "scored")
    assert main(["score", "--input", str(photos / "new"), *PICTURES, "--model", trained, "--output", output]) == 0
    rows = spark.read.parquet(output).collect()
    assert len(rows) == 20
    assert {row.className for row in rows} == {None}
    assert {row.predictedClassName for row in rows} == set(NAMES)
    right = sum(row.predictedClassName == NAMES[int(row.path.split("/")[-1][0])] for row in rows)
    assert right >= 18


def test_pictures_in_class_folders_keep_their_names(spark, photos, trained, tmp_path):
    output = str(tmp_path / "scored")
    assert main(["score", "--input", str(photos / "test"), *PICTURES, "--model", trained, "--output", output]) == 0
    rows = spark.read.parquet(output)
    assert {row.className for row in rows.collect()} == set(NAMES)
    assert rows.where("predictedClassName = className").count() >= 18


def test_an_evaluation_shows_the_names(photos, trained, capsys):
    capsys.readouterr()
    assert main(["evaluate", "--input", str(photos / "test"), *PICTURES, "--model", trained]) == 0
    printed = capsys.readouterr().out
    assert "rows 20 (0 left out)" in printed
    head, *lines = printed.splitlines()[-3:]
    assert head.split("  ")[-3:] == ["100% cott…", "c++", "recall"] or head.endswith("c++  recall")
    assert [line.strip().startswith(name) for line, name in zip(lines, NAMES, strict=True)] == [True, True]


def test_the_report_shows_the_names(photos, trained):
    report = (photos / "report.html").read_text()
    assert "100% cotton" in report and "c++" in report


def test_the_pictures_of_a_saved_model_show_the_names(trained):
    _, ensemble, _ = PipelineModel.load(trained).stages
    assert ensemble.classNames == tuple(NAMES)
    assert ensemble.summary.outOfBag.classNames == tuple(NAMES)


@pytest.mark.spark
def test_train_prints_the_classes(photos, tmp_path, capsys):
    files = ["--output", str(tmp_path / "model")]
    assert main(["train", "--input", str(photos / "train"), *PICTURES, *files, *SMALL, "--epochs", "1"]) == 0
    first, *_ = capsys.readouterr().out.splitlines()
    counts = [len(list((photos / "train" / name).iterdir())) for name in NAMES]
    assert first == f"2 classes: 100% cotton {counts[0]}, c++ {counts[1]}."


@pytest.fixture
def strange(photos, tmp_path):
    """The test pictures, with ten in a folder that is not a class, and a file that is not a picture."""
    shutil.copytree(photos / "test", tmp_path / "test")
    (tmp_path / "test" / "fish").mkdir()
    for file in list((tmp_path / "test" / "c++").iterdir())[:5]:
        file.rename(tmp_path / "test" / "fish" / file.name)
    (tmp_path / "test" / "c++" / "diary.png").write_text("Dear diary")
    return str(tmp_path / "test")


def test_an_evaluation_names_unknown_classes(strange, trained, capsys):
    assert main(["evaluate", "--input", strange, *PICTURES, "--model", trained]) == 1
    assert "The model has no class 'fish', which --input has; its classes are '100% cotton'" in capsys.readouterr().err


def test_an_evaluation_of_a_flat_folder_names_it(photos, trained, capsys):
    assert main(["evaluate", "--input", str(photos / "new"), *PICTURES, "--model", trained]) == 1
    assert "The model has no class 'new', which --input has;" in capsys.readouterr().err


def test_an_evaluation_leaves_out_what_is_invalid(strange, trained, capsys):
    skipping = ["--handle-invalid", "skip"]
    assert main(["evaluate", "--input", strange, *PICTURES, "--model", trained, *skipping]) == 0
    assert "rows 15 (6 left out)" in capsys.readouterr().out


@pytest.mark.parametrize(("how", "rows", "scored"), [("skip", 20, 20), ("keep", 21, 20)])
def test_score_handles_what_is_invalid(spark, strange, trained, tmp_path, how, rows, scored):
    output = str(tmp_path / "scored")
    arguments = ["--input", strange, *PICTURES, "--model", trained, "--output", output, "--handle-invalid", how]
    assert main(["score", *arguments]) == 0
    found = spark.read.parquet(output)
    assert (found.count(), found.where("prediction IS NOT NULL").count()) == (rows, scored)
    assert found.where("predictedClassName IS NOT NULL").count() == scored


def test_an_invalid_picture_fails_the_command_without_the_option(strange, trained, tmp_path, capsys):
    arguments = ["--input", strange, *PICTURES, "--model", trained, "--output", str(tmp_path / "scored")]
    assert main(["score", *arguments]) == 1
    assert "bytes that are not a PNG or JPEG" in capsys.readouterr().err
