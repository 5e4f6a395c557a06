"""docs/threat-model.md names every test of the operator, and only tests that there are."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tests.operator.attacks import NEEDS_REPLAY, PROVEN

HERE: Final = Path(__file__).parent
TEXT: Final = (HERE.parents[1] / "docs" / "threat-model.md").read_text(encoding="utf-8")
NAMED: Final = {
    (file, name, case or "")
    for file, name, case in re.findall(r"`(test_\w+\.py)::(test_\w+)(?:\[([^\]]+)\])?`", TEXT)
}
CASES: Final[dict[str, Iterable[str]]] = {
    "test_a_broken_block_becomes_evidence": PROVEN,
    "test_what_takes_counting_is_found_and_said_to_need_a_replay": NEEDS_REPLAY,
}


def _written() -> set[tuple[str, str, str]]:
    """(file, test, case) of all that there are; the cases only of attacks, which have a row each."""
    found = set()
    for path in HERE.glob("test_*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found |= {(path.name, node.name, case) for case in CASES.get(node.name, ("",))}
    return {one for one in found if one[0] != Path(__file__).name}


def test_every_test_that_is_named_exists() -> None:
    assert NAMED - _written() == set()


def test_every_test_of_the_operator_has_a_row() -> None:
    assert _written() - NAMED == set()


def test_what_a_client_accepts_is_said_to_be_found_by_an_auditor() -> None:
    """Each row with a verdict in bold, which is false, says who finds that."""
    rows = [line for line in TEXT.splitlines() if re.search(r"\| \*\*(genuine|revoked)", line)]
    assert rows
    for row in rows:
        assert "the auditor" in row.split("|")[3], row
