"""How members travel between executors, driver and disk: the one place that holds broadcasts and collects weights.

Weights never pass through a JVM heap in bulk: they move in parts, and groups of a bounded size.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from pyspark import SparkContext
from pyspark.core.broadcast import Broadcast
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_cnn_ensemble.worker.loaded import WeightsOf
from spark_cnn_ensemble.worker.voting import PARTS_SCHEMA, broadcast_weights, member_parts

GROUP_BYTES = 64 << 20  # collected at once; a driver's default heap of 1 GiB takes several times this

# Options for Parquet that holds parts. Its writer would first look at what it holds after 100 rows: 400 MiB a task.
SMALL_ROW_GROUPS = {"parquet.page.size.row.check.min": 1, "parquet.block.size": 16 << 20}


def collect_weights(parts: DataFrame, sizes: Mapping[int, int]) -> dict[int, bytes]:
    """Bring members' weights to the driver, in jobs of about `GROUP_BYTES`.

    Parameters
    ----------
    parts : DataFrame
        Columns member, part, bytes; cached, or read from disk, as it is read once a group.
    sizes : mapping of int to int
        Bytes of each member.

    Returns
    -------
    dict of int to bytes
        Empty bytes where a member has no rows.
    """
    weights = dict.fromkeys(sizes, b"")
    group: list[int] = []
    left = list(sizes)
    while left:
        group.append(left.pop(0))
        if not left or sum(sizes[member] for member in [*group, left[0]]) > GROUP_BYTES:
            rows = parts.where(F.col("part").isNotNull() & F.col("member").isin(group))
            for row in sorted(rows.select("member", "part", "bytes").collect(), key=lambda row: row["part"]):
                weights[row["member"]] += bytes(row["bytes"])
            group = []
    return weights


class Broadcasts:
    """The members' packed weights, broadcast once and on first use, one broadcast a member.

    One broadcast a member keeps each small enough for the driver's heap, and lets a worker load them one by one. Spark
    removes them when neither a model nor a DataFrame that it made refers to them any more.
    """

    def __init__(self, weights: Sequence[bytes]) -> None:
        self._weights = weights
        self._lock = threading.Lock()
        self._application = ""
        self._weights_of: WeightsOf | None = None

    def weights_of(self, spark: SparkSession) -> WeightsOf:
        """What executors call to get a member's weights."""
        context = spark.sparkContext
        with self._lock:
            if self._weights_of is None or self._application != context.applicationId:
                broadcasts = [_broadcast(context, data) for data in self._weights]
                self._weights_of = functools.partial(broadcast_weights, broadcasts)
                self._application = context.applicationId
            return self._weights_of

    @staticmethod
    def slots(spark: SparkSession) -> int:
        """Cores that tasks may have at once."""
        return spark.sparkContext.defaultParallelism

    def write(self, spark: SparkSession, path: str) -> None:
        """Write the members' weights as Parquet rows (member, part, bytes), from the executors."""
        count = len(self._weights)
        tasks = min(count, self.slots(spark))
        members = spark.range(0, count, 1, tasks)
        parts = functools.partial(member_parts, weights_of=self.weights_of(spark))
        members.mapInPandas(parts, PARTS_SCHEMA).write.options(**SMALL_ROW_GROUPS).parquet(path)


# Files that PySpark made of broadcasts, each with a weak reference to the object of the JVM that needs it.
_files: list[tuple[str, Any]] = []
_files_lock = threading.Lock()


def _broadcast(context: SparkContext, data: bytes) -> Broadcast[bytes]:
    """Broadcast; also delete the files of broadcasts that nobody can use any more, which PySpark would keep."""
    found = context.broadcast(data)
    path, needed = getattr(found, "_path", None), getattr(found, "_python_broadcast", None)
    with _files_lock:
        kept = [(file, reference) for file, reference in _files if not _delete_unused(file, reference)]
        if path is not None and needed is not None and context._jvm is not None:
            kept.append((path, context._jvm.java.lang.ref.WeakReference(needed)))
        _files[:] = kept
    return found


def _delete_unused(file: str, reference: Any) -> bool:
    """Whether a file is gone, as it was deleted now or went with its session."""
    if os.path.exists(file):
        try:
            if reference.get() is not None:
                return False
        except Exception:
            return True  # of a session that was stopped, which takes its files along
        with suppress(OSError):
            os.remove(file)
    return True
