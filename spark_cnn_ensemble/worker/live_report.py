"""What a member shows of itself while it trains, sent to the driver as far as that is possible.

A report is one line of JSON behind its HMAC. A thread of its own connects and sends, so that training never waits; what
cannot be sent is dropped. `training` sends reports; `engine.live_reports` receives them.
"""

from __future__ import annotations

import hmac
import json
import math
import socket
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

PERIOD = 1.0  # seconds between two reports of a member
MAX_LINE = 512  # bytes
_TIMEOUT = 3.0  # seconds to connect and send
_MAX_FAILURES = 3  # in a row, then a member sends nothing more


class Receiver(NamedTuple):
    """Where reports go, and the key that they are sealed with."""

    host: str
    port: int
    key: bytes


class LiveReport(NamedTuple):
    """How far a member is.

    Parameters
    ----------
    plan, member : int
    attempt : int
        Of the task; a later attempt has a higher number.
    done : float
        Steps done, as a share of all steps of all epochs.
    epochs : int
        Of the plan.
    loss : float or None
        Mean of the epoch so far; None before the first step.
    seconds : float
        That the steps done take, at the speed since the first report of any; 0 if that is not known yet.
    """

    plan: int
    member: int
    attempt: int
    done: float
    epochs: int
    loss: float | None
    seconds: float


def sealed(report: LiveReport, key: bytes) -> bytes:
    """A report as a line."""
    text = json.dumps(report).encode()
    return _seal(text, key) + b" " + text + b"\n"


def opened(line: bytes, key: bytes) -> LiveReport | None:
    """The report of a line; None if the line was not made with the key, or is not a report."""
    seal, _, text = line.rstrip(b"\n").partition(b" ")
    if len(line) > MAX_LINE or not hmac.compare_digest(seal, _seal(text, key)):
        return None
    try:
        plan, member, attempt, done, epochs, loss, seconds = json.loads(text)
    except (TypeError, ValueError):
        return None
    counts = all(type(count) is int and 0 <= count < 1 << 63 for count in (plan, member, attempt, epochs))
    shares = [done, seconds] if loss is None else [done, seconds, loss]
    if not counts or not all(type(share) is float and math.isfinite(share) for share in shares):
        return None
    return LiveReport(plan, member, attempt, done, epochs, loss, seconds) if 0 <= done <= 1 and seconds >= 0 else None


def _seal(text: bytes, key: bytes) -> bytes:
    return hmac.new(key, text, "sha256").hexdigest().encode()


class LiveReporter:
    """Sends the newest report of one member, at most one per `PERIOD`.

    Parameters
    ----------
    receiver : Receiver
    plan, member, attempt, epochs : int
        See `LiveReport`.
    """

    def __init__(self, receiver: Receiver, plan: int, member: int, attempt: int, epochs: int) -> None:
        self._receiver = receiver
        self._of = (plan, member, attempt)
        self._epochs = epochs
        self._due = time.monotonic()
        self._first: tuple[float, float] | None = None  # when steps were first reported, and their share
        self._line: bytes | None = None
        self._news = threading.Event()
        self._closed = False
        threading.Thread(target=self._send_news, name="spark-cnn-ensemble-report", daemon=True).start()

    def __call__(self, done: float, loss: Callable[[], float]) -> None:
        """Report that a share of the steps is done, if it is time; `loss` is called only then."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + PERIOD
        value = float(loss())
        seconds = 0.0
        if self._first is not None and done > self._first[1]:
            began, share = self._first
            seconds = (now - began) * done / (done - share)
        elif done:  # TensorFlow was imported and the network traced before, which must not count for all steps
            self._first = now, done
        report = LiveReport(*self._of, float(done), self._epochs, value if math.isfinite(value) else None, seconds)
        self._line = sealed(report, self._receiver.key)
        self._news.set()

    def close(self) -> None:
        """Send nothing more. Does not wait for what is being sent."""
        self._closed = True
        self._news.set()

    def _send_news(self) -> None:
        failures = 0
        while failures < _MAX_FAILURES:
            self._news.wait()
            self._news.clear()
            if self._closed:
                return
            assert self._line is not None
            try:
                with socket.create_connection(self._receiver[:2], _TIMEOUT) as connection:
                    connection.sendall(self._line)
                failures = 0
            except OSError:  # nobody listens, nobody answers, or the driver has closed
                failures += 1
