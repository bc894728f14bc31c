"""Fixtures for tests of code that runs on workers; none of them starts Spark."""

import pytest
from support.bags import SMALL, examples
from support.voting import random_cells, untrained_members

from spark_cnn_ensemble.worker.runtime import load_tensorflow


@pytest.fixture(scope="session")
def tensorflow():
    return load_tensorflow()


@pytest.fixture(scope="session")
def some_digits(digits):
    """120 digits as training rows of a bag."""
    (x, y), _ = digits
    return examples(x[:120, :, :, None], y[:120])


@pytest.fixture(scope="session")
def three_members(tensorflow):
    """Packed weights of three untrained members, and their Keras models."""
    return untrained_members(SMALL, 3)


@pytest.fixture(scope="session")
def thousand_cells():
    return random_cells(1000)
