"""The declarations of all Params, with their getters.

The estimator and the model share `_CNNEnsembleParams`; `HasDataShape` is the estimator's alone, and
`HasScoring` the model's. Setters are on the classes that users hold. `declared` has the type of a declaration
and the check of values. The module is long because each Param is declared in full.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

from pyspark.ml.classification import _ProbabilisticClassifierParams
from pyspark.ml.param import Params, TypeConverters
from pyspark.ml.param.shared import HasHandleInvalid, HasSeed, HasValidationIndicatorCol, HasWeightCol

from spark_cnn_ensemble.declared import POSITIVE, Declared, Range, at_least, one_of, to_path, value_or_none
from spark_cnn_ensemble.rows.draw import STRATEGIES

P = TypeVar("P", bound="_CNNEnsembleParams")

# The names that keras.optimizers.get knows in every tested version of Keras.
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
)


class HasVotingStrategy(Params):
    """Mixin for param votingStrategy."""

    votingStrategy: Declared[str] = Declared(
        "votingStrategy",
        "how the members decide: 'hard', the class with the most votes, or 'soft', the class with the largest "
        "mean softmax. A tie goes to the tied class with the larger summed softmax, then to the "
        "lower index.",
        TypeConverters.toString,
        default="hard",
        allowed=one_of(("hard", "soft")),
        decides_job=False,
    )

    def getVotingStrategy(self) -> str:
        """Gets the value of votingStrategy or its default value."""
        return self.getOrDefault(self.votingStrategy)


class HasScoring(Params):
    """Mixin for the params of how a model scores: scoringEngine, scoringPrecision."""

    scoringEngine: Declared[str] = Declared(
        "scoringEngine",
        "what runs the networks in transform and evaluate: 'tensorflow', or 'onnx' for onnxruntime (extra 'onnx'), "
        "which starts without TensorFlow and is faster for some networks; a few votes that are nearly ties differ.",
        TypeConverters.toString,
        default="tensorflow",
        allowed=one_of(("tensorflow", "onnx")),
        decides_job=False,
    )
    scoringPrecision: Declared[str] = Declared(
        "scoringPrecision",
        "'float32', or 'bfloat16' for mixed precision, which is faster on CPUs with AVX512-BF16 or AMX and slower on "
        "others; a few votes differ. Needs scoringEngine='tensorflow'.",
        TypeConverters.toString,
        default="float32",
        allowed=one_of(("float32", "bfloat16")),
        decides_job=False,
    )

    def getScoringEngine(self) -> str:
        """Gets the value of scoringEngine or its default value."""
        return self.getOrDefault(self.scoringEngine)

    def getScoringPrecision(self) -> str:
        """Gets the value of scoringPrecision or its default value."""
        return self.getOrDefault(self.scoringPrecision)


class HasNumMembers(Params):
    """Mixin for param numMembers."""

    numMembers: Declared[int] = Declared(
        "numMembers",
        "number of CNNs in the ensemble (>= 1).",
        TypeConverters.toInt,
        default=10,
        allowed=at_least(1),
    )

    def getNumMembers(self) -> int:
        """Gets the value of numMembers or its default value."""
        return self.getOrDefault(self.numMembers)


class HasBagging(Params):
    """Mixin for the params of the draw: bagging, subsamplingRate, idCol."""

    bagging: Declared[str] = Declared(
        "bagging",
        f"how rows are drawn into bags: {'; '.join(f'{name!r}, {draw.meaning}' for name, draw in STRATEGIES.items())}.",
        TypeConverters.toString,
        default="disjoint",
        allowed=one_of(STRATEGIES),
    )
    subsamplingRate: Declared[float] = Declared(
        "subsamplingRate",
        "expected size of a bag over the number of rows (> 0, and <= 1, or <= 100 if bagging is 'bootstrap'); "
        "'disjoint' ignores it.",
        TypeConverters.toFloat,
        default=1.0,
        allowed=POSITIVE,
    )
    idCol: Declared[str] = Declared(
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


class HasResizeImages(Params):
    """Mixin for param resizeImages."""

    resizeImages: Declared[bool] = Declared(
        "resizeImages",
        "whether pictures of another size than inputShape (PNG, JPEG, Spark's image struct) are resized to it, "
        "bilinearly, smoothed, and stretched where their proportions differ; False: such a row cannot be used.",
        TypeConverters.toBoolean,
        default=False,
    )

    def getResizeImages(self) -> bool:
        """Gets the value of resizeImages or its default value."""
        return self.getOrDefault(self.resizeImages)


class HasNetwork(Params):
    """Mixin for the params of a member's network."""

    network: Declared[str] = Declared(
        "network",
        "a Keras classifier as JSON (model.to_json()) that maps an image to class probabilities; '': the built-in CNN.",
        TypeConverters.toString,
        default="",
        decides_job=False,
    )
    filters: Declared[list[int]] = Declared(
        "filters",
        "built-in CNN: filters of each convolution, each followed by 2x2 max-pooling and ReLU (each >= 1).",
        TypeConverters.toListInt,
        default=[16, 32],
        allowed=Range(
            "a list of at least one integer >= 1",
            lambda value: len(value) > 0 and all(number >= 1 for number in value),
        ),
        decides_job=False,
    )
    kernelSize: Declared[int] = Declared(
        "kernelSize",
        "built-in CNN: side of the convolution kernels, in pixels (>= 1).",
        TypeConverters.toInt,
        default=5,
        allowed=at_least(1),
        decides_job=False,
    )
    denseUnits: Declared[int] = Declared(
        "denseUnits",
        "built-in CNN: units of the dense layer before the last (>= 1).",
        TypeConverters.toInt,
        default=128,
        allowed=at_least(1),
        decides_job=False,
    )
    dropoutRate: Declared[float] = Declared(
        "dropoutRate",
        "built-in CNN: share of the dense layer's units that training drops, in [0, 1).",
        TypeConverters.toFloat,
        default=0.0,
        allowed=Range("in [0, 1)", lambda value: 0 <= value < 1),
        decides_job=False,
    )
    standardization: Declared[bool] = Declared(
        "standardization",
        "whether a member's first layer rescales each channel by the mean and standard deviation of the member's bag.",
        TypeConverters.toBoolean,
        default=True,
        decides_job=False,
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

    epochs: Declared[int] = Declared(
        "epochs",
        "passes of a member over its bag (>= 1).",
        TypeConverters.toInt,
        default=5,
        allowed=at_least(1),
        decides_job=False,
    )
    batchSize: Declared[int] = Declared(
        "batchSize",
        "rows per training step (>= 1).",
        TypeConverters.toInt,
        default=50,
        allowed=at_least(1),
        decides_job=False,
    )
    learningRate: Declared[float] = Declared(
        "learningRate",
        "learning rate of the first step (> 0).",
        TypeConverters.toFloat,
        default=0.002,
        allowed=POSITIVE,
        decides_job=False,
    )
    learningRateSchedule: Declared[str] = Declared(
        "learningRateSchedule",
        "how the learning rate changes: 'constant', or 'linear' or 'cosine', which fall towards 0 over all steps.",
        TypeConverters.toString,
        default="linear",
        allowed=one_of(("constant", "linear", "cosine")),
        decides_job=False,
    )
    optimizer: Declared[str] = Declared(
        "optimizer",
        f"name of a Keras optimizer: {', '.join(OPTIMIZERS)}.",
        TypeConverters.toString,
        default="adam",
        allowed=one_of(OPTIMIZERS),
        decides_job=False,
    )
    classWeighting: Declared[str] = Declared(
        "classWeighting",
        "weight of a row's loss by its class: 'none', or 'balanced', rows / (classes * rows of its class) in the "
        "member's bag, so that each class weighs the same; a row counts with its copies and its weight, and "
        "validation rows are balanced among themselves.",
        TypeConverters.toString,
        default="none",
        allowed=one_of(("none", "balanced")),
        decides_job=False,
    )
    randomShift: Declared[int] = Declared(
        "randomShift",
        "augmentation: each image is shifted by up to this many pixels in each direction, at random in each "
        "epoch; where pixels move in, those at the edge are repeated (>= 0).",
        TypeConverters.toInt,
        default=0,
        allowed=at_least(0),
        decides_job=False,
    )
    randomFlip: Declared[bool] = Declared(
        "randomFlip",
        "augmentation: whether images are mirrored left to right at random in each epoch.",
        TypeConverters.toBoolean,
        default=False,
        decides_job=False,
    )
    initialModel: Declared[str] = Declared(
        "initialModel",
        "path of weights to start from: a saved model or pipeline (member i starts from its member i modulo their "
        "number) or a Keras file, .keras or .weights.h5 (all members start from it); layers that fit by name and shape "
        "are taken, the others start at random. '': all start at random.",
        to_path,
        default="",
        decides_job=False,
    )
    earlyStoppingPatience: Declared[int] = Declared(
        "earlyStoppingPatience",
        "a member stops after this many epochs without a lower loss on the rows of validationIndicatorCol, and "
        "keeps the weights of its best epoch; 0: off (>= 0).",
        TypeConverters.toInt,
        default=0,
        allowed=at_least(0),
        decides_job=False,
    )
    precision: Declared[str] = Declared(
        "precision",
        "arithmetic of training: 'float32', or 'bfloat16' (mixed precision: faster where the CPU has it, but not for "
        "depthwise convolutions).",
        TypeConverters.toString,
        default="float32",
        allowed=one_of(("float32", "bfloat16")),
        decides_job=False,
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

    def getClassWeighting(self) -> str:
        """Gets the value of classWeighting or its default value."""
        return self.getOrDefault(self.classWeighting)

    def getRandomShift(self) -> int:
        """Gets the value of randomShift or its default value."""
        return self.getOrDefault(self.randomShift)

    def getRandomFlip(self) -> bool:
        """Gets the value of randomFlip or its default value."""
        return self.getOrDefault(self.randomFlip)

    def getInitialModel(self) -> str:
        """Gets the value of initialModel or its default value."""
        return self.getOrDefault(self.initialModel)

    def getEarlyStoppingPatience(self) -> int:
        """Gets the value of earlyStoppingPatience or its default value."""
        return self.getOrDefault(self.earlyStoppingPatience)

    def getPrecision(self) -> str:
        """Gets the value of precision or its default value."""
        return self.getOrDefault(self.precision)


class HasExecution(Params):
    """Mixin for the params of how a fit runs: what it estimates, keeps and shows."""

    oobSampleSize: Declared[int] = Declared(
        "oobSampleSize",
        "rows in the sample that estimates out-of-bag accuracy (fewer if they exceed 256 MiB); 0: off (>= 0).",
        TypeConverters.toInt,
        default=1000,
        allowed=at_least(0),
    )
    keepDisputedRows: Declared[bool] = Declared(
        "keepDisputedRows",
        "whether the summary, and with it a saved model, holds pictures of up to twelve rows of the out-of-bag sample, "
        "those that the members dispute most; they are training data.",
        TypeConverters.toBoolean,
        default=True,
        decides_job=False,
    )
    maxMemoryInMB: Declared[int] = Declared(
        "maxMemoryInMB",
        "memory for a bag's images, in MiB; a bag that exceeds it is kept on the local disk of its task (>= 1).",
        TypeConverters.toInt,
        default=1024,
        allowed=at_least(1),
    )
    checkpointDir: Declared[str] = Declared(
        "checkpointDir",
        "folder of finished members, on any filesystem that Hadoop knows; a repeated fit trains only the members "
        "that are missing. '': off.",
        to_path,
        default="",
    )
    minMembers: Declared[int] = Declared(
        "minMembers",
        "members that must train without diverging (>= 1, and <= numMembers); members that diverge are left out, and "
        "the summary's missingMembers gives the reason. Unset: a member that diverges fails the fit.",
        TypeConverters.toInt,
        allowed=at_least(1),
        decides_job=False,
    )
    verbose: Declared[int] = Declared(
        "verbose",
        "1: progress on the driver's stderr; 0: silence.",
        TypeConverters.toInt,
        default=1,
        allowed=one_of((0, 1)),
    )

    def getOobSampleSize(self) -> int:
        """Gets the value of oobSampleSize or its default value."""
        return self.getOrDefault(self.oobSampleSize)

    def getKeepDisputedRows(self) -> bool:
        """Gets the value of keepDisputedRows or its default value."""
        return self.getOrDefault(self.keepDisputedRows)

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
    """Mixin for the output columns about the votes: uncertaintyCol, memberPredictionsCol."""

    uncertaintyCol: Declared[str] = Declared(
        "uncertaintyCol",
        "output column: entropy of probability over log(numClasses), from 0 (all members agree) to 1; '': left out.",
        TypeConverters.toString,
        default="",
        decides_job=False,
    )
    memberPredictionsCol: Declared[str] = Declared(
        "memberPredictionsCol",
        "output column: each member's vote, array<int>; '': left out.",
        TypeConverters.toString,
        default="",
        decides_job=False,
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
    HasResizeImages,
    HasNetwork,
    HasOptimization,
    HasExecution,
    HasVoteCols,
):
    """Params that the estimator and the model share, including those that replace Spark's declarations."""

    predictionCol: Declared[str] = Declared(
        "predictionCol",
        "output column: the class that the members vote for, double; '': left out.",
        TypeConverters.toString,
        default="prediction",
        decides_job=False,
    )
    rawPredictionCol: Declared[str] = Declared(
        "rawPredictionCol",
        "output column: votes per class, or summed softmax where votingStrategy is 'soft', vector; '': left out.",
        TypeConverters.toString,
        default="rawPrediction",
        decides_job=False,
    )
    probabilityCol: Declared[str] = Declared(
        "probabilityCol",
        "output column: rawPrediction over the number of members, vector; '': left out.",
        TypeConverters.toString,
        default="probability",
        decides_job=False,
    )
    thresholds: Declared[list[float]] = Declared(
        "thresholds",
        "one number per class (>= 0, at most one of them 0); the class with the largest probability / threshold is "
        "predicted. Unset: the class that the members vote for.",
        TypeConverters.toListFloat,
        allowed=Range(
            "a list of finite numbers >= 0, at most one of them 0",
            lambda value: all(0 <= number < math.inf for number in value) and sum(number == 0 for number in value) <= 1,
        ),
        decides_job=False,
    )
    seed: Declared[int] = Declared(
        "seed",
        "seed of the draw, and of each member's initial weights, order of rows, dropout and augmentation (a 64-bit "
        "integer).",
        TypeConverters.toInt,
        default=17,
        allowed=Range("in [-2**63, 2**63)", lambda value: -(2**63) <= value < 2**63),
    )
    handleInvalid: Declared[str] = Declared(
        "handleInvalid",
        "what happens to an unusable row (null, NaN or infinite features, wrong length, bad label): "
        "'error', the job fails and says why; 'skip', the row is left out; 'keep' (scoring only; a fit treats it as "
        "'error'), its prediction is null.",
        TypeConverters.toString,
        default="error",
        allowed=one_of(("error", "skip", "keep")),
    )

    def __init__(self) -> None:
        super().__init__()
        declared = [param for param in self.params if isinstance(param, Declared) and param.default is not None]
        self._setDefault(**{param.name: param.default for param in declared})

    def __copy__(self: P) -> P:
        copied = object.__new__(type(self))
        maps = {name: dict(getattr(self, name)) for name in ("_paramMap", "_defaultParamMap")}
        vars(copied).update(vars(self), **maps)
        return copied

    def _set(self: P, **kwargs: Any) -> P:
        # Spark would store None as a value, which no range allows and no reader accepts; here None unsets.
        for name in [name for name, value in kwargs.items() if value is None]:
            self.clear(self.getParam(name))
            del kwargs[name]
        for name, value in kwargs.items():
            # Spark 3.5 fails here for want of names that numpy 2 has removed.
            if self.getParam(name).typeConverter is TypeConverters.toString and not isinstance(value, str):
                raise TypeError(f'Invalid param value given for param "{name}". Could not convert {value!r} to string.')
        return super()._set(**kwargs)


class HasDataShape(Params):
    """Mixin for params that describe the data to an estimator: numClasses, inputShape."""

    numClasses: Declared[int] = Declared(
        "numClasses",
        "number of classes (>= 2); unset: from the label column's metadata, else the largest label + 1, or the length "
        "of soft labels, which costs a pass over the label column.",
        TypeConverters.toInt,
        allowed=at_least(2),
    )
    inputShape: Declared[list[int]] = Declared(
        "inputShape",
        "[height, width, channels] of a row's image; unset: inferred from the first rows, as the most frequent size of "
        "pictures or arrays of arrays, else as a square with one channel.",
        TypeConverters.toListInt,
        allowed=Range(
            "[height, width, channels], three integers >= 1",
            lambda value: len(value) == 3 and all(number >= 1 for number in value),
        ),
    )

    def getNumClasses(self) -> int:
        """Gets the value of numClasses."""
        return self.getOrDefault(self.numClasses)

    def getInputShape(self) -> list[int]:
        """Gets the value of inputShape."""
        return self.getOrDefault(self.inputShape)


def check_thresholds(instance: Params, num_classes: int) -> None:
    """Check that `thresholds`, if set, has one value per class.

    Raises
    ------
    ValueError
        The number of values differs from the number of classes.
    """
    thresholds = value_or_none(instance, "thresholds")
    if thresholds is not None and len(thresholds) != num_classes:
        raise ValueError(
            f"The 'thresholds' parameter of {type(instance).__name__} must have a value for each of the "
            f"{num_classes} classes. Got {len(thresholds)} instead."
        )
