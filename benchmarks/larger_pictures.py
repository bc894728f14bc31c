"""Larger pictures.

Claim: Two members train on 2,000 pictures of 224x224 pixels with `maxMemoryInMB=64`, a quarter of their bags, to the
same accuracies as without that limit and with less memory per worker.

Pictures are JPEG or PNG files in one folder per class, read with Spark's `binaryFile` and resized to each size by
`resizeImages`. A fifth of them, chosen by a hash of the path, are held out. The network is `networks.depthwise` of the
default width. Bags are "subsample" at a rate of 0.9; batches of 32, learning rate 0.003, shifts of up to a sixteenth
of the size, and flips. Each fit runs in a session of its own. The peak is the most memory that a worker has had by the
end of the fit. One run.

Needs: the library, Pillow, and a folder of pictures.
Takes: 8 to 26 minutes with 2,500 pictures and 3 epochs.
"""

import argparse
import hashlib
import sys
from pathlib import Path

from _processes import run_apart, start
from _results import record, show, table
from _session import session, worker_peak
from _timing import timed
from pyspark.ml.feature import StringIndexer
from pyspark.sql import functions as F

from spark_cnn_ensemble import CNNEnsembleClassifier, networks

FITS = ((96, 1024), (224, 1024), (224, 64))  # height and width, maxMemoryInMB
COLUMNS = (
    "pixels",
    "maxMemoryInMB",
    "pixels of a bag, MB",
    "on disk",
    "mean member",
    "vote",
    "peak of a worker, MB",
    "fit, s",
)


def one_fit(folder, side, limit, epochs):
    """The cells of a row of the table, a digest of each member, and the rows of a bag; runs in a process of its own."""
    spark = session()
    files = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(folder)
    files = files.withColumn("className", F.element_at(F.split("path", "/"), -2))
    indexer = StringIndexer(inputCol="className", outputCol="label").fit(files)
    rows = indexer.transform(files.select("path", "content", "className"))
    held_out = F.pmod(F.xxhash64("className", F.element_at(F.split("path", "/"), -1)), F.lit(5)) == 0
    classifier = CNNEnsembleClassifier(
        featuresCol="content",
        idCol="path",
        inputShape=[side, side, 3],
        resizeImages=True,
        numClasses=len(indexer.labels),
        network=networks.depthwise([side, side, 3], len(indexer.labels)),
        numMembers=2,
        bagging="subsample",
        subsamplingRate=0.9,
        epochs=epochs,
        batchSize=32,
        learningRate=3e-3,
        randomShift=side // 16,
        randomFlip=True,
        maxMemoryInMB=limit,
        oobSampleSize=0,
        verbose=0,
    )
    seconds, model = timed(classifier.fit, rows.where(~held_out))
    peak = worker_peak(spark)
    found = model.evaluate(rows.where(held_out))
    member = model.members[0]
    accuracies = [f"{value:.2%}" for value in (sum(found.memberAccuracies) / 2, found.accuracy)]
    megabytes, on_disk = f"{member.rows * side * side * 3 / 1e6:.0f}", "yes" if member.spilled else "no"
    digests = [model.memberNetwork(index).get_weights() for index in range(2)]
    digests = [hashlib.sha256(b"".join(array.tobytes() for array in weights)).hexdigest() for weights in digests]
    cells = [f"{side}x{side}x3", limit, megabytes, on_disk, *accuracies, f"{peak / 1e6:,.0f}", f"{seconds:.0f}"]
    return cells, digests, member.rows


def main(folder, epochs):
    """Each fit; then the table."""
    lines, members = [], []
    for side, limit in FITS:
        cells, digests, rows = run_apart(__file__, folder, side, limit, epochs)
        lines.append(cells)
        members.append(digests)
        show(cells)
    same = "the same weights" if members[1] == members[2] else "OTHER WEIGHTS"
    record(
        __file__,
        __doc__,
        f"224x224: {same}; {lines[2][6]} MB per worker with a limit of 64 MB, {lines[1][6]} MB without",
        table(COLUMNS, lines),
        f"{rows:,} rows in the first member's bag, {epochs} epochs.",
    )


if __name__ == "__main__":
    if "--apart" in sys.argv:
        start(__doc__, apart=one_fit)
    else:
        parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("pictures", nargs="?", help="folder of class folders")
        parser.add_argument("--epochs", type=int, default=3)
        given = parser.parse_args()
        if given.pictures is None:
            parser.print_help()
        else:
            main(str(Path(given.pictures).absolute()), given.epochs)
