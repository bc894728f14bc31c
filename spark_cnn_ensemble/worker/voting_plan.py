"""The settings that a worker scores by.

Plain values; the members' weights travel apart from them. The model makes the plan from its Params, and
`fit.out_of_bag` for the sample. `scoring`, `evaluation`, `decision` and `blocks` read it.
"""

from __future__ import annotations

from dataclasses import dataclass

from spark_cnn_ensemble.worker.network import Architecture
from spark_cnn_ensemble.worker.onnx_graph import OnnxGraph
from spark_cnn_ensemble.worker.pixels import PixelFormat

_BLOCK_BYTES = 8 << 20  # float32 pixels per call of the networks

# The columns that `scoring.vote_batches` can give, with their types in Spark.
OUTPUT_TYPES = {
    "rawPrediction": "array<double>",
    "probability": "array<double>",
    "prediction": "double",
    "uncertainty": "double",
    "memberPredictions": "array<int>",
}


@dataclass(frozen=True)
class VotingPlan:
    """Everything a worker must know to score, except the weights.

    Parameters
    ----------
    ensemble_id : str
        Made on the driver; one id always means the same members.
    architectures : tuple of Architecture
        The members' different networks.
    architecture_of : tuple of int
        For each member, the index of its network.
    pixels : PixelFormat
        Of the features column.
    soft : bool
        Whether the mean softmax decides rather than the majority.
    thresholds : tuple of float or None
        One per class; the class with the largest probability / threshold is predicted.
    refuse_invalid : bool
        Whether a row that cannot be scored fails the job; if not, its prediction is null.
    precision : str
        "float32", or "bfloat16" for mixed precision, which TensorFlow alone has.
    graphs : tuple of OnnxGraph
        For each member its network, if onnxruntime scores; empty if TensorFlow does.
    outputs : tuple of str
        The columns that `vote_batches` gives, keys of `OUTPUT_TYPES`.
    """

    ensemble_id: str
    architectures: tuple[Architecture, ...]
    architecture_of: tuple[int, ...]
    pixels: PixelFormat
    soft: bool = False
    thresholds: tuple[float, ...] | None = None
    refuse_invalid: bool = True
    precision: str = "float32"
    graphs: tuple[OnnxGraph, ...] = ()
    outputs: tuple[str, ...] = ("rawPrediction", "probability", "prediction")

    @property
    def schema(self) -> str:
        """The schema of what `vote_batches` gives."""
        return ", ".join(f"{name} {OUTPUT_TYPES[name]}" for name in self.outputs)

    @property
    def num_members(self) -> int:
        """Number of members that vote."""
        return len(self.architecture_of)

    @property
    def block_rows(self) -> int:
        """Rows per call of the networks, 8 to 128 by the size of an image."""
        return min(128, max(8, _BLOCK_BYTES // (4 * self.pixels.size)))

    @property
    def may_stop_early(self) -> bool:
        """Whether a row needs no further votes once they cannot change its majority."""
        return self.outputs == ("prediction",) and not self.soft and self.thresholds is None

    @property
    def num_classes(self) -> int:
        """Number of classes, the same for all members."""
        return self.architectures[0].num_classes
