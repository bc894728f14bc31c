"""Blocks of pixels as they arrive: in memory up to a limit, then in a file on the task's local disk.

The file has no name, so the system removes it when the process ends, however it ends. Called by `bag`.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO, Any

import numpy as np

from spark_cnn_ensemble.worker.pixels import narrowest
from spark_cnn_ensemble.worker.refusal import Refusal

_NOTHING = np.empty(0, np.uint8)
COPY_BYTES = 8 << 20  # copied at once between disk and memory


def local_folders() -> list[str]:
    """The folders that Spark gave this worker for temporary files."""
    return os.environ.get("SPARK_LOCAL_DIRS", tempfile.gettempdir()).split(",")


class PixelStore:
    """Images in the order of their arrival, as uint8 while that loses nothing, else as float32.

    Parameters
    ----------
    shape : tuple of int
        Height, width and channels.
    limit : int, optional
        Bytes to keep in memory; more goes to a file. None: no limit.
    folders : sequence of str, optional
        Where the file may be, tried in order; None: Spark's local directories.
    """

    def __init__(
        self, shape: tuple[int, int, int], limit: int | None = None, folders: Sequence[str] | None = None
    ) -> None:
        self._shape = shape
        self._limit = limit
        self._folders = list(local_folders() if folders is None else folders)
        self._type: Any = np.uint8
        self._blocks: list[np.ndarray] = []
        self._bytes = 0
        self._count = 0
        self._file: IO[bytes] | None = None

    @property
    def spilled(self) -> bool:
        """Whether the images are on disk."""
        return self._file is not None

    def append(self, block: np.ndarray) -> None:
        """Add images of shape (n, height, width, channels).

        Raises
        ------
        Refusal
            They fit neither in memory nor on disk.
        """
        block = narrowest(block)
        if block.dtype != self._type and len(block):
            if self._type == np.float32:
                block = block.astype(np.float32)
            else:
                self._widen()
        self._count += len(block)
        if self._file is not None:
            self._write(block)
            return
        self._blocks.append(block)
        self._bytes += block.nbytes
        if self._exceeds(self._bytes):
            self._spill()

    def arrange(self, order: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """The images of indices `order`, in that order; the store is empty afterwards.

        Returns
        -------
        images : numpy.ndarray
            Shape (n, height, width, channels); in memory, or a read-only map of the file.
        places : numpy.ndarray or None
            Where in `images` each one is; None: at its own index.
        """
        if self._file is not None:
            return np.memmap(self._file, self._type, "r", shape=(self._count, *self._shape)), order
        images = np.empty((len(order), *self._shape), self._type)
        place = np.full(self._count, -1, np.int64)
        place[order] = np.arange(len(order))
        begin = 0
        for index, block in enumerate(self._blocks):
            target = place[begin : begin + len(block)]
            images[target[target >= 0]] = block[target >= 0]
            begin += len(block)
            self._blocks[index] = block = _NOTHING  # each is released as soon as it has been copied
        return images, None

    def _exceeds(self, size: int) -> bool:
        return self._limit is not None and size > self._limit

    def _spill(self) -> None:
        self._open("")
        while self._blocks:
            self._write(self._blocks.pop(0))

    def _widen(self) -> None:
        self._type = np.float32
        if self._file is None and not self._exceeds(4 * self._bytes):
            self._bytes *= 4
            self._blocks = [block.astype(np.float32) for block in self._blocks]
            return
        if self._file is None:
            self._spill()  # as bytes: as floats they would first take four times the limit
        assert self._file is not None
        narrow = self._file
        self._open("")
        for data in _read(narrow):
            self._write(np.frombuffer(data, np.uint8).astype(np.float32))

    def _open(self, reason: str) -> None:
        """Open a file in the first folder that allows it."""
        while self._folders:
            try:
                self._file = tempfile.TemporaryFile(dir=self._folders[0], buffering=0)  # noqa: SIM115 - lives on
                return
            except OSError as error:
                reason = f"{self._folders.pop(0)}: {error.strerror}"
        raise Refusal(_no_room(reason or "Spark named no folder"))

    def _write(self, block: np.ndarray | bytes) -> None:
        data = memoryview(block if isinstance(block, bytes) else block.tobytes())
        while data:
            assert self._file is not None
            try:
                data = data[self._file.write(data) :]
            except OSError as error:
                # This folder is full: its file moves to the next one.
                full = self._file
                self._open(f"{self._folders.pop(0)}: {error.strerror}")
                for moved in _read(full):
                    self._write(moved)


def release(images: np.ndarray) -> None:
    """Release the pages of a file's map that were read: YARN would count them as this process's memory."""
    mapped = getattr(images, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def _read(file: IO[bytes]) -> Iterator[bytes]:
    """The content of a file, which is closed afterwards."""
    with file:
        file.seek(0)
        while data := file.read(COPY_BYTES):
            yield data


def _no_room(reason: str) -> str:
    return (
        f"A bag exceeds maxMemoryInMB and does not fit on the local disk of its task ({reason}); free the disk, point "
        "spark.local.dir to a larger one, raise maxMemoryInMB, or set a smaller subsamplingRate or more members."
    )
