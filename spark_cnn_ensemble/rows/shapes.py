"""The images' shape where neither a Param nor metadata has it: inferred from the first rows, in one small job.

Called by the estimator.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_cnn_ensemble.rows.features import Source
from spark_cnn_ensemble.rows.libsvm import libsvm_remedy
from spark_cnn_ensemble.worker.pictures import encoded_shape, is_encoded, other_format

_ROWS = 100  # that are looked at
_HEADER_BYTES = 256 << 10  # of each encoded picture that the driver gets; a photo's preview may come before its size
_FIRST = 3  # channels of a picture, at most, that is stored channels first

Shape = tuple[int, int, int]


class InferredShape(NamedTuple):
    """Height, width and channels; and how they were inferred, where the rows leave a choice."""

    shape: Shape
    note: str | None


def infer_shape(dataset: DataFrame, source: Source, resize: bool) -> InferredShape:
    """The images' shape, from the column's metadata or else from its first rows (a job over those rows).

    Pictures have the most frequent size. They have three channels if any has colour, and four if all have four.

    Parameters
    ----------
    dataset : DataFrame
    source : Source
        Its features column.
    resize : bool
        Whether pictures of another size are resized, so that their channels count too.

    Raises
    ------
    ValueError
        No row is usable, or the numbers in a row do not make a square image with one channel.
    """
    if source.form == "bytes":
        return _shape_of_bytes(dataset, source, resize)
    if source.form == "array":
        length = source.length_in_metadata
        lengths = _first_rows(dataset, source, F.size(source.cells)) if length is None else [(length,)]
        return _square(source, Counter(length for (length,) in lengths))
    found = [tuple(row) for row in _first_rows(dataset, source, *source.size) if None not in row and min(row) > 0]
    if not found:
        raise ValueError(_no_rows(source.name))
    if source.form == "bgr":
        return _shape_of_pictures(found, resize)
    counts = Counter(found)
    shape = max(counts, key=lambda shape: (counts[shape], shape))
    if len(shape) == 3 and shape[0] <= _FIRST < shape[2]:
        raise ValueError(
            f"Column '{source.name}' (parameter 'featuresCol') has arrays of {_by(shape)}, which look like channels "
            "first; give arrays [height][width][channels], as numpy.moveaxis(x, -3, -1) makes them, or set "
            f"inputShape={list(shape)} if the images are {shape[0]} pixels high."
        )
    height, width, channels = (*shape, 1)[:3]
    return InferredShape((height, width, channels), _note((height, width, channels), Counter(map(_by, found))))


def _first_rows(dataset: DataFrame, source: Source, *wanted: Any) -> list[Any]:
    """What is wanted of the first rows whose features are not null."""
    columns = [value.alias(f"c{index}") for index, value in enumerate(wanted)]
    usable = source.cells.isNotNull()
    if source.form == "bgr":
        usable = usable & (source.size[0] > 0)
    rows = dataset.where(usable).select(*columns).head(_ROWS)
    if not rows:
        raise ValueError(_no_rows(source.name))
    return rows


def _shape_of_bytes(dataset: DataFrame, source: Source, resize: bool) -> InferredShape:
    rows = _first_rows(dataset, source, F.substring(source.cells, 1, _HEADER_BYTES), F.length(source.cells))
    pictures, others, lengths, fault = [], list[str](), Counter[int](), None
    for head, length in rows:
        if not is_encoded(bytes(head), -1):
            if name := other_format(bytes(head), length):
                others.append(name)
            else:
                lengths[length] += 1
            continue
        try:
            pictures.append(encoded_shape(bytes(head)))
        except OSError as error:
            fault = fault or error
    if pictures:
        return _shape_of_pictures(pictures, resize)
    if others:
        raise ValueError(
            f"Column '{source.name}' (parameter 'featuresCol') begins with files of format {others[0]}; convert them "
            "to PNG or JPEG, or read GIF and BMP with spark.read.format('image')."
        )
    if not lengths:
        raise ValueError(
            f"Column '{source.name}' (parameter 'featuresCol') begins with an unreadable image ({fault}); set "
            "'inputShape' to [height, width, channels]."
        )
    return _square(source, lengths)


def _shape_of_pictures(pictures: list[Any], resize: bool) -> InferredShape:
    sizes = Counter((height, width) for height, width, _ in pictures)
    height, width = max(sizes, key=lambda size: (sizes[size], size))
    channels = {depth for *size, depth in pictures if resize or tuple(size) == (height, width)}
    depth = 4 if channels == {4} else 3 if channels - {1} else 1
    return InferredShape((height, width, depth), _note((height, width, depth), Counter(map(_by, pictures))))


def _note(shape: Shape, found: Counter[str]) -> str | None:
    """How a shape was inferred from rows that differ; None where they do not."""
    if len(found) == 1:
        return None
    kinds = [f"{count} of {kind}" for kind, count in found.most_common(4)]
    kinds += [f"{len(found) - 4} other kinds"] if len(found) > 4 else []
    return f"inferred from the first {found.total()} rows: {', '.join(kinds)}"


def _square(source: Source, lengths: Counter[int]) -> InferredShape:
    length = max(lengths, key=lambda length: (lengths[length], length))
    side, colour = math.isqrt(length), math.isqrt(length // 3)
    if side * side != length or not side:
        example = f", for example [{colour}, {colour}, 3]" if 3 * colour * colour == length and colour else ""
        remedy = libsvm_remedy(source.entry, (side + 1) ** 2)
        raise ValueError(
            f"Column '{source.name}' (parameter 'featuresCol') has {length} numbers per row, which is not a square "
            f"image with one channel; {f'{remedy}, or ' if remedy else ''}set 'inputShape' to [height, width, channels]"
            f"{example}."
        )
    note = f"taken for a square of one channel from {length} numbers"
    if len(lengths) > 1:
        note += f", the most frequent length in the first {lengths.total()} rows"
    if source.form == "bytes" and side % 2 == 0:
        note += f"; set inputShape=[{side // 2}, {side // 2}, 4] if they are pictures of four channels"
    return InferredShape((side, side, 1), note)


def _by(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape))


def _no_rows(name: str) -> str:
    return (
        f"The DataFrame has no rows with a usable column '{name}' (parameter 'featuresCol'); set 'featuresCol' to the "
        "column of images, or give rows that have one."
    )
