"""A network in JSON is built of Keras' own layers alone; anything else in it is refused and runs nothing."""

import json
import shutil

import pytest
from support.classifiers import small
from support.networks import PLACES, layer, network_holding, valid_network
from support.processes import output_of, start_python
from support.refusals import refused
from support.saved_models import edit_metadata, load_damaged, set_value

from spark_cnn_ensemble import CNNEnsembleClassifier
from spark_cnn_ensemble.worker.network import Architecture, count_weights
from spark_cnn_ensemble.worker.network_json import read_network_json
from spark_cnn_ensemble.worker.refusal import Refusal
from spark_cnn_ensemble.worker.runtime import load_tensorflow

NETWORK = ("ensemble", "architectures", 0)
CODE = ["4wA=", None, None]
HOSTILE = {
    "Lambda": layer("Lambda", {"function": {"class_name": "__lambda__", "config": {"value": CODE}}}),
    "Lambda without a module": {"class_name": "Lambda", "config": {"function": CODE}},
    "a bare lambda": {"class_name": "__lambda__", "config": {"value": CODE}},
    "a saved model of TensorFlow": layer("TFSMLayer", {"filepath": "/tmp/x"}),
    "a module of PyTorch": layer("TorchModuleWrapper", {"module": "x"}),
    "an unknown module": layer("system", module="os"),
    "a class of an unknown module": layer("Popen", {"args": ["true"]}, module="subprocess"),
    "module is not text": layer("Dense", module=["os"]),
    "a module that begins like Keras": layer("Dense", module="keras_evil.layers"),
    "a module next to Keras' layers": layer("Dense", module="keras..layers"),
    "a function that fetches files": layer("get_file", {"fname": "x"}, module="keras.utils"),
    "a class that fetches files": layer("GetFile", module="keras.utils"),
    "a function that allows code": layer("enable_unsafe_deserialization", module="keras.config"),
    "a function that loads models": layer("load_model", module="keras.models"),
    "a function that loads models, elsewhere": layer("load_model", module="keras.saving"),
    "a function of an inner module": layer("func_load", module="keras.src.utils.python_utils"),
    "a function": {"class_name": "function", "module": "builtins", "config": "eval", "registered_name": "eval"},
    "a registered object": layer("Twice", registered="mine>Twice"),
    "a registered object by its name": layer("mine>Twice", registered="mine>Twice"),
    "a registered object without a class": {"class_name": None, "config": {}, "registered_name": "mine>Twice"},
    "class is a list": {"class_name": ["Lambda"], "config": {}},
    "class is empty": layer(""),
    "a type of TensorFlow": {"class_name": "__typespec__", "spec_name": "system", "module": "os", "config": []},
    "words from a file": layer("StringLookup", {"vocabulary": "/etc/passwd"}),
    "more words from a file": layer("TextVectorization", {"vocabulary": "/etc/passwd"}),
    "numbers from a file": layer("IntegerLookup", {"vocabulary": "gs://bucket/x"}),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("case", HOSTILE)
def test_anything_but_keras_own_layers_is_refused(case, place):
    text = refused(read_network_json, network_holding(HOSTILE[case], place), kind=Refusal)
    assert "which is custom code" in text or "reads words from files" in text, text


@pytest.mark.parametrize("case", ["Lambda", "a function that loads models", "words from a file", "an unknown module"])
def test_load_refuses_a_model_with_a_hostile_network(copy, case):
    edit_metadata(copy, set_value(*NETWORK, "network", to=network_holding(HOSTILE[case], "a wrapper")))
    text = load_damaged(copy)
    assert "its metadata is damaged (The 'network' parameter holds " in text, text


def test_fit_of_a_loaded_estimator_refuses_a_hostile_network(spark, tmp_path):
    frame = spark.createDataFrame([([0.0] * 4, 0.0)], "features array<float>, label double")
    small(inputShape=[2, 2, 1], numClasses=2).save(str(tmp_path / "estimator"))
    network = network_holding(HOSTILE["Lambda"], "a layer")
    edit_metadata(tmp_path / "estimator", set_value("paramMap", "network", to=network))
    loaded = CNNEnsembleClassifier.load(str(tmp_path / "estimator"))
    assert "holds 'Lambda', which is custom code" in refused(loaded.fit, frame)


# ---- objects that the loading program has registered: Keras would find them before its own layers

REGISTERED = {
    "class and registered name": layer("Created", registered="hostile>Created"),
    "registered name as class": layer("hostile>Created", registered="hostile>Created"),
    "registered name as class alone": {"class_name": "hostile>Created", "config": {}},
    "registered name alone": {"class_name": None, "config": {}, "registered_name": "hostile>Created"},
}


@pytest.fixture(scope="module")
def created():
    """The configs from which the layer `hostile>Created` was made."""
    load_tensorflow()
    import keras

    configs = []

    @keras.saving.register_keras_serializable(package="hostile")
    class Created(keras.layers.Layer):
        @classmethod
        def from_config(cls, config):
            configs.append(config)
            return cls()

    return configs


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("case", REGISTERED)
def test_a_registered_object_is_refused_and_not_created(created, case, place):
    created.clear()
    network = network_holding(REGISTERED[case], place)
    refused(count_weights, Architecture((2, 2, 1), 2, network), kind=Refusal)
    assert not created


def test_keras_itself_would_create_a_registered_object(created):
    import keras

    created.clear()
    keras.models.model_from_json(network_holding(REGISTERED["registered name as class"], "a layer"))
    assert created


# ---- networks that are accepted


def test_keras_own_layers_are_accepted():
    load_tensorflow()
    import keras
    from keras import layers

    image = keras.Input((8, 8, 3))
    hidden = layers.Conv2D(4, 3, activation="gelu", kernel_regularizer=keras.regularizers.L2(1e-4))(image)
    hidden = keras.ops.relu(layers.BatchNormalization()(hidden)) + 1.0
    hidden = layers.Activation(keras.activations.swish)(layers.GroupNormalization(2)(hidden))
    hidden = layers.Dropout(0.1, seed=3)(layers.DepthwiseConv2D(3, dtype="mixed_bfloat16")(hidden))
    rows = layers.TimeDistributed(layers.Flatten())(layers.RandomFlip("horizontal")(hidden))
    hidden = layers.Bidirectional(layers.LSTM(3, kernel_constraint=keras.constraints.MaxNorm(2.0)))(rows)
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(5, kernel_initializer=keras.initializers.HeNormal())])
    network = keras.Model(image, layers.Dense(2, activation="softmax")(inner(hidden)))
    network.compile(keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 9)), keras.losses.Poisson())
    assert count_weights(Architecture((8, 8, 3), 2, network.to_json())) == network.count_params() + 6


def test_the_compile_config_is_not_read():
    load_tensorflow()
    network = json.loads(valid_network())
    inner = {**json.loads(valid_network()), "compile_config": HOSTILE["Lambda"]}
    network["config"]["layers"].insert(1, inner)
    network["compile_config"] = {"loss": HOSTILE["a function"]}
    assert "compile_config" not in json.dumps(read_network_json(json.dumps(network)))
    network["config"]["layers"].remove(inner)
    assert count_weights(Architecture((2, 2, 1), 2, json.dumps(network), standardization=False)) == 10


# ---- size


@pytest.fixture(scope="module")
def uses_of_huge_networks(saved, tmp_path_factory):
    """What a fresh process prints that uses two models whose network claims a billion units."""
    folder = tmp_path_factory.mktemp("huge")
    for name in ("by params", "as JSON"):
        shutil.copytree(saved, folder / name)
    edit_metadata(folder / "by params", set_value(*NETWORK, "dense_units", to=10**9))
    network = json.loads(valid_network())
    network["config"]["layers"][-1].pop("build_config")
    network["config"]["layers"].insert(-1, layer("Dense", {"units": 10**9, "name": "huge"}))
    edit_metadata(folder / "as JSON", set_value(*NETWORK, "network", to=json.dumps(network)))
    return output_of(
        start_python(
            """
            import sys
            from pyspark.sql import SparkSession
            from support.memory import peak_memory
            from spark_cnn_ensemble import CNNEnsembleClassificationModel, CNNEnsembleClassifier
            from spark_cnn_ensemble.worker.runtime import load_tensorflow
            spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
            rows = spark.createDataFrame([([0.0, 1.0, 2.0, 3.0], 0.0)], "features array<double>, label double")
            load_tensorflow()
            before = peak_memory()
            for path in sys.argv[1:]:
                model = CNNEnsembleClassificationModel.load(path)
                export = lambda: model.export("/nonexistent", "onnx")
                start = lambda: CNNEnsembleClassifier(initialModel=path, numClasses=2, inputShape=[2, 2, 1]).fit(rows)
                uses = (lambda: model.predict([0.0] * 4), lambda: model.memberNetwork(0), model.toKeras, start, export)
                for use in uses:
                    try:
                        use()
                    except ValueError as error:
                        print(str(error).removeprefix(f"initialModel '{path}' cannot be used: "))
            print(peak_memory() - before < 300 << 20)
            """,
            folder / "by params",
            folder / "as JSON",
        )
    )


def test_a_network_of_a_billion_units_is_refused_before_it_is_built(uses_of_huge_networks):
    do_not_fit = "The weights of member 0 do not fit its network; save the model again."
    *of_params, too_large = uses_of_huge_networks[:5]
    assert (
        too_large.startswith("A member's weights take ") and "GiB, and an ONNX graph holds less than 2 GiB" in too_large
    )
    assert [*of_params, *uses_of_huge_networks[5:]] == [do_not_fit] * 9 + ["True"]
