"""Files on any Hadoop filesystem: the one place that touches Hadoop's classes through the JVM."""

from __future__ import annotations

from typing import Any

from pyspark.sql import SparkSession


class HadoopFiles:
    """Whole folders: whether one exists, renaming and deleting it."""

    def __init__(self, spark: SparkSession) -> None:
        self._jvm: Any = spark.sparkContext._jvm
        self._configuration = spark.sparkContext._jsc.hadoopConfiguration()

    def _path(self, path: str) -> tuple[Any, Any]:
        hadoop_path = self._jvm.org.apache.hadoop.fs.Path(path)
        return hadoop_path.getFileSystem(self._configuration), hadoop_path

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder at `path`."""
        filesystem, target = self._path(path)
        return bool(filesystem.exists(target))

    def rename(self, source: str, target: str) -> None:
        """Rename a folder.

        Raises
        ------
        OSError
            The filesystem did not do it.
        """
        filesystem, old = self._path(source)
        if not filesystem.rename(old, self._path(target)[1]):
            raise OSError(f"Could not rename {source} to {target}.")

    def delete(self, path: str) -> None:
        """Delete a folder with all in it; nothing happens where there is none."""
        filesystem, target = self._path(path)
        filesystem.delete(target, True)
