"""Files that only a Spark Connect server can reach, through its data sources."""

from __future__ import annotations

import math
import random
import re
import time
import uuid
from collections.abc import Callable

from pyspark.errors import AnalysisException
from pyspark.ml.connect.readwrite import RemoteMLWriter
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_cnn_ensemble.engine.failures import in_a_sentence
from spark_cnn_ensemble.engine.interface import Entry, Files
from spark_cnn_ensemble.engine.paths import path_exists

_TRIES = 5  # to add a file to a folder
# Hadoop's committer renames a task's file when the task ends, and leaves alone what other clients have begun to add.
_COMMITTER = {
    "mapreduce.fileoutputcommitter.algorithm.version": "2",
    "mapreduce.fileoutputcommitter.cleanup.skipped": "true",
}


class ConnectFiles(Files):
    """See `Files`. Data sources do not show files whose names begin with an underscore or a dot."""

    def exists(self, path: str) -> bool:
        with in_a_sentence():
            try:
                _ = self._binary_files(path).schema  # Spark looks for the path while it analyses the plan
            except AnalysisException as error:
                if error.getCondition() != "PATH_NOT_FOUND":
                    raise
                return False
            return True

    def qualified(self, path: str) -> str:
        return re.sub("^file:/+", "/", path).rstrip("/")  # as far as its text says

    def matches(self, pattern: str) -> list[Entry]:
        if not self.exists(pattern):
            return []
        with in_a_sentence():
            found = self._binary_files(pattern).select("path", F.col("modificationTime").cast("double")).collect()
        # What has only files that are not shown is there, too.
        return [Entry(path, modified) for path, modified in found] or [Entry(pattern, math.inf)]

    def _binary_files(self, path: str) -> DataFrame:
        # Another client may delete a file between the listing and the job.
        options = {"recursiveFileLookup": "true", "ignoreMissingFiles": "true"}
        return self._spark.read.format("binaryFile").options(**options).load(path)

    def check_writable(self, path: str) -> None:
        # Makes the folders above `path`, which stay.
        probe = f"{path}.writable-{uuid.uuid4().hex[:12]}"
        with in_a_sentence():
            self._spark.range(0).write.parquet(probe)
        self.delete(probe)

    def add(self, folder: str, name: str, line: str) -> bool:
        one = self._spark.createDataFrame([(line,)], "value string").coalesce(1)
        for tries_left in reversed(range(_TRIES)):
            try:
                with in_a_sentence():
                    one.write.mode("append").options(**_COMMITTER).text(folder)
                break
            except Exception:
                # A client of another version, whose committer ends, deletes what this one has begun to add.
                if not tries_left:
                    raise
                time.sleep(random.uniform(0, 1))
        return True

    def delete(self, path: str) -> None:
        # Spark's own writers delete in this way, before they overwrite. It asks for the session of the thread, and the
        # threads of a user have none.
        threads = type(self._spark)._active_session  # type: ignore[attr-defined]
        before = getattr(threads, "session", None)
        threads.session = self._spark
        try:
            with in_a_sentence():
                RemoteMLWriter.handleOverwrite(path, True)
        finally:
            threads.session = before

    def write_whole(self, path: str, write: Callable[[str], None], overwrite: bool) -> None:
        # A server cannot rename. Of two copies that are written one after the other, one is always whole.
        if not self.exists(path):
            write(path)
            return
        beside = f"{path}.saving-{uuid.uuid4().hex[:12]}"
        write(beside)
        if not overwrite:
            raise path_exists(path, beside)
        self.delete(path)
        write(path)
        self.delete(beside)
