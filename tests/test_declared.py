"""A declared Param keeps its default, its range and its effect on the bags, and values are checked against the range."""

import math

import pytest
from pyspark.ml.param import Params, TypeConverters

from spark_cnn_ensemble import CNNEnsembleClassifier
from spark_cnn_ensemble.declared import (
    POSITIVE,
    Declared,
    Range,
    at_least,
    check_params,
    decides_job,
    one_of,
    value_or_none,
)

# Fits that differ in one of these are trained by jobs of their own.
DECIDE_JOB = {
    *("featuresCol", "labelCol", "weightCol", "validationIndicatorCol", "idCol", "handleInvalid"),
    *("numClasses", "inputShape", "resizeImages"),
    *("numMembers", "bagging", "subsamplingRate", "seed"),
    *("oobSampleSize", "maxMemoryInMB", "checkpointDir", "verbose"),
}


class Oven(Params):
    """Something with Params."""

    heat = Declared("heat", "degrees.", TypeConverters.toInt, default=180, allowed=at_least(20), decides_job=False)
    mode = Declared("mode", "how it heats.", TypeConverters.toString, allowed=one_of(["top", "fan"]))


def test_an_instances_param_has_the_default_range_and_effect_of_its_declaration():
    oven = Oven()
    assert oven.heat is not Oven.heat and oven.heat.parent == oven.uid
    assert (oven.heat.default, oven.heat.allowed, oven.heat.decides_job) == (180, Oven.heat.allowed, False)
    assert (oven.mode.default, oven.mode.allowed, oven.mode.decides_job) == (None, Oven.mode.allowed, True)


def test_a_copied_instances_param_has_them_too():
    oven = Oven().copy()
    assert (oven.heat.default, oven.heat.allowed, oven.heat.decides_job) == (180, Oven.heat.allowed, False)


@pytest.mark.parametrize("name", ["featuresCol", "labelCol", "weightCol", "validationIndicatorCol"])
def test_a_param_of_sparks_decides_the_bags(name):
    param = CNNEnsembleClassifier().getParam(name)
    assert not isinstance(param, Declared)
    assert decides_job(param)


def test_data_draw_and_job_decide_the_bags_and_nothing_else_does():
    assert {param.name for param in CNNEnsembleClassifier().params if decides_job(param)} == DECIDE_JOB


@pytest.mark.parametrize(
    ("allowed", "value", "rule"),
    [
        (at_least(2), 1, ">= 2"),
        (one_of(["top", "fan"]), "grill", "one of 'top', 'fan'"),
        (POSITIVE, 0.0, "a finite number > 0"),
        (POSITIVE, math.inf, "a finite number > 0"),
        (POSITIVE, math.nan, "a finite number > 0"),
        (Range("even", lambda value: value % 2 == 0), 3, "even"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_rule(allowed, value, rule):
    class Machine(Params):
        setting = Declared("setting", "a setting.", TypeConverters.identity, allowed=allowed)

    machine = Machine()._set(setting=value)
    with pytest.raises(ValueError) as refusal:
        check_params(machine)
    assert str(refusal.value) == f"The 'setting' parameter of Machine must be {rule}. Got {value!r} instead."


@pytest.mark.parametrize(("allowed", "value"), [(at_least(2), 2), (one_of(["top", "fan"]), "fan"), (POSITIVE, 1e-300)])
def test_a_value_at_the_edge_of_its_range_is_accepted(allowed, value):
    class Machine(Params):
        setting = Declared("setting", "a setting.", TypeConverters.identity, allowed=allowed)

    check_params(Machine()._set(setting=value))


def test_a_default_is_checked_like_a_value_that_is_set():
    oven = Oven()._setDefault(heat=3)
    with pytest.raises(ValueError, match=r"'heat' parameter of Oven must be >= 20\. Got 3 instead"):
        check_params(oven)


def test_a_param_without_a_value_is_not_checked():
    check_params(Oven())


@pytest.mark.parametrize(("values", "expected"), [({}, None), ({"mode": ""}, None), ({"mode": "fan"}, "fan")])
def test_an_optional_value_is_none_if_it_is_unset_or_empty(values, expected):
    assert value_or_none(Oven()._set(**values), "mode") == expected
