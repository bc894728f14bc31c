"""Training inside members against the bare loop, and what the rest of `fit()` takes.

Claim: members train at least at 90 % of the rate of a bare `tf.function` loop over a tensor in memory (the next batch
cut off in the graph, without a shuffle; gradient; fused Adam) in a process a core, and everything else in `fit()` takes
at most 15 % of it. All of MNIST's 60,000 rows for each member, batches of 50, no shifts. The rates: fits of 4 members,
1 epoch, and the loop in turn, 5 times after a warm-up; images a second and core, median (minimum to maximum). The rest:
one fit of 10 members, 5 epochs, float32. And members of the wide network (see wide.py) do at least 75 % of the
arithmetic that a core does in the product of two matrices of 2,048 x 2,048, both cores at it: 4 members on 15,000 rows,
batches of 100, 82.0 million operations an image (2 for a multiplication and an addition; forward, and the gradients by
weights and inputs).
"""

import functools
import time
from multiprocessing import get_context

import numpy as np
from _results import alternate, ratio, record, session, spread
from wide import network as wide_network

from spark_cnn_ensemble import CNNEnsembleClassifier
from spark_cnn_ensemble.datasets import load_mnist, to_dataframe

CORES, BATCH = 2, 50


def bare_loop(seconds, precision="float32"):
    """Images a second that this process trains on, with nothing around the loop."""
    from spark_cnn_ensemble.worker.member import load_tensorflow

    tf = load_tensorflow(threads=1)
    import keras

    from spark_cnn_ensemble.worker.network import Architecture, build_network
    from spark_cnn_ensemble.worker.optimizers import FusedAdam, compute_in_bfloat16

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

    steps = tf.constant(100)
    train(tf.constant(0), steps)
    begun, done = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        train(tf.constant(done), steps)
        done += 100
    return done * BATCH / (time.perf_counter() - begun)


def product(seconds, precision):
    """Operations a second of this process in products of matrices."""
    from spark_cnn_ensemble.worker.member import load_tensorflow

    tf = load_tensorflow(threads=1)
    side = 2048
    one, other = (tf.cast(tf.random.normal((side, side)), precision) for _ in range(2))
    multiply = tf.function(lambda: tf.reduce_sum(tf.matmul(one, other)))
    multiply()
    begun, done = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        multiply().numpy()
        done += 1
    return done * 2 * side**3 / (time.perf_counter() - begun)


def operations():
    """Of the wide network for an image in training: forward, and twice that back, but for the image itself."""
    first, second = 28 * 28 * 25 * 1 * 32, 14 * 14 * 25 * 32 * 64
    dense, last = 7 * 7 * 64 * 1024, 1024 * 10
    return 2 * (2 * first + 3 * (second + dense + last))


def main():
    """Fit and loop in turn, then fit once for long."""
    spark = session()
    train = to_dataframe(spark, *load_mnist()[0]).cache()
    train.count()

    def classifier(members, epochs, precision):
        return CNNEnsembleClassifier(
            numMembers=members,
            bagging="subsample",
            epochs=epochs,
            batchSize=BATCH,
            precision=precision,
            numClasses=10,
            inputShape=[28, 28, 1],
            idCol="id",
            oobSampleSize=0,
            verbose=0,
        )

    def rate(trained):
        return sum(member.examples for member in trained) / sum(member.seconds for member in trained)

    def members(precision):
        return rate(classifier(4, 1, precision).fit(train).members)

    network = wide_network()

    def wide(precision):
        fitted = classifier(4, 1, precision).setParams(network=network, bagging="disjoint", batchSize=100).fit(train)
        return rate(fitted.members) * operations() / 1e9

    def peak(precision):
        with get_context("spawn").Pool(CORES) as pool:
            return sum(pool.starmap(product, [(4.0, precision)] * CORES)) / CORES / 1e9

    def loop(precision):
        with get_context("spawn").Pool(CORES) as pool:
            return sum(pool.starmap(bare_loop, [(8.0, precision)] * CORES)) / CORES

    lines = ["| precision | bare loop | in members | members over loop |", "|---|---|---|---|"]
    for precision in ("float32", "bfloat16"):
        ways = {"loop": loop, "members": members}
        found = alternate({name: functools.partial(way, precision) for name, way in ways.items()})
        lines.append(
            f"| {precision} | {spread(found['loop'], ',.0f')} | {spread(found['members'], ',.0f')} | "
            f"{ratio(found['members'], found['loop'])} |"
        )
    lines += ["", "| wide network | product of matrices, GFLOP/s | in members, GFLOP/s | share |", "|---|---|---|---|"]
    for precision in ("float32", "bfloat16"):
        ways = {"product": peak, "members": wide}
        found = alternate({name: functools.partial(way, precision) for name, way in ways.items()})
        lines.append(
            f"| {precision} | {spread(found['product'], '.0f')} | {spread(found['members'], '.0f')} | "
            f"{ratio(found['members'], found['product'])} |"
        )
    summary = classifier(10, 5, "float32").fit(train).summary
    inside = sum(member.seconds for member in summary.members) / CORES
    lines.append(
        f"\n5 epochs: fit {summary.seconds:.1f} s, of which members trained {inside:.1f} s on each core; the rest is "
        f"{1 - inside / summary.seconds:.1%}."
    )
    record("Near the limit", __doc__.split("\n\n", 1)[1].strip(), "\n".join(lines))


if __name__ == "__main__":
    main()
