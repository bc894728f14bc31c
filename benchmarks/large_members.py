"""Large members.

Claim: An ensemble of 1.3 GB goes through `fit`, `save`, `load` and `transform` with a driver heap of 1 GB and Spark's
default maxResultSize, on a classic session and on a client of a Spark Connect server, and a worker that scores holds
each weight once.

100 members of the wide network (convolutions 5x5x32 and 5x5x64 with padding, 1,024 dense units) train for 1 epoch on
disjoint bags of 20 of MNIST's rows. Another process loads the model and scores 2,000 rows. Memory is the largest
resident memory of one process of each kind, sampled twice per second. The Connect server has default settings. One
run per kind of session.

Needs: 1.4 GB of disk in the temporary folder, for the model.
Takes: over 3 minutes per kind of session.
"""

import tempfile

from _mnist import TRAINING_ONLY, wide_network
from _processes import Peak, by_kind, run_apart, start, total
from _results import record, table
from _session import compute, session
from _timing import seconds_of, timed

from spark_cnn_ensemble import CNNEnsembleClassificationModel, CNNEnsembleClassifier
from spark_cnn_ensemble.datasets import load_mnist, to_dataframe

MEMBERS = 100
SESSIONS = {"classic": False, "Connect": True}


def fit_and_save(spark, path):
    """Seconds of both, and the bytes of the weights."""
    x, y = load_mnist()[0]
    classifier = CNNEnsembleClassifier(**TRAINING_ONLY, numMembers=MEMBERS, network=wide_network(), epochs=1)
    rows = to_dataframe(spark, x[: 20 * MEMBERS], y[: 20 * MEMBERS])
    seconds, model = timed(classifier.fit, rows)
    return [seconds, seconds_of(model.save, path)], sum(len(packed) for packed in model._ensemble.weights)


def load_and_transform(spark, path):
    """Seconds of both."""
    seconds, model = timed(CNNEnsembleClassificationModel.load, path)
    x, y = load_mnist()[0]
    rows = to_dataframe(spark, x[:2000], y[:2000]).repartition(4)
    return [seconds, seconds_of(lambda: compute(model.transform(rows)))], None


STEPS = {"fit and save": fit_and_save, "load and transform": load_and_transform}


def largest_of_each_kind():
    """The resident memory of the largest process of each kind, in MB."""
    return {kind: max((total({pid}, "VmRSS") for pid in pids), default=0) / 1e6 for kind, pids in by_kind().items()}


def one_step(step, kind, path):
    """What a step returns, and its peaks; runs in a process of its own."""
    spark = session(connect=SESSIONS[kind])
    with Peak(largest_of_each_kind) as peak:
        result = STEPS[step](spark, path)
    return *result, peak.most


def main():
    """Run both steps on both kinds of session, record the table."""
    rows, sizes = [], []
    for kind in SESSIONS:
        with tempfile.TemporaryDirectory() as folder:
            for step in STEPS:
                seconds, size, peaks = run_apart(__file__, step, kind, f"{folder}/model")
                sizes.append(size)
                times = ", ".join(f"{value:.0f}" for value in seconds)
                rows.append((kind, step, times, *(f"{peak:,.0f}" for peak in peaks.values())))
    weights = f"{sizes[0] / 1e9:.2f} GB"
    record(
        __file__,
        __doc__,
        f"{weights}; JVM {rows[1][4]} MB and worker {rows[1][5]} MB when scoring",
        table(("session", "step", "seconds", "driver's Python, MB", "JVM, MB", "Python worker, MB"), rows),
        f"The weights of all members: {weights}.",
    )


if __name__ == "__main__":
    start(__doc__, main, one_step)
