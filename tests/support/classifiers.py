"""Classifiers that train in a moment."""

from spark_cnn_ensemble import CNNEnsembleClassifier


def small(**params):
    """A classifier of 8x8 digits that trains in a moment."""
    settings = {
        "numMembers": 3,
        "filters": [4],
        "kernelSize": 3,
        "denseUnits": 16,
        "epochs": 1,
        "numClasses": 10,
        "inputShape": [8, 8, 1],
        "oobSampleSize": 0,
    }
    return CNNEnsembleClassifier(**{**settings, **params})
