"""Reading the text matrix: this library's reader against Spark's own expressions.

Claim: `read_text_matrix` reads 1.178 GB of text (MNIST's 60,000 rows as `numpy.savetxt` writes them) at least 1.5 times
as fast as `split` and `cast`. Both into Spark's "noop" sink, in turn, 5 times after one warm-up; median (minimum to
maximum).
"""

import statistics
import tempfile
import time

from _results import record, session
from pyspark.sql import functions as F

from spark_cnn_ensemble.datasets import load_mnist, read_text_matrix, write_text_matrix


def by_expressions(spark, path):
    """The same rows, but for the id, by Spark's own functions."""
    numbers = spark.read.text(path).select(F.split("value", " ").cast("array<float>").alias("numbers"))
    return numbers.select(
        F.slice("numbers", 1, 784).alias("features"), F.element_at("numbers", -1).cast("int").alias("label")
    )


def main():
    """Write the text, read it both ways, record the table."""
    spark = session()
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/text"
        begun = time.perf_counter()
        write_text_matrix(path, *load_mnist()[0])
        written = time.perf_counter() - begun
        ways = {"read_text_matrix": read_text_matrix, "split and cast": by_expressions}
        seconds = {name: [] for name in ways}
        for _ in range(6):
            for name, read in ways.items():
                begun = time.perf_counter()
                read(spark, path).write.format("noop").mode("overwrite").save()
                seconds[name].append(time.perf_counter() - begun)
    lines = ["| way | seconds |", "|---|---|"]
    for name, times in seconds.items():
        lines.append(f"| {name} | {statistics.median(times[1:]):.2f} ({min(times[1:]):.2f} to {max(times[1:]):.2f}) |")
    ratios = [other / ours for ours, other in zip(*(times[1:] for times in seconds.values()), strict=True)]
    lines.append(f"\nRatio, pair by pair: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}).")
    lines.append(f"Written by `write_text_matrix` in {written:.1f} s.")
    record("Reading the text matrix", __doc__.split("\n\n", 1)[1].strip(), "\n".join(lines))


if __name__ == "__main__":
    main()
