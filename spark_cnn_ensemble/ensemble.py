"""The members of a model on the driver: an immutable value of networks and weights.

It knows neither Params nor DataFrames. The estimator makes it and the model holds it; `worker.loaded_ensemble` has its
counterpart in a worker process.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from spark_cnn_ensemble.checked import check_each, check_int, check_list
from spark_cnn_ensemble.engine.shared_weights import SharedWeights
from spark_cnn_ensemble.fit_result import MemberSummary, check_member
from spark_cnn_ensemble.onnx_writer import onnx_graph
from spark_cnn_ensemble.worker.network import Architecture, build_network
from spark_cnn_ensemble.worker.onnx_graph import OnnxGraph
from spark_cnn_ensemble.worker.runtime import keras_settings
from spark_cnn_ensemble.worker.tensorflow_ensemble import check_number, check_shapes
from spark_cnn_ensemble.worker.weights import digest, unpack_weights


@dataclass(frozen=True)
class Ensemble:
    """Members with their networks.

    Parameters
    ----------
    architectures : tuple of Architecture
        The different networks, all with the same input shape and number of classes.
    architecture_of : tuple of int
        For each member, the index of its network.
    weights : tuple of bytes
        For each member, its packed weights.
    members : tuple of MemberSummary
        How each member was trained.
    class_names : tuple of str or None
        Names of the classes, if the label column's metadata had them.
    """

    architectures: tuple[Architecture, ...]
    architecture_of: tuple[int, ...]
    weights: tuple[bytes, ...]
    members: tuple[MemberSummary, ...]
    class_names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.weights)

    def __getstate__(self) -> dict[str, Any]:
        # A copy, or what a pickle holds, shares its weights with workers anew: it may be in another application.
        return {name: value for name, value in vars(self).items() if name != "shared_weights"}

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        return self.architectures[0].input_shape

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.architectures[0].num_classes

    @cached_property
    def id(self) -> str:
        """The id under which worker processes keep these members unpacked."""
        return uuid.uuid4().hex

    @cached_property
    def shared_weights(self) -> SharedWeights:
        """The weights in the form that workers can read."""
        return SharedWeights(self.weights)

    @keras_settings()
    def network(self, member: int) -> Any:
        """A member as a Keras model with its weights.

        Raises
        ------
        ValueError
            The weights do not fit the network.
        """
        architecture = self.architectures[self.architecture_of[member]]
        arrays = unpack_weights(self.weights[member])
        check_number(architecture, arrays, member)
        network = build_network(architecture)
        check_shapes(network, arrays, member)
        network.set_weights(arrays)
        return network

    def onnx_graphs(self) -> tuple[OnnxGraph, ...]:
        """For each member the ONNX graph of its network, without its weights; members share those that are equal.

        Raises
        ------
        ValueError
            A layer cannot be converted, or weights do not fit a custom network.
        ImportError
            A package is missing.
        """
        graphs: dict[int, OnnxGraph] = {}
        for member, index in enumerate(self.architecture_of):
            architecture = self.architectures[index]
            if index not in graphs and architecture.network:  # which is built, and may claim any size
                check_number(architecture, unpack_weights(self.weights[member]), member)
            graphs.setdefault(index, onnx_graph(architecture))
        return tuple(graphs[index] for index in self.architecture_of)

    def subset(self, indices: Sequence[int]) -> Ensemble:
        """The members at `indices`, in that order."""
        return Ensemble(
            self.architectures,
            tuple(self.architecture_of[index] for index in indices),
            tuple(self.weights[index] for index in indices),
            tuple(self.members[index] for index in indices),
            self.class_names,
        )

    def merge(self, other: Ensemble) -> Ensemble:
        """The members of both, this ensemble's first.

        Raises
        ------
        ValueError
            Input shape, number of classes or class names differ.
        """
        for what, ours, theirs in (
            ("images of shape", list(self.input_shape), list(other.input_shape)),
            ("numClasses", self.num_classes, other.num_classes),
            ("classes named", self.class_names, other.class_names),
        ):
            if ours != theirs:
                raise ValueError(
                    f"Cannot merge: this model has {what} {ours}, the other {theirs}; fit both on similar data."
                )
        architectures = tuple(dict.fromkeys(self.architectures + other.architectures))
        indices = [
            architectures.index(ensemble.architectures[index])
            for ensemble in (self, other)
            for index in ensemble.architecture_of
        ]
        return Ensemble(
            architectures,
            tuple(indices),
            self.weights + other.weights,
            self.members + other.members,
            self.class_names,
        )

    @keras_settings()
    def to_keras(self, soft: bool, thresholds: np.ndarray | None = None) -> Any:
        """One Keras model of all members that votes as `worker.decision` does.

        Parameters
        ----------
        soft : bool
            Whether the mean softmax decides rather than the majority.
        thresholds : numpy.ndarray, optional
            Shape (classes,); the class with the largest probability / threshold is predicted.

        Returns
        -------
        keras.Model
            Maps images (n, height, width, channels) to a dict of "prediction" (n,), "probability" and "rawPrediction"
            (n, classes). An image that is not finite has the prediction -1, and NaN in the others.
        """
        import keras
        from keras import ops

        image = keras.Input(self.input_shape, name="image")
        votes, softmax = [], []
        for member in range(len(self)):
            network = self.network(member)
            network.name = f"member_{member}"
            output = network(image)
            votes.append(ops.one_hot(ops.argmax(output, axis=-1), self.num_classes, dtype="float64"))
            softmax.append(ops.cast(output, "float64"))
        total = softmax[0] if len(self) == 1 else keras.layers.Add(dtype="float64")(softmax)
        count = votes[0] if len(self) == 1 else keras.layers.Add(dtype="float64")(votes)
        # Pooling and ReLU may swallow a NaN, so that the input is looked at too.
        sound = ops.all(ops.isfinite(image), axis=(1, 2, 3))[:, None]
        computed = ops.logical_and(sound, ops.all(ops.isfinite(total), axis=-1, keepdims=True))
        raw = ops.where(computed, total if soft else count, ops.full_like(total, np.nan))
        # TensorFlow's graphs round x / constant otherwise, as x * (1 / constant).
        probability = score = ops.divide_no_nan(raw, float(len(self)))
        lowest = ops.full_like(total, -1.0)
        if thresholds is not None:
            score = ops.divide_no_nan(probability, np.where(thresholds > 0, thresholds, 1.0))
            # x / 0 is infinite, but for 0 / 0: the class is never chosen.
            endless = ops.where(probability > 0, ops.full_like(total, np.inf), lowest)
            score = ops.where(thresholds > 0, score, endless)
        tied = ops.equal(score, ops.max(score, axis=-1, keepdims=True))
        prediction = ops.argmax(ops.where(tied, total, lowest), axis=-1)
        outputs = {
            "prediction": ops.where(computed[:, 0], prediction, ops.full_like(prediction, -1)),
            "probability": probability,
            "rawPrediction": raw,
        }
        return keras.Model(image, outputs, name="ensemble")

    def to_metadata(self) -> dict[str, Any]:
        """Everything except the weights, for JSON, with the size and SHA-256 of the weights."""
        return {
            "architectures": [asdict(architecture) for architecture in self.architectures],
            "members": [
                {"architecture": index, "size": len(data), "sha256": digest(data), **member.to_dict()}
                for index, data, member in zip(self.architecture_of, self.weights, self.members, strict=True)
            ],
            "classNames": self.class_names,
        }

    @classmethod
    def from_metadata(cls, metadata: dict[str, Any], weights: Sequence[bytes]) -> Ensemble:
        """The inverse of `to_metadata`."""
        names = metadata["classNames"]
        return cls(
            tuple(Architecture.from_dict(values) for values in metadata["architectures"]),
            tuple(member["architecture"] for member in metadata["members"]),
            tuple(weights),
            tuple(MemberSummary.from_dict(member) for member in metadata["members"]),
            None if names is None else tuple(names),
        )


def check_metadata(ensemble: dict[str, Any]) -> int:
    """Check the part of a saved model's metadata that describes its members, before anything is made from it.

    Parameters
    ----------
    ensemble : dict
        As `Ensemble.to_metadata` gives it, from a file that anyone may have written.

    Returns
    -------
    int
        The number of classes.

    Raises
    ------
    KeyError, TypeError, AttributeError, ValueError
        An entry is missing, has another type, is out of range, or contradicts another.
    """
    architectures, members = check_list(ensemble["architectures"]), check_list(ensemble["members"])
    if not architectures or not members:
        raise ValueError("it names no members")
    shapes = {(tuple(each["input_shape"]), each["num_classes"]) for each in architectures}
    if len(shapes) != 1:
        raise ValueError("its networks are not all for the same images and classes")
    classes = architectures[0]["num_classes"]
    check_int("num_classes", classes, 2)
    for index, member in enumerate(members):
        check_int("architecture", member["architecture"], 0, len(architectures))
        check_int("size", member["size"], 1)
        if not re.fullmatch("[0-9a-f]{64}", member["sha256"]):
            raise ValueError(f"member {index}: sha256 is not 64 hex digits")
        try:
            check_member(member, classes)
        except ValueError as error:
            raise ValueError(f"member {index}: {error}") from None
    names = ensemble["classNames"]
    if names is not None:
        check_each(str, "classNames", names, classes)
    return int(classes)
