"""Every optimizer trains, the fused Adam as Keras' own, and in bfloat16 too."""

from dataclasses import replace

import numpy as np
import pytest
from support.bags import SMALL, bag_of, close, identical, pick, training_plan
from support.networks import network_json

from spark_cnn_ensemble.params import OPTIMIZERS
from spark_cnn_ensemble.worker.network import build_network
from spark_cnn_ensemble.worker.optimizers import FusedAdam, KerasOptimizer
from spark_cnn_ensemble.worker.trainer import Trainer

pytestmark = pytest.mark.usefixtures("tensorflow")


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_optimizer_trains_and_forgets_the_member_before(some_digits, optimizer):
    plan = training_plan(optimizer=optimizer, epochs=3, learning_rate=1e-2)
    trainer = Trainer(plan.program)
    weights, history = trainer.train(bag_of(some_digits), plan)
    assert np.isfinite(history["loss"]).all()
    assert history["loss"][-1] < history["loss"][0]
    trainer.train(bag_of(pick(some_digits, np.arange(50)), member=1), plan)
    again, _ = trainer.train(bag_of(some_digits), plan)
    assert identical(again, weights)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_constraints_of_a_network_hold(some_digits, optimizer):
    from keras import layers

    network = network_json(
        layers.Flatten(), layers.Dense(10, activation="softmax", kernel_constraint="non_neg"), shape=(8, 8, 1)
    )
    plan = training_plan(replace(SMALL, network=network), optimizer=optimizer, epochs=2, learning_rate=1e-2)
    (*_, kernel, bias), _ = Trainer(plan.program).train(bag_of(some_digits), plan)
    assert kernel.min() == 0 < kernel.max()
    assert bias.min() < 0


def test_a_step_of_the_fused_adam_is_that_of_keras():
    import keras
    import tensorflow as tf

    rng = np.random.default_rng(0)
    shapes = [(3, 4), (4,), (2,)]
    start = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    ours, theirs = ([keras.Variable(array) for array in start] for _ in range(2))
    fused, keras_own = FusedAdam([variable.value for variable in ours]), KerasOptimizer(theirs, "adam")
    for step in range(20):
        gradients = [tf.constant(rng.normal(size=shape).astype(np.float32)) for shape in shapes[:2]]
        for optimizer in (fused, keras_own):
            optimizer([*gradients, None], tf.constant(step), tf.constant(0.1 / (step + 1)))
    assert close([variable.numpy() for variable in ours], [variable.numpy() for variable in theirs], atol=1e-6)
    assert np.array_equal(ours[2].numpy(), start[2]), "a variable without a gradient stays"


@pytest.fixture(scope="module")
def adam():
    """A trainer of twelve steps of Adam over all rows."""
    plan = training_plan(epochs=12, batch_size=120, learning_rate=2e-3)
    return Trainer(plan.program), plan


@pytest.mark.slow
@pytest.mark.parametrize("member", [0, 1])
def test_a_member_trains_as_by_the_adam_of_keras(some_digits, adam, member):
    import keras
    import tensorflow as tf

    trainer, plan = adam
    bag = bag_of(some_digits, member=member)
    initial, _ = trainer.train(bag, replace(plan, learning_rate=0.0))
    weights, history = trainer.train(bag, plan)
    network = build_network(SMALL)
    network.set_weights(initial)
    images, losses = tf.constant(some_digits.images, tf.float32), []
    optimizer = keras.optimizers.Adam()
    for step in range(plan.epochs):
        with tf.GradientTape() as tape:
            output = network(images, training=True)
            loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(some_digits.labels, output))
        optimizer.learning_rate = plan.learning_rate * (1 - step / plan.epochs)
        gradients = tape.gradient(loss, network.trainable_variables)
        optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))
        losses.append(float(loss))
    assert np.allclose(history["loss"], losses, rtol=1e-4)
    assert close(weights, network.get_weights(), atol=1e-4)


@pytest.mark.slow
def test_bfloat16_trains_float32_weights(some_digits):
    plan = training_plan(precision="bfloat16", epochs=20, learning_rate=1e-2)
    weights, history = Trainer(plan.program).train(bag_of(some_digits), plan)
    assert {array.dtype for array in weights} == {np.dtype(np.float32)}
    assert history["accuracy"][-1] > 0.8
    full = replace(plan, precision="float32")
    assert not identical(weights, Trainer(full.program).train(bag_of(some_digits), full)[0])
