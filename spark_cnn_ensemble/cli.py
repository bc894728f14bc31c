"""The command line: demo, train, evaluate, score.

It turns arguments into calls of the public classes, and results into text. Every Param is an option of `train`. The
job of `demo` is in `demo`. Called by `__main__`. The module is long because it has the options and the output of all
commands.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
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
from spark_cnn_ensemble.report_sentences import voters
from spark_cnn_ensemble.summary import CNNEnsembleTrainingSummary
from spark_cnn_ensemble.text.reader import read_text_matrix
from spark_cnn_ensemble.votes import VoteStatistics, recall_text
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

    Parameters
    ----------
    arguments : sequence of str, optional
        The command and its options; default: those of the process.

    Returns
    -------
    int
        The exit code: 0, or 1 after an error, which is reported in one sentence on stderr.

    Raises
    ------
    SystemExit
        The arguments cannot be parsed, or ask for help.
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
    """The Spark session of spark-submit, or else a new one on all cores of this machine.

    Parameters
    ----------
    master : str, optional
        URL of another Spark master.
    """
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

    demo = commands.add_parser(
        "demo",
        help="compare one CNN with an ensemble on MNIST, in two to three minutes",
        description="Compare one CNN on one core with an ensemble on all cores, on MNIST.",
    )
    _add_master(demo)
    demo.set_defaults(run=_demo)

    train = commands.add_parser(
        "train",
        help="train an ensemble and save it as a PipelineModel",
        description="Train an ensemble and save it as a PipelineModel.",
    )
    _add_input(train)
    train.add_argument("--output", required=True, metavar="PATH", help="folder for the model")
    train.add_argument("--overwrite", action="store_true", help="replace --output once the new model is saved")
    train.add_argument(
        "--report", metavar="FILE", help="write a page with tables and pictures of the fit to a local HTML file"
    )
    train.set_defaults(run=_train)
    group = train.add_argument_group("params of CNNEnsembleClassifier")
    classifier = CNNEnsembleClassifier()
    for param in classifier.params:
        _add_param(group, param, classifier.getOrDefault(param) if classifier.hasDefault(param) else None)

    evaluate = commands.add_parser(
        "evaluate",
        help="compare a saved model's votes with labels",
        description="Compare a saved model's votes with labels.",
    )
    _add_input(evaluate)
    evaluate.add_argument("--model", required=True, metavar="PATH", help="folder of the model")
    evaluate.set_defaults(run=_evaluate)

    score = commands.add_parser(
        "score",
        help="score rows with a saved model",
        description="Score rows with a saved model and write them.",
    )
    _add_input(score)
    score.add_argument("--model", required=True, metavar="PATH", help="folder of the model")
    score.add_argument("--output", required=True, metavar="PATH", help="folder for the scored rows")
    score.add_argument("--overwrite", action="store_true", help="replace --output once the new rows are written")
    score.add_argument(
        "--output-format",
        choices=("parquet", "json", "csv"),
        default="parquet",
        help="parquet, json: all columns except the features; csv: columns of numbers and text only (default: "
        "%(default)s)",
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
        "folder per class (default: %(default)s)",
    )
    command.add_argument(
        "--label",
        choices=("last", "first", "none"),
        default="last",
        help="text: position of the label in a line (default: %(default)s)",
    )
    command.add_argument("--sep", default=" ", help="text: separator between numbers (default: a space)")
    command.add_argument(
        "--scale", type=float, default=1.0, help="text: factor for the features (default: %(default)s)"
    )
    _add_master(command)


def _add_master(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--master", metavar="URL", help="Spark master (default: that of spark-submit, else all cores of this machine)"
    )


# By type: the placeholder in the help, what a value must be, and how its text is read.
_CONVERTERS: dict[Any, tuple[str, str, Callable[[str], Any]]] = {
    TypeConverters.toInt: ("N", "an integer", int),
    TypeConverters.toFloat: ("X", "a number", float),
    TypeConverters.toString: ("NAME", "text", str),
    TypeConverters.toListInt: (
        "N,N,...",
        "integers separated by commas",
        lambda text: [int(number) for number in text.split(",")],
    ),
    TypeConverters.toListFloat: (
        "X,X,...",
        "numbers separated by commas",
        lambda text: [float(number) for number in text.split(",")],
    ),
    TypeConverters.toBoolean: (
        "true|false",
        "true or false",
        lambda text: {"true": True, "false": False}[text.lower()],
    ),
}


def _add_param(group: Any, param: Param[Any], default: Any) -> None:
    metavar, rule, convert = _CONVERTERS[param.typeConverter]
    if param.name == "network":
        metavar, rule, convert = "FILE", "a readable text file", _read_file
    option = "--" + re.sub("([A-Z])", lambda letter: "-" + letter.group().lower(), param.name)
    converter = _refusing(convert, rule)
    group.add_argument(option, dest=f"param_{param.name}", type=converter, metavar=metavar, help=_help(param, default))


def _refusing(convert: Callable[[str], Any], rule: str) -> Callable[[str], Any]:
    """`convert` with an error that argparse prints after the option's name."""

    def converted(text: str) -> Any:
        try:
            return convert(text)
        except (ValueError, KeyError, OSError):
            raise argparse.ArgumentTypeError(f"must be {rule}, not {text!r}") from None

    return converted


def _help(param: Param[Any], default: Any) -> str:
    text = "file with " + param.doc if param.name == "network" else param.doc
    if default not in (None, ""):
        text += f" Default: {_as_argument(default)}."
    return text.replace("%", "%%")


def _as_argument(value: Any) -> str:
    """A Param's value as the command line takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


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
    """Refuse a report that cannot be written; called before anything is trained."""
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise FileNotFoundError(
            f"The folder of the report, {folder}, does not exist; create it, or set another --report."
        )
    if importlib.util.find_spec("matplotlib") is None:
        raise ModuleNotFoundError(
            "A report needs matplotlib; run pip install 'spark-cnn-ensemble[plots]', or leave --report out."
        )


def _out_of_bag_line(summary: CNNEnsembleTrainingSummary) -> str:
    votes = summary.outOfBag
    if votes is None or not votes.rows:
        return ""
    low, high = votes.accuracyInterval
    return (
        f"Out-of-bag accuracy of the vote {votes.accuracy:.2%} ({low:.2%} to {high:.2%}, {votes.rows:,} rows). "
        f"{voters(votes)}\nOut-of-bag recall of the classes: {recall_text(votes)}.\n"
    )


def member_table(summary: CNNEnsembleTrainingSummary) -> str:
    """One line per member: rows, epochs, seconds, and the accuracies of the epoch whose weights it has.

    Also the classes that it saw, if some member misses one, and that epoch, if some member stopped early.
    """
    stopped = any(member.keptEpoch < member.epochs for member in summary.members)
    lines = [["member", "rows", "epochs", "seconds", "training accuracy", "validation accuracy"]]
    for member in summary.members:
        measured = member.kept
        validation = f"{measured['val_accuracy']:.2%}" if "val_accuracy" in measured else "-"
        accuracy = f"{measured['accuracy']:.2%}"
        lines.append(
            [str(member.member), f"{member.rows:,}", str(member.epochs), f"{member.seconds:.1f}", accuracy, validation]
        )
    # Columns that are worth their place in some fits only.
    if stopped:
        _insert(lines, 3, "epoch kept", [member.keptEpoch for member in summary.members])
    if summary.unseenClasses:
        _insert(lines, 2, "classes", [len(member.classes) for member in summary.members])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.rjust, line, widths)) for line in lines)


def _insert(lines: list[list[str]], place: int, head: str, values: Sequence[int]) -> None:
    for line, value in zip(lines, [head, *values], strict=True):
        line.insert(place, str(value))


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
        "The pipeline has no CNNEnsembleClassificationModel among its stages; pass --model a folder that 'train' wrote."
    )


def _evaluate(options: argparse.Namespace) -> None:
    spark = session(options.master)
    model = _load(options.model)
    ensemble = _ensemble(model)
    before = PipelineModel(model.stages[: model.stages.index(ensemble)])
    print(evaluation_text(ensemble.evaluate(before.transform(_read(spark, options)))))


def evaluation_text(evaluation: CNNEnsembleEvaluation) -> str:
    """The text that `evaluate` prints: accuracy of the vote and of the members, and the confusion matrix."""
    members = evaluation.memberAccuracies
    low, high = evaluation.accuracyInterval
    text = (
        f"rows {evaluation.rows:,} ({evaluation.skippedRows:,} left out)\n"
        f"accuracy of the vote {evaluation.accuracy:.2%} ({low:.2%} to {high:.2%})\n"
        f"accuracy of {len(members)} members: best {members.max():.2%}, mean {members.mean():.2%}, "
        f"worst {members.min():.2%}"
    )
    text += f"\nrecall of the classes: {recall_text(evaluation)}"
    if len(evaluation.confusionMatrix) <= 20:
        text += f"\n{_class_table(evaluation)}"
        width = len(str(evaluation.confusionMatrix.max())) + 1
        matrix = "\n".join("".join(f"{count:{width}d}" for count in row) for row in evaluation.confusionMatrix)
        text += f"\nconfusion matrix (rows: labels, columns: predictions):\n{matrix}"
    return text


def _class_table(votes: VoteStatistics) -> str:
    """One line per class: rows, recall and precision."""
    lines = [f"{'class':>5} {'rows':>8} {'recall':>8} {'precision':>9}"]
    for label, rows, recall, precision in votes.classTable.itertuples():
        shown = ["-" if math.isnan(share) else f"{share:.2%}" for share in (recall, precision)]
        lines.append(f"{label:5d} {rows:8,d} {shown[0]:>8} {shown[1]:>9}")
    return "\n".join(lines)


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
