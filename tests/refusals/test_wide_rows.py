"""Where Spark limits the rows of a batch for Python but not its bytes, rows that are too wide for it are refused."""

import pytest
from pyspark.sql import functions as F
from support.classifiers import small
from support.refusals import refused, refused_by_job

from spark_cnn_ensemble.engine import engine_of
from spark_cnn_ensemble.engine.classic import ClassicEngine

LIMIT = "spark.sql.execution.arrow.maxRecordsPerBatch"


@pytest.fixture
def batches_of(monkeypatch):
    """Spark as one that sends batches of a number of rows."""

    def set_rows(rows):
        monkeypatch.setattr(ClassicEngine, "rows_per_batch", rows)

    return set_rows


def remedy(rows):
    """The end of the sentence: the row limit to set."""
    return f"limits the rows of a batch for Python, not its bytes; set {LIMIT} to {rows} or less."


def test_the_limit_is_that_of_the_session_where_spark_has_none_in_bytes(spark):
    expected = int(spark.conf.get(LIMIT)) if spark.version.startswith("3.") else None
    assert engine_of(spark).rows_per_batch == expected


def test_training_refuses_with_the_limit_that_helps(train, batches_of):
    few = train.limit(100).withColumn("features", F.col("features").cast("array<float>"))
    batches_of((1 << 19) + 1)  # 256 bytes per row, so a batch would be larger than 128 MiB
    sentence = refused(small().fit, few)
    assert sentence.startswith("A row: column 'features' has 256 bytes, and ") and sentence.endswith(remedy(1 << 19))
    batches_of(1 << 19)
    assert small(numMembers=1, epochs=1).fit(few).summary.rows == 100


@pytest.mark.parametrize("invalid", ["error", "skip", "keep"])
def test_scoring_refuses_with_the_limit_that_helps(model, test, batches_of, invalid):
    model = model.copy({model.handleInvalid: invalid})
    batches_of((1 << 20) + 1)  # 128 bytes per row
    assert refused_by_job(model.transform(test).select("prediction")).endswith(remedy(1 << 20))
    assert refused(model.evaluate, test).endswith(remedy(1 << 20))
    batches_of(1 << 20)
    assert model.transform(test.limit(5)).select("prediction").count() == 5


@pytest.mark.parametrize("rows, passes", [(1, True), (1 << 60, False)])
def test_a_batch_of_one_row_is_never_refused(model, test, batches_of, rows, passes):
    batches_of(rows)
    frame = model.transform(test.limit(1)).select("prediction")
    if passes:
        assert len(frame.collect()) == 1
    else:
        refused_by_job(frame)


def test_files_are_measured_as_they_are_and_null_is_not(spark, model, batches_of):
    rows = spark.createDataFrame([(bytearray(64),), (None,)], "features binary")
    keeping = model.copy({model.handleInvalid: "keep"})
    batches_of(1 << 21)
    assert keeping.transform(rows).where("prediction is null").count() == 1
    batches_of((1 << 21) + 1)
    assert " has 64 bytes, and " in refused_by_job(keeping.transform(rows))
