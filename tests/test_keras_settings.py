"""What a user has set in Keras reaches no member, and no member's training changes it or the user's random numbers."""

import json

import pytest
from support.networks import network_json, valid_network
from support.processes import output_of, start_python

from spark_cnn_ensemble.worker.runtime import load_tensorflow

pytestmark = pytest.mark.slow

USES = """
import json, os, random, sys
import numpy as np

def uses():
    '''Each way to build, train and run networks in this process: text that is equal where the results are, bit for bit.'''
    from support.bags import SMALL, bag_of, examples, training_plan
    from spark_cnn_ensemble.ensemble import Ensemble
    from spark_cnn_ensemble.worker.network_check import check_network
    from spark_cnn_ensemble.worker.scoring import vote_once
    from spark_cnn_ensemble.worker.trainer import Trainer
    from spark_cnn_ensemble.worker.voting_plan import VotingPlan
    from spark_cnn_ensemble.worker.pixels import PixelFormat
    from spark_cnn_ensemble.worker.weights import digest, pack_weights
    import dataclasses, uuid
    x, y = np.random.default_rng(0).integers(0, 17, (120, 8, 8), np.uint8), np.tile(np.arange(10), 12)
    bag, cells = bag_of(examples(x[:100, :, :, None], y[:100])), x[100:120].reshape(-1, 64).astype(np.float32)
    found = []
    for precision, network in (("float32", ""), ("bfloat16", NETWORK)):
        architecture = dataclasses.replace(SMALL, network=network, dense_units=SMALL.dense_units + len(found))
        plan = training_plan(architecture, precision=precision, random_shift=1)
        check_network(architecture, precision)
        packed = pack_weights(Trainer(plan.program).train(bag, plan)[0])
        voting = VotingPlan(uuid.uuid4().hex, (architecture,), (0,), PixelFormat("features", "array", (8, 8, 1)))
        votes = [vote_once(cell, voting, lambda _: packed) for cell in cells]
        ensemble = Ensemble((architecture,), (0,), (packed,), ())
        images = cells.reshape(-1, 8, 8, 1)
        outputs = [ensemble.network(0)(images), *ensemble.to_keras(soft=True)(images).values()]
        found.append([digest(packed), repr(votes), *[np.asarray(o).tobytes().hex() + str(o.dtype) for o in outputs]])
    return json.dumps(found)

def settings():
    import keras
    import tensorflow as tf
    names = ("floatx", "epsilon", "image_data_format")
    return repr([*[getattr(keras.config, name)() for name in names], keras.config.dtype_policy().name,
                 tf.config.functions_run_eagerly(), random.getstate(), np.random.get_state()])

NETWORK = '''%s'''
"""


@pytest.fixture(scope="module")
def uses():
    """Code that defines `uses()` and `settings()`."""
    load_tensorflow()
    from keras import layers

    without_types = json.loads(
        network_json(
            layers.Conv2D(4, 3, activation="relu", name="conv"),
            layers.Flatten(name="flat"),
            layers.Dropout(0.2, name="drop"),
            layers.Dense(10, activation="softmax", name="dense"),
            shape=(8, 8, 1),
        )
    )
    for layer in without_types["config"]["layers"]:  # as Keras' documents have it: what is not said is the default
        for name in ("dtype", "data_format"):
            layer["config"].pop(name, None)
    return USES % json.dumps(without_types).replace("\\", "\\\\")


# What code of the user's may call before and between.
CALLS = {
    "a policy of bfloat16": "keras.mixed_precision.set_global_policy('mixed_bfloat16')",
    "float64": "keras.config.set_floatx('float64'); keras.config.set_dtype_policy('float64')",
    "float16, channels first and a large epsilon": (
        "keras.config.set_floatx('float16'); keras.config.set_dtype_policy('mixed_float16'); "
        "keras.config.set_image_data_format('channels_first'); keras.config.set_epsilon(1e-2)"
    ),
    "functions that run eagerly, and seeds": "tf.config.run_functions_eagerly(True); keras.utils.set_random_seed(3)",
}


@pytest.fixture(scope="module")
def after_calls(uses):
    """Per call: whether results are those without it, and whether settings are those that it made."""
    code = f"""{uses}
CALLS = {CALLS!r}
import spark_cnn_ensemble.worker.runtime as runtime
tf = runtime.load_tensorflow()
import keras
plain, before = uses(), settings()
print(json.dumps([uses() == plain, settings() == before]))
for call in CALLS.values():
    exec(call)
    made = settings()
    print(json.dumps([uses() == plain, settings() == made]))
    for name, value in runtime._SETTINGS.items():
        getattr(keras.config, "set_" + name)(value)
    keras.config.set_dtype_policy("float32")
    tf.config.run_functions_eagerly(False)
"""
    return dict(zip(["nothing", *CALLS], map(json.loads, output_of(start_python(code), timeout=600)), strict=True))


@pytest.mark.parametrize("case", ["nothing", *CALLS])
def test_calls_of_the_user_change_no_result_and_stay_in_force(after_calls, case):
    assert after_calls[case] == [True, True]


FILES = {
    "channels first, float16": {"image_data_format": "channels_first", "floatx": "float16", "epsilon": 1e-2},
    "float64, another backend": {"floatx": "float64", "backend": "numpy"},
}


@pytest.fixture(scope="module")
def plain(uses):
    return output_of(start_python(f"{uses}\nprint(uses())"))


@pytest.mark.parametrize("case", FILES)
def test_keras_json_changes_no_result_and_stays_in_force(uses, plain, case, tmp_path, monkeypatch):
    (tmp_path / "keras.json").write_text(json.dumps(FILES[case]))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    *results, floatx = output_of(start_python(f"{uses}\nprint(uses())\nimport keras\nprint(keras.config.floatx())"))
    assert results == plain
    assert floatx == FILES[case]["floatx"]


def test_a_backend_that_is_named_and_not_loaded_is_left_named(uses, plain, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "numpy")
    assert output_of(start_python(f"{uses}\nprint(uses())\nprint(os.environ['KERAS_BACKEND'])")) == [*plain, "numpy"]


THREADS = """
import threading
import spark_cnn_ensemble.worker.runtime as runtime
runtime.load_tensorflow()
import keras
keras.config.set_floatx("float16")
keras.config.set_image_data_format("channels_first")
inside, together = [], threading.Barrier(8)

def work():
    keras.config.set_dtype_policy("mixed_float16")
    for _ in range(50):
        together.wait()
        with runtime.keras_settings():
            inside.append((keras.config.floatx(), keras.config.image_data_format(), keras.config.dtype_policy().name))
        inside.append(keras.config.dtype_policy().name)

threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sorted(set(map(str, inside))))
print(keras.config.floatx(), keras.config.image_data_format())
"""


def test_threads_share_the_settings_and_the_last_one_restores_them():
    assert output_of(start_python(THREADS)) == [
        "[\"('float32', 'channels_last', 'float32')\", 'mixed_float16']",
        "float16 channels_first",
    ]


# ---- another backend in the same process

# Keras says that it runs on JAX, which need not be installed for that.
ON_JAX = """
import keras
from keras.src.backend import config
config._BACKEND = "jax"
assert keras.config.backend() == "jax"
"""


@pytest.fixture(scope="module")
def refusals_on_jax(spark, model, tmp_path_factory):
    """The refusals on a driver that has loaded Keras on another backend, by each way that needs TensorFlow."""
    path = tmp_path_factory.mktemp("saved") / "model"
    model.save(str(path))
    code = f"""{ON_JAX}
import sys
from pyspark.sql import SparkSession
from spark_cnn_ensemble import CNNEnsembleClassificationModel, CNNEnsembleClassifier
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
model = CNNEnsembleClassificationModel.load(sys.argv[1])
rows = spark.createDataFrame([([0.0] * 64, 0.0)] * 4, "features array<float>, label double")
images = spark.createDataFrame([([0.0] * 4, 0.0)] * 4, "features array<float>, label double")
custom = CNNEnsembleClassifier(network=sys.argv[2], inputShape=[2, 2, 1], numClasses=2, verbose=0)
for use in (lambda: model.predict([0.0] * 64), lambda: model.memberNetwork(0), model.toKeras, lambda: custom.fit(images)):
    try:
        use()
    except ValueError as error:
        print(error)
print(model.transform(rows).select("prediction").count(), keras.config.backend())
"""
    return output_of(start_python(code, path, valid_network()))


def test_another_backend_on_the_driver_is_refused_in_one_sentence(refusals_on_jax):
    sentence = (
        "Keras runs on the backend 'jax' in this process, but the members are networks of TensorFlow; set the "
        "environment variable KERAS_BACKEND=tensorflow before keras is imported, and start Python again."
    )
    assert refusals_on_jax[:-1] == [sentence] * 4


def test_workers_score_whatever_backend_the_driver_has(refusals_on_jax):
    assert refusals_on_jax[-1] == "4 jax"


# ---- a worker process that runs functions of the user's too

REUSED = """
import numpy as np, pandas as pd, random, sys
from pyspark.sql import SparkSession
from support.classifiers import small
from support.members import digests
from support.short_jobs import SHORT_JOBS
from spark_cnn_ensemble.datasets import to_dataframe

builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
builder.config("spark.sql.shuffle.partitions", "1").config(map=SHORT_JOBS)
spark = builder.config("spark.python.worker.reuse", sys.argv[1]).getOrCreate()
spark.sparkContext.setLogLevel("OFF")
images = np.random.default_rng(0).integers(0, 17, (300, 8, 8), np.uint8)
rows = to_dataframe(spark, images, np.arange(300) % 10).cache()

def in_worker(function):
    '''What a function of the user's returns in a worker process.'''
    def run(frames):
        for _ in frames:
            yield pd.DataFrame({"value": [str(function())]})
    return spark.range(0, 1, 1, 1).mapInPandas(run, "value string").collect()[0][0]

def results():
    model = small(numMembers=2).fit(rows)
    votes = model.transform(rows.coalesce(1)).select("probability").collect()
    return digests(model), [list(row[0]) for row in votes]
"""


OTHER_BACKEND = """
def other_backend():
    import keras
    from keras.src.backend import config
    config._BACKEND = "jax"
    return keras.config.backend()

print(in_worker(other_backend))
try:
    print(len(small(numMembers=2).fit(rows).members))
except ValueError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def in_one_worker():
    """What a worker prints that runs functions of the user's, trains and scores between them, and gets another backend."""
    code = f"""{REUSED}
def spoil():
    import os
    import keras
    keras.config.set_floatx("float16")
    keras.config.set_image_data_format("channels_first")
    keras.config.set_dtype_policy("mixed_float16")
    random.seed(5)
    return os.getpid()

def look():
    import os
    import keras
    import numpy as np
    return [keras.config.floatx(), keras.config.image_data_format(), keras.config.dtype_policy().name, os.getpid()]

def state():
    import hashlib, os
    import numpy as np
    names = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "TF_CPP_MIN_LOG_LEVEL", "KERAS_BACKEND")
    numbers = repr([np.random.get_state(), random.getstate()]).encode()
    return [os.environ.get(name) for name in names], hashlib.sha256(numbers).hexdigest(), os.getpid()

before = in_worker(state)
plain = results()
print(in_worker(state) == before)
pid = in_worker(spoil)
print(results() == plain)
print(in_worker(look) == str(["float16", "channels_first", "mixed_float16", int(pid)]))
{OTHER_BACKEND}"""
    return output_of(start_python(code, "true"))


@pytest.mark.spark
def test_a_worker_that_ran_functions_of_the_user_trains_and_scores_alike(in_one_worker):
    assert in_one_worker[:3] == ["True", "True", "True"]


@pytest.mark.spark
def test_a_worker_with_another_backend_is_refused(in_one_worker):
    assert in_one_worker[3:] == [
        "jax",
        "Keras runs on the backend 'jax' in this process, but the members are networks of TensorFlow; a function that this "
        "worker ran before has imported it so: set KERAS_BACKEND=tensorflow there, or spark.python.worker.reuse=false.",
    ]


@pytest.mark.spark
def test_the_remedy_for_a_worker_with_another_backend_works():
    assert output_of(start_python(f"{REUSED}{OTHER_BACKEND}", "false")) == ["jax", "2"]
