"""Saved pipelines with an ensemble among their stages: loaded without running what a folder names, and taken apart.

Spark's `PipelineModel.load` imports whatever class a stage's metadata names. Here, names are only looked up in a table
of Spark's transformers of columns. Called by the command line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

from pyspark.ml import Transformer, feature
from pyspark.ml.feature import IndexToString, StringIndexerModel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_cnn_ensemble.checked import check_list, shortened
from spark_cnn_ensemble.model import CNNEnsembleClassificationModel
from spark_cnn_ensemble.persistence import class_path
from spark_cnn_ensemble.saved_folder import SavedFolder

_PIPELINES = ("pyspark.ml.pipeline.PipelineModel", "org.apache.spark.ml.PipelineModel")
# A statement of SQL can call any static method of Java; an RFormulaModel holds a pipeline that the JVM loads by name.
_CAN_RUN_CODE = {"SQLTransformer", "RFormulaModel"}
_TRANSFORMERS: dict[str, Any] = {
    f"org.apache.spark.ml.feature.{name}": cls
    for name, cls in vars(feature).items()
    if isinstance(cls, type)
    and issubclass(cls, Transformer)
    and cls.__module__ == feature.__name__
    and name in feature.__all__
    and name not in _CAN_RUN_CODE
}
_UID = re.compile(r"[\w.-]{1,200}")  # part of a folder's name
_DEEPEST = 10  # pipelines within pipelines; a link to a folder above would have no end


def load_stages(spark: SparkSession, path: str) -> list[Transformer]:
    """Load a saved ensemble, or the stages of a saved PipelineModel with an ensemble among them.

    Stages of pipelines within the pipeline are in their places. No class that a folder names is imported.

    Parameters
    ----------
    spark : SparkSession
    path : str
        On any filesystem that Hadoop knows.

    Returns
    -------
    list of Transformer
        With one CNNEnsembleClassificationModel.

    Raises
    ------
    FileNotFoundError, OSError
        See `CNNEnsembleClassificationModel.load`.
    ValueError
        A stage is of a class that could run code, no stage or more than one is an ensemble, or the folder holds
        something else, or is damaged.
    """
    named = _classes(spark, path.rstrip("/"), 0)
    if named is None:
        return [CNNEnsembleClassificationModel.load(path)]
    known = {**_TRANSFORMERS, class_path(CNNEnsembleClassificationModel): CNNEnsembleClassificationModel}
    for name, _ in named:
        if name not in known:
            raise ValueError(
                f"{path} has a stage of the class {shortened(name)}, which is not loaded because it could run code "
                "from the folder; if you trust it, score in Python with PipelineModel.load."
            )
    _ensemble_folder(path, named)
    return [known[name].load(folder) for name, folder in named]


def load_ensemble_alone(spark: SparkSession, path: str) -> CNNEnsembleClassificationModel:
    """Load a saved ensemble, also from a saved PipelineModel, whose other stages are not loaded.

    Raises
    ------
    FileNotFoundError, OSError, ValueError
        As `load_stages`, except that other stages may be of any class.
    """
    named = _classes(spark, path.rstrip("/"), 0)
    folder = path if named is None else _ensemble_folder(path, named)
    return CNNEnsembleClassificationModel.read().session(spark).load(folder)


def _ensemble_folder(path: str, named: Sequence[tuple[str, str]]) -> str:
    """The folder of the one ensemble among a pipeline's stages."""
    ours = class_path(CNNEnsembleClassificationModel)
    folders = [folder for name, folder in named if name == ours]
    if len(folders) != 1:
        raise ValueError(
            f"The pipeline in {path} has {len(folders)} CNNEnsembleClassificationModel among its stages instead of "
            "one; name the folder of a saved ensemble, or of a pipeline with one."
        )
    return folders[0]


def _classes(spark: SparkSession, path: str, depth: int) -> list[tuple[str, str]] | None:
    """Class name and folder of each stage of a saved pipeline; None if the folder does not hold a pipeline."""
    try:
        metadata = SavedFolder(spark, path).newest()
        if metadata.get("class") not in _PIPELINES:
            return None
    except Exception:  # Spark, Java and json raise many kinds, by what the folder holds instead
        return None
    try:
        uids = check_list(metadata["paramMap"]["stageUids"])
        if depth == _DEEPEST or not all(_UID.fullmatch(uid) for uid in uids):
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{path} is damaged: its list of stages is not valid; save the pipeline again.") from None
    named = []
    for index, uid in enumerate(uids):
        folder = os.path.join(path, "stages", f"{index:0{len(str(len(uids)))}d}_{uid}")
        inner = _classes(spark, folder, depth + 1)
        named += [(_class_of(spark, folder), folder)] if inner is None else inner
    return named


def _class_of(spark: SparkSession, folder: str) -> str:
    try:
        return str(SavedFolder(spark, folder).newest().get("class"))
    except Exception:
        raise ValueError(f"{folder} is damaged: its metadata cannot be read; save the pipeline again.") from None


def ensemble_of(stages: Sequence[Any]) -> CNNEnsembleClassificationModel:
    """The ensemble among the stages of `load_stages`."""
    (ensemble,) = (stage for stage in stages if isinstance(stage, CNNEnsembleClassificationModel))
    return ensemble


def score(stages: Sequence[Any], rows: DataFrame) -> DataFrame:
    """The rows with the columns that the stages add, except those that `without_labels` leaves out."""
    ensemble = ensemble_of(stages)
    for stage in without_labels(stages):
        if isinstance(stage, IndexToString) and stage.getInputCol() == ensemble.getPredictionCol():
            rows = _named(stage, rows, ensemble)
        else:
            rows = stage.transform(rows)
    return rows


def _named(stage: IndexToString, rows: DataFrame, ensemble: CNNEnsembleClassificationModel) -> DataFrame:
    """What the stage adds, and null where the prediction is null, on which Spark's own stage fails."""
    names = stage.getLabels() if stage.isSet("labels") else ensemble.classNames
    if not names:
        return stage.transform(rows)
    prediction = F.col(stage.getInputCol())
    # element_at takes a null index for 0 where the array has no null.
    name = F.when(prediction.isNotNull(), F.element_at(F.array(*map(F.lit, names)), (prediction + 1).cast("int")))
    return rows.withColumn(stage.getOutputCol(), name)


def without_labels(stages: Sequence[Any]) -> list[Any]:
    """The stages that score: without those before the ensemble that only make labels, weights or fold indicators."""
    ensemble = ensemble_of(stages)
    names = ("labelCol", "weightCol", "validationIndicatorCol")
    training_only = {ensemble.getOrDefault(name) for name in names if ensemble.isDefined(name)}
    at, kept = stages.index(ensemble), list(stages)
    for stage in reversed(stages[:at]):
        read_later = {
            name for other in kept[kept.index(stage) + 1 :] if other is not ensemble for name in inputs(other)
        }
        made = _columns(stage, "outputCol", "outputCols")
        if made and made <= training_only - read_later:
            kept.remove(stage)
            training_only |= set(inputs(stage)) - {ensemble.getFeaturesCol()}
    return kept


def inputs(stage: Any) -> set[str]:
    """The columns that a stage reads."""
    return _columns(stage, "inputCol", "inputCols")


def _columns(stage: Any, one: str, several: str) -> set[str]:
    names = set()
    if stage.hasParam(one) and stage.isSet(one):
        names.add(stage.getOrDefault(one))
    if stage.hasParam(several) and stage.isSet(several):
        names.update(stage.getOrDefault(several))
    return names


def label_indexer(stages: Sequence[Any]) -> StringIndexerModel | None:
    """The stage that gives the classes' names their indices; None if the pipeline has none."""
    label = ensemble_of(stages).getLabelCol()
    for stage in stages:
        if isinstance(stage, StringIndexerModel) and stage.isSet("outputCol") and stage.getOutputCol() == label:
            return stage
    return None
