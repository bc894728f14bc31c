"""Packed weights, and this package itself, as artifacts of a Connect session.

An artifact is a file that Spark sends to each executor once. It is named by the SHA-256 of its content, so that the
same content is sent once per session, and belongs to the session: nothing removes it before the session ends. Spark
puts it into the session's folder; the tasks of a streaming query get the same files, but are not shown this folder.
"""

from __future__ import annotations

import functools
import io
import tempfile
import threading
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from spark_cnn_ensemble.worker.weights import WeightsOf, digest

_shipped: set[str] = set()  # ids of sessions that have the package
_shipping = threading.Lock()


def ship_package(spark: Any) -> str:
    """Put this package on the path of the session's workers, once per session.

    The workers then run the client's version, whatever is installed there. A server that refuses the artifact may have
    the package; `WorkerFunction` finds out.

    Returns
    -------
    str
        The name of the zip.
    """
    data = _package_as_zip()
    name = f"spark_cnn_ensemble-{digest(data)[:12]}.zip"
    with _shipping:
        if spark.session_id not in _shipped:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, name)
                path.write_bytes(data)
                with suppress(PySparkException):
                    spark.addArtifacts(str(path), pyfile=True)
            _shipped.add(spark.session_id)
    return name


@functools.cache
def _package_as_zip() -> bytes:
    """The sources of this package as this process has found them; the same bytes for the same sources."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, source in sorted(_sources(files("spark_cnn_ensemble"), "spark_cnn_ensemble")):
            archive.writestr(zipfile.ZipInfo(name), source.read_bytes(), zipfile.ZIP_DEFLATED)
    return file.getvalue()


def _sources(folder: Any, name: str) -> Iterator[tuple[str, Any]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _sources(entry, f"{name}/{entry.name}")
        elif entry.name.endswith(".py"):
            yield f"{name}/{entry.name}", entry


def share_as_artifacts(spark: SparkSession, weights: Sequence[bytes]) -> WeightsOf:
    """Send each member's weights as an artifact."""
    digests = [digest(data) for data in weights]
    with tempfile.TemporaryDirectory() as folder:
        for name, data in dict(zip(digests, weights, strict=True)).items():
            path = Path(folder, name)
            path.write_bytes(data)
            spark.addArtifacts(str(path), file=True)
            path.unlink()
    return functools.partial(artifact_weights, digests)


def artifact_weights(digests: Sequence[str], member: int) -> bytes:
    """A member's packed weights, in a worker.

    Raises
    ------
    RuntimeError
        The file on this executor is not the one that was sent.
    """
    from pyspark import SparkFiles

    path = Path(SparkFiles.get(digests[member]))
    if not path.exists():
        path = next(path.parent.glob(f"*/{path.name}"), path)  # in a streaming query
    data = path.read_bytes()
    if digest(data) != digests[member]:
        raise RuntimeError(
            f"The weights of member {member} were damaged on their way to an executor; run the job again."
        )
    return data
