"""Paths that Spark reads as they are written."""

from __future__ import annotations


def refuse_pattern(path: str, name: str) -> None:
    """Refuse a path that Spark would write to as it stands, but read as a pattern.

    Parameters
    ----------
    path : str
    name : str
        How the message calls it.

    Raises
    ------
    ValueError
        The path has one of the characters * ? [ ] { }.
    """
    if set(path) & set("*?[]{}"):
        raise ValueError(
            f"{name} '{path}' has a character that Spark reads as a pattern (* ? [ ] {{ }}); choose another."
        )
