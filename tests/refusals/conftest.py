"""Fixtures for tests of refusals: valid rows, a model of them, and a check that no training begins."""

import pytest
from support.feature_forms import BRIGHT, DARK, two_by_two

from spark_cnn_ensemble.fit import members as fit_members


@pytest.fixture(scope="session")
def good(spark):
    """Eight valid rows with a column for everything that a param may name."""
    columns = "id long, features array<double>, label int, weight double, held boolean"
    rows = [(index, (DARK, BRIGHT)[index % 2], index % 2, 1.0, index > 5) for index in range(8)]
    return spark.createDataFrame(rows, columns).coalesce(1).cache()


@pytest.fixture(scope="session")
def scorer(good):
    """A model of 2x2 images in two classes."""
    return two_by_two().fit(good)


@pytest.fixture
def no_training(monkeypatch):
    """Fail where training begins."""

    def place(*_):
        raise AssertionError("Training has begun.")

    monkeypatch.setattr(fit_members, "place_bags", place)
