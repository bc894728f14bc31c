"""Paths as text, and what is refused about them: patterns, and paths that are taken."""

from __future__ import annotations

import os
import re
from pathlib import PurePath

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")


def path_text(path: str | os.PathLike[str]) -> str:
    """A path as text, from a str or a pathlib.Path.

    Raises
    ------
    TypeError
        It is neither.
    ValueError
        A pathlib.Path was made from a URI. It has one slash after the scheme, so that it leads to another place.
    """
    text = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError(f"A path must be a str or a pathlib.Path. Got {path!r} instead.")
    if isinstance(path, PurePath) and (scheme := _SCHEME.match(text)):
        raise ValueError(
            f"{path!r} was a URI before pathlib removed a slash; pass it as a str, such as "
            f"'{scheme[1]}://{text[scheme.end() :]}'."
        )
    return text


def is_pattern(path: str) -> bool:
    """Whether Spark reads a path as a pattern."""
    return bool(set(path) & set("*?[]{}"))


def refuse_pattern(path: str, name: str) -> None:
    """Refuse a path that Spark would write to literally but read as a pattern.

    Parameters
    ----------
    path : str
    name : str
        What the message calls the path.

    Raises
    ------
    ValueError
        The path has any of the characters * ? [ ] { }.
    """
    if is_pattern(path):
        raise ValueError(
            f"{name} '{path}' has a character that Spark reads as a pattern (* ? [ ] {{ }}); choose another."
        )


def path_exists(path: str, kept: str | None = None) -> FileExistsError:
    """The error for a path that is taken and must not be overwritten; `kept` is where the result is instead."""
    where = f" (the result is in {kept})" if kept else ""
    return FileExistsError(f"Path {path} exists already; choose another, or overwrite it explicitly{where}.")
