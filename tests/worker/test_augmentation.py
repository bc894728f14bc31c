"""Shifts and flips are uniform, independent, and a pure function of the seed."""

import functools

import numpy as np
import pytest
from support.bags import bag_of, identical, training_plan

from spark_cnn_ensemble.worker.augmentation import augment
from spark_cnn_ensemble.worker.trainer import Trainer

pytestmark = pytest.mark.usefixtures("tensorflow")


@functools.cache
def images(count=4000, height=5, width=7):
    """Images whose pixels are all different and not 0."""
    return np.arange(1, 1 + height * width, dtype=np.uint8).reshape(1, height, width, 1).repeat(count, axis=0)


def augmented(shift, flip, step=0, seed=7):
    import tensorflow as tf

    return augment(tf.constant(images()), tf.constant([seed, step]), shift, flip).numpy()


def test_without_shift_and_flip_images_stay_as_they_are():
    assert np.array_equal(augmented(0, False), images())


@pytest.mark.parametrize("shift", [1, 2, 7])
def test_every_shift_occurs_and_repeats_the_edge(shift):
    shifted = augmented(shift, False)
    assert shifted.shape == images().shape
    assert shifted.dtype == images().dtype
    padded = np.pad(images()[0, :, :, 0], shift, mode="edge")
    expected = {
        padded[top : top + 5, left : left + 7].tobytes()
        for top in range(2 * shift + 1)
        for left in range(2 * shift + 1)
    }
    assert {image.tobytes() for image in shifted} == expected


def chi_square(images, outcomes):
    """Of the counts of the different images, which are equally likely."""
    _, counts = np.unique(images.reshape(len(images), -1), axis=0, return_counts=True)
    assert len(counts) == outcomes
    expected = len(images) / outcomes
    return ((counts - expected) ** 2 / expected).sum()


def test_shifts_are_uniform():
    # 24 degrees of freedom: 1 in 1,700 fair draws exceeds 53. The draw is fixed.
    assert chi_square(augmented(2, False), 25) < 53


def test_shifts_and_flips_are_independent():
    # 17 degrees of freedom.
    assert chi_square(augmented(1, True), 18) < 44


def test_about_half_of_the_images_are_flipped():
    flipped = augmented(0, True)
    mirrored = (flipped == images()[:, :, ::-1]).all(axis=(1, 2, 3))
    untouched = (flipped == images()).all(axis=(1, 2, 3))
    assert (mirrored ^ untouched).all()
    assert 0.46 < mirrored.mean() < 0.54


def test_augmentation_is_a_function_of_seed_and_step():
    first = augmented(2, True)
    assert np.array_equal(augmented(2, True), first)
    assert not np.array_equal(augmented(2, True, step=1), first)
    assert not np.array_equal(augmented(2, True, seed=8), first)


@pytest.mark.slow
def test_shifts_and_flips_change_the_trained_weights(some_digits):
    plans = [training_plan(random_shift=shift, random_flip=flip) for shift, flip in ((0, False), (1, False), (0, True))]
    plain, shifted, flipped = (Trainer(plan.program).train(bag_of(some_digits), plan)[0] for plan in plans)
    assert not identical(plain, shifted)
    assert not identical(plain, flipped)
    assert not identical(shifted, flipped)
