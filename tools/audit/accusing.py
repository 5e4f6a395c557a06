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
from tools.audit.errors import BlockBroken, EndsAmidBlock, HistoryForked, LogLied
from tools.files import make_private_directory, write_file

SUFFIX: Final = ".evidence.json"


def evidence_of(lied: LogLied, resources: Resources) -> Evidence:
    """The evidence of what an audit found, with the paths that it needs read from ``resources``.

    Raises ProofInvalid and what fetching raises, when the server does not serve the tree that was signed.
    """
    signed = lied.signed
    nodes = TileNodeReader(LogTiles(resources), signed.checkpoint.size)
    if isinstance(lied, BlockBroken):
        return prove_block(lied.refusal, signed, nodes)
    if isinstance(lied, HistoryForked):
        fork = Fork(lied.earlier.data, signed.data, lied.root, lied.path)
        return Evidence(genesis_under(signed, nodes, resources), fork)
    assert isinstance(lied, EndsAmidBlock)
    last = prove_leaf(signed, nodes, signed.checkpoint.size - 1, lied.leaf)
    return Evidence(genesis_under(signed, nodes, resources), UnsealedHead(signed.data, last))


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
