"""Training against a bare loop.

Claim: by the medians, members train at 80 % or more of the rate of a bare `tf.function` loop, and on a wide network in
float32 they do 65 % or more of the arithmetic of a product of matrices; everything else in `fit` takes at most 15 % of
it.

The bare loop runs in one process per core over a tensor in memory: it slices the next batch in the graph, without a
shuffle, computes the gradient and applies fused Adam. Each member trains on all of MNIST's 60,000 rows in batches of
50, without shifts. The rates come from fits of 4 members, 1 epoch, and from the loop, in turn, 5 runs after a warm-up;
images per second and core, median (minimum to maximum). The rest of `fit` comes from one fit of 10 members, 5 epochs,
float32.

The wide network is that of large_members.py. It needs 82.0 million operations per image: 2 for a multiplication and an
addition; forward, and the gradients by weights and inputs. The 4 members train on 15,000 rows each, in batches of 100.
The limit is the product of two matrices of 2,048 x 2,048, with both cores at it.

Needs: the library alone.
Takes: 21 minutes.
"""

import functools
import itertools
import statistics

import numpy as np
from _mnist import TRAINING_ONLY, wide_network
from _processes import CORES, in_processes, start
from _results import record, table
from _session import cached, session
from _timing import alternate, rate, ratios, spread

from spark_cnn_ensemble import CNNEnsembleClassifier
from spark_cnn_ensemble.datasets import load_mnist, to_dataframe
from spark_cnn_ensemble.worker.network import Architecture, build_network, compute_in_bfloat16
from spark_cnn_ensemble.worker.optimizers import FusedAdam
from spark_cnn_ensemble.worker.runtime import load_tensorflow

BATCH, STEPS = 50, 100  # rows per step, steps per call
PRECISIONS = ("float32", "bfloat16")


def compiled_loop(precision):
    """A callable that trains on some more steps, with nothing around the loop; it returns the number of images."""
    tf = load_tensorflow(threads=1)
    import keras

    x, y = load_mnist()[0]
    network = build_network(Architecture((28, 28, 1), 10))
    network.get_layer("standardization").set_weights([np.float32([x.mean()]), np.float32([x.var()])])
    if precision == "bfloat16":
        compute_in_bfloat16(network)
    images, labels = tf.constant(x[..., None]), tf.constant(y, tf.int32)
    variables = [variable.value for variable in network.trainable_variables]
    adam = FusedAdam(variables)

    @tf.function
    def train(first, steps):
        for step in tf.range(first, first + steps):
            begin = step * BATCH % len(x)
            span = slice(begin, begin + BATCH)
            with tf.GradientTape() as tape:
                output = network(tf.cast(images[span], tf.float32), training=True)
                loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels[span], output))
            adam(tape.gradient(loss, variables), step, np.float32(1e-3))

    steps, firsts = tf.constant(STEPS), itertools.count(0, STEPS)
    train(tf.constant(0), steps)

    def some_steps():
        train(tf.constant(next(firsts)), steps)
        return STEPS * BATCH

    return some_steps


def bare_loop(precision, seconds):
    """Images per second that this process trains on, with nothing around the loop."""
    return rate(compiled_loop(precision), seconds)


def product(precision, seconds):
    """Operations per second of this process in products of matrices."""
    tf = load_tensorflow(threads=1)
    side = 2048
    one, other = (tf.cast(tf.random.normal((side, side)), precision) for _ in range(2))
    multiply = tf.function(lambda: tf.reduce_sum(tf.matmul(one, other)))
    multiply()

    def one_product():
        multiply().numpy()
        return 2 * side**3

    return rate(one_product, seconds)


def operations():
    """Operations per image that training the wide network needs: forward, and twice that back, except for the image."""
    first, second = 28 * 28 * 25 * 1 * 32, 14 * 14 * 25 * 32 * 64
    dense, last = 7 * 7 * 64 * 1024, 1024 * 10
    return 2 * (2 * first + 3 * (second + dense + last))


def rate_in_members(model):
    """Images per second and core."""
    return sum(member.examples for member in model.members) / sum(member.seconds for member in model.members)


def compare(limit, members, form):
    """Rows of the table, and the medians of members over limit, by precision; both measured in turn."""
    rows, medians = [], []
    for precision in PRECISIONS:
        found = alternate(
            {"limit": functools.partial(limit, precision), "members": functools.partial(members, precision)}
        )
        shares = ratios(found["members"], found["limit"])
        rows.append((precision, spread(found["limit"], form), spread(found["members"], form), spread(shares, ".2f")))
        medians.append(f"{statistics.median(shares):.2f} ({precision})")
    return rows, " and ".join(medians)


def main():
    """Compare with the loop and with the product, then fit once for longer."""
    spark = session()
    train = cached(to_dataframe(spark, *load_mnist()[0]))

    def fit(**changes):
        params = {**TRAINING_ONLY, "bagging": "subsample", "batchSize": BATCH, **changes}
        return CNNEnsembleClassifier(**params).fit(train)

    def loop(precision):
        return statistics.mean(in_processes(CORES, bare_loop, precision, 8.0))

    def members(precision):
        return rate_in_members(fit(numMembers=4, epochs=1, precision=precision))

    def products(precision):
        return statistics.mean(in_processes(CORES, product, precision, 4.0)) / 1e9

    network = wide_network()

    def wide_members(precision):
        wide = {"network": network, "bagging": "disjoint", "batchSize": 100}
        return rate_in_members(fit(numMembers=4, epochs=1, precision=precision, **wide)) * operations() / 1e9

    loops, of_loop = compare(loop, members, ",.0f")
    wide, of_product = compare(products, wide_members, ".0f")
    summary = fit(numMembers=10, epochs=5).summary
    inside = sum(member.seconds for member in summary.members) / CORES
    rest = f"{1 - inside / summary.seconds:.1%}"
    record(
        __file__,
        __doc__,
        f"of the loop {of_loop}; of the product {of_product}; rest of `fit` {rest}",
        table(("precision", "bare loop", "in members", "members over loop"), loops),
        table(("wide network", "product of matrices, GFLOP/s", "in members, GFLOP/s", "members over product"), wide),
        f"5 epochs: `fit` took {summary.seconds:.1f} s, in which members trained for {inside:.1f} s on each core; the "
        f"rest is {rest}.",
    )


if __name__ == "__main__":
    start(__doc__, main)
