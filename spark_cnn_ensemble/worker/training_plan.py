"""The plan by which a worker trains a member: plain values, the same for every member of a fit.

The estimator makes it from its Params; checkpoints hold its fields by name. Called by training.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields

from spark_cnn_ensemble.worker.bag import BagRules
from spark_cnn_ensemble.worker.network import Architecture


@dataclass(frozen=True, kw_only=True)
class Program:
    """What the graph of a training step is made of."""

    architecture: Architecture
    batch_size: int
    optimizer: str
    learning_rate_schedule: str
    random_shift: int
    random_flip: bool
    precision: str


@dataclass(frozen=True, kw_only=True)
class TrainingPlan(Program):
    """Everything a worker must know to train a member: plain values, the same for all members of a fit.

    With `keep_diverged`, a member that diverges is reported as such; else it fails the job.
    """

    rules: BagRules
    epochs: int
    learning_rate: float
    early_stopping_patience: int
    seed: int
    keep_diverged: bool = False

    @property
    def program(self) -> Program:
        """What plans have in common that train by the same graph."""
        return Program(**{field.name: getattr(self, field.name) for field in fields(Program)})

    def member_seed(self, member: int) -> int:
        """The seed, 0 <= seed < 2**31, of one member's weights, row order and augmentation."""
        text = f"{self.seed} {member}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big") >> 1
