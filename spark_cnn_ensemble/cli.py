"""The command line: demo, train, evaluate, score.

It turns arguments into calls of the public classes, and results into text. Every Param is an option of `train`.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from pyspark.errors import PySparkException
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.feature import IndexToString, StringIndexer
from pyspark.ml.param import Param, TypeConverters
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import NumericType, StringType

from spark_cnn_ensemble.engine import engine_of
from spark_cnn_ensemble.estimator import CNNEnsembleClassifier
from spark_cnn_ensemble.evaluation import CNNEnsembleEvaluation
from spark_cnn_ensemble.model import CNNEnsembleClassificationModel
from spark_cnn_ensemble.persistence import check_target, write_whole
from spark_cnn_ensemble.progress import TaskProgress
from spark_cnn_ensemble.summary import CNNEnsembleTrainingSummary
from spark_cnn_ensemble.text.reader import read_text_matrix
from spark_cnn_ensemble.worker.refusal import refusal_in

_PROGRAM = "spark-cnn-ensemble"
_CLASS_NAME_COL = "className"

_EPILOG = """
examples:
  {program} demo
  {program} train --input digits.txt --output model --num-members 10 --bagging subsample --epochs 3 --random-shift 2
  {program} train --input photos/ --format images --output model --input-shape 32,32,3 --num-members 20
  {program} evaluate --model model --input test.parquet --format parquet
  {program} score --model model --input new.parquet --format parquet --output scored

On a cluster, run it with spark-submit; docs/guide/clusters.md has the commands for standalone, YARN and Kubernetes.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns
    -------
    int
        0, or 1 after an error, which is one sentence on stderr.
    """
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, TypeError, FileNotFoundError, FileExistsError, ModuleNotFoundError) as error:
        return _fail(str(error))
    except PySparkException as error:
        sentence = refusal_in(str(error))
        if sentence is None:
            raise
        return _fail(sentence)
    return 0


def _fail(sentence: str) -> int:
    print(f"{_PROGRAM}: {sentence}", file=sys.stderr)
    return 1


def session(master: str | None = None) -> SparkSession:
    """The Spark session of spark-submit, or else a new one on all cores of this machine."""
    builder = SparkSession.builder.appName(_PROGRAM).config("spark.ui.showConsoleProgress", "false")
    if master is not None:
        builder = builder.master(master)
    spark = builder.getOrCreate()
    engine_of(spark).quieten()
    return spark


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Train an ensemble of small CNNs on Apache Spark, and score by the members' vote.",
        epilog=_EPILOG.format(program=_PROGRAM),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    demo = commands.add_parser("demo", help="one CNN against an ensemble on MNIST, two to three minutes")
    demo.add_argument("--master", metavar="URL", help="Spark master (all cores of this machine, or spark-submit's)")
    demo.set_defaults(run=_demo)

    train = commands.add_parser(
        "train",
        help="train an ensemble and save it as a PipelineModel",
        description="Train an ensemble and save it as a PipelineModel.",
    )
    _add_input(train)
    train.add_argument("--output", required=True, metavar="PATH", help="folder of the model to write")
    train.add_argument("--overwrite", action="store_true", help="replace --output once the new model is saved")
    train.add_argument(
        "--report", metavar="FILE", help="write a page with tables and pictures of the fit to a local HTML file"
    )
    train.set_defaults(run=_train)
    group = train.add_argument_group("params of CNNEnsembleClassifier")
    for param in CNNEnsembleClassifier().params:
        _add_param(group, param)

    evaluate = commands.add_parser("evaluate", help="compare a saved model's votes with labels")
    _add_input(evaluate)
    evaluate.add_argument("--model", required=True, metavar="PATH", help="folder of the model")
    evaluate.set_defaults(run=_evaluate)

    score = commands.add_parser("score", help="score rows with a saved model")
    _add_input(score)
    score.add_argument("--model", required=True, metavar="PATH", help="folder of the model")
    score.add_argument("--output", required=True, metavar="PATH", help="folder of the scored rows to write")
    score.add_argument("--overwrite", action="store_true", help="replace --output once the new rows are written")
    score.add_argument(
        "--output-format",
        choices=("parquet", "json", "csv"),
        default="parquet",
        help="parquet and json hold all columns except the features, csv only numbers and text (%(default)s)",
    )
    score.set_defaults(run=_score)
    return parser


def _add_input(command: argparse.ArgumentParser) -> None:
    command.add_argument("--input", required=True, metavar="PATH", help="file or folder of the rows")
    command.add_argument(
        "--format",
        choices=("text", "parquet", "images"),
        default="text",
        help="text: a matrix, one image and its label per line; parquet: a table; images: PNG or JPEG files, one "
        "folder per class (%(default)s)",
    )
    command.add_argument(
        "--label",
        choices=("last", "first", "none"),
        default="last",
        help="text: position of the label in a line (%(default)s)",
    )
    command.add_argument("--sep", default=" ", help="text: separator between numbers (a space)")
    command.add_argument(
        "--scale", type=float, default=1.0, help="text: factor that multiplies the features (%(default)s)"
    )
    command.add_argument("--master", metavar="URL", help="Spark master (all cores of this machine, or spark-submit's)")


_CONVERTERS: dict[Any, tuple[str, Callable[[str], Any]]] = {
    TypeConverters.toInt: ("N", int),
    TypeConverters.toFloat: ("X", float),
    TypeConverters.toString: ("NAME", str),
    TypeConverters.toListInt: ("N,N,...", lambda text: [int(number) for number in text.split(",")]),
    TypeConverters.toListFloat: ("X,X,...", lambda text: [float(number) for number in text.split(",")]),
    TypeConverters.toBoolean: ("true|false", lambda text: {"true": True, "false": False}[text.lower()]),
}


def _add_param(group: Any, param: Param[Any]) -> None:
    metavar, convert = _CONVERTERS[param.typeConverter]
    if param.name == "network":
        metavar, convert = "FILE", _read_file
    option = "--" + re.sub("([A-Z])", lambda letter: "-" + letter.group().lower(), param.name)
    name = "number list" if "," in metavar else metavar
    converter = _named(convert, name)
    group.add_argument(option, dest=f"param_{param.name}", type=converter, metavar=metavar, help=_help(param))


def _named(convert: Callable[[str], Any], name: str) -> Callable[[str], Any]:
    def converted(text: str) -> Any:
        try:
            return convert(text)
        except (ValueError, KeyError, OSError) as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not a {name} ({error})") from None

    return converted


def _help(param: Param[Any]) -> str:
    text = "file of " + param.doc if param.name == "network" else param.doc
    return text.replace("%", "%%")


def _read_file(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def _read(spark: SparkSession, options: argparse.Namespace) -> DataFrame:
    if options.format == "text":
        label = None if options.label == "none" else options.label
        return read_text_matrix(spark, options.input, label=label, sep=options.sep, scale=options.scale)
    if options.format == "parquet":
        return spark.read.parquet(options.input)
    files = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(options.input)
    folder = F.element_at(F.split("path", "/"), -2)
    return files.select("path", F.col("content").alias("features"), F.url_decode(folder).alias(_CLASS_NAME_COL))


def _demo(options: argparse.Namespace) -> None:
    from spark_cnn_ensemble.demo import run_demo

    run_demo(session(options.master))


def _train(options: argparse.Namespace) -> None:
    params = {
        name.removeprefix("param_"): value
        for name, value in vars(options).items()
        if name.startswith("param_") and value is not None
    }
    spark = session(options.master)
    check_target(spark, options.output, options.overwrite)
    if options.report is not None:
        _check_report(options.report)
    frame = _read(spark, options)
    classifier = CNNEnsembleClassifier().setParams(**params)
    stages: list[Any] = [classifier]
    if options.format == "images":
        indexer = StringIndexer(
            inputCol=_CLASS_NAME_COL, outputCol=classifier.getLabelCol(), stringOrderType="alphabetAsc"
        )
        names = IndexToString(inputCol=classifier.getPredictionCol(), outputCol="predictedClassName")
        stages = [indexer, classifier, names]
    model = Pipeline(stages=stages).fit(frame)
    write_whole(spark, options.output, model.save, options.overwrite)
    summary = _ensemble(model).summary
    print(
        f"Trained {len(summary.members)} members on {summary.rows:,} rows ({summary.skippedRows:,} left out) in "
        f"{summary.seconds:.1f} s.\n\n{member_table(summary)}\n\n{_out_of_bag_line(summary)}Saved to {options.output}."
    )
    for why in summary.missingMembers.values():
        print(f"Left out: {why}")
    if options.report is not None:
        summary.to_html(options.report)
        print(f"Report written to {options.report}.")


def _check_report(path: str) -> None:
    """Refuse, before anything is trained, a report that cannot be written."""
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"There is no folder {folder} for the report; create it, or set another --report.")
    if importlib.util.find_spec("matplotlib") is None:
        raise ModuleNotFoundError(
            "A report needs matplotlib; pip install spark_cnn_ensemble[plots], or leave --report out."
        )


def _out_of_bag_line(summary: CNNEnsembleTrainingSummary) -> str:
    votes = summary.outOfBag
    if votes is None or not votes.rows:
        return ""
    low, high = votes.accuracyInterval
    return f"Out-of-bag accuracy of the vote {votes.accuracy:.2%} ({low:.2%} to {high:.2%}, {votes.rows:,} rows).\n"


def member_table(summary: CNNEnsembleTrainingSummary) -> str:
    """One line per member: rows, epochs, seconds, and the accuracies of its last epoch."""
    members = summary.members
    lines = ["member     rows  epochs  seconds  training accuracy  validation accuracy"]
    for member in members:
        validation = member.history.get("val_accuracy")
        shown = f"{validation[-1]:.2%}" if validation else "-"
        lines.append(
            f"{member.member:6d} {member.rows:8,d} {member.epochs:7d} {member.seconds:8.1f} "
            f"{member.history['accuracy'][-1]:18.2%} {shown:>20}"
        )
    return "\n".join(lines)


def _load(path: str) -> PipelineModel:
    """A saved PipelineModel; a saved model alone becomes a pipeline with one stage."""
    try:
        return PipelineModel([CNNEnsembleClassificationModel.load(path)])
    except ValueError as error:
        if "PipelineModel" not in str(error):
            raise
    return PipelineModel.load(path)


def _ensemble(model: PipelineModel) -> CNNEnsembleClassificationModel:
    for stage in model.stages:
        if isinstance(stage, CNNEnsembleClassificationModel):
            return stage
    raise ValueError(
        "The pipeline has no CNNEnsembleClassificationModel among its stages; give one that `train` saved."
    )


def _evaluate(options: argparse.Namespace) -> None:
    spark = session(options.master)
    model = _load(options.model)
    ensemble = _ensemble(model)
    before = PipelineModel(model.stages[: model.stages.index(ensemble)])
    print(evaluation_text(ensemble.evaluate(before.transform(_read(spark, options)))))


def evaluation_text(evaluation: CNNEnsembleEvaluation) -> str:
    """Accuracy of the vote and of the members, and the confusion matrix."""
    members = evaluation.memberAccuracies
    low, high = evaluation.accuracyInterval
    text = (
        f"rows {evaluation.rows:,} ({evaluation.skippedRows:,} left out)\n"
        f"accuracy of the vote {evaluation.accuracy:.2%} ({low:.2%} to {high:.2%})\n"
        f"accuracy of {len(members)} members: best {members.max():.2%}, mean {members.mean():.2%}, "
        f"worst {members.min():.2%}"
    )
    if len(evaluation.confusionMatrix) <= 20:
        width = len(str(evaluation.confusionMatrix.max())) + 1
        matrix = "\n".join("".join(f"{count:{width}d}" for count in row) for row in evaluation.confusionMatrix)
        text += f"\nconfusion matrix (rows: labels, columns: predictions):\n{matrix}"
    return text


def _score(options: argparse.Namespace) -> None:
    spark = session(options.master)
    check_target(spark, options.output, options.overwrite)
    model = _load(options.model)
    scored = model.transform(_read(spark, options)).drop(_ensemble(model).getFeaturesCol())
    if options.output_format == "csv":
        flat = [f.name for f in scored.schema.fields if isinstance(f.dataType, NumericType | StringType)]
        scored = scored.select(*flat)
    header = {"header": "true"} if options.output_format == "csv" else {}
    with TaskProgress(spark, "scoring", shown=True):
        write = scored.write.format(options.output_format).options(**header).save
        write_whole(spark, options.output, write, options.overwrite)
    print(f"Scored rows written to {options.output}: {', '.join(scored.columns)}.")
