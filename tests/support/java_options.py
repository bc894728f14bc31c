"""Options of Java for sessions, servers and executors whose jobs are as short as those of tests."""

import os
import sys


def java_options():
    """No second compiler and no parallel collector, which cost more than they gain, and the archive of classes.

    With the archive, which `make test` writes once, a session starts with half the work.
    """
    options = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    archive = os.path.join(sys.prefix, "spark.jsa")
    if os.path.exists(archive):
        options += [
            f'"-XX:SharedArchiveFile={archive}"',
            "-Xlog:cds=off",
            "-Xlog:cds+dynamic=off",
            "-Xlog:class+path=off",
        ]
    return " ".join(options)
