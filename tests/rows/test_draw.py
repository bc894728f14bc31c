"""A draw of the bags by itself, without fits: copies, bags, shares and tickets agree, for every strategy."""

import math

import numpy as np
import pytest
from pyspark.sql import functions as F

from spark_cnn_ensemble.rows.draw import STRATEGIES, Bootstrap, Disjoint, Subsample, draw_of

ROWS = 4000
DRAWS = [
    pytest.param(Disjoint(1.0, 4, 5), id="disjoint"),
    pytest.param(Subsample(0.3, 3, 5), id="subsample"),
    pytest.param(Subsample(0.05, 3, 5), id="subsample, most rows in no bag"),
    pytest.param(Subsample(1.0, 3, 5), id="subsample, every row in every bag"),
    pytest.param(Bootstrap(1.5, 3, 5), id="bootstrap"),
    pytest.param(Bootstrap(0.1, 3, 5), id="bootstrap, most rows in no bag"),
]


def copies_of(spark, draw):
    """The copies of each row in each bag, shape (rows, members)."""
    key = F.xxhash64("id")
    columns = [draw.copies(key, F.lit(member)).alias(str(member)) for member in range(draw.num_members)]
    return spark.range(ROWS).select("id", *columns).orderBy("id").drop("id").toPandas().to_numpy()


def bags_of(spark, draw, validates=False, with_guests=False):
    """For each row its ticket and {member: copies} of the bags that it goes to."""
    key = F.xxhash64("id")
    bags = draw.bags(key, F.lit(validates), with_guests)
    rows = spark.range(ROWS).select("id", draw.ticket(key).alias("ticket"), bags.alias("bags")).orderBy("id").collect()
    return [(row["ticket"], {bag["member"]: bag["copies"] for bag in row["bags"]}) for row in rows]


@pytest.mark.parametrize("draw", DRAWS)
def test_the_bags_of_a_row_are_those_in_which_it_has_copies(spark, draw):
    copies = copies_of(spark, draw)
    bags = [bags for _, bags in bags_of(spark, draw)]
    assert bags == [{member: n for member, n in enumerate(row) if n} for row in copies.tolist()]


def test_disjoint_bags_hold_each_row_once(spark):
    assert (copies_of(spark, Disjoint(1.0, 4, 5)).sum(axis=1) == 1).all()


def test_only_bootstrap_bags_hold_a_row_several_times(spark):
    assert copies_of(spark, Subsample(0.9, 3, 5)).max() == 1
    copies = copies_of(spark, Bootstrap(1.5, 3, 5))
    poisson = [math.exp(-1.5) * 1.5**n / math.factorial(n) for n in range(5)]
    assert np.allclose([(copies == n).mean() for n in range(5)], poisson, atol=5 / math.sqrt(copies.size))


@pytest.mark.parametrize("draw", DRAWS)
def test_a_draw_can_be_replayed_on_other_partitions_and_in_another_order(spark, draw):
    key = F.xxhash64("id")
    rows = spark.range(ROWS - 1, -1, -1, 7).select("id", draw.bags(key, F.lit(False), True).alias("bags"))
    again = [{bag["member"]: bag["copies"] for bag in row["bags"]} for row in rows.orderBy("id").collect()]
    assert again == [bags for _, bags in bags_of(spark, draw, with_guests=True)]


@pytest.mark.parametrize("draw", DRAWS)
def test_shares_are_those_of_the_rows(spark, draw):
    copies = copies_of(spark, draw)
    spread = 5 / math.sqrt(ROWS)
    assert np.allclose((copies > 0).mean(axis=0), draw.in_bag_share, atol=spread)
    assert np.isclose((copies > 0).any(axis=1).mean(), draw.in_any_share, atol=spread)
    assert np.allclose(copies.mean(axis=0), draw.rate if draw.bagging != "disjoint" else 1 / 4, atol=spread * 1.3)
    assert draw.leaves_rows_out == bool((copies == 0).any())


@pytest.mark.parametrize("draw", DRAWS)
def test_guests_are_rows_in_no_bag_with_low_tickets_and_few(spark, draw):
    copies = copies_of(spark, draw)
    guests = 0
    for row, (ticket, bags) in zip(copies, bags_of(spark, draw, with_guests=True), strict=True):
        if row.any():
            assert bags == {member: n for member, n in enumerate(row.tolist()) if n}
        elif 1 - draw.in_any_share >= 1e-3 and ticket < draw.guest_limit:
            assert list(bags.values()) == [0]
            guests += 1
        else:
            assert not bags
    assert guests <= 0.15 * (copies > 0).sum()
    assert bool(guests) == (1 - draw.in_any_share >= 1e-3)


@pytest.mark.parametrize("draw", DRAWS)
def test_validation_rows_go_to_every_member_and_train_none(spark, draw):
    everywhere = dict.fromkeys(range(draw.num_members), 0)
    assert all(bags == everywhere for _, bags in bags_of(spark, draw, validates=True))


@pytest.mark.parametrize("draw", DRAWS)
def test_tickets_are_uniform_and_depend_on_the_seed(spark, draw):
    tickets = np.array([ticket for ticket, _ in bags_of(spark, draw)])
    assert np.allclose(np.histogram(tickets, 4, (0, 1))[0] / ROWS, 0.25, atol=0.05)
    other = np.array([ticket for ticket, _ in bags_of(spark, draw_of(draw.bagging, draw.rate, draw.num_members, 6))])
    assert (tickets != other).all()


@pytest.mark.parametrize("bagging", STRATEGIES)
def test_members_and_seeds_draw_different_bags(spark, bagging):
    one = copies_of(spark, draw_of(bagging, 0.5, 3, 1))
    assert all((one[:, 0] != one[:, member]).any() for member in (1, 2))
    assert (one != copies_of(spark, draw_of(bagging, 0.5, 3, 2))).any()


@pytest.mark.parametrize("bagging", STRATEGIES)
def test_the_identity_has_the_names_that_checkpoints_hold(bagging):
    expected = {"bagging": bagging, "rate": 0.5, "num_members": 7, "seed": 9}
    assert draw_of(bagging, 0.5, 7, 9).identity() == expected


def test_one_disjoint_member_leaves_no_row_out():
    assert not Disjoint(1.0, 1, 0).leaves_rows_out
    assert Disjoint(1.0, 2, 0).leaves_rows_out


@pytest.mark.parametrize(
    ("draw", "largest"), [(Subsample(1.01, 3, 0), 1.0), (Bootstrap(100.5, 3, 0), 100.0)], ids=["subsample", "bootstrap"]
)
def test_a_rate_past_the_largest_is_refused(draw, largest):
    with pytest.raises(ValueError) as refused:
        draw.check("Classifier")
    assert str(refused.value) == (
        f"The 'subsamplingRate' parameter of Classifier must be <= {largest} where bagging is {draw.bagging!r}. "
        f"Got {draw.rate} instead."
    )


@pytest.mark.parametrize(
    "draw",
    [Disjoint(7.0, 3, 0), Subsample(1.0, 3, 0), Bootstrap(100.0, 3, 0)],
    ids=["disjoint", "subsample", "bootstrap"],
)
def test_a_rate_within_the_limit_is_accepted(draw):
    draw.check("Classifier")
