"""A witness that audits: real nodes, and auditors that are slow, or find something."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from ledger.changes import LEDGER as LEDGER_RECORD
from ledger.changes import LogKeyAdded
from ledger.checkpoints import SignedCheckpoint, parse_checkpoint
from ledger.notes import NamedSigner, parse_note
from ledger.resources import CHECKPOINT
from ledger.seals import Seal
from ledger.trust import TrustedLedger
from ledger.witnessing import format_add_checkpoint
from node.clock import SystemClock
from tests.ledger.world import log_key
from tests.tools.audit.logs import ServedWorld
from tests.tools.helpers import Commands, assert_one_line, finish, start
from tests.tools.ledger_process import Ledger, running
from tests.tools.witness.serving import Files, Witness, start_process, witness
from tests.tools.witness.some_log import SomeLog, signer
from tools.audit.engine import AuditedLog
from tools.audit.errors import Interrupted
from tools.errors import Unavailable
from tools.witness.auditing import Auditing
from tools.witness.auditor import MAX_OFF_MS, Auditor, EngineAuditor, check_seal
from tools.witness.known_logs import KnownLogs
from tools.witness.logs import WitnessedLog
from tools.witness.refusals import Caught, SealAhead, SealOld, StorageFailed

NOW_MS = 1_800_000_000_000


# --- when a seal is new ---------------------------------------------------------------------------


def seal(time_ms: int) -> bytes:
    return Seal(1, 3, time_ms, 0, 0, bytes(32), bytes(32)).encode()


@pytest.mark.parametrize("off_ms", [-MAX_OFF_MS, 0, MAX_OFF_MS])
def test_a_seal_within_five_minutes_is_new(off_ms: int) -> None:
    check_seal(seal(NOW_MS + off_ms), NOW_MS)


def test_a_seal_that_is_old_or_ahead_is_refused() -> None:
    with pytest.raises(SealOld, match="301 s before") as old:
        check_seal(seal(NOW_MS - 301_000), NOW_MS)
    assert old.value.status == 503
    with pytest.raises(SealAhead, match="301 s ahead") as ahead:
        check_seal(seal(NOW_MS + 301_000), NOW_MS)
    assert ahead.value.status == 503


# --- auditors that are told what to do ------------------------------------------------------------


class Told:
    """An auditor that waits for ``go``, and then raises ``found``, if it is told to."""

    def __init__(self, ledger: TrustedLedger) -> None:
        self.ledger = ledger
        self.replayed = 0
        self.go = threading.Event()
        self.found: Exception | None = None
        self.checked: list[int] = []
        self.closed = False

    def check(self, signed: SignedCheckpoint, seen_ms: int, stop: Callable[[], bool]) -> None:
        while not self.go.wait(0.01):
            if stop():
                raise Unavailable("stopped")
        self.checked.append(signed.checkpoint.size)
        if self.found is not None:
            raise self.found
        self.replayed = signed.checkpoint.size

    def close(self) -> None:
        self.closed = True


LOG = SomeLog()
LEDGER = TrustedLedger.founded(bytes(32), LOG.origin, [LOG.signer.key()])
AUDITED = WitnessedLog.of_ledger(LEDGER, "http://127.0.0.1:9")


@contextmanager
def told(root: Path, wait_s: float = 0.05) -> Iterator[tuple[Witness, Told]]:
    auditor = Told(LEDGER)

    def make(_: TrustedLedger, url: str) -> Auditor:
        assert url == AUDITED.url
        return auditor

    with witness(root, AUDITED, auditors=make, audit_wait_s=wait_s) as (found, _running):
        yield found, auditor
    assert auditor.closed


def test_nobody_hangs_while_it_catches_up(tmp_path: Path) -> None:
    with told(tmp_path) as (found, auditor):
        answer = found.ask(LOG.request(0, 5))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert "0 of 5 leaves" in answer.text
        assert found.ask(LOG.request(0, 5)).status_code == 503
        auditor.go.set()
        while (answer := found.ask(LOG.request(0, 5))).status_code == 503:
            pass
        assert answer.status_code == 200
        assert found.cosign(LOG, 5, 9).time_s
        assert sorted(set(auditor.checked)) == [5, 9]


def test_an_audit_goes_on_when_what_it_found_cannot_be_kept() -> None:
    auditor = Told(LEDGER)
    auditor.go.set()
    auditor.found = Caught("a block breaks the rules")

    def full(origin: str, found: str) -> None:
        raise StorageFailed(f"no room for {origin}: {found}")

    async def ask() -> None:
        auditing = Auditing(lambda *_: auditor, SystemClock(), full, wait_s=30)
        try:
            for _ in range(2):
                note = parse_note(LOG.note(5))
                signed = SignedCheckpoint(LOG.checkpoint(5), note.encode(), note)
                with pytest.raises(Caught):
                    await auditing.approve(LEDGER, AUDITED.url, signed)
        finally:
            auditing.stop()

    asyncio.run(ask())


def test_a_renewed_trust_file_is_heard_though_the_audit_knows_the_old_one(tmp_path: Path) -> None:
    other = NamedSigner(LOG.origin, signer("the next key"))
    both = TrustedLedger.founded(bytes(32), LOG.origin, [LOG.signer.key(), other.key()])
    with told(tmp_path) as (found, auditor):
        auditor.go.set()
        found.cosign(LOG, 0, 5)
        assert found.ask(LOG.request(5, 9, other)).status_code == 403
        KnownLogs(Files(tmp_path).data).add([WitnessedLog.of_ledger(both, AUDITED.url)])
        assert found.ask(LOG.request(5, 9, other)).status_code == 200


def test_an_audit_of_before_is_there_before_anybody_asks(tmp_path: Path) -> None:
    """Its keys of the log: whoever signs with one that it replayed is known after a restart, too."""
    with told(tmp_path):
        pass  # made at the start, closed at the end
    world = ServedWorld()
    world.change(LEDGER_RECORD, LogKeyAdded(log_key("next")))
    audit = tmp_path / "audit"
    with AuditedLog.open(audit, world.trusted) as log:
        log.advance(world.files, log.open_note(world.files.fetch(CHECKPOINT)))
    auditor = EngineAuditor(audit, world.trusted, world.files)
    assert auditor.replayed == world.state.size
    assert len(auditor.ledger.log_keys) == 2
    auditor.close()


def test_a_slow_server_does_not_hold_up_its_end(tmp_path: Path) -> None:
    world = ServedWorld()
    world.live([0])
    asked: list[str] = []

    class Slow:
        def fetch(self, path: str) -> bytes:
            asked.append(path)
            return world.files.fetch(path)

    auditor = EngineAuditor(tmp_path / "audit", world.trusted, Slow())
    signed = world.trusted.open(world.files.fetch(CHECKPOINT))
    with pytest.raises(Interrupted):
        auditor.check(signed, world.state.time_ms, lambda: bool(asked))
    assert len(asked) == 1
    auditor.close()


def test_what_needs_no_audit_is_answered_at_once(tmp_path: Path) -> None:
    with told(tmp_path) as (found, auditor):
        auditor.go.set()
        found.cosign(LOG, 0, 5)
        auditor.go.clear()
        assert found.ask(LOG.request(0, 9)).content == b"5\n"
        assert found.ask(LOG.forked(2).request(5, 9)).status_code == 422
        assert found.ask(b"").status_code == 400
        found.cosign(LOG, 5, 5)
        auditor.go.set()


def test_a_log_that_is_caught_is_cosigned_no_more_until_somebody_says_so(
    tmp_path: Path, sudur: Commands
) -> None:
    with told(tmp_path, 30) as (found, auditor):
        auditor.go.set()
        found.cosign(LOG, 0, 5)
        auditor.found = Caught("a block breaks the rules")
        answer = found.ask(LOG.request(5, 9))
        assert answer.status_code == 422
        assert "breaks the rules" in answer.text
        auditor.found = None
        assert found.ask(LOG.request(5, 9)).status_code == 422
        assert found.ask(LOG.request(5, 5)).status_code == 422, "its old head is not refreshed either"
        (shown,) = found.get("/logs").json()["logs"]
        assert (shown["size"], "breaks the rules" in shown["caught"]) == (5, True)
        assert 'sudur_witnessing_refused_total{reason="CAUGHT"} 3.0' in found.get("/metrics").text
    with told(tmp_path, 30) as (found, auditor):
        auditor.go.set()
        assert found.ask(LOG.request(5, 9)).status_code == 422, "a restart forgets nothing"
        data = Files(tmp_path).data
        assert "breaks the rules" in sudur("witness", "show", "--data", data, LOG.origin).out
        assert sudur("witness", "switch", "--data", data, LOG.origin, "--on").code == 0
        while (answer := found.ask(LOG.request(5, 9))).status_code == 422:
            pass
        assert answer.status_code == 200


def test_what_cannot_be_read_may_be_asked_for_again(tmp_path: Path) -> None:
    with told(tmp_path, 30) as (found, auditor):
        auditor.go.set()
        for error in (Unavailable("nobody answers"), RuntimeError("a fault of ours")):
            auditor.found = error
            answer = found.ask(LOG.request(0, 5))
            assert answer.status_code == 503
            assert answer.headers["retry-after"] in ("2", "5")
        auditor.found = None
        found.cosign(LOG, 0, 5)


def test_an_auditing_key_knows_only_what_it_can_audit(tmp_path: Path, sudur: Commands) -> None:
    files = Files(tmp_path)
    made = sudur("witness", "init", "witness.example/a", "--key", files.key, "--audit")
    assert made.code == 0
    (tmp_path / "logs").write_text(f"logs/v0\nvkey {LOG.signer.key().format()}\n")
    refused = sudur("witness", "start", "--data", files.data, "--key", files.key, "--log", tmp_path / "logs",
                    "--listen", "127.0.0.1:0")  # fmt: skip
    assert_one_line(refused, 64, "cannot be audited", "--url")


# --- a real node ---------------------------------------------------------------------------------


def newest(ledger: Ledger) -> bytes:
    return httpx.get(f"{ledger.url}/checkpoint/signed").raise_for_status().content


def test_it_replays_what_a_node_serves_before_it_cosigns(tmp_path: Path) -> None:
    with running(tmp_path / "ledger") as ledger:
        files = Files(tmp_path / "witness")
        files.root.mkdir()
        assert finish(start("witness", "init", "witness.example/a", "--key", files.key, "--audit")).code == 0
        found = start_process(files, "--log", ledger.trust, "--url", ledger.url)
        try:
            note = newest(ledger)
            checkpoint = parse_checkpoint(parse_note(note).text)
            answer = found.ask(format_add_checkpoint(0, [], note))
            assert answer.status_code == 200, answer.text
            found.verified(note, answer.content)
            told_ = found.get("/logs").json()
            assert told_["audits"] is True
            assert told_["logs"][0]["size"] == checkpoint.size
            assert f'audited_size{{origin="{checkpoint.origin}"}} {float(checkpoint.size)}' in (
                found.get("/metrics").text
            )
        finally:
            ended = found.stop()
        assert ended.code == 0, ended
