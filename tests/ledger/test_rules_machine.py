"""Any history of agencies, keys, submissions and changes, beside a plain model of what is allowed.

The machine says beforehand whether the rules must take an input, by bookkeeping of its own that
knows nothing of registries, drafts and readers. Each block is built by one node, accepted by a
replica, and in the end replayed from the leaves: all three must be the same ledger.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ledger import changes, rules
from ledger.changes import AUTHORITY, Subject
from ledger.errors import SudurError
from ledger.hashing import leaf_hash, merkle_root
from ledger.records import Basis, Status
from ledger.rules_v1 import CLAIMED_FUTURE_MS, CLAIMED_PAST_MS, Draft
from ledger.seals import Seal
from ledger.signing_policy import DAY_MS, KindPolicy, SigningPolicy
from ledger.status import CHUNK_SIZE
from ledger.submissions import SubmissionLeaf
from tests.ledger.world import MemoryReader, World, commitment, issue, replay, signer, status

FINAL = {Status.REVOKED, Status.SUPERSEDED}
POLICIES = {
    "plain": SigningPolicy(),
    "four eyes": SigningPolicy({"issue.original": KindPolicy(((1, 1), (4, 2)), cap=7)}),
}


@dataclass
class Office:
    """What the model knows of an agency."""

    parent: int
    types: frozenset[int]
    policy: str
    uses: list[str] = field(default_factory=list)
    dead: set[int] = field(default_factory=set)
    added_by: list[tuple[int, int]] = field(default_factory=list)
    added_at: list[int] = field(default_factory=list)
    suspended_by: int | None = None


class Ledger(RuleBasedStateMachine):
    """Inputs go into an open draft; now and then the draft is sealed and a new one begins."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(k=2, n=3)
        self.world.define_type()
        self.replica = replay(self.world.blocks)
        self.offices: dict[int, Office] = {}
        self.issued: dict[tuple[int, int], int] = {}
        self.issuers: dict[int, int] = {}
        self.latest: dict[int, tuple[int, Status]] = {}
        self.counts: dict[tuple[int, int], int] = {}
        self.submitted: set[bytes] = set()
        self.draft: Draft = self.world.begin()

    # --- the plain rules ---

    def above(self, senior: int, junior: int) -> bool:
        while junior != AUTHORITY:
            junior = self.offices[junior].parent
            if junior == senior:
                return True
        return False

    def live(self, agency: int, use: str) -> list[int]:
        office = self.offices[agency]
        return [n for n, one in enumerate(office.uses, 1) if one == use and n not in office.dead]

    def attempt(self, allowed: bool, act: object) -> int | None:
        """Run ``act``; it must be taken just when the model says so, and else leave no trace."""
        assert callable(act)
        before = (list(self.draft.leaves), self.draft.registry, self.draft.seal().leaves[-1])
        try:
            index: int = act()
        except SudurError as error:
            if allowed:
                raise AssertionError(f"refused: {error}") from error
            after = (list(self.draft.leaves), self.draft.registry, self.draft.seal().leaves[-1])
            assert after == before
            return None
        assert allowed, "taken, and the model refuses it"
        return index

    # --- agencies ---

    @initialize()
    def first_agencies(self) -> None:
        self.enrol(AUTHORITY, [0, 1], "four eyes", 2, 1)
        self.enrol(1, [1], "plain", 1, 1)

    @precondition(lambda self: len(self.offices) < 6)
    @rule(
        parent=st.integers(0, 3),
        types=st.lists(st.integers(0, 1), unique=True),
        policy=st.sampled_from(sorted(POLICIES)),
        submit=st.integers(0, 2),
        registry=st.integers(0, 1),
    )
    def enrol(self, parent: int, types: list[int], policy: str, submit: int, registry: int) -> None:
        number = len(self.offices) + 1
        body = changes.AgencyEnrolled(
            {"en": f"Agency {number}"},
            parent,
            changes.Entitlement(("enrol", "issue"), tuple(sorted(types)), POLICIES[policy]),
        )
        known = parent == AUTHORITY or parent in self.offices
        index = self.attempt(
            known, lambda: self.world.change(Subject("agency", number), body, draft=self.draft)
        )
        if index is None:
            return
        self.offices[number] = Office(parent, frozenset(types), policy)
        self.world.keys[number] = {}
        self.add_keys(number, AUTHORITY, ["submit"] * submit + ["registry"] * registry)

    @rule(
        number=st.integers(1, 4),
        by=st.integers(0, 4),
        uses=st.lists(st.sampled_from(["submit", "registry"]), max_size=2),
    )
    def add_keys(self, number: int, by: int, uses: list[str]) -> None:
        if not uses or (by != AUTHORITY and by not in self.offices) or number not in self.offices:
            return
        office = self.offices[number]
        first = len(office.uses) + 1
        keys = {first + i: signer(f"agency {number} key {first + i}") for i in range(len(uses))}
        body = changes.KeysAdded(
            tuple(
                changes.NewKey(n, 1, key.public_key, use, "")
                for (n, key), use in zip(keys.items(), uses, strict=True)
            )
        )
        index = self.signed_by(by, number, body, by in (AUTHORITY, number) or self.above(by, number))
        if index is not None:
            self.world.keys[number].update(keys)
            office.uses += uses
            signed = self.live(by, "registry")[0] if by != AUTHORITY else 0
            office.added_by += [(by, signed)] * len(uses)
            office.added_at += [index] * len(uses)

    def signed_by(self, by: int, number: int, body: changes.ChangeBody, entitled: bool) -> int | None:
        if by == AUTHORITY:
            allowed, keys = entitled, None
        else:
            live = self.live(by, "registry")
            every = [n for n, use in enumerate(self.offices[by].uses, 1) if use == "registry"]
            if not every:
                return None
            allowed = entitled and bool(live) and self.offices[by].suspended_by is None
            keys = (live or every)[:1]
        return self.attempt(
            allowed,
            lambda: self.world.change(Subject("agency", number), body, by=by, keys=keys, draft=self.draft),
        )

    @rule(number=st.integers(1, 4), key=st.integers(1, 5), by=st.integers(0, 4))
    def end_key(self, number: int, key: int, by: int) -> None:
        if number not in self.offices or (by != AUTHORITY and by not in self.offices):
            return
        office = self.offices[number]
        record = self.draft.registry.agency(number).key(key)
        in_use = record is not None and record.ended is None
        entitled = by in (AUTHORITY, number) or self.above(by, number)
        if self.signed_by(by, number, changes.KeyEnded(key), entitled and in_use) is not None:
            office.dead.add(key)

    @rule(number=st.integers(1, 4), key=st.integers(1, 4), back=st.integers(0, 30))
    def steal_key(self, number: int, key: int, back: int) -> None:
        if number not in self.offices or key > len(self.offices[number].uses):
            return
        since = max(0, self.draft.next_index - back)
        record = self.draft.registry.agency(number).key(key)
        assert record is not None
        earlier = record.stolen is None or since < record.stolen.since
        if self.signed_by(AUTHORITY, number, changes.KeyStolen(key, since), earlier) is None:
            return
        pending = [((number, key), since)]
        seen: dict[tuple[int, int], int] = {}
        while pending:
            thief, start = pending.pop()
            if seen.get(thief, start + 1) <= start:
                continue
            seen[thief] = start
            self.offices[thief[0]].dead.add(thief[1])
            for other, office in self.offices.items():
                for place, source in enumerate(office.added_by):
                    if source == thief and office.added_at[place] >= start:
                        pending.append(((other, place + 1), office.added_at[place]))

    @rule(number=st.integers(1, 4), by=st.integers(0, 4))
    def suspend(self, number: int, by: int) -> None:
        if number not in self.offices or (by != AUTHORITY and by not in self.offices):
            return
        office = self.offices[number]
        who = office.suspended_by
        entitled = self.above(by, number) and (who is None or self.above(by, who))
        if self.signed_by(by, number, changes.AgencySuspended(), entitled) is not None:
            office.suspended_by = by

    @rule(number=st.integers(1, 4), by=st.integers(0, 4))
    def reinstate(self, number: int, by: int) -> None:
        if number not in self.offices or (by != AUTHORITY and by not in self.offices):
            return
        office = self.offices[number]
        who = office.suspended_by
        entitled = who is not None and (
            by == AUTHORITY or (self.above(by, number) and (by == who or (who != 0 and self.above(by, who))))
        )
        if self.signed_by(by, number, changes.AgencyReinstated(), entitled) is not None:
            office.suspended_by = None

    # --- submissions ---

    @rule(
        number=st.integers(1, 4),
        names=st.lists(st.integers(0, 25), min_size=1, max_size=4),
        kind=st.integers(0, 1),
        basis=st.sampled_from([Basis.ORIGINAL, Basis.ARCHIVE]),
        keys=st.sets(st.integers(1, 4), min_size=1, max_size=2),
        offset=st.sampled_from([0, -1000, -CLAIMED_PAST_MS, -CLAIMED_PAST_MS - 1, CLAIMED_FUTURE_MS + 1]),
    )
    def submit(
        self, number: int, names: list[int], kind: int, basis: Basis, keys: set[int], offset: int
    ) -> None:
        if number not in self.offices or max(keys) > len(self.offices[number].uses):
            return
        office = self.offices[number]
        records = [issue(number, name, kind, basis) for name in names]
        submission = self.world.submission(
            number, records, keys=sorted(keys), claimed_ms=self.draft.time_ms + offset
        )
        day = self.draft.time_ms // DAY_MS
        total = self.counts.get((number, day), 0) + len(names)
        policed = basis is Basis.ORIGINAL and office.policy == "four eyes"
        identity = submission.head.identity(self.world.genesis)
        allowed = (
            -CLAIMED_PAST_MS <= offset <= CLAIMED_FUTURE_MS
            and identity not in self.submitted
            and office.suspended_by is None
            and keys <= set(self.live(number, "submit"))
            and kind in office.types
            and len(set(names)) == len(names)
            and not any((number, name) in self.issued for name in names)
            and not (policed and (total > 7 or (total >= 4 and len(keys) < 2)))
        )
        index = self.attempt(allowed, lambda: self.draft.add_submission(submission))
        if index is None:
            return
        self.submitted.add(identity)
        if basis is Basis.ORIGINAL:
            self.counts[number, day] = total
        for place, name in enumerate(names):
            self.issued[number, name] = index + 1 + place
            self.issuers[index + 1 + place] = number

    @precondition(lambda self: self.issuers)
    @rule(
        data=st.data(),
        by=st.integers(0, 4),
        to=st.sampled_from(Status),
        stale=st.booleans(),
    )
    def change_status(self, data: st.DataObject, by: int, to: Status, stale: bool) -> None:
        if by != AUTHORITY and by not in self.offices:
            return
        subject = data.draw(st.sampled_from(sorted(self.issuers)))
        last, present = self.latest.get(subject, (subject, Status.VALID))
        previous = last - 1 if stale else last
        if by == AUTHORITY:
            keys, standing = [1, 3], True
        else:
            live = self.live(by, "submit")
            if not self.offices[by].uses:
                return
            keys = live[:1] or [1]
            standing = bool(live) and self.offices[by].suspended_by is None
        submission = self.world.submission(by, [status(by, subject, previous, to)], keys=keys)
        identity = submission.head.identity(self.world.genesis)
        issuer = self.issuers[subject]
        allowed = (
            standing
            and not stale
            and identity not in self.submitted
            and (by == issuer or self.above(by, issuer))
            and present not in FINAL
            and to is not present
        )
        index = self.attempt(allowed, lambda: self.draft.add_submission(submission))
        if index is not None:
            self.submitted.add(identity)
            self.latest[subject] = (index + 1, to)

    # --- blocks ---

    @rule(later_ms=st.sampled_from([1, 1000, DAY_MS // 2, DAY_MS]))
    def seal(self, later_ms: int) -> None:
        built = self.draft.seal()
        accepted = rules.apply(self.replica.state, self.replica, built.leaves)
        assert accepted == built
        self.world.commit(built)
        self.replica.apply(accepted)
        self.draft = self.world.begin(later_ms)

    @invariant()
    def the_newest_seal_says_what_the_model_says(self) -> None:
        state = self.world.state
        seal = Seal.decode(self.world.reader.leaves[-1])
        assert seal.documents == sum(1 for index in self.issuers if index < state.size)
        changed = {s: last for s, last in self.latest.items() if last[0] < state.size}
        chunk = bytearray(CHUNK_SIZE)
        for subject in self.issuers:
            to = self.sealed_status(subject, state.size)
            chunk[subject // 4] |= to << 2 * (subject % 4)
        assert seal.status_root == merkle_root([leaf_hash(bytes(chunk))])
        assert changed.keys() <= set(self.world.reader.statuses)

    def sealed_status(self, subject: int, size: int) -> Status:
        """By going through the leaves: the last STATUS on the subject decides."""
        found = Status.VALID
        for leaf in self.world.reader.leaves[:size]:
            if leaf[1] == 0x02 and int.from_bytes(leaf[6:14], "big") == subject:
                found = Status(leaf[22])
        return found

    def teardown(self) -> None:
        self.seal(1)
        copy = replay(self.world.blocks)
        assert copy.__dict__ == self.world.reader.__dict__ == self.replica.__dict__
        leaves = self.world.reader.leaves
        for (agency, name), index in self.issued.items():
            assert leaves[index] in [issue(agency, name, kind, basis) for kind in (0, 1) for basis in Basis]
            assert copy.issues[commitment(name) + agency.to_bytes(4, "big")] == index
        assert len(copy.issues) == len(self.issued)
        heads = [SubmissionLeaf.decode(leaf) for leaf in leaves if leaf[1] == 0x20]
        assert {head.identity(self.world.genesis) for head in heads} == self.submitted


TestLedger = Ledger.TestCase
TestLedger.settings = settings(max_examples=80, stateful_step_count=40)


def test_the_model_can_fail() -> None:
    """The machine sees a rule that is missing: without the duplicate check it must complain."""
    machine = Ledger()
    machine.first_agencies()
    machine.submit(2, [1], 1, Basis.ORIGINAL, {1}, 0)
    machine.issued.clear()
    with pytest.raises(AssertionError, match="refused"):
        machine.submit(2, [1], 1, Basis.ARCHIVE, {1}, 0)
    assert isinstance(machine.replica, MemoryReader)
