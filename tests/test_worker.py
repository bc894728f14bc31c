"""What runs on executors, called here without Spark on hand-made frames and blocks."""

import functools
import io
import json
import re
import subprocess
import sys
import zlib
from dataclasses import replace
from multiprocessing.pool import ThreadPool
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.bags import SMALL, a_bag, a_plan, examples, frame, noise, none_like, pick, same

from spark_cnn_ensemble.params import OPTIMIZERS
from spark_cnn_ensemble.worker.augmentation import augment
from spark_cnn_ensemble.worker.bag import Bag, BagRules, collect_bag
from spark_cnn_ensemble.worker.decision import majority
from spark_cnn_ensemble.worker.evaluation import count_votes
from spark_cnn_ensemble.worker.loaded_ensemble import load_ensemble
from spark_cnn_ensemble.worker.network import build_network
from spark_cnn_ensemble.worker.optimizers import KerasOptimizer
from spark_cnn_ensemble.worker.pixels import PixelFormat, encoded_shape, is_encoded, narrowest, to_pixels
from spark_cnn_ensemble.worker.refusal import Refusal, refusal_in, refusing_in_python
from spark_cnn_ensemble.worker.runtime import load_tensorflow
from spark_cnn_ensemble.worker.scoring import decide_early, vote_batches, vote_once
from spark_cnn_ensemble.worker.trainer import Trainer, _mean_and_variance
from spark_cnn_ensemble.worker.training import train_member
from spark_cnn_ensemble.worker.voting_plan import VotingPlan
from spark_cnn_ensemble.worker.weights import PART_BYTES, member_parts, pack_weights, split_weights, unpack_weights

ARRAYS = PixelFormat("features", "array", (2, 2, 1))
RULES = BagRules(ARRAYS)
SKIPPING = BagRules(ARRAYS, skip_invalid=True)


@pytest.fixture(scope="module", autouse=True)
def tensorflow():
    return load_tensorflow()


def test_tensorflow_that_other_code_has_used_before_is_taken_as_it_is():
    code = (
        "import tensorflow as tf; tf.constant(1) + 1;"
        "from spark_cnn_ensemble.worker.runtime import load_tensorflow;"
        "assert load_tensorflow(threads=3, gpus=[]) is tf; print(tf.constant(2).numpy())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "2\n", done.stderr[-2000:]


def train(bag, plan):
    """Weights and history, by a trainer of its own."""
    return Trainer(plan.program).train(bag, plan)


@pytest.fixture(scope="module")
def some(digits):
    """120 digits as a bag's training rows."""
    (x, y), _ = digits
    return examples(x[:120, :, :, None], y[:120])


# ------------------------------------------------------------------------------------------ the bag


def numbers(*values):
    return np.array(values, np.float32)


def many_rows(count=40):
    rng = np.random.default_rng(3)
    keys = rng.integers(-(2**63), 2**63, (count, 2))
    cells = rng.integers(0, 256, (count, 4)).astype(np.float32)
    more = [{"copies": int(copies), "weight": float(w)} for copies, w in rng.integers(0, 4, (count, 2))]
    return [(*keys[i], int(rng.integers(0, 2)), cells[i], more[i]) for i in range(count)]


def cut(table, sizes):
    """A frame in pieces of the given sizes, the last one of what is left."""
    ends = np.minimum(np.cumsum([*sizes, len(table)]), len(table))
    return [table.iloc[begin:end] for begin, end in zip([0, *ends[:-1]], ends, strict=True)]


@pytest.mark.parametrize("sizes", [[], [1], [7, 1, 20], [0, 39], [1] * 39])
def test_a_bag_does_not_depend_on_order_or_batches(sizes):
    table = frame(many_rows())
    expected = collect_bag([table], 0, RULES)
    shuffled = table.sample(frac=1, random_state=len(sizes))
    found = collect_bag(cut(shuffled, sizes), 0, RULES)
    for part in ("training", "validation"):
        ours, theirs = getattr(found, part), getattr(expected, part)
        assert len(ours) == len(theirs) > 0
        for name in ("images", "labels", "weights", "copies"):
            assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name
    assert found.training.images.dtype == expected.training.images.dtype == np.uint8


def test_a_bag_is_sorted_by_row_key_then_by_content():
    table = frame(
        [
            (5, 1, 0, numbers(50, 0, 0, 0)),
            (-3, 9, 1, numbers(40, 0, 0, 0)),
            (-3, 2, 1, numbers(30, 0, 0, 0)),
            (-3, -8, 0, numbers(20, 0, 0, 0)),
            (-9, 4, 0, numbers(10, 0, 0, 0)),
        ]
    )
    for order in (table, table[::-1], table.sample(frac=1, random_state=1)):
        bag = collect_bag([order], 0, RULES)
        assert bag.training.images[:, 0, 0, 0].tolist() == [10, 20, 30, 40, 50]
        assert bag.training.labels.tolist() == [0, 0, 1, 1, 0]


def test_rows_without_copies_only_validate():
    bag = collect_bag(
        [
            frame(
                [
                    (1, 0, 0, numbers(1, 1, 1, 1), {"copies": 2}),
                    (2, 0, 1, numbers(2, 2, 2, 2), {"copies": 0}),
                    (3, 0, 1, numbers(3, 3, 3, 3), {"copies": 1}),
                ]
            )
        ],
        0,
        RULES,
    )
    assert bag.training.images[:, 0, 0, 0].tolist() == [1, 3]
    assert bag.training.copies.tolist() == [2, 1]
    assert bag.validation.images[:, 0, 0, 0].tolist() == [2]
    assert bag.training.weights is None


@pytest.mark.parametrize(
    ("batches", "dtype"),
    [
        ([[0.0, 255.0]], np.uint8),
        ([[0.0, 255.0], [1.0, 2.0]], np.uint8),
        ([[0.0, 256.0]], np.float32),
        ([[0.0, -1.0]], np.float32),
        ([[0.0, 0.5]], np.float32),
        ([[0.0, 255.0], [0.25, 1e9]], np.float32),  # a batch that fits bytes beside one that does not
        ([[1e9, 0.25], [0.0, 255.0]], np.float32),
        ([[-1.0, -128.0], [0.0, 255.0]], np.float32),
        ([[1e-8, 1.0]], np.float32),
    ],
)
def test_bytes_hold_a_bag_only_where_nothing_is_lost(batches, dtype):
    frames = [
        frame([(10 * i + j, 0, 0, numbers(0, 0, 0, value)) for j, value in enumerate(batch)])
        for i, batch in enumerate(batches)
    ]
    images = collect_bag(frames, 0, RULES).training.images
    assert images.dtype == dtype
    assert images[:, 1, 1, 0].astype(np.float64).tolist() == np.float32(np.concatenate(batches)).tolist()


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.float32, np.float64])
def test_the_narrowest_type_of_integers(dtype):
    block = np.array([[0, 1, 127]], dtype)
    assert narrowest(block).dtype == np.uint8
    assert narrowest(-block).dtype == np.float32
    assert np.array_equal(narrowest(-block), -block)


def test_no_rows_are_narrowed_either():
    assert narrowest(np.zeros((0, 4), np.float32)).shape == (0, 4)


def test_rows_are_skipped_and_counted_in_one_bag_only():
    bad = numbers(np.nan, 0, 0, 0)
    rows = [
        (1, 0, 0, numbers(1, 1, 1, 1)),
        (2, 0, 0, bad, {"counts_here": True}),
        (3, 0, 0, None, {"counts_here": False}),
        (4, 0, 0, numbers(1, 2), {"counts_here": True}),
        (5, 0, 1, numbers(5, 5, 5, 5), {"counts_here": False}),
    ]
    bag = collect_bag(cut(frame(rows), [2, 1]), 0, SKIPPING)
    assert bag.skipped == 2
    assert bag.training.images[:, 0, 0, 0].tolist() == [1, 5]


@pytest.mark.parametrize(
    ("cell", "name", "sentence"),
    [
        (None, None, "A row: column 'features' is null; "),
        (numbers(1, 2, 3), "id=7", "Row id=7: column 'features' has 3 numbers where 4 were expected; "),
        (numbers(1, 2, np.inf, 3), "7", "Row 7: column 'features' has null, NaN or infinity at position 2; "),
    ],
)
def test_a_bad_row_is_refused_by_name(cell, name, sentence):
    table = frame([(1, 0, 0, numbers(1, 1, 1, 1)), (2, 0, 0, cell, {"name": name})])
    with pytest.raises(Refusal) as caught:
        collect_bag([table], 0, RULES)
    assert str(caught.value) == (f"{sentence}correct the row, or set handleInvalid='skip' to leave such rows out.")


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [frame([])],
        [frame([(1, 0, 0, numbers(1, 1, 1, 1), {"copies": 0})])],
    ],
    ids=["no frame", "no row", "only validating rows"],
)
def test_an_empty_bag_is_refused(frames):
    with pytest.raises(Refusal, match=r"^Member 3 has no rows to train on: its bag is empty; set fewer members .*\.$"):
        collect_bag([table.assign(member=3) for table in frames], 3, SKIPPING)


def test_a_bag_of_weight_0_is_refused():
    rows = [(i, 0, 0, numbers(1, 1, 1, 1), {"weight": 0.0}) for i in range(3)]
    rows.append((9, 0, 0, numbers(1, 1, 1, 1), {"weight": 5.0, "copies": 0}))  # a validating row is no help
    with pytest.raises(Refusal, match=r"^Member 0 has only rows of weight 0 in its bag; set fewer members .*\.$"):
        collect_bag([frame(rows)], 0, RULES)


def test_a_row_of_another_member_is_an_error_of_ours():
    with pytest.raises(RuntimeError, match=r"Task of member 0 was given rows of members \[0, 2\]"):
        table = frame([(1, 0, 0, numbers(1, 1, 1, 1)), (2, 0, 0, numbers(1, 1, 1, 1), {"member": 2})])
        collect_bag([table], 0, RULES)


# --------------------------------------------------------------------------------------- the pixels

RED_GREEN = np.array([[[200, 10, 20], [30, 210, 40]], [[50, 60, 220], [70, 80, 90]]], np.uint8)  # 2x2 RGB
GRAY = np.array([[0, 17], [128, 255]], np.uint8)


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.float32, np.float64])
def test_arrays_become_blocks_of_their_own_type(dtype):
    block, faults = to_pixels([np.array([1, 2, 3, 4], dtype), np.array([5, 6, 7, 8], dtype)], ARRAYS)
    assert not faults
    assert block.dtype == dtype
    assert block[..., 0].tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]


def test_numbers_run_over_rows_then_columns_then_channels():
    block, _ = to_pixels([np.arange(24, dtype=np.float32)], PixelFormat("features", "array", (2, 4, 3)))
    assert block[0, 1, 2].tolist() == [18, 19, 20]


def test_faults_of_arrays():
    cells = [
        numbers(1, 2, 3, 4),
        None,
        numbers(1, 2, 3),
        numbers(1, np.nan, 3, 4),
        numbers(1, 2, 3, np.inf),
        numbers(-np.inf, 2, 3, np.inf),
        np.array([1, None, 3, 4], object),
        numbers(),
        numbers(3e38, 3e38, 3e38, -3e38),
    ]
    block, faults = to_pixels(cells, ARRAYS)
    assert faults == {
        1: "is null",
        2: "has 3 numbers where 4 were expected",
        3: "has null, NaN or infinity at position 1",
        4: "has null, NaN or infinity at position 3",
        5: "has null, NaN or infinity at position 0",
        6: "has null, NaN or infinity at position 1",
        7: "has 0 numbers where 4 were expected",
    }
    assert np.isfinite(block).all()
    assert not block[list(faults)].any()
    assert np.array_equal(block[8].ravel(), cells[8])


@pytest.mark.parametrize("cells", [[], [None], [None, None, numbers(1)]])
def test_batches_without_a_sound_array(cells):
    block, faults = to_pixels(cells, ARRAYS)
    assert block.shape == (len(cells), 2, 2, 1)
    assert set(faults) == set(range(len(cells)))


def test_raw_bytes():
    pixels = PixelFormat("image", "bytes", (2, 2, 3))
    block, faults = to_pixels([RED_GREEN.tobytes(), bytearray(RED_GREEN[::-1].tobytes())], pixels)
    assert not faults
    assert block.dtype == np.uint8
    assert np.array_equal(block[0], RED_GREEN)
    assert np.array_equal(block[1], RED_GREEN[::-1])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_blue_green_red_becomes_red_green_blue(channels):
    rgba = np.arange(2 * 2 * 4, dtype=np.uint8).reshape(2, 2, 4)
    image = rgba[..., :channels]
    stored = image if channels == 1 else image[..., [2, 1, 0, 3][:channels]]
    block, faults = to_pixels([stored.tobytes()], PixelFormat("image", "bgr", (2, 2, channels)))
    assert not faults
    assert np.array_equal(block[0], image)


RGBA = np.concatenate([RED_GREEN, np.array([[[255], [128]], [[64], [0]]], np.uint8)], axis=-1)


@pytest.mark.parametrize(
    ("data", "channels", "expected"),
    [
        (encoded(RED_GREEN), 3, RED_GREEN),
        (encoded(GRAY), 1, GRAY[..., None]),
        (encoded(GRAY), 3, np.repeat(GRAY[..., None], 3, axis=-1)),
        (encoded(RED_GREEN), 1, np.asarray(Image.fromarray(RED_GREEN).convert("L"))[..., None]),
        (encoded(RGBA), 4, RGBA),
        (encoded(RGBA), 3, RED_GREEN),
        (encoded(RED_GREEN), 4, np.concatenate([RED_GREEN, np.full((2, 2, 1), 255, np.uint8)], axis=-1)),
        (encoded(Image.fromarray(GRAY > 100)), 1, np.where(GRAY > 100, 255, 0)[..., None]),
        (encoded(Image.fromarray(RED_GREEN).quantize(4)), 3, RED_GREEN),
        (encoded(GRAY.astype(np.uint16) * 256 + 99), 1, GRAY[..., None]),
        (encoded(GRAY.astype(np.uint16) * 256 + 99), 3, np.repeat(GRAY[..., None], 3, axis=-1)),
        (encoded(np.full((2, 2), 77, np.uint8), "JPEG"), 1, np.full((2, 2, 1), 77)),
        (encoded(np.full((2, 2, 3), 77, np.uint8), "JPEG"), 3, np.full((2, 2, 3), 77)),
    ],
    ids=[
        "RGB",
        "gray",
        "gray as RGB",
        "RGB as gray",
        "RGBA",
        "RGBA without alpha",
        "RGB with alpha",
        "black and white",
        "palette",
        "16 bits",
        "16 bits as RGB",
        "gray JPEG",
        "RGB JPEG",
    ],
)
def test_encoded_images(data, channels, expected):
    block, faults = to_pixels([data], PixelFormat("image", "bytes", (2, 2, channels)))
    assert not faults
    assert np.array_equal(block[0], expected)


def test_the_colours_of_a_jpeg_are_in_order():
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 250
    block, _ = to_pixels([encoded(red, "JPEG", quality=95)], PixelFormat("image", "bytes", (16, 16, 3)))
    assert block[..., 0].min() > 240
    assert block[..., 1:].max() < 12


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        (encoded(RED_GREEN), (2, 2, 3)),
        (encoded(RGBA[:1]), (1, 2, 4)),
        (encoded(GRAY), (2, 2, 1)),
        (encoded(GRAY.astype(np.uint16) * 256), (2, 2, 1)),
        (encoded(Image.fromarray(GRAY > 100)), (2, 2, 1)),
        (encoded(Image.fromarray(RED_GREEN).quantize(4)), (2, 2, 3)),
        (encoded(np.zeros((3, 5), np.uint8), "JPEG"), (3, 5, 1)),
    ],
)
def test_the_shape_that_a_header_tells(data, shape):
    assert encoded_shape(data) == shape


def giant():
    """A PNG whose header tells of 65,536 x 65,536 pixels, rightly summed."""
    data = bytearray(encoded(GRAY))
    data[16:24] = (1 << 16).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


BIG = encoded(np.zeros((40, 40, 3), np.uint8) + np.arange(40, dtype=np.uint8)[:, None, None])


@pytest.mark.parametrize(
    ("data", "shape", "fault"),
    [
        (b"", (2, 2, 1), r"has 0 bytes that are no PNG or JPEG, where height\*width\*channels = 4 were expected"),
        (b"12345", (2, 2, 1), r"has 5 bytes that are no PNG or JPEG, .* = 4 were expected"),
        (encoded(GRAY[:1]), (2, 2, 1), r"is an image of 1x2 pixels where 2x2 were expected"),
        (encoded(GRAY), (2, 2, 2), r"is an encoded image, which cannot give 2 channels"),
        (BIG[:-40], (40, 40, 3), r"is a damaged image \(.+\)"),
        (BIG[:20], (40, 40, 3), r"is a damaged image \(.+\)"),
        (encoded(RED_GREEN, "JPEG")[:40], (2, 2, 3), r"is a damaged image \(.+\)"),
        (b"\x89PNG\r\n\x1a\n" + b"?" * 99, (2, 2, 1), r"is a damaged image \(.+\)"),
        (b"\xff\xd8\xff" + b"?" * 99, (2, 2, 1), r"is a damaged image \(.+\)"),
        (giant(), (2, 2, 1), r"is a damaged image \(its header cannot be read\)"),
    ],
    ids=[
        "no bytes",
        "too many bytes",
        "another size",
        "two channels",
        "truncated PNG",
        "header of a PNG cut",
        "truncated JPEG",
        "PNG in name only",
        "JPEG in name only",
        "a giant",
    ],
)
def test_faults_of_bytes(data, shape, fault):
    block, faults = to_pixels([data, None], PixelFormat("image", "bytes", shape))
    assert block.shape == (2, *shape)
    assert faults[1] == "is null"
    assert not block.any()
    assert re.fullmatch(fault, faults[0]), faults[0]
    assert "0x" not in faults[0], "an address in memory means nothing to a user"


def test_raw_pixels_that_begin_like_a_jpeg():
    data = b"\xff\xd8\xff\x01"
    assert is_encoded(data, 5)
    assert not is_encoded(data, 4)
    block, faults = to_pixels([data], PixelFormat("image", "bytes", (2, 2, 1)))
    assert not faults
    assert block.tobytes() == data


# -------------------------------------------------------------------------------------- the weights


def test_weights_survive_as_bytes():
    arrays = [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.float32([np.nan, -0.0, np.inf, 1e-42]),
        np.zeros((0, 3), np.float32),
        np.array(7, np.int64),
    ] * 4  # more than ten: their order must not be that of text
    found = unpack_weights(pack_weights(arrays))
    assert [(a.dtype, a.shape, a.tobytes()) for a in found] == [(a.dtype, a.shape, a.tobytes()) for a in arrays]
    assert pack_weights(arrays) == pack_weights(found)
    assert unpack_weights(pack_weights([])) == []


def test_weights_are_npz_without_pickles():
    with np.load(io.BytesIO(pack_weights([np.ones(3, np.float32)])), allow_pickle=False) as file:
        assert file.files == ["0000"]
        assert file["0000"].tolist() == [1, 1, 1]


def pickled():
    file = io.BytesIO()
    np.savez(file, np.array([{"code": 1}], object))
    return file.getvalue()


@pytest.mark.parametrize("data", [b"", b"not weights", pack_weights([np.ones(99)])[:-30], pickled()])
def test_damaged_weights_are_refused(data):
    with pytest.raises(Refusal, match=r"^A member's weights are damaged \(.+\); save the model again\.$"):
        unpack_weights(data)


@pytest.mark.parametrize("size", [1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES + 5])
def test_parts_of_weights_join_again(size):
    data = np.random.default_rng(0).bytes(size)
    parts = split_weights(data)
    assert b"".join(parts) == data
    assert max(map(len, parts)) <= PART_BYTES
    frames = list(member_parts([pd.DataFrame({"id": [2, 5]})], {2: b"two", 5: data}.__getitem__))
    assert [part.tolist() for part in (frames[0]["member"], frames[0]["part"])] == [[2], [0]]
    assert frames[1]["part"].tolist() == list(range(len(parts)))
    assert b"".join(frames[1]["bytes"]) == data


# ------------------------------------------------------------------------------------- the majority


def a_vote(members=3, **changes):
    architecture = replace(SMALL, num_classes=4)
    return VotingPlan("hand-made", (architecture,), (0,) * members, ARRAYS, **changes)


@pytest.mark.parametrize(
    ("votes", "softmax", "winner"),
    [
        ([2, 2, 1], [0.1, 2.5, 0.3, 0.1], 2),  # most votes, whatever the softmax says
        ([0, 1, 3], [0.9, 0.2, 0.9, 1.0], 3),  # three tied: the larger softmax
        ([0, 1, 1, 0], [1.4, 1.4, 2.0, 0.0], 0),  # a tie of both: the lower index; class 2 has no vote
        ([3, 2, 1, 0], [1.0, 1.0, 1.0, 1.0], 0),
        ([3], [0.0, 0.0, 0.0, 1.0], 3),
    ],
)
def test_the_majority_wins_and_ties_are_settled(votes, softmax, winner):
    raw, probability, prediction = majority(np.array([votes]), np.array([softmax]), a_vote(len(votes)))
    counts = np.bincount(votes, minlength=4)
    assert raw.tolist() == [counts.tolist()]
    assert probability.tolist() == [(counts / len(votes)).tolist()]
    assert prediction.tolist() == [winner]
    assert prediction.dtype == np.float64


def test_a_soft_vote_is_the_mean_softmax():
    softmax = np.array([[0.1, 1.5, 1.3, 0.1], [0.5, 0.5, 0.5, 1.5]])
    votes = np.array([[2, 2, 1], [3, 3, 3]])
    raw, probability, prediction = majority(votes, softmax, a_vote(soft=True))
    assert np.array_equal(raw, softmax)
    assert np.allclose(probability, softmax / 3)
    assert prediction.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("thresholds", "winner"),
    [
        ((0.5, 0.5, 0.5, 0.5), 2),
        ((0.1, 0.9, 0.9, 0.9), 0),  # 0.25 / 0.1 > 0.5 / 0.9
        ((0.9, 0.0, 0.9, 0.9), 1),  # a threshold of 0 wins wherever there is a vote at all
        ((0.9, 0.9, 0.9, 0.0), 2),  # but 0 / 0 never does
        ((0.3, 0.3, 0.9, 0.3), 1),  # classes 0 and 1 tied: the larger softmax
    ],
)
@pytest.mark.parametrize("soft", [False, True])
def test_thresholds(thresholds, winner, soft):
    votes = np.array([[2, 0, 2, 1]])
    softmax = np.array([[1.0, 1.0, 2.0, 0.0]]) if soft else np.array([[1.0, 1.1, 1.9, 0.0]])
    if soft and thresholds[0] == 0.3:
        winner = 0  # their softmax is tied as well: the lower index
    _, probability, prediction = majority(votes, softmax, a_vote(4, thresholds=thresholds, soft=soft))
    assert probability.tolist() == [[0.25, 0.25, 0.5, 0.0]]
    assert prediction.tolist() == [winner]


# ---------------------------------------------------------------------------------------- the vote


def fresh_members(architecture, count, seed=0):
    """Packed weights of untrained members, and their networks."""
    import keras

    keras.utils.set_random_seed(seed)
    networks = [build_network(architecture) for _ in range(count)]
    return [pack_weights(network.get_weights()) for network in networks], networks


@pytest.fixture(scope="module")
def three():
    return fresh_members(SMALL, 3)


def voting(name, **changes):
    return VotingPlan(name, (SMALL,), (0, 0, 0), PixelFormat("features", "array", (8, 8, 1)), **changes)


@pytest.fixture(scope="module")
def thousand():
    return [cell for cell in np.random.default_rng(5).integers(0, 17, (1000, 64)).astype(np.float32)]


def votes_of(cells, sizes, plan, weights):
    batches = [batch["cell"] for batch in cut(pd.DataFrame({"cell": cells}), sizes)]
    return pd.concat(vote_batches(batches, plan, weights.__getitem__), ignore_index=True)


@pytest.mark.parametrize(
    "sizes", [[1] * 300, [255], [255] * 3, [256], [256] * 3, [257], [257] * 3, [1, 255, 1], [0, 1000], [999, 1]]
)
def test_votes_do_not_depend_on_the_batches(three, thousand, sizes):
    weights, _ = three
    expected = votes_of(thousand, [1000], voting("cut"), weights)
    found = votes_of(thousand, sizes, voting("cut"), weights)
    assert len(found) == 1000
    for name in expected:
        assert np.array_equal(np.stack(found[name]), np.stack(expected[name])), name


@pytest.mark.parametrize("count", [1, 255, 256, 257])
def test_a_row_gives_the_same_alone(three, thousand, count):
    weights, _ = three
    plan = voting("alone", soft=True)
    everything = votes_of(thousand, [], plan, weights)
    assert np.array_equal(
        np.stack(votes_of(thousand[:count], [], plan, weights)["rawPrediction"]),
        np.stack(everything["rawPrediction"][:count]),
    )
    alone = vote_once(thousand[count - 1], plan, weights.__getitem__)
    assert np.array_equal(alone[0][0], everything["rawPrediction"][count - 1])


def test_the_vote_is_what_the_members_say(three, thousand):
    weights, networks = three
    images = np.stack(thousand).reshape(-1, 8, 8, 1)
    outputs = np.stack([network.predict(images, verbose=0) for network in networks])
    soft = votes_of(thousand, [], voting("said", soft=True), weights)
    assert np.allclose(np.stack(soft["probability"]), outputs.mean(axis=0), atol=1e-6)
    hard = votes_of(thousand, [], voting("said"), weights)
    votes = outputs.argmax(axis=2)
    counts = np.stack([np.bincount(row, minlength=10) for row in votes.T])
    assert (np.stack(hard["rawPrediction"]) == counts).all(axis=1).mean() > 0.999  # a tie in float32 may fall apart


def test_members_may_differ_in_architecture(thousand):
    other = replace(SMALL, filters=(2, 3), standardization=False)
    (first,), (one,) = fresh_members(SMALL, 1)
    (second,), (two,) = fresh_members(other, 1, seed=1)
    plan = replace(voting("two kinds", soft=True), architectures=(SMALL, other), members=(1, 0))
    found = votes_of(thousand[:50], [], plan, [second, first])
    images = np.stack(thousand[:50]).reshape(-1, 8, 8, 1)
    expected = one.predict(images, verbose=0) + two.predict(images, verbose=0)
    assert np.allclose(np.stack(found["rawPrediction"]), expected, atol=1e-6)


def test_weights_of_another_network_are_refused(three, thousand):
    weights, _ = three
    (other,), _ = fresh_members(replace(SMALL, dense_units=17), 1)
    with pytest.raises(Refusal, match=r"^The weights of member 1 do not fit its network; save the model again\.$"):
        votes_of(thousand[:1], [], voting("misfit"), [weights[0], other, weights[2]])


class Recorded:
    """Members whose softmax for each row is given: it stands in an image of (members, classes) itself."""

    def __init__(self, members):
        self.members = members
        self.asked = 0

    def __len__(self):
        return self.members

    def block(self, images):
        block = np.zeros((8, *images.shape[1:]), np.float32)
        block[: len(images)] = images
        return block

    def output(self, member, block):
        self.asked += 1
        return block[:, member, :, 0]


def all_members(images):
    """What `Ensemble.vote` gives for images that `Recorded` members see."""
    votes = images[..., 0].argmax(axis=2).astype(np.int64)
    softmax = np.zeros((len(images), images.shape[2]))
    for member in range(images.shape[1]):
        softmax += images[:, member, :, 0]
    return votes, softmax


def early_plan(members, classes, **changes):
    architecture = replace(SMALL, input_shape=(members, classes, 1), num_classes=classes)
    pixels = PixelFormat("features", "array", (members, classes, 1))
    return VotingPlan("early", (architecture,), (0,) * members, pixels, outputs=("prediction",), **changes)


@given(st.data())
def test_an_early_decision_is_that_of_all_votes(data):
    members, classes = data.draw(st.integers(1, 12)), data.draw(st.integers(2, 4))
    # Few values, so that members tie among classes, classes among votes, and sums of softmax with one another.
    value = st.sampled_from([0.0, 0.25, 0.5, 0.5 + 2.0**-24, 1.0])
    row = st.lists(value, min_size=members * classes, max_size=members * classes)
    rows = data.draw(st.lists(row, min_size=1, max_size=40))
    images = np.array(rows, np.float32).reshape(-1, members, classes, 1)
    plan = early_plan(members, classes)
    expected = majority(*all_members(images), plan)[2]
    with patch.object(VotingPlan, "block_rows", 8):
        assert np.array_equal(decide_early(Recorded(members), images, plan), expected)


def one_hot(votes, classes):
    return np.eye(classes, dtype=np.float32)[votes][..., None]


@pytest.mark.parametrize("members", [2, 3, 10, 11])
def test_no_more_members_are_asked_than_decide(members):
    def asked(votes):
        ensemble = Recorded(members)
        plan = early_plan(members, 3)
        images = one_hot(np.array(votes), 3)
        with patch.object(VotingPlan, "block_rows", 8):
            found = decide_early(ensemble, images, plan)
        assert np.array_equal(found, majority(*all_members(images), plan)[2])
        return ensemble.asked

    unanimous = [[1] * members] * 32  # four blocks
    assert asked(unanimous) == 4 * (members // 2 + 1)
    doubtful = [(index % 2) + 1 for index in range(members)]
    # One row of which each pair of votes cancels out needs them all, in one block; the others' blocks are let go.
    assert asked([*unanimous[:31], doubtful]) == 4 * (members // 2 + 1) + members - members // 2 - 1


@pytest.mark.parametrize("count", [1, 255, 1000])
def test_real_members_decide_early_as_all_of_them_do(thousand, count):
    weights, _ = fresh_members(SMALL, 9)
    plan = replace(voting(f"nine {count}"), members=(0,) * 9)
    early = replace(plan, outputs=("prediction",))
    assert early.may_stop_early and not plan.may_stop_early
    cells = [*thousand[:count], None]
    found = votes_of(cells, [7], replace(early, refuse_invalid=False), weights)
    assert list(found) == ["prediction"]
    expected = votes_of(cells, [], replace(plan, refuse_invalid=False), weights)
    assert np.array_equal(found["prediction"], expected["prediction"], equal_nan=True)


def test_only_a_plain_majority_may_be_decided_early():
    plan = early_plan(3, 2)
    assert plan.may_stop_early
    assert not replace(plan, soft=True).may_stop_early
    assert not replace(plan, thresholds=(0.5, 1.0)).may_stop_early
    assert not replace(plan, outputs=("prediction", "uncertainty")).may_stop_early


BAD_CELLS = [None, numbers(*range(63)), np.full(64, np.nan, np.float32)]


def test_rows_that_cannot_be_scored_are_null(three, thousand):
    weights, _ = three
    cells = [thousand[0], *BAD_CELLS, thousand[1]]
    found = votes_of(cells, [2, 2], voting("null", refuse_invalid=False), weights)
    assert found["prediction"].isna().tolist() == [False, True, True, True, False]
    for name in ("rawPrediction", "probability"):
        assert [value is None for value in found[name]] == [False, True, True, True, False]
    sound = votes_of(thousand[:2], [], voting("null"), weights)
    assert np.array_equal(found["prediction"].dropna(), sound["prediction"])


@pytest.mark.parametrize("cell", BAD_CELLS, ids=["null", "short", "NaN"])
def test_rows_that_cannot_be_scored_are_refused(three, thousand, cell):
    weights, _ = three
    with pytest.raises(Refusal, match=r"^A row: column 'features' (is|has) .*'skip' .*, or 'keep' for a null .*\.$"):
        votes_of([thousand[0], cell], [], voting("refused"), weights)


def test_counting_votes(three, thousand):
    weights, networks = three
    labels = np.arange(len(thousand)) % 10
    cells = list(thousand)
    cells[3], cells[500] = None, numbers(1)
    plan = voting("counted", refuse_invalid=False)
    tables = cut(pd.DataFrame({"features": cells, "label": labels}), [1, 300, 7])
    (counted,) = count_votes(tables, plan, weights.__getitem__)
    scored = votes_of(cells, [], plan, weights)["prediction"]
    sound = scored.notna().to_numpy()
    confusion = np.zeros((10, 10), int)
    np.add.at(confusion, (labels[sound], scored[sound].astype(int)), 1)
    assert np.array_equal(counted["confusion"][0].reshape(10, 10), confusion)
    assert counted["skipped"][0] == 2
    images = np.stack(thousand).reshape(-1, 8, 8, 1)[sound]
    right = [(network.predict(images, verbose=0).argmax(axis=1) == labels[sound]).sum() for network in networks]
    assert np.abs(counted["memberRight"][0] - right).max() <= 1  # a tie in float32 may fall apart


def constant(probability):
    """Packed weights of a member of two classes that gives class 0 this probability, whatever the image."""
    arrays = [np.zeros_like(array) for array in build_network(replace(SMALL, num_classes=2)).get_weights()]
    arrays[-1][0] = np.log(probability / (1 - probability))
    return pack_weights(arrays)


def test_what_is_counted_under_thresholds_is_what_is_predicted():
    # 1 vote / 0.1 and 6 votes / 0.6 tie; a seventh of each does not, as it is rounded.
    weights = [constant(0.999), *[constant(0.49)] * 6]
    plan = VotingPlan(
        "thresholds", (replace(SMALL, num_classes=2),), (0,) * 7, PixelFormat("f", "array", (8, 8, 1)),
        thresholds=(0.1, 0.6),
    )  # fmt: skip
    cells = [np.zeros(64)]
    predicted = votes_of(cells, [], plan, weights)["prediction"].tolist()
    (counted,) = count_votes([pd.DataFrame({"features": cells, "label": [0]})], plan, weights.__getitem__)
    assert counted["confusion"][0].reshape(2, 2)[0].argmax() == predicted[0]


def test_threads_may_score_with_more_models_than_are_kept(three):
    weights, _ = three
    plans = [voting(f"thread {number}") for number in range(5)]
    with ThreadPool(4) as pool:
        found = pool.map(lambda plan: len(load_ensemble(plan, weights.__getitem__)), plans * 8)
    assert found == [3] * 40


# ------------------------------------------------------------------------------------- the training


def test_a_report_tells_what_a_member_saw(some):
    copies = np.arange(len(some)) % 3 + 1
    training = replace(some, copies=copies.astype(np.int32))
    validation = pick(some, np.arange(10))
    table = train_member(Bag(1, training, validation, 4), a_plan(epochs=3))
    assert table["member"].tolist() == [1]
    assert table["part"].tolist() == [0]
    report = json.loads(table["report"][0])
    assert report["member"] == 1
    assert (report["rows"], report["examples"], report["validationRows"]) == (120, copies.sum(), 10)
    assert report["skippedRows"] == 4
    assert report["classCounts"] == np.bincount(some.labels, minlength=10).tolist()
    assert report["size"] == len(table["bytes"][0])
    assert {name: len(curve) for name, curve in report["history"].items()} == {
        "loss": 3,
        "accuracy": 3,
        "val_loss": 3,
        "val_accuracy": 3,
    }


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_trains_and_forgets_the_member_before(some, optimizer):
    plan = a_plan(optimizer=optimizer, epochs=3, learning_rate=1e-2)
    trainer = Trainer(plan.program)
    weights, history = trainer.train(a_bag(some), plan)
    assert np.isfinite(history["loss"]).all()
    assert history["loss"][-1] < history["loss"][0]
    trainer.train(a_bag(pick(some, np.arange(50)), member=1), plan)
    again, _ = trainer.train(a_bag(some), plan)
    assert same(again, weights)


def test_plans_of_one_program_share_a_trainer_and_nothing_else(some):
    plan = a_plan(learning_rate_schedule="cosine", random_shift=1)
    others = [
        replace(plan, **change)
        for change in ({"learning_rate": 1e-2}, {"epochs": 3}, {"seed": 5}, {"early_stopping_patience": 1})
    ]
    assert all(other.program == plan.program and other != plan for other in others)
    trainer = Trainer(plan.program)
    for one in [*others, plan]:
        assert same(trainer.train(a_bag(some, some), one)[0], train(a_bag(some, some), one)[0])


def test_members_differ(some):
    zero, one = (train(a_bag(some, member=member), a_plan())[0] for member in (0, 1))
    assert not any(np.array_equal(a, b) for a, b in zip(zero, one, strict=True) if a.ndim > 1)


def test_seeds_differ(some):
    one, other = (train(a_bag(some), a_plan(seed=seed))[0] for seed in (1, 2))
    assert not same(one, other)


def keras_step(plan):
    """A trainer that steps by Keras' own optimizer."""
    trainer = Trainer(plan.program)
    trainer._step = KerasOptimizer(trainer.network.trainable_variables, plan.optimizer)
    trainer._reset_step = [(variable, variable.numpy()) for variable in trainer._step.state]
    return trainer


def test_fused_adam_is_the_adam_of_keras(some):
    plan = a_plan(epochs=4, learning_rate=2e-3)
    fused, keras_own = Trainer(plan.program), keras_step(plan)
    for member in (0, 1):
        ours, theirs = (trainer.train(a_bag(some, member=member), plan) for trainer in (fused, keras_own))
        assert np.allclose(ours[1]["loss"], theirs[1]["loss"], rtol=1e-4)
        assert all(np.allclose(a, b, atol=1e-4) for a, b in zip(ours[0], theirs[0], strict=True))


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("constant", [1, 1, 1, 1]),
        ("linear", [1, 0.75, 0.5, 0.25]),
        ("cosine", [0.5 * (1 + np.cos(np.pi * done)) for done in (0, 0.25, 0.5, 0.75)]),
    ],
)
def test_schedules(schedule, factors):
    trainer = Trainer(a_plan(learning_rate_schedule=schedule).program)
    assert np.allclose([trainer._factor(step, 4) for step in range(4)], factors)


def test_a_schedule_steers_the_training(some):
    def trained(schedule, epochs):
        settings = {"batch_size": len(some), "optimizer": "sgd", "learning_rate": 0.05}
        plan = a_plan(learning_rate_schedule=schedule, epochs=epochs, **settings)
        return train(a_bag(some), plan)[0]

    only_step = trained("constant", 1)
    assert same(trained("linear", 1), only_step)  # the first step has the full rate
    assert same(trained("cosine", 1), only_step)
    assert not same(trained("linear", 2), trained("constant", 2))
    assert not same(trained("linear", 2), trained("cosine", 3))


def one_step(training, **changes):
    """Loss and weights of a single step over all rows."""
    count = int(training.copies.sum())
    plan = a_plan(epochs=1, batch_size=count, optimizer="sgd", learning_rate=0.1, **changes)
    weights, history = train(a_bag(training), plan)
    return weights, history["loss"][0]


def test_weight_2_copy_2_and_the_row_twice_are_one(some):
    rows = pick(some, np.arange(20))
    twice = np.arange(20) < 5
    unscaled = replace(SMALL, standardization=False)  # else the mean would count a repeated row twice

    weighted = one_step(replace(rows, weights=np.where(twice, 2, 1).astype(np.float32)), architecture=unscaled)
    copied = one_step(replace(rows, copies=np.where(twice, 2, 1).astype(np.int32)), architecture=unscaled)
    repeated = one_step(pick(rows, np.r_[0:20, 0:5]), architecture=unscaled)
    plain = one_step(rows, architecture=unscaled)
    for found in (weighted, copied):
        assert found[1] == pytest.approx(repeated[1], rel=1e-5)
        assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(found[0], repeated[0], strict=True))
    assert abs(plain[1] - repeated[1]) > 1e-3
    assert not all(np.allclose(a, b, atol=1e-6) for a, b in zip(plain[0], repeated[0], strict=True))


def test_a_row_that_is_drawn_twice_counts_twice_in_the_mean_of_weights(some):
    rows, times = pick(some, np.arange(20)), np.where(np.arange(20) < 5, 3, 1).astype(np.int32)
    rows = replace(rows, weights=np.where(np.arange(20) < 5, 9, 1).astype(np.float32))
    unscaled = replace(SMALL, standardization=False)
    copied = one_step(replace(rows, copies=times), architecture=unscaled)
    repeated = one_step(pick(rows, np.repeat(np.arange(20), times)), architecture=unscaled)
    assert copied[1] == pytest.approx(repeated[1], rel=1e-5)
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(copied[0], repeated[0], strict=True))


def test_large_images_are_validated_in_smaller_batches():
    assert Trainer(a_plan().program)._validation_batch == 500
    assert Trainer(a_plan(replace(SMALL, input_shape=(256, 256, 3))).program)._validation_batch == 10


def test_the_scale_of_weights_is_no_learning_rate(some):
    ones = train(a_bag(replace(some, weights=np.ones(len(some), np.float32))), a_plan())
    eights = train(a_bag(replace(some, weights=np.full(len(some), 8, np.float32))), a_plan())
    plain = train(a_bag(some), a_plan())
    assert same(ones[0], plain[0])
    assert same(eights[0], plain[0])
    assert eights[1] == plain[1]


def test_rows_of_weight_0_do_not_pull(some):
    """Half of the rows are labelled wrongly and weigh nothing."""
    wrong = np.arange(len(some)) % 2 == 0
    labels = np.where(wrong, (some.labels + 1) % 10, some.labels).astype(np.int32)
    training = replace(some, labels=labels, weights=np.where(wrong, 0, 1).astype(np.float32))
    plan = a_plan(epochs=40, learning_rate=1e-2)
    weights, _ = train(a_bag(training), plan)
    network = build_network(plan.architecture)
    network.set_weights(weights)
    predicted = network.predict(some.images.astype(np.float32), verbose=0).argmax(axis=1)
    assert (predicted == some.labels).mean() > 0.8
    assert (predicted == labels)[wrong].mean() < 0.2


@pytest.mark.parametrize("patience", [1, 3])
def test_early_stopping_keeps_the_best_epoch(some, patience):
    rows, held_out = pick(some, np.arange(60)), pick(some, np.arange(60, 120))
    shuffled = np.random.default_rng(0).permutation(held_out.labels)
    doubtful = np.where(np.arange(60) < 30, shuffled, held_out.labels).astype(np.int32)
    validation = replace(held_out, labels=doubtful)  # half of it at random: certainty costs
    settings = {"learning_rate_schedule": "constant", "learning_rate": 1e-2}
    plan = a_plan(epochs=60, early_stopping_patience=patience, **settings)
    weights, history = train(a_bag(rows, validation), plan)
    best = int(np.argmin(history["val_loss"]))
    assert 0 < best < 58 - patience
    assert len(history["loss"]) == len(history["val_loss"]) == best + 1 + patience
    stopped_then = train(a_bag(rows), a_plan(epochs=best + 1, **settings))[0]
    assert same(weights, stopped_then)


def test_without_patience_the_last_epoch_is_kept(some):
    rows, held_out = pick(some, np.arange(60)), pick(some, np.arange(60, 120))
    weights, history = train(a_bag(rows, held_out), a_plan(epochs=3))
    assert len(history["val_loss"]) == 3
    assert same(weights, train(a_bag(rows), a_plan(epochs=3))[0])


def test_validation_is_measured_by_the_finished_epoch(some):
    rows = pick(some, np.arange(60))
    weights, history = train(a_bag(rows, rows), a_plan(epochs=2))
    network = build_network(SMALL)
    network.set_weights(weights)
    output = network.predict(rows.images.astype(np.float32), verbose=0)
    assert history["val_accuracy"][-1] == pytest.approx((output.argmax(axis=1) == rows.labels).mean())
    assert history["val_loss"][-1] == pytest.approx(-np.log(output[np.arange(60), rows.labels]).mean(), rel=1e-4)


def custom(shape=(8, 8, 1), classes=10, rate=0.3):
    """A network whose layers keep state of their own."""
    import keras
    from keras import layers

    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(momentum=0.5),
            layers.Flatten(),
            layers.Dropout(rate),
            layers.Dense(16, activation="relu"),
            layers.BatchNormalization(momentum=0.5),
            layers.Dense(classes, activation="softmax"),
        ]
    ).to_json()


@pytest.mark.parametrize("standardization", [True, False])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_state_of_a_custom_network_travels(some, standardization, precision):
    architecture = replace(SMALL, network=custom(), standardization=standardization)
    plan = a_plan(architecture, epochs=4, learning_rate=1e-2, precision=precision)
    trainer = Trainer(plan.program)
    weights, history = trainer.train(a_bag(some), plan)
    assert history["loss"][-1] < history["loss"][0]
    network = build_network(architecture)
    fresh = network.get_weights()
    network.set_weights(weights)
    moving = [index for index, variable in enumerate(network.weights) if variable.name == "moving_mean"]
    assert len(moving) == 2 + standardization
    assert all(np.abs(weights[index] - fresh[index]).max() > 0.01 for index in moving)
    voting = VotingPlan(
        f"state {standardization} {precision}", (architecture,), (0,), PixelFormat("f", "array", (8, 8, 1)), soft=True
    )
    cells = pd.Series(list(some.images.reshape(-1, 64)))
    (scored,) = vote_batches([cells], voting, lambda member: pack_weights(weights))
    expected = network.predict(some.images.astype(np.float32), verbose=0)
    assert np.allclose(np.stack(scored["probability"]), expected, atol=1e-5)
    again, _ = trainer.train(a_bag(some), plan)
    assert same(again, weights)  # dropout draws the same again


def test_standardization_is_the_mean_and_deviation_of_the_bag(some):
    weights, _ = train(a_bag(some), a_plan(epochs=1))
    assert weights[0] == pytest.approx(some.images.mean(), rel=1e-6)
    assert weights[1] == pytest.approx(some.images.var(), rel=1e-5)
    network = build_network(SMALL)
    network.set_weights(weights)
    scaled = np.asarray(network.get_layer("standardization")(some.images.astype(np.float32)))
    assert abs(scaled.mean()) < 1e-5
    assert scaled.std() == pytest.approx(1, rel=1e-5)


def test_mean_and_variance_of_each_channel():
    images = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 3), np.uint8)
    images[..., 2] = 9  # a channel that is constant is left in peace
    for block in (images, images.astype(np.float32)):
        mean, variance = _mean_and_variance(examples(block, np.zeros(50)))
        assert np.allclose(mean, images.mean(axis=(0, 1, 2)))
        assert np.allclose(variance, [images[..., 0].var(), images[..., 1].var(), 1])


def test_bytes_and_floats_train_alike(some):
    as_floats = replace(some, images=some.images.astype(np.float32))
    ours, theirs = (train(a_bag(rows), a_plan()) for rows in (some, as_floats))
    assert np.allclose(ours[1]["loss"], theirs[1]["loss"], rtol=1e-4)


def test_bfloat16_trains(some):
    plan = a_plan(precision="bfloat16", epochs=20, learning_rate=1e-2)
    weights, history = train(a_bag(some), plan)
    assert {array.dtype for array in weights} == {np.dtype(np.float32)}
    assert history["accuracy"][-1] > 0.8
    assert not same(weights, train(a_bag(some), replace(plan, precision="float32"))[0])


@pytest.mark.parametrize(
    ("changes", "images"),
    [
        ({"learning_rate": 1e38}, lambda images: images),
        ({"architecture": replace(SMALL, standardization=False)}, lambda images: images.astype(np.float32) * 1e37),
    ],
    ids=["learning rate", "scale"],
)
def test_divergence_is_refused(some, changes, images):
    rows = replace(some, images=images(some.images))
    sentence = (
        r"^Member 1 diverged: its (val_)?loss is (nan|inf) in epoch \d+; lower learningRate, or set standardi.*\.$"
    )
    with pytest.raises(Refusal, match=sentence):
        train(a_bag(rows, member=1), a_plan(**changes))


@pytest.mark.parametrize("weight", [None, 1, 0])
def test_patience_without_validating_rows_is_refused(some, weight):
    rows = some if weight is None else replace(some, weights=np.full(len(some), weight, np.float32))
    validation = rows if weight == 0 else none_like(rows)
    sentence = r"'earlyStoppingPatience' .* no row .*'validationIndicatorCol'; .*set earlyStoppingPatience=0\.$"
    with pytest.raises(Refusal, match=sentence):
        train_member(a_bag(rows, validation), a_plan(early_stopping_patience=2))


@pytest.mark.parametrize(
    ("shape", "classes", "precision", "changes"),
    [
        ((48, 32, 3), 4, "float32", {}),
        ((32, 48, 1), 2, "float32", {"filters": (4, 8, 8)}),
        ((1, 1, 1), 2, "float32", {}),
        ((1, 7, 2), 3, "bfloat16", {"kernel_size": 5}),
        ((4, 4, 1), 2, "float32", {"filters": (4, 4), "kernel_size": 5}),
        ((28, 28, 3), 10, "bfloat16", {"filters": (4, 8), "kernel_size": 5, "dropout_rate": 0.5}),
        ((8, 8, 1), 300, "float32", {}),
        ((28, 28, 1), 10, "float32", {"filters": (2,) * 6}),
    ],
)
def test_images_of_many_shapes(shape, classes, precision, changes):
    architecture = replace(SMALL, input_shape=shape, num_classes=classes, **changes)
    rows = noise(architecture)
    plan = a_plan(architecture, epochs=1, batch_size=10, random_shift=1, random_flip=True, precision=precision)
    weights, history = train(a_bag(rows), plan)
    assert np.isfinite(history["loss"]).all()
    plan = VotingPlan(f"{shape} {classes} {precision}", (architecture,), (0,), PixelFormat("f", "array", shape))
    (scored,) = vote_batches(
        [pd.Series(list(rows.images.reshape(len(rows), -1)))], plan, lambda _: pack_weights(weights)
    )
    assert np.stack(scored["probability"]).shape == (len(rows), classes)
    assert scored["prediction"].between(0, classes - 1).all()


def test_a_class_that_the_bag_missed_is_still_there(some):
    training = pick(some, np.flatnonzero(some.labels < 4))
    weights, _ = train(a_bag(training), a_plan())
    assert weights[-1].shape == (10,)


# --------------------------------------------------------------------------------- the augmentation


@functools.cache
def augmented(shift, flip, step=0, seed=7, count=4000, height=5, width=7):
    import tensorflow as tf

    images = np.arange(1, 1 + height * width, dtype=np.uint8).reshape(1, height, width, 1).repeat(count, axis=0)
    return images, augment(tf.constant(images), tf.constant([seed, step]), shift, flip).numpy()


def test_no_augmentation_changes_nothing():
    images, found = augmented(0, False)
    assert np.array_equal(found, images)


@pytest.mark.parametrize("shift", [1, 2, 7])
def test_a_shift_moves_zeros_in_and_keeps_the_rest(shift):
    images, found = augmented(shift, False)
    assert found.shape == images.shape
    assert found.dtype == images.dtype
    padded = np.pad(images[0, :, :, 0], shift)
    expected = {
        padded[top : top + 5, left : left + 7].tobytes()
        for top in range(2 * shift + 1)
        for left in range(2 * shift + 1)
    }
    assert {image.tobytes() for image in found} == expected  # each offset occurs, and nothing else does


def test_shifts_are_uniform():
    _, found = augmented(2, False)
    _, counts = np.unique(found.reshape(len(found), -1), axis=0, return_counts=True)
    assert len(counts) == 25
    chi_square = ((counts - 160) ** 2 / 160).sum()
    assert chi_square < 53  # 24 degrees of freedom: exceeded once in 1,700 fair draws; the draw is fixed


def test_flips_mirror_every_other_image():
    images, found = augmented(0, True)
    mirrored = (found == images[:, :, ::-1]).all(axis=(1, 2, 3))
    untouched = (found == images).all(axis=(1, 2, 3))
    assert (mirrored ^ untouched).all()
    assert 0.46 < mirrored.mean() < 0.54


def test_flips_and_shifts_are_independent():
    _, found = augmented(1, True)
    _, counts = np.unique(found.reshape(len(found), -1), axis=0, return_counts=True)
    assert len(counts) == 18
    assert ((counts - 4000 / 18) ** 2 / (4000 / 18)).sum() < 44  # 17 degrees of freedom, as above


def test_augmentation_is_a_function_of_seed_and_step():
    _, found = augmented(2, True)
    augmented.cache_clear()
    assert np.array_equal(augmented(2, True)[1], found)
    assert not np.array_equal(augmented(2, True, step=1)[1], found)
    assert not np.array_equal(augmented(2, True, seed=8)[1], found)


def test_augmentation_reaches_the_training(some):
    plain, shifted, flipped = (
        train(a_bag(some), a_plan(random_shift=shift, random_flip=flip))[0]
        for shift, flip in ((0, False), (1, False), (0, True))
    )
    assert not same(plain, shifted)
    assert not same(plain, flipped)
    assert not same(shifted, flipped)


# -------------------------------------------------------------------------------------- the refusal


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("...\nspark_cnn_ensemble.worker.refusal.Refusal: It is bad; mend it.\n\n\tat org", "It is bad; mend it."),
        ("[USER_RAISED_EXCEPTION] A row: bad; mend it. SQLSTATE: P0001\n\tat java.lang", "A row: bad; mend it."),
        ("[USER_RAISED_EXCEPTION] Row 7: bad; mend it. SQLSTATE: P0001", "Row 7: bad; mend it."),
        ("[USER_RAISED_EXCEPTION] of the user's own. SQLSTATE: P0001", None),
        ("java.lang.OutOfMemoryError", None),
    ],
)  # fmt: skip
def test_a_refusal_is_found_in_what_spark_says(text, sentence):
    assert refusal_in(text) == sentence
    expected = RuntimeError if sentence is None else ValueError
    with pytest.raises(expected) as caught, refusing_in_python():
        raise RuntimeError(text)
    assert str(caught.value) == (sentence or text)
