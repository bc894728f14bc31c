"""Param maps that draw the same bags are trained by one job, and each model is the one that its own fit gives."""

import threading
import time

import pytest
from pyspark.ml.evaluation import MulticlassClassificationEvaluator
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder
from support.classifiers import small
from support.members import digests

from spark_cnn_ensemble.fit.shared_fits import SharedFits

BAGS = {"bagging": "subsample", "subsamplingRate": 0.5, "numMembers": 2, "oobSampleSize": 100, "verbose": 0}


def counted(spark, rows):
    """The rows, and an accumulator of how many were read."""
    read = spark.sparkContext.accumulator(0)

    def count(frames):
        for frame in frames:
            read.add(len(frame))
            yield frame

    return rows.mapInPandas(count, rows.schema), read


# By hand


def test_threads_share_one_fit_per_group_and_its_failure():
    calls = []

    def fit(indices):
        calls.append(indices)
        time.sleep(0.2)  # so that the others come meanwhile
        if 1 in indices:
            raise ValueError("diverged")
        return [index * 10 for index in indices]

    fits = SharedFits([[0, 2], [1, 3], [4]], fit)
    models, failures = {}, []

    def take():
        try:
            index, model = next(fits)
            models[index] = model
        except ValueError as error:
            failures.append(str(error))

    threads = [threading.Thread(target=take) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(calls) == [[0, 2], [1, 3], [4]]
    assert models == {0: 0, 2: 20, 4: 40}
    assert failures == ["diverged"] * 2
    with pytest.raises(StopIteration):
        next(fits)


# From fits

SHARED = {
    "other steps": lambda c: {c.learningRate: 1e-2, c.epochs: 2},
    "another network": lambda c: {c.filters: [3, 5], c.standardization: False, c.votingStrategy: "soft"},
    "another precision": lambda c: {c.precision: "bfloat16", c.batchSize: 20, c.optimizer: "nadam"},
}


@pytest.fixture(scope="module")
def shared(spark, train):
    """A classifier, its param maps by name, the models of one fit of all maps, and the number of rows that it read."""
    classifier = small(**BAGS)
    maps = {name: params(classifier) for name, params in SHARED.items()}
    rows, read = counted(spark, train)
    models = classifier.fit(rows, list(maps.values()))
    return classifier, maps, dict(zip(maps, models, strict=True)), read.value


@pytest.mark.parametrize("name", SHARED)
def test_each_model_is_that_of_a_fit_by_itself(train, shared, name):
    classifier, maps, models, _ = shared
    model, alone = models[name], classifier.fit(train, maps[name])
    assert digests(model) == digests(alone)
    assert model.summary.outOfBag == alone.summary.outOfBag
    assert model.summary.rows == alone.summary.rows
    assert [member.history for member in model.members] == [member.history for member in alone.members]
    assert model.extractParamMap() == alone.extractParamMap()
    assert model.uid == classifier.uid


def test_rows_are_read_once_for_all_maps(train, shared):
    _, _, models, read = shared
    assert read == train.count()
    assert len({tuple(digests(model)) for model in models.values()}) == 3


OTHER_BAGS = {
    "three members": lambda c: {c.numMembers: 3},
    "two epochs": lambda c: {c.epochs: 2},
    "another seed": lambda c: {c.seed: 5},
    "three members and two epochs": lambda c: {c.numMembers: 3, c.epochs: 2},
    "no change": lambda c: {},
}


@pytest.fixture(scope="module")
def several_bags(spark, train):
    """As `shared`, of maps that draw three kinds of bags."""
    classifier = small(**BAGS)
    maps = {name: params(classifier) for name, params in OTHER_BAGS.items()}
    rows, read = counted(spark, train)
    models = dict(classifier.fitMultiple(rows, list(maps.values())))
    return classifier, maps, {name: models[index] for index, name in enumerate(maps)}, read.value


@pytest.mark.parametrize("name", OTHER_BAGS)
def test_maps_with_other_bags_can_be_fitted_in_the_same_call(train, several_bags, name):
    classifier, maps, models, _ = several_bags
    assert digests(models[name]) == digests(classifier.fit(train, maps[name]))


def test_rows_are_read_once_for_each_kind_of_bags(train, several_bags):
    assert several_bags[3] == 3 * train.count()


def test_no_map_is_trained_if_one_is_refused(spark, train):
    classifier = small(**BAGS)
    rows, read = counted(spark, train)
    maps = [{classifier.epochs: 1}, {classifier.epochs: 0}]
    with pytest.raises(ValueError, match=r"^The 'epochs' parameter of CNNEnsembleClassifier must be >= 1\. Got 0 "):
        classifier.fit(rows, maps)
    assert read.value == 0


def test_each_fit_with_a_checkpoint_has_a_job_of_its_own(train, tmp_path):
    classifier = small(**BAGS)
    maps = [{classifier.checkpointDir: str(tmp_path / name), classifier.epochs: 1} for name in "ab"]
    models = classifier.fit(train, maps)
    assert digests(models[0]) == digests(models[1]) == digests(classifier.fit(train))
    assert classifier.fit(train, maps[0]).summary.resumedMembers == (0, 1)


def test_maps_that_share_a_checkpoint_are_refused_before_any_is_fitted(spark, train, tmp_path):
    classifier = small(**BAGS, checkpointDir=str(tmp_path / "one"))
    rows, read = counted(spark, train)
    with pytest.raises(
        ValueError, match=r"^The 'checkpointDir' parameter is the same for several .* for each map, or none\.$"
    ):
        classifier.fit(rows, [{classifier.epochs: 1}, {classifier.epochs: 2}])
    assert read.value == 0
    assert not list(tmp_path.iterdir())


def test_cross_validation_in_threads(train):
    classifier = small(**BAGS)
    grid = ParamGridBuilder().addGrid(classifier.learningRate, [1e-3, 1e-2]).addGrid(classifier.epochs, [1, 8]).build()
    search = CrossValidator(
        estimator=classifier,
        estimatorParamMaps=grid,
        evaluator=MulticlassClassificationEvaluator(metricName="accuracy"),
        numFolds=2,
        parallelism=4,
        seed=1,
    )
    best = search.fit(train)
    assert len(best.avgMetrics) == 4
    assert max(best.avgMetrics) == best.avgMetrics[3] > 0.5
    assert best.bestModel.getEpochs() == 8 and best.bestModel.summary.totalIterations == 8
