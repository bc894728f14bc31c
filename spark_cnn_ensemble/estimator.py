"""`CNNEnsembleClassifier`: from a DataFrame to trained members.

`_fit_together` is the course of a fit. The methods that it calls to read the schema and the Params follow, then the
setters: one per Param, which makes the module long. Bags are drawn in `rows`, members are trained in `fit`, and the
model that comes out is in `model`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pyspark import keyword_only
from pyspark.ml.classification import ProbabilisticClassifier
from pyspark.ml.util import MLReadable, MLWritable
from pyspark.sql import DataFrame, SparkSession

from spark_cnn_ensemble.declared import check_params, decides_job, value_or_none
from spark_cnn_ensemble.engine import engine_of
from spark_cnn_ensemble.ensemble import Ensemble
from spark_cnn_ensemble.fit.checkpoint import Checkpoint
from spark_cnn_ensemble.fit.members import Trained, training
from spark_cnn_ensemble.fit.out_of_bag import sample_size, vote_on_sample
from spark_cnn_ensemble.fit.shared_fits import SharedFits
from spark_cnn_ensemble.fit_result import MemberSummary, unseen_text
from spark_cnn_ensemble.initial_model import FRESH, InitialModel, Start
from spark_cnn_ensemble.model import CNNEnsembleClassificationModel
from spark_cnn_ensemble.params import HasDataShape, _CNNEnsembleParams, check_thresholds
from spark_cnn_ensemble.persistence import SafeReader, SafeWriter
from spark_cnn_ensemble.progress import FitProgress, note
from spark_cnn_ensemble.rows.classes import (
    Classes,
    count_classes,
    one_class_in_metadata,
    one_label,
    other_number_in_metadata,
)
from spark_cnn_ensemble.rows.draw import Draw, draw_of
from spark_cnn_ensemble.rows.features import Features, features_of, source_of
from spark_cnn_ensemble.rows.labels import labels_of
from spark_cnn_ensemble.rows.shapes import infer_shape
from spark_cnn_ensemble.rows.training_rows import TrainingColumns, bag_rows
from spark_cnn_ensemble.summary import CNNEnsembleTrainingSummary
from spark_cnn_ensemble.worker.bag import BagRules
from spark_cnn_ensemble.worker.network import Architecture
from spark_cnn_ensemble.worker.network_check import check_network, seeds_in
from spark_cnn_ensemble.worker.pixels import PixelFormat
from spark_cnn_ensemble.worker.training_plan import TrainingPlan

if TYPE_CHECKING:
    from pyspark.ml._typing import ParamMap

_SHARED_KEYS = 0.8  # distinct keys over rows, below which a warning is given; the count is HyperLogLog's


class CNNEnsembleClassifier(ProbabilisticClassifier, _CNNEnsembleParams, HasDataShape, MLReadable, MLWritable):
    """Trains an ensemble of small CNNs, each on its own bag of the rows, one Spark task per member.

    Features may be a vector, an array of numbers, arrays of arrays, Spark's image struct, bytes (raw pixels, PNG or
    JPEG), or a struct of bytes and path. Labels are class indices 0, 1, 2, ... of any numeric type, or booleans, or
    soft labels: a vector or an array with the probability of each class. The input is read once if numClasses, or the
    metadata of the label column, gives the number of classes; otherwise there is one more pass over the label column.
    Without inputShape, a small job over the first rows finds it.

    The same rows, Params and seed give bit for bit the same members, whatever the order of the rows, the partitioning
    and the number of executors, on the same kind of CPU with the same spark.task.cpus and the same versions of
    TensorFlow, Keras and numpy.

    Parameters
    ----------
    **params
        Every Param by its name; ``explainParams()`` lists their meanings, ranges and defaults. The constructor
        checks types; `fit` checks ranges. None leaves a Param unset.

    Notes
    -----
    The bags are those of bagging [1]_ with ``bagging="bootstrap"``, and of pasting [2]_, sampling without replacement,
    with ``bagging="subsample"``. With ``bagging="disjoint"`` they partition the rows. The members of a random forest
    are combined in the same way [3]_.

    References
    ----------
    .. [1] L. Breiman, "Bagging predictors", Machine Learning 24, 1996.
    .. [2] L. Breiman, "Pasting small votes for classification in large databases and on-line", Machine Learning 36,
       1999.
    .. [3] L. Breiman, "Random forests", Machine Learning 45, 2001.

    Examples
    --------
    >>> from spark_cnn_ensemble import CNNEnsembleClassifier
    >>> from spark_cnn_ensemble.datasets import load_digits, to_dataframe
    >>> train_arrays, test_arrays = load_digits()
    >>> train, test = to_dataframe(spark, *train_arrays), to_dataframe(spark, *test_arrays)
    >>> classifier = CNNEnsembleClassifier(numMembers=4, bagging="bootstrap", learningRate=4e-3, verbose=0)
    >>> model = classifier.fit(train)
    >>> model.transform(test).select("id", "label", "prediction")
    DataFrame[id: bigint, label: int, prediction: double]
    >>> model.summary.oobAccuracy > 0.7
    True
    """

    __module__ = "spark_cnn_ensemble"

    _input_kwargs: dict[str, Any]

    @keyword_only
    def __init__(
        self,
        *,
        featuresCol: str = "features",
        labelCol: str = "label",
        predictionCol: str = "prediction",
        rawPredictionCol: str = "rawPrediction",
        probabilityCol: str = "probability",
        thresholds: list[float] | None = None,
        weightCol: str | None = None,
        validationIndicatorCol: str | None = None,
        idCol: str | None = None,
        handleInvalid: str = "error",
        numClasses: int | None = None,
        inputShape: list[int] | None = None,
        resizeImages: bool = False,
        numMembers: int = 10,
        bagging: str = "disjoint",
        subsamplingRate: float = 1.0,
        votingStrategy: str = "hard",
        network: str = "",
        filters: list[int] = [16, 32],  # noqa: B006 - read, never changed
        kernelSize: int = 5,
        denseUnits: int = 128,
        dropoutRate: float = 0.0,
        standardization: bool = True,
        epochs: int = 5,
        batchSize: int = 50,
        learningRate: float = 2e-3,
        learningRateSchedule: str = "linear",
        optimizer: str = "adam",
        classWeighting: str = "none",
        randomShift: int = 0,
        randomFlip: bool = False,
        initialModel: str | os.PathLike[str] = "",
        earlyStoppingPatience: int = 0,
        precision: str = "float32",
        seed: int = 17,
        oobSampleSize: int = 1000,
        keepDisputedRows: bool = True,
        maxMemoryInMB: int = 1024,
        checkpointDir: str | os.PathLike[str] = "",
        minMembers: int | None = None,
        verbose: int = 1,
        uncertaintyCol: str = "",
        memberPredictionsCol: str = "",
    ) -> None:
        super().__init__()
        self._set(**self._input_kwargs)

    def _fit(self, dataset: DataFrame) -> CNNEnsembleClassificationModel:
        return self._fit_together(dataset, [self])[0]

    def fitMultiple(
        self, dataset: DataFrame, paramMaps: Sequence[ParamMap]
    ) -> Iterator[tuple[int, CNNEnsembleClassificationModel]]:
        """Fit one model per param map.

        Maps that differ only in Params of the members' training are trained by one job, with one task per member and
        map, so that few members leave no slot idle. The rows are read once per job. Each model equals, bit for bit, the
        model of a fit by itself. CrossValidator, TrainValidationSplit and ``fit(dataset, paramMaps)`` call this method.

        Parameters
        ----------
        dataset : DataFrame
            The training rows: featuresCol, labelCol, and the columns that weightCol, validationIndicatorCol and idCol
            name.
        paramMaps : sequence of dict
            Each maps Params of this estimator to values.

        Returns
        -------
        iterator of (int, CNNEnsembleClassificationModel)
            Index of a map, ascending, and its model. A job runs when the first of its models is requested. Several
            threads may share the iterator.

        Raises
        ------
        ValueError
            Several maps have the same checkpointDir, a Param is out of range, or a column or row is unusable.
        """
        classifiers = [self.copy(values) for values in paramMaps]
        folders = [folder for classifier in classifiers if (folder := classifier.getCheckpointDir())]
        if len(set(folders)) < len(folders):
            raise ValueError(
                "The 'checkpointDir' parameter is the same for several param maps, but a folder belongs to one fit; "
                "set a folder of its own for each map, or none."
            )
        groups: dict[str, list[int]] = {}
        for index, classifier in enumerate(classifiers):
            groups.setdefault(classifier._job_identity(index), []).append(index)
        return SharedFits(
            list(groups.values()),
            lambda indices: classifiers[indices[0]]._fit_together(dataset, [classifiers[index] for index in indices]),
        )

    def _fit_together(
        self, dataset: DataFrame, classifiers: Sequence[CNNEnsembleClassifier]
    ) -> list[CNNEnsembleClassificationModel]:
        """Fit `classifiers` in one job; they differ in no Param that decides it, and the first of them is this one."""
        started = time.perf_counter()
        for classifier in classifiers:
            classifier._check()
        initial_models = self._initial_models(dataset.sparkSession, classifiers)
        columns, classes, class_names = self._read_schema(dataset)
        num_classes = classes.number
        draw = self._draw()
        plans = [classifier._plan(columns.features.pixels, num_classes, draw) for classifier in classifiers]
        for classifier, plan in zip(classifiers, plans, strict=True):
            check_thresholds(classifier, num_classes)
            check_network(plan.architecture, plan.precision)
            classifier._warn_of_seeds()
        starts = [
            classifier._start(initial_models.get(classifier.getInitialModel()), plan.architecture)
            for classifier, plan in zip(classifiers, plans, strict=True)
        ]
        plans = [
            dataclasses.replace(plan, initial_weights=start.digests) for plan, start in zip(plans, starts, strict=True)
        ]
        initial = {key: data for start in starts for key, data in start.packed.items()}
        checkpoint = self._checkpoint(dataset.sparkSession, plans[0], draw)

        sample_rows = plans[0].rules.sample_size
        bagged, counts = bag_rows(dataset, columns, classes, draw, sample_rows > 0, self._skips)
        fitted = []
        with (
            FitProgress(dataset.sparkSession, len(plans) * draw.num_members, self.getVerbose() > 0) as progress,
            training(bagged, plans, draw.num_members, checkpoint, progress, initial) as all_trained,
        ):
            counted = counts.get()
            self._check_classes(all_trained[0], counted["rows"], class_names, checkpoint)
            for classifier, plan, trained in zip(classifiers, plans, all_trained, strict=True):
                classifier._check_sound(trained)
                ensemble = _ensemble(plan, trained, class_names)
                votes = None
                if sample_rows:
                    votes = vote_on_sample(
                        trained,
                        ensemble,
                        draw,
                        sample_rows,
                        soft=classifier.getVotingStrategy() == "soft",
                        thresholds=tuple(value_or_none(classifier, "thresholds") or ()) or None,
                    )
                    if votes is not None and not classifier.getKeepDisputedRows():
                        votes = dataclasses.replace(votes, disputedRows=())
                fitted.append((ensemble, trained, votes))

        self._warn_of_shared_keys(counted)
        seconds = round(time.perf_counter() - started, 3)
        models = []
        for classifier, start, (ensemble, trained, votes) in zip(classifiers, starts, fitted, strict=True):
            summary = CNNEnsembleTrainingSummary(
                members=ensemble.members,
                rows=counted["rows"],
                skippedRows=counted["skipped"] + sum(report["skippedRows"] for report in trained.reports.values()),
                seconds=seconds,
                unusedRows=counted["unused"],
                resumedMembers=trained.resumed,
                missingMembers=trained.failures,
                outOfBag=votes,
                initialLayers=start.layers,
            )
            model = CNNEnsembleClassificationModel(ensemble, summary)
            model._resetUid(classifier.uid)
            models.append(classifier._copyValues(model)._set(numMembers=len(ensemble)))
        _warn_of_unseen_classes(models[0].summary, class_names)
        return models

    def _read_schema(self, dataset: DataFrame) -> tuple[TrainingColumns, Classes, tuple[str, ...] | None]:
        """The columns to read, the number of classes, and the classes' names if the label's metadata has them.

        Runs a job only for what neither a Param nor metadata gives: the images' shape, from the first rows, and the
        number of classes, from the label column.
        """
        labels = labels_of(dataset, self.getLabelCol())
        class_names, in_metadata, given = labels.class_names, labels.num_classes, value_or_none(self, "numClasses")
        if not given and in_metadata == 1:
            raise ValueError(one_class_in_metadata(self.getLabelCol(), class_names))
        if given and labels.probabilities is not None and in_metadata not in (None, given):
            raise ValueError(other_number_in_metadata(labels, given))
        columns = TrainingColumns.of(
            dataset,
            lambda: self._features(dataset),
            self.getLabelCol(),
            *(value_or_none(self, name) for name in ("weightCol", "validationIndicatorCol", "idCol")),
        )
        if given:
            classes = Classes(given, "param")
        elif in_metadata:
            classes = Classes(in_metadata, "metadata")
        else:
            counted = count_classes(dataset, labels, self._skips, columns.validates)
            classes = Classes(counted, "rows")
        named = tuple(class_names) if class_names and len(class_names) == classes.number else None
        return columns, classes, named

    def _features(self, dataset: DataFrame) -> Features:
        source, resize = source_of(dataset, self.getFeaturesCol()), self.getResizeImages()
        given, batch = value_or_none(self, "inputShape"), engine_of(dataset.sparkSession).rows_per_batch
        if given:
            return features_of(source, tuple(given), "param", resize, batch)
        shape, how = infer_shape(dataset, source, resize)
        if how:
            note(f"inputShape {list(shape)}: {how}.", self.getVerbose() > 0)
        return features_of(source, shape, "rows", resize, batch)

    @property
    def _skips(self) -> bool:
        return self.getHandleInvalid() == "skip"

    def _check(self) -> None:
        check_params(self)
        name = type(self).__name__
        self._draw().check(name)
        if self.getEarlyStoppingPatience() and not value_or_none(self, "validationIndicatorCol"):
            raise ValueError(
                f"The 'earlyStoppingPatience' parameter of {name} needs rows to validate on; set "
                "'validationIndicatorCol' to a boolean column that marks them."
            )
        fewest = value_or_none(self, "minMembers")
        if fewest is not None and fewest > self.getNumMembers():
            raise ValueError(
                f"The 'minMembers' parameter of {name} must be <= numMembers, {self.getNumMembers()}. Got {fewest} "
                "instead."
            )
        if self.isSet("oobSampleSize") and self.getOobSampleSize() and not self._draw().leaves_rows_out:
            raise ValueError(
                f"The 'oobSampleSize' parameter of {name} must be 0 where every row is in every bag, as no row is "
                "out-of-bag; lower subsamplingRate, or choose another bagging."
            )

    def _draw(self) -> Draw:
        return draw_of(self.getBagging(), self.getSubsamplingRate(), self.getNumMembers(), self.getSeed())

    def _job_identity(self, index: int) -> str:
        """A text that is equal for classifiers that one job can train.

        `index`, the place among the param maps, separates classifiers with a checkpointDir, which belongs to one fit.
        """
        values = {
            param.name: self.getOrDefault(param)
            for param in self.params
            if self.isDefined(param) and decides_job(param)
        }
        return json.dumps([values, index if self.getCheckpointDir() else None], sort_keys=True)

    def _plan(self, pixels: PixelFormat, num_classes: int, draw: Draw) -> TrainingPlan:
        architecture = Architecture(
            input_shape=pixels.shape,
            num_classes=num_classes,
            network=self.getNetwork(),
            filters=tuple(self.getFilters()),
            kernel_size=self.getKernelSize(),
            dense_units=self.getDenseUnits(),
            dropout_rate=self.getDropoutRate(),
            standardization=self.getStandardization(),
        )
        return TrainingPlan(
            architecture=architecture,
            rules=BagRules(
                pixels=pixels,
                skip_invalid=self._skips,
                memory_limit=self.getMaxMemoryInMB() << 20,
                sample_size=sample_size(self.getOobSampleSize(), pixels.size) if draw.leaves_rows_out else 0,
                in_bag_share=draw.in_bag_share,
                in_any_share=draw.in_any_share,
                guest_limit=draw.guest_limit,
            ),
            epochs=self.getEpochs(),
            batch_size=self.getBatchSize(),
            learning_rate=self.getLearningRate(),
            learning_rate_schedule=self.getLearningRateSchedule(),
            optimizer=self.getOptimizer(),
            class_weighting=self.getClassWeighting(),
            random_shift=self.getRandomShift(),
            random_flip=self.getRandomFlip(),
            early_stopping_patience=self.getEarlyStoppingPatience(),
            precision=self.getPrecision(),
            seed=self.getSeed(),
            keep_diverged=value_or_none(self, "minMembers") is not None,
        )

    def _initial_models(
        self, spark: SparkSession, classifiers: Sequence[CNNEnsembleClassifier]
    ) -> dict[str, InitialModel]:
        paths = dict.fromkeys(path for classifier in classifiers if (path := classifier.getInitialModel()))
        return {path: InitialModel.read(spark, path, self.getNumMembers()) for path in paths}

    def _start(self, model: InitialModel | None, architecture: Architecture) -> Start:
        if model is None:
            return FRESH
        start = model.start(architecture, self.getNumMembers())
        note(model.note(start), self.getVerbose() > 0)
        return start

    def _checkpoint(self, spark: SparkSession, plan: TrainingPlan, draw: Draw) -> Checkpoint | None:
        if not self.getCheckpointDir():
            return None
        identity = {
            **dataclasses.asdict(plan),
            **draw.identity(),
            **{name: version(name) for name in ("tensorflow", "keras", "numpy")},
            "idCol": value_or_none(self, "idCol"),
        }
        # Memory limit, divergence handling and messages do not affect finished members.
        del identity["rules"]["memory_limit"], identity["keep_diverged"], identity["rules"]["pixels"]["shape_from"]
        return Checkpoint(spark, self.getCheckpointDir(), identity)

    def _check_classes(
        self, trained: Trained, rows: int, class_names: tuple[str, ...] | None, checkpoint: Checkpoint | None
    ) -> None:
        """Refuse members that were all trained on one class alone; a checkpoint then deletes them."""
        counts = [report["classCounts"] for report in trained.reports.values()]
        seen = [label for label, in_bags in enumerate(zip(*counts, strict=True)) if any(in_bags)]
        if len(seen) > 1:
            return
        if checkpoint is not None:
            checkpoint.discard()
        name = class_names[seen[0]] if class_names else None
        raise ValueError(one_label(rows, self.getLabelCol(), seen[0], name))

    def _check_sound(self, trained: Trained) -> None:
        fewest = value_or_none(self, "minMembers")
        if fewest is not None and len(trained.sound) < fewest:
            why = next(iter(trained.failures.values()))
            raise ValueError(
                f"Only {len(trained.sound)} of {self.getNumMembers()} members are sound, fewer than 'minMembers' "
                f"({fewest}): {why[0].lower()}{why[1:]}"
            )

    def _warn_of_seeds(self) -> None:
        network = value_or_none(self, "network")
        seeded = seeds_in(network) if network and self.getNumMembers() > 1 else []
        if seeded:
            warnings.warn(
                f"The 'network' parameter has seeds of its own ({', '.join(seeded)}), so that all members have the "
                "same random numbers there; build it without seed, and set the Param seed to repeat a fit.",
                stacklevel=3,
            )

    def _warn_of_shared_keys(self, counted: dict[str, Any]) -> None:
        used = counted["rows"] - counted["skipped"]
        if used and counted["keys"] < _SHARED_KEYS * used:
            identity = value_or_none(self, "idCol")
            what = f"column '{identity}' (parameter 'idCol')" if identity else "a hash of features, label and weight"
            remedy = (
                "set idCol to a column whose values differ"
                if identity
                else "set idCol to a column that identifies rows"
            )
            warnings.warn(
                f"The {used:,} rows have only about {counted['keys']:,} different keys ({what}), and rows with one key "
                f"always share a bag; {remedy}.",
                stacklevel=2,
            )

    def write(self) -> SafeWriter:
        """The writer of this estimator.

        ``write().overwrite().save(path)`` replaces an existing folder once the new one is whole.

        Returns
        -------
        MLWriter
        """
        return SafeWriter(self)

    @classmethod
    def read(cls) -> SafeReader:
        """The reader of saved estimators; ``load(path)`` is short for ``read().load(path)``.

        Returns
        -------
        MLReader
        """
        return SafeReader(cls)

    def setParams(self, **params: Any) -> CNNEnsembleClassifier:
        """Sets any Params by name; None unsets a Param.

        Parameters
        ----------
        **params
            Values by the names of their Params.

        Returns
        -------
        CNNEnsembleClassifier
            This estimator.

        Raises
        ------
        TypeError
            No Param has this name, or a value has the wrong type.
        """
        for name in params:
            if not self.hasParam(name):
                raise TypeError(f"{type(self).__name__} has no parameter '{name}'.")
        return self._set(**params)

    def setWeightCol(self, value: str) -> CNNEnsembleClassifier:
        """Sets the value of weightCol."""
        return self._set(weightCol=value)

    def setValidationIndicatorCol(self, value: str) -> CNNEnsembleClassifier:
        """Sets the value of validationIndicatorCol."""
        return self._set(validationIndicatorCol=value)

    def setIdCol(self, value: str) -> CNNEnsembleClassifier:
        """Sets the value of idCol."""
        return self._set(idCol=value)

    def setHandleInvalid(self, value: str) -> CNNEnsembleClassifier:
        """Sets the value of handleInvalid."""
        return self._set(handleInvalid=value)

    def setNumClasses(self, value: int) -> CNNEnsembleClassifier:
        """Sets the value of numClasses."""
        return self._set(numClasses=value)

    def setInputShape(self, value: list[int]) -> CNNEnsembleClassifier:
        """Sets the value of inputShape."""
        return self._set(inputShape=value)

    def setResizeImages(self, value: bool) -> CNNEnsembleClassifier:
        """Sets the value of resizeImages."""
        return self._set(resizeImages=value)

    def setNumMembers(self, value: int) -> CNNEnsembleClassifier:
        """Sets the value of numMembers."""
        return self._set(numMembers=value)

    def setBagging(self, value: str) -> CNNEnsembleClassifier:
        """Sets the value of bagging."""
        return self._set(bagging=value)

    def setSubsamplingRate(self, value: float) -> CNNEnsembleClassifier:
        """Sets the value of subsamplingRate."""
        return self._set(subsamplingRate=value)

    def setVotingStrategy(self, value: str) -> CNNEnsembleClassifier:
        """Sets the value of votingStrategy."""
        return self._set(votingStrategy=value)

    def setNetwork(self, value: str) -> CNNEnsembleClassifier:
        """Sets the value of network."""
        return self._set(network=value)

    def setFilters(self, value: list[int]) -> CNNEnsembleClassifier:
        """Sets the value of filters."""
        return self._set(filters=value)

    def setKernelSize(self, value: int) -> CNNEnsembleClassifier:
        """Sets the value of kernelSize."""
        return self._set(kernelSize=value)

    def setDenseUnits(self, value: int) -> CNNEnsembleClassifier:
        """Sets the value of denseUnits."""
        return self._set(denseUnits=value)

    def setDropoutRate(self, value: float) -> CNNEnsembleClassifier:
        """Sets the value of dropoutRate."""
        return self._set(dropoutRate=value)

    def setStandardization(self, value: bool) -> CNNEnsembleClassifier:
        """Sets the value of standardization."""
        return self._set(standardization=value)

    def setEpochs(self, value: int) -> CNNEnsembleClassifier:
        """Sets the value of epochs."""
        return self._set(epochs=value)

    def setBatchSize(self, value: int) -> CNNEnsembleClassifier:
        """Sets the value of batchSize."""
        return self._set(batchSize=value)

    def setLearningRate(self, value: float) -> CNNEnsembleClassifier:
        """Sets the value of learningRate."""
        return self._set(learningRate=value)

    def setLearningRateSchedule(self, value: str) -> CNNEnsembleClassifier:
        """Sets the value of learningRateSchedule."""
        return self._set(learningRateSchedule=value)

    def setOptimizer(self, value: str) -> CNNEnsembleClassifier:
        """Sets the value of optimizer."""
        return self._set(optimizer=value)

    def setClassWeighting(self, value: str) -> CNNEnsembleClassifier:
        """Sets the value of classWeighting."""
        return self._set(classWeighting=value)

    def setRandomShift(self, value: int) -> CNNEnsembleClassifier:
        """Sets the value of randomShift."""
        return self._set(randomShift=value)

    def setRandomFlip(self, value: bool) -> CNNEnsembleClassifier:
        """Sets the value of randomFlip."""
        return self._set(randomFlip=value)

    def setInitialModel(self, value: str | os.PathLike[str]) -> CNNEnsembleClassifier:
        """Sets the value of initialModel."""
        return self._set(initialModel=value)

    def setEarlyStoppingPatience(self, value: int) -> CNNEnsembleClassifier:
        """Sets the value of earlyStoppingPatience."""
        return self._set(earlyStoppingPatience=value)

    def setPrecision(self, value: str) -> CNNEnsembleClassifier:
        """Sets the value of precision."""
        return self._set(precision=value)

    def setSeed(self, value: int) -> CNNEnsembleClassifier:
        """Sets the value of seed."""
        return self._set(seed=value)

    def setOobSampleSize(self, value: int) -> CNNEnsembleClassifier:
        """Sets the value of oobSampleSize."""
        return self._set(oobSampleSize=value)

    def setKeepDisputedRows(self, value: bool) -> CNNEnsembleClassifier:
        """Sets the value of keepDisputedRows."""
        return self._set(keepDisputedRows=value)

    def setMaxMemoryInMB(self, value: int) -> CNNEnsembleClassifier:
        """Sets the value of maxMemoryInMB."""
        return self._set(maxMemoryInMB=value)

    def setCheckpointDir(self, value: str | os.PathLike[str]) -> CNNEnsembleClassifier:
        """Sets the value of checkpointDir."""
        return self._set(checkpointDir=value)

    def setMinMembers(self, value: int) -> CNNEnsembleClassifier:
        """Sets the value of minMembers."""
        return self._set(minMembers=value)

    def setVerbose(self, value: int) -> CNNEnsembleClassifier:
        """Sets the value of verbose."""
        return self._set(verbose=value)

    def setUncertaintyCol(self, value: str) -> CNNEnsembleClassifier:
        """Sets the value of uncertaintyCol."""
        return self._set(uncertaintyCol=value)

    def setMemberPredictionsCol(self, value: str) -> CNNEnsembleClassifier:
        """Sets the value of memberPredictionsCol."""
        return self._set(memberPredictionsCol=value)


def _warn_of_unseen_classes(summary: CNNEnsembleTrainingSummary, class_names: tuple[str, ...] | None) -> None:
    unseen = unseen_text(summary, class_names)
    if unseen:
        warnings.warn(
            f"Some members never saw a class that others saw, and hardly ever vote for it ({unseen}); set fewer "
            "members (numMembers) or bags with more of the rows (bagging='subsample' or 'bootstrap' and "
            "subsamplingRate), or repeat the rows of rare classes (user guide, page Choosing).",
            stacklevel=2,
        )


def _ensemble(plan: TrainingPlan, trained: Trained, class_names: tuple[str, ...] | None) -> Ensemble:
    """The members that trained without diverging."""
    used = [
        dataclasses.replace(plan.architecture, scaled=trained.reports[member]["scaled"]) for member in trained.sound
    ]
    architectures = tuple(dict.fromkeys(used))
    return Ensemble(
        architectures,
        tuple(architectures.index(architecture) for architecture in used),
        tuple(trained.weights[member] for member in trained.sound),
        tuple(MemberSummary.from_dict(trained.reports[member]) for member in trained.sound),
        class_names,
    )
