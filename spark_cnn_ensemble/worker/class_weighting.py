"""The weights of rows by which each class weighs the same; see the Param classWeighting. Called by `trainer`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from spark_cnn_ensemble.worker.bag import Examples


def balanced(examples: Examples) -> Examples:
    """The rows with weights by which each class weighs the same, on top of those that they have.

    As scikit-learn's ``class_weight="balanced"``: rows / (classes * rows of the class), where a row counts with its
    copies and its weight. The weight of a class multiplies its probability in a soft label.
    """
    counted: np.ndarray = np.maximum(examples.copies, 1)  # a row that validates has no copy
    if examples.weights is not None:
        counted = counted * examples.weights.astype(np.float64)
    if not counted.any():
        return examples
    soft = examples.soft_labels
    counts = np.bincount(examples.labels, counted) if soft is None else counted @ soft.astype(np.float64)
    by_class = counted.sum() / (max(1, np.count_nonzero(counts)) * np.where(counts > 0, counts, 1))
    if soft is None:
        factors = by_class[examples.labels]
    else:
        factors = soft @ by_class
        soft = (soft * by_class / factors[:, None]).astype(np.float32)
    weights = factors if examples.weights is None else factors * examples.weights
    return replace(examples, weights=weights.astype(np.float32), soft_labels=soft)
