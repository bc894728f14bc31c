"""Packed weights as Spark broadcasts, of a classic session.

Spark removes a broadcast when neither a model nor a DataFrame that it made refers to it any more; the files that
PySpark writes for it on the driver are removed here.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from pyspark import SparkContext
from pyspark.core.broadcast import Broadcast

# Files that PySpark made for broadcasts, each with a weak reference to the object of the JVM that needs it.
_files: list[tuple[str, Any]] = []
_files_lock = threading.Lock()


def broadcast(context: SparkContext, data: bytes) -> Broadcast[bytes]:
    """Broadcast; also delete the files of broadcasts that nobody can use any more, which PySpark would keep."""
    made = context.broadcast(data)
    path, needed = getattr(made, "_path", None), getattr(made, "_python_broadcast", None)
    with _files_lock:
        kept = [(file, reference) for file, reference in _files if not _delete_unused(file, reference)]
        if path is not None and needed is not None and context._jvm is not None:
            kept.append((path, context._jvm.java.lang.ref.WeakReference(needed)))
        _files[:] = kept
    return made


def _delete_unused(file: str, reference: Any) -> bool:
    """Whether a file is gone: it was deleted now, or went with its session."""
    if os.path.exists(file):
        try:
            if reference.get() is not None:
                return False
        except Exception:
            return True  # its session was stopped, and has removed it
        with suppress(OSError):
            os.remove(file)
    return True


def broadcast_weights(broadcasts: Sequence[Any], member: int) -> bytes:
    """A member's packed weights, in a worker; loaded when they are asked for."""
    found = broadcasts[member]
    data = found.value
    if getattr(found, "_path", None) is not None:
        # Spark would keep the bytes in addition to the tensors made from them, though it can read this file again.
        vars(found).pop("_value", None)
    return data
