"""``sudur lookup`` and ``sudur figures`` against a node that runs as a process: told, proven, recomputed."""

from __future__ import annotations

import csv
import io
import json
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ledger.changes import MAX_AGENCY
from ledger.errors import ProofInvalid
from ledger.figures import Metric
from ledger.inquiries import REMARK, Issued, Named, Referred, Standing
from ledger.leaves import NONE, LeafType
from ledger.records import (
    NO_HASH,
    Answer,
    Attest,
    Basis,
    Outcome,
    Send,
    SendKind,
    Status,
    StatusChange,
)
from ledger.references import reference_digits, reference_text
from ledger.reports import CSV_COLUMNS
from ledger.trust import parse_trust
from tests.ledger.world import commitment, issue
from tests.tools.helpers import Commands, assert_one_line, finish, start
from tools.answers import FiguresAnswer
from tools.cli import run
from tools.client import LedgerClient
from tools.http_resources import HttpResources
from tools.inquiring import GrpcInquiry, HttpInquiry
from tools.keyfile import KeyFile
from tools.proving import prove_referred
from tools.signing import NumberedSigner, signed_submission

ANY_PORTS = ("--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0")


@dataclass(frozen=True, slots=True)
class Logged:
    """A node with a ministry (1), its department (2) and a university (3), and what they logged."""

    root: Path
    grpc: str
    url: str
    document: int
    revoked: int
    status: int
    attest: int
    answered: int
    final: int
    waiting: int
    reminder: int

    @property
    def trust(self) -> Path:
        return self.root / "authority" / "trust.json"

    def doors(self) -> list[tuple[str, str]]:
        return [("--node", self.grpc), ("--url", self.url)]


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logged]:
    root = tmp_path_factory.mktemp("logged")
    authority = root / "authority"

    def done(*arguments: str | Path) -> None:
        assert run([str(argument) for argument in arguments]) == 0

    done("authority", "init", "--dir", authority, "--origin", "test.example/inquiries")
    node = start("node", "start", "--data", root / "data", "--genesis", authority / "genesis.leaf",
                 "--log-key", authority / "log.key.json", *ANY_PORTS)  # fmt: skip
    try:
        assert node.stdout is not None
        addresses = json.loads(node.stdout.readline())
        grpc = addresses["grpc"]
        (root / "type.json").write_text(json.dumps({"labels": {"en": "Degree", "ar": "شهادة"}, "fields": []}))
        done("authority", "define-type", root / "type.json", "--dir", authority, "--node", grpc)
        keys = {}
        for number, name, more in (
            (1, "Ministry", ()),
            (2, "Department", ("--parent", "1")),
            (3, "University", ()),
        ):
            done("agency", "keygen", "--dir", root / name)
            done("authority", "enrol", "--dir", authority, "--node", grpc, "--name", f"en={name}", "--type",
                 "1", "--role", "issue", "--role", "attest", "--role", "request", "--key",
                 root / name / "submit.pub.json", *more)  # fmt: skip
            keys[number] = KeyFile(next((root / name).rglob("submit.key.json"))).open(None).signer
        with LedgerClient(grpc) as client:
            genesis = client.ledger().genesis

            def log(agency: int, *records: bytes) -> int:
                now_ms = time.time_ns() // 1_000_000
                key = NumberedSigner(1, keys[agency])
                submission = signed_submission(agency, records, now_ms, genesis, [key])
                return client.submit(genesis, submission)[0].first_record_index

            document = log(3, issue(3, "a"), issue(3, "b", 1, Basis.ARCHIVE))
            status = log(3, StatusChange(3, document + 1, document + 1, Status.REVOKED, 4, NONE).encode())
            attest = log(1, Attest(1, document, 3, NO_HASH).encode())
            answered = log(
                3, *(Send(3, 2, commitment(n), SendKind.REQUEST, 7, NONE, NO_HASH).encode() for n in "xy")
            )
            reminder = log(
                3, Send(3, 2, commitment("z"), SendKind.REQUEST, 0, answered + 1, NO_HASH).encode()
            )
            log(2, Answer(2, answered, Outcome.RECEIVED, NO_HASH, NO_HASH).encode())
            final = log(2, Answer(2, answered, Outcome.RETURNED, commitment("w"), NO_HASH).encode())
        yield Logged(
            root, grpc, addresses["url"], document, document + 1, status, attest, answered, final,
            answered + 1, reminder,
        )  # fmt: skip
    finally:
        node.send_signal(signal.SIGTERM)
        ended = finish(node)
    assert ended.code == 0, ended


# --- lookup ------------------------------------------------------------------------------------


def test_a_document_in_words(sudur: Commands, logged: Logged) -> None:
    for door in logged.doors():
        done = sudur("lookup", reference_text(logged.document), *door)
        assert (done.code, done.err) == (0, "")
        assert f"Reference {reference_text(logged.document)}\n" in done.out
        assert "What:      a document: شهادة / Degree (type 1), issued as an original\n" in done.out
        assert "By:        University (agency 3)\n" in done.out
        assert "Status:    valid\n" in done.out
        assert "Not proven: without --trust" in done.out
        assert done.out.endswith(f"{REMARK}\n")


def test_a_revoked_one_proven(sudur: Commands, logged: Logged) -> None:
    for door in logged.doors():
        done = sudur("lookup", reference_digits(logged.revoked), *door, "--trust", logged.trust)
        assert done.code == 0, done
        assert "confirmed from an archive" in done.out
        assert "Status:    REVOKED since " in done.out
        assert "Reason:    its contents are no longer true\n" in done.out
        assert "by the signer's clock" in done.out
        assert "Proven against the trust file, but for the times" in done.out


def test_a_request_followed_by_its_number(sudur: Commands, logged: Logged) -> None:
    done = sudur("lookup", reference_digits(logged.answered), "--url", logged.url, "--trust", logged.trust)
    assert done.code == 0, done
    assert "What:      a request for confirmation\n" in done.out
    assert "To:        Department (agency 2)\n" in done.out
    assert "Received:  received " in done.out
    assert f"(reference {reference_text(logged.final)})" in done.out
    assert "Due:       within 7 days\n" in done.out
    assert "that there is no answer cannot be proven" in done.out
    waiting = sudur("lookup", reference_digits(logged.waiting), "--node", logged.grpc)
    assert "Answer:    not yet\n" in waiting.out
    reminder = sudur("lookup", reference_digits(logged.reminder), "--node", logged.grpc)
    assert f"Reminder:  of reference {reference_text(logged.waiting)}" in reminder.out


def test_every_kind_of_leaf_is_the_same_by_both_doors_and_proven(sudur: Commands, logged: Logged) -> None:
    indexes = [0, 1, logged.document - 1, logged.document, logged.status, logged.attest, logged.answered]
    for index in [*indexes, logged.reminder, logged.final, logged.final + 1]:
        one, other = [
            sudur("lookup", reference_digits(index), *door, "--json", "--trust", logged.trust)
            for door in logged.doors()
        ]
        assert (one.code, one.err) == (0, "")
        assert one.out == other.out
        said = json.loads(one.out)
        assert (said["index"], said["proven"], said["remark"]) == (index, True, REMARK)
        assert (said["signed_ms"] is None) == (said["kind"] in ("registry", "seal"))


@pytest.mark.parametrize(
    ("number", "code", "parts"),
    [
        ("101755", 64, ["NUMBER", "a digit is wrong, or two stand in each other's place", "read out"]),
        ("hello", 64, ["NUMBER", "3 to 22 digits"]),
        ("1" * 65, 64, ["NUMBER", "65 characters"]),
        (reference_digits(10**9), 1, ["none with this number", "read out once more"]),
    ],
)
def test_numbers_that_lead_nowhere(
    sudur: Commands, logged: Logged, number: str, code: int, parts: list[str]
) -> None:
    assert_one_line(sudur("lookup", number, "--node", logged.grpc), code, *parts)


def test_a_number_that_is_not_there_over_http(sudur: Commands, logged: Logged) -> None:
    done = sudur("lookup", reference_digits(10**9), "--url", logged.url)
    assert_one_line(done, 1, "no entry with this number", "read out once more")


def test_nobody_answers(sudur: Commands) -> None:
    done = sudur("lookup", "101754", "--url", "http://127.0.0.1:9")
    assert_one_line(done, 2, "cannot be reached")


Lie = Callable[[Referred], Referred]


def _standing(**changes: Any) -> Lie:
    def lie(found: Referred) -> Referred:
        assert found.standing is not None
        return replace(found, standing=replace(found.standing, **changes))

    return lie


def _sent(**changes: Any) -> Lie:
    def lie(found: Referred) -> Referred:
        assert found.sent is not None
        return replace(found, sent=replace(found.sent, **changes))

    return lie


@pytest.mark.parametrize(
    ("leaf", "lie", "what"),
    [
        ("document", lambda found: replace(found, agency=Named(1, found.agency.names)), "agency"),
        ("document", lambda found: replace(found, agency=Named(3, {"en": "Another"})), "agency"),
        ("document", lambda found: replace(found, kind=LeafType.ATTEST), "kind"),
        ("document", lambda found: replace(found, issued=None), "issued"),
        ("document", lambda found: replace(found, issued=Issued(0, {}, Basis.ORIGINAL)), "issued"),
        ("document", lambda found: replace(found, standing=None), "standing"),
        ("document", _standing(status=Status.REVOKED), "standing"),
        ("document", _standing(changed=0), "STATUS leaf"),
        ("revoked", lambda found: replace(found, standing=Standing(Status.VALID)), "standing"),
        ("revoked", _standing(reason=5), "standing"),
        ("revoked", _standing(replacement=0), "standing"),
        ("attest", lambda found: replace(found, subject=0), "subject"),
        ("answered", lambda found: replace(found, sent=None), "leaves out"),
        ("answered", _sent(due_days=400), "sent"),
        ("answered", _sent(recipient=1), "sent"),
        ("answered", lambda found: replace(found, recipient=Named(1, {})), "recipient"),
        ("waiting", lambda found: replace(found, subject=3), "subject"),
    ],
)
def test_whoever_says_otherwise_is_found_out(logged: Logged, leaf: str, lie: Lie, what: str) -> None:
    (ledger,) = parse_trust(logged.trust.read_bytes()).ledgers
    inquiry = HttpInquiry(logged.url)
    try:
        found, as_of = inquiry.reference(getattr(logged, leaf))
        prove_referred(found, as_of, inquiry.resources, ledger)
        with pytest.raises(Exception, match=what) as caught:
            prove_referred(lie(found), as_of, inquiry.resources, ledger)
        assert caught.type.__module__ == "ledger.errors"
        with pytest.raises(ProofInvalid, match="as of"):
            prove_referred(found, replace(as_of, time_ms=1), inquiry.resources, ledger)
    finally:
        inquiry.close()


def test_an_answer_borrowed_from_another_request_is_found_out(logged: Logged) -> None:
    (ledger,) = parse_trust(logged.trust.read_bytes()).ledgers
    with HttpResources(logged.url) as resources, LedgerClient(logged.grpc) as client:
        answered, as_of = client.reference(reference_digits(logged.answered))
        waiting, _ = client.reference(reference_digits(logged.waiting))
        assert answered.sent is not None
        with pytest.raises(ProofInvalid, match="no ANSWER to this leaf"):
            prove_referred(_sent(final=answered.sent.final)(waiting), as_of, resources, ledger)
        revoked, _ = client.reference(reference_digits(logged.revoked))
        document, _ = client.reference(reference_digits(logged.document))
        with pytest.raises(ProofInvalid, match="no status change of this leaf"):
            prove_referred(replace(document, standing=revoked.standing), as_of, resources, ledger)


# --- figures -----------------------------------------------------------------------------------


def test_figures_in_words(sudur: Commands, logged: Logged) -> None:
    for door in logged.doors():
        done = sudur("figures", "2", *door)
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith("Department (agency 2), with all agencies below it\n")
        assert "Not proven: --recompute checks it." in done.out
        (waits, answers) = [line.split() for line in done.out.splitlines() if line.startswith("  requests  ")]
        assert waits == ["requests", "1", "0", "0", "days", "0", "days"]
        assert answers == ["requests", "1", "up", "to", "1", "hour", "up", "to", "1", "hour"]
        assert "asked 2, reopened 0, reminded 1, received 1, answered 0, returned 1, late 0" in done.out
    university = sudur("figures", "3", "--url", logged.url).out
    assert "documents:     2 (type 1 original 1, type 1 archive 1)" in university
    assert "revoked 1" in university
    assert sudur("figures", "--node", logged.grpc).out.startswith("The whole ledger\n")


def test_a_department_counts_for_its_ministry(sudur: Commands, logged: Logged) -> None:
    one, two = [
        json.loads(sudur("figures", number, "--url", logged.url, "--json").out) for number in ("1", "2")
    ]
    assert one["backlogs"] == two["backlogs"]
    assert one["months"][0]["attestations"] == [{"attestation": 3, "count": 1}]
    assert two["months"][0]["attestations"] == []


def test_one_month_alone(sudur: Commands, logged: Logged) -> None:
    done = sudur("figures", "2", "--node", logged.grpc, "--month", "1999-12", "--json")
    said = json.loads(done.out)
    assert (said["months"], said["delays"]["request"]["answers"]) == ([], 0)
    assert said["backlogs"]["request"]["open"] == 1
    month = time.strftime("%Y-%m", time.gmtime())
    (shown,) = json.loads(sudur("figures", "2", "--node", logged.grpc, "--month", month, "--json").out)[
        "months"
    ]
    assert shown["month"] == month


def test_rows_for_a_spreadsheet(sudur: Commands, logged: Logged) -> None:
    one, other = [sudur("figures", "2", *door, "--csv").out for door in logged.doors()]
    assert one == other
    table = list(csv.DictReader(io.StringIO(one)))
    assert tuple(table[0]) == CSV_COLUMNS
    found = {(row["figure"], row["kind"], row["detail"]): row["count"] for row in table}
    assert found["answered", "request", "returned"] == "1"
    assert found["delay", "request", "up to 1 hour"] == "1"
    assert found["open", "request", ""] == "1"
    old = sudur("figures", "2", "--node", logged.grpc, "--csv", "--month", "1999-12").out
    assert {row["figure"] for row in csv.DictReader(io.StringIO(old))} == {"open", "due"}


def test_ranking(sudur: Commands, logged: Logged) -> None:
    for door in logged.doors():
        done = sudur("figures", "--ranking", *door)
        assert done.code == 0, done
        lines = done.out.splitlines()
        assert [line.split()[-1] for line in lines[1:3]] == ["Ministry", "Department"]
        assert "University" not in done.out
        rows = json.loads(sudur("figures", "--ranking", "--json", *door).out)
        assert [(row["kind"], row["agency"], row["open"]) for row in rows] == [
            ("request", 1, 1),
            ("request", 2, 1),
        ]


def test_recomputed_from_the_log(sudur: Commands, logged: Logged) -> None:
    for door in logged.doors():
        done = sudur("figures", "--recompute", *door, "--trust", logged.trust)
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith("The same: ")
        assert "4 agencies (the whole ledger, agency 0, among them)" in done.out
        one = json.loads(sudur("figures", "2", "--recompute", *door, "--json").out)
        assert (one["same"], one["agencies"]) == (True, 1)


def test_a_real_node_is_audited(sudur: Commands, logged: Logged, tmp_path: Path) -> None:
    for replayed in (True, False):
        line = ("audit", logged.url, "--trust", logged.trust, "--state", tmp_path / "state", "--json")
        done = sudur(*line)
        found = json.loads(done.out)
        assert (done.code, found["findings"]) == (0, [])
        checked = found["checked"]
        assert bool(checked["replayed"]) is replayed
        assert checked["figures"] == 4
        assert checked["status_chunks"] == 1
        assert checked["registry_records"] > 5
        assert checked["checkpoints"] > 0


def test_a_counter_that_is_not_what_the_log_comes_to(
    sudur: Commands, logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = GrpcInquiry.figures

    def flattering(self: GrpcInquiry, agency: int) -> FiguresAnswer:
        answer = honest(self, agency)
        figures = {key: count for key, count in answer.figures.items() if key.metric is not Metric.OPEN}
        return replace(answer, figures=figures)

    monkeypatch.setattr(GrpcInquiry, "figures", flattering)
    done = sudur("figures", "2", "--recompute", "--node", logged.grpc, "--trust", logged.trust)
    today = time.strftime("%Y-%m-%d", time.gmtime())
    assert_one_line(done, 1, f"the node says 0 for open {today} request, its log comes to 1", "report both")

    def backdated(self: GrpcInquiry, agency: int) -> FiguresAnswer:
        answer = honest(self, agency)
        return replace(answer, as_of=replace(answer.as_of, time_ms=answer.as_of.time_ms - 1))

    monkeypatch.setattr(GrpcInquiry, "figures", backdated)
    done = sudur("figures", "2", "--recompute", "--node", logged.grpc, "--trust", logged.trust)
    assert_one_line(done, 1, "agency 2: the node says as of")

    def amid(self: GrpcInquiry, agency: int) -> FiguresAnswer:
        answer = honest(self, agency)
        return replace(answer, as_of=replace(answer.as_of, size=answer.as_of.size - 1))

    monkeypatch.setattr(GrpcInquiry, "figures", amid)
    done = sudur("figures", "2", "--recompute", "--node", logged.grpc, "--trust", logged.trust)
    assert_one_line(done, 1, "checkpoint/")


@pytest.mark.parametrize(("change", "part"), [("cut", "cannot be read"), ("altered", "BLOCK_REFUSED")])
def test_a_log_that_is_not_whole(
    sudur: Commands, logged: Logged, monkeypatch: pytest.MonkeyPatch, change: str, part: str
) -> None:
    honest = HttpResources.fetch

    def fetch(self: HttpResources, path: str) -> bytes:
        data = honest(self, path)
        if not path.startswith("tile/entries/"):
            return data
        return data[:-1] if change == "cut" else data[:-200] + bytes((data[-200] ^ 1,)) + data[-199:]

    monkeypatch.setattr(HttpResources, "fetch", fetch)
    done = sudur("figures", "--recompute", "--node", logged.grpc, "--trust", logged.trust)
    assert done.code == 1
    error = done.err.splitlines()[-1]
    assert error.startswith("sudur: tile/entries/000")
    assert part in error or "is not the one that the log signed" in error


def test_a_log_of_another_ledger(sudur: Commands, logged: Logged, tmp_path: Path) -> None:
    for origin, part in (("other.example", "other.example"), ("test.example/inquiries", "no trusted key")):
        other = tmp_path / origin.replace("/", "-")
        assert sudur("authority", "init", "--dir", other, "--origin", origin).code == 0
        done = sudur("figures", "--recompute", "--node", logged.grpc, "--trust", other / "trust.json")
        assert done.code == 1
        assert done.err.count("\n") == 1
        assert part in done.err


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("figures", ["--node or --url"]),
        ("figures --node n:1 --url http://n", ["--node or --url"]),
        ("figures x --node n:1", ["AGENCY"]),
        (f"figures {MAX_AGENCY + 1} --node n:1", ["AGENCY"]),
        ("figures --node n:1 --month 2026-13", ["--month", "2026-03"]),
        ("figures --node n:1 --month 1969-12", ["--month"]),
        ("figures --node n:1 --csv --json", ["--csv", "--json", "choose one"]),
        ("figures --node n:1 --csv --ranking", ["choose one"]),
        ("figures --node n:1 --ranking --recompute", ["choose one"]),
        ("figures --node n:1 --trust FILE", ["--recompute only"]),
        ("lookup", ["NUMBER"]),
        ("lookup 101754", ["--node or --url"]),
        ("lookup 101754 --node n:1 --trust absent.json", ["absent.json"]),
    ],
)
def test_wrong_usage(sudur: Commands, tmp_path: Path, line: str, parts: list[str]) -> None:
    (tmp_path / "FILE").write_text("{}")
    arguments = [str(tmp_path / word) if word == "FILE" else word for word in line.split()]
    assert_one_line(sudur(*arguments), 64, *parts)


def test_figures_of_an_agency_that_is_not_enrolled(sudur: Commands, logged: Logged) -> None:
    assert_one_line(sudur("figures", "9", "--node", logged.grpc), 1, "agency 9 is not enrolled")
    assert_one_line(sudur("figures", "9", "--url", logged.url), 1, "agency 9 is not enrolled")


def _answer(**changes: Any) -> bytes:
    """Agency 2's figures over HTTP, in form but for what is changed."""
    names = ("names", "backlogs", "delays", "months")
    answer = {"agency": 2, "size": 1, "as_of_ms": 0, "counters": [], **{name: {} for name in names}}
    return json.dumps({**answer, **changes}).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{" * 100_000,
        b'{"agency": 2}',
        _answer(agency=3),
        _answer(counters=[[1, 2, 3]]),
        _answer(counters=[[1, 672, 0, 0, 0]]),
        _answer(counters=[[99, 672, 0, 0, 1]]),
        _answer(counters=[[1, 672, 0, 0, 1], [1, 672, 0, 0, 2]]),
        _answer(names=[]),
        _answer(more=1),
    ],
)
def test_an_answer_that_is_none(
    sudur: Commands, logged: Logged, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    monkeypatch.setattr(HttpResources, "fetch", lambda self, path: body)
    for line in (["figures", "2"], ["lookup", "101754"], ["figures", "--ranking"]):
        assert_one_line(sudur(*line, "--url", logged.url), 1)
