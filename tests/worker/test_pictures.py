"""Pictures that are transparent, of 16 bits, or of another size keep what they show."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from support.images import encoded

from spark_cnn_ensemble.worker.pictures import MAX_RESIZED, decode, encoded_shape, resized_struct
from spark_cnn_ensemble.worker.refusal import Unusable

INK = np.array([[255, 0, 0], [0, 128, 0]], np.uint8)  # alpha of black ink
ON_WHITE = 255 - INK  # what it looks like


def shown(data, channels=1, size=(2, 3), resize=False):
    return decode(data, (*size, channels), resize, "resize it")


def png(depth, kind, rows, *chunks):
    """A PNG whose samples are packed by hand."""

    def chunk(name, data):
        return struct.pack(">L", len(data)) + name + data + struct.pack(">L", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">2L5B", 2, len(rows), depth, kind, 0, 0, 0))
    extra = [chunk(*pair) for pair in chunks]
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"".join([b"\x89PNG\r\n\x1a\n", header, *extra, pixels, chunk(b"IEND", b"")])


# ---- transparency


def ink(mode):
    """Black ink on a transparent ground, encoded."""
    grey_alpha = Image.merge("LA", [Image.new("L", (3, 2)), Image.fromarray(INK)])
    return encoded(grey_alpha.convert(mode))


def palette():
    """Black at three opacities, as a palette with tRNS."""
    image = Image.fromarray(np.array([[0, 1, 1], [1, 2, 1]], np.uint8), "P")
    image.putpalette([0] * 9)
    return encoded(image, transparency=bytes([255, 0, 128]))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("data", [ink("LA"), ink("RGBA"), palette()], ids=["LA", "RGBA", "palette"])
def test_transparent_pictures_are_on_white(data, channels):
    assert np.array_equal(shown(data, channels), np.repeat(ON_WHITE[..., None], channels, axis=-1))


def test_four_channels_keep_the_alpha():
    assert np.array_equal(shown(ink("RGBA"), 4)[..., 3], INK)


KEYED = {
    "1 bit": (png(1, 0, [b"\x40"], (b"tRNS", b"\0\1")), [[0, 255]]),
    "2 bits": (png(2, 0, [b"\x60"], (b"tRNS", b"\0\2")), [[85, 255]]),
    "4 bits": (png(4, 0, [b"\x37"], (b"tRNS", b"\0\7")), [[51, 255]]),
    "8 bits": (png(8, 0, [b"\x09\x0a"], (b"tRNS", b"\0\x09")), [[255, 10]]),
    "16 bits": (png(16, 0, [b"\x01\x00\x00\xff"], (b"tRNS", b"\x01\x00")), [[65535, 255]]),
    "RGB": (png(8, 2, [bytes([9, 9, 9, 8, 8, 8])], (b"tRNS", bytes([0, 9, 0, 9, 0, 9]))), [[255, 8]]),
    "RGB of 16 bits": (png(16, 2, [bytes([9, 0] * 3 + [8, 0] * 3)], (b"tRNS", bytes([9, 0] * 3))), [[255, 8]]),
}


@pytest.mark.parametrize("case", KEYED)
def test_a_transparent_colour_becomes_white(case):
    data, expected = KEYED[case]
    assert shown(data, size=(1, 2))[..., 0].tolist() == expected


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
@pytest.mark.parametrize("channels", [1, 3])
def test_opaque_pictures_are_what_pillow_converts(mode, channels):
    colours = np.random.default_rng(3).integers(0, 256, (5, 4, 3), np.uint8)
    image = Image.fromarray(colours).convert("RGBA" if mode == "LA" else "RGB").convert(mode)
    expected = np.asarray(image.convert({1: "L", 3: "RGB"}[channels])).reshape(5, 4, channels)
    assert np.array_equal(shown(encoded(image), channels, (5, 4)), expected)


def test_white_ink_on_a_transparent_ground_is_refused():
    image = Image.merge("LA", [Image.new("L", (3, 2), 255), Image.fromarray(INK)])
    with pytest.raises(Unusable) as caught:
        shown(encoded(image))
    assert caught.value.fault == (
        "is white on a transparent ground, so that nothing is left on white",
        "give it a dark ground",
    )


def test_a_picture_without_ink_is_white():
    assert shown(encoded(np.zeros((2, 3, 4), np.uint8))).min() == 255


def test_a_transparent_grey_picture_has_one_channel():
    assert encoded_shape(ink("LA")) == (2, 3, 1)


# ---- 16 bits of grey

GREY = np.array([[0, 17, 300], [4095, 40000, 65535]], np.uint16)


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_of_grey_keep_their_values(channels):
    image = shown(encoded(GREY), channels)
    assert image.dtype == np.uint16
    assert np.array_equal(image, np.repeat(GREY[..., None], channels, axis=-1))


def test_16_bits_of_grey_with_four_channels_are_opaque():
    image = shown(encoded(GREY), 4)
    assert np.array_equal(image[..., 0], GREY)
    assert (image[..., 3] == 65535).all()


# ---- another size

PHOTO = np.random.default_rng(4).integers(0, 256, (12, 16, 3), np.uint8)
SMOOTH = np.asarray(Image.fromarray(PHOTO).resize((4, 6), Image.Resampling.BILINEAR))


def test_a_picture_of_another_size_is_resized():
    assert np.array_equal(shown(encoded(PHOTO), 3, (6, 4), resize=True), SMOOTH)


def test_a_picture_of_the_size_is_not_changed_by_resizing():
    assert np.array_equal(shown(encoded(PHOTO), 3, (12, 16), resize=True), PHOTO)


def test_a_large_jpeg_is_decoded_at_a_part_of_its_size_and_looks_the_same():
    photo = Image.fromarray(PHOTO).resize((640, 480))
    data = encoded(photo, "JPEG", quality=95)
    whole = Image.open(io.BytesIO(data)).resize((16, 12), Image.Resampling.BILINEAR)
    difference = shown(data, 3, (12, 16), resize=True).astype(int) - np.asarray(whole)
    assert np.abs(difference).max() < 12


def test_16_bits_of_grey_are_resized():
    image = shown(encoded(np.full((8, 6), 3001, np.uint16)), 1, (2, 2), resize=True)
    assert image.dtype == np.uint16
    assert (image == 3001).all()


def test_transparent_pictures_are_resized():
    large = np.zeros((8, 8, 4), np.uint8)
    large[:, :4, 3] = 255  # black on the left
    image = shown(encoded(large), 1, (2, 2), resize=True)[..., 0]
    assert image[:, 0].max() < 64
    assert image[:, 1].min() > 191


def test_a_picture_that_is_too_large_is_not_decoded():
    side = int(MAX_RESIZED**0.5) + 1
    data = png(8, 0, [b"\0\0"])
    header = data[:16] + struct.pack(">2L", side, side) + data[24:29]
    data = header + struct.pack(">L", zlib.crc32(header[12:])) + data[33:]
    with pytest.raises(Unusable) as caught:
        shown(data, resize=True)
    assert caught.value.fault == (
        f"is an image of {side}x{side} pixels, more than the 50,000,000 that resizeImages decodes",
        "make it smaller",
    )


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("wanted", [1, 3])
def test_an_image_struct_is_resized_and_converted(channels, wanted):
    rgba = np.concatenate([PHOTO, np.full((12, 16, 1), 255, np.uint8)], axis=-1)
    image = rgba[..., :channels]
    stored = image if channels == 1 else image[..., [2, 1, 0, 3][:channels]]
    cell = f"12 16 {channels}\n".encode() + stored.tobytes()
    expected = np.asarray(Image.fromarray(image.squeeze()).convert({1: "L", 3: "RGB"}[wanted]))
    assert np.array_equal(resized_struct(cell, (12, 16, wanted)), expected.reshape(12, 16, wanted))
    assert resized_struct(cell, (6, 4, wanted)).shape == (6, 4, wanted)
