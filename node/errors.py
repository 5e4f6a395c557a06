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


class AnswersWaiting(QueueFull):
    """A caller does not take the answers that are there for it."""

    code = "ANSWERS_WAITING"


class RateLimited(RetryableError):
    """An agency, or an address, has used up for now what one may use; ``retry_ms``: until when."""

    code = "RATE_LIMITED"


class CallerGone(NodeError):
    """Whoever submitted it does not wait for the answer any more, and nothing was written."""

    code = "CALLER_GONE"


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


class IsMirror(ReadOnly):
    """A mirror takes nothing that is to be written. ``submit_at``: the node that it follows."""

    code = "MIRROR"

    def __init__(self, what: str, *, submit_at: str, where: str = "", fix: str = "") -> None:
        super().__init__(what, retry_ms=60_000, where=where, fix=fix)
        self.submit_at = submit_at

    def details(self) -> dict[str, str]:
        return {"submit_at": self.submit_at}


class WitnessesAhead(ReadOnly):
    """Witnesses have seen more of this log, or another history of it, than is here: to sign would fork it."""

    code = "WITNESSES_AHEAD"


class WitnessesSilent(ReadOnly):
    """Too few witnesses were heard to know that nothing newer was signed than is here."""

    code = "WITNESSES_SILENT"


class ClockUnsound(ReadOnly):
    """The clock jumped, or does not go with the ledger's time; a seal could not be taken back."""

    code = "CLOCK_UNSOUND"


class NoLeader(RetryableError):
    """Nobody leads the cluster at the moment, or this member does not know who."""

    code = "NO_LEADER"


class NotLeading(NoLeader):
    """This member does not lead, or not any more."""


class EtcdError(RetryableError):
    """etcd did not do what was asked. Nothing was changed, unless it is :class:`OutcomeUnknown`."""

    code = "ETCD"


class EtcdUnavailable(EtcdError):
    """No endpoint of etcd answered, or none has a leader."""

    code = "ETCD_UNAVAILABLE"


class EtcdFull(EtcdError):
    """etcd has used up its quota: it reads and renews leases, and refuses every put and every new lease."""

    code = "ETCD_FULL"


class EtcdRefused(EtcdError):
    """etcd will not serve this client, whichever endpoint is asked: its rights, or what speaks there."""

    code = "ETCD_REFUSED"


class LeaseGone(EtcdError):
    """etcd does not know this lease any more: it ran out or was revoked, and its keys are gone."""

    code = "LEASE_GONE"


class OutcomeUnknown(EtcdError):
    """A change was sent and no answer came: it was made, or not, or will be yet.

    Only the identical change may be sent again. A read that finds the old value proves nothing.
    """

    code = "OUTCOME_UNKNOWN"


class Conflict(NodeError):
    """Another head was committed than the one that this block was built on."""

    code = "CONFLICT"


class TermEnded(Conflict):
    """Something changed that was to stay as it is while this term lasts: whoever leads must begin again."""

    code = "TERM_ENDED"


class BlockRefusedByPeer(NodeError):
    """A member found that a block breaks the rules. ``leaf``: the index of the one that does, if named."""

    code = "REFUSED_BY_PEER"

    def __init__(self, what: str, *, leaf: int | None, where: str = "", fix: str = "") -> None:
        super().__init__(what, where=where, fix=fix)
        self.leaf = leaf


class NotFound(NodeError):
    """No such leaf, checkpoint, tile or record here."""

    code = "NOT_FOUND"


class NotPublished(RetryableError):
    """No checkpoint meets the witness policy yet, so there is nothing that verifiers could begin with."""

    code = "NOT_PUBLISHED"


class StoreDamaged(NodeError):
    """What the store holds does not agree with itself, or cannot be read."""

    code = "STORE_DAMAGED"


class StoreBehindMark(NodeError):
    """The store holds less than, or other than, what this node has signed."""

    code = "STORE_BEHIND_MARK"


class DataInUse(NodeError):
    """Another process has this data directory open."""

    code = "DATA_IN_USE"


class PeerError(NodeError):
    """Another node, a mirror or a backup does not give what it should. ``peer`` is its name.

    Nothing of what it gave was written. Another source may do better.
    """

    code = "PEER"

    def __init__(self, what: str, *, peer: str, where: str = "", fix: str = "") -> None:
        super().__init__(what, where=f"{peer}, {where}" if where else peer, fix=fix)
        self.peer = peer


class PeerWrong(PeerError):
    """What it gave is not the log's: it lies, is damaged, or is of another ledger."""

    code = "PEER_WRONG"


class PeerShort(PeerError):
    """It ended before the head that it was to lead to, or does not have what was asked for."""

    code = "PEER_SHORT"


class PeerSilent(PeerError):
    """It cannot be reached, or gave nothing for too long."""

    code = "PEER_SILENT"


class RulesBroken(NodeError):
    """The log itself holds a block that its rules forbid; every honest source gives the same."""

    code = "RULES_BROKEN"


class NotAMember(NodeError):
    """A caller at the members' own door whose certificate is no member's of the cluster."""

    code = "NOT_A_MEMBER"
