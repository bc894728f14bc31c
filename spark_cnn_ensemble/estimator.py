"""`CNNEnsembleClassifier`: from a DataFrame to trained members. The story of a fit, in order, is `_fit`."""

from __future__ import annotations

import functools
import json
import time
from typing import Any

from pyspark import keyword_only
from pyspark.ml.classification import ProbabilisticClassifier
from pyspark.ml.util import MLReadable, MLWritable
from pyspark.sql import Column, DataFrame, Observation
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel

from spark_cnn_ensemble import bagging, rows
from spark_cnn_ensemble.ensemble import Ensemble
from spark_cnn_ensemble.model import CNNEnsembleClassificationModel
from spark_cnn_ensemble.params import HasImageShape, _CNNEnsembleParams, check_params, check_thresholds, optional
from spark_cnn_ensemble.persistence import SafeReader, SafeWriter
from spark_cnn_ensemble.summary import CNNEnsembleTrainingSummary, MemberSummary
from spark_cnn_ensemble.transport import collect_weights
from spark_cnn_ensemble.worker.bag import BAG_COLUMNS
from spark_cnn_ensemble.worker.member import TrainingPlan
from spark_cnn_ensemble.worker.network import Architecture, check_network
from spark_cnn_ensemble.worker.refusal import refusing_in_python
from spark_cnn_ensemble.worker.training import TRAINED_SCHEMA, train_members


class CNNEnsembleClassifier(ProbabilisticClassifier, _CNNEnsembleParams, HasImageShape, MLReadable, MLWritable):
    """Trains an ensemble of small CNNs, each on its own bag of the rows, one Spark task a member.

    Features may be a vector, an array of numbers, Spark's image struct, or bytes (raw pixels, PNG or JPEG); labels are
    class indices 0, 1, 2, ... of any numeric type. The input is read once if numClasses, or metadata of the label
    column, tells the number of classes; otherwise there is one pass over the label column before it.

    The same rows, params and seed give bit for bit the same members on the same kind of CPU and the same
    spark.task.cpus, whatever the order of the rows, the partitioning and the number of executors.

    Parameters
    ----------
    **params
        Every Param by its name; `explainParams()` tells what each means and may be. Values are checked by `fit`.

    Examples
    --------
    >>> classifier = CNNEnsembleClassifier(numMembers=5, bagging="subsample", epochs=3, randomShift=2)
    >>> model = classifier.fit(train)            # doctest: +SKIP
    >>> model.transform(test).select("prediction")  # doctest: +SKIP
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
        learningRate: float = 1e-3,
        learningRateSchedule: str = "linear",
        optimizer: str = "adam",
        randomShift: int = 0,
        randomFlip: bool = False,
        earlyStoppingPatience: int = 0,
        precision: str = "float32",
        seed: int = 17,
    ) -> None:
        super().__init__()
        self._set(**self._input_kwargs)

    def setParams(self, **params: Any) -> CNNEnsembleClassifier:
        """Sets any Params by name.

        Raises
        ------
        TypeError
            There is no such Param, or the value is of another type.
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

    def setRandomShift(self, value: int) -> CNNEnsembleClassifier:
        """Sets the value of randomShift."""
        return self._set(randomShift=value)

    def setRandomFlip(self, value: bool) -> CNNEnsembleClassifier:
        """Sets the value of randomFlip."""
        return self._set(randomFlip=value)

    def setEarlyStoppingPatience(self, value: int) -> CNNEnsembleClassifier:
        """Sets the value of earlyStoppingPatience."""
        return self._set(earlyStoppingPatience=value)

    def setPrecision(self, value: str) -> CNNEnsembleClassifier:
        """Sets the value of precision."""
        return self._set(precision=value)

    def setSeed(self, value: int) -> CNNEnsembleClassifier:
        """Sets the value of seed."""
        return self._set(seed=value)

    def _fit(self, dataset: DataFrame) -> CNNEnsembleClassificationModel:
        started = time.perf_counter()
        self._check()
        label, class_names, num_classes = rows.label_values(dataset, self.getLabelCol())
        num_classes = optional(self, "numClasses") or num_classes
        shape = tuple(optional(self, "inputShape") or rows.infer_shape(dataset, self.getFeaturesCol()))
        features = rows.features(dataset, self.getFeaturesCol(), shape)
        optional_columns = self._optional_columns(dataset)
        if num_classes is None:
            num_classes = rows.count_classes(dataset, label, self.getLabelCol(), self._skips)
        check_thresholds(self, num_classes)
        plan = self._plan(features, num_classes)
        check_network(plan.architecture)

        observation = Observation()
        read = self._training_rows(dataset, features, label, num_classes, optional_columns, observation)
        drawn = bagging.draw(
            read, self.getBagging(), self.getSubsamplingRate(), self.getNumMembers(), self.getSeed()
        ).select(*BAG_COLUMNS)
        trained = bagging.place(drawn, self.getNumMembers()).mapInPandas(
            functools.partial(train_members, plan=plan), TRAINED_SCHEMA
        )
        # Kept on the executors' disks until the driver has the weights, which it collects in several jobs.
        trained.persist(StorageLevel.DISK_ONLY)
        try:
            with refusing_in_python():
                reports = self._reports(trained)
                weights = collect_weights(trained, [report["size"] for report in reports])
        finally:
            trained.unpersist()

        members = tuple(MemberSummary.from_dict(report) for report in reports)
        ensemble = Ensemble(
            (plan.architecture,),
            (0,) * len(members),
            tuple(weights),
            members,
            tuple(class_names) if class_names and len(class_names) == num_classes else None,
        )
        counted = observation.get
        summary = CNNEnsembleTrainingSummary(
            members=members,
            rows=counted["rows"],
            skippedRows=counted["skipped"] + sum(report["skippedRows"] for report in reports),
            seconds=round(time.perf_counter() - started, 3),
        )
        model = CNNEnsembleClassificationModel(ensemble, summary)
        model._resetUid(self.uid)
        return self._copyValues(model)

    @property
    def _skips(self) -> bool:
        return self.getHandleInvalid() == "skip"

    def _check(self) -> None:
        check_params(self)
        name = type(self).__name__
        limit = {"subsample": 1.0, "bootstrap": 100.0}.get(self.getBagging())
        if limit is not None and self.getSubsamplingRate() > limit:
            raise ValueError(
                f"The 'subsamplingRate' parameter of {name} must be <= {limit} where bagging is "
                f"{self.getBagging()!r}. Got {self.getSubsamplingRate()} instead."
            )
        if self.getEarlyStoppingPatience() and not optional(self, "validationIndicatorCol"):
            raise ValueError(
                f"The 'earlyStoppingPatience' parameter of {name} needs rows to validate on; set "
                "'validationIndicatorCol' to a boolean column that marks them."
            )

    def _plan(self, features: rows.Features, num_classes: int) -> TrainingPlan:
        architecture = Architecture(
            input_shape=features.pixels.shape,
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
            pixels=features.pixels,
            num_members=self.getNumMembers(),
            epochs=self.getEpochs(),
            batch_size=self.getBatchSize(),
            learning_rate=self.getLearningRate(),
            learning_rate_schedule=self.getLearningRateSchedule(),
            optimizer=self.getOptimizer(),
            random_shift=self.getRandomShift(),
            random_flip=self.getRandomFlip(),
            early_stopping_patience=self.getEarlyStoppingPatience(),
            precision=self.getPrecision(),
            seed=self.getSeed(),
            skip_invalid=self._skips,
        )

    def _optional_columns(self, dataset: DataFrame) -> dict[str, Column | None]:
        weight, indicator = optional(self, "weightCol"), optional(self, "validationIndicatorCol")
        identity = optional(self, "idCol")
        return {
            "weight": rows.numeric(dataset, weight, "weightCol") if weight else None,
            "validates": rows.indicator(dataset, indicator) if indicator else None,
            "id": rows.column(rows.field(dataset, identity, "idCol").name) if identity else None,
        }

    def _training_rows(
        self,
        dataset: DataFrame,
        features: rows.Features,
        label: Column,
        num_classes: int,
        columns: dict[str, Column | None],
        observation: Observation,
    ) -> DataFrame:
        """Select, cast and rename to the wire's columns, and refuse or leave out what cannot be used."""
        weight, identity = columns["weight"], columns["id"]
        faults = [features.fault, rows.label_fault(label, self.getLabelCol(), num_classes)]
        hashed = [features.content, label]
        name = features.name
        if weight is not None:
            faults.append(rows.weight_fault(weight, self.getWeightCol()))
            hashed.append(weight)
        content_key = F.xxhash64(*hashed)
        row_key = content_key
        if identity is not None:
            row_key = F.xxhash64(identity)
            name = F.concat(F.lit(f"{self.getIdCol()}="), identity.cast("string"))
        fault = F.coalesce(*faults)
        classes = label.cast("int")  # fails on what is no number of 32 bits, so it must not see a faulty label
        wire = dataset.select(
            row_key.alias("row_key"),
            content_key.alias("content_key"),
            (F.when(fault.isNull(), classes) if self._skips else rows.refusing(classes, fault, name)).alias("label"),
            (F.lit(None) if weight is None else weight).cast("float").alias("weight"),
            (F.lit(False) if columns["validates"] is None else columns["validates"]).alias("validates"),
            name.alias("name"),
            features.cells.alias("features"),
            (fault if self._skips else F.lit(None).cast("string")).alias("fault"),
        ).observe(observation, F.count(F.lit(1)).alias("rows"), F.count("fault").alias("skipped"))
        return wire.where(F.col("fault").isNull()).drop("fault")

    def _reports(self, trained: DataFrame) -> list[dict[str, Any]]:
        found = trained.where(F.col("report").isNotNull()).select("member", "report").collect()
        reports = {row["member"]: json.loads(row["report"]) for row in found}
        missing = sorted(set(range(self.getNumMembers())) - set(reports))
        if missing:
            raise RuntimeError(f"Members {missing} were not trained, though their tasks ended; fit again.")
        return [reports[member] for member in range(self.getNumMembers())]

    def write(self) -> SafeWriter:
        """A writer; `write().overwrite().save(path)` replaces what is there once the new copy is whole."""
        return SafeWriter(self)

    @classmethod
    def read(cls) -> SafeReader:
        """A reader; `load(path)` is its shortcut."""
        return SafeReader(cls)
