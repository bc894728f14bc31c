"""The estimator and its model work among Spark ML's own feature transformers, searches, evaluators and reductions."""

import math

import numpy as np
import pyspark
import pytest
from pyspark.ml import Pipeline
from pyspark.ml.classification import OneVsRest
from pyspark.ml.evaluation import BinaryClassificationEvaluator, MulticlassClassificationEvaluator
from pyspark.ml.feature import IndexToString, MinMaxScaler, StringIndexer, VectorAssembler
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder, TrainValidationSplit
from pyspark.sql import functions as F
from support.classifiers import small
from support.digits import first_digits
from support.members import digests
from support.scored import predictions_by_id

from spark_cnn_ensemble import CNNEnsembleClassifier

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
# Names that have to be quoted; VectorAssembler of Spark 3.5 takes none with a dot.
DOT = "." if pyspark.__version__ >= "4" else ""
PIXELS = [f"pixel {index}{DOT}{index}" for index in range(64)]
QUOTED = [f"`{pixel}`" if DOT else pixel for pixel in PIXELS]


@pytest.fixture(scope="module")
def accuracy(spark):
    return MulticlassClassificationEvaluator(metricName="accuracy")


@pytest.fixture(scope="module")
def few(spark, digits):
    """200 rows of digits (id, features, label)."""
    return first_digits(spark, digits)


def as_table(rows):
    """The rows with a column for each pixel, and the class by its name."""
    name = F.array(*map(F.lit, NAMES))[F.col("label")]
    return rows.select(
        "id", name.alias("name"), *[F.col("features")[index].alias(pixel) for index, pixel in enumerate(PIXELS)]
    )


# -------------------------------------------------------------------------------- transformers


@pytest.fixture(scope="module")
def by_name(train):
    """A pipeline from pixels and names to names; shape and classes come from the metadata of the stages before."""
    classifier = small(bagging="subsample", epochs=6, learningRate=5e-3, numClasses=None, inputShape=None)
    stages = [
        StringIndexer(inputCol="name", outputCol="label"),
        VectorAssembler(inputCols=QUOTED, outputCol="features"),
        classifier,
        IndexToString(inputCol="prediction", outputCol="predicted name"),
    ]
    return Pipeline(stages=stages).fit(as_table(train))


@pytest.fixture(scope="module")
def named_rows(by_name, test):
    """The test rows, scored."""
    return by_name.transform(as_table(test)).collect()


def test_shape_and_classes_come_from_the_stages_before(by_name):
    model = by_name.stages[2]
    assert (model.numClasses, model.inputShape) == (10, [8, 8, 1])


def test_the_prediction_has_the_names_of_the_indexed_labels(by_name, test):
    labels = by_name.stages[0].labels
    assert sorted(labels) == sorted(NAMES) and labels != NAMES  # ordered by frequency
    scored = by_name.transform(as_table(test))
    assert scored.schema["prediction"].metadata["ml_attr"]["vals"] == labels


def test_predictions_become_names_again(by_name, named_rows, test, accuracy):
    labels = by_name.stages[0].labels
    assert len(named_rows) == 360
    assert all(labels[int(row["prediction"])] == row["predicted name"] for row in named_rows)
    right = np.mean([row["name"] == row["predicted name"] for row in named_rows])
    assert right > 0.85
    assert accuracy.evaluate(by_name.transform(as_table(test))) == pytest.approx(right)


def test_rows_without_a_name_are_scored_alike(by_name, named_rows, test):
    unnamed = by_name.transform(as_table(test).drop("name"))
    assert {row["id"]: row["predicted name"] for row in unnamed.collect()} == {
        row["id"]: row["predicted name"] for row in named_rows
    }


def test_features_may_come_from_a_fitted_transformer(few):
    assembler = VectorAssembler(inputCols=QUOTED, outputCol="raw")
    scaler = MinMaxScaler(inputCol="raw", outputCol="features")
    rows = as_table(few).withColumn(
        "label", F.call_function("array_position", F.array(*map(F.lit, NAMES)), F.col("name")) - 1
    )
    pipeline = Pipeline(stages=[assembler, scaler, small(numMembers=1, standardization=False)])
    assert pipeline.fit(rows).transform(rows).select("prediction").count() == 200


# ----------------------------------------------------------------------------------- evaluators


@pytest.fixture(scope="module")
def scored(model, test):
    return model.transform(test).cache()


@pytest.fixture(scope="module")
def evaluation(model, test):
    return model.evaluate(test)


def arrays(scored):
    """Label, prediction and probability of each row."""
    rows = scored.select("label", "prediction", "probability").collect()
    return (np.array([np.asarray(row[name]) for row in rows]) for name in ("label", "prediction", "probability"))


def test_accuracy_of_sparks_evaluator(scored, evaluation, accuracy):
    label, prediction, _ = arrays(scored)
    assert accuracy.evaluate(scored) == pytest.approx((label == prediction).mean())
    assert accuracy.evaluate(scored) == pytest.approx(evaluation.accuracy)


def test_hamming_loss_of_sparks_evaluator(scored, evaluation):
    loss = MulticlassClassificationEvaluator(metricName="hammingLoss").evaluate(scored)
    assert loss == pytest.approx(1 - evaluation.accuracy)


def test_log_loss_of_sparks_evaluator(scored):
    label, _, probability = arrays(scored)
    loss = MulticlassClassificationEvaluator(metricName="logLoss").evaluate(scored)
    assert loss == pytest.approx(-np.log(np.clip(probability[np.arange(360), label], 1e-15, 1)).mean())


def test_recall_of_sparks_evaluator(scored, evaluation):
    recall = MulticlassClassificationEvaluator(metricName="recallByLabel", metricLabel=3.0).evaluate(scored)
    assert recall == pytest.approx(evaluation.confusionMatrix[3, 3] / evaluation.confusionMatrix[3].sum())


def test_sparks_binary_evaluator_reads_the_votes(few):
    two = few.where("label < 2")
    model = small(numClasses=2, epochs=5, learningRate=1e-2, votingStrategy="soft").fit(two)
    assert BinaryClassificationEvaluator().evaluate(model.transform(two)) > 0.9  # reads rawPrediction


# ----------------------------------------------------------------------- param maps and searches


def test_each_of_several_param_maps_gives_the_model_of_its_own_fit(few):
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
    for param_map, model in zip(maps, models, strict=True):
        assert digests(classifier.fit(rows, param_map)) == digests(model)


def test_transform_takes_params_for_one_call(model, test):
    once = model.transform(test, {model.votingStrategy: "soft", model.predictionCol: "digit"})
    assert once.columns[-1] == "digit"
    soft = model.copy().setVotingStrategy("soft")
    assert once.select("probability").collect() == soft.transform(test).select("probability").collect()
    assert model.getVotingStrategy() == "hard"
    assert once.select("probability").collect() != model.transform(test).select("probability").collect()


def test_cross_validator_gives_the_best_model_of_the_grid(few, accuracy):
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
            (param_map[classifier.numMembers], param_map[classifier.votingStrategy]) for param_map in grid
        ]
    best = grid[int(np.argmax(search.avgMetrics))]
    assert search.bestModel.getNumMembers() == len(search.bestModel.members) == best[classifier.numMembers]
    assert search.bestModel.getVotingStrategy() == best[classifier.votingStrategy]
    assert predictions_by_id(search, few) == predictions_by_id(search.bestModel, few)
    metrics = {tuple(param_map.values()): metric for param_map, metric in zip(grid, search.avgMetrics, strict=True)}
    assert metrics[1, "hard"] == metrics[1, "soft"]  # with one member, both strategies predict its class


def test_train_validation_split_with_two_threads_gives_the_result_of_one(few, accuracy):
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
    models = [search.bestModel.stages[0] for search in (one, two)]
    assert digests(models[0]) == digests(models[1])
    best = grid[int(np.argmax(two.validationMetrics))]
    assert (models[1].getNumMembers(), models[1].getEpochs()) == (best[classifier.numMembers], best[classifier.epochs])


def test_one_vs_rest_trains_one_ensemble_per_class(few, accuracy):
    three = few.where("label < 3").withColumn("weight", F.lit(1.0))
    classifier = CNNEnsembleClassifier(
        numMembers=2, filters=[4], kernelSize=3, denseUnits=16, epochs=8, learningRate=1e-2, bagging="subsample"
    )
    model = OneVsRest(classifier=classifier, parallelism=2, weightCol="weight").fit(three)
    assert [submodel.numClasses for submodel in model.models] == [2, 2, 2]
    assert all(submodel.getWeightCol() == "weight" for submodel in model.models)
    assert accuracy.evaluate(model.transform(three)) > 0.9
    assert not classifier.isSet("labelCol")


# ----------------------------------------------------------------------------------- thresholds


@pytest.fixture(scope="module")
def soft(model):
    return model.copy().setVotingStrategy("soft")


def with_thresholds(soft, test, thresholds):
    """The rows scored with thresholds, their probabilities, and the class of the largest quotient in each row."""
    rows = soft.transform(test, {soft.thresholds: thresholds}).collect()
    probability = np.array([row["probability"].toArray() for row in rows])
    with np.errstate(divide="ignore"):
        return rows, probability, (probability / thresholds).argmax(axis=1)


def test_a_threshold_of_0_makes_its_class_win(soft, test):
    rows, _, expected = with_thresholds(soft, test, [1.0, 0.2, 1.0, 1.0, 3.0, 1.0, 1.0, 0.0, 1.0, 0.6])
    assert [row["prediction"] for row in rows] == expected.tolist()
    assert set(expected) == {7}  # softmax is never 0


def test_the_class_with_the_largest_probability_over_threshold_is_predicted(soft, test):
    rows, probability, expected = with_thresholds(soft, test, [1.0, 0.2, 1.0, 1.0, 3.0, 1.0, 1.0, 1.0, 1.0, 0.6])
    assert [row["prediction"] for row in rows] == expected.tolist()
    assert len(set(expected)) > 5 and (expected != probability.argmax(axis=1)).any()
    assert [row["probability"] for row in rows] == [row["probability"] for row in soft.transform(test).collect()]


@pytest.fixture(scope="module")
def with_powers(few):
    """A classifier with a threshold per class, and its model."""
    classifier = small(numMembers=1, thresholds=[math.pow(2, label) for label in range(10)])
    return classifier, classifier.fit(few)


def test_a_model_has_the_thresholds_of_its_estimator(with_powers, few):
    classifier, model = with_powers
    assert model.getThresholds() == classifier.getThresholds()
    rows = model.transform(few).collect()
    assert [row["prediction"] for row in rows] == [
        float(np.argmax(row["probability"].toArray() / classifier.getThresholds())) for row in rows
    ]


@pytest.mark.parametrize("by", ["fit", "transform"])
def test_thresholds_for_another_number_of_classes_are_refused(with_powers, few, by):
    classifier, model = with_powers
    with pytest.raises(ValueError, match=r"'thresholds' parameter .* for each of the 10 classes. Got 2 instead"):
        if by == "fit":
            classifier.copy().setThresholds([0.5, 0.5]).fit(few)
        else:
            model.copy().setThresholds([0.5, 0.5]).transform(few)
