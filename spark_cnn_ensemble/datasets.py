"""Sample data for users.

MNIST and scikit-learn's digits as arrays, and arrays as a DataFrame. The reader and the writer of the text matrix are
public here; their code is in `text`, and that of files of arrays in `array_files`. Called by users and by `demo`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from spark_cnn_ensemble.array_files import Arrays, read_idx_folder, read_npz
from spark_cnn_ensemble.arrays import images_and_labels
from spark_cnn_ensemble.engine import engine_of
from spark_cnn_ensemble.text.reader import read_text_matrix
from spark_cnn_ensemble.text.writer import write_text_matrix

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["load_digits", "load_mnist", "read_text_matrix", "to_dataframe", "write_text_matrix"]

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
    """Load MNIST's 70,000 handwritten digits, or other data in the same kinds of files.

    Parameters
    ----------
    folder : str or os.PathLike, optional
        A folder with four IDX files of any numbers, gzipped or not, named as MNIST's are, such as Fashion-MNIST's or
        those of one split of EMNIST; or an ``.npz`` file that holds the arrays ``x_train``, ``y_train``, ``x_test``
        and ``y_test``, as Keras' ``mnist.npz`` does. Default: the copy of MNIST that comes with this package.

    Returns
    -------
    ((x_train, y_train), (x_test, y_test))
        Arrays of the files' own types and shapes. MNIST: uint8 of shapes (60000, 28, 28), (60000,), (10000, 28, 28)
        and (10000,): pixels 0 (paper) to 255 (ink), digits 0 to 9.

    Raises
    ------
    FileNotFoundError
        A file is missing.
    ValueError
        A file is damaged: its size is not what its header says, or its uncompressed bytes do not match the SHA-256 in
        the folder's ``SHA256SUMS``, if there is one. Or the arrays do not belong together, or are not numbers.

    Examples
    --------
    >>> from spark_cnn_ensemble.datasets import load_mnist
    >>> (x_train, y_train), (x_test, y_test) = load_mnist()
    >>> x_train.shape, x_test.shape, x_train.dtype
    ((60000, 28, 28), (10000, 28, 28), dtype('uint8'))
    """
    if folder is None:
        return read_idx_folder(_bundled_mnist(), all_known=True)
    path = Path(os.fsdecode(folder))
    return read_npz(path) if path.is_file() else read_idx_folder(path, all_known=False)


def _bundled_mnist() -> Path:
    """The folder ``data/mnist`` of a clone, else the one that the wheel installs."""
    clone = Path(__file__).parent.parent / "data" / "mnist"
    if not clone.is_dir():
        with suppress(PackageNotFoundError):
            for file in distribution("spark_cnn_ensemble").files or ():
                if file.parts[-3:] == ("spark_cnn_ensemble", "mnist", "SHA256SUMS"):
                    return Path(str(file.locate())).parent
    return clone


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
    """Make a DataFrame from images and labels in memory, one row per image.

    Parameters
    ----------
    spark : SparkSession
    x : array_like, shape (rows, ...)
        Images of any shape, such as (rows, height, width, channels) or (rows, pixels); real numbers. Besides numpy's
        arrays: nested lists, a pandas DataFrame of numbers or a column of arrays, a list of Pillow's pictures of one
        size and mode, tensors of TensorFlow or PyTorch and whatever else has ``__array__``.
    y : array_like, shape (rows,) or (rows, 1), optional
        Labels, whole numbers of 32 bits or booleans, also as a list or a pandas Series; default: the rows have no
        label.

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
        The arrays differ in length or hold values that no numeric type of Spark holds, rows differ in shape, labels are
        text or one-hot, or the indexes of two pandas objects differ; or the rows take more than 128 MiB and the session
        is one of Spark Connect.

    Warns
    -----
    UserWarning
        The shape looks as if channels came before height and width.

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
    images, labels = images_and_labels(x, y)
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
    size, largest = pixels.size * element.bit_width // 8, engine_of(spark).largest_frame
    if size > largest:
        raise ValueError(
            f"x takes {size >> 20:,} MiB as rows, more than the {int(largest) >> 20} MiB that are sent to a server of "
            "Spark Connect at once; write the rows to files that the server can read, such as Parquet, and read those."
        )
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
    return engine_of(spark).frame(pa.Table.from_batches(batches))
