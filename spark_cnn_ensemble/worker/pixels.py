"""Cells of features -> one block of pixels per batch, whatever the column's form.

The driver decides a column's form (`rows.features`). Called by training and scoring.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spark_cnn_ensemble.worker.pictures import decode, is_encoded, other_format, resized_struct, rgb
from spark_cnn_ensemble.worker.refusal import Fault, Unusable

BEYOND_FLOAT32 = "has a number beyond 3.4e+38, the largest of float32 (scale the column)"
_REMEDIES = {  # of a row of another size, by `shape_from`
    "param": "fix the row, or change 'inputShape', which is {}",
    "rows": "fix the row, or set 'inputShape', which was inferred from the first rows as {}",
    "model": "give rows of the model's inputShape, {}",
}


@dataclass(frozen=True)
class PixelFormat:
    """How a column of features holds images.

    Parameters
    ----------
    column : str
        The user's name of the column, for messages.
    form : {"array", "bytes", "bgr"}
        Numbers; raw or encoded bytes; raw bytes in Spark's image order (blue, green, red).
    shape : tuple of int
        Height, width and channels.
    resize : bool
        Whether pictures of another size are resized. Then a cell in Spark's image order begins with a line that has its
        height, width and channels.
    shape_from : {"param", "rows", "model"}
        Where the shape comes from, for messages: the user, the first rows, or the model that scores.
    """

    column: str
    form: str
    shape: tuple[int, int, int]
    resize: bool = False
    shape_from: str = "param"

    @property
    def size(self) -> int:
        """Numbers in an image."""
        return math.prod(self.shape)

    def size_remedy(self, picture: bool = False) -> str:
        """What to do about a row of another size; a `picture` can be resized."""
        remedy = _REMEDIES[self.shape_from].format(list(self.shape))
        return f"set resizeImages=True to resize pictures, {remedy}" if picture else remedy


def to_pixels(cells: Sequence[Any], pixels: PixelFormat) -> tuple[np.ndarray, dict[int, Fault]]:
    """Stack a batch of cells into one block.

    Parameters
    ----------
    cells : sequence
        Each an array of numbers, bytes, or None.
    pixels : PixelFormat

    Returns
    -------
    block : numpy.ndarray
        Shape (n, height, width, channels), of the cells' own type (for bytes uint8, or uint16 where a picture has more
        than 8 bits of grey); zeros where a cell is unusable.
    faults : dict of int to Fault
        What is wrong with each unusable cell, by its index.
    """
    if pixels.form == "array":
        block, faults = _stack_arrays(cells, pixels)
    else:
        block, faults = _stack_bytes(cells, pixels)
    block = block.reshape(-1, *pixels.shape)
    if pixels.form == "bgr" and pixels.shape[2] >= 3 and not pixels.resize:
        block = rgb(block)
    return block, faults


def _stack_arrays(cells: Sequence[Any], pixels: PixelFormat) -> tuple[np.ndarray, dict[int, Fault]]:
    size = pixels.size
    faults = {
        index: Fault("is null")
        if cell is None
        else Fault(f"has {len(cell)} numbers where {size} were expected", pixels.size_remedy())
        for index, cell in enumerate(cells)
        if cell is None or len(cell) != size
    }
    sound = next((cell for index, cell in enumerate(cells) if index not in faults), np.zeros(size, np.float32))
    usable = [np.zeros_like(sound) if index in faults else cell for index, cell in enumerate(cells)]
    block = np.stack(usable) if usable else np.zeros((0, size), np.float32)
    if block.dtype == object:
        block = np.array([[np.nan if number is None else number for number in row] for row in block], np.float32)
    if block.dtype.kind == "f":
        # A sum is finite if no summand is NaN or infinite; where it is not, each number is checked.
        with np.errstate(invalid="ignore", over="ignore"):
            narrow = block.astype(np.float32, copy=False)
            sums = narrow.sum(axis=1, dtype=np.float64)
        for index in np.flatnonzero(~np.isfinite(sums)):
            bad = np.flatnonzero(~np.isfinite(narrow[index]))
            if bad.size and index not in faults:
                faults[int(index)] = Fault(f"{_not_finite(block[index, bad[0]])} at position {bad[0]}")
                block[index] = 0
    return block, faults


def _not_finite(number: Any) -> str:
    if np.isfinite(number):
        return BEYOND_FLOAT32
    if np.isnan(number):
        return "has null, NaN or infinity"
    return f"has infinity or {BEYOND_FLOAT32.removeprefix('has ')}"  # Spark casts columns to float32 before scoring


def _stack_bytes(cells: Sequence[Any], pixels: PixelFormat) -> tuple[np.ndarray, dict[int, Fault]]:
    block = np.zeros((len(cells), pixels.size), np.uint8)
    faults: dict[int, Fault] = {}
    for index, cell in enumerate(cells):
        try:
            image = _image_of(cell, pixels)
        except Unusable as unusable:
            faults[index] = unusable.fault
            continue
        if image.dtype != block.dtype and not _fits_byte(image):
            block = block.astype(image.dtype)
        block[index] = image
    return block, faults


def _image_of(cell: Any, pixels: PixelFormat) -> np.ndarray:
    """The flat pixels of a cell of bytes.

    Raises
    ------
    Unusable
        It holds no image of the format.
    """
    if cell is None:
        raise Unusable("is null")
    data = bytes(cell)
    if pixels.form == "bgr" and pixels.resize:
        return resized_struct(data, pixels.shape).reshape(-1)
    if pixels.form == "bytes" and is_encoded(data, pixels.size):
        return decode(data, pixels.shape, pixels.resize, pixels.size_remedy(picture=True)).reshape(-1)
    if pixels.form == "bytes" and (name := other_format(data, len(data))):
        raise Unusable(f"is a file of format {name}, neither PNG nor JPEG", "convert it to PNG or remove it")
    if len(data) == pixels.size:
        return np.frombuffer(data, np.uint8)
    raise Unusable(
        f"has {len(data)} bytes that are not a PNG or JPEG, where height*width*channels = {pixels.size} were expected",
        pixels.size_remedy(),
    )


def narrowest(block: np.ndarray) -> np.ndarray:
    """The same numbers as uint8 where that loses nothing, else as float32."""
    if block.dtype == np.uint8:
        return block
    narrow = block.astype(np.uint8) if _fits_byte(block) else None
    return narrow if narrow is not None else block.astype(np.float32, copy=False)


def _fits_byte(block: np.ndarray) -> bool:
    if not block.size:
        return True  # a batch without rows must not make the whole bag float
    if block.min() < 0 or block.max() > 255:
        return False
    return block.dtype.kind in "iu" or bool(np.array_equal(block, np.rint(block)))
