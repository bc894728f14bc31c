"""initialModel: the weights that members start from, from a saved model or a Keras file.

`InitialModel.read` reads them through the session, before any row; `start` chooses what fits the members' network,
layer by layer. Called by the estimator. `keras_files` reads the bytes of a Keras file, `worker.initial_weights` has the
form in which workers get the weights.
"""

from __future__ import annotations

import functools
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pyspark.sql import SparkSession

from spark_cnn_ensemble.checked import shortened
from spark_cnn_ensemble.engine import engine_of
from spark_cnn_ensemble.engine.paths import refuse_pattern
from spark_cnn_ensemble.ensemble import Ensemble
from spark_cnn_ensemble.fit_result import InitialLayers, shapes_text
from spark_cnn_ensemble.keras_files import StoredLayer, stored_layers
from spark_cnn_ensemble.pipelines import load_ensemble_alone
from spark_cnn_ensemble.worker.initial_weights import pack_initial
from spark_cnn_ensemble.worker.network import Architecture, build_network
from spark_cnn_ensemble.worker.runtime import keras_settings
from spark_cnn_ensemble.worker.tensorflow_ensemble import check_number
from spark_cnn_ensemble.worker.weights import digest, unpack_weights

_MOST_NAMED = 8  # layers in a message


class Start(NamedTuple):
    """What the members of a fit start from.

    Parameters
    ----------
    digests : tuple of str
        SHA-256 of packed weights; member i starts from entry i modulo their number.
    packed : dict of str to bytes
        See `worker.initial_weights`, by SHA-256.
    layers : tuple of InitialLayers
        What was taken and what was not, by groups of members.
    """

    digests: tuple[str, ...]
    packed: dict[str, bytes]
    layers: tuple[InitialLayers, ...]


FRESH = Start((), {}, ())


@dataclass(frozen=True)
class InitialModel:
    """The layers of a saved model's members, or of a Keras file.

    Parameters
    ----------
    path : str
    members : tuple of list of StoredLayer
    """

    path: str
    members: tuple[list[StoredLayer], ...]

    @classmethod
    def read(cls, spark: SparkSession, path: str, num_members: int) -> InitialModel:
        """Read from a path; of a saved model, at most `num_members` members.

        Raises
        ------
        FileNotFoundError, OSError
            Nothing is at the path, or it cannot be read.
        ValueError
            It is neither a saved model nor a Keras file, it is damaged, or Spark would read the path as a pattern.
        """
        refuse_pattern(path, "initialModel")
        try:
            if path.endswith((".keras", ".h5", ".hdf5")):
                data = engine_of(spark).files.read(path)
                return cls(path, (_file_layers(data, zipped=path.endswith(".keras")),))
            ensemble = load_ensemble_alone(spark, path)._ensemble
            return cls(path, tuple(_member_layers(ensemble, index) for index in range(min(len(ensemble), num_members))))
        except (OSError, ValueError) as error:
            kind = next(kind for kind in (FileNotFoundError, OSError, ValueError) if isinstance(error, kind))
            raise kind(f"initialModel '{path}' cannot be used: {error}") from None

    def start(self, architecture: Architecture, num_members: int) -> Start:
        """What fits the network of the members.

        Raises
        ------
        ValueError
            No layer fits, or weights that fit are not finite.
        """
        wanted = _labelled_layers(architecture)
        digests, packed = [], {}
        outcomes: dict[tuple[str, str], tuple[InitialLayers, list[int]]] = {}
        for index, layers in enumerate(self.members):
            pairs = _pairs(wanted, layers)
            taken = {own.name: other for own, other in pairs if other is not None and _fits(own, other)}
            if not taken:
                raise ValueError(
                    f"initialModel '{self.path}' has no layer that fits by name and shape; it has {_listed(layers)}, "
                    f"the members' network has {_listed(wanted)}; set 'network' to one with the layers of that model."
                )
            arrays = {
                int(place.flat[0]): array
                for own in wanted
                if own.name in taken
                for place, array in zip(own.arrays, taken[own.name].arrays, strict=True)
            }
            if not all(np.isfinite(array).all() for array in arrays.values()):
                raise ValueError(
                    f"initialModel '{self.path}' has weights that are not finite numbers; choose another model."
                )
            data = pack_initial(arrays)
            digests.append(digest(data))
            packed[digests[-1]] = data
            fresh = {own.name: _why(own, other) for own, other in pairs if own.name not in taken}
            fit = InitialLayers((), {own.name: _shapes(own) for own, _ in pairs if own.name in taken}, fresh)
            outcomes.setdefault((str(fit.taken), str(fit.fresh)), (fit, []))[1].append(index)
        number = len(self.members)
        return Start(
            tuple(digests),
            packed,
            tuple(
                replace(fit, members=tuple(member for member in range(num_members) if member % number in sources))
                for fit, sources in outcomes.values()
            ),
        )

    def note(self, start: Start) -> str:
        """One line that says what was taken."""
        return f"initialModel {self.path}: {'; '.join(layers.text() for layers in start.layers)}."


def _file_layers(data: bytes, zipped: bool) -> list[StoredLayer]:
    layers = stored_layers(data, zipped)
    if not layers:
        raise ValueError("it has no layers with weights; save a Keras model with model.save('name.keras').")
    return layers


def _member_layers(ensemble: Ensemble, member: int) -> list[StoredLayer]:
    """A member's layers but for the standardizing one."""
    architecture = ensemble.architectures[ensemble.architecture_of[member]]
    first = (2 + architecture.scaled) if architecture.standardization else 0
    arrays = unpack_weights(ensemble.weights[member])
    check_number(architecture, arrays, member)
    arrays = arrays[first:]
    labelled = _labelled_layers(architecture)
    if len(arrays) != sum(len(layer.arrays) for layer in labelled):
        raise ValueError(f"the weights of member {member} do not fit its network; save the model again.")
    return [layer._replace(arrays=tuple(arrays[int(place.flat[0])] for place in layer.arrays)) for layer in labelled]


@functools.lru_cache(maxsize=16)
def _labelled_layers(architecture: Architecture) -> tuple[StoredLayer, ...]:
    """The layers of a network, without the standardizing one, as Keras would name them in a file.

    Each array is filled with its place among the network's weights.
    """
    with keras_settings(), tempfile.TemporaryDirectory() as folder:
        network = build_network(replace(architecture, standardization=False, scaled=False))
        network.set_weights([np.full(weight.shape, place, np.float32) for place, weight in enumerate(network.weights)])
        path = Path(folder, "labels.weights.h5")
        network.save_weights(path)
        layers = stored_layers(path.read_bytes(), zipped=False)
    names = Counter(layer.name for layer in layers)  # networks inside a network may have layers of one name
    named = [layer if names[layer.name] == 1 else layer._replace(name=layer.path) for layer in layers]
    return tuple(sorted(named, key=lambda layer: int(layer.arrays[0].flat[0])))


def _pairs(wanted: Sequence[StoredLayer], there: Sequence[StoredLayer]) -> list[tuple[StoredLayer, StoredLayer | None]]:
    """For each layer of the network, the layer of the same name; or in the same place, if more layers fit so.

    Keras numbers the names that it makes up by process, so that equal networks may have different names.
    """
    names = Counter(layer.name for layer in there)
    by_name = {layer.name: layer for layer in there if names[layer.name] == 1 and layer.name}
    by_path = {layer.path: layer for layer in there}
    ways = [
        [(own, by_name.get(own.name)) for own in wanted],
        [(own, by_path.get(own.path)) for own in wanted],
    ]
    return max(ways, key=lambda pairs: sum(other is not None and _fits(own, other) for own, other in pairs))


def _fits(own: StoredLayer, other: StoredLayer) -> bool:
    return _shapes(own) == _shapes(other) and all(array.dtype == np.float32 for array in other.arrays)


def _why(own: StoredLayer, other: StoredLayer | None) -> str:
    if other is None:
        return "it has no layer of this name"
    if _shapes(own) == _shapes(other):
        return f"it has numbers of type {next(array.dtype for array in other.arrays if array.dtype != np.float32)}"
    return f"it has {shapes_text(_shapes(other))}, not {shapes_text(_shapes(own))}"


def _shapes(layer: StoredLayer) -> tuple[tuple[int, ...], ...]:
    return tuple(array.shape for array in layer.arrays)


def _listed(layers: Sequence[StoredLayer]) -> str:
    named = [f"{shortened(layer.name or layer.path)} ({shapes_text(_shapes(layer))})" for layer in layers[:_MOST_NAMED]]
    more = [f"{len(layers) - _MOST_NAMED} more"] if len(layers) > _MOST_NAMED else []
    return ", ".join([*named, *more])
