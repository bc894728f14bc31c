"""What the Params of a fit do: column names, weights, ids, validation rows and networks."""

import numpy as np
import pytest
from pyspark.sql import functions as F
from support.classifiers import small
from support.members import digests
from support.scored import assert_votes_close, predictions_by_id, scored_arrays

from spark_cnn_ensemble import CNNEnsembleClassificationModel, CNNEnsembleClassifier
from spark_cnn_ensemble.worker.training import reported_accuracy


def test_column_names_may_have_dots_and_quotes(train, test):
    names = {"features": "image.of `it`", "label": "the.label", "id": "nr.", "weight": "w.w"}
    weighted = train.withColumn("weight", F.lit(1.0))
    plain = small(numMembers=2, idCol="id", weightCol="weight").fit(weighted)
    classifier = small(
        numMembers=2,
        idCol="nr.",
        weightCol="w.w",
        featuresCol="image.of `it`",
        labelCol="the.label",
        predictionCol="guess.ed",
        rawPredictionCol="raw.`",
        probabilityCol="p.",
    )
    model = classifier.fit(weighted.toDF(*[names[name] for name in weighted.columns]))
    assert digests(model) == digests(plain)
    odd = test.toDF(*[names[name] for name in test.columns])
    scored = model.transform(odd)
    assert scored.columns == [*odd.columns, "raw.`", "p.", "guess.ed"]
    assert dict(scored.select("`nr.`", "`guess.ed`").collect()) == predictions_by_id(plain, test)
    assert model.evaluate(odd).accuracy == plain.evaluate(test).accuracy


# ---------------------------------------------------------------------------------------- weights


def test_rows_of_weight_0_are_not_learned_from(train, test):
    """Half of the rows have a wrong label and weight 0."""
    wrong = F.col("id") % 2 == 0
    mixed = train.withColumn("weight", F.when(wrong, 0.0).otherwise(3.0)).withColumn(
        "label", F.when(wrong, (F.col("label") + 1) % 10).otherwise(F.col("label"))
    )
    classifier = small(numMembers=1, epochs=8, learningRate=5e-3, weightCol="weight", idCol="id")
    model = classifier.fit(mixed)
    assert model.evaluate(test).accuracy > 0.8
    assert model.members[0].rows == 1437


def test_rows_of_weight_0_are_not_in_the_out_of_bag_sample(train):
    wrong = F.col("id") % 2 == 0
    mixed = train.withColumn("weight", F.when(wrong, 0.0).otherwise(1.0)).withColumn(
        "label", F.when(wrong, 0).otherwise(F.col("label"))
    )
    votes = small(bagging="bootstrap", weightCol="weight", idCol="id", oobSampleSize=5000).fit(mixed).summary.outOfBag
    assert len(votes.labels) == mixed.where("weight > 0").count()
    assert np.array_equal(np.sort(votes.labels), np.sort([row.label for row in mixed.where("weight > 0").collect()]))


def test_a_constant_weight_changes_nothing(train):
    plain = small(numMembers=2, idCol="id").fit(train)
    weighted = small(numMembers=2, idCol="id", weightCol="weight").fit(train.withColumn("weight", F.lit(8)))
    assert digests(weighted) == digests(plain)
    assert [member.rows for member in weighted.members] == [member.rows for member in plain.members]


# -------------------------------------------------------------------------------------------- ids


@pytest.fixture(scope="module")
def repeated(spark, digits):
    """Six digits, twenty times each."""
    (x, y), _ = digits
    rows = [(100 * copy + index, x[index].ravel().tolist(), int(y[index])) for index in range(6) for copy in range(20)]
    return spark.createDataFrame(rows, "id long, features array<int>, label int").cache()


def test_without_an_id_equal_rows_share_a_bag(repeated):
    with pytest.warns(UserWarning, match="only about 6 different keys .* set idCol to a column that identifies rows"):
        members = small(numMembers=2).fit(repeated).members
    assert sum(member.rows for member in members) == 120
    for member in members:
        assert all(count % 20 == 0 for count in member.classCounts)


def test_with_an_id_equal_rows_are_drawn_one_by_one(repeated, digits):
    members = small(numMembers=2, idCol="id").fit(repeated).members
    assert sum(member.rows for member in members) == 120
    labels = {int(label) for label in digits[0][1][:6]}
    for member in members:
        assert all(0 < member.classCounts[label] < 120 for label in labels)
        assert any(count % 20 for count in member.classCounts)


# ----------------------------------------------------------------------------- validation rows


@pytest.fixture(scope="module")
def held_out(train):
    """The training rows, a fifth of them held out with random labels: after a few epochs each one is worse."""
    held = F.col("id") % 5 == 0
    return train.withColumn("held", held).withColumn(
        "label", F.when(held, F.pmod(F.hash("id"), F.lit(10))).otherwise(F.col("label"))
    )


@pytest.fixture(scope="module")
def stopped_early(held_out):
    classifier = small(
        numMembers=2,
        epochs=40,
        learningRate=5e-3,
        learningRateSchedule="constant",
        validationIndicatorCol="held",
        earlyStoppingPatience=2,
        idCol="id",
    )
    return classifier.fit(held_out)


def test_validation_rows_train_no_member(held_out, stopped_early):
    count = held_out.where("held").count()
    assert sum(member.rows for member in stopped_early.members) == 1437 - count
    assert [member.validationRows for member in stopped_early.members] == [count, count]


def test_a_member_stops_after_the_epochs_of_patience(stopped_early):
    for member in stopped_early.members:
        losses = member.history["val_loss"]
        assert len(losses) == member.epochs == int(np.argmin(losses)) + 3 < 40
    assert stopped_early.summary.totalIterations == max(member.epochs for member in stopped_early.members)


def test_a_stopped_member_has_the_weights_of_its_best_epoch(held_out, stopped_early):
    rows = held_out.where("held").collect()
    images = np.array([row["features"] for row in rows], np.float32).reshape(-1, 8, 8, 1)
    labels = [row["label"] for row in rows]
    for index, member in enumerate(stopped_early.members):
        output = stopped_early.memberNetwork(index).predict(images, verbose=0)
        loss = -np.log(output[np.arange(len(rows)), labels]).mean()
        assert loss == pytest.approx(min(member.history["val_loss"]), rel=1e-3)


def test_the_record_of_a_stopped_member_is_that_of_its_best_epoch(stopped_early, tmp_path, capsys):
    table = stopped_early.summary.memberTable
    for member in stopped_early.members:
        best = int(np.argmin(member.history["val_loss"]))
        assert member.keptEpoch == best + 1 < member.epochs
        for name, curve in member.history.items():
            assert member.kept[name] == table.loc[member.member, name] == curve[best] != curve[-1]
    kept = [member.kept["accuracy"] for member in stopped_early.members]
    assert stopped_early.summary.accuracy == pytest.approx(np.mean(kept))
    assert f"training accuracy, mean member {np.mean(kept):.2%}" in " ".join(
        map(" ".join, stopped_early.summary.facts())
    )
    stopped_early.save(str(tmp_path / "model"))
    loaded = CNNEnsembleClassificationModel.load(str(tmp_path / "model"))
    assert loaded.members == stopped_early.members


def test_progress_shows_the_accuracy_of_the_best_epoch(stopped_early):
    for member in stopped_early.members:
        assert reported_accuracy(member.to_dict()) == member.kept["accuracy"]


def test_without_early_stopping_the_last_epoch_is_kept(model):
    assert [(member.keptEpoch, member.epochs) for member in model.members] == [(4, 4)] * 3


# ------------------------------------------------------------------------------------- networks


@pytest.fixture(scope="module")
def stripes():
    """Images of noise in three classes: in class i the upper half lacks colour i."""
    rng = np.random.default_rng(2)
    labels = np.arange(120) % 3
    images = rng.integers(0, 200, (120, 32, 32, 3), np.uint8)
    images[np.arange(120), :16, :, labels] //= 2
    return images, labels


@pytest.fixture(scope="module")
def stripe_rows(spark, stripes):
    rows = [(index, image.tobytes(), int(label)) for index, (image, label) in enumerate(zip(*stripes, strict=True))]
    return spark.createDataFrame(rows, "id long, features binary, label int").cache()


@pytest.fixture(scope="module")
def custom():
    """A classifier with a network of the user's own; batch normalization has state besides its trained weights."""
    import keras
    from keras import layers

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
    return CNNEnsembleClassifier(
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


def test_seeds_in_a_network_are_said_to_make_members_alike(train):
    import keras
    from keras import layers

    start = keras.initializers.GlorotUniform(seed=1)
    head = [layers.Flatten(), layers.Dropout(0.1, seed=2), layers.Dense(10, "softmax", kernel_initializer=start)]
    network = keras.Sequential([keras.Input((8, 8, 1)), *head]).to_json()
    with pytest.warns(UserWarning, match=r"has seeds of its own \(Dropout, GlorotUniform\), .*; build it without seed"):
        small(network=network, epochs=1).fit(train)


@pytest.fixture(scope="module")
def custom_model(custom, stripe_rows):
    return custom.fit(stripe_rows)


def test_a_custom_network_learns(custom_model, stripe_rows):
    assert custom_model.evaluate(stripe_rows).accuracy > 0.95


def test_a_custom_network_votes_as_keras_does(custom_model, stripe_rows, stripes):
    images = stripes[0].astype(np.float32)
    networks = [custom_model.memberNetwork(index) for index in (0, 1)]
    outputs = np.stack([network.predict(images, verbose=0) for network in networks])
    scored = scored_arrays(custom_model, stripe_rows)
    assert np.allclose(scored["probability"], outputs.mean(axis=0), atol=1e-5)
    assert_votes_close(custom_model.toKeras().predict(images, verbose=0), scored)


def test_a_custom_network_survives_saving(custom_model, tmp_path):
    custom_model.save(str(tmp_path / "model"))
    assert digests(CNNEnsembleClassificationModel.load(str(tmp_path / "model"))) == digests(custom_model)


def test_a_custom_network_trains_the_same_from_other_partitions(custom, custom_model, stripe_rows):
    assert digests(custom.fit(stripe_rows.repartition(3))) == digests(custom_model)
