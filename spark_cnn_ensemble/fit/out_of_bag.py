"""The out-of-bag estimate: a small job in which each member votes on the sampled rows that it did not train on.

Workers send the sample together with the members, so no row is read a second time. Which bags held a row is not stored:
the draw is replayed from the row's key. Called by the estimator.

Source: L. Breiman, "Out-of-bag estimation", 1996.
"""

from __future__ import annotations

import functools
import json
import math

import numpy as np
from pyspark.sql import functions as F

from spark_cnn_ensemble.engine import engine_of
from spark_cnn_ensemble.engine.interface import BATCH_BYTES
from spark_cnn_ensemble.ensemble import Ensemble
from spark_cnn_ensemble.fit.members import Trained, warn_of_trainings
from spark_cnn_ensemble.rows.draw import Draw
from spark_cnn_ensemble.votes import DisputedRow, OutOfBag
from spark_cnn_ensemble.worker.disputed_rows import most_disputed
from spark_cnn_ensemble.worker.evaluation import OUT_OF_BAG_SCHEMA, vote_out_of_bag
from spark_cnn_ensemble.worker.pixels import PixelFormat
from spark_cnn_ensemble.worker.refusal import refusing_in_python
from spark_cnn_ensemble.worker.voting_plan import VotingPlan

_MAX_BYTES = 256 << 20  # pixels of a sample, as float32
_ROWS_PER_TASK = 100  # at least; with fewer, loading the members would take longer than the votes


def sample_size(wanted: int, image_size: int) -> int:
    """The number of rows in the sample: `wanted`, or as many images of `image_size` numbers as 256 MiB hold."""
    return min(wanted, max(1, _MAX_BYTES // (4 * image_size)))


def vote_on_sample(
    trained: Trained,
    ensemble: Ensemble,
    draw: Draw,
    size: int,
    soft: bool,
    thresholds: tuple[float, ...] | None,
) -> OutOfBag | None:
    """Vote on the `size` rows with the lowest tickets, each by the members that did not train on it.

    None if no row has a ticket that is low enough, which can happen where `size` is a row or two.

    Parameters
    ----------
    trained : Trained
    ensemble : Ensemble
        Of its sound members.
    draw : Draw
    size : int
        Of the sample.
    soft : bool
        Whether the vote is the mean softmax.
    thresholds : tuple of float or None
        One per class; see the Param.
    """
    spark = trained.sample.sparkSession
    pixels = PixelFormat("bytes", "bytes", ensemble.input_shape)
    plan = VotingPlan(
        ensemble.id, ensemble.architectures, ensemble.architecture_of, pixels, soft=soft, thresholds=thresholds
    )
    in_bag = F.array(*[draw.copies(F.col("row_key"), F.lit(member)) > 0 for member in trained.sound])
    tasks = max(1, min(engine_of(spark).slots, math.ceil(size / _ROWS_PER_TASK)))
    # A task's rows may be one batch (see `rows.width`); a number takes at most 4 bytes.
    tasks = max(tasks, math.ceil(size * math.prod(ensemble.input_shape) * 4 / BATCH_BYTES))
    vote = functools.partial(vote_out_of_bag, plan=plan, weights_of=ensemble.shared_weights.of(spark))
    with refusing_in_python():
        voted = (
            trained.sample.orderBy("ticket", "row_key", "label", "bytes")
            .limit(size)
            .repartition(tasks)
            .select("ticket", "label", "bytes", in_bag.alias("inBag"), "member", "report")
            .mapInPandas(engine_of(spark).for_workers(vote), OUT_OF_BAG_SCHEMA)
            .collect()
        )
    again = {row["member"] for row in voted if row["report"] != trained.sample_reports[row["member"]]}
    warn_of_trainings(again, "their rows of the out-of-bag sample were lost before the votes")
    if not voted:
        return None
    voted.sort(key=lambda row: (row["ticket"], row["label"], row["votes"]))
    pictures = most_disputed(row["disputed"] for row in voted if row["disputed"] is not None)
    return OutOfBag(
        labels=np.array([row["label"] for row in voted], np.int64),
        votes=np.array([row["votes"] for row in voted], np.int64).reshape(len(voted), len(trained.sound)),
        predictions=np.array([row["prediction"] for row in voted], np.int64),
        numClasses=ensemble.num_classes,
        disputedRows=tuple(DisputedRow.from_dict(json.loads(picture)) for picture in pictures),
        classNames=ensemble.class_names,
    )
