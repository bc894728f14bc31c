"""A task's rows become one bag, the same whatever order they come in."""

from dataclasses import replace

import numpy as np
import pytest
from support.bags import bag_frame, cut, numbers

from spark_cnn_ensemble.worker.bag import BagRules, collect_bag
from spark_cnn_ensemble.worker.pixels import PixelFormat
from spark_cnn_ensemble.worker.refusal import Refusal

RULES = BagRules(PixelFormat("features", "array", (2, 2, 1)))
SKIPPING = BagRules(RULES.pixels, skip_invalid=True)
ONES = numbers(1, 1, 1, 1)


def forty_rows():
    rng = np.random.default_rng(3)
    keys = rng.integers(-(2**63), 2**63, (40, 2))
    cells = rng.integers(0, 256, (40, 4)).astype(np.float32)
    columns = [{"copies": int(copies), "weight": float(weight)} for copies, weight in rng.integers(0, 4, (40, 2))]
    return [(*keys[i], int(rng.integers(0, 2)), cells[i], columns[i]) for i in range(40)]


@pytest.mark.parametrize("sizes", [[], [1], [7, 1, 20], [0, 39], [1] * 39], ids=lambda sizes: f"{len(sizes)} cuts")
def test_a_bag_does_not_depend_on_the_order_or_the_batches_of_its_rows(sizes):
    table = bag_frame(forty_rows())
    expected = collect_bag([table], 0, RULES)
    shuffled = table.sample(frac=1, random_state=len(sizes))
    bag = collect_bag(cut(shuffled, sizes), 0, RULES)
    for part in ("training", "validation"):
        ours, theirs = getattr(bag, part), getattr(expected, part)
        assert len(ours) == len(theirs) > 0
        for name in ("images", "labels", "weights", "copies"):
            assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name
    assert bag.training.images.dtype == expected.training.images.dtype == np.uint8


@pytest.mark.parametrize("order", ["as written", "reversed", "shuffled"])
def test_a_bag_is_sorted_by_row_key_then_by_content(order):
    table = bag_frame(
        [
            (5, 1, 0, numbers(50, 0, 0, 0)),
            (-3, 9, 1, numbers(40, 0, 0, 0)),
            (-3, 2, 1, numbers(30, 0, 0, 0)),
            (-3, -8, 0, numbers(20, 0, 0, 0)),
            (-9, 4, 0, numbers(10, 0, 0, 0)),
        ]
    )
    frame = {"as written": table, "reversed": table[::-1], "shuffled": table.sample(frac=1, random_state=1)}[order]
    bag = collect_bag([frame], 0, RULES)
    assert bag.training.images[:, 0, 0, 0].tolist() == [10, 20, 30, 40, 50]
    assert bag.training.labels.tolist() == [0, 0, 1, 1, 0]


def test_rows_without_copies_only_validate():
    table = bag_frame(
        [
            (1, 0, 0, numbers(1, 1, 1, 1), {"copies": 2}),
            (2, 0, 1, numbers(2, 2, 2, 2), {"copies": 0}),
            (3, 0, 1, numbers(3, 3, 3, 3), {"copies": 1}),
        ]
    )
    bag = collect_bag([table], 0, RULES)
    assert bag.training.images[:, 0, 0, 0].tolist() == [1, 3]
    assert bag.training.copies.tolist() == [2, 1]
    assert bag.validation.images[:, 0, 0, 0].tolist() == [2]
    assert bag.training.weights is None


def test_guests_are_in_the_sample_but_neither_train_nor_validate():
    table = bag_frame(
        [
            (1, 0, 0, numbers(1, 1, 1, 1), {"ticket": 0.3}),
            (2, 0, 1, numbers(2, 2, 2, 2), {"ticket": 0.2, "copies": 0, "validates": False}),
            (3, 0, 1, numbers(3, 3, 3, 3), {"ticket": 0.1, "copies": 0}),
            (4, 0, 0, numbers(4, 4, 4, 4), {"ticket": 0.4, "counts_here": False}),
        ]
    )
    bag = collect_bag([table], 0, replace(RULES, sample_size=10))
    assert bag.training.images[:, 0, 0, 0].tolist() == [1, 4]
    assert bag.validation.images[:, 0, 0, 0].tolist() == [3]
    assert bag.sample.keys.tolist() == [2, 1], "by ticket; without validation rows, and rows that count elsewhere"
    assert bag.sample.images[:, 0, 0, 0].tolist() == [2, 1]


@pytest.mark.parametrize(
    ("batches", "dtype"),
    [
        ([[0.0, 255.0]], np.uint8),
        ([[0.0, 255.0], [1.0, 2.0]], np.uint8),
        ([[0.0, 256.0]], np.float32),
        ([[0.0, -1.0]], np.float32),
        ([[0.0, 0.5]], np.float32),
        ([[0.0, 255.0], [0.25, 1e9]], np.float32),
        ([[1e9, 0.25], [0.0, 255.0]], np.float32),
        ([[-1.0, -128.0], [0.0, 255.0]], np.float32),
        ([[1e-8, 1.0]], np.float32),
    ],
    ids=[
        "bytes",
        "two batches of bytes",
        "256",
        "negative",
        "a half",
        "the second batch is not bytes",
        "the first batch is not bytes",
        "the first batch is negative",
        "tiny",
    ],
)
def test_images_are_bytes_only_if_nothing_is_lost(batches, dtype):
    frames = [
        bag_frame([(10 * i + j, 0, 0, numbers(0, 0, 0, value)) for j, value in enumerate(batch)])
        for i, batch in enumerate(batches)
    ]
    images = collect_bag(frames, 0, RULES).training.images
    assert images.dtype == dtype
    assert images[:, 1, 1, 0].astype(np.float64).tolist() == np.float32(np.concatenate(batches)).tolist()


def test_skipped_rows_are_counted_in_one_bag_only():
    table = bag_frame(
        [
            (1, 0, 0, ONES),
            (2, 0, 0, numbers(np.nan, 0, 0, 0), {"counts_here": True}),
            (3, 0, 0, None, {"counts_here": False}),
            (4, 0, 0, numbers(1, 2), {"counts_here": True}),
            (5, 0, 1, numbers(5, 5, 5, 5), {"counts_here": False}),
        ]
    )
    bag = collect_bag(cut(table, [2, 1]), 0, SKIPPING)
    assert bag.skipped == 2
    assert bag.training.images[:, 0, 0, 0].tolist() == [1, 5]


@pytest.mark.parametrize(
    ("cell", "name", "fault"),
    [
        (None, None, "A row: column 'features' is null; fix the row"),
        (
            numbers(1, 2, 3),
            "id=7",
            "Row id=7: column 'features' has 3 numbers where 4 were expected; fix the row, or change 'inputShape', "
            "which is [2, 2, 1]",
        ),
        (
            numbers(1, 2, np.nan, 3),
            "7",
            "Row 7: column 'features' has null, NaN or infinity at position 2; fix the row",
        ),
    ],
    ids=["null", "short", "NaN"],
)
def test_an_unusable_row_is_refused_by_name(cell, name, fault):
    table = bag_frame([(1, 0, 0, ONES), (2, 0, 0, cell, {"name": name})])
    with pytest.raises(Refusal) as caught:
        collect_bag([table], 0, RULES)
    assert str(caught.value) == f"{fault}, or set handleInvalid='skip' to leave such rows out."


@pytest.mark.parametrize(
    "frames",
    [[], [bag_frame([])], [bag_frame([(1, 0, 0, ONES, {"copies": 0})])]],
    ids=["no frame", "no row", "only validating rows"],
)
def test_an_empty_bag_is_refused(frames):
    with pytest.raises(Refusal, match=r"^Member 3 has no rows to train on: its bag is empty; set fewer members .*\.$"):
        collect_bag([table.assign(member=3) for table in frames], 3, SKIPPING)


def test_a_bag_with_only_unusable_rows_is_refused_with_the_first_fault():
    table = bag_frame([(1, 0, 0, numbers(1, 2)), (2, 0, 0, None)])
    sentence = (
        r"^Member 0 has no rows to train on: handleInvalid='skip' left out its whole bag, the first row because column "
        r"'features' has 2 numbers where 4 were expected; fix the rows, or the params that describe them\.$"
    )
    with pytest.raises(Refusal, match=sentence):
        collect_bag([table], 0, SKIPPING)


def test_a_bag_of_weight_0_is_refused_even_if_validation_rows_have_weight():
    rows = [(i, 0, 0, ONES, {"weight": 0.0}) for i in range(3)]
    rows.append((9, 0, 0, ONES, {"weight": 5.0, "copies": 0}))
    with pytest.raises(Refusal, match=r"^Member 0 has only rows of weight 0 in its bag; set fewer members .*\.$"):
        collect_bag([bag_frame(rows)], 0, RULES)


def test_rows_of_weight_0_do_not_make_the_sample_smaller():
    """Its tickets are chosen by the number of rows that may be in it."""
    tickets = np.random.default_rng(0).random(10_000)
    rows = [
        (index, index, index % 2, ONES, {"ticket": ticket, "weight": float(index % 10 == 0)})
        for index, ticket in enumerate(tickets)
    ]
    bag = collect_bag([bag_frame(rows)], 0, replace(RULES, sample_size=200))
    assert len(bag.sample.keys) == 200


def test_a_bag_that_is_empty_anyway_is_not_blamed_on_a_validation_row():
    damaged = replace(RULES, pixels=replace(RULES.pixels, form="bytes"), skip_invalid=True)
    frame = bag_frame([(1, 0, 0, b"\x89PNG damaged", {"copies": 0})])
    with pytest.raises(Refusal, match="its bag is empty"):
        collect_bag([frame], 0, damaged)


def test_a_row_of_another_member_is_an_error_of_this_package():
    table = bag_frame([(1, 0, 0, ONES), (2, 0, 0, ONES, {"member": 2})])
    with pytest.raises(RuntimeError, match=r"The task of member 0 got rows of members \[0, 2\]"):
        collect_bag([table], 0, RULES)
