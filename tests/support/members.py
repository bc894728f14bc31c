"""The members of a model as bytes, to compare them bit for bit."""

from spark_cnn_ensemble.worker.weights import digest


def weights_of(model):
    """Each member's packed weights."""
    return model._ensemble.weights


def digests(model):
    """The SHA-256 of each member's packed weights."""
    return [digest(data) for data in weights_of(model)]
