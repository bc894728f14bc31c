"""initialModel: which layers of a model members start with, and that they start with them bit for bit."""

import json
from dataclasses import replace

import numpy as np
import pytest
from pyspark.ml import PipelineModel
from pyspark.ml.feature import SQLTransformer
from support.bags import SMALL, UNSCALED, bag_of, close, examples, identical, training_plan
from support.classifiers import small
from support.members import weights_of
from support.networks import network_json
from support.refusals import refused

from spark_cnn_ensemble import CNNEnsembleClassificationModel
from spark_cnn_ensemble.fit_result import InitialLayers
from spark_cnn_ensemble.initial_model import FRESH, InitialModel
from spark_cnn_ensemble.keras_files import stored_layers
from spark_cnn_ensemble.worker.initial_weights import SharedInitialWeights
from spark_cnn_ensemble.worker.network import build_network
from spark_cnn_ensemble.worker.runtime import load_tensorflow
from spark_cnn_ensemble.worker.trainer import trainer_of

SHAPES = {"convolution_0": ((3, 3, 1, 4), (4,)), "dense": ((64, 16), (16,)), "probability": ((16, 10), (10,))}


@pytest.fixture(scope="module", autouse=True)
def tensorflow():
    return load_tensorflow()


@pytest.fixture(scope="module")
def some_digits(digits):
    (x, y), _ = digits
    return examples(x[:120, :, :, None], y[:120])


def stored(network, folder, name="network.weights.h5"):
    """The layers of a Keras network as its file has them."""
    path = folder / name
    network.save(path) if name.endswith(".keras") else network.save_weights(path)
    return stored_layers(path.read_bytes(), zipped=name.endswith(".keras"))


def started(*members, architecture=SMALL, num_members=3):
    return InitialModel("there", members).start(architecture, num_members)


def untrained(start, architecture, bag, **changes):
    """The weights of a member after a fit whose learning rate is 0."""
    plan = training_plan(architecture, learning_rate=0.0, epochs=1, initial_weights=start.digests, **changes)
    shared = SharedInitialWeights(tuple(start.packed), lambda index: list(start.packed.values())[index])
    return trainer_of(plan.program).train(bag, plan, None, shared.arrays(plan, bag.member))[0]


@pytest.fixture(scope="module")
def networks():
    """Two built-in networks of random weights, without standardization."""
    return [build_network(UNSCALED, seed) for seed in (1, 2)]


@pytest.mark.parametrize("name", ["network.weights.h5", "network.keras"])
def test_a_file_has_the_layers_of_its_network_in_their_order(networks, tmp_path, name):
    layers = stored(networks[0], tmp_path, name)
    assert [(layer.name, tuple(array.shape for array in layer.arrays)) for layer in layers] == list(SHAPES.items())
    assert identical([array for layer in layers for array in layer.arrays], networks[0].get_weights())


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [SMALL, UNSCALED], ids=["standardized", "raw"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_members_start_with_every_layer_that_fits(networks, tmp_path, some_digits, architecture, precision):
    start = started(stored(networks[0], tmp_path), architecture=architecture)
    [layers] = start.layers
    assert (layers.members, layers.taken, layers.fresh) == ((0, 1, 2), SHAPES, {})
    weights = untrained(start, architecture, bag_of(some_digits), precision=precision)
    assert identical(weights[-6:], networks[0].get_weights())


def test_images_that_need_a_factor_start_with_the_same_layers(networks, tmp_path, some_digits):
    start = started(stored(networks[0], tmp_path))
    huge = examples(some_digits.images * np.float32(1e25), some_digits.labels)
    weights = untrained(start, SMALL, bag_of(huge))
    assert len(weights) == 9 and identical(weights[3:], networks[0].get_weights())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "taken"),
    [
        ({"num_classes": 4}, ["convolution_0", "dense"]),
        ({"kernel_size": 2}, ["dense", "probability"]),
        ({"dense_units": 8}, ["convolution_0"]),
        ({"dropout_rate": 0.5}, ["convolution_0", "dense", "probability"]),
    ],
    ids=str,
)
def test_a_layer_of_another_shape_starts_at_random(networks, tmp_path, some_digits, change, taken):
    architecture = replace(SMALL, **change)
    start = started(stored(networks[0], tmp_path), architecture=architecture)
    [layers] = start.layers
    assert sorted(layers.taken) == taken and {*layers.taken, *layers.fresh} == set(SHAPES)
    bag = bag_of(examples(some_digits.images, some_digits.labels % 4))
    ours, fresh = (untrained(one, architecture, bag) for one in (start, FRESH))
    for index, (layer, given) in enumerate(zip(SHAPES, [2, 4, 6], strict=True)):
        source = networks[0].get_weights()[2 * index] if layer in taken else fresh[given]
        assert np.array_equal(ours[given], source), layer


def test_nothing_that_fits_is_refused_with_what_there_is(networks, tmp_path):
    other = replace(SMALL, filters=(5,), dense_units=7, num_classes=3)
    with pytest.raises(ValueError, match=r"has no layer that fits.*convolution_0 \(3x3x1x4 \+ 4\).*\(3x3x1x5 \+ 5\)"):
        started(stored(networks[0], tmp_path), architecture=other)


def test_weights_that_are_not_finite_are_refused(networks, tmp_path):
    layers = stored(networks[0], tmp_path)
    layers[0].arrays[1][2] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        started(layers)


@pytest.mark.parametrize("num_members", [1, 2, 5])
def test_member_i_starts_from_member_i_modulo_their_number(networks, tmp_path, some_digits, num_members):
    sources = [stored(network, tmp_path) for network in networks]
    start = started(*sources[: min(2, num_members)], num_members=num_members)
    member = num_members - 1
    weights = untrained(start, SMALL, bag_of(some_digits, member=member))
    assert identical(weights[2:], networks[member % 2].get_weights())
    assert [layers.members for layers in start.layers] == [tuple(range(num_members))]


def test_members_with_different_networks_are_reported_apart(networks, tmp_path):
    other = stored(build_network(replace(UNSCALED, dense_units=8)), tmp_path)
    start = started(stored(networks[0], tmp_path), other, num_members=4)
    assert [(layers.members, len(layers.taken)) for layers in start.layers] == [((0, 2), 3), ((1, 3), 1)]
    assert start.layers[1].text().startswith("members 1, 3 start with 1 of 3 layers (convolution_0); dense is new: it")


def network(names, frozen=()):
    """A network with batch normalization whose layers have these names."""
    from keras import layers

    names = iter(names)
    return network_json(
        layers.Conv2D(4, 3, name=next(names), trainable="convolution" not in frozen),
        layers.BatchNormalization(name=next(names), trainable="normalization" not in frozen),
        layers.Flatten(name=next(names)),
        layers.Dropout(0.2, name=next(names)),
        layers.Dense(10, activation="softmax", name=next(names)),
        shape=(8, 8, 1),
    )


OURS = ("conv2d", "normalization", "flatten", "dropout", "dense")


@pytest.mark.slow
@pytest.mark.parametrize(
    "names", [OURS, ("conv2d_4", "normalization_4", "flatten_4", "dropout_4", "dense_4")], ids=["same", "other numbers"]
)
def test_a_network_of_json_starts_from_a_file_whatever_keras_numbered(tmp_path, some_digits, names):
    source = build_network(replace(UNSCALED, network=network(names)), seed=3)
    start = started(stored(source, tmp_path, "network.keras"), architecture=replace(SMALL, network=network(OURS)))
    assert list(start.layers[0].taken) == ["conv2d", "normalization", "dense"]
    weights = untrained(start, replace(SMALL, network=network(OURS)), bag_of(some_digits))
    trained = [0, 1, 2, 3, 6, 7]  # all but the moving statistics, which a step changes at any learning rate
    assert identical([weights[2:][i] for i in trained], [source.get_weights()[i] for i in trained])


def test_layers_of_equal_shapes_are_not_shifted_by_keras_numbers(tmp_path):
    from keras import layers

    def chain(first):
        convolutions = [layers.Conv2D(2, 3, padding="same", name=f"conv2d_{first + index}") for index in range(3)]
        head = [layers.Flatten(name="flat"), layers.Dense(10, activation="softmax", name="dense")]
        return replace(UNSCALED, network=network_json(*convolutions, *head, shape=(8, 8, 2)), input_shape=(8, 8, 2))

    source = stored(build_network(chain(1), seed=1), tmp_path)
    start = InitialModel("there", (source,)).start(chain(2), 1)
    shared = SharedInitialWeights(start.digests, lambda index: start.packed[start.digests[index]])
    plan = training_plan(chain(2), initial_weights=start.digests)
    arrays = shared.arrays(plan, 0)
    assert np.array_equal(arrays[0], source[0].arrays[0])


# ------------------------------------------------------------------------------------------ frozen layers


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("initial", [True, False], ids=["initialModel", "fresh"])
def test_frozen_layers_stay_bit_for_bit(tmp_path, some_digits, precision, initial):
    frozen = replace(SMALL, network=network(OURS, frozen=("convolution", "normalization")))
    source = build_network(replace(frozen, standardization=False), seed=3)
    start = started(stored(source, tmp_path), architecture=frozen) if initial else FRESH
    plan = training_plan(frozen, precision=precision, initial_weights=start.digests)
    shared = SharedInitialWeights(start.digests, lambda index: start.packed[start.digests[index]])
    weights, _ = trainer_of(plan.program).train(bag_of(some_digits), plan, None, shared.arrays(plan, 0))
    expected = source if initial else build_network(frozen, plan.member_seed(0))
    before = {weight.path: weight.numpy() for weight in expected.weights}
    names = [weight.path for weight in build_network(frozen).weights]
    for path in ("conv2d/kernel", "conv2d/bias", "normalization/gamma", "normalization/moving_mean"):
        assert np.array_equal(weights[names.index(path)], before[path]), path
    assert not np.array_equal(weights[names.index("dense/kernel")], before["dense/kernel"])


# -------------------------------------------------------------------------------------------- fits on Spark


@pytest.fixture(scope="module")
def paths(model, tmp_path_factory):
    """Paths of a saved model with three members, and of Keras files of its member 1."""
    folder = tmp_path_factory.mktemp("initial")
    model.save(str(folder / "model"))
    model.memberNetwork(1).save(folder / "one.keras")
    model.memberNetwork(1).save_weights(folder / "one.weights.h5")
    return {name: str(folder / name) for name in ("model", "one.keras", "one.weights.h5")}


KEEP = {"learningRate": 1e-12, "numMembers": 4}  # weights stay what they are, but for 1e-8


@pytest.fixture(scope="module")
def fitted(paths, train):
    """Models that start from each path, trained in one job."""
    classifier = small(**KEEP)
    maps = [{classifier.initialModel: path} for path in paths.values()]
    return dict(zip(paths, classifier.fit(train, maps), strict=True))


@pytest.mark.parametrize(
    ("name", "sources"), [("model", [0, 1, 2, 0]), ("one.keras", [1] * 4), ("one.weights.h5", [1] * 4)]
)
def test_a_fit_starts_from_a_path(fitted, model, name, sources):
    for member, source in enumerate(sources):
        ours, theirs = (
            one.memberNetwork(index).get_weights() for one, index in ((fitted[name], member), (model, source))
        )
        assert close(ours[2:], theirs[2:], atol=1e-7)
    assert fitted[name].summary.initialLayers == (InitialLayers((0, 1, 2, 3), SHAPES, {}),)
    fact = ("layers from initialModel", "members 0-3 start with 3 of 3 layers (convolution_0, dense, probability)")
    assert fact in fitted[name].summary.facts()


def test_a_fit_by_itself_gives_the_same_members_and_a_log_line(fitted, paths, train, capfd):
    again = small(**KEEP, initialModel=paths["model"], verbose=1).fit(train.repartition(3))
    assert weights_of(again) == weights_of(fitted["model"])
    assert f"initialModel {paths['model']}: members 0-3 start with 3 of 3 layers (" in capfd.readouterr().err


def test_the_record_is_saved_with_the_model(fitted, tmp_path):
    fitted["model"].save(str(tmp_path / "model"))
    loaded = CNNEnsembleClassificationModel.load(str(tmp_path / "model"))
    assert loaded.summary.initialLayers == fitted["model"].summary.initialLayers
    assert loaded.getInitialModel() == fitted["model"].getInitialModel()


def test_a_saved_pipeline_gives_the_weights_of_its_ensemble(fitted, model, train, tmp_path):
    stages = [SQLTransformer(statement="SELECT * FROM __THIS__"), model]
    PipelineModel(stages).save(str(tmp_path / "pipeline"))
    assert weights_of(small(**KEEP, initialModel=tmp_path / "pipeline").fit(train)) == weights_of(fitted["model"])
    PipelineModel(stages[:1]).save(str(tmp_path / "none"))
    sentence = refused(small(initialModel=tmp_path / "none").fit, train)
    assert "has 0 CNNEnsembleClassificationModel among its stages instead of one; name the folder of" in sentence


def test_a_checkpoint_of_another_initial_model_is_not_resumed(paths, train, tmp_path):
    settings = {**KEEP, "numMembers": 1, "checkpointDir": str(tmp_path / "checkpoint")}
    first = small(**settings, initialModel=paths["one.keras"]).fit(train)
    same = small(**settings, initialModel=paths["one.weights.h5"]).fit(train)  # the same weights by another path
    assert same.summary.resumedMembers == (0,) and weights_of(same) == weights_of(first)
    for other in ("", paths["model"]):
        assert "holds members of another fit" in refused(small(**settings, initialModel=other).fit, train)


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("nothing", FileNotFoundError, "does not exist"),
        ("nothing.keras", FileNotFoundError, "does not exist"),
        ("text.keras", ValueError, "save it with model.save"),
        ("text.h5", ValueError, "save it with model.save"),
        ("folder.keras", OSError, "is a folder or a hidden file"),
        ("text.*", ValueError, "reads as a pattern"),
        ("text.txt", ValueError, "is not a saved CNNEnsembleClassificationModel"),
    ],
)
def test_a_path_that_holds_no_model_is_refused(train, tmp_path, name, kind, reason):
    for text in ("text.keras", "text.h5", "text.txt"):
        (tmp_path / text).write_text("no model")
    (tmp_path / "folder.keras").mkdir()
    sentence = refused(small(initialModel=tmp_path / name).fit, train, kind=kind)
    assert reason in sentence and f"initialModel '{tmp_path / name}'" in sentence


def test_the_param_is_plain_json(tmp_path):
    assert json.loads(json.dumps(small(initialModel=tmp_path).getInitialModel())) == str(tmp_path)
