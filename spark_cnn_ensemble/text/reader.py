"""The text matrix's reader, on the driver: it lists the files, checks the first row, and divides the bytes among tasks.

What a task does is in `files` and `lines`. Parsing in Python is faster than Spark's own expressions, and knows each
line's place in its file, from which the row's id is made. Users import `read_text_matrix` from `datasets`.
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

_CHUNK_BYTES = 64 << 20  # text in one Spark partition, at most
_LOCAL_CHUNK_BYTES = 256 << 20  # where all slots are known: each partition costs 0.1 s, whatever it holds
_READ_BYTES = 4 << 20  # requested from the filesystem at once
_BLOCK_BYTES = 1 << 20  # parsed at once into one Arrow batch; 1 MiB of text and its numbers fit a core's cache
_BYTES_PER_ROW = 64  # of text for each row of the range, see below; Spark takes one for 6 bytes

_SMALLEST, _LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


def read_text_matrix(
    spark: SparkSession,
    path: str | os.PathLike[str],
    label: str | None = "last",
    sep: str = " ",
    scale: float = 1.0,
) -> DataFrame:
    r"""Read text matrices into a data frame, lazily: before an action, files are listed and the first line is read.

    Blank lines are skipped; CRLF line ends, a last line without an end, spaces around a number and a plus
    before it are accepted; `nan` and `inf` are numbers. A selection of columns still parses whole lines.

    Parameters
    ----------
    spark : SparkSession
        The session to read with.
    path : str or os.PathLike
        A file, or a folder with files at any depth; names that start with ``_`` or ``.`` are left out. A path
        without a scheme is on the local disk of the driver and of every executor, whatever Spark's default
        filesystem is. URIs are opened by pyarrow: ``file``, ``hdfs``, ``s3`` (also as ``s3a``), ``gs``.
    label : {"last", "first", None}
        Which number of a line is its label; None: none is.
    sep : str
        What stands between two numbers, such as ``" "``, ``","`` or ``"\t"``.
    scale : float
        Features are multiplied by it, in float32.

    Returns
    -------
    DataFrame
        ``id`` bigint, ``features`` array<float>, ``label`` int (absent if `label` is None), without nulls.
        ``id`` is made of the file's path below `path` and of the line's place in it: the same wherever the
        folder stands and however the files are cut for reading, another for each copy of a row.

    Raises
    ------
    FileNotFoundError
        If nothing is at `path`.
    ValueError
        If an argument is out of range, there is no row to read, or a line is malformed: another number of
        columns than in the first line, a token that is not a number, a label that is not a whole number.
        Past the first line this is raised on an executor, and stands in the text of Spark's exception.

    Examples
    --------
    >>> with open("two.csv", "w") as file:
    ...     _ = file.write("7,0,128,255,0\n3,9,9,9,9\n")
    >>> read_text_matrix(spark, "two.csv", label="first", sep=",").select("features", "label").show()
    +--------------------+-----+
    |            features|label|
    +--------------------+-----+
    |[0.0, 128.0, 255....|    7|
    |[9.0, 9.0, 9.0, 9.0]|    3|
    +--------------------+-----+
    """
    engine = engine_of(spark)
    # On a cluster, executors may still join.
    chunk = _LOCAL_CHUNK_BYTES if engine.is_local else _CHUNK_BYTES
    matrix, count = _plan(path, label, sep, scale, max(1, engine.slots), chunk)
    # Spark estimates the frame's size from the number of rows in the range. With one row per part it would take any
    # text for small enough to broadcast in a join, so each part has one row per few bytes; the first stands for it.
    rows = math.ceil(matrix.part / _BYTES_PER_ROW)
    parts = (
        spark.range(0, count * rows, 1, count).where(F.col("id") % rows == 0).select((F.col("id") / rows).cast("int"))
    )
    return parts.mapInArrow(functools.partial(read_parts, matrix=matrix), _schema(label))


def _schema(label: str | None) -> StructType:
    # Without nulls, Spark copies arrays some 8 % faster.
    schema = StructType().add("id", LongType(), False).add("features", ArrayType(FloatType(), False), False)
    return schema if label is None else schema.add("label", IntegerType(), False)


def _plan(
    path: str | os.PathLike[str], label: str | None, sep: str, scale: float, slots: int, chunk: int
) -> tuple[Matrix, int]:
    """The files to read and the number of parts, after the arguments and the first row are checked."""
    if label not in ("last", "first", None):
        raise ValueError(f"label must be 'last', 'first' or None, not {label!r}.")
    if not isinstance(sep, str) or not sep or re.search(r"[\w+.\r\n-]", sep):
        raise ValueError(f"sep must be text without letters, digits, '_+-.' and line ends, not {sep!r}.")
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
    part = _part_bytes(total, slots, chunk, _READ_BYTES)
    return Matrix(root, files, layout, part, _READ_BYTES, _BLOCK_BYTES), math.ceil(total / part)


def _list_files(root: str) -> list[Span]:
    """The files at or below `root` that are not empty, sorted by name, each as one whole range."""
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
    filesystem = filesystem_of(root)[0]
    for file in files:
        with filesystem.open_input_file(file.path) as handle:
            for _, block in blocks(handle, 0, file.stop, _READ_BYTES, 1):
                if block.strip():
                    return file.name, block
    raise ValueError(f"No row is in {root}; files whose names start with '_' or '.' are not read.")


def _part_bytes(total: int, slots: int, chunk: int, read: int) -> int:
    """The size of equal parts: at most `chunk` bytes, and as many parts as keep all `slots` busy to the end.

    There are fewer parts than slots where there are fewer than `read` bytes for each.
    """
    count = min(math.ceil(math.ceil(total / chunk) / slots) * slots, math.ceil(total / read))
    return math.ceil(total / count)
