"""Soft labels: which probabilities can be used, how the others are refused, and how many classes there are."""

import math

import pytest
from pyspark.ml.feature import OneHotEncoder
from pyspark.ml.functions import array_to_vector
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.mllib.linalg import Vectors as OldVectors
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DoubleType, StructType
from support.feature_forms import BRIGHT, DARK, two_by_two
from support.refusals import refused, refused_before_any_job

from spark_cnn_ensemble.rows.labels import labels_of

FAULTS = {
    "null": (None, "has no label where 3 probabilities were expected; fix the row"),
    "empty": ([], "has 0 probabilities where 3 were expected; REMEDY"),
    "short": ([0.5, 0.5], "has 2 probabilities where 3 were expected; REMEDY"),
    "long": ([0.25] * 4, "has 4 probabilities where 3 were expected; REMEDY"),
    "null element": ([1.0, None, 0.0], "has null, NaN or infinity among its probabilities; fix the row"),
    "NaN": ([1.0, math.nan, 0.0], "has null, NaN or infinity among its probabilities; fix the row"),
    "infinity": ([1.0, math.inf, 0.0], "has null, NaN or infinity among its probabilities; fix the row"),
    "beyond float": ([1.0, 1e300, 0.0], "has null, NaN or infinity among its probabilities; fix the row"),
    "negative": ([1.0, -0.5, 0.5], "has the probability -0.5 where numbers from 0 to 1 were expected; fix the row"),
    "sum 0": (
        [0.0, 0.0, 0.0],
        "has probabilities that are all 0; fix the row, or set dropLast=False if a OneHotEncoder made it",
    ),
    "sum 0.9": (
        [0.0, 0.4, 0.5],
        "has probabilities with the sum 0.9 where 1 was expected; divide them by their sum",
    ),
    "votes": ([3.0, 5.0, 2.0], "has probabilities with the sum 10.0 where 1 was expected; divide them by their sum"),
}
SOUND = {
    "one-hot": ([0.0, 0.0, 1.0], 2.0),
    "soft": ([0.2, 0.7, 0.1], 1.0),
    "a tie": ([0.2, 0.4, 0.4], 1.0),
    "rounded": ([0.3333, 0.3333, 0.3333], 0.0),
}


def as_vector(numbers):
    return Vectors.dense(numbers) if len(numbers) < 3 else Vectors.sparse(len(numbers), dict(enumerate(numbers)))


def read(spark, kind, cells):
    """The fault and the class of each cell, by its name."""
    schema = StructType().add("name", "string").add("label", kind)
    frame = spark.createDataFrame(list(cells.items()), schema)
    labels = labels_of(frame, "label")
    rows = frame.select("name", labels.fault(3, "REMEDY"), labels.index).collect()
    return {name: (fault, index) for name, fault, index in rows}


@pytest.fixture(scope="module")
def in_arrays(spark):
    return read(spark, ArrayType(DoubleType()), {name: cell for name, (cell, _) in {**FAULTS, **SOUND}.items()})


@pytest.fixture(scope="module")
def in_vectors(spark):
    cells = {name: cell for name, (cell, _) in {**FAULTS, **SOUND}.items() if cell is None or None not in cell}
    return read(spark, VectorUDT(), {name: cell and as_vector(cell) for name, cell in cells.items() if cell != []})


@pytest.mark.parametrize("case", FAULTS)
def test_what_is_wrong_with_an_array_is_said(in_arrays, case):
    assert in_arrays[case][0] == f"column 'label' {FAULTS[case][1]}"


@pytest.mark.parametrize("case", [name for name in FAULTS if name not in ("empty", "null element")])
def test_what_is_wrong_with_a_vector_is_said(in_vectors, case):
    assert in_vectors[case][0] == f"column 'label' {FAULTS[case][1]}"


@pytest.mark.parametrize("case", SOUND)
def test_the_class_is_the_first_with_the_largest_probability(in_arrays, in_vectors, case):
    assert in_arrays[case] == in_vectors[case] == (None, SOUND[case][1])


# ---- types


OTHER_TYPES = {
    "arrays of text": (
        lambda: F.array(F.lit("1")),
        "array<string>",
        "give one number per class, in an array of numbers",
    ),
    "arrays of arrays": (
        lambda: F.array(F.array(F.lit(1.0))),
        "array<array<double>>",
        "give one number per class, in an array of numbers",
    ),
    "text": (lambda: F.lit("1"), "string", "index the labels with a StringIndexer, or cast the column"),
}


@pytest.mark.parametrize("case", OTHER_TYPES)
def test_labels_of_another_type_are_refused_before_any_job(spark, case):
    value, kind, remedy = OTHER_TYPES[case]
    frame = spark.createDataFrame([(DARK,)], "features array<double>").withColumn("label", value())
    assert refused_before_any_job(spark, two_by_two().fit, frame) == (
        f"Column 'label' (parameter 'labelCol') is of type {kind}, but labels must be class indices 0, 1, 2, ..., or "
        f"vectors or arrays of probabilities; {remedy}."
    )


def test_old_vectors_are_refused_with_the_remedy(spark):
    frame = spark.createDataFrame([(DARK, OldVectors.dense([0.0, 1.0]))], ["features", "label"])
    text = refused(two_by_two().fit, frame)
    assert text.endswith("; convert a vector of pyspark.mllib with MLUtils.convertVectorColumnsToML(dataset, 'label').")


# ---- the number of classes


def soft(spark, *labels):
    """A frame (id, features, label) of these arrays of probabilities."""
    rows = [(index, (DARK, BRIGHT)[index % 2], label) for index, label in enumerate(labels)]
    return spark.createDataFrame(rows, "id long, features array<double>, label array<double>").coalesce(1)


def inferring(**params):
    return two_by_two(unset=["numClasses"], **params)


def test_the_length_of_the_rows_is_the_number_of_classes(spark):
    model = inferring().fit(soft(spark, [0.9, 0.1, 0.0], [0.2, 0.8, 0.0]))
    assert model.numClasses == 3
    assert model.members[0].classCounts == pytest.approx((1.1, 0.9, 0.0))
    assert model.members[0].classes == (0, 1)


@pytest.mark.parametrize("skip", ["error", "skip"])
def test_lengths_that_differ_are_refused_where_none_is_set(spark, skip):
    frame = soft(spark, [0.9, 0.1], [0.2, 0.8, 0.0])
    assert refused(inferring(handleInvalid=skip).fit, frame) == (
        "Column 'label' (parameter 'labelCol') holds 2 probabilities in one row and 3 in another; set 'numClasses' to "
        "the number of classes."
    )


def test_a_single_probability_per_row_is_refused(spark):
    assert "has 1 probabilities where at least 2 were expected; fix the row" in refused(
        inferring().fit, soft(spark, [1.0], [1.0])
    )


def test_rows_that_are_all_of_one_class_are_refused(spark):
    text = refused(inferring().fit, soft(spark, [0.0, 1.0], [0.0, 1.0]))
    assert text.startswith("All training rows have label 1 in column 'label' (parameter 'labelCol'; 2 rows were read)")


def test_another_number_of_classes_than_the_rows_have_is_refused_by_the_rows_id(spark):
    frame = soft(spark, [0.0, 1.0], [1.0, 0.0])
    text = refused(two_by_two(numClasses=3, idCol="id").fit, frame)
    assert text.startswith("Row id=") and text[7:].endswith(
        ": column 'label' has 2 probabilities where 3 were expected; fix the row, or change 'numClasses', which is 3, "
        "or set handleInvalid='skip' to leave such rows out."
    )


def test_the_metadata_of_a_one_hot_encoder_gives_the_number_of_classes(spark):
    frame = soft(spark, *[[1.0, 0.0]] * 4).withColumn("label", F.col("id").cast("double") % 3)
    encoder = OneHotEncoder(inputCol="label", outputCol="one_hot", dropLast=False)
    encoded = encoder.fit(frame).transform(frame)
    assert labels_of(encoded, "one_hot").num_classes == 3
    classifier = inferring(labelCol="one_hot")
    assert classifier.fit(encoded).members[0].classCounts == (2.0, 1.0, 1.0)
    assert refused_before_any_job(spark, two_by_two(labelCol="one_hot").fit, encoded) == (
        "Column 'one_hot' (parameter 'labelCol') holds 3 probabilities per row, but 'numClasses' is 2; set it to 3."
    )
    without_last = encoder.setDropLast(True).fit(frame).transform(frame)
    assert "set dropLast=False if a OneHotEncoder made it" in refused(classifier.fit, without_last)


@pytest.fixture
def growing(spark, tmp_path):
    """A frame whose labels are longer each time it is read."""

    def read(_):
        import pandas as pd

        count = len(list(tmp_path.iterdir()))
        (tmp_path / str(count)).touch()
        labels = [[1.0, *[0.0] * (1 + count)], [0.0, 1.0, *[0.0] * count]]
        yield pd.DataFrame({"features": [DARK, BRIGHT], "label": labels})

    return spark.range(1, numPartitions=1).mapInPandas(read, "features array<double>, label array<double>")


def test_rows_that_are_longer_when_they_are_read_again_are_refused(growing):
    assert refused(inferring(handleInvalid="skip").fit, growing) == (
        "A row: column 'label' has another number of probabilities, 3, but there were 2 when they were counted, so the "
        "DataFrame gave other rows when it was read again; persist it or set 'numClasses'."
    )


def test_vectors_and_arrays_of_one_content_are_drawn_alike(spark):
    frame = soft(spark, [0.9, 0.1], [0.2, 0.8], [0.4, 0.6])
    forms = {
        "vector": array_to_vector("label"),
        "double": F.col("label"),
        "float": F.col("label").cast("array<float>"),
    }
    rows = frame.select(labels_of(frame, "label").content).collect()
    for form in forms.values():
        other = frame.withColumn("label", form)
        assert other.select(labels_of(other, "label").content).collect() == rows


def test_names_of_classes_in_metadata_are_texts(spark):
    rows = spark.createDataFrame([(0,), (1,)], "label int")
    rows = rows.withMetadata("label", {"ml_attr": {"type": "nominal", "vals": [7, 9]}})
    assert labels_of(rows, "label").class_names == ["7", "9"]
