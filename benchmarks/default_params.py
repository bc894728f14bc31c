"""Default Params.

Claim: Of filters, kernelSize, denseUnits, dropoutRate, learningRate, learningRateSchedule, optimizer and batchSize, no
single change gives more accuracy in the same time on MNIST, on scikit-learn's digits and on colour photographs, by more
than chance.

The defaults are changed one at a time. Only training rows are used; each figure is the mean over 3 draws of rows to fit
and rows to score, and the draw's number is the seed. MNIST: 5 members on a tenth of 50,000 rows each, 10,000 rows to
score. Photographs of 10 classes, 32x32 pixels: 5 members on a tenth of 45,000 rows each, 5,000 rows to score. Digits:
10 members on half of 1,137 rows each, 20 epochs, batches of 25 rows where none are named, 300 rows to score. The
standard error of as many rows is 0.1 points on MNIST, 0.4 on the photographs and 0.4 on the digits. The network pads
images as small as the digits. Seconds are those of `fit` in a session that has trained before; a change of the network
or of the training step adds the time to trace it.

Needs: scikit-learn, for the digits; the photographs, a folder or tar archive of class folders, which are not part of
this project; 6 GB of heap for the driver.
Takes: 27 minutes.
"""

import argparse

import numpy as np
from _mnist import PARAMS
from _pictures import load_pictures
from _results import record, show, table
from _session import cached, session
from _timing import timed

from spark_cnn_ensemble import CNNEnsembleClassifier
from spark_cnn_ensemble.datasets import load_digits, load_mnist, to_dataframe

CHANGES = {
    "learningRate": (5e-4, 1e-3, 3e-3, 4e-3),
    "learningRateSchedule": ("constant", "cosine"),
    "batchSize": (25, 100),
    "optimizer": ("adamw", "rmsprop", "sgd"),
    "filters": ([8, 16], [32, 64], [16], [16, 32, 64]),
    "kernelSize": (3, 7),
    "denseUnits": (64, 256),
    "dropoutRate": (0.25, 0.5),
    "standardization": (False,),
    "randomShift": (1, 2),
}
COMMON = {**PARAMS, "oobSampleSize": 0, "minMembers": 1, "bagging": "subsample"}  # a member may diverge
TENTHS = {**COMMON, "numMembers": 5, "subsamplingRate": 0.1}
PHOTOGRAPHS = {**TENTHS, "inputShape": [32, 32, 3]}
DIGITS = {**COMMON, "inputShape": [8, 8, 1], "epochs": 20, "batchSize": 25, "subsamplingRate": 0.5}
DRAWS = 3


def draws_of(spark, arrays, held_out):
    """Rows to fit and rows to score, per draw."""
    x, y = arrays
    draws = []
    for seed in range(DRAWS):
        order = np.random.default_rng(seed).permutation(len(x))
        parts = order[held_out:], order[:held_out]
        draws.append([cached(to_dataframe(spark, x[part], y[part])) for part in parts])
    return draws


def mean(draws, params):
    """Mean seconds and accuracy over the draws."""
    found = []
    for seed, (train, test) in enumerate(draws):
        seconds, model = timed(CNNEnsembleClassifier(seed=seed, **params).fit, train)
        found.append((seconds, model.evaluate(test).accuracy))
    return np.mean(found, axis=0)


def main(photographs):
    """Fit each change on the three data sets, record the table."""
    spark = session(driver_memory="6g")
    sets = {
        "MNIST": (draws_of(spark, load_mnist()[0], 10_000), TENTHS),
        "photographs": (draws_of(spark, load_pictures(photographs)[:2], 5_000), PHOTOGRAPHS),
        "digits": (draws_of(spark, load_digits()[0], 300), DIGITS),
    }
    for draws, params in sets.values():
        mean(draws[:1], params)  # so that the session has trained before
    changes = [("none", {}), *((f"{name} {value}", {name: value}) for name in CHANGES for value in CHANGES[name])]
    rows = []
    for name, change in changes:
        cells = []
        for draws, params in sets.values():
            seconds, accuracy = mean(draws, {**params, **change})
            cells += [f"{seconds:.1f}", f"{accuracy:.2%}"]
        rows.append((name, *cells))
        show(rows[-1])
    _, *cells = rows[0]
    columns = [column for name in sets for column in (f"{name}, s", name)]
    record(
        __file__,
        __doc__,
        "defaults: MNIST {1} in {0} s, photographs {3} in {2} s, digits {5} in {4} s".format(*cells),
        table(("change", *columns), rows),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", help="folder or tar archive of class folders")
    main(**vars(parser.parse_args()))
