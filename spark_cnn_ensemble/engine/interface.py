"""The interface between the library and a kind of Spark session."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel

from spark_cnn_ensemble.engine.failures import in_a_sentence
from spark_cnn_ensemble.engine.live_reports import LiveReports
from spark_cnn_ensemble.engine.placement import place
from spark_cnn_ensemble.engine.worker_code import WorkerFunction
from spark_cnn_ensemble.worker.weights import WeightsOf

UNFINISHED = "_temporary"  # the folder in which Hadoop's committers keep what tasks write until they end
# Of a batch for Python, where Spark limits its rows alone. Spark writes a batch into a buffer that it doubles: in its
# default heap of 1 GiB, two tasks with batches of 240 MB were seen to work, and with 500 MB to hang.
BATCH_BYTES = 128 << 20
_READ_BYTES = 64 << 20  # of a file that are collected at once
_LARGEST_FILE = 2**31 - 1024  # an array in Java holds little more


class Entry(NamedTuple):
    """A file or folder, or a line of a text file.

    Parameters
    ----------
    path : str
    modified : float
        Seconds since 1970.
    text : str
        The line; "" where only names were asked for.
    """

    path: str
    modified: float
    text: str = ""


class Files(ABC):
    """Files and folders on any filesystem that Spark can reach.

    Every method raises OSError with one sentence if the filesystem has no jar, cannot be reached or refuses.
    """

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark

    def lines(self, folder: str) -> list[Entry]:
        """The lines of the text files in a folder, in no order."""
        with in_a_sentence():
            rows = self._spark.read.text(folder).select(
                "value",
                F.col("_metadata.file_name"),
                F.col("_metadata.file_modification_time").cast("double"),
            )
            # The path that Spark gives is a URI, in which a space is %20; Hadoop would look for that name.
            return [Entry(f"{folder}/{name}", modified, text) for text, name, modified in rows.collect()]

    def read(self, path: str) -> bytes:
        """The bytes of a file.

        Raises
        ------
        FileNotFoundError
            Nothing is at `path`.
        OSError
            It is a folder, hidden (its name begins with an underscore or a dot), or 2 GiB or larger.
        """
        if not self.exists(path):
            raise FileNotFoundError(f"File {path} does not exist; pass the path of one.")
        with in_a_sentence():
            files = self._spark.read.format("binaryFile").load(path)
            sizes = [row["length"] for row in files.select("length").limit(2).collect()]
            if len(sizes) != 1:
                raise OSError(
                    f"{path} is a folder or a hidden file; pass the path of a file whose name does not begin "
                    "with '_' or '.'."
                )
            if sizes[0] > _LARGEST_FILE:
                raise OSError(f"{path} has {sizes[0]:,} bytes, but Spark reads files below 2 GiB; make it smaller.")
            # The driver's JVM holds one part at a time.
            parts = range(1, sizes[0] + 1, _READ_BYTES)
            return b"".join(files.select(F.substring("content", begin, _READ_BYTES)).collect()[0][0] for begin in parts)

    @abstractmethod
    def exists(self, path: str) -> bool:
        """Whether there is a file or folder at `path`."""

    @abstractmethod
    def qualified(self, path: str) -> str:
        """The path by which two spellings of one place are the same, as far as the engine can see."""

    @abstractmethod
    def matches(self, pattern: str) -> list[Entry]:
        """The files and folders that match a pattern, such as folder/name=*."""

    @abstractmethod
    def check_writable(self, path: str) -> None:
        """Refuse a path at which no file or folder can be made.

        Raises
        ------
        OSError
            A folder above `path` is a file, or nothing can be written to it.
        """

    @abstractmethod
    def add(self, folder: str, name: str, line: str) -> bool:
        """Add a text file of one line to a folder, which is made if it does not exist.

        A reader sees the whole file or none. Returns False, and adds nothing, if the engine can see that there is a
        file called `name`; an engine that cannot chooses another name. It may leave a folder `UNFINISHED` there.
        """

    @abstractmethod
    def delete(self, path: str) -> None:
        """Delete a file, or a folder with everything in it; do nothing if there is neither."""

    @abstractmethod
    def write_whole(self, path: str, write: Callable[[str], None], overwrite: bool) -> None:
        """Let `write` make a folder, which replaces what is at `path` once it is whole.

        Whatever fails or is killed, one whole copy stays: at `path`, or next to it. What `write` has made stays, too,
        if it cannot take its place.

        Parameters
        ----------
        path : str
        write : callable
            Writes the folder to the path that it is called with, where there is nothing.
        overwrite : bool
            Whether to replace what is at `path`.

        Raises
        ------
        FileExistsError
            Something is at `path`, perhaps only since `write` was called, and `overwrite` is false.
        """


class JobWatch(ABC):
    """A watch over the jobs that the calling thread starts between `start` and `stop`."""

    @abstractmethod
    def start(self) -> None:
        """Start to watch."""

    @abstractmethod
    def stop(self, cancel: bool) -> None:
        """Stop watching; with `cancel`, cancel the jobs that still run. Raises nothing: the session may be gone."""

    @abstractmethod
    def stages(self) -> list[tuple[int, int]]:
        """Tasks that are done and all tasks, for each stage that has begun, in the order of the stages."""


class Collector(ABC):
    """Values that workers report to the driver, which arrive as tasks end; a task that ran twice may report twice."""

    @property
    @abstractmethod
    def add(self) -> Callable[[list[Any]], None]:
        """What workers call with a list of values."""

    @property
    @abstractmethod
    def values(self) -> list[Any]:
        """The values that have arrived."""


class Engine(ABC):
    """What the library needs of a Spark session beyond DataFrames."""

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark

    @property
    @abstractmethod
    def slots(self) -> int:
        """Number of tasks that can run at once."""

    @property
    @abstractmethod
    def is_local(self) -> bool:
        """Whether all tasks run on the driver's machine, so that `slots` cannot grow."""

    @property
    @abstractmethod
    def scope(self) -> str:
        """The id within which weights are shared: what `share` returned for another scope cannot be used."""

    @property
    @abstractmethod
    def master(self) -> str:
        """Where the tasks run, such as local[2]; for display."""

    @property
    @abstractmethod
    def files(self) -> Files:
        """Files and folders."""

    @abstractmethod
    def quieten(self) -> None:
        """Log nothing; errors arrive as exceptions."""

    @abstractmethod
    def share(self, weights: Sequence[bytes]) -> WeightsOf:
        """Make the members' packed weights available to workers, where the result returns a member's weights."""

    @abstractmethod
    def for_workers(self, function: Callable[..., Any]) -> WorkerFunction:
        """A function of this package for workers, which refuse it if their package is not the driver's."""

    @property
    @abstractmethod
    def largest_frame(self) -> float:
        """Bytes of rows in this process that a DataFrame may be made from."""

    def place(self, frame: DataFrame, partition: Column, count: int) -> DataFrame:
        """Put each row into the partition, 0 to `count` - 1, that the int column `partition` names."""
        return place(frame, partition, count)

    @property
    def rows_per_batch(self) -> int | None:
        """Rows that Spark sends to Python in one batch, whatever their size; None if it also limits a batch's bytes."""
        return None

    def frame(self, table: pa.Table) -> DataFrame:
        """The rows of an Arrow table; of a large table, each batch is a partition."""
        return self._spark.createDataFrame(table)

    @contextmanager
    def keep(self, frame: DataFrame) -> Iterator[DataFrame]:
        """Compute a frame once, and keep it on the executors' disks while the context is open."""
        frame.persist(StorageLevel.DISK_ONLY)
        try:
            yield frame
        finally:
            frame.unpersist()

    @abstractmethod
    def watch_jobs(self) -> JobWatch:
        """A watch over the jobs of this thread."""

    @abstractmethod
    def collector(self) -> Collector | None:
        """A collector of values from workers; None if values cannot arrive before the job ends."""

    def live_reports(self) -> LiveReports | None:
        """A receiver of what members report while they train; None if workers cannot reach this process."""
        return None
