"""A frame that cannot be scored is refused before any job, a row when it is scored; "skip" and "keep" are exact."""

import re

import pytest
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.linalg import Vectors
from pyspark.sql import functions as F
from support.feature_forms import (
    BAD_LABELS,
    DARK,
    FORMS,
    INF,
    NAN,
    TOO_LARGE_LABELS,
    frame_of_cells,
    frame_of_labels,
    values_of,
)
from support.refusals import refused, refused_before_any_job, refused_by_job

from spark_cnn_ensemble import CNNEnsembleClassificationModel

SKIP = "; [^;]+, or set handleInvalid='skip' to leave such rows out"
KEEP = f"{SKIP}(, or 'keep' for a null prediction)?"  # not of image structs
FAULTS = [pytest.param(name, fault, id=f"{name}-{fault}") for name, form in FORMS.items() for fault in form.faults]
OUTPUTS = ["prediction", "rawPrediction", "probability"]
LABELS = {**BAD_LABELS, **TOO_LARGE_LABELS}


# ---- schema


def three_long(frame):
    """Features as vectors whose metadata gives their length, 3."""
    assembler = VectorAssembler(inputCols=["weight"] * 3, outputCol="features")
    return assembler.transform(frame.drop("features"))


SCHEMAS = {
    "no features": (
        lambda frame: frame.drop("features"),
        r"^The DataFrame has no column 'features' \(parameter 'featuresCol'\), only .*; set 'featuresCol'\.$",
    ),
    "features twice": (
        lambda frame: frame.select("*", "features"),
        r"more than one column 'features' \(parameter 'featuresCol'\)",
    ),
    "text": (
        lambda frame: frame.withColumn("features", F.lit("1 2 3")),
        r"^Column 'features' \(parameter 'featuresCol'\) is of type string, but features must be a vector, an array of "
        r"numbers, .*, or a struct of bytes and path; convert the column or set 'featuresCol'\.$",
    ),
    "vector of another length": (
        three_long,
        r"^Column 'features' \(parameter 'featuresCol'\) has 3 numbers per row, but inputShape \[2, 2, 1\] needs 4; give "
        r"vectors of that length\.$",
    ),
}


@pytest.mark.parametrize("case", SCHEMAS)
@pytest.mark.parametrize("act", ["transform", "evaluate"])
def test_features_that_cannot_be_scored_are_refused(spark, scorer, good, case, act):
    change, sentence = SCHEMAS[case]
    text = refused_before_any_job(spark, getattr(scorer, act), change(good))
    assert re.search(sentence, text), text


@pytest.mark.parametrize("name", OUTPUTS)
def test_an_output_over_an_existing_column_is_refused(spark, scorer, good, name):
    text = refused_before_any_job(spark, scorer.transform, good.withColumn(name, F.lit(0.0)))
    assert text == (
        f"The DataFrame has a column '{name}' already (parameter '{name}Col'); drop it, or set '{name}Col' to another "
        "name or to '' to leave the output out."
    )


def test_a_name_that_spark_takes_for_that_of_an_output_is_refused(spark, scorer, good):
    text = refused_before_any_job(spark, scorer.transform, good.withColumn("PREDICTION", F.lit(0.0)))
    assert text.startswith("The DataFrame has a column 'PREDICTION' already (parameter 'predictionCol'); drop it"), text
    spark.conf.set("spark.sql.caseSensitive", "true")
    try:
        assert {"PREDICTION", "prediction"} < set(scorer.transform(good.withColumn("PREDICTION", F.lit(0.0))).columns)
    finally:
        spark.conf.unset("spark.sql.caseSensitive")


def test_two_outputs_of_the_same_name_are_refused(scorer, good):
    text = refused(scorer.copy({scorer.probabilityCol: "rawPrediction"}).transform, good)
    assert text.startswith("The DataFrame has a column 'rawPrediction' already (parameter 'probabilityCol')"), text


@pytest.mark.parametrize("thresholds", [[0.5], [0.5] * 3], ids=["one", "three"])
@pytest.mark.parametrize("act", ["transform", "evaluate", "predict"])
def test_thresholds_that_are_not_one_per_class_are_refused(spark, scorer, good, thresholds, act):
    model = scorer.copy({scorer.thresholds: thresholds})
    data = Vectors.dense(DARK) if act == "predict" else good
    assert refused_before_any_job(spark, getattr(model, act), data) == (
        "The 'thresholds' parameter of CNNEnsembleClassificationModel must have a value for each of the 2 classes. Got "
        f"{len(thresholds)} instead."
    )


def test_a_model_without_members_is_refused(good):
    text = refused(CNNEnsembleClassificationModel().transform, good, kind=RuntimeError)
    assert text == "This CNNEnsembleClassificationModel has no members; get one from CNNEnsembleClassifier.fit or load."


# ---- rows


@pytest.mark.parametrize(("form", "fault"), FAULTS)
def test_a_bad_row_is_refused_by_transform_when_it_is_scored(spark, scorer, form, fault):
    cell, description = FORMS[form].faults[fault]
    text = refused_by_job(scorer.transform(frame_of_cells(spark, form, [*FORMS[form].valid, cell])))
    named = isinstance(cell, tuple) and "file:/digits/7.png" in cell
    row = r"Row file:/digits/7\.png" if named else "A row"
    assert re.fullmatch(rf"{row}: column 'features' {description}[^;]*{KEEP}\.", text), text


@pytest.mark.parametrize("form", FORMS)
def test_a_bad_row_is_refused_by_evaluate(spark, scorer, form):
    cell, description = list(FORMS[form].faults.values())[1]
    text = refused(scorer.evaluate, frame_of_cells(spark, form, [*FORMS[form].valid, cell]))
    assert re.fullmatch(rf"(A row|Row [^ ]*): column 'features' {description}[^;]*{KEEP}\.", text), text


@pytest.mark.parametrize("form", FORMS)
def test_skip_drops_and_keep_keeps_exactly_the_bad_rows(spark, scorer, form):
    valid, faults = FORMS[form].valid, values_of(FORMS[form].faults)
    cells, bad = [], set()
    for fault in faults:  # valid and bad rows by turns
        cells.append(valid[len(cells) // 2 % 2])
        bad.add(len(cells))
        cells.append(fault)
    cells.append(valid[0])
    frame = frame_of_cells(spark, form, cells)
    clean = {row["id"]: row for row in scorer.transform(frame.where(~F.col("id").isin(*bad))).collect()}

    kept = scorer.copy().setHandleInvalid("keep").transform(frame).collect()
    assert {row["id"] for row in kept} == set(range(len(cells)))
    for row in kept:
        expected = [None] * 3 if row["id"] in bad else [clean[row["id"]][name] for name in OUTPUTS]
        assert [row[name] for name in OUTPUTS] == expected, row["id"]

    skipping = scorer.copy().setHandleInvalid("skip")
    skipped = skipping.transform(frame)
    assert {row["id"]: [row[name] for name in OUTPUTS] for row in skipped.collect()} == {
        index: [row[name] for name in OUTPUTS] for index, row in clean.items()
    }
    assert skipped.count() == len(clean)
    assert skipping.evaluate(frame).skippedRows == len(bad)
    assert skipping.evaluate(frame).rows == len(clean)


# ---- labels


def test_evaluate_refuses_a_frame_without_labels(scorer, good):
    assert "'label' (parameter 'labelCol')" in refused(scorer.evaluate, good.drop("label"))


def test_evaluate_refuses_labels_of_text(scorer, good):
    assert "is of type string" in refused(scorer.evaluate, good.withColumn("label", F.lit("1")))


@pytest.mark.parametrize("case", LABELS)
def test_evaluate_refuses_a_bad_label(spark, scorer, case):
    label, fault = LABELS[case]
    text = refused(scorer.evaluate, frame_of_labels(spark, [0.0, label]))
    assert re.fullmatch(rf"A row: column 'label' {fault} where a whole number 0 to 1 was expected{SKIP}\.", text), text


@pytest.mark.parametrize("handle_invalid", ["skip", "keep"])
def test_evaluate_leaves_out_bad_labels_and_features_together(spark, scorer, handle_invalid):
    labels = [0.0, 1.0, *values_of(LABELS)]
    no_features = frame_of_labels(spark, [1.0]).withColumn("features", F.lit(None))
    evaluation = (
        scorer.copy().setHandleInvalid(handle_invalid).evaluate(frame_of_labels(spark, labels).union(no_features))
    )
    assert (evaluation.rows, evaluation.skippedRows) == (2, len(labels) - 1)


@pytest.mark.parametrize("case", ["no rows", "no partitions", "only bad rows"])
def test_evaluate_refuses_a_frame_without_usable_rows(spark, scorer, good, case):
    frame = {
        "no rows": good.where("id < 0"),
        "no partitions": frame_of_cells(spark, "array", []),
        "only bad rows": frame_of_cells(spark, "array", values_of(FORMS["array"].faults)),
    }[case]
    model = scorer.copy().setHandleInvalid("skip") if case == "only bad rows" else scorer
    text = refused(model.evaluate, frame)
    assert text == (
        "The DataFrame has no rows that can be scored; check its features and labels (handleInvalid leaves rows out), or "
        "give other rows."
    )


# ---- single vectors

VECTORS = {
    "short": (Vectors.dense(DARK[:3]), "has 3 numbers where 4 were expected"),
    "sparse and long": (Vectors.sparse(5, {0: 1.0}), "has 5 numbers where 4 were expected"),
    "NaN": (Vectors.dense([0.0, NAN, 0.0, 0.0]), "has null, NaN or infinity at position 1"),
    "-infinity": (
        Vectors.dense([0.0, 0.0, 0.0, -INF]),
        "has infinity or a number beyond 3.4e+38, the largest of float32 (scale the column) at position 3",
    ),
    "beyond float": (
        Vectors.dense([0.0, 1e300, 0.0, 0.0]),
        "has a number beyond 3.4e+38, the largest of float32 (scale the column) at position 1",
    ),
    "empty": ([], "has 0 numbers where 4 were expected"),
}


@pytest.mark.parametrize("case", VECTORS)
@pytest.mark.parametrize("act", ["predict", "predictRaw", "predictProbability"])
def test_a_bad_vector_is_refused(scorer, act, case):
    vector, fault = VECTORS[case]
    assert refused(getattr(scorer, act), vector) == f"The vector {fault}; give the 4 numbers of one image."
