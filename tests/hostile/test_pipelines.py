"""A pipeline's folder that names a class of its own is refused before anything is imported, however deep it names it."""

import json
import os
import shutil
import sys

import pytest
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.feature import IndexToString, SQLTransformer
from support.saved_models import edit_metadata, set_value, write_metadata

from spark_cnn_ensemble import CNNEnsembleClassificationModel
from spark_cnn_ensemble.cli import main
from spark_cnn_ensemble.pipelines import load_stages


@pytest.fixture(scope="session")
def saved_pipeline(spark, saved, tmp_path_factory):
    """The path of a saved pipeline, whose second stage is a pipeline with the ensemble in it."""
    ensemble = CNNEnsembleClassificationModel.load(str(saved))
    names = IndexToString(inputCol="prediction", outputCol="name", labels=["a", "b"])
    path = tmp_path_factory.mktemp("pipelines") / "pipeline"
    PipelineModel([names.copy(), PipelineModel([ensemble, names])]).save(str(path))
    return path


@pytest.fixture
def pipeline(saved_pipeline, tmp_path):
    """The path of a copy, to tamper with."""
    shutil.copytree(saved_pipeline, tmp_path / "pipeline")
    return tmp_path / "pipeline"


@pytest.fixture
def hostile_library(tmp_path, monkeypatch):
    """A module on Python's path that leaves a file when it is imported; the path of that file."""
    created = tmp_path / "created"
    (tmp_path / "hostile_library.py").write_text(
        f"open({str(created)!r}, 'w')\nclass Stage:\n    @classmethod\n    def load(cls, path): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield created
    sys.modules.pop("hostile_library", None)


def stage(folder, *places):
    """The folder of a stage, by its place in each pipeline on the way."""
    for place in places:
        (folder,) = (folder / "stages").glob(f"{place}_*")
    return folder


def test_an_untouched_copy_loads(spark, pipeline):
    kinds = [type(each).__name__ for each in load_stages(spark, str(pipeline))]
    assert kinds == ["IndexToString", "CNNEnsembleClassificationModel", "IndexToString"]


def test_spark_itself_imports_what_a_stage_names(pipeline, hostile_library):
    """Why the folder is checked."""
    edit_metadata(stage(pipeline, 0), set_value("class", to="hostile_library.Stage"))
    PipelineModel.load(str(pipeline))
    assert hostile_library.exists()


@pytest.mark.parametrize("places", [[0], [1], [1, 0], [1, 1]], ids=str)
@pytest.mark.parametrize("command", ["score", "evaluate"])
def test_a_class_of_another_library_is_not_imported(pipeline, hostile_library, tmp_path, capsys, command, places):
    edit_metadata(stage(pipeline, *places), set_value("class", to="hostile_library.Stage"))
    output = ["--output", str(tmp_path / "scored")] if command == "score" else []
    assert main([command, "--model", str(pipeline), "--input", str(tmp_path), *output]) == 1
    assert capsys.readouterr().err == (
        f"spark-cnn-ensemble: {pipeline} has a stage of the class hostile_library.Stage, which is not loaded because it "
        "could run code from the folder; if you trust it, score in Python with PipelineModel.load.\n"
    )
    assert not hostile_library.exists() and "hostile_library" not in sys.modules


CLASSES = [
    "os.system",
    "pyspark.ml.util.os",
    "pyspark.ml.torch.distributor.TorchDistributor",
    "pyspark.ml.pipeline.Pipeline",
    "pyspark.ml.tuning.CrossValidatorModel",
    "pyspark.ml.classification.OneVsRestModel",
    "org.apache.spark.ml.feature.SQLTransformer",
    "org.apache.spark.ml.feature.RFormulaModel",
    "org.apache.spark.ml.feature.StringIndexer",
    "org.apache.spark.sql.SparkSession",
    "spark_cnn_ensemble.CNNEnsembleClassifier",
    "x" * 10**5,
    ["a"],
    {"a": 1},
    None,
    7,
]


@pytest.mark.parametrize("name", CLASSES, ids=lambda name: str(name)[:50])
def test_a_class_that_is_not_a_transformer_of_columns_is_refused(spark, pipeline, name):
    edit_metadata(stage(pipeline, 1, 1), set_value("class", to=name))
    with pytest.raises(
        ValueError, match=r"has a stage of the class .* score in Python with PipelineModel\.load\.$"
    ) as r:
        load_stages(spark, str(pipeline))
    assert len(str(r.value)) < 1000


def test_a_statement_of_sql_is_not_run(spark, pipeline, tmp_path, capsys):
    """SQL can call Java: here, it would set a property of the JVM's."""
    statement = "SELECT *, java_method('java.lang.System', 'setProperty', 'hostile', 'yes') AS x FROM __THIS__"
    SQLTransformer(statement=statement).save(str(tmp_path / "sql"))
    shutil.rmtree(stage(pipeline, 0))
    target = json.loads(next((pipeline / "metadata").glob("part-*")).read_text())["paramMap"]["stageUids"][0]
    shutil.copytree(tmp_path / "sql", pipeline / "stages" / f"0_{target}")
    assert main(["evaluate", "--model", str(pipeline), "--input", str(tmp_path)]) == 1
    assert "SQLTransformer, which is not loaded" in capsys.readouterr().err
    assert spark.sparkContext._jvm.System.getProperty("hostile") is None


@pytest.mark.parametrize("uids", ["../../x", "", [], {"a": 1}, ["../../x"], ["/etc"], ["a/b"], [7], [None]], ids=str)
def test_a_list_of_stages_that_could_be_a_path_is_refused(spark, pipeline, uids):
    edit_metadata(pipeline, set_value("paramMap", "stageUids", to=uids))
    with pytest.raises(ValueError, match=r"list of stages is not valid|has 0 CNNEnsembleClassificationModel"):
        load_stages(spark, str(pipeline))


def test_a_pipeline_that_holds_itself_is_refused(spark, pipeline):
    inner = stage(pipeline, 1)
    shutil.rmtree(inner)
    os.symlink(pipeline, inner)
    with pytest.raises(ValueError, match="list of stages is not valid"):
        load_stages(spark, str(pipeline))


def test_a_pipeline_that_lacks_a_stage_is_refused(spark, pipeline):
    shutil.rmtree(stage(pipeline, 0))
    with pytest.raises(ValueError, match="is damaged: its metadata cannot be read"):
        load_stages(spark, str(pipeline))


@pytest.mark.parametrize("text", ["[1]", "7", "Dear diary", "{}", ""])
def test_a_stage_whose_metadata_is_something_else_is_refused(spark, pipeline, text):
    write_metadata(stage(pipeline, 0), text)
    with pytest.raises(
        ValueError, match=r"metadata cannot be read; save the pipeline again\.$|has a stage of the class None"
    ):
        load_stages(spark, str(pipeline))


def test_a_damaged_ensemble_in_a_pipeline_is_refused(spark, pipeline):
    edit_metadata(stage(pipeline, 1, 0), set_value("ensemble", "members", 1, "sha256", to="0" * 64))
    with pytest.raises(ValueError, match="the weights of member 1 differ from those that were saved"):
        load_stages(spark, str(pipeline))


def test_the_remedy_works(spark, pipeline):
    """What the command line refuses, Python loads."""
    sql = SQLTransformer(statement="SELECT *, 1 AS one FROM __THIS__")
    path = str(pipeline.parent / "trusted")
    PipelineModel([sql, *load_stages(spark, str(pipeline))]).save(path)
    with pytest.raises(ValueError, match="SQLTransformer, which is not loaded"):
        load_stages(spark, path)
    rows = spark.createDataFrame([([1.0, 0.0, 1.0, 2.0], 1.0)], "features array<float>, prediction double")
    (first, *others) = PipelineModel.load(path).stages
    assert isinstance(Pipeline(stages=[first, others[1]]).fit(rows), PipelineModel)
    assert PipelineModel([first, *others[1:]]).transform(rows.drop("prediction")).head().one == 1
