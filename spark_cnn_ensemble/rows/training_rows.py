"""Bagged rows from a user's training rows.

Each bagged row has its keys, its copies in one bag, and its ticket for the out-of-bag sample;
`worker.bag.BAG_COLUMNS` names the columns that go to the workers. Spark expressions only. Called by the estimator.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Observation
from pyspark.sql import functions as F

from spark_cnn_ensemble.rows.classes import Classes
from spark_cnn_ensemble.rows.columns import (
    column,
    field,
    indicator,
    numeric,
    refusing,
    weight_fault,
)
from spark_cnn_ensemble.rows.draw import Draw
from spark_cnn_ensemble.rows.features import Features
from spark_cnn_ensemble.rows.labels import Labels, labels_of
from spark_cnn_ensemble.worker.bag import BAG_COLUMNS

_LONGEST_WAIT = 60.0  # seconds, for counts that Spark hands on within milliseconds


@dataclass(frozen=True)
class TrainingColumns:
    """The columns of a DataFrame that a fit reads, with their names where a message needs them.

    Parameters
    ----------
    features : Features
    labels : Labels
    weight : Column or None
        double.
    weight_name : str or None
    validates : Column or None
        boolean.
    identity : Column or None
        The id column, of any type.
    identity_name : str or None
    """

    features: Features
    labels: Labels
    weight: Column | None = None
    weight_name: str | None = None
    validates: Column | None = None
    identity: Column | None = None
    identity_name: str | None = None

    @classmethod
    def of(
        cls,
        dataset: DataFrame,
        features: Callable[[], Features],
        label_name: str,
        weight_name: str | None,
        indicator_name: str | None,
        identity_name: str | None,
    ) -> TrainingColumns:
        """The columns of these names; None where no column is named.

        `features` is called last, as it may run a job.

        Raises
        ------
        ValueError
            A column is missing, or its type cannot be used.
        """
        if identity_name:
            field(dataset, identity_name, "idCol")
        return cls(
            labels=labels_of(dataset, label_name),
            weight=numeric(dataset, weight_name, "weightCol") if weight_name else None,
            weight_name=weight_name,
            validates=indicator(dataset, indicator_name) if indicator_name else None,
            identity=column(dataset, identity_name) if identity_name else None,
            identity_name=identity_name,
            features=features(),
        )


def bag_rows(
    dataset: DataFrame,
    columns: TrainingColumns,
    classes: Classes,
    draw: Draw,
    sampled: bool,
    skip_invalid: bool,
) -> tuple[DataFrame, RowCounts]:
    """The rows of all bags, and the counts of the rows.

    There is one row of `worker.bag.BAG_COLUMNS` for each bag that a row goes to. Unusable rows fail the job or are left
    out.

    Parameters
    ----------
    dataset : DataFrame
    columns : TrainingColumns
    classes : Classes
    draw : Draw
    sampled : bool
        Whether there is an out-of-bag sample.
    skip_invalid : bool
        Whether unusable rows are left out.
    """
    keyed = _keyed_rows(dataset, columns, classes, skip_invalid)
    key, sound = F.col("row_key"), F.col("fault").isNull()
    ticket = draw.ticket(key) if sampled else F.lit(None).cast("double")
    bags = draw.bags(key, F.col("validates"), with_guests=sampled)
    keyed = keyed.select("*", ticket.alias("ticket"), bags.alias("bags"))
    used = F.exists("bags", lambda bag: bag["copies"] > 0) | F.col("validates")
    counts = RowCounts(
        keyed,
        rows=F.count(F.lit(1)),
        skipped=F.count("fault"),
        unused=F.count(F.when(sound & ~used, 1)),
        keys=F.approx_count_distinct(F.when(sound, key)),
    )
    # Hashing the pixels is the slowest step here, so only rows that are sent to a worker are hashed.
    label = "label" if columns.labels.probabilities is None else "soft_label"
    content = F.xxhash64(columns.features.content(F.col("features")), label, "weight")
    bagged = counts.observed.where(sound & (F.size("bags") > 0)).drop("fault")
    bagged = bagged.withColumn("content_key", key if columns.identity is None else content)
    return explode_bags(bagged).select(*BAG_COLUMNS), counts


class RowCounts:
    """Counts of the rows that a fit reads: rows, skipped (unusable), unused (in no bag), keys (distinct, estimated).

    Attributes
    ----------
    observed : DataFrame
        The rows. The first job that reads them counts them.
    """

    def __init__(self, frame: DataFrame, **counts: Column) -> None:
        self._frame = frame
        self._counts = [count.alias(name) for name, count in counts.items()]
        self._observation = Observation()
        self.observed = frame.observe(self._observation, *self._counts)

    def get(self) -> dict[str, int]:
        """The counts, when a job has read the rows."""
        # A Connect server of Spark 4.0 sends none for a job that writes what is below a shuffle, such as a checkpoint.
        # A classic session never has them if its queue of events was full.
        counted: dict[str, int] = {}

        def ask() -> None:
            with suppress(Exception):  # the job that follows says what is wrong
                counted.update(self._observation.get)

        waiting = threading.Thread(target=ask, daemon=True)
        waiting.start()
        waiting.join(_LONGEST_WAIT)
        return counted or self._frame.agg(*self._counts).collect()[0].asDict()


def explode_bags(rows: DataFrame) -> DataFrame:
    """One row for each bag that a row goes to; column bags becomes member, copies and counts_here.

    counts_here is true in one of them, so that sums over the rows count each row once.
    """
    others = [F.col(name) for name in rows.columns if name != "bags"]
    return rows.select(*others, F.posexplode("bags").alias("position", "bag")).select(
        *others, "bag.member", "bag.copies", (F.col("position") == 0).alias("counts_here")
    )


def _keyed_rows(dataset: DataFrame, columns: TrainingColumns, classes: Classes, skip_invalid: bool) -> DataFrame:
    """Select, cast and rename the columns; column fault is null where a row can be used."""
    features, labels, weight = columns.features, columns.labels, columns.weight
    soft = labels.probabilities
    counted = classes.source == "rows"
    expected = (None, "") if counted else (classes.number, classes.remedy(soft is not None))
    faults = [features.fault, labels.fault(*expected)]
    hashed = [features.content(features.cells), labels.content]
    name = features.row
    if weight is not None:
        assert columns.weight_name is not None
        faults.append(weight_fault(weight, columns.weight_name))
        hashed.append(weight)
    row_key = F.xxhash64(*hashed)
    if columns.identity is not None:
        # Null ids would share one key, and so one bag: such rows are drawn by their content.
        row_key = F.when(columns.identity.isNull(), row_key).otherwise(F.xxhash64(columns.identity))
        identity = F.concat(F.lit(f"{columns.identity_name}="), columns.identity.cast("string"))
        name = F.coalesce(identity, name)
    fault = F.coalesce(*faults)
    index = labels.index.cast("int")  # the cast fails on numbers beyond 32 bits, so it must not get a faulty label
    index = F.when(fault.isNull(), index) if skip_invalid else refusing(index, fault, name)
    if counted:  # the rows changed between two jobs; handleInvalid='skip' does not apply
        new = F.when(fault.isNull(), labels.new_fault(classes.number))
        index = refusing(index, new, name, skippable=False)
    return dataset.select(
        row_key.alias("row_key"),
        index.alias("label"),
        (F.lit(None) if soft is None else soft).cast("array<float>").alias("soft_label"),
        (F.lit(None) if weight is None else weight).cast("float").alias("weight"),
        (F.lit(False) if columns.validates is None else columns.validates).alias("validates"),
        name.alias("name"),
        features.cells.alias("features"),
        (fault if skip_invalid else F.lit(None).cast("string")).alias("fault"),
    )
