"""The command line: usage errors, help, and that every failure is one line and no traceback."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from ledger.errors import FormatError, SudurError
from ledger.trust import parse_trust
from tests.tools.helpers import Commands, assert_one_line, finish, start
from tools import cli
from tools.client import LedgerClient
from tools.errors import AnswerWrong, Stopping, Unavailable, Usage, exit_code
from tools.files import locked
from tools.keyfile import KeyFile, make_key, save_key
from tools.registry.authority_directory import AuthorityDirectory

GROUPS = [
    ["authority"],
    ["agency"],
    ["agency", "change"],
    ["agency", "keys"],
    ["agency", "register"],
    ["pack"],
    ["trust"],
    ["journal"],
    ["registry"],
    ["node"],
    ["log"],
    ["tls"],
]
COMMANDS = [
    [],
    ["authority"],
    ["authority", "init"],
    ["authority", "enrol"],
    ["authority", "define-type"],
    *(["authority", one] for one in ("split", "keygen", "rename", "move", "entitle", "suspend", "reinstate")),
    *(["authority", one] for one in ("successor", "add-keys", "end-key", "stolen", "replace-authority")),
    *(["authority", one] for one in ("add-log-key", "end-log-key", "witness-policy", "raise-rules")),
    ["authority", "close-ledger"],
    *(["authority", one] for one in ("show", "sign", "merge", "send")),
    ["agency"],
    ["agency", "keygen"],
    ["agency", "issue"],
    ["agency", "receipt"],
    ["agency", "sign"],
    ["agency", "send"],
    ["agency", "revoke"],
    ["agency", "suspend"],
    ["agency", "reinstate"],
    ["agency", "supersede"],
    ["agency", "affirm"],
    ["agency", "attest"],
    ["agency", "code"],
    ["pack"],
    ["trust"],
    *(["trust", one] for one in ("show", "check", "renew", "bundle", "own-policy")),
    ["journal"],
    *(["journal", one] for one in ("init", "show", "verify", "recheck")),
    *(["pack", one] for one in ("create", "update", "verify", "show", "queue")),
    ["lookup"],
    ["figures"],
    ["agency", "register"],
    *(
        ["agency", "register", name]
        for name in ("import", "search", "show", "export", "journal", "works", "drop", "backup", "restore")
    ),
    ["agency", "change"],
    ["agency", "change", "enrol"],
    ["agency", "keys"],
    *(["agency", "keys", one] for one in ("list", "add", "end", "rotate")),
    ["registry"],
    *(["registry", one] for one in ("list", "show", "tree", "history")),
    ["node"],
    ["node", "start"],
    ["node", "fsck"],
    ["node", "receipt-key"],
    ["verify"],
    ["export"],
    ["verify-proof"],
    ["verify-evidence"],
    ["audit", "compare"],
    ["lookup"],
    ["figures"],
    ["log"],
    ["log", "head"],
    ["log", "entry"],
    ["log", "prove"],
    ["tls"],
    *(["tls", one] for one in ("init", "add", "renew", "show")),
    ["demo"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_reads_well(sudur: Commands, command: list[str]) -> None:
    done = sudur(*command, "--help")
    assert (done.code, done.err) == (0, "")
    assert " ".join(["Usage: sudur", *command]) in done.out
    if command and command not in GROUPS:
        assert "Example: sudur" in done.out


@pytest.mark.parametrize("command", [[], *GROUPS], ids=" ".join)
def test_without_a_command_the_help_is_shown(sudur: Commands, command: list[str]) -> None:
    done = sudur(*command)
    assert done.code == 64
    assert "Usage: sudur" in done.out
    assert done.err == ""


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("bogus", ["No such command 'bogus'"]),
        ("--bogus", ["--bogus"]),
        ("verify", ["RECEIPT"]),
        ("verify x.json --trust FILE", ["x.json", "no code"]),
        ("verify FILE", ["--trust"]),
        ("verify FILE --trust absent.json", ["absent.json", "does not exist"]),
        ("verify FILE absent.pdf --trust FILE", ["absent.pdf"]),
        ("verify 12345678901234567890 --trust FILE", ["--url", "--pack"]),
        ("verify FILE --trust FILE --url http://localhost --pack FILE", ["--pack"]),
        ("verify FILE --trust FILE --queue x.json", ["--queue", "--pack"]),
        ("pack create nowhere --trust FILE --out x.pack", ["URL"]),
        ("pack create http://localhost --trust FILE --out x --form leaves --delta-from FILE", ["--form"]),
        ("pack queue x.json --url http://localhost", ["--trust"]),
        ("verify FILE --trust FILE --max-age -1", ["--max-age"]),
        ("verify FILE --trust FILE --max-age soon", ["--max-age"]),
        ("authority init --dir D", ["--origin"]),
        ("authority init --dir D --origin o --keys 0", ["--keys"]),
        ("authority init --dir D --origin o --keys 17", ["--keys"]),
        ("authority init --dir D --origin o --keys 2 --threshold 3", ["--threshold", "3 of 2"]),
        ("authority init --dir HERE --origin o", ["not empty"]),
        ("authority enrol --dir D --node n --key FILE", ["--name"]),
        ("authority enrol --dir D --node n --key FILE --name en=x", ["no authority's directory"]),
        ("authority define-type absent.json --dir D --node n", ["absent.json"]),
        ("agency keygen", ["--dir"]),
        ("agency keygen --dir D --use dance", ["--use", "dance"]),
        ("agency issue --node n --dir D", ["FILE"]),
        ("agency issue --node n --dir D absent.pdf", ["absent.pdf"]),
        ("agency issue --node n --dir D FILE", ["is no directory", "sudur agency keygen"]),
        ("agency issue --node n --dir HERE FILE", ["no submit key"]),
        ("agency issue --node n --dir HERE FILE --type 65536", ["--type"]),
        ("agency issue --node n --dir HERE FILE --basis rumour", ["--basis"]),
        ("agency issue --dir HERE FILE", ["--node"]),
        ("node start --data D", ["--log-key"]),
        ("node start --data D --log-key absent", ["absent"]),
        ("node fsck --data D", ["is no directory"]),
        ("log head", ["--node or --url"]),
        ("log head --node n --url http://n", ["--node or --url"]),
        ("log head --url ftp://n", ["ftp://n"]),
        ("log entry", ["N"]),
        ("log entry x --node n", ["'N'"]),
        ("log prove --node n -- -1", ["'N'", "greater than or equal to 0"]),
        ("log entry -1 --node n", ["'N'", "greater than or equal to 0"]),
        ("log prove -1 --node n", ["'N'", "greater than or equal to 0"]),
        ("log head --node bad", ["--node", "'bad' is no address", "HOST:PORT"]),
        ("log head --node h:0", ["--node", "HOST:PORT"]),
        ("log head --node h:65536", ["--node", "HOST:PORT"]),
        ("log head --node ::1:7070", ["--node", "HOST:PORT"]),
        ("log head --node http://h:7070", ["--node", "HOST:PORT"]),
        ("verify FILE --trust FILE --type 70000", ["--type"]),
        ("agency keygen --dir D --label ../x", ["--label", "letters"]),
        ("agency issue --node n --dir HERE FILE --field type=1", ["--field", "--type T"]),
        ("authority init --dir D --origin a+b", ["--origin"]),
        ("node start --data FILE --log-key LOG", ["--data", "is a file"]),
        ("node start --data D --log-key LOG --mark EMPTY", ["--mark", "is a directory"]),
        ("node start --data D --log-key LOG --grpc bad", ["'bad'", "HOST:PORT"]),
        ("node start --data D --log-key LOG --http h:99999", ["HOST:PORT"]),
        ("node start --data D --log-key LOG --public-url ftp://h", ["ftp://h", "https://host/path"]),
        ("node fsck --data FILE", ["--data", "is a file"]),
        ("demo --data FILE", ["--data", "is a file"]),
        ("demo --documents absent", ["absent"]),
        ("demo --data D --documents EMPTY", ["no files"]),
    ],
)
def test_wrong_usage_is_64_and_one_line(
    sudur: Commands, tmp_path: Path, line: str, parts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("{}")
    (tmp_path / "EMPTY").mkdir()
    save_key(tmp_path / "LOG", make_key("log", "log"), None)
    words = [str(tmp_path) if word == "HERE" else word for word in line.split()]
    assert_one_line(sudur(*words), 64, *parts)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] != ".") == ["EMPTY", "FILE", "LOG"]


@pytest.mark.parametrize("line", ["FILE", "a.txt --out FILE"])
def test_a_name_that_is_not_utf8_is_named(
    sudur: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"bad\xff.txt")
    for one in (name, "a.txt"):
        (tmp_path / one).touch()
    assert sudur("agency", "keygen", "--dir", "g").code == 0
    words = [name if word == "FILE" else word for word in line.split()]
    done = sudur("agency", "issue", "--node", "n", "--dir", "g", *words)
    assert_one_line(done, 64, "bad\\udcff.txt: the name is not UTF-8")


@pytest.mark.parametrize("content", [b"", b"{}", b"{}\n", b'{"format":"sudur-receipt/v1"', b"\xff\n"])
def test_what_is_no_receipt_is_not_called_altered(sudur: Commands, tmp_path: Path, content: bytes) -> None:
    made = init(sudur, tmp_path / "a")
    (tmp_path / "r.json").write_bytes(content)
    done = sudur("verify", tmp_path / "r.json", "--trust", made.trust_path)
    assert done.code == 2
    assert done.out.startswith("CANNOT TELL\n")
    assert "not a receipt" in done.out


@pytest.mark.parametrize("files", [["/dev/null"], ["/dev/zero"], ["PIPE"], ["r.json", "/dev/zero"]])
def test_what_is_no_file_is_not_waited_for(
    sudur: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str]
) -> None:
    made = init(sudur, tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    os.mkfifo("PIPE")
    (tmp_path / "r.json").touch()
    done = sudur("verify", *files, "--trust", made.trust_path)
    assert (done.code, done.out[:11]) == (2, "CANNOT TELL")


def test_the_version(sudur: Commands) -> None:
    assert sudur("--version").out.startswith("sudur 0.")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Usage("x"), 64),
        (Unavailable("x"), 2),
        (Stopping("x"), 2),
        (AnswerWrong("x"), 1),
        (FormatError("x"), 1),
        (SudurError("x"), 1),
    ],
)
def test_exit_codes(error: SudurError, code: int) -> None:
    assert exit_code(error) == code


@pytest.mark.parametrize(
    ("error", "code", "part"),
    [
        (FormatError("two\nlines\x1b[31m", where="here"), 1, "here: two lines\\u001b[31m"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (PermissionError(13, "Permission denied", "/x"), 2, "/x: Permission denied"),
        (MemoryError(), 2, "memory"),
        (TypeError("a bug"), 2, "please report it: TypeError('a bug')"),
    ],
)
def test_whatever_happens_is_one_line(
    sudur: Commands, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, part: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cli, "_command", fail)
    assert_one_line(sudur("verify"), code, part)


def test_nobody_answers(sudur: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.log.connect", lambda *_: LedgerClient("127.0.0.1:1", patience_s=0))
    assert_one_line(sudur("log", "head", "--node", "127.0.0.1:1"), 2, "127.0.0.1:1")
    assert_one_line(sudur("log", "head", "--url", "http://127.0.0.1:1"), 2, "http://127.0.0.1:1")


# --- the authority's directory -----------------------------------------------------------------


def init(sudur: Commands, directory: Path, *more: str) -> AuthorityDirectory:
    done = sudur("authority", "init", "--dir", directory, "--origin", "test.example/a", *more)
    assert done.code == 0, done
    return AuthorityDirectory.open(directory)


def test_a_new_authority(sudur: Commands, tmp_path: Path) -> None:
    made = init(sudur, tmp_path / "a", "--keys", "3", "--threshold", "2", "--training")
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o700
    for path in made.path.glob("*.key.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (ledger,) = parse_trust(made.trust_path.read_bytes()).ledgers
    assert ledger == made.ledger()
    assert (ledger.origin, ledger.training) == ("test.example/a", True)
    assert [number for number, _ in made.key_files()] == [1, 2, 3]
    assert KeyFile(made.log_key_path).public.use == "log"
    assert_one_line(sudur("authority", "init", "--dir", made.path, "--origin", "x"), 64, "not empty")


def test_two_authorities_are_two_ledgers(sudur: Commands, tmp_path: Path) -> None:
    one, two = init(sudur, tmp_path / "a"), init(sudur, tmp_path / "b")
    assert one.ledger().genesis != two.ledger().genesis


@pytest.mark.parametrize("origin", ["", "has space", "a+b", "x" * 256, "new\nline"])
def test_an_origin_that_cannot_be_leaves_nothing(sudur: Commands, tmp_path: Path, origin: str) -> None:
    done = sudur("authority", "init", "--dir", tmp_path / "a", "--origin", origin)
    assert_one_line(done, 64, "--origin")
    assert os.listdir(tmp_path) == []


def test_keys_are_encrypted_and_the_logs_is_not(
    sudur: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDUR_PASSPHRASE", "open sesame")
    done = sudur("authority", "init", "--dir", tmp_path / "a", "--origin", "o", "--json")
    assert json.loads(done.out)["origin"] == "o"
    assert "open sesame" not in done.out + done.err
    made = AuthorityDirectory.open(tmp_path / "a")
    assert KeyFile(made.key_path(1)).is_encrypted
    assert not KeyFile(made.log_key_path).is_encrypted


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "is not JSON"),
        ("[]", "is expected"),
        ('{"labels": {"en": "x"}, "fields": [1]}', "each field is an object"),
        ('{"labels": {"en": "x"}, "fields": [{}]}', "fields[0]"),
        ('{"labels": {"en": "\\ud800"}, "fields": []}', "JSON"),
        ('{"labels": {"en": "x"}, "fields": [], "colour": 1}', "colour"),
        ('{"labels": {}, "fields": []}', "labels"),
        ('{"labels": {"en": "x"}, "fields": [{"name": "a", "required": 1}]}', "required"),
        ('{"labels": {"en": "x"}, "fields": [{"name": "type"}]}', "type"),
        ("[" * 100_000, "JSON"),
        ('{"labels": {"en": 1e400}, "fields": []}', "JSON"),
        ('{"labels": {"en": "x"}, "fields": [], "labels": {"en": "y"}}', "'labels' stands twice"),
        ('{"labels": {"en": "x", "en": "y"}, "fields": []}', "'en' stands twice"),
    ],
)
def test_a_type_that_cannot_be_defined(sudur: Commands, tmp_path: Path, text: str, part: str) -> None:
    made = init(sudur, tmp_path / "a")
    (tmp_path / "type.json").write_text(text)
    done = sudur("authority", "define-type", tmp_path / "type.json", "--dir", made.path, "--node", "n")
    assert_one_line(done, 1, "type.json", part)


def test_a_policy_with_a_name_twice(sudur: Commands, tmp_path: Path) -> None:
    made = init(sudur, tmp_path / "a")
    assert sudur("agency", "keygen", "--dir", tmp_path / "g").code == 0
    (tmp_path / "policy.json").write_text('{"issue.original": {}, "issue.original": {}}')
    done = sudur("authority", "enrol", "--dir", made.path, "--node", "n", "--name", "en=x", "--key",
                 tmp_path / "g" / "submit.pub.json", "--policy", tmp_path / "policy.json")  # fmt: skip
    assert_one_line(done, 1, "policy.json", "'issue.original' stands twice")


# --- the agency's keys -------------------------------------------------------------------------


def test_keygen_never_prints_a_secret(sudur: Commands, tmp_path: Path) -> None:
    shown = ""
    for use in ("submit", "registry", "envelope"):
        for more in ([], ["--json"]):
            done = sudur("agency", "keygen", "--dir", tmp_path / "g", "--use", use, *more)
            assert done.code == 0
            shown += done.out + done.err
    names = sorted(path.name for path in (tmp_path / "g").glob("*.key.json"))
    made = [f"{use}{n}.key.json" for use in ("envelope", "registry", "submit") for n in ("-2", "")]
    assert names == sorted([*made, "register.key.json"])
    for name in names:
        secret = KeyFile(tmp_path / "g" / name).open(None).secret
        assert secret.hex() not in shown
        assert json.loads((tmp_path / "g" / name).read_text())["secret"]["open"] not in shown


def test_keygen_does_not_overwrite(sudur: Commands, tmp_path: Path) -> None:
    assert sudur("agency", "keygen", "--dir", tmp_path / "g", "--label", "desk").code == 0
    done = sudur("agency", "keygen", "--dir", tmp_path / "g", "--label", "desk")
    assert done.code == 1
    assert "exists already" in done.err
    assert_one_line(sudur("agency", "keygen", "--dir", tmp_path / "g", "--label", "../x"), 64, "--label")


def test_one_command_at_a_time(sudur: Commands, tmp_path: Path) -> None:
    assert sudur("agency", "keygen", "--dir", tmp_path / "g").code == 0
    with locked(tmp_path / "g"):
        assert_one_line(sudur("agency", "keygen", "--dir", tmp_path / "g"), 1, "another command")


# --- as processes ------------------------------------------------------------------------------


def test_a_process_ends_as_the_function_does(tmp_path: Path) -> None:
    assert_one_line(finish(start("verify")), 64, "RECEIPT")
    done = finish(start("agency", "keygen", "--dir", tmp_path / "g", SUDUR_PASSPHRASE=""))
    assert done.code == 0
    assert "not encrypted" in done.err


@pytest.mark.parametrize("what", ["--help", "--version"])
def test_a_reader_that_goes_away_is_no_traceback(what: str) -> None:
    process = start(what)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(60) == 2
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
