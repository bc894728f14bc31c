"""Compressed files hold the rows of their text, one task per file, and damage is refused by name."""

import bz2
import gzip
import io
import re

import numpy as np
import pyarrow as pa
import pytest
from pyspark.errors import PySparkException
from support.text_matrices import PACK, read_here, rows_here, rows_of, write_file, write_packed

from spark_cnn_ensemble.text.compressed import ForwardText
from spark_cnn_ensemble.text.files import Span, read_parts
from spark_cnn_ensemble.text.lines import Layout
from spark_cnn_ensemble.text.reader import packed_parts, plan_parts, read_text_matrix
from spark_cnn_ensemble.text.writer import write_text_matrix
from spark_cnn_ensemble.worker.refusal import Refusal

CODECS = {"gz": "gzip", "bz2": "bz2", "zst": "zstd"}
TEXT = "".join(f"{i} {i * i} {i % 10}\n" for i in range(5000)).encode()


@pytest.mark.parametrize("pieces", [None, "small_pieces"], ids=["one piece", "small pieces"])
@pytest.mark.parametrize("end", [*PACK, "GZ"])
def test_a_compressed_file_holds_the_rows_of_its_text(tmp_path, request, monkeypatch, end, pieces):
    if pieces:
        request.getfixturevalue(pieces)
    monkeypatch.setitem(PACK, "GZ", gzip.compress)
    write_packed(tmp_path, f"packed/a.txt.{end}", TEXT)
    write_file(tmp_path, "plain/a.txt", TEXT.decode())
    ids, features, labels = read_here(tmp_path / "packed")
    plain_ids, plain_features, plain_labels = read_here(tmp_path / "plain")
    assert np.array_equal(features, plain_features) and np.array_equal(labels, plain_labels)
    assert np.array_equal(ids - ids[0], plain_ids - plain_ids[0]) and ids[0] != plain_ids[0]


def test_ids_are_the_same_whatever_compresses_in_which_level(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "one/a.gz").write_bytes(gzip.compress(TEXT, 1))
    (tmp_path / "two/a.gz").write_bytes(gzip.compress(TEXT[:777], 9) + gzip.compress(TEXT[777:], 9))  # two members
    assert rows_here(tmp_path / "one") == rows_here(tmp_path / "two")


def test_a_header_and_a_byte_order_mark_are_left_out(tmp_path):
    text = "\ufefflabel,a\r\n5,1\r\n6,2\r\n".encode()
    write_packed(tmp_path, "a.csv.gz", text)
    write_packed(tmp_path, "b.csv.zst", text)
    write_file(tmp_path, "c.csv", text.decode())
    assert read_here(tmp_path, "first", ",", header=True)[2].tolist() == [5, 6] * 3


def test_a_header_longer_than_a_read_is_left_out(tmp_path):
    names = ",".join(f"{'pixel' * 12}{i}" for i in range(4_000))
    rows = np.arange(8_000).reshape(2, -1)
    lines = "\n".join([names, *(",".join(map(str, row)) for row in rows.tolist())])
    write_packed(tmp_path, "a.csv.gz", lines.encode())
    assert np.array_equal(read_here(tmp_path, None, ",", header=True)[1], rows)


def test_folders_of_plain_and_compressed_files_are_read_with_spark(spark, tmp_path, some_mnist):
    x, y = some_mnist
    for name in ("a", "b", "c"):
        write_text_matrix(tmp_path / name, x[:50], y[:50])
    write_text_matrix(tmp_path / "plain", x, y)
    for name, end in zip("abc", PACK, strict=True):
        text = (tmp_path / name / "part-00000.txt").read_bytes()
        (tmp_path / name / "part-00000.txt").unlink()
        write_packed(tmp_path, f"{name}/part.txt.{end}", text)
    frame = read_text_matrix(spark, tmp_path)
    rows = rows_of(frame)
    assert rows == rows_here(tmp_path) and len(rows) == 450
    assert frame.rdd.getNumPartitions() == 5  # one for each compressed file, and two for 6 MB of text
    assert frame.count() == 450


@pytest.mark.parametrize("compression", ["gzip", "bzip2"])
def test_what_spark_writes_as_csv_is_read(spark, tmp_path, digits, compression):
    (_, _), (x, y) = digits
    columns = ["label", *(f"pixel{at}" for at in range(64))]
    frame = spark.createDataFrame(np.column_stack((y, x.reshape(-1, 64))).astype(int).tolist(), columns)
    frame.repartition(5).write.csv(str(tmp_path / "m"), header=True, compression=compression)
    again = read_text_matrix(spark, tmp_path / "m", label="first", sep=",", header=True)
    rows = {(label, tuple(features)) for features, label in zip(x.reshape(-1, 64).tolist(), y.tolist(), strict=True)}
    assert {(row.label, tuple(row.features)) for row in again.collect()} == rows and again.count() == 360


# Parts


def test_compressed_files_are_divided_among_parts_by_their_sizes():
    files = [Span(f"{i:04d}.gz", "", 0, size) for i, size in enumerate([500, 10, 10, 300, 200, 10, 490])]
    assert [[file.stop for file in part] for part in packed_parts(files, 2, 10_000)] == [
        *([500], [490], [300], [200], [10], [10], [10])
    ]
    few = packed_parts(files * 10, 1, 1 << 20)
    sizes = [sum(file.stop for file in part) for part in few]
    assert len(few) == 4 and sum(sizes) == 15_200 and max(sizes) - min(sizes) <= 10
    assert len(packed_parts(files * 10, 3, 5_000)) == 33  # of 4,600 bytes of text, as is assumed
    assert packed_parts([], 2, 1000) == []


def test_one_compressed_file_is_one_part(tmp_path):
    write_packed(tmp_path, "a.txt.gz", TEXT)
    matrix, count = plan_parts(tmp_path, Layout(0, " ", "last", 1.0), False, 8, 1000)
    assert count == 1
    batches = list(read_parts([pa.record_batch({"part": [0]})], matrix))
    assert sum(batch.num_rows for batch in batches) == 5000


# Refusals


def flipped(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


DAMAGE = {"cut": lambda data: data[: len(data) // 2], "cut at the end": lambda data: data[:-3], "flipped": flipped}


# Arrow writes zstd without a checksum, so a flipped bit in it may be seen by nobody.
@pytest.mark.parametrize(
    ("end", "damage"), sorted({(end, damage) for end in PACK for damage in DAMAGE} - {("zst", "flipped")})
)
def test_a_damaged_file_is_named(tmp_path, end, damage):
    write_file(tmp_path, "a.txt", "1 2 3\n")
    write_packed(tmp_path, f"b.txt.{end}", TEXT * 20)
    file = tmp_path / f"b.txt.{end}"
    file.write_bytes(DAMAGE[damage](file.read_bytes()))
    with pytest.raises(Refusal, match=rf"^b\.txt\.{end} is damaged or cut short \(.*\); copy or compress it again\.$"):
        read_here(tmp_path)


@pytest.mark.parametrize("end", PACK)
def test_a_file_that_is_not_what_its_name_says_is_named(tmp_path, end):
    write_file(tmp_path, f"a.txt.{end}", "1 2 3\n")
    with pytest.raises(Refusal, match=rf"^a\.txt\.{end} is damaged or cut short"):
        read_here(tmp_path)


def test_spark_names_a_damaged_file_and_a_malformed_line(spark, tmp_path):
    write_packed(tmp_path, "a.txt.gz", TEXT)
    write_packed(tmp_path, "b.txt.gz", TEXT + b"1 2\n")
    with pytest.raises(PySparkException, match=r"Refusal: b\.txt\.gz, line 5001: 2 columns where 3 were expected"):
        read_text_matrix(spark, tmp_path).collect()
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(TEXT)[:-5])
    with pytest.raises(PySparkException, match=r"Refusal: b\.txt\.gz is damaged or cut short"):
        read_text_matrix(spark, tmp_path).collect()


@pytest.mark.parametrize("end", ["xz", "lz4", "snappy", "Z", "br", "lzma", "deflate", "SNAPPY"])
def test_other_compressions_are_refused(tmp_path, end):
    write_file(tmp_path, f"a.txt.{end}", "1 2\n")
    with pytest.raises(
        ValueError, match=rf"a\.txt\.{end} in .* compress it with gzip, bzip2 or zstd instead, or unpack"
    ):
        read_here(tmp_path)


@pytest.mark.parametrize("end", ["zip", "tar", "tar.gz", "tgz", "tar.zst", "7z"])
def test_archives_are_refused(tmp_path, end):
    write_file(tmp_path, f"a.{end}", "1 2\n")
    with pytest.raises(ValueError, match=rf"a\.{re.escape(end)} in .* is an archive; unpack it"):
        read_here(tmp_path)


@pytest.mark.parametrize("other", ["a.txt", "a.txt.bz2"])
def test_a_file_next_to_its_compressed_copy_is_refused(tmp_path, other):
    write_packed(tmp_path, "a.txt.gz", TEXT)
    (tmp_path / other).write_bytes(TEXT if other == "a.txt" else bz2.compress(TEXT))
    with pytest.raises(
        ValueError, match=rf"{other} and a\.txt\.gz are both in .*, so rows may be read twice; keep one"
    ):
        read_here(tmp_path)


# The stream


def test_a_stream_goes_back_to_where_its_last_seek_went():
    text = bytes(range(256)) * 100
    stream = ForwardText(pa.BufferReader(gzip.compress(text)), "gzip", "a.gz")
    plain = io.BytesIO(text)
    for offset, size in [(0, 100), (40, 10), (45, 300), (50, 5), (50, 5000), (5050, 0), (5050, 10), (5055, 30_000)]:
        stream.seek(offset)
        plain.seek(offset)
        assert stream.read(size) == plain.read(size)
        assert stream.read(7) == plain.read(7)
        stream.seek(offset)
        plain.seek(offset)
        assert stream.read(size + 20) == plain.read(size + 20)
    assert stream.head == text[:64] and stream.lines_before(5155) == text[:5155].count(b"\n")
    with pytest.raises(ValueError, match="not in the text that is kept"):
        stream.seek(0)
