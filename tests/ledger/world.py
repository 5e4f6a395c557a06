"""A whole ledger in memory, for tests and benchmarks: keys, agencies, signed submissions, blocks.

Everything is deterministic: keys come from names, times from a counter. :class:`MemoryReader` is a
fake of :class:`ledger.state.Reader` that enforces the contract: it answers as of exactly one size,
refuses questions that the rules may not ask, and takes transitions only in their order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from ledger import changes, rules
from ledger.changes import AUTHORITY, LEDGER, Change, ChangeBody, Subject
from ledger.checkpoints import log_key as checkpoint_key
from ledger.exchanges import Exchange
from ledger.figures import Figures
from ledger.hashing import leaf_hash, leaf_hashes, merkle_root
from ledger.leaves import NONE, LeafType
from ledger.notes import SignatureType, VerifierKey
from ledger.records import (
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
from ledger.registry_leaf import NO_GENESIS, RegistryLeaf, RegistrySignature
from ledger.rules_v1 import Draft
from ledger.signatures import Algorithm, Ed25519Signer, Signer, key_fingerprint, signer_of
from ledger.signing_policy import RecordKind, SigningPolicy
from ledger.state import State, Transition
from ledger.status import CHUNK_SIZE, EMPTY_CHUNK, chunk_count
from ledger.submissions import KeySignature, Submission, SubmissionLeaf, gather_submission

ORIGIN: Final = "ledger.example/test"
START_MS: Final = 1_767_225_600_000
"""2026-01-01T00:00:00Z: the genesis seal's time, a UTC midnight."""

Keys = Mapping[int, Signer]
"""Signers by their key's number."""


# --- deterministic material --------------------------------------------------------------------


def signer(name: str) -> Ed25519Signer:
    """The key of this name; the same in every run."""
    return Ed25519Signer(sha256(b"test key " + name.encode()).digest())


def signer_of_kind(name: str, kind: Algorithm) -> Signer:
    """The key of this name and algorithm; the same in every run."""
    return signer_of(kind, sha256(b"test key " + name.encode()).digest())


def commitment(name: object) -> bytes:
    """32 bytes that stand for a document of this name."""
    return sha256(f"test document {name}".encode()).digest()


def log_key(name: str, origin: str = ORIGIN) -> str:
    """A log key's vkey."""
    return VerifierKey(origin, SignatureType.ED25519, signer(name).public_key).format()


# --- signing -----------------------------------------------------------------------------------


def sign_submission(
    genesis: bytes, agency: int, records: Sequence[bytes], claimed_ms: int, keys: Keys
) -> bytes:
    """A SUBMISSION leaf over ``records``, signed by ``keys``."""
    root = merkle_root(leaf_hashes(records))
    bare = SubmissionLeaf(agency, len(records), root, claimed_ms, ())
    signatures = []
    for number, key in sorted(keys.items()):
        message = bare.message(genesis, key_fingerprint(key.algorithm, key.public_key))
        signatures.append(KeySignature(number, key.algorithm, key.sign(message)))
    return SubmissionLeaf(agency, len(records), root, claimed_ms, tuple(signatures)).encode()


def sign_change(genesis: bytes, change: Change, keys: Mapping[tuple[int, int], Signer]) -> bytes:
    """A REGISTRY leaf, signed by ``keys`` by (agency, number); ``genesis`` as the message has it."""
    return sign_json(genesis, change.to_json(), keys)


def sign_json(genesis: bytes, json: bytes, keys: Mapping[tuple[int, int], Signer]) -> bytes:
    """:func:`sign_change` for JSON that need not be a change."""
    message = RegistryLeaf(json, ()).message(genesis)
    signatures = tuple(
        RegistrySignature(agency, number, key.algorithm, key.sign(message))
        for (agency, number), key in sorted(keys.items())
    )
    return RegistryLeaf(json, signatures).encode()


def issue(agency: int, name: object, document_type: int = 1, basis: Basis = Basis.ORIGINAL) -> bytes:
    """An ISSUE leaf for the document of this name."""
    return Issue(agency, document_type, basis, commitment(name)).encode()


def status(agency: int, subject: int, previous: int, to: Status, replacement: int = NONE) -> bytes:
    """A STATUS leaf."""
    return StatusChange(agency, subject, previous, to, 0, replacement).encode()


def attest(agency: int, subject: int, kind: int = 1, copy: object = None) -> bytes:
    """An ATTEST leaf; ``copy`` names the attested copy, None for none."""
    return Attest(agency, subject, kind, NO_HASH if copy is None else commitment(copy)).encode()


def send(
    agency: int,
    recipient: int,
    *,
    kind: SendKind = SendKind.REQUEST,
    due: int = 0,
    follows: int = NONE,
    name: object = "request",
) -> bytes:
    """A SEND leaf about the contents of this name."""
    return Send(agency, recipient, commitment(name), kind, due, follows, NO_HASH).encode()


def answer(agency: int, subject: int, outcome: Outcome = Outcome.ANSWERED) -> bytes:
    """An ANSWER leaf; all but ``received`` have contents."""
    contents = NO_HASH if outcome is Outcome.RECEIVED else commitment(f"answer to {subject}")
    return Answer(agency, subject, outcome, contents, NO_HASH).encode()


def affirm(agency: int, target: int, first: int, last: int) -> bytes:
    """An AFFIRM leaf."""
    return Affirm(agency, target, first, last).encode()


def new_key(number: int, key: Signer, use: str = "submit", label: str = "") -> changes.NewKey:
    """A key to register."""
    return changes.NewKey(number, key.algorithm, key.public_key, use, label)


def entitlement(
    roles: Iterable[str] = ("issue",),
    types: Iterable[int] = (0, 1),
    policy: SigningPolicy | None = None,
) -> changes.Entitlement:
    """What an agency may do; roles and types are sorted here."""
    return changes.Entitlement(tuple(sorted(roles)), tuple(sorted(types)), policy or SigningPolicy())


# --- the store ---------------------------------------------------------------------------------


class MemoryReader:
    """A ledger.state.Reader over all blocks that were applied to it. Asserts its own contract."""

    def __init__(self) -> None:
        self.leaves: list[bytes] = []
        self.issues: dict[bytes, int] = {}
        self.submissions: dict[tuple[int, bytes], int] = {}
        self.daily: dict[tuple[int, RecordKind, int], int] = {}
        self.statuses: dict[int, int] = {}
        self.chunks: dict[int, bytes] = {}
        self.attests: dict[bytes, int] = {}
        self.exchanges: dict[int, Exchange] = {}
        self.attested: list[tuple[int, int]] = []
        self.sends: list[tuple[int, int]] = []
        self.figures: Figures = Counter()
        self.state: State | None = None

    def apply(self, transition: Transition) -> State:
        """Take the next block; asserts that it is the next, whole, and consistent in itself."""
        assert transition.before == self.state
        assert transition.first_index == len(self.leaves)
        assert len(transition.leaves) == len(transition.leaf_hashes)
        assert [leaf_hash(leaf) for leaf in transition.leaves] == list(transition.leaf_hashes)
        assert not transition.issues.keys() & self.issues.keys()
        assert not transition.submissions.keys() & self.submissions.keys()
        assert all(total >= self.daily.get(key, 0) for key, total in transition.daily.items())
        assert all(len(chunk) == CHUNK_SIZE for chunk in transition.status_chunks.values())
        assert all(transition.figures.values())
        state = self.take(transition)
        assert all(self.figures[key] >= 0 for key in transition.figures)
        assert state.size == len(self.leaves)
        return state

    def take(self, transition: Transition) -> State:
        """The same without a look at it: for benchmarks, which measure the rules and not this."""
        self.leaves += transition.leaves
        self.issues.update(transition.issues)
        self.submissions.update(transition.submissions)
        self.daily.update(transition.daily)
        self.statuses.update(transition.statuses)
        self.chunks.update(transition.status_chunks)
        self.attests.update(transition.attests)
        self.exchanges.update(transition.exchanges)
        self.attested += transition.attested
        self.sends += transition.sends
        self.figures.update(transition.figures)
        self.state = transition.state
        return self.state

    def find_issues(self, keys: Sequence[bytes]) -> list[int | None]:
        assert all(len(key) == 36 for key in keys)
        return [self.issues.get(key) for key in keys]

    def find_submission(self, claimed_ms: int, identity: bytes) -> int | None:
        assert len(identity) == 32
        return self.submissions.get((claimed_ms, identity))

    def daily_count(self, agency: int, kind: RecordKind, day: int) -> int:
        return self.daily.get((agency, kind, day), 0)

    def leaf(self, index: int) -> bytes:
        assert 0 <= index < len(self.leaves), "asked beyond the state"
        return self.leaves[index]

    def latest_status(self, subject: int) -> int | None:
        assert 0 <= subject < len(self.leaves), "asked beyond the state"
        return self.statuses.get(subject)

    def status_chunk(self, number: int) -> bytes:
        assert 0 <= number < chunk_count(len(self.leaves)), "asked beyond the state"
        return self.chunks.get(number, EMPTY_CHUNK)

    def find_attest(self, leaf_hash: bytes) -> int | None:
        assert len(leaf_hash) == 32
        return self.attests.get(leaf_hash)

    def exchange(self, send: int) -> Exchange:
        assert self.leaves[send][1] == LeafType.SEND, "asked of what is no SEND"
        return self.exchanges[send]


def replay(blocks: Iterable[Sequence[bytes]]) -> MemoryReader:
    """A fresh copy, made from the leaves of each block and nothing else."""
    copy = MemoryReader()
    for leaves in blocks:
        copy.apply(rules.apply(copy.state, copy, leaves))
    return copy


# --- the world ---------------------------------------------------------------------------------


@dataclass
class World:
    """A ledger with an authority of ``n`` keys of which ``k`` decide; agencies come by :meth:`enrol`.

    ``keys`` holds each agency's signers by number, the authority's under 0. What enters by
    :meth:`submit` and :meth:`change` stands in a block of its own unless ``draft`` is given.
    """

    k: int = 2
    n: int = 3
    origin: str = ORIGIN
    reader: MemoryReader = field(default_factory=MemoryReader)
    blocks: list[tuple[bytes, ...]] = field(default_factory=list)
    keys: dict[int, dict[int, Signer]] = field(default_factory=dict)
    now: int = START_MS
    kind: Algorithm = Algorithm.ED25519
    """What the authority and the agencies sign with."""
    log: tuple[Signer, ...] = (signer("log"),)

    def __post_init__(self) -> None:
        self.keys[AUTHORITY] = {i: signer_of_kind(f"authority {i}", self.kind) for i in range(1, self.n + 1)}
        self.commit(rules.genesis(self.genesis_leaf()))

    def genesis_leaf(self) -> bytes:
        keys = self.keys[AUTHORITY]
        body = changes.Genesis(
            origin=self.origin,
            nonce=bytes(32),
            training=False,
            time_ms=self.now,
            log_keys=tuple(key.format() for key in self.log_keys),
            authority=authority_set(self.k, keys),
            witness_policy="",
        )
        return sign_change(
            NO_GENESIS, Change(LEDGER, NONE, body), {(AUTHORITY, n): key for n, key in keys.items()}
        )

    @property
    def log_keys(self) -> tuple[VerifierKey, ...]:
        return tuple(checkpoint_key(self.origin, one.public_key, one.algorithm) for one in self.log)

    # --- the state ---

    @property
    def state(self) -> State:
        assert self.reader.state is not None
        return self.reader.state

    @property
    def genesis(self) -> bytes:
        return self.state.genesis

    def commit(self, transition: Transition) -> Transition:
        self.reader.apply(transition)
        self.blocks.append(tuple(transition.leaves))
        return transition

    def begin(self, later_ms: int = 1000) -> Draft:
        """A draft whose time is that much later than the last block's."""
        self.now = self.state.time_ms + later_ms
        return rules.begin(self.state, self.reader, self.now)

    def seal(self, draft: Draft) -> Transition:
        return self.commit(draft.seal())

    def idle(self, later_ms: int = 1000) -> Transition:
        """A block of nothing but its seal."""
        return self.seal(self.begin(later_ms))

    # --- submissions ---

    def submission(
        self,
        agency: int,
        records: Sequence[bytes],
        *,
        keys: Iterable[int] | Keys = (1,),
        claimed_ms: int | None = None,
    ) -> Submission:
        """Signed by the agency's keys of these numbers, or by any keys given as signers."""
        signers = keys if isinstance(keys, Mapping) else {n: self.keys[agency][n] for n in keys}
        claimed = self.state.time_ms if claimed_ms is None else claimed_ms
        return gather_submission(
            sign_submission(self.genesis, agency, records, claimed, signers), list(records)
        )

    def submit(
        self,
        agency: int,
        records: Sequence[bytes],
        *,
        keys: Iterable[int] | Keys = (1,),
        claimed_ms: int | None = None,
        draft: Draft | None = None,
    ) -> int:
        """The index of the SUBMISSION; its first record follows it."""
        submission = self.submission(agency, records, keys=keys, claimed_ms=claimed_ms)
        if draft is not None:
            return draft.add_submission(submission)
        block = self.begin()
        index = block.add_submission(submission)
        self.seal(block)
        return index

    # --- changes ---

    def change_leaf(
        self,
        subject: Subject,
        body: ChangeBody,
        *,
        by: int = AUTHORITY,
        keys: Iterable[int] | Keys | None = None,
        previous: int | None = None,
        draft: Draft | None = None,
    ) -> bytes:
        """Signed by the agency ``by``: by its first key, or by k keys of the authority."""
        registry = self.state.registry if draft is None else draft.registry
        last = registry.changed(subject) if previous is None else previous
        numbers = range(1, registry.ledger.k + 1) if by == AUTHORITY else (1,)
        if isinstance(keys, Mapping):
            signers = dict(keys)
        else:
            signers = {n: self.keys[by][n] for n in (numbers if keys is None else keys)}
        change = Change(subject, last, body)
        return sign_change(self.genesis, change, {(by, n): key for n, key in signers.items()})

    def change(
        self,
        subject: Subject,
        body: ChangeBody,
        *,
        by: int = AUTHORITY,
        keys: Iterable[int] | Keys | None = None,
        previous: int | None = None,
        draft: Draft | None = None,
    ) -> int:
        """Make a change; returns its index."""
        leaf = self.change_leaf(subject, body, by=by, keys=keys, previous=previous, draft=draft)
        if draft is not None:
            return draft.add_change(leaf)
        block = self.begin()
        index = block.add_change(leaf)
        self.seal(block)
        return index

    def define_type(self, name: str = "certificate") -> int:
        """Define the next document type; returns its id."""
        number = len(self.state.registry.types) + 1
        fields = (
            changes.FieldDefinition("holder", {"en": "Holder"}, True, False, False, True),
            changes.FieldDefinition("expires", {"en": "Valid until"}, False, True, True, False),
        )
        self.change(Subject("type", number), changes.TypeDefined({"en": name}, fields))
        return number

    def enrol(
        self,
        *,
        parent: int = AUTHORITY,
        by: int = AUTHORITY,
        roles: Iterable[str] = ("issue",),
        types: Iterable[int] = (0,),
        policy: SigningPolicy | None = None,
        submit: int = 1,
        registry: int = 0,
    ) -> int:
        """Enrol the next agency with ``submit`` keys to submit and, after them, registry keys."""
        number = len(self.state.registry.agencies) + 1
        body = changes.AgencyEnrolled(
            {"en": f"Agency {number}", "ar": f"دائرة {number}"}, parent, entitlement(roles, types, policy)
        )
        self.change(Subject("agency", number), body, by=by)
        self.keys[number] = {}
        uses = ["submit"] * submit + ["registry"] * registry
        if uses:
            self.add_keys(number, uses, by=by)
        return number

    def add_keys(
        self,
        agency: int,
        uses: Sequence[str],
        *,
        by: int = AUTHORITY,
        keys: Iterable[int] | None = None,
    ) -> int:
        """Register the agency's next keys, one for each use; returns the change's index."""
        first = len(self.state.registry.agency(agency).keys) + 1
        numbers = range(first, first + len(uses))
        fresh = {n: signer_of_kind(f"agency {agency} key {n}", self.kind) for n in numbers}
        added = tuple(new_key(n, key, use) for (n, key), use in zip(fresh.items(), uses, strict=True))
        index = self.change(Subject("agency", agency), changes.KeysAdded(added), by=by, keys=keys)
        self.keys[agency].update(fresh)
        return index


def authority_set(k: int, keys: Keys) -> changes.AuthoritySet:
    """k of these keys, by number."""
    return changes.AuthoritySet(
        k,
        tuple(changes.AuthorityKey(n, key.algorithm, key.public_key) for n, key in sorted(keys.items())),
    )
