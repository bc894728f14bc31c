"""Fits, out-of-bag votes and evaluations made by hand."""

import base64

import numpy as np

from spark_cnn_ensemble.evaluation import CNNEnsembleEvaluation
from spark_cnn_ensemble.fit_result import MemberSummary
from spark_cnn_ensemble.summary import CNNEnsembleTrainingSummary
from spark_cnn_ensemble.votes import DisputedRow, OutOfBag
from support.images import encoded

# Class names that a page or a picture could misread: tags, characters without a glyph, mathematics, too many letters.
AWKWARD_NAMES = ['<script>alert("x")</script>', "Ünïcødé 犬", "$x_$ & 'y'", "a name that is far too long for a tick"]


def png(pixels):
    """An image as `DisputedRow` has it: a PNG in base64."""
    return base64.b64encode(encoded(np.asarray(pixels, np.uint8))).decode()


def random_votes(members, classes, rows, seed=0):
    """Labels (rows,) and the members' votes (rows, members); on every third row 40 % of the votes are wrong."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    wrong = (rng.random((rows, members)) < 0.4) & (np.arange(rows) % 3 == 0)[:, None]
    return labels, np.where(wrong, (labels[:, None] + 1) % classes, labels[:, None])


def count_votes(votes, classes):
    """Votes per class (rows, classes), and the class with the most (rows,); -1 if no member votes."""
    counts = (votes[:, :, None] == np.arange(classes)).sum(axis=1)
    return counts, np.where(counts.sum(axis=1) > 0, counts.argmax(axis=1), -1)


def disputed_rows(labels, counts, number):
    """The first rows as disputed rows, whose images differ."""
    size = len(counts[0])
    return tuple(
        DisputedRow(0.9, int(labels[row]), tuple(counts[row].tolist()), png(np.full((size, size), 10 * row + 9)))
        for row in range(number)
    )


def out_of_bag(members=4, classes=3, rows=300, number=5, seed=0):
    """Out-of-bag votes: each member votes on about 40 % of the rows; `number` rows are disputed."""
    labels, votes = random_votes(members, classes, rows, seed)
    votes[np.random.default_rng(seed + 1).random(votes.shape) > 0.4] = -1
    counts, prediction = count_votes(votes, classes)
    return OutOfBag(labels, votes, prediction, classes, disputed_rows(labels, counts, number))


def no_votes():
    """Out-of-bag votes where every member trained on every row of the sample, so that there is no vote."""
    return OutOfBag(np.zeros(5, int), np.full((5, 3), -1), np.full(5, -1), 2)


def evaluation(members=4, classes=3, rows=300, number=5, seed=0):
    """An evaluation on held-out rows: each member votes on each row; `number` rows are disputed."""
    labels, votes = random_votes(members, classes, rows, seed)
    counts, prediction = count_votes(votes, classes)
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (labels, prediction), 1)
    winning = counts[np.arange(rows), prediction]
    right_by_size = [(count_votes(votes[:, : size + 1], classes)[1] == labels).sum() for size in range(members)]
    return CNNEnsembleEvaluation(
        confusion,
        (votes == labels[:, None]).sum(axis=0),
        (votes[:, :, None] == votes[:, None, :]).sum(axis=0),
        np.bincount(winning, minlength=members + 1),
        np.bincount(winning[prediction == labels], minlength=members + 1),
        np.array(right_by_size),
        0,
        disputed_rows(labels, counts, number),
    )


def summary(members=3, epochs=4, out_of_bag=None, validation=False, **values):
    """A fit whose curves differ by member; `epochs` is one number, or a list of one per member."""
    epochs_by_member = [epochs] * members if isinstance(epochs, int) else epochs
    trained = []
    for member, length in enumerate(epochs_by_member):
        loss = np.exp(-np.arange(length) / 2) * (1 + member / 10)
        history = {"loss": tuple(loss), "accuracy": tuple(1 - loss / 3)}
        if validation:
            history |= {"val_loss": tuple(loss * 1.5), "val_accuracy": tuple(1 - loss / 2)}
        rows = 100 + member
        trained.append(MemberSummary(member, rows, rows, 10 if validation else 0, (50, 50 + member), 1.5, history))
    return CNNEnsembleTrainingSummary(
        tuple(trained), **{"rows": 1000, "skippedRows": 0, "seconds": 12.3, "outOfBag": out_of_bag, **values}
    )
