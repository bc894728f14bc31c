"""Writing a text matrix: byte for byte what `numpy.savetxt` writes, but many times as fast.

Users import `write_text_matrix` from `datasets`.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from spark_cnn_ensemble.arrays import images_and_labels

_WIDTH = 25  # bytes of a non-negative number as '%.18e' with a two-digit exponent, with its separator


def write_text_matrix(
    path: str | os.PathLike[str], x: ArrayLike, y: ArrayLike, copies: int = 1, label: str = "last"
) -> None:
    """Write images and labels as text, byte for byte as ``numpy.savetxt(file, numpy.column_stack(...))``.

    Each number is written as ``'%.18e'``, with one space between two numbers and one row per line: 25 bytes per
    number, so MNIST's 60,000 rows take 1.178 GB. Each copy of the matrix is a file, ``part-00000.txt`` and so on. A
    file has this name only once it is complete.

    Parameters
    ----------
    path : str or os.PathLike
        A local folder, which must be empty; it is created if it does not exist.
    x : array_like, shape (rows, ...)
        Real numbers, in any form that `to_dataframe` takes; each row is flattened in C order.
    y : array_like, shape (rows,)
        Labels, whole numbers.
    copies : int
        How many times the whole matrix is written.
    label : {"last", "first"}
        Position of the label in a line.

    Raises
    ------
    ValueError
        The arrays do not fit together, an argument is out of range, the folder is not empty, or its disk has too
        little space.
    OSError
        The folder cannot be made or written.

    Examples
    --------
    >>> from spark_cnn_ensemble.datasets import load_digits, read_text_matrix, write_text_matrix
    >>> _, (x_test, y_test) = load_digits()
    >>> write_text_matrix(f"{folder}/digits", x_test, y_test)
    >>> read_text_matrix(spark, f"{folder}/digits").count()
    360
    """
    images, labels = images_and_labels(x, y)
    if labels is None:
        raise ValueError("y must hold one label for each row of x, not None.")
    if label not in ("last", "first"):
        raise ValueError(f"label must be 'last' or 'first', not {label!r}.")
    if isinstance(copies, bool) or not isinstance(copies, (int, np.integer)) or copies < 1:
        raise ValueError(f"copies must be a whole number >= 1, not {copies!r}.")
    folder = Path(os.fsdecode(path))
    if re.match(r"[A-Za-z][\w+.-]*:/", os.fsdecode(path)):
        raise ValueError(f"{path!s} is not a local folder; write to one and copy it from there.")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(f"{folder} is not an empty folder; empty it or name another.")
        folder.mkdir(parents=True, exist_ok=True)
        need = copies * _WIDTH * (images.size + len(images))
        free = shutil.disk_usage(folder).free
        if need > free:
            raise ValueError(
                f"The text takes {need / 1e9:.1f} GB where {folder} has {free / 1e9:.1f} GB free; "
                "lower copies or name another folder."
            )
        _write_copies(folder, images.reshape(len(images), -1), labels, label, copies)
    except OSError as error:
        raise OSError(
            f"{folder} cannot be written ({error.strerror or error}); name a folder where you may write and that has "
            "space."
        ) from error


def _write_copies(folder: Path, pixels: np.ndarray, labels: np.ndarray, label: str, copies: int) -> None:
    for copy in range(copies):
        final = folder / f"part-{copy:05d}.txt"
        partial = folder / f".{final.name}.tmp"
        try:
            if copy:
                shutil.copyfile(folder / "part-00000.txt", partial)
            else:
                _write_rows(partial, pixels, labels, label)
            os.replace(partial, final)
        finally:
            partial.unlink(missing_ok=True)


def _write_rows(path: Path, pixels: np.ndarray, labels: np.ndarray, label: str) -> None:
    step = max(1, (1 << 21) // (_WIDTH * (pixels.shape[1] + 1)))  # 2 MiB of text fit a core's cache
    with open(path, "wb") as file:
        for start in range(0, len(pixels), step):
            parts = [pixels[start : start + step], labels[start : start + step, None]]
            rows = np.hstack(parts if label == "last" else parts[::-1])
            text = _text_by_table(rows)
            if text is None:
                np.savetxt(file, rows)
            else:
                file.write(text.data)


def _text_by_table(rows: np.ndarray) -> np.ndarray | None:
    """What `savetxt` writes for finite, non-negative numbers with few distinct values; None for other numbers."""
    if np.signbit(rows).any() or not np.isfinite(rows).all():
        return None
    top = rows.max()
    if top < 1 << 16 and ((index := rows.astype(np.intp)) == rows).all():
        table = _whole_numbers_text(1 << 8 if top < 1 << 8 else 1 << 16)
    else:
        values, index = np.unique(rows, return_inverse=True)
        table = _text_of(values) if len(values) <= rows.size // 8 else None
    if table is None:
        return None
    text = np.take(table, index.reshape(rows.shape), mode="clip").view(np.uint8)
    text[:, -1] = ord("\n")
    return text


@functools.cache
def _whole_numbers_text(count: int) -> np.ndarray | None:
    return _text_of(np.arange(count))


def _text_of(values: np.ndarray) -> np.ndarray | None:
    """Each number's text with a space after it, as an array of fixed-width cells; None if the width of one differs."""
    text = b"".join(b"%.18e " % value for value in values.tolist())
    return np.frombuffer(text, f"V{_WIDTH}") if len(text) == _WIDTH * len(values) else None
