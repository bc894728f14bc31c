"""The Spark session of the command line, with Spark's own messages kept off the user's terminal.

Spark, Hadoop and Java print pages of their own, above all where they do not start. Errors reach the user as exceptions,
from which `engine.failures` makes a sentence. Called by `cli`.
"""

from __future__ import annotations

import atexit
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import pyspark
from pyspark.sql import SparkSession

from spark_cnn_ensemble.engine import engine_of
from spark_cnn_ensemble.engine.failures import failure

_ANSWER_TIMEOUT = 10.0  # seconds for a Connect server to answer; the client by itself would try for ten minutes
_STDERR = 2  # of the process, which the JVM inherits; sys.stderr may be another


def start_session(name: str, master: str | None = None, remote: str | None = None, debug: bool = False) -> SparkSession:
    """The Spark session of spark-submit, or else a new one on all cores of this machine.

    Parameters
    ----------
    name : str
        Of the application.
    master : str, optional
        URL of another Spark master.
    remote : str, optional
        URL of a Spark Connect server, in place of a master.
    debug : bool
        Whether to show what Spark logs, and its own error if it does not start.

    Returns
    -------
    SparkSession

    Raises
    ------
    OSError
        Spark did not start, or no server answers.
    """
    if remote is not None:
        return _connect(remote)
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


def _connect(url: str) -> SparkSession:
    """A session of a Spark Connect server, which ends with the process."""
    try:
        from pyspark.sql.connect.client import DefaultChannelBuilder
    except ImportError as error:
        raise OSError(failure(error)) from None
    try:
        builder = DefaultChannelBuilder(url)
    except Exception:  # the text of the error may hold the token
        raise OSError(
            "The URL of the Spark Connect server is not valid; give sc://HOST:PORT, or with a token "
            "sc://HOST:PORT/;token=TOKEN."
        ) from None
    _wait_for_server(builder)
    try:
        spark = SparkSession.builder.remote(url).getOrCreate()
        atexit.register(spark.stop)  # or else the server would keep the session's files for an hour
        server = spark.version
    except Exception as error:
        raise OSError(failure(error)) from None
    if _minor(pyspark.__version__) > _minor(server):
        older = ".".join(map(str, _minor(server)))
        raise OSError(
            f"pyspark {pyspark.__version__} is newer than the Spark Connect server ({server}), which Spark "
            f"does not support; install an older one: pip install 'pyspark[connect]=={older}.*'."
        )
    return spark


def _wait_for_server(builder: Any) -> None:
    import grpc

    with builder.toChannel() as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=_ANSWER_TIMEOUT)
        except grpc.FutureTimeoutError:
            tls = " with TLS, which a token or use_ssl asks for" if builder.secure else ""
            raise OSError(
                f"No Spark Connect server answers at {builder.endpoint}{tls}; check the URL, and that the server runs."
            ) from None


def _minor(version: str) -> tuple[int, ...]:
    """The major and minor version of Spark."""
    return tuple(int(number) for number in version.split(".")[:2])


@contextmanager
def _stderr_in_a_file() -> Iterator[BinaryIO]:
    """Let processes that start in the context write their stderr to a file without a name."""
    if sys.stderr is not None:
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
