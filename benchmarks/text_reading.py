"""Reading the text matrix.

Claim: `read_text_matrix` reads 1.178 GB of text at least 1.5 times as fast as Spark's `split` and `cast`.

The text is MNIST's 60,000 training rows as `numpy.savetxt` writes them. Both ways read into Spark's "noop" sink, in
turn, 5 runs after a warm-up; seconds, median (minimum to maximum).

Needs: 1.2 GB of disk in the temporary folder.
Takes: 2 minutes.
"""

import statistics
import tempfile

from _processes import start
from _results import record, table
from _session import compute, session
from _timing import alternate, ratios, seconds_of, spread
from pyspark.sql import functions as sf

from spark_cnn_ensemble.datasets import load_mnist, read_text_matrix, write_text_matrix


def by_expressions(spark, path):
    """The same rows by Spark's own functions, without the id."""
    numbers = spark.read.text(path).select(sf.split("value", " ").cast("array<float>").alias("numbers"))
    return numbers.select(
        sf.slice("numbers", 1, 784).alias("features"), sf.element_at("numbers", -1).cast("int").alias("label")
    )


def main():
    """Write the text, read it both ways, record the table."""
    spark = session()
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/text"
        x, y = load_mnist()[0]
        written = seconds_of(write_text_matrix, path, x, y)
        found = alternate(
            {
                "read_text_matrix": lambda: seconds_of(lambda: compute(read_text_matrix(spark, path))),
                "split and cast": lambda: seconds_of(lambda: compute(by_expressions(spark, path))),
            }
        )
    ratio = ratios(found["split and cast"], found["read_text_matrix"])
    record(
        __file__,
        __doc__,
        f"{statistics.median(ratio):.2f} times as fast",
        table(("way", "seconds"), [(name, spread(values, ".2f")) for name, values in found.items()]),
        f"Ratio, pair by pair: {spread(ratio, '.2f')}. `write_text_matrix` wrote the text in {written:.1f} s.",
    )


if __name__ == "__main__":
    start(__doc__, main)
