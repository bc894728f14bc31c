"""Compressed text: gzip, bzip2 and zstd files as streams, and the names of those that cannot be read.

Called by `files` on executors and by `reader` on the driver.
"""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa

from spark_cnn_ensemble.worker.refusal import Refusal

_CODECS = {"gz": "gzip", "gzip": "gzip", "bz2": "bz2", "zst": "zstd", "zstd": "zstd"}
_ARCHIVE = re.compile(r"\.(tar(\.\w+)?|tgz|tbz2?|txz|zip|7z|rar|npz)$", re.IGNORECASE)
_UNREADABLE = re.compile(r"\.(xz|lzma|lz4|lzo|snappy|sz|br|z|deflate)$", re.IGNORECASE)


def codec_of(name: str) -> str | None:
    """The codec in pyarrow's terms of a file, by the end of its name; None for a file that is not compressed."""
    return _CODECS.get(name.rpartition(".")[2].lower()) if "." in name else None


def unreadable_by_name(name: str) -> str | None:
    """Why a file cannot be read and what to do, for a message; None if its name does not say so."""
    if _ARCHIVE.search(name):
        return "is an archive; unpack it, and move it to another folder"
    if _UNREADABLE.search(name):
        return "has a compression that is not read here; compress it with gzip, bzip2 or zstd instead, or unpack it"
    return None


class Uncompressed:
    """The text of a compressed file, read from its start; it can go back as far as its last read began.

    Parameters
    ----------
    file : pyarrow.NativeFile
        The compressed file.
    codec : str
    name : str
        The file's name in messages.
    """

    def __init__(self, file: Any, codec: str, name: str) -> None:
        self._stream = pa.CompressedInputStream(file, codec)
        self._name = name
        self._last = b""  # what the last read gave
        self._end = 0  # offset of the end of what was read from the stream
        self._at = 0

    def seek(self, offset: int) -> None:
        """Set the offset of the next read."""
        if not self._end - len(self._last) <= offset <= self._end:
            raise ValueError(f"Offset {offset} is not in the last read.")
        self._at = offset

    def read(self, size: int) -> bytes:
        """At most `size` bytes; fewer only at the end of the text.

        Raises
        ------
        Refusal
            The compressed bytes are damaged or cut short.
        """
        again = self._last[len(self._last) - (self._end - self._at) :]
        new = b""
        if len(again) < size:
            try:
                new = self._stream.read(size - len(again))
            except OSError as error:
                raise Refusal(f"{self._name} is damaged or cut short ({error}); copy or compress it again.") from None
        self._end += len(new)
        self._last = again + new
        self._at = min(self._at + size, self._end)
        return self._last[:size]

    def __enter__(self) -> Uncompressed:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
