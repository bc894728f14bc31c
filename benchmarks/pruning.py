"""Pruning by out-of-bag votes.

Claim: The k members that are best alone, which `pruned` takes, vote as accurately as k members by a greedy choice.

Twenty members train on disjoint bags of 600 rows (5 epochs, shifts of up to 2 pixels). "Grown" is ten of them with ten
that start from these (`initialModel`) and train for 2 epochs on new rows. 1,000 rows choose k members: greedily (each
step adds the member with which the vote gets most rows right; Caruana et al., "Ensemble selection from libraries of
models", ICML 2004, without replacement), by each member's accuracy alone, and at random. The other held-out rows judge
the choices by hard vote, where a tie among t classes counts 1/t. "Splits": the rows that choose are held-out ones, in
ten random splits per fit; "out-of-bag": they are the out-of-bag sample, as in `pruned`. Three fits with other seeds.
The gain is that of the greedy choice over the k best alone, in percentage points: its mean, the standard deviation over
splits or fits, and in how many of them it is above 0 and below. By default the rows are MNIST's. With --pictures they
are also those of a folder or tar archive of ten class folders (bags of 1,000 rows, 8 epochs, flips).

The greedy choice gains nothing over the best alone: its gains are those of chance, or losses. In the splits, either
choice is half a point to one point better than members at random.

Needs: the library, and Pillow for --pictures.
Takes: 18 minutes with 40,000 pictures on a machine shared with other work, a third of that with MNIST alone.
"""

import argparse
import tempfile

import numpy as np
from _pictures import load_pictures
from _results import record, show, table
from _session import session

from spark_cnn_ensemble import CNNEnsembleClassifier
from spark_cnn_ensemble.datasets import load_mnist, to_dataframe
from spark_cnn_ensemble.votes import OutOfBag, credit

SIZES = (3, 5, 7)
SEEDS = (1, 2, 3)
SPLITS = 10
MEMBERS, PARENTS = 20, 10
CHOOSING = 1_000  # rows, as many as in the out-of-bag sample
COLUMNS = ("members", "chosen by", "k", "all", "k at random", "k best alone", "greedy", "gain", "above 0", "below 0")


def main(pictures=None):
    """Fit, choose, judge, record the table."""
    spark = session(driver_memory="3g")  # pictures are rows of the driver
    params = {"batchSize": 25, "randomShift": 2, "learningRate": 2e-3}
    found = measured(spark, "MNIST", mnist(), {**params, "epochs": 5}, 600)
    if pictures:
        images, labels, _ = load_pictures(pictures)
        parts = (images[10_000:40_000], labels[10_000:40_000]), (images[:10_000], labels[:10_000])
        found |= measured(spark, "pictures", parts, {**params, "epochs": 8, "randomFlip": True}, 1_000)
    gains = [gain for values in found.values() for gain in gains_of(values)]
    lines = [(*key, *cells_of(values)) for key, values in found.items()]
    record(__file__, __doc__, f"the greedy choice gains {np.mean(gains):+.2f} points", table(COLUMNS, lines))


def mnist():
    """((x_train, y_train), (x_test, y_test)), the training rows in a random order."""
    (images, labels), test = load_mnist()
    order = np.random.default_rng(0).permutation(len(images))
    return (images[order], labels[order]), test


def measured(spark, name, parts, params, bag):
    """{(members, chosen by, k): [accuracies of all, at random, best alone, greedy]}, a row per split or fit."""
    train, held_out = (to_dataframe(spark, *part) for part in parts)
    first, last = MEMBERS * bag, (MEMBERS + PARENTS) * bag
    old, new = train.where(f"id < {first}"), train.where(f"id >= {first} and id < {last}")
    shape = [*parts[0][0].shape[1:], 1][:3]
    found = {}
    for seed in SEEDS:
        shared = {**params, "seed": seed, "idCol": "id", "verbose": 0, "numClasses": 10, "inputShape": shape}
        model = CNNEnsembleClassifier(**shared, numMembers=MEMBERS, oobSampleSize=CHOOSING).fit(old)
        with tempfile.TemporaryDirectory() as folder:
            model.subset(range(PARENTS)).save(f"{folder}/parents")
            start = {"initialModel": f"{folder}/parents", "numMembers": PARENTS, "epochs": 2, "oobSampleSize": 0}
            both = model.merge(CNNEnsembleClassifier(**{**shared, **start}).fit(new))
        scored = both.setMemberPredictionsCol("votes").transform(held_out).select("label", "votes").toPandas()
        labels, votes = scored["label"].to_numpy(np.int64), np.stack(scored["votes"])
        alone, grown = votes[:, :MEMBERS], votes[:, [*range(PARENTS), *range(MEMBERS, MEMBERS + PARENTS)]]
        rng = np.random.default_rng(seed)
        sample = model.summary.outOfBag
        add(found, (name, "out-of-bag"), judged(sample, labels, alone, rng))
        for _ in range(SPLITS):
            chooses = np.zeros(len(labels), bool)
            chooses[rng.permutation(len(labels))[:CHOOSING]] = True
            for kind, matrix in ((name, alone), (f"{name}, grown", grown)):
                chosen = matrix[chooses]
                by = OutOfBag(labels[chooses], chosen, chosen[:, 0], 10)
                add(found, (kind, "splits"), judged(by, labels[~chooses], matrix[~chooses], rng))
        show((name, f"seed {seed}", *[(*key[1:], cells_of(values)[-3]) for key, values in found.items()]))
    return found


def judged(by, labels, votes, rng):
    """{k: accuracies of all members, of k at random, of the k best alone, of the greedy choice}."""
    order, greedy = by.selection(max(SIZES)), greedy_choice(by, max(SIZES))
    everyone, at_random = range(votes.shape[1]), rng.permutation(votes.shape[1])
    return {
        size: [accuracy(labels, votes[:, list(members)]) for members in (everyone, *choices)]
        for size in SIZES
        for choices in [(at_random[:size], order[:size], greedy[:size])]
    }


def greedy_choice(by, size):
    """Members in the order in which they improve the vote most; a tie goes to the one that is better alone."""
    one_hot = by.votes[:, :, None] == np.arange(by.numClasses)
    tally, chosen, left = np.zeros((len(by.labels), by.numClasses)), [], by.selection(by.votes.shape[1])
    while len(chosen) < size:
        scores = []
        for member in left:
            after = tally + one_hot[:, member]
            voted = after.sum(axis=1) > 0
            scores.append(credit(after[voted], by.labels[voted]).mean())
        chosen.append(left.pop(int(np.argmax(np.round(scores, 12)))))
        tally += one_hot[:, chosen[-1]]
    return chosen


def accuracy(labels, votes):
    """The share of rows that a hard vote gets right; a tie among t classes counts 1/t."""
    tally = (votes[:, :, None] == np.arange(10)).sum(axis=1)
    return credit(tally, labels).mean()


def add(found, key, accuracies):
    """Append the accuracies by size to those found."""
    for size, values in accuracies.items():
        found.setdefault((*key, size), []).append(values)


def gains_of(values):
    """Percentage points that the greedy choice is above the best alone, per split or fit."""
    return [100 * (greedy - best) for *_, best, greedy in values]


def cells_of(values):
    """Mean accuracies, and the gain of the greedy choice over the best alone."""
    gains = np.array(gains_of(values))
    gain = f"{gains.mean():+.2f} ± {gains.std(ddof=1):.2f}" if len(gains) > 1 else f"{gains[0]:+.2f}"
    return (*[f"{mean:.2%}" for mean in np.mean(values, axis=0)], gain, (gains > 0).sum(), (gains < 0).sum())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", help="folder or tar archive of ten class folders, at least 40,000 pictures")
    main(**vars(parser.parse_args()))
