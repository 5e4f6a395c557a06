"""HTTP connections: how long one may say nothing or read nothing, and how many one peer may hold."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

from node.doors.limits import host_address

HEAD_S: Final = 10.0
"""Within so many seconds a connection must have sent a whole request head."""

MAX_HEAD: Final = 16_384
"""Bytes of a request head. The server keeps to it only while a head is incomplete."""

STALL_S: Final = 60.0
"""Within so many seconds a reader must take what fills the buffer, some 64 KiB: 9 kbit/s."""


class HttpProtocol(H11Protocol):
    """uvicorn's connection, which on its own waits for a first request for ever.

    ``peers`` counts the open connections by address, for all protocols of one server; a connection
    beyond ``most_of_a_peer`` is closed at once.
    """

    def __init__(
        self, *arguments: Any, peers: Counter[str], most_of_a_peer: int, head_s: float, **named: Any
    ) -> None:
        super().__init__(*arguments, **named)
        self._peers = peers
        self._most_of_a_peer = most_of_a_peer
        self._head_s = head_s
        self._waiting: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._peer = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self._peer = host_address(self.client[0]) if self.client else ""
        self._peers[self._peer] += 1
        if self._peers[self._peer] > self._most_of_a_peer:
            transport.abort()
            return
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._stop_waiting()
        self._end_stall()
        self._peers[self._peer] -= 1
        if not self._peers[self._peer]:
            del self._peers[self._peer]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol. Bytes that begin no request do not win more time."""
        super().data_received(data)
        if self._has_request():
            self._stop_waiting()
        elif self._waiting is None and not self.transport.is_closing():
            self._wait_for_head()

    def pause_writing(self) -> None:
        """See asyncio.Protocol: the buffer is full."""
        super().pause_writing()
        if self._stalled is None:
            self._stalled = self.loop.call_later(STALL_S, self.transport.abort)

    def resume_writing(self) -> None:
        """See asyncio.Protocol: most of it was taken."""
        super().resume_writing()
        self._end_stall()

    def _end_stall(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _has_request(self) -> bool:
        cycle: Any = self.cycle  # None until the first request, whatever its type says
        return cycle is not None and not cycle.response_complete

    def _wait_for_head(self) -> None:
        self._waiting = self.loop.call_later(self._head_s, self._give_up)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _give_up(self) -> None:
        self._waiting = None
        if not self._has_request():
            self.transport.abort()
