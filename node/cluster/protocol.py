"""The decisions of the commit protocol, pure: what a member may do, given what it knows.

Whoever calls them does the reading and writing; tests explore the same functions exhaustively
(tests/cluster/model.py). The rules, in short: *prepare* is no vote; etcd decides by one
compare-and-swap of the head's value; *applying is the vote*, kept in the mark; only what a majority has
applied is signed. So whatever was answered is on a majority's disks, and any majority that is heard
later knows of it, whatever etcd says by then.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final

from node.cluster.errors import (
    ChangeRefused,
    EtcdAbsent,
    EtcdBehind,
    EtcdDiffers,
    ReseedRefused,
    Unheard,
)
from node.errors import NotLeading
from node.head import Head, Vote

MOST_CLOCK_OFFSET_MS: Final = 10_000
"""A leader's clock may be so far from its peers': seals bear its time, and cannot be taken back."""


MOST_BEHIND: Final = 64
"""Blocks that a member may be behind and still be counted as level when the list changes."""


def majority(members: int) -> int:
    """q: the fewest of ``members`` such that any two groups of so many share one."""
    return members // 2 + 1


def hearing(members: int) -> int:
    """How many marks have to be heard before anybody leads: a majority, so that one of them knows of every
    answer. N - q + 1 would do for that as long as the list of members stays; of an even number it misses
    a majority of the list before or after, which may have answered when etcd was set back over a change.
    """
    return majority(members)


# --- what a member may do -----------------------------------------------------------------------


class Readiness(Enum):
    """How a member stands to a block that it is asked to prepare or apply."""

    READY = auto()
    BEHIND = auto()
    """It has to catch up first."""
    DONE = auto()
    """It has applied this very block already."""
    NEVER = auto()
    """Another epoch, another chain, or it is frozen: not by this member as it stands."""


def may_prepare(vote: Vote, parent: Head) -> Readiness:
    """Whether a member may prepare a block that is built on ``parent``. Preparing is no vote."""
    if vote.is_frozen or vote.epoch != parent.epoch:
        return Readiness.BEHIND if _not_yet(vote, parent.epoch) else Readiness.NEVER
    if vote.head == parent:
        return Readiness.READY
    if vote.head is None or vote.head.block < parent.block:
        return Readiness.BEHIND
    return Readiness.NEVER


def may_apply(vote: Vote, head: Head) -> Readiness:
    """Whether a member may apply ``head``, which etcd held, on top of what it has applied.

    That the block really extends its chain shows only when it is computed: its root must be the head's.
    """
    if vote.is_frozen or vote.epoch != head.epoch:
        return Readiness.BEHIND if _not_yet(vote, head.epoch) else Readiness.NEVER
    if vote.head == head:
        return Readiness.DONE
    if vote.head is None or vote.head.block + 1 < head.block:
        return Readiness.BEHIND
    return Readiness.READY if vote.head.block + 1 == head.block else Readiness.NEVER


def applied(vote: Vote, head: Head) -> Vote:
    """The vote once ``head`` is durably applied."""
    return Vote(vote.member, head.epoch, vote.frozen, head, vote.members)


def _not_yet(vote: Vote, epoch: int) -> bool:
    """Whether the epoch is one that the member may still come to."""
    return epoch > vote.epoch and epoch >= vote.frozen


# --- what etcd says -----------------------------------------------------------------------------


class Standing(Enum):
    """How what etcd holds stands to what a member has applied."""

    LEVEL = auto()
    BEHIND = auto()
    """etcd has more, in the member's own epoch: catch up."""
    NEW_EPOCH = auto()
    """A later epoch was opened: it is entered with its whole chain, or not at all."""
    UNLISTED = auto()
    """The very same chain, which came here beside the cluster: from a backup, or from a node alone."""


def judge_etcd(vote: Vote, head: Head | None) -> Standing:
    """Hold what etcd says against what this member has applied.

    Raises EtcdAbsent, EtcdBehind or EtcdDiffers: then nobody may lead or sign here, because etcd has lost
    what was decided; a restored snapshot repeats revisions and ids, so nothing but this shows it.
    """
    if head is None:
        raise EtcdAbsent(vote.head)
    if vote.head is not None and head.ledger != vote.head.ledger:
        raise EtcdDiffers(vote.head, head)
    if head.epoch < max(vote.epoch, vote.frozen):
        raise EtcdBehind(vote.head, head, vote.frozen if vote.is_frozen else vote.epoch)
    if vote.head is None:
        return Standing.BEHIND if head.epoch == vote.epoch else Standing.NEW_EPOCH
    if head.epoch > vote.epoch:
        return Standing.NEW_EPOCH
    if head.block < vote.head.block:
        raise EtcdBehind(vote.head, head, vote.epoch)
    if head.block > vote.head.block:
        return Standing.BEHIND
    if head == vote.head:
        return Standing.LEVEL
    if vote.head.members == 0 and head.same_tree(vote.head):
        return Standing.UNLISTED
    raise EtcdDiffers(vote.head, head)


def enter_epoch(vote: Vote, head: Head) -> Vote:
    """The vote of a member that holds the whole chain up to ``head``, which a later epoch was opened with.

    Before that it keeps its old vote, even for a chain that the epoch did not keep: it may hold up what
    was answered, until the epoch is on a majority's disks. Raises EtcdBehind for an epoch that is not later.
    """
    entered = head.epoch <= vote.epoch and head != vote.head
    if entered or head.epoch < vote.frozen:
        raise EtcdBehind(vote.head, head, vote.frozen if vote.is_frozen else vote.epoch)
    return Vote(vote.member, head.epoch, 0, head, vote.members)


# --- who may lead -------------------------------------------------------------------------------


RootOf = Callable[[int], tuple[int, bytes] | None]
"""(size, root) after a block of one's own chain; None when it does not reach there."""


def check_may_lead(
    own: Vote, heard: Sequence[Vote], members: int, members_version: int, head: Head | None, root_of: RootOf
) -> None:
    """Whether a term may begin: ``heard`` are the marks of other members, ``head`` what etcd held *after*
    those were heard, ``own`` the candidate's vote, already level with it.

    Raises Unheard, EtcdAbsent, EtcdBehind, EtcdDiffers, NotLeading.
    """
    if judge_etcd(own, head) is not Standing.LEVEL:
        raise NotLeading("this member has not applied what etcd holds yet")
    assert head is not None
    if head.members > members_version:
        raise NotLeading("the list of members has changed since it was read")
    if 1 + len(heard) < hearing(members):
        raise Unheard(1 + len(heard), hearing(members))
    for vote in heard:
        if max(vote.epoch, vote.frozen) > head.epoch:
            raise EtcdBehind(vote.head, head, max(vote.epoch, vote.frozen))
        if vote.head is None or vote.epoch < head.epoch:
            # It has not entered this epoch: what it holds was weighed when the epoch was opened.
            continue
        if vote.head.block > head.block or vote.head.members > members_version:
            raise EtcdBehind(vote.head, head, head.epoch)
        if root_of(vote.head.block) != (vote.head.size, vote.head.root):
            raise EtcdDiffers(vote.head, head)


# --- changing who is a member ---------------------------------------------------------------------


def check_change(
    old: Sequence[bytes], new: Sequence[bytes], version: int, head: Head, votes: Mapping[bytes, Vote]
) -> None:
    """Whether the list of members (by identity), of that version, may become ``new``.

    One member at a time, so that any majority of the one list shares a member with any of the other:
    whatever was answered under the old list, somebody in each new majority knows. And never before a
    majority of either has applied a block under the old list: or etcd, set back over two changes, would
    find a majority that knows of neither. ``head`` is what etcd holds. Raises ChangeRefused.
    """
    if len(set(old) ^ set(new)) != 1:
        raise ChangeRefused("one member at a time comes or goes")
    knowing = {
        member
        for member, vote in votes.items()
        if vote.head is not None
        and not vote.is_frozen
        and (vote.head.epoch, vote.head.members) == (head.epoch, version)
        and vote.head.block >= head.block - MOST_BEHIND
    }
    for which, members in (("present", old), ("new", new)):
        if len(knowing & set(members)) < majority(len(members)):
            raise ChangeRefused(
                f"no majority of the {which} members is level with block {head.block} under the present list",
                fix="bring up more members, and wait until a new one has caught up; after a change the leader"
                " seals a block by itself",
            )


# --- opening an epoch anew ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Report:
    """What a member, frozen for the new epoch, says: its vote, and that it holds the chain to it."""

    name: str
    vote: Vote


Common = Callable[[Report, Report], int]
"""The number of the last block that two members' chains share."""


def next_epoch(votes: Sequence[Vote], head: Head | None) -> int:
    """The epoch that a reseed opens: above all that anybody has entered or waits for."""
    known = [max(vote.epoch, vote.frozen) for vote in votes]
    return 1 + max([*known, 0 if head is None else head.epoch])


def freeze(vote: Vote, epoch: int) -> Vote:
    """The vote of a member that waits for ``epoch`` and applies nothing until it is opened: durable before
    the member reports it, and never between an apply and its mark. Who has entered that epoch, or waits
    for a later one, stays as it is: its vote counts for a reseed only when it is frozen for that very epoch.
    """
    return replace(vote, frozen=epoch) if epoch > max(vote.epoch, vote.frozen) else vote


Lists = Mapping[int, Collection[bytes]]
"""The identities of the members by the version of their list: etcd's, and those that members last saw."""


def choose(reports: Sequence[Report], lists: Lists, common: Common) -> Report:
    """Whose chain a reseed keeps, so that no answer is lost that a majority had applied.

    Of the highest epoch, and wherever its chains part, the branch that a majority can have applied,
    counting those unheard as if they had. A branch is counted by the list that it was decided under,
    which need not be the newest: etcd may have been set back over a change. Older lists may be unknown; a
    branch under one of those may always have been answered. Raises ReseedRefused: too few reports from the
    newest list, a list unknown that is newer, nothing applied, or two branches of which either may have
    been answered.
    """
    heard = {one.vote.member for one in reports}
    listed = lists[max(lists)]
    counted = len(heard & set(listed))
    if counted < majority(len(listed)):
        raise ReseedRefused(
            f"{counted} of {len(listed)} members answered, {majority(len(listed))} have to",
            fix="bring up more members, and try again",
        )
    holders = [one for one in reports if one.vote.head is not None]
    if not holders:
        raise ReseedRefused("no member has applied anything", fix="found the ledger instead")
    if (later := max(_version(one) for one in holders)) > max(lists):
        raise ReseedRefused(
            f"a block was decided under version {later} of the list of members, which nobody shows",
            fix="bring up the members that were not heard, and try again",
        )
    newest = max(one.vote.epoch for one in holders)
    left = [one for one in holders if one.vote.epoch == newest]
    while len(branches := _branches(left, common)) > 1:
        possible = [branch for branch in branches if _may_be_answered(branch, heard, lists)]
        if len(possible) > 1:
            names = " and of ".join(", ".join(one.name for one in branch) for branch in possible)
            raise ReseedRefused(
                f"the chains of {names} part, and either may have been answered",
                fix="bring up the members that were not heard, and try again",
            )
        left = possible[0] if possible else max(branches, key=len)
    return max(left, key=_length)


def _may_be_answered(branch: Sequence[Report], heard: Set[bytes], lists: Lists) -> bool:
    """Whether those who voted for a branch, and those unheard, can be a majority of one of its lists.

    The lists of the ends will do: an end under a later list shows that a majority of that one, too, had
    applied what was decided on the branch under the list before.
    """
    voted = {one.vote.member for one in branch}
    for version in {_version(one) for one in branch}:
        if version not in lists:
            return True
        listed = set(lists[version])
        if len(listed & voted) + len(listed - heard) >= majority(len(listed)):
            return True
    return False


def _version(report: Report) -> int:
    return 0 if report.vote.head is None else report.vote.head.members


def _length(report: Report) -> int:
    return -1 if report.vote.head is None else report.vote.head.block


def _branches(reports: Sequence[Report], common: Common) -> list[list[Report]]:
    """Where the chains first part, who voted for which next block; all in one when they never do.

    A chain that ends before that point has voted for none of them.
    """
    parting = min(
        (
            shared
            for at, one in enumerate(reports)
            for other in reports[at + 1 :]
            if (shared := common(one, other)) < min(_length(one), _length(other))
        ),
        default=None,
    )
    if parting is None:
        return [list(reports)]
    branches: list[list[Report]] = []
    for report in reports:
        if _length(report) <= parting:
            continue
        for branch in branches:
            if common(branch[0], report) > parting:
                branch.append(report)
                break
        else:
            branches.append([report])
    return branches
