"""Spark's daemon of Python workers, which has imported before it forks what each worker would import by itself.

A worker whose task fails ends, and hundreds of refusals are tested; TensorFlow alone takes 3 s of CPU time to import.
"""

# ruff: noqa: E402 - the path comes before what is found on it
import gc
import os
import sys

gc.disable()  # a fifth of the time to import TensorFlow

# Spark puts an archive of PySpark before the installed one. It has no compiled files, so that a daemon starts 1 s later,
# and each new worker reads its list of files again.
sys.path[:] = [path for path in sys.path if not path.endswith(".zip")]
for archive in [path for path in sys.path_importer_cache if path.endswith(".zip")]:
    del sys.path_importer_cache[archive]

import pandas  # noqa: F401
import pyarrow  # noqa: F401
from pyspark.daemon import manager

if os.environ.get("SPARK_SIMPLIFIED_TRACEBACK"):  # for DataFrames; RDDs, such as rows from Python, have a daemon apart
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # as where the library imports it

    import keras  # noqa: F401
    import tensorflow  # noqa: F401

    del os.environ["TF_CPP_MIN_LOG_LEVEL"]

if __name__ == "__main__":
    gc.freeze()  # so that a worker collects no garbage among them, and shares their memory
    gc.enable()
    manager()
