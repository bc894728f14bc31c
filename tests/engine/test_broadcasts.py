"""The files of a model's broadcasts are deleted once no model and no DataFrame can use them."""

import gc
import time
from pathlib import Path


def test_files_of_broadcasts_are_deleted_with_their_last_user(spark, model, test):
    folder = Path(spark.sparkContext._temp_dir)
    before = set(folder.iterdir())
    short_lived, lasting = model.subset([0, 1]), model.subset([1, 2])
    short_lived.transform(test)
    unused = set(folder.iterdir()) - before
    assert len(unused) == 2
    scored = lasting.transform(test)  # outlives its model
    used = set(folder.iterdir()) - before - unused
    assert len(used) == 2
    del short_lived, lasting
    deadline = time.monotonic() + 60
    while unused & set(folder.iterdir()):
        assert time.monotonic() < deadline, "the files are still there"
        gc.collect()
        spark._jvm.System.gc()
        model.subset([0]).transform(test)  # a new broadcast deletes the files of unused ones
    assert used <= set(folder.iterdir())
    assert scored.where("prediction >= 0").count() == test.count()
