"""Fixtures for tests of the text matrix."""

import pytest

from spark_cnn_ensemble.text import reader


@pytest.fixture(scope="session")
def some_mnist(mnist):
    """300 of MNIST's images and their labels."""
    (x, y), _ = mnist
    return x[:300], y[:300]


@pytest.fixture
def small_pieces(monkeypatch):
    """Files are divided into many parts, parts into many reads, reads into many blocks."""
    monkeypatch.setattr(reader, "LOCAL_CHUNK_BYTES", 1000)
    monkeypatch.setattr(reader, "READ_BYTES", 300)
    monkeypatch.setattr(reader, "BLOCK_BYTES", 100)
