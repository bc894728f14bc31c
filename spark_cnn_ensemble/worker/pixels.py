"""Cells of features -> one block of pixels per batch, whatever the column's form.

The driver decides a column's form (`rows.columns`). Called by training and scoring.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spark_cnn_ensemble.worker.refusal import Refusal

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
BEYOND_FLOAT32 = "has a number beyond 3.4e+38, the largest of float32 (scale the column)"
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


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
    """

    column: str
    form: str
    shape: tuple[int, int, int]

    @property
    def size(self) -> int:
        """Numbers in an image."""
        return math.prod(self.shape)


def is_encoded(data: bytes, size: int) -> bool:
    """Whether bytes are an encoded PNG or JPEG rather than `size` raw pixels."""
    return data[:8] == _PNG or (data[:3] == _JPEG and len(data) != size)


def encoded_shape(data: bytes) -> tuple[int, int, int]:
    """Height, width and channels from the header of a PNG or JPEG.

    Raises
    ------
    OSError
        Pillow cannot read the bytes.
    """
    with _open(data) as image:
        channels = 1 if image.mode in ("1", "L", "I", "I;16", "F") else 4 if image.mode == "RGBA" else 3
        return image.height, image.width, channels


def _open(data: bytes) -> Any:
    """A PNG or JPEG as a Pillow image; only its header is read."""
    from PIL import Image

    try:
        return Image.open(io.BytesIO(data), formats=("PNG", "JPEG"))
    except Exception:  # Pillow raises many kinds for damaged files, and some messages contain memory addresses
        raise OSError("its header cannot be read") from None


def to_pixels(cells: Sequence[Any], pixels: PixelFormat) -> tuple[np.ndarray, dict[int, str]]:
    """Stack a batch of cells into one block.

    Parameters
    ----------
    cells : sequence
        Each an array of numbers, bytes, or None.
    pixels : PixelFormat

    Returns
    -------
    block : numpy.ndarray
        Shape (n, height, width, channels), of the cells' own type (uint8 for bytes); zeros where a cell is unusable.
    faults : dict of int to str
        What is wrong with each unusable cell, by its index.
    """
    if pixels.form == "array":
        block, faults = _stack_arrays(cells, pixels.size)
    else:
        block, faults = _stack_bytes(cells, pixels)
    block = block.reshape(-1, *pixels.shape)
    if pixels.form == "bgr" and pixels.shape[2] >= 3:
        block = np.concatenate([block[..., 2::-1], block[..., 3:]], axis=-1)
    return block, faults


def _stack_arrays(cells: Sequence[Any], size: int) -> tuple[np.ndarray, dict[int, str]]:
    faults = {
        index: "is null" if cell is None else f"has {len(cell)} numbers where {size} were expected"
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
                faults[int(index)] = f"{_not_finite(block[index, bad[0]])} at position {bad[0]}"
                block[index] = 0
    return block, faults


def _not_finite(number: Any) -> str:
    if np.isfinite(number):
        return BEYOND_FLOAT32
    if np.isnan(number):
        return "has null, NaN or infinity"
    return f"has infinity or {BEYOND_FLOAT32.removeprefix('has ')}"  # Spark casts columns to float32 before scoring


def _stack_bytes(cells: Sequence[Any], pixels: PixelFormat) -> tuple[np.ndarray, dict[int, str]]:
    block = np.zeros((len(cells), pixels.size), np.uint8)
    faults: dict[int, str] = {}
    for index, cell in enumerate(cells):
        if cell is None:
            faults[index] = "is null"
            continue
        data = bytes(cell)
        if pixels.form == "bytes" and is_encoded(data, pixels.size):
            try:
                block[index] = _decode(data, pixels.shape)
            except Refusal as fault:
                faults[index] = str(fault)
        elif len(data) == pixels.size:
            block[index] = np.frombuffer(data, np.uint8)
        else:
            faults[index] = (
                f"has {len(data)} bytes that are not a PNG or JPEG, where height*width*channels = {pixels.size} were "
                "expected"
            )
    return block, faults


def _decode(data: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    from PIL import Image

    height, width, channels = shape
    try:
        with _open(data) as image:
            # The header's size is checked before a pixel is decoded, so a decompression bomb is never inflated.
            if (image.height, image.width) != (height, width):
                raise Refusal(
                    f"is an image of {image.height}x{image.width} pixels where {height}x{width} were expected"
                )
            if channels not in _MODES:
                raise Refusal(f"is an encoded image, which cannot be decoded to {channels} channels")
            if image.mode.startswith("I"):  # 16 bits of grey; convert() would clip values above 255
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            return np.asarray(image.convert(_MODES[channels]), np.uint8).reshape(-1)
    except Refusal:
        raise
    except Exception as error:  # Pillow raises many kinds for damaged files
        raise Refusal(f"is a damaged image ({error})") from None


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
