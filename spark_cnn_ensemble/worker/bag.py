"""The rows of one task -> one member's bag, as blocks of numpy in an order that Spark cannot change.

Called by training. What crosses the wire is named here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from spark_cnn_ensemble.worker.pixels import PixelFormat, narrowest, to_pixels
from spark_cnn_ensemble.worker.refusal import Refusal

# A training row on its way to a member. `copies` is how often the member trains on it, 0 where it only validates;
# `counts_here` is true in exactly one of the bags that hold the row; `name` is how the user would find it, or null.
BAG_COLUMNS = ("member", "copies", "counts_here", "row_key", "content_key", "label", "weight", "name", "features")


@dataclass(frozen=True)
class Examples:
    """Images (n, height, width, channels), labels (n,), weights (n,) or None, copies (n,)."""

    images: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None
    copies: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: slice) -> Examples:
        """The examples in a slice."""
        weights = None if self.weights is None else self.weights[index]
        return Examples(self.images[index], self.labels[index], weights, self.copies[index])


@dataclass(frozen=True)
class Bag:
    """What one member trains on, and validates on.

    `skipped` counts the rows that could not be used and are counted in this bag.
    """

    member: int
    training: Examples
    validation: Examples
    skipped: int


def collect_bag(frames: Iterable[pd.DataFrame], member: int, pixels: PixelFormat, skip_invalid: bool) -> Bag:
    """Gather the bag of `member` from the frames of its task, sorted by the rows' keys.

    Raises
    ------
    Refusal
        A row cannot be used and `skip_invalid` is False, or no row is left.
    """
    kept: list[pd.DataFrame] = []
    blocks: list[np.ndarray] = []
    skipped = 0
    for frame in frames:
        if set(frame["member"]) - {member}:
            raise RuntimeError(f"Task of member {member} was given rows of members {sorted(set(frame['member']))}.")
        block, faults = to_pixels(list(frame["features"]), pixels)
        if faults and not skip_invalid:
            index = min(faults)
            raise Refusal(row_fault(pixels.column, frame["name"].iloc[index], faults[index]))
        sound = np.ones(len(frame), bool)
        sound[list(faults)] = False
        skipped += int((frame["counts_here"].to_numpy() & ~sound).sum())
        kept.append(frame.drop(columns="features")[sound])
        blocks.append(narrowest(block[sound]))
    rows = pd.concat(kept, ignore_index=True) if kept else pd.DataFrame(columns=BAG_COLUMNS[:-1])
    trains = rows["copies"].to_numpy() > 0
    if not trains.any():
        raise Refusal(
            f"Member {member} has no rows to train on: its bag is empty; set fewer members (numMembers), a larger "
            "subsamplingRate, or give more rows."
        )
    # Training rows first, then validation rows, each by key; blocks go straight to their places and are let go.
    order = np.lexsort((rows["content_key"].to_numpy(), rows["row_key"].to_numpy(), ~trains))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    narrow = all(block.dtype == np.uint8 for block in blocks)
    images = np.empty((len(order), *pixels.shape), np.uint8 if narrow else np.float32)
    begin = 0
    for index, block in enumerate(blocks):
        images[place[begin : begin + len(block)]] = block
        begin += len(block)
        blocks[index] = block[:0]
    rows = rows.iloc[order]
    weights = None if rows["weight"].isna().all() else rows["weight"].to_numpy(np.float32)
    examples = Examples(images, rows["label"].to_numpy(np.int32), weights, rows["copies"].to_numpy(np.int32))
    training = examples.take(slice(0, trains.sum()))
    if training.weights is not None and not training.weights.sum() > 0:
        raise Refusal(
            f"Member {member} has only rows of weight 0 in its bag; set fewer members (numMembers) or other weights."
        )
    return Bag(member, training, examples.take(slice(trains.sum(), None)), skipped)


def row_fault(column: str, name: str | None, fault: str) -> str:
    """The sentence that refuses a row because of its features."""
    row = f"Row {name}" if isinstance(name, str) else "A row"
    return f"{row}: column '{column}' {fault}; correct the row, or set handleInvalid='skip' to leave such rows out."
