"""One picture -> an array of a wanted shape: decoded, on a white ground where it is transparent, and resized.

Pillow reads encoded pictures. Called by `pixels`; the driver reads headers with `encoded_shape` (`rows.shapes`).
"""

from __future__ import annotations

import io
from typing import Any, Literal

import numpy as np

from spark_cnn_ensemble.worker.refusal import Unusable

MAX_RESIZED = 50_000_000  # pixels of a picture that is decoded to be resized; a bomb's header claims more
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_OTHER_FORMATS = {
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000",
    b"<svg": "SVG",
    b"<?xml": "XML",
    b"<!DOCTYPE": "HTML",
    b"%PDF-": "PDF",
}
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_WHITE = (255, 255, 255, 255)


def is_encoded(data: bytes, size: int) -> bool:
    """Whether bytes are an encoded PNG or JPEG rather than `size` raw pixels.

    A file may happen to have as many bytes as pixels are expected, and raw pixels may begin as a JPEG does.
    """
    if data[:3] == _JPEG:
        return len(data) != size or data.rstrip(b"\0").endswith(_JPEG_END)
    return data[:8] == _PNG


def other_format(data: bytes, length: int) -> str | None:
    """The name of the format of a file that is not read, which must not be taken for raw pixels; else None.

    Parameters
    ----------
    data : bytes
        The first bytes of the file.
    length : int
        Of the whole file.
    """
    for start, name in _OTHER_FORMATS.items():
        if data.startswith(start):
            return name
    if data[:4] in (b"II*\x00", b"MM\x00*"):
        order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
        if 8 <= int.from_bytes(data[4:8], order) < length:  # where the first picture's entries begin
            return "TIFF"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[4:8] == b"ftyp":
        return "HEIC, AVIF or video"
    if data[:2] == b"BM" and int.from_bytes(data[2:6], "little") == length:
        return "BMP"
    return None


def encoded_shape(data: bytes) -> tuple[int, int, int]:
    """Height, width and channels from the header of a PNG or JPEG; a transparent grey picture has one channel.

    Raises
    ------
    OSError
        Pillow cannot read the bytes.
    """
    with _open(data) as image:
        grey = image.mode in ("1", "L", "LA", "F") or _is_16_bits(image) or _is_16_bits_with_alpha(data)
        return image.height, image.width, 1 if grey else 4 if image.mode == "RGBA" else 3


def _open(data: bytes) -> Any:
    """A PNG or JPEG as a Pillow image; only its header is read."""
    from PIL import Image

    try:
        return Image.open(io.BytesIO(data), formats=("PNG", "JPEG"))
    except Exception:  # Pillow raises many kinds for damaged files, and some messages contain memory addresses
        raise OSError("its header cannot be read") from None


def decode(data: bytes, shape: tuple[int, int, int], resize: bool, size_remedy: str) -> np.ndarray:
    """An encoded picture as an array of a shape.

    Parameters
    ----------
    data : bytes
        A PNG or JPEG.
    shape : tuple of int
        The wanted height, width and channels.
    resize : bool
        Whether a picture of another size is resized.
    size_remedy : str
        What a message proposes for a picture of another size.

    Returns
    -------
    numpy.ndarray
        uint8; uint16 for a picture of 16 bits of grey.

    Raises
    ------
    Unusable
        The picture is damaged, has another size and may not be resized, is too large to be resized, or is blank once
        its transparent ground is white.
    """
    height, width, channels = shape
    try:
        with _open(data) as image:
            # The header's size is checked before a pixel is decoded, so a decompression bomb is never inflated.
            if (image.height, image.width) != (height, width):
                size = f"is an image of {image.height}x{image.width} pixels"
                if not resize:
                    raise Unusable(f"{size} where {height}x{width} were expected", size_remedy)
                if image.height * image.width > MAX_RESIZED:
                    limit = f"more than the {MAX_RESIZED:,} that resizeImages decodes"
                    raise Unusable(f"{size}, {limit}", "make it smaller")
                image.draft(None, (2 * width, 2 * height))  # a large JPEG is decoded at a half, quarter or eighth
            if channels not in _MODES:
                fault = f"is an encoded image, which cannot be decoded to {channels} channels"
                raise Unusable(fault, "set the channels of 'inputShape' to 1, 3 or 4")
            if _is_16_bits_with_alpha(data):
                raise Unusable(
                    "is a 16-bit grey PNG with alpha, which can be read with 8 bits only", "remove its alpha channel"
                )
            depth = data[24] if data[:8] == _PNG else 8
            return _grey_of_16_bits(image, shape) if _is_16_bits(image) else _picture(image, shape, depth)
    except Unusable:
        raise
    except Exception as error:  # Pillow raises many kinds for damaged files
        raise Unusable(f"is a damaged image ({error})") from None


def resized_struct(cell: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """Spark's image as an array of a shape, resized and converted where it has another.

    Parameters
    ----------
    cell : bytes
        A line with the image's height, width and channels, and its pixels (blue, green, red), as many as that.
    shape : tuple of int
        The wanted height, width and channels.

    Returns
    -------
    numpy.ndarray
        uint8, red, green, blue.
    """
    from PIL import Image

    header, _, data = bytes(cell).partition(b"\n")
    pixels = np.frombuffer(data, np.uint8).reshape(*map(int, header.split()))
    if pixels.shape[2] == 1:
        return _picture(Image.fromarray(pixels[..., 0]), shape)
    return _picture(Image.fromarray(np.ascontiguousarray(rgb(pixels))), shape)


def rgb(pixels: np.ndarray) -> np.ndarray:
    """Pixels (..., 3 or 4 channels) with blue and red exchanged; an alpha channel stays the last."""
    return np.concatenate([pixels[..., 2::-1], pixels[..., 3:]], axis=-1)


def _is_16_bits_with_alpha(data: bytes) -> bool:
    """Whether the header of a PNG says so; Pillow opens such a picture as one of 8 bits and three colours."""
    return data[:8] == _PNG and data[24:26] == b"\x10\x04"


def _is_16_bits(image: Any) -> bool:
    return image.mode.startswith("I")


def _grey_of_16_bits(image: Any, shape: tuple[int, int, int]) -> np.ndarray:
    """The values as they are: convert() would clip those above 255."""
    from PIL import Image

    height, width, channels = shape
    grey = np.asarray(image).astype(np.uint16)
    opaque = np.full_like(grey, 65535)
    if "transparency" in image.info:
        opaque[grey == image.info["transparency"]] = 0
        grey[opaque == 0] = 65535

    def fitted(plane: np.ndarray) -> np.ndarray:
        if plane.shape == (height, width):
            return plane
        smooth = Image.fromarray(plane.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
        return np.rint(np.asarray(smooth)).astype(np.uint16)

    planes = [fitted(grey)] * min(channels, 3) + [fitted(opaque)] * (channels == 4)
    return np.stack(planes, axis=-1)


def _picture(image: Any, shape: tuple[int, int, int], depth: int = 8) -> np.ndarray:
    from PIL import Image

    height, width, channels = shape

    def fitted(picture: Any) -> Any:
        if picture.size == (width, height):
            return picture
        return picture.resize((width, height), Image.Resampling.BILINEAR)  # Pillow smooths where it makes smaller

    with_alpha = _with_alpha(image, depth) if channels != 4 or "transparency" in image.info else None
    if with_alpha is None:
        picture = fitted(image.convert(_MODES[channels]))
    elif channels == 4:
        picture = fitted(with_alpha)
    else:
        with_alpha = fitted(with_alpha)
        white = Image.new("RGBA", with_alpha.size, _WHITE)
        picture = Image.alpha_composite(white, with_alpha).convert(_MODES[channels])
        if with_alpha.getextrema()[3][1] and np.asarray(picture).min() == 255:
            raise Unusable(
                "is white on a transparent ground, so that nothing is left on white", "give it a dark ground"
            )
    return np.asarray(picture, np.uint8).reshape(shape)


def _with_alpha(image: Any, depth: int) -> Any:
    """The image as RGBA; None where no pixel is transparent."""
    key = image.info.get("transparency")
    if image.mode not in ("LA", "RGBA") and key is None:
        return None
    if image.mode != "P" and key is not None:
        # Pillow keeps the key as the file has it, but stretches the pixels to 8 bits.
        scale = (lambda sample: sample >> 8) if depth == 16 else (lambda sample: sample * (255 // (2**depth - 1)))
        image = image.convert("L") if image.mode == "1" else image
        image.info["transparency"] = scale(key) if isinstance(key, int) else tuple(map(scale, key))
    with_alpha = image.convert("RGBA")
    return None if with_alpha.getextrema()[3][0] == 255 else with_alpha
