"""Members that do not exist or do not go together are refused."""

import re

import pytest
from pyspark.ml.feature import StringIndexer
from pyspark.sql import functions as F
from support.feature_forms import two_by_two
from support.refusals import refused


@pytest.mark.parametrize("indices", [[], [0, 0], [-1], [3], [0, 1, 2, 3], [0.5]], ids=str)
def test_a_subset_of_members_that_do_not_exist_is_refused(model, indices):
    text = refused(model.subset, indices)
    assert text == f"Members are numbered 0 to 2; name at least one, and none twice. Got {indices} instead."


@pytest.mark.parametrize("index", [-1, 3, 1.5])
def test_the_network_of_a_member_that_does_not_exist_is_refused(model, index):
    assert f"Got [{index}] instead" in refused(model.memberNetwork, index)


def test_merging_models_of_other_images_is_refused(model, scorer):
    text = refused(model.merge, scorer)
    assert (
        text == "Cannot merge: this model has images of shape [8, 8, 1], the other [2, 2, 1]; fit both on similar data."
    )


def test_merging_models_of_other_numbers_of_classes_is_refused(scorer, good):
    text = refused(scorer.merge, two_by_two(numClasses=3).fit(good))
    assert text == "Cannot merge: this model has numClasses 2, the other 3; fit both on similar data."


def test_merging_models_of_other_class_names_is_refused(scorer, good):
    words = good.withColumn("word", F.when(F.col("label") == 0, "zero").otherwise("one"))
    indexed = StringIndexer(inputCol="word", outputCol="digit").fit(words).transform(words)
    text = refused(scorer.merge, two_by_two(labelCol="digit").fit(indexed))
    assert re.search(r"^Cannot merge: this model has classes named .*, the other .*; fit both", text), text
