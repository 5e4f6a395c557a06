"""Handing submissions on to another node, for one that may not order them itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from google.rpc import status_pb2

from ledger.errors import SudurError
from node.sequencer import Outcome


class ForwardedRefusal(SudurError):
    """What the other node refused a submission for: goes back to the caller as it came."""

    def __init__(self, status: status_pb2.Status) -> None:
        super().__init__(status.message)
        self.status = status


class Forward(Protocol):
    """Belongs to one event loop."""

    @property
    def is_elsewhere(self) -> bool:
        """Whether somebody else orders submissions at the moment."""
        ...

    async def submit(
        self, genesis: bytes, submissions: Sequence[tuple[bytes, bytes]]
    ) -> tuple[list[Outcome], bytes]:
        """The outcome of each of 1 to 64 submissions, in order, and a checkpoint that covers those placed.

        Raises ForwardedRefusal for all of them, RetryableError when the other node is not to be had.
        """
        ...

    async def change(self, genesis: bytes, leaf: bytes) -> tuple[Outcome, bytes]:
        """The same for one registry change."""
        ...
