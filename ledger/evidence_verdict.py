"""What an evidence file proves, and against whom.

The rules themselves are the judge of a broken block: they run on the state that the seal before it
commits to, and on a Reader that knows only what the file proves and favours the block in all else. So an
honest log cannot be accused: whatever true leaves and heads of it a file holds, the rules take the block.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from ledger import rules
from ledger.changes import AUTHORITY
from ledger.checkpoints import SignedCheckpoint, parse_checkpoint
from ledger.errors import (
    BlockRefused,
    CheckpointUntrusted,
    EvidenceIncomplete,
    EvidenceProvesNothing,
    FormatError,
    OutOfRange,
    ProofInvalid,
    RuleError,
)
from ledger.evidence import BrokenBlock, Evidence, Fork, StateBefore, UnsealedHead
from ledger.favouring_reader import FavouringReader
from ledger.hashing import leaf_hash, leaf_hashes
from ledger.leaves import FORMAT_VERSION, LeafType
from ledger.merkle_list import MerkleList
from ledger.notes import VerifierKey, known_signatures, parse_note
from ledger.proofs import verify_consistency, verify_inclusion
from ledger.receipts import ProvenLeaf
from ledger.registry import Registry
from ledger.registry_changes import MAX_DEPTH, found
from ledger.registry_records import Agency, AgencyRecord, KeyRecord, LedgerRecord, TypeRecord
from ledger.rules_v1 import MAX_BLOCK_BYTES, MAX_BLOCK_LEAVES
from ledger.run_proofs import verify_run
from ledger.seals import Seal
from ledger.state import State
from ledger.status import chunk_count
from ledger.trust import Trust, TrustedLedger

_SEAL: Final = bytes((FORMAT_VERSION, LeafType.SEAL))


@dataclass(frozen=True, slots=True)
class Breach:
    """What is proven. ``genesis`` is G as the file shows it, None when it does not.

    ``trusted``: the keys are those of the reader's own trust file; else they are those that the genesis in
    the file names, and the reader has to compare G. ``signers`` are the log keys that signed what shows
    the breach. ``what`` is a sentence; ``size`` the tree in which it shows.
    """

    kind: str
    origin: str
    genesis: bytes | None
    trusted: bool
    signers: tuple[VerifierKey, ...]
    size: int
    what: str


def verify_evidence(evidence: Evidence, trust: Trust | None) -> Breach:
    """What the file proves against a log of the trust file, or against the log of its own genesis leaf.

    As costly as checking the block anew. Raises EvidenceProvesNothing, ProofInvalid, CheckpointUntrusted
    and SignatureInvalid for what proves nothing against that log; EvidenceIncomplete, with the size to
    replay, when what it shows does not decide.
    """
    breach = evidence.breach
    first = breach.small if isinstance(breach, Fork) else breach.checkpoint
    ledger = _accused(first, evidence.genesis, trust)
    signed = open_by_keys(first, ledger)
    heads = [signed]
    if isinstance(breach, Fork):
        heads.append(open_by_keys(breach.large, ledger))
    _check_genesis(evidence.genesis, heads)
    if isinstance(breach, Fork):
        kind, what = "fork", _judge_fork(breach, *heads)
    elif isinstance(breach, UnsealedHead):
        kind, what = "unsealed head", _judge_head(breach, signed)
    else:
        kind, what = "broken block", _judge_block(breach, signed, evidence.genesis)
    return Breach(
        kind,
        ledger.origin,
        None if evidence.genesis is None else leaf_hash(evidence.genesis.leaf),
        trust is not None,
        tuple(dict.fromkeys(key for head in heads for key in _signers(head, ledger))),
        heads[-1].checkpoint.size,
        what,
    )


# --- who is accused ----------------------------------------------------------------------------


def _accused(note: bytes, genesis: ProvenLeaf | None, trust: Trust | None) -> TrustedLedger:
    if trust is None:
        if genesis is None:
            raise CheckpointUntrusted(
                "the file does not show the genesis, which names the log's keys", fix="give a trust file"
            )
        return _named_by(genesis.leaf)
    origin = parse_checkpoint(parse_note(note).text).origin
    named = [one for one in trust.ledgers if one.origin == origin]
    if not named:
        raise CheckpointUntrusted(
            f"the log {origin} is not in the trust file", fix="it is another ledger's file"
        )
    for one in named:
        if genesis is not None and one.genesis == leaf_hash(genesis.leaf):
            return one
    return named[0]


def _check_genesis(genesis: ProvenLeaf | None, heads: Sequence[SignedCheckpoint]) -> None:
    """That it is leaf 0 under one of the heads."""
    if genesis is None:
        return
    if genesis.index != 0:
        raise EvidenceProvesNothing("a genesis is leaf 0")
    try:
        _check_leaf(genesis, heads[0])
    except (ProofInvalid, OutOfRange):
        _check_leaf(genesis, heads[-1])


def _named_by(leaf: bytes) -> TrustedLedger:
    """The log as its own genesis names it; its signatures by the authority are checked."""
    registry = found(leaf)
    record = registry.ledger
    keys = tuple(VerifierKey.parse(key.vkey) for key in record.log_keys)
    return TrustedLedger.founded(registry.genesis, record.origin, keys, training=record.training)


def open_by_keys(note: bytes, ledger: TrustedLedger) -> SignedCheckpoint:
    """Open a checkpoint by a ledger's keys alone, and not by the head that the trust file was renewed by.

    That head may be the one face of a fork, and this the other. Raises what TrustedLedger.open raises.
    """
    return replace(ledger, head=None).open(note)


def _signers(head: SignedCheckpoint, ledger: TrustedLedger) -> list[VerifierKey]:
    return [key for _, key in known_signatures(head.note, ledger.keys_at(head.checkpoint.size))]


def _check_leaf(leaf: ProvenLeaf, signed: SignedCheckpoint) -> None:
    checkpoint = signed.checkpoint
    verify_inclusion(leaf_hash(leaf.leaf), leaf.index, checkpoint.size, leaf.path, checkpoint.root)


# --- heads -------------------------------------------------------------------------------------


def _judge_fork(fork: Fork, small: SignedCheckpoint, large: SignedCheckpoint) -> str:
    one, other = small.checkpoint, large.checkpoint
    if one.size > other.size:
        raise EvidenceProvesNothing("the smaller head stands second")
    verify_consistency(one.size, fork.root, other.size, other.root, fork.consistency)
    if fork.root == one.root:
        raise EvidenceProvesNothing("the two heads are of one history")
    if one.size == other.size:
        return (
            f"it signed two different trees of {one.size} leaves:"
            f" root {one.root.hex()[:16]} and root {other.root.hex()[:16]}"
        )
    return (
        f"it signed a tree of {one.size} leaves with root {one.root.hex()[:16]}, and one of {other.size}"
        f" leaves in which the first {one.size} have root {fork.root.hex()[:16]}"
    )


def _judge_head(head: UnsealedHead, signed: SignedCheckpoint) -> str:
    size = signed.checkpoint.size
    if head.last.index != size - 1:
        raise EvidenceProvesNothing(f"leaf {head.last.index} is not the last one of {size}")
    _check_leaf(head.last, signed)
    try:
        Seal.decode(head.last.leaf)
    except FormatError as error:
        return f"it signed a tree of {size} leaves that does not end in a SEAL: {error}"
    raise EvidenceProvesNothing("the head ends in a SEAL, as it has to")


# --- blocks ------------------------------------------------------------------------------------


def _judge_block(block: BrokenBlock, signed: SignedCheckpoint, genesis: ProvenLeaf | None) -> str:
    """The rules' own words against the block."""
    if genesis is None:
        raise EvidenceProvesNothing("the file does not show the genesis, which every signature is bound to")
    checkpoint = signed.checkpoint
    verify_run(leaf_hashes(block.run), block.first, checkpoint.size, block.path, checkpoint.root)
    state = None
    if block.before is not None:
        state = _state(block.before, block.run[0], block.first, leaf_hash(genesis.leaf))
    elif block.first:
        raise EvidenceProvesNothing("only block 0 has no state before it")
    leaves = block.run if state is None else block.run[1:]
    start = 0 if state is None else state.size
    endless = _check_whole(leaves)
    if endless is not None:
        return f"after leaf {start - 1} {endless}"
    known = _earlier(block, signed, start)
    chunks = {} if block.before is None else dict(block.before.chunks)
    reader = FavouringReader(state, leaves, known, chunks)
    where = f"leaves {start} to {start + len(leaves) - 1}"
    replay = f"replay the log up to size {start + len(leaves)}"
    try:
        rules.apply(state, reader, leaves)
    except BlockRefused as error:
        number = 0 if state is None else state.block + 1
        return f"block {number}, {where}, breaks the rules: {error}"
    except (EvidenceIncomplete, RuleError) as error:
        raise EvidenceIncomplete(str(error), where=where, fix=replay) from error
    except (AssertionError, LookupError, struct.error) as error:
        # Earlier leaves that no rules would have let pass: the breach lies there, not shown by this file.
        raise EvidenceIncomplete(
            "what stands before the block is itself against the rules", where=where, fix=replay
        ) from error
    told = f"; its maker was told: {block.reason}" if block.reason else ""
    raise EvidenceIncomplete(
        f"nothing that the file proves stands against the block{told}", where=where, fix=replay
    )


def _check_whole(leaves: Sequence[bytes]) -> str | None:
    """That the leaves are one block; what is wrong with them if no seal comes where one has to."""
    seals = [at for at, leaf in enumerate(leaves) if leaf[:2] == _SEAL]
    if leaves and seals == [len(leaves) - 1]:
        return None
    if not seals and len(leaves) >= MAX_BLOCK_LEAVES:
        return f"no SEAL stands within {MAX_BLOCK_LEAVES} leaves"
    if not seals and sum(map(len, leaves)) > MAX_BLOCK_BYTES:
        return f"no SEAL stands within {MAX_BLOCK_BYTES} bytes"
    raise EvidenceProvesNothing("the leaves are not one block, from a seal to the next")


def _earlier(block: BrokenBlock, signed: SignedCheckpoint, start: int) -> dict[int, bytes]:
    known = {}
    for leaf in block.earlier:
        if leaf.index >= start:
            raise EvidenceProvesNothing(f"leaf {leaf.index} does not stand before the block, at {start}")
        _check_leaf(leaf, signed)
        known[leaf.index] = leaf.leaf
    return known


def _state(before: StateBefore, leaf: bytes, index: int, genesis: bytes) -> State:
    """The state that the seal at ``index`` commits to."""
    seal = Seal.decode(leaf)
    size = index + 1
    if max(seal.block, seal.documents) >= size:
        raise EvidenceProvesNothing("a seal that counts more than there are leaves", where=f"leaf {index}")
    status = MerkleList.of(before.status)
    if len(status) != chunk_count(size) or status.root != seal.status_root:
        raise EvidenceProvesNothing("the status list is not the one that the seal commits to")
    for number, chunk in before.chunks:
        if number >= len(status) or leaf_hash(chunk) != status.hashes[number]:
            raise EvidenceProvesNothing(f"status chunk {number} is not in the status list")
    registry = _registry(before, genesis)
    if registry.root != seal.registry_root:
        raise EvidenceProvesNothing("the registry is not the one that the seal commits to")
    return State(registry, seal.block, index, seal.time_ms, seal.documents, status)


def _registry(before: StateBefore, genesis: bytes) -> Registry:
    if not before.records:
        raise EvidenceProvesNothing("a registry has at least its ledger record")
    ledger = LedgerRecord.decode(before.records[0])
    if len(before.records) != ledger.records or len(before.keys) != ledger.agencies:
        raise EvidenceProvesNothing("the registry is not whole")
    agencies = [
        _agency(number, record, keys)
        for number, (record, keys) in enumerate(
            zip(before.records[1 : ledger.agencies + 1], before.keys, strict=True), 1
        )
    ]
    types = [TypeRecord.decode(record) for record in before.records[ledger.agencies + 1 :]]
    if [one.number for one in types] != list(range(1, len(types) + 1)):
        raise EvidenceProvesNothing("the document types are not in their order")
    registry = Registry.of(genesis, ledger, agencies, types)
    _check_lines(registry)
    return registry


def _agency(number: int, data: bytes, keys: Sequence[bytes]) -> Agency:
    record = AgencyRecord.decode(data)
    found = tuple(KeyRecord.decode(key) for key in keys)
    tree = MerkleList.of(leaf_hashes(keys))
    if record.number != number or (len(tree), tree.root) != (record.key_count, record.keys_root):
        raise EvidenceProvesNothing(f"agency {number} is not shown with all its keys")
    if any((key.agency, key.number) != (number, place) for place, key in enumerate(found, 1)):
        raise EvidenceProvesNothing(f"the keys of agency {number} are not in their order")
    return Agency(record, found, tree)


def _check_lines(registry: Registry) -> None:
    """That whoever follows parents or successors comes to an end: the rules rely on it."""
    for number in registry.agencies:
        above = number
        for _ in range(MAX_DEPTH + 1):
            if above == AUTHORITY:
                break
            above = registry.agency(above).record.parent.latest
        else:
            raise EvidenceProvesNothing(f"agency {number} is not under the authority")
        seen, heir = {number}, registry.agency(number).record.successor.latest
        while heir is not None:
            if heir in seen:
                raise EvidenceProvesNothing(f"agency {number} succeeds itself")
            seen.add(heir)
            heir = registry.agency(heir).record.successor.latest
