"""Checks of a user's arrays of images and labels. Called by `writer` and by `datasets`."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def check_images(x: ArrayLike) -> np.ndarray:
    """`x` as an array of shape (rows, ...) of real numbers.

    Raises
    ------
    ValueError
        It has no rows, or is of another type.
    """
    x = np.asarray(x)
    if x.ndim < 2 or not x.size:
        raise ValueError(f"x has shape {x.shape}; it must have at least one row, and one number per row.")
    if x.dtype.kind not in "buif":
        raise ValueError(f"x holds {x.dtype}; convert it to real numbers.")
    return x


def check_labels(y: ArrayLike, rows: int) -> np.ndarray:
    """`y` as an array of shape (rows,) of whole numbers.

    Raises
    ------
    ValueError
        It has another shape, or its values are not whole numbers.
    """
    y = np.asarray(y)
    if y.shape != (rows,):
        raise ValueError(f"y has shape {y.shape} where x has {rows} rows; give one label for each row.")
    if y.dtype.kind not in "uif" or not np.isfinite(y).all() or (y != np.trunc(y)).any():
        raise ValueError("y must hold whole numbers; index the classes from 0.")
    return y
