"""What a server says of the newest state, held byte for byte against what replay has come to.

Status chunks and registry records are named by hashes, so a light verifier would notice a wrong one; here
each is looked at before anybody asks for it, and one that is missing is named, too. Figures are proven by
nothing but a replay.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from ledger.errors import FormatError
from ledger.figures import FigureKey
from ledger.hashing import leaf_hash, merkle_root
from ledger.inquiries import AsOf
from ledger.merkle_list import MerkleList
from ledger.reports import key_text, read_figures
from ledger.resources import (
    Resources,
    registry_ledger_path,
    registry_record_path,
    registry_tile_path,
    status_chunk_path,
    status_list_path,
)
from ledger.state import State
from ledger.status import expand_chunk
from ledger.tiles import TILE_WIDTH
from tools.audit.engine import AuditedLog
from tools.audit.feed import fetched
from tools.audit.index import first_difference
from tools.audit.report import Finding, Severity
from tools.errors import AnswerWrong, NotFound

_MOST_NAMED: Final = 8
_REMEMBERED: Final = 1 << 18
_OTHER_SERVER: Final = "ask another server; and tell the operator of this one"

Expected = dict[str, bytes]
"""What belongs at a path."""


class ServedState:
    """The status list, its chunks, and the registry at ``resources``; each thing once, since none changes."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._known: set[str] = set()

    def status(self, log: AuditedLog, state: State) -> tuple[int, list[Finding]]:
        """How many chunks were compared, and what is wrong."""
        hashes = state.status.hashes
        wanted = {status_list_path(state.status.root): b"".join(hashes)}
        wrong = list(self._wrong(wanted, lambda data: data))
        chunks: Expected = {}
        for number, one in enumerate(hashes):
            path = status_chunk_path(one)
            if path not in self._known and path not in chunks:
                chunks[path] = log.status_chunk(number)
        return len(chunks), wrong + list(self._wrong(chunks, expand_chunk))

    def registry(self, state: State) -> tuple[int, list[Finding]]:
        """How many records and tiles were compared, and what is wrong."""
        registry = state.registry
        records = [registry.ledger.encode()]
        records += [registry.agencies[n].record.encode() for n in range(1, len(registry.agencies) + 1)]
        records += [registry.types[n].encode() for n in range(1, len(registry.types) + 1)]
        wanted = {registry_ledger_path(registry.root): records[0], **_small_tree(registry.tree, records)}
        for agency in registry.agencies.values():
            if registry_record_path(leaf_hash(agency.record.encode())) not in self._known:
                wanted.update(_small_tree(agency.key_tree, [key.encode() for key in agency.keys]))
        fresh = {path: data for path, data in wanted.items() if path not in self._known}
        return len(fresh), list(self._wrong(fresh, lambda data: data))

    def _wrong(self, wanted: Expected, read: object) -> Iterator[Finding]:
        assert callable(read)
        missing: list[str] = []
        for (path, expected), data in zip(wanted.items(), fetched(self._resources, wanted), strict=True):
            try:
                if isinstance(data, NotFound):
                    missing.append(path)
                    continue
                if read(data) == expected:
                    self._known.add(path)
                    continue
                what = "it is not what the log comes to"
            except (FormatError, AnswerWrong) as error:
                what = f"it cannot be read: {error.what}"
            yield Finding(Severity.LIE, "SERVED_WRONG", what, path, _OTHER_SERVER)
        if missing:
            named = ", ".join(missing[:_MOST_NAMED])
            yield Finding(
                Severity.DOUBT,
                "NOT_SERVED",
                f"{len(missing)} resources that verifiers need are not there",
                named,
                _OTHER_SERVER,
            )
        if len(self._known) > _REMEMBERED:
            self._known.clear()


def _small_tree(tree: MerkleList, records: Iterable[bytes]) -> Expected:
    """The records of a registry tree by their hashes, and its tiles by its root."""
    wanted = {registry_record_path(one): record for one, record in zip(tree.hashes, records, strict=True)}
    row, level = list(tree.hashes), 0
    while row:
        for number in range(-(-len(row) // TILE_WIDTH)):
            part = row[number * TILE_WIDTH : (number + 1) * TILE_WIDTH]
            wanted[registry_tile_path(tree.root, level, number, len(part))] = b"".join(part)
        full = len(row) // TILE_WIDTH
        row = [merkle_root(row[n * TILE_WIDTH : (n + 1) * TILE_WIDTH]) for n in range(full)]
        level += 1
    return wanted


# --- figures -----------------------------------------------------------------------------------


class ServedFigures:
    """The figures of every agency as a server states them, each to be compared as of its own size."""

    def __init__(self, resources: Resources, agencies: int) -> None:
        """Fetches them all; what a server does not have at all is no finding. Raises what fetching raises."""
        self.findings: list[Finding] = []
        self.compared = 0
        self._stated: dict[int, dict[int, tuple[AsOf, Mapping[FigureKey, int]]]] = {}
        paths = [f"v1/figures/{number}" for number in range(agencies + 1)]
        for number, data in enumerate(fetched(resources, paths)):
            if isinstance(data, NotFound):
                continue
            try:
                agency, counters, as_of, _ = read_figures(json.loads(data), "answer")
                if agency != number:
                    raise FormatError(f"they are of agency {agency}")
            except (ValueError, RecursionError, FormatError) as error:
                what = f"the figures cannot be read: {error}"
                self.findings.append(
                    Finding(Severity.LIE, "FIGURES_DIFFER", what, paths[number], _OTHER_SERVER)
                )
                continue
            self._stated.setdefault(as_of.size, {})[number] = as_of, counters

    @property
    def greatest(self) -> int:
        """The size that the newest of them are as of; 0 when there are none."""
        return max(self._stated, default=0)

    def compare(self, log: AuditedLog, state: State) -> None:
        """Compare those that are as of this state; to be called after each block."""
        for agency, (as_of, counters) in self._stated.pop(state.size, {}).items():
            where = f"v1/figures/{agency}, as of size {state.size}"
            found = first_difference(counters, log.figures(agency))
            if as_of.time_ms != state.time_ms:
                what = f"they are stated as of {as_of.time_ms} ms, the log says {state.time_ms}"
            elif found is not None:
                key, stated, replayed = found
                what = f"stated is {stated} for {key_text(key)}, the log comes to {replayed}"
            else:
                self.compared += 1
                continue
            self.findings.append(Finding(Severity.LIE, "FIGURES_DIFFER", what, where, _OTHER_SERVER))

    def finish(self, log: AuditedLog) -> None:
        """Name those that could not be compared: as of a size passed before, or beyond, or of no block."""
        for at in sorted(self._stated):
            if at > log.size or (at and log.is_block_end(at)):
                what = f"the figures are as of size {at}, this audit is at {log.size}: not compared"
                self.findings.append(Finding(Severity.REMARK, "FIGURES", what))
            else:
                what = "the figures are as of a size that no block ends with"
                found = Finding(Severity.LIE, "FIGURES_DIFFER", what, f"size {at}", _OTHER_SERVER)
                self.findings.append(found)
