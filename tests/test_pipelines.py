"""Saved pipelines: loaded in full, scored without the stages that only make labels, and named classes."""

import pytest
from pyspark.ml import Pipeline, PipelineModel, feature
from pyspark.ml.classification import LogisticRegressionModel
from pyspark.ml.feature import (
    Binarizer,
    IndexToString,
    RFormulaModel,
    SQLTransformer,
    StringIndexer,
    StringIndexerModel,
    VectorAssembler,
)
from pyspark.sql import functions as F
from support.classifiers import small
from support.refusals import refused

from spark_cnn_ensemble.pipelines import _TRANSFORMERS, ensemble_of, label_indexer, load_stages, score, without_labels

PIXELS = ["a", "b", "c", "d"]


@pytest.fixture(scope="module")
def rows(spark):
    """Two classes of 2x2 images in four columns, with the name of the class."""
    values = [(float(index % 2), 0.0, 1.0, float(index % 3), ("cat", "dog")[index % 2]) for index in range(40)]
    return spark.createDataFrame(values, [*PIXELS, "species"])


@pytest.fixture(scope="module")
def pipeline(rows):
    assembler = VectorAssembler(inputCols=PIXELS, outputCol="features")
    indexer = StringIndexer(inputCol="species", outputCol="label", stringOrderType="alphabetAsc")
    names = IndexToString(inputCol="prediction", outputCol="predicted")
    return Pipeline(stages=[assembler, indexer, small(numMembers=2, inputShape=[2, 2, 1], numClasses=2), names]).fit(
        rows
    )


@pytest.fixture(scope="module")
def stages(spark, pipeline, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("pipelines") / "pipeline")
    pipeline.save(path)
    return load_stages(spark, path)


def test_a_loaded_pipeline_scores_as_the_fitted_one(rows, pipeline, stages):
    expected, found = pipeline.transform(rows), PipelineModel(stages).transform(rows)
    assert found.columns == expected.columns
    assert found.exceptAll(expected).count() == 0


def test_rows_without_labels_are_scored(rows, pipeline, stages):
    expected = pipeline.transform(rows).select(*PIXELS, "prediction", "predicted")
    found = score(stages, rows.drop("species"))
    assert "label" not in found.columns
    assert found.select(expected.columns).exceptAll(expected).count() == 0


def test_a_row_without_a_prediction_has_no_name(rows, stages):
    """Spark's own stage fails on null."""
    _, _, ensemble, names = stages
    ensemble.setHandleInvalid("keep")
    images = rows.select(F.array(*PIXELS).alias("features")).limit(3)
    invalid = images.select(F.array(*[F.lit(float("nan"))] * 4).alias("features")).limit(1)
    scored = score([ensemble, names], images.union(invalid)).collect()
    ensemble.setHandleInvalid("error")
    assert [row.predicted is None for row in scored] == [False, False, False, True]


def test_the_classes_have_names(stages):
    assert label_indexer(stages).labels == ["cat", "dog"]
    assert ensemble_of(stages).classNames == ("cat", "dog")


def kinds(stages):
    return [type(stage).__name__ for stage in stages]


def test_a_chain_of_stages_that_make_a_label_is_left_out(stages):
    cut = Binarizer(inputCol="age", outputCol="old", threshold=18.0)
    chain = StringIndexerModel.from_labels(["0.0", "1.0"], inputCol="old", outputCol="label")
    assembler, _, ensemble, names = stages
    assert without_labels([assembler, cut, chain, ensemble, names]) == [assembler, ensemble, names]


def test_a_label_that_another_stage_reads_is_made(stages):
    assembler, indexer, ensemble, names = stages
    reader = VectorAssembler(inputCols=["label"], outputCol="one")
    kept = without_labels([assembler, indexer, reader, ensemble, names])
    assert kinds(kept) == kinds([assembler, indexer, reader, ensemble, names])


def test_what_is_not_a_label_is_made(stages):
    assembler, indexer, ensemble, names = stages
    other = Binarizer(inputCol="a", outputCol="bright", threshold=0.5)
    assert without_labels([assembler, other, indexer, ensemble, names]) == [assembler, other, ensemble, names]


def test_a_pipeline_without_an_ensemble_is_refused(spark, tmp_path):
    PipelineModel([VectorAssembler(inputCols=["a"], outputCol="b")]).save(str(tmp_path / "pipeline"))
    assert refused(load_stages, spark, str(tmp_path / "pipeline")) == (
        f"The pipeline in {tmp_path / 'pipeline'} has 0 CNNEnsembleClassificationModel among its stages instead of one; "
        "name the folder of a saved ensemble, or of a pipeline with one."
    )


@pytest.mark.parametrize("cls", [SQLTransformer, RFormulaModel, StringIndexer, LogisticRegressionModel])
def test_the_table_has_only_transformers_of_columns(cls):
    assert cls not in _TRANSFORMERS.values()


def test_the_table_has_sparks_models_and_transformers():
    assert {StringIndexerModel, IndexToString, VectorAssembler, feature.StandardScalerModel} <= set(
        _TRANSFORMERS.values()
    )
    assert len(_TRANSFORMERS) > 30
