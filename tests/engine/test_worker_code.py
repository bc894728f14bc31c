"""Workers run the package of the driver's version, or refuse in a sentence."""

import subprocess

import pytest
from pyspark import cloudpickle
from support.classifiers import small
from support.processes import python_without_the_package

import spark_cnn_ensemble
from spark_cnn_ensemble.engine.worker_code import WorkerFunction
from spark_cnn_ensemble.worker.weights import digest


@pytest.fixture
def another_version(tmp_path):
    """A folder with a package of our name and of version 0.0.9."""
    package = tmp_path / "other" / "spark_cnn_ensemble"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('__version__ = "0.0.9"\n')
    return package.parent


@pytest.fixture
def sparks_own_daemon(spark):
    """Another Python has not the daemon of the tests' session."""
    conf, name = spark.sparkContext._jsc.sc().conf(), "spark.python.daemon.module"
    before = conf.get(name)
    conf.set(name, "pyspark.daemon")
    yield
    conf.set(name, before)


def last_line_of(python, function):
    """The last line of the error with which a Python unpickles a function."""
    code = "import sys; from pyspark import cloudpickle; cloudpickle.loads(sys.stdin.buffer.read())"
    done = subprocess.run([python, "-c", code], input=cloudpickle.dumps(function), capture_output=True, cwd="/")
    return done.stderr.decode().splitlines()[-1]


def test_a_function_is_itself_where_the_package_is():
    assert cloudpickle.loads(cloudpickle.dumps(WorkerFunction(digest, "do it"))) is digest


def test_a_python_without_the_package_refuses(tmp_path):
    line = last_line_of(python_without_the_package(tmp_path), WorkerFunction(digest, "ship it."))
    assert line == "ModuleNotFoundError: Spark's Python workers have no module 'spark_cnn_ensemble'; ship it."


def test_a_python_with_another_version_refuses(tmp_path, another_version):
    line = last_line_of(python_without_the_package(tmp_path, another_version), WorkerFunction(digest, "ship it."))
    assert line == (
        "ImportError: Spark's Python workers have version 0.0.9 of spark_cnn_ensemble, and the driver has "
        f"{spark_cnn_ensemble.__version__}, so that members could differ; ship it."
    )


@pytest.mark.parametrize(
    ("path", "what"),
    [(False, "have no module 'spark_cnn_ensemble'"), (True, r"have version 0\.0\.9 of .* could differ")],
)
def test_a_fit_names_the_remedy(path, what, spark, train, tmp_path, another_version, monkeypatch, sparks_own_daemon):
    python = python_without_the_package(tmp_path, another_version if path else "", at="/")
    monkeypatch.setattr(spark.sparkContext, "pythonExec", str(python))
    with pytest.raises(ImportError, match=rf"^Spark's Python workers {what}; .*--py-files.* has it\.$"):
        small().fit(train)
