"""The interface between the library and a kind of Spark session."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from pyspark.sql import Column, DataFrame

from spark_cnn_ensemble.worker.weights import WeightsOf


class Files(ABC):
    """Whole files and folders on any filesystem that Spark can reach.

    Every method raises OSError with one sentence if the filesystem has no jar, cannot be reached or refuses.
    """

    @abstractmethod
    def exists(self, path: str) -> bool:
        """Whether there is a file or folder at `path`."""

    @abstractmethod
    def matches(self, pattern: str) -> bool:
        """Whether any file or folder matches a pattern, such as folder/name=*."""

    @abstractmethod
    def check_writable(self, path: str) -> None:
        """Refuse a path at which no file or folder can be made; leaves nothing behind.

        Raises
        ------
        OSError
            A folder above `path` is a file, or nothing can be written to it.
        """

    @abstractmethod
    def rename(self, source: str, target: str) -> None:
        """Rename a folder.

        Raises
        ------
        OSError
            The filesystem refused.
        """

    @abstractmethod
    def delete(self, path: str) -> None:
        """Delete a file, or a folder with everything in it; do nothing if there is neither."""

    @abstractmethod
    def write_new(self, path: str, text: str) -> bool:
        """Write a text file in one step; returns False and writes nothing if the file exists."""

    @abstractmethod
    def read(self, path: str) -> str:
        """The text of a small file.

        Raises
        ------
        ValueError
            The file does not match its checksum, or is not text.
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
    def tasks(self) -> list[tuple[int, int]]:
        """Tasks that are done and all tasks, for each job, in the order of the jobs."""


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
    def application(self) -> str:
        """The application's id; what is shared within one application cannot be used in another."""

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
    def place(self, frame: DataFrame, partition: Column, count: int) -> DataFrame:
        """Put each row into the partition, 0 to `count` - 1, that the int column `partition` names."""

    @abstractmethod
    def keep(self, frame: DataFrame) -> AbstractContextManager[DataFrame]:
        """Compute a frame once, and keep it on the executors' disks while the context is open."""

    @abstractmethod
    def watch_jobs(self) -> JobWatch:
        """A watch over the jobs of this thread."""

    @abstractmethod
    def collector(self) -> Collector:
        """A collector of values from workers."""
