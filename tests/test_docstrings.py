"""Every public class and function documents its parameters and has an example; it runs, as the guide's examples do."""

import dataclasses
import doctest
import functools
import importlib
import inspect
import pkgutil
import re

import matplotlib
import pyspark
import pytest
from support.example_files import write_example_files
from support.pages import doctest_of, parts, run, sections, text_of

import spark_cnn_ensemble
from spark_cnn_ensemble import datasets, networks, plots, votes

matplotlib.use("Agg")

HOME = spark_cnn_ensemble.__name__

# What users can reach, by the name that they know.
PUBLIC = {
    **{name: getattr(spark_cnn_ensemble, name) for name in spark_cnn_ensemble.__all__},
    "votes.DisputedRow": votes.DisputedRow,
    **{f"datasets.{name}": getattr(datasets, name) for name in datasets.__all__},
    **{f"networks.{name}": getattr(networks, name) for name in networks.__all__},
    **{f"plots.{name}": getattr(plots, name) for name in plots.__all__},
}
FUNCTIONS = {name: item for name, item in PUBLIC.items() if inspect.isfunction(item)}
CLASSES = {name: item for name, item in PUBLIC.items() if inspect.isclass(item)}


def modules():
    """Every module of the package except its entry point, and except clients of Connect where Spark is too old."""
    yield spark_cnn_ensemble
    left_out = ("__main__",) if pyspark.__version__ >= "4" else ("__main__", "engine.connect", "engine.connect_files")
    for module in pkgutil.walk_packages(spark_cnn_ensemble.__path__, f"{HOME}."):
        if not module.name.endswith(left_out):
            yield importlib.import_module(module.name)


def examples():
    """{name: doctest} of every docstring with examples, once each."""
    finder = doctest.DocTestFinder()
    cases = [case for module in modules() for case in finder.find(module, module.__name__, module)]
    # The finder passes over classes that name another module as theirs.
    cases += [case for name, item in PUBLIC.items() for case in finder.find(item, name, module=False)]
    by_text = {case.docstring: case for case in reversed(cases) if case.examples}
    return {case.name.removeprefix(f"{HOME}."): case for case in reversed(by_text.values())}


def members():
    """(class, name) of every attribute that the package's code gives a public class, except getters and setters."""
    for cls in CLASSES.values():
        own = [base for base in cls.__mro__ if base.__module__.split(".")[0] == HOME]
        for name in sorted({name for base in own for name in vars(base)}):
            if not name.startswith("_") and (name == "setParams" or not re.match("[gs]et[A-Z]", name)):
                yield cls, name


EXAMPLES = examples()
DATA_PAGE = sections("data.md")
NETWORKS_PAGE = sections("networks.md")
METHODS = {f"{cls.__name__}.{name}": getattr(cls, name) for cls, name in members() if callable(getattr(cls, name))}
PROPERTIES = [
    pytest.param(cls, name, id=f"{cls.__name__}.{name}")
    for cls, name in members()
    if isinstance(inspect.getattr_static(cls, name), property | functools.cached_property)
]


def documented(item, section):
    """The names in a section of a docstring, such as Parameters."""
    text = f"{inspect.getdoc(item)}\n"
    found = re.search(rf"^{section}\n-+\n(.*?)(?=^\S[^\n]*\n-+\n|\Z)", text, re.MULTILINE | re.DOTALL)
    lines = re.findall(r"^\S.*$", found[1], re.MULTILINE) if found else []
    return [name.strip(" *") for line in lines for name in line.partition(" :")[0].split(",")]


def parameters(item):
    """The names of a function's parameters, without self."""
    return [name for name in inspect.signature(item).parameters if name != "self"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_gives_what_it_shows(name, spark, train, test, model, tmp_path):
    """Examples may use a session, the digits as `train` and `test`, a model of three members, and an empty folder."""
    from matplotlib import pyplot

    run(EXAMPLES[name], {"spark": spark, "train": train, "test": test, "model": model, "folder": str(tmp_path)})
    pyplot.close("all")


@pytest.fixture(scope="module")
def example_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    write_example_files(folder)
    return str(folder)


@pytest.mark.parametrize("heading", DATA_PAGE)
def test_the_page_about_data_gives_what_it_shows(heading, spark, example_files):
    run(DATA_PAGE[heading], {"spark": spark, "folder": example_files})


@pytest.mark.parametrize("page", ["starting_from_weights.md", "growing.md"])
def test_a_page_whose_sections_go_on_from_one_another_gives_what_it_shows(page, spark, tmp_path):
    start, codes = parts(page)
    run(doctest_of(start + "".join(codes.values()), page), {"spark": spark, "folder": str(tmp_path)})


@pytest.mark.parametrize("heading", NETWORKS_PAGE)
def test_the_page_about_networks_gives_what_it_shows(heading):
    run(NETWORKS_PAGE[heading], {})


def test_every_block_of_the_page_about_data_runs():
    assert all(
        line.startswith((">>> ", "... ")) for line in re.findall(r"^```python\n(.*)", text_of("data.md"), re.MULTILINE)
    )
    assert not [line.source for case in DATA_PAGE.values() for line in case.examples if doctest.SKIP in line.options]


@pytest.mark.parametrize("name", PUBLIC)
def test_everything_public_has_an_example_that_runs(name):
    text = inspect.cleandoc(PUBLIC[name].__doc__)
    assert ">>> " in text
    assert text in [inspect.cleandoc(case.docstring) for case in EXAMPLES.values()]


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_line_of_an_example_is_skipped(name):
    assert not [line.source for line in EXAMPLES[name].examples if doctest.SKIP in line.options]


@pytest.mark.parametrize("name", [*FUNCTIONS, *METHODS])
def test_every_parameter_is_documented_in_order(name):
    item = {**FUNCTIONS, **METHODS}[name]
    assert documented(item, "Parameters") == parameters(item)


@pytest.mark.parametrize(("cls", "name"), PROPERTIES)
def test_every_property_is_documented(cls, name):
    assert any(vars(base)[name].__doc__ for base in cls.__mro__ if name in vars(base))


@pytest.mark.parametrize("name", [name for name, cls in CLASSES.items() if dataclasses.is_dataclass(cls)])
def test_every_attribute_of_a_record_is_documented(name):
    assert set(documented(CLASSES[name], "Attributes")) == {field.name for field in dataclasses.fields(CLASSES[name])}


def test_the_estimator_takes_every_param_that_it_documents_as_one():
    assert documented(CLASSES["CNNEnsembleClassifier"], "Parameters") == ["params"]
