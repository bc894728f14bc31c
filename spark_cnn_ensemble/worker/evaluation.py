"""Labelled rows -> how well the members and the ensemble predict them.

`count_votes` counts over any number of rows. `vote_out_of_bag` gives the votes themselves, for the few rows of the
out-of-bag sample. Both also give pictures of the rows that the members dispute most. Spark runs them for the model's
`evaluate` and for `fit.out_of_bag`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from spark_cnn_ensemble.worker.decision import decide, votes_per_class
from spark_cnn_ensemble.worker.disputed_rows import disputed_pictures, most_disputed
from spark_cnn_ensemble.worker.loaded_ensemble import load_ensemble
from spark_cnn_ensemble.worker.pixels import PixelFormat
from spark_cnn_ensemble.worker.scoring import not_computed, read_pixels, refuse_faults
from spark_cnn_ensemble.worker.voting_plan import VotingPlan
from spark_cnn_ensemble.worker.weights import WeightsOf

# Numbers of rows. rowsInCells: by label and prediction, in the cells of that matrix that have rows. memberRight: right,
# by member. same: with the same vote, by pair of members. rowsByVotes, rightByVotes: all and right, by the number of
# votes for the prediction. rightBySize: right if only the first 1, 2, ... members vote. skipped: left out. (disputed:
# pictures, not numbers.)
COUNTS_SCHEMA = (
    "cells array<int>, rowsInCells array<bigint>, memberRight array<bigint>, same array<bigint>, "
    "rowsByVotes array<bigint>, rightByVotes array<bigint>, rightBySize array<bigint>, skipped bigint, "
    "disputed array<string>"
)
OUT_OF_BAG_SCHEMA = (
    "ticket double, label int, votes array<int>, prediction int, disputed string, member int, report string"
)


def count_votes(frames: Iterable[pd.DataFrame], plan: VotingPlan, weights_of: WeightsOf) -> Iterator[pd.DataFrame]:
    """Compare the votes with the labels and count; one row of `COUNTS_SCHEMA` per partition.

    Parameters
    ----------
    frames : iterable of pandas.DataFrame
        Columns features, name (or null) and label, an integer below the number of classes.
    """
    classes, members = plan.num_classes, plan.num_members
    totals = {
        "confusion": np.zeros((classes, classes), np.int64),
        "memberRight": np.zeros(members, np.int64),
        "same": np.zeros((members, members), np.int64),
        "rowsByVotes": np.zeros(members + 1, np.int64),
        "rightByVotes": np.zeros(members + 1, np.int64),
        "rightBySize": np.zeros(members, np.int64),
    }
    skipped = 0
    disputed: list[str] = []
    for frame in frames:
        images, faults = read_pixels(frame["features"].tolist(), frame["name"].tolist(), plan)
        sound = np.ones(len(images), bool)
        sound[list(faults)] = False
        labels = frame["label"].to_numpy(np.int64)
        while sound.any():
            kept, known = images[sound], labels[sound]
            votes, softmax, right_by_size = _vote_step_by_step(kept, known, plan, weights_of)
            found, places = not_computed(softmax), np.flatnonzero(sound)
            if not found:
                break
            faults |= {int(places[row]): fault for row, fault in found.items()}
            refuse_faults(faults, frame["name"].tolist(), plan)
            sound[list(faults)] = False
        skipped += len(faults)
        if not sound.any():
            continue
        images, labels = kept, known
        counts = votes_per_class(votes, classes)
        prediction = decide((softmax if plan.soft else counts) / members, softmax, plan)
        right, winning = prediction == labels, counts[np.arange(len(labels)), prediction].astype(int)
        np.add.at(totals["confusion"], (labels, prediction), 1)
        totals["memberRight"] += (votes == labels[:, None]).sum(axis=0)
        for index in range(classes):
            chose = (votes == index).astype(np.float32)  # exact up to 2**24 rows; whole numbers have no fast product
            totals["same"] += (chose.T @ chose).astype(np.int64)
        totals["rowsByVotes"] += np.bincount(winning, minlength=members + 1)
        totals["rightByVotes"] += np.bincount(winning[right], minlength=members + 1)
        totals["rightBySize"] += right_by_size
        disputed = most_disputed([*disputed, *(picture for _, picture in disputed_pictures(images, labels, counts))])
    confusion = totals.pop("confusion").ravel()
    cells = np.flatnonzero(confusion)  # few of a million, where a partition has few rows and there are 1,000 classes
    row: dict[str, Any] = {name: [total.ravel()] for name, total in totals.items()}
    row |= {"cells": [cells.astype(np.int32)], "rowsInCells": [confusion[cells]]}
    yield pd.DataFrame({**row, "skipped": [skipped], "disputed": [disputed]})


def _vote_step_by_step(
    images: np.ndarray, labels: np.ndarray, plan: VotingPlan, weights_of: WeightsOf
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Votes (n, members), summed softmax (n, classes), and how many rows the first 1, 2, ... members get right."""
    members = plan.num_members
    votes = np.empty((len(images), members), np.int64)
    softmax, counts = np.zeros((len(images), plan.num_classes)), np.zeros((len(images), plan.num_classes))
    right = np.zeros(members, np.int64)
    for rows, member, output in load_ensemble(plan, weights_of).outputs(images):
        vote = output.argmax(axis=1)
        votes[rows, member] = vote
        softmax[rows] += output
        counts[rows, vote] += 1
        shares = (softmax[rows] if plan.soft else counts[rows]) / (member + 1)
        right[member] += (decide(shares, softmax[rows], plan) == labels[rows]).sum()
    return votes, softmax, right


def vote_out_of_bag(frames: Iterable[pd.DataFrame], plan: VotingPlan, weights_of: WeightsOf) -> Iterator[pd.DataFrame]:
    """Let each member vote on the rows that it did not train on.

    Parameters
    ----------
    frames : iterable of pandas.DataFrame
        Columns ticket, label, bytes (pixels as `training.sample_tables` gives them), inBag (one boolean per member),
        member and report.

    Yields
    ------
    pandas.DataFrame
        Columns of `OUT_OF_BAG_SCHEMA`: a vote is -1 where the row was in the member's bag or the member computes NaN, a
        prediction is -1 where no member votes; disputed is a picture for the most disputed rows, else null; member and
        report as they were.
    """
    for frame in frames:
        images = _stored_pixels(frame["bytes"].tolist(), plan.pixels)
        out_of_bag = ~np.array(frame["inBag"].tolist(), bool).reshape(len(frame), -1)
        labels = frame["label"].to_numpy(np.int64)
        votes = np.full((len(frame), plan.num_members), -1, np.int64)
        softmax = np.zeros((len(frame), plan.num_classes))
        for rows, member, output in load_ensemble(plan, weights_of).outputs(images):
            may_vote = out_of_bag[rows, member] & np.isfinite(output).all(axis=1)
            votes[rows, member] = np.where(may_vote, output.argmax(axis=1), -1)
            softmax[rows] += np.where(may_vote[:, None], output, 0)
        counts = votes_per_class(votes, plan.num_classes)
        voters = counts.sum(axis=1)
        share = (softmax if plan.soft else counts) / np.maximum(voters, 1)[:, None]
        prediction = np.where(voters > 0, decide(share, softmax, plan), -1)
        pictures: list[str | None] = [None] * len(frame)
        voted = np.flatnonzero(voters > 0)
        for index, picture in disputed_pictures(images[voted], labels[voted], counts[voted]):
            pictures[voted[index]] = picture
        yield pd.DataFrame(
            {
                "ticket": frame["ticket"],
                "label": frame["label"],
                "votes": list(votes.astype(np.int32)),
                "prediction": prediction.astype(np.int32),
                "disputed": pictures,
                "member": frame["member"],
                "report": frame["report"],
            }
        )


def _stored_pixels(cells: list[bytes], pixels: PixelFormat) -> np.ndarray:
    """Pixels as `training.sample_tables` gives them -> images (n, height, width, channels)."""
    kind = np.uint8 if all(len(cell) == pixels.size for cell in cells) else np.float32
    # Each bag had the narrowest type for its own rows.
    blocks = [np.frombuffer(cell, np.uint8 if len(cell) == pixels.size else np.float32) for cell in cells]
    return np.stack(blocks).astype(kind).reshape(-1, *pixels.shape)
