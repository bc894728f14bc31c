"""Refusals and their way from a worker through Spark to the driver.

Workers raise `Refusal`; Spark reports it as text inside an error of its own; `refusing_in_python` finds the sentence
there. Called wherever the driver starts a job.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

# A worker's traceback ends with the class. `rows.columns.refusing` uses Spark's raise_error, which has its own prefix:
# the condition from Spark 4.0 on, before it the class.
_IN_TRACE = re.compile(r"spark_cnn_ensemble\.worker\.refusal\.(?:Refusal|Divergence): (.+)")
_RAISED_BY_SPARK = re.compile(
    r"(?:\[USER_RAISED_EXCEPTION\]|java\.lang\.RuntimeException:) ((?:Row |A row).+?)(?: SQLSTATE: \w+)?$", re.MULTILINE
)

OR_SKIP = ", or set handleInvalid='skip' to leave such rows out"  # ends the sentence that refuses a row

_PACKAGE = re.compile(r"(?:ModuleNotFound|Import)Error: (Spark's Python workers have .+)")
_MISSING_MODULE = re.compile(r"ModuleNotFoundError: No module named ('[\w.]+')")


class Refusal(ValueError):
    """Unusable input: one sentence that names the param, column or row, and the remedy."""


class Fault(NamedTuple):
    """What is wrong with a row's features, and what to do about it: the two parts of a clause."""

    what: str
    remedy: str = "fix the row"


class Unusable(Exception):
    """A cell that holds no image.

    Parameters
    ----------
    *fault : str
        The fields of a `Fault`.
    """

    def __init__(self, *fault: str) -> None:
        super().__init__(*fault)
        self.fault = Fault(*fault)


class Divergence(Refusal):
    """A member's loss or weights are not finite."""


def row_fault(column: str, name: str | None, fault: Fault) -> str:
    """The sentence that refuses a row, by its name if it has one, because of its features."""
    row = f"Row {name}" if isinstance(name, str) else "A row"
    return f"{row}: column '{column}' {fault.what}; {fault.remedy}{OR_SKIP}."


def refusal_in(text: str) -> str | None:
    """The sentence of the `Refusal` in an error text of Spark's; None if it holds no refusal."""
    match = _IN_TRACE.search(text) or _RAISED_BY_SPARK.search(text)
    return match.group(1).strip() if match else None


@contextmanager
def refusing_in_python() -> Iterator[None]:
    """Turn a refusal inside an error of Spark's into a ValueError with that one sentence."""
    try:
        yield
    except Exception as error:
        sentence = refusal_in(str(error))
        if sentence is not None:
            raise ValueError(sentence) from None
        if package := _PACKAGE.search(str(error)):
            raise ImportError(package.group(1).strip()) from None
        missing = _MISSING_MODULE.search(str(error))
        if missing:
            raise ModuleNotFoundError(
                f"Spark's Python workers have no module {missing.group(1)}; set the environment variable "
                "PYSPARK_PYTHON, before Spark is started, to a Python that has spark_cnn_ensemble and its dependencies."
            ) from None
        raise
