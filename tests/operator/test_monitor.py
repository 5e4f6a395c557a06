"""The agency's own monitor: it reads every leaf, and knows what the agency itself has submitted."""

from __future__ import annotations

from pathlib import Path

from ledger.evidence_making import prove_fork
from ledger.evidence_verdict import verify_evidence
from ledger.notes import VerifierKey
from ledger.resources import LogTiles
from ledger.tiles import TileNodeReader
from ledger.trust import Trust, TrustedLedger
from tests.ledger.world import ORIGIN, issue, log_key, signer
from tests.operator.cheating import Lawless
from tests.tools.watched import Office


def forge(office: Office) -> int:
    """The operator logs a document in the agency's name; the index of the SUBMISSION."""
    world = office.world
    draft = Lawless(world.state, world.reader, world.state.time_ms + 1000)
    forged = world.submission(1, [issue(1, "forged", 0)], keys={1: signer("the operator")})
    index = draft.force_submission(forged)
    transition = draft.seal()
    world.reader.take(transition)
    office.memory.add(transition)
    return index


def test_the_agency_sees_what_it_never_submitted(tmp_path: Path) -> None:
    """At its next reading, whoever was shown the document; it tells also that the signature is not good."""
    office = Office(tmp_path)
    office.issue(2)
    assert office.read().alarms == []
    index = forge(office)
    (alarm,) = office.read().alarms
    assert (alarm.code, alarm.index) == ("UNKNOWN_SUBMISSION", index)
    assert alarm.facts["signatures"] == "invalid"
    office.register.close()


def test_the_agency_sees_another_history(tmp_path: Path) -> None:
    """It keeps the head that it has accepted: the other face does not extend it, and both are evidence."""
    (tmp_path / "other").mkdir()
    office, other = Office(tmp_path), Office(tmp_path / "other")
    office.issue(2)
    office.read()
    seen = office.memory.checkpoint
    for _ in range(9):
        other.world.idle()
    other.mirror()
    office.source.memory = other.memory
    (alarm,) = office.read().alarms
    assert alarm.code == "LOG_FORKED"
    ledger = TrustedLedger.founded(office.world.genesis, ORIGIN, (VerifierKey.parse(log_key("log")),))
    large = ledger.open(other.memory.checkpoint)
    nodes = TileNodeReader(LogTiles(other.memory), large.checkpoint.size)
    fork = prove_fork(ledger.open(seen), large, nodes, None)
    assert fork is not None
    assert verify_evidence(fork, Trust((ledger,))).kind == "fork"
    for one in (office, other):
        one.register.close()
