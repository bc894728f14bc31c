"""Rows -> bags: the draw, and one bag on one task. Spark expressions only; called where rows are drawn and drawn again.

A row's bags are a pure function of its key, the seed and the member, so that the same draw can be made again on any
cluster, in any order, after any retry; `copies_in_bag` is that function.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

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
    uniform = _uniform(key, F.lit(seed), member)
    if bagging == "subsample":
        return (uniform < rate).cast("int")
    bounds = F.array(*[F.lit(bound) for bound in _poisson_cdf(rate)])
    return F.size(F.filter(bounds, lambda bound: bound <= uniform))


def _uniform(*hashed: Column) -> Column:
    # 53 bits of the hash make a double in [0, 1).
    return F.shiftrightunsigned(F.xxhash64(*hashed), 11) * F.lit(2.0**-53)


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


def in_bag_share(bagging: str, rate: float, num_members: int) -> float:
    """Probability that a row is in the bag of a given member."""
    return {"disjoint": 1 / num_members, "subsample": rate, "bootstrap": 1 - math.exp(-rate)}[bagging]


def ticket(key: Column, seed: int) -> Column:
    """A number in [0, 1) by which rows are drawn into the out-of-bag sample: the lowest tickets win."""
    return _uniform(key, F.lit(seed), F.lit("ticket"))


def bags(
    key: Column, validates: Column, bagging: str, rate: float, num_members: int, seed: int, spare: Column | None = None
) -> Column:
    """The bags that a row goes to.

    Validation rows go to every member. A row of no bag goes nowhere, unless `spare` says that it may serve to estimate
    out-of-bag accuracy: then one member takes it along.

    Parameters
    ----------
    key : Column
        bigint, the row's key.
    validates : Column
        boolean.
    spare : Column, optional
        boolean.

    Returns
    -------
    Column
        array<struct<member int, copies int>>; copies is 0 where the row is not trained on.
    """
    members = F.sequence(F.lit(0), F.lit(num_members - 1))

    def holds(member: Column, copies: Column) -> Column:
        return F.struct(member.alias("member"), copies.alias("copies"))

    if bagging == "disjoint":
        drawn = F.array(holds(_only_bag(key, num_members, seed), F.lit(1)))
    else:
        drawn = F.filter(
            F.transform(
                members, lambda member: holds(member, copies_in_bag(key, member, bagging, rate, num_members, seed))
            ),
            lambda bag: bag["copies"] > 0,
        )
    chosen = F.when(validates, F.transform(members, lambda member: holds(member, F.lit(0))))
    if spare is not None and bagging != "disjoint":
        guest = F.array(holds(_only_bag(key, num_members, seed), F.lit(0)))
        chosen = chosen.when((F.size(drawn) == 0) & spare, guest)
    return chosen.otherwise(drawn)


def draw(rows: DataFrame) -> DataFrame:
    """A row for each bag that a row is in: column bags becomes member, copies and counts_here.

    See `worker.bag.BAG_COLUMNS`.
    """
    others = [F.col(name) for name in rows.columns if name != "bags"]
    return rows.select(*others, F.posexplode("bags").alias("position", "bag")).select(
        *others, "bag.member", "bag.copies", (F.col("position") == 0).alias("counts_here")
    )


def place(drawn: DataFrame, members: Sequence[int], num_members: int, times: int = 1) -> DataFrame:
    """Put the bag of `members[i]`, and nothing else, in partition i; other members' bags are left out.

    With `times` > 1 it is also in partition i + len(members), i + 2 * len(members), ...
    """
    if len(members) == num_members:
        index = F.col("member")
    else:
        chosen = F.array(*[F.lit(member) for member in members])
        index = (F.array_position(chosen, F.col("member")) - 1).cast("int")
        drawn = drawn.where(F.array_contains(chosen, F.col("member")))
    if times == 1:
        return drawn.repartitionById(len(members), index)
    columns = drawn.columns
    repeated = drawn.select("*", F.explode(F.sequence(F.lit(0), F.lit(times - 1))).alias("time"))
    placed = repeated.repartitionById(times * len(members), F.col("time") * len(members) + index)
    return placed.select(*columns)
