"""What a member is: the plan by which it is trained, and its weights as bytes.

Used by training and scoring on executors and by the model on the driver. TensorFlow is imported inside functions.
"""

from __future__ import annotations

import gc
import hashlib
import io
import math
import os
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from spark_cnn_ensemble.worker.bag import BagRules
from spark_cnn_ensemble.worker.network import Architecture
from spark_cnn_ensemble.worker.refusal import Refusal

PART_BYTES = 4 << 20  # weights travel and are stored in parts of this size, so that no JVM heap holds an ensemble


@dataclass(frozen=True, kw_only=True)
class Program:
    """What the graph of a training step is made of."""

    architecture: Architecture
    batch_size: int
    optimizer: str
    learning_rate_schedule: str
    random_shift: int
    random_flip: bool
    precision: str


@dataclass(frozen=True, kw_only=True)
class TrainingPlan(Program):
    """Everything a worker must know to train a member: plain values, the same for all members of a fit.

    With `keep_diverged`, a member that diverges is reported as such; else it fails the job.
    """

    rules: BagRules
    epochs: int
    learning_rate: float
    early_stopping_patience: int
    seed: int
    keep_diverged: bool = False

    @property
    def program(self) -> Program:
        """What plans have in common that train by the same graph."""
        return Program(**{field.name: getattr(self, field.name) for field in fields(Program)})

    def member_seed(self, member: int) -> int:
        """The seed, 0 <= seed < 2**31, of one member's weights, row order and augmentation."""
        text = f"{self.seed} {member}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big") >> 1


def pack_weights(weights: Sequence[np.ndarray]) -> bytes:
    """A member's weights, in the order of `keras.Model.weights`, as the bytes of an npz file."""
    file = io.BytesIO()
    named: dict[str, Any] = {f"{index:04d}": array for index, array in enumerate(weights)}
    np.savez(file, **named)
    return file.getvalue()


def unpack_weights(data: bytes) -> list[np.ndarray]:
    """The inverse of `pack_weights`; never unpickles, and takes no more memory than the bytes themselves have.

    Raises
    ------
    Refusal
        The bytes are not such a file.
    """
    names = check_packed(data)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return [arrays[name] for name in names]
    except Exception as error:
        raise Refusal(_damaged(error)) from None


def check_packed(data: bytes) -> list[str]:
    """The names of the arrays in packed weights, after a look at each one's header alone.

    Raises
    ------
    Refusal
        The bytes are not what `pack_weights` makes.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            names = [f"{index:04d}.npy" for index in range(len(entries))]
            if [entry.filename for entry in entries] != names:
                raise ValueError("its arrays are not numbered")
            # Entries may claim the same bytes of the file; each by itself would look harmless.
            if sum(entry.file_size for entry in entries) > len(data):
                raise ValueError("its arrays claim more bytes than there are")
            for entry in entries:
                _check_entry(archive, entry)
        return names
    except Exception as error:  # zipfile, numpy and the parser of headers raise many kinds
        raise Refusal(_damaged(error)) from None


def _damaged(error: Exception) -> str:
    told = (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(".")
    return f"A member's weights are damaged ({told}); save the model again."


def _check_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Look at an array's sizes before any memory is taken for it."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
        raise ValueError(f"array {entry.filename!r} is compressed")
    with archive.open(entry) as file:
        shape, kind = _header(file, entry.filename)
        numbers, rest = divmod(entry.file_size - file.tell(), max(1, kind.itemsize))
    if kind.kind not in "fiu" or rest or min(shape, default=0) < 0 or math.prod(shape) != numbers:
        raise ValueError(f"array {entry.filename!r} claims to be {kind} of shape {shape}")


def _header(file: Any, name: str) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"array {name!r} is of npy version {version}")
    try:
        shape, _, kind = np.lib.format.read_array_header_1_0(file)
    except Exception:  # its text is parsed as Python's literals, of which any may stand there
        raise ValueError(f"the header of array {name!r} cannot be read") from None
    return shape, kind


def split_weights(data: bytes) -> list[bytes]:
    """A member's packed weights in parts of at most `PART_BYTES`, in order."""
    return [data[start : start + PART_BYTES] for start in range(0, len(data), PART_BYTES)]


def digest(data: bytes) -> str:
    """SHA-256 of a member's weights, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


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
