"""Training plans, bags and a task's frames, made by hand."""

import numpy as np
import pandas as pd

from spark_cnn_ensemble.worker.bag import BAG_COLUMNS, Bag, BagRules, Examples
from spark_cnn_ensemble.worker.network import Architecture
from spark_cnn_ensemble.worker.pixels import PixelFormat
from spark_cnn_ensemble.worker.training_plan import TrainingPlan

SMALL = Architecture((8, 8, 1), 10, filters=(4,), kernel_size=3, dense_units=16)
UNSCALED = Architecture((8, 8, 1), 10, filters=(4,), kernel_size=3, dense_units=16, standardization=False)


def training_plan(architecture=SMALL, **changes):
    """A plan of two epochs, with any fields changed."""
    fields = {
        "epochs": 2,
        "batch_size": 50,
        "learning_rate": 1e-3,
        "learning_rate_schedule": "linear",
        "optimizer": "adam",
        "random_shift": 0,
        "random_flip": False,
        "early_stopping_patience": 0,
        "precision": "float32",
        "seed": 17,
    }
    rules = BagRules(PixelFormat("features", "array", architecture.input_shape))
    return TrainingPlan(architecture=architecture, rules=rules, **{**fields, **changes})


def examples(images, labels, weights=None, copies=None, soft_labels=None):
    """Rows to train on, in memory; by default each once, without weights and soft labels."""
    return Examples(
        np.asarray(images),
        np.asarray(labels, np.int32),
        None if weights is None else np.asarray(weights, np.float32),
        np.ones(len(labels), np.int32) if copies is None else np.asarray(copies, np.int32),
        soft_labels=None if soft_labels is None else np.asarray(soft_labels, np.float32),
    )


def pick(rows, index):
    """The examples at `index`."""
    weights = None if rows.weights is None else rows.weights[index]
    soft = None if rows.soft_labels is None else rows.soft_labels[index]
    return Examples(rows.images[index], rows.labels[index], weights, rows.copies[index], soft_labels=soft)


def none_of(rows):
    """No examples, of the same types."""
    return pick(rows, np.arange(0))


def bag_of(training, validation=None, member=0):
    """A bag of these training rows; without validation rows by default."""
    return Bag(member, training, none_of(training) if validation is None else validation, 0)


def random_examples(architecture, count=24, seed=0):
    """Random images of the architecture's shape, labelled at random."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, *architecture.input_shape), np.uint8)
    return examples(images, rng.integers(0, architecture.num_classes, count))


def identical(one, other):
    """Whether two lists of arrays are equal bit for bit (NaN excepted)."""
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def close(one, other, atol):
    """Whether the arrays of two lists are equal up to `atol`."""
    return len(one) == len(other) and all(np.allclose(a, b, atol=atol) for a, b in zip(one, other, strict=True))


def numbers(*values):
    """A cell of float32 numbers."""
    return np.array(values, np.float32)


def bag_frame(rows):
    """A frame of BAG_COLUMNS from tuples (row_key, content_key, label, features, any other columns by name)."""
    filled = []
    for row_key, content_key, label, features, *columns in rows:
        row = {
            "member": 0,
            "copies": 1,
            "validates": False,
            "counts_here": True,
            "row_key": row_key,
            "content_key": content_key,
            "ticket": None,
            "label": label,
            "soft_label": None,
            "weight": np.nan,
            "name": None,
            "features": features,
        }
        changes = columns[0] if columns else {}
        filled.append({**row, "validates": changes.get("copies") == 0, **changes})
    return pd.DataFrame(filled, columns=list(BAG_COLUMNS))


def cut(table, sizes):
    """A frame in pieces of these sizes; the last piece has the remaining rows."""
    ends = np.minimum(np.cumsum([*sizes, len(table)]), len(table))
    return [table.iloc[begin:end] for begin, end in zip([0, *ends[:-1]], ends, strict=True)]
