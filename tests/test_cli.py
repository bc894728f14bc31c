"""The command line: every command on real files, every Param an option, errors in one sentence."""

import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from spark_cnn_ensemble import CNNEnsembleClassifier
from spark_cnn_ensemble.cli import _parser, main
from spark_cnn_ensemble.datasets import to_dataframe
from spark_cnn_ensemble.text.writer import write_text_matrix

SMALL = ["--num-members", "3", "--filters", "4", "--kernel-size", "3", "--dense-units", "16", "--epochs", "3"]
SMALL += ["--learning-rate", "0.005"]


@pytest.fixture(scope="module")
def text(tmp_path_factory, digits):
    """Folders train and test of text matrices."""
    folder = tmp_path_factory.mktemp("text")
    for name, (x, y) in zip(("train", "test"), digits, strict=True):
        write_text_matrix(str(folder / name), x, y)
    return folder


@pytest.fixture(scope="module")
def trained(spark, text, tmp_path_factory):
    """A model that the command line trained on text."""
    path = str(tmp_path_factory.mktemp("trained") / "model")
    arguments = ["--input", str(text / "train"), "--output", path, "--bagging", "subsample", "--id-col", "id"]
    assert main(["train", *arguments, *SMALL]) == 0
    return path


def test_help_names_every_param():
    told = subprocess.run(
        [sys.executable, "-m", "spark_cnn_ensemble", "train", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for param in CNNEnsembleClassifier().params:
        option = "--" + "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in param.name)
        assert option in told
    for command in ("demo", "train", "evaluate", "score"):
        assert command in _parser().format_help()


def test_options_become_params():
    options = _parser().parse_args(
        [
            "train",
            "--input",
            "x",
            "--output",
            "y",
            "--filters",
            "8,16",
            "--random-flip",
            "true",
            "--learning-rate",
            "0.1",
        ]
    )
    assert (options.param_filters, options.param_randomFlip, options.param_learningRate) == ([8, 16], True, 0.1)
    assert options.param_numMembers is None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--filters", "8,x"], "'8,x' is no number list"),
        (["--random-flip", "perhaps"], "'perhaps' is no true|false"),
        (["--network", "no/such/file.json"], "is no FILE"),
    ],
)
def test_an_option_that_cannot_be_read_is_named(arguments, told, capsys):
    with pytest.raises(SystemExit):
        _parser().parse_args(["train", "--input", "x", "--output", "y", *arguments])
    assert told in capsys.readouterr().err


def test_train_evaluate_score_on_text(spark, text, trained, tmp_path, capsys):
    assert main(["evaluate", "--input", str(text / "test"), "--model", trained]) == 0
    told = capsys.readouterr().out
    assert "rows 360 (0 left out)" in told
    accuracy = float(told.split("accuracy of the vote ")[1].split("%")[0]) / 100
    assert accuracy > 0.7
    scored = str(tmp_path / "scored")
    assert main(["score", "--input", str(text / "test"), "--model", trained, "--output", scored]) == 0
    rows = spark.read.parquet(scored)
    assert set(rows.columns) == {"id", "label", "rawPrediction", "probability", "prediction"}
    assert rows.where("prediction = label").count() / rows.count() == pytest.approx(accuracy, abs=5e-5)


def test_train_writes_a_report(text, tmp_path, capsys):
    report = tmp_path / "report.html"
    arguments = ["train", "--input", str(text / "train"), "--output", str(tmp_path / "model"), *SMALL]
    arguments += ["--bagging", "bootstrap", "--oob-sample-size", "200", "--report", str(report)]
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert re.search(r"Out-of-bag accuracy of the vote \d\d\.\d\d% \(.* to .*, 1\d\d rows\)\.", told), told
    assert f"Report written to {report}." in told
    assert report.read_text().startswith("<!DOCTYPE html>")


def test_score_parquet_to_csv_and_json(spark, digits, trained, tmp_path):
    rows = str(tmp_path / "rows")
    to_dataframe(spark, digits[1][0]).write.parquet(rows)
    for form in ("csv", "json"):
        out = str(tmp_path / form)
        arguments = ["--input", rows, "--format", "parquet", "--model", trained, "--output", out]
        assert main(["score", *arguments, "--output-format", form]) == 0
        assert spark.read.format(form).option("header", "true").load(out).select("id", "prediction").count() == 360


def test_train_on_a_folder_of_images_with_one_folder_a_class(spark, digits, tmp_path, capsys):
    (x, y), _ = digits
    names = {0: "no thing", 1: "one"}
    chosen = np.flatnonzero(y < 2)[:120]
    for index in chosen:
        folder = tmp_path / "images" / names[int(y[index])]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((x[index] * 15).astype(np.uint8)).save(folder / f"{index}.png")
    images, model, scored = (str(tmp_path / name) for name in ("images", "model", "scored"))
    source = ["--input", images, "--format", "images"]
    assert main(["train", *source, "--output", model, *SMALL, "--batch-size", "10"]) == 0
    assert main(["evaluate", *source, "--model", model]) == 0
    assert "rows 120 (0 left out)" in capsys.readouterr().out
    assert main(["score", *source, "--model", model, "--output", scored]) == 0
    rows = spark.read.parquet(scored)
    assert {row[0] for row in rows.select("predictedClassName").collect()} == set(names.values())
    assert rows.where("predictedClassName = className").count() > 100


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["train", "--input", "{text}/train", "--output", "{out}", "--num-members", "0"], "'numMembers' parameter"),
        (["train", "--input", "{text}/nowhere", "--output", "{out}"], "Nothing is at"),
        (["train", "--input", "{text}/train", "--output", "{model}", *SMALL], "exists already"),
        (
            ["train", "--input", "{text}/train", "--output", "{out}", "--report", "{out}/nowhere/x.html"],
            "for the report",
        ),
        (["evaluate", "--input", "{text}/test", "--model", "{text}"], "is not a saved"),
        (["score", "--input", "{text}/test", "--model", "{model}", "--output", "{text}"], "exists already"),
    ],
)
def test_errors_are_one_sentence(spark, text, trained, tmp_path, capsys, arguments, told):
    places = {"text": str(text), "out": str(tmp_path / "out"), "model": trained}
    assert main([argument.format(**places) for argument in arguments]) == 1
    error = capsys.readouterr().err.strip()
    assert told in error
    assert error.startswith("spark-cnn-ensemble: ") and "\n" not in error
    assert not (tmp_path / "out").exists()
