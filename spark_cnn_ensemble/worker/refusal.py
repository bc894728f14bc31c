"""The exceptions by which a worker refuses its rows or its result, and how they cross Spark to the driver."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

# A worker's traceback ends with the class; Spark's raise_error, which `rows.refusing` uses, names its own condition.
_IN_TRACE = re.compile(r"spark_cnn_ensemble\.worker\.refusal\.(?:Refusal|Divergence): (.+)")
_RAISED_BY_SPARK = re.compile(r"\[USER_RAISED_EXCEPTION\] ((?:Row |A row).+?)(?: SQLSTATE: \w+)?$", re.MULTILINE)

_MISSING_MODULE = re.compile(r"ModuleNotFoundError: No module named ('[\w.]+')")


class Refusal(ValueError):
    """Input that cannot be used: one sentence that names the param, the column or the row, and the remedy."""


class Divergence(Refusal):
    """A member's loss or weights are not finite."""


def refusal_in(text: str) -> str | None:
    """The sentence of the `Refusal` in a traceback that Spark carried as text; None where there is none."""
    found = _IN_TRACE.search(text) or _RAISED_BY_SPARK.search(text)
    return found.group(1).strip() if found else None


@contextmanager
def refusing_in_python() -> Iterator[None]:
    """Turn the refusal inside an error of Spark into a ValueError of that one sentence."""
    try:
        yield
    except Exception as error:
        sentence = refusal_in(str(error))
        if sentence is not None:
            raise ValueError(sentence) from None
        missing = _MISSING_MODULE.search(str(error))
        if missing:
            raise ModuleNotFoundError(
                f"Spark's Python workers have no module {missing.group(1)}; set the environment variable "
                "PYSPARK_PYTHON, before Spark is started, to a Python that has spark_cnn_ensemble and what it needs."
            ) from None
        raise
