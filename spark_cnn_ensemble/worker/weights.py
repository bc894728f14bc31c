"""A member's weights as bytes.

Packed weights are an npz file of the arrays of `keras.Model.weights`, in their order. They may come from a saved model
that anyone wrote, so nothing here unpickles or takes memory for what a file merely claims. Called by workers and by the
driver. `tensorflow_ensemble` and `onnx_ensemble` check whether weights fit a network.
"""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from spark_cnn_ensemble.worker.refusal import Refusal

PART_BYTES = 4 << 20  # weights travel and are stored in such parts, so that no JVM heap holds an ensemble
PARTS_SCHEMA = "member int, part int, bytes binary"

WeightsOf = Callable[[int], bytes]  # member -> its packed weights


def pack_weights(weights: Sequence[np.ndarray]) -> bytes:
    """The arrays of a member, in the order of `keras.Model.weights`, as the bytes of an npz file."""
    file = io.BytesIO()
    named: dict[str, Any] = {f"{index:04d}": array for index, array in enumerate(weights)}
    np.savez(file, **named)
    return file.getvalue()


def unpack_weights(data: bytes) -> list[np.ndarray]:
    """The inverse of `pack_weights`; never unpickles, and takes no more memory than the bytes themselves.

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
    """The names of the arrays in packed weights, from a check of the headers alone.

    Raises
    ------
    Refusal
        The bytes are not the output of `pack_weights`.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            names = [f"{index:04d}.npy" for index in range(len(entries))]
            if [entry.filename for entry in entries] != names:
                raise ValueError("its arrays are not numbered")
            # Several entries may claim the same bytes of the file, each of them harmless by itself.
            if sum(entry.file_size for entry in entries) > len(data):
                raise ValueError("its arrays claim more bytes than there are")
            for entry in entries:
                _check_entry(archive, entry)
        return names
    except Exception as error:  # zipfile, numpy and the parser of headers raise many kinds
        raise Refusal(_damaged(error)) from None


def _damaged(error: Exception) -> str:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(".")
    return f"A member's weights are damaged ({reason}); save the model again."


def _check_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Check an array's sizes before any memory is taken for it."""
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
        raise ValueError(f"array {name!r} has npy version {version}")
    try:
        shape, _, kind = np.lib.format.read_array_header_1_0(file)
    except Exception:  # its text is parsed as Python literals, and may hold any
        raise ValueError(f"the header of array {name!r} cannot be read") from None
    return shape, kind


def split_weights(data: bytes) -> list[bytes]:
    """A member's packed weights in parts of at most `PART_BYTES`, in order."""
    return [data[start : start + PART_BYTES] for start in range(0, len(data), PART_BYTES)]


def digest(data: bytes) -> str:
    """SHA-256 of a member's weights, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def member_parts(frames: Iterable[pd.DataFrame], weights_of: WeightsOf) -> Iterator[pd.DataFrame]:
    """The weights of the members in column id, as rows (member, part, bytes) of `PARTS_SCHEMA`."""
    for frame in frames:
        for member in frame["id"]:
            parts = split_weights(weights_of(int(member)))
            yield pd.DataFrame({"member": np.int32(member), "part": range(len(parts)), "bytes": parts})
