"""Colour images give the same members and votes in every column that can hold them."""

import numpy as np
import pytest
from pyspark.sql import functions as F
from support.classifiers import small
from support.feature_forms import frame_of_cells, image_struct
from support.images import encoded
from support.members import digests
from support.refusals import refused
from support.scored import predictions_by_id


@pytest.fixture(scope="module")
def images():
    """Images of noise in three classes: red, green or blue is strongest."""
    rng = np.random.default_rng(11)
    labels = np.arange(48) % 3
    pixels = rng.integers(0, 160, (48, 6, 6, 3), np.uint8)
    pixels[np.arange(48), :, :, labels] += 90
    return pixels, labels


@pytest.fixture(scope="module")
def frame_of(spark, images):
    """A function that makes a DataFrame (id, features, label) of the images in some form."""

    def frame(convert, kind):
        rows = [(index, convert(image), int(label)) for index, (image, label) in enumerate(zip(*images, strict=True))]
        return spark.createDataFrame(rows, f"id long, features {kind}, label int").cache()

    return frame


@pytest.fixture(scope="module")
def raw(frame_of):
    """The images as raw bytes."""
    return frame_of(lambda image: image.tobytes(), "binary")


@pytest.fixture(scope="module")
def classifier():
    return small(
        numMembers=2, inputShape=[6, 6, 3], numClasses=3, epochs=15, learningRate=1e-2, batchSize=8, idCol="id"
    )


@pytest.fixture(scope="module")
def model(classifier, raw):
    return classifier.fit(raw)


def without_shape(classifier):
    unset = classifier.copy()
    unset.clear(unset.inputShape)
    return unset


def test_colours_are_learned(model, raw):
    assert model.evaluate(raw).accuracy > 0.9


def test_a_folder_of_images_is_equivalent_to_raw_bytes(spark, images, classifier, model, raw, tmp_path):
    """Spark's images are BGR: members that equal those of RGB bytes have seen them converted."""
    for index, (image, label) in enumerate(zip(*images, strict=True)):
        (tmp_path / f"{index:03d}-{label}.png").write_bytes(encoded(image))
    index, label = (F.regexp_extract("image.origin", r"(\d+)-(\d)\.png$", group).cast("int") for group in (1, 2))
    folder = spark.read.format("image").load(str(tmp_path))
    folder = folder.select(index.cast("long").alias("id"), F.col("image"), label.alias("label"))
    assert folder.count() == 48
    by_image = classifier.copy().setFeaturesCol("image")
    fitted = by_image.fit(folder)
    assert digests(fitted) == digests(model)
    assert predictions_by_id(fitted, folder) == predictions_by_id(model, raw)
    assert without_shape(by_image).fit(folder).inputShape == [6, 6, 3]


def test_encoded_images_are_equivalent_to_raw_bytes(frame_of, classifier, model, raw):
    files = frame_of(encoded, "binary")
    assert digests(classifier.fit(files)) == digests(model)
    assert predictions_by_id(model, files) == predictions_by_id(model, raw)
    assert without_shape(classifier).fit(files).inputShape == [6, 6, 3]


def test_arrays_of_numbers_are_equivalent_to_raw_bytes(frame_of, classifier, model, raw):
    numbers = frame_of(lambda image: image.ravel().astype(float).tolist(), "array<double>")
    assert digests(classifier.fit(numbers)) == digests(model)
    assert predictions_by_id(model, numbers) == predictions_by_id(model, raw)


@pytest.mark.parametrize("height", [0, None])
def test_an_image_struct_of_no_size_is_refused_where_pictures_are_resized(spark, height):
    rows = frame_of_cells(spark, "image", [image_struct(), image_struct(b"", height)])
    classifier = small(featuresCol="features", inputShape=[2, 2, 1], resizeImages=True, numClasses=2)
    assert "is an unreadable image" in refused(classifier.fit, rows)


def test_pictures_are_resized_where_spark_makes_text_of_joined_bytes(spark):
    pixels = [bytes([0, 50, 200, 255]), bytes([255, 130, 10, 3])]  # no UTF-8
    rows = frame_of_cells(spark, "image", [image_struct(pixels[index % 2]) for index in range(12)])
    model = small(
        featuresCol="features", inputShape=[4, 4, 1], bagging="subsample", resizeImages=True, numClasses=2, epochs=1
    ).fit(rows)
    expected = model.transform(rows).select("rawPrediction").collect()
    spark.conf.set("spark.sql.function.concatBinaryAsString", "true")
    try:
        assert model.transform(rows).select("rawPrediction").collect() == expected
    finally:
        spark.conf.unset("spark.sql.function.concatBinaryAsString")
