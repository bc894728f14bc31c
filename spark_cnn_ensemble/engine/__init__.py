"""What the library needs of a Spark session beyond DataFrames, behind one interface.

`engine_of` chooses the implementation by the session; nothing else asks what kind of session it has. The JVM,
the SparkContext, broadcasts, artifacts, accumulators, progress handlers, Hadoop's files and task slots are named in
this folder alone.
"""

from __future__ import annotations

from pyspark.sql import SparkSession

from spark_cnn_ensemble.engine.interface import Engine


def engine_of(spark: SparkSession) -> Engine:
    """The engine for a session; each is imported on first use, as a client for Connect has no classic Spark."""
    if type(spark).__module__.startswith("pyspark.sql.connect."):
        from spark_cnn_ensemble.engine.connect import ConnectEngine

        return ConnectEngine(spark)
    from spark_cnn_ensemble.engine.classic import ClassicEngine

    return ClassicEngine(spark)
