"""The layout of the package: who may import whom, what is loaded when, and what stands in one place.

`ALLOWED` is the table of imports: a new module gets a row in it, and a new import is allowed there or it is a fault.
"""

import ast
import graphlib
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import spark_cnn_ensemble

ROOT = Path(spark_cnn_ensemble.__file__).parent

# Module -> the modules of this package that it may import, in any of its functions too.
ALLOWED = {
    "worker.refusal": set(),
    "worker.runtime": {"worker.refusal"},
    "worker.augmentation": set(),
    "worker.connection": set(),
    "worker.live_report": set(),
    "worker": set(),
    "worker.optimizers": set(),
    "worker.weights": {"worker.refusal"},
    "worker.network_json": {"worker.refusal"},
    "worker.pictures": {"worker.refusal"},
    "worker.pixels": {"worker.pictures", "worker.refusal"},
    "worker.network": {"worker.network_json", "worker.refusal", "worker.runtime"},
    "worker.network_check": {
        "worker.network",
        "worker.network_json",
        "worker.refusal",
        "worker.runtime",
    },
    "worker.standardization": {"worker.bag", "worker.refusal"},
    "worker.pixel_store": {"worker.pixels", "worker.refusal"},
    "worker.onnx_graph": set(),
    "worker.voting_plan": {"worker.network", "worker.onnx_graph", "worker.pixels"},
    "worker.bag": {"worker.pixel_store", "worker.pixels", "worker.refusal"},
    "worker.decision": {"worker.voting_plan"},
    "worker.blocks": {"worker.voting_plan"},
    "worker.tensorflow_ensemble": {
        "worker.blocks",
        "worker.network",
        "worker.refusal",
        "worker.runtime",
        "worker.voting_plan",
        "worker.weights",
    },
    "worker.onnx_ensemble": {
        "worker.blocks",
        "worker.onnx_graph",
        "worker.refusal",
        "worker.runtime",
        "worker.voting_plan",
        "worker.weights",
    },
    "worker.loaded_ensemble": {
        "worker.blocks",
        "worker.onnx_ensemble",
        "worker.runtime",
        "worker.tensorflow_ensemble",
        "worker.voting_plan",
        "worker.weights",
    },
    "worker.training_plan": {"worker.bag", "worker.network"},
    "worker.initial_weights": {"worker.training_plan", "worker.weights"},
    "worker.disputed_rows": {"worker.decision"},
    "worker.scoring": {
        "worker.blocks",
        "worker.decision",
        "worker.loaded_ensemble",
        "worker.pixels",
        "worker.refusal",
        "worker.voting_plan",
        "worker.weights",
    },
    "worker.class_weighting": {"worker.bag"},
    "worker.trainer": {
        "worker.augmentation",
        "worker.bag",
        "worker.class_weighting",
        "worker.initial_weights",
        "worker.network",
        "worker.optimizers",
        "worker.refusal",
        "worker.runtime",
        "worker.standardization",
        "worker.training_plan",
    },
    "worker.evaluation": {
        "worker.decision",
        "worker.disputed_rows",
        "worker.loaded_ensemble",
        "worker.pixels",
        "worker.scoring",
        "worker.voting_plan",
        "worker.weights",
    },
    "worker.training": {
        "worker.bag",
        "worker.initial_weights",
        "worker.live_report",
        "worker.refusal",
        "worker.runtime",
        "worker.trainer",
        "worker.training_plan",
        "worker.weights",
    },
    "engine.paths": set(),
    "engine.broadcasts": set(),
    "engine.errors": {"checked"},
    "engine.failures": {"checked", "engine.errors"},
    "engine.live_reports": {"worker.live_report"},
    "engine.placement": set(),
    "engine.arrow_frames": {"engine.placement"},
    "engine.worker_code": {"__init__", "worker.connection"},
    "engine.interface": {
        "engine.failures",
        "engine.live_reports",
        "engine.placement",
        "engine.worker_code",
        "worker.weights",
    },
    "engine.jobs": {"engine.interface"},
    "engine.hadoop": {"engine.errors", "engine.failures", "engine.interface", "engine.paths"},
    "engine.artifacts": {"worker.weights"},
    "engine.connect_files": {"engine.failures", "engine.interface", "engine.paths"},
    "engine.operations": {"engine.interface"},
    "engine.connect": {
        "engine.artifacts",
        "engine.connect_files",
        "engine.interface",
        "engine.operations",
        "engine.worker_code",
        "worker.weights",
    },
    "engine.classic": {
        "engine.arrow_frames",
        "engine.broadcasts",
        "engine.hadoop",
        "engine.interface",
        "engine.jobs",
        "engine.live_reports",
        "engine.worker_code",
        "worker.weights",
    },
    "engine": {"engine.classic", "engine.connect", "engine.interface"},
    "engine.start": {"engine", "engine.failures"},
    "engine.shared_weights": {"engine", "worker.weights"},
    "arrays": set(),
    "text": set(),
    "text.lines": set(),
    "text.writer": {"arrays"},
    "text.compressed": {"worker.refusal"},
    "text.files": {"text.compressed", "text.lines", "worker.refusal"},
    "text.forwarded": {"text.compressed", "text.files", "worker.refusal"},
    "text.header": {"text.files", "text.lines"},
    "text.through_spark": {
        "engine",
        "engine.failures",
        "engine.interface",
        "text.files",
        "text.forwarded",
        "worker.refusal",
    },
    "text.reader": {
        "engine",
        "text.compressed",
        "text.files",
        "text.forwarded",
        "text.header",
        "text.lines",
        "text.through_spark",
    },
    "rows.draw": set(),
    "rows": set(),
    "rows.libsvm": set(),
    "rows.columns": {"worker.refusal"},
    "rows.labels": {"rows.columns"},
    "rows.classes": {"rows.labels", "worker.refusal"},
    "rows.width": {"engine.interface", "rows.columns"},
    "rows.features": {"rows.columns", "rows.libsvm", "rows.width", "worker.pixels"},
    "rows.shapes": {"rows.features", "rows.libsvm", "worker.pictures"},
    "rows.training_rows": {"rows.classes", "rows.columns", "rows.draw", "rows.features", "rows.labels", "worker.bag"},
    "declared": {"engine.paths"},
    "votes": set(),
    "checked": set(),
    "__init__": set(),
    "fit.shared_fits": set(),
    "fit": set(),
    "params": {"declared", "rows.draw"},
    "fit_result": {"checked", "votes"},
    "plots": {"fit_result", "votes"},
    "report_sentences": {"fit_result", "plots", "votes"},
    "report": {"fit_result", "plots", "report_sentences", "votes"},
    "progress": {"engine", "time_left", "worker.live_report"},
    "time_left": {"worker.live_report"},
    "evaluation": {"votes", "worker.disputed_rows"},
    "array_files": set(),
    "networks": {"worker.runtime"},
    "datasets": {"array_files", "engine", "arrays", "text.reader", "text.writer"},
    "saved_folder": {"engine", "engine.interface", "engine.paths"},
    "persistence": {
        "checked",
        "engine",
        "engine.errors",
        "engine.failures",
        "engine.paths",
        "engine.shared_weights",
        "saved_folder",
        "worker.weights",
    },
    "onnx_nodes": set(),
    "onnx_conversion": {
        "onnx_nodes",
        "worker.network",
        "worker.onnx_ensemble",
        "worker.onnx_graph",
        "worker.refusal",
        "worker.runtime",
    },
    "onnx_writer": {"onnx_conversion", "onnx_nodes", "worker.network", "worker.onnx_graph", "worker.refusal"},
    "ensemble": {
        "checked",
        "engine.shared_weights",
        "fit_result",
        "onnx_writer",
        "worker.network",
        "worker.onnx_graph",
        "worker.runtime",
        "worker.tensorflow_ensemble",
        "worker.weights",
    },
    "exported": {
        "__init__",
        "engine.paths",
        "ensemble",
        "onnx_nodes",
        "worker.blocks",
        "worker.onnx_graph",
        "worker.runtime",
        "worker.weights",
    },
    "summary": {"checked", "evaluation", "fit_result", "report", "worker.runtime"},
    "fit.checkpoint": {
        "engine",
        "engine.paths",
        "engine.shared_weights",
        "worker.bag",
        "worker.training",
        "worker.weights",
    },
    "fit.out_of_bag": {
        "engine",
        "engine.interface",
        "ensemble",
        "fit.members",
        "rows.draw",
        "votes",
        "worker.disputed_rows",
        "worker.evaluation",
        "worker.pixels",
        "worker.refusal",
        "worker.voting_plan",
    },
    "model": {
        "declared",
        "engine",
        "ensemble",
        "evaluation",
        "exported",
        "fit_result",
        "onnx_nodes",
        "params",
        "persistence",
        "rows.columns",
        "rows.features",
        "rows.labels",
        "summary",
        "worker.evaluation",
        "worker.pixels",
        "worker.refusal",
        "worker.scoring",
        "worker.voting_plan",
    },
    "keras_files": set(),
    "initial_model": {
        "checked",
        "engine",
        "engine.paths",
        "ensemble",
        "fit_result",
        "keras_files",
        "pipelines",
        "worker.initial_weights",
        "worker.network",
        "worker.runtime",
        "worker.tensorflow_ensemble",
        "worker.weights",
    },
    "fit.members": {
        "engine",
        "engine.shared_weights",
        "fit.checkpoint",
        "progress",
        "worker.bag",
        "worker.initial_weights",
        "worker.refusal",
        "worker.training",
        "worker.training_plan",
        "worker.weights",
    },
    "estimator": {
        "declared",
        "engine",
        "ensemble",
        "fit.checkpoint",
        "fit.members",
        "fit.out_of_bag",
        "fit.shared_fits",
        "fit_result",
        "initial_model",
        "model",
        "params",
        "persistence",
        "progress",
        "rows.classes",
        "rows.draw",
        "rows.features",
        "rows.labels",
        "rows.shapes",
        "rows.training_rows",
        "summary",
        "worker.bag",
        "worker.network",
        "worker.network_check",
        "worker.pixels",
        "worker.training_plan",
    },
    "demo": {"datasets", "engine", "estimator", "model"},
    "text_tables": {"evaluation", "summary", "votes"},
    "class_folders": {"engine"},
    "pipelines": {"checked", "model", "persistence", "saved_folder"},
    "cli": {
        "class_folders",
        "declared",
        "demo",
        "engine",
        "engine.failures",
        "engine.paths",
        "engine.start",
        "estimator",
        "pipelines",
        "progress",
        "report",
        "report_sentences",
        "rows.columns",
        "saved_folder",
        "summary",
        "text.reader",
        "text_tables",
        "votes",
        "worker.refusal",
    },
    "__main__": {"cli"},
}

# What leans on a kind of Spark session, and so stands in engine/ alone.
ENGINE_ONLY = {
    *("_jvm", "_jsc", "_jsparkSession", "sparkContext", "SparkContext", "_active_spark_context", "java_exception"),
    *("defaultParallelism", "master", "applicationId", "pythonExec", "setLogLevel", "statusTracker"),
    *("broadcast", "accumulator", "addFile", "addArtifact", "addArtifacts", "registerProgressHandler"),
    *("addJobTag", "removeJobTag", "cancelJobsWithTag", "addTag", "removeTag", "interruptTag"),
    *("removeProgressHandler", "session_id", "SparkFiles", "RemoteMLWriter"),
    *("persist", "unpersist", "localCheckpoint", "repartitionById"),
}
ENGINE_ONLY_MODULES = {"py4j", "pyspark.core", "pyspark.accumulators", "pyspark.storagelevel", "pyspark.SparkContext"}
NOWHERE = {"rdd", "parallelize", "toLocalIterator"}

WORKER_PACKAGES = {"numpy", "pandas", "spark_cnn_ensemble", "pyarrow"}
WORKER_SIDE_OF_TEXT = {"text.compressed", "text.files", "text.forwarded", "text.lines"}
LONGEST = 350  # lines of a module whose docstring does not say why it is long


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


LINES = {module_name(path): path.read_text().splitlines() for path in sorted(ROOT.rglob("*.py"))}
SOURCES = {module: ast.parse("\n".join(lines)) for module, lines in LINES.items()}
WORKERS = sorted(name for name in SOURCES if name.split(".")[0] == "worker" or name in WORKER_SIDE_OF_TEXT)


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


def names_used(module):
    """Every attribute and name in a module's code."""
    for node in ast.walk(SOURCES[module]):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Name):
            yield node.id


@pytest.mark.parametrize("module", [name for name in SOURCES if name.split(".")[0] != "engine"])
def test_what_leans_on_a_kind_of_session_stands_in_the_engine(module):
    # The demo prints the engine's `master`; the command line has an option of that name.
    allowed = {"master"} if module in {"cli", "demo"} else set()
    assert set(names_used(module)) & ENGINE_ONLY <= allowed
    spark = {name for name in imported(ast.walk(SOURCES[module]), module)}
    assert not {name for name in spark for root in ENGINE_ONLY_MODULES if f"{name}.".startswith(f"{root}.")}


@pytest.mark.parametrize("module", SOURCES)
def test_no_module_uses_rdds_or_iterates_over_partitions_on_the_driver(module):
    assert not set(names_used(module)) & NOWHERE


def test_no_two_classes_have_one_name():
    classes = [node.name for tree in SOURCES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert sorted(classes) == sorted(set(classes))


@pytest.mark.parametrize("module", SOURCES)
def test_a_module_has_a_docstring_and_a_long_one_its_reason(module):
    docstring = ast.get_docstring(SOURCES[module])
    assert docstring
    if len(LINES[module]) > LONGEST:
        assert re.search(r"\blong\b", docstring), f"{len(LINES[module])} lines"


def test_the_checks_above_see_what_they_look_for():
    assert own_imports("engine.jobs") == {"engine.interface"}
    assert own_imports("report") >= {"plots", "votes"}  # `from spark_cnn_ensemble import plots` is seen as well
    assert {"_jvm", "hadoop"} <= set(names_used("engine.hadoop"))
    assert "keras" in {name.split(".")[0] for name in imported(ast.walk(SOURCES["worker.network"]), "worker.network")}
    relative = ast.parse("from . import weights\nfrom ..rows import column\nfrom .bag import Bag").body
    assert list(imported(relative, "worker.training")) == [
        "spark_cnn_ensemble.worker.weights",
        "spark_cnn_ensemble.rows.column",
        "spark_cnn_ensemble.worker.bag.Bag",
    ]


@pytest.fixture(scope="module")
def loaded_by():
    """For each worker module, in a fresh interpreter that imports them all: the heavy packages that it was the first to load."""
    code = f"""
import importlib, json, sys
found, heavy = {{}}, ("pyspark", "tensorflow", "keras")
for module in {WORKERS!r}:
    before = set(sys.modules)
    importlib.import_module("spark_cnn_ensemble." + module)
    found[module] = [name for name in heavy if name in set(sys.modules) - before]
print(json.dumps(found, separators=(",", ":")))
"""
    return json.loads(in_subprocess(code)[0])


@pytest.mark.parametrize("module", WORKERS)
def test_a_worker_module_loads_neither_spark_nor_tensorflow(loaded_by, module):
    # The packages that hold the worker's side of the text format load nothing either.
    assert loaded_by[module] == []


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


def test_the_documentation_names_tests_that_exist():
    folder = ROOT.parent
    tests = {
        name
        for file in (folder / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)", file.read_text())
    }
    pages = [
        *(folder / "docs").glob("**/*.md"),
        folder / "CONTRIBUTING.md",
        folder / "SECURITY.md",
        folder / "README.md",
    ]
    named = {name for page in pages for name in re.findall(r"\btest_\w+\b(?!\.py)", page.read_text())}
    assert named and named <= tests


@pytest.mark.parametrize("script", sorted((ROOT.parent / "benchmarks").glob("*.py")), ids=lambda path: path.name)
def test_a_benchmark_imports_what_is_there(script):
    """What benchmarks take from the package, nested imports included; they are run by hand, long after a move."""
    names = imported(ast.walk(ast.parse(script.read_text())), script.stem)
    for name in [name for name in names if name.split(".")[0] == "spark_cnn_ensemble"]:
        above, _, last = name.rpartition(".")
        assert hasattr(importlib.import_module(above or name), last) or importlib.util.find_spec(name), name
