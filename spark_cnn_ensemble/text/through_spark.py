"""Files that pyarrow cannot open, read by Spark as bytes: the driver's side.

A file is never divided among tasks, so a line's place in its file is known. Small files are read whole. Larger ones are
read by line, which keeps them out of Java's memory; Spark would divide them, but not if Hadoop takes them for
compressed: its pass-through codec compresses nothing. The codec is chosen by the end of the name, so a large file needs
one. Called by `reader`; `forwarded` makes rows of the bytes.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pyspark.errors import AnalysisException
from pyspark.sql import functions as F

from spark_cnn_ensemble.engine import engine_of
from spark_cnn_ensemble.engine.failures import in_a_sentence
from spark_cnn_ensemble.engine.interface import BATCH_BYTES
from spark_cnn_ensemble.text.files import Span
from spark_cnn_ensemble.text.forwarded import Files, first_lines_forwarded
from spark_cnn_ensemble.worker.refusal import refusing_in_python

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

WHOLE_BYTES = 64 << 20  # a larger file is read by line

_PASS_THROUGH = "org.apache.hadoop.io.compress.PassthroughCodec"
# Hadoop's name, and what it has become in the client's jar that Spark brings.
_EXTENSION = ("io.compress.passthrough.extension", "org.apache.hadoop.shaded.io.compress.passthrough.extension")
_PATTERN = set("*?[]{}")


def list_files(spark: SparkSession, root: str) -> Files | None:
    """The files at or below `root` that are not empty, in the order of their names; None if nothing is there.

    Raises
    ------
    OSError
        They cannot be listed.
    ValueError
        A large file's name does not end as Spark needs it.
    """
    if _PATTERN & set(root):
        return None
    with in_a_sentence():
        try:
            files = _files(spark, root).where("length > 0")
            rows = files.select(_key(), "_metadata.file_path", "path", "length").collect()
        except AnalysisException as error:
            if "PATH_NOT_FOUND" not in str(error):
                raise
            return None
    # Of a file, the folder of `root` is not part of the name; of a folder, all of `root` is left out.
    base = _path(root)
    spans = []
    for key, uri, path, size in rows:
        path = _path(path)
        name = path.rpartition("/")[2] if path == base else path.removeprefix(f"{base}/")
        if size > WHOLE_BYTES and not _extension(name):
            raise ValueError(
                f"{name} in {root} has {size >> 20} MiB and a name without an extension, so that Spark would divide "
                f"it; rename it to {name.rpartition('/')[2]}.txt, or divide it into files of at most "
                f"{WHOLE_BYTES >> 20} MiB."
            )
        spans.append((key, Span(name, uri, 0, size)))
    return dict(sorted(spans, key=lambda pair: pair[1].name))


def first_lines_of_files(spark: SparkSession, root: str, files: Files) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Each file's name with its first lines that are not blank; one job per file."""
    for key, span in files.items():
        with in_a_sentence(), refusing_in_python():
            lines = (
                bytes_of_files(spark, root, {key: span})
                .mapInArrow(functools.partial(first_lines_forwarded, files={key: span}), "line binary")
                .collect()
            )
        yield span.name, iter([bytes(line) for (line,) in lines])


def bytes_of_files(spark: SparkSession, root: str, files: Files) -> DataFrame:
    """The bytes of files, for `forwarded`: columns key bigint and data binary."""
    by_extension: dict[str, list[int]] = {}
    for key, span in files.items():
        if span.stop > WHOLE_BYTES:
            by_extension.setdefault(_extension(span.name), []).append(key)
    large = [key for keys in by_extension.values() for key in keys]
    frames = []
    if len(large) < len(files):
        # A filter on what is known of a file before it is opened leaves the others closed.
        these = _key() == next(iter(files)) if len(files) == 1 else ~_key().isin(large)
        whole = _files(spark, root).where(these) if len(files) == 1 or large else _files(spark, root)
        frames.append(whole.select(_key().alias("key"), F.col("content").alias("data")))
    for extension, keys in by_extension.items():
        reader = spark.read.format("text").option("lineSep", "\n").option("recursiveFileLookup", "true")
        reader = reader.option("io.compression.codecs", _PASS_THROUGH)
        for name in _EXTENSION:
            reader = reader.option(name, extension)
        lines = reader.load(root).where(_key().isin(keys))
        undivided = F.when(F.col("_metadata.file_block_start") == 0, _key())
        frames.append(lines.select(undivided.alias("key"), _line(spark).cast("binary").alias("data")))
    return functools.reduce(lambda one, other: one.unionAll(other), frames)


def _line(spark: SparkSession) -> Column:
    """A line; on Spark 3.5, whose batches have no limit in bytes and may then hang, the job fails at a wide one."""
    line, rows = F.col("value"), engine_of(spark).rows_per_batch
    if rows is None or rows == 1:
        return line
    width, together = F.octet_length("value"), "all" if rows == sys.maxsize else rows
    most = F.greatest(F.lit(1), F.floor(F.lit(BATCH_BYTES) / width))
    fault = F.concat(
        F.lit("A row of the text has "),
        width,
        F.lit(f" bytes, too many for Spark before 4.0 to send {together} rows at once; set "),
        F.lit("spark.sql.execution.arrow.maxRecordsPerBatch to "),
        most,
        F.lit(" or less."),
    )
    return F.when(width <= BATCH_BYTES // rows, line).otherwise(F.raise_error(fault))


def _files(spark: SparkSession, root: str) -> DataFrame:
    return spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(root)


def _key() -> Column:
    """The key of a file."""
    return F.xxhash64("_metadata.file_path")


def _path(path: str) -> str:
    """A path without its scheme and authority."""
    return re.sub(r"^[A-Za-z][\w+.-]*:(//[^/]*)?", "", path).rstrip("/")


def _extension(name: str) -> str:
    """The end of a file's name from the last dot on, or nothing."""
    stem, dot, end = name.rpartition("/")[2].rpartition(".")
    return dot + end if stem and end else ""
