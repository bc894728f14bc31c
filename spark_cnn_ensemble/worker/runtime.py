"""TensorFlow's start in this process, with the cores and GPUs that Spark gave its task.

TensorFlow fixes its threads at the first operation, so whoever comes first decides. Called by training and scoring on
executors, and on the driver where a network is needed.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any


def load_tensorflow(threads: int | None = None, gpus: Sequence[str] | None = None) -> Any:
    """Import TensorFlow for this process, without the lines that it writes to stderr while it is imported.

    Parameters
    ----------
    threads : int, optional
        Threads of an operation. TensorFlow fixes them at its first operation, so the first call of a process decides.
    gpus : sequence of str, optional
        Addresses of the GPUs that this process may use, none if empty; None leaves TensorFlow's own choice.

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
        with suppress(RuntimeError):  # other code has used TensorFlow in this process, and so has chosen its threads
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
    return tf


@contextmanager
def _stderr_closed() -> Iterator[None]:
    # TensorFlow's C++ writes there before any log level holds; an import that fails still raises.
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def load_tensorflow_in_task() -> Any:
    """Import TensorFlow with the cores and GPUs that Spark gave to the running task."""
    from pyspark import TaskContext

    task = TaskContext.get()
    if task is None:
        return load_tensorflow()
    gpu = task.resources().get("gpu")
    fresh = "tensorflow" not in sys.modules
    tf = load_tensorflow(threads=task.cpus(), gpus=gpu.addresses if gpu else [])
    if fresh:
        # Spark has a worker collect garbage after each task, which takes 0.25 s where TensorFlow's 400,000 objects are
        # looked at each time.
        gc.collect()
        gc.freeze()
    return tf
