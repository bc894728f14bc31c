"""The model: its members as Keras networks, parts and unions of models, evaluation, and the columns that it adds."""

import re

import numpy as np
import pytest
from pyspark.ml.linalg import Vectors
from pyspark.sql import functions as F
from support.classifiers import small
from support.members import digests
from support.scored import OUTPUTS, assert_votes_close, scored_arrays

from spark_cnn_ensemble import CNNEnsembleClassificationModel
from spark_cnn_ensemble.worker.runtime import load_tensorflow


@pytest.fixture(scope="module", autouse=True)
def tensorflow():
    return load_tensorflow()


@pytest.fixture(scope="module", params=["hard", "soft"])
def voter(model, request):
    """The model with each votingStrategy."""
    return model.copy().setVotingStrategy(request.param)


@pytest.fixture(scope="module")
def pixels(digits):
    """The test images as Keras takes them."""
    return digits[1][0][..., None].astype(np.float32)


# --------------------------------------------------------------------------- members as Keras models


def test_the_mean_of_the_member_networks_is_the_soft_vote(model, test, pixels):
    """The hard vote is check 20 in test_checks.py."""
    outputs = np.stack([model.memberNetwork(index).predict(pixels, verbose=0) for index in range(3)]).astype(float)
    assert_votes_close(
        scored_arrays(model.copy().setVotingStrategy("soft"), test),
        {
            "rawPrediction": outputs.sum(axis=0),
            "probability": outputs.mean(axis=0),
            "prediction": outputs.sum(axis=0).argmax(axis=1),
        },
    )


def test_a_member_network_shares_no_weights_with_the_model(model):
    one, again = model.memberNetwork(0), model.memberNetwork(0)
    one.set_weights([np.zeros_like(array) for array in one.get_weights()])
    assert any(array.any() for array in again.get_weights())
    assert any(array.any() for array in model.memberNetwork(0).get_weights())


def test_the_keras_model_of_the_ensemble_votes_as_transform_does(voter, test, pixels, tmp_path):
    import keras

    ensemble = voter.toKeras()
    expected = scored_arrays(voter, test)
    assert_votes_close(ensemble.predict(pixels, verbose=0), expected)
    ensemble.save(tmp_path / "ensemble.keras")
    loaded = keras.models.load_model(tmp_path / "ensemble.keras")  # safe_mode: without this package's code
    assert_votes_close(loaded.predict(pixels, verbose=0), expected)


def test_the_keras_model_of_one_member_votes_as_transform_does(model, test, pixels):
    alone = model.subset([1])
    assert_votes_close(alone.toKeras().predict(pixels, verbose=0), scored_arrays(alone, test))


# ------------------------------------------------------------------------------- subset and merge


def test_a_subset_has_the_named_members_in_that_order(model, test, pixels):
    part = model.subset([2, 0])
    assert part.getNumMembers() == 2
    assert [member.member for member in part.members] == [2, 0]
    assert part.uid != model.uid
    assert not part.hasSummary
    assert np.array_equal(
        part.memberNetwork(0).predict(pixels[:9], verbose=0), model.memberNetwork(2).predict(pixels[:9], verbose=0)
    )
    whole, rest = (scored_arrays(each, test)["rawPrediction"] for each in (model, model.subset([1])))
    assert np.array_equal(scored_arrays(part, test)["rawPrediction"] + rest, whole)


def test_a_subset_keeps_the_params(model):
    changed = model.copy().setVotingStrategy("soft").setHandleInvalid("keep")
    part = changed.subset([1])
    assert (part.getVotingStrategy(), part.getHandleInvalid()) == ("soft", "keep")
    assert part.getNumMembers() == 1
    assert part.getEpochs() == model.getEpochs()
    assert (part.numClasses, part.numFeatures, part.inputShape) == (10, 64, [8, 8, 1])


def test_a_subset_takes_numpy_indices(model):
    best = np.argsort([member.history["loss"][-1] for member in model.members])[:2]
    assert [member.member for member in model.subset(best).members] == best.tolist()


def test_merged_subsets_are_the_whole_model(model, test):
    merged = model.subset([0, 1]).merge(model.subset([2]))
    assert merged.getNumMembers() == 3
    assert digests(merged) == digests(model)
    outputs, expected = scored_arrays(merged, test), scored_arrays(model, test)
    assert all(np.array_equal(outputs[name], expected[name]) for name in OUTPUTS)


def test_a_model_merged_with_itself_counts_each_vote_twice(voter, test):
    twice, once = scored_arrays(voter.merge(voter), test), scored_arrays(voter, test)
    assert np.allclose(twice["rawPrediction"], 2 * once["rawPrediction"], rtol=1e-12)
    assert np.allclose(twice["probability"], once["probability"], rtol=1e-12)
    assert np.array_equal(twice["prediction"], once["prediction"])


@pytest.fixture(scope="module")
def other(train):
    """A model of two members of another architecture."""
    classifier = small(numMembers=2, filters=[3, 5], denseUnits=12, standardization=False, bagging="subsample")
    return classifier.setEpochs(3).setLearningRate(5e-3).fit(train)


@pytest.fixture(scope="module")
def merged(model, other):
    """A model of five members of two architectures."""
    return model.merge(other)


@pytest.fixture(scope="module")
def merged_outputs(merged, test):
    return scored_arrays(merged, test)


def test_models_of_two_architectures_merge(model, other, merged, merged_outputs, test):
    assert merged.getNumMembers() == 5
    separate = [scored_arrays(each, test)["rawPrediction"] for each in (model, other)]
    assert np.array_equal(merged_outputs["rawPrediction"], sum(separate))
    assert digests(merged.subset([3, 4])) == digests(other)


def test_the_keras_model_of_two_architectures_votes_as_transform_does(merged, merged_outputs, pixels):
    assert_votes_close(merged.toKeras().predict(pixels, verbose=0), merged_outputs)


def test_a_model_of_two_architectures_survives_saving(merged, merged_outputs, test, tmp_path):
    merged.save(str(tmp_path / "merged"))
    outputs = scored_arrays(CNNEnsembleClassificationModel.load(str(tmp_path / "merged")), test)
    assert all(np.array_equal(outputs[name], merged_outputs[name]) for name in OUTPUTS)


# ------------------------------------------------------------------------------------- evaluation


def test_evaluate_counts_the_predictions_of_transform(voter, test):
    rows = voter.transform(test).select("label", "prediction").collect()
    confusion = np.zeros((10, 10), int)
    for row in rows:
        confusion[row["label"], int(row["prediction"])] += 1
    evaluation = voter.evaluate(test)
    assert np.array_equal(evaluation.confusionMatrix, confusion)
    assert evaluation.rows == 360
    assert evaluation.accuracy == np.trace(confusion) / 360
    assert evaluation.skippedRows == 0


def test_member_accuracies_are_those_of_models_of_one_member(model, test):
    accuracies = model.evaluate(test).memberAccuracies
    assert accuracies.tolist() == [model.subset([index]).evaluate(test).accuracy for index in range(3)]
    assert len(set(accuracies)) > 1


def test_evaluate_reads_the_label_column_that_is_set(model, test):
    renamed = test.withColumn("digit", F.col("label").cast("double")).drop("label")
    evaluation = model.copy().setLabelCol("digit").evaluate(renamed)
    assert np.array_equal(evaluation.confusionMatrix, model.evaluate(test).confusionMatrix)


# ----------------------------------------------------------------------------------------- votes


def test_thresholds_apply_to_a_single_image_too(model, test, vectors):
    favoured = model.copy({model.thresholds: [1.0] * 7 + [1e-9] + [1.0] * 2})
    rows = test.where(F.col("id") < len(vectors))
    outputs, plain = scored_arrays(favoured, rows), scored_arrays(model, rows)
    assert np.array_equal(outputs["rawPrediction"], plain["rawPrediction"])
    expected = np.where(plain["rawPrediction"][:, 7] > 0, 7, plain["prediction"])
    assert np.array_equal(outputs["prediction"], expected)
    assert [favoured.predict(Vectors.dense(vector)) for vector in vectors] == expected.tolist()
    assert (outputs["prediction"] != plain["prediction"]).any()


def test_other_columns_pass_through(model, test):
    more = test.select("*", F.struct("id", "label").alias("both"), F.lit(None).alias("nothing"))
    scored = model.transform(more)
    assert scored.columns == [*more.columns, *OUTPUTS]
    assert scored.select(more.columns).orderBy("id").collect() == more.orderBy("id").collect()


def test_workers_do_not_search_tensorflow_for_garbage_after_each_task(spark, model, test):
    def count_frozen(frames):
        import gc

        for frame in frames:
            yield frame.assign(objects=gc.get_freeze_count())

    model.transform(test).select("prediction").collect()
    frozen = spark.range(0, 8, 1, 8).mapInPandas(count_frozen, "id long, objects long").agg({"objects": "max"})
    assert frozen.head()[0] > 100_000


def test_bfloat16_scores_almost_alike_everywhere_and_is_saved(model, test, tmp_path):
    model.copy({model.scoringPrecision: "bfloat16"}).save(str(tmp_path / "model"))
    mixed = CNNEnsembleClassificationModel.load(str(tmp_path / "model")).setVotingStrategy("soft")
    exact = model.copy({model.votingStrategy: "soft"})
    ours, theirs = (
        np.stack([row.probability for row in m.transform(test).orderBy("id").collect()]) for m in (mixed, exact)
    )
    assert not np.array_equal(ours, theirs)
    assert np.abs(ours - theirs).max() < 0.05
    assert (ours.argmax(axis=1) == theirs.argmax(axis=1)).mean() > 0.98
    assert np.array_equal(mixed.predictProbability(test.orderBy("id").head().features), ours[0])
    assert abs(mixed.evaluate(test).accuracy - exact.evaluate(test).accuracy) < 0.02


# ------------------------------------------------------------------------------------ plans of Spark


QUERIES = {
    "a filter on the prediction": lambda scored: scored.where("prediction = label"),
    "a filter on the uncertainty": lambda scored: scored.where("uncertainty = 0"),
    "a filter on a vector": lambda scored: scored.where(F.col("probability").isNotNull()),
    "a filter and an order": lambda scored: scored.where("prediction = 1").orderBy("uncertainty"),
    "a join": lambda scored: scored.where("prediction = 1").join(scored.sparkSession.range(50), "id"),
    "groups": lambda scored: scored.groupBy("prediction").count().where("prediction > 2"),
}


@pytest.fixture(scope="module")
def scored_file(model, test, tmp_path_factory):
    """Scored rows of a Parquet file, which Spark can filter as it reads."""
    path = str(tmp_path_factory.mktemp("plans") / "rows")
    test.write.parquet(path)
    return model.copy({model.uncertaintyCol: "uncertainty"}).transform(test.sparkSession.read.parquet(path))


def plan_of(frame, capsys):
    capsys.readouterr()
    frame.explain("simple")
    return capsys.readouterr().out


@pytest.mark.parametrize("query", QUERIES)
def test_the_members_vote_once_whatever_is_asked_of_the_output(scored_file, capsys, query):
    assert plan_of(QUERIES[query](scored_file), capsys).count("+- ArrowEvalPython") == 1


def test_a_view_is_scored_once(spark, scored_file, capsys):
    scored_file.createOrReplaceTempView("scored_file")
    plan = plan_of(spark.sql("SELECT id FROM scored_file WHERE prediction = 3 AND id > 5"), capsys)
    assert plan.count("+- ArrowEvalPython") == 1
    assert "GreaterThan(id,5)" in plan


def test_a_stream_is_scored_once(spark, model, test, tmp_path, capsys):
    test.write.parquet(str(tmp_path / "rows"))
    stream = spark.readStream.schema(test.schema).parquet(str(tmp_path / "rows"))
    found = model.transform(stream).where("id < 50").where("prediction = label").select("id", "prediction")
    query = found.writeStream.format("memory").queryName("scored_stream").trigger(availableNow=True).start()
    query.awaitTermination()
    capsys.readouterr()
    query.explain()
    plan = capsys.readouterr().out
    assert plan.count("+- ArrowEvalPython") == 1
    assert re.search(r"Filter .*\(id#\d+L < 50\)", plan.split("ArrowEvalPython")[1])  # below the vote
    expected = model.transform(test).where("id < 50 AND prediction = label").select("id", "prediction")
    assert sorted(spark.table("scored_stream").collect()) == sorted(expected.collect())


@pytest.mark.parametrize("invalid", ["error", "skip", "keep"])
def test_a_filter_on_other_columns_comes_before_the_vote(model, scored_file, tmp_path, capsys, invalid):
    scored_file.select("id", "features", "label").write.parquet(str(tmp_path / "rows"))
    rows = scored_file.sparkSession.read.parquet(str(tmp_path / "rows"))
    frame = model.copy({model.handleInvalid: invalid}).transform(rows).where("id < 50").where("prediction = label")
    plan = plan_of(frame, capsys)
    assert plan.count("+- ArrowEvalPython") == 1
    assert "LessThan(id,50)" in plan.split("PushedFilters:")[1]
