"""Files on any Hadoop filesystem, through a classic session's JVM."""

from __future__ import annotations

from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark import SparkContext

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
        filesystem, target = self._path(path)
        return bool(filesystem.exists(target))

    def matches(self, pattern: str) -> bool:
        filesystem, target = self._path(pattern)
        return bool(filesystem.globStatus(target))

    def rename(self, source: str, target: str) -> None:
        filesystem, old = self._path(source)
        if not filesystem.rename(old, self._path(target)[1]):
            raise OSError(f"Could not rename {source} to {target}.")

    def delete(self, path: str) -> None:
        filesystem, target = self._path(path)
        filesystem.delete(target, True)

    def write_new(self, path: str, text: str) -> bool:
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
        filesystem, source = self._path(path)
        stream = filesystem.open(source)
        try:
            return bytes(stream.readAllBytes()).decode()
        except Py4JJavaError as error:
            if "ChecksumException" in str(error):
                raise ValueError(f"{path} does not match its checksum.") from None
            raise
        finally:
            stream.close()
