"""Cells of every form become the same pixels, and unusable cells get a fault."""

import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from support.bags import numbers
from support.images import encoded

from spark_cnn_ensemble.worker.pictures import encoded_shape, is_encoded
from spark_cnn_ensemble.worker.pixels import PixelFormat, narrowest, to_pixels

ARRAYS = PixelFormat("features", "array", (2, 2, 1))
NUMERIC = [np.int8, np.int16, np.int32, np.float32, np.float64]

RGB = np.array([[[200, 10, 20], [30, 210, 40]], [[50, 60, 220], [70, 80, 90]]], np.uint8)
RGBA = np.concatenate([RGB, np.array([[[255], [128]], [[64], [0]]], np.uint8)], axis=-1)
OPAQUE = np.concatenate([RGB, np.full((2, 2, 1), 255, np.uint8)], axis=-1)
GRAY = np.array([[0, 17], [128, 255]], np.uint8)
GRAY16 = GRAY.astype(np.uint16) * 256 + 99
PALETTE = Image.fromarray(RGB).quantize(4)
BLACK_AND_WHITE = Image.fromarray(GRAY > 100)


# ------------------------------------------------------------------------------------------ narrowest


@pytest.mark.parametrize("dtype", NUMERIC)
def test_the_narrowest_type_is_uint8_unless_a_number_is_negative(dtype):
    block = np.array([[0, 1, 127]], dtype)
    assert narrowest(block).dtype == np.uint8
    assert narrowest(-block).dtype == np.float32
    assert np.array_equal(narrowest(-block), -block)


def test_an_empty_block_has_a_narrowest_type():
    assert narrowest(np.zeros((0, 4), np.float32)).shape == (0, 4)


# --------------------------------------------------------------------------------------------- arrays


@pytest.mark.parametrize("dtype", NUMERIC)
def test_arrays_become_a_block_of_their_own_type(dtype):
    block, faults = to_pixels([np.array([1, 2, 3, 4], dtype), np.array([5, 6, 7, 8], dtype)], ARRAYS)
    assert not faults
    assert block.dtype == dtype
    assert block[..., 0].tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]


def test_numbers_run_over_rows_then_columns_then_channels():
    block, _ = to_pixels([np.arange(24, dtype=np.float32)], PixelFormat("features", "array", (2, 4, 3)))
    assert block[0, 1, 2].tolist() == [18, 19, 20]


INFINITE = "has infinity or a number beyond 3.4e+38, the largest of float32 (scale the column)"


def test_each_unusable_array_has_its_fault_and_becomes_zeros():
    cells = [
        numbers(1, 2, 3, 4),
        None,
        numbers(1, 2, 3),
        numbers(1, np.nan, 3, 4),
        numbers(1, 2, 3, np.inf),
        numbers(-np.inf, 2, 3, np.inf),
        np.array([1, None, 3, 4], object),
        numbers(),
        numbers(3e38, 3e38, 3e38, -3e38),
    ]
    block, faults = to_pixels(cells, ARRAYS)
    assert {index: fault.what for index, fault in faults.items()} == {
        1: "is null",
        2: "has 3 numbers where 4 were expected",
        3: "has null, NaN or infinity at position 1",
        4: f"{INFINITE} at position 3",
        5: f"{INFINITE} at position 0",
        6: "has null, NaN or infinity at position 1",
        7: "has 0 numbers where 4 were expected",
    }
    assert np.isfinite(block).all()
    assert not block[list(faults)].any()
    assert np.array_equal(block[8].ravel(), cells[8])


def test_a_double_beyond_float32_is_a_fault():
    block, faults = to_pixels([np.array([1, -3e38, 3, 4]), np.array([1, -1e39, 3, 1e300])], ARRAYS)
    assert faults[1].what == "has a number beyond 3.4e+38, the largest of float32 (scale the column) at position 1"
    assert set(faults) == {1}
    assert block[0, 0, 1, 0] == -3e38


@pytest.mark.parametrize("cells", [[], [None], [None, None, numbers(1)]], ids=["none", "null", "nulls and short"])
def test_a_batch_without_a_usable_array_becomes_a_block_all_the_same(cells):
    block, faults = to_pixels(cells, ARRAYS)
    assert block.shape == (len(cells), 2, 2, 1)
    assert set(faults) == set(range(len(cells)))


# ------------------------------------------------------------------------------------------ raw bytes


def test_raw_bytes_are_pixels():
    block, faults = to_pixels([RGB.tobytes(), bytearray(RGB[::-1].tobytes())], PixelFormat("image", "bytes", (2, 2, 3)))
    assert not faults
    assert block.dtype == np.uint8
    assert np.array_equal(block[0], RGB)
    assert np.array_equal(block[1], RGB[::-1])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_blue_green_red_becomes_red_green_blue(channels):
    rgba = np.arange(2 * 2 * 4, dtype=np.uint8).reshape(2, 2, 4)
    image = rgba[..., :channels]
    stored = image if channels == 1 else image[..., [2, 1, 0, 3][:channels]]
    block, faults = to_pixels([stored.tobytes()], PixelFormat("image", "bgr", (2, 2, channels)))
    assert not faults
    assert np.array_equal(block[0], image)


def test_raw_pixels_that_begin_like_a_jpeg_are_raw_pixels():
    data = b"\xff\xd8\xff\x01"
    assert is_encoded(data, 5)
    assert not is_encoded(data, 4)
    block, faults = to_pixels([data], PixelFormat("image", "bytes", (2, 2, 1)))
    assert not faults
    assert block.tobytes() == data


def test_a_jpeg_of_as_many_bytes_as_pixels_is_a_jpeg(digits):
    picture = np.kron(digits[0][0][0] * 15, np.ones((4, 4))).astype(np.uint8)
    short = encoded(picture, "JPEG")
    data = encoded(picture, "JPEG", comment=b"x" * (picture.size - len(short) - 4))
    assert len(data) == picture.size
    block, faults = to_pixels([data], PixelFormat("image", "bytes", (*picture.shape, 1)))
    assert not faults
    assert abs(block[0, ..., 0].astype(int) - picture).mean() < 10


def test_16_bits_of_grey_with_alpha_are_refused():
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    pixels = zlib.compress(b"\0" + struct.pack(">4H", 300, 65535, 40000, 65535))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 4, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    assert encoded_shape(data) == (1, 2, 1)
    _, faults = to_pixels([data], PixelFormat("image", "bytes", (1, 2, 1)))
    assert faults[0] == (
        "is a 16-bit grey PNG with alpha, which can be read with 8 bits only",
        "remove its alpha channel",
    )


# ------------------------------------------------------------------------------------- encoded images


@pytest.mark.parametrize(
    ("data", "channels", "expected"),
    [
        pytest.param(encoded(RGB), 3, RGB, id="RGB"),
        pytest.param(encoded(GRAY), 1, GRAY[..., None], id="gray"),
        pytest.param(encoded(GRAY), 3, np.repeat(GRAY[..., None], 3, axis=-1), id="gray as RGB"),
        pytest.param(encoded(RGB), 1, np.asarray(Image.fromarray(RGB).convert("L"))[..., None], id="RGB as gray"),
        pytest.param(encoded(RGBA), 4, RGBA, id="RGBA"),
        pytest.param(encoded(OPAQUE), 3, RGB, id="RGBA without alpha"),
        pytest.param(
            encoded(RGB), 4, np.concatenate([RGB, np.full((2, 2, 1), 255, np.uint8)], axis=-1), id="RGB with alpha"
        ),
        pytest.param(encoded(BLACK_AND_WHITE), 1, np.where(GRAY > 100, 255, 0)[..., None], id="black and white"),
        pytest.param(encoded(PALETTE), 3, RGB, id="palette"),
        pytest.param(encoded(GRAY16), 1, GRAY16[..., None], id="16 bits"),
        pytest.param(encoded(GRAY16), 3, np.repeat(GRAY16[..., None], 3, axis=-1), id="16 bits as RGB"),
        pytest.param(encoded(GRAY.astype(np.uint16)), 1, GRAY[..., None], id="16 bits that hold 8"),
        pytest.param(encoded(np.full((2, 2), 77, np.uint8), "JPEG"), 1, np.full((2, 2, 1), 77), id="gray JPEG"),
        pytest.param(encoded(np.full((2, 2, 3), 77, np.uint8), "JPEG"), 3, np.full((2, 2, 3), 77), id="RGB JPEG"),
    ],
)
def test_encoded_images_are_decoded_to_the_channels_of_the_format(data, channels, expected):
    block, faults = to_pixels([data], PixelFormat("image", "bytes", (2, 2, channels)))
    assert not faults
    assert np.array_equal(block[0], expected)


def test_the_colours_of_a_jpeg_are_in_order():
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 250
    block, _ = to_pixels([encoded(red, "JPEG", quality=95)], PixelFormat("image", "bytes", (16, 16, 3)))
    assert block[..., 0].min() > 240
    assert block[..., 1:].max() < 12


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        pytest.param(encoded(RGB), (2, 2, 3), id="RGB"),
        pytest.param(encoded(RGBA[:1]), (1, 2, 4), id="RGBA"),
        pytest.param(encoded(GRAY), (2, 2, 1), id="gray"),
        pytest.param(encoded(GRAY.astype(np.uint16) * 256), (2, 2, 1), id="16 bits"),
        pytest.param(encoded(BLACK_AND_WHITE), (2, 2, 1), id="black and white"),
        pytest.param(encoded(PALETTE), (2, 2, 3), id="palette"),
        pytest.param(encoded(np.zeros((3, 5), np.uint8), "JPEG"), (3, 5, 1), id="JPEG"),
    ],
)
def test_the_shape_of_an_encoded_image_comes_from_its_header(data, shape):
    assert encoded_shape(data) == shape


def giant():
    """A PNG with a valid header of 65,536 x 65,536 pixels."""
    data = bytearray(encoded(GRAY))
    data[16:24] = (1 << 16).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


BIG = encoded(np.zeros((40, 40, 3), np.uint8) + np.arange(40, dtype=np.uint8)[:, None, None])
DAMAGED = r"is a damaged image \(.+\)"


@pytest.mark.parametrize(
    ("data", "shape", "fault"),
    [
        pytest.param(
            b"",
            (2, 2, 1),
            r"has 0 bytes that are not a PNG or JPEG, where height\*width\*channels = 4 were expected",
            id="no bytes",
        ),
        pytest.param(
            b"12345", (2, 2, 1), r"has 5 bytes that are not a PNG or JPEG, .* = 4 were expected", id="too many"
        ),
        pytest.param(
            encoded(GRAY[:1]), (2, 2, 1), "is an image of 1x2 pixels where 2x2 were expected", id="another size"
        ),
        pytest.param(
            encoded(GRAY), (2, 2, 2), "is an encoded image, which cannot be decoded to 2 channels", id="two channels"
        ),
        pytest.param(BIG[:-40], (40, 40, 3), DAMAGED, id="truncated PNG"),
        pytest.param(BIG[:20], (40, 40, 3), DAMAGED, id="PNG with a truncated header"),
        pytest.param(encoded(RGB, "JPEG")[:40], (2, 2, 3), DAMAGED, id="truncated JPEG"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + b"?" * 99, (2, 2, 1), DAMAGED, id="only the first bytes of a PNG"),
        pytest.param(b"\xff\xd8\xff" + b"?" * 99, (2, 2, 1), DAMAGED, id="only the first bytes of a JPEG"),
        pytest.param(giant(), (2, 2, 1), r"is a damaged image \(its header cannot be read\)", id="65,536 x 65,536"),
    ],
)
def test_unusable_bytes_have_their_fault_and_become_zeros(data, shape, fault):
    block, faults = to_pixels([data, None], PixelFormat("image", "bytes", shape))
    assert block.shape == (2, *shape)
    assert faults[1].what == "is null"
    assert not block.any()
    assert re.fullmatch(fault, faults[0].what), faults[0]
    assert "0x" not in faults[0].what, "a memory address means nothing to a user"
