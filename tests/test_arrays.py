"""Images and labels in the forms that people have them become the same arrays; others are refused with a remedy."""

import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.sparse import csr_matrix
from support.text_matrices import by_columns

from spark_cnn_ensemble.arrays import images_and_labels
from spark_cnn_ensemble.datasets import to_dataframe, write_text_matrix

RNG = np.random.default_rng(7)
GREY = RNG.integers(0, 256, (6, 4, 5), np.uint8)
COLOUR = RNG.integers(0, 256, (6, 4, 5, 3), np.uint8)
LABELS = np.array([2, 0, 1, 1, 0, 2])
FLAT = GREY.reshape(6, -1)


class Tensor:
    """What numpy sees of another library's tensor."""

    def __init__(self, values, error=None):
        self.values, self.error = values, error

    def __len__(self):
        return len(self.values)

    def __array__(self, dtype=None, copy=None):
        if self.error is not None:
            raise self.error
        return np.array(self.values, dtype)


def cells(arrays):
    """A one-dimensional array of objects."""
    column = np.empty(len(arrays), object)
    column[:] = list(arrays)
    return column


# Forms that are read


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        pytest.param(GREY.tolist(), GREY, id="nested lists"),
        pytest.param(list(GREY), GREY, id="list of arrays"),
        pytest.param(tuple(FLAT), FLAT, id="tuple of arrays"),
        pytest.param(cells(GREY), GREY, id="objects that are arrays"),
        pytest.param(pd.DataFrame(FLAT), FLAT, id="pandas table"),
        pytest.param(pd.DataFrame(FLAT).astype("Int64"), FLAT, id="pandas table with nullable types"),
        pytest.param(pd.DataFrame(FLAT).astype({0: "float32"}), FLAT, id="pandas table of two types"),
        pytest.param(pd.Series(list(GREY)), GREY, id="pandas column of arrays"),
        pytest.param(pd.DataFrame({"image": GREY.tolist()}), GREY, id="pandas table with one column of lists"),
        pytest.param([Image.fromarray(grey) for grey in GREY], GREY, id="grey pictures"),
        pytest.param(pd.Series([Image.fromarray(grey) for grey in GREY]), GREY, id="pandas column of pictures"),
        pytest.param([Image.fromarray(colour) for colour in COLOUR], COLOUR, id="colour pictures"),
        pytest.param(
            [Image.fromarray(np.dstack((colour, colour[..., :1])), "RGBA") for colour in COLOUR],
            np.concatenate((COLOUR, COLOUR[..., :1]), axis=-1),
            id="pictures with alpha",
        ),
        pytest.param([Image.fromarray(grey > 99) for grey in GREY], GREY > 99, id="pictures of one bit"),
        pytest.param(
            [Image.fromarray(grey.astype(np.uint16) * 257) for grey in GREY],
            GREY.astype(np.uint16) * 257,
            id="16 bits of grey",
        ),
        pytest.param(Tensor(GREY), GREY, id="another library's tensor"),
        pytest.param([Tensor(grey) for grey in GREY], GREY, id="list of another library's tensors"),
        pytest.param(np.ma.masked_array(GREY), GREY, id="masked array without a mask"),
        pytest.param(np.asfortranarray(GREY), GREY, id="Fortran order"),
    ],
)
def test_images_are_read(x, expected):
    images, labels = images_and_labels(x, None)
    assert labels is None and images.shape == expected.shape and np.array_equal(images, expected)


def test_nan_is_left_to_fit():
    table = pd.DataFrame({"a": pd.array([1, None], "Int64"), "b": [0.5, np.nan]})
    assert np.array_equal(images_and_labels(table, None)[0], [[1, 0.5], [np.nan, np.nan]], equal_nan=True)


def test_a_palette_gives_colours_and_not_indices():
    red_and_blue = Image.fromarray(np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8))
    images, _ = images_and_labels([red_and_blue.quantize(2)], None)
    assert images.tolist() == [[[[255, 0, 0], [0, 0, 255]]]]
    see_through = Image.new("LA", (2, 1), (100, 7))
    assert images_and_labels([see_through], None)[0].tolist() == [[[[100, 100, 100, 7]] * 2]]


@pytest.mark.parametrize(
    "y",
    [
        pytest.param(LABELS.tolist(), id="list"),
        pytest.param(LABELS.astype(float), id="whole floats"),
        pytest.param(LABELS[:, None], id="column"),
        pytest.param(pd.Series(LABELS), id="pandas column"),
        pytest.param(pd.DataFrame({"label": LABELS}), id="pandas table with one column"),
        pytest.param(pd.Series(LABELS).astype("Int32"), id="nullable pandas column"),
        pytest.param(pd.Series(LABELS).astype("category"), id="pandas categories of numbers"),
        pytest.param(LABELS.astype(object), id="objects that are numbers"),
        pytest.param(Tensor(LABELS), id="another library's tensor"),
    ],
)
def test_labels_are_read(y):
    assert images_and_labels(FLAT, y)[1].tolist() == LABELS.tolist()


@pytest.mark.parametrize(
    "y", [[True, False] * 3, pd.Series([True, False] * 3).astype("boolean"), np.array([1, 0] * 3) > 0]
)
def test_booleans_are_labels_0_and_1(spark, y):
    assert by_columns(to_dataframe(spark, FLAT, y).orderBy("id"))[2].tolist() == [1, 0] * 3


def test_what_is_read_becomes_a_frame_and_a_file(spark, tmp_path):
    pictures = [Image.fromarray(colour) for colour in COLOUR]
    frame = to_dataframe(spark, pictures, pd.Series(LABELS))
    assert frame.dtypes == [("id", "bigint"), ("features", "array<smallint>"), ("label", "int")]
    _, features, labels = by_columns(frame.orderBy("id"))
    assert np.array_equal(features, COLOUR.reshape(6, -1)) and np.array_equal(labels, LABELS)
    write_text_matrix(tmp_path / "m", pictures, LABELS.tolist())
    assert np.array_equal(np.loadtxt(tmp_path / "m/part-00000.txt"), np.column_stack((features, LABELS)))


def test_tensors_of_tensorflow_are_read():
    import tensorflow as tf

    for x in (tf.constant(COLOUR), [tf.constant(colour) for colour in COLOUR]):
        images, labels = images_and_labels(x, tf.constant(LABELS))
        assert np.array_equal(images, COLOUR) and np.array_equal(labels, LABELS)
    with pytest.raises(ValueError, match=r"x holds bfloat16; .* numpy\.asarray\(x\)\.astype\('float32'\)"):
        images_and_labels(tf.zeros((2, 2), tf.bfloat16), None)
    assert images_and_labels(np.asarray(tf.zeros((2, 2), tf.bfloat16)).astype("float32"), None)[0].shape == (2, 2)
    with pytest.raises(ValueError, match="y holds text where whole numbers"):
        images_and_labels(FLAT, tf.constant(NAMES))


# Refusals

TABLE = pd.DataFrame(FLAT).add_prefix("p")
NAMES = np.array(["cat", "dog", "cat", "emu", "emu", "cat"])


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        pytest.param(
            [[1, 2], [1]], None, r"x[1] has shape (1,) where x[0] has shape (2,); give all", id="ragged lists"
        ),
        pytest.param(cells([GREY[0], GREY[1, :2]]), None, "x[1] has shape (2, 5) where x[0]", id="ragged arrays"),
        pytest.param((COLOUR, LABELS), None, "x[1] has shape (6,) where x[0]", id="a tuple of images and labels"),
        pytest.param(np.array([[1, None]]), None, "x holds objects such as int", id="None as a number"),
        pytest.param([["1", "2"]], None, "x holds <U1; convert it to real numbers", id="text"),
        pytest.param(cells(NAMES), None, "x holds text; convert it", id="text for images"),
        pytest.param(Image.fromarray(GREY[0]), None, "x is one picture; pass a list", id="one picture"),
        pytest.param(csr_matrix(FLAT), None, "csr_matrix, which is not an array", id="a sparse matrix"),
        pytest.param(np.ma.masked_equal(FLAT, FLAT[0, 0]), None, "x has masked values", id="masked values"),
        pytest.param(
            Tensor(FLAT, RuntimeError("on a GPU.\nMore")), None, "read as an array (on a GPU);", id="no array"
        ),
        pytest.param(TABLE.assign(name="a"), None, "x has the column 'name' of type object", id="a column of text"),
        pytest.param(TABLE.assign(c=1j), None, "x has the column 'c' of type complex128", id="complex numbers"),
        pytest.param(
            TABLE.assign(label=LABELS), pd.Series(LABELS, name="label"), "x has the column 'label'", id="leak"
        ),
        pytest.param(
            TABLE[::-1], pd.Series(LABELS), "x and y have different indexes; pass y.loc[x.index]", id="indexes"
        ),
        pytest.param(FLAT, LABELS[:4].tolist(), "y has shape (4,) where x has 6 rows", id="fewer labels"),
        pytest.param(FLAT, np.eye(3)[LABELS], "if it is one-hot, pass numpy.argmax(y, axis=1)", id="one-hot labels"),
        pytest.param(
            TABLE, "label", "y is the text 'label'; pass the labels themselves, such as table['label']", id="name"
        ),
        pytest.param(FLAT, pd.get_dummies(NAMES), "if it is one-hot, pass numpy.argmax(y, axis=1)", id="dummies"),
        pytest.param(FLAT, NAMES, "y holds text where whole numbers", id="names"),
        pytest.param(FLAT, pd.Series(NAMES).astype("category"), "y holds text where whole numbers", id="categories"),
        pytest.param(
            [np.ma.array([1, 2], mask=[0, row == 3]) for row in range(6)],
            LABELS,
            "x[3] has masked values; fill them first, as x[3].filled(0) does",
            id="a masked row",
        ),
        pytest.param(
            FLAT,
            np.ma.array([0, 1, 255, 1, 0, 1], mask=[0, 0, 1, 0, 0, 0]),
            "y has no label in row 2, which is masked; leave out the rows without one",
            id="a masked label",
        ),
        pytest.param(FLAT, pd.Series([0, 1, None, 1, 0, 1]), "y has no label in row 2", id="a missing label"),
        pytest.param(FLAT, [0, 1, None, 1, 0, 1], "y holds objects such as int", id="None as a label"),
    ],
)
def test_what_cannot_be_read_is_refused(x, y, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        images_and_labels(x, y)
    assert "\n" not in str(caught.value)


def test_pictures_of_different_sizes_are_refused_and_the_remedy_works():
    pictures = [Image.fromarray(GREY[0]), Image.fromarray(GREY[1]).resize((9, 9))]
    with pytest.raises(
        ValueError, match=r"x\[1\] is a picture of 9x9 pixels where x\[0\] has 5x4; .*resize\(\(5, 4\)\)"
    ):
        images_and_labels(pictures, None)
    assert images_and_labels([picture.resize((5, 4)) for picture in pictures], None)[0].shape == (2, 4, 5)


def test_pictures_of_different_modes_are_refused_and_the_remedy_works():
    pictures = [Image.fromarray(GREY[0]), Image.fromarray(COLOUR[1])]
    with pytest.raises(
        ValueError, match=r"x\[1\] is a picture of mode RGB where x\[0\] has mode L; .*convert\('RGB'\)"
    ):
        images_and_labels(pictures, None)
    assert images_and_labels([picture.convert("RGB") for picture in pictures], None)[0].shape == (2, 4, 5, 3)


def test_a_damaged_picture_is_named(tmp_path):
    Image.fromarray(COLOUR[0]).resize((200, 200)).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:300])
    with (
        Image.open(tmp_path / "a.png") as picture,
        pytest.raises(ValueError, match=r"x\[0\], .*a\.png, cannot be read"),
    ):
        images_and_labels([picture], None)


def test_remedies_for_labels_and_indexes_work():
    for names in (NAMES, NAMES.tolist(), pd.Series(NAMES), pd.Series(NAMES).astype("category")):
        _, y = np.unique(names, return_inverse=True)
        assert images_and_labels(FLAT, y)[1].tolist() == [0, 1, 0, 2, 2, 0]
    for one_hot in (np.eye(3)[LABELS], np.eye(3)[LABELS].tolist(), pd.get_dummies(LABELS)):
        assert images_and_labels(FLAT, np.argmax(one_hot, axis=1))[1].tolist() == LABELS.tolist()
    x, y = TABLE[::-1], pd.Series(LABELS)
    assert images_and_labels(x, y.loc[x.index])[1].tolist() == LABELS[::-1].tolist()
    assert images_and_labels(x, y.to_numpy())[1].tolist() == LABELS.tolist()


def test_channels_before_height_and_width_are_a_warning_and_the_remedy_works(recwarn):
    first = COLOUR.transpose(0, 3, 1, 2)
    with pytest.warns(UserWarning, match=r"x has shape \(6, 3, 4, 5\), .* numpy\.transpose\(x, \(0, 2, 3, 1\)\)"):
        images_and_labels(first, None)
    assert np.array_equal(images_and_labels(np.transpose(first, (0, 2, 3, 1)), None)[0], COLOUR)
    assert not recwarn.list
