"""Starting from trained weights.

Claim: with 200 rows to train on, members that start from a model of MNIST vote more accurately on scikit-learn's digits
than members that start at random; when a tenth of new rows arrives, a fit that starts from the last model reaches the
accuracy of a whole fit in at most half of its time.

Digits: four members of 20,000 rows of MNIST, then 200 rows of the digits, resized to 28x28, as bootstrap bags of 10
epochs; accuracy of the vote on the 360 test rows, for three draws of the 200 rows. New rows: 60,000 rows of MNIST, of
which the last model knew 54,000; a whole fit has 5 epochs, the other 1; accuracy on MNIST's 10,000 test rows.
With --photographs, a folder or tar archive of ten class folders, also five classes to the other five: from four members
of 15,000 rows, bootstrap bags, to 1,000 rows of the other classes.

Needs: the library, and Pillow for --photographs.
Takes: five minutes; with photographs, ten.
"""

import argparse
import tempfile
import time

import numpy as np
from _mnist import PARAMS
from _pictures import load_pictures
from _results import record, show, table
from _session import session
from PIL import Image

from spark_cnn_ensemble import CNNEnsembleClassifier
from spark_cnn_ensemble.datasets import load_digits, load_mnist, to_dataframe

FEW = {"bagging": "bootstrap", "numMembers": 4, "batchSize": 20, "epochs": 10, "oobSampleSize": 0}
BASE = {"numMembers": 4, "oobSampleSize": 0}


def fit(params, rows):
    """The model, and the seconds of the fit."""
    started = time.perf_counter()
    model = CNNEnsembleClassifier(**params).fit(rows)
    return model, time.perf_counter() - started


def against_fresh(spark, params, path, rows, test):
    """Accuracy of members that start at random, and from the model at `path`: one pair per draw of the rows."""
    pairs = []
    for draw, (images, labels) in enumerate(rows):
        train = to_dataframe(spark, images, labels)
        pair = [fit({**params, "initialModel": start}, train)[0].evaluate(test).accuracy for start in ("", path)]
        pairs.append(pair)
        show((f"draw {draw}", *(f"{accuracy:.2%}" for accuracy in pair)))
    return np.array(pairs)


def draws(images, labels, count, times=3):
    """`count` rows, drawn `times` times."""
    for seed in range(times):
        chosen = np.random.default_rng(seed).permutation(len(images))[:count]
        yield images[chosen], labels[chosen]


def resized(images):
    """The digits, of 0 to 16, as pictures of MNIST's size."""
    pictures = [Image.fromarray(image.astype(np.uint8)).resize((28, 28), Image.BILINEAR) for image in images]
    return np.stack([np.asarray(picture) for picture in pictures])


def digits(spark, folder):
    """MNIST to the digits."""
    (images, labels), _ = load_mnist()
    fit({**PARAMS, **BASE}, to_dataframe(spark, images[:20000], labels[:20000]))[0].save(f"{folder}/mnist")
    (few, few_labels), (tests, test_labels) = load_digits()
    test = to_dataframe(spark, resized(tests), test_labels).cache()
    return against_fresh(spark, {**PARAMS, **FEW}, f"{folder}/mnist", draws(resized(few), few_labels, 200), test)


def new_rows(spark, folder):
    """Accuracy and seconds of a whole fit, and of one that starts from the model of nine tenths of the rows."""
    (images, labels), tests = load_mnist()
    test = to_dataframe(spark, *tests).cache()
    everything = to_dataframe(spark, images, labels).cache()
    fit({**PARAMS, **BASE}, to_dataframe(spark, images[:54000], labels[:54000]))[0].save(f"{folder}/last")
    everything.count()
    measured = {}
    for name, params in (("whole fit", {}), ("from the last model", {"initialModel": f"{folder}/last", "epochs": 1})):
        model, seconds = fit({**PARAMS, **BASE, **params}, everything)
        measured[name] = (model.evaluate(test).accuracy, seconds)
        show((name, f"{measured[name][0]:.2%}", f"{seconds:.1f} s"))
    return measured


def photographs(spark, folder, pictures):
    """Five classes of the photographs to the other five."""
    images, labels, names = load_pictures(pictures)
    by_class = [images[labels == index] for index in range(len(names))]

    def rows(chosen, begin, end):
        parts = [by_class[index][begin:end] for index in chosen]
        return np.concatenate(parts), np.repeat(np.arange(len(parts)), [len(part) for part in parts])

    params = {"numClasses": 5, "inputShape": list(images.shape[1:]), "verbose": 0}
    base = {**params, **BASE, "bagging": "bootstrap"}
    fit(base, to_dataframe(spark, *rows(range(5), 0, 3000)))[0].save(f"{folder}/photographs")
    test = to_dataframe(spark, *rows(range(5, 10), 3000, 3400)).cache()
    few = draws(*rows(range(5, 10), 0, 3000), 1000)
    return against_fresh(spark, {**params, **FEW}, f"{folder}/photographs", few, test)


def main():
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", metavar="PATH", help="folder or tar archive of ten class folders")
    pictures = parser.parse_args().photographs
    spark = session()
    with tempfile.TemporaryDirectory() as folder:
        few = {"digits, 200 rows": digits(spark, folder)}
        arrival = new_rows(spark, folder)
        if pictures:
            few["photographs, 1,000 rows"] = photographs(spark, folder, pictures)
    rows = [
        (name, *(f"{mean:.2%} ({low:.2%} to {high:.2%})" for mean, low, high in zip(*spread, strict=True)))
        for name, pairs in few.items()
        for spread in [(pairs.mean(axis=0), pairs.min(axis=0), pairs.max(axis=0))]
    ]
    fresh, started = few["digits, 200 rows"].mean(axis=0)
    whole, last = arrival["whole fit"], arrival["from the last model"]
    record(
        __file__,
        __doc__,
        f"digits {started:.2%} against {fresh:.2%}; new rows: {last[0]:.2%} in {last[1]:.0f} s against {whole[0]:.2%} "
        f"in {whole[1]:.0f} s",
        table(("rows", "start at random", "start from the model"), rows),
        table(("60,000 rows", "accuracy", "seconds"), [(k, f"{a:.2%}", f"{s:.1f}") for k, (a, s) in arrival.items()]),
    )


if __name__ == "__main__":
    main()
