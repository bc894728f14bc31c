"""`repartition` by the keys of `engine.placement` puts each row into the partition that it names, on every Spark."""

import pytest
from pyspark.sql import functions as F

from spark_cnn_ensemble.engine.placement import key_with_hash, place

# The smallest keys that Spark 3.5, 4.0 and 4.3 send to partitions 0 to 15 of 16.
SEEN = [12, 16, 5, 1, 37, 20, 2, 35, 13, 6, 49, 7, 25, 15, 4, 0]


def murmur3(key, seed=42):
    """Spark's hash of an int: Murmur3_x86_32 of four bytes."""

    def multiplied(bits, factor):
        return bits * factor % (1 << 32)

    def rotated(bits, count):
        return (bits << count | bits >> 32 - count) % (1 << 32)

    mixed = multiplied(rotated(multiplied(key % (1 << 32), 0xCC9E2D51), 15), 0x1B873593)
    bits = (multiplied(rotated(seed ^ mixed, 13), 5) + 0xE6546B64) % (1 << 32) ^ 4
    bits = multiplied(bits ^ bits >> 16, 0x85EBCA6B)
    bits = multiplied(bits ^ bits >> 13, 0xC2B2AE35)
    bits ^= bits >> 16
    return bits - (1 << 32) if bits >> 31 else bits


def test_the_hash_is_the_one_that_spark_was_seen_to_use():
    assert [murmur3(key) % 16 for key in SEEN] == list(range(16))


def test_the_keys_of_every_number_of_partitions_from_1_to_1000_land_in_order():
    hashes = [murmur3(key_with_hash(index)) for index in range(1000)]
    for count in range(1, 1001):
        assert [value % count for value in hashes[:count]] == list(range(count))


def test_keys_are_ints_up_to_the_last_hash():
    assert [murmur3(key_with_hash(wanted)) for wanted in (1 << 30, (1 << 31) - 1)] == [1 << 30, (1 << 31) - 1]
    assert all(-(1 << 31) <= key_with_hash(wanted) < 1 << 31 for wanted in range(1000))


def test_spark_gives_the_keys_the_hashes(spark):
    keys = spark.createDataFrame([(key_with_hash(index),) for index in range(1000)], "key int")
    assert [row[0] for row in keys.select(F.hash("key")).collect()] == list(range(1000))


@pytest.mark.parametrize("count", [1, 2, 7, 100, 1000])
def test_each_row_is_in_the_partition_that_it_names(spark, count):
    rows = spark.range(3 * count).select((F.col("id") % count).cast("int").alias("partition"))
    placed = place(rows, F.col("partition"), count)
    found = placed.select("partition", F.spark_partition_id()).collect()
    assert len(found) == 3 * count
    assert all(partition == place for partition, place in found)


def test_partitions_without_rows_are_there_and_adaptive_execution_merges_none(spark):
    rows = spark.range(2).select((F.col("id") * 8).cast("int").alias("partition"))
    ran = place(rows, F.col("partition"), 10).mapInPandas(_sizes, "partition int, rows int").collect()
    assert sorted((row.partition, row.rows) for row in ran) == [(i, int(i in (0, 8))) for i in range(10)]


def _sizes(frames):
    import pandas as pd
    from pyspark import TaskContext

    rows = sum(map(len, frames))
    yield pd.DataFrame({"partition": [TaskContext.get().partitionId()], "rows": [rows]})
