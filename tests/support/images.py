"""Encoded images."""

import io

import numpy as np
from PIL import Image


def encoded(image, kind="PNG", **options):
    """The file of an image, an array or a Pillow image; `options` go to Pillow."""
    if not isinstance(image, Image.Image):
        image = Image.fromarray(np.asarray(image))
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
