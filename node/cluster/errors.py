"""Errors of the replicated ledger. All of them pass, or say what an operator has to do."""

from __future__ import annotations

from typing import Final

from node.errors import NodeError, ReadOnly, RetryableError
from node.head import Head

_RESEED: Final = (
    "reads go on here. If etcd was restored or wiped by mistake, bring its newest data back; otherwise see"
    " that all members are up and run `sudur node reseed`"
)


class NoMajority(RetryableError):
    """Too few members answered. What a block held may still be decided later: a retry finds out."""

    code = "NO_MAJORITY"


class Unheard(NoMajority):
    """Too few marks were heard for a term to begin."""

    def __init__(self, heard: int, needed: int) -> None:
        super().__init__(
            f"{heard} of {needed} members that have to be heard before anybody leads were heard",
            where="peers",
            fix="see that a majority of the nodes is up and can reach each other",
        )


class EtcdAlarm(ReadOnly):
    """etcd has lost what was decided. Nobody may lead or sign until it is put right."""

    code = "ETCD_ALARM"


class EtcdAbsent(EtcdAlarm):
    code = "ETCD_ABSENT"

    def __init__(self, own: Head | None) -> None:
        had = "none was founded in it yet" if own is None else f"this member has applied block {own.block}"
        super().__init__(f"etcd holds no head of this ledger, and {had}", where="etcd", fix=_RESEED)


class EtcdBehind(EtcdAlarm):
    code = "ETCD_BEHIND"

    def __init__(self, own: Head | None, head: Head, epoch: int) -> None:
        super().__init__(
            f"etcd is at block {head.block} of epoch {head.epoch}, a member is at block"
            f" {'none' if own is None else own.block} and votes in epoch {epoch}: etcd was set back",
            where="etcd",
            fix=_RESEED,
        )


class EtcdDiffers(EtcdAlarm):
    code = "ETCD_DIFFERS"

    def __init__(self, own: Head, head: Head) -> None:
        super().__init__(
            f"etcd holds another chain (block {head.block}, root {head.root.hex()[:16]}…) than a member has"
            f" applied (block {own.block}, root {own.root.hex()[:16]}…)",
            where="etcd",
            fix=_RESEED,
        )


class ReseedRefused(NodeError):
    """No chain can be kept without perhaps losing an answer."""

    code = "RESEED_REFUSED"


class ChangeRefused(NodeError):
    """The list of members cannot be changed so, or not now."""

    code = "CHANGE_OF_MEMBERS_REFUSED"


class MemberUnknown(ReadOnly):
    """This node is not one of the cluster's members, or its place was taken by another."""

    code = "MEMBER_UNKNOWN"
