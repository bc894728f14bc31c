"""Packed weights as artifacts of a Connect session.

An artifact is a file that Spark sends to each executor once. It is named by the SHA-256 of its content, so that the
same weights are sent once per session, and belongs to the session: nothing removes it before the session ends.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pyspark.sql import SparkSession

from spark_cnn_ensemble.worker.weights import WeightsOf, digest


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

    data = Path(SparkFiles.get(digests[member])).read_bytes()
    if digest(data) != digests[member]:
        raise RuntimeError(
            f"The weights of member {member} were damaged on their way to an executor; run the job again."
        )
    return data
