"""The folder of finished members: what counts as finished, and which fits may use it."""

import json
import shutil
import time
import warnings

import pandas as pd
import pytest
from pyspark.sql import functions as F
from support.classifiers import small
from support.drivers import QUICK, finished_files, fit, members_and_votes, outcome
from support.members import weights_of
from support.saved_models import without_checksum

from spark_cnn_ensemble.fit.checkpoint import Checkpoint
from spark_cnn_ensemble.worker.training import REPORTED, TRAINED_SCHEMA
from spark_cnn_ensemble.worker.weights import digest

# By hand

IDENTITY = {"epochs": 1}


def weights(member):
    return bytes([member]) * 100


def report(member, **changes):
    """A whole report, with any fields changed."""
    whole = {**dict.fromkeys(REPORTED, 0), "member": member, "size": 100, "sha256": digest(weights(member))}
    return {**whole, **changes}


def write_attempt(spark, folder, reports):
    """Write an attempt: each member's weights, and the text of its report."""
    rows = [(0, member, 0, weights(member), text, None, None, None) for member, text in reports.items()]
    Checkpoint(spark, str(folder), IDENTITY).write(spark.createDataFrame(rows, TRAINED_SCHEMA))


def without_size(whole):
    return {name: value for name, value in whole.items() if name != "size"}


DAMAGED = {
    1: json.dumps(without_size(report(1))),
    2: json.dumps(report(2))[:-1],
    3: "\u0000",
    4: "[1]",
    5: "7",
    6: json.dumps(report(6, sha256=digest(weights(7)))),
    7: json.dumps(report(7, failure="Member 7 diverged.")),
}
NAMES = ["a field is missing", "cut", "a control character", "a list", "a number", "another digest", "diverged"]


@pytest.fixture(scope="module")
def read(spark, tmp_path_factory):
    """The finished members of a folder with member 0, which is whole, and the members of `DAMAGED`."""
    folder = tmp_path_factory.mktemp("damaged")
    write_attempt(spark, folder, {0: json.dumps(report(0)), **DAMAGED})
    return Checkpoint(spark, str(folder), IDENTITY).finished()


def test_a_member_with_a_whole_report_is_finished(read):
    assert read[0].report == report(0)
    assert read[0].weights == weights(0)


@pytest.mark.parametrize("member", DAMAGED, ids=NAMES)
def test_a_member_is_not_finished_if_its_report_is(read, member):
    assert member not in read


@pytest.fixture
def member_0_alone(spark, tmp_path):
    """A job whose first task gives member 0, and whose second fails once the file of the first is in place."""
    row = [0, 0, 0, weights(0), json.dumps(report(0)), None, None, None]
    columns = [column.split()[0] for column in TRAINED_SCHEMA.split(", ")]
    deadline = time.monotonic() + 60

    def train(frames):
        for frame in frames:
            if frame["id"][0]:
                while not list(tmp_path.glob("attempt=*/part-*.parquet")) and time.monotonic() < deadline:
                    time.sleep(0.1)
                raise RuntimeError("member 1 is lost")
            yield pd.DataFrame([row], columns=columns)

    return spark.range(0, 2, 1, 2).mapInPandas(train, TRAINED_SCHEMA)


PROTOCOL = "spark.sql.sources.commitProtocolClass"
SESSIONS = {
    "as it comes": {},
    "with version 1 of the committer": {"mapreduce.fileoutputcommitter.algorithm.version": "1"},
    "with another committer": {
        "mapreduce.outputcommitter.factory.class": "org.example.NoFactory",
        "spark.sql.parquet.output.committer.class": "org.apache.hadoop.mapreduce.lib.output.BindingPathOutputCommitter",
    },
    "with another protocol": {PROTOCOL: "org.apache.spark.internal.io.HadoopMapReduceCommitProtocol"},
}


@pytest.mark.parametrize("session", SESSIONS)
def test_a_member_is_kept_as_soon_as_its_task_ends_in_a_session(spark, member_0_alone, tmp_path, session):
    settings = SESSIONS[session]
    for name, value in settings.items():
        spark.conf.set(name, value)
    try:
        checkpoint = Checkpoint(spark, str(tmp_path), IDENTITY)
        with warnings.catch_warnings(record=True) as caught, pytest.raises(Exception, match="member 1 is lost"):
            warnings.simplefilter("always", UserWarning)
            checkpoint.write(member_0_alone)
    finally:
        for name in settings:
            spark.conf.unset(name)
    assert list(checkpoint.finished()) == [0]
    said = [str(one.message) for one in caught if PROTOCOL in str(one.message)]
    assert len(said) == (PROTOCOL in settings)  # another protocol need not take the committer that is asked for


def test_a_new_folder_has_no_finished_members(spark, tmp_path):
    assert Checkpoint(spark, str(tmp_path / "new"), IDENTITY).finished() == {}


def test_a_member_that_two_attempts_finished_is_read_from_one(spark, tmp_path):
    for members in ((0, 1), (1, 2)):
        write_attempt(spark, tmp_path, {member: json.dumps(report(member)) for member in members})
    checkpoint = Checkpoint(spark, str(tmp_path), IDENTITY)
    finished = checkpoint.finished()
    assert sorted(finished) == [0, 1, 2]
    assert sorted(row["member"] for row in checkpoint.of(finished).collect()) == [0, 1, 2]
    assert checkpoint.trained().count() == 0, "rows of an attempt that has not written"


# From fits


@pytest.fixture(scope="module")
def quick(train, tmp_path_factory):
    """A folder with all members of a fit of `QUICK`, and the model."""
    folder = tmp_path_factory.mktemp("quick") / "checkpoint"
    model = small(**QUICK, checkpointDir=str(folder)).fit(train)
    assert len(finished_files(folder)) == 4
    return folder, model


def test_members_of_a_fit_that_is_not_known_are_not_resumed(train, quick, tmp_path):
    """As after a copy of a part of the folder."""
    shutil.copytree(quick[0], tmp_path / "checkpoint")
    shutil.rmtree(tmp_path / "checkpoint" / "fit")
    classifier = small(**{**QUICK, "learningRate": 1e-9}, checkpointDir=str(tmp_path / "checkpoint"))
    with pytest.raises(ValueError, match="has members, but no file in its folder fit that names their fit"):
        classifier.fit(train)


def test_damaged_files_of_a_checkpoint_are_passed_over_and_their_members_trained_again(train, quick, tmp_path):
    original, model = quick
    folder = tmp_path / "checkpoint"
    shutil.copytree(original, folder)
    cut, changed, changed_without_checksum, _ = finished_files(folder)  # of members 0, 1, 2, 3

    def change(file, member):
        """Change a byte in the middle of the weights."""
        data, packed = bytearray(file.read_bytes()), weights_of(model)[member]
        middle = len(packed) // 2
        at = next(at for start in range(middle, len(packed)) if (at := data.find(packed[start : start + 16])) > 0)
        data[at + 4] ^= 0xFF
        file.write_bytes(data)

    without_checksum(cut).write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    change(changed, 1)  # the filesystem's checksum differs
    change(without_checksum(changed_without_checksum), 2)  # only the digest differs
    again = fit(train, **QUICK, checkpointDir=str(folder))
    assert again["resumed"] == [3]
    assert members_and_votes(again) == members_and_votes(outcome(model))


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"epochs": 2}, "epochs is 1 there, 2 here"),
        ({"seed": 5}, "seed is 17 there, 5 here"),
        ({"numMembers": 5}, "num_members is 4 there, 5 here"),
        ({"idCol": "id"}, 'idCol is null there, "id" here'),
        ({"oobSampleSize": 0}, "rules.sample_size is 200 there, 0 here"),
        ({"kernelSize": 5}, "architecture.kernel_size is 3 there, 5 here"),
    ],
    ids=str,
)
def test_a_checkpoint_of_other_params_is_refused_and_left_alone(train, quick, change, difference):
    folder, _ = quick
    before = sorted(folder.rglob("*"))
    with pytest.raises(ValueError) as refused:
        small(**{**QUICK, "checkpointDir": str(folder), **change}).fit(train)
    assert str(refused.value).startswith(f"checkpointDir '{folder}' holds members of another fit (")
    assert difference in str(refused.value)
    assert str(refused.value).endswith("; set another folder, or delete this one.")
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda rows: rows.where("id >= 40"), id="fewer rows"),
        pytest.param(
            lambda rows: rows.withColumn("label", F.when(F.col("id") < 40, 0).otherwise(F.col("label"))),
            id="other labels",
        ),
    ],
)
def test_a_checkpoint_of_other_rows_is_refused_and_left_alone(train, quick, change):
    folder, _ = quick
    before = sorted(folder.rglob("*"))
    with pytest.raises(
        ValueError,
        match=r"^checkpointDir .* holds members of another fit \(member \d was trained on \d+ rows that are not the "
        r"\d+ of its bag now\); fit the same rows, or set another folder\.$",
    ):
        small(**QUICK, checkpointDir=str(folder)).fit(change(train))
    assert sorted(folder.rglob("*")) == before


def test_a_checkpoint_whose_identity_is_damaged_is_refused(train, quick, tmp_path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(quick[0], folder)
    without_checksum(folder / "fit" / "fit.json").write_text("{")
    with pytest.raises(
        ValueError,
        match=r"^checkpointDir .* has a damaged file in its folder fit; set another folder, or delete this one\.$",
    ):
        small(**QUICK, checkpointDir=str(folder)).fit(train)


def test_a_checkpoint_of_version_0_1_is_refused(train, tmp_path):
    (tmp_path / "_fit.json").write_text("{}")
    with pytest.raises(ValueError, match=r"^checkpointDir .* was written by version 0\.1 .*; set another folder, or"):
        small(**QUICK, checkpointDir=str(tmp_path)).fit(train)


def test_how_a_bag_is_held_may_change_between_a_fit_and_its_resumption(train, quick):
    folder, model = quick
    again = fit(train, **QUICK, checkpointDir=str(folder), maxMemoryInMB=16, minMembers=2)
    assert again["resumed"] == [0, 1, 2, 3]
    assert members_and_votes(again) == members_and_votes(outcome(model))
