"""The commit protocol as a small machine, whose members decide by node/cluster/protocol.py's functions.

Up to four members, etcd, would-be leaders, operators who reseed; blocks are names, trees are the names
since genesis. What the world may do to them is what ``tests.cluster.search`` tries out exhaustively:

- *Crashes*: a member loses its term. One that never does another step is down.
- *Late, lost, doubled messages*: a message is a fact from the moment that it was sent, and whoever it
  was meant for may meet it at any later time, again, or never. So a member may apply any head that etcd
  ever held, a leader may count any mark that a member ever kept, and a write to etcd that was sent may
  land whenever etcd holds what it expects: its outcome is unknown until then.
- *etcd* is set back to anything that it ever held, wiped, or founded anew by somebody.
- *Disks*: the store may be ahead of the mark; a member may lose both, and is another one then.

A block counts as signed and answered the moment that a majority may have voted for it, whether or not its
leader still lives: that is the worst case, and saves the steps of signing.

``python -m tests.cluster.model --blocks 3 --tampers 1`` searches deeper than the tests do.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from functools import cache
from itertools import combinations
from typing import Final, NamedTuple

from node.cluster import protocol
from node.cluster.errors import EtcdAlarm, ReseedRefused
from node.cluster.protocol import Readiness, Report, Standing
from node.errors import NodeError
from node.head import FIRST_EPOCH, MEMBER_ID_SIZE, Head, Vote
from tests.cluster.search import MOST_STATES, Found, Step, search

LEDGER: Final = b"G" * 32
OTHER_LEDGER: Final = b"H" * 32
NAMES: Final = "ABCD"
THREE: Final = ("ABC",)

NOTHING: Final = -1
"""A member that applied nothing; etcd without a head."""
STRANGER: Final = -2
"""etcd holds another ledger's head."""

# --- places: heads by number, so that a state is a tuple of small numbers -------------------------


class Place(NamedTuple):
    """What a head says: the blocks since genesis, the epoch, and the version of the list of members."""

    path: tuple[int, ...]
    epoch: int
    version: int


_places: list[Place] = []
_numbers: dict[Place, int] = {}
_heads: list[Head] = []


def _spot(place: Place) -> int:
    """The number of a place, given out when it is first met."""
    number = _numbers.get(place)
    if number is None:
        number = _numbers[place] = len(_places)
        _places.append(place)
        _heads.append(_head(place))
    return number


def _head(place: Place, ledger: bytes = LEDGER) -> Head:
    block = len(place.path)
    root = _root(place.path)
    return Head(ledger, place.epoch, place.version, 1, block, block + 1, root, root[::-1])


def _root(path: tuple[int, ...]) -> bytes:
    return bytes([len(path), *path]).ljust(32, b"\0")


def _path(head: Head | None) -> tuple[int, ...] | None:
    return None if head is None else tuple(head.root[1 : 1 + head.root[0]])


def _extends(longer: int, shorter: int) -> bool:
    """Whether one's chain begins with the other's."""
    path = _places[shorter].path
    return _places[longer].path[: len(path)] == path


@cache
def _named(spot: int) -> str:
    """'2a on 1b', with the epoch once it is a later one."""
    if spot < 0:
        return "nothing" if spot == NOTHING else "another ledger's head"
    place = _places[spot]
    names = [f"{number}{'abcdef'[label]}" for number, label in enumerate(place.path, 1)]
    chain = " on ".join(reversed(names)) or "genesis"
    return chain if place.epoch == FIRST_EPOCH else f"{chain} (epoch {place.epoch})"


GENESIS: Final = _spot(Place((), FIRST_EPOCH, 1))
_FOREIGN: Final = _head(Place((), FIRST_EPOCH, 1), OTHER_LEDGER)


def _etcd_head(value: int) -> Head | None:
    if value == STRANGER:
        return _FOREIGN
    return None if value == NOTHING else _heads[value]


# --- the protocol's decisions, for places ---------------------------------------------------------

Ballot = tuple[int, int, int]
"""A vote: epoch, frozen, spot of the head."""
Heard = tuple[tuple[int, Ballot], ...]
"""Several members' votes, each with the lists that name the member: bit v for version v."""


@cache
def _vote(ballot: Ballot) -> Vote:
    epoch, frozen, spot = ballot
    return Vote(b"m" * MEMBER_ID_SIZE, epoch, frozen, None if spot == NOTHING else _heads[spot])


def _ballot(vote: Vote) -> Ballot:
    if vote.head is None:
        return vote.epoch, vote.frozen, NOTHING
    path = _path(vote.head)
    assert path is not None
    return vote.epoch, vote.frozen, _numbers[Place(path, vote.head.epoch, vote.head.members)]


@cache
def _may_prepare(ballot: Ballot, parent: int) -> Readiness:
    return protocol.may_prepare(_vote(ballot), _heads[parent])


@cache
def _may_apply(ballot: Ballot, spot: int) -> Readiness:
    return protocol.may_apply(_vote(ballot), _heads[spot])


@cache
def _applied(ballot: Ballot, spot: int) -> Ballot:
    return _ballot(protocol.applied(_vote(ballot), _heads[spot]))


@cache
def _judge(ballot: Ballot, value: int) -> Standing | NodeError:
    try:
        return protocol.judge_etcd(_vote(ballot), _etcd_head(value))
    except NodeError as error:
        return error


@cache
def _enter(ballot: Ballot, spot: int) -> Ballot:
    return _ballot(protocol.enter_epoch(_vote(ballot), _heads[spot]))


@cache
def _freeze(ballot: Ballot, epoch: int) -> Ballot | None:
    """None when it cannot be frozen for that epoch any more."""
    frozen = protocol.freeze(_vote(ballot), epoch)
    return _ballot(frozen) if frozen.is_frozen and frozen.frozen == epoch else None


@cache
def _may_lead(
    own: Ballot, heard: tuple[Ballot, ...], members: int, version: int, value: int
) -> NodeError | None:
    path = () if own[2] == NOTHING else _places[own[2]].path

    def root_of(block: int) -> tuple[int, bytes] | None:
        return (block + 1, _root(path[:block])) if block <= len(path) else None

    votes = [_vote(ballot) for ballot in heard]
    try:
        protocol.check_may_lead(_vote(own), votes, members, version, _etcd_head(value), root_of)
    except NodeError as error:
        return error
    return None


@cache
def _next_epoch(ballots: tuple[Ballot, ...], value: int) -> int:
    return protocol.next_epoch([_vote(ballot) for ballot in ballots], _etcd_head(value))


@cache
def _choose(told: Heard, counts: tuple[int, ...]) -> int | None:
    """The spot that a reseed keeps; None when it refuses. ``counts``: how many each list names."""
    reports: list[Report] = []
    lists: dict[int, list[bytes]] = {version: [] for version in range(1, len(counts) + 1)}
    for at, (listed, ballot) in enumerate(told):
        identity = bytes([at]) * MEMBER_ID_SIZE
        reports.append(Report(str(at), replace(_vote(ballot), member=identity)))
        for version, names in lists.items():
            if listed >> version & 1:
                names.append(identity)
    for version, count in enumerate(counts, 1):
        unheard = range(count - len(lists[version]))
        lists[version] += [bytes([255 - at]) * MEMBER_ID_SIZE for at in unheard]
    try:
        chosen = protocol.choose(reports, lists, _common)
    except ReseedRefused:
        return None
    return _ballot(chosen.vote)[2]


def _common(one: Report, other: Report) -> int:
    first, second = _path(one.vote.head), _path(other.vote.head)
    assert first is not None
    assert second is not None
    shared = 0
    while shared < min(len(first), len(second)) and first[shared] == second[shared]:
        shared += 1
    return shared


# --- states ---------------------------------------------------------------------------------------


class Phase(IntEnum):
    IDLE = 0
    HEARS = 1
    LEADS = 2


class Term(NamedTuple):
    """``number``: what was answered when it began to hear; then the version of the list it leads under.
    ``block``: what it has built and not applied yet."""

    phase: Phase
    number: int = NOTHING
    block: int = NOTHING
    heard: Heard = ()


IDLE: Final = Term(Phase.IDLE)


class Member(NamedTuple):
    """A column of the state: all that is known of one member, so that sorting columns loses only names.

    ``lists``: bit v is set when version v of the list names it. ``stored`` is ahead of ``head`` between
    the store's write and the mark's. ``bodies`` and ``voted`` are bits by spot, of all time. ``reports``:
    what each operator was told.
    """

    lists: int
    epoch: int
    frozen: int
    head: int
    stored: int
    lost: bool
    term: Term
    bodies: int
    voted: int
    reports: tuple[Ballot | tuple[()], ...]

    @property
    def ballot(self) -> Ballot:
        return self.epoch, self.frozen, self.head

    @property
    def at_rest(self) -> bool:
        return not self.lost and self.stored == self.head


class Stage(IntEnum):
    BUILT = 0
    SENT = 1
    ANSWERED = 2


class Write(NamedTuple):
    """A block, or the opening of an epoch: what is put into etcd, and over what."""

    new: int
    expected: int
    version: int
    stage: Stage

    @property
    def sent(self) -> bool:
        """Whether it may land."""
        return self.stage >= Stage.SENT

    @property
    def opens(self) -> bool:
        """Whether an operator wrote it."""
        return self.expected < 0 or _places[self.new].epoch > _places[self.expected].epoch


class Operator(NamedTuple):
    epoch: int
    sent: bool


class State(NamedTuple):
    """``etcd``: its head, and the version of its list; ``past``: all pairs that it ever held. ``terms``,
    ``tampers``, ``losses``: how many of them are still to come at the most."""

    etcd: tuple[int, int]
    past: tuple[tuple[int, int], ...]
    writes: tuple[Write, ...]
    operators: tuple[Operator, ...]
    terms: int
    tampers: int
    losses: int
    members: tuple[Member, ...]


# --- what may be taken out ------------------------------------------------------------------------

RULES: Final = {
    "vote": "a leader signs when etcd has decided, not when a majority has applied",
    "decision": "a leader signs when a majority has prepared",
    "freeze": "a reseed asks members for their marks without freezing them",
    "epoch": "a member applies what etcd held in another epoch",
    "branches": "a reseed keeps the longest chain of the newest epoch",
    "hearing": "a leader reads etcd only, and hears no marks",
    "compare": "a write to etcd always succeeds",
    "value": "a write to etcd compares the revision, not the value",
    "lock": "a member is frozen between the store's write and the mark's",
    "abandon": "a member gives up a chain that an epoch did not keep before it holds that epoch's",
    "identity": "a member that lost its mark votes on under its old name",
    "list": "a block's write does not compare the list of members",
    "version": "a reseed counts by the list in etcd, though a member has voted under a newer one",
}
"""Each rule of the protocol, said as what happens without it."""


@dataclass(frozen=True, slots=True)
class Commit:
    """The machine. How much happens is bounded: ``blocks`` that are built, rivals too; ``terms`` that are
    begun to hear for; ``tampers`` with etcd; ``operators`` who reseed; ``losses`` of a disk; ``lists`` of
    members, each one change from the one before.

    ``two_steps``: store and mark are written one after the other, with anything in between. ``without``:
    rules that are taken out. ``only``: promises that are looked at, all by default.
    """

    blocks: int = 2
    terms: int = 2
    tampers: int = 0
    operators: int = 0
    losses: int = 0
    lists: tuple[str, ...] = THREE
    two_steps: bool = False
    without: frozenset[str] = frozenset()
    only: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        assert self.without <= RULES.keys()
        assert self.only <= PROMISES.keys()

    def but(self, *, without: frozenset[str] = frozenset(), only: frozenset[str] = frozenset()) -> Commit:
        """The same bounds, with other rules and promises."""
        return replace(self, without=without, only=only)

    def start(self) -> State:
        names = sorted(set("".join(self.lists)))
        assert names == list(NAMES[: len(names)])
        members = []
        for name in names:
            lists = sum(1 << at for at, listed in enumerate(self.lists, 1) if name in listed)
            founder = bool(lists & 2)
            at = GENESIS if founder else NOTHING
            voted = 1 << GENESIS if founder else 0
            reports = ((),) * self.operators
            members.append(Member(lists, FIRST_EPOCH, 0, at, at, False, IDLE, 0, voted, reports))
        etcd = (GENESIS, 1)
        return State(etcd, (etcd,), (), (), self.terms, self.tampers, self.losses, tuple(members))

    def canonical(self, state: State) -> State:
        return state._replace(members=tuple(sorted(state.members)))

    def steps(self, state: State) -> Iterator[Step]:
        for step in self._steps(state):
            assert isinstance(step.after, State)
            yield step._replace(after=self._tidy(step.after))

    def _tidy(self, state: State) -> State:
        """The state without what no later step depends on."""
        pending = {one.term.block for one in state.members}
        writes = []
        for write in state.writes:
            if write.stage is Stage.BUILT and write.new not in pending:
                continue  # Its leader is gone: nobody ever sends it.
            if write.stage < Stage.ANSWERED and self._is_answered(state, write.new):
                write = write._replace(stage=Stage.ANSWERED)
            writes.append(write)
        bodies = sum(1 << write.new for write in writes if write.stage is Stage.BUILT)
        voted = -1
        if len(self.lists) == 1:
            voted = sum(1 << new for new in {write.new for write in writes if write.stage < Stage.ANSWERED})
        members = state.members
        if any(one.bodies & ~bodies or one.voted & ~voted for one in members):
            members = tuple(
                one._replace(bodies=one.bodies & bodies, voted=one.voted & voted) for one in members
            )
        for which, operator in enumerate(state.operators):
            if operator.sent and any(one.reports[which] for one in members):
                members = tuple(one._replace(reports=_swap(one.reports, which, ())) for one in members)
        return state._replace(writes=tuple(writes), members=members)

    def _steps(self, state: State) -> Iterator[Step]:
        for at, member in enumerate(state.members):
            if not member.lost:
                yield from self._leader_steps(state, at, member)
                yield from self._member_steps(state, at, member)
        yield from self._etcd_steps(state)
        yield from self._operator_steps(state)

    # --- a leader ---

    def _leader_steps(self, state: State, at: int, member: Member) -> Iterator[Step]:
        name, term = NAMES[at], member.term
        if not member.at_rest:
            return
        if term.phase is Phase.LEADS:
            built = sum(not write.opens for write in state.writes)
            may_build = term.block == NOTHING and built < self.blocks
            if may_build and _may_prepare(member.ballot, member.head) is Readiness.READY:
                yield self._build(state, at, member)
            return
        version = state.etcd[1]
        if term.phase is Phase.IDLE:
            if not state.terms or not member.lists >> version & 1:
                return
            state = state._replace(terms=state.terms - 1)
            term = Term(Phase.HEARS, self._answered_tip(state))
        if "hearing" in self.without or 1 + len(term.heard) >= protocol.hearing(self._count(version)):
            yield from self._begin(state, at, member, term)
            return
        # One after the other would tell those apart that were heard, and show no more.
        others = [
            (other, one)
            for other, one in enumerate(state.members)
            if other != at and not one.lost and one.lists >> version & 1
        ]
        for peers in combinations(others, protocol.hearing(self._count(version)) - 1):
            heard = tuple(sorted((one.lists, one.ballot) for _, one in peers))
            told = ", ".join(f"{NAMES[other]}'s mark ({_named(one.head)})" for other, one in peers)
            yield Step(
                ("{} hears {}", name, told), _put(state, at, member._replace(term=term._replace(heard=heard)))
            )

    def _begin(self, state: State, at: int, member: Member, term: Term) -> Iterator[Step]:
        value, version = state.etcd
        heard = tuple(ballot for lists, ballot in term.heard if lists >> version & 1)
        count = 1 if "hearing" in self.without else self._count(version)
        refused = _may_lead(member.ballot, heard, count, version, value)
        if refused is not None:
            if self._alarms(refused) and self._untouched(state) and self._looks("alarm"):
                broken = f"alarm: {NAMES[at]} may not lead, though nobody touched etcd: {refused}"
                yield Step(("{} reads etcd and is alarmed", NAMES[at]), state, broken)
            return
        broken = ""
        if not _extends(member.head, term.number) and self._looks("leader"):
            begun, tip = _named(member.head), _named(term.number)
            broken = f"leader: a term begins on {begun}, but {tip} was answered before"
        yield Step(
            ("{} reads etcd and begins a term on {}", NAMES[at], _named(member.head)),
            _put(state, at, member._replace(term=Term(Phase.LEADS, version))),
            broken,
        )

    def _build(self, state: State, at: int, member: Member) -> Step:
        parent = _places[member.head]
        version = member.term.number
        rivals = {
            _places[write.new].path
            for write in state.writes
            if not write.opens and _places[write.new].path[:-1] == parent.path
        }
        label = next(label for label in range(self.blocks) if (*parent.path, label) not in rivals)
        new = _spot(Place((*parent.path, label), parent.epoch, version))
        leader = member._replace(term=member.term._replace(block=new), bodies=member.bodies | 1 << new)
        writes = tuple(sorted((*state.writes, Write(new, member.head, version, Stage.BUILT))))
        return Step(
            ("{} builds and prepares block {}", NAMES[at], _named(new)),
            _send_prepared(self, _put(state._replace(writes=writes), at, leader), new),
        )

    # --- a member ---

    def _member_steps(self, state: State, at: int, member: Member) -> Iterator[Step]:
        name = NAMES[at]
        if member.term != IDLE or member.stored != member.head:
            raised = self._mark(state, member._replace(term=IDLE), member.stored)
            yield Step(("{} crashes and starts again", name), _put(state, at, raised))
        if member.stored != member.head:
            yield Step(
                ("{} keeps its mark of {}", name, _named(member.stored)),
                _put(state, at, self._mark(state, member, member.stored)),
            )
            return
        for write in state.writes:
            if (
                not write.sent
                and not member.bodies >> write.new & 1
                and member.lists >> _places[write.new].version & 1
                and _may_prepare(member.ballot, write.expected) is Readiness.READY
            ):
                kept = member._replace(bodies=member.bodies | 1 << write.new)
                yield Step(
                    ("{} prepares {}", name, _named(write.new)),
                    _send_prepared(self, _put(state, at, kept), write.new),
                )
        for spot in sorted({value for value, _ in state.past if value >= 0}):
            if self._would_apply(member, spot):
                yield Step(
                    ("{} applies {}", name, _named(spot)), _put(state, at, self._store(state, member, spot))
                )
            elif _judge(member.ballot, spot) is Standing.NEW_EPOCH:
                yield Step(
                    ("{} enters epoch {} with {}", name, str(_places[spot].epoch), _named(spot)),
                    _put(state, at, self._store(state, member, spot)),
                )
            if "abandon" in self.without and self._has_parted(member, spot):
                given_up = member._replace(frozen=_places[spot].epoch, head=NOTHING, stored=NOTHING)
                yield Step(("{} gives up {}", name, _named(member.head)), _put(state, at, given_up))
        if state.losses and (member.lists & 2):
            yield Step(
                ("{} loses its disk and its mark", name),
                _put(state._replace(losses=state.losses - 1), at, self._lose(member)),
            )

    def _has_parted(self, member: Member, spot: int) -> bool:
        parted = member.head != NOTHING and not _extends(spot, member.head)
        return parted and _judge(member.ballot, spot) is Standing.NEW_EPOCH

    def _would_apply(self, member: Member, spot: int) -> bool:
        """Whether it applies a head, several blocks at once if it has to catch up."""
        ballot, epoch = member.ballot, _places[spot].epoch
        if "epoch" in self.without and member.frozen <= member.epoch:
            ballot = (epoch, 0, member.head)
        readiness = _may_apply(ballot, spot)
        if readiness is Readiness.BEHIND and member.frozen <= member.epoch == epoch:
            readiness = Readiness.READY
        return readiness is Readiness.READY and (member.head == NOTHING or _extends(spot, member.head))

    def _store(self, state: State, member: Member, spot: int) -> Member:
        """The store's write; without ``two_steps`` the mark follows at once."""
        stored = member._replace(stored=spot)
        return stored if self.two_steps else self._mark(state, stored, spot)

    def _mark(self, state: State, member: Member, spot: int) -> Member:
        """The vote for ``spot``, and for all below it in the same epoch; a term ends with another's block."""
        if spot == member.head:
            return member
        if _places[spot].epoch > member.epoch:
            ballot = _enter(member.ballot, spot)
            member = member._replace(term=IDLE)
        else:
            ballot = _applied(member.ballot, spot)
        voted = member.voted | 1 << spot
        for write in state.writes:
            if _places[write.new].epoch == _places[spot].epoch and _extends(spot, write.new):
                voted |= 1 << write.new
        term = member.term
        if term.phase is Phase.LEADS:
            term = Term(Phase.LEADS, term.number) if term.block == spot else IDLE
        epoch, frozen, head = ballot
        return member._replace(epoch=epoch, frozen=frozen, head=head, stored=spot, voted=voted, term=term)

    def _lose(self, member: Member) -> Member:
        gone = "identity" not in self.without
        return member._replace(
            epoch=FIRST_EPOCH, frozen=0, head=NOTHING, stored=NOTHING, lost=gone, term=IDLE
        )

    # --- etcd ---

    def _etcd_steps(self, state: State) -> Iterator[Step]:
        value, version = state.etcd
        for write in state.writes:
            if write.sent and self._lands(write, state.etcd):
                listed = write.version if write.opens or "list" not in self.without else version
                yield Step(("etcd puts {}", _named(write.new)), _put_etcd(state, write.new, listed))
        if value >= 0 and version < len(self.lists) and self._may_change(state, version):
            after = _put_etcd(state, value, version + 1)
            yield Step(("the list of members becomes {}", self.lists[version]), after)
        if state.tampers:
            for pair in (*state.past, (NOTHING, version), (STRANGER, version)):
                if pair != state.etcd:
                    after = state._replace(etcd=pair, tampers=state.tampers - 1)
                    names = f", list {self.lists[pair[1] - 1]}" if len(self.lists) > 1 else ""
                    yield Step(("etcd is made to hold {}{}", _named(pair[0]), names), after)

    def _may_change(self, state: State, version: int) -> bool:
        """Whether a change was ever allowed that compares nothing but the list: wider than check_change,
        for the marks may have been heard long ago."""
        under = sum(1 << at for at, place in enumerate(_places) if place.version == version)
        return all(
            sum(one.lists >> listed & 1 and bool(one.voted & under) for one in state.members)
            >= self._majority(listed)
            for listed in (version, version + 1)
        )

    def _lands(self, write: Write, etcd: tuple[int, int]) -> bool:
        value, version = etcd
        if write.new == value:
            return False
        if "compare" in self.without:
            return True
        if "list" not in self.without and write.version != version and not write.opens:
            return False
        if "value" in self.without:
            return _revision(value) == _revision(write.expected)
        return value == write.expected

    # --- operators ---

    def _operator_steps(self, state: State) -> Iterator[Step]:
        value, _ = state.etcd
        if len(state.operators) < self.operators:
            ballots = [member.ballot for member in state.members if not member.lost]
            epochs = {
                _next_epoch(heard, value)
                for size in range(1, len(ballots) + 1)
                for heard in combinations(ballots, size)
            }
            for epoch in sorted(epochs):
                after = state._replace(operators=(*state.operators, Operator(epoch, False)))
                yield Step(("an operator begins to reseed, for epoch {}", str(epoch)), after)
        for which, operator in enumerate(state.operators):
            if operator.sent:
                continue
            who = f"operator {which + 1}"
            for at, member in enumerate(state.members):
                if not member.reports[which] and not member.lost:
                    yield from self._freeze(state, which, at, member)
            for spot, version in self._choices(state, which):
                if value != STRANGER and (value == NOTHING or _places[value].epoch < operator.epoch):
                    new = _spot(Place(_places[spot].path, operator.epoch, version))
                    writes = tuple(sorted({*state.writes, Write(new, value, version, Stage.SENT)}))
                    done = _swap(state.operators, which, operator._replace(sent=True))
                    yield Step(
                        ("{} keeps {}, and writes it over {}", who, _named(spot), _named(value)),
                        state._replace(writes=writes, operators=done),
                    )

    def _freeze(self, state: State, which: int, at: int, member: Member) -> Iterator[Step]:
        epoch = state.operators[which].epoch
        frozen = _freeze(member.ballot, epoch)
        if frozen is None or not (member.at_rest or "lock" in self.without):
            return
        if "freeze" in self.without:
            frozen = member.ballot
        reports = _swap(member.reports, which, frozen)
        after = member._replace(epoch=frozen[0], frozen=frozen[1], head=frozen[2], reports=reports)
        words = "{0} reports {1}" if "freeze" in self.without else "{0} is frozen for {2}, and reports {1}"
        yield Step(
            (words, NAMES[at], _named(member.head), f"epoch {epoch}"),
            _put(state, at, after),
        )

    def _choices(self, state: State, which: int) -> tuple[tuple[int, int], ...]:
        told = [(one.lists, one.reports[which]) for one in state.members]
        return _kept(self, tuple(sorted((lists, one) for lists, one in told if one)), state.etcd[1])

    # --- what was promised ---

    def broken(self, state: State) -> str:
        answered = self.answered(state)
        for promise, check in PROMISES.items():
            if self._looks(promise) and (told := check(self, state, answered)):
                return f"{promise}: {told}"
        return ""

    def _looks(self, promise: str) -> bool:
        return not self.only or promise in self.only

    def answered(self, state: State) -> list[int]:
        """All that a leader may have signed and answered by now."""
        return [
            write.new
            for write in state.writes
            if write.stage is Stage.ANSWERED or self._is_answered(state, write.new)
        ]

    def _is_answered(self, state: State, spot: int) -> bool:
        version = _places[spot].version
        needed = self._majority(version)
        if self._votes(state, spot, version) >= needed:
            return True
        if "vote" in self.without:
            return any(value == spot for value, _ in state.past)
        if "decision" in self.without:
            return sum(one.bodies >> spot & one.lists >> version & 1 for one in state.members) >= needed
        return False

    def _answered_tip(self, state: State) -> int:
        return max(self.answered(state), key=length_of, default=GENESIS)

    def _votes(self, state: State, spot: int, version: int) -> int:
        return sum(one.voted >> spot & one.lists >> version & 1 for one in state.members)

    def _count(self, version: int) -> int:
        return len(self.lists[version - 1])

    def _majority(self, version: int) -> int:
        return protocol.majority(self._count(version))

    def _untouched(self, state: State) -> bool:
        """Whether neither etcd nor the members were touched by anybody but the members."""
        return state.tampers == self.tampers and state.losses == self.losses and not state.operators

    @staticmethod
    def _alarms(refused: Standing | NodeError) -> bool:
        return isinstance(refused, EtcdAlarm)

    # --- promises, each said in PROMISES ---

    def no_fork(self, state: State, answered: list[int]) -> str:
        for one, other in combinations(answered, 2):
            if not _extends(one, other) and not _extends(other, one):
                return f"{_named(one)} and {_named(other)} were both answered"
        return ""

    def opened_with_all(self, state: State, answered: list[int]) -> str:
        for write in state.writes:
            if not write.opens:
                continue
            for spot in answered:
                if _places[spot].epoch < _places[write.new].epoch and not _extends(write.new, spot):
                    return f"an epoch is opened with {_named(write.new)}, but {_named(spot)} was answered"
        return ""

    def can_reseed(self, state: State, answered: list[int]) -> str:
        there = tuple(sorted((one.lists, one.ballot) for one in state.members if one.at_rest))
        for spot in _ever_kept(self, there, state.etcd[1]):
            for kept in answered:
                if not _extends(spot, kept):
                    return f"a reseed would keep {_named(spot)}, but {_named(kept)} was answered"
        if len(there) == len(state.members) and not _kept(self, there, state.etcd[1]):
            return "a reseed refuses, though every member reports"
        return ""

    def decided(self, state: State, answered: list[int]) -> str:
        if state.tampers == self.tampers:
            for spot in answered:
                if state.etcd[0] < 0 or not _extends(state.etcd[0], spot):
                    held = _named(state.etcd[0])
                    return f"etcd holds {held}, and nobody set it back, but {_named(spot)} was answered"
        return ""

    def orderly(self, state: State, answered: list[int]) -> str:
        value = state.etcd[0]
        for write in state.writes:
            may_land = write.sent and not write.opens and self._lands(write, state.etcd)
            if may_land and (value < 0 or not _extends(write.new, value)):
                return f"{_named(write.new)} may be written over {_named(value)}"
        return ""

    def no_alarm(self, state: State, answered: list[int]) -> str:
        if state.tampers < self.tampers:
            return ""
        for at, member in enumerate(state.members):
            if not member.lost and member.frozen <= member.epoch:
                judged = _judge(member.ballot, state.etcd[0])
                if self._alarms(judged):
                    return f"{NAMES[at]} is alarmed, though nobody touched etcd: {judged}"
        return ""


PROMISES: Final[dict[str, Callable[[Commit, State, list[int]], str]]] = {
    "fork": Commit.no_fork,
    "opening": Commit.opened_with_all,
    "reseed": Commit.can_reseed,
    "decided": Commit.decided,
    "order": Commit.orderly,
    "alarm": Commit.no_alarm,
    "leader": lambda machine, state, answered: "",
}
"""fork: what was answered stands on one chain. opening: a later epoch holds all that was answered before.
reseed: whoever reports, at any time, it keeps all that was answered or refuses; with all it does not
refuse. decided: what was answered stands in etcd, unless etcd was set back. order: a block is written only
over the one below it. alarm: nobody is alarmed unless etcd was touched. leader: a term begins only on a
chain that holds all that was answered before it (checked at that step)."""


@cache
def _kept(machine: Commit, told: Heard, version: int) -> tuple[tuple[int, int], ...]:
    """What a reseed may keep, and under which list; nothing when it refuses. ``version``: etcd's list."""
    without, lists = machine.without, machine.lists
    if "version" not in without:
        # Members remember the newest list that they saw: at least those that their blocks bear.
        version = max([version, *(_places[one[2]].version for _, one in told if one[2] != NOTHING)])
    listed = tuple((names, one) for names, one in told if names >> version & 1)
    if "branches" in without:
        if not listed or len(listed) < protocol.majority(len(lists[version - 1])):
            return ()
        longest = max((one[0], length_of(one[2])) for _, one in told)
        ends = {one[2] for _, one in told if (one[0], length_of(one[2])) == longest}
        return tuple((spot, version) for spot in sorted(ends))
    if "version" in without:
        # As if this list had always been the one.
        every = tuple((-1, one) for _, one in listed)
        spot = _choose(every, (len(lists[version - 1]),) * len(lists))
    else:
        spot = _choose(told, tuple(len(names) for names in lists[:version]))
    return () if spot is None else ((spot, version),)


@cache
def _ever_kept(machine: Commit, there: Heard, version: int) -> frozenset[int]:
    """All that a reseed may keep, whoever of those who are there reports."""
    return frozenset(
        spot
        for size in range(1, len(there) + 1)
        for told in combinations(there, size)
        for spot, _ in _kept(machine, told, version)
    )


def epoch_of(spot: int) -> int:
    return _places[spot].epoch


def version_of(spot: int) -> int:
    """The version of the list of members that its block was decided under."""
    return _places[spot].version


def length_of(spot: int) -> int:
    """How many blocks it has above genesis."""
    return -1 if spot == NOTHING else len(_places[spot].path)


def _revision(value: int) -> int:
    """etcd's count of writes, which repeats when it is set back: one for each block and each epoch."""
    return -1 if value < 0 else len(_places[value].path) + _places[value].epoch


def _swap(many: tuple[object, ...], at: int, new: object) -> tuple:  # type: ignore[type-arg]
    return (*many[:at], new, *many[at + 1 :])


def _put(state: State, at: int, member: Member) -> State:
    return state._replace(members=_swap(state.members, at, member))


def _put_etcd(state: State, value: int, version: int) -> State:
    pair = (value, version)
    past = state.past if pair in state.past else tuple(sorted((*state.past, pair)))
    return state._replace(etcd=pair, past=past)


def _send_prepared(machine: Commit, state: State, spot: int) -> State:
    """Send the write to etcd as soon as it may be: when it lands is another matter."""
    version = _places[spot].version
    holders = sum(one.bodies >> spot & one.lists >> version & 1 for one in state.members)
    leads = any(one.term.block == spot for one in state.members)
    if not leads or holders < machine._majority(version):
        return state
    writes = tuple(sorted(one._replace(stage=Stage.SENT) if one.new == spot else one for one in state.writes))
    return state._replace(writes=writes)


def main() -> None:
    parser = argparse.ArgumentParser(description="search the commit protocol for what breaks it")
    for name, default in (("blocks", 2), ("terms", 2), ("tampers", 0), ("operators", 0), ("losses", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--lists", nargs="+", default=list(THREE), help="of members, as ABC AB ABD")
    parser.add_argument("--two-steps", action="store_true", help="store and mark apart")
    parser.add_argument("--without", nargs="*", default=[], choices=sorted(RULES))
    parser.add_argument("--only", nargs="*", default=[], choices=sorted(PROMISES))
    parser.add_argument("--most", type=int, default=MOST_STATES, help="states")
    given = vars(parser.parse_args())
    most = given.pop("most")
    for name in ("without", "only"):
        given[name] = frozenset(given[name])
    given["lists"] = tuple(given["lists"])
    assert given.keys() == {field.name for field in fields(Commit)}
    began = time.monotonic()
    found: Found = search(Commit(**given), most=most)
    print(found)
    print(f"{time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
