"""Errors of the running node. The core's own are in ``ledger.errors``; the root is the same."""

from __future__ import annotations

from typing import ClassVar

from ledger.errors import SudurError


class NodeError(SudurError):
    """The node cannot do what is asked, or cannot run at all."""

    code: ClassVar[str] = "NODE"


class RetryableError(NodeError):
    """Nothing was written; the same call may succeed later. ``retry_ms``: when to try again."""

    def __init__(self, what: str, *, retry_ms: int = 1_000, where: str = "", fix: str = "") -> None:
        super().__init__(what, where=where, fix=fix)
        self.retry_ms = retry_ms


class DiskFull(RetryableError):
    """Too little space is left; reads go on, submissions wait for space."""

    code = "DISK_FULL"


class QueueFull(RetryableError):
    code = "QUEUE_FULL"


class Stopping(RetryableError):
    code = "STOPPING"


class ReadOnly(RetryableError):
    """The node serves reads only: its store failed, or its clock cannot be right."""

    code = "READ_ONLY"


class ClockUnsound(ReadOnly):
    """The clock jumped; sealing now would push the ledger's time into the future."""

    code = "CLOCK_UNSOUND"


class Conflict(NodeError):
    """Another head was committed than the one that this block was built on."""

    code = "CONFLICT"


class NotFound(NodeError):
    """No such leaf, checkpoint, tile or record here."""

    code = "NOT_FOUND"


class StoreDamaged(NodeError):
    """What the store holds does not agree with itself, or cannot be read."""

    code = "STORE_DAMAGED"


class StoreBehindMark(NodeError):
    """The store holds less than, or other than, what this node has signed."""

    code = "STORE_BEHIND_MARK"


class DataInUse(NodeError):
    """Another process has this data directory open."""

    code = "DATA_IN_USE"
