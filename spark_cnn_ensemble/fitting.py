"""Bags -> members on the driver: the job that trains, or finds in a checkpoint, each member of a fit.

Called by the estimator.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel

from spark_cnn_ensemble import bagging
from spark_cnn_ensemble.checkpoint import Checkpoint
from spark_cnn_ensemble.progress import FitProgress
from spark_cnn_ensemble.transport import collect_weights
from spark_cnn_ensemble.worker.member import TrainingPlan
from spark_cnn_ensemble.worker.refusal import refusing_in_python
from spark_cnn_ensemble.worker.training import TRAINED_SCHEMA, train_members


@dataclass(frozen=True)
class Trained:
    """The members of a fit.

    Parameters
    ----------
    reports : dict of int to dict
        By member; see `worker.training.train_member`.
    weights : dict of int to bytes
        Packed, by member; empty where it diverged.
    resumed : tuple of int
        Members that were not trained now.
    sample : DataFrame
        The out-of-bag sample: row_key, ticket, label, bytes. It can be read while `training` lasts.
    """

    reports: dict[int, dict[str, Any]]
    weights: dict[int, bytes]
    resumed: tuple[int, ...]
    sample: DataFrame

    @property
    def sound(self) -> list[int]:
        """The members that did not diverge."""
        return [member for member in sorted(self.reports) if "failure" not in self.reports[member]]

    @property
    def failures(self) -> dict[int, str]:
        """What befell the others."""
        return {member: report["failure"] for member, report in sorted(self.reports.items()) if "failure" in report}


@contextmanager
def training(
    drawn: DataFrame, plan: TrainingPlan, num_members: int, checkpoint: Checkpoint | None, progress: FitProgress
) -> Iterator[Trained]:
    """Train each member on its bag, but for those that a checkpoint holds.

    Parameters
    ----------
    drawn : DataFrame
        Columns `worker.bag.BAG_COLUMNS`.

    Raises
    ------
    ValueError
        A row or a bag cannot be used, or the checkpoint is of other rows.
    RuntimeError
        Members are missing though their tasks ended.
    """
    with refusing_in_python():
        finished = {} if checkpoint is None else checkpoint.finished()
        if checkpoint is not None and finished:
            checkpoint.check_rows(finished, drawn)
    for kept in finished.values():
        progress.tell([(kept.report["member"], kept.report["history"]["accuracy"][-1])])
    missing = [member for member in range(num_members) if member not in finished]
    reports = {member: kept.report for member, kept in finished.items()}
    weights = {member: kept.weights for member, kept in finished.items()}
    with _trained(drawn, plan, missing, num_members, checkpoint, progress) as trained, refusing_in_python():
        if missing:
            found = trained.where(F.col("report").isNotNull()).select("member", "report").collect()
            reports.update((row["member"], json.loads(row["report"])) for row in found)
            weights.update(collect_weights(trained, {m: reports[m]["size"] for m in missing if m in reports}))
        lost = sorted(set(range(num_members)) - set(reports))
        if lost:
            raise RuntimeError(f"Members {lost} were not trained, though their tasks ended; fit again.")
        rows = trained
        if checkpoint is not None and finished:
            rows = checkpoint.of(finished)
            rows = rows.unionByName(trained) if missing else rows
        sample = rows.where(F.col("part").isNull()).select("row_key", "ticket", "label", "bytes")
        yield Trained(reports, weights, tuple(sorted(finished)), sample)


@contextmanager
def _trained(
    drawn: DataFrame,
    plan: TrainingPlan,
    members: list[int],
    num_members: int,
    checkpoint: Checkpoint | None,
    progress: FitProgress,
) -> Iterator[DataFrame]:
    """What the workers give for `members`; it may be read several times."""
    train = functools.partial(train_members, plan=plan, members=tuple(members), tell=progress.tell_from_workers)
    trained = bagging.place(drawn, members, num_members).mapInPandas(train, TRAINED_SCHEMA) if members else drawn
    if checkpoint is not None:
        if members:
            with refusing_in_python():
                checkpoint.write(trained)
        yield checkpoint.trained()
        return
    # Kept on the executors' disks until the driver has the weights, which it collects in several jobs.
    trained.persist(StorageLevel.DISK_ONLY)
    try:
        yield trained
    finally:
        trained.unpersist()
