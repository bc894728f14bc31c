"""A shape or a number of classes that `fit` cannot infer from the rows is refused before training."""

import numpy as np
import pytest
from pyspark.ml.linalg import Vectors
from support.feature_forms import (
    BAD_LABELS,
    DARK,
    FORMS,
    NAN,
    frame_of_cells,
    frame_of_labels,
    image_struct,
    two_by_two,
)
from support.refusals import refused

pytestmark = pytest.mark.usefixtures("no_training")

COLUMN = "Column 'features' (parameter 'featuresCol')"
NO_ROWS = (
    "The DataFrame has no rows with a usable column 'features' (parameter 'featuresCol'); set 'featuresCol' to "
    "the column of images, or give rows that have one."
)


def not_square(count, example=""):
    return (
        f"{COLUMN} has {count} numbers per row, which is not a square image with one channel; set 'inputShape' to [height, "
        f"width, channels]{example}."
    )


FIRST_ROWS = {
    "arrays that are not square": ("array", [DARK[:3]] * 2, not_square(3, ", for example [1, 1, 3]")),
    "arrays without numbers": ("array", [[]], not_square(0)),
    "vectors that are not square": ("vector", [Vectors.sparse(7, {})], not_square(7)),
    "bytes that are not square": ("bytes", [bytes(12)], not_square(12, ", for example [2, 2, 3]")),
    "an unreadable encoded image": (
        "bytes",
        [FORMS["bytes"].faults["unreadable PNG"][0]],
        f"{COLUMN} begins with an unreadable image (its header cannot be read); set 'inputShape' to [height, width, "
        "channels].",
    ),
    "only unreadable image structs": ("image", [None, image_struct(b"", -1, -1, -1)], NO_ROWS),
    "channels first": (
        "array of arrays",
        [np.zeros((3, 8, 9)).tolist()],
        f"{COLUMN} has arrays of 3x8x9, which look like channels first; give arrays [height][width][channels], as "
        "numpy.moveaxis(x, -3, -1) makes them, or set inputShape=[3, 8, 9] if the images are 3 pixels high.",
    ),
    "only nulls": ("array", [None, None], NO_ROWS),
    "no rows of arrays": ("array", [], NO_ROWS),
    "no rows of image structs": ("image", [], NO_ROWS),
}


@pytest.mark.parametrize("case", FIRST_ROWS)
def test_a_shape_that_the_first_rows_do_not_show_is_refused(spark, case):
    form, cells, sentence = FIRST_ROWS[case]
    assert refused(two_by_two(unset=["inputShape"]).fit, frame_of_cells(spark, form, cells)) == sentence


@pytest.mark.parametrize("case", BAD_LABELS)
def test_a_bad_label_is_refused_while_classes_are_counted(spark, case):
    label, fault = BAD_LABELS[case]
    text = refused(two_by_two(unset=["numClasses"]).fit, frame_of_labels(spark, [0.0, 1.0, label]))
    assert text == (
        f"A row: column 'label' {fault} where a whole number 0, 1, 2, ... was expected; fix the row, or set "
        "handleInvalid='skip' to leave such rows out."
    ).replace("\\", "")


@pytest.mark.parametrize(("label", "shown"), [(1000.0, "1000"), (1e10, "10000000000")])
def test_more_than_a_thousand_classes_are_not_inferred(spark, label, shown):
    text = refused(two_by_two(unset=["numClasses"]).fit, frame_of_labels(spark, [0.0, label]))
    assert text == (
        f"Column 'label' (parameter 'labelCol') holds label {shown}; more than 1000 classes are not inferred from the "
        "data: set 'numClasses' if there are that many, or index the labels."
    )


def test_sixty_one_classes_are_inferred(spark):
    with pytest.raises(AssertionError, match="Training has begun"):
        two_by_two(unset=["numClasses"]).fit(frame_of_labels(spark, [0.0, 60.0]))


@pytest.mark.parametrize("labels", [[], [None, NAN, -1.0]], ids=["no rows", "no usable label"])
def test_classes_are_not_inferred_without_a_label(spark, labels):
    classifier = two_by_two(unset=["numClasses"], handleInvalid="skip")
    text = refused(classifier.fit, frame_of_labels(spark, labels))
    assert text.startswith("The DataFrame has no rows with a usable column 'label' (parameter 'labelCol')"), text
