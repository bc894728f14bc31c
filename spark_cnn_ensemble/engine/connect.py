"""The engine for a Spark Connect session: one whose driver is a server elsewhere, without a JVM in this process."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import pyspark

from spark_cnn_ensemble.engine.artifacts import share_as_artifacts, ship_package
from spark_cnn_ensemble.engine.connect_files import ConnectFiles
from spark_cnn_ensemble.engine.interface import Engine
from spark_cnn_ensemble.engine.operations import TaggedOperations
from spark_cnn_ensemble.engine.worker_code import WorkerFunction
from spark_cnn_ensemble.worker.weights import WeightsOf

LARGEST_FRAME = 128 << 20  # a server with the default heap of 1 GiB, which others share, dies of twice as much


class ConnectEngine(Engine):
    """See `Engine`."""

    def __init__(self, spark: Any) -> None:
        if pyspark.__version__.startswith("3."):
            raise RuntimeError(
                f"Spark Connect needs PySpark 4.0 or later, but this is {pyspark.__version__}; upgrade PySpark, or use "
                "a classic session (master instead of remote)."
            )
        self._spark: Any = spark

    @property
    def slots(self) -> int:
        # The plan of a range names the server's default parallelism; no job runs.
        plan = self._spark.range(1 << 40)._explain_string()
        splits = re.search(r"splits=(\d+)", plan)
        return int(splits.group(1)) if splits else 1

    @property
    def is_local(self) -> bool:
        return self.master.startswith("local")

    @property
    def scope(self) -> str:
        return str(self._spark.session_id)

    @property
    def master(self) -> str:
        return str(self._spark.conf.get("spark.master", ""))

    @property
    def files(self) -> ConnectFiles:
        return ConnectFiles(self._spark)

    def quieten(self) -> None:
        """Do nothing: the log is the server's."""

    def share(self, weights: Sequence[bytes]) -> WeightsOf:
        return share_as_artifacts(self._spark, weights)

    def for_workers(self, function: Callable[..., Any]) -> WorkerFunction:
        archive = ship_package(self._spark)
        return WorkerFunction(function, "install the client's version in the Python of the server's workers.", archive)

    @property
    def largest_frame(self) -> float:
        return LARGEST_FRAME

    def watch_jobs(self) -> TaggedOperations:
        return TaggedOperations(self._spark, f"progress-{uuid.uuid4().hex}")

    def collector(self) -> None:
        return None
