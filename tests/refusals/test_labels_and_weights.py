"""A row whose label or weight cannot be used is refused by `fit` by its name, or left out with handleInvalid="skip"."""

import re

import pytest
from pyspark.sql import functions as F
from support.feature_forms import (
    BAD_LABELS,
    BAD_WEIGHTS,
    TOO_LARGE_LABELS,
    frame_of_labels,
    frame_of_weights,
    two_by_two,
    values_of,
)
from support.members import digests
from support.refusals import refused

SKIP = r"; fix the row, or set handleInvalid='skip' to leave such rows out\."


@pytest.mark.parametrize("case", [*BAD_LABELS, *TOO_LARGE_LABELS])
def test_a_bad_label_is_refused_by_the_rows_id(spark, case):
    label, fault = {**BAD_LABELS, **TOO_LARGE_LABELS}[case]
    text = refused(two_by_two(idCol="id").fit, frame_of_labels(spark, [0.0, 1.0, label]))
    other = r"; fix the row, or change 'numClasses', which is 2, or set handleInvalid='skip' to leave such rows out\."
    expected = f"where a whole number 0 to 1 was expected{other if case in TOO_LARGE_LABELS else SKIP}"
    assert re.fullmatch(f"Row id=2: column 'label' {fault} {expected}", text), text


@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_a_bad_weight_is_refused_by_the_rows_id(spark, case):
    weight, fault = BAD_WEIGHTS[case]
    text = refused(two_by_two(idCol="id", weightCol="weight").fit, frame_of_weights(spark, [1.0, 2.0, weight]))
    assert re.fullmatch(rf"Row id=2: column 'weight' {fault} where a finite number >= 0 was expected{SKIP}", text), text


def test_a_bag_whose_weights_are_all_0_is_refused(spark):
    text = refused(two_by_two(weightCol="weight").fit, frame_of_weights(spark, [0.0] * 4))
    assert text == "Member 0 has only rows of weight 0 in its bag; set fewer members (numMembers) or other weights."


@pytest.mark.parametrize("infer", [[], ["numClasses"]], ids=["numClasses set", "numClasses inferred"])
def test_with_skip_members_are_trained_as_if_bad_labels_and_weights_did_not_exist(spark, infer):
    labels = [0.0, 1.0, *values_of(BAD_LABELS), 1.0, 0.0]
    if not infer:
        labels += values_of(TOO_LARGE_LABELS)
    weights = values_of(BAD_WEIGHTS)
    with_labels = frame_of_labels(spark, labels).withColumn("weight", F.lit(2.0))
    with_weights = frame_of_weights(spark, weights).select(F.col("id") + 100, "features", "label", "weight")
    classifier = two_by_two(unset=infer, idCol="id", weightCol="weight", handleInvalid="skip")
    model = classifier.fit(with_labels.union(with_weights))
    assert model.numClasses == 2
    assert model.summary.skippedRows == len(labels) - 4 + len(weights)
    assert model.members[0].rows == 4
    assert digests(model) == digests(classifier.fit(with_labels.where("label in (0, 1)")))
