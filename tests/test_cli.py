"""The command line: each command works on real files, each Param is an option, each error is one sentence."""

import contextlib
import csv
import io
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from pyspark.ml import PipelineModel
from pyspark.sql import functions as F
from support.results import evaluation, summary

from spark_cnn_ensemble import CNNEnsembleClassifier, cli
from spark_cnn_ensemble.cli import main
from spark_cnn_ensemble.datasets import read_text_matrix, to_dataframe, write_text_matrix
from spark_cnn_ensemble.text_tables import evaluation_text, member_table

PARAMS = [param.name for param in CNNEnsembleClassifier().params]
SMALL = ["--num-members", "3", "--filters", "4", "--kernel-size", "3", "--dense-units", "16", "--epochs", "3"]
SMALL += ["--learning-rate", "0.005"]


@pytest.fixture(scope="module")
def text(tmp_path_factory, digits):
    """A folder with the text matrices train and test."""
    folder = tmp_path_factory.mktemp("text")
    for name, (x, y) in zip(("train", "test"), digits, strict=True):
        write_text_matrix(str(folder / name), x, y)
    return folder


@pytest.fixture(scope="module")
def trained(spark, text, tmp_path_factory):
    """The path of a model that `train` wrote."""
    path = str(tmp_path_factory.mktemp("trained") / "model")
    arguments = ["--input", str(text / "train"), "--output", path, "--bagging", "subsample", "--id-col", "id"]
    assert main(["train", *arguments, *SMALL]) == 0
    return path


# -------------------------------------------------------------------------------------- options


@pytest.fixture(scope="module")
def help_of_train():
    command = [sys.executable, "-m", "spark_cnn_ensemble", "train", "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", PARAMS)
def test_the_help_of_train_names_each_param(help_of_train, name):
    option = "--max-memory-in-mb" if name == "maxMemoryInMB" else "--" + re.sub("([A-Z])", r"-\1", name).lower()
    assert re.search(rf"^  {option} ", help_of_train, re.MULTILINE)


@pytest.mark.parametrize(
    ("option", "default"),
    [("--filters", "16,32"), ("--standardization", "true"), ("--learning-rate", "0.002"), ("--bagging", "disjoint")],
)
def test_the_help_of_train_shows_defaults_as_arguments(help_of_train, option, default):
    (text,) = re.findall(rf"^  {option} (.*?)(?=^  --|\Z)", help_of_train, re.MULTILINE | re.DOTALL)
    assert " ".join(text.split()).endswith(f"Default: {default}.")


@pytest.mark.parametrize("command", ["demo", "train", "evaluate", "score"])
def test_the_help_names_each_command(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert re.search(rf"^    {command} ", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--epochs", "few", "must be an integer, not 'few'"),
        ("--learning-rate", "slow", "must be a number, not 'slow'"),
        ("--filters", "8,x", "must be integers separated by commas, not '8,x'"),
        ("--thresholds", "1,x", "must be numbers separated by commas, not '1,x'"),
        ("--random-flip", "perhaps", "must be true or false, not 'perhaps'"),
        ("--network", "no/such/file.json", "must be a readable text file, not 'no/such/file.json'"),
    ],
)
def test_an_option_that_cannot_be_read_is_named(option, value, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["train", "--input", "x", "--output", "y", option, value])
    assert ended.value.code == 2
    assert f"argument {option}: {message}\n" in capsys.readouterr().err


# ------------------------------------------------------------------------------------- commands


def test_a_trained_model_is_evaluated_and_scores_text(spark, text, trained, tmp_path, capsys):
    assert main(["evaluate", "--input", str(text / "test"), "--model", trained]) == 0
    printed = capsys.readouterr().out
    assert "rows 360 (0 left out)" in printed
    accuracy = float(printed.split("accuracy of the vote ")[1].split("%")[0]) / 100
    assert accuracy > 0.7
    scored = str(tmp_path / "scored")
    assert main(["score", "--input", str(text / "test"), "--model", trained, "--output", scored]) == 0
    rows = spark.read.parquet(scored)
    assert set(rows.columns) == {"id", "label", "rawPrediction", "probability", "prediction"}
    assert rows.where("prediction = label").count() / rows.count() == pytest.approx(accuracy, abs=5e-5)


@pytest.fixture(scope="module")
def reported(spark, text, tmp_path_factory):
    """A folder with a model and a report, and what `train` printed."""
    folder = tmp_path_factory.mktemp("reported")
    arguments = ["train", "--input", str(text / "train"), "--output", str(folder / "model"), *SMALL]
    arguments += ["--filters", "4,6", "--random-flip", "true", "--bagging", "bootstrap", "--oob-sample-size", "200"]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main([*arguments, "--report", str(folder / "report.html")]) == 0
    return folder, printed.getvalue()


def test_train_writes_a_report(reported):
    folder, printed = reported
    pattern = r"Out-of-bag accuracy of the vote \d\d\.\d\d% \(.* to .*, 1\d\d rows\)\. .* \d\.\d of \d on average\. So "
    assert re.search(pattern, printed), printed
    assert f"Report written to {folder / 'report.html'}." in printed
    assert (folder / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_options_of_train_become_params(reported):
    folder, _ = reported
    (model,) = PipelineModel.load(str(folder / "model")).stages
    assert (model.getFilters(), model.getRandomFlip(), model.getLearningRate()) == ([4, 6], True, 0.005)
    assert not model.isSet("batchSize")


@pytest.mark.parametrize("form", ["csv", "json"])
def test_rows_of_parquet_are_scored_to(spark, digits, trained, tmp_path, form):
    rows, output = str(tmp_path / "rows"), str(tmp_path / form)
    to_dataframe(spark, digits[1][0]).withColumnRenamed("id", "image.id").write.parquet(rows)
    arguments = ["--input", rows, "--format", "parquet", "--model", trained, "--output", output]
    assert main(["score", *arguments, "--output-format", form]) == 0
    scored = spark.read.format(form).option("header", "true").load(output)
    assert scored.select("`image.id`", "prediction").count() == 360
    assert "features" not in scored.columns


def test_features_in_a_struct_are_left_out_of_scored_rows(spark, digits, trained, tmp_path):
    rows, model, output = (str(tmp_path / name) for name in ("rows", "model", "scored"))
    (ensemble,) = PipelineModel.load(trained).stages
    ensemble.setFeaturesCol("image.pixels").save(model)
    image = F.struct(F.col("features").alias("pixels"), F.col("id").alias("path"))
    to_dataframe(spark, digits[1][0]).select(image.alias("image")).write.parquet(rows)
    arguments = ["--input", rows, "--format", "parquet", "--model", model, "--output", output]
    assert main(["score", *arguments]) == 0
    scored = spark.read.parquet(output)
    assert scored.select("image.*").columns == ["path"]
    assert scored.select("prediction").count() == 360


def test_csv_is_written_as_other_programs_read_it(spark, digits, trained, tmp_path):
    names = ['5" pipe, steel', " cat ", "a\\b", 'say "hi"']
    name = F.element_at(F.array(*map(F.lit, names)), F.col("id").cast("int") + 1)
    to_dataframe(spark, digits[1][0][:4]).withColumn("name", name).write.parquet(str(tmp_path / "rows"))
    arguments = ["--input", str(tmp_path / "rows"), "--format", "parquet", "--model", trained]
    assert main(["score", *arguments, "--output", str(tmp_path / "scored"), "--output-format", "csv"]) == 0
    found = {}
    for file in (tmp_path / "scored").glob("part-*"):
        with file.open(newline="") as lines:
            found.update({int(row["id"]): row["name"] for row in csv.DictReader(lines)})
    assert found == dict(enumerate(names))


FORMS = {
    "the CSV of MNIST": ("csv", ["--label", "first", "--header"]),
    "tabs": ("tsv", ["--sep", r"\t"]),
    "tabs, as bytes": ("tsv", ["--sep", r"\t", "--dtype", "uint8"]),
    "libsvm": ("libsvm", ["--format", "libsvm", "--input-shape", "8,8,1"]),
}


def written(folder, digits, kind):
    """A file of digits of that kind."""
    (x, y), _ = digits
    pixels = x.reshape(len(x), -1)[:100].astype(int)
    if kind == "csv":
        lines = ["label," + ",".join(f"pixel{index}" for index in range(64))]
        lines += [",".join(map(str, [label, *row])) for label, row in zip(y, pixels, strict=False)]
    elif kind == "tsv":
        lines = ["\t".join(map(str, [*row, label])) for label, row in zip(y, pixels, strict=False)]
    else:
        lines = [
            " ".join([str(label), *(f"{index + 1}:{value}" for index, value in enumerate(row) if value)])
            for label, row in zip(y, pixels, strict=False)
        ]
    path = folder / f"digits.{kind}"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_the_slash_that_a_shell_adds_to_a_folder_changes_nothing(text, trained, tmp_path):
    train = ["train", "--input", f"{text}/train/", *SMALL, "--output", f"{tmp_path}/model/"]
    score = ["score", "--input", f"{text}/test/", "--model", f"{trained}/", "--output", f"{tmp_path}/scored/"]
    for command in (train, score):
        assert main(command) == 0
        assert main(command) == 1
        assert main([*command, "--overwrite"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "scored"]
    assert (tmp_path / "scored" / "_SUCCESS").exists()
    assert main(["evaluate", "--input", f"{text}/test/", "--model", f"{tmp_path}/model/"]) == 0


@pytest.mark.parametrize("case", FORMS)
def test_files_are_read_as_people_have_them(spark, digits, tmp_path, capsys, case):
    kind, options = FORMS[case]
    source = ["--input", written(tmp_path, digits, kind), *options]
    source += ["--format", "csv"] if kind == "csv" else []
    model, epochs = str(tmp_path / "model"), ["--epochs", "1", "--num-members", "2"]
    assert main(["train", *source, "--output", model, *SMALL, *epochs]) == 0
    if kind == "libsvm":
        source = source[:-2]  # the model knows the shape
    assert main(["evaluate", *source, "--model", model]) == 0
    assert "rows 100 (0 left out)" in capsys.readouterr().out
    (ensemble,) = PipelineModel.load(model).stages
    assert (ensemble.inputShape, ensemble.numClasses) == ([8, 8, 1], 10)


# ----------------------------------------------------------------------------------------- text


def test_an_evaluation_prints_the_confusion_matrix():
    votes = evaluation(classes=3)
    printed = evaluation_text(votes)
    low, high = votes.accuracyInterval
    assert f"accuracy of the vote {votes.accuracy:.2%} ({low:.2%} to {high:.2%})\n" in printed
    assert f"\nrecall of the classes: mean {votes.recallByLabel.mean():.2%}, lowest " in printed
    _, table = printed.split("confusion matrix (rows: labels, columns: predictions) and recall:\n")
    head, *lines = [line.split() for line in table.splitlines()]
    assert head == ["0", "1", "2", "recall"]
    assert [list(map(int, line[1:-1])) for line in lines] == votes.confusionMatrix.tolist()
    assert [line[-1] for line in lines] == [f"{recall:.1%}" for recall in votes.recallByLabel]


def test_the_table_of_members_has_one_line_each():
    fit = summary(members=2, epochs=[3, 4], validation=True)
    header, *lines = member_table(fit).splitlines()
    assert header.split()[:4] == ["member", "rows", "epochs", "seconds"]
    assert [line.split()[:3] for line in lines] == [["0", "100", "3"], ["1", "101", "4"]]
    for line, member in zip(lines, fit.members, strict=True):
        accuracies = [f"{member.history[name][-1]:.2%}" for name in ("accuracy", "val_accuracy")]
        assert line.split()[-2:] == accuracies


def test_the_table_shows_the_epoch_that_members_kept():
    fit = summary(members=2, epochs=[3, 4], validation=True)
    fit = replace(fit, members=(replace(fit.members[0], keptEpoch=1), fit.members[1]))
    header, *lines = member_table(fit).splitlines()
    assert "epoch kept" in header
    assert [line.split()[:4] for line in lines] == [["0", "100", "3", "1"], ["1", "101", "4", "4"]]
    assert lines[0].split()[-1] == f"{fit.members[0].history['val_accuracy'][0]:.2%}"


def test_score_votes_as_the_model_was_trained_to(spark, text, tmp_path):
    model, scored = str(tmp_path / "model"), str(tmp_path / "scored")
    how = ["--voting-strategy", "soft", "--uncertainty-col", "doubt", "--epochs", "1", "--bagging", "subsample"]
    assert main(["train", "--input", str(text / "train"), "--output", model, *SMALL, *how]) == 0
    assert main(["score", "--input", str(text / "test"), "--model", model, "--output", scored]) == 0
    (loaded,) = PipelineModel.load(model).stages
    assert loaded.getVotingStrategy() == "soft"
    rows = spark.read.parquet(scored)
    expected = loaded.transform(read_text_matrix(spark, str(text / "test"))).agg(F.sum("doubt"), F.sum("prediction"))
    assert rows.agg(F.sum("doubt"), F.sum("prediction")).collect() == expected.collect()
    assert rows.where("doubt > 0").count() > 300  # mean probabilities are never quite certain


def test_an_interrupt_ends_with_its_code(monkeypatch, tmp_path, capsys):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_session", interrupted)
    assert main(["train", "--input", "x", "--output", str(tmp_path / "model")]) == 130
    assert capsys.readouterr().err == "spark-cnn-ensemble: interrupted.\n"
