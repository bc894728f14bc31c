"""The command line: demo, train, evaluate, score.

It turns arguments into calls of the public classes, and results into text. Every Param is an option of `train`. The
job of `demo` is in `demo`; `class_folders` reads pictures, `pipelines` loads what `train` wrote, `text_tables` has the
tables that are printed. Called by `__main__`. The module is long because it has the options of all commands.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.feature import IndexToString, StringIndexerModel
from pyspark.ml.param import Param, TypeConverters
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import NumericType, StringType

from spark_cnn_ensemble.class_folders import (
    CLASS_NAME_COL,
    check_classes,
    check_folders,
    check_hidden,
    check_known,
    class_names,
    count_by_folder,
    read_pictures,
)
from spark_cnn_ensemble.declared import to_path
from spark_cnn_ensemble.engine import engine_of
from spark_cnn_ensemble.engine.failures import failure, from_spark
from spark_cnn_ensemble.engine.paths import is_pattern
from spark_cnn_ensemble.engine.start import start_session
from spark_cnn_ensemble.estimator import CNNEnsembleClassifier
from spark_cnn_ensemble.pipelines import ensemble_of, label_indexer, load_stages, score
from spark_cnn_ensemble.progress import TaskProgress
from spark_cnn_ensemble.report import check_report
from spark_cnn_ensemble.report_sentences import voters
from spark_cnn_ensemble.rows.columns import column, without
from spark_cnn_ensemble.saved_folder import check_target, check_writable
from spark_cnn_ensemble.summary import CNNEnsembleTrainingSummary
from spark_cnn_ensemble.text.reader import read_text_matrix
from spark_cnn_ensemble.text_tables import evaluation_text, member_table
from spark_cnn_ensemble.votes import recall_text
from spark_cnn_ensemble.worker.refusal import refusal_in

_PROGRAM = "spark-cnn-ensemble"
# Quotes inside quotes are doubled, as other programs read them; Spark would write a backslash, and trim text.
_CSV = {
    "header": "true",
    "escape": '"',
    "ignoreLeadingWhiteSpace": "false",
    "ignoreTrailingWhiteSpace": "false",
}
# What says how text is read, with the defaults.
_TEXT_OPTIONS = {"label": "last", "header": False, "sep": None, "scale": 1.0, "dtype": "float32"}
_EPILOG = """
examples:
  {program} demo
  {program} train --input digits.txt --output model --num-members 10 --bagging subsample --epochs 3 --random-shift 2
  {program} train --input photos/train --format images --output model --input-shape 32,32,3 --num-members 20
  {program} train --input mnist_train.csv --format csv --label first --header --output model
  {program} evaluate --model model --input test.parquet --format parquet
  {program} score --model model --input new.parquet --format parquet --output scored

On a cluster, run it with spark-submit: the user guide, page Clusters, has the commands for standalone, YARN and
Kubernetes.
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
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = lambda message, *_, **__: _say(f"warning: {message}")
        try:
            options.run(options)
        except Exception as error:
            if options.debug:
                raise
            _say(_sentence(error))
            return 1
        except KeyboardInterrupt:
            _say("interrupted.")
            return 130
    return 0


def _say(sentence: str) -> None:
    with suppress(OSError):  # a full disk, or a reader that has gone, does not undo the work
        print(f"{_PROGRAM}: {' '.join(sentence.split())}", file=sys.stderr)


def _print(text: str, needed: bool = False) -> None:
    """Print as far as stdout has the characters and takes them.

    Raises
    ------
    OSError
        The text is `needed`, and stdout does not take it, though its reader is there.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        print(text.encode(encoding, "replace").decode(encoding), flush=True)
    except OSError as error:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes as it ends
        if needed and not isinstance(error, BrokenPipeError):  # as of `| head -1`
            raise OSError(f"stdout cannot be written to ({error.strerror}); send it to another place.") from None


def _sentence(error: Exception) -> str:
    if from_spark(error):
        return refusal_in(_text(error)) or failure(error)
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}; check the path and its permissions."
    if isinstance(error, ValueError | TypeError | OSError | ModuleNotFoundError | RuntimeError):
        return str(error)
    return f"An unexpected {type(error).__name__} ended the command ({error}); --debug shows where."


def _text(error: Exception) -> str:
    try:
        return str(error)
    except Exception:  # the text of a Java error is asked of the JVM, which may have ended
        return ""


def _session(options: argparse.Namespace) -> SparkSession:
    return start_session(_PROGRAM, options.master, options.remote, options.debug)


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
        help="compare one CNN with an ensemble on MNIST, in a few minutes",
        description="Compare one CNN on one core with an ensemble on all cores, on MNIST.",
    )
    _add_session(demo)
    demo.set_defaults(run=_demo, remote=None)

    train = commands.add_parser(
        "train",
        help="train an ensemble and save it as a PipelineModel",
        description="Train an ensemble and save it as a PipelineModel.",
    )
    _add_input(train)
    train.add_argument("--output", required=True, type=_folder, metavar="PATH", help="folder for the model")
    train.add_argument("--overwrite", action="store_true", help="replace --output once the new model is saved")
    train.add_argument(
        "--report", metavar="FILE", help="write a page with tables and plots of the fit to a local HTML file"
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
    _add_model(evaluate)
    evaluate.set_defaults(run=_evaluate)

    scoring = commands.add_parser(
        "score",
        help="score rows with a saved model",
        description="Score rows with a saved model and write them.",
    )
    _add_input(scoring)
    _add_model(scoring)
    scoring.add_argument("--output", required=True, type=_folder, metavar="PATH", help="folder for the scored rows")
    scoring.add_argument("--overwrite", action="store_true", help="replace --output once the new rows are written")
    scoring.add_argument(
        "--output-format",
        choices=("parquet", "json", "csv"),
        default="parquet",
        help="parquet, json: all columns except the features; csv: columns of numbers and text only (default: "
        "%(default)s)",
    )
    scoring.set_defaults(run=_score)
    return parser


def _folder(path: str) -> str:
    """A path without the slash that a shell adds to the name of a folder: other names are made by adding to it."""
    return path.rstrip("/") or path


def _add_input(command: argparse.ArgumentParser) -> None:
    command.add_argument("--input", required=True, metavar="PATH", help="file or folder of the rows")
    command.add_argument(
        "--format",
        choices=("text", "csv", "parquet", "images", "libsvm"),
        default="text",
        help="text: a matrix, one image and its label per line; csv: the same with commas; parquet: a table; images: "
        "PNG or JPEG files, one folder per class; libsvm: one label and index:value pairs per line (default: "
        "%(default)s)",
    )
    command.add_argument(
        "--label",
        choices=("last", "first", "none"),
        help="text, csv: position of the label in a line (default: %(default)s)",
    )
    command.add_argument("--header", action="store_true", help="text, csv: the first line of each file names columns")
    command.add_argument(
        "--sep", metavar="TEXT", help=r"text: separator between numbers, such as ';' or '\t' (default: a space)"
    )
    command.add_argument("--scale", type=float, help="text, csv: factor for the features (default: %(default)s)")
    command.add_argument(
        "--dtype",
        choices=("float32", "uint8"),
        help="text, csv: type of a feature; uint8 takes a quarter, for whole numbers from 0 to 255 "
        "(default: %(default)s)",
    )
    command.set_defaults(**_TEXT_OPTIONS)
    _add_session(command).add_argument(
        "--remote",
        metavar="URL",
        help="Spark Connect server, such as sc://HOST:15002 or sc://HOST:443/;token=TOKEN; it reads and writes every "
        "PATH, and this machine every FILE",
    )


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument("--model", required=True, metavar="PATH", help="folder of the model")
    command.add_argument(
        "--handle-invalid",
        choices=("error", "skip", "keep"),
        help="what happens to a row that cannot be used: error, the command fails and says why; skip, the row is left "
        "out; keep, its prediction is empty (default: what the model was trained with)",
    )


def _add_session(command: argparse.ArgumentParser) -> Any:
    """Add the options of the session; returns the group of those that exclude each other."""
    command.add_argument("--debug", action="store_true", help="show Spark's log, and where an error happened")
    place = command.add_mutually_exclusive_group()
    place.add_argument(
        "--master", metavar="URL", help="Spark master (default: that of spark-submit, else all cores of this machine)"
    )
    return place


# By type: the placeholder in the help, what a value must be, and how its text is read.
_CONVERTERS: dict[Any, tuple[str, str, Callable[[str], Any]]] = {
    TypeConverters.toInt: ("N", "an integer", int),
    TypeConverters.toFloat: ("X", "a number", float),
    TypeConverters.toString: ("NAME", "text", str),
    to_path: ("PATH", "text", str),
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
    option = f"--{_words(param.name)}"
    converter = _refusing(convert, rule)
    group.add_argument(option, dest=f"param_{param.name}", type=converter, metavar=metavar, help=_help(param, default))


def _words(name: str) -> str:
    """The words of a Param's name: numMembers is num-members, maxMemoryInMB is max-memory-in-mb."""
    return re.sub("(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()


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


def _read(spark: SparkSession, options: argparse.Namespace, shape: Sequence[int] | None) -> DataFrame:
    """The rows of --input; `shape` is that of an image, if it is known."""
    if options.format not in ("text", "csv"):
        for name, value in _TEXT_OPTIONS.items():
            if getattr(options, name) != value:
                raise ValueError(f"--{name} says how text is read, and --format is {options.format}; leave it out.")
    if options.format in ("text", "csv"):
        label = None if options.label == "none" else options.label
        sep = (" " if options.format == "text" else ",") if options.sep is None else options.sep.replace(r"\t", "\t")
        return read_text_matrix(spark, options.input, label, sep, options.scale, options.header, options.dtype)
    if options.format == "parquet":
        return spark.read.parquet(options.input)
    if options.format == "libsvm":
        if shape is None:
            raise ValueError("A file of libsvm does not say how large its images are; set --input-shape.")
        return spark.read.format("libsvm").option("numFeatures", math.prod(shape)).load(options.input)
    check_hidden(spark, options.input)
    return read_pictures(spark, options.input)


def _demo(options: argparse.Namespace) -> None:
    from spark_cnn_ensemble.demo import run_demo

    run_demo(_session(options))


def _check_output(spark: SparkSession, options: argparse.Namespace, used: dict[str, str | None]) -> None:
    """Refuse an --output that cannot be written, or that would replace the paths of other options, `used`."""
    check_target(spark, options.output, options.overwrite)
    files = engine_of(spark).files
    output = files.qualified(options.output)
    for name, path in used.items():
        every = [path] if path else []
        if path and is_pattern(path):
            every += [match.path for match in files.matches(path)]
        if any(f"{files.qualified(one)}/".startswith(f"{output}/") for one in every):
            raise ValueError(f"--output {options.output} would replace {name} {path}; choose another path.")
    check_writable(spark, options.output, "--output")


def _train(options: argparse.Namespace) -> None:
    params = {
        name.removeprefix("param_"): value
        for name, value in vars(options).items()
        if name.startswith("param_") and value is not None
    }
    spark = _session(options)
    _check_output(spark, options, {"--input": options.input, "--checkpoint-dir": options.param_checkpointDir})
    if options.report is not None:
        check_report(options.report)
    classifier = CNNEnsembleClassifier().setParams(**params)
    frame = _read(spark, options, params.get("inputShape"))
    stages: list[Any] = [classifier]
    if options.format == "images":
        indexer = _class_indexer(spark, frame, options.input, classifier.getLabelCol())
        names = IndexToString(
            inputCol=classifier.getPredictionCol(), outputCol="predictedClassName", labels=indexer.labels
        )
        stages = [indexer, classifier, names]
    model = Pipeline(stages=stages).fit(frame)
    engine_of(spark).files.write_whole(options.output, model.save, options.overwrite)
    summary = ensemble_of(model.stages).summary
    _print(
        f"Trained {len(summary.members)} members on {summary.rows:,} rows ({summary.skippedRows:,} left out) in "
        f"{summary.seconds:.1f} s.\n\n{member_table(summary)}\n\n{_out_of_bag_line(summary)}Saved to {options.output}."
    )
    for why in summary.missingMembers.values():
        _print(f"Left out: {why}")
    if options.report is not None:
        summary.to_html(options.report, class_names=_names(model.stages))
        _print(f"Report written to {options.report}.")


def _class_indexer(spark: SparkSession, pictures: DataFrame, path: str, label: str) -> StringIndexerModel:
    """The stage that makes labels of the folders' names; prints the classes."""
    folders = count_by_folder(pictures)
    check_folders(path, folders)
    check_classes(path, folders)
    names = class_names(folders)
    rows = {name: sum(count for folder, count in folders.items() if folder.endswith(f"/{name}")) for name in names}
    shown = [f"{name} {count:,}" for name, count in rows.items()]
    _print(f"{len(names)} classes: {', '.join(shown[:20])}{', ...' if len(shown) > 20 else ''}.")
    return StringIndexerModel.from_labels(names, inputCol=CLASS_NAME_COL, outputCol=label)


def _out_of_bag_line(summary: CNNEnsembleTrainingSummary) -> str:
    votes = summary.outOfBag
    if votes is None or not votes.rows:
        return ""
    low, high = votes.accuracyInterval
    return (
        f"Out-of-bag accuracy of the vote {votes.accuracy:.2%} ({low:.2%} to {high:.2%}, {votes.rows:,} rows). "
        f"{voters(summary)}\nOut-of-bag recall of the classes: {recall_text(votes)}.\n"
    )


def _load(spark: SparkSession, options: argparse.Namespace) -> list[Any]:
    stages = load_stages(spark, options.model)
    if options.handle_invalid is not None:
        ensemble_of(stages).setHandleInvalid(options.handle_invalid)
    return stages


def _names(stages: Sequence[Any]) -> list[str] | None:
    """The names of the classes, if the ensemble or the stage that made its labels knows them."""
    ensemble, indexer = ensemble_of(stages), label_indexer(stages)
    names = ensemble.classNames or (indexer and indexer.labels)
    return list(names) if names and len(names) == ensemble.numClasses else None


def _evaluate(options: argparse.Namespace) -> None:
    spark = _session(options)
    stages = _load(spark, options)
    ensemble, indexer = ensemble_of(stages), label_indexer(stages)
    frame = _read(spark, options, ensemble.inputShape)
    if options.format == "images":
        check_folders(options.input, count_by_folder(frame))
    if indexer is not None and indexer.getInputCol() in frame.columns:
        if ensemble.getHandleInvalid() == "error":
            name = indexer.getInputCol()
            found = [row[0] for row in frame.select(name).distinct().collect() if row[0] is not None]
            where = "--input" if options.format == "images" else f"column '{name}' of --input"
            check_known(map(str, found), indexer.labels, where)
        else:
            indexer.setHandleInvalid("keep")  # an index past the last class; the ensemble counts the row as left out
    before = PipelineModel(stages[: stages.index(ensemble)])
    _print(evaluation_text(ensemble.evaluate(before.transform(frame)), _names(stages)), needed=True)


def _score(options: argparse.Namespace) -> None:
    spark = _session(options)
    _check_output(spark, options, {"--input": options.input, "--model": options.model})
    stages = _load(spark, options)
    ensemble, names = ensemble_of(stages), _names(stages)
    frame = _read(spark, options, ensemble.inputShape)
    if options.format == "images" and frame.select("path").isEmpty():
        raise ValueError(f"There are no files in {options.input}; pass a folder that has pictures, at any depth.")
    if options.format == "images" and names is not None:
        # The folder of new pictures is not their class.
        known = F.when(F.col(CLASS_NAME_COL).isin(names), F.col(CLASS_NAME_COL))
        frame = frame.withColumn(CLASS_NAME_COL, known)
    scored = without(score(stages, frame), ensemble.getFeaturesCol())
    if options.output_format == "csv":
        flat = [f.name for f in scored.schema.fields if isinstance(f.dataType, NumericType | StringType)]
        scored = scored.select(*(column(scored, name) for name in flat))
    layout = _CSV if options.output_format == "csv" else {}
    with TaskProgress(spark, "scoring", shown=True):
        write = scored.write.format(options.output_format).options(**layout).save
        engine_of(spark).files.write_whole(options.output, write, options.overwrite)
    _print(f"Scored rows written to {options.output}: {', '.join(scored.columns)}.")
