"""Pictures of class folders, from a folder or a tar archive, as arrays."""

import io
import tarfile
from pathlib import Path

import numpy as np


def load_pictures(path, size=None, most=None):
    """Colour pictures and their classes, in a random order that is always the same.

    Parameters
    ----------
    path : str
        A folder, or a tar archive, whose files are CLASS/NAME, at any depth.
    size : int, optional
        Height and width that pictures are resized to; by default all must have one size.
    most : int, optional
        Read only this number of pictures, the first in that order.

    Returns
    -------
    images : numpy.ndarray
        Shape (n, height, width, 3), uint8.
    labels : numpy.ndarray
        Shape (n,), int64: indices into `names`.
    names : list of str
    """
    from PIL import Image

    files = sorted(_files(Path(path)))
    names, labels = np.unique([Path(name).parent.name for name, _ in files], return_inverse=True)
    order = np.random.default_rng(0).permutation(len(files))[:most]
    images = []
    for index in order:
        picture = Image.open(io.BytesIO(files[index][1])).convert("RGB")
        images.append(np.asarray(picture.resize((size, size)) if size else picture))
    return np.stack(images), labels[order], names.tolist()


def _files(path):
    """Names and contents of the files."""
    if path.is_dir():
        yield from ((str(file), file.read_bytes()) for file in path.rglob("*") if file.is_file())
        return
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile():
                yield member.name, archive.extractfile(member).read()
