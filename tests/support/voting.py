"""Untrained members, and their votes without Spark."""

from dataclasses import replace

import numpy as np
import pandas as pd

from spark_cnn_ensemble.worker.network import build_network
from spark_cnn_ensemble.worker.pixels import PixelFormat
from spark_cnn_ensemble.worker.scoring import vote_batches
from spark_cnn_ensemble.worker.voting_plan import VotingPlan
from spark_cnn_ensemble.worker.weights import pack_weights
from support.bags import SMALL, cut

DIGITS = PixelFormat("features", "array", (8, 8, 1))

# A cell of finite numbers for which members compute NaN.
FAR = np.random.default_rng(0).choice(np.float32([3.4e38, -3.4e38]), 64)


def untrained_members(architecture, count, seed=0):
    """Packed weights of untrained members, and their Keras models."""
    import keras

    keras.utils.set_random_seed(seed)
    networks = [build_network(architecture) for _ in range(count)]
    return [pack_weights(network.get_weights()) for network in networks], networks


def voting_plan(ensemble_id, members=3, **changes):
    """A plan for members of the architecture `SMALL`."""
    return VotingPlan(ensemble_id, (SMALL,), (0,) * members, DIGITS, **changes)


def random_cells(count=1000):
    """Cells of 64 numbers."""
    return list(np.random.default_rng(5).integers(0, 17, (count, 64)).astype(np.float32))


def votes_of(cells, sizes, plan, weights):
    """The output of `vote_batches` for cells that come in batches of these sizes, as one frame."""
    batches = [(batch["cell"], batch["name"]) for batch in cut(pd.DataFrame({"cell": cells, "name": None}), sizes)]
    return pd.concat(vote_batches(batches, plan, weights.__getitem__), ignore_index=True)


def constant_member(probability):
    """Packed weights of a member of two classes that gives class 0 this probability for every image."""
    arrays = [np.zeros_like(array) for array in build_network(replace(SMALL, num_classes=2)).get_weights()]
    arrays[-1][0] = np.log(probability / (1 - probability))
    return pack_weights(arrays)
