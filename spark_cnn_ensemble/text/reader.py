"""The driver's side of reading a text matrix.

Here: the list of files, the checks of the arguments and of the first lines, and how the bytes are divided among tasks.
What a task does is in `files` and `lines`; what a header says is in `header`. Parsing in Python is faster than Spark's
own expressions; it also knows each line's place in its file, which gives the row's id. Users import `read_text_matrix`
from `datasets`.
"""

from __future__ import annotations

import functools
import heapq
import math
import os
import re
import warnings
from collections.abc import Iterator
from numbers import Real
from pathlib import PurePath
from typing import TYPE_CHECKING
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, BinaryType, FloatType, IntegerType, LongType, StructType

from spark_cnn_ensemble.engine import engine_of
from spark_cnn_ensemble.text import through_spark
from spark_cnn_ensemble.text.compressed import check_names, codec_of
from spark_cnn_ensemble.text.files import (
    URI,
    Matrix,
    Span,
    Unreachable,
    filesystem_of,
    first_lines,
    one_line,
    open_text,
    read_parts,
)
from spark_cnn_ensemble.text.forwarded import read_forwarded
from spark_cnn_ensemble.text.header import check_first_lines
from spark_cnn_ensemble.text.lines import Layout

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["read_text_matrix"]

CHUNK_BYTES = 64 << 20  # of text per Spark partition, at most
LOCAL_CHUNK_BYTES = 256 << 20  # the same for a local session, whose slots cannot grow; a partition costs about 0.1 s
READ_BYTES = 4 << 20  # requested from the filesystem at once
BLOCK_BYTES = 1 << 20  # parsed at once into one Arrow batch; 1 MiB of text and its numbers fit a core's cache
EXPANSION = 10  # assumed bytes of text per compressed byte
_BYTES_PER_ROW = 64  # of text per row of the range in `read_text_matrix`; Spark estimates 6 bytes per such row

_SMALLEST, _LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


def read_text_matrix(
    spark: SparkSession,
    path: str | os.PathLike[str],
    label: str | None = "last",
    sep: str = " ",
    scale: float = 1.0,
    header: bool = False,
    dtype: str = "float32",
) -> DataFrame:
    r"""Read a text matrix into a DataFrame: one row per line, numbers with a separator between them.

    The call lists the files and reads the first lines; the rest is read by Spark's actions. Accepted are blank lines,
    CRLF line ends, a last line without an end, a UTF-8 byte order mark, and numbers with spaces or double quotes around
    them or a plus before them. `nan` and `inf` are numbers. Selecting columns does not save time, as whole lines are
    parsed.

    Parameters
    ----------
    spark : SparkSession
    path : str or os.PathLike
        A file, or a folder with files at any depth. Names that start with ``_`` or ``.`` are left out. A path without
        a scheme is on the local disk of the driver and of each executor if something is there; otherwise, if it is
        absolute, Spark reads it from its default filesystem. pyarrow opens ``file``, ``hdfs``, ``s3`` (also written
        ``s3a``), ``gs`` and ``abfss``. What it cannot open is read by Spark, which is slower: one task per file. Names
        that end with ``.gz``, ``.bz2`` or ``.zst`` are uncompressed as they are read; such a file is read by one task.
    label : {"last", "first", None}
        Position of the label in a line; None if lines have no label.
    sep : str
        The separator between two numbers, such as ``" "``, ``","`` or ``"\t"``. A space stands for any number of
        spaces, so that right-aligned columns are read.
    scale : float
        Factor for the features, applied in float32.
    header : bool
        Whether the first line of each file holds the names of its columns. It must be the same in all files.
    dtype : {"float32", "uint8"}
        Type of a feature. ``"uint8"`` is for whole numbers from 0 to 255, such as pixels: each takes one byte instead
        of four, and a line with another number is malformed. It needs ``scale=1.0``.

    Returns
    -------
    DataFrame
        Columns ``id`` bigint, ``features`` and ``label`` int (absent if `label` is None), without nulls. ``features``
        is array<float>, or binary with ``dtype="uint8"``; with ``idCol="id"``, the estimator trains the same members on
        either.
        ``id`` is computed from the file's path below `path` and from the offset of the line in the uncompressed text.
        It does not depend on where the folder is or how the files are divided among tasks. Copies of a row have
        different ids. (If Spark reads a file of more than 64 MiB, a byte order mark is not counted.)

    Raises
    ------
    FileNotFoundError
        Nothing is at `path`.
    OSError
        The files cannot be listed or opened.
    ValueError
        An argument is out of range or does not fit the header, a file is not text or has a compression that is not
        read, no row can be read, or a line is malformed: its number of columns differs from the first row's, a token
        is not a number, or a label is not a whole number. After the first row, an executor raises this, and the
        message is inside Spark's exception.

    Warns
    -----
    UserWarning
        The first line may be a header without ``header=True``, or a row with it.

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
    layout = check_arguments(label, sep, scale, header, dtype)
    engine = engine_of(spark)
    # On a cluster, executors may still join.
    chunk = LOCAL_CHUNK_BYTES if engine.is_local else CHUNK_BYTES
    try:
        matrix, count = plan_parts(path, layout, header, max(1, engine.slots), chunk)
    except (Unreachable, FileNotFoundError) as why:
        return _read_through_spark(spark, path, layout, header, why)
    # Spark estimates the frame's size from the number of rows in the range. With one row per part, it would find any
    # text small enough to broadcast in a join. So the range has many rows per part, and the filter keeps the first.
    packed = sum(file.stop for part in matrix.packed for file in part)
    text = sum(file.stop for file in matrix.files) + EXPANSION * packed
    rows = math.ceil(text / count / _BYTES_PER_ROW)
    parts = (
        spark.range(0, count * rows, 1, count).where(F.col("id") % rows == 0).select((F.col("id") / rows).cast("int"))
    )
    return parts.mapInArrow(engine.for_workers(functools.partial(read_parts, matrix=matrix)), schema_of(layout))


def schema_of(layout: Layout) -> StructType:
    """The schema of the rows."""
    # Spark copies arrays that cannot hold nulls about 8 % faster.
    features = BinaryType() if layout.dtype == "uint8" else ArrayType(FloatType(), False)
    schema = StructType().add("id", LongType(), False).add("features", features, False)
    return schema if layout.label is None else schema.add("label", IntegerType(), False)


def _read_through_spark(
    spark: SparkSession, path: str | os.PathLike[str], layout: Layout, header: bool, why: OSError
) -> DataFrame:
    """The rows of files that pyarrow cannot open, or that are not on this disk, which is the reason `why`."""
    root, missing = os.fsdecode(path), isinstance(why, FileNotFoundError)
    if missing and (URI.match(_root(path)) or not (URI.match(root) or os.path.isabs(root))):
        raise why
    try:
        files = through_spark.list_files(spark, root)
    except OSError as error:
        raise OSError(f"{root} cannot be opened by pyarrow ({why}); {error}") from None
    if files is None:
        raise why if missing else _nothing_at(root)
    check_names(root, [span.name for span in files.values()])
    heads = through_spark.first_lines_of_files(spark, root, files)
    layout, names = check_first_lines(root, heads, layout, header)
    if not missing and "Unrecognized filesystem" not in str(why):
        warnings.warn(f"Spark reads {root}, one task per file, as pyarrow cannot open it ({why}).", stacklevel=3)
    matrix = Matrix(root, [], [], layout, names, 0, READ_BYTES, BLOCK_BYTES)
    read = functools.partial(read_forwarded, files=files, matrix=matrix)
    return through_spark.bytes_of_files(spark, root, files).mapInArrow(read, schema_of(layout))


def check_arguments(label: str | None, sep: str, scale: float, header: bool, dtype: str) -> Layout:
    """What the arguments of `read_text_matrix` say about lines, without the number of columns."""
    if label not in ("last", "first", None):
        raise ValueError(f"label must be 'last', 'first' or None, not {label!r}.")
    sep = "\t" if sep == r"\t" else sep  # as a shell passes it on, and as Spark's own readers take it
    if not isinstance(sep, str) or not sep or re.search(r"[\w+.\r\n\"-]", sep):
        raise ValueError(f"sep must be text without letters, digits, quotes, '_+-.' or line ends, not {sep!r}.")
    if not isinstance(scale, Real) or not _SMALLEST <= abs(scale) <= _LARGEST:
        raise ValueError(f"scale must be a number other than 0 and within float32's range, not {scale!r}.")
    if not isinstance(header, bool):
        raise ValueError(f"header must be True or False, not {header!r}.")
    if dtype not in ("float32", "uint8"):
        raise ValueError(f"dtype must be 'float32' or 'uint8', not {dtype!r}.")
    if dtype == "uint8" and scale != 1:
        raise ValueError(f"scale must be 1.0 with dtype='uint8', not {scale!r}; leave one of the two out.")
    return Layout(0, sep, label, float(scale), dtype)


def plan_parts(
    path: str | os.PathLike[str], layout: Layout, header: bool, slots: int, chunk: int
) -> tuple[Matrix, int]:
    """What to read and the number of parts, after a check of the first lines.

    Parameters
    ----------
    path, header
        See `read_text_matrix`.
    layout : Layout
        What `check_arguments` returned.
    slots : int
        Tasks that run at once.
    chunk : int
        Bytes of text per part, at most.
    """
    root = _root(path)
    files = _list_files(root)
    layout, names = check_first_lines(root, _first_lines_of_files(root, files), layout, header)
    packed = packed_parts([file for file in files if codec_of(file.name)], slots, chunk)
    plain = [file for file in files if not codec_of(file.name)]
    total = sum(file.stop for file in plain)
    part = part_bytes(total, slots, chunk, READ_BYTES)
    count = len(packed) + math.ceil(total / part)
    return Matrix(root, packed, plain, layout, names, part, READ_BYTES, BLOCK_BYTES), count


def _root(path: str | os.PathLike[str]) -> str:
    """An absolute local path, or a URI that is not of local files."""
    root = os.fsdecode(path)
    if not root:
        raise ValueError("path is empty; give the path of a text matrix or of a folder of them.")
    if root.startswith("file:/"):
        root = unquote(re.sub("^file:(//(localhost)?)?", "", root))
    if URI.match(root) and isinstance(path, PurePath):
        raise ValueError(f"pathlib has shortened the // of the URI {root} to /; pass the URI as text.")
    return re.sub("^s3[an]://", "s3://", root) if URI.match(root) else os.path.abspath(root)


def _list_files(root: str) -> list[Span]:
    """The files at or below `root` that are not empty, sorted by name, each as one whole span."""
    filesystem, base = filesystem_of(root)
    try:
        info = filesystem.get_file_info(base)
        if info.type == pafs.FileType.Directory:
            infos = filesystem.get_file_info(pafs.FileSelector(base, recursive=True))
            above = len(base.rstrip("/")) + 1
            infos = [f for f in infos if not re.search(r"(^|/)[._]", f.path[above:])]
        else:
            infos, above = [info], len(info.path) - len(info.base_name)
    except (OSError, pa.ArrowException) as error:
        if URI.match(root):
            raise Unreachable(one_line(error)) from None
        raise OSError(f"{root} cannot be listed ({one_line(error)}); make it readable, or copy the files.") from None
    if info.type == pafs.FileType.NotFound:
        raise _nothing_at(root)
    files = [Span(f.path[above:], f.path, 0, f.size) for f in infos if f.type == pafs.FileType.File and f.size]
    check_names(root, [file.name for file in files])
    return sorted(files, key=lambda f: f.name)


def _nothing_at(root: str) -> FileNotFoundError:
    pattern = "; patterns such as * are not expanded" if set("*?[{") & set(root) else ""
    return FileNotFoundError(f"Nothing is at {root}{pattern}; give the path of a text matrix or of a folder of them.")


def _first_lines_of_files(root: str, files: list[Span]) -> Iterator[tuple[str, Iterator[bytes]]]:
    filesystem = filesystem_of(root)[0]
    for file in files:
        with open_text(file, filesystem) as handle:
            yield file.name, (line for _, line in first_lines(handle))


def packed_parts(files: list[Span], slots: int, chunk: int) -> list[list[Span]]:
    """Compressed files in parts of about equal size, the largest first.

    A file is never divided. There are up to four parts per slot, as the sizes of the texts are not known, and more if
    parts would have more than `chunk` bytes of text.
    """
    text = EXPANSION * sum(file.stop for file in files)
    count = min(len(files), max(4 * slots, math.ceil(math.ceil(text / chunk) / slots) * slots))
    parts: list[list[Span]] = [[] for _ in range(count)]
    least = [(0, at) for at in range(count)]
    for file in sorted(files, key=lambda f: (-f.stop, f.name)):
        size, at = heapq.heappop(least)
        parts[at].append(file)
        heapq.heappush(least, (size + file.stop, at))
    return sorted(parts, key=lambda part: -sum(file.stop for file in part))


def part_bytes(total: int, slots: int, chunk: int, read: int) -> int:
    """The size of equal parts of `total` bytes.

    A part has at most `chunk` bytes. The number of parts is a multiple of `slots`, so that all slots are busy to the
    end, unless parts would have fewer than `read` bytes.
    """
    count = min(math.ceil(math.ceil(total / chunk) / slots) * slots, math.ceil(total / read))
    return math.ceil(total / max(1, count)) or read
