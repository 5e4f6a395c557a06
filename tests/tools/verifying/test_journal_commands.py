"""``sudur verify --journal`` and ``sudur journal`` against a real node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.tools.helpers import Commands, assert_one_line
from tests.tools.ledger_process import Ledger, running
from tools.cli import run


@dataclass
class Counter:
    """An office with a journal, and a document that was brought to it."""

    ledger: Ledger
    agency: Path
    receipt: Path
    index: str

    @property
    def by(self) -> tuple[str | Path, ...]:
        return ("--trust", self.ledger.trust)


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counter]:
    root = tmp_path_factory.mktemp("counter")
    with running(root, keys=1, threshold=1) as ledger:
        agency = root / "agency"
        assert run(["agency", "keygen", "--dir", str(agency)]) == 0
        enrol = ["authority", "enrol", "--dir", str(ledger.authority), "--node", ledger.grpc,
                 "--name", "en=Registry", "--role", "issue", "--type", "0",
                 "--key", str(agency / "submit.pub.json")]  # fmt: skip
        assert run(enrol) == 0
        paper = root / "paper.pdf"
        paper.write_bytes(b"a paper")
        assert run(["agency", "issue", "--node", ledger.grpc, "--dir", str(agency), "--trust",
                    str(ledger.trust), str(paper)]) == 0  # fmt: skip
        (receipt,) = root.rglob("*.receipt.json")
        index = json.loads(receipt.read_bytes())["issue"]["index"]
        yield Counter(ledger, agency, receipt, index)


def test_the_office_can_prove_what_it_checked(sudur: Commands, counter: Counter, tmp_path: Path) -> None:
    journal = tmp_path / "counter.journal"
    assert_one_line(sudur("verify", counter.receipt, *counter.by, "--officer", "desk-1"), 64, "--journal")
    begun = sudur("journal", "init", journal)
    assert begun.code == 0, begun
    assert "not encrypted" in begun.err
    first = begun.out.split()[-1]
    assert sudur("journal", "verify", journal, "--head", first).code == 0, "it holds no entry yet"
    assert_one_line(sudur("journal", "init", journal), 1, "exists already")
    check = ("verify", counter.receipt, *counter.by, "--journal", journal)
    assert_one_line(sudur(*check), 64, "--officer")
    assert_one_line(sudur(*check, "--officer", "Mrs. Someone"), 64, "--officer")
    shown = sudur(*check, "--officer", "desk-1")
    assert shown.code == 0, shown
    assert "DOCUMENT CHECKED" in shown.out
    assert "by       desk-1" in shown.out
    assert max(len(line) for line in shown.out.partition("=====")[2].splitlines()) <= 46
    code = json.loads(sudur(*check, "--officer", "desk-2", "--json").out)["slip"]

    proven = sudur("journal", "verify", journal, code, "--document", counter.receipt)
    assert proven.code == 0, proven
    assert "2 entries, each as it was written" in proven.out
    assert "entry 2: this document was checked on" in proven.out
    head = json.loads(sudur("journal", "verify", journal, "--json").out)["head"]
    for one in (first, head):
        assert sudur("journal", "verify", journal, "--head", one).code == 0
    public = tmp_path / "counter.journal.pub.json"
    assert sudur("journal", "verify", journal, "--public", public).code == 0

    printed = sudur("journal", "show", journal, code)
    assert f"It is leaf {counter.index} of the log" in printed.out
    groups = (code[:5], code[5:10], code[10:])
    assert sudur("journal", "show", journal, *groups).out == printed.out, "as it stands on the slip"
    assert sudur("journal", "show", journal).out.count("Genuine") == 2
    listed = json.loads(sudur("journal", "show", journal, "--json").out)
    assert [one["index"] for one in listed] == [counter.index] * 2
    other = tmp_path / "other.receipt.json"
    other.write_bytes(b"nothing")
    wrong = sudur("journal", "verify", journal, code, "--document", other)
    assert_one_line(wrong, 1, "is of something else")
    assert_one_line(sudur("journal", "verify", journal, "12345"), 1, "no code of a slip")

    data = journal.read_bytes()
    journal.write_bytes(data.replace(b"desk-1", b"desk-9"))
    assert_one_line(sudur("journal", "verify", journal), 1, "line 2 is not what was written")
    journal.write_bytes(b"".join(data.splitlines(keepends=True)[:-1]))
    assert sudur("journal", "verify", journal).code == 0, "a shorter journal is a journal"
    assert_one_line(sudur("journal", "verify", journal, "--head", head), 1, "does not go through that head")


def test_what_cannot_be_written_down_is_not_said(sudur: Commands, counter: Counter, tmp_path: Path) -> None:
    journal = tmp_path / "counter.journal"
    assert sudur("journal", "init", journal).code == 0
    journal.write_bytes(b"damaged\n")
    ended = sudur("verify", counter.receipt, *counter.by, "--journal", journal, "--officer", "desk-1")
    assert_one_line(ended, 1, "cannot be gone on from")
    assert ended.out == ""


def test_what_became_of_it(sudur: Commands, counter: Counter, tmp_path: Path) -> None:
    """Runs last here: the document is revoked."""
    journal = tmp_path / "counter.journal"
    assert sudur("journal", "init", journal).code == 0
    check = ("verify", counter.receipt, *counter.by, "--journal", journal, "--officer", "desk-1")
    code = json.loads(sudur(*check, "--json").out)["slip"]
    again = ("journal", "recheck", journal, *counter.by)
    assert_one_line(sudur(*again), 64, "--url or --pack")
    stands = sudur(*again, "--url", counter.ledger.url)
    assert stands.code == 0, stands
    assert "All that was relied on stands" in stands.out
    revoke = ("agency", "revoke", counter.index, "--dir", counter.agency, "--node", counter.ledger.grpc)
    assert sudur(*revoke, "--yes").code == 0
    found = sudur(*again, "--url", counter.ledger.url)
    assert found.code == 1
    assert "1 that were relied on do not stand any more" in found.out
    assert code in found.out
    listed = json.loads(sudur(*again, "--url", counter.ledger.url, "--json").out)
    assert [(one["was"], one["now"]) for one in listed["findings"]] == [("GENUINE", "REVOKED")]
    packed = tmp_path / "ledger.pack"
    made = sudur("pack", "create", counter.ledger.url, *counter.by, "--out", packed)
    assert made.code == 0, made
    assert sudur(*again, "--pack", packed).code == 1
