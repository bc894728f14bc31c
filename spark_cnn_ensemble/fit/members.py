"""Bags -> members, on the driver: the job that trains the members of one or several models.

Members that a checkpoint holds are not trained again. Called by the estimator.
"""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from spark_cnn_ensemble.engine import engine_of
from spark_cnn_ensemble.engine.shared_weights import collect_parts, join_parts
from spark_cnn_ensemble.fit.checkpoint import Checkpoint
from spark_cnn_ensemble.progress import FitProgress
from spark_cnn_ensemble.worker.bag import empty_bag
from spark_cnn_ensemble.worker.initial_weights import SharedInitialWeights
from spark_cnn_ensemble.worker.refusal import refusing_in_python
from spark_cnn_ensemble.worker.training import TRAINED_SCHEMA, reported_accuracy, train_in_task
from spark_cnn_ensemble.worker.training_plan import TrainingPlan
from spark_cnn_ensemble.worker.weights import digest


@dataclass(frozen=True)
class Trained:
    """The members of one model.

    Parameters
    ----------
    reports : dict of int to dict
        By member; see `worker.training.train_member`.
    weights : dict of int to bytes
        Packed, by member; empty if the member diverged.
    resumed : tuple of int
        Members that came from the checkpoint.
    sample : DataFrame
        The out-of-bag sample: row_key, ticket, label, bytes, member, report. It can be read while the context of
        `training` is open.
    sample_reports : dict of int to str
        By member, the report of its rows in the sample, unless Spark trains it again for them.
    """

    reports: dict[int, dict[str, Any]]
    weights: dict[int, bytes]
    resumed: tuple[int, ...]
    sample: DataFrame
    sample_reports: dict[int, str]

    @property
    def sound(self) -> list[int]:
        """The members that did not diverge."""
        return [member for member in sorted(self.reports) if "failure" not in self.reports[member]]

    @property
    def failures(self) -> dict[int, str]:
        """By member, why it diverged."""
        return {member: report["failure"] for member, report in sorted(self.reports.items()) if "failure" in report}


@contextmanager
def training(
    bagged: DataFrame,
    plans: Sequence[TrainingPlan],
    num_members: int,
    checkpoint: Checkpoint | None,
    progress: FitProgress,
    initial: Mapping[str, bytes],
) -> Iterator[list[Trained]]:
    """Train each member on its bag, once per plan.

    Parameters
    ----------
    bagged : DataFrame
        Columns `worker.bag.BAG_COLUMNS`.
    plans : sequence of TrainingPlan
        One per model.
    num_members : int
        Members of each model.
    checkpoint : Checkpoint or None
        Receives the members; those that it holds are not trained again. Only with a single plan.
    progress : FitProgress
    initial : mapping of str to bytes
        Packed weights that members start from, by their SHA-256, for all plans.

    Yields
    ------
    list of Trained
        In the order of the plans.

    Raises
    ------
    ValueError
        A row or a bag cannot be used, or the checkpoint belongs to other rows.
    RuntimeError
        Members are missing although their tasks ended, or weights were damaged on their way to the driver.
    """
    with refusing_in_python():
        finished = {} if checkpoint is None else checkpoint.finished()
        if checkpoint is not None and finished:
            checkpoint.check_rows(finished, bagged)
    for before in finished.values():
        progress.count([((0, before.report["member"]), reported_accuracy(before.report))])
    missing = [member for member in range(num_members) if member not in finished]
    reports: list[dict[int, dict[str, Any]]] = [
        {member: before.report for member, before in finished.items()} for _ in plans
    ]
    weights = [{member: before.weights for member, before in finished.items()} for _ in plans]
    train = functools.partial(
        train_in_task,
        plans=tuple(plans),
        members=tuple(missing),
        count_done=progress.reporter,
        receiver=progress.receiver,
        initial=_shared(bagged, initial) if missing else None,
    )
    # Persisting runs Spark's optimizer, which may evaluate a row and refuse it.
    with refusing_in_python(), _trained(bagged, train, len(plans), missing, num_members, checkpoint) as trained:
        if missing:
            _collect(trained, missing, num_members, reports, weights)
        lost = sorted({member for of_plan in reports for member in set(range(num_members)) - set(of_plan)})
        if lost:
            raise RuntimeError(f"Members {lost} were not trained, although their tasks ended; fit again.")
        rows = trained
        if checkpoint is not None and finished:
            rows = checkpoint.of(finished)
            rows = rows.unionByName(trained) if missing else rows
        sample = rows.where(F.col("part").isNull()).select("row_key", "ticket", "label", "bytes", "member", "report")
        sample_reports = {member: str(report["seconds"]) for member, report in reports[0].items()}
        resumed = tuple(sorted(finished))
        yield [Trained(*members, resumed, sample, sample_reports) for members in zip(reports, weights, strict=True)]


def _collect(
    trained: DataFrame,
    members: list[int],
    num_members: int,
    reports: list[dict[int, dict[str, Any]]],
    weights: list[dict[int, bytes]],
) -> None:
    """Add the reports and weights of trained members, by plan.

    The first job trains. If an executor that keeps members is lost before the driver has their weights, Spark trains
    them again, and the rows of a second copy of a task may be kept next to those of the first; so each report is taken
    from the rows that bring the weights.
    """
    reported = trained.where(F.col("part") == 0).select("plan", "member", "report").collect()
    if not reported:  # Spark 3.5 starts no task where there are no rows at all
        raise ValueError(empty_bag(members[0]))
    # The members of all plans are collected together, by a number for each.
    first = {row["plan"] * num_members + row["member"]: json.loads(row["report"]) for row in reported}
    numbered = trained.withColumn("member", F.col("plan") * num_members + F.col("member"))
    again = set()
    for number, rows in collect_parts(numbered, {number: first[number]["size"] for number in sorted(first)}, "report"):
        index, member = divmod(number, num_members)
        report, weights[index][member] = _received(member, rows)
        if report["seconds"] != first[number]["seconds"]:  # of another training
            again.add(member)
            report["retries"] += 1 + first[number]["retries"]
        reports[index][member] = report
    warn_of_trainings(again, "their weights were lost before the driver had them")


def warn_of_trainings(again: Collection[int], lost: str) -> None:
    """Say which members Spark trained `again`, as executors had what was `lost` or a second copy was faster."""
    if again:
        warnings.warn(
            f"Members {sorted(again)} were trained more than once, because the executors that kept {lost}, or because "
            "Spark ran second copies of their tasks (spark.speculation); with checkpointDir, finished members are kept "
            "on its filesystem.",
            stacklevel=3,
        )


def _received(member: int, rows: list[Row]) -> tuple[dict[str, Any], bytes]:
    """A member's report and its weights, which match the SHA-256 in the report."""
    data = join_parts(rows)
    report = json.loads(rows[0]["report"]) if rows and rows[0]["report"] is not None else {}
    if report.get("sha256") != digest(data):
        raise RuntimeError(f"The weights of member {member} were damaged on their way to the driver; fit again.")
    return report, data


def _shared(bagged: DataFrame, initial: Mapping[str, bytes]) -> SharedInitialWeights | None:
    if not initial:
        return None
    return SharedInitialWeights(tuple(initial), engine_of(bagged.sparkSession).share(list(initial.values())))


@contextmanager
def _trained(
    bagged: DataFrame,
    train: Callable[..., Any],
    times: int,
    members: list[int],
    num_members: int,
    checkpoint: Checkpoint | None,
) -> Iterator[DataFrame]:
    """The rows that workers send for `members`, `times` each, in a frame that can be read several times."""
    trained = bagged
    if members:
        bags = place_bags(bagged, members, num_members, times)
        trained = bags.mapInPandas(engine_of(bagged.sparkSession).for_workers(train), TRAINED_SCHEMA)
    if checkpoint is not None:
        if members:
            with refusing_in_python():
                checkpoint.write(trained)
        yield checkpoint.trained()
        return
    # The driver collects the weights in several jobs.
    with engine_of(bagged.sparkSession).keep(trained) as kept:
        yield kept


def place_bags(bagged: DataFrame, members: Sequence[int], num_members: int, times: int = 1) -> DataFrame:
    """Put the bag of `members[i]` alone into partition i; the bags of other members are left out.

    With `times` > 1 there are as many copies of it, in partitions i, i + len(members), i + 2 * len(members), ...
    """
    place = engine_of(bagged.sparkSession).place
    if len(members) == num_members:
        index = F.col("member")
    else:
        places = {member: at for at, member in enumerate(members)}
        index = F.array(*[F.lit(places.get(member)).cast("int") for member in range(num_members)])[F.col("member")]
        bagged = bagged.where(index.isNotNull())
    if times == 1:
        return place(bagged, index, len(members))
    repeated = bagged.select("*", F.explode(F.sequence(F.lit(0), F.lit(times - 1))).alias("time"))
    placed = place(repeated, F.col("time") * len(members) + index, times * len(members))
    return placed.select(*bagged.columns)
