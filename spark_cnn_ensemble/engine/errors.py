"""The reason of a Spark error, in one line for messages."""

from __future__ import annotations

import re

from spark_cnn_ensemble.checked import shortened

_LONGEST = 500


def reason(error: Exception) -> str:
    """The first line of the message of an error, from Java or Python, without Spark's codes."""
    java = getattr(error, "java_exception", None)
    lines = str(error if java is None else java.getMessage()).strip().splitlines() or [type(error).__name__]
    return re.sub(r"^\[[A-Z_.]+\] |\.?\s*SQLSTATE: \w+(; line .*)?$", "", shortened(lines[0], _LONGEST)).rstrip(".")
