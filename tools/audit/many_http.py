"""Many static resources over HTTP: a few connections that stay open, each with a request in flight.

A whole log is some hundred thousand small files. A general client takes longer to ask for one than an audit
takes to replay it; this one speaks just enough HTTP/1.1, and holds to the same caps, deadlines and refusals
as ``tools.http_resources``, which is used for single fetches.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from itertools import islice
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from ledger.errors import SudurError
from tools.client_tls import ClientTls, why_unreachable
from tools.errors import AnswerWrong, NotFound, Unavailable
from tools.http_resources import AskedTooOften, HttpResources, cap_of, delay_s

CONNECTIONS: Final = 8
_RUN: Final = 8
"""Paths that one connection asks for before it takes the next."""
_PART: Final = 1 << 16

Fetched = bytes | NotFound


class ManyHttp:
    """Resources at a base URL; :meth:`fetch_many` has several in flight. For one thread at a time."""

    def __init__(
        self, url: str, tls: ClientTls, *, timeout_s: float = 20.0, deadline_s: float = 60.0
    ) -> None:
        """``timeout_s`` bounds each wait, ``deadline_s`` a run of 8 fetches. Raises Usage."""
        self._single = HttpResources(url, tls=tls, timeout_s=timeout_s, deadline_s=deadline_s)
        self.name = self.url = self._single.url
        parts = urlsplit(self.url)
        self._host, self._base = parts.hostname or "", parts.path
        self._tls = tls if parts.scheme == "https" else None
        self._port = parts.port or (80 if self._tls is None else 443)
        self._timeout_s = timeout_s
        self._deadline_s = deadline_s
        self._pool: ThreadPoolExecutor | None = None
        self._own = threading.local()
        self._connections: list[HTTPConnection] = []
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def fetch(self, path: str) -> bytes:
        """See :meth:`HttpResources.fetch`."""
        return self._single.fetch(path)

    def fetch_many(self, paths: Iterable[str]) -> Iterator[Fetched]:
        """See :class:`ledger.resources.ManyResources`. Raises as :meth:`fetch` does."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="fetch")
        pool, left = self._pool, iter(paths)
        waiting: deque[Future[list[Fetched]]] = deque()
        try:
            while True:
                while len(waiting) < 2 * CONNECTIONS and (run := list(islice(left, _RUN))):
                    waiting.append(pool.submit(self._run, run))
                if not waiting:
                    return
                try:
                    found = waiting[0].result(self._deadline_s)
                except TimeoutError:
                    self._break()
                    what = f"no whole answer came in {self._deadline_s:g} s"
                    raise Unavailable(what, where=self.url, fix="try another server") from None
                waiting.popleft()
                yield from found
        finally:
            for one in waiting:
                one.cancel()

    def close(self) -> None:
        """What is in flight is broken off."""
        self._closed = True
        self._break()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        for connection in self._connections:
            connection.close()
        self._single.close()

    # --- in the threads ---

    def _run(self, paths: Sequence[str]) -> list[Fetched]:
        return [self._get(path) for path in paths]

    def _get(self, path: str) -> Fetched:
        waited_s, tries = 0.0, 0
        while True:
            fresh = getattr(self._own, "connection", None) is None
            try:
                return self._ask(path)
            except AskedTooOften as error:
                waited_s += error.delay_s
                if waited_s > self._deadline_s or self._closed:
                    raise
                time.sleep(error.delay_s)
            except (OSError, HTTPException) as error:
                self._forget()
                tries += 1
                if not fresh and tries == 1 and not self._closed:
                    continue  # a server may close a connection that it kept for us: once is no failure
                raise self._unreachable(error, path) from None
            except SudurError:
                self._forget()
                raise

    def _ask(self, path: str) -> Fetched:
        connection = getattr(self._own, "connection", None) or self._connect()
        where, cap = f"{self.url}/{path}", cap_of(path)
        connection.request("GET", f"{self._base}/{path}", headers={"Accept-Encoding": "identity"})
        with connection.getresponse() as response:
            data = bytearray()
            while part := response.read1(_PART):
                data += part
                if len(data) > cap:
                    raise AnswerWrong(f"more than {cap} bytes come, which this never has", where=where)
            if response.length:
                raise Unavailable("the answer was cut short", where=where, fix="try again")
            if response.status == 200:
                return bytes(data)
            if response.status in (404, 410):
                return NotFound("is not there", where=where)
            if response.status == 429:
                raise AskedTooOften(where, delay_s(response.headers.get("retry-after", "")))
            kind = Unavailable if response.status >= 500 else AnswerWrong
            raise kind(f"the server answers {response.status}", where=where, fix="check the address")

    def _connect(self) -> HTTPConnection:
        if self._tls is None:
            connection = HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        else:
            context = self._tls.context()
            connection = HTTPSConnection(self._host, self._port, timeout=self._timeout_s, context=context)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._own.connection = connection
        self._connections.append(connection)
        return connection

    def _forget(self) -> None:
        connection = getattr(self._own, "connection", None)
        if connection is not None:
            connection.close()
            self._connections.remove(connection)
            self._own.connection = None

    def _break(self) -> None:
        """End every wait in the threads."""
        for connection in list(self._connections):
            with suppress(OSError, AttributeError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def _unreachable(self, error: Exception, path: str) -> Unavailable:
        refused = why_unreachable(self._host, self._port, self._tls, http2=False)
        return refused or Unavailable(
            f"cannot be reached ({str(error) or type(error).__name__})",
            where=f"{self.url}/{path}",
            fix="check the address and the network",
        )
