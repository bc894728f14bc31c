"""Files on any Hadoop filesystem, through a classic session's JVM."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from py4j.protocol import Py4JError
from pyspark import SparkContext
from pyspark.errors import PySparkException

from spark_cnn_ensemble.engine.errors import reason
from spark_cnn_ensemble.engine.failures import failure
from spark_cnn_ensemble.engine.interface import Files


class HadoopFiles(Files):
    """See `Files`."""

    def __init__(self, context: SparkContext) -> None:
        self._jvm: Any = context._jvm
        self._configuration = context._jsc.hadoopConfiguration()

    def _path(self, path: str) -> tuple[Any, Any]:
        hadoop_path = self._jvm.org.apache.hadoop.fs.Path(path)
        return hadoop_path.getFileSystem(self._configuration), hadoop_path

    def exists(self, path: str) -> bool:
        with _in_a_sentence():
            filesystem, target = self._path(path)
            return bool(filesystem.exists(target))

    def matches(self, pattern: str) -> bool:
        with _in_a_sentence():
            filesystem, target = self._path(pattern)
            return bool(filesystem.globStatus(target))

    def check_writable(self, path: str) -> None:
        with _in_a_sentence():
            filesystem, folder = self._path(path)
            while (folder := folder.getParent()) is not None and not filesystem.exists(folder):
                pass
            if folder is None:
                return
            if not filesystem.getFileStatus(folder).isDirectory():
                raise OSError(f"{folder.toUri().getPath()} is a file, so that nothing can be written below it.")
            probe = self._jvm.org.apache.hadoop.fs.Path(folder, f".{self._jvm.java.util.UUID.randomUUID().toString()}")
            try:
                filesystem.create(probe, False).close()
                filesystem.delete(probe, False)
            except Py4JError as error:
                why = reason(error).removeprefix(str(probe.toUri().getPath())).strip(" ()")
                raise OSError(
                    f"Nothing can be written to {folder.toUri().getPath()} ({why}); check its permissions, or "
                    "choose another folder."
                ) from None

    def rename(self, source: str, target: str) -> None:
        with _in_a_sentence():
            filesystem, old = self._path(source)
            if not filesystem.rename(old, self._path(target)[1]):
                raise OSError(f"Could not rename {source} to {target}.")

    def delete(self, path: str) -> None:
        with _in_a_sentence():
            filesystem, target = self._path(path)
            filesystem.delete(target, True)

    def write_new(self, path: str, text: str) -> bool:
        with _in_a_sentence():
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
        with _in_a_sentence():
            filesystem, source = self._path(path)
            stream = filesystem.open(source)
            try:
                return bytes(stream.readAllBytes()).decode()
            except Py4JError as error:
                if "ChecksumException" in str(error):
                    raise ValueError(f"{path} does not match its checksum.") from None
                raise
            finally:
                stream.close()


@contextmanager
def _in_a_sentence() -> Iterator[None]:
    """Turn an error of the JVM's into an OSError with one sentence."""
    try:
        yield
    except (Py4JError, PySparkException) as error:
        raise OSError(failure(error)) from None
