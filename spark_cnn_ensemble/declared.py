"""The declaration of a Param.

`Declared` is a Param with its default and range, `check_params` the check of values against the ranges. The Params
themselves are in `params`. As in scikit-learn, values are checked when they are used, not when they are set.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pyspark.ml.param import Param, Params, TypeConverters

from spark_cnn_ensemble.engine.paths import path_text

T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """The values that a Param may have.

    Parameters
    ----------
    rule : str
        The range in words, as they follow "must be" in a message.
    holds : callable
        Whether a value is in the range.
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


def to_path(value: Any) -> str:
    """The type converter of a path: a str or a pathlib.Path, kept as str, so that saved Params are plain JSON."""
    return path_text(value) if isinstance(value, os.PathLike) else TypeConverters.toString(value)


class Declared(Param[T], Generic[T]):
    """A Param with its default, its range, and whether it decides the job that trains.

    Parameters
    ----------
    name, doc : str
    converter : callable
        One of Spark's `TypeConverters`.
    default : optional
        None: the Param has no default, and is unset until a user sets it.
    allowed : Range, optional
        None: any value of the type.
    decides_job : bool
        Whether fits that differ in this Param read other rows, draw other bags, or run the job in another way. Such
        fits cannot be trained by one job.
    """

    def __init__(
        self,
        name: str,
        doc: str,
        converter: Callable[[Any], T],
        default: T | None = None,
        allowed: Range | None = None,
        decides_job: bool = True,
    ) -> None:
        super().__init__(Params._dummy(), name, doc, typeConverter=converter)
        self.default = default
        self.allowed = allowed
        self.decides_job = decides_job

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner = owner

    def __copy__(self) -> Declared[T]:
        copied = object.__new__(type(self))
        vars(copied).update(vars(self))
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        # For pickle: functions of ranges cannot be pickled, and need not be.
        return _declared, (self._owner, self.name, self.parent)


def _declared(owner: type, name: str, parent: str) -> Declared[Any]:
    """The Param `name` of a class, as that of the instance with the uid `parent`."""
    param: Declared[Any] = copy.copy(getattr(owner, name))
    param.parent = parent
    return param


def check_params(instance: Params) -> None:
    """Check every value, set or default, against the range of its Param.

    Parameters
    ----------
    instance : Params
        An estimator or a model; its class is named in the message.

    Raises
    ------
    ValueError
        A value is out of range.
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


def decides_job(param: Param[Any]) -> bool:
    """Whether fits that differ in `param` cannot be trained by one job; true for Spark's own Params."""
    return getattr(param, "decides_job", True)


def value_or_none(instance: Params, name: str) -> Any:
    """The value of the Param `name`; None if it is unset, 0 or empty."""
    param = instance.getParam(name)
    return (instance.getOrDefault(param) or None) if instance.isDefined(param) else None
