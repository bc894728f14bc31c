"""Saved members and checkpoints can be written and read in bounded memory.

What survives saving is in test_checks.py (24, 25); files that are damaged or hostile are in `refusals` and `hostile`.
"""

import pyspark
import pytest
from pyarrow.parquet import ParquetFile
from support.classifiers import small
from support.members import digests

from spark_cnn_ensemble import CNNEnsembleClassificationModel
from spark_cnn_ensemble.engine import shared_weights
from spark_cnn_ensemble.worker.weights import PART_BYTES


@pytest.fixture(scope="module")
def folder(train, tmp_path_factory):
    """A folder with a checkpoint and a saved model of one large member."""
    folder = tmp_path_factory.mktemp("large")
    classifier = small(numMembers=1, denseUnits=150_000, checkpointDir=str(folder / "checkpoint"))
    classifier.fit(train).save(str(folder / "model"))
    return folder


@pytest.mark.parametrize("pattern", ["checkpoint/*/*.parquet", "model/members/*/*.parquet"])
def test_a_large_member_is_written_in_small_row_groups(folder, pattern):
    """The JVM holds a row group in its heap while it writes one, and while it reads one."""
    (file,) = folder.glob(pattern)
    metadata = ParquetFile(file).metadata
    sizes = [metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups)]
    assert sum(sizes) > 10 * PART_BYTES
    assert max(sizes) < 6 * PART_BYTES
    # Of the weights themselves, it keeps no statistics; those of the others let readers leave out row groups.
    columns = [metadata.row_group(0).column(index) for index in range(metadata.num_columns)]
    kept = {column.path_in_schema: column.is_stats_set for column in columns}
    assert kept["bytes"] == pyspark.__version__.startswith("3.")
    assert kept["member"] and kept["part"]


def test_a_task_writes_a_bounded_part_of_an_ensemble(spark, train, tmp_path, monkeypatch):
    model = small(numMembers=9).fit(train)
    with monkeypatch.context() as patch:
        patch.setattr(shared_weights, "GROUP_BYTES", 2 * len(model._ensemble.weights[0]))
        model.save(str(tmp_path / "model"))
    assert len(list(tmp_path.glob("model/members/*/*.parquet"))) == 5
    assert digests(CNNEnsembleClassificationModel.load(str(tmp_path / "model"))) == digests(model)
