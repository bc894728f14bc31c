"""Pictures of the rows that the members dispute most.

The choice does not depend on the order or the partitioning of the rows. Called by `evaluation`, and by the driver to
choose among the rows of all tasks.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable

import numpy as np

from spark_cnn_ensemble.worker.decision import entropy

DISPUTED = 12  # pictures that are kept


def most_disputed(pictures: Iterable[str]) -> list[str]:
    """The `DISPUTED` most uncertain of the texts of `disputed_pictures`, whatever their order."""
    return sorted(pictures, key=_rank)[:DISPUTED]


def _rank(picture: str) -> tuple[float, str]:
    # The text breaks ties, so that the order of the rows does not matter.
    return -json.loads(picture)["uncertainty"], picture


def disputed_pictures(images: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> list[tuple[int, str]]:
    """The rows whose votes disagree most, the most uncertain first.

    Parameters
    ----------
    images : numpy.ndarray
        Shape (n, height, width, channels).
    labels : numpy.ndarray
        Shape (n,).
    counts : numpy.ndarray
        Shape (n, classes): votes per class, at least one per row.

    Returns
    -------
    list of (int, str)
        At most `DISPUTED` rows: their index, and JSON of uncertainty (0 to 1), label, votes per class and a PNG in
        base64.
    """
    if not len(images):
        return []
    uncertainty = entropy(counts / counts.sum(axis=1, keepdims=True)).round(6)
    # All rows that tie with the last one kept become pictures, and the first of these in rank are kept.
    floor = np.sort(uncertainty)[-min(DISPUTED, len(uncertainty))]
    chosen = np.flatnonzero((uncertainty > 0) & (uncertainty >= floor))
    pictures = [
        (int(index), _picture(images[index], labels[index], counts[index], uncertainty[index])) for index in chosen
    ]
    return sorted(pictures, key=lambda pair: _rank(pair[1]))[:DISPUTED]


def _picture(image: np.ndarray, label: int, votes: np.ndarray, uncertainty: float) -> str:
    row = {"uncertainty": float(uncertainty), "label": int(label), "votes": votes.astype(int).tolist()}
    return json.dumps({**row, "png": base64.b64encode(_png(image)).decode()})


def _png(image: np.ndarray) -> bytes:
    """A viewable image: colours from 0 to 255 or from 0 to 1, else scaled from its smallest number to its largest."""
    from PIL import Image

    shown = image.astype(np.float64)
    low, high = shown.min(), shown.max()
    colours = image.shape[2] in (3, 4) and low >= 0 and high <= 255
    if colours and image.dtype != np.uint8 and 1e-3 < high <= 1:
        shown = shown * 255
    elif not colours or (high <= 1e-3 and image.dtype != np.uint8):
        shown = (shown - low) / (high - low) * 255 if high > low else np.zeros_like(shown)
    pixels = np.rint(shown).astype(np.uint8)
    if pixels.shape[2] not in (3, 4):
        pixels = pixels[..., 0]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
