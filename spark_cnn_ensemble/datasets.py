"""Sample data for users.

MNIST and scikit-learn's digits as arrays, and arrays as a DataFrame. The reader and the writer of the text matrix are
public here; their code is in `text`. Called by users and by `demo`.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from spark_cnn_ensemble.text.arrays import check_images, check_labels
from spark_cnn_ensemble.text.reader import read_text_matrix
from spark_cnn_ensemble.text.writer import write_text_matrix

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


def load_mnist(folder: str | os.PathLike[str] | None = None) -> tuple[Arrays, Arrays]:
    """Load MNIST's 70,000 handwritten digits from their four gzipped IDX files.

    Parameters
    ----------
    folder : str or os.PathLike, optional
        Folder of the files and their ``SHA256SUMS``; default: the copy that comes with this package.

    Returns
    -------
    ((x_train, y_train), (x_test, y_test))
        uint8 arrays of shapes (60000, 28, 28), (60000,), (10000, 28, 28) and (10000,): pixels 0 (paper) to
        255 (ink), digits 0 to 9.

    Raises
    ------
    FileNotFoundError
        A file is missing.
    ValueError
        A file is damaged: its uncompressed bytes do not match the SHA-256 in ``SHA256SUMS``.

    Examples
    --------
    >>> from spark_cnn_ensemble.datasets import load_mnist
    >>> (x_train, y_train), (x_test, y_test) = load_mnist()
    >>> x_train.shape, x_test.shape, x_train.dtype
    ((60000, 28, 28), (10000, 28, 28), dtype('uint8'))
    """
    here = _bundled_mnist() if folder is None else Path(folder)
    sums = here / "SHA256SUMS"
    if not sums.is_file():
        raise FileNotFoundError(f"{sums} is missing; pass the folder that holds it and MNIST's four files.")
    known = {name.lstrip("*"): digest for digest, name in map(str.split, sums.read_text().splitlines())}
    names = [f"{part}-{kind}" for part in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    x_train, y_train, x_test, y_test = (_read_idx(here / f"{name}.gz", known.get(name)) for name in names)
    return (x_train, y_train), (x_test, y_test)


def _bundled_mnist() -> Path:
    """The folder ``data/mnist`` of a clone, else the one that the wheel installs."""
    clone = Path(__file__).parent.parent / "data" / "mnist"
    if not clone.is_dir():
        with suppress(PackageNotFoundError):
            for file in distribution("spark_cnn_ensemble").files or ():
                if file.parts[-3:] == ("spark_cnn_ensemble", "mnist", "SHA256SUMS"):
                    return Path(str(file.locate())).parent
    return clone


def _read_idx(path: Path, digest: str | None) -> np.ndarray:
    """The array in a gzipped IDX file: two zero bytes, type 8 (uint8), dimensions, each big-endian, data."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; copy it there or pass the folder that holds it.")
    try:
        data = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error}); copy it again.") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise ValueError(f"{path} is damaged, its SHA-256 is not that in {path.parent / 'SHA256SUMS'}; copy it again.")
    ndim = data[3] if data[:3] == b"\0\0\x08" else 0
    shape = np.frombuffer(data, ">u4", ndim, 4).tolist() if len(data) >= 4 + 4 * ndim else []
    if not shape or len(data) != 4 + 4 * ndim + prod(shape):
        raise ValueError(f"{path} is not an IDX file of bytes; copy MNIST's own there.")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * ndim).reshape(shape).copy()


def load_digits() -> tuple[Arrays, Arrays]:
    """Load scikit-learn's 1,797 digits of 8x8 pixels, on which an ensemble trains in seconds.

    The split is ``train_test_split(x, y, test_size=360, stratify=y, random_state=0)``, the same each time.

    Returns
    -------
    ((x_train, y_train), (x_test, y_test))
        uint8 arrays of shapes (1437, 8, 8), (1437,), (360, 8, 8) and (360,): pixels 0 to 16, digits 0 to 9.

    Raises
    ------
    ImportError
        scikit-learn is not installed.

    Examples
    --------
    >>> from spark_cnn_ensemble.datasets import load_digits
    >>> (x_train, y_train), (x_test, y_test) = load_digits()
    >>> x_train.shape, int(x_train.max())
    ((1437, 8, 8), 16)
    """
    try:
        from sklearn.datasets import load_digits as load
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise ImportError("load_digits needs scikit-learn: pip install 'spark-cnn-ensemble[digits]'.") from error
    digits = load()
    x, y = digits.images.astype(np.uint8), digits.target.astype(np.uint8)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=360, stratify=y, random_state=0)
    return (x_train, y_train), (x_test, y_test)


def to_dataframe(spark: SparkSession, x: ArrayLike, y: ArrayLike | None = None) -> DataFrame:
    """Make a DataFrame from arrays, one row per image.

    Parameters
    ----------
    spark : SparkSession
    x : array_like, shape (rows, ...)
        Images of any shape; real numbers.
    y : array_like, shape (rows,), optional
        Labels, whole numbers of 32 bits; default: the rows have no label.

    Returns
    -------
    DataFrame
        Columns ``id`` bigint, the row's index; ``features``, an array of the image's numbers in C order, of the
        narrowest type that holds all values of `x`'s type exactly (uint8: smallint, float32: float); ``label`` int, if
        `y` is given. Spark spreads up to 48 MB over as many partitions as it has cores; of larger data, a partition
        holds at most 4,096 rows and 16 MiB.

    Raises
    ------
    ValueError
        The arrays differ in length, or hold values that no numeric type of Spark holds.

    Notes
    -----
    The rows stay in the driver's heap (94 MB for MNIST), which is 1 GB unless ``spark.driver.memory`` says otherwise.
    Put larger data into files.

    Examples
    --------
    >>> from spark_cnn_ensemble.datasets import load_digits, to_dataframe
    >>> (x_train, y_train), _ = load_digits()
    >>> to_dataframe(spark, x_train, y_train)
    DataFrame[id: bigint, features: array<smallint>, label: int]
    """
    images = check_images(x)
    labels = None if y is None else check_labels(y, len(images))
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
