"""What a Spark ML estimator and its model must satisfy: one test a property, in order, as the component's definition.

They are gathered from the suites of pyspark.ml, scikit-learn, xgboost.spark and spark-rapids-ml. Number 23 of the list,
out-of-bag estimates, has a file of its own, `test_out_of_bag.py`.
"""

import copy
import inspect
import json
import pickle
import shutil
import subprocess
import sys
import threading
import time
import uuid
from io import BytesIO
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.classification import OneVsRest, OneVsRestModel
from pyspark.ml.evaluation import MulticlassClassificationEvaluator
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.functions import array_to_vector
from pyspark.ml.linalg import DenseVector, Vectors, VectorUDT
from pyspark.ml.param import Params
from pyspark.ml.tuning import (
    CrossValidator,
    CrossValidatorModel,
    ParamGridBuilder,
    TrainValidationSplit,
    TrainValidationSplitModel,
)
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, DoubleType, StructField, StructType
from support.classifiers import small

from spark_cnn_ensemble import CNNEnsembleClassificationModel, CNNEnsembleClassifier
from spark_cnn_ensemble.datasets import to_dataframe
from spark_cnn_ensemble.fit.members import place_bags
from spark_cnn_ensemble.rows.draw import draw_of
from spark_cnn_ensemble.rows.training_rows import explode_bags
from spark_cnn_ensemble.worker.decision import majority
from spark_cnn_ensemble.worker.network import Architecture
from spark_cnn_ensemble.worker.pixels import PixelFormat
from spark_cnn_ensemble.worker.voting_plan import VotingPlan
from spark_cnn_ensemble.worker.weights import digest

TESTS = Path(__file__).parent
OUTPUTS = ["rawPrediction", "probability", "prediction"]
MODEL_V1 = TESTS / "data" / "model-v1"


@pytest.fixture(scope="module")
def few(spark, digits):
    """200 rows of digits (id, features, label), for what does not depend on training well."""
    (x, y), _ = digits
    return to_dataframe(spark, x[:200], y[:200]).cache()


def weights_of(model):
    """SHA-256 of each member's weights."""
    return [digest(data) for data in model._ensemble.weights]


def votes(model, dataset, key="id"):
    """{id: (rawPrediction, probability, prediction)} of each row."""
    return {row[0]: tuple(row[1:]) for row in model.transform(dataset).select(key, *OUTPUTS).collect()}


def values(instance):
    """{param: (is set, has default, value)} of an instance; the value alone of Spark's own, whose readers mix the rest."""
    if not isinstance(instance, CNNEnsembleClassifier | CNNEnsembleClassificationModel):
        return {
            param.name: plain(instance.getOrDefault(param)) for param in instance.params if instance.isDefined(param)
        }
    return {
        param.name: (
            instance.isSet(param),
            instance.hasDefault(param),
            plain(instance.getOrDefault(param)) if instance.isDefined(param) else None,
        )
        for param in instance.params
    }


def plain(value):
    """A Param's value, made comparable: stages and evaluators by type, uid and values, grids by their Params' names."""
    if isinstance(value, Params):
        return type(value).__name__, value.uid, values(value)
    if isinstance(value, dict):
        return {(param.parent, param.name): plain(found) for param, found in value.items()}
    if isinstance(value, list):
        return [plain(found) for found in value]
    return value


def jobs_of(spark, action):
    """The stages of each job that Spark ran for `action`, as its status tracker has them."""
    context, tracker = spark.sparkContext, spark.sparkContext.statusTracker()
    group, after = uuid.uuid4().hex, uuid.uuid4().hex
    try:
        context.setJobGroup(group, "watched")
        try:
            action()
        finally:
            context.setJobGroup(after, "whose end tells that the tracker knows of all before it")
            spark.range(1).collect()
    finally:
        context.setLocalProperty("spark.jobGroup.id", None)
        context.setLocalProperty("spark.job.description", None)
    deadline = time.monotonic() + 30
    while not any(tracker.getJobInfo(job).status == "SUCCEEDED" for job in tracker.getJobIdsForGroup(after)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    jobs = sorted(tracker.getJobIdsForGroup(group))
    return [[tracker.getStageInfo(stage) for stage in tracker.getJobInfo(job).stageIds] for job in jobs]


def in_subprocess(code, *arguments):
    """Run code in a fresh interpreter beside the tests; the JSON that it prints last."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=TESTS, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# Params


def test_01_owned_sorted_documented(model):
    for instance in (CNNEnsembleClassifier(), model):
        names = [param.name for param in instance.params]
        assert names == sorted(names)
        assert all(param.parent == instance.uid for param in instance.params)
        assert all(param.doc.strip() for param in instance.params)
        explained = instance.explainParams().splitlines()
        assert [line.split(":")[0] for line in explained] == names


def test_02_default_constructible_and_the_places_agree():
    signature = inspect.signature(CNNEnsembleClassifier.__init__).parameters.values()
    keywords = {keyword.name: keyword for keyword in signature if keyword.name != "self"}
    assert all(keyword.kind is keyword.KEYWORD_ONLY for keyword in keywords.values())
    classifier = CNNEnsembleClassifier()
    assert set(keywords) == {param.name for param in classifier.params}
    for name, keyword in keywords.items():
        assert not classifier.isSet(name)
        if keyword.default is None:
            assert not classifier.hasDefault(name)
        else:
            default = classifier.getOrDefault(name)
            assert (type(default), default) == (type(keyword.default), keyword.default)
    capitalised = {name[0].upper() + name[1:] for name in keywords}
    assert {name[3:] for name in dir(classifier) if name.startswith("set") and name[3:4].isupper()} == (
        capitalised | {"Params"}
    )
    assert {name[3:] for name in dir(classifier) if name.startswith("get") and name[3:4].isupper()} == (
        capitalised | {"OrDefault", "Param"}
    )
    for name in keywords:
        if classifier.isDefined(name):
            assert getattr(classifier, f"get{name[0].upper()}{name[1:]}")() == classifier.getOrDefault(name)
    assert CNNEnsembleClassifier().getSeed() == 17  # no hash of a name, which would change from release to release
    fresh = CNNEnsembleClassificationModel()
    assert {param.name for param in fresh.params} == set(keywords) - {"numClasses", "inputShape"}
    for param in fresh.params:
        assert fresh._defaultParamMap.get(param) == classifier._defaultParamMap.get(classifier.getParam(param.name))


def test_03_type_conversion():
    classifier = CNNEnsembleClassifier(numMembers=5.0, learningRate=1, filters=(4, np.int64(8)), seed=np.int64(3))
    for name, value in {"numMembers": 5, "learningRate": 1.0, "filters": [4, 8], "seed": 3}.items():
        found = classifier.getOrDefault(name)
        assert (type(found), found) == (type(value), value)
        json.dumps(found)
    refused = {
        "numMembers": (5.1, "x", True, [5]),
        "learningRate": (True, "0.1"),
        "subsamplingRate": (True, "x"),
        "filters": (5, "16", [1.5]),
        "standardization": (1, "True"),
        "featuresCol": (5, ["features"]),
        "thresholds": (0.5, ["x"]),
    }
    for name, wrong in refused.items():
        for value in wrong:
            for refuses in (CNNEnsembleClassifier, CNNEnsembleClassifier().setParams):
                with pytest.raises(TypeError, match=f'"{name}"'):
                    refuses(**{name: value})
    with pytest.raises(TypeError, match="keyword"):
        CNNEnsembleClassifier(5)
    with pytest.raises(TypeError, match="numTrees"):
        CNNEnsembleClassifier(numTrees=5)
    with pytest.raises(TypeError, match="no parameter 'numTrees'"):
        CNNEnsembleClassifier().setParams(numTrees=5)
    samples = {
        "thresholds": [1.0, 2.0],
        "weightCol": "w",
        "validationIndicatorCol": "v",
        "idCol": "id",
        "numClasses": 3,
        "inputShape": [8, 8, 1],
        "minMembers": 2,
    }
    for param in classifier.params:
        value = samples[param.name] if param.name in samples else classifier.getOrDefault(param)
        assert getattr(classifier, f"set{param.name[0].upper()}{param.name[1:]}")(value) is classifier
        assert classifier.isSet(param) and classifier.getOrDefault(param) == value
        classifier.setParams(**{param.name: None})  # as in the signature, None is no value
        assert not classifier.isSet(param)
    explicit = CNNEnsembleClassifier(thresholds=None, weightCol=None, numClasses=None, inputShape=None, minMembers=None)
    assert values(explicit) == values(CNNEnsembleClassifier())


def test_04_no_work_in_the_constructor(train, model, test):
    bad = {
        "votingStrategy": "loud",
        "handleInvalid": "ignore",
        "numMembers": 0,
        "bagging": "boosting",
        "subsamplingRate": 0.0,
        "filters": [16, 0],
        "kernelSize": 0,
        "denseUnits": 0,
        "dropoutRate": 1.0,
        "epochs": 0,
        "batchSize": 0,
        "learningRate": float("inf"),
        "learningRateSchedule": "step",
        "optimizer": "adam2",
        "randomShift": -1,
        "earlyStoppingPatience": -1,
        "precision": "float16",
        "seed": 2**63,
        "oobSampleSize": -1,
        "maxMemoryInMB": 0,
        "minMembers": 0,
        "verbose": 2,
        "numClasses": 1,
        "inputShape": [8, 8],
        "thresholds": [0.0, 0.0],
    }
    ranges = {param.name: param.allowed.rule for param in small().params if getattr(param, "allowed", None)}
    assert set(bad) == set(ranges)
    for name, value in bad.items():
        rule = ranges[name]
        classifier = small(**{name: value})  # does not raise: a search may set Params in any order
        with pytest.raises(ValueError) as refusal:
            classifier.fit(train)
        assert str(refusal.value) == (
            f"The '{name}' parameter of CNNEnsembleClassifier must be {rule}. Got {value!r} instead."
        )
    with pytest.raises(ValueError, match=r"'subsamplingRate' parameter .* must be <= 1.0 where bagging is 'subsample'"):
        small(bagging="subsample", subsamplingRate=1.5).fit(train)
    with pytest.raises(ValueError, match=r"'thresholds' parameter of CNNEnsembleClassifier .* each of the 10 classes"):
        small(thresholds=[0.5, 0.5]).fit(train)
    with pytest.raises(ValueError, match="'votingStrategy' parameter of CNNEnsembleClassificationModel must be one of"):
        model.copy().setVotingStrategy("loud").transform(test)


def test_05_copy(model):
    classifier = small(numMembers=3, idCol="id")
    copied = classifier.copy({classifier.numMembers: 7})
    assert type(copied) is CNNEnsembleClassifier
    assert (copied.uid, copied.getNumMembers(), copied.getIdCol()) == (classifier.uid, 7, "id")
    assert all(param.parent == copied.uid for param in copied.params)
    copied.setEpochs(9)
    assert (classifier.getNumMembers(), classifier.getEpochs()) == (3, 1)
    other = small()
    assert values(classifier.copy({other.numMembers: 7})) == values(classifier)  # a Param of another stage
    with pytest.raises(TypeError, match="Param"):
        classifier.copy({"numMembers": 7})
    soft = model.copy({model.votingStrategy: "soft"})
    assert (soft.uid, soft.getVotingStrategy(), model.getVotingStrategy()) == (model.uid, "soft", "hard")
    assert soft._ensemble is model._ensemble and soft.summary is model.summary  # weights are shared, not copied


def test_06_fit_leaves_the_estimator_as_it_was(few):
    classifier = small(numMembers=2)
    assert classifier.params  # which Spark lists on first use, and keeps
    before = copy.deepcopy(vars(classifier))
    stored = few.storageLevel, few.columns
    assert classifier.fit(few).getNumMembers() == 2
    assert classifier.fit(few, {classifier.numMembers: 1}).getNumMembers() == 1
    with pytest.raises(ValueError, match="numMembers"):
        classifier.fit(few, {classifier.numMembers: 0})
    assert vars(classifier) == before
    assert (few.storageLevel, few.columns) == stored


def test_07_fit_multiple(few):
    classifier = small()
    maps = [{classifier.numMembers: 1}, {classifier.numMembers: 2}, {classifier.numMembers: 2, classifier.seed: 5}]
    models = classifier.fit(few, maps)
    assert [(model.getNumMembers(), model.getSeed()) for model in models] == [(1, 17), (2, 17), (2, 5)]
    iterator = classifier.fitMultiple(few, maps)
    with ThreadPool(2) as pool:
        found = dict(pool.map(lambda _: next(iterator), maps, chunksize=1))
    with pytest.raises(StopIteration):
        next(iterator)
    assert {index: weights_of(model) for index, model in found.items()} == dict(enumerate(map(weights_of, models)))


# Fit


def test_08_model_is_kin(few):
    classifier = small(numMembers=2, idCol="id", thresholds=[1.0] * 10, votingStrategy="soft", predictionCol="digit")
    model = classifier.fit(few)
    assert model.uid == classifier.uid
    expected = values(classifier)
    assert values(model) == {name: found for name, found in expected.items() if model.hasParam(name)}
    assert all(param.parent == model.uid for param in model.params)
    assert (model.numClasses, model.numFeatures, model.inputShape) == (10, 64, [8, 8, 1])
    assert len(model.members) == model.getNumMembers() == 2
    assert [member.member for member in model.members] == [0, 1]
    assert model.hasSummary and model.summary.members == model.members
    assert model.summary.rows == sum(member.rows for member in model.members) == 200
    assert [sum(member.classCounts) for member in model.members] == [member.rows for member in model.members]


def test_09_forms_of_features(spark, digits, model):
    (x, y), _ = digits
    cells = x[:200].reshape(-1, 64)
    forms = {
        "dense": (lambda cell: Vectors.dense(cell), VectorUDT()),
        "sparse": (lambda cell: Vectors.sparse(64, np.flatnonzero(cell), cell[cell > 0]), VectorUDT()),
        "floats": (lambda cell: cell.astype(float).tolist(), "array<float>"),
        "doubles": (lambda cell: cell.astype(float).tolist(), "array<double>"),
        "bytes": (lambda cell: cell.tolist(), "array<tinyint>"),
        "shorts": (lambda cell: cell.tolist(), "array<smallint>"),
        "integers": (lambda cell: cell.tolist(), "array<int>"),
        "longs": (lambda cell: cell.tolist(), "array<bigint>"),
        "raw": (lambda cell: cell.tobytes(), "binary"),
        "image": (
            lambda cell: ("file:/x.png", 8, 8, 1, 0, cell.tobytes()),
            "struct<origin:string,height:int,width:int,nChannels:int,mode:int,data:binary>",
        ),
    }
    schema = DataType.fromDDL("id bigint, label int")
    for name, (_, kind) in forms.items():
        schema = schema.add(name, DataType.fromDDL(kind) if isinstance(kind, str) else kind)
    rows = [
        (index, int(label), *[form(cell) for form, _ in forms.values()])
        for index, (cell, label) in enumerate(zip(cells, y, strict=False))
    ]
    wide = spark.createDataFrame(rows, schema).cache()
    expected_votes, expected_members = None, {}
    for name in forms:
        one = wide.select("id", "label", F.col(name).alias("features"))
        found = votes(model, one)
        expected_votes = expected_votes or found
        assert found == expected_votes, name
        # What is no array of numbers hashes in its own way, so there a row needs an id to be drawn alike.
        for identity in (
            ({}, {"idCol": "id"}) if name == "shorts" else ({"idCol": "id"},) if name in ("raw", "image") else ({},)
        ):
            fitted = weights_of(small(numMembers=1, **identity).fit(one))
            assert fitted == expected_members.setdefault(tuple(identity), fitted), name
    wide.unpersist()


def test_10_refused_before_training(spark, few):
    def spoil(value):
        return few.withColumn(
            "features", F.when(F.col("id") != 77, F.col("features").cast("array<double>")).otherwise(F.expr(value))
        )

    members = 5  # and as many training tasks, which no other stage here has
    told = few.select(array_to_vector("features").alias("features"), "label")
    assembled = VectorAssembler(inputCols=["features"], outputCol="v").transform(told.limit(1))
    schema_faults = {
        "no column 'pixels'": (small(featuresCol="pixels"), few),
        "no column 'digit'": (small(labelCol="digit"), few),
        "no column 'nobody'": (small(idCol="nobody"), few),
        "'featuresCol'.* of type string": (small(), few.withColumn("features", F.lit("x"))),
        "'featuresCol'.* of type array<string>": (small(), few.withColumn("features", F.array(F.lit("x")))),
        "'labelCol'.* of type string": (small(), few.withColumn("label", F.lit("seven"))),
        "'weightCol'.* of type string": (small(weightCol="w"), few.withColumn("w", F.lit("x"))),
        "'validationIndicatorCol'.* of type int": (small(validationIndicatorCol="label"), few),
        "64 numbers a row, but inputShape .* needs 49": (
            small(featuresCol="v", inputShape=[7, 7, 1]),
            assembled.withMetadata("v", {"ml_attr": {"num_attrs": 64}}),
        ),
    }
    for sentence, (classifier, rows) in schema_faults.items():
        classifier = classifier.setNumMembers(members)

        def refused(classifier=classifier, rows=rows, sentence=sentence):
            with pytest.raises(ValueError, match=sentence):
                classifier.fit(rows)

        assert jobs_of(spark, refused) == [], sentence
    row_faults = {
        "A row: column 'features' is null": (small(), spoil("null")),
        "A row: column 'features' has 3 numbers where 64": (small(), spoil("array(1D, 2D, 3D)")),
        "A row: column 'features' has null, NaN or infinity": (small(), spoil("array_repeat(double('NaN'), 64)")),
        "Row id=77: column 'features' has null, NaN or infinity": (
            small(idCol="id"),
            spoil("transform(features, (x, i) -> if(i = 9, double('-Infinity'), double(x)))"),
        ),
        "A row: column 'features' has null, NaN": (
            small(),
            spoil("transform(features, (x, i) -> if(i = 9, null, double(x)))"),
        ),
        "has 60 numbers a row, which is no square": (
            CNNEnsembleClassifier(numClasses=10),
            few.withColumn("features", F.slice("features", 1, 60)),
        ),
        "no rows with a usable column 'features'": (CNNEnsembleClassifier(numClasses=10), few.where("id < 0")),
        "no rows with a usable column 'label'": (CNNEnsembleClassifier(inputShape=[8, 8, 1]), few.where("id < 0")),
    }
    for sentence, (classifier, rows) in row_faults.items():
        classifier = classifier.setNumMembers(members)

        def refused(classifier=classifier, rows=rows, sentence=sentence):
            with pytest.raises(ValueError, match=sentence):
                classifier.fit(rows)

        stages = [stage.numTasks for job in jobs_of(spark, refused) for stage in job]
        assert stages and members not in stages, sentence
    # Where nothing has to be looked up first, the members' tasks find out.
    with pytest.raises(ValueError, match=r"Member \d has no rows to train on"):
        small().fit(few.limit(0))


def test_11_labels(few):
    def spoil(value):
        return few.withColumn("label", F.when(F.col("id") != 77, F.col("label").cast("double")).otherwise(value))

    for value, said in {0.5: "0.5", -1.0: "-1.0", 10.0: "10.0", float("inf"): "Infinity"}.items():
        with pytest.raises(
            ValueError, match=f"Row id=77: column 'label' has label {said} where .* 0 to 9 was expected"
        ):
            small(idCol="id").fit(spoil(F.lit(value)))
    for value in (F.lit(None), F.lit(float("nan"))):
        with pytest.raises(ValueError, match="column 'label' has no label"):
            small().fit(spoil(value))
    unknown = CNNEnsembleClassifier(filters=[4], kernelSize=3, denseUnits=16, epochs=1, numMembers=1, idCol="id")
    for value in (0.5, -1.0, None):
        with pytest.raises(ValueError, match="column 'label' has"):
            unknown.fit(spoil(F.lit(value)))
    with pytest.raises(ValueError, match="set 'numClasses'"):
        unknown.fit(spoil(F.lit(5000.0)))
    gaps = unknown.fit(few.where("label IN (0, 2)"))
    assert gaps.numClasses == 3 and gaps.members[0].classes == (0, 2)
    fitted = {}
    for kind in ("byte", "int", "long", "double", "decimal(9, 3)"):
        typed = few.withColumn("label", F.col("label").cast(kind))
        fitted[kind] = weights_of(small(numMembers=1).fit(typed))
    assert len(set(map(tuple, fitted.values()))) == 1


def test_12_one_label_only_and_a_bag_that_misses_a_class(few):
    for label, told, classes in ((0, None, 2), (7, 10, 10)):
        single = small(numMembers=2, epochs=10, learningRate=1e-2)
        if told is None:
            single.clear(single.numClasses)
        model = single.fit(few.where(F.col("label") == label))
        assert model.numClasses == classes
        for raw, probability, prediction in votes(model, few.limit(20)).values():
            assert len(raw) == len(probability) == classes
            assert prediction == label
    missing = small(numMembers=3).fit(few.where("id < 20"))
    assert any(len(member.classes) < 10 for member in missing.members)
    found = votes(missing, few)
    assert len(found) == 200
    assert all(len(raw) == len(probability) == 10 and sum(raw) == 3 for raw, probability, _ in found.values())
    assert missing.evaluate(few).confusionMatrix.shape == (10, 10)


def test_13_skew(few):
    layouts = {
        "empty partitions": few.where("id < 6").repartition(20, "id"),
        "one partition": few.coalesce(1),
        "a bag smaller than a batch": few.where("id < 30"),
    }
    classifier = small(batchSize=64, bagging="subsample", subsamplingRate=0.9)
    for name, rows in layouts.items():
        model = classifier.fit(rows)
        assert len(model.members) == 3, name
        assert all(member.rows >= 1 and len(member.history["loss"]) == 1 for member in model.members), name
        assert len(set(weights_of(model))) == 3, name
        assert all(sum(raw) == 3 for raw, _, _ in votes(model, rows).values()), name
    with pytest.raises(ValueError, match=r"^Member \d has no rows to train on: .*numMembers"):
        classifier.copy({classifier.bagging: "disjoint"}).fit(few.where("id < 2"))
    shared = classifier.copy({classifier.subsamplingRate: 1.0}).fit(few.where("id < 2"))
    assert [member.rows for member in shared.members] == [2, 2, 2]  # every member has both rows


def test_14_bags_are_right(spark, few):
    def record(frames):  # what reaches a task
        from pyspark import TaskContext

        for frame in frames:
            yield frame[["member", "copies", "row_key"]].assign(task=TaskContext.get().partitionId())

    rows = spark.range(3000).select(F.xxhash64("id").alias("row_key"), F.lit(False).alias("validates"))
    for kind, rate, members in (("disjoint", 1.0, 4), ("subsample", 0.3, 3), ("bootstrap", 1.5, 3)):
        draw = draw_of(kind, rate, members, 5)
        bags = draw.bags(F.col("row_key"), F.col("validates"), with_guests=False)
        drawn = explode_bags(rows.repartition(3).withColumn("bags", bags))
        given = (
            place_bags(drawn, range(members), members)
            .mapInPandas(record, "task int, member int, copies int, row_key long")
            .toPandas()
        )
        assert (given["task"] == given["member"]).all()
        replayed = rows.select(
            "row_key",
            *[draw.copies(F.col("row_key"), F.lit(member)).alias(str(member)) for member in range(members)],
        ).toPandas()
        bags = {}
        for member in range(members):
            bag = given[given["member"] == member]
            bags[member] = dict(zip(bag["row_key"], bag["copies"], strict=True))
            assert len(bags[member]) == len(bag)  # a row comes to a bag once, with its number of copies
            expected = replayed[replayed[str(member)] > 0]
            assert bags[member] == dict(zip(expected["row_key"], expected[str(member)], strict=True))
        assert all(bags[0] != bags[member] for member in range(1, members))
        copies = replayed[[str(member) for member in range(members)]].to_numpy()
        share = 1 / members if kind == "disjoint" else rate
        spread = {"disjoint": share * (1 - share), "subsample": share * (1 - share), "bootstrap": share}[kind]
        assert np.allclose(copies.mean(axis=0), share, atol=5 * np.sqrt(spread / 3000))
        assert np.allclose(copies.var(axis=0), spread, rtol=0.15)
        if kind == "disjoint":
            assert (copies.sum(axis=1) == 1).all()
        if kind != "bootstrap":
            assert copies.max() == 1
        else:  # the members draw by themselves
            assert abs(np.corrcoef(copies.T)[0, 1]) < 0.1
        other_seed = draw_of(kind, rate, members, 6).copies(F.col("row_key"), F.lit(0)) > 0
        assert {row["row_key"] for row in rows.where(other_seed).collect()} != set(bags[0])
    # And the members of a fit were given just these.
    model = small(bagging="bootstrap", subsamplingRate=0.7, idCol="id", seed=3).fit(few)
    for member in model.members:
        copies = draw_of("bootstrap", 0.7, 3, 3).copies(F.xxhash64("id"), F.lit(member.member))
        bag = few.select("label", copies.alias("copies")).where("copies > 0").toPandas()
        assert (member.rows, member.examples) == (len(bag), bag["copies"].sum())
        assert member.classCounts == tuple(np.bincount(bag["label"], minlength=10))


def test_15_same_seed_same_members(few):
    chance = {"bagging": "bootstrap", "dropoutRate": 0.3, "randomShift": 1, "randomFlip": True, "numMembers": 2}
    first = small(**chance, epochs=2).fit(few)
    again = small(**chance, epochs=2).fit(few)
    assert weights_of(again) == weights_of(first)  # bit for bit
    assert [member.history for member in again.members] == [member.history for member in first.members]
    other = small(**chance, epochs=2, seed=18).fit(few)
    assert not set(weights_of(other)) & set(weights_of(first))
    assert len(set(weights_of(first))) == 2


def test_16_deployment_does_not_change_the_result(few):
    settings = {"bagging": "bootstrap", "randomShift": 1}
    expected = weights_of(small(**settings).fit(few.coalesce(1)))
    assert weights_of(small(**settings).fit(few.repartition(7))) == expected
    assert weights_of(small(**settings).fit(few.orderBy(F.rand(1)).coalesce(1))) == expected
    # Other masters: test_reproducible.py and test_cluster.py.


def test_17_closure_hygiene(few, tmp_path):
    with pytest.raises(TypeError):
        pickle.dumps(threading.Lock())
    classifier = small(numMembers=1)
    classifier.planted = threading.Lock()
    model = classifier.fit(few)
    model.planted = threading.Lock()
    assert model.transform(few).count() == 200
    assert len(votes(model, few)) == 200
    assert model.evaluate(few).rows == 200
    model.save(str(tmp_path / "model"))
    classifier.save(str(tmp_path / "classifier"))


def test_18_learns(spark, model, test):
    rng = np.random.default_rng(0)
    x, y = rng.normal(100, 30, (400, 8, 8)), rng.integers(0, 2, 400)
    x[y == 0, :, :4] += 60  # the brighter half is the class
    x[y == 1, :, 4:] += 60
    halves = to_dataframe(spark, x, y)
    toy = small(numClasses=2, epochs=5, learningRate=5e-3).fit(halves.where("id < 300"))
    assert toy.evaluate(halves.where("id >= 300")).accuracy > 0.97
    loss = toy.summary.objectiveHistory
    assert loss[-1] < loss[0]
    evaluation = model.evaluate(test)
    assert evaluation.accuracy > 0.8
    assert evaluation.accuracy >= evaluation.memberAccuracies.min()


# Transform


def test_19_shape_of_the_output(spark, model, few):
    odd = few.select(
        F.col("id").alias("a.b"),
        "features",
        F.lit("x").alias("text"),
        F.struct(F.lit(1).alias("part")).alias("whole"),
        F.col("label").alias("a b`c"),
    )
    scored = model.transform(odd)
    assert scored.schema.fields[:5] == odd.schema.fields
    assert [field.dataType for field in scored.schema.fields[5:]] == [VectorUDT(), VectorUDT(), DoubleType()]
    assert scored.columns == [*odd.columns, *OUTPUTS]
    rows = scored.collect()
    assert sorted(row["a.b"] for row in rows) == list(range(200))
    assert all(row["text"] == "x" and row["whole"].part == 1 for row in rows)
    attributes = scored.schema["prediction"].metadata["ml_attr"]
    assert (attributes["type"], attributes["num_vals"]) == ("nominal", 10)
    assert scored.schema["probability"].metadata["ml_attr"]["num_attrs"] == 10

    for name in OUTPUTS:
        left = [other for other in OUTPUTS if other != name]
        without = model.copy({model.getParam(f"{name}Col"): ""}).transform(few)
        assert without.columns == [*few.columns, *left]
        assert without.select(*left).collect() == model.transform(few).select(*left).collect()
        with pytest.raises(ValueError, match=f"has a column '{name}' already .*'{name}Col'"):
            model.transform(few.withColumn(name, F.lit(1)))
    with pytest.raises(ValueError, match="has a column 'prediction' already"):
        model.copy({model.probabilityCol: "prediction"}).transform(few)
    nothing = model.copy({model.getParam(f"{name}Col"): "" for name in OUTPUTS}).transform(few)
    assert nothing.columns == few.columns and nothing.count() == 200

    assert jobs_of(spark, lambda: model.transform(few)) == []
    assert jobs_of(spark, lambda: model.transform(few).collect()) != []
    empty = model.transform(few.limit(0))
    assert empty.columns == [*few.columns, *OUTPUTS] and empty.collect() == []
    nobody = spark.createDataFrame([], StructType([StructField("features", VectorUDT())]))  # no partition, no label
    assert model.transform(nobody).collect() == []


def test_20_votes_add_up(model, test, vectors, digits):
    def decide(members, softmax, **settings):
        architecture = Architecture((1, 1, 1), 3)
        plan = VotingPlan("", (architecture,), (0,) * len(members), PixelFormat("x", "array", (1, 1, 1)), **settings)
        return [part[0].tolist() for part in majority(np.array([members]), np.array([softmax]), plan)]

    assert decide([2, 1, 2], [0.1, 1.7, 1.2]) == [[0, 1, 2], [0, 1 / 3, 2 / 3], 2]
    assert decide([0, 1], [0.9, 1.1, 0.0]) == [[1, 1, 0], [0.5, 0.5, 0], 1]  # tie: to the larger softmax
    assert decide([2, 1], [0.2, 0.9, 0.9]) == [[0, 1, 1], [0, 0.5, 0.5], 1]  # that too is a tie: to the lower index
    assert decide([2, 1], [1.0, 0.4, 0.6]) == [[0, 1, 1], [0, 0.5, 0.5], 2]  # a class without votes has no say
    assert decide([0, 0, 1], [1.2, 1.8, 0.0], soft=True) == [[1.2, 1.8, 0], pytest.approx([0.4, 0.6, 0]), 1]

    images = digits[1][0][..., None].astype(np.float32)
    softmax = np.stack([np.asarray(model.memberNetwork(index)(images)) for index in range(3)])
    found = votes(model, test)
    raw, probability, prediction = (np.array([found[index][part] for index in range(360)]) for part in range(3))
    assert np.array_equal(raw, np.eye(10)[softmax.argmax(axis=2)].sum(axis=0))
    assert (raw.sum(axis=1) == 3).all() and np.array_equal(probability, raw / 3)
    tie = raw.max(axis=1) == 1
    assert tie.any() and not tie.all()
    assert np.array_equal(prediction[~tie], raw.argmax(axis=1)[~tie])
    assert np.array_equal(prediction[tie], np.where(raw > 0, softmax.sum(axis=0), 0).argmax(axis=1)[tie])

    soft = model.copy({model.votingStrategy: "soft"})
    for strategy in (model, soft):
        found = votes(strategy, test)
        for index, vector in enumerate(vectors):
            raw, probability, prediction = found[index]
            assert strategy.predictRaw(DenseVector(vector)).toArray() == pytest.approx(raw.toArray(), abs=1e-5)
            assert strategy.predictProbability(DenseVector(vector)).toArray() == pytest.approx(
                probability.toArray(), abs=1e-5
            )
            assert strategy.predict(DenseVector(vector)) == prediction


def test_21_invariance(spark, model, test):
    soft = model.copy({model.votingStrategy: "soft"})  # its votes are sums of floats: any other rounding would show
    expected = votes(soft, test)
    assert len(expected) == 360
    variants = {
        "one partition": test.coalesce(1),
        "seven partitions": test.repartition(7),
        "another order": test.orderBy(F.rand(2)).coalesce(1),
        "fewer rows": test.where("id % 3 = 1"),
        "one row": test.where("id = 42"),
    }
    for name, rows in variants.items():
        found = votes(soft, rows)
        assert found and found == {index: expected[index] for index in found}, name
    before = spark.conf.get("spark.sql.execution.arrow.maxRecordsPerBatch")
    try:
        for size in ("1", "7", "10000"):
            spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", size)
            assert votes(soft, test) == expected, f"batches of {size}"
    finally:
        spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", before)


def test_22_fits_its_neighbours(spark, model, few, test, monkeypatch):
    accuracy = MulticlassClassificationEvaluator(metricName="accuracy")
    assert accuracy.evaluate(model.transform(test)) == pytest.approx(model.evaluate(test).accuracy)

    columns = [f"pixel{index}" for index in range(64)]
    wide = few.select("id", "label", *[F.col("features")[index].alias(name) for index, name in enumerate(columns)])
    assembler = VectorAssembler(inputCols=columns, outputCol="features")
    assert len(votes(Pipeline(stages=[assembler, small(numMembers=1)]).fit(wide), wide)) == 200

    classifier = small()
    grid = ParamGridBuilder().addGrid(classifier.numMembers, [1, 2]).build()
    search = CrossValidator(
        estimator=classifier, estimatorParamMaps=grid, evaluator=accuracy, numFolds=2, parallelism=2, seed=1
    )
    found = search.fit(few)
    assert found.bestModel.getNumMembers() == [1, 2][int(np.argmax(found.avgMetrics))]

    broadcasts = []
    real = type(spark.sparkContext).broadcast
    monkeypatch.setattr(
        type(spark.sparkContext), "broadcast", lambda self, value: broadcasts.append(value) or real(self, value)
    )
    fresh = model.subset([0, 2])
    before = values(fresh), weights_of(fresh), fresh.uid
    for _ in range(3):
        assert fresh.transform(test).count() == 360
        assert len(votes(fresh, test)) == 360
    fresh.copy({fresh.votingStrategy: "soft"}).transform(test).collect()
    fresh.evaluate(test)
    assert [digest(value) for value in broadcasts if isinstance(value, bytes)] == weights_of(fresh)
    assert (values(fresh), weights_of(fresh), fresh.uid) == before


# Persistence


def same(saved, loaded):
    """Assert that two instances are the same in everything that persists, their stages too."""
    assert type(loaded) is type(saved)
    assert loaded.uid == saved.uid
    assert values(loaded) == values(saved)
    assert all(param.parent == loaded.uid for param in loaded.params)
    if isinstance(saved, CNNEnsembleClassificationModel):
        assert weights_of(loaded) == weights_of(saved)
        assert loaded.members == saved.members
        assert loaded.hasSummary is saved.hasSummary
        assert not saved.hasSummary or loaded.summary == saved.summary
        assert loaded._ensemble.class_names == saved._ensemble.class_names
    parts = {
        Pipeline: lambda stage: stage.getStages(),
        PipelineModel: lambda stage: stage.stages,
        OneVsRest: lambda stage: [stage.getClassifier()],
        OneVsRestModel: lambda stage: stage.models,
        CrossValidatorModel: lambda stage: [stage.bestModel],
        TrainValidationSplitModel: lambda stage: [stage.bestModel],
        CrossValidator: lambda stage: [stage.getEstimator()],
        TrainValidationSplit: lambda stage: [stage.getEstimator()],
    }.get(type(saved), lambda stage: [])
    assert len(parts(saved)) == len(parts(loaded))
    for ours, theirs in zip(parts(saved), parts(loaded), strict=True):
        same(ours, theirs)


def round_trip(instance, path):
    """Save, load and compare; the loaded one."""
    instance.save(str(path))
    loaded = type(instance).load(str(path))
    same(instance, loaded)
    return loaded


def names_in(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_24_round_trip(spark, model, few, tmp_path):
    # Alone: unset, default and set stay apart.
    classifier = small(numMembers=1, seed=5, thresholds=[1.0] * 10, network="", epochs=1)
    loaded = round_trip(classifier, tmp_path / "deep" / "a classifier")
    assert not loaded.isDefined("weightCol") and not loaded.isSet("batchSize") and loaded.isSet("epochs")
    loaded = round_trip(model, tmp_path / "model")
    assert loaded.hasSummary and votes(loaded, few) == votes(model, few)
    assert round_trip(model.subset([1]), tmp_path / "subset").hasSummary is False

    # In Spark's own.
    fitted = round_trip(Pipeline(stages=[Pipeline(stages=[classifier])]), tmp_path / "pipeline").fit(few)
    assert votes(round_trip(fitted, tmp_path / "nested"), few) == votes(fitted, few)
    grid = ParamGridBuilder().addGrid(classifier.votingStrategy, ["hard", "soft"]).build()
    evaluator = MulticlassClassificationEvaluator(metricName="accuracy")
    folds = CrossValidator(
        estimator=classifier, estimatorParamMaps=grid, evaluator=evaluator, numFolds=2, parallelism=2, seed=1
    )
    found = round_trip(folds, tmp_path / "folds").fit(few)
    loaded = round_trip(found, tmp_path / "folds-model")
    assert loaded.avgMetrics == found.avgMetrics and votes(loaded, few) == votes(found, few)
    split = TrainValidationSplit(
        estimator=Pipeline(stages=[classifier]), estimatorParamMaps=grid, evaluator=evaluator, parallelism=2, seed=1
    )
    found = round_trip(split, tmp_path / "split").fit(few)
    loaded = round_trip(found, tmp_path / "split-model")
    assert loaded.validationMetrics == found.validationMetrics and votes(loaded, few) == votes(found, few)
    rest = OneVsRest(classifier=small(numMembers=1, numClasses=2))
    found = round_trip(rest, tmp_path / "rest").fit(few.where("label < 3"))
    loaded = round_trip(found, tmp_path / "rest-model")
    assert loaded.transform(few).select("id", "prediction").collect() == (
        found.transform(few).select("id", "prediction").collect()
    )

    # What is there is refused, replaced when asked to, and told apart.
    path = str(tmp_path / "model")
    other = model.subset([0, 1])
    with pytest.raises(FileExistsError, match="exists already; choose another"):
        other.save(path)
    same(model, CNNEnsembleClassificationModel.load(path))
    other.write().overwrite().save(path)
    same(other, CNNEnsembleClassificationModel.load(path))
    with pytest.raises(ValueError, match=r"CNNEnsembleClassificationModel, not a .*\.CNNEnsembleClassifier"):
        CNNEnsembleClassifier.load(path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        CNNEnsembleClassificationModel.load(str(tmp_path / "nothing"))

    # A save that fails leaves what was there, and nothing beside it.
    class Failing(CNNEnsembleClassificationModel):
        def _write_members(self, spark, path):
            super()._write_members(spark, path)
            raise OSError("disk full")

    before = names_in(tmp_path)
    for place in (path, str(tmp_path / "new")):
        with pytest.raises(OSError, match="disk full"):
            Failing(model._ensemble, model.summary).write().overwrite().save(place)
    assert names_in(tmp_path) == before
    assert not [name for name in before if "saving" in name or "replaced" in name]
    same(other, CNNEnsembleClassificationModel.load(path))

    # On a filesystem that only Hadoop knows.
    hadoop = spark.sparkContext._jsc.hadoopConfiguration()
    hadoop.set("fs.viewfs.mounttable.checks.link./data", tmp_path.as_uri())
    loaded = round_trip(model, "viewfs://checks/data/elsewhere")
    assert votes(loaded, few) == votes(model, few)
    other.write().overwrite().save("viewfs://checks/data/elsewhere")
    same(other, CNNEnsembleClassificationModel.load(str(tmp_path / "elsewhere")))
    round_trip(Pipeline(stages=[classifier]), "viewfs://checks/data/pipeline-elsewhere")


def test_25_the_file_outlives_the_code(spark, tmp_path):
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
found = [{"rawPrediction": row.rawPrediction.toArray().tolist(), "prediction": row.prediction} for row in rows]
print(json.dumps({"votes": found, "heavy": heavy, "summary": model.summary.rows}))
"""
    expected = json.loads((TESTS / "data" / "model-v1-votes.json").read_text())
    assert len(expected) == 50
    assert in_subprocess(code, str(MODEL_V1)) == {"votes": expected, "heavy": [], "summary": 1437}

    parts = pq.read_table(MODEL_V1 / "members").to_pylist()
    metadata = json.loads(next((MODEL_V1 / "metadata").glob("part-*")).read_text())
    assert metadata["class"] == "spark_cnn_ensemble.CNNEnsembleClassificationModel"
    assert {part["member"] for part in parts} == {0, 1, 2}
    for member, told in enumerate(metadata["ensemble"]["members"]):
        mine = sorted((part for part in parts if part["member"] == member), key=lambda part: part["part"])
        data = b"".join(part["bytes"] for part in mine)
        assert (len(data), digest(data)) == (told["size"], told["sha256"])
        with np.load(BytesIO(data), allow_pickle=False) as arrays:
            assert sum(arrays[name].size for name in arrays.files) > 1000

    newer = tmp_path / "newer"
    shutil.copytree(MODEL_V1, newer, ignore=shutil.ignore_patterns("*.crc"))
    part = next((newer / "metadata").glob("part-*"))
    part.write_text(json.dumps({**metadata, "formatVersion": 99}))
    with pytest.raises(ValueError, match=r"newer is of format version 99, but .* reads version 1; load it with"):
        CNNEnsembleClassificationModel.load(str(newer))
