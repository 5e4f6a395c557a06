"""A national scenario: ``python -m benchmarks.national [--scale 0.01]``. About two minutes; 1 GB.

1,000 agencies in four levels work for sixty simulated days through a real node's sequencer and store:
they issue 400,000 documents, circulate 130,000, ask thousands of questions and answer them late or early,
attest, revoke one document in 200. One night a stolen key issues 796 certificates and revokes a hundred
genuine ones; the theft is declared, the genuine work of that key affirmed, the thief's undone. Then the
log is replayed from its leaves alone, and the figures are counted a third time by a program that knows
nothing but the leaves' bytes: all three must agree, counter by counter.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final

from benchmarks.report import Row, markdown
from ledger import changes, rules
from ledger.changes import AUTHORITY, Change, Subject
from ledger.figures import FigureKey, Metric
from ledger.leaves import NONE
from ledger.records import (
    MAX_RECORDS,
    NO_HASH,
    Affirm,
    Answer,
    Attest,
    Basis,
    Issue,
    Outcome,
    Send,
    SendKind,
    Status,
    StatusChange,
)
from ledger.signatures import Ed25519Signer
from ledger.signing_policy import DAY_MS
from ledger.submissions import pack
from node.node import LedgerNode
from node.publish import Published
from node.sequencer import Outcome as Answered
from node.sequencer import Placement
from tests.ledger.world import (
    MemoryReader,
    World,
    entitlement,
    new_key,
    sign_change,
    sign_submission,
    signer,
)
from tests.node.world import FakeClock

AGENCIES: Final = 1_000
DAYS: Final = 60
DOCUMENTS: Final = 400_000
CIRCULATED: Final = 130_000
BODIES: Final = 40
REQUESTS: Final = 6_000
ATTESTED: Final = 10_000
STOLEN: Final = 796
ROLES: Final = ("attest", "circulate", "enrol", "issue", "request")


@dataclass
class Nation:
    """The node and what its agencies know. Everything follows from one seed."""

    directory: Path
    scale: float
    chance: random.Random = field(default_factory=lambda: random.Random(796))
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        world = World(k=2, n=3)
        self.authority = {(AUTHORITY, n): world.keys[AUTHORITY][n] for n in (1, 2)}
        self.node = LedgerNode.create(self.directory, world.genesis_leaf(), [signer("log")], clock=self.clock)
        self.node.sequencer.start()
        self.genesis = self.node.published.state.genesis
        self.keys: dict[int, Ed25519Signer] = {}
        self.documents: dict[int, list[int]] = {}
        self.open: list[tuple[int, int, int]] = []  # due day, agency, SEND
        self.counter = 0

    # --- what the node is handed ---

    def change(self, made: Sequence[tuple[Subject, changes.ChangeBody]]) -> None:
        """Changes of different subjects, signed by the authority, in one go."""
        registry = self.node.published.state.registry
        for subject, body in made:
            leaf = sign_change(self.genesis, Change(subject, registry.changed(subject), body), self.authority)
            self._wait(lambda done, leaf=leaf: self.node.sequencer.change(leaf, done))
        self._settle()

    def log(
        self, agency: int, records: Sequence[bytes], key: Ed25519Signer | None = None, number: int = 1
    ) -> int:
        """The index of the first record; a submission for each 256."""
        submissions = [
            self._signed(agency, records[at : at + MAX_RECORDS], key or self.keys[agency], number)
            for at in range(0, len(records), MAX_RECORDS)
        ]
        return self._submit(submissions)[0].first_record_index

    def log_all(self, made: Sequence[tuple[int, Sequence[bytes]]]) -> list[int]:
        """One submission of up to 256 records for each agency, all handed in together."""
        if not made:
            return []
        return [
            one.first_record_index
            for one in self._submit([self._signed(n, records, self.keys[n], 1) for n, records in made])
        ]

    def _signed(
        self, agency: int, records: Sequence[bytes], key: Ed25519Signer, number: int
    ) -> tuple[bytes, bytes]:
        leaf = sign_submission(self.genesis, agency, records, self.clock.ms, {number: key})
        return leaf, pack(records)

    def _submit(self, submissions: Sequence[tuple[bytes, bytes]]) -> list[Placement]:
        done = threading.Event()
        found: list[Answered] = []

        def answered(outcomes: list[Answered], _: Published) -> None:
            found.extend(outcomes)
            done.set()

        self.node.sequencer.submit(submissions, answered)
        done.wait()
        placed = [one for one in found if isinstance(one, Placement)]
        if len(placed) != len(found):
            raise next(one for one in found if not isinstance(one, Placement))
        return placed

    _pending: list[threading.Event] = field(default_factory=list)
    _refused: list[Exception] = field(default_factory=list)

    def _wait(self, send: object) -> None:
        done = threading.Event()

        def answered(outcomes: list[Answered], _: Published) -> None:
            self._refused.extend(one for one in outcomes if not isinstance(one, Placement))
            done.set()

        send(answered)  # type: ignore[operator]
        self._pending.append(done)

    def _settle(self) -> None:
        for one in self._pending:
            one.wait()
        self._pending.clear()
        if self._refused:
            raise self._refused[0]

    def fresh(self) -> bytes:
        """A commitment that nobody has used."""
        self.counter += 1
        return sha256(b"%d" % self.counter).digest()

    # --- the country ---

    def enrol(self) -> None:
        """Twenty ministries, their departments and offices, and a hundred bodies under no ministry."""
        fields = (changes.FieldDefinition("holder", {"en": "Holder"}, True, False, False, True),)
        self.change(
            [(Subject("type", n), changes.TypeDefined({"en": f"Type {n}"}, fields)) for n in (1, 2, 3)]
        )
        count = max(12, int(AGENCIES * self.scale))
        enrolled = []
        for number in range(1, count + 1):
            if number <= 120:
                parent = AUTHORITY
            elif number <= 400:
                parent = 1 + number % min(20, count)
            else:
                parent = 121 + number % 280
            names = {"ar": f"دائرة {number}", "ckb": f"فەرمانگەی {number}", "en": f"Agency {number}"}
            body = changes.AgencyEnrolled(names, parent, entitlement(ROLES, (0, 1, 2, 3)))
            enrolled.append((Subject("agency", number), body))
        self.change(enrolled)
        added: list[tuple[Subject, changes.ChangeBody]] = []
        for number in range(1, count + 1):
            self.keys[number] = signer(f"agency {number}")
            keys = [new_key(1, self.keys[number])]
            if number == 1:
                keys.append(new_key(2, signer("thief")))
            added.append((Subject("agency", number), changes.KeysAdded(tuple(keys))))
        self.change(added)

    def work(self) -> None:
        """Sixty days."""
        for day in range(DAYS):
            self.clock.ms = self.clock.ms // DAY_MS * DAY_MS + DAY_MS + 8 * 3_600_000
            self.issue(day)
            self.circulate()
            self.ask()
            self.attest()
            self.revoke()
            self.answer()
            if day == DAYS // 2:
                self.theft()

    def some(self, number: int) -> list[int]:
        return self.chance.choices(list(self.keys), k=number)

    def share(self, whole: int) -> int:
        """A day's part of what the scenario has in all."""
        return max(1, int(whole * self.scale / DAYS))

    def issue(self, day: int) -> None:
        left = self.share(DOCUMENTS)
        while left > 0:
            (agency,) = self.some(1)
            count = min(left, self.chance.choice((1, 20, 256, 2_000)))
            basis = self.chance.choice((Basis.ORIGINAL, Basis.ORIGINAL, Basis.MIGRATED))
            records = [Issue(agency, 1 + day % 3, basis, self.fresh()).encode() for _ in range(count)]
            first = self.log(agency, records)
            self.documents.setdefault(agency, []).append(first)
            left -= count

    def circulate(self) -> None:
        letters = []
        for agency in self.some(max(1, self.share(CIRCULATED) // BODIES)):
            letter = self.fresh()
            bodies = [one for one in dict.fromkeys(self.some(BODIES)) if one != agency]
            letters.append((agency, bodies, self._sends(agency, bodies, letter, SendKind.CIRCULATED, 10)))
        firsts = self.log_all([(agency, records) for agency, _, records in letters])
        for first, (_, bodies, _) in zip(firsts, letters, strict=True):
            self._sent(first, bodies, spread=20)

    def ask(self) -> None:
        pairs = [tuple(self.some(2)) for _ in range(self.share(REQUESTS))]
        asked = [
            (one, [other], self._sends(one, [other], self.fresh(), SendKind.REQUEST, 5))
            for one, other in pairs
            if one != other
        ]
        firsts = self.log_all([(agency, records) for agency, _, records in asked])
        for first, (_, bodies, _) in zip(firsts, asked, strict=True):
            self._sent(first, bodies, spread=30)

    def _sends(
        self, agency: int, bodies: Sequence[int], letter: bytes, kind: SendKind, due: int
    ) -> list[bytes]:
        return [Send(agency, one, letter, kind, due, NONE, NO_HASH).encode() for one in bodies]

    def _sent(self, first: int, bodies: Sequence[int], spread: int) -> None:
        today = self.clock.ms // DAY_MS
        for index, body in enumerate(bodies, first):
            self.open.append((today + self.chance.randrange(1, spread), body, index))

    def answer(self) -> None:
        """What has come to its time, by body; the rest stays open."""
        today = self.clock.ms // DAY_MS
        ready: dict[int, list[int]] = {}
        for due, body, index in self.open:
            if due <= today:
                ready.setdefault(body, []).append(index)
        self.open = [one for one in self.open if one[0] > today]
        bodies = [
            (body, sends[at : at + MAX_RECORDS])
            for body, sends in ready.items()
            for at in range(0, len(sends), MAX_RECORDS)
        ]
        self._answer_all(bodies, Outcome.RECEIVED)
        self._answer_all(bodies, Outcome.ANSWERED)

    def _answer_all(self, bodies: Sequence[tuple[int, Sequence[int]]], outcome: Outcome) -> None:
        contents = NO_HASH if outcome is Outcome.RECEIVED else self.fresh()
        self.log_all(
            [
                (body, [Answer(body, one, outcome, contents, NO_HASH).encode() for one in sends])
                for body, sends in bodies
            ]
        )

    def attest(self) -> None:
        count = self.share(ATTESTED)
        issuers = self.chance.choices(list(self.documents), k=count)
        self.log_all(
            [
                (agency, [Attest(agency, self.documents[issuer][-1], 1, self.fresh()).encode()])
                for agency, issuer in zip(self.some(count), issuers, strict=True)
            ]
        )

    def revoke(self) -> None:
        made = []
        for issuer in self.chance.choices(list(self.documents), k=self.share(DOCUMENTS // 200)):
            subjects = self.documents[issuer]
            if len(subjects) > 1:
                subject = subjects.pop(0)
                change = StatusChange(issuer, subject, subject, Status.REVOKED, 1, NONE)
                made.append((issuer, [change.encode()]))
        self.log_all(made)

    def theft(self) -> None:
        """A night of one stolen key; the morning after."""
        thief, count = signer("thief"), max(2, int(STOLEN * self.scale))
        honest = self.log(1, [Issue(1, 1, Basis.ORIGINAL, self.fresh()).encode()], thief, 2)
        genuine = self.log(1, [Issue(1, 1, Basis.ORIGINAL, self.fresh()).encode() for _ in range(100)])
        forged = self.log(
            1, [Issue(1, 1, Basis.ORIGINAL, self.fresh()).encode() for _ in range(count)], thief, 2
        )
        spoilt = [
            StatusChange(1, genuine + i, genuine + i, Status.REVOKED, 0, NONE).encode() for i in range(100)
        ]
        revoked = self.log(1, spoilt, thief, 2)
        self.change([(Subject("agency", 1), changes.KeyStolen(2, honest - 1))])
        self.log(1, [Affirm(1, 1, honest, honest).encode()])
        undone = [
            StatusChange(1, genuine + i, revoked + i, Status.VALID, 0, NONE).encode() for i in range(100)
        ]
        self.log(1, undone)
        bad = self._leaves_of(forged, count)
        self.log(1, [StatusChange(1, one, one, Status.REVOKED, 2, NONE).encode() for one in bad])

    def _leaves_of(self, first: int, count: int) -> list[int]:
        """The indexes of that many ISSUEs from ``first`` on; SUBMISSION leaves stand between them."""
        store = self.node.store
        found = (one for one in range(first, store.head().size) if store.leaf(one)[1] == 0x01)  # type: ignore[union-attr]
        return [next(found) for _ in range(count)]


# --- the figures, counted from bytes -----------------------------------------------------------


def recount(blocks: Iterable[Sequence[bytes]], parents: dict[int, int]) -> Counter[FigureKey]:
    """Every counter from the leaves' bytes alone: no rules, no registry, nothing of the code under test.

    ``parents``: in this scenario nobody ever moves.
    """
    lines = {agency: _line(agency, parents) for agency in (*parents, 0)}
    figures: Counter[FigureKey] = Counter()
    issuers: dict[int, int] = {}
    sends: dict[int, tuple[int, int, int, int]] = {}
    index = 0
    for leaves in blocks:
        time_ms = int.from_bytes(leaves[-1][12:20], "big")
        day = time_ms // DAY_MS
        moment = time.gmtime(time_ms // 1000)
        month = (moment.tm_year - 1970) * 12 + moment.tm_mon - 1

        def add(agency: int, metric: Metric, period: int, a: int, b: int = 0, count: int = 1) -> None:
            for one in lines[agency]:
                figures[FigureKey(one, metric, period, a, b)] += count

        for leaf in leaves:
            kind, agency = leaf[1], int.from_bytes(leaf[2:6], "big")
            if kind == 0x01:
                issuers[index] = agency
                add(agency, Metric.DOCUMENTS, month, int.from_bytes(leaf[6:8], "big"), leaf[8])
            elif kind == 0x02:
                add(issuers[int.from_bytes(leaf[6:14], "big")], Metric.STATUS, month, leaf[22])
            elif kind == 0x03:
                issuers[index] = agency
                add(agency, Metric.ATTESTATIONS, month, leaf[14])
            elif kind == 0x04:
                asked, what, due = int.from_bytes(leaf[6:10], "big"), leaf[42], leaf[43] << 8 | leaf[44]
                sends[index] = asked, what, due, time_ms
                add(agency, Metric.SENT, month, what)
                add(asked, Metric.ASKED, month, what)
                add(asked, Metric.OPEN, day, what)
                if due:
                    add(asked, Metric.DUE, day + due, what)
            elif kind == 0x05:
                asked, what, due, sent_ms = sends[int.from_bytes(leaf[6:14], "big")]
                if leaf[14] == 1:
                    add(asked, Metric.RECEIVED, month, what)
                else:
                    hours = (time_ms - sent_ms) / 3_600_000
                    bounds = [1, 4, 8] + [24 * d for d in (1, 2, 3, 5, 7, 10, 14, 21, 30, 45, 60, 90)]
                    add(asked, Metric.ANSWERED, month, what, leaf[14])
                    add(asked, Metric.DELAY, month, what, sum(hours > bound for bound in bounds))
                    add(asked, Metric.OPEN, sent_ms // DAY_MS, what, count=-1)
                    if due:
                        add(asked, Metric.DUE, sent_ms // DAY_MS + due, what, count=-1)
                        if day > sent_ms // DAY_MS + due:
                            add(asked, Metric.LATE, month, what)
            index += 1
    return figures


def _line(agency: int, parents: dict[int, int]) -> list[int]:
    line = [agency]
    while agency:
        agency = parents[agency]
        line.append(agency)
    return line


def run(directory: Path, scale: float = 1.0) -> list[Row]:
    """Play it, replay it, recount it. Raises AssertionError when anything disagrees."""
    nation = Nation(directory, scale)
    began = time.perf_counter()
    nation.enrol()
    enrolled = time.perf_counter() - began
    began = time.perf_counter()
    nation.work()
    worked = time.perf_counter() - began
    node, state = nation.node, nation.node.published.state
    blocks = [
        tuple(node.store.leaves(info.first_index, info.size))
        for info in (node.store.block(number) for number in range(state.block + 1))
    ]
    began = time.perf_counter()
    copy = MemoryReader()
    for leaves in blocks:
        copy.take(rules.apply(copy.state, copy, leaves))
    replayed = time.perf_counter() - began
    assert copy.state == state, "the replay has come to another state"
    began = time.perf_counter()
    stored = {agency: node.store.figures(agency)[0] for agency in (0, *state.registry.agencies)}
    read = (time.perf_counter() - began) / len(stored)
    parents = {n: one.record.parent.latest for n, one in state.registry.agencies.items()}
    counted = {key: count for key, count in recount(blocks, parents).items() if count}
    replay_figures = {key: count for key, count in copy.figures.items() if count}
    kept = {key: count for figures in stored.values() for key, count in figures.items()}
    assert kept == replay_figures, "the store's figures are not those of the replay"
    assert kept == counted, "the figures are not those that the bytes give"
    began = time.perf_counter()
    node.store.figures(AUTHORITY)
    whole = time.perf_counter() - began
    leaves_in_all = state.size
    node.close()
    agencies = len(state.registry.agencies)
    return [
        Row(f"enrolling {agencies:,} agencies with their keys", enrolled, "s"),
        Row(
            f"sixty days: {state.documents:,} documents, {leaves_in_all:,} leaves in {state.block:,} blocks",
            leaves_in_all / worked,
            "leaves/s",
            "one caller that waits for each answer",
        ),
        Row("replay of it all by the rules", leaves_in_all / replayed, "leaves/s"),
        Row(f"figures of one of {agencies:,} agencies, mean", read * 1e3, "ms", target="< 50 ms"),
        Row("figures of the whole ledger", whole * 1e3, "ms", target="< 50 ms"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.national", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="how much of the country (1: all of it)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sudur-national-") as temporary:
        print(markdown(run(Path(temporary) / "data", options.scale)), end="")
    print("the store, the replay and the recount agree", file=sys.stderr)


if __name__ == "__main__":
    main()
