"""Files of members other than those that were saved are refused, and take little memory."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.memory import memory_grows_less_than
from support.refusals import refused
from support.saved_models import (
    edit_metadata,
    load_damaged,
    member_rows,
    members_of,
    only,
    set_value,
    write_member_rows,
)

from spark_cnn_ensemble.persistence import read_weights
from spark_cnn_ensemble.worker.weights import digest


def test_a_size_of_10_tb_is_refused_before_it_is_read(copy):
    edit_metadata(copy, set_value("ensemble", "members", 0, "size", to=10**13))
    assert "the weights of member 0 differ from those that were saved" in load_damaged(copy)


@pytest.mark.parametrize("size", [0, -1, -(10**13), 10**30, 2.5, True, "12", None, [1]], ids=repr)
def test_a_size_that_is_not_a_positive_integer_is_refused(copy, size):
    edit_metadata(copy, set_value("ensemble", "members", 0, "size", to=size))
    assert "its metadata is damaged (size is " in load_damaged(copy)


# Each makes other rows from the first row of member 0, that of member 1, and all rows.
OTHER_ROWS = {
    "one more part": lambda first, second, rows: [*rows, {**first, "part": 1}],
    "one more empty part": lambda first, second, rows: [*rows, {**first, "part": 1, "bytes": b""}],
    "a part twice": lambda first, second, rows: [*rows, first],
    "a negative part": lambda first, second, rows: [{**first, "part": -1}, second],
    "part is null": lambda first, second, rows: [*rows, {**first, "part": None}],
    "bytes is null": lambda first, second, rows: [*rows, {**first, "part": 1, "bytes": None}],
    "parts of another size": lambda first, second, rows: [
        {**first, "bytes": first["bytes"][:100]},
        {**first, "part": 1, "bytes": first["bytes"][100:]},
        second,
    ],
    "one more member": lambda first, second, rows: [*rows, {**first, "member": 2}],
    "a negative member": lambda first, second, rows: [*rows, {**first, "member": -1}],
    "member is null": lambda first, second, rows: [*rows, {**first, "member": None}],
    "a thousand more members": lambda first, second, rows: [
        *rows,
        *({**first, "member": 5 + index} for index in range(1000)),
    ],
    "members exchanged": lambda first, second, rows: [{**first, "member": 1}, {**second, "member": 0}],
    "no rows": lambda first, second, rows: [],
}


@pytest.mark.parametrize("case", OTHER_ROWS)
def test_rows_other_than_those_that_were_saved_are_refused(copy, case):
    rows = member_rows(copy)
    first, second = (next(row for row in rows if row["member"] == member) for member in (0, 1))
    write_member_rows(copy, OTHER_ROWS[case](first, second, rows))
    text = load_damaged(copy)
    assert "differ from those that were saved" in text or "that its metadata does not name" in text, text


def test_bytes_that_are_integers_are_refused(copy):
    """They must not be taken for the number of bytes to allocate."""
    schema = pa.schema([("member", pa.int32()), ("part", pa.int32()), ("bytes", pa.int64())])
    write_member_rows(copy, [{"member": member, "part": 0, "bytes": 10**12} for member in (0, 1)], schema)
    for member in (0, 1):
        edit_metadata(copy, set_value("ensemble", "members", member, "size", to=10**12))
    assert "is damaged: " in load_damaged(copy)


def test_members_that_are_text_are_refused(copy):
    schema = pa.schema([("member", pa.string()), ("part", pa.int32()), ("bytes", pa.binary())])
    write_member_rows(copy, [{**row, "member": str(row["member"])} for row in member_rows(copy)], schema)
    assert "is damaged: " in load_damaged(copy)


@pytest.mark.parametrize("left", [0, 3, 100, 0.5, -1], ids=["0", "3 bytes", "100 bytes", "half", "all but 1 byte"])
def test_a_truncated_file_is_refused(copy, left):
    write_member_rows(copy, member_rows(copy))
    file = only(members_of(copy), "*.parquet")
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * left) if isinstance(left, float) else left])
    assert "is damaged: " in load_damaged(copy)


def test_repeated_parts_take_little_memory(spark, tmp_path):
    # A dictionary of one value makes ten gigabytes of parts a small file.
    rows = 2_500
    part = pa.array([bytes(4 << 20)], pa.binary())
    columns = [
        pa.array(np.zeros(rows, np.int32)),
        pa.array(np.arange(rows, dtype=np.int32)),
        pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), part),
    ]
    (tmp_path / "members").mkdir()
    file = tmp_path / "members" / "part-00000.parquet"
    pq.write_table(pa.Table.from_arrays(columns, ["member", "part", "bytes"]), file, compression="zstd")
    assert file.stat().st_size < 10 << 20
    with memory_grows_less_than(300 << 20):
        refused(
            read_weights,
            spark,
            str(tmp_path),
            str(tmp_path / "members"),
            [{"size": 5000, "sha256": digest(bytes(5000))}],
        )
