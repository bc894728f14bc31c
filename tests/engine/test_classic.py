"""The engine for a classic session does what `Engine` says: files, weights, placing, keeping, jobs, values of workers."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
from pyspark.sql import functions as F
from support.drivers import wait_until
from support.processes import output_of, start_python

from spark_cnn_ensemble.engine import engine_of
from spark_cnn_ensemble.engine.errors import reason


@pytest.fixture(scope="module")
def engine(spark):
    return engine_of(spark)


def test_a_local_session_has_known_slots(spark, engine):
    assert (engine.slots, engine.is_local, engine.master) == (2, True, "local[2]")
    assert engine.scope == engine_of(spark).scope


@pytest.mark.spark
def test_a_local_session_starts_its_workers_with_the_drivers_python(tmp_path):
    # Without the engine, Spark would start the python3 of PATH, which here is a script that fails.
    (tmp_path / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python3").chmod(0o755)
    path = f"PATH={tmp_path}{os.pathsep}{os.environ['PATH']}"
    process = start_python(
        """
        import sys
        from pyspark.sql import SparkSession
        from pyspark.sql.functions import udf
        from spark_cnn_ensemble.engine import engine_of
        spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
        engine_of(spark)
        used = spark.range(1).select(udf(lambda _: __import__("sys").executable)("id")).head()[0]
        print(used == sys.executable)
        """,
        before=["env", "-u", "PYSPARK_PYTHON", path],
    )
    assert output_of(process) == ["True"]


# Files


@pytest.fixture
def files(engine):
    return engine.files


@pytest.fixture(params=["a local path", "viewfs"])
def folder(request, spark, tmp_path):
    """A path or URI of the folder `tmp_path`."""
    if request.param == "viewfs":
        configuration = spark.sparkContext._jsc.hadoopConfiguration()
        configuration.set(f"fs.viewfs.mounttable.{tmp_path.name}.link./data", tmp_path.as_uri())
        return f"viewfs://{tmp_path.name}/data"
    return str(tmp_path)


def test_a_file_of_one_line_is_added_once_and_read(files, folder, tmp_path):
    assert not files.exists(f"{folder}/inner")
    assert files.add(f"{folder}/inner", "text.json", "größe")
    assert not files.add(f"{folder}/inner", "text.json", "another")
    assert files.exists(f"{folder}/inner/text.json")
    (line,) = files.lines(f"{folder}/inner")
    assert line.text == "größe"
    assert line.path.endswith("/inner/text.json")
    assert abs(line.modified - time.time()) < 60
    assert [file.name for file in (tmp_path / "inner").iterdir() if not file.name.startswith(".")] == ["text.json"]


def test_of_files_that_are_added_at_once_one_stays(files, folder):
    adders = 4
    with ThreadPoolExecutor(adders) as pool:
        for at in range(50):
            start = threading.Barrier(adders, timeout=60)

            def add(line, inner=f"{folder}/{at}", start=start):
                start.wait()
                return files.add(inner, "text", line)

            added = list(pool.map(add, [str(line) * 99 for line in range(adders)]))
            assert sum(added) == 1
            assert [line.text for line in files.lines(f"{folder}/{at}")] == [str(added.index(True)) * 99]


def test_a_file_that_does_not_match_its_checksum_is_not_read(files, folder, tmp_path):
    files.add(f"{folder}/inner", "text", "one")
    (tmp_path / "inner" / "text").write_text("two")
    with pytest.raises(Exception, match="cannot be read; it may be damaged"):
        files.lines(f"{folder}/inner")


def test_folders_are_matched_and_deleted(files, folder, tmp_path):
    (tmp_path / "attempt=1" / "inside").mkdir(parents=True)
    (found,) = files.matches(f"{folder}/attempt=*")
    assert found.path.endswith("/attempt=1")
    assert abs(found.modified - time.time()) < 60
    assert not files.matches(f"{folder}/other=*")
    files.delete(f"{folder}/attempt=1")
    files.delete(f"{folder}/attempt=1")  # does nothing, since nothing is there
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("before", [None, "old"], ids=["a free path", "a folder"])
def test_a_folder_is_replaced_once_the_new_one_is_whole(files, folder, tmp_path, before):
    if before:
        files.add(f"{folder}/target", "text", before)

    def write(path):
        assert (tmp_path / "target").exists() == bool(before)
        files.add(path, "text", "new")

    files.write_whole(f"{folder}/target", write, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert files.lines(f"{folder}/target")[0].text == "new"


def test_a_folder_stays_if_its_replacement_fails(files, folder, tmp_path):
    files.add(f"{folder}/target", "text", "old")

    def write(path):
        files.add(path, "text", "new")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        files.write_whole(f"{folder}/target", write, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert files.lines(f"{folder}/target")[0].text == "old"


def test_what_was_written_is_kept_if_its_path_is_taken_meanwhile(files, folder, tmp_path):
    def write(path):
        files.add(path, "text", "new")
        files.add(f"{folder}/target", "text", "of another job")

    with pytest.raises(
        FileExistsError, match=r"exists already; .* \(the result is in .*/target\.saving-\w+\)\."
    ) as error:
        files.write_whole(f"{folder}/target", write, overwrite=False)
    kept = str(error.value).removesuffix(").").split()[-1]
    assert files.lines(kept)[0].text == "new"
    assert files.lines(f"{folder}/target")[0].text == "of another job"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_is_written_where_a_link_leads(files, tmp_path, overwrite):
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "target")
    (tmp_path / "disk").mkdir()
    if overwrite:
        files.add(str(tmp_path / "disk" / "target"), "text", "old")
    files.check_writable(str(tmp_path / "link"))
    files.write_whole(str(tmp_path / "link"), lambda path: files.add(path, "text", "new"), overwrite)
    assert (tmp_path / "link").is_symlink()
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["target"]
    assert files.lines(str(tmp_path / "disk" / "target"))[0].text == "new"


# Rows and weights


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_rows_are_placed_into_the_partitions_that_they_name(spark, engine, count):
    rows = spark.range(200).select("id", (F.col("id") % count).cast("int").alias("named"))
    placed = engine.place(rows, F.col("named"), count).select("named", F.spark_partition_id().alias("actual"))
    assert placed.count() == 200
    assert placed.where("named != actual").count() == 0
    assert placed.rdd.getNumPartitions() == count


def test_a_frame_is_computed_once_while_it_is_kept_and_then_released(spark, engine):
    computed = spark.sparkContext.accumulator(0)

    def count(frames):
        for frame in frames:
            computed.add(len(frame))
            yield frame

    with engine.keep(spark.range(10).mapInPandas(count, "id long")) as kept:
        assert kept.count() == kept.count() == 10
        assert kept.storageLevel.useDisk and not kept.storageLevel.useMemory
    assert computed.value == 10
    assert not kept.is_cached


def test_a_kept_frame_is_released_after_an_error(spark, engine):
    with pytest.raises(ZeroDivisionError), engine.keep(spark.range(10)) as kept:
        raise ZeroDivisionError
    assert not kept.is_cached


def test_values_are_collected_from_workers(spark, engine):
    collector = engine.collector()
    add = collector.add

    def report(frames):
        for frame in frames:
            add([int(frame["id"].max())])
            yield frame

    assert collector.values == []
    spark.range(0, 8, 1, 4).mapInPandas(report, "id long").collect()
    assert sorted(collector.values) == [1, 3, 5, 7]


def test_shared_weights_reach_the_workers(spark, engine):
    weights = [bytes([member]) * 1000 for member in range(3)]
    weights_of = engine.share(weights)

    def look(frames):
        for frame in frames:
            yield pd.DataFrame({"id": frame["id"], "bytes": [weights_of(int(member)) for member in frame["id"]]})

    rows = spark.range(3).mapInPandas(look, "id long, bytes binary").orderBy("id").collect()
    assert [bytes(row["bytes"]) for row in rows] == weights


# Jobs


def test_tasks_of_jobs_inside_a_watch_are_counted(spark, engine):
    watch = engine.watch_jobs()
    watch.start()
    spark.range(0, 100, 1, 3).collect()
    wait_until(lambda: watch.stages() == [(3, 3)])  # Spark's status tracker lags
    watch.stop(cancel=False)
    spark.range(0, 100, 1, 5).collect()
    time.sleep(1)
    assert watch.stages() == [(3, 3)]


def test_jobs_inside_a_watch_are_cancelled(spark, engine):
    watch = engine.watch_jobs()
    watch.start()

    def sleep(frames):
        for frame in frames:
            time.sleep(60)
            yield frame

    start = time.monotonic()

    def stop():
        wait_until(watch.stages)
        watch.stop(cancel=True)

    timer = threading.Thread(target=stop)
    timer.start()
    with pytest.raises(Exception, match="cancel"):
        spark.range(2).mapInPandas(sleep, "id long").collect()
    timer.join()
    watch.stop(cancel=False)  # tags belong to a thread, and the timer's is another
    assert time.monotonic() - start < 50
    assert not spark.sparkContext.getJobTags()


# Errors


def test_the_reason_of_an_error_is_one_line_without_codes(spark):
    with pytest.raises(Exception) as caught:
        spark.sql("SELECT nothing_of_this_name").collect()
    text = reason(caught.value)
    assert "nothing_of_this_name" in text
    assert "\n" not in text and "SQLSTATE" not in text and "[" not in text[:1]


def test_the_reason_of_an_error_without_a_message_is_its_class():
    assert reason(KeyError()) == "KeyError"
    assert reason(ValueError("one\ntwo.")) == "one"
    assert len(reason(ValueError("x" * 10_000))) <= 500
