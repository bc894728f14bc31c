"""How the house is built: who may import whom, what is loaded when, and what stands in one place.

`ALLOWED` is the table of the house: a new module gets a row in it, and a new import is allowed there or it is a fault.
"""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import spark_cnn_ensemble

ROOT = Path(spark_cnn_ensemble.__file__).parent

# Module -> the modules of this package that it may import, in any of its functions too.
ALLOWED = {
    "__init__": set(),
    "worker": set(),
    "worker.refusal": set(),
    "worker.augmentation": set(),
    "worker.text_lines": set(),
    "worker.text_files": {"worker.text_lines"},
    "worker.optimizers": set(),
    "worker.network": {"worker.refusal"},
    "worker.pixels": {"worker.refusal"},
    "worker.pixel_store": {"worker.pixels", "worker.refusal"},
    "worker.bag": {"worker.pixel_store", "worker.pixels", "worker.refusal"},
    "worker.member": {"worker.bag", "worker.network", "worker.refusal"},
    "worker.training": {
        "worker.augmentation",
        "worker.bag",
        "worker.member",
        "worker.network",
        "worker.optimizers",
        "worker.refusal",
    },
    "worker.majority": {"worker.network", "worker.pixels"},
    "worker.loaded": {"worker.majority", "worker.member", "worker.network", "worker.refusal"},
    "worker.voting": {
        "worker.bag",
        "worker.loaded",
        "worker.majority",
        "worker.member",
        "worker.pixels",
        "worker.refusal",
    },
    "worker.measuring": {"worker.loaded", "worker.majority", "worker.pixels", "worker.voting"},
    "params": set(),
    "bagging": set(),
    "filesystem": set(),
    "progress": set(),
    "votes": set(),
    "plots": {"votes"},
    "report": {"plots"},
    "summary": {"report", "votes", "worker.member"},
    "rows": {"worker.pixels"},
    "transport": {"worker.loaded", "worker.voting"},
    "checkpoint": {"filesystem", "transport", "worker.bag", "worker.member", "worker.training"},
    "fitting": {
        "bagging",
        "checkpoint",
        "progress",
        "transport",
        "worker.member",
        "worker.refusal",
        "worker.training",
    },
    "out_of_bag": {
        "bagging",
        "ensemble",
        "votes",
        "worker.majority",
        "worker.measuring",
        "worker.pixels",
        "worker.refusal",
    },
    "persistence": {"filesystem", "transport", "worker.member"},
    "ensemble": {"summary", "transport", "worker.loaded", "worker.member", "worker.network"},
    "model": {
        "ensemble",
        "params",
        "persistence",
        "rows",
        "summary",
        "votes",
        "worker.loaded",
        "worker.majority",
        "worker.measuring",
        "worker.pixels",
        "worker.refusal",
        "worker.voting",
    },
    "wire": {"bagging", "out_of_bag", "rows", "worker.bag"},
    "estimator": {
        "checkpoint",
        "ensemble",
        "fitting",
        "model",
        "out_of_bag",
        "params",
        "persistence",
        "progress",
        "rows",
        "summary",
        "wire",
        "worker.bag",
        "worker.member",
        "worker.network",
    },
    "text_matrix": {"worker.text_files", "worker.text_lines"},
    "datasets": {"text_matrix"},
    "demo": {"datasets", "estimator", "model"},
    "cli": {
        "datasets",
        "demo",
        "estimator",
        "model",
        "persistence",
        "progress",
        "summary",
        "votes",
        "worker.refusal",
    },
    "__main__": {"cli"},
}

# What leans on classic Spark, and where alone it may stand. The reader of text, the demo and the command line
# may ask the context for its cores.
IN_ONE_PLACE = {
    "_jvm": {"filesystem", "transport"},
    "_jsc": {"filesystem", "progress"},
    "broadcast": {"transport"},
    "accumulator": {"progress"},
    "addFile": {"transport"},
    "sparkContext": {"filesystem", "progress", "transport", "text_matrix", "demo", "cli"},
    "rdd": set(),
    "parallelize": set(),
}

WORKER_PACKAGES = {"numpy", "pandas", "spark_cnn_ensemble", "pyarrow"}


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): ast.parse(path.read_text()) for path in sorted(ROOT.rglob("*.py"))}
WORKERS = sorted(name for name in SOURCES if name.split(".")[0] == "worker")


def without_type_checking(tree):
    """Every node that runs: all but what stands under `if TYPE_CHECKING`."""
    pending = [tree]
    while pending:
        node = pending.pop()
        yield node
        for child in ast.iter_child_nodes(node):
            if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
                pending.append(child)


def imported(nodes, module):
    """Dotted names that import statements among `nodes` bring in: 'package.module' or 'package.module.name'."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:  # relative: from the package that holds the module
                package = ["spark_cnn_ensemble", *module.split(".")][: -node.level]
                origin = ".".join([*package, *filter(None, [origin])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def own_imports(module):
    """The modules of this package that a module imports."""
    found = set()
    for name in imported(without_type_checking(SOURCES[module]), module):
        root, *rest = name.split(".")
        if root == "spark_cnn_ensemble":
            known = [".".join(rest[:length]) for length in range(len(rest), 0, -1)]
            found.add(next((part for part in known if part in SOURCES), "__init__"))
    return found


def in_subprocess(code):
    """Run code in a fresh interpreter; what it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def loaded_after(code, *packages):
    """Those of `packages` that are loaded in a fresh interpreter once it ran `code`."""
    return in_subprocess(f"import sys\n{code}\nprint(*[name for name in {packages!r} if name in sys.modules])")


def test_the_table_is_one_way_and_holds_every_module():
    assert set(SOURCES) == set(ALLOWED), "each module has a row in ALLOWED, and each row a module"
    list(graphlib.TopologicalSorter(ALLOWED).static_order())  # raises CycleError


@pytest.mark.parametrize("module", SOURCES)
def test_a_module_imports_what_the_table_allows(module):
    assert own_imports(module) <= ALLOWED[module]


@pytest.mark.parametrize("module", WORKERS)
def test_a_worker_module_imports_little_when_it_is_loaded(module):
    roots = {name.split(".")[0] for name in imported(SOURCES[module].body, module)}
    assert roots <= WORKER_PACKAGES | set(sys.stdlib_module_names)


@pytest.mark.parametrize("module", WORKERS)
def test_a_worker_module_knows_of_spark_its_task_only(module):
    names = {name for name in imported(ast.walk(SOURCES[module]), module) if name.split(".")[0] == "pyspark"}
    assert names <= {"pyspark.TaskContext"}


@pytest.mark.parametrize("attribute", IN_ONE_PLACE)
def test_what_leans_on_classic_spark_stands_in_one_place(attribute):
    users = {
        module
        for module, tree in SOURCES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == attribute
    }
    assert users <= IN_ONE_PLACE[attribute]


def test_the_checks_above_see_what_they_look_for():
    assert own_imports("persistence") == {"filesystem", "transport", "worker.member"}
    assert own_imports("model") >= {"rows", "worker.voting"}  # `from spark_cnn_ensemble import rows` is seen as well
    assert "keras" in {name.split(".")[0] for name in imported(ast.walk(SOURCES["worker.network"]), "worker.network")}
    relative = ast.parse("from . import member\nfrom ..rows import column\nfrom .bag import Bag").body
    assert list(imported(relative, "worker.training")) == [
        "spark_cnn_ensemble.worker.member",
        "spark_cnn_ensemble.rows.column",
        "spark_cnn_ensemble.worker.bag.Bag",
    ]


@pytest.mark.parametrize("module", [name for name in WORKERS if name != "worker"])
def test_a_worker_module_loads_neither_spark_nor_tensorflow(module):
    assert loaded_after(f"import spark_cnn_ensemble.{module}", "pyspark", "tensorflow", "keras") == []


def test_the_package_loads_nothing_heavy():
    heavy = ("pyspark", "pyspark.ml", "tensorflow", "keras", "sklearn", "matplotlib")
    assert loaded_after("import spark_cnn_ensemble", *heavy) == []


def test_the_public_names_load_on_first_use_and_without_tensorflow():
    code = "import spark_cnn_ensemble as package\nfor name in package.__all__: getattr(package, name)"
    assert loaded_after(code, "pyspark.ml", "tensorflow", "keras", "sklearn", "matplotlib") == ["pyspark.ml"]


def test_the_public_names_are_those_of_the_package():
    assert set(spark_cnn_ensemble.__all__) <= set(dir(spark_cnn_ensemble))
    for name in ("CNNEnsembleClassifier", "CNNEnsembleClassificationModel"):  # the class path is part of saved files
        assert getattr(spark_cnn_ensemble, name).__module__ == "spark_cnn_ensemble"
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = spark_cnn_ensemble.nonsense


def test_an_estimator_is_made_without_session_java_or_tensorflow():
    code = """
import sys
from pyspark import SparkContext
from pyspark.sql import SparkSession
from spark_cnn_ensemble import CNNEnsembleClassifier

classifier = CNNEnsembleClassifier(numMembers=0, inputShape=[8, 8, 1], network="no JSON")
classifier.setEpochs(-1).copy().explainParams()
print(SparkSession.getActiveSession(), SparkContext._active_spark_context, SparkContext._gateway)
print("tensorflow" in sys.modules)
"""
    assert in_subprocess(code) == ["None", "None", "None", "False"]
