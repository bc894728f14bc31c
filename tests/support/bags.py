"""Bags, plans and frames as a task sees them, made by hand."""

import numpy as np
import pandas as pd

from spark_cnn_ensemble.worker.bag import BAG_COLUMNS, Bag, BagRules, Examples
from spark_cnn_ensemble.worker.network import Architecture
from spark_cnn_ensemble.worker.pixels import PixelFormat
from spark_cnn_ensemble.worker.training_plan import TrainingPlan

SMALL = Architecture((8, 8, 1), 10, filters=(4,), kernel_size=3, dense_units=16)


def a_plan(architecture=SMALL, **changes):
    settings = {
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
    return TrainingPlan(architecture=architecture, rules=rules, **{**settings, **changes})


def examples(images, labels, weights=None, copies=None):
    return Examples(
        np.asarray(images),
        np.asarray(labels, np.int32),
        None if weights is None else np.asarray(weights, np.float32),
        np.ones(len(labels), np.int32) if copies is None else np.asarray(copies, np.int32),
    )


def pick(rows, index):
    """The examples at `index`."""
    weights = None if rows.weights is None else rows.weights[index]
    return Examples(rows.images[index], rows.labels[index], weights, rows.copies[index])


def none_like(training):
    return pick(training, np.arange(0))


def a_bag(training, validation=None, member=0):
    return Bag(member, training, none_like(training) if validation is None else validation, 0)


def noise(architecture, count=24, seed=0):
    """Images of any shape, labelled at random."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, *architecture.input_shape), np.uint8)
    return examples(images, rng.integers(0, architecture.num_classes, count))


def same(one, other):
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def frame(rows):
    """Rows of (row_key, content_key, label, features) and any of BAG_COLUMNS by name."""
    filled = []
    for row_key, content_key, label, features, *more in rows:
        row = {
            "member": 0,
            "copies": 1,
            "validates": False,
            "counts_here": True,
            "row_key": row_key,
            "content_key": content_key,
            "ticket": None,
            "label": label,
            "weight": np.nan,
            "name": None,
            "features": features,
        }
        more = more[0] if more else {}
        filled.append({**row, "validates": more.get("copies") == 0, **more})
    return pd.DataFrame(filled, columns=list(BAG_COLUMNS))
