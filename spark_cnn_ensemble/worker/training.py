"""A partition of rows -> a trained member, as rows that travel to the driver.

Spark runs `train_in_task`, one task per member. The training itself is in `trainer`.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd

from spark_cnn_ensemble.worker.bag import Bag, Examples, collect_bag
from spark_cnn_ensemble.worker.initial_weights import InitialArrays, SharedInitialWeights
from spark_cnn_ensemble.worker.live_report import LiveReporter, Receiver
from spark_cnn_ensemble.worker.refusal import Divergence, Refusal
from spark_cnn_ensemble.worker.runtime import load_tensorflow_in_task
from spark_cnn_ensemble.worker.trainer import Observe, kept_epoch, trainer_of
from spark_cnn_ensemble.worker.training_plan import TrainingPlan
from spark_cnn_ensemble.worker.weights import digest, pack_weights, split_weights

# What a task sends to the driver. First the member's weights, one part of `PART_BYTES` per row; its report, as JSON, is
# in part 0. Then its share of the out-of-bag sample, one image per row: `part` is null, `bytes` are the pixels, uint8
# or float32, and `report` differs between two trainings of the member. `plan` is the index of the plan, where one job
# trains by several.
TRAINED_SCHEMA = "plan int, member int, part int, bytes binary, report string, row_key bigint, ticket double, label int"
_TRAINED_COLUMNS = ("plan", "member", "part", "bytes", "report", "row_key", "ticket", "label")

REPORTED = {
    *("member", "rows", "examples", "validationRows", "skippedRows", "classCounts", "fingerprint", "spilled"),
    *("retries", "scaled", "seconds", "size", "sha256"),
}  # fields of a member's report, in addition to its history or its failure

_SAMPLE_BYTES = 16 << 20  # of the sample in one frame

CountDone = Callable[[list[tuple[tuple[int, int], float]]], None]  # called with ((plan, member), training accuracy)


def train_in_task(
    frames: Iterable[pd.DataFrame],
    plans: Sequence[TrainingPlan],
    members: Sequence[int],
    count_done: CountDone | None = None,
    receiver: Receiver | None = None,
    initial: SharedInitialWeights | None = None,
) -> Iterator[pd.DataFrame]:
    """Train the member that this partition is for, by the plan that it is for.

    Parameters
    ----------
    frames : iterable of pandas.DataFrame
        Columns `BAG_COLUMNS`.
    plans : sequence of TrainingPlan
        One per model that the job trains.
    members : sequence of int
        The member of each partition of the first plan; the partitions of further plans follow in the same order.
    count_done : callable, optional
        Called when a member is done; the accuracy is NaN if it diverged.
    receiver : Receiver, optional
        Of reports while the member trains.
    initial : SharedInitialWeights, optional
        What the plans' members start from; needed if a plan has initial weights.

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
    arrays = initial.arrays(plan, member) if initial is not None else {}
    with _reporting(receiver, index, member, task.taskAttemptId(), plan.epochs) as observe:
        table = train_member(bag, plan, task.attemptNumber(), observe, arrays)
    outcome = json.loads(table["report"].iloc[0])
    if count_done is not None:
        accuracy = math.nan if "failure" in outcome else reported_accuracy(outcome)
        count_done([((index, member), accuracy)])
    yield table.assign(plan=np.int32(index))
    if not index:  # all plans have the same bags, and so the same sample
        yield from sample_tables(bag, outcome["seconds"])


@contextmanager
def _reporting(receiver: Receiver | None, *of: int) -> Iterator[Observe | None]:
    """What sends reports while the context is open; None if there is no receiver."""
    if receiver is None:
        yield None
        return
    reporter = LiveReporter(receiver, *of)
    try:
        reporter(0.0, lambda: math.nan)
        yield reporter
    finally:
        reporter.close()


def reported_accuracy(report: dict[str, Any]) -> float:
    """The training accuracy in a member's report, of the epoch whose weights it has."""
    curve = report["history"]["accuracy"]
    return curve[report.get("keptEpoch", len(curve)) - 1]


def train_member(
    bag: Bag,
    plan: TrainingPlan,
    attempt: int = 0,
    observe: Observe | None = None,
    initial: InitialArrays | None = None,
) -> pd.DataFrame:
    """Train one member.

    Parameters
    ----------
    bag : Bag
    plan : TrainingPlan
    attempt : int
        Number of earlier attempts of this task.
    observe : callable, optional
        See `Observe`.
    initial : mapping of int to numpy.ndarray, optional
        Weights that the member starts from; the others are fresh.

    Returns
    -------
    pandas.DataFrame
        The rows of `TRAINED_SCHEMA` that hold the member; its weights are empty if it diverged.

    Raises
    ------
    Refusal
        The plan needs rows to validate on and there are none, or the member diverged and the plan does not keep that.
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
        "classCounts": _class_counts(bag.training, plan.architecture.num_classes),
        "fingerprint": bag.fingerprint,
        "spilled": bag.spilled,
        "retries": attempt,
        "scaled": False,
    }
    try:
        trainer = trainer_of(plan.program)
        weights, history = trainer.train(bag, plan, observe, initial)
        report.update(history=history, keptEpoch=kept_epoch(history, plan))
        report["scaled"] = len(weights) > len(trainer.network.weights)
        data = pack_weights(weights)
    except Divergence as divergence:
        if not plan.keep_diverged:
            raise
        data, report["failure"] = b"", str(divergence)
    report.update(seconds=round(time.perf_counter() - started, 3), size=len(data), sha256=digest(data))
    parts = split_weights(data) or [b""]
    reports = [json.dumps(report), *[None] * (len(parts) - 1)]
    return _table(bag.member, len(parts), part=range(len(parts)), bytes=parts, report=reports)


def _class_counts(examples: Examples, classes: int) -> list[int] | list[float]:
    """Rows of each class, those of weight 0 left out, as nothing is learned from them; sums of soft labels."""
    learned = slice(None) if examples.weights is None else examples.weights > 0
    if examples.soft_labels is not None:
        return examples.soft_labels[learned].sum(axis=0, dtype=np.float64).round(3).tolist()
    return np.bincount(examples.labels[learned], minlength=classes).tolist()


def _table(member: int, rows: int, **columns: Any) -> pd.DataFrame:
    """Rows of `TRAINED_SCHEMA`, null in columns that are not given."""
    nothing = [None] * rows
    filled = {name: pd.Series(columns.get(name, nothing), dtype=object) for name in _TRAINED_COLUMNS}
    return pd.DataFrame({**filled, "plan": np.int32(0), "member": np.int32(member)})


def sample_tables(bag: Bag, seconds: float) -> Iterator[pd.DataFrame]:
    """A bag's share of the out-of-bag sample as rows of `TRAINED_SCHEMA`.

    Their report is `seconds`, that of the member's report: it differs if Spark trains the member again.
    """
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
            report=[str(seconds)] * len(images),
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
