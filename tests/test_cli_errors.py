"""Each error that a user can cause is one sentence on stderr, with exit code 1, and none of Java's."""

import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from contextlib import redirect_stderr, suppress

import numpy as np
import pytest
from PIL import Image
from support.processes import LIGHT, start_python

from spark_cnn_ensemble.cli import main
from spark_cnn_ensemble.datasets import to_dataframe, write_text_matrix

SMALL = ["--num-members", "2", "--filters", "4", "--dense-units", "8", "--epochs", "1", "--verbose", "0"]
PREFIX = "spark-cnn-ensemble: "


def assert_one_sentence(error, message):
    """`error` is one line of the command's that matches `message`, in words rather than in Java."""
    assert error.startswith(PREFIX), error
    assert error.count("\n") == 1 and error.endswith(".\n"), error
    assert re.search(message, error), error
    assert not re.search(r"\b(java|scala|py4j|org\.apache\.(?!hadoop:))|Exception|Traceback|SQLSTATE", error), error


@pytest.fixture(scope="module")
def places(spark, digits, tmp_path_factory):
    """Paths by their names in `ERRORS`."""
    folder = tmp_path_factory.mktemp("errors")
    (x, y), _ = digits
    write_text_matrix(str(folder / "text"), x[:200], y[:200])
    frame = to_dataframe(spark, x[:200], y[:200])
    frame.write.parquet(str(folder / "parquet"))
    frame.selectExpr("id", "features AS pixels", "label AS digit").write.parquet(str(folder / "others"))
    (folder / "damaged").mkdir()
    (folder / "damaged" / "part-0.parquet").write_text("Dear diary")
    (folder / "empty").mkdir()
    for name in ("cat", "dog"):
        (folder / "diaries" / name).mkdir(parents=True)
        (folder / "diaries" / name / "1.png").write_text("Dear diary")
    (folder / "file").write_text("Dear diary")
    for index in range(20):
        for place in (f"photos/train/{y[index]}", f"photos/test/{y[index]}", "flat", "parts/train", "parts/test"):
            (folder / place).mkdir(parents=True, exist_ok=True)
            Image.fromarray((x[index] * 15).astype(np.uint8)).save(folder / place / f"{index}.png")
    Image.fromarray((x[0] * 15).astype(np.uint8)).save(folder / "stray.png")
    (folder / "mixed" / "0" / "old").mkdir(parents=True)
    for name in ("mixed/1", "hidden/0", "hidden/_1", "hidden/2"):
        (folder / name).mkdir(parents=True)
    for name in ("mixed/0", "mixed/0/old", "mixed/1", "hidden/0", "hidden/_1", "hidden/2"):
        Image.fromarray((x[0] * 15).astype(np.uint8)).save(folder / name / "x.png")
    for place, name in (
        ("camera/0", "1.png"),
        ("camera/0", "_DSC1.JPG"),
        ("camera/1", "1.png"),
        ("_new", "_MG_1.jpeg"),
        ("deep/2026/may/cat", "_DSC1.Jpg"),
        ("deep/2026/may/dog", "1.jpg"),
    ):
        (folder / place).mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "stray.png", folder / place / name)
    (folder / "flat" / "_SUCCESS").touch()
    (folder / "killed" / "members" / "save=0123456789ab").mkdir(parents=True)
    (folder / "link").symlink_to(folder / "parquet")
    os.mkfifo(folder / "pipe")
    assert main(["train", "--input", str(folder / "text"), "--output", str(folder / "model"), *SMALL]) == 0
    found = {path.name: str(path) for path in folder.iterdir()}
    return found | {"none": str(folder / "nowhere"), "parque": str(folder / "parque")}


TRAIN, EVALUATE, SCORE = (
    ["train", *SMALL, "--output", "{out}"],
    ["evaluate", "--model", "{model}"],
    ["score", "--model", "{model}", "--output", "{out}"],
)
TEXT, PARQUET = ["--input", "{text}"], ["--input", "{parquet}", "--format", "parquet"]
S3 = r"no jar for s3a:// paths; set spark\.jars\.packages .* org\.apache\.hadoop:hadoop-aws:\d+\.\d+\.\d+ before Spark"

# Arguments, and what the message says.
ERRORS = {
    # ---- Params and options
    "a Param out of range": ([*TRAIN, *TEXT, "--num-members", "0"], "'numMembers' parameter"),
    "a separator that is a digit": ([*TRAIN, *TEXT, "--sep", "1"], "sep must be text without"),
    **{
        f"{option} for another format": (
            [*command, *PARQUET, option, *value],
            f"{option} says how text is read, and --format is parquet; leave it out",
        )
        for command, option, *value in (
            (TRAIN, "--scale", "0.1"),
            (EVALUATE, "--label", "first"),
            (SCORE, "--header"),
            (SCORE, "--sep", ";"),
            (TRAIN, "--dtype", "uint8"),
        )
    },
    "libsvm without a shape": ([*TRAIN, *TEXT, "--format", "libsvm"], "set --input-shape"),
    # ---- input that is not there
    "no text": ([*TRAIN, "--input", "{none}"], "Nothing is at"),
    "no table": ([*TRAIN, "--input", "{none}", "--format", "parquet"], "Nothing is at .*/nowhere; check the path"),
    "no pictures": ([*TRAIN, "--input", "{none}", "--format", "images"], "Nothing is at .*/nowhere; check the path"),
    "no libsvm": (
        [*TRAIN, "--input", "{none}", "--format", "libsvm", "--input-shape", "8,8,1"],
        "Nothing is at .*/nowhere; check the path",
    ),
    "an empty folder for a table": ([*TRAIN, "--input", "{empty}", "--format", "parquet"], "has no Parquet files"),
    "an empty folder for pictures": ([*TRAIN, "--input", "{empty}", "--format", "images"], "There are no files in"),
    # ---- input of another kind
    "a table that is text": (
        [*EVALUATE, "--input", "{damaged}", "--format", "parquet"],
        "damaged/part-0.parquet is not a Parquet file",
    ),
    "text that is a table": ([*EVALUATE, "--input", "{parquet}"], "is a Parquet file; read it with"),
    "libsvm that is a diary": (
        [*EVALUATE, "--input", "{damaged}", "--format", "libsvm"],
        "has 'Dear' where a number",
    ),
    "pictures that are a diary": (
        [*TRAIN, "--input", "{diaries}", "--format", "images", "--input-shape", "8,8,1", "--num-members", "1"],
        "PNG|JPEG",
    ),
    "no column of features": (
        [*SCORE, "--input", "{others}", "--format", "parquet"],
        r"no column 'features' \(parameter 'featuresCol'\)",
    ),
    "no column of labels": (
        [*TRAIN, "--input", "{others}", "--format", "parquet", "--features-col", "pixels"],
        r"no column 'label' \(parameter 'labelCol'\)",
    ),
    # ---- pictures in folders
    "a flat folder": (
        [*TRAIN, "--input", "{flat}", "--format", "images"],
        r"All pictures in \S+/flat are in one folder, .* sub-folder of their own",
    ),
    "folders of train and test": (
        [*TRAIN, "--input", "{photos}", "--format", "images"],
        r"has the folders 'train' and 'test'.*--input \S+/photos/train to train, and \S+/photos/test to evaluate",
    ),
    "flat folders of train and test": (
        [*TRAIN, "--input", "{parts}/", "--format", "images"],
        r"--input \S+/parts/train to train, and \S+/parts/test to evaluate",
    ),
    "an evaluation of train and test": (
        [*EVALUATE, "--input", "{photos}", "--format", "images"],
        "has the folders 'train' and 'test'",
    ),
    "pictures at two depths": ([*TRAIN, "--input", "{mixed}", "--format", "images"], "both in .*/0 and in .*/0/old"),
    "a folder that Spark leaves out": ([*TRAIN, "--input", "{hidden}", "--format", "images"], "begins with _"),
    **{
        f"pictures that Spark leaves out, {command[0]}": (
            [*command, "--input", "{camera}", "--format", "images"],
            r"camera has a picture whose name begins with _, .*_DSC1\.JPG",
        )
        for command in (TRAIN, EVALUATE, SCORE)
    },
    "pictures deep below that Spark leaves out": (
        [*SCORE, "--input", "{deep}", "--format", "images"],
        r"deep has a picture whose name begins with _, .*_DSC1\.Jpg",
    ),
    "no new pictures": ([*SCORE, "--input", "{empty}", "--format", "images"], "There are no files in .*/empty; pass"),
    "new pictures that Spark leaves out": ([*SCORE, "--input", "{_new}", "--format", "images"], r"_MG_1\.jpeg"),
    # ---- output
    "an output that exists": ([*TRAIN[:-1], "{model}", *TEXT], "exists already"),
    "scored rows that exist": ([*SCORE[:-1], "{text}", *TEXT], "exists already"),
    **{
        f"an output that would replace {name}": (
            [*arguments, "--overwrite"],
            f"--output .* would replace --{option} .*; choose another path",
        )
        for name, option, arguments in (
            ("the rows", "input", [*TRAIN[:-1], "{text}", *TEXT]),
            ("the folder of the rows", "input", [*TRAIN[:-1], "{photos}", "--input", "{photos}/train"]),
            ("the rows to score", "input", [*SCORE[:-1], "file:{parquet}/", *PARQUET]),
            ("the rows behind a link", "input", [*SCORE[:-1], "{link}", *PARQUET]),
            ("the model", "model", [*SCORE[:-1], "{model}", *TEXT]),
            ("rows that match a pattern", "input", [*SCORE[:-1], "{parquet}", "--input", "{parque}*", *PARQUET[2:]]),
            ("the checkpoint", "checkpoint-dir", [*TRAIN[:-1], "{empty}", *TEXT, "--checkpoint-dir", "{empty}/fit"]),
        )
    },
    "an output in which a save was killed": ([*TRAIN[:-1], "{killed}", *TEXT], "killed exists already"),
    "a report that is a pipe": ([*TRAIN, *TEXT, "--report", "{pipe}"], "is not a file; give the path of a file"),
    "an output below a file": ([*TRAIN[:-1], "{file}/model", *TEXT], "--output '.*' cannot be used: .*file is a file"),
    "scored rows below a file": ([*SCORE[:-1], "{file}/rows", *TEXT], "--output '.*' cannot be used: .*file is a file"),
    "an output that nobody can write": (
        [*TRAIN[:-1], "/proc/x/model", *TEXT],
        r"Nothing can be written to /proc \([\w ]+\); check its permissions",
    ),
    "scored rows that nobody can write": (
        [*SCORE[:-1], "/proc/x/rows", *TEXT],
        r"Nothing can be written to /proc \([\w ]+\); check its permissions",
    ),
    "no folder for the report": ([*TRAIN, *TEXT, "--report", "{none}/x.html"], "The folder '.*' does not exist"),
    "a report that is a folder": ([*TRAIN, *TEXT, "--report", "{empty}"], "is a folder; give the path of a file"),
    "a report that nobody can write": ([*TRAIN, *TEXT, "--report", "/proc/x.html"], "folder '/proc' cannot be written"),
    "a checkpoint below a file": (
        [*TRAIN, *TEXT, "--checkpoint-dir", "{file}/checkpoint"],
        "checkpointDir '.*' cannot be used: ",
    ),
    "a checkpoint that nobody can write": (
        [*TRAIN, *TEXT, "--checkpoint-dir", "/proc/x/checkpoint"],
        "checkpointDir '.*' cannot be used: ",
    ),
    # ---- models
    "no model": (["evaluate", *TEXT, "--model", "{none}"], "Folder .* does not exist"),
    "a model that is text": (["evaluate", *TEXT, "--model", "{text}"], "is not a saved"),
    "a model that is a file": (["evaluate", *TEXT, "--model", "{file}"], "is not a saved"),
    # ---- filesystems
    "no jar for the table": ([*TRAIN, "--input", "s3a://bucket/x", "--format", "parquet"], S3),
    "no jar for the pictures": ([*TRAIN, "--input", "s3a://bucket/x", "--format", "images"], S3),
    "no jar for the model": (["evaluate", *TEXT, "--model", "s3a://bucket/x"], S3),
    "no jar for the output": ([*TRAIN[:-1], "s3a://bucket/x", *TEXT], S3),
    "no jar for the scored rows": ([*SCORE[:-1], "s3a://bucket/x", *TEXT], S3),
    "no jar for the checkpoint": ([*TRAIN, *TEXT, "--checkpoint-dir", "s3a://bucket/x"], f"checkpointDir .* {S3}"),
    "an unknown filesystem": (["evaluate", *TEXT, "--model", "foo://x/y"], "no filesystem for foo:// paths"),
    "an unknown host": (
        ["evaluate", *TEXT, "--model", "hdfs://no.such.host.invalid/x"],
        "host no.such.host.invalid is",
    ),
    "nobody at a port": (["evaluate", *TEXT, "--model", "hdfs://127.0.0.1:9/x"], "Nothing answers at localhost:9"),
    "a text on a filesystem that Arrow lacks": ([*TRAIN, "--input", "foo://x/y"], "foo"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_is_one_sentence(places, tmp_path, capsys, case):
    arguments, message = ERRORS[case]
    assert main([argument.format(**places, out=tmp_path / "out") for argument in arguments]) == 1
    assert_one_sentence(capsys.readouterr().err, message)
    assert not list(tmp_path.iterdir())


def test_debug_shows_where_an_error_happened(places, tmp_path):
    with pytest.raises(Exception, match="does not exist"):
        main(["train", "--debug", "--input", places["none"], "--format", "parquet", "--output", str(tmp_path / "out")])


def test_a_warning_is_one_line(places, tmp_path, capsys):
    """The bags of rows with few keys, which miss classes."""
    arguments = [*TRAIN, *PARQUET, "--id-col", "label", "--num-classes", "10"]
    assert main([argument.format(**places, out=tmp_path / "out") for argument in arguments]) == 0
    keys, classes = capsys.readouterr().err.splitlines()
    assert keys.startswith(f"{PREFIX}warning: The 200 rows have only about ")
    assert classes.startswith(f"{PREFIX}warning: Some members never saw a class ")


def test_a_stderr_that_cannot_be_written_to_loses_nothing(places, tmp_path):
    arguments = [*TRAIN, *PARQUET, "--id-col", "label", "--num-classes", "10", "--verbose", "1"]
    full = open("/dev/full", "w", buffering=1)  # noqa: SIM115 - what it could not write would fail the end of a `with`
    with redirect_stderr(full):
        assert main([argument.format(**places, out=tmp_path / "out") for argument in arguments]) == 0
    with suppress(OSError):
        full.close()
    assert main(["evaluate", *PARQUET[:1], places["parquet"], *PARQUET[2:], "--model", str(tmp_path / "out")]) == 0


STDOUTS = ["a reader that has gone", "an encoding without the characters", "a full disk", "no stdout"]


@pytest.mark.parametrize("kind", STDOUTS)
def test_a_stdout_that_does_not_take_the_text_is_no_error_once_the_output_is_written(
    places, tmp_path, monkeypatch, kind
):
    reader, writer = os.pipe()
    if kind == "a reader that has gone":
        os.close(reader)
    output = open("/dev/full", "w") if kind == "a full disk" else io.TextIOWrapper(os.fdopen(writer, "wb"), "ascii")  # noqa: SIM115
    monkeypatch.setattr(sys, "stdout", None if kind == "no stdout" else output)
    score = [*SCORE[:-1], "{out}/gr\xfcn", *PARQUET]
    assert main([argument.format(**places, out=tmp_path) for argument in score]) == 0
    output.close()
    if kind == "an encoding without the characters":
        assert "gr?n: id, label" in os.read(reader, 9999).decode()


def test_an_evaluation_that_cannot_be_printed_is_an_error(places, monkeypatch, capsys):
    with open("/dev/full", "w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        assert main([argument.format(**places) for argument in [*EVALUATE, *PARQUET]]) == 1
    assert_one_sentence(capsys.readouterr().err, r"stdout cannot be written to \(No space left on device\); send it to")


# ---- sessions that do not start, and processes that end


def run(*arguments, **environment):
    """The command line in a process of its own: its exit code and all of its stderr, Java's and the workers' too."""
    command = [sys.executable, "-m", "spark_cnn_ensemble", *arguments]
    environment = {**os.environ, "PYTHONPATH": LIGHT, **environment}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    return done.returncode, done.stderr


NO_SESSION = {
    "a master of no kind": (["--master", "foo://x"], {}, r"master URL is not valid; give local\[N\]"),
    "a master that cannot be parsed": (["--master", "local[x]"], {}, r"master URL is not valid; give local\[N\]"),
    "no Java": ([], {"JAVA_HOME": "/nowhere"}, "Spark found no Java; install Java 17"),
}


@pytest.mark.spark
@pytest.mark.parametrize("case", NO_SESSION)
def test_a_session_that_does_not_start_is_one_sentence(tmp_path, case):
    options, environment, message = NO_SESSION[case]
    code, error = run("evaluate", "--input", "x", "--model", "y", *options, **environment)
    assert code == 1
    assert_one_sentence(error, message)


@pytest.mark.spark
def test_a_port_in_use_is_one_sentence(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = {"spark.driver.port": taken.getsockname()[1], "spark.port.maxRetries": 0}
        (tmp_path / "spark-defaults.conf").write_text("\n".join(f"{key} {value}" for key, value in settings.items()))
        code, error = run(
            "evaluate", "--input", "x", "--model", "y", SPARK_CONF_DIR=str(tmp_path), SPARK_LOCAL_IP="127.0.0.1"
        )
    assert code == 1
    assert_one_sentence(error, "A port that Spark needs is in use")


def test_an_error_in_a_task_prints_nothing_of_javas(places, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "diary.png").write_text("Dear diary")
    picture = ["--input", str(tmp_path / "photos"), "--format", "images"]
    code, error = run("score", "--model", places["model"], *picture, "--output", str(tmp_path / "scored"))
    assert code == 1
    assert_one_sentence(
        "".join(line for line in error.splitlines(True) if "scoring" not in line), "cannot be decoded|PNG"
    )


def test_a_full_disk_is_one_sentence(places, tmp_path):
    """In a mount namespace of its own, whose output is on a disk of 8 KiB."""
    (tmp_path / "disk").mkdir()
    arguments = ["score", *PARQUET, "--model", "{model}", "--output", str(tmp_path / "disk" / "rows")]
    code = """
        import json, subprocess, sys
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", sys.argv[1]], check=True)
        done = subprocess.run([sys.executable, "-m", "spark_cnn_ensemble", *sys.argv[2:]], capture_output=True, text=True)
        print(json.dumps([done.returncode, done.stderr]))
    """
    process = start_python(
        code, tmp_path / "disk", *[argument.format(**places) for argument in arguments], before=["unshare", "-rm"]
    )
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    code, error = json.loads(out)
    assert code == 1
    assert_one_sentence("".join(line for line in error.splitlines(True) if "scoring" not in line), "No space is left")
