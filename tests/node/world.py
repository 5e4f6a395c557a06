"""A small world for tests of the node: an authority, agencies, a clock, submissions, a node on disk."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from ledger.changes import (
    AgencyEnrolled,
    AuthorityKey,
    AuthoritySet,
    Change,
    ChangeBody,
    Entitlement,
    Genesis,
    KeysAdded,
    NewKey,
    Subject,
    TypeDefined,
)
from ledger.checkpoints import log_key
from ledger.hashing import leaf_hash, leaf_hashes, merkle_root
from ledger.leaves import NONE
from ledger.records import Basis, Issue, Record, Status, StatusChange
from ledger.registry_leaf import NO_GENESIS, RegistryLeaf, RegistrySignature
from ledger.signatures import Algorithm, Ed25519Signer, Signer, key_fingerprint
from ledger.signing_policy import SigningPolicy
from ledger.submissions import KeySignature, SubmissionLeaf, pack
from node.errors import ClockUnsound
from node.node import LedgerNode, NodeSettings
from node.publish import Published
from node.sequencer import Outcome, Placement, Sequencer, SequencerSettings

ORIGIN: Final = "ledger.example/test"
START_MS: Final = 1_767_225_600_000
"""1 January 2026."""


def seed(name: str) -> bytes:
    return sha256(name.encode()).digest()


@dataclass
class FakeClock:
    """A clock that tests set. It ticks 1 ms at every look unless ``step_ms`` says otherwise."""

    ms: int = START_MS
    step_ms: int = 1
    unsound: bool = False

    def now_ms(self) -> int:
        if self.unsound:
            raise ClockUnsound("the clock jumped", where="clock", fix="wait")
        self.ms += self.step_ms
        return self.ms


@dataclass
class World:
    """Keys and signed bytes; everything follows from names, so every run makes the same bytes."""

    authority: Ed25519Signer = field(default_factory=lambda: Ed25519Signer(seed("authority")))
    log: Ed25519Signer = field(default_factory=lambda: Ed25519Signer(seed("log")))
    officers: tuple[Ed25519Signer, ...] = field(
        default_factory=lambda: tuple(Ed25519Signer(seed(f"officer {n}")) for n in (1, 2, 3))
    )
    clock: FakeClock = field(default_factory=FakeClock)
    counter: int = 0
    policy: str = ""

    @property
    def genesis_leaf(self) -> bytes:
        body = Genesis(
            origin=ORIGIN,
            nonce=seed("nonce"),
            training=True,
            time_ms=START_MS,
            log_keys=(log_key(ORIGIN, self.log.public_key).format(),),
            authority=AuthoritySet(1, (AuthorityKey(1, Algorithm.ED25519, self.authority.public_key),)),
            witness_policy=self.policy,
        )
        return signed_change(Change(Subject("ledger"), NONE, body), NO_GENESIS, 0, {1: self.authority})

    @property
    def genesis(self) -> bytes:
        """G."""
        return leaf_hash(self.genesis_leaf)

    def change(self, subject: str, previous: int, body: ChangeBody) -> bytes:
        """A REGISTRY leaf signed by the authority."""
        made = Change(Subject.parse(subject), previous, body)
        return signed_change(made, self.genesis, 0, {1: self.authority})

    def commitments(self, count: int) -> list[bytes]:
        """Commitments that no one made before."""
        start, self.counter = self.counter, self.counter + count
        return [sha256(n.to_bytes(8, "big")).digest() for n in range(start, start + count)]

    def issues(
        self, count: int = 1, *, agency: int = 1, claimed_ms: int | None = None
    ) -> tuple[bytes, bytes]:
        """A submission of fresh ISSUEs: (SUBMISSION leaf, packed records)."""
        records = [Issue(agency, 1, Basis.ORIGINAL, one).encode() for one in self.commitments(count)]
        return self.submission(records, agency=agency, claimed_ms=claimed_ms)

    def status(self, subject: int, previous: int, status: Status, *, agency: int = 1) -> tuple[bytes, bytes]:
        """A submission of one STATUS record."""
        return self.submission(
            [StatusChange(agency, subject, previous, status, 0, NONE).encode()], agency=agency
        )

    def submission(
        self, records: Sequence[bytes], *, agency: int = 1, claimed_ms: int | None = None
    ) -> tuple[bytes, bytes]:
        """A submission signed by officer 1."""
        root = merkle_root(leaf_hashes(records))
        head = SubmissionLeaf(agency, len(records), root, claimed_ms or self.clock.ms, ())
        officer = self.officers[agency - 1]
        print_ = key_fingerprint(Algorithm.ED25519, officer.public_key)
        signature = officer.sign(head.message(self.genesis, print_))
        return replace(head, signatures=(KeySignature(1, 1, signature),)).encode(), pack(records)

    def put(self, node: LedgerNode, agency: int, *records: Record) -> int:
        """Commit these records of an agency, and fail if they are refused; returns the first one's index."""
        submission = self.submission([one.encode() for one in records], agency=agency)
        return placed(submit(node.sequencer, submission)[0][0]).first_record_index

    # --- a node ---

    def create(self, data_dir: Path, settings: NodeSettings | None = None) -> LedgerNode:
        """A new node with its sequencer running; only the genesis is in it."""
        signers: list[Signer] = [self.log]
        node = LedgerNode.create(
            data_dir, self.genesis_leaf, signers, clock=self.clock, settings=settings or small_settings()
        )
        node.sequencer.start()
        return node

    def open(self, data_dir: Path, settings: NodeSettings | None = None) -> LedgerNode:
        """An existing node, with its sequencer running."""
        node = LedgerNode.open(data_dir, [self.log], clock=self.clock, settings=settings or small_settings())
        node.sequencer.start()
        return node

    def furnished(self, data_dir: Path, settings: NodeSettings | None = None) -> LedgerNode:
        """A new node with document type 1 and agency 1, which may issue it with officer 1's key."""
        node = self.create(data_dir, settings)
        self.furnish(node)
        return node

    def furnish(self, node: LedgerNode) -> None:
        define = TypeDefined({"en": "Certificate"}, ())
        self.make(node, self.change("type/1", NONE, define))
        self.enrol(node, 1)

    def enrol(self, node: LedgerNode, number: int, *roles: str) -> None:
        """Enrol an agency with one submit key, officer ``number``'s; it issues, unless it has other roles."""
        entitlement = Entitlement(roles or ("issue",), (0, 1), SigningPolicy())
        body = AgencyEnrolled({"en": f"Agency {number}"}, 0, entitlement)
        placed = self.make(node, self.change(f"agency/{number}", NONE, body))
        key = NewKey(1, Algorithm.ED25519, self.officers[number - 1].public_key, "submit", "officer")
        self.make(node, self.change(f"agency/{number}", placed.submission_index, KeysAdded((key,))))

    def make(self, node: LedgerNode, leaf: bytes) -> Placement:
        """Commit a registry change, and fail if it is refused."""
        (outcome,) = change(node.sequencer, leaf)[0]
        return placed(outcome)


def signed_change(change: Change, genesis: bytes, agency: int, signers: dict[int, Ed25519Signer]) -> bytes:
    unsigned = RegistryLeaf(change.to_json(), ())
    message = unsigned.message(genesis)
    signatures = tuple(
        RegistrySignature(agency, number, Algorithm.ED25519, signer.sign(message))
        for number, signer in sorted(signers.items())
    )
    return RegistryLeaf(unsigned.json, signatures).encode()


def small_settings(**settings: Any) -> NodeSettings:
    """Settings for tests: no floor of free disk, so that they run on any machine."""
    return NodeSettings(sequencer=SequencerSettings(**{"disk_floor": 0, **settings}))


class Waiter:
    """A ``done`` that a test can wait for."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.outcomes: list[Outcome] = []
        self.published: Published | None = None
        self.calls = 0

    def __call__(self, outcomes: list[Outcome], published: Published) -> None:
        self.calls += 1
        self.outcomes, self.published = outcomes, published
        self._event.set()

    def wait(self, timeout_s: float = 30.0) -> tuple[list[Outcome], Published]:
        assert self._event.wait(timeout_s), "the sequencer did not answer"
        assert self.published is not None
        return self.outcomes, self.published


def submit(sequencer: Sequencer, *submissions: tuple[bytes, bytes]) -> tuple[list[Outcome], Published]:
    """Submit and wait for the answer."""
    waiter = Waiter()
    sequencer.submit(submissions, waiter)
    return waiter.wait()


def change(sequencer: Sequencer, leaf: bytes) -> tuple[list[Outcome], Published]:
    """Submit a registry change and wait for the answer."""
    waiter = Waiter()
    sequencer.change(leaf, waiter)
    return waiter.wait()


def placed(outcome: Outcome) -> Placement:
    """The placement; fails the test when it is a refusal."""
    assert isinstance(outcome, Placement), outcome
    return outcome
