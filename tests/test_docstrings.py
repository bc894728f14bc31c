"""The examples in docstrings run, and everything public has one."""

import doctest
import importlib
import inspect
import pkgutil

import matplotlib
import numpy as np
import pytest

import spark_cnn_ensemble
from spark_cnn_ensemble import datasets, plots

matplotlib.use("Agg")

PUBLIC = {
    **{name: getattr(spark_cnn_ensemble, name) for name in spark_cnn_ensemble.__all__},
    **{f"datasets.{name}": getattr(datasets, name) for name in datasets.__all__},
    **{f"plots.{name}": getattr(plots, name) for name in plots.__all__},
}
FINDER = doctest.DocTestFinder(exclude_empty=True)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def modules():
    yield spark_cnn_ensemble
    for found in pkgutil.walk_packages(spark_cnn_ensemble.__path__, "spark_cnn_ensemble."):
        if not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


def examples():
    """Every docstring with an example, once, by its name."""
    found = {}
    for module in modules():
        for case in FINDER.find(module, module.__name__, module):
            if case.examples:
                found[case.name.removeprefix("spark_cnn_ensemble.")] = case
    return found


EXAMPLES = examples()


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_gives_what_it_shows(name, spark, train, test, model, tmp_path, monkeypatch):
    from matplotlib import pyplot

    monkeypatch.chdir(tmp_path)
    case = EXAMPLES[name]
    # As after the lines of "Getting started", with small data.
    case.globs = {"np": np, "spark": spark, "train": train, "test": test, "model": model}
    case.globs |= {"CNNEnsembleClassifier": spark_cnn_ensemble.CNNEnsembleClassifier}
    case.globs |= {"CNNEnsembleClassificationModel": spark_cnn_ensemble.CNNEnsembleClassificationModel}
    case.globs |= {name: getattr(datasets, name) for name in datasets.__all__} | {"plots": plots}
    report = []
    failed = doctest.DocTestRunner(optionflags=FLAGS).run(case, out=report.append).failed
    pyplot.close("all")
    assert not failed, "".join(report)


@pytest.mark.parametrize("name", PUBLIC)
def test_everything_public_has_an_example(name):
    assert ">>> " in inspect.getdoc(PUBLIC[name])


@pytest.mark.parametrize("name", [name for name, item in PUBLIC.items() if inspect.isfunction(item)])
def test_every_parameter_of_a_public_function_is_documented(name):
    text = inspect.getdoc(PUBLIC[name])
    for parameter in inspect.signature(PUBLIC[name]).parameters:
        assert f"\n{parameter} : " in text


def methods():
    for name, item in PUBLIC.items():
        if inspect.isclass(item):
            for method, function in vars(item).items():
                if inspect.isfunction(function) and not method.startswith(("_", "set", "get")):
                    yield pytest.param(function, id=f"{name}.{method}")


@pytest.mark.parametrize("method", methods())
def test_every_parameter_of_a_public_method_is_documented(method):
    text = inspect.getdoc(method)
    assert text
    for parameter in list(inspect.signature(method).parameters)[1:]:
        assert parameter in text
