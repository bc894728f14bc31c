"""The same rows, params and seed give the same ensemble, bit for bit, however Spark runs the fit.

Elsewhere: another seed, another order of the rows, one and seven partitions in `test_checks` (15 and 16); the
out-of-bag votes of other partitionings in `fit/test_out_of_bag`; retried tasks in `test_faults`; a cluster in
`test_cluster`.
"""

import warnings

import pytest
from pyspark.sql import functions as F
from support.classifiers import small
from support.drivers import driver, fit, members_and_votes

from spark_cnn_ensemble.datasets import to_dataframe

RANDOM = {
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
    return members_and_votes(fit(train, **RANDOM))


def test_the_number_of_partitions_and_empty_ones_do_not_matter(train, expected):
    rows = train.repartition(200, F.col("id") % 10)
    assert rows.select(F.spark_partition_id()).distinct().count() <= 10
    assert members_and_votes(fit(rows, **RANDOM)) == expected


@pytest.mark.parametrize("records", [1, 10000])
def test_the_size_of_arrow_batches_does_not_matter(spark, train, expected, records):
    name = "spark.sql.execution.arrow.maxRecordsPerBatch"
    before = spark.conf.get(name)
    spark.conf.set(name, records)
    try:
        assert members_and_votes(fit(train, **RANDOM)) == expected
    finally:
        spark.conf.set(name, before)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"spark.master": "local[4]", "spark.python.worker.reuse": "false"}, id="one worker per member"),
        pytest.param({"spark.master": "local[1]"}, id="one worker for all members"),
    ],
)
def test_the_number_of_workers_does_not_matter(expected, tmp_path, settings):
    with driver(tmp_path, **settings) as running:
        running.start_fit(**{**RANDOM, "oobSampleSize": 0})
        assert running.answer()["members"] == expected[0]


# Rows that are alike


@pytest.fixture(scope="module")
def rows(spark, digits):
    """100 rows (id, features, label), and the same rows twice, all with ids of their own."""
    x, y = (array[:100] for array in digits[0])
    once = to_dataframe(spark, x, y)
    return once, once.unionByName(once.withColumn("id", F.col("id") + 100)).cache()


def warnings_of_duplicates(caught):
    return [str(warning.message) for warning in caught if "different keys" in str(warning.message)]


def test_duplicates_share_a_bag_with_a_warning(rows):
    once, twice = rows
    with pytest.warns(UserWarning, match=r"^The 200 rows have only about \d+ different keys .* set idCol to a column"):
        model = small().fit(twice)
    alone = small().fit(once)
    assert [member.rows for member in model.members] == [2 * member.rows for member in alone.members]
    assert [member.classCounts for member in model.members] == [
        tuple(2 * count for count in member.classCounts) for member in alone.members
    ]


def test_duplicates_with_different_ids_may_be_in_different_bags_without_a_warning(rows):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = small(idCol="id").fit(rows[1])
    assert warnings_of_duplicates(caught) == []
    assert sum(member.rows for member in model.members) == 200
    assert any(count % 2 for member in model.members for count in member.classCounts)


def test_an_id_column_with_few_values_gives_a_warning(rows):
    with pytest.warns(UserWarning, match=r"column 'label' \(parameter 'idCol'\).* set idCol to a column whose values"):
        small(numMembers=2, idCol="label").fit(rows[0])


def test_distinct_rows_give_no_warning(rows):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        small(numMembers=1).fit(rows[0])
    assert warnings_of_duplicates(caught) == []
