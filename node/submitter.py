"""Whoever takes submissions on this node: its sequencer, or, in a cluster, whatever it is at the moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from node.errors import RetryableError
from node.sequencer import Abandon, Done


class Submitter(Protocol):
    """See :class:`node.sequencer.Sequencer`, which is one."""

    @property
    def fault(self) -> RetryableError | None:
        """Why nothing can be committed at present; None while all is well."""
        ...

    @property
    def queued(self) -> tuple[int, int]:
        """Submissions waiting, and their bytes."""
        ...

    def submit(self, submissions: Sequence[tuple[bytes, bytes]], done: Done) -> Abandon:
        """Queue submissions; ``done`` is called exactly once, unless this raises RetryableError.

        What it returns may do nothing: it only spares work that nobody waits for.
        """
        ...

    def change(self, leaf: bytes, done: Done) -> Abandon:
        """Queue one REGISTRY leaf."""
        ...

    def on_answers(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called once after every group of ``done`` calls."""
        ...
