"""The HTTP server: uvicorn as a guest on a loop that others own, with the bounds of this house."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import cast

import uvicorn
from starlette.types import ASGIApp

from node.config import Address, HttpLimits
from node.doors.http_protocol import HEAD_S, MAX_HEAD, HttpProtocol
from node.doors.http_tls import TlsDoor
from node.errors import NodeError
from node.tls import TlsCredentials


def listen_at(what: str, address: Address) -> socket.socket:
    """A listening socket. Raises NodeError when the port is taken, or the host is not ours."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setblocking(False)
            listener.bind(where)
            listener.listen(1024)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise NodeError(
            f"cannot listen there: {error.strerror or error}",
            where=f"{what} address {address}",
            fix="stop what listens there, or choose another address",
        ) from error
    return listener


class HttpServer(uvicorn.Server):
    """uvicorn, as a guest on a loop that others own: no signal handlers, no logging set up."""

    def __init__(
        self, app: ASGIApp, limits: HttpLimits, tls: TlsCredentials | None = None, *, head_s: float = HEAD_S
    ) -> None:
        peers: Counter[str] = Counter()
        protocol: Callable[..., asyncio.Protocol] = partial(
            HttpProtocol,
            peers=peers,
            most_of_a_peer=limits.peer_connections,
            head_s=head_s,
        )
        if tls is not None:
            protocol = partial(
                TlsDoor,
                behind=protocol,
                context=tls.server_context,
                peers=peers,
                most_of_a_peer=limits.peer_connections,
                handshake_s=head_s,
            )
        super().__init__(
            uvicorn.Config(
                app,
                http=cast("type[asyncio.Protocol]", protocol),
                ws="none",
                lifespan="off",
                log_config=None,
                log_level=logging.WARNING,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=30,
                timeout_graceful_shutdown=max(1, round(limits.stop_grace_s)),
                limit_concurrency=limits.connections,
                h11_max_incomplete_event_size=MAX_HEAD,
            )
        )
        self._up = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the process's signal handlers alone: whoever owns the loop has its own."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening, and say so."""
        await super().startup(sockets)
        self._up.set()

    async def start(self, listener: socket.socket) -> None:
        """Serve on a listening socket; returns when it is served."""
        self._task = asyncio.create_task(self.serve([listener]))
        up = asyncio.create_task(self._up.wait())
        await asyncio.wait({self._task, up}, return_when=asyncio.FIRST_COMPLETED)
        if not self._up.is_set():
            up.cancel()
            await self._task

    async def stop(self) -> None:
        """Let the requests in work end, then close."""
        self.should_exit = True
        if self._task is not None:
            await self._task
