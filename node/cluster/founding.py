"""Founding a ledger in etcd: once, by all its first members together."""

from __future__ import annotations

from typing import Final

import structlog

from ledger import rules
from ledger.submissions import pack
from ledger.tree import Tree
from node.cluster.etcd_client import EtcdClient, Guard, Put
from node.cluster.etcd_journal import Keys
from node.cluster.member_settings import MemberSettings
from node.cluster.members import Member, Members
from node.cluster.peers import PeerLink
from node.errors import NodeError, NoLeader, PeerError
from node.head import Vote
from node.journal import candidate_block
from node.tls import TlsCredentials

HEAR_S: Final = 2.0
_log: Final = structlog.get_logger("node.cluster")


def may_found(settings: MemberSettings, vote: Vote) -> bool:
    """Whether this member was told who the first members are, and has applied nothing but block 0."""
    if not settings.founding or settings.genesis_leaf is None:
        return False
    return vote.head is None or vote.head.block == 0


def found(
    settings: MemberSettings, genesis: bytes, identity: bytes, etcd: EtcdClient, tls: TlsCredentials | None
) -> None:
    """Put block 0 and the list of members into etcd, once all of them have said that they are new.

    Another may be faster: all make the same of the same genesis. Raises NoLeader while one does not
    answer, NodeError for one that is not new, EtcdError.
    """
    leaf = settings.genesis_leaf
    assert leaf is not None
    keys = Keys.of(genesis)
    listed = [Member(settings.name, identity, settings.peer)]
    for name, address in settings.founding:
        if name == settings.name:
            continue
        link = PeerLink(name, address, tls)
        try:
            heard = link.hear(HEAR_S)
        except PeerError as error:
            raise NoLeader(
                f"a ledger is founded when all its members hear each other: {error}",
                where=name,
                retry_ms=500,
            ) from None
        finally:
            link.close()
        if heard.genesis != genesis:
            raise NodeError("it was started with another genesis", where=name, fix="give all the same")
        if heard.vote.head is not None and heard.vote.head.block > 0:
            raise NodeError(
                f"it has applied block {heard.vote.head.block} already: etcd has lost this ledger",
                where=name,
                fix="run `sudur node reseed`; start without --members",
            )
        listed.append(Member(name, heard.vote.member, address))
    members = Members.of_members(listed, 1)
    transition = rules.genesis(leaf)
    block = candidate_block(None, Tree.empty(), transition, pack(transition.leaves), members=1)
    answer = etcd.swap(
        [Guard(keys.head, None), Guard(keys.members, None)],
        [Put(keys.head, block.head.encode()), Put(keys.members, members.encode())],
    )
    if answer.done:
        _log.info("founded", members=[one.name for one in listed])
