"""Lines of text -> rows of numbers.

No file is opened here. Called by `files` on executors; `reader` checks the first row with `line_fault`.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


class Layout(NamedTuple):
    """What the numbers of a line are."""

    columns: int  # numbers per line, the label among them
    sep: str
    label: str | None  # "first", "last" or None
    scale: float  # factor for the features
    dtype: str = "float32"  # of the features; "uint8" refuses all but whole numbers from 0 to 255

    @property
    def label_at(self) -> int | None:
        """Index of the label in a line."""
        return {"first": 0, "last": self.columns - 1, None: None}[self.label]

    @property
    def features_at(self) -> slice:
        """Indices of the features in a line."""
        return {"first": slice(1, None), "last": slice(0, -1), None: slice(None)}[self.label]


class Rows(NamedTuple):
    """The numbers of a block of lines."""

    values: np.ndarray  # float32 (rows, columns), the label among them
    labels: np.ndarray | None  # float64 (rows,)
    starts: np.ndarray  # int64 (rows,): the offset in the block of each line's first byte


def parse(block: bytes, layout: Layout) -> Rows | None:
    """The rows of a block of whole lines, blank lines left out; None if a line is malformed."""
    if not block.endswith(b"\n"):
        block += b"\n"
    rows = parse_fixed_width(block, layout)
    aligned = rows is None and layout.sep == " " and b"  " in block
    for tidy in (True,) if aligned else (False, True):
        try:
            rows = rows or parse_any(block, layout, tidy)
        except pa.ArrowInvalid:
            continue
    if rows is None:
        return None
    if layout.dtype == "uint8" and not _are_bytes(rows.values[:, layout.features_at]):
        return None
    if rows.labels is None:
        return rows
    whole = (rows.labels == np.trunc(rows.labels)) & (np.abs(rows.labels) < 1 << 31)
    return rows if whole.all() else None


def _are_bytes(features: np.ndarray) -> bool:
    """Whether all numbers are whole and from 0 to 255."""
    if not ((features >= 0) & (features <= 255)).all():
        return False
    return bool((features.astype(np.uint8) == features).all())


def parse_any(block: bytes, layout: Layout, tidy: bool) -> Rows | None:
    """The rows of a block that ends with a line end; None if a line has another number of columns.

    With `tidy`, runs of spaces are one separator if that is a space; spaces and quotes around a number and a plus
    before it are accepted, and lines of spaces are blank.

    Raises
    ------
    pyarrow.ArrowInvalid
        A token is not a number.
    """
    offsets = pa.array([0, len(block) - 1], pa.int32()).buffers()[1]
    text = pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(block)])
    lines = pc.split_pattern(text, "\n").values
    starts = np.frombuffer(lines.buffers()[1], np.int32, len(lines)) + np.arange(len(lines))
    if b"\r" in block:
        lines = pc.ascii_rtrim(lines, "\r")
    blank = np.asarray(pc.binary_length(pc.ascii_trim_whitespace(lines) if tidy else lines)) == 0
    if blank.any():
        lines, starts = lines.filter(pa.array(~blank)), starts[~blank]
    if tidy and layout.sep == " ":
        cells = _split_at_spaces(pc.ascii_trim_whitespace(lines), block)
    else:
        cells = pc.split_pattern(lines, layout.sep)
    if not np.all(np.asarray(pc.list_value_length(cells)) == layout.columns):
        return None
    tokens = cells.values
    if tidy:
        tokens = pc.ascii_trim_whitespace(tokens)
        if b'"' in block:
            tokens = pc.ascii_trim_whitespace(pc.replace_substring_regex(tokens, r'^"([^"]*)"$', r"\1"))
        if b"+" in block:
            tokens = pc.replace_substring_regex(tokens, r"^\+([^+-])", r"\1")
    values = np.asarray(tokens.cast(pa.float32())).reshape(-1, layout.columns)
    labels = None
    if layout.label_at is not None:
        at = pa.array(np.arange(len(values)) * layout.columns + layout.label_at)
        labels = np.asarray(tokens.take(at).cast(pa.float64()))
    return Rows(values, labels, starts)


def _split_at_spaces(lines: pa.Array, block: bytes) -> pa.Array:
    """Cells between runs of spaces; a tab separates nothing, as two of them may have an empty cell in between."""
    if any(other in block for other in (b"\t", b"\v", b"\f")) or block.count(b"\r") > block.count(b"\r\n"):
        return pc.split_pattern(pc.replace_substring_regex(lines, " +", " "), " ")
    return pc.ascii_split_whitespace(lines)  # five times as fast


# A number from 0 to 9999999 with at most seven digits, as '%.18e' writes it, with the byte after it.
_CELL = np.dtype(
    {
        "names": ["a", "b", "c", "d", "zeros", "zeros2", "e", "exponent", "after"],
        "formats": ["<u2", "<u2", "<u2", "<u2", "<u8", "<u4", "<u2", "<u2", "u1"],
    }
)


@functools.cache
def _pairs() -> dict[str, np.ndarray]:
    """For each part of a `_CELL`, the value of two characters by their 16 bits; NaN if they cannot be there."""
    tables = {name: np.full(1 << 16, np.nan, np.float32) for name in ("a", "b", "c", "d", "exponent")}
    for i in range(100):
        two = int.from_bytes(b"%02d" % i, "little")
        tables["b"][two], tables["c"][two], tables["d"][two] = i * 10_000, i * 100, i
        if i < 10:
            tables["a"][int.from_bytes(b"%d." % i, "little")] = i * 1_000_000
        if i < 7:
            tables["exponent"][two] = 10 ** (6 - i)
    return tables


def parse_fixed_width(block: bytes, layout: Layout) -> Rows | None:
    """The result of `parse_any`, five times as fast, for small integers as savetxt writes them; None for other lines.

    The digits and the power of ten are exact in float32, so their quotient is the correctly rounded number.
    """
    width = _CELL.itemsize * layout.columns
    if len(layout.sep.encode()) != 1 or len(block) % width:
        return None
    cells, pairs = np.frombuffer(block, _CELL), _pairs()
    after = cells["after"].reshape(-1, layout.columns)
    if (after[:, :-1] != ord(layout.sep)).any() or (after[:, -1] != ord("\n")).any():
        return None
    for name, text in (("zeros", b"0" * 8), ("zeros2", b"0" * 4), ("e", b"e+")):
        if (cells[name] != int.from_bytes(text, "little")).any():
            return None
    values = np.take(pairs["a"], cells["a"], mode="clip")  # clip: numpy's fastest mode
    for name in "bcd":
        values += np.take(pairs[name], cells[name], mode="clip")
    values /= np.take(pairs["exponent"], cells["exponent"], mode="clip")
    if np.isnan(values).any():
        return None
    values = values.reshape(-1, layout.columns)
    labels = None if layout.label_at is None else values[:, layout.label_at].astype(np.float64)
    return Rows(values, labels, np.arange(len(values)) * width)


def cells_of(line: bytes, sep: str) -> list[str]:
    """The text of each cell of a line."""
    text = line.decode(errors="replace").rstrip("\r\n")
    return [cell for cell in text.strip().split(sep) if cell] if sep == " " else text.split(sep)


def line_fault(line: bytes, layout: Layout) -> str | None:
    """What is wrong with a line, for a message; None if nothing is."""
    if not line.strip():
        return None
    if b"\r" in line.strip():
        return "it has carriage returns where line feeds are expected"
    tokens = cells_of(line, layout.sep)
    if len(tokens) != layout.columns:
        return f"{len(tokens)} columns where {layout.columns} were expected"
    if layout.label is not None and layout.columns == 1:
        return f"one column, so no feature next to the label, with {layout.sep!r} between columns"
    alone = Layout(1, layout.sep, None, 1.0)
    byte = alone._replace(dtype=layout.dtype)
    for i, token in enumerate(tokens):
        if not token.strip() or parse(token.encode(), alone) is None:
            return f"{token[:40]!r} in column {i + 1} is not a number{_hint(token.strip())}"
        if i == layout.label_at and parse(token.encode(), Layout(1, layout.sep, "first", 1.0)) is None:
            return f"the label {token[:40]!r} is not a whole number of 32 bits"
        if i != layout.label_at and parse(token.encode(), byte) is None:
            return f"{token[:40]!r} in column {i + 1} is not a whole number from 0 to 255 (dtype='float32' reads it)"
    return None


def _hint(token: str) -> str:
    if token in ("", "?", "-", "NA", "N/A", "NULL", "null", "None", '""'):
        return " (nan stands for a missing one)"
    return " (decimal points are expected)" if re.fullmatch(r"[+-]?\d+,\d+", token) else ""
