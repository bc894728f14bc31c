"""The connection of a worker to its executor, without the delays that TCP adds to a task.

`engine.worker_code` calls it when a task opens its function.
"""

from __future__ import annotations

import contextlib
import os
import socket

_DESCRIPTORS = range(3, 64)  # Spark's daemon opens the connection in a new process, so that its number is small
_OPTIONS = ("TCP_NODELAY", "TCP_QUICKACK")  # the second, of Linux alone, holds for a while


def exchange_at_once() -> None:
    """Let neither side of the running task's connection wait for acknowledgements.

    By default, the last bytes of a side wait up to 40 ms in each task: they are few, so that TCP holds them back until
    the other side has acknowledged those before them, which it delays while it has nothing to send (Nagle's algorithm
    and delayed acknowledgements, RFC 896 and RFC 1122). Does nothing outside of Spark's tasks.
    """
    from pyspark import TaskContext

    if TaskContext.get() is None:
        return
    for descriptor in _DESCRIPTORS:
        try:
            blocking = os.get_blocking(descriptor)
            connection = socket.socket(fileno=descriptor)
        except OSError:
            continue
        # The line above makes the connection non-blocking if the user's code has called socket.setdefaulttimeout.
        os.set_blocking(descriptor, blocking)
        with contextlib.suppress(OSError, AttributeError):  # a Unix domain socket; not Linux
            for option in _OPTIONS:
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), 1)
        connection.detach()
