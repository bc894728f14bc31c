"""Whatever fails, the members come out the same, bit for bit.

Workers and drivers are killed or interrupted, two fits share a folder, a save is cut off. A test that kills a driver, or
needs other settings than the tests' own session, runs a driver of its own. `test_cluster` has the faults of executors,
`fit/test_checkpoint` damaged files, `fit/test_members` members that diverge.
"""

import os
import signal
import threading
import time

import pytest
from support.classifiers import small
from support.drivers import (
    QUICK,
    SLOW,
    descendants,
    driver,
    finished_files,
    fit,
    members_and_votes,
    outcome,
    python_workers,
    training_worker,
    wait_until,
)

from spark_cnn_ensemble import CNNEnsembleClassificationModel


@pytest.fixture(scope="module")
def retrying(tmp_path_factory):
    """A driver that tries a task up to four times."""
    with driver(tmp_path_factory.mktemp("retrying"), **{"spark.master": "local[2,4]"}) as running:
        yield running


@pytest.fixture(scope="module")
def undisturbed(train):
    """Members and votes of a fit of `SLOW` in which nothing fails."""
    return members_and_votes(fit(train, **SLOW))


@pytest.fixture(scope="module")
def quick_model(train):
    return small(**QUICK).fit(train)


# Workers


def test_a_worker_that_is_killed_is_replaced_and_its_member_trained_again(retrying, undisturbed, tmp_path):
    retrying.start_fit(**SLOW, checkpointDir=str(tmp_path / "checkpoint"))
    # Members of one wave end at about the same time: those of the next have just begun.
    wait_until(lambda: len(finished_files(tmp_path / "checkpoint")) >= 2)
    os.kill(training_worker(retrying.pid), signal.SIGKILL)
    answer = retrying.answer()
    assert members_and_votes(answer) == undisturbed
    assert sorted(answer["retries"]) == [0, 0, 0, 1]


def test_without_retries_a_killed_worker_fails_the_fit_at_once_and_finished_members_are_kept(
    train, undisturbed, tmp_path
):
    folder = tmp_path / "checkpoint"
    killed = []

    def kill():
        wait_until(lambda: finished_files(folder))
        os.kill(training_worker(os.getpid()), signal.SIGKILL)
        killed.append(time.monotonic())

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(Exception, match="Python worker exited unexpectedly"):
        small(**SLOW, checkpointDir=str(folder)).fit(train)
    killer.join()
    assert time.monotonic() - killed[0] < 60
    finished = len(finished_files(folder))
    assert 1 <= finished < 4
    again = fit(train, **SLOW, checkpointDir=str(folder))
    assert len(again["resumed"]) == finished
    assert members_and_votes(again) == undisturbed


# Drivers


def test_a_driver_that_is_killed_leaves_no_process_and_its_fit_can_be_resumed(train, undisturbed, tmp_path):
    folder = tmp_path / "checkpoint"
    with driver(tmp_path, **{"spark.master": "local[2]"}) as running:
        running.start_fit(**SLOW, checkpointDir=str(folder))
        wait_until(lambda: finished_files(folder))
        assert len(python_workers(running.pid)) >= 2
        os.kill(running.pid, signal.SIGKILL)
        wait_until(lambda: not descendants(running.pid))
    finished = len(finished_files(folder))
    assert 1 <= finished < 4
    again = fit(train, **SLOW, checkpointDir=str(folder))
    assert len(again["resumed"]) == finished
    assert members_and_votes(again) == undisturbed


def test_an_interrupt_reaches_the_caller_and_stops_the_work(retrying):
    logged_before = len(retrying.log.read_text())
    retrying.start_fit(**{**SLOW, "epochs": 1_000_000})
    worker = training_worker(retrying.pid)
    os.killpg(retrying.pid, signal.SIGINT)  # as a terminal does
    start = time.monotonic()
    threads = retrying.answer()["interrupted"]
    assert time.monotonic() - start < 30  # the fit would take days
    assert "MainThread" in threads and "spark-cnn-ensemble-progress" not in threads
    wait_until(lambda: worker not in descendants(retrying.pid))  # Spark gives it some seconds to end by itself
    assert time.monotonic() - start < 60
    assert "spark_cnn_ensemble" not in retrying.log.read_text()[logged_before:]  # py4j logs the call that was cut off


def test_after_an_interrupt_the_fit_can_be_resumed_in_the_same_session(retrying, undisturbed, tmp_path):
    folder = tmp_path / "checkpoint"
    retrying.start_fit(**SLOW, checkpointDir=str(folder))
    wait_until(lambda: finished_files(folder))
    training_worker(retrying.pid)
    os.killpg(retrying.pid, signal.SIGINT)
    assert "interrupted" in retrying.answer()
    finished = len(finished_files(folder))
    assert 1 <= finished < 4
    retrying.start_fit(**SLOW, checkpointDir=str(folder))
    again = retrying.answer()
    assert len(again["resumed"]) == finished
    assert members_and_votes(again) == undisturbed


# Folders


def test_two_fits_at_the_same_time_in_one_folder_both_succeed(train, quick_model, retrying, tmp_path):
    folder = tmp_path / "checkpoint"
    expected = members_and_votes(outcome(quick_model))
    retrying.start_fit(**QUICK, checkpointDir=str(folder))
    ours = fit(train, **QUICK, checkpointDir=str(folder))
    theirs = retrying.answer()
    assert [members_and_votes(answer) for answer in (ours, theirs)] == [expected, expected]
    assert len(list(folder.glob("attempt=*"))) == 2
    third = fit(train, **QUICK, checkpointDir=str(folder))
    assert third["resumed"] == [0, 1, 2, 3]
    assert members_and_votes(third) == expected


def test_a_save_that_is_killed_leaves_the_model_that_was_there(quick_model, tmp_path):
    path = tmp_path / "model"
    quick_model.save(str(path))
    with driver(tmp_path, **{"spark.master": "local[2]"}) as running:
        running.start(f"save_repeatedly({str(path)!r})")
        wait_until(lambda: len(list(path.glob("members/save=*"))) > 1)
        os.kill(running.pid, signal.SIGKILL)
        wait_until(lambda: not descendants(running.pid))
    assert len(list(path.glob("members/save=*"))) > 1, "the save was complete when it was killed"
    assert outcome(CNNEnsembleClassificationModel.load(str(path))) == outcome(quick_model)
    quick_model.write().overwrite().save(str(path))
    assert outcome(CNNEnsembleClassificationModel.load(str(path))) == outcome(quick_model)
