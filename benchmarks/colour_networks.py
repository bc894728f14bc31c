"""Ensembles of a network for colour pictures.

Fits an ensemble with one of `spark_cnn_ensemble.networks` on a folder or tar archive of class folders, and prints the
members' mean accuracy, the vote's, and the seconds of the fit. 5,000 pictures are held out, or a fifth if there are
not as many; they are the same in each run. Bags are "subsample" at the rate of --share. Nothing is recorded:
settings differ from run to run.

Needs: the library, Pillow, and pictures, such as those of CIFAR-10.
Takes: as long as the settings say.
"""

import argparse

import numpy as np
from _pictures import load_pictures
from _results import machine, table
from _session import cached, session
from _timing import timed

from spark_cnn_ensemble import CNNEnsembleClassifier, networks
from spark_cnn_ensemble.datasets import to_dataframe

HELD_OUT = 5000  # pictures


def main(options):
    """Fit, evaluate, print."""
    most = None if options.rows is None else HELD_OUT + options.rows
    images, labels, names = load_pictures(options.pictures, options.size, most)
    held_out = HELD_OUT if len(images) > HELD_OUT else len(images) // 5
    spark = session()
    test, train = (to_dataframe(spark, images[part], labels[part]) for part in (slice(held_out), slice(held_out, None)))
    shape, make = list(images.shape[1:]), getattr(networks, options.network)
    classifier = CNNEnsembleClassifier(
        network=make(shape, len(names), **({} if options.width is None else {"width": options.width})),
        inputShape=shape,
        numClasses=len(names),
        numMembers=options.members,
        bagging="subsample",
        subsamplingRate=options.share,
        epochs=options.epochs,
        batchSize=options.batch_size,
        learningRate=options.learning_rate,
        randomShift=options.shift,
        randomFlip=True,
        precision=options.precision,
        oobSampleSize=0,
        idCol="id",
    )
    seconds, model = timed(classifier.fit, cached(train))
    found = model.evaluate(test)
    members = found.memberAccuracies
    print(machine())
    print(
        table(
            ("network", "width", "members", "rows per member", "epochs", "mean member", "lowest", "vote", "fit, s"),
            [
                (
                    *(
                        options.network,
                        options.width or "default",
                        options.members,
                        model.members[0].rows,
                        options.epochs,
                    ),
                    *(f"{accuracy:.2%}" for accuracy in (np.mean(members), np.min(members), found.accuracy)),
                    f"{seconds:.0f}",
                )
            ],
        )
    )


def options():
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="?", help="folder or tar archive of class folders")
    parser.add_argument("--network", choices=networks.__all__, default="vgg")
    parser.add_argument("--width", type=int, help="filters of the first convolution (default: the network's)")
    parser.add_argument("--size", type=int, help="height and width that pictures are resized to")
    parser.add_argument("--rows", type=int, help="train on this number of pictures at most")
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--share", type=float, default=0.9, help="of the rows, in each bag (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--shift", type=int, default=2)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    found = parser.parse_args()
    if found.pictures is None:
        parser.print_help()
    return found


if __name__ == "__main__":
    given = options()
    if given.pictures is not None:
        main(given)
