"""The auditor finds every block that breaks the rules, and makes a file that a third person believes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger import rules
from ledger.evidence import parse_evidence
from ledger.evidence_making import Refused, prove_block
from ledger.evidence_verdict import Breach
from ledger.resources import CHECKPOINT
from tests.ledger.world import MemoryReader
from tests.operator.attacks import NEEDS_REPLAY, PROVEN, books
from tests.operator.cheating import Books
from tests.operator.serving import served
from tools.audit.accusing import judged, keep_evidence, write_evidence
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
        return keep_evidence(log, caught.value, resources)


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
    with served(made.static.files.get) as url:
        options = ["--trust", trust_file(made, tmp_path), "--audit", url]
        assert run(["verify-evidence", str(path), *options]) == 0
    assert "PROVEN by a replay" in capsys.readouterr().out
    assert run(["verify-evidence", str(path), "--audit", url]) == 64


def test_a_replay_clears_an_honest_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody accuses a block that is in order."""
    made = books()
    blocks = made.blocks
    copy = MemoryReader()
    for leaves in blocks[:-1]:
        copy.take(rules.apply(copy.state, copy, leaves))
    before = copy.state
    assert before is not None
    seal, genesis = copy.leaves[-1], copy.leaves[0]
    accused = Refused(before, genesis, seal, blocks[-1], {}, {}, "it was forged, believe me")
    evidence = prove_block(accused, made.opened(), made.nodes())
    path = write_evidence(tmp_path, evidence)
    assert run(["verify-evidence", str(path)]) == 2
    assert "nothing that the file proves stands against the block" in capsys.readouterr().out
    with served(made.static.files.get) as url:
        options = ["--trust", trust_file(made, tmp_path), "--audit", url]
        assert run(["verify-evidence", str(path), *options]) == 1
    assert "every block of it is in order" in capsys.readouterr().out


def test_the_same_evidence_is_the_same_file(tmp_path: Path) -> None:
    made = books()
    PROVEN["forged issue"][0](made)
    one = found_by_audit(made, tmp_path)
    other = found_by_audit(made, tmp_path)
    assert one == other
    assert len(list(one.parent.iterdir())) == 1
