"""Fixtures for tests of hostile input: a saved model, and a copy of it to tamper with."""

import shutil

import pytest
from support.classifiers import small


@pytest.fixture(scope="session")
def saved(spark, tmp_path_factory):
    """The path of a saved model: two members, 2x2 images, out-of-bag votes."""
    rows = [([float(index % 7), 0.0, 1.0, float(index % 3)], float(index % 2), index) for index in range(40)]
    frame = spark.createDataFrame(rows, "features array<float>, label double, id int")
    classifier = small(
        numMembers=2, filters=[2], denseUnits=2, inputShape=[2, 2, 1], numClasses=2, oobSampleSize=10, idCol="id"
    )
    path = tmp_path_factory.mktemp("hostile") / "model"
    classifier.fit(frame).save(str(path))
    return path


@pytest.fixture
def copy(saved, tmp_path):
    """The path of a copy of the saved model, to tamper with."""
    shutil.copytree(saved, tmp_path / "model")
    return tmp_path / "model"
