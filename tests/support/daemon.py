"""Spark's daemon of Python workers, which has imported before it forks what each worker would import by itself.

A worker whose task fails ends, and hundreds of refusals are tested; TensorFlow alone takes 3 s of CPU time to import.
"""

import gc
import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # as where the library imports it

import keras  # noqa: F401
import pandas  # noqa: F401
import pyarrow  # noqa: F401
import tensorflow  # noqa: F401
from pyspark.daemon import manager

if __name__ == "__main__":
    del os.environ["TF_CPP_MIN_LOG_LEVEL"]
    gc.freeze()  # so that a worker collects no garbage among them, and shares their memory
    manager()
