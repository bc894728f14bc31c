"""What is refused about paths: patterns, and paths that are taken."""

from __future__ import annotations


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
    if set(path) & set("*?[]{}"):
        raise ValueError(
            f"{name} '{path}' has a character that Spark reads as a pattern (* ? [ ] {{ }}); choose another."
        )


def path_exists(path: str) -> FileExistsError:
    """The error for a path that is taken and must not be overwritten."""
    return FileExistsError(f"Path {path} exists already; choose another, or overwrite it explicitly.")
