"""A user's images and labels as arrays: numpy, pandas, lists, pictures of Pillow's, tensors.

TensorFlow, PyTorch and Pillow are not imported: what they make is recognized if the user has loaded them, or gives its
numbers by ``__array__``. Called by `writer` and by `datasets`.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np

# Modes of Pillow's whose pixels are the numbers of the picture; in others they are indices or other spaces of colour.
_PLAIN_MODES = {"1", "L", "RGB", "RGBA", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
_CHANNELS = (1, 3, 4)


def images_and_labels(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """`x` as an array of shape (rows, ...) of real numbers, and `y` as one of shape (rows,) of whole numbers.

    Parameters
    ----------
    x : array_like, pandas.DataFrame, pandas.Series of arrays, or sequence of arrays or PIL.Image.Image
    y : array_like, pandas.Series, pandas.DataFrame with one column, or None

    Raises
    ------
    ValueError
        They cannot be read as such arrays, or do not fit together.
    """
    _check_pandas(x, y)
    images = _images(x)
    return images, None if y is None else _labels(y, len(images))


def _images(x: Any) -> np.ndarray:
    pandas = sys.modules.get("pandas")
    if _is_picture(x):
        raise ValueError("x is one picture; pass a list of pictures.")
    if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        raise ValueError("x has masked values; fill them first, as x.filled(0) does.")
    if pandas is not None and isinstance(x, pandas.DataFrame):
        x = _numbers_of_frame(x, pandas)
    elif pandas is not None and isinstance(x, pandas.Series):
        x = x.to_numpy()
    if isinstance(x, (list, tuple)) or (isinstance(x, np.ndarray) and x.dtype == object and x.ndim == 1):
        x = _stacked(x)
    images = _as_array(x, "x")
    if images.dtype == object:
        raise ValueError(f"x holds {_kind_of_first(images)}; convert it to real numbers.")
    if images.ndim < 2 or not images.size:
        raise ValueError(f"x has shape {images.shape}; it must have at least one row, and one number per row.")
    if images.dtype.kind not in "buif":
        raise ValueError(
            f"x holds {images.dtype}; convert it to real numbers, as numpy.asarray(x).astype('float32') does."
        )
    if images.ndim == 4 and images.shape[1] in (3, 4) and images.shape[3] not in _CHANNELS:
        warnings.warn(
            f"x has shape {images.shape}, which looks as if channels come before height and width; they are expected "
            "last, as numpy.transpose(x, (0, 2, 3, 1)) puts them.",
            stacklevel=4,
        )
    return images


def _labels(y: Any, rows: int) -> np.ndarray:
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(y, (pandas.DataFrame, pandas.Series)):
        missing = np.flatnonzero(np.asarray(y.isna()).reshape(len(y), -1).any(axis=1))
        if len(missing):
            raise ValueError(f"y has no label in row {missing[0]}; leave out the rows without one.")
        y = y.to_numpy()
    if isinstance(y, np.ma.MaskedArray) and np.ma.is_masked(y):
        row = np.flatnonzero(np.ma.getmaskarray(y).reshape(len(y), -1).any(axis=1))[0]
        raise ValueError(f"y has no label in row {row}, which is masked; leave out the rows without one.")
    if isinstance(y, str):
        raise ValueError(f"y is the text {y!r}; pass the labels themselves, such as table[{y!r}].")
    labels = _as_array(y, "y")
    if labels.shape == (rows, 1):  # a column of a table, or Keras' CIFAR-10
        labels = labels[:, 0]
    if labels.ndim == 2 and len(labels) == rows:
        raise ValueError(
            f"y has shape {labels.shape} where one label per row is expected; if it is one-hot, pass "
            "numpy.argmax(y, axis=1)."
        )
    if labels.shape != (rows,):
        raise ValueError(f"y has shape {labels.shape} where x has {rows} rows; give one label for each row.")
    if labels.dtype == object and all(isinstance(label, (bool, int, float, np.number, np.bool_)) for label in labels):
        labels = np.array(labels.tolist())
    if labels.dtype.kind in "OSUT":
        raise ValueError(
            f"y holds {_kind_of_first(labels)} where whole numbers are expected; index the classes, as classes, y = "
            "numpy.unique(y, return_inverse=True) or a StringIndexer of Spark's does."
        )
    if labels.dtype.kind == "b":
        return labels.astype(np.uint8)
    if labels.dtype.kind not in "uif" or not np.isfinite(labels).all() or (labels != np.trunc(labels)).any():
        raise ValueError("y must hold whole numbers; index the classes from 0.")
    return labels


def _check_pandas(x: Any, y: Any) -> None:
    """Refuse a table and labels whose rows, or columns, do not belong together."""
    pandas = sys.modules.get("pandas")
    if pandas is None or not isinstance(y, (pandas.Series, pandas.DataFrame)):
        return
    if not isinstance(x, (pandas.Series, pandas.DataFrame)):
        return
    if len(x) == len(y) and not x.index.equals(y.index):
        raise ValueError(
            "x and y have different indexes; pass y.loc[x.index] if the index says which label belongs to which row, "
            "or y.to_numpy() if their order does."
        )
    names = [y.name] if isinstance(y, pandas.Series) else list(y.columns)
    if isinstance(x, pandas.DataFrame) and (both := [name for name in names if name is not None and name in x.columns]):
        raise ValueError(f"x has the column {both[0]!r} of labels; leave it out, as x.drop(columns={both[0]!r}) does.")


def _numbers_of_frame(frame: Any, pandas: Any) -> Any:
    """The numbers of a table, or the cells of its only column."""
    if frame.shape[1] == 1 and frame.dtypes.iloc[0].kind == "O":
        return frame.iloc[:, 0].to_numpy()
    for name, kind in zip(frame.columns, frame.dtypes, strict=True):
        if not pandas.api.types.is_numeric_dtype(kind) or pandas.api.types.is_complex_dtype(kind):
            raise ValueError(f"x has the column {name!r} of type {kind}; convert it to real numbers, or leave it out.")
    numbers = frame.to_numpy()
    return frame.to_numpy(dtype=np.float64, na_value=np.nan) if numbers.dtype == object else numbers


def _stacked(rows: Any) -> Any:
    """An array of rows that are arrays, sequences or pictures.

    Raises
    ------
    ValueError
        Two rows differ in shape, or two pictures in their mode.
    """
    if not len(rows) or not (_is_picture(rows[0]) or hasattr(rows[0], "__len__")) or isinstance(rows[0], (str, bytes)):
        return rows
    arrays: list[np.ndarray] = []
    for at, row in enumerate(rows):
        if np.ma.is_masked(row):
            raise ValueError(f"x[{at}] has masked values; fill them first, as x[{at}].filled(0) does.")
        if _is_picture(row):
            _check_like_first(row, rows[0], at)
        arrays.append(_pixels(row, f"x[{at}]") if _is_picture(row) else _as_array(row, f"x[{at}]"))
        if arrays[at].shape != arrays[0].shape:
            raise ValueError(
                f"x[{at}] has shape {arrays[at].shape} where x[0] has shape {arrays[0].shape}; give all rows one shape."
            )
    return np.stack(arrays)


def _check_like_first(picture: Any, first: Any, at: int) -> None:
    if not _is_picture(first):
        raise ValueError(f"x[{at}] is a picture where x[0] is a {type(first).__name__}; give all rows as pictures.")
    if picture.mode != first.mode:
        raise ValueError(
            f"x[{at}] is a picture of mode {picture.mode} where x[0] has mode {first.mode}; give all one mode, as "
            "image.convert('RGB') does."
        )
    if picture.size != first.size:
        raise ValueError(
            f"x[{at}] is a picture of {picture.width}x{picture.height} pixels where x[0] has {first.width}x"
            f"{first.height}; resize them, as image.resize({first.size}) does."
        )


def _is_picture(value: Any) -> bool:
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(value, pillow.Image)


def _pixels(picture: Any, name: str) -> np.ndarray:
    """The pixels of a picture; colours of a palette and of other spaces become red, green, blue and alpha."""
    try:
        if picture.mode not in _PLAIN_MODES:
            alpha = picture.mode in ("LA", "La", "PA", "RGBa") or "transparency" in picture.info
            picture = picture.convert("RGBA" if alpha else "RGB")
        return np.asarray(picture)
    except Exception as error:  # Pillow raises many kinds for damaged files
        file = getattr(picture, "filename", "")
        raise ValueError(f"{name}{f', {file},' if file else ''} cannot be read ({error}); leave it out.") from None


def _as_array(value: Any, name: str) -> np.ndarray:
    try:
        array = np.asarray(value)
    except Exception as error:  # __array__ of any library
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ValueError(f"{name} cannot be read as an array ({reason}); convert it to a numpy array.") from None
    if array.dtype == object and array.ndim == 0:
        kind = type(value)
        raise ValueError(
            f"{name} is a {kind.__module__}.{kind.__qualname__}, which is not an array; convert it to a numpy array."
        )
    return array


def _kind_of_first(array: np.ndarray) -> str:
    first = array.flat[0] if array.size else None
    return {"str": "text", "bytes": "text", "bytes_": "text", "str_": "text"}.get(
        type(first).__name__, f"objects such as {type(first).__name__}"
    )
