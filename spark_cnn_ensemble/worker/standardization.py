"""The mean and deviation of a bag's channels, as weights of the layer that standardizes them.

The layer is in `network`. Called by `trainer`.
"""

from __future__ import annotations

import math

import numpy as np

from spark_cnn_ensemble.worker.bag import Examples
from spark_cnn_ensemble.worker.refusal import Refusal

CHUNK_BYTES = 8 << 20  # of pixels that are read at once

_RESOLUTION = float(np.finfo(np.float32).eps)  # of float32, relative to a number
_SMALLEST = float(np.finfo(np.float32).tiny)  # TensorFlow computes with 0 for less
_SMALLEST_FACTOR = 1.0001 * _SMALLEST  # not less once it is rounded
_VARIANCES = (1e-12, 1e38)  # in the range of float32, and large next to the epsilon of the layer


def channel_moments(examples: Examples) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each channel, float64 of shape (channels,); variance 0 where a channel is constant.

    Rows of weight 0 do not count, copies do not count again. A channel is constant if it deviates from its mean by less
    than float32 resolves.
    """
    images = examples.images
    channels = images.shape[-1]
    step = max(1, CHUNK_BYTES // (8 * images.itemsize * math.prod(images.shape[1:])))
    every = np.arange(len(examples))
    counted = every if examples.weights is None else every[examples.weights > 0]
    chunks = [counted[begin : begin + step] for begin in range(0, len(counted), step)]
    if images.dtype == np.uint8:  # counting is exact
        values = np.arange(256, dtype=np.float64)
        counts = np.zeros((channels, 256), np.int64)
        for chunk in chunks:
            block = examples.gather(chunk)
            for channel in range(channels):
                counts[channel] += np.bincount(block[..., channel].ravel(), minlength=256)
        mean = counts @ values / counts.sum(axis=1)
        variance = counts @ values**2 / counts.sum(axis=1) - mean**2
    else:
        numbers = len(counted) * math.prod(images.shape[1:3])
        mean = sum(examples.gather(chunk).sum(axis=(0, 1, 2), dtype=np.float64) for chunk in chunks) / numbers
        squares = ((examples.gather(chunk) - mean) ** 2 for chunk in chunks)
        variance = sum(square.sum(axis=(0, 1, 2)) for square in squares) / numbers
    return mean, np.where(variance > np.maximum(_RESOLUTION * np.abs(mean), _SMALLEST) ** 2, variance, 0.0)


def exceeds_float32(mean: np.ndarray, variance: np.ndarray) -> bool:
    """Whether float32 cannot hold the variance of a channel; it holds the square root in any case."""
    least, most = _VARIANCES
    used = _variance_to_use(mean, variance)
    return bool(((used < least) | (used > most)).any())


def _variance_to_use(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """A constant channel keeps its scale, unless float32 resolves less of it than 1."""
    return np.where(variance > 0, variance, np.maximum(1.0, (_RESOLUTION * mean) ** 2))


def standardization_weights(mean: np.ndarray, variance: np.ndarray, scaled: bool) -> list[np.ndarray]:
    """The weights of the standardizing layer, float32 of shape (channels,).

    Parameters
    ----------
    mean, variance : numpy.ndarray
        As `channel_moments` gives them.
    scaled : bool
        Whether the layer has a factor, `Architecture.scaled`.

    Returns
    -------
    list of numpy.ndarray
        The factor if `scaled`, the mean, the variance.
    """
    used = _variance_to_use(mean, variance)
    if not scaled:
        return [mean.astype(np.float32), used.astype(np.float32)]
    factor = np.maximum(1 / np.sqrt(used), _SMALLEST_FACTOR)
    return [array.astype(np.float32) for array in (factor, mean, np.ones_like(mean))]


def check_variation(mean: np.ndarray, variance: np.ndarray, column: str, member: int) -> None:
    """Refuse a bag whose pixels are all alike: nothing can be learned from it.

    Raises
    ------
    Refusal
        Names the column and the member.
    """
    if not variance.any():
        values = list(dict.fromkeys(f"{value:.6g}" for value in mean))
        alike = values[0] if len(values) == 1 else f"one of {', '.join(values[:4])}{', ...' if len(values) > 4 else ''}"
        raise Refusal(
            f"Column '{column}' (parameter 'featuresCol') is constant in the bag of member {member}: each number is "
            f"{alike} as float32, which holds 0 for less than {_SMALLEST:.2g} and 7 digits of the others; scale "
            "or center the column, or set 'featuresCol' to the one with the images."
        )
