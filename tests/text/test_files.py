"""Files become rows: every line in the piece that has its first byte, its numbers, and an id from its place."""

import io

import numpy as np
import pytest
from support.text_matrices import read_here, write_file, write_malformed

from spark_cnn_ensemble.text import reader
from spark_cnn_ensemble.text.files import blocks
from spark_cnn_ensemble.text.writer import write_text_matrix
from spark_cnn_ensemble.worker.refusal import Refusal

# Pieces


@pytest.mark.parametrize(("read", "block"), [(5000, 5000), (64, 10), (9, 1)], ids=["one read", "small", "tiny"])
@pytest.mark.parametrize("chunk", [1, 2, 7, 50, 333, 5000])
@pytest.mark.parametrize("end", ["\n", ""], ids=["last line ended", "last line open"])
def test_every_line_is_in_the_chunk_of_its_first_byte(end, chunk, read, block):
    rng = np.random.default_rng(2)
    text = ("\n".join("x" * n for n in rng.integers(0, 30, 60)) + end).encode()
    starts = [0] + [i + 1 for i, byte in enumerate(text) if byte == ord("\n") and i + 1 < len(text)]
    seen = []
    for start in range(0, len(text), chunk):
        stop = min(len(text), start + chunk)
        for offset, lines in blocks(io.BytesIO(text), start, stop, read, block):
            assert text[offset : offset + len(lines)] == lines
            inner = [offset + i + 1 for i, byte in enumerate(lines[:-1]) if byte == ord("\n")]
            assert all(start <= at < stop for at in [offset, *inner])
            seen += [offset, *inner]
    assert seen == starts


def test_a_line_longer_than_any_read_is_in_one_block():
    text = b"1" * 1_000_000 + b"\n2\n"
    chunks = [list(blocks(io.BytesIO(text), start, start + 500_000, 1000, 1000)) for start in (0, 500_000)]
    assert chunks == [[(0, text[:-2])], []]


# Rows

SEPARATED = [(" ", None), (",", "last"), ("\t", "first"), (";", None), (", ", "first"), (" | ", "last")]


@pytest.mark.parametrize(("sep", "label"), SEPARATED)
def test_numbers_are_separated_and_the_label_is_where_it_is_said_to_be(tmp_path, sep, label):
    rows = np.array([[1, -2, 3.25, 7], [2, 255, 0, 4]])
    write_file(tmp_path, "a.csv", "".join(sep.join(map(str, row)) + "\n" for row in rows.tolist()))
    _, features, labels = read_here(tmp_path, label, sep)
    features_at = {None: slice(None), "first": slice(1, None), "last": slice(-1)}[label]
    assert np.array_equal(features, rows[:, features_at])
    assert labels is None or np.array_equal(labels, rows[:, 0 if label == "first" else -1])


def test_features_are_scaled_and_labels_are_not(tmp_path, some_mnist):
    x, y = some_mnist
    write_text_matrix(tmp_path / "m", x[:20], y[:20])
    _, features, labels = read_here(tmp_path / "m", scale=1 / 255)
    expected = x[:20].reshape(20, -1).astype(np.float32) * np.float32(1 / 255)
    assert features.max() == 1 and np.array_equal(features, expected) and np.array_equal(labels, y[:20])


def test_blank_lines_line_ends_and_loose_numbers_are_accepted(tmp_path):
    write_file(tmp_path, "a.txt", "\n\n1 2 3\n   \n4 5 6\n\n")
    write_file(tmp_path, "b.txt", "7 8 9\r\n\r\n10 11 12\r\n13 14 15")
    write_file(tmp_path, "c.txt", "nan inf 16\n+1.5 1E2 17\n-.5 5. 1.8e1")
    write_file(tmp_path, "d.txt", "\n \n")
    ids, features, labels = read_here(tmp_path)
    assert labels.tolist() == [3, 6, 9, 12, 15, 16, 17, 18] and len(set(ids.tolist())) == 8
    assert features.tolist()[:5] == [[1, 2], [4, 5], [7, 8], [10, 11], [13, 14]]
    assert np.isnan(features[5, 0]) and features[5, 1] == np.inf
    assert features[6:].tolist() == [[1.5, 100], [-0.5, 5]]
    # Offsets count every byte, also those of blank lines and carriage returns.
    assert (ids[1] - ids[0], ids[3] - ids[2], ids[4] - ids[3]) == (10, 9, 10)


def test_right_aligned_columns_are_read(tmp_path):
    rows = np.random.default_rng(5).integers(-99, 1000, (50, 6))
    np.savetxt(tmp_path / "narrow.txt", rows, fmt="%5d", delimiter="")
    np.savetxt(tmp_path / "wide.txt", rows, fmt="%12.4f")
    write_file(
        tmp_path, "z.txt", "1 2 3 4 5 6 \n\t1  2  3  4  5  6\t\r\n"
    )  # spaces at the end of a line, tabs around it
    ids, features, labels = read_here(tmp_path)
    assert np.array_equal(np.column_stack((features, labels))[:100], np.concatenate([rows, rows]))
    assert features[100:].tolist() == [[1, 2, 3, 4, 5]] * 2 and labels[100:].tolist() == [6, 6]
    assert np.array_equal(np.diff(ids[:50]), np.full(49, 6 * 5 + 1))


def test_quoted_numbers_are_read(tmp_path):
    write_file(tmp_path, "a.csv", '"5","0.5"," -1 "\n3,"1e2",+7\n')
    _, features, labels = read_here(tmp_path, "first", ",")
    assert features.tolist() == [[0.5, -1], [100, 7]] and labels.tolist() == [5, 3]


@pytest.mark.parametrize("chunk", [1, 7, 5000])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["no mark", "byte order mark"])
@pytest.mark.parametrize("blank", ["", "\n \r\n"], ids=["header in front", "blank lines in front"])
def test_the_first_line_of_each_file_is_left_out(tmp_path, monkeypatch, chunk, mark, blank):
    monkeypatch.setattr(reader, "LOCAL_CHUNK_BYTES", chunk)
    monkeypatch.setattr(reader, "READ_BYTES", 1)
    text = mark + blank + "label,a,b\n5,1,2\r\n6,3,4\n"
    write_file(tmp_path, "1.csv", text)
    write_file(tmp_path, "2.csv", mark + "label,a,b\r\n")  # a file without rows
    write_file(tmp_path, "3.csv", text)
    ids, features, labels = read_here(tmp_path, "first", ",", header=True)
    assert features.tolist() == [[1, 2], [3, 4]] * 2 and labels.tolist() == [5, 6] * 2
    assert len(set(ids.tolist())) == 4 and ids[1] - ids[0] == ids[3] - ids[2] == 7


def test_a_byte_order_mark_is_no_part_of_a_number(tmp_path):
    write_file(tmp_path, "a.txt", "\ufeff1 2\n3 4\n")
    write_file(tmp_path, "b.txt", "\ufeff\n5 6\n")
    assert read_here(tmp_path)[1].tolist() == [[1], [3], [5]]


def test_a_file_with_another_header_is_named(tmp_path):
    write_file(tmp_path, "a.csv", "label,a,b\n5,1,2\n")
    write_file(tmp_path, "b.csv", "label,b,a\n5,1,2\n")
    with pytest.raises(Refusal, match=r"^b\.csv: its first line is not the header of the first file; give all files"):
        read_here(tmp_path, "first", ",", header=True)


def test_ids_are_those_of_version_0_1_0(tmp_path):
    write_file(tmp_path, "a.txt", "\n1 2 3\r\n  \n4 5 6")
    write_file(tmp_path, "sub/é b.csv", "7 8 9\n")
    assert read_here(tmp_path)[0].tolist() == [-3055190685025300790, -3055190685025300780, 5575886688180756905]


def test_spaces_around_numbers_are_accepted(tmp_path):
    write_file(tmp_path, "a.csv", "1, 2 ,3\n 4,5,\t6 \n")
    assert read_here(tmp_path, sep=",")[1].tolist() == [[1, 2], [4, 5]]


# Faults

MALFORMED = {
    "1 2 3": "3 columns where 4 were expected",
    "1 2 3 4 5": "5 columns where 4 were expected",
    "1,2,3,4": "1 columns where 4 were expected",
    "1 two 3 4": "'two' in column 2 is not a number",
    "1  3 4": "3 columns where 4 were expected",  # a run of spaces is one separator
    "1 2\r3 4": "it has carriage returns where line feeds are expected",
    '1 "2 3" 4': "'\"2' in column 2 is not a number",
    '1 2 "" 4': "'\"\"' in column 3 is not a number",
    "1 2 0x3 4": "'0x3' in column 3 is not a number",
    "1 2 \x00 4": "'\\x00' in column 3 is not a number",
    "1 2 3 4.5": "the label '4.5' is not a whole number",
    "1 2 3 1.00000000001": "the label '1.00000000001' is not a whole number",
    "1 2 3 nan": "the label 'nan' is not a whole number",
    "1 2 3 3000000000": "the label '3000000000' is not a whole number",
}


@pytest.mark.parametrize("line", MALFORMED)
@pytest.mark.parametrize("pieces", [None, "small_pieces"], ids=["one piece", "small pieces"])
def test_a_malformed_line_is_named_with_its_file(tmp_path, request, line, pieces):
    if pieces:
        request.getfixturevalue(pieces)
    write_malformed(tmp_path, line)
    with pytest.raises(ValueError) as caught:
        read_here(tmp_path)
    assert str(caught.value).startswith(f"sub/b.txt, line 202: {MALFORMED[line]}")
    assert str(caught.value).endswith("; fix or remove the line.")
