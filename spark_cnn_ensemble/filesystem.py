"""Files on any Hadoop filesystem: the one place that touches Hadoop's classes through the JVM."""

from __future__ import annotations

from typing import Any

from pyspark.sql import SparkSession


def refuse_pattern(path: str, name: str) -> None:
    """Refuse a path that Spark would write to as it stands, but read as a pattern.

    Parameters
    ----------
    path : str
    name : str
        How the message calls it.

    Raises
    ------
    ValueError
        The path has one of the characters * ? [ ] { }.
    """
    if set(path) & set("*?[]{}"):
        raise ValueError(
            f"{name} '{path}' has a character that Spark reads as a pattern (* ? [ ] {{ }}); choose another."
        )


class HadoopFiles:
    """Whole files and folders: whether they exist, renaming and deleting them, and small texts."""

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

    def matches(self, pattern: str) -> bool:
        """Whether any file or folder is of a pattern, such as folder/name=*."""
        filesystem, target = self._path(pattern)
        return bool(filesystem.globStatus(target))

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
        """Delete a file, or a folder with all in it; nothing happens where there is none."""
        filesystem, target = self._path(path)
        filesystem.delete(target, True)

    def write_new(self, path: str, text: str) -> bool:
        """Write a text file at once; False, and nothing done, where there is one already."""
        unfinished = f"{path}.{self._jvm.java.util.UUID.randomUUID().toString()}"
        filesystem, source = self._path(unfinished)
        stream = filesystem.create(source, False)
        try:
            stream.write(bytearray(text.encode()))
        finally:
            stream.close()
        if not filesystem.exists(self._path(path)[1]) and filesystem.rename(source, self._path(path)[1]):
            return True
        filesystem.delete(source, False)
        return False

    def read(self, path: str) -> str:
        """The text of a small file."""
        filesystem, source = self._path(path)
        stream = filesystem.open(source)
        try:
            return bytes(stream.readAllBytes()).decode()
        finally:
            stream.close()
