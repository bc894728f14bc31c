"""The pictures of disputed rows are those of the most uncertain rows, whatever the order of the rows."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from spark_cnn_ensemble.worker.disputed_rows import DISPUTED, disputed_pictures, most_disputed


def rows_of(count):
    """Images, labels and votes of ten members for three classes."""
    rng = np.random.default_rng(2)
    images = rng.integers(0, 256, (count, 4, 4, 1), np.uint8)
    return images, rng.integers(0, 3, count), rng.multinomial(10, [0.4, 0.3, 0.3], count)


def test_the_most_uncertain_rows_come_first_and_unanimous_rows_not_at_all():
    images, labels, _ = rows_of(3)
    pictures = disputed_pictures(images, labels, np.array([[10, 0, 0], [9, 1, 0], [4, 3, 3]]))
    assert [index for index, _ in pictures] == [2, 1]
    first = json.loads(pictures[0][1])
    assert first["label"] == labels[2]
    assert first["votes"] == [4, 3, 3]
    assert 0.9 < first["uncertainty"] < 1


def test_no_rows_have_no_pictures():
    images, labels, votes = rows_of(0)
    assert disputed_pictures(images, labels, votes) == []


def test_the_choice_does_not_depend_on_the_order_or_the_partitions_of_the_rows():
    images, labels, votes = rows_of(200)
    whole = [picture for _, picture in disputed_pictures(images, labels, votes)]
    assert len(whole) == DISPUTED
    order = np.random.default_rng(3).permutation(200)
    parts = [order[:50], order[50:51], order[51:]]
    pictures = [picture for part in parts for _, picture in disputed_pictures(images[part], labels[part], votes[part])]
    assert most_disputed(pictures) == whole


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        pytest.param(np.array([[[-1.0], [0.0]], [[1.0], [3.0]]]), [[0, 64], [128, 255]], id="gray is scaled to 0..255"),
        pytest.param(np.full((2, 2, 3), 7, np.uint8), np.full((2, 2, 3), 7).tolist(), id="colour bytes stay"),
        pytest.param(
            np.eye(2, dtype=np.uint8)[..., None].repeat(3, axis=2),
            np.eye(2, dtype=int)[..., None].repeat(3, axis=2).tolist(),
            id="dark colour bytes stay",
        ),
        pytest.param(np.array([[[0.0], [3e-30]]]), [[0, 255]], id="tiny numbers"),
        pytest.param(np.full((2, 2, 3), 0.2), np.full((2, 2, 3), 51).tolist(), id="colours from 0 to 1"),
    ],
)
def test_a_picture_is_a_png(image, expected):
    ((_, picture),) = disputed_pictures(image[None], np.array([0]), np.array([[1, 1]]))
    png = Image.open(io.BytesIO(base64.b64decode(json.loads(picture)["png"])))
    assert np.asarray(png).tolist() == expected
