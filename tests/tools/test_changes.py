"""Changes of the registry by commands, over real sockets: made once, by whoever may, or refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ledger.changes import AgencyRenamed, KeyStolen, Subject
from ledger.registry_leaf import RegistryLeaf
from tests.tools.helpers import Commands, Done, assert_one_line
from tests.tools.ledger_process import Ledger, running
from tools.cli import run
from tools.client import LedgerClient
from tools.errors import Unavailable
from tools.keyfile import load_public_key
from tools.registry import changing
from tools.registry.changing import Wish, pending_path, prepare
from tools.registry.proposals import Proposal, load_proposal
from tools.registry.seats import open_seat
from tools.ui import Passphrase

TYPE = {"labels": {"en": "Birth record"}, "fields": [{"name": "child", "identity": True}]}


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    root = tmp_path_factory.mktemp("ledger")
    with running(root) as made:
        for words in (
            ("agency", "keygen", "--dir", root / "one"),
            ("authority", "enrol", "--dir", made.authority, "--node", made.grpc, "--name", "en=One",
             "--key", root / "one" / "submit.pub.json"),
        ):  # fmt: skip
            assert run([str(word) for word in words]) == 0
        yield made


@pytest.fixture(scope="module")
def holders(ledger: Ledger) -> list[Path]:
    """A directory for each of the authority's three keys, as split makes them; the whole one stays."""
    copy = ledger.root / "copy"
    shutil.copytree(ledger.authority, copy)
    assert run(["authority", "split", "--dir", str(copy), "--out", str(ledger.root / "holders")]) == 0
    return [ledger.root / "holders" / f"key-{number}" for number in (1, 2, 3)]


class Office:
    """Runs the commands of one directory against the node."""

    def __init__(self, sudur: Commands, ledger: Ledger, directory: Path) -> None:
        self.sudur = sudur
        self.ledger = ledger
        self.path = directory
        self.group: tuple[str, ...] = ("agency", "change")
        if (directory / "genesis.leaf").exists():
            self.group = ("authority",)

    def run(self, command: str, *words: str | Path) -> Done:
        return self.sudur(*self.group, command, *words, "--dir", self.path, "--node", self.ledger.grpc)

    def keys(self, command: str, *words: str | Path) -> Done:
        return self.sudur("agency", "keys", command, *words, "--dir", self.path, "--node", self.ledger.grpc)

    def done(self, command: str, *words: str | Path) -> Any:
        ended = self.run(command, *words, "--json")
        assert ended.code == 0, ended
        return json.loads(ended.out)


@pytest.fixture
def authority(sudur: Commands, ledger: Ledger) -> Office:
    return Office(sudur, ledger, ledger.authority)


def keygen(sudur: Commands, directory: Path, *uses: str) -> list[Path]:
    """Public key files of new keys, one for each use."""
    files = []
    for use in uses:
        ended = sudur("agency", "keygen", "--dir", directory, "--use", use, "--json")
        assert ended.code == 0, ended
        files.append(Path(json.loads(ended.out)["public_key_file"]))
    return files


def key_words(files: Sequence[Path]) -> list[str]:
    return [word for file in files for word in ("--key", str(file))]


def enrol(
    office: Office, directory: Path, *more: str, name: str = "en=Body", uses: Sequence[str] = ("submit",)
) -> int:
    """A new agency whose keys lie in ``directory``, pinned to the ledger; its number."""
    files = keygen(office.sudur, directory, *uses)
    shutil.copy(office.ledger.trust, directory / "trust.json")
    number: int = office.done("enrol", "--name", name, *more, *key_words(files))["agency"]
    return number


def record(ledger: Ledger, subject: str) -> Any:
    with LedgerClient(ledger.grpc) as client:
        return json.loads(client.record(subject).record)


def latest(ledger: Ledger, number: int, what: str) -> Any:
    return record(ledger, f"agency/{number}")[what][-1]["value"]


def leaves(ledger: Ledger) -> int:
    with LedgerClient(ledger.grpc) as client:
        return sum(1 for _ in client.entries(0))


# --- the authority's changes -------------------------------------------------------------------


def test_every_change_of_an_agency(authority: Office, ledger: Ledger, tmp_path: Path) -> None:
    number = enrol(
        authority, tmp_path / "a", "--role", "issue", "--role", "request", "--name", "ckb=دەستە",
        "--two-officers", "issue.original=100", "--daily-cap", "issue.original=5000",
    )  # fmt: skip
    other = enrol(authority, tmp_path / "b")
    me = str(number)
    policy = {"issue.original": {"steps": [[1, 1], [100, 2]], "cap": 5000}}
    assert latest(ledger, number, "policy") == policy
    authority.done("rename", me, "--name", "en=New", "--name", "ar=جديد")
    assert latest(ledger, number, "names") == {"en": "New", "ar": "جديد"}
    authority.done("move", me, "--parent", str(other))
    assert latest(ledger, number, "parent") == other
    authority.done("entitle", me, "--type", "0")
    assert [latest(ledger, number, what) for what in ("roles", "types", "policy")] == [
        ["issue", "request"], [0], policy,
    ]  # fmt: skip
    authority.done("entitle", me, "--no-types", "--no-policy", "--role", "attest")
    assert [latest(ledger, number, what) for what in ("roles", "types", "policy")] == [["attest"], [], {}]
    authority.done("suspend", me)
    assert latest(ledger, number, "suspended") == 0
    authority.done("reinstate", me)
    assert latest(ledger, number, "suspended") is None
    authority.done("successor", me, str(other))
    assert latest(ledger, number, "successor") == other
    (more,) = keygen(authority.sudur, tmp_path / "a", "envelope")
    assert authority.done("add-keys", me, "--key", more) == {"agency": number, "keys": [2]}
    assert authority.run("add-keys", me, "--key", more).out == f"Registered with agency/{me}: key 2\n"
    authority.done("end-key", me, "1")
    assert record(ledger, f"agency/{number}/key/1")["ended"] is not None
    assert record(ledger, f"agency/{number}/key/2")["use"] == "envelope"


def test_the_ledger_itself(authority: Office, ledger: Ledger, tmp_path: Path) -> None:
    ended = authority.sudur("authority", "init", "--dir", tmp_path / "o", "--origin", "test.example/changes")
    assert ended.code == 0
    key = tmp_path / "o" / "log.key.json"
    authority.done("add-log-key", key)
    assert len(record(ledger, "ledger")["log_keys"]) == 2
    authority.done("end-log-key", key, "--last-size", "1000000")
    assert record(ledger, "ledger")["log_keys"][1]["last_size"] == "1000000"
    shown = authority.run("raise-rules", "2", "--block", "1000000", "--dry-run")
    assert "version: 1 → 2" in shown.out
    authority.done("witness-policy", "--none")
    (tmp_path / "policy").write_text("quorum\n")
    assert_one_line(authority.run("witness-policy", tmp_path / "policy"), 1, "policy")
    assert_one_line(authority.run("witness-policy"), 64, "--none")
    assert_one_line(authority.run("add-log-key", ledger.authority / "authority-1.key.json"), 64, "no log key")
    assert_one_line(authority.run("add-log-key", "nonsense"), 64, "neither a key file nor a vkey")


def test_a_dry_run_changes_nothing(authority: Office, ledger: Ledger, tmp_path: Path) -> None:
    number = str(enrol(authority, tmp_path / "a"))
    before = leaves(ledger)
    ended = authority.run("rename", number, "--name", "en=Other", "--dry-run")
    assert ended.code == 0
    assert 'names: en "Body" → en "Other"' in ended.out
    assert '"change":"agency_renamed"' in ended.out
    assert authority.done("suspend", number, "--dry-run")["change"] == "agency_suspended"
    files = keygen(authority.sudur, tmp_path / "new", "submit")
    shown = authority.run("enrol", "--name", "en=New", *key_words(files), "--dry-run")
    assert f"fingerprint {load_public_key(files[0]).fingerprint}\n" in shown.out
    assert leaves(ledger) == before


@pytest.mark.parametrize(
    ("command", "words", "code", "parts"),
    [
        ("rename", ["1", "--name", "en=a\u202eb"], 1, ["names.en", "U+202E"]),
        ("rename", ["1", "--name", "Registry"], 64, ["--name", "LANG=NAME"]),
        ("rename", ["1", "--name", "en=a", "--name", "en=b"], 64, ["twice"]),
        ("rename", ["1", "--name", "English=a"], 1, ["BCP 47"]),
        ("rename", ["4000", "--name", "en=a"], 1, ["agency 4000 is not enrolled"]),
        ("move", ["1", "--parent", "1"], 1, ["cannot come under itself"]),
        ("entitle", ["1", "--role", "dance"], 1, ["roles are of"]),
        ("entitle", ["1", "--type", "999"], 1, ["document type 999 is not defined"]),
        ("entitle", ["1", "--role", "issue", "--no-roles"], 64, ["--no-roles"]),
        ("successor", ["1", "1"], 1, ["cannot succeed itself"]),
        ("end-key", ["1", "99"], 1, ["agency 1 has no key 99 in use"]),
        ("stolen", ["1", "1", "0"], 64, ["--yes"]),
        ("stolen", ["1", "99", "0", "--yes"], 1, ["has no key 99"]),
        ("replace-authority", ["--threshold", "4"], 64, ["4 of 3"]),
        ("replace-authority", ["--threshold", "1", "--keep", "9"], 64, ["no key 9"]),
        ("replace-authority", ["--threshold", "1", "--keep", "1", "--drop", "2"], 64, ["not both"]),
        ("raise-rules", ["1", "--block", "1000000"], 1, ["do not come after rules 1"]),
        ("end-log-key", ["LOG", "--last-size", "1000000000"], 1, ["the last Ed25519 log key"]),
    ],
)
def test_refusals_are_one_line(
    authority: Office, command: str, words: list[str], code: int, parts: list[str]
) -> None:
    if command == "end-log-key":
        words[0] = str(authority.path / "log.key.json")
    ended = authority.run(command, *words)
    assert ended.code == code, ended
    said = ended.err.splitlines()[-1]
    assert said.startswith("sudur: ")
    for part in parts:
        assert part in said
    assert not pending_path(authority.path).exists()


def test_a_cycle_of_parents_is_refused(authority: Office, tmp_path: Path) -> None:
    above = enrol(authority, tmp_path / "a")
    below = enrol(authority, tmp_path / "b", "--parent", str(above))
    lowest = enrol(authority, tmp_path / "c", "--parent", str(below))
    assert_one_line(authority.run("move", str(above), "--parent", str(lowest)), 1, "cannot come under itself")


# --- once, whatever happens --------------------------------------------------------------------


class _PowerCutError(BaseException):
    """Ends a command where nothing of it runs any more."""


def _cut(*_: object, **__: object) -> None:
    raise _PowerCutError


@pytest.mark.parametrize(
    "cut", ["answer lost", "killed when sent", "killed when done", "killed before sending"]
)
@pytest.mark.parametrize("command", ["define-type", "enrol", "rename", "add-keys"])
def test_a_command_given_again_is_not_done_twice(
    authority: Office, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, cut: str
) -> None:
    number = str(enrol(authority, tmp_path / "a"))
    (tmp_path / "type.json").write_text(json.dumps({**TYPE, "labels": {"en": f"Type of {cut}"}}))
    files = key_words(keygen(authority.sudur, tmp_path / "new", "submit", "registry"))
    words = {
        "define-type": [str(tmp_path / "type.json")],
        "enrol": ["--name", "en=Enrolled once", *files],
        "rename": [number, "--name", "en=Renamed once"],
        "add-keys": [number, *files],
    }[command]
    before = leaves(ledger)
    send = LedgerClient.change_registry

    def lost(client: LedgerClient, genesis: bytes, leaf: bytes) -> int:
        send(client, genesis, leaf)
        raise Unavailable("the answer was lost")

    with monkeypatch.context() as patch:
        if cut == "answer lost":
            patch.setattr(LedgerClient, "change_registry", lost)
            assert authority.run(command, *words).code == 2
        else:
            if cut == "killed before sending":
                patch.setattr(LedgerClient, "change_registry", _cut)
            elif cut == "killed when sent":
                patch.setattr(changing, "remove_file", _cut)
            else:
                patch.setattr("tools.registry.change_commands._tell", _cut)
            with pytest.raises(_PowerCutError):
                authority.run(command, *words)
    assert pending_path(authority.path).exists() is (cut != "killed when done")
    first = authority.run(command, *words, "--json")
    again = authority.run(command, *words, "--json")
    assert (first.code, first.out) == (again.code, again.out)
    changes = 2 if command == "enrol" else 1
    assert leaves(ledger) == before + 2 * changes  # each with its seal
    assert not pending_path(authority.path).exists()


def test_somebody_elses_change_came_first(
    authority: Office, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "type.json").write_text(json.dumps({**TYPE, "labels": {"en": "Mine"}}))
    (tmp_path / "other.json").write_text(json.dumps({**TYPE, "labels": {"en": "Theirs"}}))
    with monkeypatch.context() as patch:
        patch.setattr(LedgerClient, "change_registry", _cut)
        with pytest.raises(_PowerCutError):
            authority.run("define-type", tmp_path / "type.json")
    pending = pending_path(authority.path)
    kept = pending.read_bytes()
    pending.unlink()
    theirs = authority.done("define-type", tmp_path / "other.json")["type"]
    pending.write_bytes(kept)
    shown = authority.run("define-type", tmp_path / "type.json", "--dry-run")
    assert "A change is on its way" in shown.err
    assert pending.exists()
    ended = authority.run("define-type", tmp_path / "type.json", "--json")
    assert json.loads(ended.out) == {"type": theirs + 1}
    assert "was refused, and is not made" in ended.err
    assert record(ledger, f"type/{theirs + 1}")["labels"] == {"en": "Mine"}


def test_a_damaged_pending_change_is_named(authority: Office) -> None:
    pending_path(authority.path).write_bytes(b"{}\n")
    try:
        ended = authority.run("suspend", "1")
        assert_one_line(ended, 1, "change.pending.json", "no undamaged proposal")
    finally:
        pending_path(authority.path).unlink()


def test_a_registered_key_is_found_however_old_its_agency(
    authority: Office, ledger: Ledger, tmp_path: Path
) -> None:
    enrol(authority, tmp_path / "old")
    cache = authority.path / "registered.json"
    for spoilt in (None, b"{}", b""):
        if spoilt is not None:
            cache.write_bytes(spoilt)
        ended = authority.run("enrol", "--name", "en=Twice", "--key", tmp_path / "old" / "submit.pub.json")
        assert_one_line(ended, 64, "registered already, with agency")
    calls = 0
    ask = LedgerClient.record

    def counted(client: LedgerClient, subject: str) -> Any:
        nonlocal calls
        calls += "/key/" in subject
        return ask(client, subject)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LedgerClient, "record", counted)
        authority.run("enrol", "--name", "en=Twice", "--key", tmp_path / "old" / "submit.pub.json")
    assert calls == 0  # known from before, by the roots of the key trees


# --- keys in different places ------------------------------------------------------------------


@pytest.fixture
def proposed(authority: Office, ledger: Ledger, holders: list[Path], tmp_path: Path) -> Path:
    """A proposal to rename a new agency, signed by the first holder."""
    number = enrol(authority, tmp_path / "agency")
    path = tmp_path / "rename.proposal"
    first = Office(authority.sudur, ledger, holders[0])
    ended = first.run("rename", str(number), "--name", "en=Renamed", "--propose", path)
    assert ended.code == 0, ended
    assert "1 did: 1 missing, of keys 2, 3" in ended.out
    return path


def test_a_proposal_goes_from_hand_to_hand(
    authority: Office, ledger: Ledger, holders: list[Path], proposed: Path
) -> None:
    sudur = authority.sudur
    assert_one_line(
        sudur("authority", "send", proposed, "--node", ledger.grpc), 1, "2 keys", "1 missing, of keys 2, 3"
    )
    ended = sudur("authority", "sign", proposed, "--dir", holders[2], "--node", ledger.grpc)
    assert 'names: en "Body" → en "Renamed"' in ended.out
    assert "Signed by keys: 1, 3" in ended.out
    first = sudur("authority", "send", proposed, "--node", ledger.grpc, "--json")
    again = sudur("authority", "send", proposed, "--node", ledger.grpc, "--json")
    assert (first.code, first.out) == (again.code, again.out)
    subject = json.loads(first.out)["subject"]
    assert record(ledger, subject)["names"][-1]["value"] == {"en": "Renamed"}
    shown = sudur("authority", "show", proposed, "--json")
    assert json.loads(shown.out)["signed"] == [1, 3]


def test_copies_signed_apart_are_merged(
    authority: Office, ledger: Ledger, holders: list[Path], proposed: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.proposal"
    whole = load_proposal(proposed)
    copy.write_bytes(Proposal(whole.genesis, whole.by, whole.needed, whole.keys, whole.json).encode())
    assert authority.sudur("authority", "sign", copy, "--dir", holders[1]).code == 0
    assert authority.sudur("authority", "merge", proposed, copy).code == 0
    assert authority.sudur("authority", "send", proposed, "--node", ledger.grpc).code == 0


def test_what_is_wrong_with_a_proposal(
    authority: Office, ledger: Ledger, holders: list[Path], proposed: Path, tmp_path: Path
) -> None:
    sudur = authority.sudur

    def sign(directory: Path) -> Done:
        ended = sudur("authority", "sign", proposed, "--dir", directory)
        return Done(ended.code, ended.out, ended.err.replace(
            "No node was asked: what the registry says now is not shown\n", ""))  # fmt: skip

    assert_one_line(sign(holders[0]), 1, "key 1 has signed this proposal already")
    assert (
        sudur("authority", "init", "--dir", tmp_path / "else", "--origin", "test.example/changes").code == 0
    )
    assert_one_line(sign(tmp_path / "else"), 1, "the proposal is for ledger")
    assert_one_line(sign(tmp_path / "agency"), 64, "no key in", "may sign this")
    other = tmp_path / "other.proposal"
    third = Office(sudur, ledger, holders[2])
    assert third.run("suspend", "1", "--propose", other).code == 0
    assert_one_line(sudur("authority", "merge", proposed, other), 1, "do not propose the same")
    assert_one_line(sudur("authority", "merge", proposed), 64, "nothing to be merged")
    assert_one_line(third.run("suspend", "1", "--propose", other), 1, "exists already")
    assert_one_line(third.run("suspend", "1"), 1, "1 missing", "--propose FILE")
    assert sign(holders[1]).code == 0
    assert_one_line(sign(holders[2]), 1, "enough keys have signed")
    data = proposed.read_bytes()
    proposed.write_bytes(data.replace(b"Renamed", b"Renamex"))
    assert_one_line(sudur("authority", "show", proposed), 1, "no undamaged proposal", "altered")


def test_a_proposal_that_was_overtaken_names_the_newer_change(
    authority: Office, ledger: Ledger, holders: list[Path], proposed: Path
) -> None:
    number = load_proposal(proposed).change().subject.number
    authority.done("suspend", str(number))
    ended = authority.sudur("authority", "sign", proposed, "--dir", holders[1], "--node", ledger.grpc)
    assert ended.code == 1
    assert f"agency/{number} was changed since: agency_suspended at index" in ended.err
    assert authority.sudur("authority", "sign", proposed, "--dir", holders[1]).code == 0
    ended = authority.sudur("authority", "send", proposed, "--node", ledger.grpc)
    assert_one_line(ended, 1, "was changed since: agency_suspended at index")


def test_an_enrolment_by_proposals(
    authority: Office, ledger: Ledger, holders: list[Path], tmp_path: Path
) -> None:
    sudur, path = authority.sudur, tmp_path / "enrol.proposal"
    files = keygen(sudur, tmp_path / "new", "submit", "envelope")
    first = Office(sudur, ledger, holders[0])
    assert first.run("enrol", "--name", "en=By proposal", *key_words(files), "--propose", path).code == 0
    shown = sudur("authority", "sign", path, "--dir", holders[1])
    assert "then key 2 for envelope" in shown.out
    sent = json.loads(sudur("authority", "send", path, "--node", ledger.grpc, "--json").out)
    assert sent["then"] == str(tmp_path / "enrol-keys.proposal")
    for holder in holders[1:]:
        assert sudur("authority", "sign", sent["then"], "--dir", holder).code == 0
    assert json.loads(sudur("authority", "send", path, "--node", ledger.grpc, "--json").out) == sent
    assert sudur("authority", "send", sent["then"], "--node", ledger.grpc).code == 0
    assert record(ledger, sent["subject"])["keys"]["count"] == 2
    assert json.loads(sudur("authority", "send", path, "--node", ledger.grpc, "--json").out)["then"] is None


def test_a_signed_change_cannot_be_replayed(
    authority: Office, ledger: Ledger, proposed: Path, holders: list[Path]
) -> None:
    assert authority.sudur("authority", "sign", proposed, "--dir", holders[1]).code == 0
    assert authority.sudur("authority", "send", proposed, "--node", ledger.grpc).code == 0
    proposal = load_proposal(proposed)
    number = proposal.change().subject.number
    authority.done("rename", str(number), "--name", "en=Renamed anew")
    before = leaves(ledger)
    assert authority.sudur("authority", "send", proposed, "--node", ledger.grpc).code == 0  # made long ago
    assert leaves(ledger) == before
    assert latest(ledger, number, "names") == {"en": "Renamed anew"}


# --- agencies ----------------------------------------------------------------------------------


@pytest.fixture
def ministry(authority: Office, ledger: Ledger, tmp_path: Path) -> Office:
    """An agency with a registry key and the role to enrol."""
    enrol(authority, tmp_path / "ministry", "--role", "issue", "--role", "enrol", "--type", "0",
          uses=("submit", "registry"), name="en=Ministry")  # fmt: skip
    return Office(authority.sudur, ledger, tmp_path / "ministry")


def test_a_ministry_manages_its_departments(ministry: Office, ledger: Ledger, tmp_path: Path) -> None:
    number = enrol(ministry, tmp_path / "d", "--type", "0", name="en=Department")
    other = enrol(ministry, tmp_path / "e", name="en=Other")
    me = str(number)
    ministry.done("rename", me, "--name", "en=Section")
    ministry.done("entitle", me, "--no-types", "--two-officers", "status")
    ministry.done("suspend", me)
    above = latest(ledger, number, "suspended")
    assert above == latest(ledger, number, "parent") != 0
    ministry.done("reinstate", me)
    ministry.done("successor", me, str(other))
    (more,) = keygen(ministry.sudur, tmp_path / "d", "envelope")
    ministry.done("add-keys", me, "--key", more)
    ministry.done("end-key", me, "1")
    assert latest(ledger, number, "names") == {"en": "Section"}
    assert record(ledger, f"agency/{number}/key/1")["ended"] is not None


def test_what_a_ministry_may_not(authority: Office, ministry: Office, ledger: Ledger, tmp_path: Path) -> None:
    child = enrol(ministry, tmp_path / "d")
    files = key_words(keygen(ministry.sudur, tmp_path / "x", "submit"))
    beyond = ministry.run("enrol", "--name", "en=x", "--role", "attest", *files)
    assert_one_line(beyond, 1, "cannot give what it does not have: attest")
    assert_one_line(ministry.run("rename", "1", "--name", "en=Not mine"), 1, "may not make the change")
    seat = open_seat(ministry.path)
    with LedgerClient(ledger.grpc) as client:
        by = int(json.loads((ministry.path / "agency.json").read_text())["agency"])
        wish = Wish(Subject("agency", child), KeyStolen(1, 0))
        theft = seat.sign(prepare(client, seat.ledger.genesis, by, wish), Passphrase(None))
    (tmp_path / "theft").write_bytes(theft.encode())
    sent = ministry.sudur("agency", "change", "send", tmp_path / "theft", "--node", ledger.grpc)
    assert_one_line(sent, 1, "may not make the change key_stolen")
    authority.done("suspend", str(by))
    assert_one_line(ministry.run("rename", str(child), "--name", "en=x"), 1, f"agency {by} is suspended")


def test_an_agency_of_two_registry_keys(authority: Office, ledger: Ledger, tmp_path: Path) -> None:
    sudur, one, two = authority.sudur, tmp_path / "one", tmp_path / "two"
    number = enrol(authority, one, "--two-officers", "registry", uses=("submit", "registry", "registry"))
    two.mkdir(mode=0o700)
    shutil.copy(one / "trust.json", two)
    for path in one.glob("registry-2.*"):
        path.rename(two / path.name)
    office, path = Office(sudur, ledger, one), tmp_path / "end.proposal"
    assert_one_line(office.keys("end", "1"), 1, "2 keys of agency", "--propose FILE")
    assert office.keys("end", "1", "--propose", path).code == 0
    assert sudur("agency", "change", "sign", path, "--dir", two).code == 0
    assert sudur("agency", "change", "send", path, "--node", ledger.grpc).code == 0
    assert record(ledger, f"agency/{number}/key/1")["ended"] is not None


def test_an_agency_finds_itself_and_lists_its_keys(ministry: Office, ledger: Ledger) -> None:
    (ministry.path / "trust.json").unlink()
    assert_one_line(ministry.keys("list"), 64, "pinned to no ledger", "--trust")
    assert_one_line(ministry.keys("list", "--trust", ledger.authority / "log.key.json"), 1, "trust")
    ended = ministry.keys("list", "--trust", ledger.trust, "--json")
    assert [(one["use"], one["here"]) for one in json.loads(ended.out)] == [
        ("submit", True),
        ("registry", True),
    ]
    (more,) = keygen(ministry.sudur, ministry.path, "submit")
    assert ministry.keys("add", "--key", more).code == 0
    assert "key 3  submit" in ministry.keys("list").out


@pytest.mark.parametrize("cut", ["", "key", "add", "remember", "end", "file"])
def test_a_rotation_goes_on_where_it_was_cut_off(
    ministry: Office, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    number = int(json.loads(ministry.keys("list", "--json").out)[0]["number"])
    assert number == 1
    with ExitStack() as stack, monkeypatch.context() as patch:
        if cut:
            stack.enter_context(pytest.raises(_PowerCutError))
        send, sent = LedgerClient.change_registry, 0

        def counted(client: LedgerClient, genesis: bytes, leaf: bytes) -> int:
            nonlocal sent
            index = send(client, genesis, leaf)
            sent += 1
            if (cut, sent) in (("add", 1), ("end", 2)):
                raise _PowerCutError
            return index

        patch.setattr(LedgerClient, "change_registry", counted)
        if cut == "key":
            patch.setattr("tools.registry.key_commands.make_key", _cut)
        elif cut == "remember":
            patch.setattr("tools.registry.key_commands._remember", _cut)
        elif cut == "file":
            patch.setattr("tools.registry.key_commands.remove_file", _cut)
        assert ministry.keys("rotate", "2", "--label", "new-key").code == 0
    if cut:
        assert_one_line(ministry.keys("rotate", "1"), 64, "key 2 is being rotated, to new-key")
        assert ministry.keys("rotate", "2").code == 0
    assert not (ministry.path / "rotation.json").exists()
    keys = json.loads(ministry.keys("list", "--json").out)
    assert [(one["use"], one["label"], one["ended"] is None) for one in keys] == [
        ("submit", "submit", True),
        ("registry", "registry", False),
        ("registry", "new-key", True),
    ]
    assert_one_line(ministry.keys("rotate", "2"), 64, "key 2 ended")
    assert_one_line(ministry.keys("rotate", "9"), 64, "no key 9")


def test_a_rotation_by_proposals(authority: Office, ledger: Ledger, tmp_path: Path) -> None:
    enrol(authority, tmp_path / "a", "--two-officers", "registry", uses=("submit", "registry", "registry"))
    office = Office(authority.sudur, ledger, tmp_path / "a")
    for name in ("add", "end"):
        path = tmp_path / f"{name}.proposal"
        assert office.keys("rotate", "1", "--propose", path).code == 0
        assert office.sudur("agency", "change", "send", path, "--node", ledger.grpc).code == 0
    assert office.keys("rotate", "1").code == 0
    keys = json.loads(office.keys("list", "--json").out)
    assert [one["ended"] is None for one in keys] == [False, True, True, True]


# --- theft and succession ----------------------------------------------------------------------


def test_a_theft_is_counted_from_the_log(authority: Office, ledger: Ledger, tmp_path: Path) -> None:
    number = enrol(authority, tmp_path / "a", "--type", "0", uses=("submit", "registry"))
    (tmp_path / "x.txt").write_text("x")
    issue = ("agency", "issue", tmp_path / "x.txt", "--dir", tmp_path / "a", "--node", ledger.grpc, "--json")
    first = json.loads(authority.sudur(*issue).out)["issued"][0]["index"]
    json.loads(authority.sudur(*issue).out)
    office = Office(authority.sudur, ledger, tmp_path / "a")
    (more,) = keygen(authority.sudur, tmp_path / "b", "submit")
    assert office.keys("add", "--key", more).code == 0
    shown = authority.run("stolen", str(number), "1", str(first - 1), "--dry-run")
    assert (
        f"Key 1 of agency {number} signed 2 submissions since index {first - 1}, 2 of them alone" in shown.err
    )
    shown = authority.run("stolen", str(number), "1", str(first), "--dry-run")
    assert "signed 1 submissions" in shown.err
    shown = authority.run("stolen", str(number), "2", "0", "--yes")
    assert shown.code == 0
    assert "1 registry changes" in shown.err
    assert record(ledger, f"agency/{number}/key/3")["stolen"] is not None  # added by the thief
    assert_one_line(authority.run("stolen", str(number), "3", str(2**40), "--yes"), 1, "beyond the tree")


def test_succession_of_the_authority(sudur: Commands, tmp_path: Path) -> None:
    with running(tmp_path, keys=2, threshold=1) as ledger:
        new = tmp_path / "new"
        made = sudur("authority", "keygen", "--dir", new, "--number", "3", "--genesis",
                     ledger.authority / "genesis.leaf", "--json")  # fmt: skip
        public = json.loads(made.out)["public_key_file"]
        again = sudur("authority", "keygen", "--dir", new, "--number", "3", "--genesis",
                      ledger.authority / "genesis.leaf")  # fmt: skip
        assert_one_line(again, 1, "exists already")
        Path(public).unlink()  # as a crash between the two files leaves it
        assert sudur("authority", "keygen", "--dir", new, "--number", "3", "--genesis",
                     ledger.authority / "genesis.leaf").code == 0  # fmt: skip
        authority, holder = Office(sudur, ledger, ledger.authority), Office(sudur, ledger, new)
        words = ("--threshold", "2", "--drop", "1", "--add", public)
        assert_one_line(authority.run("replace-authority", *words), 1, "new authority must sign: key 3")
        path = tmp_path / "p"
        assert authority.run("replace-authority", *words, "--propose", path).code == 0
        assert sudur("authority", "sign", path, "--dir", new, "--node", ledger.grpc).code == 0
        assert sudur("authority", "send", path, "--node", ledger.grpc).code == 0
        assert [one["ended"] is None for one in record(ledger, "ledger")["authority_keys"]] == [
            False,
            True,
            True,
        ]
        assert holder.run("witness-policy", "--none", "--json").code == 0  # it is so already
        (tmp_path / "type.json").write_text(json.dumps(TYPE))
        path = tmp_path / "q"
        assert holder.run("define-type", tmp_path / "type.json", "--propose", path).code == 0
        assert sudur("authority", "sign", path, "--dir", ledger.authority).code == 0
        assert sudur("authority", "send", path, "--node", ledger.grpc).code == 0
        wrong = sudur("authority", "replace-authority", "--dir", ledger.authority, "--node", ledger.grpc,
                      "--threshold", "1", "--add", tmp_path / "type.json")  # fmt: skip
        assert_one_line(wrong, 1, "type.json")


def test_split_goes_on_and_takes_no_key_from_a_change_on_its_way(sudur: Commands, tmp_path: Path) -> None:
    made = sudur("authority", "init", "--dir", tmp_path / "a", "--origin", "x", "--keys", "2")
    assert made.code == 0
    split = ("authority", "split", "--dir", tmp_path / "a", "--out", tmp_path / "out")
    pending_path(tmp_path / "a").write_bytes(b"x")
    assert_one_line(sudur(*split), 64, "on its way")
    pending_path(tmp_path / "a").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tools.registry.authority_directory.remove_file", _cut)
        with pytest.raises(_PowerCutError):
            sudur(*split)
    assert sudur(*split).code == 0
    assert not list((tmp_path / "a").glob("authority-*.key.json"))
    for number in (1, 2):
        seat = open_seat(tmp_path / "out" / f"key-{number}")
        assert len(seat.key_files) == 1
    assert_one_line(sudur(*split), 64, "no authority key")


def test_a_leaf_that_was_sent_is_the_proposals(authority: Office, ledger: Ledger, proposed: Path) -> None:
    proposal = load_proposal(proposed)
    made = proposal.change()
    assert isinstance(made.body, AgencyRenamed)
    with LedgerClient(ledger.grpc) as client:
        leaf = next(client.entries(made.previous, made.previous + 1))
    assert RegistryLeaf.decode(leaf).change().subject == made.subject
