"""How many calls may be open that are answered with a stream, and so may last for ever."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from node.doors.limits import peer_address
from node.errors import TooManyStreams


class Watches:
    """Counts open streams, in all and by the address of the peer. Belongs to one event loop."""

    def __init__(self, most: int, most_of_a_peer: int) -> None:
        self._most = most
        self._most_of_a_peer = most_of_a_peer
        self._open: Counter[str] = Counter()

    @contextmanager
    def one(self, peer: str) -> Iterator[None]:
        """Count a stream for as long as the context lasts. Raises TooManyStreams.

        ``peer`` is as gRPC gives it.
        """
        address = peer_address(peer)
        if self._open[address] >= self._most_of_a_peer or self._open.total() >= self._most:
            raise TooManyStreams(
                f"this node has {self._open.total()} streams open, {self._open[address]} of them to you",
                where="streams",
                fix=f"end some: {self._most_of_a_peer} a caller and {self._most} in all may be open",
                retry_ms=10_000,
            )
        self._open[address] += 1
        try:
            yield
        finally:
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]
