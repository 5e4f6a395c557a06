"""Which ledger a command works on, pinned: from a trust file, or from the genesis leaf itself."""

from __future__ import annotations

from pathlib import Path

from ledger.checkpoints import parse_checkpoint
from ledger.errors import WrongLedger
from ledger.hashing import leaf_hash
from ledger.notes import VerifierKey, parse_note
from ledger.registry_changes import found
from ledger.trust import MAX_TRUST, Trust, TrustedLedger, parse_trust
from tools.client import LedgerClient
from tools.errors import AnswerWrong, Usage
from tools.files import read_file


def trusted_by_genesis(leaf: bytes) -> TrustedLedger:
    """What a verifier pins of the ledger that begins with this leaf. Raises what its checks raise."""
    registry = found(leaf)
    record = registry.ledger
    keys = tuple(VerifierKey.parse(one.vkey) for one in record.log_keys)
    policy = record.witness_policy.latest
    return TrustedLedger.founded(registry.genesis, record.origin, keys, policy, record.training)


def pinned_by_node(client: LedgerClient) -> TrustedLedger:
    """Pin the ledger that a node shows: for a first use only, to be compared by other means."""
    info = client.ledger()
    leaf = next(client.entries(0, 1), b"")
    if leaf_hash(leaf) != info.genesis:
        raise AnswerWrong("the first entry is not the genesis that the node names", where=client.address)
    return trusted_by_genesis(leaf)


def load_trust(path: Path) -> Trust:
    """Raises FileProblem, TrustFormatError."""
    return parse_trust(read_file(path, MAX_TRUST))


def only_ledger(trust: Trust, genesis: bytes | None = None) -> TrustedLedger:
    """The trusted ledger with this G; without G, the only one. Raises CheckpointUntrusted, Usage."""
    if genesis is not None:
        return trust.ledger(genesis)
    if len(trust.ledgers) != 1:
        raise Usage(
            f"the trust file names {len(trust.ledgers)} ledgers", fix="give one that names a single ledger"
        )
    return trust.ledgers[0]


def ledger_of(trust: Trust, note: bytes) -> TrustedLedger:
    """The trusted ledger that a checkpoint is of, by its origin. Raises FormatError, and as above."""
    origin = parse_checkpoint(parse_note(note).text).origin
    known = [one for one in trust.ledgers if one.origin == origin]
    return known[0] if len(known) == 1 else only_ledger(trust)


def check_node(client: LedgerClient, ledger: TrustedLedger) -> str:
    """Refuse a node of another ledger; returns the URL of its static resources. Raises WrongLedger."""
    info = client.ledger()
    if info.genesis != ledger.genesis:
        raise WrongLedger(
            f"the node serves ledger {info.genesis.hex()[:16]} ({info.origin!a}), pinned here is"
            f" {ledger.genesis.hex()[:16]} ({ledger.origin})",
            where=client.address,
            fix="give the address of a node of the pinned ledger",
        )
    return info.resources_url
