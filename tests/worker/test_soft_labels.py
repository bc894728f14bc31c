"""A member trains on the probabilities of the classes, and its accuracy is that of the likeliest class."""

import functools
from dataclasses import replace

import numpy as np
import pytest
from support.bags import SMALL, bag_frame, bag_of, close, cut, examples, identical, numbers, pick, training_plan

from spark_cnn_ensemble.worker.bag import BagRules, collect_bag
from spark_cnn_ensemble.worker.network import build_network
from spark_cnn_ensemble.worker.pixels import PixelFormat
from spark_cnn_ensemble.worker.trainer import Trainer
from spark_cnn_ensemble.worker.training import _class_counts

pytestmark = pytest.mark.usefixtures("tensorflow")

trainer_of = functools.cache(Trainer)
STILL = training_plan(learning_rate=1e-30, epochs=1)


def train(training, plan, validation=None):
    """Weights and history."""
    return trainer_of(plan.program).train(bag_of(training, validation), plan)


@pytest.fixture(scope="module")
def soft(some_digits):
    """The digits with probabilities drawn at random; the likeliest class is the label."""
    drawn = np.random.default_rng(5).dirichlet(np.full(10, 0.3), len(some_digits)).astype(np.float32)
    return replace(some_digits, labels=drawn.argmax(axis=1).astype(np.int32), soft_labels=drawn)


@pytest.fixture(scope="module")
def untrained(soft):
    """Softmax of the untrained member on the rows."""
    weights, _ = train(soft, STILL)
    network = build_network(SMALL)
    network.set_weights(weights)
    return network(soft.images.astype(np.float32)).numpy()


def losses(targets, output):
    return -(targets * np.log(output)).sum(axis=1)


@pytest.mark.slow
@pytest.mark.parametrize("weighting", ["none", "balanced"])
def test_one_hot_labels_train_as_class_indices(some_digits, weighting):
    one_hot = replace(some_digits, soft_labels=np.eye(10, dtype=np.float32)[some_digits.labels])
    plan = training_plan(class_weighting=weighting)
    weights, history = train(one_hot, plan, pick(one_hot, np.arange(30)))
    expected, measured = train(some_digits, plan, pick(some_digits, np.arange(30)))
    assert close(weights, expected, 1e-5)
    assert all(np.allclose(history[name], measured[name], atol=1e-5) for name in measured)


def test_the_loss_is_the_cross_entropy_and_the_accuracy_that_of_the_likeliest_class(soft, untrained):
    _, history = train(soft, STILL, soft)
    right = (untrained.argmax(axis=1) == soft.labels).mean()
    for prefix in ("", "val_"):
        assert history[f"{prefix}loss"][0] == pytest.approx(losses(soft.soft_labels, untrained).mean(), rel=1e-5)
        assert history[f"{prefix}accuracy"][0] == pytest.approx(right)


def test_weights_and_copies_of_rows_count(soft, untrained):
    rng = np.random.default_rng(0)
    weights, copies = rng.random(len(soft)).astype(np.float32), rng.integers(1, 4, len(soft)).astype(np.int32)
    _, history = train(replace(soft, weights=weights, copies=copies), STILL)
    expected = np.average(losses(soft.soft_labels, untrained), weights=weights * copies)
    assert history["loss"][0] == pytest.approx(expected, rel=1e-5)


def test_balanced_weights_multiply_the_probabilities_of_a_class(soft, untrained):
    """Each class then has the same sum; the accuracy is still that of the likeliest class by the labels."""
    _, history = train(soft, replace(STILL, class_weighting="balanced"))
    by_class = len(soft) / (10 * soft.soft_labels.sum(axis=0))
    balanced = soft.soft_labels * by_class
    assert np.allclose(balanced.sum(axis=0), len(soft) / 10, rtol=1e-5)
    assert history["loss"][0] == pytest.approx(losses(balanced, untrained).mean(), rel=1e-5)
    assert history["accuracy"][0] == pytest.approx((untrained.argmax(axis=1) == soft.labels).mean())


@pytest.mark.slow
def test_a_member_does_not_depend_on_what_the_trainer_trained_before(soft, some_digits):
    plan = training_plan(precision="bfloat16")
    alone, _ = Trainer(plan.program).train(bag_of(soft), plan)
    trainer = trainer_of(plan.program)
    trainer.train(bag_of(some_digits), plan)
    assert identical(trainer.train(bag_of(soft), plan)[0], alone)


def test_rows_of_weight_0_are_not_in_the_sums_of_the_classes():
    rows = examples(np.zeros((3, 8, 8, 1)), [1, 0, 0], [1, 0, 2], soft_labels=[[0.25, 0.75], [1, 0], [0.5, 0.5]])
    assert _class_counts(rows, 2) == [0.75, 1.25]


# ---- the bag


@pytest.mark.parametrize("memory_limit", [None, 1 << 20], ids=["in memory", "on disk"])
def test_a_row_keeps_its_probabilities_whatever_the_order_and_the_batches(memory_limit):
    side = 4 if memory_limit is None else 180
    rng = np.random.default_rng(2)
    rows = []
    for index in range(40):
        kind = {"copies": int(index % 4 > 0), "soft_label": numbers(index / 40, 1 - index / 40)}
        rows.append((int(rng.integers(-(2**63), 2**63)), 0, index % 2, np.full(side * side, index, np.float32), kind))
    table = bag_frame(rows).sample(frac=1, random_state=1)
    table.at[3, "features"] = numbers(1, 2, 3)  # of another size, to be left out
    rules = BagRules(PixelFormat("features", "array", (side, side, 1)), True, memory_limit)
    bag = collect_bag(cut(table, [7, 1, 20]), 0, rules)
    assert bag.spilled == (memory_limit is not None)
    assert len(bag.training) + len(bag.validation) == 39
    for part in (bag.training, bag.validation):
        drawn = part.gather(np.arange(len(part)))[:, 0, 0, 0].astype(np.float32)
        assert np.allclose(part.soft_labels[:, 0], drawn / 40)
