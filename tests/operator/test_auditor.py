"""The auditor finds every block that breaks the rules, and makes a file that a third person believes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger.evidence import parse_evidence
from ledger.evidence_verdict import Breach
from ledger.resources import CHECKPOINT
from tests.operator.attacks import NEEDS_REPLAY, PROVEN, books
from tests.operator.cheating import Books
from tests.operator.serving import served
from tools.audit.accusing import evidence_of, judged, write_evidence
from tools.audit.engine import AuditedLog
from tools.audit.errors import LogLied
from tools.cli import run
from tools.http_resources import HttpResources


def found_by_audit(made: Books, directory: Path) -> Path:
    """Audit what the operator serves; the evidence file of what that finds."""
    with (
        served(made.static.files.get) as url,
        HttpResources(url) as resources,
        AuditedLog.open(directory / "audit", made.trusted()) as log,
    ):
        with pytest.raises(LogLied) as caught:
            log.advance(resources, log.open_note(resources.fetch(CHECKPOINT)))
        return write_evidence(directory, evidence_of(caught.value, resources))


def trust_file(made: Books, directory: Path) -> str:
    path = directory / "trust.json"
    path.write_bytes(made.trust().encode())
    return str(path)


@pytest.mark.parametrize("name", PROVEN)
def test_a_broken_block_becomes_evidence(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cheat, words = PROVEN[name]
    made = books()
    cheat(made)
    made.idle()
    path = found_by_audit(made, tmp_path)
    for options in ([], ["--trust", trust_file(made, tmp_path)]):
        assert run(["verify-evidence", str(path), *options]) == 0
        told = capsys.readouterr().out
        assert "PROVEN" in told
        assert words in told


@pytest.mark.parametrize("name", NEEDS_REPLAY)
def test_what_takes_counting_is_found_and_said_to_need_a_replay(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = books()
    NEEDS_REPLAY[name](made)
    path = found_by_audit(made, tmp_path)
    assert not isinstance(judged(parse_evidence(path.read_bytes()), made.trusted()), Breach)
    assert run(["verify-evidence", str(path)]) == 2
    told = capsys.readouterr().out
    assert "NOT DECIDED" in told
    assert f"up to size {made.size}" in told


def test_the_same_evidence_is_the_same_file(tmp_path: Path) -> None:
    made = books()
    PROVEN["forged issue"][0](made)
    one = found_by_audit(made, tmp_path)
    other = found_by_audit(made, tmp_path)
    assert one == other
    assert len(list(tmp_path.glob("*.evidence.json"))) == 1
