"""Parts of a training step.

Claim: A training step of the default network takes at most 1.25 times as long as its operations called one by one, so
that a member can be trained faster only by faster operations of TensorFlow.

Each operation of a step is called alone, eagerly, on one thread, with tensors of the shapes that it has in the step:
default network, images of 28x28, batches of 50. The step is that of the bare loop of training_against_bare_loop.py,
which shifts nothing, and the product of two matrices of 2,048 x 2,048 is the limit of a core. Microseconds per image;
all in turn in one process, 5 runs after a warm-up, median (minimum to maximum). GFLOP/s count 2 for a multiplication
and an addition.

Needs: the library alone.
Takes: 5 minutes.
"""

import functools
import statistics

import numpy as np
from _processes import in_processes, start
from _results import record, table
from _timing import alternate, rate, ratios, spread
from training_against_bare_loop import BATCH, PRECISIONS, bare_loop, product

from spark_cnn_ensemble.worker.augmentation import augment
from spark_cnn_ensemble.worker.network import Architecture, build_network
from spark_cnn_ensemble.worker.optimizers import FusedAdam
from spark_cnn_ensemble.worker.runtime import load_tensorflow

SECONDS = 0.4  # per operation and run
KINDS = ("Conv2D", "MaxPooling2D", "ReLU", "Dense", "Dropout")
OUTSIDE, PARTS, STEP = "shift by 2 pixels, which is not in the step", "sum of the parts", "step"
PRODUCT = "product"


def operations(precision):
    """The operations of a step: name -> (callable, multiplications and additions per batch)."""
    tf = load_tensorflow(threads=1)
    network = build_network(Architecture((28, 28, 1), 10))

    def normal(shape):
        return tf.cast(tf.random.normal(shape), precision)

    found = {}
    for layer in network.layers:
        if type(layer).__name__ not in KINDS:
            continue
        x, y = (normal((BATCH, *tensor.shape[1:])) for tensor in (layer.input, layer.output))
        parts = {
            "Conv2D": convolution, "MaxPooling2D": pooling, "ReLU": relu, "Dense": dense, "Dropout": dropout,
        }[type(layer).__name__](tf, layer, x, y, normal)  # fmt: skip
        found.update({f"{layer.name}: {name}": part for name, part in parts.items()})
    first = next(name for name in found if name.endswith("gradient of inputs"))
    del found[first]  # nothing before the first convolution is trained
    pixels = tf.cast(tf.random.uniform((10 * BATCH, 28, 28, 1), maxval=256, dtype=tf.int32), tf.uint8)
    gradients = [tf.random.normal(variable.shape) for variable in network.trainable_variables]
    adam = FusedAdam([variable.value for variable in network.trainable_variables])
    labels, output = tf.zeros(BATCH, tf.int32), normal((BATCH, 10))
    half = tf.constant(0.5)
    standardize = tf.function(lambda: tf.cast((tf.cast(pixels[:BATCH], tf.float32) - half) * half, precision))
    loss = tf.function(
        lambda: tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits(features=tf.cast(output, tf.float32), labels=labels)
    )
    step, learning_rate = tf.constant(1), np.float32(1e-3)
    update = tf.function(lambda: adam(gradients, step, learning_rate))
    seed = tf.Variable([1, 2])  # a constant's random numbers would be computed once
    shift = tf.function(lambda: augment(pixels[:BATCH], seed.read_value(), 2, False))
    found |= {"batch: slice, cast, standardize": (standardize, 0), "loss and its gradient": (loss, 0)}
    return found | {"Adam": (update, 0), OUTSIDE: (shift, 0)}


def convolution(tf, layer, x, y, normal):
    """A convolution's operations."""
    shape, padding = layer.kernel.shape, layer.padding.upper()
    kernel, work = normal(shape), 2 * int(np.prod(y.shape)) * int(np.prod(shape[:3]))
    settings = {"strides": [1, 1, 1, 1], "padding": padding}
    raw = tf.raw_ops
    return {
        "forward": (lambda: raw.Conv2D(input=x, filter=kernel, **settings), work),
        "gradient of weights": (
            lambda: raw.Conv2DBackpropFilter(input=x, filter_sizes=list(shape), out_backprop=y, **settings),
            work,
        ),
        "gradient of inputs": (
            lambda: raw.Conv2DBackpropInput(input_sizes=list(x.shape), filter=kernel, out_backprop=y, **settings),
            work,
        ),
        **biases(tf, y),
    }


def biases(tf, y):
    """The operations of a layer's biases."""
    bias = y[0]
    while bias.shape.rank > 1:
        bias = bias[0]
    both = tf.function(lambda: (tf.raw_ops.BiasAdd(value=y, bias=bias), tf.raw_ops.BiasAddGrad(out_backprop=y)))
    return {"biases": (both, 0)}


def pooling(tf, _layer, x, y, _normal):
    """Max-pooling's operations."""
    settings = {"ksize": [1, 2, 2, 1], "strides": [1, 2, 2, 1], "padding": "SAME"}
    output = tf.raw_ops.MaxPool(input=x, **settings)
    return {
        "forward": (lambda: tf.raw_ops.MaxPool(input=x, **settings), 0),
        "gradient": (
            lambda: tf.raw_ops.MaxPoolGrad(orig_input=x, orig_output=output, grad=y, **settings),
            0,
        ),
    }


def relu(tf, _layer, x, y, _normal):
    """ReLU and its gradient."""
    both = tf.function(lambda: (tf.raw_ops.Relu(features=x), tf.raw_ops.ReluGrad(gradients=y, features=x)))
    return {"both": (both, 0)}


def dense(tf, layer, x, y, normal):
    """A dense layer's three products of matrices."""
    kernel = normal(layer.kernel.shape)
    products = tf.function(
        lambda: (tf.matmul(x, kernel), tf.matmul(x, y, transpose_a=True), tf.matmul(y, kernel, transpose_b=True))
    )
    return {"three products": (products, 6 * BATCH * int(np.prod(kernel.shape))), **biases(tf, y)}


def dropout(tf, layer, x, y, _normal):
    """Dropout and its gradient."""
    seed = tf.Variable([1, 2])

    def both():
        kept = tf.random.stateless_uniform(x.shape, seed.read_value()) >= layer.rate
        factor = tf.cast(kept, x.dtype)
        return x * factor, y * factor

    return {"both": (tf.function(both), 0)}


def measure(precision):
    """Microseconds per image of each operation and of the step, GFLOP/s of a product; and operations per image."""
    found = operations(precision)

    def micros(call):
        def once():
            call()
            return BATCH

        return 1e6 / rate(once, SECONDS)

    ways = {name: functools.partial(micros, call) for name, (call, _) in found.items()}
    ways[STEP] = lambda: 1e6 / bare_loop(precision, 4.0)
    ways[PRODUCT] = lambda: product(precision, 2.0) / 1e9
    return alternate(ways), {name: work / BATCH for name, (_, work) in found.items()}


def main():
    """Measure the operations, the step and the product, by precision."""
    cells, figures, limits = {}, [], []
    for precision in PRECISIONS:
        times, work = in_processes(1, measure, precision)[0]
        limits.append(f"{spread(times.pop(PRODUCT), '.0f')} in {precision}")
        alone = [values for name, values in times.items() if name not in (STEP, OUTSIDE)]
        times = {**times, PARTS: [sum(turn) for turn in zip(*alone, strict=True)], STEP: times.pop(STEP)}
        work[PARTS] = work[STEP] = sum(work.values())
        for name, values in times.items():
            speed = work[name] / statistics.median(values) / 1e3
            cells.setdefault(name, []).extend((spread(values, ".1f"), f"{speed:.0f}" if speed else ""))
        figures.append(f"{spread(ratios(times[STEP], times[PARTS]), '.2f')} ({precision})")
    columns = ("part", *(f"{precision}, {unit}" for precision in PRECISIONS for unit in ("µs per image", "GFLOP/s")))
    record(
        __file__,
        __doc__,
        f"step over its parts: {' and '.join(figures)}",
        table(columns, [(name, *each) for name, each in cells.items()]),
        f"Product of the two matrices, GFLOP/s: {' and '.join(limits)}.",
    )


if __name__ == "__main__":
    start(__doc__, main)
