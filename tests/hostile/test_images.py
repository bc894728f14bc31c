"""An encoded image that is damaged or inflates to far more than it should is refused and takes little memory."""

import functools
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from pyspark.sql import functions as F
from support.classifiers import small
from support.images import encoded
from support.memory import memory_grows_less_than
from support.refusals import refused, refused_by_job

from spark_cnn_ensemble.worker.pixels import PixelFormat, to_pixels


def chunk(name, data):
    return struct.pack(">L", len(data)) + name + data + struct.pack(">L", zlib.crc32(name + data))


def png(height, width, data, *before, after=()):
    """A PNG of grey pixels with any size in its header, any compressed pixels, and any other chunks."""
    header = chunk(b"IHDR", struct.pack(">2L5B", width, height, 8, 0, 0, 0, 0))
    return b"".join([b"\x89PNG\r\n\x1a\n", header, *before, chunk(b"IDAT", data), *after, chunk(b"IEND", b"")])


def zeros(count):
    """Compress that many zeros, piece by piece."""
    compressor = zlib.compressobj(9)
    pieces = [compressor.compress(bytes(min(1 << 20, count - start))) for start in range(0, count, 1 << 20)]
    return b"".join(pieces) + compressor.flush()


def huge_jpeg():
    """A JPEG whose header claims 65,500 x 65,500 pixels."""
    data = bytearray(JPEG)
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">2H", 65_500, 65_500)
    return bytes(data)


@functools.cache
def bomb():
    """256 MB of zeros in 260 KB."""
    return zeros(1 << 28)


JPEG = encoded(np.arange(64, dtype=np.uint8).reshape(8, 8), "JPEG")
PIXELS = zlib.compress(bytes(9 * 8))  # 8 rows of a filter byte and 8 pixels
VALID = png(8, 8, PIXELS)
NOISE = zlib.compress(np.random.default_rng(0).bytes(9 * 8))
IMAGES = {
    "a header of 50,000 x 50,000": lambda: png(50_000, 50_000, PIXELS),
    "a JPEG of 65,500 x 65,500": huge_jpeg,
    "10,000 x 10,000 zeros": lambda: png(10_000, 10_000, zeros(10_001 * 10_000)),
    "13,000 x 13,000 without the last row": lambda: png(13_000, 13_000, zeros(13_001 * 12_999)),
    "text that inflates": lambda: png(8, 8, PIXELS, chunk(b"zTXt", b"a\0\0" + bomb())),
    "international text that inflates": lambda: png(8, 8, PIXELS, chunk(b"iTXt", b"a\0\1\0\0\0" + bomb())),
    "a profile that inflates": lambda: png(8, 8, PIXELS, chunk(b"iCCP", b"a\0\0" + bomb())),
    "a PNG truncated in its pixels": lambda: png(8, 8, NOISE[:40])[:70],
    "a PNG truncated in its header": lambda: VALID[:20],
    "a JPEG truncated in its pixels": lambda: JPEG[:-30],
    "a JPEG truncated in its header": lambda: JPEG[:30],
    "a negative height": lambda: png(2**32 - 1, 8, PIXELS),
    "no pixels": lambda: png(0, 0, b""),
}


@functools.cache
def image_of(case):
    return IMAGES[case]()


EIGHT = PixelFormat("image", "bytes", (8, 8, 1))


@pytest.fixture
def narrow_batches(spark):
    """Batches that the images fit in, also by the rule for Spark before 4.0."""
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", 100)
    yield
    spark.conf.unset("spark.sql.execution.arrow.maxRecordsPerBatch")


# ---- pixels


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("case", IMAGES)
def test_a_bad_image_is_a_fault_of_its_row_alone_and_takes_little_memory(case):
    data = image_of(case)
    assert len(data) < 1 << 20
    with memory_grows_less_than(100 << 20):
        block, faults = to_pixels([VALID, data, VALID], EIGHT)
    assert not block[1].any()
    assert set(faults) == {1}
    assert faults[1].what.startswith(("is a damaged image (", "is an image of ")), faults


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("case", IMAGES)
def test_a_bad_image_takes_little_memory_where_pictures_are_resized(case):
    with memory_grows_less_than(100 << 20):
        block, faults = to_pixels([VALID, image_of(case), VALID], replace(EIGHT, resize=True))
    assert not block[1].any()
    assert set(faults) == {1}
    assert faults[1].what.startswith(("is a damaged image (", "is an image of ")), faults


def test_text_that_inflates_after_the_pixels_takes_little_memory():
    """It may be read or not."""
    data = png(8, 8, PIXELS, after=[chunk(b"zTXt", b"a\0\0" + bomb())])
    assert len(data) < 1 << 20
    with memory_grows_less_than(100 << 20):
        block, faults = to_pixels([VALID, data, VALID], EIGHT)
    assert not block[1].any()
    assert set(faults) <= {1}


def test_pixels_after_the_last_row_are_not_inflated():
    data = png(8, 8, bomb())
    with memory_grows_less_than(100 << 20):
        block, faults = to_pixels([data], EIGHT)
    assert block.shape == (1, 8, 8, 1)
    assert set(faults) <= {0}


# ---- fit and transform


def with_images(spark, *cases):
    """Twelve valid images in two classes, and the bad ones after them."""
    stripes = png(8, 8, zlib.compress(bytes([0, *range(1, 9)]) * 8))
    cells = [*[stripes, VALID] * 6, *map(image_of, cases)]
    rows = [(cell, float(index % 2), index) for index, cell in enumerate(cells)]
    return spark.createDataFrame(rows, "image binary, label double, id int").coalesce(1)


def classifier_of_images(**params):
    return small(numMembers=1, numClasses=2, featuresCol="image", **params)


@pytest.fixture(scope="module")
def scorer(spark):
    return classifier_of_images().fit(with_images(spark))


BOMBS = ["a header of 50,000 x 50,000", "10,000 x 10,000 zeros", "text that inflates"]


@pytest.mark.parametrize("case", BOMBS)
def test_fit_refuses_a_bomb_by_its_row(spark, narrow_batches, case):
    text = refused(classifier_of_images(idCol="id").fit, with_images(spark, case))
    assert text.startswith("Row id=12: column 'image' is a"), text


@pytest.mark.parametrize("case", BOMBS)
def test_transform_refuses_a_bomb(spark, narrow_batches, scorer, case):
    scored = scorer.transform(with_images(spark, case)).select("prediction")
    assert refused_by_job(scored).startswith("A row: column 'image' is a")


@pytest.mark.parametrize(("handle_invalid", "rows"), [("skip", 12), ("keep", 12 + len(IMAGES))])
def test_transform_leaves_out_every_bad_image(spark, narrow_batches, scorer, handle_invalid, rows):
    model = scorer.copy({scorer.handleInvalid: handle_invalid})
    scored = model.transform(with_images(spark, *IMAGES)).select("id", "prediction").collect()
    assert sorted(row["id"] for row in scored if row["prediction"] is not None) == list(range(12))
    assert len(scored) == rows


def test_fit_leaves_out_every_bad_image(spark, narrow_batches):
    model = classifier_of_images(handleInvalid="skip").fit(with_images(spark, *IMAGES))
    assert model.summary.skippedRows == len(IMAGES)
    assert model.members[0].rows == 12


def test_a_first_image_that_claims_to_be_huge_does_not_decide_the_shape(spark):
    classifier = classifier_of_images()
    classifier.clear(classifier.inputShape)
    huge = with_images(spark, "a header of 50,000 x 50,000").where(F.col("id") == 12)
    text = refused(classifier.fit, huge)
    assert "begins with an unreadable image (its header cannot be read); set 'inputShape'" in text
