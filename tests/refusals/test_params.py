"""A param that is unknown, of another type or out of its range is refused before any job."""

import json
import re

import pytest
from pyspark.ml.linalg import Vectors
from pyspark.ml.param import TypeConverters
from support.feature_forms import DARK, two_by_two
from support.param_values import IN_RANGE, OUT_OF_RANGE
from support.refusals import refused, refused_before_any_job

from spark_cnn_ensemble import CNNEnsembleClassifier
from spark_cnn_ensemble.declared import check_params

PARAMS = {param.name: param for param in CNNEnsembleClassifier().params}
RANGES = {name: param.allowed for name, param in PARAMS.items() if getattr(param, "allowed", None)}


def each_value(values_by_name):
    """Parametrize a test by the name and value of a param."""
    return pytest.mark.parametrize(
        ("name", "value"),
        [
            pytest.param(name, value, id=f"{name}={json.dumps(value) if value != '' else 'empty'}")
            for name, values in values_by_name.items()
            for value in values
        ],
    )


def test_every_range_is_tested():
    assert set(OUT_OF_RANGE) == set(IN_RANGE) == set(RANGES)
    without_range = {"network", "checkpointDir", "initialModel", *(name for name in PARAMS if name.endswith("Col"))}
    booleans = {name for name, param in PARAMS.items() if param.typeConverter is TypeConverters.toBoolean}
    assert set(PARAMS) - set(RANGES) - without_range == booleans


@each_value(OUT_OF_RANGE)
def test_a_value_out_of_range_is_refused_by_fit(spark, good, name, value):
    text = refused_before_any_job(spark, two_by_two(**{name: value}).fit, good)
    rule = re.escape(RANGES[name].rule)
    assert re.fullmatch(
        rf"The '{name}' parameter of CNNEnsembleClassifier must be {rule}\. Got {re.escape(repr(value))} instead\.",
        text,
    ), text


@each_value(IN_RANGE)
def test_the_ends_of_a_range_are_in_it(spark, name, value):
    check_params(two_by_two(**{name: value}))


@pytest.mark.parametrize(
    "act",
    [
        lambda model, frame: model.transform(frame),
        lambda model, frame: model.evaluate(frame),
        lambda model, frame: model.predict(Vectors.dense(DARK)),
        lambda model, frame: model.toKeras(),
    ],
    ids=["transform", "evaluate", "predict", "toKeras"],
)
def test_a_value_out_of_range_is_refused_by_the_model_too(scorer, good, act):
    model = scorer.copy().setVotingStrategy("loudest")
    assert refused(act, model, good) == (
        "The 'votingStrategy' parameter of CNNEnsembleClassificationModel must be one of 'hard', 'soft'. Got 'loudest' "
        "instead."
    )


RATE = "The 'subsamplingRate' parameter of CNNEnsembleClassifier must be <="
COMBINATIONS = {
    "patience without indicator": (
        {"earlyStoppingPatience": 2},
        "The 'earlyStoppingPatience' parameter of CNNEnsembleClassifier needs rows to validate on; set "
        "'validationIndicatorCol' to a boolean column that marks them.",
    ),
    "subsample beyond 1": (
        {"bagging": "subsample", "subsamplingRate": 1.5},
        f"{RATE} 1.0 where bagging is 'subsample'. Got 1.5 instead.",
    ),
    "bootstrap beyond 100": (
        {"bagging": "bootstrap", "subsamplingRate": 101.0},
        f"{RATE} 100.0 where bagging is 'bootstrap'. Got 101.0 instead.",
    ),
    "too few thresholds": (
        {"thresholds": [0.5]},
        "The 'thresholds' parameter of CNNEnsembleClassifier must have a value for each of the 2 classes. Got 1 instead.",
    ),
}


@pytest.mark.parametrize("case", COMBINATIONS)
def test_a_value_that_contradicts_another_param_is_refused_by_fit(spark, good, case):
    params, sentence = COMBINATIONS[case]
    assert refused_before_any_job(spark, two_by_two(**params).fit, good) == sentence


def construct(**params):
    CNNEnsembleClassifier(**params)


def set_params(**params):
    CNNEnsembleClassifier().setParams(**params)


@pytest.mark.parametrize("act", [construct, set_params])
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
        ("seed", type(None)),
        ("thresholds", ["a"]),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else repr(value),
)
def test_a_value_of_another_type_is_refused_when_it_is_set(spark, act, name, value):
    with pytest.raises(TypeError, match=name):
        act(**{name: value})


def test_an_unknown_param_is_refused_by_the_constructor(spark):
    with pytest.raises(TypeError, match="trees"):
        CNNEnsembleClassifier(trees=3)


def test_an_unknown_param_is_refused_by_setParams(spark):
    text = refused(CNNEnsembleClassifier().setParams, trees=3, kind=TypeError)
    assert text == "CNNEnsembleClassifier has no parameter 'trees'."


def test_a_positional_param_is_refused(spark):
    with pytest.raises(TypeError):
        CNNEnsembleClassifier("features")
