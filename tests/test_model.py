"""The model: its members as Keras networks, its vote, parts and joins of it, and what it reads and trains on."""

import gc
import io
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyarrow.parquet import ParquetFile
from pyspark.ml.linalg import Vectors
from pyspark.sql import functions as F
from support.classifiers import small

from spark_cnn_ensemble import CNNEnsembleClassificationModel, CNNEnsembleClassifier
from spark_cnn_ensemble.worker.runtime import load_tensorflow
from spark_cnn_ensemble.worker.weights import PART_BYTES

OUTPUTS = ["rawPrediction", "probability", "prediction"]


@pytest.fixture(scope="module", autouse=True)
def tensorflow():
    return load_tensorflow()


@pytest.fixture(scope="module")
def soft(model):
    return model.copy().setVotingStrategy("soft")


@pytest.fixture(scope="module")
def pixels(digits):
    """The test images as Keras takes them."""
    return digits[1][0][..., None].astype(np.float32)


def scored(model, frame):
    """rawPrediction, probability and prediction as arrays, in the order of the rows' ids."""
    rows = model.transform(frame).select("id", *OUTPUTS).orderBy("id").collect()
    return {name: np.array([np.asarray(row[name]) for row in rows]) for name in OUTPUTS}


def predictions(model, frame):
    return scored(model, frame)["prediction"]


def weights(model):
    return [array for index in range(model.getNumMembers()) for array in model.memberNetwork(index).get_weights()]


def same_members(one, other):
    ours, theirs = weights(one), weights(other)
    return len(ours) == len(theirs) and all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def agree(found, expected):
    """The same votes, but for rows whose members waver between classes by less than float32 can tell."""
    assert np.allclose(found["probability"], expected["probability"], atol=1e-5, rtol=0), "probability"
    assert np.allclose(found["rawPrediction"], expected["rawPrediction"], atol=1e-4, rtol=0), "rawPrediction"
    assert np.array_equal(found["prediction"], expected["prediction"]), "prediction"


# ------------------------------------------------------------------------------ members and Keras


def test_the_fixture_has_learned(model, test):
    assert model.evaluate(test).accuracy > 0.8


def test_member_networks_vote_as_transform_does(model, test, pixels):
    outputs = np.stack([model.memberNetwork(index).predict(pixels, verbose=0) for index in range(3)])
    votes = outputs.argmax(axis=2)
    counts = np.stack([np.bincount(column, minlength=10) for column in votes.T])
    best = counts == counts.max(axis=1, keepdims=True)
    expected = np.where(best, outputs.sum(axis=0), -1).argmax(axis=1)
    found = scored(model, test)
    assert np.array_equal(found["rawPrediction"], counts)
    assert np.allclose(found["probability"], counts / 3)
    assert np.array_equal(found["prediction"], expected)
    assert (counts.max(axis=1) == 1).any(), "no row to try the rule of ties on"


def test_member_networks_vote_softly_as_transform_does(soft, test, pixels):
    outputs = np.stack([soft.memberNetwork(index).predict(pixels, verbose=0) for index in range(3)]).astype(float)
    agree(
        scored(soft, test),
        {
            "rawPrediction": outputs.sum(axis=0),
            "probability": outputs.mean(axis=0),
            "prediction": outputs.sum(axis=0).argmax(axis=1),
        },
    )


def test_member_networks_are_of_their_own(model):
    one, again = model.memberNetwork(0), model.memberNetwork(0)
    one.set_weights([np.zeros_like(array) for array in one.get_weights()])
    assert any(array.any() for array in again.get_weights())
    assert any(array.any() for array in model.memberNetwork(0).get_weights())


@pytest.mark.parametrize("strategy", ["hard", "soft"])
def test_one_keras_model_does_what_transform_does(model, test, pixels, tmp_path, strategy):
    import keras

    model = model.copy().setVotingStrategy(strategy)
    ensemble = model.toKeras()
    expected = scored(model, test)
    agree(ensemble.predict(pixels, verbose=0), expected)
    ensemble.save(tmp_path / "ensemble.keras")
    loaded = keras.models.load_model(tmp_path / "ensemble.keras")  # safe_mode: without code of ours
    agree(loaded.predict(pixels, verbose=0), expected)


def test_one_keras_model_of_one_member(model, test, pixels):
    alone = model.subset([1])
    agree(alone.toKeras().predict(pixels, verbose=0), scored(alone, test))


# ------------------------------------------------------------------------------- parts and joins


def test_a_subset_is_those_members_in_that_order(model, test, pixels):
    part = model.subset([2, 0])
    assert part.getNumMembers() == 2
    assert [member.member for member in part.members] == [2, 0]
    assert part.uid != model.uid
    assert not part.hasSummary
    assert np.array_equal(
        part.memberNetwork(0).predict(pixels[:9], verbose=0), model.memberNetwork(2).predict(pixels[:9], verbose=0)
    )
    whole = scored(model, test)["rawPrediction"]
    rest = scored(model.subset([1]), test)["rawPrediction"]
    assert np.array_equal(scored(part, test)["rawPrediction"] + rest, whole)


def test_a_subset_keeps_the_params(model):
    changed = model.copy().setVotingStrategy("soft").setHandleInvalid("keep")
    part = changed.subset([1])
    assert (part.getVotingStrategy(), part.getHandleInvalid()) == ("soft", "keep")
    assert part.getNumMembers() == 1
    assert part.getEpochs() == model.getEpochs()
    assert (part.numClasses, part.numFeatures, part.inputShape) == (10, 64, [8, 8, 1])


def test_a_subset_by_numpy_indices(model):
    best = np.argsort([member.history["loss"][-1] for member in model.members])[:2]
    assert [member.member for member in model.subset(best).members] == best.tolist()


def test_parts_join_to_the_whole(model, test):
    joined = model.subset([0, 1]).merge(model.subset([2]))
    assert joined.getNumMembers() == 3
    assert same_members(joined, model)
    found, expected = scored(joined, test), scored(model, test)
    assert all(np.array_equal(found[name], expected[name]) for name in OUTPUTS)


def test_a_model_joined_with_itself_counts_twice(model, soft, test):
    for one in (model, soft):
        twice, once = scored(one.merge(one), test), scored(one, test)
        assert np.allclose(twice["rawPrediction"], 2 * once["rawPrediction"], rtol=1e-12)
        assert np.allclose(twice["probability"], once["probability"], rtol=1e-12)
        assert np.array_equal(twice["prediction"], once["prediction"])


@pytest.fixture(scope="module")
def other(train):
    """A model of two members of another architecture."""
    classifier = small(numMembers=2, filters=[3, 5], denseUnits=12, standardization=False, bagging="subsample")
    return classifier.setEpochs(3).setLearningRate(5e-3).fit(train)


def test_models_of_two_architectures_join(model, other, test, pixels, tmp_path):
    joined = model.merge(other)
    assert joined.getNumMembers() == 5
    expected = scored(model, test)["rawPrediction"] + scored(other, test)["rawPrediction"]
    found = scored(joined, test)
    assert np.array_equal(found["rawPrediction"], expected)
    agree(joined.toKeras().predict(pixels, verbose=0), found)
    back = joined.subset([3, 4])
    assert same_members(back, other)
    joined.save(str(tmp_path / "joined"))
    loaded = CNNEnsembleClassificationModel.load(str(tmp_path / "joined"))
    again = scored(loaded, test)
    assert all(np.array_equal(again[name], found[name]) for name in OUTPUTS)


def test_large_members_are_written_in_small_row_groups(train, tmp_path):
    """The JVM holds a row group in its heap while it writes one, and while it reads one."""
    classifier = small(numMembers=1, denseUnits=150_000, checkpointDir=str(tmp_path / "checkpoint"))
    classifier.fit(train).save(str(tmp_path / "model"))
    for pattern in ("checkpoint/*/*.parquet", "model/members/*.parquet"):
        (file,) = tmp_path.glob(pattern)
        metadata = ParquetFile(file).metadata
        sizes = [metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups)]
        assert sum(sizes) > 10 * PART_BYTES
        assert max(sizes) < 6 * PART_BYTES


# ------------------------------------------------------------------------------------ evaluation


@pytest.mark.parametrize("strategy", ["hard", "soft"])
def test_evaluate_counts_what_transform_gives(model, test, strategy):
    model = model.copy().setVotingStrategy(strategy)
    rows = model.transform(test).select("label", "prediction").collect()
    confusion = np.zeros((10, 10), int)
    for row in rows:
        confusion[row["label"], int(row["prediction"])] += 1
    evaluation = model.evaluate(test)
    assert np.array_equal(evaluation.confusionMatrix, confusion)
    assert evaluation.rows == 360
    assert evaluation.accuracy == np.trace(confusion) / 360
    assert evaluation.skippedRows == 0


def test_member_accuracies_are_those_of_each_alone(model, test):
    found = model.evaluate(test).memberAccuracies
    assert found.tolist() == [model.subset([index]).evaluate(test).accuracy for index in range(3)]
    assert len(set(found)) > 1


def test_evaluate_reads_any_label_column(model, test):
    doubled = test.withColumn("digit", F.col("label").cast("double")).drop("label")
    evaluation = model.copy().setLabelCol("digit").evaluate(doubled)
    assert np.array_equal(evaluation.confusionMatrix, model.evaluate(test).confusionMatrix)


# ------------------------------------------------------------------------------------ one vector


@pytest.mark.parametrize("strategy", ["hard", "soft"])
def test_a_single_vector_gives_what_transform_gives(model, test, vectors, strategy):
    model = model.copy().setVotingStrategy(strategy)
    expected = scored(model, test.where(F.col("id") < len(vectors)))
    for index, vector in enumerate(vectors):
        for value in (Vectors.dense(vector), Vectors.sparse(64, np.flatnonzero(vector), vector[vector != 0]), vector):
            assert model.predict(value) == expected["prediction"][index]
            assert np.array_equal(model.predictRaw(value), expected["rawPrediction"][index])
            assert np.array_equal(model.predictProbability(value), expected["probability"][index])


def test_thresholds_hold_for_a_single_vector_too(model, test, vectors):
    favoured = model.copy({model.thresholds: [1.0] * 7 + [1e-9] + [1.0] * 2})
    rows = test.where(F.col("id") < len(vectors))
    found, plain = scored(favoured, rows), scored(model, rows)
    assert np.array_equal(found["rawPrediction"], plain["rawPrediction"])
    expected = np.where(plain["rawPrediction"][:, 7] > 0, 7, plain["prediction"])
    assert np.array_equal(found["prediction"], expected)
    assert [favoured.predict(Vectors.dense(vector)) for vector in vectors] == expected.tolist()
    assert (found["prediction"] != plain["prediction"]).any()


# ------------------------------------------------------------------------------------ columns


@pytest.mark.parametrize("blank", [[], ["rawPrediction"], ["probability", "rawPrediction"], ["prediction"], OUTPUTS])
def test_a_blank_output_is_left_out(model, test, blank):
    without = model.copy({model.getParam(f"{name}Col"): "" for name in blank})
    kept = [name for name in OUTPUTS if name not in blank]
    found = without.transform(test)
    assert found.columns == [*test.columns, *kept]
    if kept:
        expected = scored(model, test)
        rows = found.orderBy("id").collect()
        for name in kept:
            assert np.array_equal(np.array([np.asarray(row[name]) for row in rows]), expected[name])


def test_columns_with_dots_and_quotes(spark, train, test):
    names = {"features": "image.of `it`", "label": "the.label", "id": "nr.", "weight": "w.w"}
    dotted = train.withColumn("weight", F.lit(1.0)).toDF(*[names[name] for name in [*train.columns, "weight"]])
    settings = {"numMembers": 2, "idCol": "id", "weightCol": "weight"}
    plain = small(**settings).fit(train.withColumn("weight", F.lit(1.0)))
    classifier = small(
        **{**settings, "idCol": "nr.", "weightCol": "w.w"},
        featuresCol="image.of `it`",
        labelCol="the.label",
        predictionCol="guess.ed",
        rawPredictionCol="raw.`",
        probabilityCol="p.",
    )
    model = classifier.fit(dotted)
    assert same_members(model, plain)
    odd = test.toDF(*[names[name] for name in test.columns])
    found = model.transform(odd)
    assert found.columns == [*odd.columns, "raw.`", "p.", "guess.ed"]
    assert [row["guess.ed"] for row in found.orderBy("`nr.`").collect()] == predictions(plain, test).tolist()
    assert model.evaluate(odd).accuracy == plain.evaluate(test).accuracy


def test_other_columns_pass_through(model, test):
    more = test.select("*", F.struct("id", "label").alias("both"), F.lit(None).alias("nothing"))
    found = model.transform(more)
    assert found.columns == [*more.columns, *OUTPUTS]
    assert found.select(more.columns).orderBy("id").collect() == more.orderBy("id").collect()


def test_weights_say_which_labels_count(spark, train, test):
    """Half of the rows are labelled wrongly and weigh nothing."""
    wrong = F.col("id") % 2 == 0
    mixed = train.withColumn("weight", F.when(wrong, 0.0).otherwise(3.0)).withColumn(
        "label", F.when(wrong, (F.col("label") + 1) % 10).otherwise(F.col("label"))
    )
    classifier = small(numMembers=1, epochs=8, learningRate=5e-3, weightCol="weight", idCol="id")
    model = classifier.fit(mixed)
    assert model.evaluate(test).accuracy > 0.8
    assert model.members[0].rows == 1437


def test_a_constant_weight_changes_nothing(train):
    plain = small(numMembers=2, idCol="id").fit(train)
    weighted = small(numMembers=2, idCol="id", weightCol="weight").fit(train.withColumn("weight", F.lit(8)))
    assert same_members(weighted, plain)
    assert [member.rows for member in weighted.members] == [member.rows for member in plain.members]


def test_an_id_makes_copies_of_a_row_rows_of_their_own(spark, digits):
    (x, y), _ = digits
    filled = [
        (100 * copy + index, x[index].ravel().tolist(), int(y[index])) for index in range(6) for copy in range(20)
    ]
    frame = spark.createDataFrame(filled, "id long, features array<int>, label int")
    together = small(numMembers=2).fit(frame)
    apart = small(numMembers=2, idCol="id").fit(frame)
    assert sum(member.rows for member in together.members) == sum(member.rows for member in apart.members) == 120
    for member in together.members:
        assert all(count % 20 == 0 for count in member.classCounts)  # all copies of a row are in one bag
    for member in apart.members:
        assert all(0 < member.classCounts[label] < 120 for label in {int(label) for label in y[:6]})
        assert any(count % 20 for count in member.classCounts)


def test_validation_rows_stop_the_members_early(spark, train):
    """The rows held out are labelled at random, so that each epoch after the first few makes it worse."""
    held = F.col("id") % 5 == 0
    noisy = train.withColumn("held", held).withColumn(
        "label", F.when(held, F.pmod(F.hash("id"), F.lit(10))).otherwise(F.col("label"))
    )
    classifier = small(
        numMembers=2, epochs=40, learningRate=5e-3, validationIndicatorCol="held", earlyStoppingPatience=2, idCol="id"
    ).setLearningRateSchedule("constant")
    model = classifier.fit(noisy)
    count = noisy.where("held").count()
    assert sum(member.rows for member in model.members) == 1437 - count  # they train no member
    for index, member in enumerate(model.members):
        assert member.validationRows == count
        losses = member.history["val_loss"]
        assert len(losses) == member.epochs == int(np.argmin(losses)) + 3 < 40
        rows = noisy.where("held").collect()
        images = np.array([row["features"] for row in rows], np.float32).reshape(-1, 8, 8, 1)
        output = model.memberNetwork(index).predict(images, verbose=0)
        found = -np.log(output[np.arange(count), [row["label"] for row in rows]]).mean()
        assert found == pytest.approx(min(losses), rel=1e-3)  # the best epoch's weights, not the last one's
    assert model.summary.totalIterations == max(member.epochs for member in model.members)


# ------------------------------------------------------------------------------------ images


def coloured(count=48, side=6):
    """Images of noise in three classes: the one of red, green and blue that is strongest."""
    rng = np.random.default_rng(11)
    labels = np.arange(count) % 3
    images = rng.integers(0, 160, (count, side, side, 3), np.uint8)
    images[np.arange(count), :, :, labels] += 90
    return images, labels


@pytest.fixture(scope="module")
def in_colour(spark):
    """(id, features, label) of raw bytes, and a classifier of them."""
    images, labels = coloured()
    filled = [(index, bytes(image.tobytes()), int(labels[index])) for index, image in enumerate(images)]
    frame = spark.createDataFrame(filled, "id long, features binary, label int").cache()
    classifier = small(
        numMembers=2, inputShape=[6, 6, 3], numClasses=3, epochs=15, learningRate=1e-2, batchSize=8, idCol="id"
    )
    return frame, classifier, classifier.fit(frame)


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def test_colours_are_learned(in_colour):
    frame, _, model = in_colour
    assert model.evaluate(frame).accuracy > 0.9


def test_a_folder_of_images_is_like_raw_bytes(spark, in_colour, tmp_path):
    frame, classifier, model = in_colour
    images, labels = coloured()
    for index, image in enumerate(images):
        (tmp_path / f"{index:03d}-{labels[index]}.png").write_bytes(png(image))
    name = F.regexp_extract("image.origin", r"(\d+)-(\d)\.png$", 1), F.regexp_extract("image.origin", r"-(\d)\.png$", 1)
    folder = spark.read.format("image").load(str(tmp_path))
    folder = folder.select(name[0].cast("long").alias("id"), F.col("image"), name[1].cast("int").alias("label"))
    assert folder.count() == 48
    by_image = classifier.copy().setFeaturesCol("image")
    found = by_image.fit(folder)
    assert same_members(found, model)  # so blue, green, red have become red, green, blue
    by_image.clear(by_image.inputShape)
    assert by_image.fit(folder).inputShape == [6, 6, 3]
    assert np.array_equal(predictions(found, folder), predictions(model, frame))


def test_png_files_in_a_column_are_like_raw_bytes(spark, in_colour):
    frame, classifier, model = in_colour
    images, labels = coloured()
    filled = [(index, png(image), int(labels[index])) for index, image in enumerate(images)]
    encoded = spark.createDataFrame(filled, "id long, features binary, label int")
    assert same_members(classifier.fit(encoded), model)
    unset = classifier.copy()
    unset.clear(unset.inputShape)
    assert unset.fit(encoded).inputShape == [6, 6, 3]
    assert np.array_equal(predictions(model, encoded), predictions(model, frame))


def test_numbers_are_like_raw_bytes(spark, in_colour):
    frame, classifier, model = in_colour
    images, labels = coloured()
    filled = [(index, image.ravel().astype(float).tolist(), int(labels[index])) for index, image in enumerate(images)]
    numbers = spark.createDataFrame(filled, "id long, features array<double>, label int")
    assert same_members(classifier.fit(numbers), model)
    assert np.array_equal(predictions(model, numbers), predictions(model, frame))


def test_a_network_of_ones_own(spark, tmp_path):
    """Batch normalization and dropout, of which only the first has state to keep."""
    import keras
    from keras import layers

    rng = np.random.default_rng(2)
    labels = np.arange(120) % 3
    images = rng.integers(0, 200, (120, 32, 32, 3), np.uint8)
    images[np.arange(120), :16, :, labels] //= 2  # class i: the upper half lacks colour i
    filled = [(index, bytes(image.tobytes()), int(labels[index])) for index, image in enumerate(images)]
    frame = spark.createDataFrame(filled, "id long, features binary, label int")
    network = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(6, 5, strides=2),
            layers.BatchNormalization(momentum=0.8),
            layers.ReLU(),
            layers.AveragePooling2D(7),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(3, activation="softmax"),
        ]
    )
    classifier = CNNEnsembleClassifier(
        network=network.to_json(),
        inputShape=[32, 32, 3],
        numMembers=2,
        bagging="bootstrap",
        epochs=12,
        batchSize=10,
        learningRate=2e-2,
        idCol="id",
        votingStrategy="soft",
    )
    model = classifier.fit(frame)
    assert model.evaluate(frame).accuracy > 0.95
    outputs = np.stack([model.memberNetwork(index).predict(images.astype(np.float32), verbose=0) for index in (0, 1)])
    found = scored(model, frame)
    assert np.allclose(found["probability"], outputs.mean(axis=0), atol=1e-5)
    agree(model.toKeras().predict(images.astype(np.float32), verbose=0), found)
    model.save(str(tmp_path / "own"))
    loaded = CNNEnsembleClassificationModel.load(str(tmp_path / "own"))
    assert same_members(loaded, model)
    assert same_members(classifier.fit(frame.repartition(3)), model)


def test_files_of_broadcasts_go_with_those_who_could_use_them(spark, model, test):
    folder = Path(spark.sparkContext._temp_dir)
    before = set(folder.iterdir())
    passing, lasting = model.subset([0, 1]), model.subset([1, 2])
    passing.transform(test)
    gone = set(folder.iterdir()) - before
    assert len(gone) == 2
    scored = lasting.transform(test)  # outlives its model
    kept = set(folder.iterdir()) - before - gone
    assert len(kept) == 2
    del passing, lasting
    deadline = time.monotonic() + 60
    while gone & set(folder.iterdir()):
        assert time.monotonic() < deadline, "the files stay"
        gc.collect()
        spark._jvm.System.gc()
        model.subset([0]).transform(test)  # a new broadcast looks after the old ones
    assert kept <= set(folder.iterdir())
    assert scored.where("prediction >= 0").count() == test.count()


def test_workers_do_not_look_through_tensorflow_for_garbage_after_each_task(spark, model, test):
    def frozen(frames):
        import gc

        for frame in frames:
            yield frame.assign(objects=gc.get_freeze_count())

    model.transform(test).select("prediction").collect()
    found = spark.range(0, 8, 1, 8).mapInPandas(frozen, "id long, objects long").agg({"objects": "max"})
    assert found.head()[0] > 100_000
