"""An auditing witness: it runs the rules before it cosigns, so what breaks them is never published."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ledger.evidence import parse_evidence
from ledger.evidence_verdict import verify_evidence
from ledger.trust import TrustedLedger
from tests.node.world import FakeClock
from tests.operator.attacks import PROVEN, Cheat, books
from tests.operator.cheating import Books
from tests.operator.scene import Scene
from tests.operator.serving import served
from tests.operator.test_witness import asked_of_clients, cosigned, show
from tests.tools.witness.serving import Witness, witness
from tools.cli import run
from tools.http_resources import HttpResources
from tools.witness.auditor import Auditor, EngineAuditor
from tools.witness.logs import WitnessedLog

HOUR_MS = 3_600_000


@contextmanager
def auditing(root: Path, made: Books) -> Iterator[tuple[Witness, FakeClock]]:
    """A witness that audits what this operator serves; its clock stands at the newest honest seal."""
    clock = FakeClock(made.state.time_ms)
    with served(made.static.files.get) as url, HttpResources(url) as resources:

        def auditor(ledger: TrustedLedger, _: str) -> Auditor:
            return EngineAuditor(root / "audit", ledger, resources)

        log = WitnessedLog.of_ledger(made.trusted(), url)
        with witness(root, log, clock=clock, auditors=auditor, audit_wait_s=60) as (asked, _):
            yield asked, clock


def evidence_in(root: Path) -> list[Path]:
    return sorted((root / "audit" / "evidence").glob("*.evidence.json"))


@pytest.mark.parametrize("name", ["forged issue", "submission again", "hidden revocation", "back-dated"])
def test_it_cosigns_no_block_that_breaks_the_rules(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The head stays unpublished; the evidence is there the moment that it is asked to cosign."""
    cheat: Cheat
    cheat, words = PROVEN[name]
    made = books()
    with auditing(tmp_path, made) as (asked, clock):
        start = made.size
        assert show(asked, made, 0).status_code == 200
        cheat(made)
        clock.ms = made.state.time_ms
        assert show(asked, made, start).status_code == 422
        made.idle()
        assert show(asked, made, start).status_code != 200  # nor ever again
    (file,) = evidence_in(tmp_path)
    assert run(["verify-evidence", str(file)]) == 0
    assert words in capsys.readouterr().out


def test_it_keeps_a_forged_key_from_clients(tmp_path: Path) -> None:
    """What a plain witness cosigns, and a light client takes for genuine, is not cosigned here."""
    scene = Scene()
    made = scene.books
    with auditing(tmp_path, made) as (asked, clock):
        start = made.size
        cosigned(made, show(asked, made, 0))
        made.policy = asked_of_clients(asked)
        scene.receipt = scene.receipt_at(scene.issued.document, scene.index)
        assert scene.verdict() == "GENUINE"
        document, index = scene.forge_with_own_key()
        clock.ms = made.state.time_ms
        assert show(asked, made, start).status_code == 422
    assert scene.look(document, index) == "CANNOT_TELL"
    assert len(evidence_in(tmp_path)) == 1


def test_it_cosigns_no_head_amid_a_block(tmp_path: Path) -> None:
    made = books()
    with auditing(tmp_path, made) as (asked, clock):
        start = made.size
        assert show(asked, made, 0).status_code == 200
        made.idle()
        made.lawful_submission()
        clock.ms = made.state.time_ms
        made.serve_size(made.size - 1)
        assert show(asked, made, start).status_code == 422
    (file,) = evidence_in(tmp_path)
    breach = verify_evidence(parse_evidence(file.read_bytes()), made.trust())
    assert breach.kind == "unsealed head"


@pytest.mark.parametrize("off_ms", [HOUR_MS, -HOUR_MS])
def test_it_cosigns_no_seal_far_from_its_clock(off_ms: int, tmp_path: Path) -> None:
    """Ahead: until the time has come. Behind: until a block comes that is dated right."""
    made = books()
    with auditing(tmp_path, made) as (asked, clock):
        start = made.size
        assert show(asked, made, 0).status_code == 200
        made.idle(later_ms=2 * HOUR_MS)
        clock.ms = made.state.time_ms - off_ms
        assert show(asked, made, start).status_code == 503
    assert evidence_in(tmp_path) == []
