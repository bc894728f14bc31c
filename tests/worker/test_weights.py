"""Weights survive packing bit for bit, and damaged bytes are refused."""

import io

import numpy as np
import pandas as pd
import pytest

from spark_cnn_ensemble.worker.refusal import Refusal
from spark_cnn_ensemble.worker.weights import PART_BYTES, member_parts, pack_weights, split_weights, unpack_weights


def test_unpacked_weights_are_the_packed_ones():
    arrays = [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.float32([np.nan, -0.0, np.inf, 1e-42]),
        np.zeros((0, 3), np.float32),
        np.array(7, np.int64),
    ] * 4  # more than ten, so that sorting by text would change their order
    unpacked = unpack_weights(pack_weights(arrays))
    assert [(a.dtype, a.shape, a.tobytes()) for a in unpacked] == [(a.dtype, a.shape, a.tobytes()) for a in arrays]
    assert pack_weights(arrays) == pack_weights(unpacked)
    assert unpack_weights(pack_weights([])) == []


def test_numpy_opens_packed_weights_without_pickle():
    with np.load(io.BytesIO(pack_weights([np.ones(3, np.float32)])), allow_pickle=False) as file:
        assert file.files == ["0000"]
        assert file["0000"].tolist() == [1, 1, 1]


def pickled():
    file = io.BytesIO()
    np.savez(file, np.array([{"code": 1}], object))
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [b"", b"not weights", pack_weights([np.ones(99)])[:-30], pickled()],
    ids=["no bytes", "text", "truncated", "pickled"],
)
def test_damaged_weights_are_refused(data):
    with pytest.raises(Refusal, match=r"^A member's weights are damaged \(.+\); save the model again\.$"):
        unpack_weights(data)


@pytest.mark.parametrize("size", [1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES + 5])
def test_the_parts_of_weights_join_to_the_whole(size):
    data = np.random.default_rng(0).bytes(size)
    parts = split_weights(data)
    assert b"".join(parts) == data
    assert max(map(len, parts)) <= PART_BYTES
    frames = list(member_parts([pd.DataFrame({"id": [2, 5]})], {2: b"two", 5: data}.__getitem__))
    assert [part.tolist() for part in (frames[0]["member"], frames[0]["part"])] == [[2], [0]]
    assert frames[1]["part"].tolist() == list(range(len(parts)))
    assert b"".join(frames[1]["bytes"]) == data
