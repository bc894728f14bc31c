"""Estimators and models compared by what a user can see of them: uid, Params, stages, members and summary."""

from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.classification import OneVsRest, OneVsRestModel
from pyspark.ml.param import Params
from pyspark.ml.tuning import CrossValidator, CrossValidatorModel, TrainValidationSplit, TrainValidationSplitModel

from spark_cnn_ensemble import CNNEnsembleClassificationModel, CNNEnsembleClassifier
from support.members import digests

# The stages inside Spark's own estimators and models.
STAGES = {
    Pipeline: lambda instance: instance.getStages(),
    PipelineModel: lambda instance: instance.stages,
    OneVsRest: lambda instance: [instance.getClassifier()],
    OneVsRestModel: lambda instance: instance.models,
    CrossValidator: lambda instance: [instance.getEstimator()],
    CrossValidatorModel: lambda instance: [instance.bestModel],
    TrainValidationSplit: lambda instance: [instance.getEstimator()],
    TrainValidationSplitModel: lambda instance: [instance.bestModel],
}


def param_values(instance):
    """{param: (is set, has default, value)}, or {param: value} of Spark's own classes, whose readers set defaults."""
    if not isinstance(instance, CNNEnsembleClassifier | CNNEnsembleClassificationModel):
        return {
            param.name: comparable(instance.getOrDefault(param))
            for param in instance.params
            if instance.isDefined(param)
        }
    return {
        param.name: (
            instance.isSet(param),
            instance.hasDefault(param),
            comparable(instance.getOrDefault(param)) if instance.isDefined(param) else None,
        )
        for param in instance.params
    }


def comparable(value):
    """A Param's value in a form that `==` compares: stages and evaluators by type, uid and values."""
    if isinstance(value, Params):
        return type(value).__name__, value.uid, param_values(value)
    if isinstance(value, dict):
        return {(param.parent, param.name): comparable(item) for param, item in value.items()}
    if isinstance(value, list):
        return [comparable(item) for item in value]
    return value


def assert_same(saved, loaded):
    """Assert that two instances and their stages are the same in everything that is saved."""
    assert type(loaded) is type(saved)
    assert loaded.uid == saved.uid
    assert param_values(loaded) == param_values(saved)
    assert all(param.parent == loaded.uid for param in loaded.params)
    if isinstance(saved, CNNEnsembleClassificationModel):
        assert digests(loaded) == digests(saved)
        assert loaded.members == saved.members
        assert loaded.hasSummary is saved.hasSummary
        assert not saved.hasSummary or loaded.summary == saved.summary
    stages = STAGES.get(type(saved), lambda instance: [])
    assert len(stages(saved)) == len(stages(loaded))
    for ours, theirs in zip(stages(saved), stages(loaded), strict=True):
        assert_same(ours, theirs)


def round_trip(instance, path):
    """Save, load and compare; returns the loaded instance."""
    instance.save(str(path))
    loaded = type(instance).load(str(path))
    assert_same(instance, loaded)
    return loaded
