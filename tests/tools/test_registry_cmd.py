"""``sudur registry``: the same from a node's word and from proofs, and nothing from a server that lies."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ledger.notes import SignatureType, VerifierKey
from ledger.registry_records import AgencyRecord
from ledger.trust import Trust, parse_trust
from tests.ledger.world import signer
from tests.tools.helpers import Commands, assert_one_line
from tests.tools.ledger_process import Ledger, running
from tools.cli import run
from tools.http_resources import HttpResources

TYPE = {
    "labels": {"en": "Birth record", "ar": "سجل ولادة"},
    "fields": [
        {"name": "child", "labels": {"en": "Child"}, "identity": True},
        {"name": "until", "expiry": True},
    ],
}


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """Type 1; agency 1 above agencies 2 and 3; 2 suspended by 1, succeeded by 3; a key of 3 is stolen."""
    root = tmp_path_factory.mktemp("ledger")
    with running(root, keys=1, threshold=1) as made:
        (root / "type.json").write_text(json.dumps(TYPE))
        node = ("--node", made.grpc)
        by = ("--dir", made.authority, *node)
        one = ("--dir", root / "one", *node)
        for use in ("submit", "registry"):
            _done("agency", "keygen", "--dir", root / "one", "--use", use)
        for name in ("two", "three"):
            _done("agency", "keygen", "--dir", root / name, "--label", f"{name}-desk")
        _done("authority", "define-type", root / "type.json", *by)
        _done("authority", "enrol", *by, "--name", "en=Ministry", "--name", "ckb=وەزارەت", "--role", "enrol",
              "--role", "issue", "--type", "1", "--type", "0", "--two-officers", "issue.original=100",
              "--key", root / "one" / "submit.pub.json",
              "--key", root / "one" / "registry.pub.json")  # fmt: skip
        shutil.copy(made.trust, root / "one" / "trust.json")
        for name in ("two", "three"):
            _done("agency", "change", "enrol", *one, "--name", f"en={name}", "--type", "1",
                  "--key", root / name / f"{name}-desk.pub.json")  # fmt: skip
        _done("agency", "change", "successor", "2", "3", *one)
        _done("agency", "change", "suspend", "2", *one)
        _done("authority", "stolen", "3", "1", "4", "--yes", *by)
        yield made


def _done(*words: str | Path) -> None:
    assert run([str(word) for word in words]) == 0


@pytest.fixture(params=["node", "node and trust", "url and trust"])
def source(request: pytest.FixtureRequest, ledger: Ledger) -> tuple[str | Path, ...]:
    if request.param == "node":
        return ("--node", ledger.grpc)
    where = ("--node", ledger.grpc) if request.param == "node and trust" else ("--url", ledger.url)
    return (*where, "--trust", ledger.trust)


def test_who_is_there(sudur: Commands, source: tuple[str | Path, ...]) -> None:
    ended = sudur("registry", "list", *source, "--language", "ckb")
    assert ended.out.splitlines() == [
        "agency 1  وەزارەت  (enrol, issue)",
        "agency 2  two  (issue)  SUSPENDED  succeeded by agency 3",
        "agency 3  three  (issue)  KEY STOLEN since index 4",
    ]
    assert ("Proven as of" in ended.err) is ("--trust" in source)
    assert ("Not proven" in ended.err) is ("--trust" not in source)
    listed = json.loads(sudur("registry", "list", *source, "--json").out)
    assert [
        (one["parent"], one["suspended_by"], one["successor"], one["stolen_since"]) for one in listed
    ] == [
        (0, None, None, None),
        (1, 1, 3, None),
        (1, None, None, "4"),
    ]
    assert sudur("registry", "list", "--types", *source).out == "type 1  Birth record  2 fields\n"


def test_the_terminals_language(
    sudur: Commands, source: tuple[str | Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LC_ALL", raising=False)
    monkeypatch.delenv("LC_MESSAGES", raising=False)
    monkeypatch.setenv("LANG", "ckb_IQ.UTF-8")
    assert "وەزارەت" in sudur("registry", "tree", *source).out
    monkeypatch.setenv("LC_ALL", "C")
    assert "Ministry" in sudur("registry", "tree", *source).out


def test_one_agency(sudur: Commands, source: tuple[str | Path, ...]) -> None:
    said = sudur("registry", "show", "agency/1", *source, "--language", "en").out
    for part in (
        'names: ckb "وەزارەت", en "Ministry"',
        "under: the authority",
        "types: 0 (undeclared), 1 (Birth record)",
        "signing: issue.original: 1 key, 2 keys from 100 a day on",
        'key 1  submit  "submit"',
        "in use",
    ):
        assert part in said
    said = sudur("registry", "show", "agency/2", *source, "--language", "en").out
    assert 'SUSPENDED by agency 1 ("Ministry"), since index' in said
    assert 'successor: agency 3 ("three")' in said
    said = sudur("registry", "show", "agency/3", *source).out
    assert "STOLEN since index 4 (declared at" in said
    value = json.loads(sudur("registry", "show", "agency/3", *source, "--json").out)
    assert [(key["label"], key["stolen_since"]) for key in value["keys"]] == [("three-desk", "4")]


def test_a_type_and_the_ledger(sudur: Commands, source: tuple[str | Path, ...]) -> None:
    said = sudur("registry", "show", "type/1", *source).out
    assert 'type 1  ar "سجل ولادة", en "Birth record"' in said
    assert 'field "until" (shown, expiry)' in said
    said = sudur("registry", "show", "ledger", *source).out
    assert "3 agencies, 1 document types" in said
    assert "deciding: 1 of 1 authority keys" in said
    assert json.loads(sudur("registry", "show", "ledger", *source, "--json").out)["threshold"] == 1


def test_the_tree(sudur: Commands, source: tuple[str | Path, ...]) -> None:
    lines = sudur("registry", "tree", *source).out.splitlines()
    assert [line.index("agency") for line in lines] == [0, 2, 2]
    assert json.loads(sudur("registry", "tree", *source, "--json").out)[2] == {"agency": 3, "parent": 1}


def test_the_history(sudur: Commands, source: tuple[str | Path, ...]) -> None:
    told = json.loads(sudur("registry", "history", "agency/2", *source, "--json").out)
    assert [(one["change"], one["signatures"][0]["agency"]) for one in told] == [
        ("agency_enrolled", 1),
        ("keys_added", 1),
        ("successor_named", 1),
        ("agency_suspended", 1),
    ]
    said = sudur("registry", "history", "agency/2", *source).out
    assert "by agency 1's key 2\n  Suspend agency 2" in said
    assert " UTC  index " in said
    assert len(json.loads(sudur("registry", "history", "type/1", *source, "--json").out)) == 1
    assert json.loads(sudur("registry", "history", "ledger", *source, "--json").out)[0]["change"] == "genesis"


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["show", "agency/9"], 1, "agency 9 is not enrolled"),
        (["show", "type/9"], 1, "document type 9 is not defined"),
        (["show", "agency/01"], 64, "SUBJECT"),
        (["history", "agency/9"], 1, "agency"),
    ],
)
def test_what_is_not_there(
    sudur: Commands, source: tuple[str | Path, ...], words: list[str], code: int, part: str
) -> None:
    ended = sudur("registry", *words, *source)
    assert ended.code == code
    assert part in ended.err.splitlines()[-1]


def test_sources_that_will_not_do(sudur: Commands, ledger: Ledger, tmp_path: Path) -> None:
    assert_one_line(sudur("registry", "list"), 64, "--node or --url")
    assert_one_line(
        sudur("registry", "list", "--node", ledger.grpc, "--url", ledger.url), 64, "--node or --url"
    )
    assert_one_line(sudur("registry", "list", "--url", ledger.url), 64, "--trust")
    (pinned,) = parse_trust(ledger.trust.read_bytes()).ledgers
    key = VerifierKey("w", SignatureType.ED25519_COSIGNATURE, signer("w").public_key).format()
    witnessed = replace(pinned, own_policy=f"witness w {key}\nquorum w\n")
    (tmp_path / "trust.json").write_bytes(Trust((witnessed,)).encode() + b"\n")
    ended = sudur("registry", "list", "--url", ledger.url, "--trust", tmp_path / "trust.json")
    assert_one_line(ended, 1, "cosign")
    (tmp_path / "other.json").write_bytes(Trust((replace(pinned, genesis=bytes(32)),)).encode() + b"\n")
    ended = sudur("registry", "list", "--node", ledger.grpc, "--trust", tmp_path / "other.json")
    assert_one_line(ended, 1, "pinned here is 0000000000000000")


def test_a_server_that_lies_proves_nothing(
    sudur: Commands, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = HttpResources.fetch

    def lying(self: HttpResources, path: str) -> bytes:
        data = honest(self, path)
        if path.startswith("registry/record/") and b'"suspended"' in data:
            record = AgencyRecord.decode(data)
            return replace(record, suspended=type(record.suspended).start(record.enrolled, None)).encode()
        return data

    monkeypatch.setattr(HttpResources, "fetch", lying)
    ended = sudur("registry", "show", "agency/2", "--url", ledger.url, "--trust", ledger.trust)
    assert ended.code == 1
    assert "does not have the hash" in ended.err
