"""``sudur agency reconcile`` over real sockets: thieves, insiders, a proxy that lies, kills."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from ledger.checkpoints import Checkpoint, parse_checkpoint, sign_checkpoint
from ledger.leaves import LeafType
from ledger.notes import parse_note
from sudur.v1 import ledger_pb2 as pb
from tests.tools.helpers import Commands, Done, assert_one_line, finish, start
from tests.tools.nodes import Proxy, serving
from tools.client import LedgerClient
from tools.errors import DirectoryInUse
from tools.files import locked
from tools.keyfile import KeyFile
from tools.monitor.commands import _lock

ANY_PORTS = ("--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0")


def done(*arguments: str | Path) -> str:
    """The output of a command that must work, run as a process."""
    ended = finish(start(*arguments))
    assert ended.code == 0, ended
    return ended.out


# --- a node, and an agency ---------------------------------------------------


@dataclass(frozen=True)
class Served:
    """A node that runs as a process."""

    root: Path
    grpc: str
    names: Iterator[int]

    @property
    def authority(self) -> Path:
        return self.root / "authority"

    def sign(self, size: int, root: bytes) -> bytes:
        """A checkpoint by the log's own key, over any root."""
        key = KeyFile(self.authority / "log.key.json").open(None)
        return sign_checkpoint(Checkpoint("test.example/monitor", size, root), [key.signer])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("served")
    authority = root / "authority"
    done("authority", "init", "--dir", authority, "--origin", "test.example/monitor")
    node = start("node", "start", "--data", root / "data", "--genesis", authority / "genesis.leaf",
                 "--log-key", authority / "log.key.json", *ANY_PORTS)  # fmt: skip
    try:
        assert node.stdout is not None
        yield Served(root, json.loads(node.stdout.readline())["grpc"], count())
    finally:
        node.send_signal(signal.SIGTERM)
        ended = finish(node)
    assert ended.code == 0, ended


@pytest.fixture
def proxy(served: Served) -> Iterator[tuple[Proxy, str]]:
    proxy = Proxy(served.grpc)  # type: ignore[abstract]  # nothing else is called
    with serving(proxy) as address:
        yield proxy, address
    proxy.close()


# --- an agency ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Office:
    """An agency of its own for each test, with two keys; documents are issued with the first."""

    sudur: Commands
    served: Served
    path: Path
    number: int

    def issue(self, key: str = "desk-1", directory: Path | None = None) -> int:
        """Issue a document; the index of its SUBMISSION."""
        where = directory or self.path
        paper = self.served.root / f"paper {next(self.served.names)}.txt"
        paper.write_text(paper.name)
        ended = self.sudur("agency", "issue", "--node", self.served.grpc, "--dir", where, "--signer", key,
                           "--trust", self.served.authority / "trust.json", "--json", paper)  # fmt: skip
        assert ended.code == 0, ended
        return int(json.loads(ended.out)["issued"][0]["index"]) - 1

    def thief(self) -> Path:
        """Whoever has the agency's keys, and works elsewhere."""
        there = self.path.with_name("thief")
        shutil.copytree(self.path, there, ignore=shutil.ignore_patterns("register.db*"))
        return there

    def reconcile(self, *more: str | Path, node: str | None = None) -> Done:
        return self.sudur(
            "agency", "reconcile", "--dir", self.path, "--node", node or self.served.grpc, *more
        )

    def reconciled(self, code: int, *more: str | Path, node: str | None = None) -> Any:
        """What it says in JSON, ending with a certain code."""
        ended = self.reconcile("--json", *more, node=node)
        assert ended.code == code, ended
        return json.loads(ended.out)


@pytest.fixture
def office(sudur: Commands, served: Served, tmp_path: Path) -> Office:
    here = tmp_path / "office"
    for label in ("desk-1", "desk-2"):
        assert sudur("agency", "keygen", "--dir", here, "--label", label).code == 0
    ended = sudur("authority", "enrol", "--dir", served.authority, "--node", served.grpc, "--name",
                  "en=Office", "--role", "issue", "--type", "0", "--key", here / "desk-1.pub.json",
                  "--key", here / "desk-2.pub.json", "--json")  # fmt: skip
    assert ended.code == 0, ended
    office = Office(sudur, served, here, int(json.loads(ended.out)["agency"]))
    office.issue()
    return office


def codes(findings: list[Any]) -> list[str]:
    return [one["code"] for one in findings]


# --- found the same day ------------------------------------------------------------------------


def test_all_is_well(office: Office) -> None:
    said = office.reconciled(0)
    assert (said["outcome"], said["complete"], said["agency"]) == ("agrees", True, office.number)
    assert (said["alarms"], said["read"]["submissions"]) == ([], 1)
    assert codes(said["warnings"]) == ["NEW_KEY", "NEW_KEY"]
    assert all(one["facts"]["here"] for one in said["warnings"])
    text = office.reconcile()
    assert (text.code, text.err) == (0, "")
    assert text.out.startswith(f"All that the log holds in the name of agency {office.number} ")
    assert office.reconcile("--quiet") == Done(0, "", "")


def test_a_stolen_key_is_found_with_what_to_do(office: Office) -> None:
    office.reconciled(0)
    index = office.issue("desk-2", office.thief())
    ended = office.reconcile("--quiet")
    assert ended.code == 1
    assert f"submission at index {index}: 1 issue.original; records from index {index + 1} on" in ended.out
    assert 'key 2 "desk-2"' in ended.out
    where = f"--dir {office.path} --node {office.served.grpc}"
    assert f"sudur authority stolen {office.number} 2 {index} --dir AUTHORITY" in ended.out
    span = f"2 --since {index} --until {index + 1} --reason 3 --signer OTHER {where}"
    assert f"sudur agency revoke --by-key {span}" in ended.out
    assert f"sudur agency reinstate --changed-by-key {span}" in ended.out
    said = office.reconciled(1)
    (alarm,) = said["alarms"]
    assert (alarm["code"], alarm["index"], alarm["new"]) == ("UNKNOWN_SUBMISSION", str(index), False)
    assert alarm["facts"]["signatures"] == "valid"
    assert alarm["facts"]["claimed_ms"] <= alarm["facts"]["sealed_ms"]
    ended = office.sudur("agency", "reconcile", "acknowledge", str(index), "--dir", office.path, "--why",
                         "a test of ours \u202e")  # fmt: skip
    assert (ended.code, ended.out) == (0, "Acknowledged: 1\n")
    ended = office.reconcile()
    assert ended.code == 0
    assert '"a test of ours \\u202e"' in ended.out
    journal = office.sudur("agency", "register", "journal", "--dir", office.path).out
    assert "acknowledge" in journal
    assert "a test of ours \\u202e" in journal


def test_another_office_is_no_thief(office: Office) -> None:
    other = office.thief()
    index = office.issue("desk-2", other)
    assert [one["index"] for one in office.reconciled(1)["alarms"]] == [str(index)]
    assert office.reconciled(0, "--also", other / "register.db")["alarms"] == []
    assert office.reconciled(0)["alarms"] == []
    ended = office.reconcile("--also", office.served.authority / "trust.json")
    assert_one_line(ended, 2, "trust.json", "register")


def test_an_older_register_put_back(office: Office) -> None:
    copy = office.path.with_name("copy.db")
    office.reconciled(0)
    assert office.sudur("agency", "register", "backup", copy, "--dir", office.path).code == 0
    index = office.issue()
    office.reconciled(0)
    for path in office.path.glob("register.db*"):
        path.unlink()
    assert office.sudur("agency", "register", "restore", copy, "--dir", office.path).code == 0
    assert [one["index"] for one in office.reconciled(1)["alarms"]] == [str(index)]


def test_a_restored_register_issues_nothing_twice(office: Office, tmp_path: Path) -> None:
    """Its backup knows nothing of a table that was issued since; the table's ids cannot help it."""
    copy, table = tmp_path / "copy.db", tmp_path / "table.csv"
    table.write_text("id,holder\n1,a\n2,b\n")
    issuing = ("agency", "issue", "--csv", table, "--type", "0", "--id-column", "id", "--signer", "desk-1",
               "--dir", office.path, "--node", office.served.grpc, "--json")  # fmt: skip
    office.issue()
    assert office.sudur("agency", "register", "backup", copy, "--dir", office.path).code == 0
    assert office.sudur(*issuing).code == 0
    for path in office.path.glob("register.db*"):
        path.unlink()
    assert office.sudur("agency", "register", "restore", copy, "--dir", office.path).code == 0
    with LedgerClient(office.served.grpc) as client:
        before = parse_checkpoint(parse_note(client.checkpoint()).text).size
        for _ in range(2):
            refused = office.sudur(*issuing)
            assert refused.code == 1
            assert "was restored from a backup" in refused.err.splitlines()[-1]
            (alarm,) = office.reconciled(1)["alarms"]
        assert parse_checkpoint(parse_note(client.checkpoint()).text).size == before
    assert office.sudur("agency", "reconcile", "acknowledge", alarm["index"], "--why", "made before",
                        "--dir", office.path).code == 0  # fmt: skip
    assert "sudur agency reconcile" in office.sudur(*issuing).err
    office.reconciled(0)
    assert office.issue() >= before


def test_a_row_that_an_insider_removed(office: Office) -> None:
    index = office.issue()
    office.reconciled(0)
    with closing(sqlite3.connect(office.path / "register.db")) as database, database:
        database.execute("DELETE FROM submissions WHERE first = ?", (index + 1,))
    said = office.reconciled(1)
    assert codes(said["alarms"]) == ["ROWS_GONE"]
    again = office.reconciled(1, "--from", said["from"])
    assert [one["index"] for one in again["alarms"]] == [None, str(index)]


def test_hostile_names_stay_on_their_line(office: Office) -> None:
    """A label that the registry lets in, and a directory that nobody should have named so."""
    hostile = office.path.with_name("office\n\u202eroot; rm -rf x")
    office.path.rename(hostile)
    here = Office(office.sudur, office.served, hostile, office.number)
    here.issue("desk-2", here.thief())
    ended = here.reconcile()
    assert ended.code == 1
    assert "\u202e" not in ended.out
    assert "\nroot" not in ended.out
    assert "'" in next(line for line in ended.out.splitlines() if "revoke --by-key" in line)


# --- a node that lies --------------------------------------------------------------------------


def _evidence(office: Office) -> list[Checkpoint]:
    """What is kept as evidence, each verified as signed by the log."""
    files = sorted((office.path / "evidence").iterdir())
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)
    return [parse_checkpoint(parse_note(path.read_bytes()).text) for path in files]


def test_a_node_that_omits_a_leaf(office: Office, proxy: tuple[Proxy, str]) -> None:
    lying, address = proxy
    office.reconciled(0)
    index = office.issue("desk-2", office.thief())

    def omit(request: pb.StreamEntriesRequest, answer: pb.StreamEntriesResponse) -> pb.StreamEntriesResponse:
        kept = [leaf for leaf in answer.leaves if leaf[1] != LeafType.ISSUE]
        return pb.StreamEntriesResponse(first_index=answer.first_index, leaves=kept)

    lying.lies["StreamEntries"] = omit
    said = office.reconciled(1, node=address)
    assert codes(said["alarms"]) == ["LOG_DIFFERS"]
    assert not said["complete"]
    assert len(_evidence(office)) == 1
    assert [one["index"] for one in office.reconciled(1)["alarms"]] == [None, str(index)]


def test_a_node_that_shows_a_fork(office: Office, proxy: tuple[Proxy, str]) -> None:
    lying, address = proxy
    before = office.reconciled(0)
    office.issue()
    forged = office.served.sign(int(before["size"]) + 1, bytes(32))
    lying.lies["GetCheckpoint"] = lambda request, answer: pb.GetCheckpointResponse(checkpoint=forged)
    ended = office.reconcile(node=address)
    assert ended.code == 1
    assert "[LOG_FORKED]" in ended.out
    assert "NOT to the end of the log" in ended.out
    sizes = [(one.size, one.root.hex()) for one in _evidence(office)]
    assert sizes == [(int(before["size"]), before["root"]), (int(before["size"]) + 1, bytes(32).hex())]
    said = office.reconciled(1)
    assert codes(said["alarms"]) == ["LOG_FORKED"], "the honest node does not make up for it"
    assert said["complete"]
    ended = office.sudur("agency", "reconcile", "acknowledge", "--log", "--dir", office.path, "--why", "told")
    assert ended.code == 0
    office.reconciled(0)


def test_a_node_that_was_set_back(office: Office, proxy: tuple[Proxy, str]) -> None:
    lying, address = proxy
    office.reconciled(0)
    old = lying._forward("GetCheckpoint", pb.GetCheckpointRequest())
    office.issue()
    office.reconciled(0)
    lying.lies["GetCheckpoint"] = lambda request, answer: old
    said = office.reconciled(1, node=address)
    assert codes(said["alarms"]) == ["LOG_ROLLED_BACK"]
    new, older = _evidence(office)
    assert new.size > older.size == parse_checkpoint(parse_note(old.checkpoint).text).size


# --- cannot tell, and wrong usage --------------------------------------------------------------


def test_nobody_answers(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.reconciled(0)
    monkeypatch.setattr(
        "tools.monitor.commands.connect",
        lambda address: LedgerClient(address, deadline_s=0.5, patience_s=0.1),
    )
    ended = office.reconcile(node="127.0.0.1:9")
    assert_one_line(ended, 2, "127.0.0.1:9: no answer", "; all was last read at 20")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("reconcile", "--node", "127.0.0.1:1"), "--dir"),
        (("reconcile", "--dir", "."), "--node"),
        (("reconcile", "--dir", "/nowhere", "--node", "127.0.0.1:1"), "no directory"),
        (("reconcile", "--dir", ".", "--node", "127.0.0.1:1", "--hours", "7-16"), "--hours"),
        (("reconcile", "--dir", ".", "--node", "127.0.0.1:1", "--hours", "07:00-07:00"), "--hours"),
        (
            ("reconcile", "--dir", ".", "--node", "127.0.0.1:1", "--hours", "07:00-16:00", "--weekend", "x"),
            "--weekend",
        ),
        (("reconcile", "acknowledge", "--dir", ".", "--why", "so"), "INDEX"),
    ],
)
def test_wrong_usage(sudur: Commands, arguments: tuple[str, ...], part: str) -> None:
    assert_one_line(sudur("agency", *arguments), 64, part)


def test_an_index_beyond_the_log(office: Office) -> None:
    assert_one_line(office.reconcile("--from", "999999"), 64, "--from")
    office.reconciled(0)
    assert_one_line(office.reconcile("--from", "999999"), 64, "--from", "never be read")
    ended = office.sudur("agency", "reconcile", "acknowledge", "5", "--dir", office.path, "--why", "so")
    assert_one_line(ended, 64, "no open alarm")


def test_hours_that_are_said(office: Office) -> None:
    """An office that is open for one minute, on no day: whatever it does is unusual."""
    everyday = "mon,tue,wed,thu,fri,sat,sun"
    said = office.reconciled(0, "--hours", "07:00-07:01", "--weekend", everyday)
    (warning,) = [one for one in said["warnings"] if one["code"] == "UNUSUAL_HOURS"]
    assert warning["facts"]["key"]["label"] == "desk-1"
    ended = office.reconcile("--from", said["from"])
    assert ended.code == 0


def test_a_directory_without_keys_names_its_agency(office: Office, tmp_path: Path) -> None:
    watch = tmp_path / "watch"
    watch.mkdir(mode=0o700)
    trust = office.served.authority / "trust.json"
    wanted = ("agency", "reconcile", "--dir", watch, "--node", office.served.grpc, "--trust", trust)
    assert_one_line(office.sudur(*wanted), 64, "--agency")
    shutil.copy(office.path / "register.db", watch)
    shutil.copy(office.path / "register.key.json", watch)
    ended = office.sudur(*wanted, "--agency", str(office.number))
    assert ended.code == 0, ended


def test_it_waits_for_a_command_at_work(tmp_path: Path) -> None:
    pauses: list[float] = []
    with (
        locked(tmp_path),
        pytest.raises(DirectoryInUse),
        _lock(tmp_path, 0, pauses.append),
    ):
        pass
    held = locked(tmp_path)
    held.__enter__()

    def free(seconds: float) -> None:
        pauses.append(seconds)
        held.__exit__(None, None, None)

    with _lock(tmp_path, 60, free):
        assert len(pauses) == 1


# --- as a service ------------------------------------------------------------------------------


def test_following_tells_at_once(office: Office) -> None:
    thief = office.thief()
    service = start("agency", "reconcile", "--dir", office.path, "--node", office.served.grpc, "--follow",
                    "--quiet")  # fmt: skip
    try:
        assert service.stdout is not None
        first = service.stdout.readline()
        assert first.startswith("All that the log holds"), first
        office.issue()  # at work beside it: the directory is not held
        index = office.issue("desk-2", thief)
        line = next(line for line in service.stdout if "submission at index" in line)
        assert line.startswith(f"  submission at index {index}: ")
    finally:
        service.send_signal(signal.SIGKILL)
        service.communicate()
    assert [one["index"] for one in office.reconciled(1)["alarms"]] == [str(index)]


def test_following_as_lines_of_json(office: Office) -> None:
    service = start("agency", "reconcile", "--dir", office.path, "--node", office.served.grpc, "--follow",
                    "--json")  # fmt: skip
    try:
        assert service.stdout is not None
        assert json.loads(service.stdout.readline())["outcome"] == "agrees"
        index = office.issue("desk-2", office.thief())
        said = next(one for one in map(json.loads, service.stdout) if one["alarms"])
        assert said["alarms"][0]["index"] == str(index)
    finally:
        service.send_signal(signal.SIGKILL)
        service.communicate()


def test_an_authority_has_no_register(sudur: Commands, served: Served) -> None:
    ended = sudur("agency", "reconcile", "--dir", served.authority, "--node", served.grpc)
    assert ended.code == 64
    assert not (served.authority / "register.db").exists()
