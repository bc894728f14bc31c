"""A real standalone cluster: a master and workers, in processes of their own with several addresses of this machine."""

import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from types import SimpleNamespace

from support.connect_server import SPARK_HOME, TESTS, free_port

PACKAGE = TESTS.parent / "spark_cnn_ensemble"
# Two hosts, since Spark does not start the second copy of a task on the host of the first.
TWO_HOSTS = ("127.0.0.1", "127.0.0.2")


@contextmanager
def standalone_cluster(folder, hosts=TWO_HOSTS, cores=1, **settings):
    """Start a master and one worker per host, and end them with the block.

    Parameters
    ----------
    folder : pathlib.Path
        Receives logs, the workers' folders and the package as a zip.
    hosts : sequence of str
        Addresses of this machine.
    cores : int
        Of each worker.
    **settings
        Configuration of the workers, such as spark.worker.resource.gpu.amount.

    Yields
    ------
    types.SimpleNamespace
        url: the master's; environment: for clients; folder; archive: the package as a zip, for executors; workers: the
        workers' pids.
    """
    options = [os.environ["SPARK_SUBMIT_OPTS"], *(f"-D{name}={value}" for name, value in settings.items())]
    environment = {
        **os.environ,
        "SPARK_HOME": str(SPARK_HOME),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_DAEMON_MEMORY": "512m",
        "SPARK_DAEMON_JAVA_OPTS": " ".join(options),
        "PYSPARK_PYTHON": sys.executable,
    }
    port, processes = free_port(), []

    def start(name, host, role, *arguments):
        log = folder / f"{name}.log"
        command = [SPARK_HOME / "bin" / "spark-class", f"org.apache.spark.deploy.{role}", *arguments]
        command += ["--host", host, "--webui-port", "0"]
        with log.open("w") as file:
            on_host = {**environment, "SPARK_LOCAL_IP": host}
            processes.append(subprocess.Popen(command, env=on_host, stdout=file, stderr=subprocess.STDOUT))
        return log

    try:
        url = f"spark://127.0.0.1:{port}"
        master = start("master", "127.0.0.1", "master.Master", "--port", str(port))
        _wait_for(master, "I have been elected leader")
        for number, host in enumerate(hosts, 1):
            name = f"worker{number}"
            start(name, host, "worker.Worker", url, "-c", str(cores), "-m", "1g", "-d", str(folder / name))
        _wait_for(master, "Registering worker", len(hosts))
        shutil.copytree(PACKAGE, folder / "ship" / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
        archive = shutil.make_archive(str(folder / "spark_cnn_ensemble"), "zip", folder / "ship")
        workers = [process.pid for process in processes[1:]]
        yield SimpleNamespace(url=url, environment=environment, folder=folder, archive=archive, workers=workers)
    finally:
        for process in processes:
            process.terminate()
            process.wait()


def _wait_for(log, text, count=1):
    deadline = time.monotonic() + 60
    while log.read_text().count(text) < count:
        assert time.monotonic() < deadline, f"no {text!r} within a minute:\n{log.read_text()[-2000:]}"
        time.sleep(0.1)
