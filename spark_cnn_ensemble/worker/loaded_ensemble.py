"""A plan and packed weights -> the ensemble that votes in this process, which is unpacked once.

A process keeps it under the id that the driver gave it. Called by `scoring` and `evaluation`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from spark_cnn_ensemble.worker.blocks import LoadedEnsemble
from spark_cnn_ensemble.worker.onnx_ensemble import OnnxEnsemble
from spark_cnn_ensemble.worker.runtime import load_tensorflow_in_task
from spark_cnn_ensemble.worker.tensorflow_ensemble import TensorFlowEnsemble
from spark_cnn_ensemble.worker.voting_plan import VotingPlan
from spark_cnn_ensemble.worker.weights import WeightsOf

_MAX_LOADED = 3  # ensembles that a process keeps unpacked

_loaded: OrderedDict[tuple[str, str, bool], LoadedEnsemble] = OrderedDict()  # by id, precision and scoring engine
_loading = threading.Lock()  # threads of the driver may score with several models at once


def load_ensemble(plan: VotingPlan, weights_of: WeightsOf) -> LoadedEnsemble:
    """The members of a plan: kept in this process, or unpacked now."""
    key = plan.ensemble_id, plan.precision, bool(plan.graphs)
    with _loading:
        if not plan.graphs:
            load_tensorflow_in_task()
        ensemble = _loaded.pop(key, None)
        if ensemble is None:
            while len(_loaded) >= _MAX_LOADED:
                _loaded.popitem(last=False)
            kind = OnnxEnsemble if plan.graphs else TensorFlowEnsemble
            ensemble = kind(plan, weights_of)
        _loaded[key] = ensemble
        return ensemble
