"""Reports of members that train, received by the driver. See `worker.live_report`.

There is no thread here: who shows progress polls, and the system holds what arrives between two polls.
"""

from __future__ import annotations

import secrets
import socket

from spark_cnn_ensemble.worker.live_report import MAX_LINE, LiveReport, Receiver, opened

_BACKLOG = 1024  # connections that the system holds between two polls
_MAX_OPEN = 64  # connections that are kept because their line is not whole yet
_MAX_POLLS = 4  # for which such a connection is kept


class LiveReports:
    """Listens on one address for the reports of one fit.

    Parameters
    ----------
    bind : str
        Address of this machine.
    host : str
        By which workers reach it.

    Raises
    ------
    OSError
        Nothing can listen on the address.
    """

    def __init__(self, bind: str, host: str) -> None:
        family, _, _, _, address = socket.getaddrinfo(bind, 0, type=socket.SOCK_STREAM)[0]
        self._server = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
        self._server.setblocking(False)
        self.receiver = Receiver(host, self._server.getsockname()[1], secrets.token_bytes(32))
        self._open: list[tuple[socket.socket, bytes, int]] = []  # with what was read, and the polls before
        self._latest: dict[tuple[int, int], LiveReport] = {}

    def latest(self) -> dict[tuple[int, int], LiveReport]:
        """By (plan, member), the newest report of the newest attempt that has arrived. Waits for nothing."""
        waiting, self._open = self._open, []
        for connection, begun, polls in waiting:
            self._read(connection, begun, polls)
        for _ in range(_BACKLOG):
            try:
                connection, _ = self._server.accept()
            except OSError:  # there are no more, or the process has too many files open
                break
            connection.setblocking(False)
            self._read(connection, b"", 0)
        return dict(self._latest)

    def _read(self, connection: socket.socket, line: bytes, polls: int) -> None:
        """Read a connection's line; keep the connection for the next poll if the line is not whole."""
        try:
            more = connection.recv(MAX_LINE + 1 - len(line))
        except BlockingIOError:
            more = None
        except OSError:
            more = b""
        line += more or b""
        if line.endswith(b"\n"):
            self._take(line)
        elif more != b"" and len(line) <= MAX_LINE and polls < _MAX_POLLS and len(self._open) < _MAX_OPEN:
            self._open.append((connection, line, polls + 1))
            return
        connection.close()

    def _take(self, line: bytes) -> None:
        report = opened(line, self.receiver.key)
        if report is None:
            return
        before = self._latest.get((report.plan, report.member))
        if before is None or (before.attempt, before.done) <= (report.attempt, report.done):
            self._latest[report.plan, report.member] = report

    def close(self) -> None:
        """Listen no longer."""
        for connection, _, _ in self._open:
            connection.close()
        self._server.close()
