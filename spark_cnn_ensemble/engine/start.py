"""The Spark session of the command line, with Spark's own messages kept off the user's terminal.

Spark, Hadoop and Java print pages of their own, above all where they do not start. Errors reach the user as exceptions,
from which `engine.failures` makes a sentence. Called by `cli`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from pyspark.sql import SparkSession

from spark_cnn_ensemble.engine import engine_of
from spark_cnn_ensemble.engine.failures import failure

_STDERR = 2  # of the process, which the JVM inherits; sys.stderr may be another


def start_session(name: str, master: str | None = None, debug: bool = False) -> SparkSession:
    """The Spark session of spark-submit, or else a new one on all cores of this machine.

    Parameters
    ----------
    name : str
        Of the application.
    master : str, optional
        URL of another Spark master.
    debug : bool
        Whether to show what Spark logs, and its own error if it does not start.

    Returns
    -------
    SparkSession

    Raises
    ------
    OSError
        Spark did not start.
    """
    builder = SparkSession.builder.appName(name).config("spark.ui.showConsoleProgress", "false")
    if master is not None:
        builder = builder.master(master)
    if debug:
        return builder.getOrCreate()
    builder = builder.config("spark.log.level", "OFF")
    with _stderr_in_a_file() as log:
        try:
            spark = builder.getOrCreate()
            engine_of(spark).quieten()
        except Exception as error:
            raise OSError(failure(error, _text(log))) from error
    return spark


@contextmanager
def _stderr_in_a_file() -> Iterator[BinaryIO]:
    """Let processes that start in the context write their stderr to a file without a name."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as log:
        terminal = os.dup(_STDERR)
        os.dup2(log.fileno(), _STDERR)
        try:
            yield log
        finally:
            os.dup2(terminal, _STDERR)
            os.close(terminal)


def _text(log: BinaryIO) -> str:
    with suppress(OSError):
        log.seek(0)
        return log.read().decode(errors="replace")
    return ""
