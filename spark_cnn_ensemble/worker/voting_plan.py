"""The plan of a vote: everything a worker must know to score, except the weights.

The model makes it from its Params; scoring, evaluation and the decision read it.
"""

from __future__ import annotations

from dataclasses import dataclass

from spark_cnn_ensemble.worker.network import Architecture
from spark_cnn_ensemble.worker.pixels import PixelFormat

_BLOCK_BYTES = 8 << 20  # float32 pixels that a network gets in one call

OUTPUT_TYPES = {
    "rawPrediction": "array<double>",
    "probability": "array<double>",
    "prediction": "double",
    "uncertainty": "double",
    "memberPredictions": "array<int>",
}


@dataclass(frozen=True)
class VotingPlan:
    """Everything a worker must know to score, but the weights: plain values.

    Parameters
    ----------
    ensemble_id : str
        Minted on the driver; the same id always means the same members.
    architectures : tuple of Architecture
        The members' different networks.
    members : tuple of int
        For each member, the index of its network.
    pixels : PixelFormat
    soft : bool
        Mean of softmax rather than majority.
    thresholds : tuple of float or None
        The class with the largest probability / threshold is predicted.
    refuse_invalid : bool
        Whether a row that cannot be scored fails the job; else its prediction is null.
    outputs : tuple of str
        What `vote_batches` gives, of `OUTPUT_TYPES`.
    """

    ensemble_id: str
    architectures: tuple[Architecture, ...]
    members: tuple[int, ...]
    pixels: PixelFormat
    soft: bool = False
    thresholds: tuple[float, ...] | None = None
    refuse_invalid: bool = True
    outputs: tuple[str, ...] = ("rawPrediction", "probability", "prediction")

    @property
    def schema(self) -> str:
        """Of what `vote_batches` gives."""
        return ", ".join(f"{name} {OUTPUT_TYPES[name]}" for name in self.outputs)

    @property
    def block_rows(self) -> int:
        """Rows that the networks see at once, 8 to 256 by the size of an image.

        The last block is filled up with zeros, so that what a row gives does not depend on the rows beside it: kernels
        of another shape may round otherwise.
        """
        return min(256, max(8, _BLOCK_BYTES // (4 * self.pixels.size)))

    @property
    def may_stop_early(self) -> bool:
        """Whether a row's further votes are of no use once they cannot change its majority."""
        return self.outputs == ("prediction",) and not self.soft and self.thresholds is None

    @property
    def num_classes(self) -> int:
        """Number of classes, the same for all members."""
        return self.architectures[0].num_classes
