"""The first line of a text matrix: the names in a header, and the arguments that a first line asks for.

Called by `reader` on the driver.
"""

from __future__ import annotations

from spark_cnn_ensemble.text.lines import Layout, cells_of, line_fault

_LABEL_NAMES = {"label", "labels", "class", "target", "y"}
_SEPARATORS = (",", "\t", ";", "|", " ")
_MANY = 10  # columns; a row of fewer may well hold 0, 1, 2, ... by chance


def header_fault(header: bytes, layout: Layout) -> str | None:
    """What the names of a header say against the arguments of the reader, and the remedy; None if nothing."""
    names = _names(header, layout.sep)
    if names[0] in ("", "unnamed: 0", "rownames"):
        return (
            "the first column of its header has no name, so it is an index that pandas or R wrote; write the file "
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


def arguments_for(line: bytes, sep: str) -> list[str]:
    """The arguments that fit a first line which is not a row with the separator `sep`."""
    found = max(_SEPARATORS, key=lambda candidate: len(cells_of(line, candidate)))
    better = len(cells_of(line, found)) > len(cells_of(line, sep))
    names = _names(line, found if better else sep)
    arguments = [f"sep={found!r}"] if better else []
    if names[-1][:1].isalpha() and sum(_is_number(name) for name in names) <= len(names) // 2:
        arguments.append("header=True")
        ends = [end for end, at in (("first", 0), ("last", -1)) if names[at] in _LABEL_NAMES]
        arguments += [f"label={end!r}" for end in ends[:1]]
    return arguments


def _names(line: bytes, sep: str) -> list[str]:
    return [cell.strip().strip("\"'").strip().lower() for cell in cells_of(line, sep)]


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True
