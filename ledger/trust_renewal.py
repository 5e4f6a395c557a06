"""A trust file renewed by the log itself, from its genesis on (format.md, section Trust renewal).

The changes of the ledger's own record form a chain: each names the one before it, and is signed by k of
the n authority keys that the chain before it names; G names the first. So the chain alone says which
log keys may sign, up to which size, and which witnesses are asked for, whoever hands it over. What it
cannot say is whether it is all: for that stands the newest checkpoint, whose seal proves the ledger
record that the chain must come to.

The registry's own rules judge every change (``registry_changes.amend``); there is no second judge. Nothing
here reads a file, a network or a clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from ledger.attribution import Sealed
from ledger.canonical_json import Json, Reader, base64_text, encode, parse, u64_text
from ledger.changes import LEDGER
from ledger.checkpoints import SignedCheckpoint, parse_checkpoint
from ledger.checks import check_witnesses
from ledger.errors import (
    CheckpointUntrusted,
    FormatError,
    LeafFormatError,
    ProofInvalid,
    TrustFormatError,
    WrongLedger,
)
from ledger.hashing import leaf_hash
from ledger.leaves import MAX_LEAF_SIZE
from ledger.notes import VerifierKey, parse_note
from ledger.proofs import prove_consistency, prove_inclusion, verify_consistency, verify_inclusion
from ledger.proven_registry import ProvenRegistry
from ledger.receipts import ProvenLeaf, ProvenRecord, path_json, read_path
from ledger.registry import Registry
from ledger.registry_changes import amend, found
from ledger.registry_leaf import RegistryLeaf
from ledger.registry_records import LedgerRecord
from ledger.resources import CHECKPOINT, LogTiles, Resources, fetch_leaves, registry_ledger_path
from ledger.seals import Seal
from ledger.tiles import TileNodeReader
from ledger.trust import SeenHead, TrustedKey, TrustedLedger

MAX_RENEWAL: Final = 32 << 20
MAX_CHANGES: Final = 4_096
_FORMAT: Final = "sudur-trust-renewal/v1"


@dataclass(frozen=True, slots=True)
class ChainedChange:
    """A REGISTRY leaf on the subject ``ledger``, and where it stands."""

    index: int
    leaf: bytes

    def to_json(self) -> Json:
        return {"index": u64_text(self.index), "leaf": base64_text(self.leaf)}


@dataclass(frozen=True, slots=True)
class Since:
    """That the checkpoint's tree begins with that of a head seen before, and holds the changes known then.

    ``changes``: for each of the chain below ``size``, its inclusion path in the checkpoint's tree.
    """

    size: int
    path: tuple[bytes, ...]
    changes: tuple[tuple[bytes, ...], ...]


@dataclass(frozen=True, slots=True)
class Renewal:
    """All that it takes to renew the trust in one ledger, to be carried if there is no network.

    ``chain``: from leaf 0 on. ``since``: None when no head was seen before, or the same.
    """

    chain: tuple[ChainedChange, ...]
    checkpoint: bytes
    seal: ProvenLeaf
    ledger: ProvenRecord
    since: Since | None

    @property
    def genesis(self) -> bytes:
        """The G of the ledger that it says it is of."""
        return leaf_hash(self.chain[0].leaf)

    def encode(self) -> bytes:
        return encode(
            {
                "format": _FORMAT,
                "chain": [one.to_json() for one in self.chain],
                "checkpoint": self.checkpoint.decode("utf-8"),
                "seal": self.seal.to_json(),
                "ledger": self.ledger.to_json(),
                "since": None if self.since is None else _since_json(self.since),
            }
        )


def _since_json(since: Since) -> Json:
    return {
        "size": u64_text(since.size),
        "path": path_json(since.path),
        "changes": [{"path": path_json(one)} for one in since.changes],
    }


def parse_renewal(data: bytes) -> Renewal:
    """Read a renewal; one newline at its end is allowed. Raises TrustFormatError."""
    try:
        reader = Reader(parse(data.removesuffix(b"\n"), limit=MAX_RENEWAL, where="renewal"), "renewal")
        if reader.text("format") != _FORMAT:
            raise FormatError(f"is not {_FORMAT}", where=reader.at("format"))
        chain = tuple(_read_change(one) for one in reader.members("chain", limit=MAX_CHANGES))
        if not chain:
            raise FormatError("has no genesis", where=reader.at("chain"))
        since = reader.optional_member("since")
        renewal = Renewal(
            chain,
            reader.text("checkpoint", limit=131_072).encode("utf-8"),
            ProvenLeaf.from_json(reader.member("seal")),
            ProvenRecord.from_json(reader.member("ledger")),
            None if since is None else _read_since(since),
        )
        reader.done()
    except FormatError as error:
        raise TrustFormatError(error.what, where=error.where, fix=error.fix) from error
    return renewal


def _read_change(reader: Reader) -> ChainedChange:
    one = ChainedChange(reader.u64("index"), reader.data("leaf", limit=MAX_LEAF_SIZE))
    reader.done()
    return one


def _read_since(reader: Reader) -> Since:
    since = Since(
        reader.u64("size"),
        read_path(reader),
        tuple(_read_change_path(one) for one in reader.members("changes", limit=MAX_CHANGES)),
    )
    reader.done()
    return since


def _read_change_path(reader: Reader) -> tuple[bytes, ...]:
    path = read_path(reader)
    reader.done()
    return path


# --- the chain ---------------------------------------------------------------------------------


def follow(genesis: bytes, chain: Sequence[ChainedChange]) -> Registry:
    """The registry that the chain comes to, of which only the ledger record means anything.

    50 µs for each signature. Agencies and document types are not in it, and their keys are not known: that
    a new authority key is no agency's, and that rules are raised ahead, only a replay says. Raises
    WrongLedger for another genesis; RuleError, FormatError or SignatureInvalid for a change that the
    authority of then did not make, with its index.
    """
    first = chain[0]
    if first.index != 0 or leaf_hash(first.leaf) != genesis:
        raise WrongLedger(
            f"it begins with another genesis than {genesis.hex()[:16]}",
            where="trust renewal",
            fix="ask a node of the ledger that the trust file names",
        )
    registry = found(first.leaf)
    for one in chain[1:]:
        leaf = RegistryLeaf.decode(one.leaf)
        if leaf.change().subject != LEDGER or one.index <= registry.ledger.changed:
            raise ProofInvalid("is no later change of the ledger's record", where=f"leaf {one.index}")
        registry = amend(registry, leaf, one.index, 0)
    return registry


def trusted_by_chain(trusted: TrustedLedger, record: LedgerRecord) -> TrustedLedger:
    """What a chain that comes to ``record`` lets one trust; the verifier's own policy and head stay.

    Raises CheckpointUntrusted when the chain takes back what was known: it is shorter, or another.
    """
    keys = tuple(TrustedKey(VerifierKey.parse(one.vkey), one.last_size, one.added) for one in record.log_keys)
    renewed = replace(
        trusted,
        log_keys=keys,
        witness_policy=record.witness_policy,
        changed=record.changed,
        closed=record.closed,
    )
    ends = {one.key: one.last_size for one in keys}
    earlier = [one for one in trusted.log_keys if one.key in ends and one.last_size is not None]
    known = trusted.witness_policy.entries
    if (
        record.changed < trusted.changed
        or any(ends[one.key] != one.last_size for one in earlier)
        or record.witness_policy.entries[: len(known)] != known
        or (trusted.closed is not None and record.closed != trusted.closed)
        or (record.origin, record.training) != (trusted.origin, trusted.training)
    ):
        raise CheckpointUntrusted(
            f"its changes of the ledger go to index {record.changed} and are not a continuation of those that"
            f" the trust file rests on, up to {trusted.changed}",
            where="trust renewal",
            fix="ask another node; if that one says the same, the trust file was not made by renewal",
        )
    return renewed


# --- judging -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Renewed:
    """What is trusted now, by which checkpoint. ``witnessed_s``: since when; None if nobody is asked for."""

    before: TrustedLedger
    ledger: TrustedLedger
    signed: SignedCheckpoint
    time_ms: int
    witnessed_s: int | None
    record: LedgerRecord


def renew(
    trusted: TrustedLedger, renewal: Renewal, *, now_ms: int, greatest_age_s: int | None = None
) -> Renewed:
    """Renew the trust in one ledger. ``greatest_age_s`` and clock as of a verifier.

    Raises as :func:`follow` and :func:`trusted_by_chain`; CheckpointUntrusted, SignatureInvalid, PolicyUnmet
    for the checkpoint, by the keys and policies that the chain names; ProofInvalid when it does not end in
    the record that the chain comes to, or does not continue the head that was seen.
    """
    chained = follow(trusted.genesis, renewal.chain).ledger
    renewed = trusted_by_chain(trusted, chained)
    signed = renewed.open(renewal.checkpoint)
    seal = Seal.decode(renewal.seal.leaf)
    sealed = Sealed(trusted.genesis, signed.checkpoint, seal)
    sealed.check_seal(renewal.seal)
    renewed.check_time(signed.checkpoint.size, seal.time_ms)
    record = LedgerRecord.decode(renewal.ledger.record)
    sealed.check_record(renewal.ledger, 0, record.records)
    if replace(chained, agencies=record.agencies, types=record.types).encode() != renewal.ledger.record:
        raise ProofInvalid(
            f"the changes given come to index {chained.changed}, the log has one at {record.changed}",
            where="trust renewal",
            fix="ask another node",
        )
    _check_continues(trusted, signed, renewal)
    head = SeenHead(signed.checkpoint.size, signed.checkpoint.root, seal.time_ms)
    ledger = replace(renewed, head=head)
    witnessed, _ = check_witnesses(ledger, signed, seal, now_ms, greatest_age_s)
    return Renewed(trusted, ledger, signed, seal.time_ms, witnessed, record)


def _check_continues(trusted: TrustedLedger, signed: SignedCheckpoint, renewal: Renewal) -> None:
    """That the tree begins with the one seen before, and the chain with the changes that were in that.

    Without the second, keys that the authority has retired could make another chain from before their end.
    """
    head, since, now = trusted.head, renewal.since, signed.checkpoint
    if head is None or (now.size, now.root) == (head.size, head.root):
        return
    if now.size < head.size:
        raise CheckpointUntrusted(
            f"its newest checkpoint has {now.size} leaves, {head.size} were seen before",
            where="trust renewal",
            fix="ask another node: this one is behind, or was set back",
        )
    if since is None or since.size != head.size:
        raise ProofInvalid(
            f"it does not show that its {now.size} leaves begin with the {head.size} that were seen before",
            where="trust renewal",
            fix="have it made for this trust file: sudur trust bundle TRUST.json --url …",
        )
    verify_consistency(head.size, head.root, now.size, now.root, since.path)
    known = [one for one in renewal.chain if one.index < head.size]
    if known[-1].index != trusted.changed or len(known) != len(since.changes):
        raise ProofInvalid(
            f"its changes are not those that the trust file rests on, up to index {trusted.changed}",
            where="trust renewal",
            fix="do not accept it, and report it: keys that the authority has retired may have made it",
        )
    for one, path in zip(known, since.changes, strict=True):
        verify_inclusion(leaf_hash(one.leaf), one.index, now.size, path, now.root)


# --- gathering ---------------------------------------------------------------------------------


def gather(resources: Resources, trusted: TrustedLedger) -> Renewal:
    """Put together, from static resources, what renews the trust in one ledger.

    One fetch of a bundle for each change there ever was, and the tiles of two paths. What is fetched is
    checked only so far as it takes to go on: :func:`renew` judges. Raises as that, and what fetching raises.
    """
    note = resources.fetch(CHECKPOINT)
    size = parse_checkpoint(parse_note(note).text).size
    if size < 2:
        raise ProofInvalid("the checkpoint is of no ledger that was founded", where="checkpoint")
    seal = Seal.decode(_leaf(resources, size - 1, size))
    record = LedgerRecord.decode(resources.fetch(registry_ledger_path(seal.registry_root)))
    chain = [ChainedChange(at, leaf) for at, leaf in _walk_back(resources, record.changed, size)]
    chain.reverse()
    renewed = trusted_by_chain(trusted, follow(trusted.genesis, chain).ledger)
    proven = ProvenRegistry(resources, renewed, note)
    since, head = None, trusted.head
    if head is not None and head.size < size:
        nodes = TileNodeReader(LogTiles(resources), size)
        since = Since(
            head.size,
            tuple(prove_consistency(nodes, head.size, size)),
            tuple(tuple(prove_inclusion(nodes, one.index, size)) for one in chain if one.index < head.size),
        )
    return Renewal(tuple(chain), note, proven.log.seal_proof, proven.ledger_proof, since)


def _walk_back(resources: Resources, at: int, size: int) -> list[tuple[int, bytes]]:
    """The changes of the ledger's record, the last first, as each names the one before it."""
    found_: list[tuple[int, bytes]] = []
    while len(found_) < MAX_CHANGES:
        leaf = _leaf(resources, at, size)
        found_.append((at, leaf))
        if at == 0:
            return found_
        previous = RegistryLeaf.decode(leaf).change().previous
        if previous >= at:
            raise LeafFormatError("names no change before it", where=f"leaf {at}")
        at = previous
    raise LeafFormatError(f"is behind more than {MAX_CHANGES} changes", where=f"leaf {at}")


def _leaf(resources: Resources, index: int, size: int) -> bytes:
    if index >= size:
        raise LeafFormatError(f"is not in a log of {size} leaves", where=f"leaf {index}")
    start = index - index % 256
    leaves = fetch_leaves(resources, start, min(start + 256, size), size)
    return leaves[index - start]
