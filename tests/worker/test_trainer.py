"""A trainer trains any number of members, each as if it were the first, by the rows' copies and weights."""

import functools
import tempfile
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.utils.class_weight import compute_sample_weight
from support.bags import (
    SMALL,
    UNSCALED,
    bag_of,
    close,
    examples,
    identical,
    pick,
    random_examples,
    training_plan,
)
from support.networks import network_json
from support.voting import DIGITS

from spark_cnn_ensemble.worker.loaded_ensemble import load_ensemble
from spark_cnn_ensemble.worker.network import build_network
from spark_cnn_ensemble.worker.refusal import Refusal
from spark_cnn_ensemble.worker.scoring import vote_batches
from spark_cnn_ensemble.worker.trainer import Trainer
from spark_cnn_ensemble.worker.voting_plan import VotingPlan
from spark_cnn_ensemble.worker.weights import pack_weights

pytestmark = pytest.mark.usefixtures("tensorflow")

trainer_of = functools.cache(Trainer)  # by program, since building and tracing takes most of a test's time


def train(bag, plan):
    """Weights and history."""
    return trainer_of(plan.program).train(bag, plan)


def predict(architecture, weights, images):
    """Softmax of a Keras model with these weights."""
    network = build_network(architecture)
    network.set_weights(weights)
    return network(images.astype(np.float32)).numpy()


# ------------------------------------------------------------------------- one member after the other


COSINE = training_plan(learning_rate_schedule="cosine", random_shift=1)


@pytest.fixture(scope="module")
def before(some_digits):
    """The member that `COSINE` trains first in a trainer."""
    return Trainer(COSINE.program).train(bag_of(some_digits, some_digits), COSINE)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [{"learning_rate": 1e-2}, {"epochs": 3}, {"seed": 5}, {"early_stopping_patience": 1}], ids=str
)
def test_plans_of_one_program_share_a_trainer_and_nothing_else(some_digits, before, change):
    bag, plan = bag_of(some_digits, some_digits), replace(COSINE, **change)
    assert identical(train(bag, COSINE)[0], before[0])
    assert identical(train(bag, plan)[0], Trainer(plan.program).train(bag, plan)[0])
    assert identical(train(bag, COSINE)[0], before[0])


def test_members_have_different_weights(some_digits):
    zero, one = (train(bag_of(some_digits, member=member), training_plan())[0] for member in (0, 1))
    assert not any(np.array_equal(a, b) for a, b in zip(zero, one, strict=True) if a.ndim > 1)


def test_seeds_give_different_weights(some_digits):
    one, other = (train(bag_of(some_digits), training_plan(seed=seed))[0] for seed in (1, 2))
    assert not identical(one, other)


def test_a_class_without_rows_in_the_bag_still_has_an_output(some_digits):
    training = pick(some_digits, np.flatnonzero(some_digits.labels < 4))
    weights, _ = train(bag_of(training), training_plan())
    assert weights[-1].shape == (10,)


@pytest.mark.slow
def test_training_and_scoring_leave_no_temporary_files(some_digits, monkeypatch, tmp_path):
    """Spark's workers end without clean-up, so a file per function would stay for each of them."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    plan = training_plan(replace(SMALL, filters=(5,)), random_shift=1, random_flip=True)
    weights, _ = Trainer(plan.program).train(bag_of(some_digits, some_digits), plan)
    voting = VotingPlan("no files", (plan.architecture,), (0,) * 3, DIGITS)
    load_ensemble(voting, lambda member: pack_weights(weights)).vote(some_digits.images[:5].astype(np.float32))
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------ learning rate schedules


def full_batch(schedule, epochs, rows=120):
    """A plan of one step of gradient descent per epoch."""
    return training_plan(
        UNSCALED, learning_rate_schedule=schedule, epochs=epochs, batch_size=rows, optimizer="sgd", learning_rate=0.05
    )


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("constant", [1, 1, 1, 1]),
        ("linear", [1, 0.75, 0.5, 0.25]),
        ("cosine", [0.5 * (1 + np.cos(np.pi * done)) for done in (0, 0.25, 0.5, 0.75)]),
    ],
)
def test_a_schedule_multiplies_the_learning_rate_of_each_step(some_digits, schedule, factors):
    import tensorflow as tf

    bag, plan = bag_of(some_digits), full_batch(schedule, len(factors))
    initial, _ = train(bag, replace(plan, learning_rate=0.0))
    network = build_network(UNSCALED)
    network.set_weights(initial)
    for factor in factors:
        with tf.GradientTape() as tape:
            output = network(some_digits.images.astype(np.float32))
            chosen = tf.gather(output, some_digits.labels, batch_dims=1)
            loss = -tf.reduce_mean(tf.math.log(chosen))
        for variable, gradient in zip(
            network.trainable_variables, tape.gradient(loss, network.trainable_variables), strict=True
        ):
            variable.assign_sub(0.05 * factor * gradient)
    assert close(train(bag, plan)[0], network.get_weights(), atol=1e-5)


def test_schedules_start_at_the_full_rate_and_differ_afterwards(some_digits):
    def trained(schedule, epochs):
        return train(bag_of(some_digits), full_batch(schedule, epochs))[0]

    first_step = trained("constant", 1)
    assert identical(trained("linear", 1), first_step)
    assert identical(trained("cosine", 1), first_step)
    assert not identical(trained("linear", 2), trained("constant", 2))
    assert not identical(trained("linear", 3), trained("cosine", 3))


# ---------------------------------------------------------------------------------- copies and weights


def one_step(training, batch_size):
    """Weights and loss of a single step over all rows, without standardization: it would count repeated rows twice."""
    assert batch_size == training.copies.sum()
    plan = training_plan(UNSCALED, epochs=1, batch_size=batch_size, optimizer="sgd", learning_rate=0.1)
    weights, history = train(bag_of(training), plan)
    return weights, history["loss"][0]


@pytest.fixture(scope="module")
def twenty(some_digits):
    return pick(some_digits, np.arange(20))


@pytest.fixture(scope="module")
def first_five_repeated(twenty):
    return one_step(pick(twenty, np.r_[0:20, 0:5]), batch_size=25)


TWICE = np.where(np.arange(20) < 5, 2, 1)


@pytest.mark.parametrize("field", ["weights", "copies"])
def test_a_row_of_weight_2_or_2_copies_counts_like_two_rows(twenty, first_five_repeated, field):
    dtype, batch_size = {"weights": (np.float32, 20), "copies": (np.int32, 25)}[field]
    weights, loss = one_step(replace(twenty, **{field: TWICE.astype(dtype)}), batch_size)
    assert loss == pytest.approx(first_five_repeated[1], rel=1e-5)
    assert close(weights, first_five_repeated[0], atol=1e-6)


def test_a_row_that_counts_once_does_not_count_like_two(twenty, first_five_repeated):
    weights, loss = one_step(twenty, batch_size=20)
    assert abs(loss - first_five_repeated[1]) > 1e-3
    assert not close(weights, first_five_repeated[0], atol=1e-6)


def test_a_row_of_3_copies_counts_3_times_in_the_mean_of_weights(twenty):
    times = np.where(np.arange(20) < 5, 3, 1).astype(np.int32)
    rows = replace(twenty, weights=np.where(np.arange(20) < 5, 9, 1).astype(np.float32))
    copied = one_step(replace(rows, copies=times), batch_size=30)
    repeated = one_step(pick(rows, np.repeat(np.arange(20), times)), batch_size=30)
    assert copied[1] == pytest.approx(repeated[1], rel=1e-5)
    assert close(copied[0], repeated[0], atol=1e-6)


def test_weights_that_are_all_alike_change_nothing(some_digits):
    ones, eights = (
        train(bag_of(replace(some_digits, weights=np.full(len(some_digits), weight, np.float32))), training_plan())
        for weight in (1, 8)
    )
    plain = train(bag_of(some_digits), training_plan())
    assert identical(ones[0], plain[0])
    assert identical(eights[0], plain[0])
    assert eights[1] == plain[1]


def test_rows_of_weight_0_are_not_learned(some_digits):
    wrong = np.arange(len(some_digits)) % 2 == 0
    labels = np.where(wrong, (some_digits.labels + 1) % 10, some_digits.labels).astype(np.int32)
    training = replace(some_digits, labels=labels, weights=np.where(wrong, 0, 1).astype(np.float32))
    weights, _ = train(bag_of(training), training_plan(epochs=40, learning_rate=1e-2))
    predicted = predict(SMALL, weights, some_digits.images).argmax(axis=1)
    assert (predicted == some_digits.labels).mean() > 0.8
    assert (predicted == labels)[wrong].mean() < 0.2


# ------------------------------------------------------------------------------------------ validation


class WatchedNetwork:
    """A trainer's network that notes how many rows it validates at once."""

    def __init__(self, network):
        self._network = network
        self.validated = []

    def __getattr__(self, name):
        return getattr(self._network, name)

    def __call__(self, images, training):
        import tensorflow as tf

        if not training:
            tf.py_function(lambda rows: self.validated.append(int(rows)), [tf.shape(images)[0]], [])
        return self._network(images, training=training)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("side", "rows", "batches"), [(8, 1100, [500, 500, 100]), (256, 25, [10, 10, 5])], ids=["8x8", "256x256"]
)
def test_large_images_are_validated_in_smaller_batches(side, rows, batches):
    architecture = replace(SMALL, input_shape=(side, side, 3), filters=(1, 1, 1), dense_units=2)
    plan = training_plan(architecture, epochs=1)
    trainer = Trainer(plan.program)
    trainer.network = WatchedNetwork(trainer.network)
    trainer.train(bag_of(random_examples(architecture, 4), random_examples(architecture, rows)), plan)
    assert trainer.network.validated == batches


@pytest.fixture(scope="module")
def halves(some_digits):
    """60 rows to train on and 60 to validate on."""
    return pick(some_digits, np.arange(60)), pick(some_digits, np.arange(60, 120))


@pytest.mark.slow
@pytest.mark.parametrize("patience", [1, 3])
def test_early_stopping_keeps_the_best_epoch(halves, patience):
    rows, held_out = halves
    shuffled = np.random.default_rng(0).permutation(held_out.labels)
    labels = np.where(np.arange(60) < 30, shuffled, held_out.labels).astype(np.int32)
    validation = replace(held_out, labels=labels)  # half of them at random, so that the loss rises again
    constant = {"learning_rate_schedule": "constant", "learning_rate": 1e-2}
    plan = training_plan(epochs=60, early_stopping_patience=patience, **constant)
    weights, history = train(bag_of(rows, validation), plan)
    best = int(np.argmin(history["val_loss"]))
    assert 0 < best < 58 - patience
    assert len(history["loss"]) == len(history["val_loss"]) == best + 1 + patience
    assert identical(weights, train(bag_of(rows), training_plan(epochs=best + 1, **constant))[0])


def test_without_patience_the_last_epoch_is_kept(halves):
    rows, held_out = halves
    weights, history = train(bag_of(rows, held_out), training_plan(epochs=3))
    assert len(history["val_loss"]) == 3
    assert identical(weights, train(bag_of(rows), training_plan(epochs=3))[0])


def test_validation_measures_the_weights_at_the_end_of_the_epoch(halves):
    rows, _ = halves
    weights, history = train(bag_of(rows, rows), training_plan())
    output = predict(SMALL, weights, rows.images)
    assert history["val_accuracy"][-1] == pytest.approx((output.argmax(axis=1) == rows.labels).mean())
    assert history["val_loss"][-1] == pytest.approx(-np.log(output[np.arange(60), rows.labels]).mean(), rel=1e-4)


# ------------------------------------------------------------------------------------- standardization


def test_standardization_is_the_mean_and_deviation_of_the_bag(some_digits):
    weights, _ = train(bag_of(some_digits), training_plan())
    assert weights[0] == pytest.approx(some_digits.images.mean(), rel=1e-6)
    assert weights[1] == pytest.approx(some_digits.images.var(), rel=1e-5)
    network = build_network(SMALL)
    network.set_weights(weights)
    scaled = np.asarray(network.get_layer("standardization")(some_digits.images.astype(np.float32)))
    assert abs(scaled.mean()) < 1e-5
    assert scaled.std() == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_standardization_is_by_channel_and_leaves_a_constant_channel_unscaled(dtype):
    images = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 3), np.uint8)
    images[..., 2] = 9
    plan = training_plan(replace(SMALL, input_shape=(4, 4, 3)), epochs=1)
    (mean, variance, *_), _ = train(bag_of(examples(images.astype(dtype), np.zeros(50))), plan)
    assert np.allclose(mean, images.mean(axis=(0, 1, 2)))
    assert np.allclose(variance, [images[..., 0].var(), images[..., 1].var(), 1])


def test_bytes_and_floats_train_alike(some_digits):
    as_floats = replace(some_digits, images=some_digits.images.astype(np.float32))
    ours, theirs = (train(bag_of(rows), training_plan()) for rows in (some_digits, as_floats))
    assert np.allclose(ours[1]["loss"], theirs[1]["loss"], rtol=1e-4)


# ------------------------------------------------------------------------------------- custom networks


@pytest.fixture(scope="module")
def stateful_network(tensorflow):
    """The JSON of a network whose layers have state of their own."""
    from keras import layers

    return network_json(
        layers.Conv2D(4, 3, activation="relu"),
        layers.BatchNormalization(momentum=0.5),
        layers.Flatten(),
        layers.Dropout(0.3),
        layers.Dense(16, activation="relu"),
        layers.BatchNormalization(momentum=0.5),
        layers.Dense(10, activation="softmax"),
        shape=(8, 8, 1),
    )


@pytest.mark.slow
@pytest.mark.parametrize("standardization", [True, False], ids=["standardized", "as it comes"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_state_of_a_custom_network_is_part_of_its_weights(
    some_digits, stateful_network, standardization, precision
):
    architecture = replace(SMALL, network=stateful_network, standardization=standardization)
    plan = training_plan(architecture, epochs=4, learning_rate=1e-2, precision=precision)
    trainer = Trainer(plan.program)
    weights, history = trainer.train(bag_of(some_digits), plan)
    assert history["loss"][-1] < history["loss"][0]
    network = build_network(architecture)
    fresh = network.get_weights()
    moving = [index for index, variable in enumerate(network.weights) if variable.name == "moving_mean"]
    assert len(moving) == 2 + standardization
    assert all(np.abs(weights[index] - fresh[index]).max() > 0.01 for index in moving)
    voting = VotingPlan(f"state {standardization} {precision}", (architecture,), (0,), DIGITS, soft=True)
    cells = pd.Series(list(some_digits.images.reshape(-1, 64)))
    (scored,) = vote_batches([(cells, [None] * len(cells))], voting, lambda member: pack_weights(weights))
    expected = predict(architecture, weights, some_digits.images)
    assert np.allclose(np.stack(scored["probability"]), expected, atol=1e-5)
    again, _ = trainer.train(bag_of(some_digits), plan)
    assert identical(again, weights), "dropout draws the same again"


# ------------------------------------------------------------------------------------------ divergence


@pytest.mark.parametrize(
    ("plan", "scale", "remedy"),
    [
        (training_plan(learning_rate=1e38), 1, "lower learningRate"),
        (
            training_plan(UNSCALED),
            1e37,
            "lower learningRate, or set standardization=True if the features are not scaled",
        ),
    ],
    ids=["learning rate", "features that are not scaled"],
)
def test_divergence_is_refused_with_what_is_not_set_yet(some_digits, plan, scale, remedy):
    images = some_digits.images if scale == 1 else some_digits.images.astype(np.float32) * scale
    sentence = rf"^Member 1 diverged: its (val_)?loss is (nan|inf) in epoch \d+; {remedy}\.$"
    with pytest.raises(Refusal, match=sentence):
        train(bag_of(replace(some_digits, images=images), member=1), plan)


# ------------------------------------------------------------------------------------- class weighting


BALANCED = training_plan(class_weighting="balanced")


@pytest.fixture(scope="module")
def imbalanced(some_digits):
    """40 rows of class 1, 12 of class 2 (half of them with 2 copies) and 3 of class 3; no rows of seven classes."""
    ones, twos, threes = (np.flatnonzero(some_digits.labels == label) for label in (1, 2, 3))
    rows = pick(some_digits, np.concatenate([np.tile(ones[:10], 4), twos[:12], threes[:3]]))
    copies = np.where((rows.labels == 2) & (np.arange(len(rows)) % 2 == 0), 2, 1)
    return replace(rows, copies=copies.astype(np.int32))


BY_HAND = np.array([0, 61 / (3 * 40), 61 / (3 * 18), 61 / (3 * 3)])  # 40 + 18 + 3 copies of three classes


def test_balanced_weights_are_rows_over_classes_times_rows_of_the_class(imbalanced):
    weighted = replace(imbalanced, weights=BY_HAND[imbalanced.labels].astype(np.float32))
    balanced, by_hand = train(bag_of(imbalanced), BALANCED), train(bag_of(weighted), training_plan())
    assert identical(balanced[0], by_hand[0])
    assert not identical(balanced[0], train(bag_of(imbalanced), training_plan())[0])


def test_balanced_weights_are_those_of_scikit_learn(imbalanced):
    labels = np.repeat(imbalanced.labels, imbalanced.copies)
    by_row = compute_sample_weight("balanced", labels)[np.cumsum(imbalanced.copies) - 1]
    weighted = replace(imbalanced, weights=by_row.astype(np.float32))
    assert identical(train(bag_of(imbalanced), BALANCED)[0], train(bag_of(weighted), training_plan())[0])


@pytest.mark.parametrize("lowest", [0, 1])
def test_rows_count_with_their_weights_in_the_weight_of_their_class(imbalanced, lowest):
    """As in scikit-learn. The product with the rows' own weights is the same for each class."""
    weights = np.random.default_rng(1).integers(lowest, 4, len(imbalanced)).astype(np.float32)
    counted = weights * imbalanced.copies
    by_class = counted.sum() / (3 * np.maximum(np.bincount(imbalanced.labels, counted), 1))
    by_row = (by_class[imbalanced.labels] * weights).astype(np.float32)
    assert np.allclose(np.bincount(imbalanced.labels, by_row * imbalanced.copies)[1:], counted.sum() / 3)
    product = replace(imbalanced, weights=by_row)
    weighted = replace(imbalanced, weights=weights)
    assert identical(train(bag_of(weighted), BALANCED)[0], train(bag_of(product), training_plan())[0])


@pytest.mark.slow
def test_balanced_validation_rows_of_weight_0_cost_nothing(imbalanced):
    """As rows are held out by some. Labels are soft, whose weights would be divided by 0."""
    soft = np.eye(10, dtype=np.float32)[imbalanced.labels]
    held = replace(
        imbalanced, copies=np.zeros(len(imbalanced), np.int32), weights=np.zeros(len(imbalanced)), soft_labels=soft
    )
    _, history = train(bag_of(replace(imbalanced, soft_labels=soft), held), BALANCED)
    assert history["val_loss"] == [0.0, 0.0]


@pytest.mark.slow
def test_losses_of_layers_are_minimized_and_not_reported(some_digits):
    import keras

    def network(regularizer):
        dense = keras.layers.Dense(10, activation="softmax", kernel_regularizer=regularizer)
        return training_plan(
            replace(SMALL, network=network_json(keras.layers.Flatten(), dense, shape=(8, 8, 1))), learning_rate=1e-30
        )

    held = replace(pick(some_digits, np.arange(20)), copies=np.zeros(20, np.int32))
    plain, regularized = (train(bag_of(some_digits, held), network(each)) for each in (None, "l2"))
    assert regularized[1] == plain[1]
    learning = [replace(network(each), learning_rate=1e-2) for each in (None, "l2")]
    plain, regularized = (train(bag_of(some_digits), plan) for plan in learning)
    assert not identical(plain[0], regularized[0])


def test_balanced_classes_of_equal_size_change_nothing(some_digits):
    rows = pick(some_digits, np.concatenate([np.flatnonzero(some_digits.labels == label)[:6] for label in range(10)]))
    assert identical(train(bag_of(rows), BALANCED)[0], train(bag_of(rows), training_plan())[0])


def test_the_validation_loss_is_balanced_too(imbalanced):
    """It is the mean over the classes of the mean loss of their rows."""
    validation = replace(pick(imbalanced, np.arange(len(imbalanced))[5:]), copies=np.zeros(len(imbalanced) - 5, int))
    weights, history = train(bag_of(imbalanced, validation), BALANCED)
    output = predict(SMALL, weights, validation.images)
    loss = -np.log(output[np.arange(len(validation)), validation.labels])
    by_class = [loss[validation.labels == label].mean() for label in (1, 2, 3)]
    assert history["val_loss"][-1] == pytest.approx(np.mean(by_class), rel=1e-4)


# ------------------------------------------------------------------------------------- rows far away


@pytest.mark.slow
def test_validation_rows_that_cannot_be_computed_are_refused_as_such(some_digits):
    """The learning rate is not at fault, as it would be if no row could be computed."""
    tiny = replace(some_digits, images=some_digits.images.astype(np.float32) * np.float32(1e-30))
    far = np.random.default_rng(0).choice(np.float32([1e10, -1e10]), (8, 8, 1))
    images = np.stack([*tiny.images[:5], far])
    validation = replace(examples(images, [*tiny.labels[:5], 7]), copies=np.zeros(6, np.int32))
    sentence = (
        r"^Member 2 cannot compute 1 of 6 validation rows; the first one has label 7 and an absolute value of 1e\+10 "
        r"in column 'features': too far from the numbers of the training rows; leave such rows out, or scale the "
        r"column\.$"
    )
    with pytest.raises(Refusal, match=sentence):
        train(bag_of(tiny, validation, member=2), training_plan())


@pytest.mark.slow
def test_rows_of_weight_0_do_not_decide_the_standardization(some_digits):
    far = examples(np.full((5, 8, 8, 1), 1e6, np.float32), np.zeros(5))
    images = np.concatenate([some_digits.images.astype(np.float32), far.images])
    both = examples(images, [*some_digits.labels, *far.labels], [*np.ones(len(some_digits)), *np.zeros(5)])
    with_far, without = train(bag_of(both), training_plan()), train(bag_of(some_digits), training_plan())
    assert np.allclose(with_far[0][0], without[0][0]) and np.allclose(with_far[0][1], without[0][1])
