"""The settings that a worker trains members by.

Plain values, the same for all members of a fit. The estimator makes the plan from its Params, and a checkpoint stores
its fields by name. `training` and `trainer` read it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields

from spark_cnn_ensemble.worker.bag import BagRules
from spark_cnn_ensemble.worker.network import Architecture


@dataclass(frozen=True, kw_only=True)
class Program:
    """The settings that decide the graph of a training step.

    Parameters
    ----------
    architecture : Architecture
    batch_size : int
        Rows per step.
    optimizer : str
        The name of a Keras optimizer.
    learning_rate_schedule : {"constant", "linear", "cosine"}
        How the learning rate falls to 0 over the steps of a member; "constant": it does not.
    random_shift : int
        Pixels, in each direction.
    random_flip : bool
        Whether each image is mirrored left to right with probability 1/2.
    precision : {"float32", "bfloat16"}
        Of the computation; weights are float32.
    """

    architecture: Architecture
    batch_size: int
    optimizer: str
    learning_rate_schedule: str
    random_shift: int
    random_flip: bool
    precision: str


@dataclass(frozen=True, kw_only=True)
class TrainingPlan(Program):
    """Everything a worker must know to train a member, the same for all members of a fit.

    Parameters
    ----------
    rules : BagRules
    epochs : int
    learning_rate : float
        Before the schedule.
    early_stopping_patience : int
        Epochs without a lower validation loss after which training stops; 0: never.
    seed : int
    class_weighting : {"none", "balanced"}
        "balanced": rows weigh in the loss so that each class of a bag weighs the same.
    keep_diverged : bool
        Whether a member that diverges is reported; if not, it fails the job.
    initial_weights : tuple of str
        SHA-256 of the packed weights to start from: member i has entry i modulo their number. Empty: all start at
        random. See `initial_weights`.
    """

    rules: BagRules
    epochs: int
    learning_rate: float
    early_stopping_patience: int
    seed: int
    class_weighting: str = "none"
    keep_diverged: bool = False
    initial_weights: tuple[str, ...] = ()

    @property
    def program(self) -> Program:
        """The settings that plans with the same graph have in common."""
        return Program(**{field.name: getattr(self, field.name) for field in fields(Program)})

    def member_seed(self, member: int) -> int:
        """The seed, in [0, 2**31), of one member's weights, row order and augmentation."""
        text = f"{self.seed} {member}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big") >> 1
