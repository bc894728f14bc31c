"""The saved form of estimators and models: its writer and its reader.

An estimator is a folder with `metadata/` (Spark's JSON). A model also has `members/`: Parquet rows (member, part,
bytes); a member's parts in order are one npz file. `saved_folder` says how a folder is overwritten.

A file may come from anyone. Loading runs no code from it, imports nothing that it names, follows no path in it, and
allocates no memory for a size that it only claims.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from typing import Any

from pyspark.ml.param import Params
from pyspark.ml.util import DefaultParamsReader, DefaultParamsWriter, MLReader, MLWriter
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_cnn_ensemble.checked import shortened
from spark_cnn_ensemble.engine import engine_of
from spark_cnn_ensemble.engine.errors import reason
from spark_cnn_ensemble.engine.failures import failure, from_spark
from spark_cnn_ensemble.engine.paths import path_text
from spark_cnn_ensemble.engine.shared_weights import collect_weights
from spark_cnn_ensemble.saved_folder import SavedFolder
from spark_cnn_ensemble.worker.weights import PART_BYTES, PARTS_SCHEMA, check_packed, digest

FORMAT_VERSION = 1

_UID = re.compile(r"[\w.-]{1,200}")  # becomes a folder's name when a pipeline is saved, so it must not be a path


def class_path(cls: type) -> str:
    """The class name in the metadata of a saved instance."""
    return f"{cls.__module__}.{cls.__name__}"


class SafeWriter(MLWriter):
    """Writes an instance so that a save that fails leaves what was there.

    Parameters
    ----------
    instance : Params
    write_members : callable, optional
        Writes the members to a folder, and returns entries for the metadata.
    """

    def __init__(
        self, instance: Params, write_members: Callable[[SparkSession, str], dict[str, Any]] | None = None
    ) -> None:
        super().__init__()
        self._instance = instance
        self._write_members = write_members

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save to a folder.

        Parameters
        ----------
        path : str or pathlib.Path
            On any filesystem that Hadoop knows.

        Raises
        ------
        FileExistsError
            `path` exists and `overwrite()` was not called.
        OSError
            Nothing can be written to `path`, or Spark has no jar for its filesystem.
        ValueError
            Spark would read the path as a pattern.
        """
        path = path_text(path)
        try:
            SavedFolder(self.sparkSession, path).save(self._write, self.shouldOverwrite)
        except Exception as error:
            if not from_spark(error):
                raise
            raise OSError(f"Could not save to {path}: {failure(error)}") from error

    def saveImpl(self, path: str) -> None:
        """Write a new folder at `path`; callers that handle overwriting themselves use this."""
        SavedFolder(self.sparkSession, path).save(self._write, overwrite=False)

    def _write(self, members: str) -> dict[str, Any]:
        extra = {"formatVersion": FORMAT_VERSION}
        if self._write_members is not None:
            extra.update(self._write_members(self.sparkSession, members))
        metadata = DefaultParamsWriter._get_metadata_to_save(self._instance, self.sparkSession, extra)
        return dict(json.loads(metadata))


class SafeReader(MLReader[Any]):
    """Reads an instance of one class, after checks that the folder holds it, whole and in a known format.

    Parameters
    ----------
    cls : type
    restore : callable, optional
        Makes the instance from a function that reads the members' weights (see `read_weights`), and the metadata;
        default: calls the class without arguments.
    """

    def __init__(
        self,
        cls: type[Params],
        restore: Callable[[Callable[[list[dict[str, Any]]], list[bytes]], dict[str, Any]], Any] | None = None,
    ) -> None:
        super().__init__()
        self._cls = cls
        self._restore = restore

    def load(self, path: str | os.PathLike[str]) -> Any:
        """Load from a folder.

        Parameters
        ----------
        path : str or pathlib.Path
            On any filesystem that Hadoop knows.

        Returns
        -------
        estimator or model

        Raises
        ------
        FileNotFoundError
            The folder does not exist.
        OSError
            Spark has no jar for the path's filesystem, or cannot reach it.
        ValueError
            The folder holds something else, an unknown format, damaged metadata or damaged weights.
        """
        path = path_text(path).rstrip("/")
        metadata = self._metadata(path)
        while True:
            try:
                return self._instance(path, metadata)
            except ValueError:
                # A save that overwrites the folder deletes what it replaced, also while it is being read.
                before, metadata = metadata, self._metadata(path)
                if metadata == before:
                    raise

    def _instance(self, path: str, metadata: dict[str, Any]) -> Any:
        try:
            if not _UID.fullmatch(metadata["uid"]):
                raise ValueError("its uid is not a valid name")
            if self._restore is None:
                instance: Any = self._cls()
            else:
                members = SavedFolder(self.sparkSession, path).members_folder(metadata)
                instance = self._restore(lambda each: read_weights(self.sparkSession, path, members, each), metadata)
            instance._resetUid(metadata["uid"])
            DefaultParamsReader.getAndSetParams(instance, metadata)
        except _Damage:
            raise
        except Exception as error:  # values of unexpected types raise many kinds
            raise _Damage(path, f"its metadata is damaged ({reason(error)})") from None
        return instance

    def _metadata(self, path: str) -> dict[str, Any]:
        expected = class_path(self._cls)
        if not engine_of(self.sparkSession).files.exists(path):
            raise FileNotFoundError(
                f"Folder {path} does not exist; pass the path that a {self._cls.__name__} was saved to."
            )
        try:
            metadata = SavedFolder(self.sparkSession, path).newest()
        except Exception as error:  # Spark, Java and json raise many kinds, by what the folder holds instead
            raise ValueError(
                f"{path} is not a saved {self._cls.__name__}: its metadata cannot be read ({reason(error)}); pass the "
                "path of one, or save it again."
            ) from None
        if metadata.get("class") != expected:
            found = shortened(metadata.get("class"))
            raise ValueError(f"{path} holds a {found}, not a {expected}; load it with that class.")
        if metadata.get("formatVersion") != FORMAT_VERSION:
            version = shortened(metadata.get("formatVersion"))
            raise ValueError(
                f"{path} has format version {version}, but this version of spark_cnn_ensemble reads "
                f"version {FORMAT_VERSION}; load it with the version that wrote it."
            )
        return metadata


class _Damage(ValueError):
    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"{path} is damaged: {what}; copy or save the model again.")


def read_weights(spark: SparkSession, path: str, folder: str, members: list[dict[str, Any]]) -> list[bytes]:
    """The packed weights of a saved model's members, each checked against its size and SHA-256.

    Parameters
    ----------
    path : str
        The model, for messages.
    folder : str
        The folder of its weights.
    members : list of dict
        From the metadata: size and sha256 of each member.

    Raises
    ------
    ValueError
        Weights are missing, or differ from those that were saved.
    """
    try:
        sizes = {index: int(member["size"]) for index, member in enumerate(members)}
        parts = spark.read.schema(PARTS_SCHEMA).parquet(folder)
        _check_parts(path, parts, sizes)
        weights = list(collect_weights(parts, sizes).values())
    except _Damage:
        raise
    except Exception as error:  # damaged files make Spark and Java raise many kinds
        raise _Damage(path, f"its members cannot be read ({reason(error)})") from None
    for index, (data, member) in enumerate(zip(weights, members, strict=True)):
        if len(data) != member["size"] or digest(data) != member["sha256"]:
            raise _Damage(path, _not_saved(index))
        try:
            check_packed(data)
        except ValueError as error:
            raise _Damage(path, f"the weights of member {index} cannot be read ({reason(error)})") from None
    return weights


def _check_parts(path: str, parts: DataFrame, sizes: dict[int, int]) -> None:
    """Check the parts' numbers and sizes on the executors, before the driver collects any of them."""
    length = F.length("bytes")
    checks = (F.count("part"), F.min("part"), F.max("part"), F.max(length), F.sum(length), F.count(F.lit(1)))
    rows = parts.groupBy("member").agg(*checks).limit(len(sizes) + 1).collect()
    measured = {row[0]: tuple(row[1:]) for row in rows}
    for index, size in sizes.items():
        count = -(-size // PART_BYTES)
        if measured.get(index) != (count, 0, count - 1, min(size, PART_BYTES), size, count):
            raise _Damage(path, _not_saved(index))
    if set(measured) != set(sizes):
        raise _Damage(path, "it holds weights of members that its metadata does not name")


def _not_saved(member: int) -> str:
    return f"the weights of member {member} differ from those that were saved"
