"""A partition of rows -> a trained member.

`train_members` is what Spark runs, one task a member. A process builds a network and traces its training once, and
resets it for each further member of a plan with the same program. TensorFlow is imported inside functions.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from spark_cnn_ensemble.worker.bag import Bag, Examples, collect_bag
from spark_cnn_ensemble.worker.refusal import Divergence, Refusal
from spark_cnn_ensemble.worker.runtime import load_tensorflow_in_task
from spark_cnn_ensemble.worker.trainer import trainer_of
from spark_cnn_ensemble.worker.training_plan import TrainingPlan
from spark_cnn_ensemble.worker.weights import digest, pack_weights, split_weights

# `plan` numbers the plans that members are trained by in one job.
# A member's weights in parts of `PART_BYTES` (its report, as JSON, comes with part 0), then its share of the
# out-of-bag sample, an image a row, whose `part` is null and whose `bytes` are its pixels, uint8 or float32.
TRAINED_SCHEMA = "plan int, member int, part int, bytes binary, report string, row_key bigint, ticket double, label int"
_TRAINED_COLUMNS = ("plan", "member", "part", "bytes", "report", "row_key", "ticket", "label")

REPORTED = {
    *("member", "rows", "examples", "validationRows", "skippedRows", "classCounts", "fingerprint", "spilled"),
    *("retries", "seconds", "size", "sha256"),
}  # what the report of a member tells, beside its history or its failure

_SAMPLE_BYTES = 16 << 20  # of the sample that leave in one frame

Report = Callable[[list[tuple[tuple[int, int], float]]], None]  # called with ((plan, member), training accuracy)


def train_members(
    frames: Iterable[pd.DataFrame], plans: Sequence[TrainingPlan], members: Sequence[int], report: Report | None = None
) -> Iterator[pd.DataFrame]:
    """Train the member whose bag is this partition, by the plan that it is to be trained by here.

    Parameters
    ----------
    frames : iterable of pandas.DataFrame
        Columns `BAG_COLUMNS`.
    plans : sequence of TrainingPlan
    members : sequence of int
        The member of each partition of the first plan; those of the next plans follow, in the same order.
    report : callable, optional
        Called when a member is done.

    Yields
    ------
    pandas.DataFrame
        Columns of `TRAINED_SCHEMA`.
    """
    from pyspark import TaskContext

    task = TaskContext.get()
    assert task is not None
    index, place = divmod(task.partitionId(), len(members))
    plan, member = plans[index], members[place]
    bag = collect_bag(frames, member, plan.rules)
    table = train_member(bag, plan, task.attemptNumber())
    if report is not None:
        made = json.loads(table["report"].iloc[0])
        report([((index, member), made["history"]["accuracy"][-1] if "failure" not in made else math.nan)])
    yield table.assign(plan=np.int32(index))
    if not index:  # the bags of all plans are the same, and so is the sample
        yield from sample_tables(bag)


def train_member(bag: Bag, plan: TrainingPlan, attempt: int = 0) -> pd.DataFrame:
    """Train one member; the rows of `TRAINED_SCHEMA` that hold it.

    Parameters
    ----------
    attempt : int
        How often this task was tried before.

    Raises
    ------
    Refusal
        There is nothing to validate on though the plan needs it, or the member diverged and that is not kept.
    """
    _check_validation(bag.validation, plan)
    load_tensorflow_in_task()
    started = time.perf_counter()
    report: dict[str, Any] = {
        "member": bag.member,
        "rows": len(bag.training),
        "examples": int(bag.training.copies.sum()),
        "validationRows": len(bag.validation),
        "skippedRows": bag.skipped,
        "classCounts": np.bincount(bag.training.labels, minlength=plan.architecture.num_classes).tolist(),
        "fingerprint": bag.fingerprint,
        "spilled": bag.spilled,
        "retries": attempt,
    }
    try:
        weights, report["history"] = trainer_of(plan.program).train(bag, plan)
        data = pack_weights(weights)
    except Divergence as divergence:
        if not plan.keep_diverged:
            raise
        data, report["failure"] = b"", str(divergence)
    report.update(seconds=round(time.perf_counter() - started, 3), size=len(data), sha256=digest(data))
    parts = split_weights(data) or [b""]
    reports = [json.dumps(report), *[None] * (len(parts) - 1)]
    return _table(bag.member, len(parts), part=range(len(parts)), bytes=parts, report=reports)


def _table(member: int, rows: int, **columns: Any) -> pd.DataFrame:
    """Rows of `TRAINED_SCHEMA`, null where no column is given."""
    nothing = [None] * rows
    filled = {name: pd.Series(columns.get(name, nothing), dtype=object) for name in _TRAINED_COLUMNS}
    return pd.DataFrame({**filled, "plan": np.int32(0), "member": np.int32(member)})


def sample_tables(bag: Bag) -> Iterator[pd.DataFrame]:
    """A bag's share of the out-of-bag sample as rows of `TRAINED_SCHEMA`."""
    sample = bag.sample
    if sample is None:
        return
    step = max(1, _SAMPLE_BYTES // sample.images[0].nbytes)
    for begin in range(0, len(sample), step):
        span = slice(begin, begin + step)
        images = [image.tobytes() for image in sample.images[span]]
        yield _table(
            bag.member,
            len(images),
            bytes=images,
            row_key=sample.keys[span],
            ticket=sample.tickets[span],
            label=sample.labels[span],
        )


def _check_validation(validation: Examples, plan: TrainingPlan) -> None:
    usable = len(validation) if validation.weights is None else validation.weights.sum()
    if plan.early_stopping_patience and not usable:
        raise Refusal(
            "The 'earlyStoppingPatience' parameter needs rows to validate on, but no row of weight > 0 is marked in "
            "the column of 'validationIndicatorCol'; mark some, or set earlyStoppingPatience=0."
        )
