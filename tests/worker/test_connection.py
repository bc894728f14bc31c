"""A task's connection to its executor has no delay by TCP."""

import os
import socket
import stat
import sys

import pandas as pd
import pytest

from spark_cnn_ensemble.engine import engine_of
from spark_cnn_ensemble.worker.connection import exchange_at_once

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems number sockets otherwise")


def delays(frames):
    """For each connection of the worker, whether TCP may delay the last bytes that the worker sends."""
    list(frames)
    found = []
    for descriptor in range(3, 64):
        try:
            connection = socket.socket(fileno=descriptor)
        except OSError:
            continue
        found.append(not connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        connection.detach()
    yield pd.DataFrame({"delays": found})


def delays_in_task(spark, function):
    return [row.delays for row in spark.range(0, 1, 1, 1).mapInPandas(function, "delays boolean").collect()]


def test_a_worker_sends_at_once(spark):
    found = delays_in_task(spark, engine_of(spark).for_workers(delays))
    assert found and not any(found)


def not_blocking(frames):
    """Ask for no delay where the user's code has set a timeout for new sockets; yields what does not block then."""
    list(frames)
    socket.setdefaulttimeout(10)
    try:
        exchange_at_once()
    finally:
        socket.setdefaulttimeout(None)
    found = []
    for descriptor in range(3, 64):
        try:
            found.append(not os.get_blocking(descriptor) and stat.S_ISSOCK(os.fstat(descriptor).st_mode))
        except OSError:
            continue
    yield pd.DataFrame({"delays": found})


def test_a_default_timeout_of_the_user_does_not_change_the_connection(spark):
    found = delays_in_task(spark, not_blocking)
    assert found and not any(found)


def test_a_connection_outside_of_tasks_stays_as_it_is():
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
        exchange_at_once()
        assert not connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
