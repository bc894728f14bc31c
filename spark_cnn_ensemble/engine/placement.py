"""Placing rows in chosen partitions by `DataFrame.repartition`, which assigns a row by the hash of its key.

Spark hashes an int by Murmur3, which is a bijection on 32 bits: inverted, it gives the key with a chosen hash. Called
by `Engine.place`.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

_SEED = 42  # of Spark's function hash, and of its shuffles
_BITS = 0xFFFFFFFF


def place(frame: DataFrame, partition: Column, count: int) -> DataFrame:
    """Put each row into the partition, 0 to `count` - 1, that the int column `partition` names."""
    keys = ",".join(str(key_with_hash(index)) for index in range(count))
    # Spark folds the array into one constant; `count` literals by themselves would take seconds to send.
    return frame.repartition(count, F.expr(f"array({keys})")[partition])


def key_with_hash(wanted: int) -> int:
    """The int, -2**31 to 2**31 - 1, whose hash is `wanted`, 0 to 2**31 - 1.

    The steps of Murmur3_x86_32 for one int, in reverse order.
    """
    bits = wanted
    bits ^= bits >> 16
    bits = _divided(bits, 0xC2B2AE35)
    bits ^= bits >> 13 ^ bits >> 26
    bits = _divided(bits, 0x85EBCA6B)
    bits ^= bits >> 16
    bits ^= 4  # bytes that were hashed
    bits = _divided(bits - 0xE6546B64, 5)
    bits = _rotated_right(bits, 13) ^ _SEED
    bits = _rotated_right(_divided(bits, 0x1B873593), 15)
    bits = _divided(bits, 0xCC9E2D51)
    return bits - (1 << 32) if bits >> 31 else bits


def _divided(bits: int, factor: int) -> int:
    """The number whose product with `factor` is `bits`, modulo 2**32."""
    return bits * pow(factor, -1, 1 << 32) & _BITS


def _rotated_right(bits: int, count: int) -> int:
    return (bits >> count | bits << 32 - count) & _BITS
