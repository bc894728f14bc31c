"""What a Spark ML estimator and its model must satisfy: the definition of this component in numbered checks.

The checks come from the test suites of pyspark.ml, scikit-learn, xgboost.spark and spark-rapids-ml. Tests of one check
share its number. Number 23, out-of-bag estimates, is in `fit/test_out_of_bag.py`.
"""

import copy
import inspect
import json
import pickle
import shutil
import threading
from io import BytesIO
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyspark.ml import Pipeline
from pyspark.ml.classification import OneVsRest
from pyspark.ml.evaluation import MulticlassClassificationEvaluator
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.functions import array_to_vector
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder, TrainValidationSplit
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, StructField, StructType
from support.classifiers import small
from support.digits import first_digits
from support.instances import assert_same, param_values, round_trip
from support.members import digests, weights_of
from support.param_values import OUT_OF_RANGE
from support.processes import output_of, start_python
from support.refusals import tasks_per_stage
from support.scored import OUTPUTS, votes_by_id

from spark_cnn_ensemble import CNNEnsembleClassificationModel, CNNEnsembleClassifier
from spark_cnn_ensemble.datasets import to_dataframe
from spark_cnn_ensemble.engine import engine_of
from spark_cnn_ensemble.fit.members import place_bags
from spark_cnn_ensemble.rows.draw import draw_of
from spark_cnn_ensemble.rows.training_rows import explode_bags
from spark_cnn_ensemble.worker.decision import majority
from spark_cnn_ensemble.worker.network import Architecture
from spark_cnn_ensemble.worker.pixels import PixelFormat
from spark_cnn_ensemble.worker.voting_plan import VotingPlan
from spark_cnn_ensemble.worker.weights import digest

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def few(spark, digits):
    """200 rows of digits (id, features, label)."""
    return first_digits(spark, digits)


@pytest.fixture(scope="module")
def one_member(few):
    """The member of `small(numMembers=1)` on `few`, as a digest."""
    return digests(small(numMembers=1).fit(few))


@pytest.fixture(scope="module")
def one_member_by_id(few):
    """The same with bags drawn by id."""
    return digests(small(numMembers=1, idCol="id").fit(few))


def without_num_classes(**params):
    """A small classifier that must find the number of classes."""
    classifier = small(**params)
    classifier.clear(classifier.numClasses)
    return classifier


# ------------------------------------------------------------------------------------- Params

KEYWORDS = {
    name: keyword
    for name, keyword in inspect.signature(CNNEnsembleClassifier.__init__).parameters.items()
    if name != "self"
}


def capitalized(name):
    return name[0].upper() + name[1:]


def assert_params_are_documented(instance):
    names = [param.name for param in instance.params]
    assert names == sorted(names)
    assert all(param.parent == instance.uid for param in instance.params)
    assert all(param.doc.strip() for param in instance.params)
    assert [line.split(":")[0] for line in instance.explainParams().splitlines()] == names


def test_01_params_of_the_estimator_are_owned_sorted_and_documented():
    assert_params_are_documented(CNNEnsembleClassifier())


def test_01_params_of_a_model_are_owned_sorted_and_documented(model):
    assert_params_are_documented(model)


def test_02_the_keywords_of_the_constructor_are_the_params():
    assert all(keyword.kind is keyword.KEYWORD_ONLY for keyword in KEYWORDS.values())
    assert set(KEYWORDS) == {param.name for param in CNNEnsembleClassifier().params}


@pytest.mark.parametrize("name", KEYWORDS)
def test_02_the_default_of_a_keyword_is_that_of_its_param(name):
    classifier, keyword = CNNEnsembleClassifier(), KEYWORDS[name]
    assert not classifier.isSet(name)
    if keyword.default is None:
        assert not classifier.hasDefault(name)
    else:
        default = classifier.getOrDefault(name)
        assert (type(default), default) == (type(keyword.default), keyword.default)
        assert getattr(classifier, f"get{capitalized(name)}")() == default


@pytest.mark.parametrize(("prefix", "others"), [("set", {"Params"}), ("get", {"OrDefault", "Param"})])
def test_02_each_param_has_a_setter_and_a_getter(prefix, others):
    methods = [name for name in dir(CNNEnsembleClassifier()) if name.startswith(prefix) and name[3:4].isupper()]
    assert {name[3:] for name in methods} == {capitalized(name) for name in KEYWORDS} | others


def test_02_the_default_seed_does_not_change_between_releases():
    assert CNNEnsembleClassifier().getSeed() == 17


def test_02_a_model_has_the_params_and_defaults_of_the_estimator():
    classifier, empty = CNNEnsembleClassifier(), CNNEnsembleClassificationModel()
    names = {param.name for param in empty.params}
    assert names == set(KEYWORDS) - {"numClasses", "inputShape"} | {"scoringEngine", "scoringPrecision"}
    for param in empty.params:
        if classifier.hasParam(param.name):
            assert empty._defaultParamMap.get(param) == classifier._defaultParamMap.get(classifier.getParam(param.name))
    assert (empty.getScoringEngine(), empty.getScoringPrecision()) == ("tensorflow", "float32")


@pytest.mark.parametrize(
    ("name", "value", "stored"),
    [
        ("numMembers", 5.0, 5),
        ("learningRate", 1, 1.0),
        ("filters", (4, np.int64(8)), [4, 8]),
        ("seed", np.int64(3), 3),
    ],
)
def test_03_a_value_is_converted_to_the_type_of_its_param(name, value, stored):
    found = CNNEnsembleClassifier(**{name: value}).getOrDefault(name)
    assert (type(found), found) == (type(stored), stored)
    json.dumps(found)


WRONG_TYPES = {
    "numMembers": (5.1, "x", True, [5]),
    "learningRate": (True, "0.1"),
    "subsamplingRate": (True, "x"),
    "filters": (5, "16", [1.5]),
    "standardization": (1, "True"),
    "featuresCol": (5, ["features"]),
    "thresholds": (0.5, ["x"]),
}


@pytest.mark.parametrize("by", ["constructor", "setParams"])
@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG_TYPES.items() for value in values])
def test_03_a_value_of_another_type_is_refused(by, name, value):
    store = CNNEnsembleClassifier if by == "constructor" else CNNEnsembleClassifier().setParams
    with pytest.raises(TypeError, match=f'"{name}"'):
        store(**{name: value})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CNNEnsembleClassifier(5), "keyword"),
        (lambda: CNNEnsembleClassifier(numTrees=5), "numTrees"),
        (lambda: CNNEnsembleClassifier().setParams(numTrees=5), "no parameter 'numTrees'"),
    ],
    ids=["a positional argument", "an unknown keyword", "an unknown name"],
)
def test_03_what_is_not_a_param_is_refused(call, message):
    with pytest.raises(TypeError, match=message):
        call()


VALUES = {
    "thresholds": [1.0, 2.0],
    "weightCol": "w",
    "validationIndicatorCol": "v",
    "idCol": "id",
    "numClasses": 3,
    "inputShape": [8, 8, 1],
    "minMembers": 2,
}


@pytest.mark.parametrize("name", KEYWORDS)
def test_03_a_setter_returns_the_estimator_and_none_unsets(name):
    classifier = CNNEnsembleClassifier()
    value = VALUES[name] if name in VALUES else classifier.getOrDefault(name)
    assert getattr(classifier, f"set{capitalized(name)}")(value) is classifier
    assert classifier.isSet(name) and classifier.getOrDefault(name) == value
    classifier.setParams(**{name: None})
    assert not classifier.isSet(name)


def test_03_none_in_the_constructor_leaves_a_param_unset():
    unset = dict.fromkeys(["thresholds", "weightCol", "numClasses", "inputShape", "minMembers"])
    assert param_values(CNNEnsembleClassifier(**unset)) == param_values(CNNEnsembleClassifier())


RANGES = {param.name: param.allowed.rule for param in CNNEnsembleClassifier().params if getattr(param, "allowed", None)}


def test_04_each_param_with_a_range_is_tried():
    assert set(OUT_OF_RANGE) == set(RANGES)


@pytest.mark.parametrize("name", OUT_OF_RANGE)
def test_04_a_value_out_of_range_is_refused_by_fit_and_not_before(few, name):
    value = OUT_OF_RANGE[name][-1]
    classifier = small(**{name: value})  # does not raise: a search may set Params in any order
    with pytest.raises(ValueError) as refusal:
        classifier.fit(few)
    assert str(refusal.value) == (
        f"The '{name}' parameter of CNNEnsembleClassifier must be {RANGES[name]}. Got {value!r} instead."
    )


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"bagging": "subsample", "subsamplingRate": 1.5},
            r"'subsamplingRate' parameter .* must be <= 1.0 where bagging is 'subsample'",
        ),
        ({"thresholds": [0.5, 0.5]}, r"'thresholds' parameter of CNNEnsembleClassifier .* each of the 10 classes"),
    ],
    ids=["subsamplingRate", "thresholds"],
)
def test_04_a_value_that_contradicts_another_is_refused_by_fit(few, params, message):
    with pytest.raises(ValueError, match=message):
        small(**params).fit(few)


@pytest.mark.parametrize("name", ["votingStrategy", "scoringEngine", "scoringPrecision"])
def test_04_a_value_out_of_range_is_refused_by_transform(model, test, name):
    wrong = model.copy({model.getParam(name): "loud"})
    with pytest.raises(ValueError, match=f"'{name}' parameter of CNNEnsembleClassificationModel must be one of"):
        wrong.transform(test)


def test_05_a_copy_has_the_uid_and_its_own_values():
    classifier = small(numMembers=3, idCol="id")
    copied = classifier.copy({classifier.numMembers: 7})
    assert type(copied) is CNNEnsembleClassifier
    assert (copied.uid, copied.getNumMembers(), copied.getIdCol()) == (classifier.uid, 7, "id")
    assert all(param.parent == copied.uid for param in copied.params)
    copied.setEpochs(9)
    assert (classifier.getNumMembers(), classifier.getEpochs()) == (3, 1)


def test_05_copy_ignores_params_of_another_stage_and_refuses_names():
    classifier, other = small(), small()
    assert param_values(classifier.copy({other.numMembers: 7})) == param_values(classifier)
    with pytest.raises(TypeError, match="Param"):
        classifier.copy({"numMembers": 7})


def test_05_a_copy_of_a_model_shares_weights_and_summary(model):
    soft = model.copy({model.votingStrategy: "soft"})
    assert (soft.uid, soft.getVotingStrategy(), model.getVotingStrategy()) == (model.uid, "soft", "hard")
    assert all(ours is theirs for ours, theirs in zip(weights_of(soft), weights_of(model), strict=True))
    assert soft.summary is model.summary


def test_06_fit_leaves_the_estimator_and_the_rows_as_they_were(few):
    classifier = small(numMembers=2)
    assert classifier.params  # Spark caches the list on first use
    before = copy.deepcopy(vars(classifier))
    stored = few.storageLevel, few.columns
    assert classifier.fit(few).getNumMembers() == 2
    assert classifier.fit(few, {classifier.numMembers: 1}).getNumMembers() == 1
    with pytest.raises(ValueError, match="numMembers"):
        classifier.fit(few, {classifier.numMembers: 0})
    assert vars(classifier) == before
    assert (few.storageLevel, few.columns) == stored


def test_07_fit_multiple_gives_each_map_its_model_in_threads_too(few):
    classifier = small()
    maps = [{classifier.numMembers: 1}, {classifier.numMembers: 2}, {classifier.numMembers: 2, classifier.seed: 5}]
    models = classifier.fit(few, maps)
    assert [(model.getNumMembers(), model.getSeed()) for model in models] == [(1, 17), (2, 17), (2, 5)]
    iterator = classifier.fitMultiple(few, maps)
    with ThreadPool(2) as pool:
        by_index = dict(pool.map(lambda _: next(iterator), maps, chunksize=1))
    with pytest.raises(StopIteration):
        next(iterator)
    assert {index: digests(model) for index, model in by_index.items()} == dict(enumerate(map(digests, models)))


# ---------------------------------------------------------------------------------------- fit


def test_08_a_model_has_the_uid_and_the_params_of_its_estimator(few):
    classifier = small(numMembers=2, idCol="id", thresholds=[1.0] * 10, votingStrategy="soft", predictionCol="digit")
    model = classifier.fit(few)
    assert model.uid == classifier.uid
    expected = {name: value for name, value in param_values(classifier).items() if model.hasParam(name)}
    scoring = {"scoringEngine": (False, True, "tensorflow"), "scoringPrecision": (False, True, "float32")}
    assert param_values(model) == {**expected, **scoring}
    assert all(param.parent == model.uid for param in model.params)
    assert (model.numClasses, model.numFeatures, model.inputShape) == (10, 64, [8, 8, 1])
    assert len(model.members) == model.getNumMembers() == 2
    assert [member.member for member in model.members] == [0, 1]
    assert model.hasSummary and model.summary.members == model.members
    assert model.summary.rows == sum(member.rows for member in model.members) == 200
    assert [sum(member.classCounts) for member in model.members] == [member.rows for member in model.members]


FORMS = {
    "dense vector": (lambda cell: Vectors.dense(cell), VectorUDT()),
    "sparse vector": (lambda cell: Vectors.sparse(64, np.flatnonzero(cell), cell[cell > 0]), VectorUDT()),
    "floats": (lambda cell: cell.astype(float).tolist(), "array<float>"),
    "doubles": (lambda cell: cell.astype(float).tolist(), "array<double>"),
    "bytes": (lambda cell: cell.tolist(), "array<tinyint>"),
    "shorts": (lambda cell: cell.tolist(), "array<smallint>"),
    "integers": (lambda cell: cell.tolist(), "array<int>"),
    "longs": (lambda cell: cell.tolist(), "array<bigint>"),
    "raw bytes": (lambda cell: cell.tobytes(), "binary"),
    "image": (
        lambda cell: ("file:/x.png", 8, 8, 1, 0, cell.tobytes()),
        "struct<origin:string,height:int,width:int,nChannels:int,mode:int,data:binary>",
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_09_forms_of_features_give_the_same_votes_and_members(
    spark, digits, model, few, one_member, one_member_by_id, form
):
    (x, y), _ = digits
    convert, kind = FORMS[form]
    if isinstance(kind, str):
        kind = spark.createDataFrame([], f"features {kind}").schema["features"].dataType
    schema = StructType().add("id", "long").add("label", "integer").add("features", kind)
    cells = x[:200].reshape(-1, 64)
    rows = [(index, int(label), convert(cell)) for index, (cell, label) in enumerate(zip(cells, y[:200], strict=True))]
    converted = spark.createDataFrame(rows, schema).cache()
    assert votes_by_id(model, converted) == votes_by_id(model, few)
    if form in ("raw bytes", "image"):  # their hash is that of the bytes, so an id must draw the bags
        assert digests(small(numMembers=1, idCol="id").fit(converted)) == one_member_by_id
    else:
        assert digests(small(numMembers=1).fit(converted)) == one_member
    converted.unpersist()


MEMBERS = 5  # and as many training tasks, which no other stage in check 10 has


def faulty(rows, features):
    """`rows` with other features, an SQL expression of the old ones, in row 77."""
    doubles = F.col("features").cast("array<double>")
    return rows.withColumn("features", F.when(F.col("id") != 77, doubles).otherwise(F.expr(features)))


def assembled(rows):
    """Column v, whose length only its metadata gives."""
    vectors = rows.select(array_to_vector("features").alias("features"), "label").limit(1)
    vectors = VectorAssembler(inputCols=["features"], outputCol="v").transform(vectors)
    return vectors.withMetadata("v", {"ml_attr": {"num_attrs": 64}})


UNUSABLE_SCHEMAS = {
    "no column 'pixels'": ({"featuresCol": "pixels"}, lambda few: few),
    "no column 'digit'": ({"labelCol": "digit"}, lambda few: few),
    "no column 'nobody'": ({"idCol": "nobody"}, lambda few: few),
    "'featuresCol'.* of type string": ({}, lambda few: few.withColumn("features", F.lit("x"))),
    "'featuresCol'.* of type array<string>": ({}, lambda few: few.withColumn("features", F.array(F.lit("x")))),
    "'labelCol'.* of type string": ({}, lambda few: few.withColumn("label", F.lit("seven"))),
    "'weightCol'.* of type string": ({"weightCol": "w"}, lambda few: few.withColumn("w", F.lit("x"))),
    "'validationIndicatorCol'.* of type int": ({"validationIndicatorCol": "label"}, lambda few: few),
    "64 numbers per row, but inputShape .* needs 49": ({"featuresCol": "v", "inputShape": [7, 7, 1]}, assembled),
}


@pytest.mark.parametrize("message", UNUSABLE_SCHEMAS)
def test_10_an_unusable_schema_is_refused_before_any_job(spark, few, message):
    params, change = UNUSABLE_SCHEMAS[message]
    classifier, rows = small(**params, numMembers=MEMBERS), change(few)

    def refused():
        with pytest.raises(ValueError, match=message):
            classifier.fit(rows)

    assert tasks_per_stage(spark, refused) == []


UNUSABLE_ROWS = {
    "null": ("A row: column 'features' is null", {}, lambda few: faulty(few, "null")),
    "3 numbers": (
        "A row: column 'features' has 3 numbers where 64",
        {},
        lambda few: faulty(few, "array(1D, 2D, 3D)"),
    ),
    "NaN": (
        "A row: column 'features' has null, NaN or infinity",
        {},
        lambda few: faulty(few, "array_repeat(double('NaN'), 64)"),
    ),
    "infinity, in a row with an id": (
        "Row id=77: column 'features' has null, NaN or infinity",
        {"idCol": "id"},
        lambda few: faulty(few, "transform(features, (x, i) -> if(i = 9, double('-Infinity'), double(x)))"),
    ),
    "a null number": (
        "A row: column 'features' has null, NaN",
        {},
        lambda few: faulty(few, "transform(features, (x, i) -> if(i = 9, null, double(x)))"),
    ),
    "60 numbers and no shape": (
        "has 60 numbers per row, which is not a square image",
        {"inputShape": None},
        lambda few: few.withColumn("features", F.slice("features", 1, 60)),
    ),
    "no rows and no shape": (
        "no rows with a usable column 'features'",
        {"inputShape": None},
        lambda few: few.where("id < 0"),
    ),
    "no rows and no classes": (
        "no rows with a usable column 'label'",
        {"numClasses": None},
        lambda few: few.where("id < 0"),
    ),
}


@pytest.mark.parametrize("fault", UNUSABLE_ROWS)
def test_10_an_unusable_row_is_refused_before_training(spark, few, fault):
    message, params, change = UNUSABLE_ROWS[fault]
    classifier, rows = small(**params, numMembers=MEMBERS), change(few)

    def refused():
        with pytest.raises(ValueError, match=message):
            classifier.fit(rows)

    tasks = tasks_per_stage(spark, refused)
    assert tasks and MEMBERS not in tasks


def test_10_no_rows_are_refused_by_the_members_if_no_job_comes_before(few):
    with pytest.raises(ValueError, match=r"Member \d has no rows to train on"):
        small().fit(few.limit(0))


def with_label(rows, value):
    """`rows` with labels of type double, and another label in row 77."""
    return rows.withColumn("label", F.when(F.col("id") != 77, F.col("label").cast("double")).otherwise(F.lit(value)))


@pytest.mark.parametrize(("value", "shown"), [(0.5, "0.5"), (-1.0, "-1.0"), (10.0, "10.0"), (float("inf"), "Infinity")])
def test_11_a_label_that_is_not_a_class_index_is_refused(few, value, shown):
    message = f"Row id=77: column 'label' has label {shown} where .* 0 to 9 was expected"
    with pytest.raises(ValueError, match=message):
        small(idCol="id").fit(with_label(few, value))


@pytest.mark.parametrize("value", [None, float("nan")])
def test_11_a_missing_label_is_refused(few, value):
    with pytest.raises(ValueError, match="column 'label' has no label"):
        small().fit(with_label(few, value))


@pytest.mark.parametrize("value", [0.5, -1.0, None])
def test_11_a_faulty_label_is_refused_while_classes_are_counted(few, value):
    with pytest.raises(ValueError, match="column 'label' has"):
        without_num_classes(numMembers=1, idCol="id").fit(with_label(few, value))


def test_11_too_many_classes_are_refused_unless_they_are_set(few):
    with pytest.raises(ValueError, match="set 'numClasses'"):
        without_num_classes(numMembers=1, idCol="id").fit(with_label(few, 5000.0))


def test_11_a_class_without_rows_is_counted(few):
    model = without_num_classes(numMembers=1, idCol="id").fit(few.where("label IN (0, 2)"))
    assert model.numClasses == 3 and model.members[0].classes == (0, 2)


@pytest.mark.parametrize("kind", ["byte", "int", "long", "double", "decimal(9, 3)"])
def test_11_labels_of_each_type_give_the_same_members(few, one_member, kind):
    assert digests(small(numMembers=1).fit(few.withColumn("label", F.col("label").cast(kind)))) == one_member


@pytest.mark.parametrize(("label", "num_classes"), [(0, None), (7, 10)], ids=["classes counted", "classes given"])
def test_12_rows_of_one_class_are_refused(few, label, num_classes):
    """Members that know one class alone would be right about every row that they are tested on."""
    with pytest.raises(ValueError, match=rf"^All training rows have label {label} .*at least two classes are needed"):
        small(numMembers=2, numClasses=num_classes).fit(few.where(F.col("label") == label))


def test_12_votes_are_as_wide_as_the_classes_if_a_bag_misses_one(few):
    model = small(numMembers=3).fit(few.where("id < 20"))
    assert any(len(member.classes) < 10 for member in model.members)
    votes = votes_by_id(model, few)
    assert len(votes) == 200
    assert all(len(raw) == len(probability) == 10 and sum(raw) == 3 for raw, probability, _ in votes.values())
    assert model.evaluate(few).confusionMatrix.shape == (10, 10)


SKEWED = {"batchSize": 64, "bagging": "subsample", "subsamplingRate": 0.9}


@pytest.mark.parametrize(
    "layout",
    [
        pytest.param(lambda few: few.where("id < 6").repartition(20, "id"), id="empty partitions"),
        pytest.param(lambda few: few.coalesce(1), id="one partition"),
        pytest.param(lambda few: few.where("id < 30"), id="bags smaller than a batch"),
    ],
)
def test_13_each_member_is_trained_whatever_the_layout_of_the_rows(few, layout):
    rows = layout(few)
    model = small(**SKEWED).fit(rows)
    assert len(model.members) == 3
    assert all(member.rows >= 1 and len(member.history["loss"]) == 1 for member in model.members)
    assert len(set(digests(model))) == 3
    assert all(sum(raw) == 3 for raw, _, _ in votes_by_id(model, rows).values())


def test_13_fewer_rows_than_disjoint_members_are_refused(few):
    with pytest.raises(ValueError, match=r"^Member \d has no rows to train on: .*numMembers"):
        small(batchSize=64).fit(few.where("id < 2"))


def test_13_fewer_rows_than_members_train_if_bags_share_them(few):
    model = small(**{**SKEWED, "subsamplingRate": 1.0}).fit(few.where("id < 2"))
    assert [member.rows for member in model.members] == [2, 2, 2]


@pytest.mark.parametrize(
    ("bagging", "rate", "members"),
    [("disjoint", 1.0, 4), ("subsample", 0.3, 3), ("bootstrap", 1.5, 3)],
    ids=["disjoint", "subsample", "bootstrap"],
)
def test_14_the_bags_that_reach_the_tasks_are_those_of_the_draw(spark, bagging, rate, members):
    def record(frames):  # what reaches a task
        from pyspark import TaskContext

        for frame in frames:
            yield frame[["member", "copies", "row_key"]].assign(task=TaskContext.get().partitionId())

    rows = spark.range(3000).select(F.xxhash64("id").alias("row_key"), F.lit(False).alias("validates"))
    draw = draw_of(bagging, rate, members, 5)
    drawn = draw.bags(F.col("row_key"), F.col("validates"), with_guests=False)
    placed = place_bags(explode_bags(rows.repartition(3).withColumn("bags", drawn)), range(members), members)
    received = placed.mapInPandas(record, "task int, member int, copies int, row_key long").toPandas()
    assert (received["task"] == received["member"]).all()

    copies = [draw.copies(F.col("row_key"), F.lit(member)).alias(str(member)) for member in range(members)]
    replayed = rows.select("row_key", *copies).toPandas().set_index("row_key")
    bags = []
    for member in range(members):
        bag = received[received["member"] == member]
        assert bag["row_key"].is_unique  # a row comes to a bag once, with its number of copies
        bags.append(dict(zip(bag["row_key"], bag["copies"], strict=True)))
        expected = replayed[str(member)]
        assert bags[member] == expected[expected > 0].to_dict()
    assert all(bags[0] != bag for bag in bags[1:])

    copies = replayed.to_numpy()
    share = 1 / members if bagging == "disjoint" else rate
    variance = share if bagging == "bootstrap" else share * (1 - share)
    assert np.allclose(copies.mean(axis=0), share, atol=5 * np.sqrt(variance / 3000))
    assert np.allclose(copies.var(axis=0), variance, rtol=0.15)
    if bagging == "disjoint":
        assert (copies.sum(axis=1) == 1).all()
    if bagging == "bootstrap":  # members draw independently
        assert abs(np.corrcoef(copies.T)[0, 1]) < 0.1
    else:
        assert copies.max() == 1
    other_seed = draw_of(bagging, rate, members, 6).copies(F.col("row_key"), F.lit(0)) > 0
    assert {row["row_key"] for row in rows.where(other_seed).collect()} != set(bags[0])


def test_14_members_train_on_the_bags_of_the_draw(few):
    model = small(bagging="bootstrap", subsamplingRate=0.7, idCol="id", seed=3).fit(few)
    for member in model.members:
        copies = draw_of("bootstrap", 0.7, 3, 3).copies(F.xxhash64("id"), F.lit(member.member))
        bag = few.select("label", copies.alias("copies")).where("copies > 0").toPandas()
        assert (member.rows, member.examples) == (len(bag), bag["copies"].sum())
        assert member.classCounts == tuple(np.bincount(bag["label"], minlength=10))


def test_15_the_same_seed_gives_the_same_members_bit_for_bit(few):
    params = {"bagging": "bootstrap", "dropoutRate": 0.3, "randomShift": 1, "randomFlip": True, "numMembers": 2}
    first = small(**params, epochs=2).fit(few)
    again = small(**params, epochs=2).fit(few)
    assert digests(again) == digests(first)
    assert [member.history for member in again.members] == [member.history for member in first.members]
    other = small(**params, epochs=2, seed=18).fit(few)
    assert not set(digests(other)) & set(digests(first))
    assert len(set(digests(first))) == 2


@pytest.fixture(scope="module")
def members_of_one_partition(few):
    return digests(small(bagging="bootstrap", randomShift=1).fit(few.coalesce(1)))


@pytest.mark.parametrize(
    "layout",
    [
        pytest.param(lambda few: few.repartition(7), id="seven partitions"),
        pytest.param(lambda few: few.orderBy(F.rand(1)).coalesce(1), id="another order"),
    ],
)
def test_16_the_layout_of_the_rows_does_not_change_the_members(few, members_of_one_partition, layout):
    """Other masters are in test_reproducible.py and test_cluster.py."""
    assert digests(small(bagging="bootstrap", randomShift=1).fit(layout(few))) == members_of_one_partition


def test_17_nothing_reaches_a_task_through_the_estimator_or_the_model(few, tmp_path):
    lock = threading.Lock()
    with pytest.raises(TypeError):
        pickle.dumps(lock)
    classifier = small(numMembers=1)
    classifier.planted = lock
    model = classifier.fit(few)
    model.planted = lock
    assert model.transform(few).count() == 200
    assert len(votes_by_id(model, few)) == 200
    assert model.evaluate(few).rows == 200
    model.save(str(tmp_path / "model"))
    classifier.save(str(tmp_path / "classifier"))


def test_18_separable_classes_are_learned(spark):
    rng = np.random.default_rng(0)
    x, y = rng.normal(100, 30, (400, 8, 8)), rng.integers(0, 2, 400)
    x[y == 0, :, :4] += 60  # the brighter half is the class
    x[y == 1, :, 4:] += 60
    halves = to_dataframe(spark, x, y)
    model = small(numClasses=2, epochs=5, learningRate=5e-3).fit(halves.where("id < 300"))
    assert model.evaluate(halves.where("id >= 300")).accuracy > 0.97
    loss = model.summary.objectiveHistory
    assert loss[-1] < loss[0]


def test_18_the_ensemble_is_not_worse_than_its_worst_member(model, test):
    evaluation = model.evaluate(test)
    assert evaluation.accuracy > 0.8
    assert evaluation.accuracy >= evaluation.memberAccuracies.min()


# ---------------------------------------------------------------------------------- transform


def test_19_other_columns_and_all_rows_are_kept(model, few):
    odd = few.select(
        F.col("id").alias("a.b"),
        "features",
        F.lit("x").alias("text"),
        F.struct(F.lit(1).alias("part")).alias("whole"),
        F.col("label").alias("a b`c"),
    )
    scored = model.transform(odd)
    assert scored.schema.fields[:5] == odd.schema.fields
    assert scored.columns == [*odd.columns, *OUTPUTS]
    rows = scored.collect()
    assert sorted(row["a.b"] for row in rows) == list(range(200))
    assert all(row["text"] == "x" and row["whole"].part == 1 for row in rows)


def test_19_outputs_have_sparks_types_and_metadata(model, few):
    schema = model.transform(few).schema
    assert [schema[name].dataType for name in OUTPUTS] == [VectorUDT(), VectorUDT(), DoubleType()]
    attributes = schema["prediction"].metadata["ml_attr"]
    assert (attributes["type"], attributes["num_vals"]) == ("nominal", 10)
    assert schema["probability"].metadata["ml_attr"]["num_attrs"] == 10


@pytest.mark.parametrize(
    "blank", [*([name] for name in OUTPUTS), OUTPUTS[:2], OUTPUTS], ids=lambda names: " and ".join(names)
)
def test_19_an_output_with_a_blank_name_is_left_out(model, few, blank):
    others = [name for name in OUTPUTS if name not in blank]
    scored = model.copy({model.getParam(f"{name}Col"): "" for name in blank}).transform(few)
    assert scored.columns == [*few.columns, *others]
    assert scored.select("id", *others).collect() == model.transform(few).select("id", *others).collect()
    assert scored.count() == 200


@pytest.mark.parametrize("name", OUTPUTS)
def test_19_an_output_with_the_name_of_a_column_is_refused(model, few, name):
    with pytest.raises(ValueError, match=f"has a column '{name}' already .*'{name}Col'"):
        model.transform(few.withColumn(name, F.lit(1)))


def test_19_two_outputs_with_one_name_are_refused(model, few):
    with pytest.raises(ValueError, match="has a column 'prediction' already"):
        model.copy({model.probabilityCol: "prediction"}).transform(few)


def test_19_transform_is_lazy(spark, model, few):
    assert tasks_per_stage(spark, lambda: model.transform(few)) == []
    assert tasks_per_stage(spark, lambda: model.transform(few).collect()) != []


def test_19_no_rows_give_no_rows(spark, model, few):
    empty = model.transform(few.limit(0))
    assert empty.columns == [*few.columns, *OUTPUTS] and empty.collect() == []
    without_partitions = spark.createDataFrame([], StructType([StructField("features", VectorUDT())]))
    assert model.transform(without_partitions).collect() == []


@pytest.mark.parametrize(
    ("votes", "softmax", "soft", "expected"),
    [
        pytest.param([2, 1, 2], [0.1, 1.7, 1.2], False, ([0, 1, 2], [0, 1 / 3, 2 / 3], 2), id="the majority wins"),
        pytest.param([0, 1], [0.9, 1.1, 0], False, ([1, 1, 0], [0.5, 0.5, 0], 1), id="a tie: the larger softmax"),
        pytest.param([2, 1], [0.2, 0.9, 0.9], False, ([0, 1, 1], [0, 0.5, 0.5], 1), id="all tied: the lower index"),
        pytest.param([2, 1], [1.0, 0.4, 0.6], False, ([0, 1, 1], [0, 0.5, 0.5], 2), id="no vote: not in the tie"),
        pytest.param([0, 0, 1], [1.2, 1.8, 0], True, ([1.2, 1.8, 0], [0.4, 0.6, 0], 1), id="soft: the mean softmax"),
    ],
)
def test_20_votes_by_hand_are_decided_by_the_rule(votes, softmax, soft, expected):
    pixels = PixelFormat("x", "array", (1, 1, 1))
    plan = VotingPlan("", (Architecture((1, 1, 1), 3),), (0,) * len(votes), pixels, soft=soft)
    raw, probability, prediction = (part[0] for part in majority(np.array([votes]), np.array([softmax]), plan))
    assert (raw.tolist(), prediction) == (expected[0], expected[2])
    assert probability.tolist() == pytest.approx(expected[1])


def test_20_votes_are_those_of_the_members(model, test, digits):
    images = digits[1][0][..., None].astype(np.float32)
    softmax = np.stack([np.asarray(model.memberNetwork(index)(images)) for index in range(3)])
    votes = votes_by_id(model, test)
    raw, probability, prediction = (np.array([votes[index][part] for index in range(360)]) for part in range(3))
    assert np.array_equal(raw, np.eye(10)[softmax.argmax(axis=2)].sum(axis=0))
    assert (raw.sum(axis=1) == 3).all() and np.array_equal(probability, raw / 3)
    tie = raw.max(axis=1) == 1
    assert tie.any() and not tie.all()
    assert np.array_equal(prediction[~tie], raw.argmax(axis=1)[~tie])
    assert np.array_equal(prediction[tie], np.where(raw > 0, softmax.sum(axis=0), 0).argmax(axis=1)[tie])


@pytest.mark.parametrize("strategy", ["hard", "soft"])
@pytest.mark.parametrize(
    "form",
    [
        pytest.param(Vectors.dense, id="dense"),
        pytest.param(lambda cell: Vectors.sparse(64, np.flatnonzero(cell), cell[cell != 0]), id="sparse"),
        pytest.param(np.asarray, id="array"),
    ],
)
def test_20_a_single_image_gives_what_transform_gives(model, test, vectors, strategy, form):
    model = model.copy().setVotingStrategy(strategy)
    votes = votes_by_id(model, test.where(F.col("id") < len(vectors)))
    for index, cell in enumerate(vectors):
        value = form(cell)
        assert (model.predictRaw(value), model.predictProbability(value), model.predict(value)) == votes[index]


@pytest.fixture(scope="module")
def soft(model):
    """The model with soft votes, which are sums of floats: any other rounding would show."""
    return model.copy({model.votingStrategy: "soft"})


@pytest.fixture(scope="module")
def soft_votes(soft, test):
    return votes_by_id(soft, test)


@pytest.mark.parametrize(
    ("layout", "count"),
    [
        pytest.param(lambda test: test.coalesce(1), 360, id="one partition"),
        pytest.param(lambda test: test.repartition(7), 360, id="seven partitions"),
        pytest.param(lambda test: test.orderBy(F.rand(2)).coalesce(1), 360, id="another order"),
        pytest.param(lambda test: test.where("id % 3 = 1"), 120, id="fewer rows"),
        pytest.param(lambda test: test.where("id = 42"), 1, id="one row"),
    ],
)
def test_21_a_rows_votes_do_not_depend_on_other_rows(soft, soft_votes, test, layout, count):
    votes = votes_by_id(soft, layout(test))
    assert len(votes) == count
    assert votes == {index: soft_votes[index] for index in votes}


@pytest.mark.parametrize("size", ["1", "7", "10000"])
def test_21_a_rows_votes_do_not_depend_on_the_size_of_batches(spark, soft, soft_votes, test, size):
    name = "spark.sql.execution.arrow.maxRecordsPerBatch"
    before = spark.conf.get(name)
    spark.conf.set(name, size)
    try:
        assert votes_by_id(soft, test) == soft_votes
    finally:
        spark.conf.set(name, before)
    assert len(soft_votes) == 360


@pytest.fixture(scope="module")
def accuracy(spark):
    return MulticlassClassificationEvaluator(metricName="accuracy")


def test_22_sparks_evaluator_takes_the_output(model, test, accuracy):
    assert accuracy.evaluate(model.transform(test)) == pytest.approx(model.evaluate(test).accuracy)


def test_22_a_pipeline_may_assemble_the_features(few):
    columns = [f"pixel{index}" for index in range(64)]
    wide = few.select("id", "label", *[F.col("features")[index].alias(name) for index, name in enumerate(columns)])
    assembler = VectorAssembler(inputCols=columns, outputCol="features")
    assert len(votes_by_id(Pipeline(stages=[assembler, small(numMembers=1)]).fit(wide), wide)) == 200


def test_22_cross_validation_runs_in_threads(few, accuracy):
    classifier = small()
    grid = ParamGridBuilder().addGrid(classifier.numMembers, [1, 2]).build()
    search = CrossValidator(
        estimator=classifier, estimatorParamMaps=grid, evaluator=accuracy, numFolds=2, parallelism=2, seed=1
    ).fit(few)
    assert search.bestModel.getNumMembers() == [1, 2][int(np.argmax(search.avgMetrics))]


def test_22_weights_are_broadcast_once_and_the_model_is_unchanged(spark, model, test, monkeypatch):
    broadcasts = []
    broadcast = type(spark.sparkContext).broadcast
    monkeypatch.setattr(
        type(spark.sparkContext), "broadcast", lambda self, value: broadcasts.append(value) or broadcast(self, value)
    )
    fresh = model.subset([0, 2])
    before = param_values(fresh), digests(fresh), fresh.uid
    for _ in range(3):
        assert fresh.transform(test).count() == 360
        assert len(votes_by_id(fresh, test)) == 360
    fresh.copy({fresh.votingStrategy: "soft"}).transform(test).collect()
    fresh.evaluate(test)
    assert [digest(value) for value in broadcasts if isinstance(value, bytes)] == digests(fresh)
    assert (param_values(fresh), digests(fresh), fresh.uid) == before


# -------------------------------------------------------------------------------- persistence


@pytest.fixture(scope="module")
def classifier():
    return small(numMembers=1, seed=5, thresholds=[1.0] * 10, network="", epochs=1)


def test_24_an_estimator_survives_saving_with_unset_default_and_set_apart(spark, classifier, tmp_path):
    loaded = round_trip(classifier, tmp_path / "deep" / "a classifier")
    assert not loaded.isDefined("weightCol") and not loaded.isSet("batchSize") and loaded.isSet("epochs")


def test_24_a_model_survives_saving(model, few, tmp_path):
    loaded = round_trip(model, tmp_path / "model")
    assert loaded.hasSummary and votes_by_id(loaded, few) == votes_by_id(model, few)


def test_24_a_subset_survives_saving_without_a_summary(model, tmp_path):
    assert round_trip(model.subset([1]), tmp_path / "subset").hasSummary is False


def test_24_the_names_of_the_classes_survive_saving(few, tmp_path):
    names = [f"digit {label}" for label in range(10)]
    named = few.withMetadata("label", {"ml_attr": {"type": "nominal", "vals": names}})
    loaded = round_trip(small(numMembers=1).fit(named), tmp_path / "model")
    assert loaded.transform(few).schema["prediction"].metadata["ml_attr"]["vals"] == names


def test_24_nested_pipelines_survive_saving(classifier, few, tmp_path):
    pipeline = round_trip(Pipeline(stages=[Pipeline(stages=[classifier])]), tmp_path / "pipeline")
    fitted = pipeline.fit(few)
    loaded = round_trip(fitted, tmp_path / "model")
    assert votes_by_id(loaded, few) == votes_by_id(fitted, few)


def test_24_a_cross_validator_survives_saving(classifier, few, accuracy, tmp_path):
    grid = ParamGridBuilder().addGrid(classifier.votingStrategy, ["hard", "soft"]).build()
    search = CrossValidator(
        estimator=classifier, estimatorParamMaps=grid, evaluator=accuracy, numFolds=2, parallelism=2, seed=1
    )
    fitted = round_trip(search, tmp_path / "search").fit(few)
    loaded = round_trip(fitted, tmp_path / "model")
    assert loaded.avgMetrics == fitted.avgMetrics and votes_by_id(loaded, few) == votes_by_id(fitted, few)


def test_24_a_train_validation_split_of_a_pipeline_survives_saving(classifier, few, accuracy, tmp_path):
    grid = ParamGridBuilder().addGrid(classifier.votingStrategy, ["hard", "soft"]).build()
    search = TrainValidationSplit(
        estimator=Pipeline(stages=[classifier]), estimatorParamMaps=grid, evaluator=accuracy, parallelism=2, seed=1
    )
    fitted = round_trip(search, tmp_path / "search").fit(few)
    loaded = round_trip(fitted, tmp_path / "model")
    assert loaded.validationMetrics == fitted.validationMetrics
    assert votes_by_id(loaded, few) == votes_by_id(fitted, few)


def test_24_one_vs_rest_survives_saving(few, tmp_path):
    rest = OneVsRest(classifier=small(numMembers=1, numClasses=2))
    fitted = round_trip(rest, tmp_path / "rest").fit(few.where("label < 3"))
    loaded = round_trip(fitted, tmp_path / "model")
    assert loaded.transform(few).select("id", "prediction").collect() == (
        fitted.transform(few).select("id", "prediction").collect()
    )


@pytest.fixture
def saved(model, tmp_path):
    """The path of the saved model."""
    model.save(str(tmp_path / "model"))
    return str(tmp_path / "model")


def test_24_a_path_that_exists_is_refused_unless_it_may_be_replaced(model, saved):
    other = model.subset([0, 1])
    with pytest.raises(FileExistsError, match="exists already; choose another"):
        other.save(saved)
    assert_same(model, CNNEnsembleClassificationModel.load(saved))
    other.write().overwrite().save(saved)
    assert_same(other, CNNEnsembleClassificationModel.load(saved))


def test_24_another_class_and_a_missing_folder_are_refused(saved):
    with pytest.raises(ValueError, match=r"CNNEnsembleClassificationModel, not a .*\.CNNEnsembleClassifier"):
        CNNEnsembleClassifier.load(saved)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        CNNEnsembleClassificationModel.load(f"{saved}/nothing")


@pytest.mark.parametrize("name", ["model", "new"])
def test_24_a_save_that_fails_leaves_the_folder_as_it_was(spark, model, saved, tmp_path, monkeypatch, name):
    def fail(*_, **__):
        assert list(tmp_path.glob(f"{name}/members/save=*/*.parquet"))  # metadata is written last
        raise OSError("disk full")

    monkeypatch.setattr(type(engine_of(spark).files), "add", fail)
    with pytest.raises(OSError, match="disk full"):
        model.subset([0, 1]).write().overwrite().save(str(tmp_path / name))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert_same(model, CNNEnsembleClassificationModel.load(saved))


def test_24_any_filesystem_of_hadoops_will_do(spark, classifier, model, few, tmp_path):
    spark.conf.set("fs.viewfs.mounttable.checks.link./data", tmp_path.as_uri())
    loaded = round_trip(model, "viewfs://checks/data/model")
    assert votes_by_id(loaded, few) == votes_by_id(model, few)
    other = model.subset([0, 1])
    other.write().overwrite().save("viewfs://checks/data/model")
    assert_same(other, CNNEnsembleClassificationModel.load(str(tmp_path / "model")))
    round_trip(Pipeline(stages=[classifier]), "viewfs://checks/data/pipeline")


MODEL_V1 = DATA / "model-v1"


def metadata_of(folder):
    """The file of a saved model's metadata, and its content."""
    (file,) = (folder / "metadata").glob("part-*")
    return file, json.loads(file.read_text())


@pytest.mark.spark
def test_25_the_first_saved_model_votes_as_it_did_in_a_process_without_tensorflow():
    code = """
    import json, sys
    from pyspark.sql import SparkSession
    from spark_cnn_ensemble import CNNEnsembleClassificationModel
    from spark_cnn_ensemble.datasets import load_digits, to_dataframe

    spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    model = CNNEnsembleClassificationModel.load(sys.argv[1])
    heavy = [name for name in ("tensorflow", "keras") if name in sys.modules]
    x, _ = load_digits()[1]
    rows = model.transform(to_dataframe(spark, x[:50])).orderBy("id").collect()
    votes = [{"rawPrediction": row.rawPrediction.toArray().tolist(), "prediction": row.prediction} for row in rows]
    print(json.dumps({"votes": votes, "heavy": heavy, "rows": model.summary.rows}))
    """
    expected = json.loads((DATA / "model-v1-votes.json").read_text())
    assert len(expected) == 50
    printed = output_of(start_python(code, MODEL_V1, path=""))
    assert json.loads(printed[-1]) == {"votes": expected, "heavy": [], "rows": 1437}


def test_25_saved_weights_open_with_numpy_alone():
    _, metadata = metadata_of(MODEL_V1)
    parts = pq.read_table(MODEL_V1 / "members").to_pylist()
    assert metadata["class"] == "spark_cnn_ensemble.CNNEnsembleClassificationModel"
    assert {part["member"] for part in parts} == {0, 1, 2}
    for member, report in enumerate(metadata["ensemble"]["members"]):
        of_member = sorted((part for part in parts if part["member"] == member), key=lambda part: part["part"])
        data = b"".join(part["bytes"] for part in of_member)
        assert (len(data), digest(data)) == (report["size"], report["sha256"])
        with np.load(BytesIO(data), allow_pickle=False) as arrays:
            assert sum(arrays[name].size for name in arrays.files) > 1000


def test_25_an_unknown_format_version_is_refused(spark, tmp_path):
    newer = tmp_path / "newer"
    shutil.copytree(MODEL_V1, newer, ignore=shutil.ignore_patterns("*.crc"))
    file, metadata = metadata_of(newer)
    file.write_text(json.dumps({**metadata, "formatVersion": 99}))
    with pytest.raises(ValueError, match=r"newer has format version 99, but .* reads version 1; load it with"):
        CNNEnsembleClassificationModel.load(str(newer))
