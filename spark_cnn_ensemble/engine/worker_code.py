"""Functions for workers, which refuse them in one sentence where this package is absent or of another version.

`Engine.for_workers` makes them. The check is part of the pickled function, so that each worker makes it before it loads
any code of the package: members of another version would differ without a word.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spark_cnn_ensemble import __version__


class WorkerFunction:
    """A function that is pickled together with the check of the worker's package.

    Parameters
    ----------
    function : callable
    remedy : str
        Ends the sentence that refuses to run it.
    archive : str
        Name of the zip with the package among the files that Spark sends to executors; "" without one.
    """

    def __init__(self, function: Callable[..., Any], remedy: str, archive: str = "") -> None:
        self._function = function
        self._remedy = remedy
        self._archive = archive

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        from pyspark import cloudpickle

        # Pickled here and not before, since PySpark takes note of the broadcasts that it pickles.
        return _opener(), (cloudpickle.dumps(self._function), __version__, self._remedy, self._archive)


def _opener() -> Callable[..., Any]:
    def open_function(data: bytes, version: str, remedy: str, archive: str) -> Any:
        # A function in a function is pickled by value: it runs where the package is missing.
        import pickle
        import sys
        from pathlib import Path

        from pyspark import SparkFiles

        # A streaming query's path names the archive where it is not; see `engine.artifacts`.
        if archive and not any(path.endswith(archive) and Path(path).exists() for path in sys.path):
            sys.path[:0] = map(str, sorted(Path(SparkFiles.getRootDirectory()).glob(f"*/{archive}"))[:1])
        try:
            import spark_cnn_ensemble
        except ImportError:
            raise ModuleNotFoundError(f"Spark's Python workers have no module 'spark_cnn_ensemble'; {remedy}") from None
        there = getattr(spark_cnn_ensemble, "__version__", "unknown")
        if there != version:
            raise ImportError(
                f"Spark's Python workers have version {there} of spark_cnn_ensemble, and the driver has {version}, so "
                f"that members could differ; {remedy}"
            )
        from spark_cnn_ensemble.worker.connection import exchange_at_once

        exchange_at_once()
        return pickle.loads(data)

    return open_function
