"""A whole small ledger as known answers: every block taken or refused, and all that follows from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ledger import rules
from ledger.errors import BlockRefused
from ledger.hashing import leaf_hashes, merkle_root
from ledger.registry_records import AgencyRecord
from ledger.status import read_status
from tests.ledger.world import MemoryReader
from tests.vectors import generate_ledger

CASES = json.loads((Path(__file__).parents[1] / "vectors" / "ledger.json").read_text())


def test_known_answers() -> None:
    reader = MemoryReader()
    for case in CASES:
        leaves, want = [bytes.fromhex(leaf) for leaf in case["leaves"]], case["want"]
        if isinstance(want, str):
            with pytest.raises(BlockRefused, match=f"{want}: "):
                rules.apply(reader.state, reader, leaves)
            continue
        state = reader.apply(rules.apply(reader.state, reader, leaves))
        assert merkle_root(leaf_hashes(reader.leaves)).hex() == want["root"], case["desc"]
        agencies = [state.registry.agencies[n].record for n in sorted(state.registry.agencies)]
        records = [state.registry.ledger.encode(), *(one.encode() for one in agencies)]
        assert [one.decode() for one in records] == want["records"]
        assert [AgencyRecord.decode(one) for one in records[1:]] == agencies
        chunk = reader.status_chunk(0)
        assert {str(at): read_status(chunk, at).value for at in reader.statuses} == want["statuses"]
        exchanges = {str(at): [one.received, one.final, one.reminds] for at, one in reader.exchanges.items()}
        assert exchanges == want["exchanges"]
        figures = sorted((tuple(map(int, one)), count) for one, count in reader.figures.items() if count)
        assert [[*map(str, one), str(count)] for one, count in figures] == want["figures"]


def test_the_file_is_what_its_script_makes() -> None:
    assert generate_ledger.blocks() == CASES
