"""Several fits at once: param maps whose members are trained by one job, each model that of a fit by itself."""

import threading

import pytest
from pyspark.ml.evaluation import MulticlassClassificationEvaluator
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder
from support.classifiers import small

from spark_cnn_ensemble.fit.shared_fits import SharedFits
from spark_cnn_ensemble.worker.weights import digest

BAGS = {"bagging": "subsample", "subsamplingRate": 0.5, "numMembers": 2, "oobSampleSize": 100, "verbose": 0}


def digests(model):
    return [digest(data) for data in model._ensemble.weights]


def counted(spark, rows):
    """The rows, and an accumulator of how many were read."""
    read = spark.sparkContext.accumulator(0)

    def count(frames):
        for frame in frames:
            read.add(len(frame))
            yield frame

    return rows.mapInPandas(count, rows.schema), read


def test_each_model_is_that_of_a_fit_by_itself_and_rows_are_read_once(spark, train):
    classifier = small(**BAGS)
    maps = [
        {classifier.learningRate: 1e-2, classifier.epochs: 2},
        {classifier.filters: [3, 5], classifier.standardization: False, classifier.votingStrategy: "soft"},
        {classifier.precision: "bfloat16", classifier.batchSize: 20, classifier.optimizer: "nadam"},
    ]
    rows, read = counted(spark, train)
    models = classifier.fit(rows, maps)
    assert read.value == train.count()
    for values, model in zip(maps, models, strict=True):
        alone = classifier.fit(train, values)
        assert digests(model) == digests(alone)
        assert model.summary.outOfBag == alone.summary.outOfBag
        assert model.summary.rows == alone.summary.rows
        assert [member.history for member in model.members] == [member.history for member in alone.members]
        assert model.extractParamMap() == alone.extractParamMap()
        assert model.uid == classifier.uid
    assert len({tuple(digests(model)) for model in models}) == 3


def test_maps_of_other_bags_are_fitted_beside_them(spark, train):
    classifier = small(**BAGS)
    maps = [
        {classifier.numMembers: 3},
        {classifier.epochs: 2},
        {classifier.seed: 5},
        {classifier.numMembers: 3, classifier.epochs: 2},
        {},
    ]
    rows, read = counted(spark, train)
    models = dict(classifier.fitMultiple(rows, maps))
    assert read.value == 3 * train.count()  # three kinds of bags
    for index, values in enumerate(maps):
        assert digests(models[index]) == digests(classifier.fit(train, values))


def test_no_map_is_trained_where_one_is_refused(spark, train):
    classifier = small(**BAGS)
    rows, read = counted(spark, train)
    maps = [{classifier.epochs: 1}, {classifier.epochs: 0}]
    with pytest.raises(ValueError, match=r"^The 'epochs' parameter of CNNEnsembleClassifier must be >= 1\. Got 0 "):
        classifier.fit(rows, maps)
    assert read.value == 0


def test_each_fit_with_a_checkpoint_has_it_to_itself(train, tmp_path):
    classifier = small(**BAGS)
    maps = [{classifier.checkpointDir: str(tmp_path / name), classifier.epochs: 1} for name in "ab"]
    models = classifier.fit(train, maps)
    assert digests(models[0]) == digests(models[1]) == digests(classifier.fit(train))
    assert classifier.fit(train, maps[0]).summary.resumedMembers == (0, 1)


def test_maps_that_share_a_checkpoint_are_refused_before_any_is_fitted(spark, train, tmp_path):
    classifier = small(**BAGS, checkpointDir=str(tmp_path / "one"))
    rows, read = counted(spark, train)
    with pytest.raises(ValueError, match=r"^The 'checkpointDir' parameter is the same for several .* or unset it\.$"):
        classifier.fit(rows, [{classifier.epochs: 1}, {classifier.epochs: 2}])
    assert read.value == 0
    assert not list(tmp_path.iterdir())


def test_cross_validation_in_threads(train):
    classifier = small(**BAGS)
    grid = ParamGridBuilder().addGrid(classifier.learningRate, [1e-3, 1e-2]).addGrid(classifier.epochs, [1, 3]).build()
    search = CrossValidator(
        estimator=classifier,
        estimatorParamMaps=grid,
        evaluator=MulticlassClassificationEvaluator(metricName="accuracy"),
        numFolds=2,
        parallelism=4,
        seed=1,
    )
    found = search.fit(train)
    assert len(found.avgMetrics) == 4
    assert max(found.avgMetrics) == found.avgMetrics[3] > 0.5
    assert found.bestModel.getEpochs() == 3 and found.bestModel.summary.totalIterations == 3


def test_threads_share_one_fit_of_a_group_and_its_failure():
    calls = []

    def fit(indices):
        calls.append(indices)
        if 1 in indices:
            raise ValueError("diverged")
        return [index * 10 for index in indices]

    fits = SharedFits([[0, 2], [1, 3], [4]], fit)
    found, failed = {}, []

    def take():
        try:
            index, model = next(fits)
            found[index] = model
        except ValueError as error:
            failed.append(str(error))

    threads = [threading.Thread(target=take) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(calls) == [[0, 2], [1, 3], [4]]
    assert found == {0: 0, 2: 20, 4: 40}
    assert failed == ["diverged"] * 2
    with pytest.raises(StopIteration):
        next(fits)
