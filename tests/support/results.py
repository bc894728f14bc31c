"""Summaries, out-of-bag votes and evaluations made by hand."""

import base64
import io

import numpy as np
from PIL import Image

from spark_cnn_ensemble.evaluation import CNNEnsembleEvaluation
from spark_cnn_ensemble.fit_result import MemberSummary
from spark_cnn_ensemble.summary import CNNEnsembleTrainingSummary
from spark_cnn_ensemble.votes import DisputedRow, OutOfBag

HOSTILE = ['<script>alert("x")</script>', "Ünïcødé 犬", "$x_$ & 'y'", "a name that is far too long for a tick"]


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def cast(members, classes, rows, share=0.4, seed=0):
    """Labels, and each member's votes on every row, of which about `share` of those on every third row are wrong."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    wrong = (rng.random((rows, members)) < share) & (np.arange(rows) % 3 == 0)[:, None]
    return labels, np.where(wrong, (labels[:, None] + 1) % classes, labels[:, None])


def elected(votes, classes):
    """Votes per class, and the class with the most."""
    counts = (votes[:, :, None] == np.arange(classes)).sum(axis=1)
    return counts, np.where(counts.sum(axis=1) > 0, counts.argmax(axis=1), -1)


def disputed(labels, counts, number):
    size = len(counts[0])
    return tuple(
        DisputedRow(0.9, int(labels[row]), tuple(counts[row].tolist()), png(np.full((size, size), 10 * row + 9)))
        for row in range(number)
    )


def out_of_bag(members=4, classes=3, rows=300, number=5, seed=0):
    """Votes of which each member casts about 40 %."""
    labels, votes = cast(members, classes, rows, seed=seed)
    votes[np.random.default_rng(seed + 1).random(votes.shape) > 0.4] = -1
    counts, prediction = elected(votes, classes)
    return OutOfBag(labels, votes, prediction, classes, disputed(labels, counts, number))


def evaluation(members=4, classes=3, rows=300, number=5, seed=0):
    labels, votes = cast(members, classes, rows, seed=seed)
    counts, prediction = elected(votes, classes)
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (labels, prediction), 1)
    winning = counts[np.arange(rows), prediction]
    by_size = [(elected(votes[:, : size + 1], classes)[1] == labels).sum() for size in range(members)]
    return CNNEnsembleEvaluation(
        confusion,
        (votes == labels[:, None]).sum(axis=0),
        (votes[:, :, None] == votes[:, None, :]).sum(axis=0),
        np.bincount(winning, minlength=members + 1),
        np.bincount(winning[prediction == labels], minlength=members + 1),
        np.array(by_size),
        0,
        disputed(labels, counts, number),
    )


def summary(members=3, epochs=4, out_of_bag=None, validation=False, **values):
    """A fit whose curves differ by member; `epochs` may be a number for each."""
    lengths = [epochs] * members if isinstance(epochs, int) else epochs
    found = []
    for member, length in enumerate(lengths):
        loss = np.exp(-np.arange(length) / 2) * (1 + member / 10)
        history = {"loss": tuple(loss), "accuracy": tuple(1 - loss / 3)}
        if validation:
            history |= {"val_loss": tuple(loss * 1.5), "val_accuracy": tuple(1 - loss / 2)}
        rows = 100 + member
        found.append(MemberSummary(member, rows, rows, 10 if validation else 0, (50, 50 + member), 1.5, history))
    return CNNEnsembleTrainingSummary(
        tuple(found), **{"rows": 1000, "skippedRows": 0, "seconds": 12.3, "outOfBag": out_of_bag, **values}
    )


def nothing_voted():
    """A sample of which every member trained on every row."""
    return OutOfBag(np.zeros(5, int), np.full((5, 3), -1), np.full(5, -1), 2)
