"""A Spark session, and what the scripts do with its frames and workers."""

import os
import resource
import sys

from pyspark.sql import SparkSession


def session(master="local[2]", driver_memory=None, connect=False):
    """A session that logs errors only; without `driver_memory` it has Spark's default heap of 1 GB.

    With `connect` it is a client of a Spark Connect server with this master, which runs in the JVM of this process.
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    if connect:
        return SparkSession.builder.remote(master).getOrCreate()
    builder = SparkSession.builder.master(master).config("spark.ui.showConsoleProgress", "false")
    if driver_memory:
        builder = builder.config("spark.driver.memory", driver_memory)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def cached(frame):
    """The frame, computed and kept in Spark's cache."""
    frame.cache().count()
    return frame


def compute(frame):
    """Compute all rows of a frame into Spark's "noop" sink, which keeps none."""
    frame.write.format("noop").mode("overwrite").save()


def worker_peak(spark):
    """The most memory that any Python worker of the session has had, in bytes."""

    # Nested, so that it is pickled by value: workers cannot import this file.
    def peaks(frames):
        for frame in frames:
            yield frame.assign(peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10)

    return spark.range(0, 8, 1, 8).mapInPandas(peaks, "id long, peak long").agg({"peak": "max"}).head()[0]
