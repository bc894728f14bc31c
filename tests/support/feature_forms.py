"""Rows of 2x2 images in two classes: every type of features, and every fault of a row's features, label and weight.

A fault is a bad value, and a regular expression of what the refusal says about it.
"""

import math
from dataclasses import dataclass

import numpy as np
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    DoubleType,
    IntegerType,
    LongType,
    ShortType,
    StructField,
    StructType,
)

from support.classifiers import small
from support.images import encoded

NAN, INF = math.nan, math.inf
DARK, BRIGHT = [0.0, 1.0, 2.0, 3.0], [200.0, 150.0, 100.0, 50.0]
NOISE = np.random.default_rng(0).integers(0, 256, (2, 2), np.uint8)


def two_by_two(unset=(), **params):
    """A classifier of 2x2 images in two classes."""
    classifier = small(**{"numMembers": 1, "inputShape": [2, 2, 1], "numClasses": 2, **params})
    for name in unset:
        classifier.clear(classifier.getParam(name))
    return classifier


def image_struct(data=bytes(4), height=2, width=2, channels=1):
    """A cell of Spark's image type."""
    return ("file:/digits/7.png", height, width, channels, 0, data)


@dataclass(frozen=True)
class Form:
    """A type of features, two valid cells, and its faults."""

    type: object
    valid: tuple
    faults: dict


NOT_FINITE = "has null, NaN or infinity"
BEYOND = r"a number beyond 3\.4e\+38, the largest of float32 \(scale the column\)"
INFINITE = f"has (null, NaN or infinity|infinity or {BEYOND})"  # the second where Spark has cast the column before
FORMS = {
    "array": Form(
        ArrayType(DoubleType()),
        (DARK, BRIGHT),
        {
            "null": (None, "is null"),
            "short": (DARK[:3], "has 3 numbers where 4 were expected"),
            "long": ([*DARK, 4.0], "has 5 numbers where 4 were expected"),
            "empty": ([], "has 0 numbers where 4 were expected"),
            "null element": ([0.0, None, 0.0, 0.0], NOT_FINITE),
            "NaN": ([0.0, NAN, 0.0, 0.0], NOT_FINITE),
            "infinity": ([0.0, 0.0, 0.0, INF], INFINITE),
            "-infinity": ([-INF, 0.0, 0.0, 0.0], INFINITE),
            "beyond float": ([1e300, 0.0, 0.0, 0.0], f"has (infinity or )?{BEYOND}"),
        },
    ),
    "short array": Form(
        ArrayType(ShortType()),
        ([0, 1, 2, 3], [200, 150, 100, 50]),
        {
            "null": (None, "is null"),
            "short": ([0, 1, 2], "has 3 numbers where 4 were expected"),
            "null element": ([0, None, 2, 3], NOT_FINITE),
            "null next to 127": ([127, None, 127, 3], NOT_FINITE),
        },
    ),
    "boolean array": Form(
        "array<boolean>",
        ([False, False, False, True], [True, True, False, False]),
        {
            "short": ([True], "has 1 numbers where 4 were expected"),
            "null element": ([True, None, True, True], NOT_FINITE),
        },
    ),
    "array of arrays": Form(
        "array<array<array<double>>>",
        (np.reshape(DARK, (2, 2, 1)).tolist(), np.reshape(BRIGHT, (2, 2, 1)).tolist()),
        {
            "null": (None, "is null"),
            "turned": (np.zeros((1, 4, 1)).tolist(), "is an array of 1x4x1 where 2x2x1 was expected"),
            "another depth": (np.zeros((2, 2, 3)).tolist(), "is an array of 2x2x3 where 2x2x1 was expected"),
            "empty": ([], "is an array of 0 where 2x2x1 was expected"),
            "ragged rows": ([[[0.0], [0.0]], [[0.0]]], "has rows of different lengths"),
            "ragged pixels": ([[[0.0], [0.0]], [[0.0], [0.0, 1.0]]], "has rows of different lengths"),
            "null row": ([[[0.0], [0.0]], None], "has rows of different lengths"),
            "null element": ([[[0.0], [None]], [[0.0], [0.0]]], NOT_FINITE),
        },
    ),
    "file": Form(
        "struct<bytes:binary,path:string>",
        ((bytes([0, 1, 2, 3]), None), (encoded(np.array([[200, 150], [100, 50]], np.uint8)), "digits/3.png")),
        {
            "null": (None, "is null"),
            "null bytes": ((None, None), "is null"),
            "only a path": ((None, "file:/digits/7.png"), "has a path but no bytes"),
            "another size": (
                (encoded(np.zeros((2, 3), np.uint8)), "file:/digits/7.png"),
                r"is an image of 2x3 pixels where 2x2 were expected",
            ),
        },
    ),
    "vector": Form(
        VectorUDT(),
        (Vectors.dense(DARK), Vectors.sparse(4, {0: 200.0, 1: 150.0, 2: 100.0, 3: 50.0})),
        {
            "null": (None, "is null"),
            "short": (Vectors.dense(DARK[:3]), "has 3 numbers where 4 were expected"),
            "sparse and long": (Vectors.sparse(5, {1: 1.0}), "has 5 numbers where 4 were expected"),
            "NaN": (Vectors.dense([0.0, NAN, 0.0, 0.0]), NOT_FINITE),
            "beyond float": (Vectors.dense([0.0, -1e39, 0.0, 0.0]), f"has (infinity or )?{BEYOND}"),
            "sparse with infinity": (Vectors.sparse(4, {3: INF}), INFINITE),
        },
    ),
    "bytes": Form(
        BinaryType(),
        (bytes([0, 1, 2, 3]), encoded(np.array([[200, 150], [100, 50]], np.uint8))),
        {
            "null": (None, "is null"),
            "short": (
                bytes(3),
                r"has 3 bytes that are not a PNG or JPEG, where height\*width\*channels = 4 were expected",
            ),
            "empty": (b"", r"has 0 bytes that are not a PNG or JPEG, where .* = 4 were expected"),
            "another size": (
                encoded(np.zeros((2, 3), np.uint8)),
                r"is an image of 2x3 pixels where 2x2 were expected",
            ),
            "truncated PNG": (encoded(NOISE)[:44], r"is a damaged image \(.+\)"),
            "truncated JPEG": (encoded(NOISE, "JPEG")[:-30], r"is a damaged image \(.+\)"),
            "unreadable PNG": (encoded(NOISE)[:8] + b"?" * 50, r"is a damaged image \(its header cannot be read\)"),
            "unreadable JPEG": (b"\xff\xd8\xff" + b"?" * 50, r"is a damaged image \(its header cannot be read\)"),
        },
    ),
    "image": Form(
        "struct<origin:string,height:int,width:int,nChannels:int,mode:int,data:binary>",
        (image_struct(bytes([0, 1, 2, 3])), image_struct(bytes([200, 150, 100, 50]))),
        {
            "null": (None, "is null"),
            "unreadable": (image_struct(b"", -1, -1, -1), "is an unreadable image"),
            "empty": (image_struct(b"", 0, 2), "is an unreadable image"),
            "of no height": (image_struct(bytes(4), None, 2), "is an unreadable image"),
            "another size": (image_struct(bytes(6), 2, 3), "is an image of 2x3x1 where 2x2x1 was expected"),
            "turned": (image_struct(bytes(4), 1, 4), "is an image of 1x4x1 where 2x2x1 was expected"),
            "another depth": (image_struct(bytes(12), 2, 2, 3), "is an image of 2x2x3 where 2x2x1 was expected"),
            "cut short": (image_struct(bytes(3)), "is an image whose data is cut short"),
            "null data": (image_struct(None), "is null"),
        },
    ),
}

BAD_LABELS = {
    "null": (None, "has no label"),
    "NaN": (NAN, "has no label"),
    "-1": (-1.0, r"has label -1\.0"),
    "0.5": (0.5, r"has label 0\.5"),
    "infinity": (INF, "has label Infinity"),
    "-infinity": (-INF, "has label -Infinity"),
    "-1e300": (-1e300, r"has label -1\.0E300"),
}
TOO_LARGE_LABELS = {
    "2": (2.0, r"has label 2\.0"),
    "1e10": (1e10, r"has label 1\.0E10"),
    "1e300": (1e300, r"has label 1\.0E300"),
}
BAD_WEIGHTS = {
    "null": (None, "has weight null"),
    "NaN": (NAN, "has weight NaN"),
    "-1": (-1.0, r"has weight -1\.0"),
    "infinity": (INF, "has weight Infinity"),
    "beyond float": (1e300, r"has weight 1\.0E300"),
}


def values_of(faults):
    """The bad values of faults."""
    return [value for value, _ in faults.values()]


def frame_of_cells(spark, form, cells):
    """A frame (id, features, label) of cells of a form in one partition; labels alternate."""
    kind = FORMS[form].type
    rows = [(index, cell, index % 2) for index, cell in enumerate(cells)]
    if isinstance(kind, str):
        return spark.createDataFrame(rows, f"id long, features {kind}, label int").coalesce(1)
    fields = [("id", LongType()), ("features", kind), ("label", IntegerType())]
    schema = StructType([StructField(name, kind) for name, kind in fields])
    return spark.createDataFrame(rows, schema).coalesce(1)


def frame_of_labels(spark, labels):
    """A frame (id, features, label) of valid features and these labels in one partition."""
    rows = [(index, (DARK, BRIGHT)[index % 2], label) for index, label in enumerate(labels)]
    return spark.createDataFrame(rows, "id long, features array<double>, label double").coalesce(1)


def frame_of_weights(spark, weights):
    """A frame (id, features, label, weight) of valid features and labels and these weights in one partition."""
    rows = [(index, (DARK, BRIGHT)[index % 2], index % 2, weight) for index, weight in enumerate(weights)]
    return spark.createDataFrame(rows, "id long, features array<double>, label int, weight double").coalesce(1)
