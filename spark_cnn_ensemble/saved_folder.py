"""A folder that holds one saved instance, and is overwritten without a rename of it.

    path/
      metadata/               one text file per generation: Spark's JSON, and `generation` and `save`
      members/save=<save>/    the weights that a generation names; `members/` itself in a model of version 0.1

A save writes its members to a folder of its own, and then adds one file to `metadata/`. That file is the commit: a save
that fails before it leaves the old generation as it was, and readers take the newest. What no generation names any more
is deleted afterwards. This needs no rename of a folder, which object stores and Spark Connect do not have.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pyspark.sql import SparkSession

from spark_cnn_ensemble.engine import engine_of
from spark_cnn_ensemble.engine.interface import UNFINISHED, Entry
from spark_cnn_ensemble.engine.paths import path_exists, refuse_pattern

_ORPHANED = 24 * 3600.0  # seconds after which a folder that no generation names is not of a save that still runs
_SAVE = re.compile(r"[0-9a-f]{12}")
_FOLDER_OF_SAVE = re.compile(r"members/save=[0-9a-f]{12}")


class SavedFolder:
    """The folder of a saved estimator or model.

    Parameters
    ----------
    spark : SparkSession
    path : str
        On any filesystem that Spark can reach.
    """

    def __init__(self, spark: SparkSession, path: str) -> None:
        self._spark = spark
        self._path = path.rstrip("/")
        self._files = engine_of(spark).files

    def newest(self) -> dict[str, Any]:
        """The metadata of the newest generation.

        Raises
        ------
        Exception
            The folder has no metadata, or it cannot be read; Spark, Java and json raise many kinds.
        """
        generations = self._generations()
        if not generations:
            raise ValueError("it is empty")
        return generations[0][0]

    def members_folder(self, metadata: dict[str, Any]) -> str:
        """The path of the members of a generation.

        Raises
        ------
        ValueError
            The metadata is not what `save` writes.
        """
        folder = _folder(metadata)
        # Spark would read the folders of later saves, and not the files of version 0.1 next to them.
        return f"{self._path}/{folder}/part-*" if folder == "members" else f"{self._path}/{folder}"

    def save(self, write: Callable[[str], dict[str, Any]], overwrite: bool) -> None:
        """Add a generation, and delete older ones.

        Parameters
        ----------
        write : callable
            Writes the members to the folder that it is called with, and returns the metadata.
        overwrite : bool
            Whether to replace what is there, whatever it is.

        Raises
        ------
        FileExistsError
            Something is at the path, or another save has just come first, and `overwrite` is false.
        ValueError
            The path has a character of a pattern.
        """
        try:
            check_target(self._spark, self._path, overwrite)
        except FileExistsError:
            if not _unfinished(self._spark, self._path):
                raise
        generation = self._last_generation()
        if generation is None:

            def write_apart(path: str) -> None:
                SavedFolder(self._spark, path).save(write, overwrite=False)

            self._files.write_whole(self._path, write_apart, overwrite)
            return
        save = uuid.uuid4().hex[:12]
        try:
            metadata = {**write(f"{self._path}/members/save={save}"), "save": save}
            while not self._commit({**metadata, "generation": generation + 1}):
                if not overwrite:
                    raise path_exists(self._path)
                generation = self._number(self.newest())
        except BaseException:
            with suppress(Exception):  # the reason of the failure matters more
                self._abandon(save)
            raise
        with suppress(Exception):  # a clean-up that fails does not undo the save
            self._clean(save)

    def _commit(self, metadata: dict[str, Any]) -> bool:
        """Add a generation; returns False if another save has added one of the same number first."""
        number = self._number(metadata)
        line = json.dumps(metadata, separators=(",", ":"))
        if not self._files.add(f"{self._path}/metadata", f"part-{number:010d}.txt", line):
            return False
        # Where an engine cannot prevent a second file, the first counts. A later generation may have replaced both.
        generations = [one for one, _ in self._generations()]
        first = next((one for one in generations if self._number(one) == number), None)
        return self._number(generations[0]) > number if first is None else first["save"] == metadata["save"]

    def _abandon(self, save: str) -> None:
        """Delete what a save has written, unless it was committed."""
        generations = self._generations() if self._files.exists(f"{self._path}/metadata") else []
        if save in [one.get("save") for one, _ in generations]:
            return
        self._files.delete(f"{self._path}/members/save={save}")
        if not generations and not self._files.matches(f"{self._path}/members/*"):
            self._files.delete(self._path)

    def _clean(self, save: str) -> None:
        """Delete older generations than that of `save`, and members of saves that ended without a commit.

        A save that came second to a number will commit the same members under the next one, so it stays.
        """
        generations = self._generations()
        number = next(self._number(one) for one, _ in generations if one.get("save") == save)
        older = [(one, entry) for one, entry in generations if self._number(one) < number]
        kept = {_folder(one) for one, _ in generations if self._number(one) >= number}
        replaced = {_folder(one) for one, _ in older} - kept
        for _, entry in older:
            self._files.delete(entry.path)
        running = False
        for entry in self._files.matches(f"{self._path}/members/*"):
            found = _FOLDER_OF_SAVE.search(entry.path)
            if found is None:  # of version 0.1, whose files are next to the folders
                if "members" in replaced:
                    self._files.delete(entry.path)
                continue
            folder = found.group()
            orphaned = folder not in kept and time.time() - entry.modified > _ORPHANED
            if folder in replaced or orphaned:
                self._files.delete(f"{self._path}/{folder}")
            running = running or not (folder in kept or folder in replaced or orphaned)
        if not running:
            self._files.delete(f"{self._path}/metadata/{UNFINISHED}")

    @staticmethod
    def _number(metadata: dict[str, Any]) -> int:
        """The number of a generation; 0 for what version 0.1 wrote."""
        return int(metadata.get("generation", 0))

    def _generations(self) -> list[tuple[dict[str, Any], Entry]]:
        """Metadata and its file, the newest generation first; of two with one number, the one that was added first."""
        found = [(json.loads(entry.text), entry) for entry in self._metadata_lines()]
        if not all(isinstance(metadata, dict) and "class" in metadata for metadata, _ in found):
            raise ValueError("it names no class")
        return sorted(found, key=lambda one: (-self._number(one[0]), one[1].modified, one[1].path))

    def _metadata_lines(self) -> list[Entry]:
        pattern = f"{self._path}/metadata/part-*"
        while True:
            before = self._files.matches(pattern)
            try:
                if lines := self._files.lines(f"{self._path}/metadata"):
                    return lines
                if self._files.matches(pattern) == before:
                    return []
            except Exception:
                # Another save may have deleted a file since Spark listed the folder.
                if self._files.matches(pattern) == before:
                    raise

    def _last_generation(self) -> int | None:
        """The number of the newest generation, 0 if there is none; None if something else is at the path."""
        if not self._files.exists(self._path):
            return 0
        try:
            generations = self._generations()
        except Exception:  # Spark, Java and json raise many kinds, by what the folder holds instead
            return 0 if _unfinished(self._spark, self._path) else None
        if not generations:
            return 0
        ours = str(generations[0][0].get("class")).startswith("spark_cnn_ensemble.")
        return self._number(generations[0][0]) if ours else None


def _folder(metadata: dict[str, Any]) -> str:
    """The folder of the members of a generation, relative to the path."""
    if "save" not in metadata:
        return "members"  # of version 0.1
    if not _SAVE.fullmatch(metadata["save"]):
        raise ValueError("its save is not 12 hex digits")
    return f"members/save={metadata['save']}"


def check_target(spark: SparkSession, path: str, overwrite: bool) -> None:
    """Refuse to write to a path that exists, or that Spark would read as a pattern.

    Raises
    ------
    FileExistsError
        `path` exists and `overwrite` is false.
    ValueError
        `path` contains a character of a pattern.
    """
    refuse_pattern(path, "Path")
    if not overwrite and engine_of(spark).files.exists(path):
        raise path_exists(path)


def check_writable(spark: SparkSession, path: str, name: str) -> None:
    """Refuse a path that nothing can be written to, before the work whose result is to be written there.

    Parameters
    ----------
    name : str
        What the message calls the path.

    Raises
    ------
    OSError
        A folder above the path is a file, nothing can be written there, or Spark has no jar for the filesystem.
    """
    try:
        engine_of(spark).files.check_writable(path)
    except OSError as error:
        raise OSError(f"{name} '{path}' cannot be used: {error}") from None


def _unfinished(spark: SparkSession, path: str) -> bool:
    """Whether a folder holds what saves have begun and not committed, and nothing else."""
    files = engine_of(spark).files
    if files.matches(f"{path}/metadata/part-*"):
        return False
    return any(files.matches(f"{path}/{name}") for name in ("members/save=*", "metadata/.part-*"))
