"""The images' shape is the one that most of the first rows have, and a guess is shown."""

import numpy as np
import pytest
from PIL import Image
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.sql.types import StructField, StructType
from support.feature_forms import image_struct
from support.images import encoded

from spark_cnn_ensemble.rows.features import source_of
from spark_cnn_ensemble.rows.shapes import infer_shape


def picture(height=4, width=4, mode="RGB", kind="PNG"):
    return encoded(Image.new(mode, (width, height)), kind)


def struct_of(height, width, channels):
    return image_struct(bytes(height * width * channels), height, width, channels)


COLOUR, GREY = picture(), picture(mode="L")
FRAMES = {
    "one grey picture first": ("binary", [GREY, *[COLOUR] * 40], [4, 4, 3], "first 41 rows: 40 of 4x4x3, 1 of 4x4x1"),
    "one odd size first": ("binary", [picture(9, 5), *[COLOUR] * 5], [4, 4, 3], "first 6 rows: 5 of 4x4x3, 1 of 9x5x3"),
    "one damaged first": ("binary", [COLOUR[:20], None, COLOUR], [4, 4, 3], None),
    "grey": ("binary", [GREY, GREY], [4, 4, 1], None),
    "RGBA": ("binary", [picture(mode="RGBA")] * 2, [4, 4, 4], None),
    "RGBA and RGB": ("binary", [picture(mode="RGBA"), COLOUR], [4, 4, 3], "1 of 4x4x4, 1 of 4x4x3"),
    "RGBA and grey": ("binary", [picture(mode="RGBA"), GREY], [4, 4, 3], "1 of 4x4x4, 1 of 4x4x1"),
    "transparent grey": ("binary", [picture(mode="LA")], [4, 4, 1], None),
    "six sizes": (
        "binary",
        [picture(side, 4) for side in (5, 6, 7, 8, 9)] + [COLOUR] * 2,
        [4, 4, 3],
        "first 7 rows: 2 of 4x4x3, 1 of 5x4x3, 1 of 6x4x3, 1 of 7x4x3, 2 other kinds",
    ),
    "a JPEG with a preview of 60 KB": (
        "binary",
        [encoded(Image.new("RGB", (5, 7)), "JPEG", exif=b"Exif\0\0" + bytes(60_000))],
        [7, 5, 3],
        None,
    ),
    "image structs": (
        "struct<origin:string,height:int,width:int,nChannels:int,mode:int,data:binary>",
        [image_struct(b"", -1, -1, -1), struct_of(2, 2, 1), *[struct_of(2, 3, 3)] * 2],
        [2, 3, 3],
        "first 3 rows: 2 of 2x3x3, 1 of 2x2x1",
    ),
    "raw bytes": (
        "binary",
        [bytes(64)] * 2,
        [8, 8, 1],
        "taken for a square of one channel from 64 numbers; set inputShape=[4, 4, 4] if they are pictures of four channels",
    ),
    "raw bytes of an odd square": ("binary", [bytes(9)], [3, 3, 1], "taken for a square of one channel from 9 numbers"),
    "one short array": (
        "array<float>",
        [[0.0], *[[0.0] * 16] * 3],
        [4, 4, 1],
        "square of one channel from 16 numbers, the most frequent length in the first 4 rows",
    ),
    "arrays of arrays": ("array<array<int>>", [np.zeros((2, 3), int).tolist()] * 2, [2, 3, 1], None),
    "arrays of pixels": ("array<array<array<int>>>", [np.zeros((2, 3, 3), int).tolist()], [2, 3, 3], None),
    "one odd array first": (
        "array<array<int>>",
        [np.zeros(shape, int).tolist() for shape in [(9, 9), (2, 3), (2, 3)]],
        [2, 3, 1],
        "first 3 rows: 2 of 2x3, 1 of 9x9",
    ),
}


def inferred(spark, kind, cells, resize=False):
    frame = spark.createDataFrame([(cell,) for cell in cells], f"features {kind}").coalesce(1)
    return infer_shape(frame, source_of(frame, "features"), resize)


@pytest.mark.parametrize("case", FRAMES)
def test_the_first_rows_show_the_shape(spark, case):
    kind, cells, shape, note = FRAMES[case]
    found = inferred(spark, kind, cells)
    assert list(found.shape) == shape
    assert (note is None and found.note is None) or note in found.note, found.note


@pytest.mark.parametrize(("resize", "channels"), [(False, 1), (True, 3)])
def test_pictures_of_another_size_count_if_they_are_resized(spark, resize, channels):
    assert inferred(spark, "binary", [GREY, GREY, picture(9, 9)], resize).shape == (4, 4, channels)


def test_vectors_are_squares(spark):
    schema = StructType([StructField("features", VectorUDT())])
    frame = spark.createDataFrame([(Vectors.sparse(16, {}),)], schema)
    assert infer_shape(frame, source_of(frame, "features"), False).shape == (4, 4, 1)
