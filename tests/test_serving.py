"""The guide's page about serving works as pasted; each section goes on from the pipeline that the page fits first."""

import re

import pyspark.ml
import pyspark.ml.evaluation
import pytest
from support.pages import doctest_of, parts, run, text_of
from support.processes import output_of, start_python

PAGE = "serving.md"
START, SECTIONS = parts(PAGE)


@pytest.fixture(scope="module")
def begun(spark, tmp_path_factory):
    """The names that the page has before its first section."""
    names = {"spark": spark, "folder": str(tmp_path_factory.mktemp("serving"))}
    run(doctest_of(START, PAGE), names)
    return names


@pytest.fixture
def tracked(monkeypatch, tmp_path):
    """MLflow with its records in a folder; autologging ends with the test."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/runs")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DFS_TMP", f"{tmp_path}/shared")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    # Autologging looks for requirements in another Spark process, and takes those of pyspark if it has no time for that.
    monkeypatch.setenv("MLFLOW_REQUIREMENTS_INFERENCE_TIMEOUT", "0")
    for cls, name in (
        (pyspark.ml.Estimator, "fit"),
        (pyspark.ml.Model, "transform"),
        (pyspark.ml.evaluation.Evaluator, "evaluate"),
    ):
        monkeypatch.setattr(cls, name, getattr(cls, name))


@pytest.mark.parametrize("heading", SECTIONS)
def test_a_section_gives_what_it_shows(heading, begun, tracked):
    run(doctest_of(SECTIONS[heading], heading), dict(begun))


def test_the_script_scores_the_saved_pipeline_in_another_session(begun, tmp_path):
    script = re.search(r"^```python\n(import sys\n.*?)^```$", text_of(PAGE), re.MULTILINE | re.DOTALL)[1]
    begun["new"].coalesce(1).write.parquet(f"{tmp_path}/new")  # one worker, which starts TensorFlow once
    output_of(start_python(script, f"{begun['folder']}/digits", f"{tmp_path}/new", f"{tmp_path}/scored"))
    here = begun["pipeline"].transform(begun["new"]).select("id", "prediction").collect()
    there = begun["spark"].read.parquet(f"{tmp_path}/scored").collect()
    assert sorted(there) == sorted(here)


def test_every_line_of_code_is_run():
    blocks = re.findall(r"^```python\n(.)", text_of(PAGE), re.MULTILINE)
    assert [block for block in blocks if block != ">"] == ["i"]  # the script
