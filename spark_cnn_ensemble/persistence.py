"""What is on disk, its writer and reader.

An estimator is a folder `metadata/` (Spark's JSON). A model has beside it `members/`: Parquet rows (member, part,
bytes), a member's parts in order being one npz file. Metadata is written last. Everything is written beside the
target and renamed when it is whole, so that a failed save leaves what was there. Loading runs no code from a file.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Any

from pyspark.ml.param import Params
from pyspark.ml.util import DefaultParamsReader, DefaultParamsWriter, MLReader, MLWriter
from pyspark.sql import SparkSession

from spark_cnn_ensemble.filesystem import HadoopFiles
from spark_cnn_ensemble.transport import collect_weights
from spark_cnn_ensemble.worker.member import digest

FORMAT_VERSION = 1


def class_path(cls: type) -> str:
    """The name that a saved instance carries."""
    return f"{cls.__module__}.{cls.__name__}"


def refuse_existing(spark: SparkSession, path: str) -> None:
    """Refuse a path where there is something already.

    Raises
    ------
    FileExistsError
        Says what to do instead.
    """
    if HadoopFiles(spark).exists(path):
        raise FileExistsError(f"Path {path} exists already; choose another, or ask for it to be overwritten.")


def write_whole(spark: SparkSession, path: str, write: Callable[[str], None]) -> None:
    """Have `write` make a folder beside `path`, then move it there; what is there already goes last.

    Whatever fails, or is killed, one whole copy stays: at `path`, or for a moment at `path`.replaced-….
    """
    files, mark = HadoopFiles(spark), uuid.uuid4().hex[:12]
    path = path.rstrip("/")
    unfinished, replaced = f"{path}.saving-{mark}", f"{path}.replaced-{mark}"
    try:
        write(unfinished)
        if not files.exists(path):
            files.rename(unfinished, path)
            return
        files.rename(path, replaced)
        try:
            files.rename(unfinished, path)
        except BaseException:
            files.rename(replaced, path)
            raise
        files.delete(replaced)
    except BaseException:
        files.delete(unfinished)
        raise


class SafeWriter(MLWriter):
    """Writes an instance beside its target and moves it there when it is whole.

    Parameters
    ----------
    instance : Params
    extra : callable, optional
        Writes what is beside the metadata to a folder and returns what the metadata must know of it.
    """

    def __init__(self, instance: Params, extra: Callable[[SparkSession, str], dict[str, Any]] | None = None) -> None:
        super().__init__()
        self._instance = instance
        self._extra = extra

    def save(self, path: str) -> None:
        """Save to `path`, on any Hadoop filesystem.

        Raises
        ------
        FileExistsError
            There is something at `path` and `overwrite()` was not asked for.
        """
        if not self.shouldOverwrite:
            refuse_existing(self.sparkSession, path)
        write_whole(self.sparkSession, path, self.saveImpl)

    def saveImpl(self, path: str) -> None:
        """Write the folder; `save` has seen to what is there already."""
        extra = {"formatVersion": FORMAT_VERSION}
        if self._extra is not None:
            extra.update(self._extra(self.sparkSession, path))
        DefaultParamsWriter.saveMetadata(self._instance, path, self.sparkSession, extraMetadata=extra)


class SafeReader(MLReader[Any]):
    """Reads an instance of one class and checks that what is on disk is that, whole, and of a known format.

    Parameters
    ----------
    cls : type
    restore : callable, optional
        Makes the instance of the metadata; unset, the class is called without arguments.
    """

    def __init__(
        self, cls: type[Params], restore: Callable[[SparkSession, str, dict[str, Any]], Any] | None = None
    ) -> None:
        super().__init__()
        self._cls = cls
        self._restore = restore

    def load(self, path: str) -> Any:
        """Load from `path`, on any Hadoop filesystem.

        Raises
        ------
        FileNotFoundError
            There is no such folder.
        ValueError
            The folder holds something else, another format, or damaged weights.
        """
        path = path.rstrip("/")
        metadata = self._metadata(path)
        try:
            instance: Any = self._cls() if self._restore is None else self._restore(self.sparkSession, path, metadata)
            instance._resetUid(metadata["uid"])
            DefaultParamsReader.getAndSetParams(instance, metadata)
        except _Damage:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise _Damage(path, f"its metadata is not whole ({_reason(error)})") from None
        return instance

    def _metadata(self, path: str) -> dict[str, Any]:
        expected = class_path(self._cls)
        if not HadoopFiles(self.sparkSession).exists(path):
            raise FileNotFoundError(
                f"There is no folder {path}; give the path that a {self._cls.__name__} was saved to."
            )
        try:
            metadata = DefaultParamsReader.loadMetadata(path, self.sparkSession)
        except Exception as error:  # Spark's, Java's, json's or of the wrong type, by what is there instead
            raise ValueError(
                f"{path} is not a saved {self._cls.__name__}: its metadata cannot be read ({_reason(error)}); give the "
                "path of one, or save it again."
            ) from None
        if metadata.get("class") != expected:
            raise ValueError(f"{path} holds a {metadata.get('class')}, not a {expected}; load it with that class.")
        if metadata.get("formatVersion") != FORMAT_VERSION:
            raise ValueError(
                f"{path} is of format version {metadata.get('formatVersion')}, but this version of spark_cnn_ensemble "
                f"reads version {FORMAT_VERSION}; load it with the version that wrote it."
            )
        return metadata


class _Damage(ValueError):
    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"{path} is damaged: {what}; copy or save the model again.")


def _reason(error: Exception) -> str:
    """The first line of what an error says, Java's or Python's, without Spark's codes."""
    java = getattr(error, "java_exception", None)
    lines = str(error if java is None else java.getMessage()).strip().splitlines() or [type(error).__name__]
    return re.sub(r"^\[[A-Z_.]+\] |\.?\s*SQLSTATE: \w+$", "", lines[0]).rstrip(".")


def read_weights(spark: SparkSession, path: str, members: list[dict[str, Any]]) -> list[bytes]:
    """The packed weights of a saved model's members, each checked against its size and SHA-256.

    Parameters
    ----------
    members : list of dict
        From the metadata: size and sha256 of each member.

    Raises
    ------
    ValueError
        Weights are missing or not those that were saved.
    """
    try:
        sizes = {index: int(member["size"]) for index, member in enumerate(members)}
        weights = list(collect_weights(spark.read.parquet(f"{path}/members"), sizes).values())
    except Exception as error:  # a damaged file makes Spark and Java raise many kinds
        raise _Damage(path, f"its members cannot be read ({_reason(error)})") from None
    for index, (data, member) in enumerate(zip(weights, members, strict=True)):
        if len(data) != member["size"] or digest(data) != member["sha256"]:
            raise _Damage(path, f"the weights of member {index} are not those that were saved")
    return weights
