"""What a user does with a session, as functions that run on every engine and return plain values.

`tests/engine/test_connect.py` runs them in the tests' own classic session and in clients of Connect servers, and
compares what they return. A case gets the session and a folder of its own engine, which client and server both see.
"""

import functools
import io
import json
import re
import traceback
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.classification import OneVsRest
from pyspark.ml.evaluation import MulticlassClassificationEvaluator
from pyspark.ml.feature import IndexToString, StringIndexer
from pyspark.ml.tuning import CrossValidator, TrainValidationSplit
from pyspark.sql import functions as F

from spark_cnn_ensemble import CNNEnsembleClassificationModel, CNNEnsembleClassifier, progress
from spark_cnn_ensemble.datasets import load_digits, read_text_matrix, to_dataframe, write_text_matrix
from spark_cnn_ensemble.text import through_spark
from support.classifiers import small
from support.feature_forms import FORMS, frame_of_cells, two_by_two
from support.members import digests


def run(case, spark, folder):
    """What a case returns, or the error with which it fails."""
    try:
        return globals()[case](spark, folder)
    except Exception:
        return {"failed": traceback.format_exc()}


BOOTSTRAP = {"bagging": "bootstrap", "subsamplingRate": 0.6, "epochs": 2}


@functools.cache
def rows_of(spark):
    """The digits (id, features, label): rows to train on, and rows to test on."""
    return tuple(to_dataframe(spark, *part) for part in load_digits())


@functools.cache
def model_of(spark):
    """A model that several cases use."""
    return small(**BOOTSTRAP, oobSampleSize=1000).fit(rows_of(spark)[0])


def votes_of(scored):
    """All that a model adds to the rows, in the order of their ids."""
    added = [name for name in scored.columns if name not in ("features", "label")]
    rows = scored.select(added).orderBy("id").collect()
    return [[_plain(value) for value in row] for row in rows]


def _plain(value):
    return value.toArray().tolist() if hasattr(value, "toArray") else value


def refusal_of(action):
    """The kind and the sentence of the error that an action ends with."""
    try:
        action()
    except Exception as error:
        return [type(error).__name__, str(error)]
    return None


def a_fit(spark, folder):
    """Members, the record of the fit and its out-of-bag votes."""
    model = model_of(spark)
    record = json.loads(json.dumps(model.summary.to_dict()))
    members = [[member.rows, member.classes, member.history["loss"]] for member in model.members]
    return [digests(model), members, record["outOfBag"], record["rows"], model.summary.oobAccuracy]


def several_param_maps(spark, folder):
    """The members of two param maps, trained in one job."""
    classifier = small()
    maps = [{classifier.epochs: 1}, {classifier.epochs: 2}]
    return [digests(model) for _, model in sorted(classifier.fitMultiple(rows_of(spark)[0], maps))]


def columns_of_a_fit(spark, folder):
    """Members of rows with weights, ids and marks for validation; some rows cannot be used."""
    train = (
        rows_of(spark)[0]
        .where("id < 600")
        .withColumns(
            {
                "weight": F.when(F.col("id") % 7 == 0, 0.5).otherwise(1.0),
                "held": F.col("id") % 5 == 0,
                "label": F.when(F.col("id") % 100 == 1, None).otherwise(F.col("label")),
            }
        )
    )
    settings = {"weightCol": "weight", "idCol": "id", "validationIndicatorCol": "held", "classWeighting": "balanced"}
    model = small(**settings, handleInvalid="skip").fit(train)
    refused = refusal_of(lambda: small(**settings).fit(train))
    assert refused[0] == "ValueError"
    # Which of the six rows is found first is not fixed.
    return [digests(model), model.summary.skippedRows, re.sub(r"\d+", "N", refused[1])]


def soft_labels(spark, folder):
    """The member that learns from the votes of a model, and the refusal of probabilities that do not fit."""
    scored = model_of(spark).transform(rows_of(spark)[0].where("id < 400").drop("label"))
    classifier = small(numMembers=1, labelCol="probability", idCol="id")
    student = classifier.fit(scored)
    refused = refusal_of(lambda: classifier.setNumClasses(9).fit(scored))
    assert refused[0] == "ValueError"
    return [digests(student), student.evaluate(scored).confusionMatrix.tolist(), refused]


def a_bag_on_disk(spark, folder):
    """The member of a bag that is larger than its memory."""
    images = np.random.default_rng(0).integers(0, 256, (300, 72, 72), np.uint8)
    model = small(numMembers=1, inputShape=[72, 72, 1], maxMemoryInMB=1, epochs=1).fit(
        to_dataframe(spark, images, np.arange(300) % 10)
    )
    assert model.members[0].spilled
    return digests(model)


def a_fit_that_is_resumed(spark, folder):
    """Members that come from a checkpoint, and the refusal to resume another fit."""
    train = rows_of(spark)[0]
    settings = {"checkpointDir": f"{folder}/checkpoint", "idCol": "id"}
    small(**settings).fit(train)
    again = small(**settings).fit(train)
    other = refusal_of(lambda: small(**settings, learningRate=0.5).fit(train))
    assert "holds members of another fit" in other[1]
    return [digests(again), again.summary.resumedMembers]


def fits_that_start_from_models(spark, folder):
    """Members that start from a saved model, and from a Keras file that client and server both see."""
    model_of(spark).save(f"{folder}/initial")
    model_of(spark).memberNetwork(1).save(f"{folder}/initial.keras")
    classifier = small()
    maps = [{classifier.initialModel: f"{folder}/{name}"} for name in ("initial", "initial.keras")]
    models = classifier.fit(rows_of(spark)[0], maps)
    return [[digests(model), [layers.text() for layers in model.summary.initialLayers]] for model in models]


def scores(spark, folder):
    """Every output of transform, with its metadata, for rows with one that cannot be scored."""
    test = rows_of(spark)[1]
    broken = test.withColumn("features", F.when(F.col("id") != 3, F.col("features")))
    model = model_of(spark).copy()
    model.setUncertaintyCol("uncertainty").setMemberPredictionsCol("each").setHandleInvalid("keep")
    scored = model.transform(broken)
    refused = refusal_of(lambda: model_of(spark).evaluate(broken))
    return [votes_of(scored), scored.schema["prediction"].metadata, refused]


def scores_by_onnx(spark, folder):
    """The vote of members that onnxruntime runs, and their evaluation."""
    test, model = rows_of(spark)[1], model_of(spark).copy().setScoringEngine("onnx")
    return [votes_of(model.transform(test)), model.evaluate(test).accuracy]


def a_stream(spark, folder):
    """Predictions for a stream of files."""
    test = rows_of(spark)[1]
    test.write.parquet(f"{folder}/to-score")
    stream = spark.readStream.schema(test.schema).parquet(f"{folder}/to-score")
    scored = model_of(spark).transform(stream).select("id", "prediction", "rawPrediction")
    writer = scored.writeStream.format("parquet").option("checkpointLocation", f"{folder}/stream-checkpoint")
    query = writer.trigger(availableNow=True).start(f"{folder}/scored")
    assert query.awaitTermination(120)
    return votes_of(spark.read.parquet(f"{folder}/scored"))


def numbers_about_a_model(spark, folder):
    """Evaluation, and predictions for a single vector."""
    test = rows_of(spark)[1]
    model = model_of(spark)
    evaluation = model.evaluate(test)
    vector = test.orderBy("id").head().features
    predicted = [model.predict(vector), _plain(model.predictRaw(vector)), _plain(model.predictProbability(vector))]
    return [evaluation.accuracy, np.asarray(evaluation.confusion).tolist(), predicted]


def parts_of_models(spark, folder):
    """Members of subsets, merges and pruned models."""
    model = model_of(spark)
    merged = model.subset([2]).merge(model)
    return [digests(merged), digests(model.pruned(2)), votes_of(merged.transform(rows_of(spark)[1].limit(20)))]


def saved_models(spark, folder):
    """A model that is saved, refused, overwritten and loaded, and an estimator."""
    model, path = model_of(spark), f"{folder}/my model"
    model.save(path)
    refused = refusal_of(lambda: model.save(path))
    assert refused[1] == f"Path {path} exists already; choose another, or overwrite it explicitly."
    loaded = CNNEnsembleClassificationModel.load(path)
    model.subset([0, 2]).write().overwrite().save(path)
    assert len(list(Path(path, "metadata").glob("part-*"))) == 1
    small(epochs=7).save(f"{folder}/classifier")
    return [
        digests(loaded),
        votes_of(loaded.transform(rows_of(spark)[1])),
        loaded.summary.oobAccuracy,
        digests(CNNEnsembleClassificationModel.load(path)),
        CNNEnsembleClassifier.load(f"{folder}/classifier").getEpochs(),
    ]


def a_pipeline(spark, folder):
    """A pipeline from names to names, saved and loaded."""
    name = F.array(*[F.lit(f"class {index}") for index in range(10)])[F.col("label")]
    train, test = (rows.withColumn("name", name).drop("label") for rows in rows_of(spark))
    stages = [
        StringIndexer(inputCol="name", outputCol="label", stringOrderType="alphabetAsc"),
        small(**BOOTSTRAP, numClasses=None),
        IndexToString(inputCol="prediction", outputCol="found"),
    ]
    Pipeline(stages=stages).fit(train).write().overwrite().save(f"{folder}/pipeline")
    loaded = PipelineModel.load(f"{folder}/pipeline")
    found = [row.found for row in loaded.transform(test).orderBy("id").collect()]
    return [digests(loaded.stages[1]), loaded.stages[1].classNames, found]


def searches(spark, folder):
    """The metrics of a cross-validation with folds of its own; a search on a random split; one class against the rest."""
    train = rows_of(spark)[0].withColumn("fold", (F.col("id") % 2).cast("int"))
    classifier, evaluator = small(numMembers=1), MulticlassClassificationEvaluator(metricName="accuracy")
    maps = [{classifier.epochs: 1}, {classifier.epochs: 2}]
    crossed = CrossValidator(
        estimator=classifier, estimatorParamMaps=maps, evaluator=evaluator, numFolds=2, foldCol="fold", parallelism=2
    ).fit(train)
    split = TrainValidationSplit(estimator=classifier, estimatorParamMaps=maps[:1], evaluator=evaluator, seed=1)
    few = train.where("label < 2")
    rest = OneVsRest(classifier=small(numMembers=1, numClasses=2)).fit(few)
    return [
        crossed.avgMetrics,
        digests(crossed.bestModel),
        digests(split.fit(train).bestModel),
        [digests(model) for model in rest.models],
        [row.prediction for row in rest.transform(few).orderBy("id").select("prediction").collect()],
    ]


def forms_of_features(spark, folder):
    """The member of each form of features, and its votes."""
    found = {}
    for form in ("array of arrays", "bytes", "file", "image", "vector"):
        rows = frame_of_cells(spark, form, FORMS[form].valid * 4)
        model = two_by_two(idCol="id").fit(rows)
        found[form] = [digests(model), votes_of(model.transform(rows))]
    return found


def a_text_matrix(spark, folder):
    """Members of rows that were read from text, the rows' ids, and the sum of hashes of their pixels as bytes."""
    write_text_matrix(f"{folder}/text", *load_digits()[0])
    rows = read_text_matrix(spark, f"{folder}/text")
    as_bytes = read_text_matrix(spark, f"{folder}/text", dtype="uint8")
    hashed = as_bytes.agg(F.sum(F.xxhash64("features").cast("decimal(38, 0)"))).head()[0]
    ids = sorted(row.id for row in rows.select("id").collect())
    return [digests(small(idCol="id").fit(rows)), ids, str(hashed)]


def a_text_that_spark_reads(spark, folder):
    """Ids of lines whose path pyarrow cannot open, as whole files and line by line."""
    write_text_matrix(f"{folder}/lines", *(part[:500] for part in load_digits()[0]))
    before, largest = spark.conf.get("spark.sql.files.maxPartitionBytes"), through_spark.WHOLE_BYTES
    spark.conf.set("fs.viewfs.mounttable.text.link./data", f"file://{folder}")
    spark.conf.set("spark.sql.files.maxPartitionBytes", "1000")

    def ids(path):
        return sorted(row.id for row in read_text_matrix(spark, path).select("id").collect())

    try:
        by_file = ids("viewfs://text/data/lines")
        through_spark.WHOLE_BYTES = 0
        by_line = ids("viewfs://text/data/lines")
    finally:
        spark.conf.set("spark.sql.files.maxPartitionBytes", before)
        through_spark.WHOLE_BYTES = largest
    assert by_file == by_line == ids(f"{folder}/lines")
    return by_file


def too_many_rows_to_send(spark, folder):
    """The refusal of rows that would fill a server's heap."""
    return refusal_of(lambda: to_dataframe(spark, np.zeros((80_000, 900), np.uint8)))


def progress_in_a_log(spark, folder):
    """Whether lines about a fit reach a log while it runs."""
    period, progress.LINE_PERIOD = progress.LINE_PERIOD, 0.5
    try:
        with redirect_stderr(io.StringIO()) as log:
            small(numMembers=4, epochs=300, verbose=1).fit(rows_of(spark)[0])
    finally:
        progress.LINE_PERIOD = period
    return bool(re.search(r"training: [123] of 4 members", log.getvalue()))


def a_fit_that_does_not_end(spark, folder):
    """A fit that takes both slots until it is interrupted."""
    small(epochs=1_000_000, verbose=0).fit(rows_of(spark)[0])


def a_job(spark, folder):
    """A job that needs a slot."""
    return spark.range(8).repartition(4).count()
