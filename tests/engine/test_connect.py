"""A client of a real Spark Connect server gets the members, votes and saved models of a classic session.

A process that has a classic session cannot have a client, so the client is a process of its own.
"""

import json

import pytest
from support.classifiers import small
from support.connect_server import connect_server
from support.members import digests
from support.processes import output_of, start_python

from spark_cnn_ensemble import CNNEnsembleClassificationModel

PARAMS = {"bagging": "bootstrap", "subsamplingRate": 0.6, "numMembers": 3, "epochs": 2}

CLIENT = """
import json, sys
from pyspark.sql import SparkSession
spark = SparkSession.builder.remote(sys.argv[1]).getOrCreate()
folder = sys.argv[2]
from support.classifiers import small
from support.members import digests
from spark_cnn_ensemble import CNNEnsembleClassificationModel
from spark_cnn_ensemble.datasets import load_digits, to_dataframe
digits = load_digits()
train, test = (to_dataframe(spark, *rows) for rows in digits)

def load(name="model"):
    return CNNEnsembleClassificationModel.load(f"{folder}/{name}")

def votes(model):
    return [list(row.rawPrediction) for row in model.transform(test).orderBy("id").collect()]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("connect")
    with connect_server(folder / "log") as url:
        yield url, folder


@pytest.fixture(scope="module")
def classic_model(train):
    return small(**PARAMS).fit(train)


def client(server, code):
    """The last line that a client prints, as JSON."""
    url, folder = server
    *_, answer = output_of(start_python(CLIENT + code, url, str(folder)), timeout=400)
    return json.loads(answer)


@pytest.fixture(scope="module")
def answers(server):
    """What a client reports that fits, resumes, scores, evaluates, saves, overwrites and loads."""
    return client(
        server,
        f"""
params = {PARAMS!r}
model = small(**params, checkpointDir=f"{{folder}}/checkpoint").fit(train)
again = small(**params, checkpointDir=f"{{folder}}/checkpoint").fit(train)
model.save(f"{{folder}}/model")
try:
    model.save(f"{{folder}}/model")
    refused = None
except FileExistsError as error:
    refused = str(error)
loaded = load()
answer = {{
    "members": digests(model),
    "outOfBag": model.summary.oobAccuracy,
    "resumed": again.summary.resumedMembers,
    "members again": digests(again),
    "votes": votes(model),
    "accuracy": model.evaluate(test).accuracy,
    "predict": model.predict(test.orderBy("id").head().features),
    "refused": refused,
    "loaded": [digests(loaded), votes(loaded), loaded.summary.oobAccuracy],
}}
model.subset([0, 2]).write().overwrite().save(f"{{folder}}/model")
answer["overwritten"] = digests(load())
print(json.dumps(answer))
""",
    )


def test_the_members_are_those_of_a_classic_session(answers, classic_model):
    assert answers["members"] == digests(classic_model)
    assert answers["outOfBag"] == classic_model.summary.oobAccuracy


def test_a_fit_is_resumed(answers):
    assert answers["resumed"] == [0, 1, 2]
    assert answers["members again"] == answers["members"]


def test_the_votes_are_those_of_a_classic_session(answers, classic_model, test):
    votes = [list(row.rawPrediction) for row in classic_model.transform(test).orderBy("id").collect()]
    assert answers["votes"] == votes
    assert answers["accuracy"] == classic_model.evaluate(test).accuracy
    assert answers["predict"] == classic_model.predict(test.orderBy("id").head().features)


def test_a_model_is_saved_refused_overwritten_and_loaded(answers, server, test):
    _, folder = server
    assert answers["refused"] == f"Path {folder / 'model'} exists already; choose another, or overwrite it explicitly."
    assert answers["loaded"] == [answers["members"], answers["votes"], answers["outOfBag"]]
    assert answers["overwritten"] == [answers["members"][0], answers["members"][2]]
    assert digests(CNNEnsembleClassificationModel.load(str(folder / "model"))) == answers["overwritten"]


def test_a_model_of_a_classic_session_is_loaded(classic_model, server):
    _, folder = server
    classic_model.write().overwrite().save(str(folder / "classic"))
    assert client(server, 'print(json.dumps(digests(load("classic"))))') == digests(classic_model)


def test_pipelines_and_param_maps_run(server):
    assert client(
        server,
        """
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.feature import IndexToString, StringIndexer
named = train.withColumn("className", train.label.cast("string")).drop("label")
stages = [StringIndexer(inputCol="className", outputCol="label"), small(), IndexToString(inputCol="prediction", outputCol="name")]
model = Pipeline(stages=stages).fit(named)
model.write().overwrite().save(f"{folder}/pipeline")
scored = PipelineModel.load(f"{folder}/pipeline").transform(named)
classifier = small()
maps = [{classifier.epochs: 1}, {classifier.epochs: 2}]
fitted = [one.summary.totalIterations for one in classifier.fit(train, maps)]
print(json.dumps([scored.where("name IS NOT NULL").count() == train.count(), fitted]))
""",
    ) == [True, [1, 2]]


def test_an_interrupt_ends_the_operation(server):
    url, folder = server
    code = f"""{CLIENT}
import threading, os, signal
from pyspark.sql.functions import lit
threading.Timer(15, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    small(epochs=1_000_000, verbose=0).fit(train)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    process = start_python(code, url, str(folder))
    assert output_of(process, timeout=300)[-1] == "interrupted"
    # The slots are free again: another client's job ends.
    assert client(server, "print(json.dumps(spark.range(8).repartition(4).count()))") == 8


def test_text_that_the_client_cannot_see_is_read_by_spark(server):
    _, folder = server
    (folder / "text").mkdir()
    (folder / "text/a.txt").write_text("1 2 3\n" * 2000)
    found = client(
        server,
        """
from spark_cnn_ensemble.datasets import read_text_matrix
from spark_cnn_ensemble.text import through_spark
spark.conf.set("fs.viewfs.mounttable.text.link./data", f"file://{folder}")
spark.conf.set("spark.sql.files.maxPartitionBytes", "1000")

def ids(path):
    return sorted(row.id for row in read_text_matrix(spark, path).collect())

seen = ids(f"{folder}/text")
whole = ids("viewfs://text/data/text")
through_spark.WHOLE_BYTES = 0
by_line = ids("viewfs://text/data/text")
print(json.dumps([len(set(seen)), whole == seen, by_line == seen]))
""",
    )
    assert found == [2000, True, True]
