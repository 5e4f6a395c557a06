"""TLS in front of an HTTP connection: counted and timed from its first byte, unlike uvicorn's own."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
from uvicorn.server import ServerState

from node.doors.limits import host_address

_log = structlog.get_logger("node.http_tls")


class TlsDoor(asyncio.Protocol):
    """Shakes hands, then gives the connection to the protocol ``behind``.

    ``context`` is asked for each connection, so that a renewed certificate serves the next one. The
    handshake must end within ``handshake_s``; what fails is closed without a line in the log (debug
    tells the reason), for anybody can send anything. While it lasts, a connection counts in ``peers``
    like those behind, and in the server's state, so that a server that stops closes it.
    """

    def __init__(
        self,
        *,
        behind: Callable[..., asyncio.Protocol],
        context: Callable[[], ssl.SSLContext],
        peers: Counter[str],
        most_of_a_peer: int,
        handshake_s: float,
        server_state: ServerState,
        **uvicorns: Any,
    ) -> None:
        self._behind = partial(behind, server_state=server_state, **uvicorns)
        self._context = context
        self._peers = peers
        self._most_of_a_peer = most_of_a_peer
        self._handshake_s = handshake_s
        self._connections: set[Any] = server_state.connections
        self._early = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        self._transport = transport
        address = transport.get_extra_info("peername")
        peer = host_address(str(address[0])) if address else ""
        if self._peers[peer] >= self._most_of_a_peer:
            transport.abort()
            return
        self._task = asyncio.get_running_loop().create_task(self._open(transport, peer))

    def data_received(self, data: bytes) -> None:
        """What comes together with the end of the handshake, before the loop has told us of that."""
        self._early += data

    def shutdown(self) -> None:
        """The server stops; see uvicorn's protocols."""
        if self._transport is not None:
            self._transport.abort()

    async def _open(self, transport: asyncio.Transport, peer: str) -> None:
        self._peers[peer] += 1
        self._connections.add(self)
        try:
            secured = await asyncio.get_running_loop().start_tls(
                transport, self, self._context(), server_side=True, ssl_handshake_timeout=self._handshake_s
            )
        except OSError as error:  # an ssl.SSLError is one too
            _log.debug("handshake failed", peer=peer, reason=str(error))
            secured = None
        finally:
            self._connections.discard(self)
            self._peers[peer] -= 1
            if not self._peers[peer]:
                del self._peers[peer]
        if secured is None or secured.is_closing():
            transport.abort()
            return
        protocol = self._behind()
        secured.set_protocol(protocol)
        protocol.connection_made(secured)
        if self._early:
            protocol.data_received(bytes(self._early))
