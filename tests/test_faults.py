"""Faults on real processes: workers and drivers that are killed, interrupts, members that diverge, damaged checkpoints.

Whatever happens, the members that come out are those of an undisturbed fit, bit for bit. What needs another master than
the tests' own local[2], or a driver to kill, runs in a driver of its own; `test_cluster` has the faults of executors.
"""

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import functions as F
from support.classifiers import small
from support.drivers import (
    QUICK,
    SLOW,
    a_worker_in_training,
    driver,
    family,
    finished,
    result,
    told,
    wait_until,
    workers,
)

from spark_cnn_ensemble import CNNEnsembleClassificationModel
from spark_cnn_ensemble.datasets import to_dataframe
from spark_cnn_ensemble.fit.checkpoint import _report
from spark_cnn_ensemble.rows.draw import draw_of
from spark_cnn_ensemble.worker.training import REPORTED

TESTS = Path(__file__).parent
# Processes


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    """A driver whose tasks are tried up to four times."""
    with driver(tmp_path_factory.mktemp("patient"), **{"spark.master": "local[2,4]"}) as running:
        yield running


@pytest.fixture(scope="module")
def undisturbed(train):
    """What a fit of `SLOW` gives that nothing befalls."""
    return result(told(small(**SLOW).fit(train)))


@pytest.fixture(scope="module")
def quick(train, tmp_path_factory):
    """A checkpoint of all members of `QUICK`, and what that fit gave."""
    folder = tmp_path_factory.mktemp("quick") / "checkpoint"
    model = small(**QUICK, checkpointDir=str(folder)).fit(train)
    assert len(finished(folder)) == 4
    return folder, model


# Workers


def test_a_worker_that_is_killed_is_replaced_and_its_member_trained_again(patient, undisturbed, tmp_path):
    patient.fit(**SLOW, checkpointDir=str(tmp_path / "checkpoint"))
    wait_until(lambda: finished(tmp_path / "checkpoint"))
    os.kill(a_worker_in_training(patient.pid), signal.SIGKILL)
    answer = patient.answer()
    assert result(answer) == undisturbed
    assert sorted(answer["retries"]) == [0, 0, 0, 1]


def test_without_retries_a_killed_worker_fails_the_fit_at_once_and_finished_members_are_kept(
    train, undisturbed, tmp_path
):
    folder = tmp_path / "checkpoint"
    killed = []

    def kill():
        wait_until(lambda: finished(folder))
        os.kill(a_worker_in_training(os.getpid()), signal.SIGKILL)
        killed.append(time.monotonic())

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(Exception, match="Python worker exited unexpectedly"):
        small(**SLOW, checkpointDir=str(folder)).fit(train)
    killer.join()
    assert time.monotonic() - killed[0] < 15
    kept = len(finished(folder))
    assert 1 <= kept < 4
    again = told(small(**SLOW, checkpointDir=str(folder)).fit(train))
    assert len(again["resumed"]) == kept
    assert result(again) == undisturbed


# Drivers


def test_a_driver_that_is_killed_leaves_no_process_and_its_fit_can_be_resumed(train, undisturbed, tmp_path):
    folder = tmp_path / "checkpoint"
    with driver(tmp_path, module="test_faults", **{"spark.master": "local[2]"}) as running:
        running.fit(**SLOW, checkpointDir=str(folder))
        wait_until(lambda: finished(folder))
        assert len(workers(running.pid)) >= 2
        os.kill(running.pid, signal.SIGKILL)
        wait_until(lambda: not family(running.pid))
    kept = len(finished(folder))
    assert 1 <= kept < 4
    again = told(small(**SLOW, checkpointDir=str(folder)).fit(train))
    assert len(again["resumed"]) == kept
    assert result(again) == undisturbed


def test_an_interrupt_reaches_the_caller_and_stops_the_work(patient):
    written = len(patient.log.read_text())
    patient.fit(**{**SLOW, "epochs": 1_000_000})
    trainer = a_worker_in_training(patient.pid)
    os.killpg(patient.pid, signal.SIGINT)  # as a terminal does
    begun = time.monotonic()
    threads = patient.answer()["interrupted"]
    assert time.monotonic() - begun < 5
    assert "MainThread" in threads and "spark-cnn-ensemble-progress" not in threads
    wait_until(lambda: trainer not in family(patient.pid))  # Spark gives it some seconds to end by itself
    assert time.monotonic() - begun < 15
    assert "spark_cnn_ensemble" not in patient.log.read_text()[written:]  # py4j tells of a call that was cut off


def test_after_an_interrupt_the_fit_can_be_resumed_in_the_same_session(patient, undisturbed, tmp_path):
    folder = tmp_path / "checkpoint"
    patient.fit(**SLOW, checkpointDir=str(folder))
    wait_until(lambda: finished(folder))
    a_worker_in_training(patient.pid)
    os.killpg(patient.pid, signal.SIGINT)
    assert "interrupted" in patient.answer()
    kept = len(finished(folder))
    assert 1 <= kept < 4
    patient.fit(**SLOW, checkpointDir=str(folder))
    again = patient.answer()
    assert len(again["resumed"]) == kept
    assert result(again) == undisturbed


# Members that diverge


BRITTLE = {
    "bagging": "subsample",
    "subsamplingRate": 0.4,
    "numMembers": 4,
    "standardization": False,
    "idCol": "id",
    "oobSampleSize": 200,
    "verbose": 0,
    "seed": 17,
}


def brittle_draw():
    return draw_of("subsample", 0.4, 4, BRITTLE["seed"])


@pytest.fixture(scope="module")
def struck(spark, digits):
    """Rows of which one is past what float32 can add up, and the members that have it in their bags."""
    x, y = digits[0]
    in_bag = [brittle_draw().copies(F.xxhash64("id"), F.lit(member)) > 0 for member in range(4)]
    ids = spark.range(len(x)).orderBy("id")
    bags = np.array([row[0] for row in ids.select(F.array(*in_bag)).collect()])
    huge = np.flatnonzero(bags.sum(axis=1) == 2)[0]
    images = (x / 16).astype(np.float32)
    images[huge] = 3e38
    rows, members = to_dataframe(spark, images, y).cache(), np.flatnonzero(bags[huge]).tolist()
    return rows, members, bags


def test_a_member_that_diverges_fails_the_fit_in_a_sentence_and_the_others_are_kept(struck, tmp_path):
    rows, members, _ = struck
    settings = {**BRITTLE, "checkpointDir": str(tmp_path / "checkpoint")}
    with pytest.raises(ValueError) as refused:
        small(**settings).fit(rows)
    sentences = [
        f"Member {member} diverged: its loss is nan in epoch 1; lower learningRate, or set standardization=True if "
        "the features are not scaled."
        for member in members
    ]
    assert str(refused.value) in sentences
    # The same folder serves a fit that goes on without them.
    model = small(**settings, minMembers=2).fit(rows)
    assert model.summary.missingMembers == dict(zip(members, sentences, strict=True))
    with pytest.raises(ValueError, match=r"^Only 2 of 4 members are sound, and 'minMembers' is 3\. Member \d diverged"):
        small(**settings, minMembers=3).fit(rows)


def test_a_model_without_the_members_that_diverged_votes_and_tells_of_them(struck, tmp_path):
    rows, members, bags = struck
    sound = [member for member in range(4) if member not in members]
    model = small(**BRITTLE, minMembers=2, memberPredictionsCol="each").fit(rows)
    model.save(str(tmp_path / "model"))
    loaded = CNNEnsembleClassificationModel.load(str(tmp_path / "model"))
    for one in (model, loaded):
        assert [member.member for member in one.members] == sound
        assert sorted(one.summary.missingMembers) == members
        assert all("diverged" in why for why in one.summary.missingMembers.values())
        assert one.getNumMembers() == 2
    scored = {row["id"]: row for row in loaded.transform(rows).collect()}
    assert all(row["rawPrediction"].toArray().sum() == 2 for row in scored.values())

    # Out-of-bag, the sound members vote, each on rows that it did not train on.
    draw = rows.select("id", brittle_draw().ticket(F.xxhash64("id")).alias("ticket")).orderBy("ticket")
    ids = [row["id"] for row in draw.limit(200).collect()]
    expected = [
        [-1 if bags[row, member] else scored[row]["each"][at] for at, member in enumerate(sound)] for row in ids
    ]
    assert np.array_equal(model.summary.outOfBag.votes, expected)
    assert loaded.summary.outOfBag == model.summary.outOfBag


# Checkpoints


def test_damaged_files_of_a_checkpoint_are_passed_over_and_their_members_trained_again(train, quick, tmp_path):
    original, model = quick
    folder = tmp_path / "checkpoint"
    shutil.copytree(original, folder)
    cut, checked, unchecked, _ = finished(folder)  # of members 0, 1, 2, 3

    def flip(file, member):
        """Change bytes in the middle of the weights."""
        data, weights = bytearray(file.read_bytes()), model._ensemble.weights[member]
        middle = len(weights) // 2
        at = next(at for start in range(middle, len(weights)) if (at := data.find(weights[start : start + 16])) > 0)
        data[at + 4] ^= 0xFF
        file.write_bytes(data)

    def sums(file):
        return file.with_name(f".{file.name}.crc")

    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    sums(cut).unlink()
    flip(checked, 1)  # the filesystem sees it
    flip(unchecked, 2)
    sums(unchecked).unlink()  # only the digest tells
    again = told(small(**QUICK, checkpointDir=str(folder)).fit(train))
    assert again["resumed"] == [3]
    assert result(again) == result(told(model))


def test_a_damaged_report_is_none():
    whole = dict.fromkeys(REPORTED, 0)
    assert _report(json.dumps(whole)) == whole
    del whole["size"]
    for text in (json.dumps(whole), json.dumps(whole)[:-1], "\u0000", "[1]", "7"):
        assert _report(text) is None


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"epochs": 2}, "epochs is 1 there, 2 here"),
        ({"seed": 5}, "seed is 17 there, 5 here"),
        ({"numMembers": 5}, "num_members is 4 there, 5 here"),
        ({"idCol": "id"}, 'idCol is null there, "id" here'),
        ({"oobSampleSize": 0}, "rules is "),
    ],
    ids=str,
)
def test_a_checkpoint_of_other_params_is_refused_and_left_alone(train, quick, change, what):
    folder, _ = quick
    before = sorted(folder.rglob("*"))
    with pytest.raises(ValueError) as refused:
        small(**{**QUICK, "checkpointDir": str(folder), **change}).fit(train)
    assert str(refused.value).startswith(f"checkpointDir '{folder}' holds members of another fit (")
    assert what in str(refused.value)
    assert str(refused.value).endswith("; give another folder, or delete it.")
    assert sorted(folder.rglob("*")) == before


def test_a_checkpoint_of_other_rows_is_refused_and_left_alone(train, quick):
    folder, _ = quick
    before = sorted(folder.rglob("*"))
    for rows in (
        train.where("id >= 40"),
        train.withColumn("label", F.when(F.col("id") < 40, 0).otherwise(F.col("label"))),
    ):
        with pytest.raises(
            ValueError, match=r"^checkpointDir .* holds members of another fit \(member \d was trained on"
        ):
            small(**QUICK, checkpointDir=str(folder)).fit(rows)
    assert sorted(folder.rglob("*")) == before


def test_a_checkpoint_whose_identity_is_damaged_is_refused(train, quick, tmp_path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(quick[0], folder)
    (folder / "_fit.json").write_text("{")
    (folder / "._fit.json.crc").unlink(missing_ok=True)
    with pytest.raises(
        ValueError, match=r"^checkpointDir .* has a damaged _fit\.json; delete the folder, or give anoth"
    ):
        small(**QUICK, checkpointDir=str(folder)).fit(train)


def test_how_a_bag_is_held_may_change_between_a_fit_and_its_resumption(train, quick):
    folder, model = quick
    again = told(small(**QUICK, checkpointDir=str(folder), maxMemoryInMB=16, minMembers=2).fit(train))
    assert again["resumed"] == [0, 1, 2, 3]
    assert result(again) == result(told(model))


def test_two_fits_at_the_same_time_in_one_folder_both_succeed(train, quick, patient, tmp_path):
    folder = tmp_path / "checkpoint"
    expected = result(told(quick[1]))
    patient.fit(**QUICK, checkpointDir=str(folder))
    ours = told(small(**QUICK, checkpointDir=str(folder)).fit(train))
    theirs = patient.answer()
    assert [result(answer) for answer in (ours, theirs)] == [expected, expected]
    third = told(small(**QUICK, checkpointDir=str(folder)).fit(train))
    assert third["resumed"] == [0, 1, 2, 3]
    assert result(third) == expected


# Saved models


def save_for_ever(path):
    """Save a model over itself until something ends this."""
    model = CNNEnsembleClassificationModel.load(path)
    while True:
        model.write().overwrite().save(path)


def test_a_save_that_is_killed_leaves_the_model_that_was_there(quick, tmp_path):
    path = tmp_path / "model"
    model = quick[1]
    model.save(str(path))
    with driver(tmp_path, module="test_faults", **{"spark.master": "local[2]"}) as running:
        running.tell(f"save_for_ever({str(path)!r})")
        wait_until(lambda: list(tmp_path.glob("model.saving-*/members")))
        os.kill(running.pid, signal.SIGKILL)
        wait_until(lambda: not family(running.pid))
    assert list(tmp_path.glob("model.saving-*"))  # it was in the middle of it
    assert told(CNNEnsembleClassificationModel.load(str(path))) == told(model)
    model.write().overwrite().save(str(path))
    assert told(CNNEnsembleClassificationModel.load(str(path))) == told(model)
