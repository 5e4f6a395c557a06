"""The static resources of whichever node a client talks to."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from tools.client import LedgerClient
from tools.errors import RateLimited, Unavailable
from tools.http_resources import HttpResources

_MOST_MOVES: Final = 8


class NodeResources:
    """``Resources`` at ``url``, as a node of the client said, and at another node's when that one is gone.

    Nothing fetched is believed, so it does not matter which node it comes from. For one thread at a time.
    """

    def __init__(self, client: LedgerClient, url: str, connect: Callable[[str], HttpResources]) -> None:
        self._client = client
        self._connect = connect
        self._http = connect(url)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def fetch(self, path: str) -> bytes:
        """As :meth:`HttpResources.fetch`; Unavailable when no node that answers has its resources up."""
        moves = 0
        while True:
            try:
                return self._http.fetch(path)
            except RateLimited:
                raise
            except Unavailable:
                moves += 1
                if moves > _MOST_MOVES or not self._move():
                    raise

    def _move(self) -> bool:
        """Go to the node that answers the client now; False when it is the same. Raises Unavailable."""
        url = self._client.ledger().resources_url.rstrip("/")
        if url == self._http.url:
            return False
        http = self._connect(url)
        self._http.close()
        self._http = http
        return True
