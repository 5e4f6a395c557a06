"""Errors of the running node. The core's own are in ``ledger.errors``; the root is the same."""

from __future__ import annotations

from typing import ClassVar

from ledger.errors import SudurError


class NodeError(SudurError):
    """The node cannot do what is asked, or cannot run at all."""

    code: ClassVar[str] = "NODE"


class RetryableError(NodeError):
    """The same call may succeed later. ``retry_ms``: when to try again.

    Nothing was written, as a rule. After a commit that failed, and a store that could not be brought
    back at once, the block may be in the ledger all the same: a retry then gets the first answer, with
    ``repeat`` set.
    """

    def __init__(self, what: str, *, retry_ms: int = 1_000, where: str = "", fix: str = "") -> None:
        super().__init__(what, where=where, fix=fix)
        self.retry_ms = retry_ms


class DiskFull(RetryableError):
    """Too little space is left; reads go on, submissions wait for space."""

    code = "DISK_FULL"


class QueueFull(RetryableError):
    code = "QUEUE_FULL"


class TooManyStreams(QueueFull):
    """More streams are open, to one caller or to all, than the node keeps up."""

    code = "TOO_MANY_STREAMS"


class EnvelopeQuota(RetryableError):
    """An agency's share of the space for envelopes is used up, or all of it."""

    code = "ENVELOPE_QUOTA"

    def __init__(self, what: str, *, retry_ms: int = 60_000, where: str = "", fix: str = "") -> None:
        super().__init__(what, retry_ms=retry_ms, where=where, fix=fix)


class Stopping(RetryableError):
    code = "STOPPING"


class ReadOnly(RetryableError):
    """The node serves reads only: its store failed, or its clock cannot be right."""

    code = "READ_ONLY"


class ClockUnsound(ReadOnly):
    """The clock jumped, or does not go with the ledger's time; a seal could not be taken back."""

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


class NotAMember(NodeError):
    """A caller at the members' own door whose certificate is no member's of the cluster."""

    code = "NOT_A_MEMBER"
