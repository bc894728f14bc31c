"""The weights that members start from, where they do not start at random.

The driver packs them (`initial_model`) and shares them with workers, `training` gives a member its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from spark_cnn_ensemble.worker.training_plan import TrainingPlan
from spark_cnn_ensemble.worker.weights import WeightsOf, pack_weights, unpack_weights

InitialArrays = Mapping[int, np.ndarray]  # by their places among the network's weights after those of standardization


def pack_initial(arrays: InitialArrays) -> bytes:
    """The arrays that a member starts from; the others start at random."""
    places = sorted(arrays)
    return pack_weights([np.array(places, np.int32), *(arrays[place] for place in places)])


@dataclass(frozen=True)
class SharedInitialWeights:
    """Packed initial weights as workers get them.

    Parameters
    ----------
    digests : tuple of str
        SHA-256 of each.
    weights_of : callable
        Called with an index among them; returns the bytes.
    """

    digests: tuple[str, ...]
    weights_of: WeightsOf

    def arrays(self, plan: TrainingPlan, member: int) -> InitialArrays:
        """What a member of a plan starts from."""
        if not plan.initial_weights:
            return {}
        wanted = plan.initial_weights[member % len(plan.initial_weights)]
        places, *arrays = unpack_weights(self.weights_of(self.digests.index(wanted)))
        return dict(zip(places.tolist(), arrays, strict=True))
