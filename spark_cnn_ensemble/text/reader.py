"""The driver's side of reading a text matrix.

Here: the list of files, the checks of the arguments and of the first row, and how the bytes are divided among tasks.
What a task does is in `files` and `lines`. Parsing in Python is faster than Spark's own expressions; it also knows each
line's place in its file, which gives the row's id. Users import `read_text_matrix` from `datasets`.
"""

from __future__ import annotations

import functools
import math
import os
import re
from numbers import Real
from typing import TYPE_CHECKING
from urllib.parse import unquote

import numpy as np
import pyarrow.fs as pafs
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, FloatType, IntegerType, LongType, StructType

from spark_cnn_ensemble.engine import engine_of
from spark_cnn_ensemble.text.files import URI, Matrix, Span, blocks, filesystem_of, read_parts
from spark_cnn_ensemble.text.lines import Layout, line_fault

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["read_text_matrix"]

CHUNK_BYTES = 64 << 20  # of text per Spark partition, at most
LOCAL_CHUNK_BYTES = 256 << 20  # the same for a local session, whose slots cannot grow; a partition costs about 0.1 s
READ_BYTES = 4 << 20  # requested from the filesystem at once
BLOCK_BYTES = 1 << 20  # parsed at once into one Arrow batch; 1 MiB of text and its numbers fit a core's cache
_BYTES_PER_ROW = 64  # of text per row of the range in `read_text_matrix`; Spark estimates 6 bytes per such row

_SMALLEST, _LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


def read_text_matrix(
    spark: SparkSession,
    path: str | os.PathLike[str],
    label: str | None = "last",
    sep: str = " ",
    scale: float = 1.0,
) -> DataFrame:
    r"""Read a text matrix into a DataFrame: one row per line, numbers with a separator between them.

    The call lists the files and reads the first line; the rest is read by Spark's actions. Blank lines are skipped.
    CRLF line ends, a last line without an end, spaces around a number and a plus before it are accepted. `nan` and
    `inf` are numbers. Selecting columns does not save time, as whole lines are parsed.

    Parameters
    ----------
    spark : SparkSession
    path : str or os.PathLike
        A file, or a folder with files at any depth. Names that start with ``_`` or ``.`` are left out. A path without
        a scheme is on the local disk of the driver and of each executor, whatever Spark's default filesystem is. URIs
        are opened by pyarrow: ``file``, ``hdfs``, ``s3`` (also written ``s3a``), ``gs``.
    label : {"last", "first", None}
        Position of the label in a line; None if lines have no label.
    sep : str
        The separator between two numbers, such as ``" "``, ``","`` or ``"\t"``.
    scale : float
        Factor for the features, applied in float32.

    Returns
    -------
    DataFrame
        Columns ``id`` bigint, ``features`` array<float> and ``label`` int (absent if `label` is None), without nulls.
        ``id`` is computed from the file's path below `path` and from the line's offset in the file. It does not depend
        on where the folder is or how the files are divided among tasks. Copies of a row have different ids.

    Raises
    ------
    FileNotFoundError
        Nothing is at `path`.
    ValueError
        An argument is out of range, no row can be read, or a line is malformed: its number of columns differs
        from the first line's, a token is not a number, or a label is not a whole number. After the first line, an
        executor raises this, and the message is inside Spark's exception.

    Examples
    --------
    >>> from spark_cnn_ensemble.datasets import read_text_matrix
    >>> with open(f"{folder}/two.csv", "w") as file:
    ...     _ = file.write("7,0,128,255,0\n3,9,9,9,9\n")
    >>> read_text_matrix(spark, f"{folder}/two.csv", label="first", sep=",").select("features", "label").show()
    +--------------------+-----+
    |            features|label|
    +--------------------+-----+
    |[0.0, 128.0, 255....|    7|
    |[9.0, 9.0, 9.0, 9.0]|    3|
    +--------------------+-----+
    """
    engine = engine_of(spark)
    # On a cluster, executors may still join.
    chunk = LOCAL_CHUNK_BYTES if engine.is_local else CHUNK_BYTES
    matrix, count = plan_parts(path, label, sep, scale, max(1, engine.slots), chunk)
    # Spark estimates the frame's size from the number of rows in the range. With one row per part, it would find any
    # text small enough to broadcast in a join. So the range has many rows per part, and the filter keeps the first.
    rows = math.ceil(matrix.part / _BYTES_PER_ROW)
    parts = (
        spark.range(0, count * rows, 1, count).where(F.col("id") % rows == 0).select((F.col("id") / rows).cast("int"))
    )
    return parts.mapInArrow(functools.partial(read_parts, matrix=matrix), schema_of(label))


def schema_of(label: str | None) -> StructType:
    """The schema of the rows for a position of the label."""
    # Spark copies arrays that cannot hold nulls about 8 % faster.
    schema = StructType().add("id", LongType(), False).add("features", ArrayType(FloatType(), False), False)
    return schema if label is None else schema.add("label", IntegerType(), False)


def plan_parts(
    path: str | os.PathLike[str], label: str | None, sep: str, scale: float, slots: int, chunk: int
) -> tuple[Matrix, int]:
    """What to read and the number of parts, after a check of the arguments and of the first row.

    Parameters
    ----------
    path, label, sep, scale
        See `read_text_matrix`.
    slots : int
        Tasks that run at once.
    chunk : int
        Bytes per part, at most.
    """
    if label not in ("last", "first", None):
        raise ValueError(f"label must be 'last', 'first' or None, not {label!r}.")
    if not isinstance(sep, str) or not sep or re.search(r"[\w+.\r\n-]", sep):
        raise ValueError(f"sep must be text without letters, digits, '_+-.' or line ends, not {sep!r}.")
    if not isinstance(scale, Real) or not _SMALLEST <= abs(scale) <= _LARGEST:
        raise ValueError(f"scale must be a number other than 0 and within float32's range, not {scale!r}.")
    root = os.fspath(path)
    if root.startswith("file:/"):
        root = unquote(re.sub("^file:(//(localhost)?)?", "", root))
    root = re.sub("^s3[an]://", "s3://", root) if URI.match(root) else os.path.abspath(root)
    files = _list_files(root)
    name, line = _first_row(root, files)
    layout = Layout(len(line.split(sep.encode())), sep, label, float(scale))
    if fault := line_fault(line, layout):
        raise ValueError(f"{name}, first row: {fault}; fix or remove it, or set sep and label to match.")
    total = sum(file.stop for file in files)
    part = part_bytes(total, slots, chunk, READ_BYTES)
    return Matrix(root, files, layout, part, READ_BYTES, BLOCK_BYTES), math.ceil(total / part)


def _list_files(root: str) -> list[Span]:
    """The files at or below `root` that are not empty, sorted by name, each as one whole span."""
    filesystem, base = filesystem_of(root)
    info = filesystem.get_file_info(base)
    if info.type == pafs.FileType.NotFound:
        raise FileNotFoundError(f"Nothing is at {root}; give the path of a text matrix or of a folder of them.")
    if info.type == pafs.FileType.Directory:
        infos = filesystem.get_file_info(pafs.FileSelector(base, recursive=True))
        above = len(base.rstrip("/")) + 1
        infos = [f for f in infos if not re.search(r"(^|/)[._]", f.path[above:])]
    else:
        infos, above = [info], len(info.path) - len(info.base_name)
    files = [Span(f.path[above:], f.path, 0, f.size) for f in infos if f.type == pafs.FileType.File and f.size]
    if packed := [f.name for f in files if re.search(r"\.(gz|bz2|zst|xz|lz4|snappy|zip)$", f.name)]:
        raise ValueError(f"{packed[0]} in {root} is compressed; unpack it first.")
    return sorted(files, key=lambda f: f.name)


def _first_row(root: str, files: list[Span]) -> tuple[str, bytes]:
    """The first line that is not blank, with its file's name."""
    filesystem = filesystem_of(root)[0]
    for file in files:
        with filesystem.open_input_file(file.path) as handle:
            for _, block in blocks(handle, 0, file.stop, READ_BYTES, 1):
                if block.strip():
                    return file.name, block
    raise ValueError(f"No row is in {root}; files whose names start with '_' or '.' are not read.")


def part_bytes(total: int, slots: int, chunk: int, read: int) -> int:
    """The size of equal parts of `total` bytes.

    A part has at most `chunk` bytes. The number of parts is a multiple of `slots`, so that all slots are busy to the
    end, unless parts would have fewer than `read` bytes.
    """
    count = min(math.ceil(math.ceil(total / chunk) / slots) * slots, math.ceil(total / read))
    return math.ceil(total / count)
