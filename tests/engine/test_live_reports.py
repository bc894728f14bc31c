"""Reports of members that train: what arrives, what is ignored, and that nobody waits where nothing can arrive."""

import json
import math
import socket
import threading
import time

import pytest
from support.bags import SMALL, bag_of, examples, training_plan
from support.drivers import wait_until

from spark_cnn_ensemble.engine.live_reports import LiveReports
from spark_cnn_ensemble.worker import live_report
from spark_cnn_ensemble.worker.live_report import MAX_LINE, LiveReport, LiveReporter, Receiver, opened, sealed
from spark_cnn_ensemble.worker.trainer import Trainer
from spark_cnn_ensemble.worker.weights import digest, pack_weights

REPORT = LiveReport(0, 3, 7, 0.25, 4, 0.5, 12.0)
KEY = b"k" * 32


@pytest.fixture
def live():
    receiver = LiveReports("127.0.0.1", "127.0.0.1")
    yield receiver
    receiver.close()


def send(live, *data, close=True):
    connection = socket.create_connection(live.receiver[:2], 5)
    for part in data:
        connection.sendall(part)
    if close:
        connection.close()
    return connection


def test_the_newest_report_of_a_member_arrives(live, monkeypatch):
    monkeypatch.setattr(live_report, "PERIOD", 0.0)
    reporter = LiveReporter(live.receiver, 1, 3, 7, 5)
    reporter(0.0, lambda: math.nan)
    report = wait_until(lambda: live.latest().get((1, 3)))
    assert (report.attempt, report.done, report.epochs, report.loss) == (7, 0.0, 5, None)
    reporter(0.5, lambda: 2.5)
    wait_until(lambda: live.latest()[1, 3].done == 0.5)
    assert (live.latest()[1, 3].loss, live.latest()[1, 3].seconds) == (2.5, 0.0)
    time.sleep(0.2)
    reporter(0.75, lambda: 2.0)
    wait_until(lambda: live.latest()[1, 3].done == 0.75)
    assert live.latest()[1, 3].seconds >= 0.6  # a quarter of the steps took 0.2 s, whatever went before
    reporter.close()
    wait_until(lambda: not senders())


def senders():
    return [thread for thread in threading.enumerate() if thread.name == "spark-cnn-ensemble-report"]


def test_a_member_reports_at_most_once_per_period(live):
    reporter, losses = LiveReporter(live.receiver, 0, 0, 0, 1), []
    for _ in range(1000):
        reporter(0.1, lambda: losses.append(1) or 0.5)
    reporter.close()
    assert len(losses) <= 2


def test_a_task_that_runs_again_begins_again(live):
    send(live, sealed(REPORT, live.receiver.key))
    send(live, sealed(REPORT._replace(attempt=9, done=0.0, seconds=0.0), live.receiver.key))
    send(live, sealed(REPORT._replace(attempt=8, done=0.9), live.receiver.key))
    wait_until(lambda: live.latest())
    assert live.latest()[0, 3].attempt == 9


def test_a_line_in_parts_is_read_and_an_endless_one_is_not(live):
    line = sealed(REPORT, live.receiver.key)
    slow, endless = send(live, line[:40], close=False), send(live, b"x" * 100_000, close=False)
    assert not live.latest()
    slow.sendall(line[40:])
    wait_until(lambda: live.latest() == {(0, 3): REPORT})
    with pytest.raises(OSError):  # closed by the receiver
        while True:
            endless.sendall(b"x")
    slow.close()
    endless.close()


def test_a_thousand_connections_that_say_nothing_are_dropped_and_reports_arrive(live):
    silent = []
    for _ in range(1000):
        silent.append(send(live, close=False))
        if len(silent) % 100 == 0:
            live.latest()
    send(live, sealed(REPORT, live.receiver.key))
    wait_until(lambda: live.latest() == {(0, 3): REPORT})
    for connection in silent:
        connection.close()


LINES = {
    "another key": sealed(REPORT, b"another"),
    "no seal": json.dumps(REPORT).encode(),
    "garbage": bytes(range(256)),
    "nothing": b"\n",
    "no JSON": live_report._seal(b"{", KEY) + b" {\n",
    "a changed report": sealed(REPORT, KEY).replace(b"0.25", b"0.75"),
    "too long": sealed(REPORT._replace(loss=" " * MAX_LINE), KEY),
    **{
        f"{field} {value!r}": sealed(REPORT._replace(**{field: value}), KEY)
        for field, value in [
            ("member", "3"),
            ("member", -1),
            ("plan", True),
            ("epochs", 1.5),
            ("attempt", 1 << 80),
            ("done", 1.5),
            ("done", None),
            ("seconds", math.inf),
            ("loss", math.nan),
            ("loss", [1]),
        ]
    },
}


@pytest.mark.parametrize("case", LINES)
def test_a_line_that_is_not_a_report_is_ignored(case):
    assert opened(sealed(REPORT, KEY), KEY) == REPORT
    assert opened(LINES[case], KEY) is None


@pytest.fixture(params=["a closed port", "packets are dropped", "accepts and never reads", "no such host"])
def deaf(request):
    """A receiver that never gets a report."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if request.param == "a closed port":
            server.close()
        host = {"packets are dropped": "10.255.255.1", "no such host": "nowhere.invalid"}.get(
            request.param, "127.0.0.1"
        )
        yield Receiver(host, port, KEY)


@pytest.mark.slow
def test_a_receiver_that_nobody_reaches_costs_nothing_and_changes_no_member(deaf, digits, monkeypatch):
    (x, y), _ = digits
    plan = training_plan(SMALL, epochs=20)
    bag = bag_of(examples(x[:200, :, :, None], y[:200]))
    trainer = Trainer(plan.program)
    plain, history = trainer.train(bag, plan)

    monkeypatch.setattr(live_report, "PERIOD", 0.0)  # so that every chunk is a report
    started = time.perf_counter()
    reporter = LiveReporter(deaf, 0, 0, 0, plan.epochs)
    for _ in range(100):
        reporter(0.5, lambda: 1.0)
    assert time.perf_counter() - started < 0.5
    weights, same = trainer.train(bag, plan, reporter)
    assert digest(pack_weights(weights)) == digest(pack_weights(plain))
    assert same == history
    started = time.perf_counter()
    reporter.close()
    assert time.perf_counter() - started < 0.1
