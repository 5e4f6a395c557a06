"""Lists of logs: read strictly, merged by origin, and kept in a file that several processes use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ledger.errors import FormatError, TrustFormatError
from ledger.notes import NamedSigner
from ledger.trust import Trust, TrustedLedger
from tests.tools.helpers import Commands, assert_one_line
from tests.tools.witness.some_log import SomeLog, signer
from tools.errors import Usage
from tools.witness.known_logs import KnownLogs
from tools.witness.logs import MAX_LOG_KEYS, WitnessedLog, parse_list, read_logs

LOG = SomeLog()
VKEY = LOG.signer.key().format()
OTHER = NamedSigner("other.example", signer("other")).key().format()
COSIGNER = "witness.example/w1+4c32598f+BKPd9f3HUYTN3SdUDBkbCkUwRnumOzJXFKOqrIgmGj9i"


def test_a_list_in_full() -> None:
    found = parse_list(
        f"# a comment\n\nlogs/v0\n\n# the first\nvkey {VKEY}\nqpd 86400\ncontact somebody, somewhere\n"
        f"vkey {OTHER}\norigin a log with spaces\nqpd 0.5\n\nvkey {OTHER}\norigin {LOG.origin}\n".encode()
    )
    assert [(log.origin, [key.format() for key in log.keys]) for log in found] == [
        (LOG.origin, [VKEY, OTHER]),
        ("a log with spaces", [OTHER]),
    ]
    assert parse_list(b"logs/v0") == ()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        (f"vkey {VKEY}\n", "line 1"),
        (f"logs/v1\nvkey {VKEY}\n", "line 1"),
        ("logs/v0 x\n", "line 1"),
        ("logs/v0\nlogs/v0\n", "line 2"),
        ("logs/v0\norigin first\n", "line 2"),
        ("logs/v0\nvkey\n", "line 2"),
        (f"logs/v0\nvkey {VKEY}x\n", "line 2"),
        (f"logs/v0\nvkey {COSIGNER}\n", "line 2"),
        (f"logs/v0\nvkey {VKEY}\norigin\n", "line 3"),
        (f"logs/v0\nvkey {VKEY}\norigin a\x01b\n", "line 3"),
        (f"logs/v0\nvkey {VKEY}\nqpd many\n", "line 3"),
        (f"logs/v0\nvkey {VKEY}\nurl http://x\n", "line 3"),
        ("logs/v0\n\xff", ""),
    ],
)
def test_lists_that_are_none(text: str, line: str) -> None:
    with pytest.raises(TrustFormatError) as error:
        parse_list(text.encode("latin-1"))
    assert line in str(error.value)


def test_a_trust_file_names_ledgers(tmp_path: Path) -> None:
    keys = [NamedSigner(name, LOG.signer.signer).key() for name in ("l1", "l2")]
    ledgers = [TrustedLedger.founded(bytes([n]) * 32, key.name, [key]) for n, key in enumerate(keys)]
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(Trust((ledgers[0],)).encode())
    two.write_bytes(Trust(tuple(ledgers)).encode())
    (log,) = read_logs(one, "https://l1.example")
    assert (log.origin, log.url, log.ledger) == ("l1", "https://l1.example", ledgers[0])
    assert [log.origin for log in read_logs(two)] == ["l1", "l2"]
    with pytest.raises(Usage, match="one URL for 2 ledgers"):
        read_logs(two, "https://l1.example")
    (tmp_path / "list").write_text("logs/v0\n")
    with pytest.raises(Usage, match="no URLs"):
        read_logs(tmp_path / "list", "https://l1.example")


def test_what_is_added_stays_and_nothing_else_goes(tmp_path: Path) -> None:
    ledger = TrustedLedger.founded(bytes(32), "l1", [NamedSigner("l1", LOG.signer.signer).key()])
    newer = TrustedLedger.founded(bytes(32), "l1", [NamedSigner("l1", signer("newer")).key()])
    known, beside = KnownLogs(tmp_path), KnownLogs(tmp_path)
    assert known.add([LOG.witnessed, WitnessedLog.of_ledger(ledger, "https://l1.example")]) == 2
    assert known.add([LOG.witnessed]) == 0
    assert known.logs(now=False) == known.logs() == beside.logs()
    assert beside.add([WitnessedLog(LOG.origin, (NamedSigner(LOG.origin, signer("two")).key(),))]) == 1
    assert len(known.logs()[LOG.origin].keys) == 2
    beside.switch("l1", off=True)
    known.catch(LOG.origin, "something")
    assert beside.logs()[LOG.origin].caught == "something"
    known.add([WitnessedLog.of_ledger(newer), LOG.witnessed])
    found = beside.logs()["l1"]
    assert (found.url, found.ledger) == ("https://l1.example", newer), "the newest trust"
    assert found.off, "still off"
    assert beside.logs()[LOG.origin].caught == "something"
    with pytest.raises(Usage, match="trust file"):
        known.remove_key("l1", newer.log_keys[0].key)
    other = WitnessedLog("l1", (NamedSigner("l1", signer("other")).key(),))
    with pytest.raises(Usage, match="trust file"):
        known.refuse_keys_beside_trust(other)
    known.refuse_keys_beside_trust(WitnessedLog("l1", (newer.log_keys[0].key,)))
    assert known.add([other]) == 0, "nothing is said to have changed where nothing has"
    with pytest.raises(Usage, match="no log"):
        known.switch("l2", off=True)
    many = [NamedSigner(LOG.origin, signer(f"many {n}")).key() for n in range(MAX_LOG_KEYS)]
    with pytest.raises(FormatError, match="more than 16 keys"):
        known.add([WitnessedLog(LOG.origin, tuple(many))])
    assert len(known.logs()[LOG.origin].keys) == 2
    known.close()
    again = KnownLogs(tmp_path)
    assert again.logs() == beside.logs()
    again.close()
    beside.close()


def test_the_commands(tmp_path: Path, sudur: Commands) -> None:
    data = tmp_path / "data"
    assert_one_line(sudur("witness", "add-log", "--data", data), 64, "keys of one log, or --log")
    assert_one_line(sudur("witness", "add-log", "--data", data, COSIGNER), 1, "signs no checkpoints")
    added = sudur("witness", "add-log", "--data", data, VKEY, "--origin", "with spaces")
    assert (added.code, added.out) == (0, "1 logs read, 1 of them new or changed.\n")
    listed = sudur("witness", "list", "--data", data)
    assert "with spaces" in listed.out
    assert "never" in listed.out
    shown = sudur("witness", "show", "--data", data, "with spaces")
    assert VKEY in shown.out
    assert '"size": null' in sudur("witness", "show", "--data", data, "with spaces", "--json").out
    assert_one_line(sudur("witness", "show", "--data", data, "other"), 64, "no log")
    assert_one_line(sudur("witness", "remove-key", "--data", data, "with spaces", OTHER), 64, "not one of")
    assert sudur("witness", "switch", "--data", data, "with spaces", "--off").code == 0
    assert "(off)" in sudur("witness", "list", "--data", data).out
    assert '"off": true' in sudur("witness", "list", "--data", data, "--json").out


def test_what_one_process_catches_another_does_not_undo(tmp_path: Path) -> None:
    log = SomeLog().witnessed
    one, other = KnownLogs(tmp_path), KnownLogs(tmp_path)
    one.add([log])
    stale = other.logs()
    other.logs = lambda *, now=True: stale  # type: ignore[method-assign]
    one.catch(log.origin, "a block breaks the rules")
    other.add([replace(log, url="https://log.example")])
    assert one.logs()[log.origin].caught
    other.switch(log.origin, off=True)
    assert one.logs()[log.origin].caught
    one.close()
    other.close()
