"""What a user may set: one declaration a Param, one table of ranges.

The estimator and the model share `_CNNEnsembleParams`; what only training knows is added by
`_TrainingParams`. Setters stand on the classes that users hold. Values are checked by
`check_params` when they are used, not when they are set, as in scikit-learn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from pyspark.ml.classification import _ProbabilisticClassifierParams
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasHandleInvalid, HasSeed, HasValidationIndicatorCol, HasWeightCol

P = TypeVar("P", bound="_CNNEnsembleParams")

BAGGING = ("disjoint", "subsample", "bootstrap")
VOTING_STRATEGIES = ("hard", "soft")
SCHEDULES = ("constant", "linear", "cosine")
PRECISIONS = ("float32", "bfloat16")
HANDLE_INVALID = ("error", "skip", "keep")
OPTIMIZERS = (
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "ftrl",
    "lion",
    "nadam",
    "rmsprop",
    "sgd",
)  # the names that keras.optimizers.get knows in every tested version of Keras

DEFAULTS: dict[str, Any] = {
    "featuresCol": "features",
    "labelCol": "label",
    "predictionCol": "prediction",
    "rawPredictionCol": "rawPrediction",
    "probabilityCol": "probability",
    "handleInvalid": "error",
    "votingStrategy": "hard",
    "numMembers": 10,
    "bagging": "disjoint",
    "subsamplingRate": 1.0,
    "network": "",
    "filters": [16, 32],
    "kernelSize": 5,
    "denseUnits": 128,
    "dropoutRate": 0.0,
    "standardization": True,
    "epochs": 5,
    "batchSize": 50,
    "learningRate": 1e-3,
    "learningRateSchedule": "linear",
    "optimizer": "adam",
    "randomShift": 0,
    "randomFlip": False,
    "earlyStoppingPatience": 0,
    "precision": "float32",
    "seed": 17,
    "oobSampleSize": 1000,
    "maxMemoryInMB": 1024,
    "checkpointDir": "",
    "verbose": 1,
    "uncertaintyCol": "",
    "memberPredictionsCol": "",
}


def _param(name: str, doc: str, converter: Callable[[Any], Any]) -> Param[Any]:
    return Param(Params._dummy(), name, doc, typeConverter=converter)


class HasVotingStrategy(Params):
    """Mixin for param votingStrategy."""

    votingStrategy: Param[str] = _param(
        "votingStrategy",
        "how the members decide: 'hard', the class with most votes, or 'soft', the class with the largest "
        "mean softmax. A tie of votes goes to the tied class with the larger summed softmax, then to the "
        "lower index.",
        TypeConverters.toString,
    )

    def getVotingStrategy(self) -> str:
        """Gets the value of votingStrategy or its default value."""
        return self.getOrDefault(self.votingStrategy)


class HasNumMembers(Params):
    """Mixin for param numMembers."""

    numMembers: Param[int] = _param("numMembers", "number of CNNs in the ensemble (>= 1).", TypeConverters.toInt)

    def getNumMembers(self) -> int:
        """Gets the value of numMembers or its default value."""
        return self.getOrDefault(self.numMembers)


class HasBagging(Params):
    """Mixin for the params of the draw: bagging, subsamplingRate, idCol."""

    bagging: Param[str] = _param(
        "bagging",
        "how rows are drawn into bags: 'disjoint', each row in exactly one bag; 'subsample', each row in each "
        "bag with probability subsamplingRate; 'bootstrap', each row in each bag Poisson(subsamplingRate) "
        "times (sampling with replacement).",
        TypeConverters.toString,
    )
    subsamplingRate: Param[float] = _param(
        "subsamplingRate",
        "expected size of a bag over the number of rows (> 0, and <= 1, or <= 100 if bagging is 'bootstrap'); "
        "not used by 'disjoint'.",
        TypeConverters.toFloat,
    )
    idCol: Param[str] = _param(
        "idCol",
        "column that identifies a row for the draw; unset: a hash of the row's features, label and weight, so that "
        "exact duplicates share a bag.",
        TypeConverters.toString,
    )

    def getBagging(self) -> str:
        """Gets the value of bagging or its default value."""
        return self.getOrDefault(self.bagging)

    def getSubsamplingRate(self) -> float:
        """Gets the value of subsamplingRate or its default value."""
        return self.getOrDefault(self.subsamplingRate)

    def getIdCol(self) -> str:
        """Gets the value of idCol."""
        return self.getOrDefault(self.idCol)


class HasNetwork(Params):
    """Mixin for the params of a member's network."""

    network: Param[str] = _param(
        "network",
        "a Keras classifier as JSON (model.to_json()) that maps an image to the probabilities of the classes; "
        "'': the built-in CNN.",
        TypeConverters.toString,
    )
    filters: Param[list[int]] = _param(
        "filters",
        "built-in CNN: filters of each convolution, each followed by 2x2 max-pooling and ReLU (each >= 1).",
        TypeConverters.toListInt,
    )
    kernelSize: Param[int] = _param(
        "kernelSize", "built-in CNN: side of the convolutions, in pixels (>= 1).", TypeConverters.toInt
    )
    denseUnits: Param[int] = _param(
        "denseUnits", "built-in CNN: units of the dense layer before the last (>= 1).", TypeConverters.toInt
    )
    dropoutRate: Param[float] = _param(
        "dropoutRate",
        "built-in CNN: share of the dense layer's units dropped in training, in range [0, 1).",
        TypeConverters.toFloat,
    )
    standardization: Param[bool] = _param(
        "standardization",
        "whether a member's first layer rescales each channel by the mean and the deviation of the member's bag.",
        TypeConverters.toBoolean,
    )

    def getNetwork(self) -> str:
        """Gets the value of network or its default value."""
        return self.getOrDefault(self.network)

    def getFilters(self) -> list[int]:
        """Gets the value of filters or its default value."""
        return self.getOrDefault(self.filters)

    def getKernelSize(self) -> int:
        """Gets the value of kernelSize or its default value."""
        return self.getOrDefault(self.kernelSize)

    def getDenseUnits(self) -> int:
        """Gets the value of denseUnits or its default value."""
        return self.getOrDefault(self.denseUnits)

    def getDropoutRate(self) -> float:
        """Gets the value of dropoutRate or its default value."""
        return self.getOrDefault(self.dropoutRate)

    def getStandardization(self) -> bool:
        """Gets the value of standardization or its default value."""
        return self.getOrDefault(self.standardization)


class HasOptimization(Params):
    """Mixin for the params of a member's training."""

    epochs: Param[int] = _param("epochs", "passes of a member over its bag (>= 1).", TypeConverters.toInt)
    batchSize: Param[int] = _param("batchSize", "rows a training step (>= 1).", TypeConverters.toInt)
    learningRate: Param[float] = _param(
        "learningRate", "learning rate of the first step (> 0).", TypeConverters.toFloat
    )
    learningRateSchedule: Param[str] = _param(
        "learningRateSchedule",
        "how the learning rate goes on: 'constant', or 'linear' or 'cosine' to 0 at the last step.",
        TypeConverters.toString,
    )
    optimizer: Param[str] = _param(
        "optimizer", f"name of a Keras optimizer: {', '.join(OPTIMIZERS)}.", TypeConverters.toString
    )
    randomShift: Param[int] = _param(
        "randomShift",
        "augmentation: each image is moved by up to this many pixels in each direction, at random in each "
        "epoch; what moves in is 0 (>= 0).",
        TypeConverters.toInt,
    )
    randomFlip: Param[bool] = _param(
        "randomFlip",
        "augmentation: whether images are mirrored left to right, at random in each epoch.",
        TypeConverters.toBoolean,
    )
    earlyStoppingPatience: Param[int] = _param(
        "earlyStoppingPatience",
        "a member stops after this many epochs without a lower loss on the rows of validationIndicatorCol, and "
        "keeps its best epoch; 0: off (>= 0).",
        TypeConverters.toInt,
    )
    precision: Param[str] = _param(
        "precision",
        "arithmetic of training: 'float32', or 'bfloat16' (mixed precision: faster where the CPU has it).",
        TypeConverters.toString,
    )

    def getEpochs(self) -> int:
        """Gets the value of epochs or its default value."""
        return self.getOrDefault(self.epochs)

    def getBatchSize(self) -> int:
        """Gets the value of batchSize or its default value."""
        return self.getOrDefault(self.batchSize)

    def getLearningRate(self) -> float:
        """Gets the value of learningRate or its default value."""
        return self.getOrDefault(self.learningRate)

    def getLearningRateSchedule(self) -> str:
        """Gets the value of learningRateSchedule or its default value."""
        return self.getOrDefault(self.learningRateSchedule)

    def getOptimizer(self) -> str:
        """Gets the value of optimizer or its default value."""
        return self.getOrDefault(self.optimizer)

    def getRandomShift(self) -> int:
        """Gets the value of randomShift or its default value."""
        return self.getOrDefault(self.randomShift)

    def getRandomFlip(self) -> bool:
        """Gets the value of randomFlip or its default value."""
        return self.getOrDefault(self.randomFlip)

    def getEarlyStoppingPatience(self) -> int:
        """Gets the value of earlyStoppingPatience or its default value."""
        return self.getOrDefault(self.earlyStoppingPatience)

    def getPrecision(self) -> str:
        """Gets the value of precision or its default value."""
        return self.getOrDefault(self.precision)


class HasExecution(Params):
    """Mixin for the params of how a fit is run: what it keeps, measures and shows on the way."""

    oobSampleSize: Param[int] = _param(
        "oobSampleSize",
        "rows drawn to estimate out-of-bag accuracy (fewer where they would take more than 256 MiB); 0: off (>= 0).",
        TypeConverters.toInt,
    )
    maxMemoryInMB: Param[int] = _param(
        "maxMemoryInMB",
        "a bag's images are kept in memory up to this many MiB, past it on the local disk of their task (>= 1).",
        TypeConverters.toInt,
    )
    checkpointDir: Param[str] = _param(
        "checkpointDir",
        "folder where finished members are kept, on any filesystem of Hadoop's; the same fit, called again, trains "
        "only those that are missing. '': off.",
        TypeConverters.toString,
    )
    minMembers: Param[int] = _param(
        "minMembers",
        "a fit fails unless so many members are sound, and leaves out those that diverged; unset: all of numMembers "
        "(>= 1).",
        TypeConverters.toInt,
    )
    verbose: Param[int] = _param(
        "verbose", "1: progress is shown on the driver's stderr; 0: silence.", TypeConverters.toInt
    )

    def getOobSampleSize(self) -> int:
        """Gets the value of oobSampleSize or its default value."""
        return self.getOrDefault(self.oobSampleSize)

    def getMaxMemoryInMB(self) -> int:
        """Gets the value of maxMemoryInMB or its default value."""
        return self.getOrDefault(self.maxMemoryInMB)

    def getCheckpointDir(self) -> str:
        """Gets the value of checkpointDir or its default value."""
        return self.getOrDefault(self.checkpointDir)

    def getMinMembers(self) -> int:
        """Gets the value of minMembers."""
        return self.getOrDefault(self.minMembers)

    def getVerbose(self) -> int:
        """Gets the value of verbose or its default value."""
        return self.getOrDefault(self.verbose)


class HasVoteCols(Params):
    """Mixin for the output columns that tell of the votes: uncertaintyCol, memberPredictionsCol."""

    uncertaintyCol: Param[str] = _param(
        "uncertaintyCol",
        "output column: entropy of the probability column's values over log(numClasses), 0 (all members agree) to 1; "
        "'': left out.",
        TypeConverters.toString,
    )
    memberPredictionsCol: Param[str] = _param(
        "memberPredictionsCol", "output column: each member's class, array<int>; '': left out.", TypeConverters.toString
    )

    def getUncertaintyCol(self) -> str:
        """Gets the value of uncertaintyCol or its default value."""
        return self.getOrDefault(self.uncertaintyCol)

    def getMemberPredictionsCol(self) -> str:
        """Gets the value of memberPredictionsCol or its default value."""
        return self.getOrDefault(self.memberPredictionsCol)


class _CNNEnsembleParams(
    _ProbabilisticClassifierParams,
    HasWeightCol,
    HasValidationIndicatorCol,
    HasSeed,
    HasHandleInvalid,
    HasVotingStrategy,
    HasNumMembers,
    HasBagging,
    HasNetwork,
    HasOptimization,
    HasExecution,
    HasVoteCols,
):
    """Params that the estimator and the model share."""

    handleInvalid: Param[str] = _param(
        "handleInvalid",
        "what happens to a row that cannot be used (null, NaN or infinite features, wrong length, bad label): "
        "'error', the job fails and says why; 'skip', the row is left out; 'keep' (scoring only), its "
        "prediction is null.",
        TypeConverters.toString,
    )

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(**DEFAULTS)

    def _set(self: P, **kwargs: Any) -> P:
        # Spark would keep None as a value, which no range allows and no reader takes back; here it unsets.
        for name in [name for name, value in kwargs.items() if value is None]:
            self.clear(self.getParam(name))
            del kwargs[name]
        return super()._set(**kwargs)


class HasImageShape(Params):
    """Mixin for params that describe the data before a model knows it: numClasses, inputShape."""

    numClasses: Param[int] = _param(
        "numClasses",
        "number of classes (>= 2); unset: from the label column's metadata, else the largest label + 1, which "
        "costs a pass over the label column.",
        TypeConverters.toInt,
    )
    inputShape: Param[list[int]] = _param(
        "inputShape",
        "[height, width, channels] of a row's image; unset: from the image column, or a square of one channel.",
        TypeConverters.toListInt,
    )

    def getNumClasses(self) -> int:
        """Gets the value of numClasses."""
        return self.getOrDefault(self.numClasses)

    def getInputShape(self) -> list[int]:
        """Gets the value of inputShape."""
        return self.getOrDefault(self.inputShape)


def _at_least(low: float) -> tuple[str, Callable[[Any], bool]]:
    return f">= {low}", lambda value: value >= low


def _one_of(names: Iterable[Any]) -> tuple[str, Callable[[Any], bool]]:
    names = tuple(names)
    return f"one of {', '.join(repr(name) for name in names)}", lambda value: value in names


RANGES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "votingStrategy": _one_of(VOTING_STRATEGIES),
    "handleInvalid": _one_of(HANDLE_INVALID),
    "numMembers": _at_least(1),
    "bagging": _one_of(BAGGING),
    "subsamplingRate": ("a finite number > 0", lambda value: 0 < value < math.inf),
    "filters": (
        "a list of at least one integer >= 1",
        lambda value: len(value) > 0 and all(number >= 1 for number in value),
    ),
    "kernelSize": _at_least(1),
    "denseUnits": _at_least(1),
    "dropoutRate": ("in [0, 1)", lambda value: 0 <= value < 1),
    "epochs": _at_least(1),
    "batchSize": _at_least(1),
    "learningRate": ("a finite number > 0", lambda value: 0 < value < math.inf),
    "learningRateSchedule": _one_of(SCHEDULES),
    "optimizer": _one_of(OPTIMIZERS),
    "randomShift": _at_least(0),
    "earlyStoppingPatience": _at_least(0),
    "precision": _one_of(PRECISIONS),
    "oobSampleSize": _at_least(0),
    "maxMemoryInMB": _at_least(1),
    "minMembers": _at_least(1),
    "verbose": _one_of((0, 1)),
    "seed": ("in [-2**63, 2**63)", lambda value: -(2**63) <= value < 2**63),
    "numClasses": _at_least(2),
    "inputShape": (
        "[height, width, channels], three integers >= 1",
        lambda value: len(value) == 3 and all(number >= 1 for number in value),
    ),
    "thresholds": (
        "a list of finite numbers >= 0 of which at most one is 0",
        lambda value: all(0 <= number < math.inf for number in value) and sum(number == 0 for number in value) <= 1,
    ),
}


def check_params(instance: Params) -> None:
    """Check every value that is set, or has a default, against the table of ranges.

    Raises
    ------
    ValueError
        Names the param, the class, the rule and the value.
    """
    for param in instance.params:
        if param.name not in RANGES or not instance.isDefined(param):
            continue
        rule, holds = RANGES[param.name]
        value = instance.getOrDefault(param)
        if not holds(value):
            raise ValueError(
                f"The '{param.name}' parameter of {type(instance).__name__} must be {rule}. Got {value!r} instead."
            )


def check_thresholds(instance: Params, num_classes: int) -> None:
    """Check that `thresholds`, where they are set, are one a class.

    Raises
    ------
    ValueError
        There are more or fewer.
    """
    thresholds = optional(instance, "thresholds")
    if thresholds is not None and len(thresholds) != num_classes:
        raise ValueError(
            f"The 'thresholds' parameter of {type(instance).__name__} must have a value for each of the "
            f"{num_classes} classes. Got {len(thresholds)} instead."
        )


def optional(instance: Params, name: str) -> Any:
    """The value of a Param that may be unset; None where it is unset or an empty string."""
    param = instance.getParam(name)
    return (instance.getOrDefault(param) or None) if instance.isDefined(param) else None
