"""Any history of agencies, keys, submissions and changes, beside a plain model of what is allowed.

The machine says beforehand whether the rules must take an input (tests/ledger/model.py). Each block is
built by one node, accepted by a replica, and in the end replayed from the leaves: all three must be the
same ledger, and its figures those of a recount.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ledger import changes, rules
from ledger.changes import AUTHORITY, LEDGER, Subject
from ledger.errors import SudurError
from ledger.hashing import leaf_hash, merkle_root
from ledger.leaves import NONE
from ledger.records import (
    NO_HASH,
    Affirm,
    Answer,
    Attest,
    Basis,
    Issue,
    Outcome,
    Record,
    Send,
    SendKind,
    Status,
    StatusChange,
)
from ledger.rules_v1 import CLAIMED_FUTURE_MS, CLAIMED_PAST_MS, Draft
from ledger.seals import Seal
from ledger.signing_policy import DAY_MS, KindPolicy, SigningPolicy
from ledger.status import CHUNK_SIZE
from ledger.submissions import SubmissionLeaf
from tests.ledger.book import agree
from tests.ledger.model import POLICIES, Model, Office
from tests.ledger.world import MemoryReader, World, commitment, replay, signer

ROLES = ("attest", "circulate", "enrol", "issue", "request")
AGENCIES = 6
NUMBERS = st.integers(1, AGENCIES)
SIGNING = {
    name: SigningPolicy({kind: KindPolicy(steps, cap) for kind, (steps, cap) in kinds.items()})
    for name, kinds in POLICIES.items()
}


class Ledger(RuleBasedStateMachine):
    """Inputs go into an open draft; now and then the draft is sealed and a new one begins."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(k=2, n=3)
        self.world.define_type()
        self.replica = replay(self.world.blocks)
        self.model = Model()
        self.draft: Draft = self.world.begin()

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
        everything = list(ROLES)
        self.enrol(AUTHORITY, [0, 1], everything, "four eyes", 2, 1)
        self.enrol(1, [1], everything, "plain", 2, 1)
        self.enrol(AUTHORITY, [1], everything, "two", 3, 0)
        self.enrol(2, [0, 1], everything, "plain", 2, 0)
        for agency in (1, 2, 3):
            self.log(agency, [1], [Issue(agency, 1, Basis.ORIGINAL, commitment(f"first of {agency}"))])
        for agency, recipient in ((1, 2), (2, 4), (4, 1), (4, 3)):
            request = Send(agency, recipient, commitment("asked"), SendKind.REQUEST, 1, NONE, NO_HASH)
            self.log(agency, [1], [request])

    @precondition(lambda self: len(self.model.offices) < AGENCIES)
    @rule(
        parent=st.integers(0, 3),
        types=st.lists(st.integers(0, 1), unique=True),
        roles=st.lists(st.sampled_from(ROLES), unique=True),
        policy=st.sampled_from(sorted(POLICIES)),
        submit=st.integers(0, 2),
        registry=st.integers(0, 1),
    )
    def enrol(
        self, parent: int, types: list[int], roles: list[str], policy: str, submit: int, registry: int
    ) -> None:
        number = len(self.model.offices) + 1
        body = changes.AgencyEnrolled(
            {"en": f"Agency {number}"},
            parent,
            changes.Entitlement(tuple(sorted(roles)), tuple(sorted(types)), SIGNING[policy]),
        )
        known = not self.model.closed and (parent == AUTHORITY or parent in self.model.offices)
        index = self.attempt(
            known, lambda: self.world.change(Subject("agency", number), body, draft=self.draft)
        )
        if index is None:
            return
        self.model.offices[number] = Office(parent, frozenset(types), frozenset(roles), policy)
        self.world.keys[number] = {}
        self.add_keys(number, AUTHORITY, ["submit"] * submit + ["registry"] * registry)

    @rule(
        number=NUMBERS,
        by=st.integers(0, 4),
        uses=st.lists(st.sampled_from(["submit", "registry"]), max_size=2),
    )
    def add_keys(self, number: int, by: int, uses: list[str]) -> None:
        if not uses or not self.known(number, by):
            return
        office = self.model.offices[number]
        first = len(office.uses) + 1
        keys = {first + i: signer(f"agency {number} key {first + i}") for i in range(len(uses))}
        body = changes.KeysAdded(
            tuple(
                changes.NewKey(n, 1, key.public_key, use, "")
                for (n, key), use in zip(keys.items(), uses, strict=True)
            )
        )
        entitled = by in (AUTHORITY, number) or self.model.above(by, number)
        index = self.signed_by(by, number, body, entitled)
        if index is not None:
            self.world.keys[number].update(keys)
            office.uses += uses
            signed = self.model.live(by, "registry")[0] if by != AUTHORITY else 0
            office.added_by += [(by, signed)] * len(uses)
            office.added_at += [index] * len(uses)

    def known(self, *numbers: int) -> bool:
        return all(number == AUTHORITY or number in self.model.offices for number in numbers)

    def signed_by(self, by: int, number: int, body: changes.ChangeBody, entitled: bool) -> int | None:
        if by == AUTHORITY:
            allowed, keys = entitled, None
        else:
            office = self.model.offices[by]
            live = self.model.live(by, "registry")
            every = [n for n, use in enumerate(office.uses, 1) if use == "registry"]
            if not every:
                return None
            allowed = entitled and bool(live) and office.suspended_by is None
            keys = (live or every)[:1]
        return self.attempt(
            allowed,
            lambda: self.world.change(Subject("agency", number), body, by=by, keys=keys, draft=self.draft),
        )

    @rule(number=NUMBERS, key=st.integers(1, 5), by=st.integers(0, 4))
    def end_key(self, number: int, key: int, by: int) -> None:
        if not self.known(number, by):
            return
        office = self.model.offices[number]
        in_use = key <= len(office.uses) and key not in office.ended
        entitled = by in (AUTHORITY, number) or self.model.above(by, number)
        if self.signed_by(by, number, changes.KeyEnded(key), entitled and in_use) is not None:
            office.ended.add(key)

    @rule(number=NUMBERS, key=st.integers(1, 4), back=st.integers(0, 40))
    def steal_key(self, number: int, key: int, back: int) -> None:
        if not self.known(number) or key > len(self.model.offices[number].uses):
            return
        since = max(0, self.draft.next_index - back)
        earlier = self.model.offices[number].stolen.get(key, since + 1) > since
        if self.signed_by(AUTHORITY, number, changes.KeyStolen(key, since), earlier) is not None:
            self.model.steal(number, key, since)

    @rule(number=NUMBERS, by=st.integers(0, 4))
    def suspend(self, number: int, by: int) -> None:
        if not self.known(number, by):
            return
        office = self.model.offices[number]
        who = office.suspended_by
        entitled = self.model.above(by, number) and (who is None or self.model.above(by, who))
        if self.signed_by(by, number, changes.AgencySuspended(), entitled) is not None:
            office.suspended_by = by

    @rule(number=NUMBERS, by=st.integers(0, 4))
    def reinstate(self, number: int, by: int) -> None:
        if not self.known(number, by):
            return
        office = self.model.offices[number]
        who, above = office.suspended_by, self.model.above
        entitled = who is not None and (
            by == AUTHORITY or (above(by, number) and (by == who or (who != 0 and above(by, who))))
        )
        if self.signed_by(by, number, changes.AgencyReinstated(), entitled) is not None:
            office.suspended_by = None

    @rule(number=NUMBERS, heir=NUMBERS, by=st.integers(0, 3))
    def name_successor(self, number: int, heir: int, by: int) -> None:
        if not self.known(number, by, heir):
            return
        entitled = self.model.above(by, number) and number not in self.model.heirs(heir)
        if self.signed_by(by, number, changes.SuccessorNamed(heir), entitled) is not None:
            self.model.offices[number].successor = heir

    @rule(number=NUMBERS, parent=st.integers(0, AGENCIES))
    def move(self, number: int, parent: int) -> None:
        if not self.known(number, parent):
            return
        circle = parent == number or (parent != AUTHORITY and self.model.above(number, parent))
        if self.signed_by(AUTHORITY, number, changes.AgencyMoved(parent), not circle) is not None:
            self.model.offices[number].parent = parent

    # --- submissions ---

    @rule(
        data=st.data(),
        agency=st.integers(0, AGENCIES),
        kinds=st.lists(
            st.sampled_from([Issue, StatusChange, Attest, Attest, Send, Send, Answer, Answer, Affirm]),
            min_size=1,
            max_size=3,
        ),
        wise=st.integers(0, 5),
        offset=st.sampled_from([*[0] * 9, -CLAIMED_PAST_MS, -CLAIMED_PAST_MS - 1, CLAIMED_FUTURE_MS + 1]),
    )
    def submit(
        self, data: st.DataObject, agency: int, kinds: list[type[Record]], wise: int, offset: int
    ) -> None:
        """Records of any kinds; unless ``wise`` is 0 they are what the agency has reason to log."""
        if not self.known(agency):
            return
        keys = self.draw_keys(data, agency, wise > 0)
        if keys:
            if agency == AUTHORITY and wise:
                kinds = [StatusChange] * len(kinds)
            records = [self.draw(data, agency, kind, wise > 0) for kind in kinds]
            self.log(agency, keys, records, offset)

    @rule(data=st.data(), agency=NUMBERS)
    def issue_or_ask(self, data: st.DataObject, agency: int) -> None:
        self.submit_one(data, agency, data.draw(st.sampled_from([Issue, Send])))

    def submit_one(self, data: st.DataObject, agency: int, kind: type[Record]) -> None:
        """A record of this kind that the agency has reason to log."""
        if self.known(agency) and (keys := self.draw_keys(data, agency, wise=True)):
            self.log(agency, keys, [self.draw(data, agency, kind, wise=True)])

    # Each of these takes something that is there, and then whoever may deal with it.

    def keys_of(self, agency: int) -> list[int]:
        """Two of its keys, if it has them; one is added when it has none."""
        if not self.model.live(agency, "submit"):
            self.add_keys(agency, AUTHORITY, ["submit"])
        return self.model.live(agency, "submit")[:2]

    @rule(data=st.data(), outcome=st.sampled_from(Outcome))
    def answer(self, data: st.DataObject, outcome: Outcome) -> None:
        index = data.draw(st.sampled_from(sorted(self.model.asked)))
        agency = data.draw(st.sampled_from(self.model.heirs(self.model.asked[index].send.recipient)))
        contents = NO_HASH if outcome is Outcome.RECEIVED else commitment("answer")
        self.log(agency, self.keys_of(agency), [Answer(agency, index, outcome, contents, NO_HASH)])

    @rule(data=st.data(), onward=st.booleans(), heir=st.integers(0, AGENCIES))
    def follow(self, data: st.DataObject, onward: bool, heir: int) -> None:
        """A reminder, a request opened anew, or one that is passed on, perhaps by a successor."""
        index = data.draw(st.sampled_from(sorted(self.model.asked)))
        first = self.model.asked[index].send
        if heir:
            self.name_successor(first.recipient if onward else first.agency, heir, AUTHORITY)
        asked = self.model.heirs(first.recipient)
        agency = data.draw(st.sampled_from(asked if onward else self.model.heirs(first.agency)))
        recipient = data.draw(st.sampled_from([*asked, first.agency]))
        send = Send(agency, recipient, commitment("asked"), first.kind, 1, index, NO_HASH)
        self.log(agency, self.keys_of(agency), [send])

    @rule(data=st.data(), agency=NUMBERS, again=st.booleans(), revoked=st.booleans())
    def attest(self, data: st.DataObject, agency: int, again: bool, revoked: bool) -> None:
        if again and self.model.attested:
            one = data.draw(st.sampled_from(sorted(self.model.attested, key=self.model.attested.__getitem__)))
            if revoked:
                self.change(one.agency, self.model.attested[one], [Status.REVOKED])
            self.log(one.agency, self.keys_of(one.agency), [one])
        elif self.known(agency):
            subject = data.draw(st.sampled_from(sorted(self.model.papers)))
            self.log(agency, self.keys_of(agency), [Attest(agency, subject, 1, NO_HASH)])

    @rule(data=st.data(), tos=st.lists(st.sampled_from(Status), min_size=1, max_size=3))
    def change_status(self, data: st.DataObject, tos: list[Status]) -> None:
        """One or several changes of one subject in one submission."""
        subject = data.draw(st.sampled_from(sorted(self.model.papers)))
        self.change(self.model.papers[subject].agency, subject, tos)

    def change(self, agency: int, subject: int, tos: Sequence[Status]) -> None:
        keys = self.keys_of(agency)
        last = self.model.changes[subject].index if subject in self.model.changes else subject
        records: list[Record] = []
        for to in tos:
            records.append(StatusChange(agency, subject, last, to, 0, NONE))
            last = self.draft.next_index + len(records)
        self.log(agency, keys, records)

    @rule(
        data=st.data(),
        to=st.sampled_from([Status.REVOKED, Status.SUPERSEDED]),
        acts=st.lists(st.sampled_from(["affirm", "undo", "rob"]), min_size=1, max_size=3),
    )
    def theft(self, data: st.DataObject, to: Status, acts: list[str]) -> None:
        """A thief puts something out; it is affirmed, whoever affirmed it is robbed too, it is undone."""
        subject = data.draw(st.sampled_from(sorted(self.model.papers)))
        issuer = self.model.papers[subject].agency
        self.change(issuer, subject, [to])
        last = self.model.changes.get(subject)
        if last is None or last.by == AUTHORITY:
            return
        self.rob(last.by, last.keys, last.at)
        parents = [n for n in self.model.offices if self.model.above(n, issuer)]
        for act in acts:
            if act == "rob":
                for one in list(self.model.offices[last.by].affirmed):
                    self.rob(one.by, one.keys, one.at)
                continue
            agency = data.draw(st.sampled_from([last.by, issuer, *parents]))
            if act == "affirm":
                keys = self.keys_of(agency)
                self.log(agency, keys, [Affirm(agency, last.by, last.index, last.index)])
            else:
                self.change(agency, subject, [data.draw(st.sampled_from(Status))])

    def rob(self, agency: int, keys: frozenset[int], since: int) -> None:
        """The keys turn out stolen since then, if that is not known."""
        for key in sorted(keys):
            if self.model.offices[agency].stolen.get(key, since + 1) > since:
                self.steal_key(agency, key, self.draft.next_index - since)

    def log(self, agency: int, keys: Sequence[int], records: list[Record], offset: int = 0) -> int | None:
        submission = self.world.submission(
            agency,
            [one.encode() for one in records],
            keys=keys,
            claimed_ms=self.draft.time_ms + offset,
        )
        identity = submission.head.identity(self.world.genesis)
        at, day = self.draft.next_index, self.draft.time_ms // DAY_MS
        allowed = (
            -CLAIMED_PAST_MS <= offset <= CLAIMED_FUTURE_MS
            and identity not in self.model.submitted
            and self.model.takes(agency, frozenset(keys), records, at, day)
        )
        index = self.attempt(allowed, lambda: self.draft.add_submission(submission))
        if index is not None:
            assert index == at
            self.model.submitted.add(identity)
        return index

    def draw_keys(self, data: st.DataObject, agency: int, wise: bool) -> list[int]:
        if agency == AUTHORITY:
            return data.draw(st.sampled_from([[1, 3], [2, 3], [1, 2, 3], [2]]))
        known = list(range(1, len(self.model.offices[agency].uses) + 1))
        live = self.model.live(agency, "submit") if wise else known
        return sorted(data.draw(st.sets(st.sampled_from(live), min_size=1, max_size=2))) if live else []

    def draw(self, data: st.DataObject, agency: int, kind: type[Record], wise: bool) -> Record:
        """A record of this kind; a wise one speaks of what the agency may speak of."""
        model = self.model

        def index(good: list[int], others: list[int]) -> int:
            wild = [0, self.draft.next_index - 1, self.draft.next_index + 1, NONE - 1]
            return data.draw(st.sampled_from(good if wise and good else [*others, *wild]))

        if kind is Issue:
            name, basis = data.draw(st.integers(0, 25)), data.draw(st.sampled_from(list(Basis)[:2]))
            return Issue(agency, data.draw(st.integers(0, 1)), basis, commitment(name))
        if kind is StatusChange:
            return self.draw_status(data, agency, index)
        if kind is Attest:
            good = [at for at in model.papers if model.status_of(at) is Status.VALID]
            return Attest(agency, index(good, list(model.papers)), data.draw(st.integers(1, 2)), NO_HASH)
        if kind is Send:
            follows = NONE
            if data.draw(st.booleans()):
                good = [
                    at for at, one in model.asked.items() if agency in (one.send.agency, one.send.recipient)
                ]
                follows = index(good, list(model.asked))
            return self.draw_send(data, agency, follows)
        if kind is Answer:
            good = [at for at, one in model.asked.items() if one.send.recipient == agency and not one.final]
            outcome = data.draw(st.sampled_from(Outcome))
            contents = NO_HASH if outcome is Outcome.RECEIVED else commitment("answer")
            return Answer(agency, index(good, list(model.asked)), outcome, contents, NO_HASH)
        robbed = [
            n for n, one in model.offices.items() if one.stolen and (n == agency or model.above(agency, n))
        ]
        target = index(robbed, [1, 2, AGENCIES]) % 2**32
        last = index([one.index for one in model.changes.values()], list(model.papers))
        return Affirm(agency, target, max(last - data.draw(st.integers(0, 20)), 0), last)

    def draw_status(self, data: st.DataObject, agency: int, index: Any) -> StatusChange:
        model = self.model
        mine = [
            at
            for at, one in model.papers.items()
            if agency == AUTHORITY or agency in model.heirs(one.agency) or model.above(agency, one.agency)
        ]
        subject = index(mine, list(model.papers))
        last = model.changes[subject].index if subject in model.changes else subject
        to = data.draw(st.sampled_from(Status))
        other = index(mine, list(model.papers)) if data.draw(st.booleans()) else NONE
        replacement = other if to is Status.SUPERSEDED else NONE
        stale = data.draw(st.integers(0, 9)) == 9
        return StatusChange(agency, subject, max(last - stale, 0), to, 0, replacement)

    def draw_send(self, data: st.DataObject, agency: int, follows: int) -> Send:
        kind = data.draw(st.sampled_from(SendKind))
        recipient = data.draw(st.sampled_from([*self.model.offices, 0, AGENCIES + 1]))
        if follows in self.model.asked and data.draw(st.booleans()):
            kind, recipient = self.model.asked[follows].send.kind, self.model.asked[follows].send.recipient
        due = data.draw(st.sampled_from([0, 1, 3_650]))
        return Send(agency, recipient, commitment("asked"), kind, due, follows, NO_HASH)

    # --- blocks ---

    @precondition(lambda self: len(self.model.offices) == AGENCIES)
    @rule(itself=st.booleans())
    def close(self, itself: bool) -> None:
        genesis = self.world.genesis if itself else commitment("next")
        body = changes.LedgerClosed(genesis, "next.example")
        allowed = not itself and not self.model.closed
        index = self.attempt(allowed, lambda: self.world.change(LEDGER, body, draft=self.draft))
        self.model.closed |= index is not None

    @rule(later_ms=st.sampled_from([1, 1000, DAY_MS // 2, DAY_MS, 40 * DAY_MS]))
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
        documents = [at for at, one in self.model.papers.items() if isinstance(one, Issue)]
        assert seal.documents == sum(index < state.size for index in documents)
        chunk = bytearray(CHUNK_SIZE)
        for subject, to in self.sealed_statuses().items():
            chunk[subject // 4] |= to << 2 * (subject % 4)
        assert seal.status_root == merkle_root([leaf_hash(bytes(chunk))])

    def sealed_statuses(self) -> dict[int, Status]:
        """By going through the leaves: the last STATUS on a subject decides."""
        found = {}
        for leaf in self.world.reader.leaves:
            if leaf[1] == 0x02:
                found[int.from_bytes(leaf[6:14], "big")] = Status(leaf[22])
        return found

    def teardown(self) -> None:
        self.seal(1)
        reader, model = self.world.reader, self.model
        assert self.replica.__dict__ == reader.__dict__
        agree(self.world)
        for index, paper in model.papers.items():
            assert reader.leaves[index] == paper.encode()
        assert reader.issues == {
            commitment + agency.to_bytes(4, "big"): index
            for (agency, commitment), index in model.issued.items()
        }
        assert reader.attests == {leaf_hash(one.encode()): index for one, index in model.attested.items()}
        assert reader.statuses == {subject: one.index for subject, one in model.changes.items()}
        assert {index: (one.reminds, one.received, one.final) for index, one in reader.exchanges.items()} == {
            index: (one.reminds, one.received, one.final) for index, one in model.asked.items()
        }
        for number, office in model.offices.items():
            record = self.world.state.registry.agency(number).record
            kept = [(one.first, one.last, one.by, frozenset(one.keys), one.at) for one in record.affirmed]
            assert kept == [(one.first, one.last, one.by, one.keys, one.at) for one in office.affirmed]
        heads = [SubmissionLeaf.decode(leaf) for leaf in reader.leaves if leaf[1] == 0x20]
        assert {head.identity(self.world.genesis) for head in heads} == model.submitted


TestLedger = pytest.mark.slow(Ledger.TestCase)
TestLedger.settings = settings(max_examples=60, stateful_step_count=40)


def test_the_model_can_fail() -> None:
    """The machine sees a rule that is missing: without the duplicate check it must complain."""
    machine = Ledger()
    machine.first_agencies()
    assert machine.log(2, [1], [Issue(2, 1, Basis.ORIGINAL, commitment(1))]) is not None
    machine.model.issued.clear()
    with pytest.raises(AssertionError, match="refused"):
        machine.log(2, [1], [Issue(2, 1, Basis.ARCHIVE, commitment(1))])
    assert isinstance(machine.replica, MemoryReader)
