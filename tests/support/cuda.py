"""A CUDA without GPUs, which writes down what a process would see, and GPUs of Spark's discovery script alone."""

import os
import subprocess
from pathlib import Path

SOURCE = """
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
static const char *value(const char *name) { const char *v = getenv(name); return v ? v : "unset"; }
int cuInit(unsigned flags) {
    FILE *log = fopen(value("CUDA_LOG"), "a");
    fprintf(log, "%d %s %s\\n", getpid(), value("CUDA_VISIBLE_DEVICES"), value("CUDA_DEVICE_ORDER"));
    fclose(log);
    return 100; /* no device */
}
int cuDriverGetVersion(int *version) { *version = 12050; return 0; }
"""


class Cuda:
    """A library that TensorFlow loads as CUDA's driver, in processes with its `environment`."""

    def __init__(self, folder):
        source, library = folder / "cuda.c", folder / "libcuda.so.1"
        source.write_text(SOURCE)
        subprocess.run(["cc", "-shared", "-fPIC", f"-Wl,-soname,{library.name}", "-o", library, source], check=True)
        self._log = folder / "cuda.log"
        path = [str(folder), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
        self.environment = {"LD_LIBRARY_PATH": os.pathsep.join(path), "CUDA_LOG": str(self._log)}

    def started(self):
        """For each process in which it was started, CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER, or unset."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return [tuple(line.split()[1:]) for line in lines]


def discovery_script(folder, *addresses):
    """A script that reports GPUs to Spark."""
    listed = ", ".join(f'"{address}"' for address in addresses)
    script = Path(folder) / "gpus.sh"
    script.write_text(f'#!/bin/sh\necho \'{{"name": "gpu", "addresses": [{listed}]}}\'\n')
    script.chmod(0o755)
    return str(script)


def start_tensorflow(spark, gpus, caught):
    """Start TensorFlow in a task with a number of GPUs: the task's attempt, its GPUs, and why it was refused if at all.

    With `caught` the refusal does not reach Spark.
    """
    from pyspark.resource import ResourceProfileBuilder, TaskResourceRequests

    def start(rows):
        from pyspark import TaskContext

        from spark_cnn_ensemble.worker.runtime import load_tensorflow_in_task

        list(rows)  # a worker that leaves its input unread ends
        task, refusal = TaskContext.get(), ""
        try:
            load_tensorflow_in_task()
        except Exception as error:
            if not caught:
                raise
            refusal = str(error)
        return [[task.attemptNumber(), sorted(task.resources()["gpu"].addresses), refusal]]

    profile = ResourceProfileBuilder().require(TaskResourceRequests().cpus(1).resource("gpu", gpus)).build
    return spark.sparkContext.parallelize([0], 1).withResources(profile).mapPartitions(start).collect()[0]
