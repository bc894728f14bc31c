"""The same numbers give the same members in every type of features and labels."""

import numpy as np
import pytest
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.sql import functions as F
from pyspark.sql.types import BinaryType, IntegerType, LongType, StructField, StructType
from support.classifiers import small
from support.images import encoded
from support.members import digests
from support.scored import predictions_by_id


@pytest.fixture(scope="module")
def integers(spark, digits):
    """60 digits as (id, features array<int>, label)."""
    (x, y), _ = digits
    rows = [(index, x[index].ravel().tolist(), int(y[index])) for index in range(60)]
    return spark.createDataFrame(rows, "id long, features array<int>, label int").cache()


@pytest.fixture(scope="module")
def expected(integers):
    """The members of a fit on integers."""
    return digests(small(numMembers=2).fit(integers))


def with_features(spark, frame, kind, convert):
    """The same rows with each array of features converted to another type."""
    fields = [("id", LongType()), ("features", kind), ("label", IntegerType())]
    rows = [(row["id"], convert(row["features"]), row["label"]) for row in frame.collect()]
    return spark.createDataFrame(rows, StructType([StructField(name, kind) for name, kind in fields]))


def sparse(cell):
    return Vectors.sparse(len(cell), {index: float(value) for index, value in enumerate(cell) if value})


@pytest.mark.parametrize("kind", ["long", "float", "double", "short", "byte", "decimal(10,0)", "decimal(5,2)"])
def test_labels_of_any_numeric_type_are_equivalent(integers, expected, kind):
    model = small(numMembers=2).fit(integers.withColumn("label", F.col("label").cast(kind)))
    assert digests(model) == expected


@pytest.mark.parametrize("kind", ["float", "double", "long", "short", "byte", "decimal(4,1)"])
def test_arrays_of_any_numeric_type_are_equivalent(integers, expected, kind):
    model = small(numMembers=2).fit(integers.withColumn("features", F.col("features").cast(f"array<{kind}>")))
    assert digests(model) == expected


@pytest.mark.parametrize("kind", ["float", "double", "int", "short", "byte", "decimal(4,1)"])
@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1)], ids=["rows", "pixels"])
def test_arrays_of_arrays_of_any_numeric_type_are_equivalent(spark, integers, expected, kind, shape):
    nested = f"array<{kind}>"
    for _ in shape[1:]:
        nested = f"array<{nested}>"
    rows = [(row["id"], np.reshape(row["features"], shape).tolist(), row["label"]) for row in integers.collect()]
    whole = nested.replace(kind, "int")
    frame = spark.createDataFrame(rows, f"id long, features {whole}, label int")
    model = small(numMembers=2).fit(frame.withColumn("features", F.col("features").cast(nested)))
    assert model.inputShape == [8, 8, 1]
    assert digests(model) == expected
    assert predictions_by_id(model, frame) == predictions_by_id(model, integers)


def test_booleans_are_equivalent_to_0_and_1(integers):
    black_and_white = integers.withColumn("features", F.transform("features", lambda value: (value > 7).cast("int")))
    black_and_white = black_and_white.withColumn("label", F.col("label") % 2)
    booleans = black_and_white.withColumn("features", F.col("features").cast("array<boolean>"))
    booleans = booleans.withColumn("label", F.col("label").cast("boolean"))
    classifier = small(numMembers=2, idCol="id", numClasses=2)
    model = classifier.fit(booleans)
    assert digests(model) == digests(classifier.fit(black_and_white))
    assert model.evaluate(booleans).accuracy == model.evaluate(black_and_white).accuracy


DOTTED = {
    "fields of structs": lambda frame: frame.select(
        F.struct("id", F.struct("features").alias("image")).alias("row"), F.struct("label").alias("target")
    ),
    "a struct whose name has a dot": lambda frame: frame.select(
        F.struct("features").alias("row.image"), F.struct("id").alias("row"), F.struct("label").alias("target")
    ),
    "columns whose names have dots": lambda frame: frame.select(
        F.col("id").alias("row.id"),
        F.col("features").alias("row.image.features"),
        F.col("label").alias("target.label"),
        F.struct(F.lit(None).cast("string").alias("id")).alias("row"),
        F.struct(F.lit("no label").alias("label")).alias("target"),
    ),
}


@pytest.mark.parametrize("case", DOTTED)
def test_a_dotted_name_is_a_column_or_else_a_path_into_structs(integers, case):
    frame = DOTTED[case](integers)
    classifier = small(numMembers=2, featuresCol="row.image.features", labelCol="target.label", idCol="row.id")
    model = classifier.fit(frame)
    assert digests(model) == digests(small(numMembers=2, idCol="id").fit(integers))
    assert model.evaluate(frame).rows == 60
    assert model.transform(frame).where("prediction IS NULL").count() == 0


@pytest.mark.parametrize("features", ["image", "image.bytes"])
def test_structs_of_bytes_and_path_are_equivalent_to_bytes(spark, integers, features):
    """As data sets of Hugging Face have them."""
    files = with_features(
        spark, integers, BinaryType(), lambda cell: encoded(np.reshape(cell, (8, 8)).astype(np.uint8))
    )
    path = F.concat(F.lit("digits/"), F.col("id").cast("string"), F.lit(".png"))
    structs = files.select("id", F.struct(F.col("features").alias("bytes"), path.alias("path")).alias("image"), "label")
    classifier = small(numMembers=2, idCol="id")
    model = classifier.copy().setFeaturesCol(features).fit(structs)
    assert digests(model) == digests(classifier.fit(files))
    assert model.evaluate(structs).rows == 60


@pytest.mark.parametrize("convert", [Vectors.dense, sparse], ids=["dense", "sparse"])
def test_vectors_are_equivalent_to_arrays(spark, integers, expected, convert):
    model = small(numMembers=2).fit(with_features(spark, integers, VectorUDT(), convert))
    assert digests(model) == expected


def test_bytes_are_equivalent_to_arrays_if_rows_have_an_id(spark, integers):
    classifier = small(numMembers=2, idCol="id")
    by_bytes = classifier.fit(with_features(spark, integers, BinaryType(), bytes))
    assert digests(by_bytes) == digests(classifier.fit(integers))


def test_doubles_are_equivalent_to_the_floats_they_are_rounded_to(integers):
    classifier = small(numMembers=2)
    doubles = integers.withColumn("features", F.transform("features", lambda value: value.cast("double") / 7))
    floats = doubles.withColumn("features", F.col("features").cast("array<float>"))
    assert digests(classifier.fit(doubles)) == digests(classifier.fit(floats))
