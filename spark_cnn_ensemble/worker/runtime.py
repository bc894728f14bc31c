"""The start of TensorFlow in a process.

On executors TensorFlow gets the cores and GPUs that Spark assigned to the task. Called by `training` and
`loaded_ensemble`, and by the driver where it needs a network.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any


def load_tensorflow(threads: int | None = None, gpus: Sequence[str] | None = None) -> Any:
    """Import TensorFlow in this process, without the lines that it writes to stderr while it is imported.

    Parameters
    ----------
    threads : int, optional
        Threads per operation. TensorFlow fixes them at its first operation, so the first call in a process decides.
    gpus : sequence of str, optional
        Addresses of the GPUs that this process may use; empty: no GPU; None: TensorFlow's own choice.

    Returns
    -------
    module
        tensorflow
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    if gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus) or "-1"
    if "tensorflow" in sys.modules:
        import tensorflow as tf
    else:
        with _stderr_closed():
            import tensorflow as tf

    if threads is not None and tf.config.threading.get_intra_op_parallelism_threads() != threads:
        with suppress(RuntimeError):  # other code has used TensorFlow in this process, which fixed its threads
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
    return tf


@contextmanager
def _stderr_closed() -> Iterator[None]:
    # TensorFlow's C++ writes there before a log level applies; an import that fails still raises.
    stderr, devnull = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(devnull)


def load_tensorflow_in_task() -> Any:
    """Import TensorFlow with the cores and GPUs that Spark assigned to the running task."""
    from pyspark import TaskContext

    task = TaskContext.get()
    if task is None:
        return load_tensorflow()
    gpu = task.resources().get("gpu")
    fresh = "tensorflow" not in sys.modules
    tf = load_tensorflow(threads=task.cpus(), gpus=gpu.addresses if gpu else [])
    if fresh:
        # Spark collects garbage after each task, which takes 0.25 s where TensorFlow's 400,000 objects are visited.
        gc.collect()
        gc.freeze()
    return tf
