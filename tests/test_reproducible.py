"""The same rows, params and seed: the same ensemble, bit for bit, wherever and however Spark runs it.

Beside these: `test_checks` has another seed, another order of the rows, one and seven partitions (numbers 15 and 16);
`test_out_of_bag` the out-of-bag votes of other partitionings; `test_faults` tasks that were tried again;
`test_cluster` a cluster.
"""

import warnings

import pytest
from pyspark.sql import functions as F
from support.classifiers import small
from support.drivers import driver, result, told

from spark_cnn_ensemble.datasets import to_dataframe

CHANCE = {
    "numMembers": 5,
    "bagging": "bootstrap",
    "subsamplingRate": 0.3,
    "dropoutRate": 0.2,
    "randomShift": 1,
    "oobSampleSize": 100,
    "verbose": 0,
}


@pytest.fixture(scope="module")
def expected(train):
    return result(told(small(**CHANCE).fit(train)))


def test_the_number_of_partitions_and_those_without_rows_do_not_matter(train, expected):
    rows = train.repartition(200, F.col("id") % 10)
    assert rows.select(F.spark_partition_id()).distinct().count() <= 10
    assert result(told(small(**CHANCE).fit(rows))) == expected


@pytest.mark.parametrize("records", [1, 10000])
def test_the_size_of_arrows_batches_does_not_matter(spark, train, expected, records):
    name = "spark.sql.execution.arrow.maxRecordsPerBatch"
    before = spark.conf.get(name)
    spark.conf.set(name, records)
    try:
        assert result(told(small(**CHANCE).fit(train))) == expected
    finally:
        spark.conf.set(name, before)


def test_one_member_a_worker_or_all_in_one_worker_does_not_matter(expected, tmp_path):
    apart = {"spark.master": "local[4]", "spark.python.worker.reuse": "false"}
    with driver(tmp_path, **apart) as many, driver(tmp_path, **{"spark.master": "local[1]"}) as one:
        for running in (many, one):
            running.fit(**{**CHANCE, "oobSampleSize": 0})
        assert many.answer()["members"] == expected[0]
        assert one.answer()["members"] == expected[0]


@pytest.fixture(scope="module")
def twice(spark, digits):
    """100 rows, and the same twice: (id, features, label) with ids of their own."""
    x, y = (array[:100] for array in digits[0])
    once = to_dataframe(spark, x, y)
    return once, once.unionByName(once.withColumn("id", F.col("id") + 100)).cache()


def ours(caught):
    return [str(warning.message) for warning in caught if "different keys" in str(warning.message)]


def test_duplicates_share_a_bag_and_a_warning_tells_so(twice):
    once, both = twice
    with pytest.warns(UserWarning, match=r"^The 200 rows have only about \d+ different keys .* set idCol to a column"):
        model = small().fit(both)
    alone = small().fit(once)
    assert [member.rows for member in model.members] == [2 * member.rows for member in alone.members]
    assert [member.classCounts for member in model.members] == [
        tuple(2 * count for count in member.classCounts) for member in alone.members
    ]


def test_duplicates_that_idcol_tells_apart_may_be_in_different_bags_and_nothing_is_said(twice):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = small(idCol="id").fit(twice[1])
    assert ours(caught) == []
    assert sum(member.rows for member in model.members) == 200
    assert any(count % 2 for member in model.members for count in member.classCounts)


def test_an_idcol_that_tells_no_rows_apart_is_warned_of(twice):
    with pytest.warns(UserWarning, match=r"column 'label' \(parameter 'idCol'\).* set idCol to a column whose values"):
        small(numMembers=2, idCol="label").fit(twice[0])


def test_nothing_is_said_of_distinct_rows(twice):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        small(numMembers=1).fit(twice[0])
    assert ours(caught) == []
