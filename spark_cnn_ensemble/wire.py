"""A user's training rows -> rows on the wire, each with its keys, its bags and its lot in the out-of-bag sample.

Spark expressions only; called by the estimator. The wire's columns are told in `worker.bag`.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Observation
from pyspark.sql import functions as F

from spark_cnn_ensemble import bagging, rows
from spark_cnn_ensemble.out_of_bag import Draw
from spark_cnn_ensemble.worker.bag import BAG_COLUMNS


@dataclass(frozen=True)
class Source:
    """What a fit reads of a DataFrame: columns by their part, and their names where a message needs them.

    Parameters
    ----------
    features : rows.Features
    label : Column
        double.
    label_name : str
    weight : Column or None
        double.
    weight_name : str or None
    validates : Column or None
        boolean.
    identity : Column or None
        What tells a row from others, of any type.
    identity_name : str or None
    """

    features: rows.Features
    label: Column
    label_name: str
    weight: Column | None = None
    weight_name: str | None = None
    validates: Column | None = None
    identity: Column | None = None
    identity_name: str | None = None

    @classmethod
    def of(
        cls,
        dataset: DataFrame,
        features: rows.Features,
        label_name: str,
        weight_name: str | None,
        indicator_name: str | None,
        identity_name: str | None,
    ) -> Source:
        """The columns of these names; None where there is no such column to read.

        Raises
        ------
        ValueError
            A column is not there, or of a type that cannot be used.
        """
        identity = rows.field(dataset, identity_name, "idCol").name if identity_name else None
        return cls(
            features=features,
            label=rows.label_values(dataset, label_name)[0],
            label_name=label_name,
            weight=rows.numeric(dataset, weight_name, "weightCol") if weight_name else None,
            weight_name=weight_name,
            validates=rows.indicator(dataset, indicator_name) if indicator_name else None,
            identity=rows.column(identity) if identity else None,
            identity_name=identity_name,
        )


def bag_rows(
    dataset: DataFrame,
    source: Source,
    num_classes: int,
    draw: Draw,
    sampled: bool,
    skip_invalid: bool,
    observation: Observation,
) -> DataFrame:
    """A row of `worker.bag.BAG_COLUMNS` for each bag that a row is in; rows that cannot be used fail or are left out.

    Parameters
    ----------
    sampled : bool
        Whether rows are drawn into an out-of-bag sample.
    observation : Observation
        Learns, from the first job that reads the rows, how many there are: rows, skipped (faulty), unused (in no bag),
        keys (different ones, about).
    """
    wire = _wire(dataset, source, num_classes, skip_invalid)
    key, sound = F.col("row_key"), F.col("fault").isNull()
    ticket = bagging.ticket(key, draw.seed)
    spare = draw.spare_rows(ticket) if sampled else None
    bags = bagging.bags(key, F.col("validates"), draw.bagging, draw.rate, draw.num_members, draw.seed, spare)
    wire = wire.select("*", (ticket if sampled else F.lit(None).cast("double")).alias("ticket"), bags.alias("bags"))
    used = F.exists("bags", lambda bag: bag["copies"] > 0) | F.col("validates")
    wire = wire.observe(
        observation,
        F.count(F.lit(1)).alias("rows"),
        F.count("fault").alias("skipped"),
        F.count(F.when(sound & ~used, 1)).alias("unused"),
        F.approx_count_distinct(F.when(sound, key)).alias("keys"),
    )
    # Hashing the pixels is what takes longest here, so rows of no bag are spared it.
    content = F.xxhash64(source.features.content(F.col("features")), "label", "weight")
    bagged = wire.where(sound & (F.size("bags") > 0)).drop("fault")
    bagged = bagged.withColumn("content_key", key if source.identity is None else content)
    return bagging.draw(bagged).select(*BAG_COLUMNS)


def _wire(dataset: DataFrame, source: Source, num_classes: int, skip_invalid: bool) -> DataFrame:
    """Select, cast and rename; the column fault is null where a row can be used."""
    features, label, weight = source.features, source.label, source.weight
    faults = [features.fault, rows.label_fault(label, source.label_name, num_classes)]
    hashed = [features.content(features.cells), label]
    name = features.name
    if weight is not None:
        assert source.weight_name is not None
        faults.append(rows.weight_fault(weight, source.weight_name))
        hashed.append(weight)
    row_key = F.xxhash64(*hashed)
    if source.identity is not None:
        row_key = F.xxhash64(source.identity)
        name = F.concat(F.lit(f"{source.identity_name}="), source.identity.cast("string"))
    fault = F.coalesce(*faults)
    classes = label.cast("int")  # fails on what is no number of 32 bits, so it must not see a faulty label
    return dataset.select(
        row_key.alias("row_key"),
        (F.when(fault.isNull(), classes) if skip_invalid else rows.refusing(classes, fault, name)).alias("label"),
        (F.lit(None) if weight is None else weight).cast("float").alias("weight"),
        (F.lit(False) if source.validates is None else source.validates).alias("validates"),
        name.alias("name"),
        features.cells.alias("features"),
        (fault if skip_invalid else F.lit(None).cast("string")).alias("fault"),
    )
