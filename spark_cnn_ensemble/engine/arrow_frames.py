"""Arrow tables -> DataFrames on Spark 3.5, whose `createDataFrame` takes no table.

Each batch goes to the JVM as one row of bytes, which a worker reads. Called by `ClassicEngine.frame`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import ArrayType, StructType

from spark_cnn_ensemble.engine.placement import place


def frame_of(spark: SparkSession, table: pa.Table, slots: int) -> DataFrame:
    """A DataFrame with a partition for each batch of `table`, or `slots` partitions if the batches are fewer."""
    batches = table.to_batches(max_chunksize=max(1, -(-table.num_rows // slots)))
    rows = [(index, _to_bytes(batch)) for index, batch in enumerate(batches)]
    placed = place(spark.createDataFrame(rows, "index int, batch binary"), F.col("index"), max(1, len(rows)))
    return placed.select("batch").mapInArrow(read_batches, _schema(table.schema))


def _schema(arrow: pa.Schema) -> StructType:
    schema = from_arrow_schema(arrow)
    for field, entry in zip(schema, arrow, strict=True):
        if isinstance(field.dataType, ArrayType):  # Spark 3.5 takes the elements of every array for nullable
            field.dataType.containsNull = entry.type.value_field.nullable
    return schema


def _to_bytes(batch: pa.RecordBatch) -> bytearray:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return bytearray(sink.getvalue())


def read_batches(packed: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The batches in the rows of a task, in a worker."""
    for rows in packed:
        for value in rows.column(0):
            with pa.ipc.open_stream(value.as_buffer()) as stream:
                yield from stream
