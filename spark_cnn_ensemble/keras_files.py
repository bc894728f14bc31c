"""The layers in a Keras file (.keras, .weights.h5), read without trust.

Only the arrays and the names of the layers are read: no configuration, no object of Keras, no link that leaves the
file. Sizes are checked before memory is taken for them. Called by `initial_model`.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

WEIGHTS = "model.weights.h5"  # in a .keras file
_MOST_EXPANSION = 20  # of a compressed zip entry; trained weights shrink by a tenth
_DEEPEST = 100  # groups inside groups
_AGAIN = "load the model with Keras 3 and save it with model.save('name.keras')"


class StoredLayer(NamedTuple):
    """A layer with its arrays.

    Parameters
    ----------
    path : str
        Where Keras keeps it: kinds of layers and their order, such as layers/conv2d_1.
    name : str
        "" if the file does not give it.
    arrays : tuple of numpy.ndarray
        In Keras' order; float32, or integers.
    """

    path: str
    name: str
    arrays: tuple[np.ndarray, ...]


def stored_layers(data: bytes, zipped: bool) -> list[StoredLayer]:
    """The layers with arrays in the bytes of a Keras file.

    Parameters
    ----------
    data : bytes
    zipped : bool
        Whether it is a .keras file rather than a .weights.h5 file.

    Raises
    ------
    ValueError
        The bytes are not a sound file, or one of Keras 2.
    """
    try:
        return list(_layers(_unzipped(data) if zipped else data))
    except _Unsafe as error:
        raise ValueError(f"{error}; {_AGAIN}.") from None
    except Exception as error:  # zipfile, h5py and numpy raise many kinds
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(".")
        raise ValueError(f"it is damaged or not a Keras file ({reason}); {_AGAIN}.") from None


class _Unsafe(ValueError):
    """What no Keras of version 3 writes."""


def _unzipped(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [entry for entry in archive.infolist() if entry.filename == WEIGHTS]
        if len(entries) != 1:
            raise _Unsafe(f"it has no single {WEIGHTS}, the file of weights that Keras writes into a .keras file")
        if entries[0].file_size > _MOST_EXPANSION * len(data):
            raise _Unsafe(f"its {WEIGHTS} claims {entries[0].file_size:,} bytes, the whole file has {len(data):,}")
        if entries[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _Unsafe(f"its {WEIGHTS} is compressed as Keras does not")  # and may take any memory at once
        with archive.open(entries[0]) as file:
            return file.read(entries[0].file_size)  # without a size, a gigabyte would be unpacked at once


def _layers(data: bytes) -> Iterator[StoredLayer]:
    import h5py

    with h5py.File(io.BytesIO(data), "r") as file:
        if "layer_names" in file.attrs or {"model_weights", "_layer_checkpoint_dependencies"} & set(file):
            raise _Unsafe("it has the format of Keras 2")
        room = len(data)
        for path, group in _groups(file):
            datasets = [_dataset(group, name, path) for name in sorted(group, key=_number)]
            # Several names may stand for the same bytes of the file.
            room -= sum(dataset.id.get_storage_size() for dataset in datasets)
            if room < 0:
                raise _Unsafe("its arrays claim more bytes than it has")
            if datasets:
                yield StoredLayer(path, _name(group), tuple(_read(dataset) for dataset in datasets))


def _groups(file: Any) -> Iterator[tuple[str, Any]]:
    """Paths of layers and their groups of arrays; those of optimizers and of random numbers are left out."""
    import h5py

    pending = [("layers", _member(file, "layers"))] if "layers" in file else []
    seen = set()
    while pending:
        path, group = pending.pop()
        if not isinstance(group, h5py.Group):
            raise _Unsafe(f"its {path} is not a group")
        place = h5py.h5o.get_info(group.id).addr
        if place in seen or path.count("/") > _DEEPEST:
            raise _Unsafe(f"its group {path} is in a loop")
        seen.add(place)
        names = list(group)
        if "vars" in names and isinstance(arrays := _member(group, "vars"), h5py.Group):
            yield path, arrays
        pending += [
            (f"{path}/{name}", _member(group, name))
            for name in reversed(names)
            if name not in ("vars", "seed_generator")
        ]


def _member(group: Any, name: str) -> Any:
    """What a group holds under a name, which must be no link to another place."""
    import h5py

    if group.get(name, getclass=True, getlink=True) is not h5py.HardLink:
        raise _Unsafe(f"its {name!r} is a link to another place")
    return group[name]


def _number(name: str) -> int:
    if not (name.isascii() and name.isdigit()):
        raise _Unsafe(f"its array {name[:60]!r} has no number")
    return int(name[:9])


def _dataset(group: Any, name: str, path: str) -> Any:
    """An array that is stored plainly: as many bytes as its shape says, in the file itself."""
    import h5py

    dataset, what = _member(group, name), f"its array {path}/{name}"
    if not isinstance(dataset, h5py.Dataset):
        raise _Unsafe(f"{what} is not an array")
    if dataset.external or dataset.is_virtual:
        raise _Unsafe(f"{what} is in another file")
    if dataset.chunks is not None:
        raise _Unsafe(f"{what} is compressed or in pieces, which Keras does not write")
    if dataset.shape is None or not (dataset.dtype.kind in "fiu" or _is_bfloat16(dataset)):
        raise _Unsafe(f"{what} has numbers of type {str(dataset.dtype)[:60]}")
    claimed, stored = math.prod(dataset.shape) * dataset.dtype.itemsize, dataset.id.get_storage_size()
    if claimed != stored:
        raise _Unsafe(f"{what} claims {claimed:,} bytes of shape {list(dataset.shape)[:8]}, but has {stored:,}")
    return dataset


def _is_bfloat16(dataset: Any) -> bool:
    # Keras writes such arrays as two opaque bytes per number.
    return dataset.dtype.kind == "V" and dataset.dtype.itemsize == 2 and dataset.dtype.names is None


def _read(dataset: Any) -> np.ndarray:
    array = dataset[()]
    if _is_bfloat16(dataset):
        array = (np.asarray(array).view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what is not finite is refused where it is used
            array = array.astype(np.float32)
    return np.asarray(array)


def _name(group: Any) -> str:
    import h5py

    if "name" not in group.attrs:
        return ""
    attribute = group.attrs.get_id("name")
    if attribute.shape != () or h5py.check_string_dtype(attribute.dtype) is None:
        return ""
    name = group.attrs["name"]
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
