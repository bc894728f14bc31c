"""Random-forest-style ensembles of small CNNs on Apache Spark.

Public names are loaded on first use: importing the package imports neither pyspark.ml nor TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spark_cnn_ensemble.estimator import CNNEnsembleClassifier
    from spark_cnn_ensemble.evaluation import CNNEnsembleEvaluation
    from spark_cnn_ensemble.fit_result import MemberSummary
    from spark_cnn_ensemble.model import CNNEnsembleClassificationModel
    from spark_cnn_ensemble.summary import CNNEnsembleTrainingSummary
    from spark_cnn_ensemble.votes import OutOfBag

__version__ = "0.2.0"

_HOME = {
    "CNNEnsembleClassifier": "estimator",
    "CNNEnsembleClassificationModel": "model",
    "CNNEnsembleEvaluation": "evaluation",
    "CNNEnsembleTrainingSummary": "summary",
    "MemberSummary": "fit_result",
    "OutOfBag": "votes",
}

__all__ = [
    "CNNEnsembleClassificationModel",
    "CNNEnsembleClassifier",
    "CNNEnsembleEvaluation",
    "CNNEnsembleTrainingSummary",
    "MemberSummary",
    "OutOfBag",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
