"""Type checks for JSON from outside.

Each function raises if a value has another type or range than it must have, with a message that names the entry and
shows the value; `persistence` puts the message into a sentence. Called by `ensemble` and `fit_result`.
"""

from __future__ import annotations

import sys
from typing import Any

_MOST = sys.float_info.max


def check_list(value: Any) -> list[Any]:
    """`value`, if it is a list.

    Raises
    ------
    TypeError
    """
    if type(value) is not list:
        raise TypeError(f"expected a list, found {shortened(value)}")
    return value


def check_int(name: str, value: Any, low: int = 0, end: int = 2**63) -> None:
    """Refuse what is not an integer in [low, end); a boolean is not one.

    Raises
    ------
    ValueError
    """
    if type(value) is not int or not low <= value < end:
        allowed = f">= {low}" if end == 2**63 else f"in {low} to {end - 1}"
        raise ValueError(f"{name} is {shortened(value)} instead of an integer {allowed}")


def check_each(kind: Any, name: str, values: Any, length: int) -> list[Any]:
    """`values`, if it is a list of `length` values, each of the type `kind`, or of a type in the tuple `kind`.

    Raises
    ------
    TypeError, ValueError
    """
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if len(check_list(values)) != length or not set(map(type, values)) <= set(kinds):
        names = " or ".join(each.__name__ for each in kinds)
        raise ValueError(f"{name} is {shortened(values)} instead of {length} values of type {names}")
    return values


def check_numbers(name: str, values: Any, length: int, low: float = -_MOST, high: float = _MOST) -> None:
    """Refuse what is not a list of `length` finite numbers in [low, high].

    Raises
    ------
    TypeError, ValueError
    """
    for value in check_each((int, float), name, values, length):
        if not low <= value <= high:
            raise ValueError(f"{name} is {shortened(value)} instead of a number in {low:g} to {high:g}")


def check_classes(name: str, values: Any, length: int, low: int, end: int) -> None:
    """Refuse what is not a list of `length` class indices, integers in [low, end).

    Raises
    ------
    TypeError, ValueError
    """
    if check_each(int, name, values, length) and (min(values) < low or max(values) >= end):
        raise ValueError(f"{name} are not all in {low} to {end - 1}")


def shortened(value: object, most: int = 100) -> str:
    """The text of a value on one line, cut to `most` characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= most else f"{text[: most - 3]}..."
