"""The start of TensorFlow in a process, with Keras on top of it as this library needs it.

On executors TensorFlow gets the cores and GPUs that Spark assigned to the task. `keras_settings` surrounds whatever
builds, loads, traces or runs a network: a user's settings of Keras must not reach the members, nor ours the user's
networks. Called by `training`, `trainer`, `network`, `tensorflow_ensemble` and `loaded_ensemble`, and by the driver
where it needs a network. `onnx_ensemble` asks for the cores alone.
"""

from __future__ import annotations

import gc
import os
import random
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from spark_cnn_ensemble.worker.refusal import Refusal

_importing = threading.Lock()  # stderr and the environment are of the process: two threads would restore each other's
_SETTINGS = {"floatx": "float32", "epsilon": 1e-7, "image_data_format": "channels_last"}  # of Keras, as it comes


def load_tensorflow(threads: int | None = None, gpus: Sequence[str] | None = None) -> Any:
    """Import TensorFlow in this process, without the lines that it writes to stderr while it is imported.

    Parameters
    ----------
    threads : int, optional
        Threads per operation. TensorFlow fixes them at its first operation, so the first call in a process decides.
    gpus : sequence of str, optional
        Addresses of the GPUs that TensorFlow may use; empty: no GPU; None: its own choice. TensorFlow fixes them too.

    Returns
    -------
    module
        tensorflow
    """
    visible = {}
    if gpus:  # in the order of nvidia-smi, which Spark's discovery script asks
        order = os.environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
        visible = {"CUDA_VISIBLE_DEVICES": ",".join(gpus), "CUDA_DEVICE_ORDER": order}
    with _environment(**visible):  # CUDA reads it once, when Keras is imported
        tf = _import_tensorflow()
        if threads is not None and tf.config.threading.get_intra_op_parallelism_threads() != threads:
            with suppress(RuntimeError):  # other code has used TensorFlow in this process, which fixed its threads
                tf.config.threading.set_intra_op_parallelism_threads(threads)
                tf.config.threading.set_inter_op_parallelism_threads(1)
        with suppress(RuntimeError):  # as above
            for device in tf.config.list_physical_devices("GPU") if gpus else ():
                tf.config.experimental.set_memory_growth(device, True)  # tasks may share a GPU
            if gpus is not None and not gpus:  # the variable would hide them from other code of this process too
                tf.config.set_visible_devices([], "GPU")
    return tf


def _import_tensorflow() -> Any:
    with _importing:
        if "tensorflow" in sys.modules and "keras" in sys.modules:
            import tensorflow as tf

            return tf
        level = os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3")
        environment = _environment(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL=level)
        with _stderr_closed(), environment, _random_numbers(), _garbage_kept():
            import keras  # noqa: F401 - with the backend that the environment names now
            import tensorflow as tf
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


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Environment variables, set while the context is open; they belong to the user."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _random_numbers() -> Iterator[None]:
    """Keep the state of Python's random numbers, which Keras draws from while it is imported."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


@contextmanager
def _garbage_kept() -> Iterator[None]:
    """No garbage is collected while the context is open.

    The import of TensorFlow makes hardly any: 1,146 of 484,299 objects. To look for it takes a fifth of the CPU time.
    """
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()


def _check_backend() -> None:
    import keras

    backend = keras.config.backend()
    if backend == "tensorflow":
        return
    from pyspark import TaskContext

    remedy = "set the environment variable KERAS_BACKEND=tensorflow before keras is imported, and start Python again"
    if TaskContext.get() is not None:
        remedy = (
            "a function that this worker ran before has imported it so: set KERAS_BACKEND=tensorflow there, or "
            "spark.python.worker.reuse=false"
        )
    raise Refusal(
        f"Keras runs on the backend {backend!r} in this process, but the members are networks of TensorFlow; {remedy}."
    )


class _ProcessSettings:
    """Settings that a process has once. Several threads may need ours at a time: the last one restores the user's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads = 0
        self._before: dict[str, Any] = {}
        self._before_eager = False

    def pin(self) -> Any:
        """Set ours; the dtype policy that this thread had."""
        import keras
        import tensorflow as tf

        with self._lock:
            policy = keras.config.dtype_policy()  # made from floatx where the thread has none
            if not self._threads:
                self._before = {name: getattr(keras.config, name)() for name in _SETTINGS}
                self._before_eager = tf.config.functions_run_eagerly()
                self._set(_SETTINGS, False)
            self._threads += 1
        return policy

    def restore(self) -> None:
        """Set what was there before `pin`, unless another thread needs ours still."""
        with self._lock:
            self._threads -= 1
            if not self._threads:
                self._set(self._before, self._before_eager)

    def _set(self, settings: dict[str, Any], eager: bool) -> None:
        import keras
        import tensorflow as tf

        for name, value in settings.items():
            getattr(keras.config, f"set_{name}")(value)
        if tf.config.functions_run_eagerly() != eager:
            tf.config.run_functions_eagerly(eager)


_process_settings = _ProcessSettings()


@contextmanager
def keras_settings() -> Iterator[None]:
    """Keras on TensorFlow with the settings that it comes with, whatever keras.json or other code has set.

    Image data format, floatx, epsilon, dtype policy, and functions compiled rather than run line by line. What was set
    before is restored at the end. Must not stay open where a generator yields to code of the user. Serves as a
    decorator too.

    Raises
    ------
    Refusal
        Other code of this process runs Keras on another backend.
    """
    load_tensorflow()
    _check_backend()
    import keras

    policy = _process_settings.pin()
    try:
        keras.config.set_dtype_policy("float32")
        yield
    finally:
        keras.config.set_dtype_policy(policy)
        _process_settings.restore()


_started_with: tuple[str, ...] | None = None  # GPUs of the first task of this process


def load_tensorflow_in_task() -> Any:
    """Import TensorFlow with the cores and GPUs that Spark assigned to the running task.

    Raises
    ------
    Refusal
        TensorFlow has started in this process with other GPUs, for an earlier task. The refusal ends the process, and
        Spark runs the task again in another.
    """
    global _started_with
    from pyspark import TaskContext

    task = TaskContext.get()
    if task is None:
        return load_tensorflow()
    resource = task.resources().get("gpu")
    gpus = tuple(sorted(resource.addresses)) if resource else ()
    if _started_with is not None:
        if gpus != _started_with:
            raise Refusal(
                f"Spark assigned {_named(gpus)} to this task, but TensorFlow has started with {_named(_started_with)} "
                "in its Python worker and cannot change; set spark.python.worker.reuse=false, or give each executor "
                "the GPUs of one task."
            )
        return load_tensorflow()
    fresh = "tensorflow" not in sys.modules
    with _garbage_kept():
        tf = load_tensorflow(threads=task_cpus(), gpus=gpus)
        if fresh:
            # Before the first collection. Spark collects garbage after each task, which takes 0.16 s where TensorFlow's
            # 500,000 objects are visited.
            gc.freeze()
    _started_with = gpus
    return tf


def task_cpus() -> int:
    """The cores that Spark assigned to the running task; 1 on the driver."""
    from pyspark import TaskContext

    task = TaskContext.get()
    return 1 if task is None else int(task.cpus())


def _named(gpus: Sequence[str]) -> str:
    return f"GPU {', '.join(gpus)}" if gpus else "no GPU"
