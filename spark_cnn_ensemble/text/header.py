"""The first lines of a text matrix: the names in a header, and the arguments that a first line asks for.

Called by `reader` on the driver.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator

from spark_cnn_ensemble.text.files import foreign
from spark_cnn_ensemble.text.lines import Layout, cells_of, line_fault

_LABEL_NAMES = {"label", "labels", "class", "target", "y"}
_WORDS = {"na", "n/a", "null", "none", "true", "false"}  # in cells of rows
_SEPARATORS = (",", "\t", ";", "|", " ")
_MANY = 10  # columns; a row of fewer may well hold 0, 1, 2, ... by chance


def check_first_lines(
    root: str, files: Iterable[tuple[str, Iterator[bytes]]], layout: Layout, header: bool
) -> tuple[Layout, bytes | None]:
    """The layout with its number of columns, from the first row, and the header.

    Parameters
    ----------
    root : str
        What is read, for messages.
    files : iterable of (str, iterator of bytes)
        Names of files, each with its first lines that are not blank.
    layout : Layout
    header : bool
        Whether the first line of a file is a header.

    Raises
    ------
    ValueError
        There is no row, the first one is malformed, or the header does not fit the arguments.
    """
    first, row = None, None
    for file, lines in files:
        names = next(lines, None) if header else None
        first = first or names
        name, row, following = file, next(lines, None), next(lines, None)
        if row is not None:
            break
    else:
        if first and b"\r" in first.strip():
            raise ValueError(
                f"The header in {root} has carriage returns where line feeds are expected; convert its line ends."
            )
        if first:
            raise ValueError(f"No row is in {root} after the header; leave header out if the first line is a row.")
        raise ValueError(f"No row is in {root}; files whose names start with '_' or '.' are not read.")
    layout = layout._replace(columns=len(cells_of(row, layout.sep)))
    if what := foreign(first or row):
        raise ValueError(f"{name} in {root} {what}.")
    if fault := line_fault(row, layout):
        if arguments := [] if header else arguments_for(row, following, layout.sep):
            raise ValueError(f"{name}, first row: {fault}; set {', '.join(arguments)}, or fix or remove the line.")
        raise ValueError(
            f"{name}, first row: {fault}; fix or remove the line, or set sep, label and header to match it."
        )
    if first and (fault := header_fault(first, layout)):
        raise ValueError(f"{name}: {fault}.")
    if doubt := header_doubt(first or row, layout, header):
        warnings.warn(f"The first line of {name} {doubt}.", stacklevel=4)
    return layout, first.strip() if first else None


def header_fault(header: bytes, layout: Layout) -> str | None:
    """What the names of a header say against the arguments of the reader, and the remedy; None if nothing."""
    names = _names(header.lstrip().removeprefix(b"#"), layout.sep)  # numpy.savetxt puts a # in front
    commented = header.lstrip().startswith(b"#")
    if names[0] in ("", "unnamed: 0", "rownames") or (len(names) == layout.columns - 1 and not commented):
        return (
            "its header has no name for the first column, so that is an index that pandas or R wrote; write the file "
            "without it (pandas: index=False, R: row.names = FALSE)"
        )
    labels = [at for at, name in enumerate(names) if name in _LABEL_NAMES]
    if len(labels) != 1 or len(names) != layout.columns or labels[0] == layout.label_at:
        return None
    at = labels[0]
    end = {0: "first", len(names) - 1: "last"}.get(at)
    remedy = f"set label={end!r}" if end else "write the file with it first or last"
    return f"its header names column {at + 1} {names[at]!r}, where label={layout.label!r}; {remedy}, or rename it"


def header_doubt(line: bytes, layout: Layout, header: bool) -> str | None:
    """Why a first line may not be what the argument `header` says, for a warning; None if there is no doubt."""
    if line_fault(line, layout._replace(label=None)):
        return None
    numbers = [float(cell.strip().strip('"')) for cell in cells_of(line, layout.sep)]
    counted = len(numbers) >= _MANY and numbers == list(range(len(numbers)))
    if header and not counted:
        return "holds numbers and is left out as a header; leave header out if it is a row"
    if counted and not header:
        return (
            "is 0, 1, 2, ..., as pandas names columns that have no names, and is read as a row; set header=True if "
            "it is a header"
        )
    return None


def arguments_for(line: bytes, following: bytes | None, sep: str) -> list[str]:
    """The arguments that fit a first line that is not a row with the separator `sep`, and the line after it."""
    rows = [line] if following is None else [line, following]
    fitting = [(len(cells_of(rows[-1], one)), one) for one in (sep, *_SEPARATORS) if _is_row(rows[-1], one)]
    if fitting:
        _, found = max(fitting, key=lambda count_and_sep: count_and_sep[0])
    elif following is None:
        found = max((sep, *_SEPARATORS), key=lambda one: len(cells_of(line, one)))
    else:
        return []
    names = _names(line, found)
    arguments = [f"sep={found!r}"] if found != sep else []
    if not _is_row(line, found):
        if not any(map(_is_name, names)) or (following is None and any(map(_is_number, names))):
            return []
        arguments.append("header=True")
        arguments += [f"label={end!r}" for end, at in (("first", 0), ("last", -1)) if names[at] in _LABEL_NAMES][:1]
    return arguments


def _is_name(cell: str) -> bool:
    return bool(re.match(r"#|[^\W\d_]", cell)) and cell not in _WORDS


def _is_row(line: bytes, sep: str) -> bool:
    return all(map(_is_number, _names(line, sep)))


def _names(line: bytes, sep: str) -> list[str]:
    return [cell.strip().strip("\"'").strip().lower() for cell in cells_of(line, sep)]


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True
