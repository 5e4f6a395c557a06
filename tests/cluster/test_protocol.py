"""The commit protocol's decisions, one by one; tests/cluster/test_model.py holds them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.cluster.errors import (
    EtcdAbsent,
    EtcdBehind,
    EtcdDiffers,
    ReseedRefused,
    Unheard,
)
from node.cluster.protocol import (
    Lists,
    Readiness,
    Report,
    Standing,
    applied,
    check_may_lead,
    choose,
    enter_epoch,
    freeze,
    hearing,
    judge_etcd,
    majority,
    may_apply,
    may_prepare,
    next_epoch,
)
from node.errors import NodeError, NotLeading
from node.head import Head, Vote

READY, BEHIND, DONE, NEVER = Readiness.READY, Readiness.BEHIND, Readiness.DONE, Readiness.NEVER

Path = str
"""A chain: a letter for each block above genesis, so that one chain begins with another as words do."""


def head(path: Path, epoch: int = 1, members: int = 1, ledger: bytes = b"G" * 32) -> Head:
    root = path.encode().ljust(32, b"\0")
    return Head(ledger, epoch, members, 1, len(path), len(path) + 1, root, root)


def vote(path: Path | None, epoch: int = 1, frozen: int = 0, *, name: str = "A", members: int = 1) -> Vote:
    at = None if path is None else head(path, epoch, members)
    return Vote(name.encode().ljust(16, b"\0"), epoch, frozen, at, b"list")


def path_of(report: Report) -> Path:
    assert report.vote.head is not None
    return report.vote.head.root.rstrip(b"\0").decode()


def common(one: Report, other: Report) -> int:
    first, second = path_of(one), path_of(other)
    return next(
        (at for at in range(min(len(first), len(second))) if first[at] != second[at]),
        min(len(first), len(second)),
    )


@pytest.mark.parametrize(("members", "q"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (9, 5)])
def test_any_two_majorities_share_a_member_and_so_do_those_of_lists_one_change_apart(
    members: int, q: int
) -> None:
    assert majority(members) == hearing(members) == q
    assert 2 * q > members
    assert majority(members) + majority(members + 1) > members + 1


@dataclass(frozen=True)
class Case:
    desc: str
    vote: Vote
    head: Head
    want: Readiness


PREPARE = [
    Case("on what it has applied", vote("a"), head("a"), READY),
    Case("on what is further", vote("a"), head("ab"), BEHIND),
    Case("it has nothing", vote(None), head("a"), BEHIND),
    Case("on what it has left behind", vote("ab"), head("a"), NEVER),
    Case("on a rival", vote("a"), head("b"), NEVER),
    Case("under another list", vote("a"), head("a", members=2), NEVER),
    Case("in an epoch gone by", vote("a", 2), head("a", 1), NEVER),
    Case("in an epoch that it may enter", vote("a", 1), head("a", 2), BEHIND),
    Case("frozen", vote("a", 1, 2), head("a", 1), NEVER),
    Case("frozen for the block's epoch", vote("a", 1, 2), head("a", 2), BEHIND),
    Case("frozen for a later one", vote("a", 1, 3), head("a", 2), NEVER),
    Case("frozen once, and since entered", vote("a", 2, 2), head("a", 2), READY),
]

APPLY = [
    Case("the next", vote("a"), head("ab"), READY),
    Case("applied already", vote("a"), head("a"), DONE),
    Case("two further", vote("a"), head("abc"), BEHIND),
    Case("it has nothing", vote(None), head("a"), BEHIND),
    Case("one before", vote("ab"), head("a"), NEVER),
    Case("a rival of the same number", vote("a"), head("b"), NEVER),
    Case("in an epoch gone by", vote("a", 2), head("ab", 1), NEVER),
    Case("in an epoch that it may enter", vote("a", 1), head("ab", 2), BEHIND),
    Case("frozen", vote("a", 1, 2), head("ab", 1), NEVER),
    Case("frozen, and applied already", vote("a", 1, 2), head("a", 1), NEVER),
    Case("frozen for a later epoch", vote("a", 1, 3), head("ab", 2), NEVER),
]


@pytest.mark.parametrize("case", PREPARE, ids=lambda case: case.desc)
def test_may_prepare(case: Case) -> None:
    assert may_prepare(case.vote, case.head) is case.want


@pytest.mark.parametrize("case", APPLY, ids=lambda case: case.desc)
def test_may_apply(case: Case) -> None:
    assert may_apply(case.vote, case.head) is case.want


def test_an_applied_head_is_the_vote_and_takes_nothing_else_back() -> None:
    before = vote("a", 1, 1)
    assert applied(before, head("ab")) == replace(before, head=head("ab"))


@dataclass(frozen=True)
class Judged:
    desc: str
    vote: Vote
    head: Head | None
    want: Standing | type[NodeError]


JUDGED = [
    Judged("level", vote("a"), head("a"), Standing.LEVEL),
    Judged("more, in its epoch", vote("a"), head("ab"), Standing.BEHIND),
    Judged("a new member", vote(None), head("ab"), Standing.BEHIND),
    Judged("a new member in a later epoch", vote(None), head("ab", 2), Standing.NEW_EPOCH),
    Judged("a later epoch", vote("a"), head("a", 2), Standing.NEW_EPOCH),
    Judged("a later epoch, a shorter chain", vote("ab"), head("a", 2), Standing.NEW_EPOCH),
    Judged("the epoch that it is frozen for", vote("a", 1, 2), head("a", 2), Standing.NEW_EPOCH),
    Judged("nothing", vote("a"), None, EtcdAbsent),
    Judged("nothing, and a new member", vote(None), None, EtcdAbsent),
    Judged("less", vote("ab"), head("a"), EtcdBehind),
    Judged("an epoch gone by", vote("a", 2), head("ab", 1), EtcdBehind),
    Judged("an epoch gone by, and a new member", vote(None, 2), head("ab", 1), EtcdBehind),
    Judged("frozen, and not opened yet", vote("a", 1, 2), head("a", 1), EtcdBehind),
    Judged("frozen for a later one than was opened", vote("a", 1, 3), head("a", 2), EtcdBehind),
    Judged("a rival", vote("a"), head("b"), EtcdDiffers),
    Judged("its own block under another list", vote("a"), head("a", members=2), EtcdDiffers),
    Judged(
        "its own block, which came beside the cluster", vote("a", members=0), head("a"), Standing.UNLISTED
    ),
    Judged("a rival of what came beside the cluster", vote("a", members=0), head("b"), EtcdDiffers),
    Judged("another ledger", vote("a"), head("a", ledger=b"H" * 32), EtcdDiffers),
    Judged("another ledger in a later epoch", vote("a"), head("a", 2, ledger=b"H" * 32), EtcdDiffers),
]


@pytest.mark.parametrize("case", JUDGED, ids=lambda case: case.desc)
def test_judge_etcd(case: Judged) -> None:
    if isinstance(case.want, Standing):
        assert judge_etcd(case.vote, case.head) is case.want
    else:
        with pytest.raises(case.want):
            judge_etcd(case.vote, case.head)


@pytest.mark.parametrize(
    ("desc", "before", "opened", "enters"),
    [
        ("the next", vote("ab", 1), head("a", 2), True),
        ("the one that it waits for", vote("ab", 1, 2), head("a", 2), True),
        ("a later one than it waits for", vote("ab", 1, 2), head("a", 3), True),
        ("its own again, with what it has applied", vote("a", 2), head("a", 2), True),
        ("its own again, which would undo its votes", vote("ab", 2), head("a", 2), False),
        ("one gone by", vote("ab", 3), head("a", 2), False),
        ("an earlier one than it waits for", vote("ab", 1, 3), head("a", 2), False),
    ],
)
def test_enter_epoch(desc: str, before: Vote, opened: Head, enters: bool) -> None:
    if enters:
        assert enter_epoch(before, opened) == replace(before, epoch=opened.epoch, frozen=0, head=opened)
    else:
        with pytest.raises(EtcdBehind):
            enter_epoch(before, opened)


@pytest.mark.parametrize(
    ("desc", "before", "epoch", "freezes"),
    [
        ("for the next", vote("a", 1), 2, True),
        ("for the same again", vote("a", 1, 2), 2, True),
        ("for a later one", vote("a", 1, 2), 3, True),
        ("for an earlier one than it waits for", vote("a", 1, 3), 2, False),
        ("for its own", vote("a", 2), 2, False),
        ("for its own, that it waited for", vote("a", 2, 2), 2, False),
        ("for one gone by", vote("a", 3), 2, False),
    ],
)
def test_freeze(desc: str, before: Vote, epoch: int, freezes: bool) -> None:
    after = freeze(before, epoch)
    assert after == (replace(before, frozen=epoch) if freezes else before)
    assert (after.is_frozen and after.frozen == epoch) == freezes


@dataclass(frozen=True)
class Led:
    desc: str
    own: Vote
    heard: tuple[Vote, ...]
    head: Head | None
    want: type[NodeError] | None = None
    members: int = 3
    version: int = 1


LED = [
    Led("one other is level", vote("ab"), (vote("ab"),), head("ab")),
    Led("one other is behind, on the same chain", vote("ab"), (vote("a"),), head("ab")),
    Led("one other has nothing", vote("ab"), (vote(None),), head("ab")),
    Led(
        "one other has not entered the epoch, on a longer chain", vote("a", 2), (vote("ab", 1),), head("a", 2)
    ),
    Led("the other was frozen for this epoch", vote("a", 2), (vote("b", 1, 2),), head("a", 2)),
    Led("alone", vote("a"), (), head("a"), members=1),
    Led("the list is newer than the head", vote("a"), (vote("a"),), head("a"), version=2),
    Led("nobody was heard", vote("ab"), (), head("ab"), Unheard),
    Led("of two, the other was not heard", vote("a"), (), head("a"), Unheard, members=2),
    Led("of four, one was heard", vote("a"), (vote("a"),), head("a"), Unheard, members=4),
    Led("one other is ahead", vote("a"), (vote("ab"),), head("a"), EtcdBehind),
    Led("one other is of a later epoch", vote("a"), (vote("a", 2),), head("a"), EtcdBehind),
    Led("one other is frozen for a later epoch", vote("a"), (vote("a", 1, 2),), head("a"), EtcdBehind),
    Led("one other voted under a later list", vote("ab"), (vote("a", members=2),), head("ab"), EtcdBehind),
    Led("one other is on a rival", vote("ab"), (vote("x"),), head("ab"), EtcdDiffers),
    Led("etcd has nothing", vote("a"), (vote("a"),), None, EtcdAbsent),
    Led("etcd has less", vote("ab"), (vote("a"),), head("a"), EtcdBehind),
    Led("etcd has a rival", vote("ab"), (vote("ab"),), head("ax"), EtcdDiffers),
    Led("etcd has more", vote("a"), (vote("a"),), head("ab"), NotLeading),
    Led("etcd has a later epoch", vote("a"), (vote("a"),), head("a", 2), NotLeading),
    Led("it is frozen", vote("a", 1, 2), (vote("a"),), head("a"), EtcdBehind),
    Led(
        "the list is older than the head",
        vote("a", members=2),
        (vote("a"),),
        head("a", members=2),
        NotLeading,
    ),
]


@pytest.mark.parametrize("case", LED, ids=lambda case: case.desc)
def test_check_may_lead(case: Led) -> None:
    own = "" if case.own.head is None else case.own.head.root.rstrip(b"\0").decode()

    def root_of(block: int) -> tuple[int, bytes] | None:
        made = head(own[:block])
        return (made.size, made.root) if block <= len(own) else None

    def check() -> None:
        check_may_lead(case.own, case.heard, case.members, case.version, case.head, root_of)

    if case.want is None:
        check()
    else:
        with pytest.raises(case.want):
            check()


@pytest.mark.parametrize(
    ("votes", "at", "want"),
    [
        ([vote("a")], head("a"), 2),
        ([vote("a"), vote("a", 1, 4)], head("a"), 5),
        ([vote("a", 3), vote("a")], head("a"), 4),
        ([vote("a")], head("a", 7), 8),
        ([vote("a", 2)], None, 3),
        ([], None, 1),
    ],
)
def test_a_reseed_opens_an_epoch_above_all(votes: list[Vote], at: Head | None, want: int) -> None:
    assert next_epoch(votes, at) == want


# --- choose ---------------------------------------------------------------------------------------


def reports(**votes: Vote) -> list[Report]:
    return [Report(name, replace(one, member=name.encode().ljust(16, b"\0"))) for name, one in votes.items()]


def lists(*names: str) -> Lists:
    return {
        version: [name.encode().ljust(16, b"\0") for name in listed]
        for version, listed in enumerate(names, 1)
    }


THREE = lists("ABC")


@dataclass(frozen=True)
class Chosen:
    """``want``: the chain that is kept; None when the reseed refuses."""

    desc: str
    reports: Sequence[Report]
    want: Path | None
    lists: Lists


CHOSEN = [
    Chosen("one line", reports(A=vote("ab"), B=vote("a"), C=vote("")), "ab", THREE),
    Chosen("one line, one unheard", reports(A=vote("ab"), B=vote("a")), "ab", THREE),
    Chosen("too few", reports(A=vote("ab")), None, THREE),
    Chosen("strangers do not count", reports(A=vote("ab"), X=vote("ab")), None, THREE),
    Chosen("nothing applied", reports(A=vote(None), B=vote(None)), None, THREE),
    Chosen("one has nothing", reports(A=vote("a"), B=vote(None)), "a", THREE),
    Chosen("the majority's", reports(A=vote("a"), B=vote("x"), C=vote("x")), "x", THREE),
    Chosen("the majority's, though shorter", reports(A=vote("abc"), B=vote("x"), C=vote("x")), "x", THREE),
    Chosen("either may be answered", reports(A=vote("a"), B=vote("x")), None, THREE),
    Chosen(
        "neither can be: the one with more votes, all have nothing else in common",
        reports(A=vote("a"), B=vote("x"), C=vote("xy"), D=vote("p"), E=vote("")),
        "xy",
        lists("ABCDE"),
    ),
    Chosen("the newest epoch's, though shorter", reports(A=vote("abc"), B=vote("a", 2)), "a", THREE),
    Chosen("the newest epoch's, though fewer", reports(A=vote("b"), B=vote("a", 2), C=vote("b")), "a", THREE),
    Chosen(
        "chains that part twice",
        reports(A=vote("abc"), B=vote("abd"), C=vote("abd"), D=vote("x"), E=vote("abd")),
        "abd",
        lists("ABCDE"),
    ),
    Chosen(
        "who ends before the parting has voted for neither",
        reports(A=vote("ab"), B=vote("ax"), C=vote("a"), D=vote("ax")),
        "ax",
        lists("ABCDE"),
    ),
    Chosen("a later list than is known", reports(A=vote("a", members=2), B=vote("x")), None, lists("AB")),
    Chosen(
        "an older list that nobody shows, on one line",
        reports(A=vote("ab", members=2), B=vote("a", members=1), C=vote("ab", members=2)),
        "ab",
        {2: THREE[1]},
    ),
    Chosen(
        "an older list that nobody shows, where chains part",
        reports(A=vote("a", members=1), B=vote("x", members=2), C=vote("x", members=2)),
        None,
        {2: THREE[1]},
    ),
    Chosen(
        "each branch by the list that it was decided under, one unheard: the older list's can be answered",
        reports(A=vote("a"), B=vote("x", members=2)),
        "a",
        lists("ABC", "AB"),
    ),
    Chosen(
        "the same, when the newer list's can be",
        reports(A=vote("a"), B=vote("x", members=2), C=vote("x", members=2)),
        "x",
        lists("AB", "ABC"),
    ),
    Chosen(
        "the same, when the third was not heard",
        reports(A=vote("a"), B=vote("x", members=2)),
        "x",
        lists("AB", "ABC"),
    ),
]


@pytest.mark.parametrize("case", CHOSEN, ids=lambda case: case.desc)
def test_choose(case: Chosen) -> None:
    for told in (case.reports, case.reports[::-1]):
        if case.want is None:
            with pytest.raises(ReseedRefused):
                choose(told, case.lists, common)
        else:
            assert path_of(choose(told, case.lists, common)) == case.want


NAMES = "ABCDE"
END = st.tuples(st.text("ab", max_size=4), st.integers(1, 2))


@given(st.integers(1, 5), st.lists(END, min_size=5, max_size=5), st.sets(st.sampled_from(NAMES), min_size=1))
def test_choose_loses_nothing_that_may_have_been_answered(
    count: int, ends: list[tuple[Path, int]], heard: set[str]
) -> None:
    """Held against an oracle that counts, for each block there is, who has applied it or may have."""
    named = dict(zip(NAMES[:count], ends, strict=False))
    told = reports(**{name: vote(*end) for name, end in named.items() if name in heard})
    may_be_answered = _may_be_answered({one.name: named[one.name] for one in told}, count)
    apart = any(not _one_line(one, other) for one in may_be_answered for other in may_be_answered)
    try:
        kept = path_of(choose(told, lists(NAMES[:count]), common))
    except ReseedRefused:
        assert apart or len(told) < majority(count)
        return
    assert len(told) >= majority(count)
    assert all(kept.startswith(path) for path in may_be_answered)
    assert max(epoch for _, epoch in ends_of(told)) == max(
        one.vote.epoch for one in told if path_of(one) == kept
    )


def ends_of(told: Sequence[Report]) -> list[tuple[Path, int]]:
    return [(path_of(one), one.vote.epoch) for one in told]


def _may_be_answered(heard: Mapping[str, tuple[Path, int]], count: int) -> set[Path]:
    """Blocks of the newest epoch that a majority has applied, if all the unheard have."""
    newest = max((epoch for _, epoch in heard.values()), default=0)
    voters = [path for path, epoch in heard.values() if epoch == newest]
    blocks = {path[:end] for path in voters for end in range(len(path) + 1)}
    unheard = count - len(heard)
    return {
        block
        for block in blocks
        if sum(path.startswith(block) for path in voters) + unheard >= majority(count)
    }


def _one_line(one: Path, other: Path) -> bool:
    return one.startswith(other) or other.startswith(one)
