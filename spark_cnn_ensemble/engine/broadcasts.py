"""Packed weights as broadcasts of a classic session.

Spark removes a broadcast once no model refers to it, and no DataFrame that a model made. PySpark's file for it on the
driver would stay; it is deleted here.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from pyspark import Broadcast, SparkContext

# PySpark's files for broadcasts, each with a weak reference to the JVM object that needs it.
_files: list[tuple[str, Any]] = []
_files_lock = threading.Lock()


def broadcast_each(context: SparkContext, parts: Sequence[bytes]) -> list[Broadcast[bytes]]:
    """Broadcast each part; also delete the files of earlier broadcasts that are no longer used."""
    shared = [context.broadcast(data) for data in parts]
    with _files_lock:
        _files[:] = [(file, reference) for file, reference in _files if not _delete_unused(file, reference)]
        for one in shared:
            path, user = getattr(one, "_path", None), getattr(one, "_python_broadcast", None)
            if path is not None and user is not None and context._jvm is not None:
                _files.append((path, context._jvm.java.lang.ref.WeakReference(user)))
    return shared


def _delete_unused(file: str, reference: Any) -> bool:
    """Delete a file that no broadcast uses; returns whether the file is gone."""
    if os.path.exists(file):
        try:
            if reference.get() is not None:
                return False
        except Exception:
            return True  # its session was stopped, which removes the file
        with suppress(OSError):
            os.remove(file)
    return True


def broadcast_weights(broadcasts: Sequence[Any], member: int) -> bytes:
    """A member's packed weights, in a worker; read on each call."""
    shared = broadcasts[member]
    data = shared.value
    if getattr(shared, "_path", None) is not None:
        # PySpark would hold the bytes next to the tensors that are made from them; it can read the file again.
        vars(shared).pop("_value", None)
    return data
