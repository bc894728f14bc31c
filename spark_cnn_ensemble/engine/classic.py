"""The engine for a classic session: one whose SparkContext is in this process."""

from __future__ import annotations

import functools
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from spark_cnn_ensemble.engine.arrow_frames import frame_of
from spark_cnn_ensemble.engine.broadcasts import broadcast_each, broadcast_weights
from spark_cnn_ensemble.engine.hadoop import HadoopFiles
from spark_cnn_ensemble.engine.interface import Engine
from spark_cnn_ensemble.engine.jobs import AccumulatorCollector, TaggedJobs
from spark_cnn_ensemble.engine.live_reports import LiveReports
from spark_cnn_ensemble.engine.worker_code import WorkerFunction
from spark_cnn_ensemble.worker.weights import WeightsOf


class ClassicEngine(Engine):
    """See `Engine`."""

    def __init__(self, spark: SparkSession) -> None:
        super().__init__(spark)
        self._context = spark.sparkContext
        if self.is_local and "PYSPARK_PYTHON" not in os.environ:
            # Spark would start the python3 of PATH, which may lack this package or have another version.
            self._context.pythonExec = sys.executable

    @property
    def slots(self) -> int:
        return self._context.defaultParallelism

    @property
    def is_local(self) -> bool:
        return self.master.startswith("local")

    @property
    def scope(self) -> str:
        return self._context.applicationId

    @property
    def master(self) -> str:
        return str(self._context.master)

    @property
    def files(self) -> HadoopFiles:
        return HadoopFiles(self._spark)

    @property
    def _is_spark_3(self) -> bool:
        return self._spark.version.startswith("3.")

    @property
    def rows_per_batch(self) -> int | None:
        # Spark 4.0 brought spark.sql.execution.arrow.maxBytesPerBatch.
        if not self._is_spark_3:
            return None
        rows = int(str(self._spark.conf.get("spark.sql.execution.arrow.maxRecordsPerBatch")))
        return rows if rows > 0 else sys.maxsize  # Spark takes 0 for no limit

    def frame(self, table: pa.Table) -> DataFrame:
        return frame_of(self._spark, table, self.slots) if self._is_spark_3 else super().frame(table)

    def quieten(self) -> None:
        self._context.setLogLevel("OFF")

    def share(self, weights: Sequence[bytes]) -> WeightsOf:
        # One broadcast per member fits the driver's heap, and workers load one member at a time.
        return functools.partial(broadcast_weights, broadcast_each(self._context, weights))

    def for_workers(self, function: Callable[..., Any]) -> WorkerFunction:
        return WorkerFunction(
            function,
            "install the driver's version there, ship it as a zip (spark-submit --py-files), or set the "
            "environment variable PYSPARK_PYTHON, before Spark is started, to a Python that has it.",
        )

    @property
    def largest_frame(self) -> float:
        return math.inf  # the user's own heap

    def watch_jobs(self) -> TaggedJobs:
        return TaggedJobs(self._context)

    def collector(self) -> AccumulatorCollector:
        return AccumulatorCollector(self._context)

    def live_reports(self) -> LiveReports | None:
        # Where Spark's own executors reach the driver.
        host = str(self._spark.conf.get("spark.driver.host", "")).strip("[]")
        bind = str(self._spark.conf.get("spark.driver.bindAddress", host)).strip("[]")
        try:
            return LiveReports(bind, host)
        except OSError:
            return None
