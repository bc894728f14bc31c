"""Features of any scale train like those of scale 1; what float32 cannot distinguish is refused."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from support.bags import SMALL, bag_of, examples, training_plan
from support.voting import DIGITS

from spark_cnn_ensemble.worker.network import Architecture
from spark_cnn_ensemble.worker.refusal import Refusal
from spark_cnn_ensemble.worker.scoring import vote_batches
from spark_cnn_ensemble.worker.standardization import channel_moments, exceeds_float32, standardization_weights
from spark_cnn_ensemble.worker.trainer import trainer_of
from spark_cnn_ensemble.worker.voting_plan import VotingPlan
from spark_cnn_ensemble.worker.weights import pack_weights

pytestmark = pytest.mark.usefixtures("tensorflow")

# Digits (0 to 16) times a factor, plus an offset.
SCALES = {
    "1": (1, 0),
    "1e-37": (1e-37, 0),
    "1e-30": (1e-30, 0),
    "1e-20": (1e-20, 0),
    "1e-7": (1e-7, 0),
    "1e-3": (1e-3, 0),
    "1e3": (1e3, 0),
    "1e10": (1e10, 0),
    "1e20": (1e20, 0),
    "1e30": (1e30, 0),
    "1e37": (1e37, 0),
    "2e37": (2e37, 0),
    "negative": (-1e-7, 0),
    "a small offset": (1 / 16, 1092.6),
    "an offset of 10,000 deviations": (1 / 16, 3700),
    "a negative offset": (1 / 16, -1092.6),
    "a tiny scale with an offset": (1e-25, 1e-23),
    "a huge scale with an offset": (1e25, 1e28),
}


@pytest.fixture(scope="module")
def train_and_score(digits):
    """Accuracy, on held-out digits, of a member that is trained on digits of a scale and scored as a model scores."""
    (x, y), (x_test, y_test) = digits

    def accuracy(factor, offset, precision="float32"):
        def scaled(images):
            return (images.astype(np.float64) * factor + offset).astype(np.float32)

        plan = training_plan(epochs=8, learning_rate=1e-2, precision=precision)
        bag = bag_of(examples(scaled(x)[..., None], y))
        weights, _ = trainer_of(plan.program).train(bag, plan)
        network = replace(SMALL, scaled=exceeds_float32(*channel_moments(bag.training)))
        voting = VotingPlan(f"{factor} {offset} {precision}", (network,), (0,), DIGITS)
        cells = pd.Series(list(scaled(x_test).reshape(-1, 64)))
        scored = pd.concat(vote_batches([(cells, [None] * len(cells))], voting, lambda _: pack_weights(weights)))
        return (scored["prediction"].to_numpy() == y_test).mean()

    return accuracy


@pytest.mark.slow
@pytest.mark.parametrize("case", SCALES)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_features_of_any_scale_train_alike(train_and_score, case, precision):
    # 0.961 at scale 1.
    assert train_and_score(*SCALES[case], precision) > 0.92


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("constant", [0, 9, 255])
def test_a_constant_channel_keeps_its_scale(dtype, constant):
    images = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 3)).astype(dtype)
    images[..., 2] = constant
    mean, variance = channel_moments(examples(images, np.zeros(50)))
    assert np.allclose(variance, [images[..., 0].var(), images[..., 1].var(), 0])
    assert not exceeds_float32(mean, variance)
    _, deviations = standardization_weights(mean, variance, scaled=False)
    assert deviations[2] == 1


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1092.6, 1e-30, 1e10, 1e37])
def test_rounding_is_no_variation(value):
    """A channel that is constant but for the last digit of some numbers would be noise of any size."""
    images = np.full((50, 4, 4, 1), value, np.float32)
    images[::7, 1] = np.nextafter(images[0, 0, 0], np.float32(np.inf))
    mean, variance = channel_moments(examples(images, np.zeros(50)))
    assert variance == 0
    for scaled in {exceeds_float32(mean, variance), True}:
        *factor, center, square = standardization_weights(mean, variance, scaled)
        standardized = (images.astype(np.float64) - center) * (factor or 1) / np.sqrt(square)
        assert abs(standardized).max() < 2


@pytest.mark.parametrize("value", [1e-30, 1092.6, 1e30])
def test_a_single_number_that_differs_is_variation(value):
    images = np.full((5000, 4, 4, 1), value, np.float32)
    images[17, 2, 2] *= 2
    _, variance = channel_moments(examples(images, np.zeros(5000)))
    assert variance == pytest.approx(images.astype(np.float64).var(), rel=1e-6)


def test_channels_of_different_scales_are_each_standardized():
    images = np.random.default_rng(0).normal(3, 1, (200, 4, 4, 4)) * [1e-30, 1, 1e30, 0]
    images = images.astype(np.float32)
    mean, variance = channel_moments(examples(images, np.zeros(200)))
    assert exceeds_float32(mean, variance)
    factor, mean, ones = standardization_weights(mean, variance, scaled=True)
    standardized = (images - mean) * factor
    assert np.array_equal(ones, np.ones(4))
    assert np.allclose(standardized.mean(axis=(0, 1, 2)), 0, atol=1e-4)
    assert np.allclose(standardized.std(axis=(0, 1, 2)), [1, 1, 1, 0], atol=1e-4)


@pytest.mark.parametrize("value", [0, 7, 1e-40])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_bag_of_one_number_is_refused(dtype, value):
    plan = training_plan()
    bag = bag_of(examples(np.full((20, 8, 8, 1), value).astype(dtype), np.arange(20) % 10), member=3)
    sentence = r"^Column 'features' \(parameter 'featuresCol'\) is constant in the bag of member 3: .*; scale or .*\.$"
    with pytest.raises(Refusal, match=sentence):
        trainer_of(plan.program).train(bag, plan)


def test_channels_that_are_constant_at_different_numbers_are_named(tensorflow):
    plan = training_plan(Architecture((8, 8, 3), 10))
    bag = bag_of(examples(np.full((20, 8, 8, 3), (255, 0, 7), np.uint8), np.arange(20) % 10))
    with pytest.raises(Refusal, match=r"each number is one of 255, 0, 7 as float32"):
        trainer_of(plan.program).train(bag, plan)
