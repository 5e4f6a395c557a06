"""What an operator does to a cluster: open a new epoch after etcd lost what was decided, change its members.

Both work from outside, over the members' own door and etcd, and may be killed at any step and given again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from ledger.checkpoints import Checkpoint
from ledger.errors import VerificationError
from ledger.proofs import verify_consistency
from node.cluster.errors import ChangeRefused, ReseedRefused
from node.cluster.etcd_client import EtcdClient, Guard, Put
from node.cluster.etcd_journal import Keys
from node.cluster.members import Member, Members
from node.cluster.peers import Heard, PeerLink
from node.cluster.protocol import Report, check_change, choose, majority, next_epoch
from node.config import Address
from node.errors import Conflict, NodeError, PeerError
from node.head import Head, Vote
from node.tls import TlsCredentials

_TRIES: Final = 3
_LOOK_S: Final = 0.5

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Cluster:
    """How a cluster is reached: etcd, and the members' certificate of whoever asks."""

    etcd: EtcdClient
    tls: TlsCredentials | None

    def link(self, name: str, address: Address) -> PeerLink:
        """To be closed by the caller."""
        return PeerLink(name, address, self.tls)


def ledger_of(cluster: Cluster, addresses: Sequence[Address]) -> bytes:
    """G of the ledger that the members at these peer addresses serve. Raises PeerError, NodeError."""
    failures = []
    for address in addresses:
        link = cluster.link(str(address), address)
        try:
            return link.hear().genesis
        except PeerError as error:
            failures.append(error)
        finally:
            link.close()
    raise failures[0]


# --- reseeding ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reseeded:
    """``head`` opens its epoch; ``kept``: the members that hold it already; ``parted``: those whose own chain
    was not kept, which begin anew by themselves."""

    head: Head
    kept: tuple[str, ...]
    behind: tuple[str, ...]
    parted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReseedPlan:
    """``peers``: where members may be reached. ``without``: names of members that are not waited for.
    ``survivors_only``: those heard are the cluster from now on, though answers may be lost. ``released``:
    checkpoints known elsewhere, which the kept chain has to hold."""

    peers: Sequence[Address]
    without: Sequence[str] = ()
    survivors_only: bool = False
    released: Sequence[Checkpoint] = ()


def reseed(cluster: Cluster, plan: ReseedPlan, say: Say) -> Reseeded:
    """Open a higher epoch with the chain that a majority can have applied, and have etcd hold it.

    Raises ReseedRefused, PeerError, EtcdError, Conflict when etcd changed meanwhile.
    """
    first = _hear_any(cluster, plan.peers)
    if not first:
        raise ReseedRefused(
            "no member was heard", where="peers", fix="bring them up, or name their addresses"
        )
    genesis = {heard.genesis for heard in first.values()}
    if len(genesis) != 1:
        raise ReseedRefused("members of several ledgers answer", where="--peers")
    keys = Keys.of(genesis.pop())
    known, held = _known_members(cluster, keys, [heard.vote for heard in first.values()])
    if not known and plan.survivors_only:
        # Nodes that were never members, as one that was alone until now.
        listed = [Member(one.name, one.vote.member, address) for address, one in first.items()]
        known = {1: Members.of_members(listed, 1)}
    if not known:
        raise ReseedRefused(
            "neither etcd nor a member knows who the members are",
            fix="to make a cluster of a node that was alone, give --survivors-only",
        )
    members = known[max(known)]
    links = {one.name: cluster.link(one.name, one.peer) for one in members.members}
    try:
        heard = _hear_members(links, members, plan, say)
        found = cluster.etcd.get(keys.head)
        before = None if found is None else _decoded(found.value)
        reports, epoch = _freeze(links, heard, before, say)
        chosen = _choose(links, reports, known, plan)
        head = chosen.vote.head
        assert head is not None
        _check_released(links[chosen.name], head, plan.released)
        if plan.survivors_only:
            kept_members = tuple(one for one in members.members if one.name in heard)
            members = Members.of_members(kept_members, members.version + 1)
        new = replace(head, epoch=epoch, members=members.version)
        answer = cluster.etcd.swap(
            [
                Guard(keys.head, None if found is None else found.value),
                Guard(keys.members, held),
            ],
            [Put(keys.head, new.encode()), Put(keys.members, members.encode())],
        )
        if not answer.done:
            raise Conflict(
                "etcd changed meanwhile: another operator, or a leader, was there",
                where="etcd",
                fix="look at `sudur cluster status`, and run this again if it is still needed",
            )
        say(f"etcd holds block {new.block}, {new.size} leaves, in epoch {epoch}: the chain of {chosen.name}.")
        return _reseeded(links, reports, new, chosen)
    finally:
        for link in links.values():
            link.close()


def _hear_any(cluster: Cluster, addresses: Sequence[Address]) -> dict[Address, Heard]:
    heard: dict[Address, Heard] = {}
    for address in addresses:
        link = cluster.link(str(address), address)
        with suppress(PeerError):
            heard[address] = link.hear()
        link.close()
    return heard


def _known_members(
    cluster: Cluster, keys: Keys, votes: Sequence[Vote]
) -> tuple[dict[int, Members], bytes | None]:
    """The lists of members that etcd or any member knows, by version; and what etcd holds.

    Of two lists of one version, as after etcd was set back over a change that was then made otherwise, etcd's
    is the one. Raises ReseedRefused when etcd has neither.
    """
    found = cluster.etcd.get(keys.members)
    held = None if found is None else found.value
    known: dict[int, Members] = {}
    if held is not None:
        present = Members.decode(held)
        known[present.version] = present
    from_etcd = set(known)
    for vote in votes:
        if not vote.members:
            continue
        one = Members.decode(vote.members)
        if known.setdefault(one.version, one) != one and one.version not in from_etcd:
            names = [
                ", ".join(member.name for member in found.members) for found in (known[one.version], one)
            ]
            raise ReseedRefused(
                f"two lists of members are of version {one.version}: {names[0]}; and {names[1]}",
                where="members",
                fix="name with --peers only members whose list is the right one",
            )
    return known, held


def _hear_members(
    links: Mapping[str, PeerLink], members: Members, plan: ReseedPlan, say: Say
) -> dict[str, Heard]:
    heard: dict[str, Heard] = {}
    for one in members.members:
        try:
            answer = links[one.name].hear()
        except PeerError as error:
            say(f"{one.name} was not heard: {error.what}")
            continue
        if answer.vote.member != one.identity:
            say(f"{one.name} is not the member of that name any more: its mark is another; it does not count")
            continue
        heard[one.name] = answer
        vote = answer.vote
        at = "nothing" if vote.head is None else f"block {vote.head.block} of epoch {vote.epoch}"
        say(f"{one.name} has applied {at}.")
    missing = sorted({one.name for one in members.members} - set(heard) - set(plan.without))
    if missing and not plan.survivors_only:
        raise ReseedRefused(
            f"{', '.join(missing)} did not answer",
            where="members",
            fix=f"bring them up, or go on without them: --without {' --without '.join(missing)}",
        )
    if plan.survivors_only and not heard:
        raise ReseedRefused("no member was heard")
    return heard


def _freeze(
    links: Mapping[str, PeerLink], heard: Mapping[str, Heard], before: Head | None, say: Say
) -> tuple[list[Report], int]:
    """Freeze all that were heard for one epoch; what they report then."""
    votes = [one.vote for one in heard.values()]
    for _ in range(_TRIES):
        epoch = next_epoch(votes, before)
        frozen = {name: links[name].freeze(epoch) for name in heard}
        votes = [one.vote for one in frozen.values()]
        if all(vote.frozen == epoch for vote in votes):
            say(f"{', '.join(frozen)} vote no more before epoch {epoch}.")
            return [Report(name, one.vote) for name, one in frozen.items()], epoch
    raise ReseedRefused("another operator is at it", fix="agree with them, and run this again")


def _choose(
    links: Mapping[str, PeerLink], reports: Sequence[Report], known: Mapping[int, Members], plan: ReseedPlan
) -> Report:
    for report in reports:
        head = report.vote.head
        if head is not None and links[report.name].root_after(head.block) != (head.size, head.root):
            raise ReseedRefused(
                f"{report.name} has voted for block {head.block}, and its store does not hold it",
                where=report.name,
                fix="bring its data directory back (one that was put aside ends in .parted-1), or go on"
                f" without it: --without {report.name}",
            )

    def common(one: Report, other: Report) -> int:
        return common_block(links[one.name], one.vote, links[other.name], other.vote)

    lists = {version: [one.identity for one in members.members] for version, members in known.items()}
    if plan.survivors_only:
        # Who is left is all there is, and ever was: among them the same choice is made.
        versions = {one.vote.head.members for one in reports if one.vote.head is not None}
        lists = {version: [one.vote.member for one in reports] for version in versions | known.keys()}
    return choose(reports, lists, common)


def common_block(one: PeerLink, vote: Vote, other: PeerLink, others: Vote) -> int:
    """The number of the last block that two members share; some twenty questions. Raises PeerError."""
    if vote.head is None or others.head is None:
        return -1
    low, high = -1, min(vote.head.block, others.head.block)
    while low < high:
        middle = (low + high + 1) // 2
        if one.root_after(middle) == other.root_after(middle) is not None:
            low = middle
        else:
            high = middle - 1
    return low


def _check_released(link: PeerLink, head: Head, released: Sequence[Checkpoint]) -> None:
    """That the kept chain holds all that is known to have been released. Raises ReseedRefused."""
    for known in released:
        if known.size > head.size:
            raise ReseedRefused(
                f"a checkpoint of {known.size} leaves was released, the chain to be kept has {head.size}",
                fix="bring up the member that has more, or restore one from a mirror that has",
            )
        try:
            path = () if known.size == head.size else link.consistency(known.size, head.size)
            verify_consistency(known.size, known.root, head.size, head.root, path)
        except VerificationError as error:
            raise ReseedRefused(
                f"the checkpoint of {known.size} leaves that was released is not of the chain to be kept",
                fix="do not go on: bring up more members, and tell the auditors",
            ) from error


def _reseeded(
    links: Mapping[str, PeerLink], reports: Sequence[Report], head: Head, chosen: Report
) -> Reseeded:
    kept: list[str] = []
    behind: list[str] = []
    parted: list[str] = []
    for report in reports:
        own = report.vote.head
        if own is None:
            behind.append(report.name)
        elif own.same_tree(head):
            kept.append(report.name)
        else:
            shared = common_block(links[chosen.name], chosen.vote, links[report.name], report.vote)
            (behind if shared == own.block else parted).append(report.name)
    return Reseeded(head, tuple(kept), tuple(behind), tuple(parted))


# --- changing the members -----------------------------------------------------------------------


def add_member(
    cluster: Cluster, genesis: bytes, name: str, address: Address, wait_s: float, say: Say
) -> Members:
    """Let a node that runs and has caught up vote. Raises ChangeRefused, PeerError, EtcdError, Conflict."""

    def changed(members: Members) -> Members:
        known = members.named(name)
        link = cluster.link(name, address)
        try:
            heard = link.hear()
        finally:
            link.close()
        if heard.genesis != genesis:
            raise ChangeRefused("it serves another ledger", where=name)
        if known is not None:
            if known == Member(name, heard.vote.member, address):
                raise ChangeRefused("it is a member already", where=name)
            raise ChangeRefused("another member has this name", where=name, fix="remove that one first")
        one = Member(name, heard.vote.member, address)
        return Members.of_members((*members.members, one), members.version + 1)

    return _change(cluster, genesis, changed, wait_s, say)


def remove_member(cluster: Cluster, genesis: bytes, name: str, wait_s: float, say: Say) -> Members:
    """Take a member's vote away. Raises as :func:`add_member`."""

    def changed(members: Members) -> Members:
        if members.named(name) is None:
            raise ChangeRefused("there is no member of this name", where=name)
        left = tuple(one for one in members.members if one.name != name)
        if not left:
            raise ChangeRefused("the last member cannot go", where=name)
        return Members.of_members(left, members.version + 1)

    return _change(cluster, genesis, changed, wait_s, say)


def _change(
    cluster: Cluster, genesis: bytes, changed: Callable[[Members], Members], wait_s: float, say: Say
) -> Members:
    keys = Keys.of(genesis)
    until = time.monotonic() + wait_s
    told = ""
    while True:
        try:
            return _try_change(cluster, keys, changed, say)
        except (ChangeRefused, Conflict, PeerError) as error:
            lasting = isinstance(error, ChangeRefused) and error.where
            if lasting or time.monotonic() >= until:
                raise
            if str(error) != told:
                told = str(error)
                say(f"Not yet: {error.what}.")
        time.sleep(_LOOK_S)


def _try_change(cluster: Cluster, keys: Keys, changed: Callable[[Members], Members], say: Say) -> Members:
    held, head_row = cluster.etcd.get(keys.members), cluster.etcd.get(keys.head)
    if held is None or head_row is None:
        raise NodeError("etcd holds no such ledger", where="etcd", fix="found it, or run `sudur node reseed`")
    old, head = Members.decode(held.value), _decoded(head_row.value)
    new = changed(old)
    votes = {}
    for one in {*old.members, *new.members}:
        link = cluster.link(one.name, one.peer)
        with suppress(PeerError):
            vote = link.hear().vote
            votes[vote.member] = vote
        link.close()
    check_change(
        [one.identity for one in old.members],
        [one.identity for one in new.members],
        old.version,
        head,
        votes,
    )
    answer = cluster.etcd.swap([Guard(keys.members, held.value)], [Put(keys.members, new.encode())])
    if not answer.done:
        raise Conflict("somebody else has changed the list meanwhile", where="etcd", fix="look at it again")
    names = ", ".join(one.name for one in new.members)
    say(f"The members are {names}; {majority(len(new))} of {len(new)} decide.")
    return new


def _decoded(value: bytes) -> Head:
    return Head.decode(value)
