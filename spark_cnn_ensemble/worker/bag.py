"""The rows of one task -> one member's bag, in an order that Spark cannot change.

The columns of a training row on its way to a worker are named here. Called by `training`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from spark_cnn_ensemble.worker.pixel_store import PixelStore, release
from spark_cnn_ensemble.worker.pixels import PixelFormat, to_pixels
from spark_cnn_ensemble.worker.refusal import Refusal, row_fault

# A training row on its way to a member. `copies`: times that the member trains on it; 0 for a row that only validates,
# or is a guest for the out-of-bag sample. `counts_here`: true in exactly one of the bags that hold the row. `ticket`:
# its number in the draw of that sample, or null. `soft_label`: the probability of each class; null: that of `label` is
# 1. `name`: what the user knows the row by, or null.
BAG_COLUMNS = (
    "member",
    "copies",
    "validates",
    "counts_here",
    "row_key",
    "content_key",
    "ticket",
    "label",
    "soft_label",
    "weight",
    "name",
    "features",
)

FINGERPRINT_MODULUS = 2**31 - 1  # keys are summed modulo this prime, so that sums over a bag do not overflow


@dataclass(frozen=True)
class Examples:
    """Rows to train or validate on.

    Parameters
    ----------
    images : numpy.ndarray
        Shape (m, height, width, channels), uint8 or float32; in memory, or a read-only map of a file.
    labels : numpy.ndarray
        Shape (n,), int32.
    weights : numpy.ndarray or None
        Shape (n,), float32.
    copies : numpy.ndarray
        Shape (n,), int32: times that each row is in the bag.
    places : numpy.ndarray or None
        Shape (n,): the index in `images` of each row's image. None: the images are in the order of the rows.
    soft_labels : numpy.ndarray or None
        Shape (n, classes), float32: the probability of each class. None: that of `labels` is 1.
    """

    images: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None
    copies: np.ndarray
    places: np.ndarray | None = None
    soft_labels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def targets(self) -> np.ndarray:
        """What the loss compares an output with: the soft labels, or else the labels."""
        return self.labels if self.soft_labels is None else self.soft_labels

    def gather(self, index: np.ndarray) -> np.ndarray:
        """The images of the rows at `index`, in memory."""
        images = self.images[index if self.places is None else self.places[index]]
        release(self.images)
        return images


@dataclass(frozen=True)
class Sample:
    """A member's share of the out-of-bag sample.

    Parameters
    ----------
    keys, tickets, labels : numpy.ndarray
        Shape (n,): int64, float64, int32.
    images : numpy.ndarray
        Shape (n, height, width, channels).
    """

    keys: np.ndarray
    tickets: np.ndarray
    labels: np.ndarray
    images: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class Bag:
    """What one member trains on and validates on.

    Parameters
    ----------
    member : int
    training, validation : Examples
    skipped : int
        Unusable rows that are counted in this bag.
    fingerprint : tuple of int
        Number of rows and two sums over their keys, which distinguish the bag from one with other rows.
    sample : Sample or None
        Its share of the out-of-bag sample.
    spilled : bool
        Whether its images are on disk.
    """

    member: int
    training: Examples
    validation: Examples
    skipped: int
    fingerprint: tuple[int, int, int] = (0, 0, 0)
    sample: Sample | None = None
    spilled: bool = False


@dataclass(frozen=True)
class BagRules:
    """How the rows of a task become a bag.

    Parameters
    ----------
    pixels : PixelFormat
    skip_invalid : bool
        Whether unusable rows are left out rather than refused.
    memory_limit : int, optional
        Bytes of pixels to keep in memory; more goes to local disk.
    sample_size : int
        Rows of the out-of-bag sample, of all members together.
    in_bag_share : float
        Probability that a row is in a given bag.
    in_any_share : float
        Probability that a row is in any bag.
    guest_limit : float
        Ticket below which rows that are in no bag are guests in one.
    """

    pixels: PixelFormat
    skip_invalid: bool = False
    memory_limit: int | None = None
    sample_size: int = 0
    in_bag_share: float = 1.0
    in_any_share: float = 1.0
    guest_limit: float = 1.0


def collect_bag(frames: Iterable[pd.DataFrame], member: int, rules: BagRules) -> Bag:
    """Gather the bag of `member` from the frames of its task, sorted by the rows' keys.

    Raises
    ------
    Refusal
        A row is unusable and may not be skipped, no row is left, or memory and disk are too small.
    """
    store = PixelStore(rules.pixels.shape, rules.memory_limit)
    tables: list[pd.DataFrame] = []
    soft_labels: list[np.ndarray] = []
    skipped, first_fault, fingerprint = 0, "", (0, 0, 0)
    for frame in frames:
        if set(frame["member"]) - {member}:
            raise RuntimeError(f"The task of member {member} got rows of members {sorted(set(frame['member']))}.")
        block, faults = to_pixels(list(frame["features"]), rules.pixels)
        if faults and not rules.skip_invalid:
            index = min(faults)
            raise Refusal(row_fault(rules.pixels.column, frame["name"].iloc[index], faults[index]))
        lost = [index for index in sorted(faults) if frame["copies"].iloc[index] > 0]
        first_fault = first_fault or (faults[lost[0]].what if lost else "")
        sound = np.ones(len(frame), bool)
        sound[list(faults)] = False
        skipped += int((frame["counts_here"].to_numpy() & ~sound).sum())
        fingerprint = _add_fingerprint(fingerprint, frame)
        table = frame.drop(columns=["features", "name", "soft_label"])[sound]
        if len(table) and frame["soft_label"].iloc[0] is not None:  # the rows of a fit are all of one kind
            soft_labels.append(np.stack(frame["soft_label"][sound].to_list()).astype(np.float32))
        tables.append(table)
        store.append(block[sound])
    rows = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=BAG_COLUMNS[:-1])
    trains, validates = rows["copies"].to_numpy() > 0, rows["validates"].to_numpy(bool)
    if not trains.any() and first_fault:
        raise Refusal(
            f"Member {member} has no rows to train on: handleInvalid='skip' left out its whole bag, the first "
            f"row because column '{rules.pixels.column}' {first_fault}; fix the rows, or the params that describe them."
        )
    if not trains.any():
        raise Refusal(empty_bag(member))
    # Training rows first, then validation rows, then guests, each sorted by key.
    role = np.where(trains, 0, np.where(validates, 1, 2))
    order = np.lexsort((rows["content_key"].to_numpy(), rows["row_key"].to_numpy(), role))
    images, places = store.arrange(order)
    rows = rows.iloc[order]
    everything = Examples(
        images,
        rows["label"].to_numpy(np.int32),
        None if rows["weight"].isna().all() else rows["weight"].to_numpy(np.float32),
        rows["copies"].to_numpy(np.int32),
        places,
        np.concatenate(soft_labels)[order] if soft_labels else None,
    )
    num_training, num_validating = int(trains.sum()), int((role == 1).sum())
    training = _cut(everything, slice(0, num_training))
    if training.weights is not None and not training.weights.sum() > 0:
        raise Refusal(
            f"Member {member} has only rows of weight 0 in its bag; set fewer members (numMembers) or other weights."
        )
    validation = _cut(everything, slice(num_training, num_training + num_validating))
    sample = _draw_sample(rows, everything, num_training, rules)
    return Bag(member, training, validation, skipped, fingerprint, sample, store.spilled)


def empty_bag(member: int) -> str:
    """The sentence that refuses a bag without rows."""
    return (
        f"Member {member} has no rows to train on: its bag is empty; set fewer members (numMembers), a larger "
        "subsamplingRate, or give more rows."
    )


def _cut(examples: Examples, span: slice) -> Examples:
    cut = replace(
        examples,
        labels=examples.labels[span],
        weights=None if examples.weights is None else examples.weights[span],
        copies=examples.copies[span],
        soft_labels=None if examples.soft_labels is None else examples.soft_labels[span],
    )
    if examples.places is None:
        return replace(cut, images=examples.images[span])
    return replace(cut, places=examples.places[span])


def _add_fingerprint(fingerprint: tuple[int, int, int], frame: pd.DataFrame) -> tuple[int, int, int]:
    """Number of rows and two sums over their keys; `fit.checkpoint` computes the same with Spark."""
    rows = np.mod(frame["row_key"].to_numpy(np.int64), FINGERPRINT_MODULUS) * (frame["copies"].to_numpy(np.int64) + 1)
    content = np.mod(frame["content_key"].to_numpy(np.int64), FINGERPRINT_MODULUS)
    return fingerprint[0] + len(frame), fingerprint[1] + int(rows.sum()), fingerprint[2] + int(content.sum())


def _draw_sample(rows: pd.DataFrame, examples: Examples, num_training: int, rules: BagRules) -> Sample | None:
    """The rows counted here whose tickets may be among the lowest of all bags."""
    if not rules.sample_size:
        return None
    counted = rows["counts_here"].to_numpy(bool) & ~rows["validates"].to_numpy(bool)
    if examples.weights is not None:
        counted &= examples.weights > 0  # others may have labels that are known to be wrong
        num_training = int((examples.weights[:num_training] > 0).sum())
    tickets = rows["ticket"].to_numpy(np.float64)
    candidates = np.flatnonzero(counted & (tickets < _highest_ticket(num_training, rules)))
    if not len(candidates):
        return None
    chosen = candidates[np.argsort(tickets[candidates], kind="stable")[: rules.sample_size]]
    return Sample(
        rows["row_key"].to_numpy(np.int64)[chosen], tickets[chosen], examples.labels[chosen], examples.gather(chosen)
    )


def _highest_ticket(num_training: int, rules: BagRules) -> float:
    """Ticket threshold that almost always leaves enough rows for the sample.

    The number of rows that the sample may have is estimated from those of them in this bag. That estimate and the size
    of the sample have margins of four standard deviations.
    """
    rows = max(0.0, num_training - 4 * math.sqrt(num_training)) / rules.in_bag_share
    needed = rules.sample_size + 4 * math.sqrt(rules.sample_size)
    if rows * rules.guest_limit >= needed:
        return needed / rows
    # Tickets above that limit belong to rows of the bags alone, not to guests.
    return rules.guest_limit + (needed / max(rows, 1e-9) - rules.guest_limit) / rules.in_any_share
