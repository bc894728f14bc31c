"""A text matrix becomes a DataFrame, whose rows do not depend on how the files are divided or where they are."""

import gzip
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyspark.errors import PySparkException
from support.classifiers import small
from support.members import digests
from support.scored import predictions_by_id
from support.text_matrices import by_columns, forbidden, read_here, rows_here, rows_of, write_file, write_malformed

from spark_cnn_ensemble.text import files as text_files
from spark_cnn_ensemble.text.files import Span, read_parts, spans
from spark_cnn_ensemble.text.lines import Layout
from spark_cnn_ensemble.text.reader import part_bytes, plan_parts, read_text_matrix
from spark_cnn_ensemble.text.writer import write_text_matrix
from spark_cnn_ensemble.worker.refusal import Refusal

# Parts


@pytest.mark.parametrize(
    ("slots", "chunk", "read", "count"),
    [
        *((1, 5000, 10, 1), (2, 5000, 10, 2), (2, 300, 10, 4), (4, 300, 10, 4), (50, 300, 10, 50), (50, 300, 300, 4)),
        *((3, 5000, 10, 3), (7, 5000, 10, 7)),
    ],
)
def test_parts_are_few_and_even_and_keep_the_slots_busy(slots, chunk, read, count):
    files = [Span(str(i), str(i), 0, size) for i, size in enumerate([250, 1, 30, 700, 19])]
    size = part_bytes(1000, slots, chunk, read)
    assert size == math.ceil(1000 / count)
    parts = [spans(files, i * size, (i + 1) * size) for i in range(count)]
    sizes = [sum(r.stop - r.start for r in part) for part in parts]
    assert sizes == [size] * (count - 1) + [1000 - size * (count - 1)]
    joined = [(r.name, at) for part in parts for r in part for at in range(r.start, r.stop)]
    assert joined == [(file.name, at) for file in files for at in range(file.stop)]
    assert spans(files, 1000, 1000 + size) == []


# Files


def test_hidden_and_empty_files_are_left_out(tmp_path):
    write_file(tmp_path, "a.txt", "1 2 3\n")
    write_file(tmp_path, "_SUCCESS", "no")
    write_file(tmp_path, ".a.txt.crc", "no")
    write_file(tmp_path, "_temporary/x.txt", "no")
    write_file(tmp_path, "empty.txt", "")
    assert read_here(tmp_path)[2].tolist() == [3]


def test_a_file_that_is_named_itself_is_read_whatever_its_name(tmp_path):
    write_file(tmp_path, "_named.txt", "1 2\n")
    assert read_here(tmp_path / "_named.txt")[2].tolist() == [2]


@pytest.mark.parametrize("pieces", [None, "small_pieces"], ids=["one piece", "small pieces"])
def test_rows_and_ids_do_not_depend_on_pieces_or_place(tmp_path, some_mnist, monkeypatch, request, pieces):
    x, y = some_mnist
    write_text_matrix(tmp_path / "m", x[:40, 10:13, 10:15], y[:40], copies=3)
    write_file(tmp_path, "m/deeper/more.txt", "1.5 " * 15 + "3\n")
    rows = rows_here(tmp_path / "m")
    assert len(rows) == 3 * 40 + 1 and len({row[0] for row in rows}) == len(rows)
    if pieces:
        request.getfixturevalue(pieces)
    assert rows_here(tmp_path / "m") == rows
    shutil.copytree(tmp_path / "m", tmp_path / "other place é%20")
    assert rows_here(f"{tmp_path}/other place é%20/") == rows
    assert rows_here((tmp_path / "other place é%20").as_uri()) == rows
    assert rows_here(f"file:{tmp_path}/m") == rows_here(f"file://localhost{tmp_path}/m") == rows
    monkeypatch.chdir(tmp_path)
    assert rows_here("m") == rows
    assert rows_here("m/part-00001.txt") < rows


# With Spark


def test_what_was_written_is_read(spark, tmp_path, some_mnist):
    x, y = some_mnist
    write_text_matrix(tmp_path / "m", x, y)
    frame = read_text_matrix(spark, tmp_path / "m")
    assert frame.dtypes == [("id", "bigint"), ("features", "array<float>"), ("label", "int")]
    assert frame.rdd.getNumPartitions() == 2  # of 3 MB, one per slot
    once, again = rows_of(frame), rows_of(read_text_matrix(spark, str(tmp_path / "m")))
    assert once == again and len(once) == 300
    ids, features, labels = read_here(tmp_path / "m")
    assert np.array_equal(features, x.reshape(300, -1)) and np.array_equal(labels, y)
    assert np.array_equal(np.diff(ids), np.full(299, 785 * 25))
    assert once == rows_here(tmp_path / "m")


def test_many_partitions_hold_the_same_rows(spark, tmp_path, some_mnist, small_pieces):
    x, y = some_mnist
    write_text_matrix(tmp_path / "m", x[:40, 10:13, 10:15], y[:40], copies=3)
    write_file(tmp_path, "m/deeper/more.txt", "1.5 " * 15 + "3\n")
    frame = read_text_matrix(spark, tmp_path / "m")
    assert frame.rdd.getNumPartitions() > 40
    assert rows_of(frame) == rows_here(tmp_path / "m")


def test_reading_starts_no_job(spark, tmp_path):
    write_file(tmp_path, "a.txt", "1 2\n")
    spark.sparkContext.setJobGroup("reading", "no job is in this group")
    read_text_matrix(spark, tmp_path)
    assert len(spark.sparkContext.statusTracker().getJobIdsForGroup("reading")) == 0
    spark.sparkContext.setLocalProperty("spark.jobGroup.id", None)


def test_arguments_reach_the_workers(spark, tmp_path):
    write_file(tmp_path, "a.csv", "5\t10\t20\n6\t30\t40\n")
    frame = read_text_matrix(spark, tmp_path, "first", "\t", 0.5)
    assert sorted(map(tuple, frame.select("label", "features").collect())) == [(5, [5, 10]), (6, [15, 20])]
    frame = read_text_matrix(spark, tmp_path, None, sep="\t")
    assert frame.dtypes == [("id", "bigint"), ("features", "array<float>")]
    assert sorted(row.features for row in frame.collect()) == [[5, 10, 20], [6, 30, 40]]


@pytest.mark.parametrize("label", ["first", "last", None])
def test_whole_numbers_are_read_as_bytes(tmp_path, some_mnist, label):
    x, y = some_mnist
    write_text_matrix(tmp_path / "fixed width.txt", x[:40], y[:40], label=label or "last")
    labelled = {"first": "-70000 0 255 +1\n", "last": "0 255 1.0 -70000\n", None: "0 255 1e2 7\n"}[label]
    write_file(tmp_path, "any width.txt", labelled)
    for name in ("fixed width.txt", "any width.txt"):
        as_bytes, as_floats = (read_here(tmp_path / name, label, dtype=dtype) for dtype in ("uint8", "float32"))
        assert all(np.array_equal(*pair) for pair in zip(as_bytes, as_floats, strict=True))


def test_bytes_train_the_members_that_floats_train(spark, tmp_path, some_mnist):
    write_text_matrix(tmp_path / "m", *some_mnist)
    frames = [read_text_matrix(spark, tmp_path / "m", dtype=dtype) for dtype in ("uint8", "float32")]
    assert frames[0].dtypes == [("id", "bigint"), ("features", "binary"), ("label", "int")]
    model, other = (small(numMembers=2, idCol="id", inputShape=[28, 28, 1]).fit(frame) for frame in frames)
    assert digests(model) == digests(other)
    assert predictions_by_id(model, frames[0]) == predictions_by_id(model, frames[1])


@pytest.mark.parametrize("line", ["1 2.5 3 4", "1 256 3 4", "-1 2 3 4", "1 nan 3 4", "1 2 1e300 4"])
def test_spark_names_a_line_that_bytes_cannot_hold(spark, tmp_path, small_pieces, line):
    write_malformed(tmp_path, line)
    frame = read_text_matrix(spark, tmp_path, dtype="uint8")
    with pytest.raises(PySparkException, match=r"Refusal: sub/b\.txt, line 202: '.*' in column \d is not a whole num"):
        frame.collect()


def test_a_number_of_fixed_width_that_a_byte_cannot_hold_is_refused(tmp_path):
    x = np.arange(240, dtype=np.float32).reshape(60, 4)
    x[50, 2] = 256
    write_text_matrix(tmp_path / "m", x, np.zeros(60))
    with pytest.raises(Refusal, match=r"part-00000\.txt, line 51: '2\.56\d*e\+02' in column 3 is not a whole number"):
        read_here(tmp_path / "m", dtype="uint8")


def test_spark_names_a_malformed_line(spark, tmp_path, small_pieces):
    write_malformed(tmp_path, "1 2 3 4.5")
    frame = read_text_matrix(spark, tmp_path)
    with pytest.raises(
        PySparkException, match=r"Refusal: sub/b\.txt, line 202: the label '4\.5' is not a whole number"
    ):
        frame.collect()


def test_a_folder_may_change_after_the_call(spark, tmp_path):
    write_file(tmp_path, "a.txt", "1 2\n" * 10)
    write_file(tmp_path, "b.txt", "1 2\n" * 10)
    frame = read_text_matrix(spark, tmp_path)
    write_file(tmp_path, "c.txt", "3 4\n")
    assert frame.count() == 20
    write_file(tmp_path, "a.txt", "1 2\n" * 20)
    assert frame.count() == 20
    write_file(tmp_path, "a.txt", "1 2\n" * 5)
    assert frame.count() == 15
    os.remove(tmp_path / "b.txt")
    with pytest.raises(PySparkException, match=r"b\.txt is not on .*; put the files where all executors can read them"):
        frame.count()


@pytest.mark.parametrize(("threshold", "broadcast"), [("200k", False), ("2m", True)])
def test_spark_knows_about_how_large_the_text_is(spark, tmp_path, some_mnist, capsys, threshold, broadcast):
    write_text_matrix(tmp_path / "m", *some_mnist)  # 5.9 MB of text, that is 0.9 MB of floats
    frame = read_text_matrix(spark, tmp_path / "m")
    spark.conf.set("spark.sql.autoBroadcastJoinThreshold", threshold)
    try:
        frame.join(frame.select("id"), "id").explain()
    finally:
        spark.conf.unset("spark.sql.autoBroadcastJoinThreshold")
    assert ("BroadcastHashJoin" in capsys.readouterr().out) == broadcast


def test_spark_counts_rows_and_not_parts(spark, tmp_path):
    write_file(tmp_path, "a.txt", "".join(f"{i} {i % 3}\n" for i in range(20)))
    frame = read_text_matrix(spark, tmp_path)
    assert frame.rdd.getNumPartitions() == 1
    assert frame.limit(7).count() == 7 and frame.select("label").distinct().count() == 3
    assert [row.label for row in frame.orderBy("features").take(4)] == [0, 1, 2, 0]
    assert frame.coalesce(1).count() == frame.where("label < 9").count() == 20


# Refusals, before any job


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (
            "a,b,c\n1,2,3\n",
            {"sep": ","},
            r"a\.txt, first row: 'a' in column 1 is not a number; set header=True, or fix",
        ),
        ("1,2,3\n", {}, "one column, so no feature next to the label, with ' ' between columns; set sep=','"),
        ("label,a,b\n", {}, r"; set sep=',', header=True, label='first', or fix or remove the line\.$"),
        (
            "1\tNA\t3\n",
            {"sep": r"\t"},
            r"'NA' in column 2 is not a number \(nan stands for a missing one\); fix or remove the line, or set sep",
        ),
        (
            "label,a\n1,2\n",
            {"sep": ",", "header": True},
            "names column 1 'label', where label='last'; set label='first'",
        ),
        ("a,Class\n1,2\n", {"sep": ",", "header": True, "label": None}, "names column 2 'class', .* set label='last'"),
        ("a,y,b\n1,2,3\n", {"sep": ",", "header": True}, "names column 2 'y', .* write the file with it first or last"),
        (",a,label\n0,1,2\n", {"sep": ",", "header": True}, r"an index that pandas or R wrote; .*index=False"),
        ("label,a\n", {"sep": ",", "header": True, "label": "first"}, "No row is in .* after the header"),
        ("a,label\r1,2\r", {"sep": ",", "header": True}, "has carriage returns where line feeds are expected"),
        ('"a" "y"\n"1" 5 3\n', {"header": True}, r"its header has no name for the first column.*row\.names = FALSE"),
        (",0,1,label\n0,5,6,1\n", {}, r"; set sep=',', header=True, label='last', or fix"),
        (
            "5,,2\n6,2,3\n",
            {"sep": ","},
            r"'' in column 2 is not a number \(nan stands for a missing one\); fix or remove",
        ),
        ("1,2,cat\n3,4,dog\n", {"sep": ","}, "'cat' in column 3 is not a number; fix or remove the line, or set sep"),
        ("5;0,5;1\n", {"sep": ";"}, r"'0,5' in column 2 is not a number \(decimal points are expected\)"),
        ("3\t1\t2\n", {}, r"; set sep='\\t', or fix"),
        ("1\r2\r", {}, "it has carriage returns where line feeds are expected; fix or remove"),
        ("1 2\n", {"header": 1}, "header must be True or False, not 1"),
        ("1 2\n", {"sep": '"'}, "sep must be text"),
        ("1,2,3\n", {"label": None}, "'1,2,3' in column 1 is not a number"),
        ("0.5 1 2\n", {"label": "first"}, "the label '0.5' is not a whole number"),
        ("1 2\n", {"label": "middle"}, "label must be 'last', 'first' or None, not 'middle'"),
        ("1 2\n", {"sep": ""}, "sep must be text"),
        ("1 2\n", {"sep": "\n"}, "sep must be text"),
        ("1 2\n", {"sep": "1"}, "sep must be text"),
        ("1 2\n", {"sep": "e"}, "sep must be text"),
        ("1 2\n", {"sep": None}, "sep must be text"),
        ("1 2\n", {"scale": 0}, "scale must be a number other than 0"),
        ("1 2\n", {"scale": float("nan")}, "scale must be a number other than 0"),
        ("1 2\n", {"scale": float("inf")}, "within float32's range"),
        ("1 2\n", {"scale": 1e-60}, "within float32's range"),
        ("1 2\n", {"scale": "2"}, "scale must be a number"),
        ("1 2\n", {"dtype": "int8"}, "dtype must be 'float32' or 'uint8', not 'int8'"),
        ("1 2\n", {"dtype": "uint8", "scale": 0.5}, "scale must be 1.0 with dtype='uint8', not 0.5; leave one"),
        (
            "1.5 2\n",
            {"dtype": "uint8"},
            r"'1\.5' in column 1 is not a whole number from 0 to 255 \(dtype='float32' reads it\); fix or",
        ),
        ("", {}, "No row is in"),
        ("\n \r\n\n", {}, "No row is in"),
    ],
)
def test_arguments_and_a_first_row_that_do_not_fit_are_refused(spark, tmp_path, text, options, message):
    write_file(tmp_path, "a.txt", text)
    with pytest.raises(ValueError, match=message):
        read_text_matrix(spark, tmp_path, **options)


def test_an_empty_folder_is_refused(spark, tmp_path):
    with pytest.raises(ValueError, match="No row is in"):
        read_text_matrix(spark, tmp_path)


def test_a_place_with_nothing_is_refused(spark, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Nothing is at .*nowhere; give the path"):
        read_text_matrix(spark, tmp_path / "nowhere")


def test_an_empty_path_is_refused():
    with pytest.raises(ValueError, match="path is empty; give the path of a text matrix"):
        read_here("")


def test_a_uri_that_pathlib_has_shortened_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"pathlib has shortened the // of the URI s3:/bucket/x to /; pass the URI as text"
    ):
        read_here(Path("s3://bucket/x"))
    write_file(tmp_path, "a.txt", "1 2\n")
    assert read_here(Path((tmp_path / "a.txt").as_uri()))[2].tolist() == [2]


def test_a_folder_that_may_not_be_read_is_named(tmp_path):
    write_file(tmp_path, "m/a.txt", "1 2\n")
    with (
        forbidden(tmp_path / "m"),
        pytest.raises(OSError, match=r"/m/a\.txt cannot be .* \(Permission denied\); make it"),
    ):
        read_here(tmp_path / "m" / "a.txt")
    with forbidden(tmp_path / "m"), pytest.raises(OSError, match=r"/m cannot be listed \(Permission denied\); make it"):
        read_here(tmp_path / "m")


def test_a_file_that_may_not_be_opened_by_an_executor_is_named(tmp_path):
    write_file(tmp_path, "m/a.txt", "1 2\n")
    matrix, _ = plan_parts(tmp_path / "m", Layout(0, " ", "last", 1.0), False, 1, 1000)
    with (
        forbidden(tmp_path / "m"),
        pytest.raises(Refusal, match=r"/m/a\.txt cannot be opened on .* \(Permission denied\)"),
    ):
        list(read_parts([pa.record_batch({"part": [0]})], matrix))


def test_a_pattern_is_not_a_path(spark, tmp_path):
    write_file(tmp_path, "a.txt", "1 2\n")
    with pytest.raises(FileNotFoundError, match=r"Nothing is at .*\*\.txt; patterns such as \* are not expanded; give"):
        read_text_matrix(spark, tmp_path / "*.txt")


FOREIGN = {
    "utf16": ("1 2\n".encode("utf-16"), "is text in UTF-16; convert it to UTF-8"),
    "zipped": (b"PK\x03\x04 2\n", "is a zip archive or an Excel workbook"),
    "gzipped": (gzip.compress(b"1 2\n"), "is compressed by gzip; give it a name that ends with .gz"),
    "page": (b"<!DOCTYPE html>\n<html>404</html>\n", "is a web page, perhaps of an error; download the file again"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid 1\n", "is a pointer of Git LFS; run git lfs pull"),
    "json": (b'{"label": 1}\n', "is JSON; read it with spark.read.json"),
    "table": (b"PAR1 2\n", "is a Parquet file; read it with spark.read.parquet"),
}


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        (
            "wasb://a/b",
            r"Unrecognized filesystem type.*\); Spark has no jar with the class NativeAzureFileSystem; add it to spark",
        ),
        ("hdfs://nohost.invalid:1/a", r".*\); The host nohost\.invalid is not known; check the path"),
    ],
)
def test_a_filesystem_that_nothing_can_open_is_one_sentence(spark, uri, why):
    with pytest.raises(OSError, match=rf"{uri} cannot be opened by pyarrow \({why}") as caught:
        read_text_matrix(spark, uri)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_that_is_not_text_is_named_with_what_it_is(tmp_path, name):
    data, what = FOREIGN[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=f"{name} in .* {what}"):
        read_here(tmp_path)
    write_file(tmp_path, "a.txt", "1 2\n")
    with pytest.raises(ValueError, match=f"^{name} {what}"):
        read_here(tmp_path)


COLUMN_NUMBERS = ",".join(map(str, range(12))) + "\n"


@pytest.mark.parametrize(
    ("first", "header", "doubt"),
    [
        (COLUMN_NUMBERS, False, "is 0, 1, 2, .*set header=True"),
        ("5" * 11 + ",5" * 11 + "\n", True, "holds numbers and is left out as a header; leave header out"),
    ],
    ids=["pandas' column numbers", "a row"],
)
def test_a_first_line_that_may_be_read_wrongly_is_a_warning(tmp_path, first, header, doubt):
    write_file(tmp_path, "a.csv", first + "1,2,3,4,5,6,7,8,9,10,11,1\n")
    with pytest.warns(UserWarning, match=f"The first line of a.csv {doubt}"):
        read_here(tmp_path, sep=",", header=header)


def test_a_header_of_savetxt_is_read(tmp_path):
    np.savetxt(tmp_path / "a.txt", [[3, 1, 2], [4, 5, 6]], header="label a b", fmt="%d")
    with pytest.raises(ValueError, match="'#' in column 1 is not a number; set header=True"):
        read_here(tmp_path, "first")
    assert read_here(tmp_path, "first", header=True)[2].tolist() == [3, 4]


def test_column_numbers_are_a_header_if_the_caller_says_so(tmp_path, recwarn):
    write_file(tmp_path, "a.csv", COLUMN_NUMBERS + "1,2,3,4,5,6,7,8,9,10,11,1\n")
    assert read_here(tmp_path, sep=",", header=True)[2].tolist() == [1] and not recwarn.list


def test_the_commonest_csv_of_mnist_is_read_by_one_call(spark, tmp_path, some_mnist):
    x, y = some_mnist
    names = ",".join(["label", *(f"pixel{i}" for i in range(784))])
    rows = np.column_stack((y, x.reshape(300, -1)))
    np.savetxt(tmp_path / "train.csv", rows, fmt="%d", delimiter=",", header=names, comments="")
    with pytest.raises(ValueError, match="set sep=',', header=True, label='first'"):
        read_text_matrix(spark, tmp_path / "train.csv")
    frame = read_text_matrix(spark, tmp_path / "train.csv", sep=",", header=True, label="first")
    _, features, labels = by_columns(frame.orderBy("id"))
    assert np.array_equal(features, x.reshape(300, -1)) and np.array_equal(labels, y)


def test_a_malformed_line_is_one_sentence_for_a_fit(spark, tmp_path):
    write_malformed(tmp_path, "1 2 3 4.5")
    with pytest.raises(ValueError, match=r"^sub/b\.txt, line 202: the label '4\.5' is not a whole number"):
        small(inputShape=[1, 3, 1]).fit(read_text_matrix(spark, tmp_path))


def test_a_line_that_is_too_long_is_refused(spark, tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "LONGEST_LINE", 1000)
    write_file(tmp_path, "a.txt", "1" * 1_000_000)
    with pytest.raises(ValueError, match="longer than 1 GiB"):
        read_text_matrix(spark, tmp_path)
