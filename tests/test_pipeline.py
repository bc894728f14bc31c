"""The estimator and its model among Spark ML's own: feature transformers, searches, evaluators, reductions."""

import math

import numpy as np
import pytest
from pyspark.ml import Pipeline
from pyspark.ml.classification import OneVsRest
from pyspark.ml.evaluation import BinaryClassificationEvaluator, MulticlassClassificationEvaluator
from pyspark.ml.feature import IndexToString, MinMaxScaler, StringIndexer, VectorAssembler
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder, TrainValidationSplit
from pyspark.sql import functions as F
from support.classifiers import small

from spark_cnn_ensemble import CNNEnsembleClassifier
from spark_cnn_ensemble.datasets import to_dataframe
from spark_cnn_ensemble.worker.weights import digest

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
PIXELS = [f"pixel {index}.{index}" for index in range(64)]  # names that have to be quoted


@pytest.fixture(scope="module")
def accuracy(spark):
    return MulticlassClassificationEvaluator(metricName="accuracy")


@pytest.fixture(scope="module")
def few(spark, digits):
    """200 rows of digits (id, features, label)."""
    (x, y), _ = digits
    return to_dataframe(spark, x[:200], y[:200]).cache()


def in_columns(rows):
    """Rows as a table has them: a column for each pixel, and the class by its name."""
    name = F.array(*map(F.lit, NAMES))[F.col("label")]
    return rows.select(
        "id", name.alias("name"), *[F.col("features")[index].alias(pixel) for index, pixel in enumerate(PIXELS)]
    )


def weights_of(model):
    return [digest(data) for data in model._ensemble.weights]


def predictions(model, rows):
    return {row["id"]: row["prediction"] for row in model.transform(rows).select("id", "prediction").collect()}


def test_from_columns_and_names_to_names(train, test, accuracy):
    # Neither shape nor classes are told: they come from what the stages before write beside their columns.
    classifier = small(bagging="subsample", epochs=6, learningRate=5e-3)
    for unknown in ("numClasses", "inputShape"):
        classifier.clear(classifier.getParam(unknown))
    stages = [
        StringIndexer(inputCol="name", outputCol="label"),
        VectorAssembler(inputCols=[f"`{pixel}`" for pixel in PIXELS], outputCol="features"),
        classifier,
        IndexToString(inputCol="prediction", outputCol="predicted name"),
    ]
    pipeline = Pipeline(stages=stages).fit(in_columns(train))
    model = pipeline.stages[2]
    assert (model.numClasses, model.inputShape) == (10, [8, 8, 1])
    labels = pipeline.stages[0].labels
    assert sorted(labels) == sorted(NAMES) and labels != NAMES  # in the order of how many there are

    scored = pipeline.transform(in_columns(test))
    assert scored.schema["prediction"].metadata["ml_attr"]["vals"] == labels
    rows = scored.collect()
    assert len(rows) == 360
    right = [row["name"] == row["predicted name"] for row in rows]
    assert np.mean(right) > 0.85
    assert all(labels[int(row["prediction"])] == row["predicted name"] for row in rows)
    assert accuracy.evaluate(scored) == pytest.approx(np.mean(right))

    unnamed = pipeline.transform(in_columns(test).drop("name"))  # rows whose class nobody knows
    assert {row["id"]: row["predicted name"] for row in unnamed.collect()} == {
        row["id"]: row["predicted name"] for row in rows
    }


def test_after_a_transformer_that_is_fitted(few):
    assembler = VectorAssembler(inputCols=[f"`{pixel}`" for pixel in PIXELS], outputCol="raw")
    scaler = MinMaxScaler(inputCol="raw", outputCol="features")
    rows = in_columns(few).withColumn("label", F.array_position(F.array(*map(F.lit, NAMES)), F.col("name")) - 1)
    pipeline = Pipeline(stages=[assembler, scaler, small(numMembers=1, standardization=False)])
    assert pipeline.fit(rows).transform(rows).select("prediction").count() == 200


def test_the_evaluator_takes_the_output_as_it_is(model, test, accuracy):
    scored = model.transform(test).cache()
    rows = scored.collect()
    label, prediction = (np.array([row[name] for row in rows]) for name in ("label", "prediction"))
    probability = np.array([row["probability"].toArray() for row in rows])
    evaluation = model.evaluate(test)
    assert accuracy.evaluate(scored) == pytest.approx((label == prediction).mean())
    assert accuracy.evaluate(scored) == pytest.approx(evaluation.accuracy)
    hamming = MulticlassClassificationEvaluator(metricName="hammingLoss").evaluate(scored)
    assert hamming == pytest.approx(1 - evaluation.accuracy)
    loss = MulticlassClassificationEvaluator(metricName="logLoss").evaluate(scored)
    assert loss == pytest.approx(-np.log(np.clip(probability[np.arange(360), label], 1e-15, 1)).mean())
    recall = MulticlassClassificationEvaluator(metricName="recallByLabel", metricLabel=3.0).evaluate(scored)
    assert recall == pytest.approx(evaluation.confusionMatrix[3, 3] / evaluation.confusionMatrix[3].sum())
    scored.unpersist()


def test_a_binary_evaluator_takes_the_votes(few):
    two = few.where("label < 2")
    model = small(numClasses=2, epochs=5, learningRate=1e-2, votingStrategy="soft").fit(two)
    assert BinaryClassificationEvaluator().evaluate(model.transform(two)) > 0.9  # reads rawPrediction


def test_a_list_of_param_maps(few):
    classifier = small(numMembers=1)
    maps = [
        {classifier.numMembers: 2, classifier.votingStrategy: "soft"},
        {classifier.seed: 5},
        {classifier.featuresCol: "image", classifier.epochs: 2},
    ]
    rows = few.withColumn("image", F.col("features"))
    models = classifier.fit(rows, maps)
    assert [(m.getNumMembers(), m.getVotingStrategy(), m.getSeed(), m.getFeaturesCol()) for m in models] == [
        (2, "soft", 17, "features"),
        (1, "hard", 5, "features"),
        (1, "hard", 17, "image"),
    ]
    assert [m.summary.totalIterations for m in models] == [1, 1, 2]
    for paramMap, fitted in zip(maps, models, strict=True):
        assert weights_of(classifier.fit(rows, paramMap)) == weights_of(fitted)


def test_a_model_takes_params_for_one_transform(model, test):
    once = model.transform(test, {model.votingStrategy: "soft", model.predictionCol: "digit"})
    assert once.columns[-1] == "digit"
    soft = model.copy().setVotingStrategy("soft")
    assert once.select("probability").collect() == soft.transform(test).select("probability").collect()
    assert model.getVotingStrategy() == "hard"
    assert once.select("probability").collect() != model.transform(test).select("probability").collect()


def test_cross_validator(few, accuracy):
    classifier = small(epochs=3, learningRate=1e-2, bagging="subsample")
    grid = (
        ParamGridBuilder()
        .addGrid(classifier.numMembers, [1, 2])
        .addGrid(classifier.votingStrategy, ["hard", "soft"])
        .build()
    )
    search = CrossValidator(
        estimator=classifier,
        estimatorParamMaps=grid,
        evaluator=accuracy,
        numFolds=2,
        parallelism=2,
        seed=1,
        collectSubModels=True,
    ).fit(few)
    assert len(search.avgMetrics) == len(grid) == 4
    for fold in search.subModels:
        assert [(m.getNumMembers(), m.getVotingStrategy()) for m in fold] == [
            (paramMap[classifier.numMembers], paramMap[classifier.votingStrategy]) for paramMap in grid
        ]
    best = grid[int(np.argmax(search.avgMetrics))]
    assert search.bestModel.getNumMembers() == len(search.bestModel.members) == best[classifier.numMembers]
    assert search.bestModel.getVotingStrategy() == best[classifier.votingStrategy]
    assert predictions(search, few) == predictions(search.bestModel, few)
    metrics = {tuple(paramMap.values()): metric for paramMap, metric in zip(grid, search.avgMetrics, strict=True)}
    assert metrics[1, "hard"] == metrics[1, "soft"]  # one member's word is the ensemble's either way


def test_train_validation_split_finds_the_same_with_two_threads_as_with_one(few, accuracy):
    classifier = small(learningRate=1e-2)
    pipeline = Pipeline(stages=[classifier])
    grid = ParamGridBuilder().addGrid(classifier.numMembers, [1, 2]).addGrid(classifier.epochs, [1, 6]).build()

    def search(parallelism):
        split = TrainValidationSplit(
            estimator=pipeline, estimatorParamMaps=grid, evaluator=accuracy, parallelism=parallelism, seed=1
        )
        return split.fit(few)

    one, two = search(1), search(2)
    assert one.validationMetrics == two.validationMetrics
    assert len(set(one.validationMetrics)) > 1
    found = [search.bestModel.stages[0] for search in (one, two)]
    assert weights_of(found[0]) == weights_of(found[1])
    best = grid[int(np.argmax(two.validationMetrics))]
    assert (found[1].getNumMembers(), found[1].getEpochs()) == (best[classifier.numMembers], best[classifier.epochs])


def test_one_vs_rest(few, accuracy):
    three = few.where("label < 3").withColumn("weight", F.lit(1.0))
    classifier = CNNEnsembleClassifier(
        numMembers=2, filters=[4], kernelSize=3, denseUnits=16, epochs=8, learningRate=1e-2, bagging="subsample"
    )
    model = OneVsRest(classifier=classifier, parallelism=2, weightCol="weight").fit(three)
    assert [submodel.numClasses for submodel in model.models] == [2, 2, 2]
    assert all(submodel.getWeightCol() == "weight" for submodel in model.models)
    assert accuracy.evaluate(model.transform(three)) > 0.9
    assert not classifier.isSet("labelCol")


def test_thresholds(model, test):
    soft = model.copy().setVotingStrategy("soft")
    thresholds = [1.0, 0.2, 1.0, 1.0, 3.0, 1.0, 1.0, 0.0, 1.0, 0.6]
    rows = soft.transform(test, {soft.thresholds: thresholds}).collect()
    probability = np.array([row["probability"].toArray() for row in rows])
    with np.errstate(divide="ignore"):
        expected = (probability / thresholds).argmax(axis=1)
    assert [row["prediction"] for row in rows] == expected.tolist()
    assert set(expected) == {7}  # softmax is never 0, and nothing is above its share of 0
    thresholds[7] = 1.0
    rows = soft.transform(test, {soft.thresholds: thresholds}).collect()
    expected = (probability / thresholds).argmax(axis=1)
    assert [row["prediction"] for row in rows] == expected.tolist()
    assert len(set(expected)) > 5 and (expected != probability.argmax(axis=1)).any()
    assert [row["probability"] for row in rows] == [row["probability"] for row in soft.transform(test).collect()]


def test_thresholds_of_the_estimator_are_the_models(few):
    classifier = small(numMembers=1, thresholds=[math.pow(2, label) for label in range(10)])
    model = classifier.fit(few)
    assert model.getThresholds() == classifier.getThresholds()
    scored = model.transform(few).collect()
    assert [row["prediction"] for row in scored] == [
        float(np.argmax(row["probability"].toArray() / classifier.getThresholds())) for row in scored
    ]
    with pytest.raises(ValueError, match=r"'thresholds' parameter .* for each of the 10 classes. Got 2 instead"):
        classifier.copy().setThresholds([0.5, 0.5]).fit(few)
    with pytest.raises(ValueError, match=r"'thresholds' parameter .* for each of the 10 classes. Got 2 instead"):
        model.copy().setThresholds([0.5, 0.5]).transform(few)
