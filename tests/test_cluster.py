"""On a real standalone cluster, the members are those of a local session, whatever happens to executors.

The cluster has a master and two workers, processes with two addresses of this machine. Executors get the package as a
zip. One job is submitted by spark-submit, as users do; everything else runs in one driver that stays.
"""

import contextlib
import os
import signal
import subprocess
from pathlib import Path

import pytest
from support.classifiers import small
from support.cluster import PACKAGE, SPARK_HOME, standalone_cluster
from support.drivers import (
    QUICK,
    descendants,
    driver,
    finished_files,
    fit,
    members_and_votes,
    python_workers,
    training_worker,
    wait_until,
)
from support.members import weights_of
from support.processes import LIGHT

from spark_cnn_ensemble import CNNEnsembleClassificationModel
from spark_cnn_ensemble.text.reader import read_text_matrix
from spark_cnn_ensemble.text.writer import write_text_matrix

TRAIN = ["--num-members", "3", "--filters", "4", "--kernel-size", "3", "--dense-units", "16", "--epochs", "1"]
LONGER = {**QUICK, "epochs": 300}  # twice as many members as slots, each long enough to be killed in the middle


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A master and two workers with one core each."""
    with standalone_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="module")
def submitted(cluster, digits):
    """What a fit by spark-submit prints while executors come and go; data and model are in the cluster's folder."""
    folder = cluster.folder
    for name, (x, y) in zip(("train", "test"), digits, strict=True):
        write_text_matrix(str(folder / name), x, y)
    command = [SPARK_HOME / "bin" / "spark-submit", "--master", cluster.url, "--py-files", cluster.archive]
    for name, value in {
        "spark.executor.memory": "512m",
        "spark.executor.extraJavaOptions": os.environ["SPARK_SUBMIT_OPTS"],
        "spark.executorEnv.PYTHONPATH": LIGHT,
        "spark.ui.enabled": "false",
        "spark.dynamicAllocation.enabled": "true",
        "spark.dynamicAllocation.shuffleTracking.enabled": "true",
        "spark.dynamicAllocation.executorIdleTimeout": "1s",
    }.items():
        command += ["--conf", f"{name}={value}"]
    command += [PACKAGE / "__main__.py", "train", "--input", folder / "train", "--output", folder / "model"]
    done = subprocess.run(
        [*command, "--id-col", "id", *TRAIN], env=cluster.environment, cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def remote(cluster, submitted):
    """A driver that has all slots of the cluster; a task that hangs gets a second copy on the other host."""
    environment = {**cluster.environment, "PYSPARK_SUBMIT_ARGS": f"--py-files {cluster.archive} pyspark-shell"}
    settings = {
        "spark.master": cluster.url,
        "spark.executor.memory": "512m",
        "spark.executor.extraJavaOptions": os.environ["SPARK_SUBMIT_OPTS"],
        "spark.executorEnv.PYTHONPATH": LIGHT,
        "spark.speculation": "true",
        "spark.speculation.quantile": "0.5",
        "spark.speculation.multiplier": "3",
        "spark.hadoop.fs.viewfs.mounttable.cluster.link./data": cluster.folder.as_uri(),
    }
    with driver(cluster.folder, environment=environment, **settings) as running:
        yield running


@pytest.fixture(scope="module")
def local(train):
    """Members and votes of `LONGER` in the tests' own session."""
    return members_and_votes(fit(train, **LONGER))


def test_spark_submit_trains_the_members_that_this_process_trains_while_executors_come_and_go(
    spark, cluster, submitted
):
    assert "Trained 3 members on 1,437 rows" in submitted
    stage = next((cluster.folder / "model" / "stages").iterdir())
    model = CNNEnsembleClassificationModel.load(str(stage))
    ours = small(idCol="id", inputShape=[8, 8, 1]).fit(read_text_matrix(spark, str(cluster.folder / "train")))
    assert weights_of(model) == weights_of(ours)
    assert model.getFeaturesCol() == "features"


def test_the_command_line_evaluates_and_scores(spark, cluster, remote):
    folder = cluster.folder
    assert remote.ask(f"command_line('evaluate', '--input', '{folder}/test', '--model', '{folder}/model')") == 0
    rows = read_text_matrix(spark, str(folder / "test"))
    stage = next((folder / "model" / "stages").iterdir())
    accuracy = CNNEnsembleClassificationModel.load(str(stage)).evaluate(rows).accuracy
    assert f"accuracy of the vote {accuracy:.2%}" in "".join(remote.printed)

    score = ["score", "--input", f"{folder}/test", "--model", f"{folder}/model", "--output", f"{folder}/scored"]
    assert remote.ask(f"command_line(*{score!r})") == 0
    scored = spark.read.parquet(str(folder / "scored"))
    assert scored.count() == rows.count()
    assert scored.where("prediction = label").count() == round(accuracy * rows.count())


def test_both_workers_take_part_and_the_package_comes_from_the_archive(cluster, remote):
    places = remote.ask("task_places(spark)")
    assert {Path(cwd).is_relative_to(cluster.folder / "worker1") for cwd, _ in places} == {True, False}
    assert all("spark_cnn_ensemble.zip" in package for _, package in places)


def test_a_driver_that_fits_and_scores_loads_no_tensorflow(remote):
    assert remote.ask(f"count_scored(rows, **{QUICK!r})") > 0
    assert remote.ask("[name for name in ('tensorflow', 'keras') if name in sys.modules]") == []


def executors_of(pids, workers):
    """The pids of the executors that Python workers belong to; a worker may have ended meanwhile."""
    found = set()
    for child in set().union(*map(descendants, workers)):
        with contextlib.suppress(OSError):
            if b"CoarseGrainedExecutorBackend" in Path(f"/proc/{child}/cmdline").read_bytes():
                found |= {child} if descendants(child) & set(pids) else set()
    return found


def test_an_executor_that_is_killed_is_replaced_and_the_checkpoint_is_on_hadoops_filesystem(cluster, remote, local):
    settings = {**LONGER, "checkpointDir": "viewfs://cluster/data/checkpoint"}
    remote.start_fit(**settings)
    wait_until(lambda: finished_files(cluster.folder / "checkpoint"))
    trainer = training_worker(*cluster.workers)
    (executor,) = executors_of([trainer], cluster.workers)
    os.kill(executor, signal.SIGKILL)
    answer = remote.answer()
    assert answer["resumed"] == []
    assert members_and_votes(answer) == local
    wait_until(lambda: not any(trainer in descendants(worker) for worker in cluster.workers))
    remote.start_fit(**settings)
    again = remote.answer()
    assert again["resumed"] == [0, 1, 2, 3]
    assert members_and_votes(again) == local


STEPS = {
    "the weights": ("collect_parts", "their weights were lost before the driver had them"),
    "the votes": ("vote_on_sample", "their rows of the out-of-bag sample were lost before the votes"),
    "the weights in a checkpoint": ("collect_parts", None),
}


@pytest.mark.parametrize("case", STEPS)
def test_an_executor_that_is_killed_before_the_driver_has(train, cluster, remote, tmp_path, case):
    step, lost = STEPS[case]
    with_checkpoint = {} if lost else {"checkpointDir": (tmp_path / "checkpoint").as_uri()}
    remote.start(f"fit_in_two_steps(rows, {str(tmp_path)!r}, {step!r}, **{ {**QUICK, **with_checkpoint}!r})")
    wait_until((tmp_path / "waits").exists)
    # Either executor may have trained all members.
    executors = executors_of(python_workers(*cluster.workers), cluster.workers)
    assert executors
    for executor in executors:
        os.kill(executor, signal.SIGKILL)
    (tmp_path / "go").touch()
    answer = remote.answer()
    assert members_and_votes(answer) == members_and_votes(fit(train, **QUICK))
    if lost is None:
        assert not answer["warnings"]
        return
    # The votes may also find the rows of a second copy of a task.
    (warning,) = [each for each in answer["warnings"] if lost in each]
    members, _, why = warning.removeprefix("Members [").partition("] were trained more than once, ")
    assert why.startswith(f"because the executors that kept {lost}, or because Spark ran second copies of their tasks")
    numbers = [int(member) for member in members.split(", ")]
    assert set(numbers) <= {0, 1, 2, 3}
    if step == "collect_parts":
        assert all(answer["retries"][number] for number in numbers)


def test_a_worker_that_hangs_is_overtaken_by_a_second_copy_of_its_task(cluster, remote, local):
    folder = cluster.folder / "speculative"
    remote.start_fit(**LONGER, checkpointDir=folder.as_uri())
    hanging = training_worker(*cluster.workers)
    os.kill(hanging, signal.SIGSTOP)
    try:
        assert members_and_votes(remote.answer()) == local
        assert len(finished_files(folder)) == 4
        wait_until(lambda: not any(hanging in descendants(worker) for worker in cluster.workers))
    finally:
        if any(hanging in descendants(worker) for worker in cluster.workers):
            os.kill(hanging, signal.SIGKILL)


def test_more_members_than_rows_are_refused_in_a_sentence(remote):
    sentence = remote.ask("refusal_of_fit(rows.where('id < 3'), numMembers=8)")
    assert sentence.startswith("Member ") and "\n" not in sentence
    assert "has no rows to train on: its bag is empty; set fewer members (numMembers)" in sentence


def test_a_job_that_kills_its_executors_fails_in_a_sentence(remote):
    sentence = remote.ask("failure_of_lost_executors(spark)")
    assert sentence.startswith("A process of Spark's was killed or crashed, mostly because memory ran out; ")
