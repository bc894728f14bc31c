"""Files of text lines -> Arrow batches of rows: the executors' side of reading a text matrix.

Here: the bytes that a task reads from the files, whole lines from them, and the rows' ids. Not here: the numbers in a
line (`lines`). Workers call `read_parts`; on the driver, `reader` uses `blocks` for the first row.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from spark_cnn_ensemble.text.lines import Layout, Rows, line_fault, parse

URI = re.compile(r"[A-Za-z][\w+.-]+:/")
LONGEST_LINE = 1 << 30  # bytes; Arrow's strings end at 2 GiB


class Span(NamedTuple):
    """The lines of a file whose first byte is in [start, stop), as in Hadoop's input splits."""

    name: str  # the file's path below the root
    path: str
    start: int
    stop: int


class Matrix(NamedTuple):
    """What to read, and the sizes of the pieces."""

    root: str
    files: list[Span]  # whole files
    layout: Layout
    part: int  # bytes per task, of the files seen as concatenated
    read: int  # bytes requested from the filesystem at once
    block: int  # bytes parsed at once into an Arrow batch


def read_parts(batches: Iterable[pa.RecordBatch], matrix: Matrix) -> Iterator[pa.RecordBatch]:
    """The rows of the parts whose numbers are in the only column of `batches`.

    Raises
    ------
    FileNotFoundError
        A file is not on this host.
    ValueError
        A line is malformed; the message names the file and the line.
    """
    filesystem = filesystem_of(matrix.root)[0]
    for batch in batches:
        for part in batch.column(0).to_pylist():
            for span in spans(matrix.files, part * matrix.part, (part + 1) * matrix.part):
                yield from _read(span, filesystem, matrix)


def spans(files: list[Span], start: int, stop: int) -> list[Span]:
    """The pieces of `files`, seen as concatenated, that are in [start, stop)."""
    pieces, before = [], 0
    for file in files:
        span = file._replace(start=max(0, start - before), stop=min(file.stop, stop - before))
        if span.start < span.stop:
            pieces.append(span)
        before += file.stop
    return pieces


def _read(span: Span, filesystem: pafs.FileSystem, matrix: Matrix) -> Iterator[pa.RecordBatch]:
    try:
        handle = filesystem.open_input_file(span.path)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{span.path} is not on {socket.gethostname()}; put the files where all executors can read them."
        ) from None
    with handle:
        for offset, block in blocks(handle, span.start, span.stop, matrix.read, matrix.block):
            rows = parse(block, matrix.layout)
            if rows is None:
                raise ValueError(_first_fault(handle, span.name, offset, block, matrix))
            if len(rows.values):
                yield _batch(rows, span.name, offset, matrix.layout)


def filesystem_of(root: str) -> tuple[pafs.FileSystem, str]:
    """The filesystem of a local path or a URI, and the path on it.

    Raises
    ------
    ValueError
        pyarrow has no filesystem for the URI.
    """
    if not URI.match(root):
        return pafs.LocalFileSystem(), root
    try:
        return pafs.FileSystem.from_uri(root)
    except (OSError, ValueError, NotImplementedError) as error:
        raise ValueError(
            f"pyarrow cannot open {root} ({str(error).splitlines()[0]}); copy the files to a filesystem that "
            "it can open, or read them with spark.read.text and split the lines with Spark's functions."
        ) from error


def _whole_lines(handle: Any, start: int, size: int) -> tuple[bytes, int]:
    """The bytes from `start`, and their number up to the end of the line that has byte ``start + size - 1``."""
    handle.seek(start)
    data = handle.read(size + (1 << 16))  # enough to seldom need a second read for the last line
    end = data.find(b"\n", size - 1) + 1
    while not end:
        if len(data) > LONGEST_LINE:
            raise ValueError(f"The line at byte {start} is longer than 1 GiB; give a file of text lines.")
        more = handle.read(len(data))
        if not more:
            return data, len(data)
        end = more.find(b"\n") + 1
        end += len(data) if end else 0
        data += more
    return data, end


def blocks(handle: Any, start: int, stop: int, read: int, block: int) -> Iterator[tuple[int, bytes]]:
    """The lines whose first byte is in [start, stop), in blocks of about `block` bytes, each with its offset."""
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


def _first_fault(handle: Any, name: str, offset: int, block: bytes, matrix: Matrix) -> str:
    """A sentence that names the malformed line of a block, and its fault; slow, and used only for an error."""
    number = 1
    handle.seek(0)
    for start in range(0, offset, matrix.read):
        number += handle.read(min(matrix.read, offset - start)).count(b"\n")
    for line in block.split(b"\n"):
        if fault := line_fault(line, matrix.layout):
            return f"{name}, line {number}: {fault}; fix or remove the line."
        number += 1
    return f"{name}: {len(block)} bytes from byte {offset} on are not lines of numbers; fix or remove them."
