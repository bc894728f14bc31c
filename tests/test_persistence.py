"""Saved members and checkpoints can be written and read in bounded memory.

What survives saving is in test_checks.py (24, 25); files that are damaged or hostile are in `refusals` and `hostile`.
"""

import pytest
from pyarrow.parquet import ParquetFile
from support.classifiers import small

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
