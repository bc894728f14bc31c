"""A picture of another size is refused by the name of its file, and each remedy that the sentence names works."""

import re

import numpy as np
import pytest
from PIL import Image
from pyspark.sql import functions as F
from support.feature_forms import image_struct, two_by_two
from support.images import encoded
from support.refusals import refused, refused_by_job

from spark_cnn_ensemble import CNNEnsembleClassificationModel

RESIZE = "set resizeImages=True to resize pictures, "
OR_SKIP = ", or set handleInvalid='skip' to leave such rows out"
GIVEN = "fix the row, or change 'inputShape', which is [2, 2, 1]"
INFERRED = "fix the row, or set 'inputShape', which was inferred from the first rows as [2, 2, 1]"
OF_MODEL = "give rows of the model's inputShape, [2, 2, 1]"
ODD = "file:/pictures/odd.png"


def small_picture(index):
    return np.full((2, 2), (0, 200)[index % 2], np.uint8)


def large_picture():
    """A bright picture of 3x5 pixels."""
    return np.full((3, 5), 200, np.uint8)


def struct_of(image, path):
    return (path, *image_struct(image.tobytes(), *image.shape)[1:])


FORMS = {
    "bytes beside a path": ("path string, features binary", lambda image, path: (path, encoded(image))),
    "a struct of bytes and path": (
        "path int, features struct<bytes:binary,path:string>",
        lambda image, path: (0, (encoded(image), path)),
    ),
    "an image struct": (
        "path int, features struct<origin:string,height:int,width:int,nChannels:int,mode:int,data:binary>",
        lambda image, path: (0, struct_of(image, path)),
    ),
}


@pytest.fixture(scope="module", params=FORMS)
def with_an_odd_one(request, spark):
    """Eight pictures of 2x2 pixels in two classes, and one of another size that is bright like the odd ones."""
    schema, cell = FORMS[request.param]
    rows = [(index % 2, *cell(small_picture(index), f"file:/pictures/{index}.png")) for index in range(8)]
    rows.insert(0, (1, *cell(large_picture(), ODD)))
    return spark.createDataFrame(rows, f"label int, {schema}").coalesce(1).cache()


@pytest.fixture(scope="module")
def resizing(with_an_odd_one):
    return two_by_two(resizeImages=True, epochs=20, learningRate=1e-2).fit(with_an_odd_one)


def without_depth(text):
    """A refusal where an image struct's size has no channels."""
    return text.replace("3x5x1", "3x5 pixels").replace("2x2x1 was", "2x2 were")


@pytest.mark.parametrize(("unset", "remedy"), [([], GIVEN), (["inputShape"], INFERRED)], ids=["given", "inferred"])
def test_fit_names_the_file_the_resizing_and_the_source_of_the_shape(with_an_odd_one, unset, remedy):
    text = refused(two_by_two(unset=unset).fit, with_an_odd_one)
    assert without_depth(text) == (
        f"Row {ODD}: column 'features' is an image of 3x5 pixels where 2x2 were expected; {RESIZE}{remedy}{OR_SKIP}."
    )


def test_with_an_id_the_id_names_the_row(with_an_odd_one):
    frame = with_an_odd_one.withColumn("id", F.when(F.rand() < 2, F.lit("seven")))
    assert refused(two_by_two(idCol="id").fit, frame).startswith("Row id=seven: column 'features' is an image of 3x5")


def test_a_row_with_a_null_id_is_named_by_its_file(with_an_odd_one):
    frame = with_an_odd_one.withColumn("id", F.lit(None).cast("long"))
    assert refused(two_by_two(idCol="id").fit, frame).startswith(f"Row {ODD}: column 'features' is an image of 3x5")


def test_the_remedy_of_fit_works(with_an_odd_one, resizing):
    assert resizing.inputShape == [2, 2, 1]
    assert resizing.summary.rows == 9
    assert resizing.summary.skippedRows == 0
    inferred = two_by_two(unset=["inputShape"], resizeImages=True).fit(with_an_odd_one)
    assert inferred.inputShape == [2, 2, 1]


def test_scoring_names_the_file_and_its_remedy_works(with_an_odd_one):
    model = two_by_two(handleInvalid="skip", epochs=20, learningRate=1e-2).fit(with_an_odd_one)
    assert model.summary.skippedRows == 1
    model = model.setHandleInvalid("error")
    expected = re.escape(f"Row {ODD}: column 'features' is an image of 3x5 pixels where 2x2 were expected; {RESIZE}")
    for text in (refused_by_job(model.transform(with_an_odd_one)), refused(model.evaluate, with_an_odd_one)):
        rest = re.escape(f"{OF_MODEL}{OR_SKIP}") + "(, or 'keep' for a null prediction)?"
        assert re.fullmatch(rf"{expected}{rest}\.", without_depth(text)), text
    model.setResizeImages(True)
    assert model.evaluate(with_an_odd_one).accuracy == 1
    assert model.transform(with_an_odd_one).where("prediction = label").count() == 9


def test_a_loaded_model_scores_as_it_trained(with_an_odd_one, resizing, tmp_path):
    resizing.save(str(tmp_path / "model"))
    loaded = CNNEnsembleClassificationModel.load(str(tmp_path / "model"))
    assert loaded.getResizeImages()
    scored = loaded.transform(with_an_odd_one).select("prediction", "label").collect()
    assert all(row.prediction == row.label for row in scored)
    assert scored == resizing.transform(with_an_odd_one).select("prediction", "label").collect()


def test_grey_and_colour_are_one_size_if_resized(spark):
    """Spark's reader gives a grey file one channel, a colour file three."""
    grey, colour = struct_of(small_picture(1), "grey"), image_struct(bytes(12), 2, 2, 3)
    schema = "features struct<origin:string,height:int,width:int,nChannels:int,mode:int,data:binary>, label int"
    frame = spark.createDataFrame([(grey, 1), *[(colour, 0)] * 3], schema).coalesce(1)
    classifier = two_by_two(unset=["inputShape"])
    text = refused(classifier.fit, frame)
    assert text.startswith(f"Row grey: column 'features' is an image of 2x2x1 where 2x2x3 was expected; {RESIZE}"), text
    assert classifier.setResizeImages(True).fit(frame).inputShape == [2, 2, 3]


def test_a_folder_of_files_names_the_file(spark, tmp_path):
    for index in range(4):
        Image.fromarray(small_picture(index)).save(tmp_path / f"{index}.png")
    Image.fromarray(large_picture()).save(tmp_path / "odd one.png")
    files = spark.read.format("binaryFile").load(str(tmp_path))
    files = files.withColumn("label", F.expr("path LIKE '%odd%'"))
    text = refused(two_by_two(featuresCol="content").fit, files)
    assert text.startswith(f"Row file:{tmp_path}/odd one.png: column 'content' is an image of 3x5"), text


def test_numbers_of_another_length_name_the_param(spark):
    frame = spark.createDataFrame([([0.0] * 4, 0), ([0.0] * 9, 1), ([1.0] * 4, 1)], "features array<double>, label int")
    start = "A row: column 'features' has 9 numbers where 4 were expected; "
    assert refused(two_by_two().fit, frame) == f"{start}{GIVEN}{OR_SKIP}."
    assert refused(two_by_two(unset=["inputShape"]).fit, frame) == f"{start}{INFERRED}{OR_SKIP}."
