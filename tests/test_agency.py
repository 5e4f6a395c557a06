"""An agency at work over real sockets: tables, its own ids, four-eyes by file, and kill -9 of the issuer."""

from __future__ import annotations

import csv
import json
import random
import re
import signal
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from ledger.documents import Document, Field
from ledger.errors import TooFewSignatures
from ledger.leaves import LeafType
from ledger.records import Attest, Basis, Issue, parse_record
from tests.test_end_to_end import ANY_PORTS, FOUR_EYES, done
from tests.tools.helpers import Commands, Done, assert_one_line, finish, start
from tools.agency.directory import AgencyDirectory
from tools.agency.issuing import Issuer
from tools.agency.session import Session, agency_session
from tools.agency.submission_files import SubmissionFile, export, load, save
from tools.client import LedgerClient
from tools.errors import ExternalIdTaken, SubmissionFileProblem
from tools.register.store import Register, system_ms
from tools.ui import Passphrase

TYPE = {
    "labels": {"en": "Birth record"},
    "fields": [
        {"name": "child", "labels": {"en": "Child", "ar": "الطفل"}, "required": True, "identity": True},
        {"name": "born", "labels": {"ar": "الولادة"}},
        {"name": "number"},
    ],
}


@dataclass(frozen=True, slots=True)
class World:
    """A node, agency 1 (one key), and agency 2 (four-eyes) with a directory for each officer."""

    root: Path
    grpc: str

    @property
    def trust(self) -> Path:
        return self.root / "authority" / "trust.json"

    def directory(self, name: str) -> Path:
        return self.root / name

    def issue(self, table: Path, *more: str | Path, name: str = "agency") -> tuple[str | Path, ...]:
        form = "--csv" if table.suffix == ".csv" else "--xlsx"
        return ("agency", "issue", "--node", self.grpc, "--dir", self.directory(name), "--trust", self.trust,
                "--type", "1", form, table, "--json", *more)  # fmt: skip

    def issued(self, agency: int = 1) -> list[bytes]:
        """The commitments in the log, in order."""
        with LedgerClient(self.grpc) as client:
            found = [leaf for leaf in client.entries(0) if leaf[1] == LeafType.ISSUE]
        return [leaf[-32:] for leaf in found if Issue.decode(leaf).agency == agency]

    def register(self, name: str = "agency") -> Register:
        return Register.open(AgencyDirectory.open(self.directory(name)), Passphrase(None))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("world")
    authority = root / "authority"
    done("authority", "init", "--dir", authority, "--origin", "test.example/agency", "--keys", "1",
         "--threshold", "1")  # fmt: skip
    node = start("node", "start", "--data", root / "data", "--genesis", authority / "genesis.leaf",
                 "--log-key", authority / "log.key.json", *ANY_PORTS)  # fmt: skip
    try:
        assert node.stdout is not None
        line = node.stdout.readline()
        assert line, node.stderr.read() if node.stderr else ""
        here = World(root, json.loads(line)["grpc"])
        (root / "type.json").write_text(json.dumps(TYPE))
        (root / "policy.json").write_text(
            json.dumps({**FOUR_EYES, "attest": {"steps": [[1, 2]], "cap": None}})
        )
        done("authority", "define-type", root / "type.json", "--dir", authority, "--node", here.grpc)
        done("agency", "keygen", "--dir", root / "agency")
        done("authority", "enrol", "--dir", authority, "--node", here.grpc, "--name", "en=One", "--type", "1",
             "--key", root / "agency" / "submit.pub.json")  # fmt: skip
        for label in ("desk-1", "desk-2"):
            done("agency", "keygen", "--dir", root / label, "--label", label)
        done("authority", "enrol", "--dir", authority, "--node", here.grpc, "--name", "en=Two", "--type", "1",
             "--policy", root / "policy.json", "--key", root / "desk-1" / "desk-1.pub.json",
             "--key", root / "desk-2" / "desk-2.pub.json")  # fmt: skip
        yield here
    finally:
        node.send_signal(signal.SIGTERM)
        ended = finish(node)
    assert ended.code == 0, ended


@pytest.fixture
def sudur(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Commands:
    monkeypatch.delenv("SUDUR_PASSPHRASE", raising=False)
    return Commands(capsys)


_serial = iter(range(10**9))


def table(path: Path, count: int, *, head: str = "child,born,number") -> Path:
    """A table of rows that no other table has."""
    lines = [f"نور {next(_serial)},2020-01-31,{n}" for n in range(count)]
    path.write_text("\n".join([head, *lines]) + "\n")
    return path


def said(ended: Done, code: int = 0) -> dict[str, Any]:
    assert ended.code == code, ended
    found: dict[str, Any] = json.loads(ended.out)
    return found


def audit(world: World, path: Path, *, rejected: int = 0) -> None:
    """Each row of a table exactly once in the register, and its document exactly once in the log."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        wanted = Counter(row["child"] for row in csv.DictReader(file))
    logged = Counter(world.issued())
    with world.register() as register:
        kept = [one for one in register.documents.every() if one.values()["child"] in wanted]
        register.check()
    assert len(kept) == len(wanted) - rejected
    assert set(Counter(one.values()["child"] for one in kept).values()) == {1}
    assert {logged[one.commitment or b""] for one in kept} == {1}
    with LedgerClient(world.grpc) as client:
        for one in (kept[0], kept[-1]):
            assert one.index is not None
            assert next(client.entries(one.index, one.index + 1))[-32:] == one.commitment


# --- tables ------------------------------------------------------------------------------------


def test_a_table_is_issued_once(sudur: Commands, world: World, tmp_path: Path) -> None:
    path = table(tmp_path / "births.csv", 300)
    with path.open("a") as file:
        file.write(f",2020-01-31,1\nنور,x\n{path.read_text().splitlines()[1]}\n")
    first = said(sudur(*world.issue(path)))
    assert (first["rows"], first["issued"], first["rejected"], first["complete"]) == (303, 300, 3, True)
    assert first["last_index"] - first["first_index"] == 300  # with the second SUBMISSION between
    reasons = (tmp_path / "births.csv.rejected.csv").read_text(encoding="utf-8-sig").splitlines()[1:]
    assert [line.split(",")[:3] for line in reasons] == [
        ["302", "child", '"is empty'],
        ["303", "", '"has 2 cells'],
        ["304", "", "says the same as row 2"],
    ]
    again = sudur(*world.issue(path))
    assert said(again) == first
    audit(world, path, rejected=2)


def test_a_spreadsheet_is_issued(sudur: Commands, world: World, tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    assert book.active is not None
    for row in (["الطفل", "number"], [f"زينب {next(_serial)}", 7], [f"زينب {next(_serial)}", 7.5]):
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    found = said(sudur(*world.issue(tmp_path / "t.xlsx", "--basis", "migrated")))
    assert (found["issued"], found["rejected"]) == (1, 1)
    with world.register() as register:
        one = register.documents.by_index(found["first_index"])
        assert one is not None
        assert one.basis is Basis.MIGRATED
        assert one.values()["number"] == "7"


def test_a_dry_run_issues_nothing(sudur: Commands, world: World, tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", 30)
    before = len(world.issued())
    found = said(sudur(*world.issue(path, "--dry-run")))
    assert (found["rows"], found["good"], found["rejected_file"]) == (30, 30, None)
    assert "الطفل" in Path(found["proof_sheet"]).read_text()
    assert stat.S_IMODE(Path(found["proof_sheet"]).stat().st_mode) == 0o600
    assert len(world.issued()) == before


def test_a_limit_is_a_beginning(sudur: Commands, world: World, tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", 30)
    first = said(sudur(*world.issue(path, "--limit", "10")))
    assert (first["issued"], first["complete"]) == (10, False)
    rest = said(sudur(*world.issue(path)))
    assert (rest["issued"], rest["complete"]) == (30, True)
    audit(world, path)


def test_receipts_are_made_on_demand(sudur: Commands, world: World, tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", 3, head="child,born,number")
    out = tmp_path / "out"
    found = said(sudur(*world.issue(path, "--receipts", out)))
    assert (found["receipts"], len(list(out.iterdir()))) == (3, 3)
    index = str(found["first_index"])
    command = (
        "agency",
        "receipt",
        index,
        "--dir",
        world.directory("agency"),
        "--out",
        tmp_path / "one",
        "--json",
    )
    for node in ((), ("--node", world.grpc)):
        receipt = json.loads(sudur(*command, *node).out)["receipt"]
        assert sudur("verify", receipt, "--trust", world.trust).code == 0
    missing = sudur("agency", "receipt", "1", "--dir", world.directory("agency"))
    assert_one_line(missing, 1, "index 1", "is not in the register")


def test_an_id_makes_a_retry_safe(sudur: Commands, world: World, tmp_path: Path) -> None:
    ids = [f"id-{next(_serial)}" for _ in range(3)]
    path = tmp_path / "t.csv"
    path.write_text(f"id,child\n{ids[0]},سارا\n{ids[1]},سارا\n{ids[0]},زينب\n")
    found = said(sudur(*world.issue(path, "--id-column", "id")))
    assert (found["issued"], found["rejected"]) == (2, 1)
    path.write_text(f"id,child\n{ids[0]},سارا\n{ids[1]},ليلى\n{ids[2]},هدى\n")
    found = said(sudur(*world.issue(path, "--id-column", "id")))
    assert (found["issued"], found["repeated"], found["rejected"]) == (1, 1, 1)
    line = path.with_name("t.csv.rejected.csv").read_text(encoding="utf-8-sig").splitlines()[1]
    assert line.startswith('3,id,"the id stands for a document with other contents, at')
    again = said(sudur(*world.issue(path, "--id-column", "id")))
    assert (again["issued"], again["repeated"], again["rejected"]) == (1, 1, 1)
    shown = sudur("agency", "register", "show", "--id", ids[2], "--dir", world.directory("agency"))
    assert "هدى" in shown.out


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--csv", "T", "FILE"], ["either FILEs"]),
        (["--csv", "T", "--field", "a=b"], ["either FILEs"]),
        (["--csv", "T", "--xlsx", "T"], ["either FILEs"]),
        (["FILE", "--dry-run"], ["for tables"]),
        (["FILE", "--id-column", "x"], ["for tables"]),
        ([], ["nothing to issue"]),
    ],
)
def test_wrong_usage_of_issue(
    sudur: Commands, world: World, tmp_path: Path, arguments: list[str], parts: list[str]
) -> None:
    (tmp_path / "t").write_text("x")
    words = [str(tmp_path / "t") if one in ("T", "FILE") else one for one in arguments]
    ended = sudur("agency", "issue", "--node", world.grpc, "--dir", world.directory("agency"), *words)
    assert_one_line(ended, 64, *parts)


def test_a_bad_table_issues_nothing(sudur: Commands, world: World, tmp_path: Path) -> None:
    before = len(world.issued())
    path = table(tmp_path / "t.csv", 3, head="child,colour,number")
    ended = sudur(*world.issue(path))
    assert ended.code == 1
    assert "column colour" in ended.err
    assert len(world.issued()) == before
    assert [one.name for one in tmp_path.iterdir()] == ["t.csv"]


# --- connectors --------------------------------------------------------------------------------


@contextmanager
def issuer_of(world: World) -> Iterator[Issuer]:
    with agency_session(world.directory("agency"), world.grpc, trust=world.trust) as session:
        yield Issuer(session.outbox, session.client, session.resources, session.here.receipts)


def test_a_connector_may_ask_again(world: World) -> None:
    names = [f"c-{next(_serial)}" for _ in range(2)]
    fields = [Field.text("child", "نور"), Field.text("born", ""), Field.text("number", "")]
    documents = [Document.build(1, 1, [*fields[:2], Field.text("number", name)]) for name in names]
    before = len(world.issued())
    with issuer_of(world) as issuer:
        first = issuer.issue_once(documents, names)
    with issuer_of(world) as issuer:
        assert issuer.issue_once(documents[:1], names[:1]) == first[:1]
        assert issuer.issue_once([*documents, *documents], [*names, *names]) == [*first, *first]
        with pytest.raises(ExternalIdTaken, match="other contents"):
            issuer.issue_once(documents[:1], names[1:])
        with pytest.raises(ExternalIdTaken, match="twice"):
            issuer.issue_once(documents, ["new", "new"])
    assert len(world.issued()) == before + 2


def test_the_handbooks_programs_run(world: World) -> None:
    text = (Path(__file__).parents[1] / "docs" / "agencies.md").read_text(encoding="utf-8")
    programs = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(programs) == 3
    names: dict[str, Any] = {"directory": world.directory("agency"), "node": world.grpc, "trust": world.trust}
    for program in programs:
        exec(compile(program, "docs/agencies.md", "exec"), names)
    with world.register() as register:
        found = register.documents.by_external("hospital-7/2026/15")
        assert found is not None
        assert found.index == names["index"]


# --- kill -9 -----------------------------------------------------------------------------------


_SMALL = "import tools.tables.bulk; tools.tables.bulk.PORTION = 512; from tools.cli import main; main()"


@pytest.mark.slow
def test_killed_at_any_moment_each_row_is_issued_once(sudur: Commands, world: World, tmp_path: Path) -> None:
    """Portions are small here, so that kills fall into all steps, the helper process among them."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    path = table(tmp_path / "t.csv", 9_000)
    kills = 0
    for attempt in range(40):
        process = subprocess.Popen(
            [sys.executable, "-c", _SMALL, *map(str, world.issue(path))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            # The first end before a fast machine is done; the last leave a slow one the time to end.
            ended = process.wait(timeout=chance.uniform(0.5, 1.2 + attempt / 8))
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
            finish(process)
            continue
        assert ended == 0, finish(process)
        finish(process)
        break
    found = said(sudur(*world.issue(path)))
    assert (found["issued"], found["rejected"], found["complete"]) == (9_000, 0, True)
    assert kills > 0
    audit(world, path)


# --- four-eyes on separate machines ------------------------------------------------------------


def four_eyes(world: World, *, name: str = "desk-1") -> tuple[str | Path, ...]:
    return ("--dir", world.directory(name))


def signing_at_desk_2(world: World, file: Path) -> tuple[str | Path, ...]:
    desk = four_eyes(world, name="desk-2")
    return ("agency", "sign", file, *desk, "--node", world.grpc, "--trust", world.trust)


@pytest.fixture
def prepared(sudur: Commands, world: World, tmp_path: Path) -> Callable[..., Path]:
    """Prepares a table of five rows at desk-1; the submission file."""

    def prepare(file: str = "t.submission.json") -> Path:
        path = table(tmp_path / f"{file}.csv", 5)
        said(sudur(*world.issue(path, "--prepare", tmp_path / file, name="desk-1")))
        return tmp_path / file

    return prepare


def test_too_few_keys_are_told_before_anything_is_saved(
    sudur: Commands, world: World, tmp_path: Path
) -> None:
    path = table(tmp_path / "t.csv", 5)
    ended = sudur(*world.issue(path, name="desk-1"))
    assert ended.code == 1
    assert "2 keys must sign" in ended.err
    assert "--prepare FILE" in ended.err
    with world.register("desk-1") as register:
        assert register.row("SELECT count(*) FROM submissions WHERE state < 2") == (0,)
        empty = "SELECT count(*) FROM works WHERE closed = 0 AND id NOT IN (SELECT work FROM submissions)"
        assert register.row(empty) == (0,), "or every later command would go on about it"


def test_two_officers_sign_on_two_machines(
    sudur: Commands, world: World, tmp_path: Path, prepared: Callable[..., Path]
) -> None:
    file = prepared()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = len(world.issued(2))
    sending = ("agency", "send", file, *four_eyes(world), "--node", world.grpc, "--json")
    assert_one_line(sudur(*sending), 1, "2 keys must sign it, 1 did", "sudur agency sign")
    signing = ("agency", "sign", file, *four_eyes(world, name="desk-2"))
    assert_one_line(sudur(*signing), 64, "--trust")
    first = sudur(*signing, "--node", world.grpc, "--trust", world.trust, "--show", "1")
    assert first.code == 0
    for part in (
        "records of kind issue.original: 5",
        "documents of type 1: 5",
        'child: "نور',
        "4 documents more",
    ):
        assert part in first.out
    assert "keys 1, 2 now" in first.out
    assert json.loads(sudur(*signing, "--json").out)["signed_by"] == [1, 2]  # no network any more
    assert said(sudur(*sending))["placed"] == 5
    assert len(world.issued(2)) == before + 5
    assert said(sudur(*sending))["placed"] == 5  # again, after a lost terminal
    assert len(world.issued(2)) == before + 5


def test_files_prepared_for_two_officers_have_receipts(sudur: Commands, world: World, tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_text(f"{next(_serial)}")
    file = tmp_path / "f.submission.json"
    ended = sudur("agency", "issue", "--node", world.grpc, *four_eyes(world), "--trust", world.trust,
                  "--type", "1", "--field", "child=x", "--out", tmp_path / "out", "--prepare", file,
                  tmp_path / "a.pdf")  # fmt: skip
    assert ended.code == 0, ended
    assert "hand" in ended.err
    assert not (tmp_path / "out").exists()
    signing = signing_at_desk_2(world, file)
    shown = sudur(*signing)
    assert "file a.pdf: SHA-256" in shown.out
    assert sudur("agency", "send", file, *four_eyes(world), "--node", world.grpc).code == 0
    receipt = tmp_path / "out" / "a.pdf.receipt.json"
    assert sudur("verify", receipt, tmp_path / "a.pdf", "--trust", world.trust).code == 0


def test_files_wait_once_and_may_be_given_up(sudur: Commands, world: World, tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_text(f"{next(_serial)}")
    file = tmp_path / "f.submission.json"
    command = ("agency", "issue", "--node", world.grpc, *four_eyes(world), "--trust", world.trust,
               "--type", "1", "--field", "child=x", tmp_path / "a.pdf")  # fmt: skip
    assert sudur(*command, "--prepare", file).code == 0
    first = load(file)
    file.unlink()  # as if the run had been cut off before it was written
    assert sudur(*command, "--prepare", file).code == 0
    assert load(file) == first
    ended = sudur(*command)
    assert ended.code == 64
    assert f"as work {first.work}" in ended.err
    listed = json.loads(sudur("agency", "register", "works", *four_eyes(world), "--json").out)
    assert [one["state"] for one in listed if one["work"] == first.work] == ["waiting"]
    dropping = ("agency", "register", "drop", str(first.work), *four_eyes(world))
    assert sudur(*dropping).code == 0
    assert_one_line(sudur(*dropping), 1, "does not wait")
    assert sudur(*signing_at_desk_2(world, file)).code == 0
    assert_one_line(sudur("agency", "send", file, *four_eyes(world), "--node", world.grpc), 1, "was given up")


Change = Callable[[SubmissionFile], SubmissionFile]


def _altered(file: SubmissionFile) -> SubmissionFile:
    first, *rest = file.openings
    fields = (*first.fields[:1], Field.text("child", "غيره"), *first.fields[2:])
    return replace(file, openings=(replace(first, fields=fields), *rest))


def _other_records(file: SubmissionFile) -> SubmissionFile:
    """The commitments with it, so that only the signature tells."""
    (one,) = file.submissions
    return replace(file, submissions=(replace(one, claimed_ms=one.claimed_ms + 1),))


def _twice(file: SubmissionFile) -> SubmissionFile:
    (one,) = file.submissions
    return replace(file, submissions=(replace(one, signatures=one.signatures * 2),))


def _renumbered(file: SubmissionFile) -> SubmissionFile:
    (one,) = file.submissions
    return replace(file, submissions=(replace(one, signatures=(replace(one.signatures[0], number=2),)),))


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (_altered, "one of them was altered"),
        (lambda file: replace(file, openings=file.openings[:-1]), "is not opened by the file"),
        (lambda file: replace(file, openings=(*file.openings, file.openings[0])), "no record commits to"),
        (lambda file: replace(file, agency=3), "is of agency 2, the file of agency 3"),
        (lambda file: replace(file, genesis=bytes(32)), "one of them was altered"),
        (lambda file: replace(file, submissions=()), "nothing to sign"),
        (_other_records, "not over these records"),
        (_twice, "one key signed twice"),
        (_renumbered, "not known to be this agency's"),
    ],
)
def test_an_altered_file_is_not_signed(
    sudur: Commands, world: World, prepared: Callable[..., Path], change: Change, part: str
) -> None:
    file = prepared()
    save(file, change(load(file)))
    before = file.read_bytes()
    signing = signing_at_desk_2(world, file)
    ended = sudur(*signing)
    assert ended.code == 1
    assert part in ended.err
    assert file.read_bytes() == before


@pytest.mark.parametrize("data", [b"", b"{}\n", b"[]", b"x" * 100, b'{"format":"sudur-submission/v1"}\n'])
def test_what_is_no_submission_file(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "f.json"
    path.write_bytes(data)
    with pytest.raises(SubmissionFileProblem, match="no sound submission file"):
        load(path)


def test_a_file_of_another_agency_or_old_is_not_signed(
    sudur: Commands, world: World, prepared: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = prepared()
    assert said(sudur(*world.issue(table(file.with_name("o.csv"), 1))))["issued"] == 1
    foreign = sudur("agency", "sign", file, "--dir", world.directory("agency"), "--yes")
    assert_one_line(foreign, 1, "is of agency 2, this directory is agency 1's")
    now = system_ms()
    monkeypatch.setattr("tools.agency.four_eyes_commands.system_ms", lambda: now + 8 * 86_400_000)
    signing = signing_at_desk_2(world, file)
    ended = sudur(*signing, "--json")
    assert_one_line(ended, 1, "more than 7 days ago", "prepared again")


def test_a_file_is_sent_where_it_was_prepared(
    sudur: Commands, world: World, prepared: Callable[..., Path]
) -> None:
    file = prepared()
    signing = signing_at_desk_2(world, file)
    assert sudur(*signing).code == 0
    ended = sudur("agency", "send", file, *four_eyes(world, name="desk-2"), "--node", world.grpc)
    assert_one_line(ended, 1, "work")


def test_other_records_are_shown_decoded(sudur: Commands, world: World, tmp_path: Path) -> None:
    file = tmp_path / "a.submission.json"
    with session_of(world, "desk-1") as session:
        record = Attest(2, 9, 1, bytes(32))
        work = session.outbox.put("attest", [record.encode()], {}, waiting=True)
        export(session.outbox, work, file)
    assert list(load(file).records()) == [parse_record(record.encode())]
    signing = signing_at_desk_2(world, file)
    shown = sudur(*signing)
    assert "ATTEST  agency 2  subject 9" in shown.out
    assert "attestation 1" in shown.out


@contextmanager
def session_of(world: World, name: str, signer: Sequence[str] = ()) -> Iterator[Session]:
    with agency_session(world.directory(name), world.grpc, signer=signer, trust=world.trust) as session:
        yield session


def test_the_policy_is_the_nodes_in_the_end(world: World) -> None:
    """A tool that asks nobody is refused all the same, and its work is kept."""
    with session_of(world, "desk-1") as session:
        record = Issue(2, 1, Basis.ORIGINAL, bytes(31) + b"x").encode()
        work = session.outbox.put("issue", [record], {})
        (refusal,) = session.outbox.finish(work).refused
        assert isinstance(refusal.error, TooFewSignatures)
        session.outbox.close(work)
