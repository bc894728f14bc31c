"""Rows without an id are drawn by their content; a DataFrame that changes between two reads is reported as such."""

import re
import threading

import pytest
from pyspark.sql import functions as F
from support.classifiers import small
from support.feature_forms import frame_of_labels, two_by_two
from support.members import digests
from support.refusals import refused

from spark_cnn_ensemble.rows import training_rows

OR_SKIP = ", or set handleInvalid='skip' to leave such rows out."


# ---- null ids


@pytest.fixture(scope="module")
def with_null_ids(train):
    return train.withColumn("id", F.when(F.col("id") % 4 > 0, F.col("id")))


def test_rows_with_a_null_id_are_spread_over_the_bags(with_null_ids):
    model = small(numMembers=4, idCol="id", epochs=1).fit(with_null_ids)
    rows = [member.rows for member in model.members]
    assert max(rows) < 1.3 * min(rows), rows


def test_rows_with_a_null_id_do_not_move_the_others(train, with_null_ids):
    classifier = small(numMembers=2, idCol="id", epochs=1)
    has_id = F.col("id").isNotNull()
    assert digests(classifier.fit(with_null_ids.where(has_id))) == digests(classifier.fit(train.where("id % 4 > 0")))


# ---- labels beyond the number of classes


def test_the_refusal_of_a_label_names_the_param_that_may_be_wrong(spark):
    frame = frame_of_labels(spark, [0.0, 1.0, 2.0])
    assert refused(two_by_two().fit, frame) == (
        "A row: column 'label' has label 2.0 where a whole number 0 to 1 was expected; fix the row, or change "
        f"'numClasses', which is 2{OR_SKIP}"
    )
    assert two_by_two(numClasses=3).fit(frame).numClasses == 3


def test_the_refusal_of_a_label_names_the_metadata(spark):
    frame = frame_of_labels(spark, [0.0, 1.0, 2.0])
    metadata = {"ml_attr": {"type": "nominal", "num_vals": 2}}
    frame = frame.withColumn("label", F.col("label").alias("label", metadata=metadata))
    assert refused(two_by_two(unset=["numClasses"]).fit, frame) == (
        "A row: column 'label' has label 2.0 where a whole number 0 to 1 was expected; fix the row, or set 'numClasses', "
        f"which the column's metadata gives as 2{OR_SKIP}"
    )
    assert two_by_two(numClasses=3).fit(frame).numClasses == 3


@pytest.fixture
def growing(spark, tmp_path):
    """A frame that has another label each time it is read."""

    def read(_):
        import pandas as pd

        count = len(list(tmp_path.iterdir()))
        (tmp_path / str(count)).touch()
        labels = range(2 + count)
        yield pd.DataFrame({"features": [[float(label)] * 4 for label in labels], "label": labels})

    return spark.range(1, numPartitions=1).mapInPandas(read, "features array<double>, label int")


@pytest.mark.parametrize("handle_invalid", ["error", "skip"])
def test_a_frame_that_gives_other_rows_is_said_to_do_so(growing, handle_invalid):
    classifier = two_by_two(unset=["numClasses"], handleInvalid=handle_invalid)
    text = refused(classifier.fit, growing)
    assert re.fullmatch(
        r"A row: column 'label' has label \d\.0, but the labels were 0 to 1 when they were counted, so the DataFrame gave "
        r"other rows when it was read again; persist it or set 'numClasses'\.",
        text,
    ), text
    growing = growing.localCheckpoint()
    assert classifier.fit(growing).numClasses > 2


def test_rows_are_counted_where_spark_never_hands_on_what_it_observed(train, monkeypatch):
    """As where its queue of events was full: Spark then waits for ever."""
    monkeypatch.setattr(training_rows, "_LONGEST_WAIT", 0.5)
    monkeypatch.setattr(training_rows.Observation, "get", property(lambda self: threading.Event().wait()))
    assert small(epochs=1).fit(train).summary.rows == 1437
