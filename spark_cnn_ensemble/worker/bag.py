"""The rows of one task -> one member's bag, in an order that Spark cannot change.

Called by training. What crosses the wire is named here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from spark_cnn_ensemble.worker.pixel_store import PixelStore, release
from spark_cnn_ensemble.worker.pixels import PixelFormat, to_pixels
from spark_cnn_ensemble.worker.refusal import Refusal

# A training row on its way to a member. `copies` is how often the member trains on it; a row of 0 copies is there to
# validate, or else for the out-of-bag sample alone. `counts_here` is true in exactly one of the bags that hold the
# row; `ticket` is its lot in the draw of that sample, or null; `name` is how the user would find it, or null.
BAG_COLUMNS = (
    "member",
    "copies",
    "validates",
    "counts_here",
    "row_key",
    "content_key",
    "ticket",
    "label",
    "weight",
    "name",
    "features",
)

FINGERPRINT_MODULUS = 2**31 - 1  # keys are summed modulo this prime, so that no sum of a bag overflows


@dataclass(frozen=True)
class Examples:
    """Labels (n,), weights (n,) or None, copies (n,), and images (m, height, width, channels).

    `places` (n,) tells where in `images` the image of each example is; None: at its own index.
    """

    images: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None
    copies: np.ndarray
    places: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, index: np.ndarray) -> np.ndarray:
        """The images of the examples at `index`, in memory."""
        found = self.images[index if self.places is None else self.places[index]]
        release(self.images)
        return found


@dataclass(frozen=True)
class Sample:
    """A member's share of the rows drawn to estimate out-of-bag accuracy: keys, tickets, labels and pixels (each n)."""

    keys: np.ndarray
    tickets: np.ndarray
    labels: np.ndarray
    images: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class Bag:
    """What one member trains on, and validates on.

    `skipped` counts the rows that could not be used and are counted in this bag; `fingerprint` tells this bag from
    one of other rows.
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
        Whether a row that cannot be used is left out rather than refused.
    memory_limit : int, optional
        Bytes of pixels to keep in memory; past it they go to local disk.
    sample_size : int
        Rows of the out-of-bag sample, of all members together.
    in_bag_share : float
        Probability that a row is in a given bag.
    in_any_share : float
        Probability that a row is in any bag.
    guest_limit : float
        Rows that are in no bag have come to one nevertheless if their tickets are below this.
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
        A row cannot be used and may not be skipped, no row is left, or there is no room for them.
    """
    store = PixelStore(rules.pixels.shape, rules.memory_limit)
    kept: list[pd.DataFrame] = []
    skipped, first_fault, fingerprint = 0, "", (0, 0, 0)
    for frame in frames:
        if set(frame["member"]) - {member}:
            raise RuntimeError(f"Task of member {member} was given rows of members {sorted(set(frame['member']))}.")
        block, faults = to_pixels(list(frame["features"]), rules.pixels)
        if faults and not rules.skip_invalid:
            index = min(faults)
            raise Refusal(row_fault(rules.pixels.column, frame["name"].iloc[index], faults[index]))
        first_fault = first_fault or (faults[min(faults)] if faults else "")
        sound = np.ones(len(frame), bool)
        sound[list(faults)] = False
        skipped += int((frame["counts_here"].to_numpy() & ~sound).sum())
        fingerprint = _add_fingerprint(fingerprint, frame)
        kept.append(frame.drop(columns=["features", "name"])[sound])
        store.append(block[sound])
    rows = pd.concat(kept, ignore_index=True) if kept else pd.DataFrame(columns=BAG_COLUMNS[:-1])
    trains, validates = rows["copies"].to_numpy() > 0, rows["validates"].to_numpy(bool)
    if not trains.any() and first_fault:
        raise Refusal(
            f"Member {member} has no rows to train on: handleInvalid='skip' has left out all of its bag, the first "
            f"because column '{rules.pixels.column}' {first_fault}; correct the rows, or the params that describe them."
        )
    if not trains.any():
        raise Refusal(
            f"Member {member} has no rows to train on: its bag is empty; set fewer members (numMembers), a larger "
            "subsamplingRate, or give more rows."
        )
    # Training rows first, then validation rows, then the others, each by key.
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


def _cut(examples: Examples, span: slice) -> Examples:
    cut = replace(
        examples,
        labels=examples.labels[span],
        weights=None if examples.weights is None else examples.weights[span],
        copies=examples.copies[span],
    )
    if examples.places is None:
        return replace(cut, images=examples.images[span])
    return replace(cut, places=examples.places[span])


def _add_fingerprint(fingerprint: tuple[int, int, int], frame: pd.DataFrame) -> tuple[int, int, int]:
    """Number of rows and two sums over their keys; `checkpoint` makes the same with Spark."""
    rows = np.mod(frame["row_key"].to_numpy(np.int64), FINGERPRINT_MODULUS) * (frame["copies"].to_numpy(np.int64) + 1)
    content = np.mod(frame["content_key"].to_numpy(np.int64), FINGERPRINT_MODULUS)
    return fingerprint[0] + len(frame), fingerprint[1] + int(rows.sum()), fingerprint[2] + int(content.sum())


def _draw_sample(rows: pd.DataFrame, examples: Examples, num_training: int, rules: BagRules) -> Sample | None:
    """The rows counted here of the lowest tickets: those that may be among the lowest of all."""
    if not rules.sample_size:
        return None
    counted = rows["counts_here"].to_numpy(bool) & ~rows["validates"].to_numpy(bool)
    tickets = rows["ticket"].to_numpy(np.float64)
    candidates = np.flatnonzero(counted & (tickets < _highest_ticket(num_training, rules)))
    if not len(candidates):
        return None
    chosen = candidates[np.argsort(tickets[candidates], kind="stable")[: rules.sample_size]]
    return Sample(
        rows["row_key"].to_numpy(np.int64)[chosen], tickets[chosen], examples.labels[chosen], examples.gather(chosen)
    )


def _highest_ticket(num_training: int, rules: BagRules) -> float:
    """Below which, of all rows that have come to some bag, there are hardly ever fewer than the sample takes.

    By this bag's size there are about so many rows; both numbers are taken with four deviations to spare.
    """
    rows = max(0.0, num_training - 4 * math.sqrt(num_training)) / rules.in_bag_share
    wanted = rules.sample_size + 4 * math.sqrt(rules.sample_size)
    if rows * rules.guest_limit >= wanted:
        return wanted / rows
    # Past that limit only rows that are in a bag have come.
    return rules.guest_limit + (wanted / max(rows, 1e-9) - rules.guest_limit) / rules.in_any_share


def row_fault(column: str, name: str | None, fault: str) -> str:
    """The sentence that refuses a row because of its features."""
    row = f"Row {name}" if isinstance(name, str) else "A row"
    return f"{row}: column '{column}' {fault}; correct the row, or set handleInvalid='skip' to leave such rows out."
