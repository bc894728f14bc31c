"""Files on any Hadoop filesystem, through a classic session's JVM."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

from spark_cnn_ensemble.engine.errors import reason
from spark_cnn_ensemble.engine.failures import in_a_sentence
from spark_cnn_ensemble.engine.interface import Entry, Files
from spark_cnn_ensemble.engine.paths import path_exists


class HadoopFiles(Files):
    """See `Files`."""

    def __init__(self, spark: SparkSession) -> None:
        super().__init__(spark)
        self._jvm: Any = spark.sparkContext._jvm

    def _path(self, path: str) -> tuple[Any, Any]:
        hadoop_path = self._jvm.org.apache.hadoop.fs.Path(path)
        # With what is set on the session, as Spark's readers and writers have it.
        configuration = self._spark._jsparkSession.sessionState().newHadoopConf()
        return hadoop_path.getFileSystem(configuration), hadoop_path

    def exists(self, path: str) -> bool:
        with in_a_sentence():
            filesystem, target = self._path(path)
            return bool(filesystem.exists(target))

    def qualified(self, path: str) -> str:
        with suppress(OSError):  # Spark has no filesystem for it
            with in_a_sentence():
                filesystem, target = self._path(path)
                whole = str(filesystem.makeQualified(target).toString())
                local = str(target.toUri().getPath())
            return f"file:{os.path.realpath(local)}" if filesystem.getUri().getScheme() == "file" else whole
        return path

    def matches(self, pattern: str) -> list[Entry]:
        with in_a_sentence():
            filesystem, target = self._path(pattern)
            found = filesystem.globStatus(target) or []
            return [Entry(one.getPath().toString(), one.getModificationTime() / 1000) for one in found]

    def check_writable(self, path: str) -> None:
        with in_a_sentence():
            filesystem, folder = self._path(self._behind_link(path))
            while (folder := folder.getParent()) is not None and not filesystem.exists(folder):
                pass
            if folder is None:
                return
            if not filesystem.getFileStatus(folder).isDirectory():
                raise OSError(f"{folder.toUri().getPath()} is a file; choose a path that is not below it.")
            probe = self._jvm.org.apache.hadoop.fs.Path(folder, f".{uuid.uuid4().hex}")
            try:
                filesystem.create(probe, False).close()
                filesystem.delete(probe, False)
            except Py4JError as error:
                why = reason(error).removeprefix(str(probe.toUri().getPath())).strip(" ()")
                raise OSError(
                    f"Nothing can be written to {folder.toUri().getPath()} ({why}); check its permissions, or "
                    "choose another folder."
                ) from None

    def add(self, folder: str, name: str, line: str) -> bool:
        path, unfinished = f"{folder}/{name}", f"{folder}/.{name}.{uuid.uuid4().hex}"
        with in_a_sentence():
            filesystem, source = self._path(unfinished)
            try:
                stream = filesystem.create(source, False)
                try:
                    stream.write(bytearray(f"{line}\n".encode()))
                finally:
                    stream.close()
                found = filesystem.resolvePath(source).toUri()
                if found.getScheme() == "file":
                    with suppress(OSError):  # the disk has no hard links
                        return _link(Path(found.getPath()), name)
                # The look is for filesystems whose rename replaces a file.
                return not self.exists(path) and bool(filesystem.rename(source, self._path(path)[1]))
            finally:
                with suppress(Exception):  # the first error says more
                    filesystem.delete(source, False)

    def delete(self, path: str) -> None:
        with in_a_sentence():
            filesystem, target = self._path(path)
            filesystem.delete(target, True)

    def write_whole(self, path: str, write: Callable[[str], None], overwrite: bool) -> None:
        target = self._behind_link(path)
        mark = uuid.uuid4().hex[:12]
        whole, replaced = f"{target}.saving-{mark}", f"{target}.replaced-{mark}"
        try:
            write(whole)
        except BaseException:
            with suppress(OSError):  # the first error says more
                self.delete(whole)
            raise
        if not self.exists(target):
            self._rename(whole, target)
            return
        if not overwrite:
            raise path_exists(path, whole)
        self._rename(target, replaced)
        try:
            self._rename(whole, target)
        except BaseException:
            self._rename(replaced, target)
            raise
        self.delete(replaced)

    def _behind_link(self, path: str) -> str:
        """The path to which a link on a local disk leads, where perhaps nothing is yet; other paths as they are."""
        with in_a_sentence():
            filesystem, target = self._path(path)
            local = str(target.toUri().getPath())
            if filesystem.getUri().getScheme() != "file" or not os.path.islink(local):
                return path
            return f"file:{os.path.realpath(local)}"

    def _rename(self, source: str, target: str) -> None:
        with in_a_sentence():
            filesystem, old = self._path(source)
            # Some filesystems would move the folder into one that is there.
            if self.exists(target) or not filesystem.rename(old, self._path(target)[1]):
                raise OSError(
                    f"{source} could not be renamed to {target}; check that nothing is there, and that its folder is "
                    "writable."
                )


def _link(source: Path, name: str) -> bool:
    """Give a file of a local disk, and its checksum, another name; returns False if a file has it.

    Hadoop's rename would replace that file, and of two at once leave the one with the checksum of the other.
    """
    try:
        os.link(source, source.with_name(name))
    except FileExistsError:
        return False
    with suppress(OSError):  # a file can be read without a checksum
        os.link(source.with_name(f".{source.name}.crc"), source.with_name(f".{name}.crc"))
    return True
