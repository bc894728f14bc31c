"""What the library needs of a Spark session beyond DataFrames, behind one interface.

`engine_of` chooses the implementation by the session's type; nothing else asks what kind of session it has. The JVM,
the SparkContext, broadcasts, accumulators, Hadoop's files and task slots are named in this folder alone.
"""

from __future__ import annotations

from pyspark.sql import SparkSession

from spark_cnn_ensemble.engine.classic import ClassicEngine
from spark_cnn_ensemble.engine.interface import Engine


def engine_of(spark: SparkSession) -> Engine:
    """The engine for a session.

    Raises
    ------
    ValueError
        The session is of a kind that the library does not support.
    """
    if type(spark).__module__.startswith("pyspark.sql.connect."):
        raise ValueError(
            "Spark Connect sessions are not supported; give a classic session, such as "
            "SparkSession.builder.master('local[*]').getOrCreate()."
        )
    return ClassicEngine(spark)
