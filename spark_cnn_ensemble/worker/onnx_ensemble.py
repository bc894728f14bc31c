"""Packed weights -> members that onnxruntime runs in this process, without TensorFlow.

Called by `loaded_ensemble`; the driver calls `onnx_session` to try a graph.
"""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from spark_cnn_ensemble.worker.blocks import LoadedEnsemble, misfit
from spark_cnn_ensemble.worker.onnx_graph import IMAGE
from spark_cnn_ensemble.worker.refusal import Refusal
from spark_cnn_ensemble.worker.runtime import task_cpus
from spark_cnn_ensemble.worker.voting_plan import VotingPlan
from spark_cnn_ensemble.worker.weights import WeightsOf, unpack_weights

_ERRORS_ONLY = 3  # severity of what onnxruntime logs


class OnnxEnsemble(LoadedEnsemble):
    """Members as sessions of onnxruntime, one per member; as many run at once as the task has cores."""

    def __init__(self, plan: VotingPlan, weights_of: WeightsOf) -> None:
        super().__init__(plan)
        cores = task_cpus()
        self._map = ThreadPoolExecutor(cores).map if cores > 1 else map
        self._sessions: list[Any] = []
        for index, graph in enumerate(plan.graphs):
            arrays = unpack_weights(weights_of(index))
            if not graph.fits(arrays):
                raise Refusal(misfit(index))
            self._sessions.append(onnx_session(graph.with_weights(arrays)))

    def _run(self, group: int, block: np.ndarray) -> np.ndarray:
        sessions = self._sessions[self.groups[group]]
        return np.stack(list(self._map(lambda session: session.run(None, {IMAGE: block})[0], sessions)))


def onnx_session(model: bytes) -> Any:
    """A session of onnxruntime on the CPU, with one thread.

    Raises
    ------
    Refusal
        This Python has no onnxruntime.
    """
    runtime = _onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.use_env_allocators", "1")
    return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@functools.cache
def _onnxruntime() -> Any:
    """The package, with one arena of memory for all sessions of this process: a session's own keeps 14 MB."""
    try:
        import onnxruntime
    except ImportError:
        raise Refusal(
            "scoringEngine='onnx' needs the package onnxruntime in the Python of the driver and of Spark's workers; "
            "run pip install 'spark-cnn-ensemble[onnx]' there, or set scoringEngine='tensorflow'."
        ) from None
    arena = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(arena, None)
    return onnxruntime
