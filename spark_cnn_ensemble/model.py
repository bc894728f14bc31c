"""`CNNEnsembleClassificationModel`: scores a DataFrame by the members' vote.

The members are an `ensemble.Ensemble`, `worker.scoring` votes on a batch, and `persistence` saves and loads. The
estimator makes models. The module is long because it holds every method that users can call on one.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pyspark.ml.classification import ProbabilisticClassificationModel
from pyspark.ml.functions import array_to_vector
from pyspark.ml.linalg import DenseVector, Vector
from pyspark.ml.util import MLReadable, MLWritable
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_cnn_ensemble.declared import check_params, value_or_none
from spark_cnn_ensemble.engine import engine_of
from spark_cnn_ensemble.ensemble import Ensemble, check_metadata
from spark_cnn_ensemble.evaluation import CNNEnsembleEvaluation
from spark_cnn_ensemble.exported import export_ensemble
from spark_cnn_ensemble.fit_result import MemberSummary, check_fit_result
from spark_cnn_ensemble.onnx_nodes import import_extra
from spark_cnn_ensemble.params import HasScoring, _CNNEnsembleParams, check_thresholds
from spark_cnn_ensemble.persistence import SafeReader, SafeWriter
from spark_cnn_ensemble.rows.columns import refusing, same_column
from spark_cnn_ensemble.rows.features import Features, cells_to_score, features_of, source_of
from spark_cnn_ensemble.rows.labels import labels_of
from spark_cnn_ensemble.summary import CNNEnsembleTrainingSummary
from spark_cnn_ensemble.worker.evaluation import COUNTS_SCHEMA, count_votes
from spark_cnn_ensemble.worker.pixels import PixelFormat
from spark_cnn_ensemble.worker.refusal import refusing_in_python
from spark_cnn_ensemble.worker.scoring import vote_batches, vote_once
from spark_cnn_ensemble.worker.voting_plan import VotingPlan

_TASKS_PER_SLOT = 8  # at most, in `evaluate`: a task of few rows takes longer to start than to score


class CNNEnsembleClassificationModel(
    ProbabilisticClassificationModel, _CNNEnsembleParams, HasScoring, MLReadable, MLWritable
):
    """An ensemble of CNNs that classifies by vote.

    `CNNEnsembleClassifier.fit` and `load` make a model; `subset`, `pruned` and `merge` make new ones from its members.

    `transform` is lazy. It adds the columns rawPrediction (vector: votes per class, or summed softmax if
    votingStrategy is "soft"), probability (vector: rawPrediction over the number of members) and prediction (double);
    a column whose name is set to "" is left out. A tie goes to the tied class with the larger summed softmax, then to
    the lower index. With ``thresholds``, the class with the largest probability / threshold is predicted.

    Examples
    --------
    `model` has three members, and `test` has the columns id, features and label:

    >>> model.numClasses, model.inputShape, len(model.members)
    (10, [8, 8, 1], 3)
    >>> scored = model.transform(test)
    >>> row = scored.where("id = 0").head()
    >>> int(row.rawPrediction.values.sum())
    3
    >>> model.predict(row.features) == row.prediction
    True
    >>> model.evaluate(test).accuracy > 0.8
    True

    A part of the members is a model too:

    >>> model.subset([0, 2]).getNumMembers()
    2

    Save and load:

    >>> from spark_cnn_ensemble import CNNEnsembleClassificationModel
    >>> model.save(f"{folder}/digits-model")
    >>> loaded = CNNEnsembleClassificationModel.load(f"{folder}/digits-model")
    >>> loaded.transform(test).exceptAll(scored).count()
    0
    """

    __module__ = "spark_cnn_ensemble"

    def __init__(self, ensemble: Ensemble | None = None, summary: CNNEnsembleTrainingSummary | None = None) -> None:
        super().__init__()
        self._members: Ensemble | None = ensemble
        self._summary = summary
        if ensemble is not None:
            self._set(numMembers=len(ensemble))

    @property
    def _ensemble(self) -> Ensemble:
        if self._members is None:
            raise RuntimeError(
                "This CNNEnsembleClassificationModel has no members; get one from CNNEnsembleClassifier.fit or load."
            )
        return self._members

    @property
    def numClasses(self) -> int:
        """Number of classes."""
        return self._ensemble.num_classes

    @property
    def classNames(self) -> tuple[str, ...] | None:
        """Names of the classes, from the metadata of the label column, such as a StringIndexer's; None without."""
        return self._ensemble.class_names

    @property
    def numFeatures(self) -> int:
        """Numbers per image: height * width * channels."""
        return int(np.prod(self._ensemble.input_shape))

    @property
    def inputShape(self) -> list[int]:
        """[height, width, channels] of an image."""
        return list(self._ensemble.input_shape)

    @property
    def members(self) -> tuple[MemberSummary, ...]:
        """How each member was trained, in the order of memberPredictionsCol."""
        return self._ensemble.members

    @property
    def hasSummary(self) -> bool:
        """Whether there is a training summary.

        A fitted model has one, and so has a loaded one if it was saved with it; the results of `subset`, `pruned` and
        `merge` have none.
        """
        return self._summary is not None

    @property
    def summary(self) -> CNNEnsembleTrainingSummary:
        """The record of the fit that made this model.

        Raises
        ------
        RuntimeError
            The model has no summary; see `hasSummary`.
        """
        if self._summary is None:
            raise RuntimeError(
                f"This {type(self).__name__} has no training summary; use the model that fit returned, or a saved copy."
            )
        return self._summary

    def setVotingStrategy(self, value: str) -> CNNEnsembleClassificationModel:
        """Sets the value of votingStrategy; the same members can vote either way."""
        return self._set(votingStrategy=value)

    def setHandleInvalid(self, value: str) -> CNNEnsembleClassificationModel:
        """Sets the value of handleInvalid."""
        return self._set(handleInvalid=value)

    def setScoringPrecision(self, value: str) -> CNNEnsembleClassificationModel:
        """Sets the value of scoringPrecision, which `transform`, `evaluate` and `predict` compute in."""
        return self._set(scoringPrecision=value)

    def setScoringEngine(self, value: str) -> CNNEnsembleClassificationModel:
        """Sets the value of scoringEngine, which `transform` and `evaluate` score by; `predict` uses TensorFlow."""
        return self._set(scoringEngine=value)

    def setUncertaintyCol(self, value: str) -> CNNEnsembleClassificationModel:
        """Sets the value of uncertaintyCol."""
        return self._set(uncertaintyCol=value)

    def setMemberPredictionsCol(self, value: str) -> CNNEnsembleClassificationModel:
        """Sets the value of memberPredictionsCol."""
        return self._set(memberPredictionsCol=value)

    def setKeepDisputedRows(self, value: bool) -> CNNEnsembleClassificationModel:
        """Sets the value of keepDisputedRows: `save` leaves the pictures out if it is False."""
        return self._set(keepDisputedRows=value)

    def setResizeImages(self, value: bool) -> CNNEnsembleClassificationModel:
        """Sets the value of resizeImages, which the estimator's fit gives to the model."""
        return self._set(resizeImages=value)

    def setLabelCol(self, value: str) -> CNNEnsembleClassificationModel:
        """Sets the value of labelCol, which `evaluate` reads."""
        return self._set(labelCol=value)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        self._check()
        outputs = self._outputs(dataset)
        features = self._features(dataset)
        kinds = tuple(dict.fromkeys(["prediction", *(kind for kind, _, _ in outputs)]))
        plan = dataclasses.replace(self._plan_for_workers(features.pixels), outputs=kinds)
        weights_of = self._ensemble.shared_weights.of(dataset.sparkSession)
        votes = _vote_udf(
            engine_of(dataset.sparkSession).for_workers(
                functools.partial(vote_batches, plan=plan, weights_of=weights_of)
            ),
            plan,
        )
        struct = f"votes_{uuid.uuid4().hex}"
        cells = cells_to_score(features, plan.refuse_invalid)
        # Spark moves a filter on an output below a plain call, and so would vote twice, but not below a generator.
        scored = dataset.select("*", F.explode(F.array(votes(cells, features.row))).alias(struct))
        if self.getHandleInvalid() == "skip":
            scored = scored.where(F.col(struct)["prediction"].isNotNull())
        columns = [self._output(F.col(struct)[kind], kind).alias(name, metadata=meta) for kind, name, meta in outputs]
        return scored.select("*", *columns).drop(struct)

    def _check(self) -> None:
        check_params(self)
        check_thresholds(self, self.numClasses)
        if self.getScoringEngine() == "onnx" and self.getScoringPrecision() != "float32":
            raise ValueError(
                "The 'scoringEngine' parameter is 'onnx', which computes in float32 alone, but 'scoringPrecision' is "
                f"{self.getScoringPrecision()!r}; set scoringPrecision='float32' or scoringEngine='tensorflow'."
            )

    def _features(self, dataset: DataFrame) -> Features:
        source = source_of(dataset, self.getFeaturesCol())
        batch = engine_of(dataset.sparkSession).rows_per_batch
        return features_of(source, self._ensemble.input_shape, "model", self.getResizeImages(), batch)

    def _outputs(self, dataset: DataFrame) -> list[tuple[str, str, dict[str, Any]]]:
        """Kind, name and metadata of each requested output column."""
        names = self._ensemble.class_names
        nominal: dict[str, Any] = {"type": "nominal", "name": self.getPredictionCol()}
        nominal.update({"vals": list(names)} if names else {"num_vals": self.numClasses})
        vector = {"ml_attr": {"num_attrs": self.numClasses}}
        outputs = [
            ("rawPrediction", self.getRawPredictionCol(), vector),
            ("probability", self.getProbabilityCol(), vector),
            ("prediction", self.getPredictionCol(), {"ml_attr": nominal}),
            ("uncertainty", self.getUncertaintyCol(), {}),
            ("memberPredictions", self.getMemberPredictionsCol(), {}),
        ]
        outputs = [output for output in outputs if output[1]]
        taken = list(dataset.columns)
        for kind, name, _ in outputs:
            if same := [other for other in taken if same_column(dataset, name, other)]:
                raise ValueError(
                    f"The DataFrame has a column '{same[0]}' already (parameter '{kind}Col'); drop it, or set "
                    f"'{kind}Col' to another name or to '' to leave the output out."
                )
            taken.append(name)
        return outputs

    @staticmethod
    def _output(value: Column, kind: str) -> Column:
        if kind not in ("rawPrediction", "probability"):
            return value
        # array_to_vector fails on null, which a row that could not be scored has.
        return F.when(value.isNotNull(), array_to_vector(value))

    def _plan(self, pixels: PixelFormat) -> VotingPlan:
        thresholds = value_or_none(self, "thresholds")
        return VotingPlan(
            ensemble_id=self._ensemble.id,
            architectures=self._ensemble.architectures,
            architecture_of=self._ensemble.architecture_of,
            pixels=pixels,
            soft=self.getVotingStrategy() == "soft",
            thresholds=None if thresholds is None else tuple(thresholds),
            refuse_invalid=self.getHandleInvalid() == "error",
            precision=self.getScoringPrecision(),
        )

    def _plan_for_workers(self, pixels: PixelFormat) -> VotingPlan:
        plan = self._plan(pixels)
        if self.getScoringEngine() == "tensorflow":
            return plan
        import_extra("onnxruntime")  # for workers; a driver without it most likely has workers without it
        return dataclasses.replace(plan, graphs=self._ensemble.onnx_graphs())

    def _vote_on(self, value: Vector) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        self._check()
        cell = value.toArray() if isinstance(value, Vector) else np.asarray(value, np.float64).ravel()
        plan = self._plan(PixelFormat(self.getFeaturesCol(), "array", self._ensemble.input_shape))
        return vote_once(cell, plan, self._ensemble.weights.__getitem__)

    def predict(self, value: Vector) -> float:
        """Predict the class of one image in this process.

        Parameters
        ----------
        value : pyspark.ml.linalg.Vector, or array of numbers
            Height * width * channels numbers, in that order.

        Returns
        -------
        float
            The index of the class.

        Raises
        ------
        ValueError
            The length is wrong, or a number is NaN or infinite.
        """
        return float(self._vote_on(value)[2][0])

    def predictRaw(self, value: Vector) -> Vector:
        """Count the votes per class for one image in this process.

        Parameters
        ----------
        value : pyspark.ml.linalg.Vector, or array of numbers
            Height * width * channels numbers, in that order.

        Returns
        -------
        pyspark.ml.linalg.Vector
            Shape (classes,): votes, or summed softmax if votingStrategy is "soft".

        Raises
        ------
        ValueError
            The length is wrong, or a number is NaN or infinite.
        """
        return DenseVector(self._vote_on(value)[0][0])

    def predictProbability(self, value: Vector) -> Vector:
        """Compute the share of votes per class for one image in this process.

        Parameters
        ----------
        value : pyspark.ml.linalg.Vector, or array of numbers
            Height * width * channels numbers, in that order.

        Returns
        -------
        pyspark.ml.linalg.Vector
            Shape (classes,): shares of the votes, or mean softmax if votingStrategy is "soft".

        Raises
        ------
        ValueError
            The length is wrong, or a number is NaN or infinite.
        """
        return DenseVector(self._vote_on(value)[1][0])

    def evaluate(self, dataset: DataFrame) -> CNNEnsembleEvaluation:
        """Compare the vote, and every member alone, with the labels, in one pass over the rows.

        Parameters
        ----------
        dataset : DataFrame
            With the columns featuresCol and labelCol. Of a soft label, the class with the largest probability is
            compared, the first of equal ones.

        Returns
        -------
        CNNEnsembleEvaluation

        Raises
        ------
        ValueError
            A row is unusable and handleInvalid is "error" ("skip" and "keep" leave such rows out), no row can be
            scored, or the metadata of labelCol number the classes in another order than the model.
        """
        self._check()
        features = self._features(dataset)
        labels = labels_of(dataset, self.getLabelCol())
        self._check_class_names(labels.class_names)
        plan = self._plan_for_workers(features.pixels)
        fault, label = labels.fault(self.numClasses, "give labels of the model's classes"), labels.index
        cells = cells_to_score(features, plan.refuse_invalid)
        if plan.refuse_invalid:
            label = refusing(label.cast("int"), fault, features.row)
        else:
            cells, label = F.when(fault.isNull(), cells), F.when(fault.isNull(), label.cast("int")).otherwise(0)
        engine = engine_of(dataset.sparkSession)
        count = functools.partial(
            count_votes, plan=plan, weights_of=self._ensemble.shared_weights.of(dataset.sparkSession)
        )
        with refusing_in_python():
            rows = dataset.select(cells.alias("features"), features.row.alias("name"), label.alias("label"))
            if engine.is_local:  # elsewhere, slots may come that have no task then
                rows = rows.coalesce(_TASKS_PER_SLOT * engine.slots)
            counts = rows.mapInPandas(engine.for_workers(count), COUNTS_SCHEMA).collect()
        if not any(row["cells"] for row in counts):
            raise ValueError(
                "The DataFrame has no rows that can be scored; check its features and labels (handleInvalid leaves "
                "rows out), or give other rows."
            )

        return CNNEnsembleEvaluation.from_counts(counts, self.numClasses, len(self._ensemble), self.classNames)

    def _check_class_names(self, names: Sequence[str] | None) -> None:
        """Refuse labels that another indexer has numbered; it may have numbered unknown names too, after the others."""
        for index, (ours, theirs) in enumerate(zip(self.classNames or (), names or (), strict=False)):
            if ours != theirs:
                raise ValueError(
                    f"Column '{self.getLabelCol()}' (parameter 'labelCol') has {theirs!r} as class {index}, which is "
                    f"{ours!r} in the model; index the labels by the StringIndexerModel of the training rows."
                )

    def memberNetwork(self, index: int) -> Any:
        """One member as a Keras model with its weights.

        Parameters
        ----------
        index : int
            The member, 0 to numMembers - 1.

        Returns
        -------
        keras.Model
            Maps images of shape (n, height, width, channels) to probabilities of shape (n, classes).

        Raises
        ------
        ValueError
            No member has this index.
        """
        return self._ensemble.network(self._indices([index])[0])

    def toKeras(self) -> Any:
        """The whole ensemble as one Keras model, for use without Spark.

        Returns
        -------
        keras.Model
            Maps images of shape (n, height, width, channels) to a dict of "prediction" (n,), "probability" and
            "rawPrediction" (n, classes): the same as `transform` with this model's votingStrategy and no thresholds.
        """
        check_params(self)
        return self._ensemble.to_keras(soft=self.getVotingStrategy() == "soft")

    def export(self, path: str | os.PathLike[str], format: str, overwrite: bool = False) -> None:
        """Write the whole ensemble with its vote as one file or folder, for use without Spark and this library.

        It maps "image", float32 of shape (n, height, width, channels), to "prediction" (n,), "probability" and
        "rawPrediction" (n, classes): what `transform` gives with this model's votingStrategy and thresholds.
        Its metadata has the names of the classes, the shape of the images and the version of this library.

        Parameters
        ----------
        path : str or os.PathLike
            On a disk of the machine that calls this.
        format : str
            "onnx", one file (extra `onnx`), or "tf_saved_model", a folder.
        overwrite : bool
            Whether an export of the same format is replaced.

        Raises
        ------
        FileExistsError
            The path exists and `overwrite` is False, or is not an export of this format.
        ValueError
            The format is unknown, the path is not local, or a layer cannot be converted to ONNX.
        ImportError
            A package of the extra `onnx` is missing.
        """
        self._check()
        thresholds = value_or_none(self, "thresholds")
        export_ensemble(self._ensemble, path, format, self.getVotingStrategy() == "soft", thresholds, overwrite)

    def subset(self, indices: Sequence[int]) -> CNNEnsembleClassificationModel:
        """A model of some of the members.

        Parameters
        ----------
        indices : sequence of int
            The members, each 0 to numMembers - 1, in the order of the new model.

        Returns
        -------
        CNNEnsembleClassificationModel
            With the same Params, its own uid and no summary.

        Raises
        ------
        ValueError
            No member has one of the indices, an index occurs twice, or `indices` is empty.
        """
        return self._like(self._ensemble.subset(self._indices(indices)))

    def pruned(self, size: int) -> CNNEnsembleClassificationModel:
        """A model of the members that are most accurate on the out-of-bag sample; see `OutOfBag.selection`.

        Scoring costs size / numMembers of the whole model's.

        Parameters
        ----------
        size : int
            The number of members to keep, 1 to numMembers.

        Returns
        -------
        CNNEnsembleClassificationModel
            The members, the best first, with the same Params, its own uid and no summary.

        Raises
        ------
        ValueError
            `size` is not between 1 and the number of members.
        RuntimeError
            There are no out-of-bag votes to choose by.
        """
        if not 1 <= size <= len(self._ensemble):
            raise ValueError(f"A pruned model has 1 to {len(self._ensemble)} members. Got {size} instead.")
        votes = self._summary.outOfBag if self._summary is not None else None
        if votes is None or not votes.rows:
            raise RuntimeError(
                "There are no out-of-bag votes to choose members by; fit with oobSampleSize > 0 and bags that leave "
                "rows out, and prune that model itself rather than a subset or a merge."
            )
        return self.subset(votes.selection(size))

    def merge(self, other: CNNEnsembleClassificationModel) -> CNNEnsembleClassificationModel:
        """A model of the members of two models.

        Parameters
        ----------
        other : CNNEnsembleClassificationModel
            Its members come after those of this model; their networks may differ.

        Returns
        -------
        CNNEnsembleClassificationModel
            With this model's Params, its own uid and no summary.

        Raises
        ------
        ValueError
            Input shapes, numbers of classes or names of classes differ.
        """
        return self._like(self._ensemble.merge(other._ensemble))

    def _like(self, ensemble: Ensemble) -> CNNEnsembleClassificationModel:
        model = self._copyValues(CNNEnsembleClassificationModel(ensemble))
        return model._set(numMembers=len(ensemble))

    def _indices(self, indices: Sequence[int]) -> list[int]:
        chosen, members = list(indices), range(len(self._ensemble))
        if not chosen or len(set(chosen)) != len(chosen) or not all(index in members for index in chosen):
            raise ValueError(
                f"Members are numbered 0 to {len(members) - 1}; name at least one, and none twice. Got {chosen} "
                "instead."
            )
        return [int(index) for index in chosen]

    def write(self) -> SafeWriter:
        """The writer of this model.

        ``write().overwrite().save(path)`` replaces an existing folder once the new one is whole.

        Returns
        -------
        MLWriter
        """
        return SafeWriter(self, self._write_members)

    def _write_members(self, spark: SparkSession, path: str) -> dict[str, Any]:
        self._ensemble.shared_weights.write(spark, path)
        fit_result = None if self._summary is None else self._summary.to_dict()
        if fit_result is not None and fit_result["outOfBag"] is not None and not self.getKeepDisputedRows():
            fit_result["outOfBag"]["disputedRows"] = []
        return {"ensemble": self._ensemble.to_metadata(), "summary": fit_result}

    @classmethod
    def read(cls) -> SafeReader:
        """The reader of saved models; ``load(path)`` is short for ``read().load(path)``.

        Returns
        -------
        MLReader
        """
        return SafeReader(cls, _restore)


def _restore(
    read: Callable[[list[dict[str, Any]]], list[bytes]], metadata: dict[str, Any]
) -> CNNEnsembleClassificationModel:
    fit_result = metadata["summary"]
    num_classes = check_metadata(metadata["ensemble"])
    if fit_result is not None:
        check_fit_result(fit_result, len(metadata["ensemble"]["members"]), num_classes)
    weights = read(metadata["ensemble"]["members"])
    ensemble = Ensemble.from_metadata(metadata["ensemble"], weights)
    summary = None
    if fit_result is not None:
        summary = CNNEnsembleTrainingSummary.from_dict(fit_result, ensemble.members, ensemble.class_names)
    return CNNEnsembleClassificationModel(ensemble, summary)


def _vote_udf(score: Callable[..., Iterator[pd.DataFrame]], plan: VotingPlan) -> Any:
    def vote(batches: Iterator[tuple[pd.Series, pd.Series]]) -> Iterator[pd.DataFrame]:
        return score(batches)

    return F.pandas_udf(vote, plan.schema)  # type: ignore[call-overload]
