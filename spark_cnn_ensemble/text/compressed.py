"""Text that is read from its start only, such as that of gzip, bzip2 and zstd files.

Here too: which names say what compresses a file. Called by `files` and `forwarded` on executors, and on the driver.
"""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa

from spark_cnn_ensemble.worker.refusal import Refusal

_HEAD = 64  # bytes that show what a file is
_CODECS = {"gz": "gzip", "gzip": "gzip", "bz2": "bz2", "zst": "zstd", "zstd": "zstd"}
_ARCHIVE = re.compile(r"\.(tar(\.\w+)?|tgz|tbz2?|txz|zip|7z|rar|npz)$", re.IGNORECASE)
_UNREADABLE = re.compile(r"\.(xz|lzma|lz4|lzo|snappy|sz|br|z|deflate)$", re.IGNORECASE)


def codec_of(name: str) -> str | None:
    """The codec in pyarrow's terms of a file, by the end of its name; None for a file that is not compressed."""
    return _CODECS.get(name.rpartition(".")[2].lower()) if "." in name else None


def check_names(root: str, names: list[str]) -> None:
    """Refuse files that cannot be read, by their names, and a file next to its compressed copy.

    Raises
    ------
    ValueError
    """
    texts: dict[str, str] = {}
    for name in sorted(names):
        if why := _unreadable_by_name(name):
            raise ValueError(f"{name} in {root} {why}.")
    for name in sorted(names):
        text = name.rpartition(".")[0] if codec_of(name) else name
        if (other := texts.setdefault(text, name)) != name:
            raise ValueError(f"{other} and {name} are both in {root}, so rows may be read twice; keep one of them.")


def _unreadable_by_name(name: str) -> str | None:
    """Why a file cannot be read and what to do, for a message; None if its name does not say so."""
    if _ARCHIVE.search(name):
        return "is an archive; unpack it, and move it to another folder"
    if _UNREADABLE.search(name):
        return "has a compression that is not read here; compress it with gzip, bzip2 or zstd instead, or unpack it"
    return None


class ForwardText:
    """The text of a file that can be read once, from its start; it can go back to where the last `seek` went.

    Parameters
    ----------
    file : file object
        The file's bytes.
    codec : str or None
        What compresses them.
    name : str
        The file's name in messages.
    """

    def __init__(self, file: Any, codec: str | None, name: str) -> None:
        self._stream = pa.CompressedInputStream(file, codec) if codec else file
        self._name = name
        self._kept = b""  # the text that was read, from `_start` on
        self._start = 0
        self._at = 0
        self._lines = 0  # line ends before `_start`
        self.head = b""  # the first bytes of the text

    def seek(self, offset: int) -> None:
        """Set the offset of the next read, and forget the text before it."""
        skip = offset - self._start
        if not 0 <= skip <= len(self._kept):
            raise ValueError(f"Offset {offset} is not in the text that is kept.")
        self._lines += self._kept.count(b"\n", 0, skip)
        self._kept = self._kept[skip:]
        self._start = self._at = offset

    def read(self, size: int) -> bytes:
        """At most `size` bytes; fewer only at the end of the text.

        Raises
        ------
        Refusal
            The compressed bytes are damaged or cut short.
        """
        first = self._at - self._start
        missing = first + size - len(self._kept)
        if missing > 0:
            try:
                self._kept += self._stream.read(missing)
            except OSError as error:
                raise Refusal(f"{self._name} is damaged or cut short ({error}); copy or compress it again.") from None
        self.head = self.head or self._kept[:_HEAD]
        piece = self._kept[first : first + size]
        self._at += len(piece)
        return piece

    def lines_before(self, offset: int) -> int:
        """The number of line ends before an offset that is in the text that is kept."""
        return self._lines + self._kept.count(b"\n", 0, offset - self._start)

    def __enter__(self) -> ForwardText:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
