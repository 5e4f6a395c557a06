"""A TCP proxy of the tests' own: delay, a bound on the rate, losses, and a link that is down.

A lost segment costs what it costs TCP: nothing behind it comes through before it was sent again.
"""

from __future__ import annotations

import queue
import random
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

_SEGMENT = 1_400
_IN_FLIGHT = 24
"""Segments that are under way at a time, in each direction: a small window, as over a bad line."""


@dataclass(frozen=True, slots=True)
class Line:
    """``delay_s``: one way. ``bytes_s``: 0 for no bound. ``loss``: the share of segments sent twice."""

    delay_s: float = 0.0
    bytes_s: float = 0.0
    loss: float = 0.0


class SlowLink:
    """Listens at ``address`` and passes every connection on to ``target`` ("host:port")."""

    def __init__(self, target: str, line: Line | None = None, seed: int = 1) -> None:
        host, _, port = target.rpartition(":")
        self._target = host, int(port)
        self._line = line or Line()
        self._random = random.Random(seed)
        self._up = True
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._closed = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.passed = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._listener.close()
        self._drop()

    def cut(self) -> None:
        """End every connection, and let no other in."""
        with self._lock:
            self._up = False
        self._drop()

    def mend(self) -> None:
        """Let connections in again."""
        with self._lock:
            self._up = True

    def _drop(self) -> None:
        with self._lock:
            ending, self._open = self._open, set()
        for one in ending:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                up = self._up
            if not up:
                near.close()
                continue
            try:
                far = socket.create_connection(self._target, 5)
            except OSError:
                near.close()
                continue
            with self._lock:
                self._open |= {near, far}
            for one, other in ((near, far), (far, near)):
                self._pass_on(one, other)

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        under_way: queue.Queue[tuple[float, bytes]] = queue.Queue(_IN_FLIGHT)

        def read() -> None:
            free_at = 0.0
            with suppress(OSError):
                while data := source.recv(_SEGMENT):
                    line = self._line
                    now = time.monotonic()
                    free_at = max(free_at, now) + (len(data) / line.bytes_s if line.bytes_s else 0.0)
                    if self._random.random() < line.loss:
                        free_at += max(0.2, 2 * line.delay_s)
                    under_way.put((free_at + line.delay_s, data))
            under_way.put((0.0, b""))

        def write() -> None:
            with suppress(OSError):
                while True:
                    at, data = under_way.get()
                    if not data:
                        break
                    self._closed.wait(max(0.0, at - time.monotonic()))
                    sink.sendall(data)
                    self.passed += len(data)
            with suppress(OSError):
                sink.shutdown(socket.SHUT_WR)
            # A reader that is blocked on a full queue has nobody to read for any more.
            with suppress(OSError):
                source.close()
            while True:
                try:
                    under_way.get(timeout=0.2)
                except queue.Empty:
                    return

        for work in (read, write):
            threading.Thread(target=work, daemon=True).start()
