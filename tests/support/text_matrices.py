"""Text matrices on disk, and their rows as comparable values."""

import bz2
import gzip
import os
from contextlib import contextmanager

import numpy as np
import pyarrow as pa

from spark_cnn_ensemble.text import reader
from spark_cnn_ensemble.text.files import read_parts

PACK = {"gz": gzip.compress, "bz2": bz2.compress, "zst": lambda text: pa.compress(text, "zstd", asbytes=True)}


def write_file(folder, name, text):
    """Write a text file with exactly these line ends, and its folders."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(text.encode())


def write_packed(folder, name, text):
    """Write a compressed file; the end of its name says how."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(PACK[name.rpartition(".")[2].lower()](text))


def write_malformed(folder, line):
    """Write two files of lines of four numbers; `line` is line 202 of sub/b.txt."""
    good = "\n".join(f"{i} 2 3 4" for i in range(200)) + "\n"
    write_file(folder, "a.txt", good)
    write_file(folder, "sub/b.txt", "\n" + good + line + "\n" + good)


@contextmanager
def forbidden(folder):
    """Nobody may read or write what is in the folder; root becomes another user, as it may do everything."""
    user = os.geteuid()
    folder.chmod(0o700 if user == 0 else 0)
    try:
        if user == 0:
            os.seteuid(65534)
        yield
    finally:
        os.seteuid(user)
        folder.chmod(0o700)


def read_here(path, label="last", sep=" ", scale=1.0, header=False, dtype="float32"):
    """What `read_text_matrix` reads, by the same functions in this process: (ids, features, labels)."""
    layout = reader.check_arguments(label, sep, scale, header, dtype)
    matrix, count = reader.plan_parts(path, layout, header, 2, reader.LOCAL_CHUNK_BYTES)
    table = pa.Table.from_batches(read_parts([pa.record_batch({"part": range(count)})], matrix))
    assert table.column_names == reader.schema_of(layout).names
    features = table["features"].to_pylist()
    features = np.array([list(row) for row in features], np.float32)  # of bytes, the number in each
    return table["id"].to_numpy(), features, None if label is None else table["label"].to_numpy()


def rows_here(path):
    """{(id, features, label)} of a text matrix, read in this process."""
    ids, features, labels = read_here(path)
    return set(zip(ids.tolist(), map(tuple, features.tolist()), labels.tolist(), strict=True))


def rows_of(frame):
    """{(id, features, label)} of a DataFrame."""
    return {(row.id, tuple(row.features), row.label) for row in frame.collect()}


def by_columns(frame):
    """Ids, features and labels of a DataFrame, in the order of its rows."""
    rows = frame.collect()
    return (
        np.array([row.id for row in rows], np.int64),
        np.array([row.features for row in rows], np.float32),
        np.array([row.label for row in rows]) if "label" in frame.columns else None,
    )
