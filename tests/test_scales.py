"""A column of any scale that float32 holds is learned, saved and scored; what it does not hold is refused."""

import numpy as np
import pytest
from pyspark.ml.functions import array_to_vector
from pyspark.sql import functions as F
from support.classifiers import small
from support.refusals import refused

from spark_cnn_ensemble import CNNEnsembleClassificationModel


@pytest.fixture(scope="module")
def scaled(train, test):
    """The digits' training and test rows, each number times a factor, as doubles."""

    def rows(factor):
        times = F.transform(F.col("features").cast("array<double>"), lambda number: number * factor)
        return [frame.withColumn("features", times) for frame in (train, test)]

    return rows


def accuracy(model, rows):
    return model.transform(rows).where("prediction = label").count() / rows.count()


LEARNED = {"bagging": "bootstrap", "epochs": 16, "learningRate": 1e-2, "oobSampleSize": 200}


@pytest.mark.parametrize("factor", [1e-30, 1e-7, 1e30])
def test_a_column_of_any_scale_is_learned_and_scored_everywhere(scaled, factor, tmp_path):
    rows, held_out = scaled(factor)
    model = small(**LEARNED).fit(rows)
    assert accuracy(model, held_out) > 0.9
    assert model.summary.oobAccuracy > 0.8  # by one member in three
    model.summary.to_html(str(tmp_path / "report.html"))  # with pictures of disputed rows
    model.save(str(tmp_path / "model"))
    loaded = CNNEnsembleClassificationModel.load(str(tmp_path / "model"))
    predicted = model.transform(held_out.limit(20)).select("features", "prediction", "probability").collect()
    cells = np.array([row["features"] for row in predicted]).reshape(-1, 8, 8, 1).astype(np.float32)
    assert [loaded.predict(row["features"]) for row in predicted] == [row["prediction"] for row in predicted]
    exported = model.toKeras()(cells)
    assert np.array_equal(exported["prediction"], [row["prediction"] for row in predicted])
    assert not np.isnan(model.memberNetwork(0)(cells)).any()


def test_members_of_different_scales_are_one_ensemble(scaled):
    tiny, _ = scaled(1e-30)
    rows, held_out = scaled(1)
    model = small(**LEARNED).fit(rows).merge(small(**LEARNED).fit(tiny))
    assert model.getNumMembers() == 6
    assert accuracy(model.subset([0, 1, 2]), held_out) > 0.9


@pytest.mark.parametrize("convert", [F.array_compact, array_to_vector], ids=["array", "vector"])
def test_a_column_beyond_float32_is_refused(scaled, convert):
    rows, _ = scaled(1e300)
    rows = rows.withColumn("features", convert("features"))
    text = refused(small(inputShape=[8, 8, 1], numClasses=10).fit, rows)
    assert "has a number beyond 3.4e+38, the largest of float32 (scale the column); fix the row, or set" in text


@pytest.mark.parametrize("factor", [0, 1e-300], ids=["zeros", "1e-300"])
def test_a_column_without_variation_is_refused(scaled, factor):
    rows, _ = scaled(factor)
    text = refused(small().fit, rows)
    assert text.startswith("Column 'features' (parameter 'featuresCol') is constant in the bag of member"), text
    assert "scale or center the column" in text


def test_scaling_a_column_beyond_float32_makes_it_usable(scaled):
    rows, held_out = (
        frame.withColumn("features", F.transform("features", lambda number: number / 1e300)) for frame in scaled(1e300)
    )
    assert accuracy(small(**LEARNED).fit(rows), held_out) > 0.9
