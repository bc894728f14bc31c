"""A Spark Connect server in a process of its own, as a gateway or a managed notebook has it."""

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pyspark

from support.processes import LIGHT
from support.short_jobs import SHORT_JOBS

SPARK_HOME = Path(pyspark.__file__).parent
TESTS = Path(__file__).parent.parent


def free_port():
    """A port of this machine that nothing listens to."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def answers(port):
    """Whether something listens to a port of this machine."""
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def connect_server(log, master="local[2]", python=sys.executable, **settings):
    """Start a server, and end it with the block.

    Parameters
    ----------
    log : pathlib.Path
        Receives what the server prints.
    master : str
    python : str
        The Python of the workers.
    **settings
        Configuration of Spark.

    Yields
    ------
    str
        The URL for clients.
    """
    port = settings.get("spark.connect.grpc.binding.port") or free_port()
    if master.startswith("local"):
        settings = {**SHORT_JOBS, **settings}
        if python == sys.executable:
            settings.setdefault("spark.python.daemon.module", "support.daemon")
    settings = {
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": port,
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "4",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        **settings,
    }
    command = [str(SPARK_HOME / "bin" / "spark-submit"), "--master", master]
    command += ["--class", "org.apache.spark.sql.connect.service.SparkConnectServer"]
    for name, value in settings.items():
        command += ["--conf", f"{name}={value}"]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SPARK_REMOTE")},
        "SPARK_HOME": str(SPARK_HOME),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": str(python),
    }
    if python == sys.executable:
        environment["PYTHONPATH"] = os.pathsep.join([LIGHT, str(TESTS)])
    environment.pop("SPARK_CONNECT_MODE_ENABLED", None)
    with log.open("w") as file:
        server = subprocess.Popen(
            [*command, "spark-internal"], env=environment, cwd=log.parent, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + 120
        while not answers(port):
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.2)
        yield f"sc://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()
