"""Files of handwritten digits as people have them are learned: transparent, of 16 bits, of many sizes, mixed."""

import numpy as np
import pytest
from PIL import Image
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.feature import StringIndexer
from pyspark.sql import functions as F
from support.classifiers import small
from support.images import encoded
from support.members import digests

SCHEMA = "id long, features binary, label int"


def files(spark, arrays, convert, count=400):
    """Digits, each converted to the bytes of a file by `convert(index, pixels)`."""
    x, y = arrays
    rows = [(index, convert(index, x[index].reshape(8, 8)), int(y[index])) for index in range(count)]
    return spark.createDataFrame(rows, SCHEMA).coalesce(1)


def ink(index, pixels):
    """Black ink on a transparent ground."""
    black = Image.new("L", (8, 8))
    return encoded(Image.merge("LA", [black, Image.fromarray((pixels * 15).astype(np.uint8))]))


def deep(index, pixels):
    """16 bits of grey whose highest 8 show nothing."""
    return encoded((pixels * 15).astype(np.uint16))


def of_many_sizes(index, pixels):
    """Grey and colour, upright and wide, two to four times as large."""
    picture = Image.fromarray((pixels * 15).astype(np.uint8))
    picture = picture.convert(("L", "RGB", "RGBA")[index % 3])
    side = 8 * (2 + index % 3)
    return encoded(picture.resize((side, side + index % 4)), ("PNG", "JPEG")[index % 3 < 2 and index % 2])


def grey(index, pixels):
    return encoded((pixels * 15).astype(np.uint8))


CASES = {
    "transparent": (ink, {}),
    "16 bits": (deep, {}),
    "many sizes": (of_many_sizes, {"resizeImages": True, "inputShape": [8, 8, 1]}),
}


@pytest.fixture(scope="module")
def learner():
    return small(numMembers=2, idCol="id", epochs=20, learningRate=5e-3, batchSize=20)


@pytest.fixture(scope="module")
def plain(spark, digits, learner):
    """Accuracy on digits that are plain grey files."""
    train, test = digits
    return learner.fit(files(spark, train, grey)).evaluate(files(spark, test, grey, 300)).accuracy


@pytest.mark.parametrize("case", CASES)
def test_such_files_are_learned_as_well_as_plain_ones(spark, digits, learner, plain, case):
    convert, params = CASES[case]
    train, test = digits
    model = learner.copy().setParams(**params).fit(files(spark, train, convert))
    assert model.inputShape == [8, 8, 1]
    assert model.evaluate(files(spark, test, convert, 300)).accuracy > plain - 0.07


def test_16_bits_go_through_the_whole_of_a_fit(spark, digits):
    """The out-of-bag sample and the pictures of disputed rows hold numbers above 255."""
    x, y = digits[0]
    levels = x.reshape(-1, 8, 8)[:300].astype(np.uint16) * 4000
    rows = [(index, encoded(levels[index]), levels[index].ravel().tolist(), int(y[index])) for index in range(300)]
    frame = spark.createDataFrame(rows, "id long, features binary, numbers array<int>, label int").coalesce(1)
    classifier = small(numMembers=3, idCol="id", epochs=2, oobSampleSize=100)
    pictures, arrays = classifier.fit(frame), classifier.copy().setFeaturesCol("numbers").fit(frame)
    assert digests(pictures) == digests(arrays)
    assert pictures.summary.outOfBag.rows == 100
    assert np.array_equal(pictures.summary.outOfBag.votes, arrays.summary.outOfBag.votes)
    assert pictures.summary.outOfBag.disputedRows == arrays.summary.outOfBag.disputedRows
    assert pictures.evaluate(frame).accuracy == arrays.evaluate(frame).accuracy


def test_resizing_is_part_of_a_saved_pipeline_and_of_a_stream(spark, digits, tmp_path):
    train, test = digits
    named = files(spark, train, of_many_sizes).withColumn("name", F.concat(F.lit("digit "), "label"))
    classifier = small(numMembers=2, labelCol="index", resizeImages=True, inputShape=[8, 8, 1], idCol="id")
    stages = [StringIndexer(inputCol="name", outputCol="index", handleInvalid="keep"), classifier]
    Pipeline(stages=stages).fit(named).save(str(tmp_path / "pipeline"))
    loaded = PipelineModel.load(str(tmp_path / "pipeline"))
    files(spark, test, of_many_sizes, 60).withColumn("name", F.lit("?")).write.parquet(str(tmp_path / "new"))
    expected = loaded.transform(spark.read.parquet(str(tmp_path / "new"))).select("id", "prediction").collect()
    stream = spark.readStream.schema(f"{SCHEMA}, name string").parquet(str(tmp_path / "new"))
    query = loaded.transform(stream).select("id", "prediction").writeStream.format("memory").queryName("resized")
    query = query.trigger(availableNow=True).start()
    query.awaitTermination(120)
    assert sorted(spark.table("resized").collect()) == sorted(expected)
    assert len(expected) == 60


@pytest.mark.parametrize("verbose", [0, 1])
def test_a_guess_is_shown_unless_silence_is_wanted(spark, digits, capsys, verbose):
    train, _ = digits
    mixed = files(spark, train, lambda index, pixels: grey(index, pixels if index else pixels[:4]), 40)
    small(numMembers=1, verbose=verbose, handleInvalid="skip", idCol="id", inputShape=None).fit(mixed)
    shown = "inputShape [8, 8, 1]: inferred from the first 40 rows: 39 of 8x8x1, 1 of 4x8x1.\n"
    assert (shown in capsys.readouterr().err) == bool(verbose)
