"""What cannot be used is refused in one sentence that names the param, the column or the row, and the remedy."""

import io
import json
import math
import re
import shutil
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.feature import StringIndexer, VectorAssembler
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    ByteType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    ShortType,
    StructField,
    StructType,
)
from support.classifiers import small
from support.networks import network_json
from support.refusals import a_sentence, refused, refused_by_job
from support.saved_models import edit_json, edit_metadata, load_refused, without_checksum

from spark_cnn_ensemble import CNNEnsembleClassificationModel, CNNEnsembleClassifier
from spark_cnn_ensemble.declared import check_params
from spark_cnn_ensemble.fit import members as fit_members
from spark_cnn_ensemble.persistence import write_whole
from spark_cnn_ensemble.worker.runtime import load_tensorflow

NAN, INF = math.nan, math.inf
SKIP = r"; fix the row, or set handleInvalid='skip' to leave such rows out\.$"


def tiny(unset=(), **params):
    """A classifier of 2x2 images in two classes."""
    classifier = small(**{"numMembers": 1, "inputShape": [2, 2, 1], "numClasses": 2, **params})
    for name in unset:
        classifier.clear(classifier.getParam(name))
    return classifier


@contextmanager
def jobs(spark):
    """The ids of the jobs that are started inside; filled in at the end."""
    context, group, found = spark.sparkContext, uuid.uuid4().hex, []
    context.setJobGroup(group, "a refusal")
    try:
        yield found
    finally:
        context._jsc.sc().listenerBus().waitUntilEmpty()
        found.extend(context.statusTracker().getJobIdsForGroup(group))
        context.setLocalProperty("spark.jobGroup.id", None)


@pytest.fixture
def no_training(monkeypatch):
    """A wire across the way from rows to members."""

    def place(*_):
        raise AssertionError("Training has begun.")

    monkeypatch.setattr(fit_members, "place_bags", place)


def same_members(one, other):
    return one.getNumMembers() == other.getNumMembers() and all(
        np.array_equal(a, b)
        for index in range(one.getNumMembers())
        for a, b in zip(one.memberNetwork(index).get_weights(), other.memberNetwork(index).get_weights(), strict=True)
    )


# --------------------------------------------------------------------------------- forms of features

CELL, OTHER = [0.0, 1.0, 2.0, 3.0], [200.0, 150.0, 100.0, 50.0]
IMAGE = "struct<origin:string,height:int,width:int,nChannels:int,mode:int,data:binary>"


def encoded(pixels, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file, kind)
    return file.getvalue()


def struct(data=bytes(4), height=2, width=2, channels=1):
    return ("file:/digits/7.png", height, width, channels, 0, data)


@dataclass(frozen=True)
class Form:
    """A type of features: two sound cells, and cells that cannot be used, each with what is wrong with it."""

    type: object
    sound: tuple
    faults: dict


LENGTHS = {
    "short": (CELL[:3], r"has 3 numbers where 4 were expected"),
    "long": ([*CELL, 4.0], r"has 5 numbers where 4 were expected"),
}
NOISE = np.random.default_rng(0).integers(0, 256, (2, 2))
FORMS = {
    "array": Form(
        ArrayType(DoubleType()),
        (CELL, OTHER),
        {
            "null": (None, "is null"),
            **LENGTHS,
            "empty": ([], "has 0 numbers where 4 were expected"),
            "null element": ([0.0, None, 0.0, 0.0], "has null, NaN or infinity"),
            "NaN": ([0.0, NAN, 0.0, 0.0], "has null, NaN or infinity"),
            "infinity": ([0.0, 0.0, 0.0, INF], "has null, NaN or infinity"),
            "-infinity": ([-INF, 0.0, 0.0, 0.0], "has null, NaN or infinity"),
            "beyond float": ([1e300, 0.0, 0.0, 0.0], "has null, NaN or infinity"),
        },
    ),
    "short array": Form(
        ArrayType(ShortType()),
        ([0, 1, 2, 3], [200, 150, 100, 50]),
        {
            "null": (None, "is null"),
            "short": ([0, 1, 2], r"has 3 numbers where 4 were expected"),
            "null element": ([0, None, 2, 3], "has null, NaN or infinity"),
            "null beside 127": ([127, None, 127, 3], "has null, NaN or infinity"),
        },
    ),
    "vector": Form(
        VectorUDT(),
        (Vectors.dense(CELL), Vectors.sparse(4, {0: 200.0, 1: 150.0, 2: 100.0, 3: 50.0})),
        {
            "null": (None, "is null"),
            "short": (Vectors.dense(CELL[:3]), r"has 3 numbers where 4 were expected"),
            "sparse and long": (Vectors.sparse(5, {1: 1.0}), r"has 5 numbers where 4 were expected"),
            "NaN": (Vectors.dense([0.0, NAN, 0.0, 0.0]), "has null, NaN or infinity"),
            "sparse with infinity": (Vectors.sparse(4, {3: INF}), "has null, NaN or infinity"),
        },
    ),
    "bytes": Form(
        BinaryType(),
        (bytes([0, 1, 2, 3]), encoded([[200, 150], [100, 50]])),
        {
            "null": (None, "is null"),
            "short": (
                bytes(3),
                r"has 3 bytes that are not a PNG or JPEG, where height\*width\*channels = 4 were expected",
            ),
            "empty": (b"", r"has 0 bytes that are not a PNG or JPEG, where .* = 4 were expected"),
            "another size": (encoded(np.zeros((2, 3))), r"is an image of 2x3 pixels where 2x2 were expected"),
            "truncated PNG": (encoded(NOISE)[:44], r"is a damaged image \(.+\)"),
            "truncated JPEG": (encoded(NOISE, "JPEG")[:-30], r"is a damaged image \(.+\)"),
            "unreadable PNG": (encoded(NOISE)[:8] + b"?" * 50, r"is a damaged image \(its header cannot be read\)"),
            "unreadable JPEG": (b"\xff\xd8\xff" + b"?" * 50, r"is a damaged image \(its header cannot be read\)"),
        },
    ),
    "image": Form(
        IMAGE,
        (struct(bytes([0, 1, 2, 3])), struct(bytes([200, 150, 100, 50]))),
        {
            "null": (None, "is null"),
            "unreadable": (struct(b"", -1, -1, -1), "is an unreadable image"),
            "another size": (struct(bytes(6), 2, 3), "is an image of 2x3x1 where 2x2x1 was expected"),
            "turned": (struct(bytes(4), 1, 4), "is an image of 1x4x1 where 2x2x1 was expected"),
            "another depth": (struct(bytes(12), 2, 2, 3), "is an image of 2x2x3 where 2x2x1 was expected"),
            "cut short": (struct(bytes(3)), "is an image whose data is cut short"),
            "null data": (struct(None), "is null"),
        },
    ),
}
FAULTS = [pytest.param(name, fault, id=f"{name}-{fault}") for name, form in FORMS.items() for fault in form.faults]


def rows(spark, form, cells):
    """A frame (id, features, label) of cells of a form; labels alternate."""
    kind = FORMS[form].type
    filled = [(index, cell, index % 2) for index, cell in enumerate(cells)]
    if isinstance(kind, str):
        return spark.createDataFrame(filled, f"id long, features {kind}, label int").coalesce(1)
    fields = [("id", LongType()), ("features", kind), ("label", IntegerType())]
    schema = StructType([StructField(name, kind) for name, kind in fields])
    return spark.createDataFrame(filled, schema).coalesce(1)


@pytest.fixture(scope="module")
def good(spark):
    """Eight rows with a column for everything that a param may name."""
    columns = "id long, features array<double>, label int, weight double, held boolean"
    filled = [(index, (CELL, OTHER)[index % 2], index % 2, 1.0, index > 5) for index in range(8)]
    return spark.createDataFrame(filled, columns).coalesce(1).cache()


@pytest.fixture(scope="module")
def scorer(good):
    """A model of 2x2 images."""
    return tiny().fit(good)


def test_the_watch_on_jobs_sees_them(spark, good):
    with jobs(spark) as started:
        good.where("id > 3").collect()
    assert started


# -------------------------------------------------------------------- fit: schema, params and network

HAVE = r"'id', 'features', 'label', 'weight', 'held'"
NOT_FEATURES = (
    r"but features must be a vector, an array of numbers, an image struct, or bytes; convert the column or set "
    r"'featuresCol'\.$"
)
SCHEMAS = {
    "no features": (
        {"featuresCol": "pixels"},
        None,
        rf"^The DataFrame has no column 'pixels' \(parameter 'featuresCol'\), only {HAVE}; set 'featuresCol'\.$",
    ),
    "no label": (
        {"labelCol": "digit"},
        None,
        rf"^The DataFrame has no column 'digit' \(parameter 'labelCol'\), only {HAVE}; set 'labelCol'\.$",
    ),
    "no weight": (
        {"weightCol": "w"},
        None,
        rf"^The DataFrame has no column 'w' \(parameter 'weightCol'\), only {HAVE}; set 'weightCol'\.$",
    ),
    "no id": (
        {"idCol": "nr"},
        None,
        rf"^The DataFrame has no column 'nr' \(parameter 'idCol'\), only {HAVE}; set 'idCol'\.$",
    ),
    "no indicator": (
        {"validationIndicatorCol": "v"},
        None,
        rf"^The DataFrame has no column 'v' \(parameter 'validationIndicatorCol'\), only {HAVE}; set "
        rf"'validationIndicatorCol'\.$",
    ),
    "features twice": (
        {},
        lambda df: df.select("*", "features"),
        r"more than one column 'features' \(parameter 'featuresCol'\), .*; set 'featuresCol'\.$",
    ),
    "label twice": (
        {},
        lambda df: df.select("*", "label"),
        r"more than one column 'label' \(parameter 'labelCol'\), .*; set 'labelCol'\.$",
    ),
    "weight twice": (
        {"weightCol": "weight"},
        lambda df: df.select("*", "weight"),
        r"more than one column 'weight' \(parameter 'weightCol'\), .*; set 'weightCol'\.$",
    ),
    "text": (
        {},
        lambda df: df.withColumn("features", F.lit("1 2 3 4")),
        rf"^Column 'features' \(parameter 'featuresCol'\) is of type string, {NOT_FEATURES}",
    ),
    "array of text": (
        {},
        lambda df: df.withColumn("features", F.array(F.lit("1"))),
        rf"^Column 'features' .* is of type array<string>, {NOT_FEATURES}",
    ),
    "array of booleans": (
        {},
        lambda df: df.withColumn("features", F.array(F.lit(True))),
        rf"^Column 'features' .* is of type array<boolean>, {NOT_FEATURES}",
    ),
    "array of arrays": (
        {},
        lambda df: df.withColumn("features", F.array("features")),
        rf"^Column 'features' .* is of type array<array<double>>, {NOT_FEATURES}",
    ),
    "a number": (
        {},
        lambda df: df.withColumn("features", F.lit(1.0)),
        rf"^Column 'features' .* is of type double, {NOT_FEATURES}",
    ),
    "another struct": (
        {},
        lambda df: df.withColumn("features", F.struct("id", "label")),
        rf"^Column 'features' .* is of type struct<id:bigint,label:int>, {NOT_FEATURES}",
    ),
    "label of text": (
        {},
        lambda df: df.withColumn("label", F.lit("one")),
        r"^Column 'label' \(parameter 'labelCol'\) is of type string, .*; put a StringIndexer before, or cast "
        r"the column\.$",
    ),
    "label of booleans": (
        {},
        lambda df: df.withColumn("label", F.lit(True)),
        r"^Column 'label' \(parameter 'labelCol'\) is of type boolean, .*cast the column\.$",
    ),
    "weight of text": (
        {"weightCol": "weight"},
        lambda df: df.withColumn("weight", F.lit("1")),
        r"^Column 'weight' \(parameter 'weightCol'\) is of type string, but must be numeric; cast the column\.$",
    ),
    "indicator of numbers": (
        {"validationIndicatorCol": "label"},
        None,
        r"^Column 'label' \(parameter 'validationIndicatorCol'\) is of type int, but must be boolean; cast "
        r"the column\.$",
    ),
    "vector of another length": (
        {},
        lambda df: assembled(df, 3),
        r"^Column 'features' \(parameter 'featuresCol'\) has 3 numbers a row, but inputShape \[2, 2, 1\] "
        r"needs 4; set 'inputShape' to the images' \[height, width, channels\]\.$",
    ),
    "vector of no square": (
        {"unset": ["inputShape"]},
        lambda df: assembled(df, 3),
        r"^Column 'features' \(parameter 'featuresCol'\) has 3 numbers a row, which is no square image of one "
        r"channel; set 'inputShape' to \[height, width, channels\]\.$",
    ),
    "patience without indicator": (
        {"earlyStoppingPatience": 2},
        None,
        r"^The 'earlyStoppingPatience' parameter of CNNEnsembleClassifier needs rows to validate on; set "
        r"'validationIndicatorCol' to a boolean column that marks them\.$",
    ),
    "subsample beyond 1": (
        {"bagging": "subsample", "subsamplingRate": 1.5},
        None,
        r"^The 'subsamplingRate' parameter of CNNEnsembleClassifier must be <= 1\.0 where bagging is "
        r"'subsample'\. Got 1\.5 instead\.$",
    ),
    "bootstrap beyond 100": (
        {"bagging": "bootstrap", "subsamplingRate": 101.0},
        None,
        r"^The 'subsamplingRate' parameter of CNNEnsembleClassifier must be <= 100\.0 where bagging is "
        r"'bootstrap'\. Got 101\.0 instead\.$",
    ),
    "too few thresholds": (
        {"thresholds": [0.5]},
        None,
        r"^The 'thresholds' parameter of CNNEnsembleClassifier must have a value for each of the 2 classes\. "
        r"Got 1 instead\.$",
    ),
}


def assembled(frame, count):
    """Features as a vector of `count` numbers, whose metadata says so."""
    return VectorAssembler(inputCols=["weight"] * count, outputCol="features").transform(frame.drop("features"))


@pytest.mark.parametrize("case", SCHEMAS)
def test_fit_refuses_a_schema_before_any_job(spark, good, case):
    params, change, sentence = SCHEMAS[case]
    frame = good if change is None else change(good)
    with jobs(spark) as started:
        text = refused(tiny(**params).fit, frame)
    assert re.search(sentence, text), text
    assert not started


OUT_OF_RANGE = {
    "votingStrategy": ["", "Hard", "mean"],
    "handleInvalid": ["", "drop"],
    "numMembers": [0, -1],
    "bagging": ["", "boosting"],
    "subsamplingRate": [0.0, -0.5, NAN, INF],
    "filters": [[], [0], [4, -1]],
    "kernelSize": [0, -3],
    "denseUnits": [0],
    "dropoutRate": [-0.1, 1.0, NAN],
    "epochs": [0, -1],
    "batchSize": [0],
    "learningRate": [0.0, -1e-3, NAN, INF],
    "learningRateSchedule": ["", "step"],
    "optimizer": ["", "Adam", "lbfgs", "lamb"],
    "randomShift": [-1],
    "earlyStoppingPatience": [-1],
    "precision": ["", "float16", "float64"],
    "oobSampleSize": [-1],
    "maxMemoryInMB": [0, -1],
    "minMembers": [0],
    "verbose": [-1, 2],
    "seed": [2**63, -(2**63) - 1],
    "numClasses": [0, 1, -5],
    "inputShape": [[], [8, 8], [8, 8, 1, 1], [8, 0, 1], [-8, 8, 1]],
    "thresholds": [[-0.1, 0.5], [NAN, 0.5], [INF, 0.5], [0.0, 0.0]],
}
IN_RANGE = {
    "votingStrategy": ["hard", "soft"],
    "handleInvalid": ["error", "skip", "keep"],
    "numMembers": [1, 1000],
    "bagging": ["disjoint", "subsample", "bootstrap"],
    "subsamplingRate": [1e-9, 1.0, 100.0],
    "filters": [[1], [4, 4, 4]],
    "kernelSize": [1, 2],
    "denseUnits": [1],
    "dropoutRate": [0.0, 0.99],
    "epochs": [1],
    "batchSize": [1, 10**6],
    "learningRate": [1e-12, 10.0],
    "learningRateSchedule": ["constant", "linear", "cosine"],
    "optimizer": ["adam", "sgd"],
    "randomShift": [0, 100],
    "earlyStoppingPatience": [0, 5],
    "precision": ["float32", "bfloat16"],
    "oobSampleSize": [0, 10**6],
    "maxMemoryInMB": [1, 10**6],
    "minMembers": [1, 10],
    "verbose": [0, 1],
    "seed": [0, -1, 2**63 - 1, -(2**63)],
    "numClasses": [2, 5000],
    "inputShape": [[1, 1, 1], [224, 224, 3]],
    "thresholds": [[0.0, 0.5], [1.0, 7.0]],
}


DECLARED = {param.name: param for param in CNNEnsembleClassifier().params}
RANGES = {name: param.allowed for name, param in DECLARED.items() if getattr(param, "allowed", None)}


def test_every_range_is_tried():
    assert set(OUT_OF_RANGE) == set(IN_RANGE) == set(RANGES)
    free = {"network", "checkpointDir", *(name for name in DECLARED if name.endswith("Col"))}
    assert set(DECLARED) - set(RANGES) - free == {"standardization", "randomFlip"}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, bad in OUT_OF_RANGE.items() for value in bad])
def test_fit_refuses_a_value_out_of_range(spark, good, name, value):
    with jobs(spark) as started:
        text = refused(tiny(**{name: value}).fit, good)
    rule = re.escape(RANGES[name].rule)
    assert re.fullmatch(
        rf"The '{name}' parameter of CNNEnsembleClassifier must be {rule}\. Got {re.escape(repr(value))} instead\.",
        text,
    ), text
    assert not started


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, fine in IN_RANGE.items() for value in fine])
def test_the_ends_of_a_range_are_in_it(spark, name, value):
    check_params(tiny(**{name: value}))


def test_a_range_holds_for_the_model_too(scorer, good):
    model = scorer.copy().setVotingStrategy("loudest")
    rule = (
        r"^The 'votingStrategy' parameter of CNNEnsembleClassificationModel must be one of 'hard', 'soft'\. Got "
        r"'loudest'"
    )
    for act in (
        model.transform,
        model.evaluate,
        lambda _: model.predict(Vectors.dense(CELL)),
        lambda _: model.toKeras(),
    ):
        assert re.search(rule, refused(act, good))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("numMembers", "many"),
        ("numMembers", 1.5),
        ("filters", "16"),
        ("filters", [1.5]),
        ("inputShape", 8),
        ("learningRate", "fast"),
        ("randomFlip", "yes"),
        ("standardization", 1),
        ("bagging", 3),
        ("network", ["layers"]),
        ("seed", None.__class__),
        ("thresholds", ["a"]),
    ],
)
def test_a_value_of_another_type_is_refused_when_it_is_set(spark, name, value):
    for act in (lambda: tiny(**{name: value}), lambda: tiny().setParams(**{name: value})):
        with pytest.raises(TypeError, match=name):
            act()


def test_unknown_params_are_refused(spark):
    with pytest.raises(TypeError, match="trees"):
        CNNEnsembleClassifier(trees=3)
    text = refused(CNNEnsembleClassifier().setParams, trees=3, kind=TypeError)
    assert text == "CNNEnsembleClassifier has no parameter 'trees'."
    with pytest.raises(TypeError):
        CNNEnsembleClassifier("features")


def changed(text, old, new):
    assert old in text
    return text.replace(old, new)


def networks():
    """JSON that is no network for two classes of 2x2 images, each with the sentence that refuses it."""
    load_tensorflow()
    import keras
    from keras import layers

    @keras.saving.register_keras_serializable(package="mine")
    class Twice(layers.Layer):
        def call(self, inputs):
            return 2 * inputs

    flat, last = layers.Flatten, lambda: layers.Dense(2, activation="softmax")
    sound = network_json(flat(), last())
    registered = network_json(Twice(), flat(), last())
    image = keras.Input((2, 2, 1))
    hidden = flat()(image)
    two_outputs = keras.Model(image, [last()(hidden), last()(hidden)]).to_json()
    second = keras.Input((2, 2, 1))
    two_inputs = keras.Model([image, second], last()(flat()(layers.Add()([image, second])))).to_json()
    code = (
        r"^The 'network' parameter holds '{}', which is custom code rather than a layer of Keras; use Keras' "
        r"built-in layers only\.$"
    )
    cannot = (
        r"^The 'network' parameter is not a model that Keras [\d.]+ can build from class '{}' \(.+\); pass "
        r"model\.to_json\(\) of a model with one input and one output\.$"
    )
    no_model = r"^The 'network' parameter is JSON but not a Keras model; pass model\.to_json\(\) of a Keras model\.$"
    return {
        "no JSON": (
            "conv5-conv5",
            r"^The 'network' parameter is not JSON \(.+\); pass model\.to_json\(\) of a Keras model\.$",
        ),
        "cut JSON": (
            sound[:-9],
            r"^The 'network' parameter is not JSON \(.+\); pass model\.to_json\(\) of a Keras model\.$",
        ),
        "a deep nest": (
            "[" * 100_000,
            r"^The 'network' parameter is not JSON \(.+\); pass model\.to_json\(\) of a Keras model\.$",
        ),
        "a list": ("[1, 2]", no_model),
        "a number": ("3", no_model),
        "a dict": ('{"layers": []}', no_model),
        "a layer": (
            json.dumps(
                {"class_name": "Dense", "module": "keras.layers", "config": {"units": 2}, "registered_name": None}
            ),
            cannot.format("Dense"),
        ),
        "an unknown layer": (changed(sound, '"Flatten"', '"Flattest"'), cannot.format("Sequential")),
        "a broken layer": (changed(sound, '"units": 2', '"units": -2'), cannot.format("Sequential")),
        "Lambda": (network_json(layers.Lambda(lambda x: x * 2), flat(), last()), code.format("Lambda")),
        "a registered class": (registered, code.format("Twice")),
        "a registered class of no module": (
            changed(registered, json.dumps(Twice.__module__), "null"),  # as a notebook's are
            code.format("Twice"),
        ),
        "a foreign module": (changed(sound, '"module": "keras.layers"', '"module": "os"'), code.format(r"\w+")),
        "a module that looks like Keras": (
            changed(sound, '"module": "keras.layers"', '"module": "kerasy.layers"'),
            code.format(r"\w+"),
        ),
        "another image": (
            network_json(flat(), last(), shape=(3, 3, 1)),
            r"^The 'network' parameter takes input of shape \[3, 3, 1\], but the rows are images of shape "
            r"\[2, 2, 1\]; change the network's Input or set inputShape\.$",
        ),
        "flat input": (
            network_json(last(), shape=(4,)),
            r"^The 'network' parameter takes input of shape \[4\], but the rows are images of shape \[2, 2, "
            r"1\]; change the network's Input or set inputShape\.$",
        ),
        "three classes": (
            network_json(flat(), layers.Dense(3, activation="softmax")),
            r"^The 'network' parameter gives output of shape \[3\], but there are 2 classes; end it with "
            r"Dense\(2, activation='softmax'\)\.$",
        ),
        "a map": (
            network_json(layers.Dense(2, activation="softmax")),
            r"^The 'network' parameter gives output of shape \[2, 2, 2\], but there are 2 classes; end it "
            r"with Dense\(2, activation='softmax'\)\.$",
        ),
        "logits": (
            network_json(flat(), layers.Dense(2)),
            r"^The 'network' parameter does not give probabilities \(.+\); end it with activation='softmax'\.$",
        ),
        "sigmoid": (
            network_json(flat(), layers.Dense(2, activation="sigmoid")),
            r"^The 'network' parameter does not give probabilities \(.+\); end it with activation='softmax'\.$",
        ),
        "float64": (
            network_json(flat(), layers.Dense(2, activation="softmax", dtype="float64")),
            r"^The 'network' parameter has weights or an output of type float64; build it with dtype='float32', and set "
            r"precision='bfloat16' for mixed precision\.$",
        ),
        "a hidden layer of bfloat16": (
            network_json(flat(), layers.Dense(3, dtype="bfloat16"), layers.Dense(2, activation="softmax")),
            r"^The 'network' parameter has weights or an output of type bfloat16; build it with dtype='float32', and set "
            r"precision='bfloat16' for mixed precision\.$",
        ),
        "two outputs": (
            two_outputs,
            r"^The 'network' parameter .*; (pass model\.to_json\(\) of a model with one input and one "
            r"output|end it with Dense\(2, activation='softmax'\))\.$",
        ),
        "two inputs": (
            two_inputs,
            r"^The 'network' parameter .*; (pass model\.to_json\(\) of a model with one input and one "
            r"output|change the network's Input or set inputShape)\.$",
        ),
        "its own rescaling": (
            network_json(layers.Rescaling(1 / 255), flat(), last()),
            r"^The 'network' parameter rescales its input itself \(layer 'rescaling\w*'\) and "
            r"'standardization' is True, so the input would be rescaled twice; set standardization=False or remove "
            r"the layer\.$",
        ),
    }


@pytest.fixture(scope="module")
def bad_networks():
    return networks()


NETWORKS = [
    "no JSON",
    "cut JSON",
    "a deep nest",
    "a list",
    "a number",
    "a dict",
    "a layer",
    "an unknown layer",
    "a broken layer",
    "Lambda",
    "a registered class",
    "a registered class of no module",
    "a foreign module",
    "a module that looks like Keras",
    "another image",
    "flat input",
    "three classes",
    "a map",
    "logits",
    "sigmoid",
    "float64",
    "a hidden layer of bfloat16",
    "two outputs",
    "two inputs",
    "its own rescaling",
]


@pytest.mark.parametrize("case", NETWORKS)
def test_fit_refuses_a_network_before_any_job(spark, good, bad_networks, case):
    text, sentence = bad_networks[case]
    with jobs(spark) as started:
        found = refused(tiny(network=text).fit, good)
    assert re.search(sentence, found), found
    assert not started


def test_every_bad_network_is_tried(bad_networks):
    assert set(NETWORKS) == set(bad_networks)


# -------------------------------------------------- fit: what the driver finds out by a look at the rows

LOOK = {
    "no square": (
        "array",
        [CELL[:3]] * 2,
        r"^Column 'features' \(parameter 'featuresCol'\) has 3 numbers a row, which is no square image of one "
        r"channel; set 'inputShape' to \[height, width, channels\]\.$",
    ),
    "no numbers": (
        "array",
        [[]],
        r"^Column 'features' .* has 0 numbers a row, which is no square image .*; set 'inputShape' to",
    ),
    "vectors of no square": (
        "vector",
        [Vectors.sparse(7, {})],
        r"^Column 'features' .* has 7 numbers a row, which is no square image .*; set 'inputShape' to",
    ),
    "bytes of no square": (
        "bytes",
        [bytes(12)],
        r"^Column 'features' .* has 12 numbers a row, which is no square image .*; set 'inputShape' to",
    ),
    "unreadable image": (
        "bytes",
        [FORMS["bytes"].faults["unreadable PNG"][0]],
        r"^Column 'features' \(parameter 'featuresCol'\) begins with an unreadable image \(its header cannot "
        r"be read\); set 'inputShape' to \[height, width, channels\]\.$",
    ),
    "unreadable images": (
        "image",
        [None, struct(b"", -1, -1, -1)],
        r"^The DataFrame has no rows with a usable column 'features' \(parameter 'featuresCol'\); there is "
        r"nothing to fit\.$",
    ),
    "only nulls": (
        "array",
        [None, None],
        r"^The DataFrame has no rows with a usable column 'features' \(parameter 'featuresCol'\); there is "
        r"nothing to fit\.$",
    ),
    "no rows": (
        "array",
        [],
        r"^The DataFrame has no rows with a usable column 'features' \(parameter 'featuresCol'\); there is "
        r"nothing to fit\.$",
    ),
    "no images": (
        "image",
        [],
        r"^The DataFrame has no rows with a usable column 'features' \(parameter 'featuresCol'\); there is "
        r"nothing to fit\.$",
    ),
}


@pytest.mark.parametrize("case", LOOK)
def test_fit_looks_at_the_first_row_for_the_shape(spark, no_training, case):
    form, cells, sentence = LOOK[case]
    text = refused(tiny(unset=["inputShape"]).fit, rows(spark, form, cells))
    assert re.search(sentence, text), text


BAD_LABELS = {
    "null": (None, "has no label"),
    "NaN": (NAN, "has no label"),
    "-1": (-1.0, r"has label -1\.0"),
    "0.5": (0.5, r"has label 0\.5"),
    "infinity": (INF, "has label Infinity"),
    "-infinity": (-INF, "has label -Infinity"),
    "-1e300": (-1e300, r"has label -1\.0E300"),
}
TOO_LARGE = {
    "2": (2.0, r"has label 2\.0"),
    "1e10": (1e10, r"has label 1\.0E10"),
    "1e300": (1e300, r"has label 1\.0E300"),
}


def labelled(spark, labels):
    filled = [(index, (CELL, OTHER)[index % 2], label) for index, label in enumerate(labels)]
    return spark.createDataFrame(filled, "id long, features array<double>, label double").coalesce(1)


@pytest.mark.parametrize("case", BAD_LABELS)
def test_fit_refuses_a_label_while_it_counts_the_classes(spark, no_training, case):
    label, fault = BAD_LABELS[case]
    text = refused(tiny(unset=["numClasses"]).fit, labelled(spark, [0.0, 1.0, label]))
    assert re.search(
        rf"^A row: column 'label' {fault} where a whole number 0, 1, 2, \.\.\. was expected{SKIP}", text
    ), text


@pytest.mark.parametrize(("label", "said"), [(1000.0, "1000"), (1e10, "10000000000"), (60.0, None)])
def test_fit_does_not_infer_a_thousand_classes(spark, no_training, label, said):
    classifier = tiny(unset=["numClasses"])
    if said is None:
        with pytest.raises(AssertionError, match="Training has begun"):
            classifier.fit(labelled(spark, [0.0, label]))
        return
    text = refused(classifier.fit, labelled(spark, [0.0, label]))
    assert re.search(
        rf"^Column 'label' \(parameter 'labelCol'\) holds label {said}; more than 1000 classes are not "
        rf"inferred from the "
        r"data: set 'numClasses' if there are so many, or index the labels\.$",
        text,
    ), text


@pytest.mark.parametrize("labels", [[], [None, NAN, -1.0]])
def test_fit_needs_a_label(spark, no_training, labels):
    text = refused(tiny(unset=["numClasses"], handleInvalid="skip").fit, labelled(spark, labels))
    assert re.search(r"^The DataFrame has no rows with a usable column 'label' \(parameter 'labelCol'\)", text), text


# ------------------------------------------------------------------------ fit: rows that cannot be used


@pytest.mark.parametrize(("form", "fault"), FAULTS)
def test_fit_refuses_a_row_by_its_features(spark, form, fault):
    cell, said = FORMS[form].faults[fault]
    frame = rows(spark, form, [*FORMS[form].sound, cell])
    text = refused(tiny(idCol="id").fit, frame)
    assert re.search(rf"^Row id=2: column 'features' {said}[^;]*{SKIP}", text), text


@pytest.mark.parametrize(
    ("form", "fault", "name"),
    [
        ("array", "NaN", "A row"),
        ("bytes", "truncated PNG", "A row"),
        ("image", "another size", "Row file:/digits/7.png"),
    ],
)
def test_a_row_without_id_is_named_as_well_as_can_be(spark, form, fault, name):
    text = refused(tiny().fit, rows(spark, form, [FORMS[form].sound[0], FORMS[form].faults[fault][0]]))
    assert text.startswith(f"{name}: column 'features' "), text


@pytest.mark.parametrize("case", [*BAD_LABELS, *TOO_LARGE])
def test_fit_refuses_a_row_by_its_label(spark, case):
    label, fault = {**BAD_LABELS, **TOO_LARGE}[case]
    text = refused(tiny(idCol="id").fit, labelled(spark, [0.0, 1.0, label]))
    assert re.search(rf"^Row id=2: column 'label' {fault} where a whole number 0 to 1 was expected{SKIP}", text), text


BAD_WEIGHTS = {
    "null": (None, "has weight null"),
    "NaN": (NAN, "has weight NaN"),
    "-1": (-1.0, r"has weight -1\.0"),
    "infinity": (INF, "has weight Infinity"),
    "beyond float": (1e300, r"has weight 1\.0E300"),
}


def weighted(spark, weights):
    filled = [(index, (CELL, OTHER)[index % 2], index % 2, weight) for index, weight in enumerate(weights)]
    return spark.createDataFrame(filled, "id long, features array<double>, label int, weight double").coalesce(1)


@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_fit_refuses_a_row_by_its_weight(spark, case):
    weight, fault = BAD_WEIGHTS[case]
    text = refused(tiny(idCol="id", weightCol="weight").fit, weighted(spark, [1.0, 2.0, weight]))
    assert re.search(rf"^Row id=2: column 'weight' {fault} where a finite number >= 0 was expected{SKIP}", text), text


def test_fit_refuses_weights_that_are_all_0(spark):
    text = refused(tiny(weightCol="weight").fit, weighted(spark, [0.0] * 4))
    assert text == ("Member 0 has only rows of weight 0 in its bag; set fewer members (numMembers) or other weights.")


@pytest.mark.parametrize("handle_invalid", ["error", "skip"])
@pytest.mark.parametrize("case", ["no rows", "no partitions", "more members than rows"])
def test_fit_refuses_an_empty_bag_by_its_member(spark, good, case, handle_invalid):
    frame = {
        "no rows": good.where("id < 0"),
        "no partitions": rows(spark, "array", []),
        "more members than rows": good.where("id < 3"),
    }[case]
    text = refused(tiny(numMembers=5, handleInvalid=handle_invalid).fit, frame)
    assert re.fullmatch(
        r"Member [0-4] has no rows to train on: its bag is empty; set fewer members \(numMembers\), a larger "
        r"subsamplingRate, or give more rows\.",
        text,
    ), text


def test_fit_refuses_rows_that_all_are_skipped(spark):
    cells = [cell for cell, _ in FORMS["array"].faults.values()]
    text = refused(tiny(handleInvalid="skip").fit, rows(spark, "array", cells))
    assert text.startswith("Member 0 has no rows to train on"), text


def test_fit_refuses_patience_where_no_row_validates(good):
    classifier = tiny(earlyStoppingPatience=2, validationIndicatorCol="held")
    text = refused(classifier.fit, good.withColumn("held", F.lit(False)))
    assert text == (
        "The 'earlyStoppingPatience' parameter needs rows to validate on, but no row of weight > 0 is marked in the "
        "column of 'validationIndicatorCol'; mark some, or set earlyStoppingPatience=0."
    )


def test_without_patience_no_row_needs_to_validate(good):
    model = tiny(validationIndicatorCol="held").fit(good.withColumn("held", F.lit(None).cast("boolean")))
    assert model.members[0].validationRows == 0
    assert model.members[0].rows == 8


@pytest.mark.parametrize("form", FORMS)
def test_fit_skips_rows_and_trains_on_the_rest(spark, form):
    sound = [FORMS[form].sound[index % 2] for index in range(8)]
    bad = [cell for cell, _ in FORMS[form].faults.values()]
    classifier = tiny(idCol="id", handleInvalid="skip")
    model = classifier.fit(rows(spark, form, [*sound, *bad]))
    assert model.summary.skippedRows == len(bad)
    assert model.summary.rows == len(sound) + len(bad)
    assert model.members[0].rows == len(sound)
    clean = classifier.fit(rows(spark, form, sound))
    assert clean.summary.skippedRows == 0
    assert same_members(model, clean)


@pytest.mark.parametrize("infer", [[], ["numClasses"]], ids=["numClasses set", "numClasses inferred"])
def test_fit_skips_rows_by_label_and_weight(spark, infer):
    labels = [0.0, 1.0, *[label for label, _ in BAD_LABELS.values()], 1.0, 0.0]
    if not infer:
        labels += [label for label, _ in TOO_LARGE.values()]
    weights = [weight for weight, _ in BAD_WEIGHTS.values()]
    frame = labelled(spark, labels).withColumn("weight", F.lit(2.0))
    more = weighted(spark, weights).select(F.col("id") + 100, "features", "label", "weight")
    classifier = tiny(unset=infer, idCol="id", weightCol="weight", handleInvalid="skip")
    model = classifier.fit(frame.union(more))
    assert model.numClasses == 2
    assert model.summary.skippedRows == len(labels) - 4 + len(weights)
    assert model.members[0].rows == 4
    assert same_members(model, classifier.fit(frame.where("label in (0, 1)")))


def test_skipped_rows_are_counted_once_in_bags_that_share_them(spark):
    sound = [FORMS["bytes"].sound[index % 2] for index in range(8)]
    bad = [cell for cell, _ in FORMS["bytes"].faults.values()]  # found by each member that is given them
    classifier = tiny(idCol="id", handleInvalid="skip", numMembers=3, bagging="subsample", subsamplingRate=1.0)
    model = classifier.fit(rows(spark, "bytes", [*sound, *bad]))
    assert model.summary.skippedRows == len(bad)
    assert [member.rows for member in model.members] == [8, 8, 8]


# ------------------------------------------------------------------------------------------- scoring

COLUMNS = ["prediction", "rawPrediction", "probability"]
WRONG_COLUMNS = {
    "no features": (
        lambda df: df.drop("features"),
        r"^The DataFrame has no column 'features' \(parameter 'featuresCol'\), only .*; set 'featuresCol'\.$",
    ),
    "features twice": (
        lambda df: df.select("*", "features"),
        r"more than one column 'features' \(parameter 'featuresCol'\)",
    ),
    "text": (
        lambda df: df.withColumn("features", F.lit("1 2 3")),
        rf"^Column 'features' .* is of type string, {NOT_FEATURES}",
    ),
    "vector of another length": (
        lambda df: assembled(df, 3),
        r"^Column 'features' \(parameter 'featuresCol'\) has 3 numbers a row, but inputShape \[2, 2, 1\] "
        r"needs 4; set 'inputShape'",
    ),
}


@pytest.mark.parametrize("case", WRONG_COLUMNS)
@pytest.mark.parametrize("act", ["transform", "evaluate"])
def test_scoring_refuses_a_schema_before_any_job(spark, scorer, good, case, act):
    change, sentence = WRONG_COLUMNS[case]
    with jobs(spark) as started:
        text = refused(getattr(scorer, act), change(good))
    assert re.search(sentence, text), text
    assert not started


@pytest.mark.parametrize("name", COLUMNS)
def test_transform_refuses_to_write_over_a_column(spark, scorer, good, name):
    with jobs(spark) as started:
        text = refused(scorer.transform, good.withColumn(name, F.lit(0.0)))
    assert text == (
        f"The DataFrame has a column '{name}' already (parameter '{name}Col'); drop it, or set '{name}Col' to another "
        "name or to '' to leave the output out."
    )
    assert not started


def test_transform_refuses_two_outputs_of_one_name(scorer, good):
    text = refused(scorer.copy({scorer.probabilityCol: "rawPrediction"}).transform, good)
    assert text.startswith("The DataFrame has a column 'rawPrediction' already (parameter 'probabilityCol')"), text


@pytest.mark.parametrize("thresholds", [[0.5], [0.5] * 3])
def test_scoring_refuses_thresholds_of_another_number(spark, scorer, good, thresholds):
    model = scorer.copy({scorer.thresholds: thresholds})
    for act in (model.transform, model.evaluate, lambda _: model.predict(Vectors.dense(CELL))):
        with jobs(spark) as started:
            text = refused(act, good)
        assert text == (
            "The 'thresholds' parameter of CNNEnsembleClassificationModel must have a value for each of the 2 classes. "
            f"Got {len(thresholds)} instead."
        )
        assert not started


def test_evaluate_refuses_labels(spark, scorer, good):
    assert "'label' (parameter 'labelCol')" in refused(scorer.evaluate, good.drop("label"))
    assert "is of type string" in refused(scorer.evaluate, good.withColumn("label", F.lit("1")))
    for case, (label, fault) in {**BAD_LABELS, **TOO_LARGE}.items():
        text = refused(scorer.evaluate, labelled(spark, [0.0, label]))
        assert re.search(rf"^A row: column 'label' {fault} where a whole number 0 to 1 was expected{SKIP}", text), case


def test_evaluate_needs_rows(spark, scorer, good):
    nothing = "The DataFrame has no rows that can be scored; there is nothing to evaluate."
    assert refused(scorer.evaluate, good.where("id < 0")) == nothing
    assert refused(scorer.evaluate, rows(spark, "array", [])) == nothing
    bad = [cell for cell, _ in FORMS["array"].faults.values()]
    assert refused(scorer.copy().setHandleInvalid("skip").evaluate, rows(spark, "array", bad)) == nothing


@pytest.mark.parametrize(("form", "fault"), FAULTS)
def test_transform_refuses_a_row_when_it_is_scored(spark, scorer, form, fault):
    cell, said = FORMS[form].faults[fault]
    scored = scorer.transform(rows(spark, form, [*FORMS[form].sound, cell]))
    text = refused_by_job(scored)
    row = r"Row file:/digits/7\.png" if form == "image" and cell is not None else "A row"
    assert re.search(rf"^{row}: column 'features' {said}[^;]*; fix the row, or set handleInvalid='skip' to ", text), (
        text
    )


@pytest.mark.parametrize("form", FORMS)
def test_evaluate_refuses_a_row(spark, scorer, form):
    cell, said = next(iter(list(FORMS[form].faults.values())[1:]))
    text = refused(scorer.evaluate, rows(spark, form, [*FORMS[form].sound, cell]))
    assert re.search(rf"^(A row|Row [^ ]*): column 'features' {said}[^;]*; fix the row, or set ", text), text


@pytest.mark.parametrize("form", FORMS)
def test_skip_drops_and_keep_keeps_exactly_the_bad_rows(spark, scorer, form):
    sound, faults = FORMS[form].sound, [cell for cell, _ in FORMS[form].faults.values()]
    cells, bad = [], set()
    for fault in faults:  # sound and bad rows by turns
        cells.append(sound[len(cells) // 2 % 2])
        bad.add(len(cells))
        cells.append(fault)
    cells.append(sound[0])
    frame = rows(spark, form, cells)
    clean = {row["id"]: row for row in scorer.transform(frame.where(~F.col("id").isin(*bad))).collect()}

    kept = scorer.copy().setHandleInvalid("keep").transform(frame).collect()
    assert {row["id"] for row in kept} == set(range(len(cells)))
    for row in kept:
        expected = [None] * 3 if row["id"] in bad else [clean[row["id"]][name] for name in COLUMNS]
        assert [row[name] for name in COLUMNS] == expected, row["id"]

    skipping = scorer.copy().setHandleInvalid("skip")
    skipped = skipping.transform(frame)
    assert {row["id"]: [row[name] for name in COLUMNS] for row in skipped.collect()} == {
        index: [row[name] for name in COLUMNS] for index, row in clean.items()
    }
    assert skipped.count() == len(clean)
    assert skipping.evaluate(frame).skippedRows == len(bad)
    assert skipping.evaluate(frame).rows == len(clean)


def test_evaluate_skips_labels_and_features_together(spark, scorer):
    labels = [0.0, 1.0, *[label for label, _ in {**BAD_LABELS, **TOO_LARGE}.values()]]
    frame = labelled(spark, labels).union(labelled(spark, [1.0]).withColumn("features", F.lit(None)))
    for handle_invalid in ("skip", "keep"):
        evaluation = scorer.copy().setHandleInvalid(handle_invalid).evaluate(frame)
        assert (evaluation.rows, evaluation.skippedRows) == (2, len(labels) - 1)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Vectors.dense(CELL[:3]), "has 3 numbers where 4 were expected"),
        (Vectors.sparse(5, {0: 1.0}), "has 5 numbers where 4 were expected"),
        (Vectors.dense([0.0, NAN, 0.0, 0.0]), "has null, NaN or infinity at position 1"),
        (Vectors.dense([0.0, 0.0, 0.0, -INF]), "has null, NaN or infinity at position 3"),
        ([], "has 0 numbers where 4 were expected"),
    ],
)
@pytest.mark.parametrize("act", ["predict", "predictRaw", "predictProbability"])
def test_a_single_vector_is_refused(scorer, act, value, said):
    text = refused(getattr(scorer, act), value)
    assert text == f"The vector {said}; give the 4 numbers of one image."


def test_a_model_without_members_says_so(good):
    with pytest.raises(RuntimeError) as caught:
        CNNEnsembleClassificationModel().transform(good)
    assert a_sentence(str(caught.value)) == (
        "This CNNEnsembleClassificationModel has no members; get one from CNNEnsembleClassifier.fit or load."
    )


# ------------------------------------------------------------------------------------- members by index


@pytest.mark.parametrize("indices", [[], [0, 0], [-1], [3], [0, 1, 2, 3], [0.5]])
def test_subset_refuses_members_that_are_not_there(model, indices):
    text = refused(model.subset, indices)
    assert text == (f"Members are numbered 0 to 2; name at least one, and none twice. Got {indices} instead.").replace(
        "twice. Got", "twice. Got"
    )


@pytest.mark.parametrize("index", [-1, 3, 1.5])
def test_a_member_network_that_is_not_there(model, index):
    assert f"Got [{index}] instead" in refused(model.memberNetwork, index)


def test_merge_refuses_models_of_another_kind(model, scorer, good):
    text = refused(model.merge, scorer)
    assert text == "Cannot merge: this model has images of shape [8, 8, 1], the other [2, 2, 1]; fit both on like data."
    text = refused(scorer.merge, tiny(numClasses=3).fit(good))
    assert text == "Cannot merge: this model has a number of classes of 2, the other 3; fit both on like data."
    named = StringIndexer(inputCol="word", outputCol="digit").fit(
        words := good.withColumn("word", F.when(F.col("label") == 0, "zero").otherwise("one"))
    )
    other = tiny(labelCol="digit").fit(named.transform(words))
    assert re.search(
        r"^Cannot merge: this model has classes named .*, the other .*; fit both", refused(scorer.merge, other)
    )


# ---------------------------------------------------------------------------------------------- disk


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model"
    model.save(str(path))
    return path


@pytest.fixture
def damaged(saved, tmp_path):
    """A copy of a saved model, to be damaged."""
    shutil.copytree(saved, tmp_path / "model")
    return tmp_path / "model"


def test_the_copy_is_sound_before_it_is_damaged(damaged, model):
    edit_json(damaged, lambda metadata: None)
    assert same_members(CNNEnsembleClassificationModel.load(str(damaged)), model)


@pytest.mark.parametrize("cls", [CNNEnsembleClassificationModel, CNNEnsembleClassifier])
def test_load_refuses_a_path_with_nothing_there(spark, tmp_path, cls):
    text = load_refused(tmp_path / "nowhere", FileNotFoundError, cls)
    assert text.startswith("There is no folder ")
    assert text.endswith(f"; give the path that a {cls.__name__} was saved to.")


@pytest.mark.parametrize("cls", [CNNEnsembleClassificationModel, CNNEnsembleClassifier])
@pytest.mark.parametrize("case", ["an empty folder", "a file", "other files", "empty metadata"])
def test_load_refuses_what_is_none_of_ours(spark, tmp_path, cls, case):
    path = tmp_path / "thing"
    if case == "a file":
        path.write_text("Dear diary")
    else:
        path.mkdir()
    if case == "other files":
        (path / "metadata").write_text("Dear diary")
    if case == "empty metadata":
        (path / "metadata").mkdir()
        (path / "metadata" / "part-00000").write_text("")
    text = load_refused(path, cls=cls)
    assert re.search(rf"is not a saved {cls.__name__}: its metadata cannot be read \(.+\); give .*\.$", text), text


def test_load_refuses_a_model_of_another_kind(spark, tmp_path):
    frame = spark.createDataFrame([(Vectors.dense(0.0), 0.0), (Vectors.dense(1.0), 1.0)], ["features", "label"])
    LogisticRegression(maxIter=1).fit(frame).save(str(tmp_path / "lr"))
    for cls in (CNNEnsembleClassificationModel, CNNEnsembleClassifier):
        text = load_refused(tmp_path / "lr", cls=cls)
        assert text.endswith(
            f" holds a org.apache.spark.ml.classification.LogisticRegressionModel, not a "
            f"spark_cnn_ensemble.{cls.__name__}"
            "; load it with that class."
        ), text


def test_load_refuses_the_estimator_for_the_model_and_the_reverse(spark, saved, tmp_path):
    tiny().save(str(tmp_path / "estimator"))
    estimator, model = "spark_cnn_ensemble.CNNEnsembleClassifier", "spark_cnn_ensemble.CNNEnsembleClassificationModel"
    text = load_refused(tmp_path / "estimator")
    assert text.endswith(f" holds a {estimator}, not a {model}; load it with that class."), text
    text = load_refused(saved, cls=CNNEnsembleClassifier)
    assert text.endswith(f" holds a {model}, not a {estimator}; load it with that class."), text


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_load_refuses_another_format(damaged, version):
    edit_json(damaged, lambda metadata: metadata.update(formatVersion=version))
    text = load_refused(damaged)
    assert text.endswith(
        f" is of format version {version}, but this version of spark_cnn_ensemble reads version 1; load it with the "
        "version that wrote it."
    ), text


DAMAGE = "is damaged: (its|the) .*; copy or save the model again\\.$"
METADATA = {
    "cut": (
        lambda text: text[: len(text) // 2],
        r"is not a saved CNNEnsembleClassificationModel: its metadata cannot be read \(.+\)",
    ),
    "no JSON": (
        lambda text: "Dear diary",
        r"is not a saved CNNEnsembleClassificationModel: its metadata cannot be read \(.+\)",
    ),
    "a list": (
        lambda text: "[1]",
        r"is not a saved CNNEnsembleClassificationModel: its metadata cannot be read \(.+\)",
    ),
    "a number": (
        lambda text: "7",
        r"is not a saved CNNEnsembleClassificationModel: its metadata cannot be read \(.+\)",
    ),
    "a dict": (lambda text: "{}", r"is not a saved CNNEnsembleClassificationModel"),
}


@pytest.mark.parametrize("case", METADATA)
def test_load_refuses_metadata_that_cannot_be_read(damaged, case):
    change, sentence = METADATA[case]
    edit_metadata(damaged, change)
    text = load_refused(damaged)
    assert re.search(rf"{sentence}.*; give .*\.$", text), text


@pytest.mark.parametrize(
    "change",
    [
        lambda metadata: metadata.pop("ensemble"),
        lambda metadata: metadata.pop("summary"),
        lambda metadata: metadata.pop("uid"),
        lambda metadata: metadata.pop("paramMap"),
        lambda metadata: metadata.update(ensemble=None),
        lambda metadata: metadata["ensemble"].pop("architectures"),
        lambda metadata: metadata["ensemble"].update(members=None),
        lambda metadata: metadata["ensemble"]["members"][1].pop("sha256"),
        lambda metadata: metadata["ensemble"]["members"][1].pop("history"),
        lambda metadata: metadata["ensemble"]["members"][1].update(size="large"),
        lambda metadata: metadata["ensemble"]["architectures"][0].update(wings=2),
        lambda metadata: metadata["paramMap"].update(wings=2),
        lambda metadata: metadata["paramMap"].update(numMembers="three"),
    ],
    ids=lambda change: None,
)
def test_load_refuses_metadata_that_is_not_whole(damaged, change):
    edit_json(damaged, change)
    text = load_refused(damaged)
    assert re.search(DAMAGE, text), text


def test_load_refuses_an_estimator_that_is_not_whole(spark, tmp_path):
    tiny().save(str(tmp_path / "estimator"))
    edit_json(tmp_path / "estimator", lambda metadata: metadata["paramMap"].update(wings=2))
    text = load_refused(tmp_path / "estimator", cls=CNNEnsembleClassifier)
    assert re.search(r"is damaged: its metadata .*; copy or save the model again\.$", text), text


def test_load_refuses_a_model_without_its_members(damaged):
    shutil.rmtree(damaged / "members")
    text = load_refused(damaged)
    assert re.search(r"is damaged: its members cannot be read \(.+\); copy or save the model again\.$", text), text


def test_load_refuses_a_model_without_files_of_members(damaged):
    for file in (damaged / "members").iterdir():
        if file.is_file():
            file.unlink()
    text = load_refused(damaged)
    assert re.search(DAMAGE, text), text


def test_load_refuses_a_model_without_a_file_of_members(damaged):
    first, *others = sorted((damaged / "members").glob("*.parquet"))
    assert others
    first.unlink()
    text = load_refused(damaged)
    assert re.search(
        r"is damaged: the weights of member 0 are not those that were saved; copy or save the model again\.$", text
    ), text


@pytest.mark.parametrize("checksum", [True, False])
@pytest.mark.parametrize("where", ["magic", "data", "name of the writer", "length of the footer"])
def test_load_refuses_a_flipped_byte(damaged, model, where, checksum):
    file = max((damaged / "members").glob("*.parquet"), key=lambda file: file.stat().st_size)
    data = bytearray(file.read_bytes())
    at = {"magic": 0, "data": len(data) // 2, "name of the writer": -40, "length of the footer": -5}[where]
    data[at] ^= 0x40
    file.write_bytes(data)
    if not checksum:
        without_checksum(file)
        if where in ("magic", "name of the writer"):  # which no reader looks at
            assert same_members(CNNEnsembleClassificationModel.load(str(damaged)), model)
            return
    text = load_refused(damaged)
    assert re.search(DAMAGE, text), text


def test_load_refuses_weights_that_are_not_those_that_were_saved(damaged):
    edit_json(damaged, lambda metadata: metadata["ensemble"]["members"][1].update(sha256="0" * 64))
    text = load_refused(damaged)
    assert text.endswith(
        "is damaged: the weights of member 1 are not those that were saved; copy or save the model again."
    ), text


def test_save_refuses_to_write_over_what_is_there(saved, model, tmp_path):
    shutil.copytree(saved, tmp_path / "model")
    for instance in (model, tiny()):
        text = refused(instance.save, str(tmp_path / "model"), kind=FileExistsError)
        assert text == f"Path {tmp_path / 'model'} exists already; choose another, or ask for it to be overwritten."
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert same_members(CNNEnsembleClassificationModel.load(str(tmp_path / "model")), model)


def test_save_refuses_to_write_over_what_came_while_it_wrote(spark, tmp_path):
    target = tmp_path / "model"

    def write(path):
        Path(path).mkdir()
        target.mkdir()
        (target / "of another job").touch()

    text = refused(write_whole, spark, str(target), write, False, kind=FileExistsError)
    assert text == f"Path {target} exists already; choose another, or ask for it to be overwritten."
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["model", "model/of another job"]


@pytest.mark.parametrize("name", ["run[1]", "run*", "run?", "{a,b}"])
def test_a_path_that_is_a_pattern_is_refused_before_work_is_wasted(spark, good, scorer, tmp_path, name):
    path = str(tmp_path / name)
    told = f"Path '{path}' has a character that Spark reads as a pattern (* ? [ ] {{ }}); choose another."
    for instance in (scorer, tiny()):
        assert refused(instance.write().overwrite().save, path) == told
    with jobs(spark) as started:
        assert refused(tiny(checkpointDir=path).fit, good) == told.replace("Path", "checkpointDir")
    assert not started
    assert not list(tmp_path.iterdir())


def test_fit_tells_why_all_rows_of_a_bag_were_skipped(spark):
    bad = encoded(np.zeros((3, 3)))
    rows = spark.createDataFrame([(0, bad, 0), (1, bad, 1)], "id long, features binary, label int")
    text = refused(tiny(handleInvalid="skip").fit, rows)
    assert re.fullmatch(
        r"Member 0 has no rows to train on: handleInvalid='skip' left out its whole bag, the first row because column "
        r"'features' .*3.+; fix the rows, or the params that describe them\.",
        text,
    ), text


# ------------------------------------------------------------------- what must not be refused: other types


@pytest.fixture(scope="module")
def sixty(spark, digits):
    """60 digits as (id, features array<int>, label)."""
    (x, y), _ = digits
    filled = [(index, x[index].ravel().tolist(), int(y[index])) for index in range(60)]
    return spark.createDataFrame(filled, "id long, features array<int>, label int").cache()


@pytest.fixture(scope="module")
def trained_on_ints(sixty):
    return small(numMembers=2).fit(sixty)


@pytest.mark.parametrize(
    "kind", [LongType(), FloatType(), DoubleType(), ShortType(), ByteType(), DecimalType(10, 0), DecimalType(5, 2)]
)
def test_labels_of_any_numeric_type_are_alike(sixty, trained_on_ints, kind):
    model = small(numMembers=2).fit(sixty.withColumn("label", F.col("label").cast(kind)))
    assert same_members(model, trained_on_ints)


@pytest.mark.parametrize(
    "kind", ["array<float>", "array<double>", "array<long>", "array<short>", "array<byte>", "array<decimal(4,1)>"]
)
def test_arrays_of_any_numeric_type_are_alike(sixty, trained_on_ints, kind):
    model = small(numMembers=2).fit(sixty.withColumn("features", F.col("features").cast(kind)))
    assert same_members(model, trained_on_ints)


def remade(spark, frame, kind, make):
    """The same rows with features of another type."""
    fields = [("id", LongType()), ("features", kind), ("label", IntegerType())]
    filled = [(row["id"], make(row["features"]), row["label"]) for row in frame.collect()]
    return spark.createDataFrame(filled, StructType([StructField(name, kind) for name, kind in fields]))


@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_vectors_and_arrays_are_alike(spark, sixty, trained_on_ints, form):
    make = {
        "dense": Vectors.dense,
        "sparse": lambda cell: Vectors.sparse(64, {i: float(value) for i, value in enumerate(cell) if value}),
    }[form]
    assert same_members(small(numMembers=2).fit(remade(spark, sixty, VectorUDT(), make)), trained_on_ints)


def test_bytes_and_arrays_are_alike_by_their_id(spark, sixty):
    classifier = small(numMembers=2, idCol="id")
    by_bytes = classifier.fit(remade(spark, sixty, BinaryType(), bytes))
    assert same_members(by_bytes, classifier.fit(sixty))


def test_fractions_are_alike_as_far_as_float_holds_them(sixty):
    classifier = small(numMembers=2)
    doubles = sixty.withColumn("features", F.transform("features", lambda value: value.cast("double") / 7))
    floats = doubles.withColumn("features", F.col("features").cast("array<float>"))
    assert same_members(classifier.fit(doubles), classifier.fit(floats))
