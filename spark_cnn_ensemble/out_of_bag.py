"""The out-of-bag estimate: a small job in which each member votes on the sampled rows that it did not train on.

The sample left the workers with the members that they trained, so no row is read a second time. Who had a row in its
bag is not stored anywhere: the draw is made again from the row's key.
"""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from spark_cnn_ensemble import bagging
from spark_cnn_ensemble.ensemble import Ensemble
from spark_cnn_ensemble.votes import DisputedRow, OutOfBag
from spark_cnn_ensemble.worker.majority import VotingPlan
from spark_cnn_ensemble.worker.measuring import OUT_OF_BAG_SCHEMA, most_disputed, vote_out_of_bag
from spark_cnn_ensemble.worker.pixels import PixelFormat
from spark_cnn_ensemble.worker.refusal import refusing_in_python

_MAX_BYTES = 256 << 20  # of a sample's pixels, as float32
_ROWS_A_TASK = 100  # at least, as a task must first load the members
_GUESTS = 0.1  # rows of no bag that are sent to the workers, over those that are sent to train


@dataclass(frozen=True)
class Draw:
    """How the bags were drawn."""

    bagging: str
    rate: float
    num_members: int
    seed: int

    @property
    def leaves_rows_out(self) -> bool:
        """Whether any row is out of any bag."""
        return not (self.bagging == "subsample" and self.rate >= 1) and not (
            self.bagging == "disjoint" and self.num_members == 1
        )

    @property
    def in_bag_share(self) -> float:
        """Probability that a row is in a given bag."""
        return bagging.in_bag_share(self.bagging, self.rate, self.num_members)

    @property
    def in_any_share(self) -> float:
        """Probability that a row is in any bag."""
        return 1.0 if self.bagging == "disjoint" else 1 - (1 - self.in_bag_share) ** self.num_members

    @property
    def guest_limit(self) -> float:
        """Rows of no bag whose ticket is below this are taken along for the sample: so few that they cost little."""
        in_none = 1 - self.in_any_share
        return min(1.0, _GUESTS * self.in_bag_share * self.num_members / max(in_none, 1e-12))

    def spare_rows(self, ticket: Column) -> Column | None:
        """Which rows of no bag to take along for the sample; None: none, as there are hardly any such rows."""
        return None if 1 - self.in_any_share < 1e-3 else ticket < self.guest_limit


def sample_size(wanted: int, size: int) -> int:
    """Rows of the sample, for images of `size` numbers."""
    return min(wanted, max(1, _MAX_BYTES // (4 * size)))


def vote_on_sample(
    sample: DataFrame, ensemble: Ensemble, members: list[int], draw: Draw, rows: int, soft: bool
) -> OutOfBag:
    """Vote on the `rows` rows of lowest tickets, each by the members that did not train on it.

    Parameters
    ----------
    sample : DataFrame
        Columns row_key, ticket, label, bytes.
    ensemble : Ensemble
    members : list of int
        The numbers in the draw of the ensemble's members.
    soft : bool
        Whether they vote by mean softmax.
    """
    spark = sample.sparkSession
    pixels = PixelFormat("bytes", "bytes", ensemble.input_shape)
    plan = VotingPlan(ensemble.id, ensemble.architectures, ensemble.architecture_of, pixels, soft=soft)
    in_bag = F.array(
        *[
            bagging.copies_in_bag(F.col("row_key"), F.lit(member), draw.bagging, draw.rate, draw.num_members, draw.seed)
            > 0
            for member in members
        ]
    )
    tasks = max(1, min(ensemble.broadcasts.slots(spark), math.ceil(rows / _ROWS_A_TASK)))
    vote = functools.partial(vote_out_of_bag, plan=plan, weights_of=ensemble.broadcasts.weights_of(spark))
    with refusing_in_python():
        found = (
            sample.orderBy("ticket", "row_key", "label", "bytes")
            .limit(rows)
            .repartition(tasks)
            .select("ticket", "label", "bytes", in_bag.alias("inBag"))
            .mapInPandas(vote, OUT_OF_BAG_SCHEMA)
            .collect()
        )
    found.sort(key=lambda row: (row["ticket"], row["label"], row["votes"]))
    pictures = most_disputed(row["disputed"] for row in found if row["disputed"] is not None)
    return OutOfBag(
        labels=np.array([row["label"] for row in found], np.int64),
        votes=np.array([row["votes"] for row in found], np.int64).reshape(len(found), len(members)),
        predictions=np.array([row["prediction"] for row in found], np.int64),
        numClasses=ensemble.num_classes,
        disputedRows=tuple(DisputedRow.from_dict(json.loads(picture)) for picture in pictures),
    )
