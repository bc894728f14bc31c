"""Transport of members' weights between executors, driver and disk, the same for every engine.

No JVM heap ever holds a whole ensemble: weights move in parts (`worker.weights.PARTS_SCHEMA`), a few members at a time.
"""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from spark_cnn_ensemble.engine import engine_of
from spark_cnn_ensemble.worker.weights import PART_BYTES, PARTS_SCHEMA, WeightsOf, member_parts

GROUP_BYTES = 64 << 20  # collected at once, or written by a task; the default heap of 1 GiB holds several groups

# Options for Parquet files of parts. By default, the writer first checks its size after 100 rows: 400 MiB per task.
# Until it closes a file, it holds the largest and the smallest value of each row group, unless it is to keep no
# statistics; before Spark 4.0 it always does. Those of the other columns spare readers the groups of other members.
_SMALL_ROW_GROUPS = {
    "parquet.page.size.row.check.min": "1",
    "parquet.block.size": str(16 << 20),
    "parquet.column.statistics.enabled#bytes": "false",
}

# Hadoop's committer for files, whose version 2 moves a task's file into place when the task ends. Committers for object
# stores (S3A's, the manifest committer), which a session may have set, show all files when the job ends.
_AS_TASKS_END = {
    "mapreduce.fileoutputcommitter.algorithm.version": "2",
    "mapreduce.outputcommitter.factory.class": "org.apache.hadoop.mapreduce.lib.output.FileOutputCommitterFactory",
    "spark.sql.parquet.output.committer.class": "org.apache.parquet.hadoop.ParquetOutputCommitter",
}
_PROTOCOL = "spark.sql.sources.commitProtocolClass"
_SPARKS_PROTOCOL = "org.apache.spark.sql.execution.datasources.SQLHadoopMapReduceCommitProtocol"
# Those that take the committer above.
_PROTOCOLS = (_SPARKS_PROTOCOL, "org.apache.spark.internal.io.cloud.PathOutputCommitProtocol")


def collect_parts(parts: DataFrame, sizes: Mapping[int, int], *more: str) -> Iterator[tuple[int, list[Row]]]:
    """Collect the parts of members' weights on the driver, in jobs of about `GROUP_BYTES`.

    Parameters
    ----------
    parts : DataFrame
        Columns member, part, bytes; cached or on disk, since it is read once per group.
    sizes : mapping of int to int
        Size of each member's weights in bytes.
    *more : str
        Further columns to collect.

    Yields
    ------
    member : int
    rows : list of Row
        The member's parts in order; empty if the member has no rows.
    """
    step = GROUP_BYTES // PART_BYTES  # parts of a member that is larger than a group
    for group in _groups(sizes):
        rows: dict[int, list[Row]] = {member: [] for member in group}
        for first in range(0, -(-max(sizes[member] for member in group) // PART_BYTES) or 1, step):
            chosen = parts.where(F.col("part").between(first, first + step - 1) & F.col("member").isin(group))
            for row in chosen.select("member", "part", "bytes", *more).collect():
                rows[row["member"]].append(row)
        for member in group:
            yield member, sorted(rows.pop(member), key=lambda row: row["part"])


def _groups(sizes: Mapping[int, int]) -> Iterator[list[int]]:
    """The members in groups of at most `GROUP_BYTES`, but of at least one member."""
    group: list[int] = []
    held = 0
    for member, size in sizes.items():
        if group and held + size > GROUP_BYTES:
            yield group
            group, held = [], 0
        group.append(member)
        held += size
    if group:
        yield group


def join_parts(rows: Iterable[Row]) -> bytes:
    """A member's packed weights from its parts in order."""
    return b"".join(row["bytes"] for row in rows)


def collect_weights(parts: DataFrame, sizes: Mapping[int, int]) -> dict[int, bytes]:
    """Members' packed weights, collected by `collect_parts`; empty bytes if a member has no rows."""
    return {member: join_parts(rows) for member, rows in collect_parts(parts, sizes)}


class SharedWeights:
    """Members' packed weights, shared with workers on first use, once per scope of the engine."""

    def __init__(self, weights: Sequence[bytes]) -> None:
        self._weights = weights
        self._lock = threading.Lock()
        self._scope = ""
        self._weights_of: WeightsOf | None = None

    def of(self, spark: SparkSession) -> WeightsOf:
        """The function that workers call with a member's index to get its weights."""
        engine = engine_of(spark)
        with self._lock:
            if self._weights_of is None or self._scope != engine.scope:
                self._weights_of = engine.share(self._weights)
                self._scope = engine.scope
            return self._weights_of

    def write(self, spark: SparkSession, path: str) -> None:
        """Write the weights as Parquet rows (member, part, bytes), from the executors."""
        engine, count = engine_of(spark), len(self._weights)
        groups = -(-sum(map(len, self._weights)) // GROUP_BYTES)
        members = spark.range(0, count, 1, min(count, max(engine.slots, groups)))
        parts = functools.partial(member_parts, weights_of=self.of(spark))
        members.mapInPandas(engine.for_workers(parts), PARTS_SCHEMA).write.options(**_SMALL_ROW_GROUPS).parquet(path)


def write_as_tasks_end(trained: DataFrame, path: str) -> None:
    """Write rows with members' weights as Parquet; the file of a task is there as soon as the task ends."""
    protocol = trained.sparkSession.conf.get(_PROTOCOL, _SPARKS_PROTOCOL)
    if protocol not in _PROTOCOLS:
        warnings.warn(
            f"{_PROTOCOL} is {protocol}, with which members may appear in checkpointDir only once all are trained, so "
            f"that a fit that fails keeps none; set it to {_SPARKS_PROTOCOL}.",
            stacklevel=2,
        )
    trained.write.options(**_AS_TASKS_END).options(**_SMALL_ROW_GROUPS).parquet(path)
