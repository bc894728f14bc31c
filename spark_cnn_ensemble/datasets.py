"""Images to try the ensemble on, as arrays, as data frames and as text.

Here: MNIST and the digits of scikit-learn as arrays, arrays to a data frame, arrays to a text matrix. Not
here: the text matrix's reader, which is in `text_matrix` and re-exported. Called by users, notebooks,
benchmarks, tests and the command line; nothing else in the package needs it.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import os
import re
import shutil
import zlib
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from spark_cnn_ensemble.text_matrix import read_text_matrix

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["load_digits", "load_mnist", "read_text_matrix", "to_dataframe", "write_text_matrix"]

Arrays = tuple[np.ndarray, np.ndarray]

# The narrowest of Spark's types that holds each type of numpy exactly; Spark's tinyint is signed.
_SPARK_TYPES = {
    "bool": pa.int8(),
    "int8": pa.int8(),
    "uint8": pa.int16(),
    "int16": pa.int16(),
    "uint16": pa.int32(),
    "int32": pa.int32(),
    "uint32": pa.int64(),
    "int64": pa.int64(),
    "float16": pa.float32(),
    "float32": pa.float32(),
    "float64": pa.float64(),
}
_WIDTH = 25  # bytes of a non-negative number in '%.18e' with a two-digit exponent, and of its separator


def load_mnist(folder: str | os.PathLike[str] | None = None) -> tuple[Arrays, Arrays]:
    """Read MNIST's 70,000 handwritten digits from its four gzipped IDX files.

    Parameters
    ----------
    folder : str or os.PathLike, optional
        Where the files and their ``SHA256SUMS`` are; default: ``data/mnist`` beside the package.

    Returns
    -------
    ((x_train, y_train), (x_test, y_test))
        uint8 arrays of shapes (60000, 28, 28), (60000,), (10000, 28, 28) and (10000,): pixels 0 (paper) to
        255 (ink), digits 0 to 9.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is damaged: its uncompressed bytes do not have the SHA-256 that ``SHA256SUMS`` tells.
    """
    here = Path(__file__).parent.parent / "data" / "mnist" if folder is None else Path(folder)
    sums = here / "SHA256SUMS"
    if not sums.is_file():
        raise FileNotFoundError(f"{sums} is missing; give the folder that holds it and MNIST's four files.")
    known = {name.lstrip("*"): digest for digest, name in map(str.split, sums.read_text().splitlines())}
    names = [f"{part}-{kind}" for part in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    x_train, y_train, x_test, y_test = (_read_idx(here / f"{name}.gz", known.get(name)) for name in names)
    return (x_train, y_train), (x_test, y_test)


def _read_idx(path: Path, digest: str | None) -> np.ndarray:
    """The array in a gzipped IDX file: two zero bytes, type 8 (uint8), dimensions, each big-endian, data."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; copy it there or give the folder that holds it.")
    try:
        data = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error}); copy it anew.") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise ValueError(f"{path} is damaged, its SHA-256 is not that of {path.parent / 'SHA256SUMS'}; copy it anew.")
    ndim = data[3] if data[:3] == b"\0\0\x08" else 0
    shape = np.frombuffer(data, ">u4", ndim, 4).tolist() if len(data) >= 4 + 4 * ndim else []
    if not shape or len(data) != 4 + 4 * ndim + prod(shape):
        raise ValueError(f"{path} is not an IDX file of bytes; copy MNIST's own there.")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * ndim).reshape(shape).copy()


def load_digits() -> tuple[Arrays, Arrays]:
    """Give scikit-learn's 1,797 digits of 8x8 pixels, which need no file and train in seconds.

    The split is ``train_test_split(x, y, test_size=360, stratify=y, random_state=0)``, the same each time.

    Returns
    -------
    ((x_train, y_train), (x_test, y_test))
        uint8 arrays of shapes (1437, 8, 8), (1437,), (360, 8, 8) and (360,): pixels 0 to 16, digits 0 to 9.

    Raises
    ------
    ImportError
        If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits as load
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise ImportError("load_digits needs scikit-learn: pip install 'spark_cnn_ensemble[digits]'.") from error
    digits = load()
    x, y = digits.images.astype(np.uint8), digits.target.astype(np.uint8)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=360, stratify=y, random_state=0)
    return (x_train, y_train), (x_test, y_test)


def to_dataframe(spark: SparkSession, x: ArrayLike, y: ArrayLike | None = None) -> DataFrame:
    """Make a data frame of arrays, one row an image.

    Parameters
    ----------
    spark : SparkSession
        The session to make it in.
    x : array_like, shape (rows, ...)
        Real numbers.
    y : array_like, shape (rows,), optional
        Labels, whole numbers of 32 bits.

    Returns
    -------
    DataFrame
        ``id`` bigint, the row's index; ``features``, an array of the row's numbers in C order, of the
        narrowest type that holds them all exactly (uint8: smallint, float32: float); ``label`` int, if `y` is
        given. Spark spreads up to 48 MB over as many partitions as it has cores; beyond, a partition holds at
        most 4,096 rows and 16 MiB.

    Raises
    ------
    ValueError
        If the arrays do not fit together or hold what no type of Spark holds.

    Notes
    -----
    The rows stay in the driver's heap (94 MB for MNIST), which is 1 GB unless ``spark.driver.memory`` says
    otherwise: put larger data into files.
    """
    images = _check_images(x)
    labels = None if y is None else _check_labels(y, len(images))
    if images.dtype.name not in _SPARK_TYPES:
        raise ValueError(f"x holds {images.dtype}, which no numeric type of Spark holds; convert it to float64.")
    element = _SPARK_TYPES[images.dtype.name]
    pixels = images.reshape(len(images), -1)
    fields = [("id", pa.int64()), ("features", pa.list_(pa.field("element", element, False)))]
    if labels is not None:
        if np.abs(labels.astype(np.float64)).max() >= 1 << 31:
            raise ValueError("y must hold whole numbers of 32 bits; index the classes from 0.")
        fields.append(("label", pa.int32()))
    schema = pa.schema([pa.field(*field, nullable=False) for field in fields])
    # createDataFrame makes a partition of each batch.
    step = max(1, min(4096, (16 << 20) // (pixels.shape[1] * element.bit_width // 8)))
    batches = []
    for start in range(0, len(pixels), step):
        part = np.ascontiguousarray(pixels[start : start + step], element.to_pandas_dtype())
        offsets = pa.array(np.arange(0, part.size + 1, part.shape[1], dtype=np.int32))
        columns = [pa.array(np.arange(start, start + len(part)))]
        columns.append(pa.ListArray.from_arrays(offsets, pa.array(part.ravel()), schema.field("features").type))
        if labels is not None:
            columns.append(pa.array(labels[start : start + step].astype(np.int32)))
        batches.append(pa.RecordBatch.from_arrays(columns, schema=schema))
    return spark.createDataFrame(pa.Table.from_batches(batches))


def write_text_matrix(
    path: str | os.PathLike[str], x: ArrayLike, y: ArrayLike, copies: int = 1, label: str = "last"
) -> None:
    """Write images and labels as text, byte for byte as ``numpy.savetxt(file, numpy.column_stack(...))``.

    Each number is written as ``'%.18e'``, with one space between two numbers and one row a line: 25 bytes a
    number, so that MNIST's 60,000 rows make 1.178 GB. Each copy is a file of its own, ``part-00000.txt`` and
    so on, which has this name only once it is whole.

    Parameters
    ----------
    path : str or os.PathLike
        A local folder; made if absent, and refused unless empty.
    x : array_like, shape (rows, ...)
        Real numbers; each row is flattened in C order.
    y : array_like, shape (rows,)
        Labels, whole numbers.
    copies : int
        How many times the whole matrix is written.
    label : {"last", "first"}
        Where the label stands in a line.

    Raises
    ------
    ValueError
        If the arrays do not fit together, an argument is out of range, the folder is not empty or its disk
        has too little room.
    """
    images = _check_images(x)
    labels = _check_labels(y, len(images))
    if label not in ("last", "first"):
        raise ValueError(f"label must be 'last' or 'first', not {label!r}.")
    if isinstance(copies, bool) or not isinstance(copies, (int, np.integer)) or copies < 1:
        raise ValueError(f"copies must be a whole number >= 1, not {copies!r}.")
    folder = Path(path)
    if re.match(r"[A-Za-z][\w+.-]*:/", os.fspath(path)):
        raise ValueError(f"{path} is not a local folder; write to one and copy it from there.")
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
    for copy in range(copies):
        final = folder / f"part-{copy:05d}.txt"
        partial = folder / f".{final.name}.tmp"
        try:
            if copy:
                shutil.copyfile(folder / "part-00000.txt", partial)
            else:
                _write_rows(partial, images.reshape(len(images), -1), labels, label)
            os.replace(partial, final)
        finally:
            partial.unlink(missing_ok=True)


def _check_images(x: ArrayLike) -> np.ndarray:
    x = np.asarray(x)
    if x.ndim < 2 or not x.size:
        raise ValueError(f"x has shape {x.shape}; it must have at least one row, and one number a row.")
    if x.dtype.kind not in "buif":
        raise ValueError(f"x holds {x.dtype}; convert it to real numbers.")
    return x


def _check_labels(y: ArrayLike, rows: int) -> np.ndarray:
    y = np.asarray(y)
    if y.shape != (rows,):
        raise ValueError(f"y has shape {y.shape} where x has {rows} rows; give one label for each row.")
    if y.dtype.kind not in "uif" or not np.isfinite(y).all() or (y != np.trunc(y)).any():
        raise ValueError("y must hold whole numbers; index the classes from 0.")
    return y


def _write_rows(path: Path, pixels: np.ndarray, labels: np.ndarray, label: str) -> None:
    step = max(1, (1 << 21) // (_WIDTH * (pixels.shape[1] + 1)))  # 2 MiB of text stay in a core's cache
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
    """The text by `savetxt` of finite, non-negative numbers among which few differ; None of others."""
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
    """Each number's text and a space, as an array of fixed-width cells; None if one needs another width."""
    text = b"".join(b"%.18e " % value for value in values.tolist())
    return np.frombuffer(text, f"V{_WIDTH}") if len(text) == _WIDTH * len(values) else None
