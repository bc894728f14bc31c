"""Rows -> bags: the draw, and one bag on one task. Spark expressions only; called by the estimator.

A row's bags are a pure function of its key, the seed and the member, so that the same draw can be made again on any
cluster, in any order, after any retry; `copies_in_bag` is that function.
"""

from __future__ import annotations

import math

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F


def copies_in_bag(key: Column, member: Column, bagging: str, rate: float, num_members: int, seed: int) -> Column:
    """How often the row of `key` is in the bag of `member` (int >= 0).

    Parameters
    ----------
    key : Column
        bigint, the row's key.
    member : Column
        int, 0 to `num_members` - 1.
    bagging : {"disjoint", "subsample", "bootstrap"}
    rate : float
        Expected size of a bag over the number of rows, for the last two.
    num_members, seed : int
    """
    if bagging == "disjoint":
        return (_only_bag(key, num_members, seed) == member).cast("int")
    # 53 bits of the hash make a double in [0, 1).
    uniform = F.shiftrightunsigned(F.xxhash64(key, F.lit(seed), member), 11) * F.lit(2.0**-53)
    if bagging == "subsample":
        return (uniform < rate).cast("int")
    bounds = F.array(*[F.lit(bound) for bound in _poisson_cdf(rate)])
    return F.size(F.filter(bounds, lambda bound: bound <= uniform))


def _only_bag(key: Column, num_members: int, seed: int) -> Column:
    return F.pmod(F.xxhash64(key, F.lit(seed)), F.lit(num_members)).cast("int")


def _poisson_cdf(rate: float) -> list[float]:
    """P(copies <= k) for k = 0, 1, ... up to where doubles cannot tell it from 1."""
    mass = total = math.exp(-rate)
    cdf = [total]
    while total < 1 - 2.0**-50 and len(cdf) < 40 * (1 + rate):
        mass *= rate / len(cdf)
        total += mass
        cdf.append(total)
    return cdf


def draw(rows: DataFrame, bagging: str, rate: float, num_members: int, seed: int) -> DataFrame:
    """Give each row to the members in whose bags it is; validation rows go to every member.

    Parameters
    ----------
    rows : DataFrame
        With columns row_key (bigint) and validates (boolean).

    Returns
    -------
    DataFrame
        A row for each bag that a row is in: `rows` without validates, and member, copies and counts_here (see
        `worker.bag.BAG_COLUMNS`).
    """
    key = F.col("row_key")
    members = F.sequence(F.lit(0), F.lit(num_members - 1))

    def holds(member: Column, copies: Column) -> Column:
        return F.struct(member.alias("member"), copies.alias("copies"))

    if bagging == "disjoint":
        bags = F.array(holds(_only_bag(key, num_members, seed), F.lit(1)))
    else:
        bags = F.filter(
            F.transform(
                members, lambda member: holds(member, copies_in_bag(key, member, bagging, rate, num_members, seed))
            ),
            lambda bag: bag["copies"] > 0,
        )
    everywhere = F.transform(members, lambda member: holds(member, F.lit(0)))
    bags = F.when(F.col("validates"), everywhere).otherwise(bags)
    others = [F.col(name) for name in rows.columns if name != "validates"]
    return rows.select(*others, F.posexplode(bags).alias("position", "bag")).select(
        *others, "bag.member", "bag.copies", (F.col("position") == 0).alias("counts_here")
    )


def place(drawn: DataFrame, num_members: int) -> DataFrame:
    """Put the bag of member i, and nothing else, in partition i."""
    return drawn.repartitionById(num_members, F.col("member"))
