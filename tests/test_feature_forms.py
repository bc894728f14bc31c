"""The same numbers give the same members in every type of features and labels."""

import pytest
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.sql import functions as F
from pyspark.sql.types import BinaryType, IntegerType, LongType, StructField, StructType
from support.classifiers import small
from support.members import digests


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
