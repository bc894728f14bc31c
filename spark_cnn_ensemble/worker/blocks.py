"""Images in blocks of a fixed number of rows -> the votes of members that are ready in this process.

What runs the networks is a subclass: `tensorflow_ensemble` or `onnx_ensemble`. `loaded_ensemble` chooses it; `scoring`
and `evaluation` vote with it.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np

from spark_cnn_ensemble.worker.voting_plan import VotingPlan

_GROUP = 16  # members that score a block together, at most
_SMALL_SHARE = 4  # small blocks per block


class LoadedEnsemble(ABC):
    """Members that are unpacked and ready to vote.

    Images are scored in blocks of a fixed number of rows, padded with zeros, as kernels may round differently for
    other shapes, and a row's result must not depend on the rows next to it.

    Attributes
    ----------
    groups : list of slice
        The members that score a block together. Those of the first groups are just enough for a majority.
    """

    def __init__(self, plan: VotingPlan) -> None:
        self._classes = plan.num_classes
        self._block_rows = plan.block_rows
        self._shape = plan.pixels.shape
        self._size = plan.num_members
        self.groups = groups_of(self._size)
        self._small_blocks_agree: bool | None = None

    def __len__(self) -> int:
        return self._size

    @abstractmethod
    def _run(self, group: int, block: Any) -> np.ndarray:
        """The softmax of a group's members for a block, shape (members, rows, classes)."""

    def _tensor(self, block: np.ndarray) -> Any:
        """A block in the form that `_run` takes."""
        return block

    def vote(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Votes (n, members) and summed softmax (n, classes) of images (n, height, width, channels)."""
        votes = np.empty((len(images), len(self)), np.int64)
        softmax = np.zeros((len(images), self._classes))
        for rows, member, output in self.outputs(images):
            votes[rows, member] = output.argmax(axis=1)
            softmax[rows] += output
        return votes, softmax

    def outputs(self, images: np.ndarray) -> Iterator[tuple[np.ndarray, int, np.ndarray]]:
        """Yield each block's rows, each member, and its softmax (n, classes) for them."""
        for rows, block in self.blocks(images, np.arange(len(images))):
            for group in range(len(self.groups)):
                for member, output in self.group_outputs(group, block, len(rows)):
                    yield rows, member, output

    def group_outputs(self, group: int, block: Any, count: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield each member of a group, and its softmax (n, classes) for the first `count` rows of a block."""
        outputs = self._run(group, block)
        for member, output in zip(range(*self.groups[group].indices(len(self))), outputs, strict=True):
            yield member, output[:count]

    def blocks(self, images: np.ndarray, rows: np.ndarray) -> list[tuple[np.ndarray, Any]]:
        """The images at `rows` in blocks for `group_outputs`, each with its rows; padding is not among them."""
        whole = len(rows) - len(rows) % self._block_rows
        begins = list(range(0, whole, self._block_rows))
        sizes = [self._block_rows] * len(begins)
        left, small = len(rows) - whole, -(-self._block_rows // _SMALL_SHARE)
        if 0 < left <= self._block_rows - small and self._agree(images, small):
            begins += range(whole, len(rows), small)
            sizes += [small] * -(-left // small)
        elif left:
            begins, sizes = [*begins, whole], [*sizes, self._block_rows]
        parts = [rows[begin : begin + size] for begin, size in zip(begins, sizes, strict=True)]
        return [(part, self._block(images[part], size)) for part, size in zip(parts, sizes, strict=True)]

    def _block(self, images: np.ndarray, rows: int) -> Any:
        """The first images in a block of this many rows, which is padded with zeros."""
        block = np.zeros((rows, *images.shape[1:]), np.float32)
        block[: len(images)] = images[:rows]
        return self._tensor(block)

    def _agree(self, images: np.ndarray, small: int) -> bool:
        """Whether the kernels round in small blocks as they do in whole ones, by a trial on these images and noise."""
        if self._small_blocks_agree is None:
            low, high = images.min(), images.max()
            trial = np.random.default_rng(0).uniform(low, high, (self._block_rows, *self._shape)).astype(np.float32)
            trial[: len(images)] = images[: self._block_rows]
            starts = range(0, self._block_rows - small + 1, small)
            self._small_blocks_agree = all(
                np.array_equal(whole[:, start : start + small], self._run(group, self._block(trial[start:], small)))
                for group in range(len(self.groups))
                for whole in [self._run(group, self._block(trial, self._block_rows))]
                for start in starts
            )
        return self._small_blocks_agree


def groups_of(members: int) -> list[slice]:
    """Members that are scored together: just enough for a majority, then the others, in groups of at most `_GROUP`."""
    majority = members // 2 + 1
    begins = [*range(0, majority, _GROUP), *range(majority, members, _GROUP)]
    return [slice(begin, end) for begin, end in itertools.pairwise([*begins, members])]


def misfit(member: int) -> str:
    """The sentence that refuses weights that do not fit the member's network."""
    return f"The weights of member {member} do not fit its network; save the model again."
