"""Files of text lines -> Arrow batches of rows: the executors' side of reading a text matrix.

Here: the bytes that a task reads from the files, whole lines from them, and the rows' ids. Not here: the numbers in a
line (`lines`) and what compresses a file (`compressed`). Workers call `read_parts`; on the driver, `reader` uses
`first_lines`.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from spark_cnn_ensemble.text.compressed import ForwardText, codec_of
from spark_cnn_ensemble.text.lines import Layout, Rows, line_fault, parse
from spark_cnn_ensemble.worker.refusal import Refusal

URI = re.compile(r"[A-Za-z][\w+.-]+:/")
LONGEST_LINE = 1 << 30  # bytes; Arrow's strings end at 2 GiB
TO_THE_END = 1 << 62
_FIRST_READ = 1 << 16  # bytes; a first line is seldom longer
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # as Excel writes it before UTF-8

# First bytes of files that are not lines of text, and what they are.
_FOREIGN = {
    b"\xff\xfe": "is text in UTF-16; convert it to UTF-8",
    b"\xfe\xff": "is text in UTF-16; convert it to UTF-8",
    b"\x1f\x8b": "is compressed by gzip; give it a name that ends with .gz",
    b"BZh": "is compressed by bzip2; give it a name that ends with .bz2",
    b"\x28\xb5\x2f\xfd": "is compressed by zstd; give it a name that ends with .zst",
    b"PK\x03\x04": "is a zip archive or an Excel workbook; unpack it, or save it as CSV",
    b"PAR1": "is a Parquet file; read it with spark.read.parquet",
    b"\x89PNG": "is a picture; read it with spark.read.format('binaryFile')",
    b"\xff\xd8\xff": "is a picture; read it with spark.read.format('binaryFile')",
    b"\xd0\xcf\x11\xe0": "is an Excel workbook; save it as CSV",
    b"<!": "is a web page, perhaps of an error; download the file again",
    b"<html": "is a web page, perhaps of an error; download the file again",
    b"version https://git-lfs": "is a pointer of Git LFS; run git lfs pull",
    b"{": "is JSON; read it with spark.read.json",
    b"@": "is an ARFF file; remove its lines up to @data",
    b"\x93NUMPY": "is a file of numpy's; read it with numpy.load, and make a DataFrame with to_dataframe",
}


class Unreachable(OSError):
    """pyarrow cannot open or list a URI; the message is the reason."""


class Span(NamedTuple):
    """The lines of a file whose first byte is in [start, stop), as in Hadoop's input splits."""

    name: str  # the file's path below the root
    path: str
    start: int
    stop: int


class Matrix(NamedTuple):
    """What to read, and the sizes of the pieces."""

    root: str
    packed: list[list[Span]]  # the first parts: whole compressed files
    files: list[Span]  # whole files that are not compressed; the other parts are pieces of them
    layout: Layout
    header: bytes | None  # the first line of each file, without its end; None if the first line is a row
    part: int  # bytes per task, of `files` seen as concatenated
    read: int  # bytes requested from the filesystem at once
    block: int  # bytes parsed at once into an Arrow batch


def read_parts(batches: Iterable[pa.RecordBatch], matrix: Matrix) -> Iterator[pa.RecordBatch]:
    """The rows of the parts whose numbers are in the only column of `batches`.

    Raises
    ------
    Refusal
        A file cannot be opened or is damaged, or a line is malformed; the message names the file and the line.
    """
    filesystem = filesystem_of(matrix.root)[0]
    for batch in batches:
        for part in batch.column(0).to_pylist():
            for span in spans_of_part(matrix, part):
                yield from _read(span, filesystem, matrix)


def spans_of_part(matrix: Matrix, part: int) -> list[Span]:
    """What the part with this number holds."""
    if part < len(matrix.packed):
        return matrix.packed[part]
    start = (part - len(matrix.packed)) * matrix.part
    return spans(matrix.files, start, start + matrix.part)


def spans(files: list[Span], start: int, stop: int) -> list[Span]:
    """The pieces of `files`, seen as concatenated, that are in [start, stop)."""
    pieces, before = [], 0
    for file in files:
        span = file._replace(start=max(0, start - before), stop=min(file.stop, stop - before))
        if span.start < span.stop:
            pieces.append(span)
        before += file.stop
    return pieces


def open_text(span: Span, filesystem: pafs.FileSystem) -> Any:
    """A handle on a file's text."""
    try:
        file = filesystem.open_input_file(span.path)
    except FileNotFoundError:
        raise Refusal(
            f"{span.path} is not on {socket.gethostname()}; put the files where all executors can read them."
        ) from None
    except OSError as error:
        raise Refusal(
            f"{span.path} cannot be opened on {socket.gethostname()} ({one_line(error)}); make it readable there."
        ) from None
    codec = codec_of(span.name)
    return file if codec is None else ForwardText(file, codec, span.name)


def _read(span: Span, filesystem: pafs.FileSystem, matrix: Matrix) -> Iterator[pa.RecordBatch]:
    if codec_of(span.name):
        span = span._replace(stop=TO_THE_END)
    with open_text(span, filesystem) as handle:
        yield from rows_of_span(handle, span, matrix)


def rows_of_span(handle: Any, span: Span, matrix: Matrix) -> Iterator[pa.RecordBatch]:
    """The rows of a file's lines whose first byte is in a span.

    Raises
    ------
    Refusal
        The first line is not the header, or a line is malformed.
    """
    start = max(span.start, _end_of_header(handle, span.name, matrix.header))
    for offset, block in blocks(handle, start, span.stop, matrix.read, matrix.block):
        block, offset = _without_mark(block, offset)
        rows = parse(block, matrix.layout)
        if rows is None:
            raise Refusal(_first_fault(handle, span.name, offset, block, matrix))
        if len(rows.values):
            yield _batch(rows, span.name, offset, matrix.layout)


def _without_mark(block: bytes, offset: int) -> tuple[bytes, int]:
    """A block and its offset without the byte order mark that a file may start with."""
    if offset == 0 and block.startswith(_BYTE_ORDER_MARK):
        return block[len(_BYTE_ORDER_MARK) :], len(_BYTE_ORDER_MARK)
    return block, offset


def _end_of_header(handle: Any, name: str, header: bytes | None) -> int:
    """The offset of what follows the header of a file, or 0 if files have none."""
    if header is None:
        return 0
    for end, line in first_lines(handle):
        if line.strip() != header:
            raise Refusal(
                f"{name}: its first line is not the header of the first file; give all files the same header, or "
                "read them one by one."
            )
        return end
    return 0


def first_lines(handle: Any) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not blank, each with the offset of its end."""
    for offset, block in blocks(handle, 0, TO_THE_END, _FIRST_READ, 1):
        end = offset + len(block)
        line, _ = _without_mark(block, offset)
        if line.strip():
            yield end, line


def one_line(error: Exception) -> str:
    """The reason of an error of the filesystem."""
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def filesystem_of(root: str) -> tuple[pafs.FileSystem, str]:
    """The filesystem of a local path or a URI, and the path on it.

    Raises
    ------
    Unreachable
        pyarrow cannot open the URI's filesystem.
    """
    if not URI.match(root):
        return pafs.LocalFileSystem(), root
    try:
        return pafs.FileSystem.from_uri(root)
    except (OSError, ValueError, NotImplementedError, pa.ArrowException) as error:
        raise Unreachable(one_line(error)) from error


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
    columns = {"id": pa.array(ids), "features": _features(rows.values[:, layout.features_at], layout)}
    if rows.labels is not None:
        columns["label"] = pa.array(rows.labels.astype(np.int32))
    schema = pa.schema([pa.field(name, values.type, nullable=False) for name, values in columns.items()])
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=schema)


def _features(features: np.ndarray, layout: Layout) -> pa.Array:
    """The features of each row in one cell: bytes or an array of float32."""
    ends = pa.array(np.arange(0, features.size + 1, features.shape[1], dtype=np.int32))
    if layout.dtype == "uint8":
        data = pa.py_buffer(features.astype(np.uint8, order="C"))
        return pa.Array.from_buffers(pa.binary(), len(features), [None, ends.buffers()[1], data])
    kind = pa.list_(pa.field("element", pa.float32(), nullable=False))
    return pa.ListArray.from_arrays(ends, pa.array((features * np.float32(layout.scale)).ravel()), kind)


def _first_fault(handle: Any, name: str, offset: int, block: bytes, matrix: Matrix) -> str:
    """A sentence that names the malformed line of a block, and its fault; slow, and used only for an error."""
    head, before = _beginning(handle, offset, matrix.read)
    if what := foreign(head or block):
        return f"{name} {what}."
    for number, line in enumerate(block.split(b"\n"), before + 1):
        if fault := line_fault(line, matrix.layout):
            return f"{name}, line {number}: {fault}; fix or remove the line."
    return f"{name}: {len(block)} bytes from byte {offset} on are not lines of numbers; fix or remove them."


def _beginning(handle: Any, offset: int, read: int) -> tuple[bytes, int]:
    """The first bytes of a file, and the number of its line ends before an offset."""
    if isinstance(handle, ForwardText):
        return handle.head, handle.lines_before(offset)
    handle.seek(0)
    head, lines = b"", 0
    for start in range(0, offset, read):
        data = handle.read(min(read, offset - start))
        head, lines = head or data, lines + data.count(b"\n")
    return head, lines


def foreign(data: bytes) -> str | None:
    """What a file is whose first bytes are not text in UTF-8, and what to do; None for other files."""
    return next((what for magic, what in _FOREIGN.items() if data.startswith(magic)), None)
