"""The reason of a Spark error, in one line for messages."""

from __future__ import annotations

import re

from spark_cnn_ensemble.checked import shortened

_LONGEST = 500
# What Spark 3.5 says around the error of a task: where it ran, the class of the error, and more about it.
_AROUND = re.compile(
    r"^Job aborted due to stage failure: .*?executor \S+\): (?:[\w.$]+: )?|\. (?:Details|Column): ?.*$"
)


def reason(error: Exception) -> str:
    """The first sentence of the message of an error, from Java or Python, without Spark's codes."""
    java = getattr(error, "java_exception", None)
    lines = str(error if java is None else java.getMessage()).strip().splitlines() or [type(error).__name__]
    line = _AROUND.sub("", lines[0])
    return re.sub(r"^\[[A-Z_.]+\] |\.?\s*SQLSTATE: \w+(; line .*)?$", "", shortened(line, _LONGEST)).rstrip(".")
