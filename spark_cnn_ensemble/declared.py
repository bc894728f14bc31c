"""How a Param is declared, with its default and range, and how values are checked.

The Params themselves are in `params`. As in scikit-learn, values are checked when they are used, not when they are set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pyspark.ml.param import Param, Params

T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """The values that a Param may have.

    Parameters
    ----------
    rule : str
        Follows "must be" in a message.
    holds : callable
        Whether a value is one of them.
    """

    rule: str
    holds: Callable[[Any], bool]


def at_least(low: float) -> Range:
    """Numbers >= `low`."""
    return Range(f">= {low}", lambda value: value >= low)


def one_of(names: Iterable[Any]) -> Range:
    """These values alone."""
    names = tuple(names)
    return Range(f"one of {', '.join(repr(name) for name in names)}", lambda value: value in names)


POSITIVE = Range("a finite number > 0", lambda value: 0 < value < math.inf)


class Declared(Param[T], Generic[T]):
    """A Param with everything that is known of it.

    Parameters
    ----------
    name, doc : str
    converter : callable
        Of `TypeConverters`.
    default : optional
        None: the Param has no default and is unset.
    allowed : Range, optional
        None: any value of the type.
    decides_bags : bool
        Whether fits that differ in this Param read other rows, draw other bags, or run the job in another way, and so
        cannot be trained together.
    """

    def __init__(
        self,
        name: str,
        doc: str,
        converter: Callable[[Any], T],
        default: T | None = None,
        allowed: Range | None = None,
        decides_bags: bool = True,
    ) -> None:
        super().__init__(Params._dummy(), name, doc, typeConverter=converter)
        self.default = default
        self.allowed = allowed
        self.decides_bags = decides_bags


def check_params(instance: Params) -> None:
    """Check every value that is set, or has a default, against the range of its Param.

    Raises
    ------
    ValueError
        Names the Param, the class, the rule and the value.
    """
    for param in instance.params:
        allowed = getattr(param, "allowed", None)
        if allowed is None or not instance.isDefined(param):
            continue
        value = instance.getOrDefault(param)
        if not allowed.holds(value):
            raise ValueError(
                f"The '{param.name}' parameter of {type(instance).__name__} must be {allowed.rule}. Got {value!r} "
                "instead."
            )


def decides_bags(param: Param[Any]) -> bool:
    """Whether fits that differ in a Param cannot be trained by one job; see `Declared`."""
    return getattr(param, "decides_bags", True)


def optional(instance: Params, name: str) -> Any:
    """The value of a Param that may be unset; None if it is unset or an empty string."""
    param = instance.getParam(name)
    return (instance.getOrDefault(param) or None) if instance.isDefined(param) else None
