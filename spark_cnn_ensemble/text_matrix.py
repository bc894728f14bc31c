"""The text matrix's reader: one row a line, numbers with a separator between them, the label first or last.

Here: `read_text_matrix` and the Python data source of Spark behind it, whose planner runs beside the driver
and whose reader runs on the executors. It parses faster than Spark's own expressions and, unlike them, knows
each line's place in its file, of which it makes the row's id. Not here: the writer, which is in `datasets`.
Called by `datasets`, which re-exports `read_text_matrix`; Spark's workers import this module.
"""

from __future__ import annotations

import math
import os
import re
import socket
import weakref
from ast import literal_eval
from collections.abc import Iterator
from hashlib import blake2b
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition
from pyspark.sql.types import ArrayType, FloatType, IntegerType, LongType, StructType

from spark_cnn_ensemble.worker.text_lines import Layout, Rows, line_fault, parse

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["read_text_matrix"]

# These travel to the workers as options. 1 MiB of text, with what is made of it, stays in a core's cache.
_CHUNK_BYTES = 64 << 20  # of text in one Spark partition at most
_LOCAL_CHUNK_BYTES = 256 << 20  # where all slots are known: each partition costs 0.1 s, whatever is in it
_READ_BYTES = 4 << 20  # asked of the filesystem at once
_BLOCK_BYTES = 1 << 20  # parsed at once, and one Arrow batch
_LONGEST_LINE = 1 << 30  # Arrow's strings end at 2 GiB

_URI = re.compile(r"[A-Za-z][\w+.-]+:/")
_SMALLEST, _LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)

_sessions_with_source: weakref.WeakSet[Any] = weakref.WeakSet()


def read_text_matrix(
    spark: SparkSession,
    path: str | os.PathLike[str],
    label: str | None = "last",
    sep: str = " ",
    scale: float = 1.0,
) -> DataFrame:
    r"""Read text matrices into a data frame, lazily: no more than the first line before there is an action.

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
    """
    context = spark.sparkContext
    # Of a cluster's executors, some may not be there yet.
    chunk = _LOCAL_CHUNK_BYTES if str(context.master).startswith("local") else _CHUNK_BYTES
    options = _options(path, label, sep, scale, max(1, context.defaultParallelism), chunk)
    if spark not in _sessions_with_source:  # Spark would log a second registration as a warning
        spark.dataSource.register(TextMatrixSource)
        _sessions_with_source.add(spark)
    return spark.read.format(TextMatrixSource.name()).options(**options).load()


def _options(
    path: str | os.PathLike[str], label: str | None, sep: str, scale: float, slots: int, chunk: int
) -> dict[str, str]:
    """`TextMatrixSource`'s options, once the arguments and the first row are known to be good."""
    if label not in ("last", "first", None):
        raise ValueError(f"label must be 'last', 'first' or None, not {label!r}.")
    if not isinstance(sep, str) or not sep or re.search(r"[\w+.\r\n-]", sep):
        raise ValueError(f"sep must be text without letters, digits, '_+-.' and line ends, not {sep!r}.")
    if not isinstance(scale, Real) or not _SMALLEST <= abs(scale) <= _LARGEST:
        raise ValueError(f"scale must be a number other than 0 and within float32's range, not {scale!r}.")
    root = os.fspath(path)
    if root.startswith("file:/"):
        root = unquote(re.sub("^file:(//(localhost)?)?", "", root))
    root = re.sub("^s3[an]://", "s3://", root) if _URI.match(root) else os.path.abspath(root)
    name, line = _first_row(root)
    layout = Layout(len(line.split(sep.encode())), sep, label, float(scale))
    if fault := line_fault(line, layout):
        raise ValueError(f"{name}, first row: {fault}; correct or remove it, or give its sep and label.")
    sizes = {"slots": slots, "chunk": chunk, "read": _READ_BYTES, "block": _BLOCK_BYTES}
    return {"root": root} | {key: repr(value) for key, value in (layout._asdict() | sizes).items()}


# ------------------------------------------------------------------------------ files and their lines


class _Range(NamedTuple):
    """The lines of a file whose first byte lies in [start, stop): Hadoop's convention."""

    name: str  # the file's path below the root
    path: str
    start: int
    stop: int


def _filesystem(root: str) -> tuple[pafs.FileSystem, str]:
    if not _URI.match(root):
        return pafs.LocalFileSystem(), root
    try:
        return pafs.FileSystem.from_uri(root)
    except (OSError, ValueError, NotImplementedError) as error:
        raise ValueError(
            f"pyarrow cannot open {root} ({str(error).splitlines()[0]}); copy the files to a filesystem that "
            "it can open, or read them with spark.read.text and split the lines with Spark's functions."
        ) from error


def _list_files(root: str) -> tuple[pafs.FileSystem, list[_Range]]:
    """The files at or under `root` that hold at least a byte, sorted by name, each as one whole range."""
    filesystem, base = _filesystem(root)
    info = filesystem.get_file_info(base)
    if info.type == pafs.FileType.NotFound:
        raise FileNotFoundError(f"Nothing is at {root}; give the path of a text matrix or of a folder of them.")
    if info.type == pafs.FileType.Directory:
        infos = filesystem.get_file_info(pafs.FileSelector(base, recursive=True))
        above = len(base.rstrip("/")) + 1
        infos = [f for f in infos if not re.search(r"(^|/)[._]", f.path[above:])]
    else:
        infos, above = [info], len(info.path) - len(info.base_name)
    files = [_Range(f.path[above:], f.path, 0, f.size) for f in infos if f.type == pafs.FileType.File and f.size]
    if packed := [f.name for f in files if re.search(r"\.(gz|bz2|zst|xz|lz4|snappy|zip)$", f.name)]:
        raise ValueError(f"{packed[0]} in {root} is compressed; unpack it first.")
    return filesystem, sorted(files, key=lambda f: f.name)


def _first_row(root: str) -> tuple[str, bytes]:
    filesystem, files = _list_files(root)
    for file in files:
        with filesystem.open_input_file(file.path) as handle:
            for _, block in _blocks(handle, 0, file.stop, _READ_BYTES, 1):
                if block.strip():
                    return file.name, block
    raise ValueError(f"No row is in {root}; files whose names start with '_' or '.' are not read.")


def _cut(files: list[_Range], slots: int, chunk: int, read: int) -> list[list[_Range]]:
    """Even ranges for each Spark partition: of `chunk` bytes at most, as many as keep all `slots` busy to the end.

    There are fewer than slots where the files do not have `read` bytes for each.
    """
    total = sum(file.stop for file in files)
    count = min(math.ceil(math.ceil(total / chunk) / slots) * slots, math.ceil(total / read))
    size = math.ceil(total / max(count, 1))
    parts: list[list[_Range]] = [[] for _ in range(count)]
    before = 0
    for file in files:
        for i in range(before // size, (before + file.stop - 1) // size + 1):
            start, stop = max(0, i * size - before), min(file.stop, (i + 1) * size - before)
            parts[i].append(_Range(file.name, file.path, start, stop))
        before += file.stop
    return [part for part in parts if part]


def _whole_lines(handle: Any, start: int, size: int) -> tuple[bytes, int]:
    """Bytes from `start` on, and how many there are to the end of the line of byte ``start + size - 1``."""
    handle.seek(start)
    data = handle.read(size + (1 << 16))  # the rest is seldom longer, and a second read is seldom needed
    end = data.find(b"\n", size - 1) + 1
    while not end:
        if len(data) > _LONGEST_LINE:
            raise ValueError(f"The line at byte {start} is longer than 1 GiB; give a file of text lines.")
        more = handle.read(len(data))
        if not more:
            return data, len(data)
        end = more.find(b"\n") + 1
        end += len(data) if end else 0
        data += more
    return data, end


def _blocks(handle: Any, start: int, stop: int, read: int, block: int) -> Iterator[tuple[int, bytes]]:
    """Lines whose first byte lies in [start, stop), some `block` bytes at a time, each with its offset."""
    if start:
        start += _whole_lines(handle, start - 1, 1)[1] - 1
    while start < stop:
        data, end = _whole_lines(handle, start, min(read, stop - start))
        if not end:  # the file is shorter than it was when the read was planned
            return
        done = 0
        while done < end:
            done, begun = data.find(b"\n", min(done + block, end) - 1) + 1 or end, done
            yield start + begun, data[begun:done]
        start += end


# ------------------------------------------------------------------------------------ Spark's interface


class TextMatrixSource(DataSource):
    """The data source that `read_text_matrix` registers; its options are that function's, as text."""

    @classmethod
    def name(cls) -> str:
        return "spark_cnn_ensemble.text_matrix"

    def schema(self) -> StructType:
        # Without nulls: Spark then copies arrays some 8 % faster.
        schema = StructType().add("id", LongType(), False).add("features", ArrayType(FloatType(), False), False)
        return schema if self.options["label"] == "None" else schema.add("label", IntegerType(), False)

    def reader(self, schema: StructType) -> _Reader:
        options = {key: literal_eval(value) for key, value in self.options.items() if key != "root"}
        layout = Layout(options["columns"], options["sep"], options["label"], options["scale"])
        cut = (options["slots"], options["chunk"], options["read"])
        return _Reader(self.options["root"], layout, cut, options["block"])


class _Reader(DataSourceReader):
    def __init__(self, root: str, layout: Layout, cut: tuple[int, int, int], block: int) -> None:
        self.root, self.layout, self.cut, self.sizes = root, layout, cut, (cut[-1], block)

    def partitions(self) -> list[InputPartition]:
        return [InputPartition(part) for part in _cut(_list_files(self.root)[1], *self.cut)]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        filesystem = _filesystem(self.root)[0]
        for part in partition.value:
            try:
                handle = filesystem.open_input_file(part.path)
            except FileNotFoundError:
                raise FileNotFoundError(
                    f"{part.path} is not on {socket.gethostname()}; put the files where all executors see them."
                ) from None
            with handle:
                for offset, block in _blocks(handle, part.start, part.stop, *self.sizes):
                    rows = parse(block, self.layout)
                    if rows is None:
                        raise ValueError(_first_fault(handle, part.name, offset, block, self.layout))
                    if len(rows.values):
                        yield _batch(rows, part.name, offset, self.layout)


def _batch(rows: Rows, name: str, offset: int, layout: Layout) -> pa.RecordBatch:
    file_key = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little", signed=True)
    ids = rows.starts.astype(np.int64) + offset
    ids += np.int64(file_key)  # wraps around
    features = {None: rows.values, "first": rows.values[:, 1:], "last": rows.values[:, :-1]}[layout.label]
    features = features * np.float32(layout.scale)
    ends = np.arange(0, features.size + 1, features.shape[1], dtype=np.int32)
    element = pa.field("element", pa.float32(), nullable=False)
    fields = [("id", pa.int64()), ("features", pa.list_(element)), ("label", pa.int32())]
    columns = [
        pa.array(ids),
        pa.ListArray.from_arrays(pa.array(ends), pa.array(features.ravel()), pa.list_(element)),
    ]
    if rows.labels is not None:
        columns.append(pa.array(rows.labels.astype(np.int32)))
    schema = pa.schema([pa.field(*field, nullable=False) for field in fields[: len(columns)]])
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _first_fault(handle: Any, name: str, offset: int, block: bytes, layout: Layout) -> str:
    """Which line of a refused block is malformed, and why: a slow look, only taken on the way to an error."""
    number = 1
    handle.seek(0)
    for start in range(0, offset, _READ_BYTES):
        number += handle.read(min(_READ_BYTES, offset - start)).count(b"\n")
    for line in block.split(b"\n"):
        if fault := line_fault(line, layout):
            return f"{name}, line {number}: {fault}; correct or remove the line."
        number += 1
    return f"{name}: {len(block)} bytes from byte {offset} on are not lines of numbers; correct or remove them."
