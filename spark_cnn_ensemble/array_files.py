"""Training and test arrays in files: a folder of four IDX files, as MNIST's, and Keras' ``.npz``.

Sizes in a header are checked against the file before memory is taken. Called by `datasets`.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Arrays = tuple[np.ndarray, np.ndarray]

_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}  # the third byte of an IDX file
_PARTS = (("train", "images"), ("train", "labels"), ("t10k|test", "images"), ("t10k|test", "labels"))
_NAMES = ("x_train", "y_train", "x_test", "y_test")
_MOST_EXPANDED = 1100  # bytes per compressed byte: deflate gives at most 1,032


class _Idx(NamedTuple):
    """The header of an IDX file."""

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def start(self) -> int:
        """Offset of the first number."""
        return 4 + 4 * len(self.shape)


def read_idx_folder(folder: Path, all_known: bool) -> tuple[Arrays, Arrays]:
    """The arrays in a folder of four IDX files, gzipped or not.

    Parameters
    ----------
    folder : pathlib.Path
        If it has a file ``SHA256SUMS``, the uncompressed bytes of the files in it are compared with their SHA-256.
    all_known : bool
        Whether all four must be in ``SHA256SUMS``.

    Returns
    -------
    ((x_train, y_train), (x_test, y_test))

    Raises
    ------
    FileNotFoundError
        A file is missing.
    ValueError
        A file is damaged or is not an IDX file, or the files do not belong together.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"Nothing is at {folder}; pass a folder of four IDX files, or an .npz file.")
    sums = _sums(folder / "SHA256SUMS", all_known)
    headers = [_header(_find(folder, part, kind)) for part, kind in _PARTS]
    for images, labels in (headers[:2], headers[2:]):
        if len(images.shape) < 2 or len(labels.shape) != 1 or images.shape[0] != labels.shape[0]:
            raise ValueError(
                f"{labels.path} has labels of shape {labels.shape} where {images.path} has images of shape "
                f"{images.shape}; put the files of one data set there."
            )
    if headers[0].shape[1:] != headers[2].shape[1:]:
        raise ValueError(
            f"{headers[2].path} has images of shape {headers[2].shape[1:]} where {headers[0].path} has "
            f"{headers[0].shape[1:]}; put the files of one data set there."
        )
    x_train, y_train, x_test, y_test = (_numbers(header, sums, all_known) for header in headers)
    return (x_train, y_train), (x_test, y_test)


def _sums(path: Path, needed: bool) -> dict[str, str]:
    if not path.is_file():
        if needed:
            raise FileNotFoundError(f"{path} is missing; copy it there, or install the package again.")
        return {}
    lines = re.findall(r"^([0-9a-f]{64}) [ *](.+)$", path.read_text(errors="replace"), re.MULTILINE)
    return {name.strip(): digest for digest, name in lines}


def _find(folder: Path, part: str, kind: str) -> Path:
    """The file of a part and kind; of a gzipped and an unpacked file of one name, the gzipped one."""
    name = re.compile(rf"(.*[-_])?({part})[-_]{kind}[-.]idx\d-\w+(\.gz)?")
    found = {path.name.removesuffix(".gz"): path for path in sorted(folder.iterdir()) if name.fullmatch(path.name)}
    found = {stem: path for stem, path in found.items() if path.is_file()}
    if len(found) > 1:
        names = " and ".join(list(found)[:2])
        raise ValueError(f"{folder} has {names}; put the four files of one data set into a folder of their own.")
    if not found:
        usual = f"{part.partition('|')[0]}-{kind}-idx{3 if kind == 'images' else 1}-ubyte.gz"
        npz = next((f"; pass the path of {path.name} itself" for path in sorted(folder.glob("*.npz"))), "")
        raise FileNotFoundError(f"{folder / usual} is missing{npz or '; copy it there, or pass its folder'}.")
    return next(iter(found.values()))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(_damage(path, error)) from error


def _damage(path: Path, error: Exception) -> str:
    unreadable = isinstance(error, OSError) and error.strerror  # an error of the operating system
    return f"{path} cannot be read ({unreadable})." if unreadable else f"{path} is damaged ({error}); copy it again."


def _header(path: Path) -> _Idx:
    """The header: two zero bytes, a type, the number of dimensions, each as a big-endian number of 32 bits."""
    with _opened(path) as file:
        start = file.read(4)
        ndim = start[3] if len(start) == 4 and start[:2] == b"\0\0" and start[2] in _TYPES else 0
        sizes = file.read(4 * ndim)
    if not 1 <= ndim <= 4 or len(sizes) < 4 * ndim:
        raise ValueError(f"{path} is not an IDX file; copy one there whose first bytes are those of the format.")
    header = _Idx(path, np.dtype(_TYPES[start[2]]), tuple(np.frombuffer(sizes, ">u4").tolist()))
    need = prod(header.shape) * header.dtype.itemsize
    if not need or need > path.stat().st_size * (_MOST_EXPANDED if path.suffix == ".gz" else 1):
        raise ValueError(
            f"{path} has the shape {header.shape} in its header, which is empty or more than the file holds; "
            "copy it again."
        )
    return header


def _numbers(header: _Idx, sums: dict[str, str], known: bool) -> np.ndarray:
    path, need = header.path, prod(header.shape) * header.dtype.itemsize
    with _opened(path) as file:
        start = file.read(header.start)
        data = file.read(need + 1)
    digest = sums.get(path.name.removesuffix(".gz"))
    if (known or digest) and _sha256(start, data) != digest:
        raise ValueError(f"{path} is damaged, its SHA-256 is not that in {path.parent / 'SHA256SUMS'}; copy it again.")
    if len(data) != need:
        size = f"{len(data)} bytes" if len(data) < need else "more bytes"
        raise ValueError(f"{path} is damaged, it has {size} where its header says {need}; copy it again.")
    return np.frombuffer(data, header.dtype).reshape(header.shape).astype(header.dtype.newbyteorder("="))


def _sha256(*pieces: bytes) -> str:
    total = hashlib.sha256()
    for piece in pieces:
        total.update(piece)
    return total.hexdigest()


def read_npz(path: Path) -> tuple[Arrays, Arrays]:
    """The arrays x_train, y_train, x_test and y_test of an ``.npz`` file, which are never unpickled.

    Returns
    -------
    ((x_train, y_train), (x_test, y_test))

    Raises
    ------
    ValueError
        The file is damaged, or does not hold the four arrays.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if missing := [name for name in _NAMES if name not in members]:
                raise ValueError(
                    f"{path} has no {missing[0]}, only {', '.join(sorted(members)[:8])}; load it with numpy.load, and "
                    "pass its arrays to to_dataframe."
                )
            x_train, y_train, x_test, y_test = (_member(archive, members[name], name, path) for name in _NAMES)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise ValueError(_damage(path, error)) from error
    for x, y, part in ((x_train, y_train, "train"), (x_test, y_test, "test")):
        if len(x) != len(y):
            raise ValueError(f"{path} has {len(x)} rows in x_{part} where y_{part} has {len(y)}; write it again.")
    return (x_train, y_train), (x_test, y_test)


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, path: Path) -> np.ndarray:
    with archive.open(info) as file:
        try:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
        except Exception:  # numpy raises many kinds for damaged headers
            raise ValueError(f"{name} in {path} is not an array of numpy's; write it again.") from None
    if dtype.hasobject or dtype.kind not in "buif" or not shape:
        raise ValueError(
            f"{name} in {path} holds {dtype} of shape {shape}, not rows of numbers; objects are not unpickled: save it "
            "as an array of numbers."
        )
    need = prod(shape) * dtype.itemsize
    compressed = min(info.compress_size, path.stat().st_size)
    if need >= info.file_size or info.file_size > compressed * _MOST_EXPANDED:
        raise ValueError(f"{name} in {path} has the shape {shape}, which is more than the file holds; copy it again.")
    with archive.open(info) as file:
        try:
            return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
        except ValueError as error:
            raise ValueError(f"{name} in {path} is damaged ({error}); copy it again.") from None
