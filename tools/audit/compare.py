"""Holds all the checkpoints that anybody shows of one log against each other.

Each is proven to be the beginning of the largest one, so that all pairs are; what cannot be made one history
becomes evidence. Who is behind, and what nobody can show, is said, too: a log that withholds a tree has not
been shown to be honest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from ledger.checkpoints import SignedCheckpoint
from ledger.cosignatures import verify_cosignatures
from ledger.errors import FormatError, SudurError
from ledger.evidence import Evidence
from ledger.evidence_making import prove_fork, prove_leaf, prove_unsealed
from ledger.proofs import prove_consistency, verify_consistency
from ledger.receipts import ProvenLeaf
from ledger.resources import LogTiles, fetch_leaves
from ledger.run_proofs import root_at
from ledger.seals import Seal
from ledger.tiles import NodeReader, TileNodeReader
from ledger.trust import TrustedLedger
from tools.audit.accusing import genesis_under
from tools.audit.shown import Source

CLOCK_MS: Final = 5 * 60_000
"""A seal may be so far ahead of a witness's clock."""


@dataclass(slots=True)
class Servers:
    """Those who serve a tree. Tiles that were read for one proof do for the next."""

    sources: Sequence[Source]
    _readers: dict[tuple[str, bytes], NodeReader] = field(default_factory=dict)

    def nodes(self, source: Source, signed: SignedCheckpoint) -> NodeReader:
        """The nodes of the tree of a checkpoint, as one of them serves them; nothing is proven."""
        assert source.resources is not None
        key = source.name, signed.note.text
        if key not in self._readers:
            self._readers[key] = TileNodeReader(LogTiles(source.resources), signed.checkpoint.size)
        return self._readers[key]

    def forget(self, source: Source, signed: SignedCheckpoint) -> None:
        """Do not build on tiles that proved wrong."""
        self._readers.pop((source.name, signed.note.text), None)


@dataclass(slots=True)
class History:
    """Checkpoints that are of one tree, the largest first."""

    heads: list[SignedCheckpoint] = field(default_factory=list)

    @property
    def top(self) -> SignedCheckpoint:
        return self.heads[0]


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest that a source shows. ``behind``: leaves less than the largest that anybody shows.

    ``sealed_ms``: its seal's time, None when nobody shows that. ``cosigned_s``: the newest cosignature of a
    witness that the policy names.
    """

    source: Source
    signed: SignedCheckpoint
    behind: int
    sealed_ms: int | None
    cosigned_s: int | None


@dataclass(slots=True)
class Comparison:
    """What comes of it. ``evidence``: each proves that the log lied; ``unshown``: what nobody could prove."""

    histories: list[History] = field(default_factory=list)
    newest: list[Newest] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    unshown: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


def compare(sources: Sequence[Source], ledger: TrustedLedger) -> Comparison:
    """Compare all that the sources show. Costs a consistency proof a checkpoint, a few tiles each."""
    found = Comparison()
    servers = Servers([one for one in sources if one.resources is not None])
    heads: dict[bytes, SignedCheckpoint] = {}
    for source in sources:
        for signed in source.heads:
            heads.setdefault(signed.note.text, signed)
    for signed in sorted(heads.values(), key=lambda one: -one.checkpoint.size):
        _place(signed, found, servers)
    _hold_against_trust(found, ledger, servers)
    largest = max((one.checkpoint.size for one in heads.values()), default=0)
    newest = {one.name: max(one.heads, key=_size) for one in sources if one.heads}
    shown = {one.note.text: one for one in newest.values()}
    shown |= {signed.note.text: signed for one in servers.sources for signed in one.heads}
    seals = {text: _seal(signed, servers, found) for text, signed in shown.items()}
    for source in sources:
        if source.heads:
            signed = newest[source.name]
            seal, cosigned = seals[signed.note.text], _cosigned(signed, ledger)
            sealed_ms = None if seal is None else seal.time_ms
            behind = largest - signed.checkpoint.size
            found.newest.append(Newest(source, signed, behind, sealed_ms, cosigned))
            if seal is not None and cosigned is not None and seal.time_ms > cosigned * 1000 + CLOCK_MS:
                found.doubts.append(
                    f"{source.name}: the seal of size {signed.checkpoint.size} lies"
                    f" {seal.time_ms // 1000 - cosigned} s after the witness's clock when it cosigned it"
                )
    return found


def _size(signed: SignedCheckpoint) -> int:
    return signed.checkpoint.size


def _place(signed: SignedCheckpoint, found: Comparison, servers: Servers) -> None:
    """Into the history that it is of; into one of its own if it is shown to be of none."""
    unshown = []
    for history in found.histories:
        related = _related(signed, history.top, servers)
        if related is True:
            history.heads.append(signed)
            return
        if isinstance(related, Evidence):
            found.evidence.append(related)
        else:
            unshown.append(
                f"nobody shows whether the checkpoint of {signed.checkpoint.size} leaves is of the tree of"
                f" {history.top.checkpoint.size}: {related}"
            )
    found.unshown += unshown
    found.histories.append(History([signed]))


def _related(small: SignedCheckpoint, large: SignedCheckpoint, servers: Servers) -> bool | Evidence | str:
    """True: of one history. Evidence: not. A text: why nothing is shown."""
    if small.checkpoint.size == large.checkpoint.size:
        if small.checkpoint.root == large.checkpoint.root:
            return True
        fork = prove_fork(small, large, _NoNodes(), _genesis(small, servers) or _genesis(large, servers))
        return fork is None or fork
    why = "none of them serves the tree"
    for server in servers.sources:
        try:
            fork = prove_fork(small, large, servers.nodes(server, large), None)
            if fork is None:
                return True
            return Evidence(_genesis(large, servers), fork.breach)
        except SudurError as error:
            servers.forget(server, large)
            why = f"{server.name}: {error}"
    return why


def _hold_against_trust(found: Comparison, ledger: TrustedLedger, servers: Servers) -> None:
    """The head that the trust file was renewed by: its signature was not kept, so it proves nothing."""
    seen = ledger.head
    for history in found.histories:
        size = history.top.checkpoint.size
        if seen is None or seen.size > size:
            continue
        for server in servers.sources:
            nodes = servers.nodes(server, history.top)
            try:
                root = root_at(nodes, seen.size)
                path = prove_consistency(nodes, seen.size, size)
                verify_consistency(seen.size, root, size, history.top.checkpoint.root, path)
            except SudurError:
                servers.forget(server, history.top)
                continue
            if root != seen.root:
                found.doubts.append(
                    f"the history of {size} leaves has another root at size {seen.size} than the head that"
                    " your trust file was renewed by: ask whoever renewed it for the signed checkpoint"
                )
            break


def _genesis(signed: SignedCheckpoint, servers: Servers) -> ProvenLeaf | None:
    for server in servers.sources:
        assert server.resources is not None
        found = genesis_under(signed, servers.nodes(server, signed), server.resources)
        if found is not None:
            return found
    return None


def _seal(signed: SignedCheckpoint, servers: Servers, found: Comparison) -> Seal | None:
    """The seal that a checkpoint ends in, from whoever shows it; evidence when it is no seal."""
    size = signed.checkpoint.size
    for server in servers.sources:
        assert server.resources is not None
        nodes = servers.nodes(server, signed)
        try:
            (leaf,) = fetch_leaves(server.resources, size - 1, size, size)
            prove_leaf(signed, nodes, size - 1, leaf)
        except SudurError:
            servers.forget(server, signed)
            continue
        try:
            return Seal.decode(leaf)
        except FormatError:
            genesis = genesis_under(signed, nodes, server.resources)
            if genesis is not None:
                found.evidence.append(prove_unsealed(signed, leaf, nodes, genesis.leaf))
            return None
    return None


def _cosigned(signed: SignedCheckpoint, ledger: TrustedLedger) -> int | None:
    keys = [key for policy in ledger.policies_at(signed.checkpoint.size) for key in policy.witness_keys]
    try:
        cosignatures = verify_cosignatures(signed.note, list(dict.fromkeys(keys)))
    except SudurError:
        return None
    return max((one.time_s for one in cosignatures), default=None)


class _NoNodes:
    def nodes(self, ids: Sequence[object]) -> list[bytes]:
        raise AssertionError("two heads of one size take no nodes")
