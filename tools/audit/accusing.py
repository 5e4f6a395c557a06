"""Evidence files of what an audit or a comparison has found, written where nobody loses them.

Each is verified before it is written, by the same code that a third person runs.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from ledger.checkpoints import SignedCheckpoint
from ledger.errors import EvidenceIncomplete, SudurError
from ledger.evidence import BrokenBlock, Evidence, Fork, UnsealedHead
from ledger.evidence_making import prove_block, prove_leaf
from ledger.evidence_verdict import Breach, verify_evidence
from ledger.receipts import ProvenLeaf
from ledger.resources import LogTiles, Resources, fetch_leaves
from ledger.tiles import NodeReader, TileNodeReader
from ledger.trust import Trust, TrustedLedger
from tools.audit.engine import AuditedLog
from tools.audit.errors import BlockBroken, EndsAmidBlock, HistoryForked, LogLied
from tools.files import make_private_directory, write_file

DIRECTORY: Final = "evidence"
"""Below an audit's directory."""
SUFFIX: Final = ".evidence.json"


def keep_evidence(log: AuditedLog, lied: LogLied, resources: Resources) -> Path:
    """Write what an audit found below its directory; returns the file.

    Where the server does not show what the evidence needs, the signed checkpoints alone are kept: another
    server's tiles may complete them, with ``sudur audit compare``.
    """
    directory = log.directory / DIRECTORY
    try:
        evidence = evidence_of(log, lied, resources)
        judged(evidence, log.trusted)
    except SudurError:
        return _keep_notes(directory, lied)
    return write_evidence(directory, evidence)


def evidence_of(log: AuditedLog, lied: LogLied, resources: Resources) -> Evidence:
    """The evidence of what an audit found; paths come from what was replayed, or else from ``resources``.

    Raises ProofInvalid and what fetching raises, when the server does not serve the tree that was signed.
    """
    signed = lied.signed
    if isinstance(lied, BlockBroken):
        return prove_block(lied.refusal, signed, _served(signed, resources))
    if isinstance(lied, HistoryForked):
        genesis = _replayed_genesis(log, lied.earlier) or _replayed_genesis(log, signed)
        genesis = genesis or genesis_under(signed, _served(signed, resources), resources)
        return Evidence(genesis, Fork(lied.earlier.data, signed.data, lied.root, lied.path))
    assert isinstance(lied, EndsAmidBlock)
    size = signed.checkpoint.size
    nodes = log.nodes(size) if _is_replayed(log, signed) else _served(signed, resources)
    last = prove_leaf(signed, nodes, size - 1, lied.leaf)
    genesis = _replayed_genesis(log, signed) or genesis_under(signed, nodes, resources)
    return Evidence(genesis, UnsealedHead(signed.data, last))


def _served(signed: SignedCheckpoint, resources: Resources) -> NodeReader:
    return TileNodeReader(LogTiles(resources), signed.checkpoint.size)


def _is_replayed(log: AuditedLog, signed: SignedCheckpoint) -> bool:
    checkpoint = signed.checkpoint
    return 0 < checkpoint.size <= log.size and log.root_at(checkpoint.size) == checkpoint.root


def _replayed_genesis(log: AuditedLog, signed: SignedCheckpoint) -> ProvenLeaf | None:
    if not _is_replayed(log, signed):
        return None
    return prove_leaf(signed, log.nodes(signed.checkpoint.size), 0, log.leaf(0))


def genesis_under(signed: SignedCheckpoint, nodes: NodeReader, resources: Resources) -> ProvenLeaf | None:
    """Leaf 0 proven under a head, None when it cannot be had: then the reader needs a trust file."""
    try:
        (leaf,) = fetch_leaves(resources, 0, 1, signed.checkpoint.size)
        return prove_leaf(signed, nodes, 0, leaf)
    except SudurError:
        return None


def judged(evidence: Evidence, ledger: TrustedLedger) -> Breach | EvidenceIncomplete:
    """What a third person with the same trust file will be told. Raises what says that it proves nothing."""
    try:
        return verify_evidence(evidence, Trust((ledger,)))
    except EvidenceIncomplete as incomplete:
        return incomplete


def write_evidence(directory: Path, evidence: Evidence) -> Path:
    """Write the file, fsynced, under a name of its own; the same evidence again is the same file."""
    data = evidence.encode()
    kinds = {Fork: "fork", UnsealedHead: "unsealed", BrokenBlock: "block"}
    name = f"{kinds[type(evidence.breach)]}-{hashlib.sha256(data).hexdigest()[:16]}{SUFFIX}"
    make_private_directory(directory)
    path = directory / name
    write_file(path, data)
    return path


def _keep_notes(directory: Path, lied: LogLied) -> Path:
    notes = [lied.signed.data]
    if isinstance(lied, HistoryForked):
        notes.insert(0, lied.earlier.data)
    make_private_directory(directory)
    for note in notes:
        path = directory / f"{lied.code.lower()}-{hashlib.sha256(note).hexdigest()[:16]}.note"
        write_file(path, note)
    return path
