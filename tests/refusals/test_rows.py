"""A row whose features cannot be used is refused by `fit` by its name, or left out with handleInvalid="skip"."""

import re

import numpy as np
import pytest
from pyspark.sql import functions as F
from support.feature_forms import FORMS, frame_of_cells, two_by_two, values_of
from support.images import encoded
from support.members import digests
from support.refusals import refused

SKIP = r"; .*fix the row(, or (set|change) .*)?, or set handleInvalid='skip' to leave such rows out\."
FAULTS = [pytest.param(name, fault, id=f"{name}-{fault}") for name, form in FORMS.items() for fault in form.faults]


@pytest.mark.parametrize(("form", "fault"), FAULTS)
def test_a_bad_row_is_refused_by_its_id(spark, form, fault):
    cell, description = FORMS[form].faults[fault]
    frame = frame_of_cells(spark, form, [*FORMS[form].valid, cell])
    text = refused(two_by_two(idCol="id").fit, frame)
    assert re.fullmatch(rf"Row id=2: column 'features' {description}[^;]*{SKIP}", text), text


def test_a_bad_row_is_refused_alike_without_ansi_mode(spark):
    before = spark.conf.get("spark.sql.ansi.enabled")
    spark.conf.set("spark.sql.ansi.enabled", "false")
    try:
        for form, fault in (("array of arrays", "empty"), ("array", "short"), ("array", "null")):
            test_a_bad_row_is_refused_by_its_id(spark, form, fault)
    finally:
        spark.conf.set("spark.sql.ansi.enabled", before)


@pytest.mark.parametrize(
    ("form", "fault", "name"),
    [
        ("array", "NaN", "A row"),
        ("bytes", "truncated PNG", "A row"),
        ("image", "another size", "Row file:/digits/7.png"),
    ],
)
def test_a_bad_row_without_an_id_is_refused_by_its_path_if_it_has_one(spark, form, fault, name):
    frame = frame_of_cells(spark, form, [FORMS[form].valid[0], FORMS[form].faults[fault][0]])
    text = refused(two_by_two().fit, frame)
    assert text.startswith(f"{name}: column 'features' "), text


@pytest.mark.parametrize("form", FORMS)
def test_with_skip_members_are_trained_as_if_bad_rows_did_not_exist(spark, form):
    valid = [FORMS[form].valid[index % 2] for index in range(8)]
    bad = values_of(FORMS[form].faults)
    classifier = two_by_two(idCol="id", handleInvalid="skip")
    model = classifier.fit(frame_of_cells(spark, form, [*valid, *bad]))
    assert model.summary.skippedRows == len(bad)
    assert model.summary.rows == len(valid) + len(bad)
    assert model.members[0].rows == len(valid)
    clean = classifier.fit(frame_of_cells(spark, form, valid))
    assert clean.summary.skippedRows == 0
    assert digests(model) == digests(clean)


def test_a_skipped_row_in_several_bags_is_counted_once(spark):
    valid = [FORMS["bytes"].valid[index % 2] for index in range(8)]
    bad = values_of(FORMS["bytes"].faults)  # each member finds them in its bag
    classifier = two_by_two(idCol="id", handleInvalid="skip", numMembers=3, bagging="subsample", subsamplingRate=1.0)
    model = classifier.fit(frame_of_cells(spark, "bytes", [*valid, *bad]))
    assert model.summary.skippedRows == len(bad)
    assert [member.rows for member in model.members] == [8, 8, 8]


# ---- empty bags


@pytest.mark.parametrize("handle_invalid", ["error", "skip"])
@pytest.mark.parametrize("case", ["no rows", "no partitions", "more members than rows"])
def test_an_empty_bag_is_refused_by_its_member(spark, good, case, handle_invalid):
    frame = {
        "no rows": good.where("id < 0"),
        "no partitions": frame_of_cells(spark, "array", []),
        "more members than rows": good.where("id < 3"),
    }[case]
    text = refused(two_by_two(numMembers=5, handleInvalid=handle_invalid).fit, frame)
    assert re.fullmatch(
        r"Member [0-4] has no rows to train on: its bag is empty; set fewer members \(numMembers\), a larger "
        r"subsamplingRate, or give more rows\.",
        text,
    ), text


def test_a_bag_whose_rows_are_all_skipped_is_refused(spark):
    frame = frame_of_cells(spark, "array", values_of(FORMS["array"].faults))
    text = refused(two_by_two(handleInvalid="skip").fit, frame)
    assert text.startswith("Member 0 has no rows to train on"), text


def test_the_refusal_of_a_bag_that_its_worker_skipped_has_the_fault_of_the_first_row(spark):
    other_size = encoded(np.zeros((3, 3), np.uint8))
    frame = spark.createDataFrame([(0, other_size, 0), (1, other_size, 1)], "id long, features binary, label int")
    text = refused(two_by_two(handleInvalid="skip").fit, frame)
    assert re.fullmatch(
        r"Member 0 has no rows to train on: handleInvalid='skip' left out its whole bag, the first row because column "
        r"'features' .*3.+; fix the rows, or the params that describe them\.",
        text,
    ), text


# ---- validation rows


def test_patience_without_a_validation_row_is_refused(good):
    classifier = two_by_two(earlyStoppingPatience=2, validationIndicatorCol="held")
    text = refused(classifier.fit, good.withColumn("held", F.lit(False)))
    assert text == (
        "The 'earlyStoppingPatience' parameter needs rows to validate on, but no row of weight > 0 is marked in the "
        "column of 'validationIndicatorCol'; mark some, or set earlyStoppingPatience=0."
    )


def test_without_patience_no_validation_row_is_needed(good):
    model = two_by_two(validationIndicatorCol="held").fit(good.withColumn("held", F.lit(None).cast("boolean")))
    assert model.members[0].validationRows == 0
    assert model.members[0].rows == 8
