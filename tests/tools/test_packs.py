"""Packs from the command line, on a real node: made, updated, killed on the way, and verified against."""

from __future__ import annotations

import io
import json
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ledger.codes import parse_code
from ledger.left_open import parse_queue
from ledger.pack_builder import PackBuilder
from ledger.packs import Form
from ledger.records import Basis
from ledger.tiles import FULL_TILE_BYTES
from tests.test_end_to_end import ANY_PORTS, BIRTH
from tests.tools.helpers import Commands, assert_one_line, finish, start
from tools.audit.sources import DirectoryResources
from tools.cli import run
from tools.http_resources import HttpResources
from tools.pack.files import read_pack
from tools.pinning import load_trust, only_ledger

ROWS = 300


@dataclass(frozen=True, slots=True)
class Office:
    """A node as a process, an agency that has issued 300 documents from a table and one by itself."""

    root: Path
    grpc: str
    url: str

    @property
    def agency(self) -> Path:
        return self.root / "agency"

    @property
    def trust(self) -> tuple[str, Path]:
        return ("--trust", self.root / "authority" / "trust.json")

    def issue(self, name: str) -> Path:
        """One document more; its receipt."""
        file = self.root / f"{name}.txt"
        file.write_text(f"the record of {name}")
        out = self.root / "receipts"
        done("agency", "issue", "--dir", self.agency, "--node", self.grpc, "--type", "1",
             "--field", f"child={name}", "--out", out, file)  # fmt: skip
        return out / f"{name}.txt.receipt.json"

    def table(self, name: str) -> None:
        path = self.root / f"{name}.csv"
        path.write_text("child\n" + "".join(f"{name} {row}\n" for row in range(ROWS)))
        done("agency", "issue", "--dir", self.agency, "--node", self.grpc, "--type", "1", "--csv", path)


def done(*arguments: str | Path) -> None:
    assert run([str(argument) for argument in arguments]) == 0


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    root = tmp_path_factory.mktemp("packs")
    authority = root / "authority"
    done("authority", "init", "--dir", authority, "--origin", "test.example/packs")
    node = start("node", "start", "--data", root / "data", "--genesis", authority / "genesis.leaf",
                 "--log-key", authority / "log.key.json", *ANY_PORTS)  # fmt: skip
    try:
        assert node.stdout is not None
        addresses = json.loads(node.stdout.readline())
        here = Office(root, addresses["grpc"], addresses["url"])
        (root / "birth.json").write_text(json.dumps(BIRTH))
        done("authority", "define-type", root / "birth.json", "--dir", authority, "--node", here.grpc)
        done("agency", "keygen", "--dir", here.agency)
        done("authority", "enrol", "--dir", authority, "--node", here.grpc, "--name", "en=Registry",
             "--type", "1", "--key", here.agency / "submit.pub.json")  # fmt: skip
        file = root / "first.txt"
        file.write_text("the first record")
        done("agency", "issue", "--dir", here.agency, "--node", here.grpc, *here.trust, "--type", "1",
             "--field", "child=زينب", "--out", root / "receipts", file)  # fmt: skip
        here.table("early")
        yield here
    finally:
        node.send_signal(signal.SIGTERM)
        ended = finish(node)
    assert ended.code == 0, ended


@pytest.fixture
def pack(office: Office, tmp_path: Path, sudur: Commands) -> Path:
    path = tmp_path / "ledger.pack"
    assert sudur("pack", "create", office.url, *office.trust, "--out", path).code == 0
    return path


def code_of(sudur: Commands, office: Office, receipt: Path, *more: str | Path) -> str:
    ended = sudur("agency", "code", receipt, "--dir", office.agency, *more)
    assert ended.code == 0, ended
    return ended.out.strip()


@pytest.fixture
def first(office: Office, sudur: Commands) -> str:
    """The code of the first document, with its path."""
    receipt = office.root / "receipts" / "first.txt.receipt.json"
    return code_of(sudur, office, receipt, "--with-path", "--url", office.url)


def test_the_whole_way(office: Office, pack: Path, first: str, sudur: Commands) -> None:
    """Issued, printed, verified with no network; revoked, the pack updated, and the code says so."""
    ended = sudur("verify", first, "--pack", pack, *office.trust)
    assert ended.code == 0, ended
    assert ended.out.startswith("GENUINE\n")
    assert "زينب" in ended.out
    assert "not    submission: offline" in ended.out
    receipt = office.issue("revoked")
    office.table("filler")
    code = code_of(sudur, office, receipt, "--with-path", "--url", office.url)
    behind = sudur("verify", code, "--pack", pack, *office.trust)
    assert behind.code == 2
    assert "update the pack" in behind.out
    assert "revoked" not in behind.out, "no field of what was not proven"
    assert sudur("pack", "update", pack, office.url, *office.trust).code == 0
    assert sudur("verify", code, "--pack", pack, *office.trust).code == 0
    index = str(parse_code(code).index)
    done("agency", "revoke", index, "--dir", office.agency, "--node", office.grpc, "--reason", "1", "--yes")
    ended = sudur("pack", "update", pack, office.url, *office.trust, "--json")
    assert json.loads(ended.out)["fetches"] < 20, "only what is new"
    assert sudur("verify", code, "--pack", pack, *office.trust).code == 1
    assert sudur("verify", receipt, *office.trust).code == 0, "as of the receipt"
    with_pack = sudur("verify", receipt, "--pack", pack, *office.trust)
    assert with_pack.code == 1
    assert with_pack.out.startswith("REVOKED")
    online = sudur("verify", code, "--url", office.url, *office.trust)
    assert online.code == 1
    assert online.out.startswith("REVOKED")


def test_a_code_online(office: Office, first: str, sudur: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = sudur("verify", first, "--url", office.url, *office.trust, "--json")
    said = json.loads(ended.out)
    assert (ended.code, said["verdict"]) == (0, "GENUINE")
    assert [one["passed"] for one in said["steps"]] == [True] * 9
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(f"https://x.example/#{first}\r\n".encode())))
    linked = sudur("verify", "-", "--url", office.url, *office.trust)
    assert linked.code == 0
    assert "link to x.example stands in the code, which proves nothing" in linked.out
    code = parse_code(first)
    for wrong, verdict in (
        (replace(code, opening=bytes(16)), "ALTERED"),
        (replace(code, basis=Basis.ARCHIVE), "ALTERED"),
        (replace(code, agency=9), "ALTERED"),
        (replace(code, document_type=9), "NOT_IN_LEDGER"),
        (replace(code, index=0), "NOT_IN_LEDGER"),
        (replace(code, index=1 << 40), "CANNOT_TELL"),
        (replace(code, ledger=bytes(4)), "WRONG_LEDGER"),
    ):
        said = json.loads(sudur("verify", wrong.text(), "--url", office.url, *office.trust, "--json").out)
        assert (said["verdict"], said["proven"]) == (verdict, None)
    away = sudur("verify", first, "--url", "http://127.0.0.1:1", *office.trust, "--json")
    assert json.loads(away.out)["verdict"] == "CANNOT_TELL"


def test_codes_that_cannot_be_read(office: Office, pack: Path, first: str, sudur: Commands) -> None:
    for wrong, words in (
        (first[:-9], "cut short"),
        (first + "123", "appended"),
        (first + first, "scanned twice"),
        (first[:80] + str((int(first[80]) + 1) % 10) + first[81:], "a digit is wrong"),
    ):
        ended = sudur("verify", wrong, "--pack", pack, *office.trust)
        assert ended.code == 2
        assert words in ended.out


def test_the_seed_only_where_the_register_has_it(office: Office, sudur: Commands) -> None:
    receipt = office.issue("ours")
    ours = json.loads(code_of(sudur, office, receipt, "--json"))
    assert (ours["with_seed"], ours["with_path"]) == (True, False)
    early = sudur("agency", "code", receipt, "--dir", office.agency, "--with-path")
    assert_one_line(early, 1, "were not full", "--url")
    linked = code_of(sudur, office, receipt, "--link", "https://verify.example/")
    assert linked.startswith("https://verify.example/#")
    assert_one_line(sudur("agency", "code", receipt, "--dir", office.agency, "--link", "x"), 64, "--link")


def test_what_is_left_open_is_settled_later(
    office: Office, pack: Path, first: str, sudur: Commands, tmp_path: Path
) -> None:
    queue = tmp_path / "queue.json"
    receipt = office.issue("later")
    later = code_of(sudur, office, receipt)
    here = ("--pack", pack, "--queue", queue, *office.trust)
    assert sudur("verify", first, *here).code == 0
    assert sudur("verify", first, *here).code == 0, "the same again"
    behind = sudur("verify", later, *here)
    assert behind.code == 2
    assert f"kept in {queue}" in behind.out
    assert stat.S_IMODE(queue.stat().st_mode) == 0o600
    entries = parse_queue(queue.read_bytes())
    assert [one.index for one in entries] == [parse_code(first).index, parse_code(later).index]
    assert "زينب".encode() not in queue.read_bytes()
    shown = sudur("pack", "queue", queue)
    assert shown.out.strip().endswith("2 left open")
    ended = sudur("pack", "queue", queue, "--url", office.url, *office.trust)
    assert ended.code == 0, ended
    assert ended.out.count("Genuine") == 2
    assert parse_queue(queue.read_bytes()) == ()


def test_a_forged_code_in_the_queue_is_found_out(
    office: Office, pack: Path, first: str, sudur: Commands, tmp_path: Path
) -> None:
    queue = tmp_path / "queue.json"
    forged = replace(parse_code(first), opening=bytes(16), index=read_pack(pack).pack.size + 10, path=())
    here = ("--pack", pack, "--queue", queue, *office.trust)
    assert sudur("verify", forged.text(), *here).code == 2
    still = sudur("pack", "queue", queue, "--url", office.url, *office.trust)
    office.table("more")
    ended = sudur("pack", "queue", queue, "--url", office.url, *office.trust, "--json")
    if still.code == 2:
        assert ended.code == 1
        assert json.loads(ended.out)["settled"][0]["verdict"] == "NOT_IN_LEDGER"
    assert parse_queue(queue.read_bytes()) == ()


def test_leaves_form_needs_no_path(office: Office, sudur: Commands, tmp_path: Path) -> None:
    path = tmp_path / "leaves.pack"
    ended = sudur("pack", "create", office.url, *office.trust, "--out", path, "--form", "leaves")
    assert ended.code == 0, ended
    file = read_pack(path)
    assert file.pack.form is Form.LEAVES
    assert file.size == len(file.pack.encode()) + file.pack.full * FULL_TILE_BYTES
    code = code_of(sudur, office, office.root / "receipts" / "first.txt.receipt.json")
    assert parse_code(code).path == ()
    assert sudur("verify", code, "--pack", path, *office.trust).code == 0
    assert sudur("pack", "verify", path, *office.trust).code == 0
    office.table("leaves")
    before = path.read_bytes()
    delta = tmp_path / "delta"
    made = sudur("pack", "create", office.url, *office.trust, "--out", delta, "--delta-from", path)
    assert made.code == 0, made
    assert sudur("pack", "update", path, office.url, *office.trust).code == 0
    by_url = path.read_bytes()
    path.write_bytes(before)
    assert sudur("pack", "update", path, delta, *office.trust).code == 0
    assert path.read_bytes() == by_url
    assert sudur("pack", "verify", path, *office.trust).code == 0
    spoilt = bytearray(by_url)
    spoilt[-5] ^= 1
    path.write_bytes(spoilt)
    assert_one_line(sudur("pack", "verify", path, *office.trust), 1, "damaged")


def test_deltas(office: Office, pack: Path, sudur: Commands, tmp_path: Path) -> None:
    old = tmp_path / "old.pack"
    old.write_bytes(pack.read_bytes())
    office.issue("delta")
    delta = tmp_path / "delta"
    ended = sudur("pack", "create", office.url, *office.trust, "--out", delta, "--delta-from", old, "--json")
    assert json.loads(ended.out)["written"] == "delta"
    assert delta.stat().st_size < 3_000
    applied = sudur("pack", "update", old, delta, *office.trust, "--json")
    assert json.loads(applied.out)["fetches"] == 0
    assert sudur("pack", "update", pack, office.url, *office.trust).code == 0
    assert old.read_bytes() == pack.read_bytes()
    assert_one_line(sudur("pack", "update", old, delta, *office.trust), 1, "begins at", "whole pack")
    assert_one_line(sudur("pack", "update", pack, office.trust[1], *office.trust), 64, "no delta")


def test_verify_and_show(office: Office, pack: Path, sudur: Commands, tmp_path: Path) -> None:
    said = json.loads(sudur("pack", "verify", pack, *office.trust, "--json").out)
    assert (said["origin"], said["form"], said["fault"]) == ("test.example/packs", "subtrees", "")
    shown = json.loads(sudur("pack", "show", pack, "--json").out)
    assert (shown["verified"], shown["size"], shown["parts"]["agencies"]) == (False, said["size"], 1)
    assert "not verified" in sudur("pack", "show", pack).out
    assert sudur("pack", "verify", pack, *office.trust, "--max-age", "86400").code == 0
    done("authority", "init", "--dir", tmp_path / "other", "--origin", "other.example")
    other = sudur("pack", "verify", pack, "--trust", tmp_path / "other" / "trust.json")
    assert_one_line(other, 1, "not in the trust file")
    first = sudur("verify", "0" * 200, "--pack", pack, "--trust", tmp_path / "other" / "trust.json")
    assert first.code == 2


def test_damaged_packs(office: Office, pack: Path, first: str, sudur: Commands, tmp_path: Path) -> None:
    data = pack.read_bytes()
    for spoilt, words in (
        (data[:-1], "cut short"),
        (data + b"\0", "too many"),
        (data[:10], "cut short"),
        (b"\xff" * 100, "no pack"),
        (data[:100] + bytes([data[100] ^ 1]) + data[101:], "damaged"),
        (data[:15] + b"\xff\xff\xff\xff" + data[19:], "at most"),
    ):
        pack.write_bytes(spoilt)
        ended = sudur("verify", first, "--pack", pack, *office.trust)
        assert ended.code == 2, ended
        assert words in ended.out
        assert "pack cannot be used" in ended.out
        assert_one_line(sudur("pack", "verify", pack, *office.trust), 1, words)


def test_a_node_that_is_away_leaves_the_pack_as_it_was(office: Office, pack: Path, sudur: Commands) -> None:
    before = pack.read_bytes()
    assert_one_line(sudur("pack", "update", pack, "http://127.0.0.1:1", *office.trust), 2)
    assert pack.read_bytes() == before


_SLOW = """
import sys, time
import tools.files
from tools.cli import run
real = tools.files.os.fsync
def slow(descriptor):
    print("writing", flush=True)
    time.sleep(60)
tools.files.os.fsync = slow
sys.exit(run(sys.argv[1:]))
"""


def test_killed_amid_an_update_the_old_pack_is_whole(office: Office, pack: Path, sudur: Commands) -> None:
    """Killed when all is written and nothing is synced or renamed: the worst moment."""
    before = pack.read_bytes()
    office.issue("killed")
    words = [str(one) for one in ("pack", "update", pack, office.url, *office.trust)]
    process = subprocess.Popen([sys.executable, "-c", _SLOW, *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    process.kill()
    process.communicate()
    assert pack.read_bytes() == before
    assert sudur("pack", "verify", pack, *office.trust).code == 0
    assert sudur("pack", "update", pack, office.url, *office.trust).code == 0
    assert pack.read_bytes() != before


class Saving:
    """Resources that are kept as files."""

    def __init__(self, http: HttpResources, directory: Path) -> None:
        self._http = http
        self._directory = directory

    def fetch(self, path: str) -> bytes:
        data = self._http.fetch(path)
        target = self._directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        return data


def test_a_pack_from_a_directory_of_files(office: Office, sudur: Commands, tmp_path: Path) -> None:
    """What a mirror or a disk with static files holds will do."""
    directory = tmp_path / "static"
    with HttpResources(office.url) as http:
        saving = Saving(http, directory)
        ledger = only_ledger(load_trust(office.trust[1]))
        PackBuilder(saving, ledger, saving.fetch("checkpoint")).delta(Form.SUBTREES, None)
    out = tmp_path / "copy.pack"
    assert sudur("pack", "create", directory, *office.trust, "--out", out).code == 0
    assert sudur("pack", "verify", out, *office.trust).code == 0
    assert DirectoryResources(directory).fetch("checkpoint") == read_pack(out).pack.checkpoint
