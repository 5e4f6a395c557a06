"""Portions made here and by the helper process are alike; a helper that has gone is named."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from ledger.documents import Document, Field
from ledger.records import Basis
from tests.tools.registers import GENESIS, open_register
from tools.errors import Unavailable
from tools.register.documents import Made
from tools.tables.portions import Entry, PortionHelper, PortionMaker


def entries(count: int) -> list[Entry]:
    found = []
    for number in range(count):
        document = Document.build(1, 0, [Field.text("name", f"نور {number}")])
        slots = [field.slot() for field in document.fields]
        found.append(Entry(number + 2, f"id-{number}", slots, f"نور {number}"))
    return found


@pytest.mark.parametrize("where", ["here", "helper"])
def test_a_portion_opens_its_commitments(tmp_path: Path, where: str) -> None:
    with open_register(tmp_path / "a") as register:
        if where == "here":
            made = PortionMaker(register.box, GENESIS, 1).make(1, entries(5))
        else:
            with PortionHelper(register.box, GENESIS, 1) as helper:
                helper.begin(1, entries(5))
                made = helper.end()
        with register.transaction():
            register.run("INSERT INTO works (id, kind, made_ms, sealed) VALUES (1, 'x', 1, x'')")
            register.documents.put(1, 0, Basis.ORIGINAL, made)
        kept = list(register.documents.every())
        assert [(one.row, one.external) for one in kept] == [(n + 2, f"id-{n}") for n in range(5)]
        for one in kept:
            assert one.document(1).commitment(GENESIS, one.seed) == one.commitment
        assert len({one.seed for one in kept}) == 5
        assert len(register.documents.candidates("نور")) == 5
        assert isinstance(made, Made)


def test_a_helper_that_has_gone_is_named(tmp_path: Path) -> None:
    with open_register(tmp_path / "a") as register, PortionHelper(register.box, GENESIS, 1) as helper:
        assert helper._process.pid is not None
        os.kill(helper._process.pid, signal.SIGKILL)
        helper._process.join()
        with pytest.raises(Unavailable, match="goes on where it was"):
            helper.end()
        with pytest.raises(Unavailable):
            helper.begin(1, entries(5))
