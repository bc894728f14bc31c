"""Files of formats that are not read are refused by their format's name, and never taken for raw pixels."""

import re

import numpy as np
import pytest
from support.feature_forms import two_by_two
from support.images import encoded
from support.refusals import refused

from spark_cnn_ensemble.worker.pictures import other_format

PICTURE = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
FILES = {
    "GIF": encoded(PICTURE, "GIF"),
    "BMP": encoded(PICTURE, "BMP"),
    "TIFF": encoded(PICTURE, "TIFF"),
    "WebP": encoded(PICTURE, "WEBP"),
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "PDF": b"%PDF-1.7 and so on",
}


def frame(spark, cells):
    return spark.createDataFrame(
        [(index, cell, index % 2) for index, cell in enumerate(cells)], "id int, features binary, label int"
    )


@pytest.mark.parametrize("name", FILES)
def test_a_shape_is_not_inferred_from_them(spark, name):
    text = refused(two_by_two(unset=["inputShape"]).fit, frame(spark, [FILES[name]] * 4))
    assert text == (
        f"Column 'features' (parameter 'featuresCol') begins with files of format {name}; convert them to PNG or JPEG, "
        "or read GIF and BMP with spark.read.format('image')."
    )


@pytest.mark.parametrize("name", FILES)
def test_they_are_not_raw_pixels_even_if_they_have_their_length(spark, name):
    size, pixels = len(FILES[name]), two_by_two(inputShape=[1, len(FILES[name]), 1], kernelSize=1, idCol="id")
    raw = bytes(index % 251 for index in range(size))
    text = refused(pixels.fit, frame(spark, [raw, raw, FILES[name], raw]))
    assert re.fullmatch(
        rf"Row id=2: column 'features' is a file of format {name}, neither PNG nor JPEG; convert it to PNG or remove it, "
        r"or set handleInvalid='skip' to leave such rows out\.",
        text,
    ), text


@pytest.mark.parametrize("first", [b"BM", b"BMxxxx", b"RIFFxxxxWAVE", b"GIF8", b"II*", b"%PDF", bytes(16)])
def test_pixels_that_begin_alike_stay_pixels(first):
    assert other_format(first + bytes(100), len(first) + 100) is None
