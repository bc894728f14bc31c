"""Options of Java and Spark for sessions, servers and executors whose jobs are as short as those of tests."""

import os
import sys

# Java that is compiled for a query, the line of Python that made a column, the longer description of a plan, and the size
# of a batch after each row cost more than short jobs gain by them. The sessions of clusters, of the command line and of
# other processes have all four.
SHORT_JOBS = {
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.python.sql.dataFrameDebugging.enabled": "false",
    "spark.sql.ui.explainMode": "simple",
    "spark.sql.execution.arrow.maxBytesPerBatch": str(2**31 - 1),
}


def java_options():
    """No second compiler and no parallel collector, which cost more than they gain, and the archive of classes.

    Java has 48 MiB for compiled code where the second compiler is off; the session of the tests fills them, and Java then
    searches for code to drop until it ends.

    With the archive, which `make test` writes once, a session starts with half the work.
    """
    options = ["-XX:TieredStopAtLevel=1", "-XX:ReservedCodeCacheSize=256m", "-XX:+UseSerialGC"]
    archive = os.path.join(sys.prefix, "spark.jsa")
    if os.path.exists(archive):
        options += [
            f'"-XX:SharedArchiveFile={archive}"',
            "-Xlog:cds=off",
            "-Xlog:cds+dynamic=off",
            "-Xlog:class+path=off",
        ]
    return " ".join(options)
