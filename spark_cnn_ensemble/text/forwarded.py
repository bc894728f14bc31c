"""Bytes of files that Spark reads -> Arrow batches of rows: the executors' side where pyarrow cannot open the files.

A file comes to one task, in pieces that are joined by line ends: one piece, or one per line. Called by workers for
`reader`; `through_spark` makes the pieces.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from spark_cnn_ensemble.text.compressed import ForwardText, codec_of
from spark_cnn_ensemble.text.files import TO_THE_END, Matrix, Span, first_lines, rows_of_span
from spark_cnn_ensemble.worker.refusal import Refusal

FIRST_LINES = 3  # that show the layout: a header, a row and the line after it

Files = dict[int, Span]  # by the key that comes with their pieces


def read_forwarded(batches: Iterable[pa.RecordBatch], files: Files, matrix: Matrix) -> Iterator[pa.RecordBatch]:
    """The rows of files whose keys and pieces are in the two columns of `batches`.

    Raises
    ------
    Refusal
        A file is damaged or has changed, or a line is malformed; the message names the file and the line.
    """
    for span, text in _texts(batches, files):
        with text:
            yield from rows_of_span(text, span._replace(stop=TO_THE_END), matrix)


def first_lines_forwarded(batches: Iterable[pa.RecordBatch], files: Files) -> Iterator[pa.RecordBatch]:
    """The first lines that are not blank of the only file in `batches`."""
    for _, text in _texts(batches, files):
        with text:
            lines = [line for _, line in itertools.islice(first_lines(text), FIRST_LINES)]
        yield pa.record_batch({"line": pa.array(lines, pa.binary())})
        return


def _texts(batches: Iterable[pa.RecordBatch], files: Files) -> Iterator[tuple[Span, ForwardText]]:
    for key, pieces in itertools.groupby(_pieces(batches), key=lambda pair: pair[0]):
        if key is None:
            raise Refusal(
                "Spark has divided a large file, so that the places of its lines are not known; divide it into files "
                "of at most 64 MiB."
            )
        if span := files.get(key):  # others are empty, or were added later
            yield span, ForwardText(_Joined((piece for _, piece in pieces), span), codec_of(span.name), span.name)


def _pieces(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int | None, bytes]]:
    """Keys of files, each with some of the file's pieces joined."""
    for batch in batches:
        keys, data = batch.column(0), batch.column(1)
        if keys.null_count:
            yield None, b""
        numbers = keys.to_numpy(zero_copy_only=False)
        ends = [*(np.flatnonzero(numbers[1:] != numbers[:-1]) + 1).tolist(), len(numbers)]
        for start, end in itertools.pairwise([0, *ends]):
            if start < end:
                yield int(numbers[start]), b"\n".join(data.slice(start, end - start).to_pylist())


class _Joined:
    """The bytes of a file, as a file object."""

    closed = False

    def __init__(self, pieces: Iterator[bytes], span: Span) -> None:
        self._pieces = self._with_line_ends(pieces, span)
        self._piece = b""
        self._at = 0

    def _with_line_ends(self, pieces: Iterator[bytes], span: Span) -> Iterator[bytes]:
        total = 0
        for at, piece in enumerate(pieces):
            if at:
                yield b"\n"
            if piece:
                yield piece
            total += len(piece) + bool(at)
        # Spark's lines do not show whether the last one has an end, and lack a byte order mark of three bytes.
        missing = span.stop - total
        if missing in (1, 4):
            yield b"\n"
        if missing not in (0, 1, 3, 4):
            raise Refusal(
                f"{span.name} has changed from {span.stop} to {total} bytes since read_text_matrix was called; call it "
                "again."
            )

    def read(self, size: int) -> bytes:
        """At most `size` bytes; fewer only at the end."""
        parts = []
        while size > 0:
            if self._at == len(self._piece):
                self._piece, self._at = next(self._pieces, b""), 0
                if not self._piece:
                    break
            parts.append(self._piece[self._at : self._at + size])
            self._at += len(parts[-1])
            size -= len(parts[-1])
        return b"".join(parts)

    def readable(self) -> bool:
        """Whether it can be read, which pyarrow asks."""
        return True

    def close(self) -> None:
        """Forget what was not read."""
        self._piece, self.closed = b"", True
