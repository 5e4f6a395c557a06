"""The life of a document from the command line: attested for abroad, revoked, stolen from, put right."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ledger.references import reference_text
from tests.test_end_to_end import ANY_PORTS, BIRTH
from tests.tools.helpers import Commands, assert_one_line, finish, start
from tools.cli import run

ROLES = {
    "university": ["issue"],
    "bureau": ["attest"],
    "ministry": ["attest", "issue"],
    "consulate": ["attest"],
}
FOUR_EYES = {"status": {"steps": [[1, 1], [3, 2]], "cap": None}}


@dataclass(frozen=True, slots=True)
class Country:
    """A node, its authority, and four agencies by name, the university's second key among them."""

    root: Path
    grpc: str
    url: str

    def dir(self, name: str) -> Path:
        return self.root / name

    @property
    def trust(self) -> Path:
        return self.root / "authority" / "trust.json"

    def of(self, name: str) -> tuple[str | Path, ...]:
        """The options that every command of an agency takes."""
        first = ("--trust", self.trust) if not (self.dir(name) / "trust.json").exists() else ()
        return ("--dir", self.dir(name), "--node", self.grpc, *first)


def done(*arguments: str | Path) -> None:
    """Run a command that must work."""
    assert run([str(argument) for argument in arguments]) == 0


@pytest.fixture(scope="module")
def country(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Country]:
    root = tmp_path_factory.mktemp("country")
    authority = root / "authority"
    done("authority", "init", "--dir", authority, "--origin", "test.example/life")
    node = start("node", "start", "--data", root / "data", "--genesis", authority / "genesis.leaf",
                 "--log-key", authority / "log.key.json", *ANY_PORTS)  # fmt: skip
    try:
        assert node.stdout is not None
        addresses = json.loads(node.stdout.readline())
        here = Country(root, addresses["grpc"], addresses["url"])
        (root / "type.json").write_text(json.dumps(BIRTH))
        (root / "policy.json").write_text(json.dumps(FOUR_EYES))
        at = ("--dir", authority, "--node", here.grpc)
        done("authority", "define-type", root / "type.json", *at)
        for name, roles in ROLES.items():
            keys: list[str | Path] = []
            for label in ("desk-1", "desk-2") if name in ("university", "ministry") else ("desk-1",):
                done("agency", "keygen", "--dir", root / name, "--label", label)
                keys += ["--key", root / name / f"{label}.pub.json"]
            options: list[str | Path] = [one for role in roles for one in ("--role", role)]
            options += ["--policy", root / "policy.json"] if name == "ministry" else []
            done("authority", "enrol", *at, "--name", f"en={name.title()}", "--type", "1", *options, *keys)
        yield here
    finally:
        node.send_signal(signal.SIGTERM)
        ended = finish(node)
    assert ended.code == 0, ended


Issue = Callable[..., tuple[Path, int]]


@pytest.fixture
def issue(country: Country, sudur: Commands, tmp_path: Path) -> Issue:
    """Issues a document of a name; its receipt and index."""

    def make(name: str, agency: str = "university", key: str = "desk-1") -> tuple[Path, int]:
        file = tmp_path / f"{name}.txt"
        file.write_text(f"the certificate of {name}")
        ended = sudur("agency", "issue", *country.of(agency), "--type", "1", "--field", f"child={name}",
                      "--signer", key, "--out", tmp_path / "receipts", "--json", file)  # fmt: skip
        assert ended.code == 0, ended
        (one,) = json.loads(ended.out)["issued"]
        return Path(one["receipt"]), one["index"]

    return make


def verdict(sudur: Commands, country: Country, receipt: Path, *more: str | Path) -> dict[str, Any]:
    ended = sudur("verify", receipt, *more, "--trust", country.trust, "--json")
    found: dict[str, Any] = json.loads(ended.out)
    assert ended.err == ""
    return found


def change(
    sudur: Commands, country: Country, verb: str, *more: str | Path, agency: str = "university"
) -> Any:
    key = ("--signer", "desk-1") if agency in ("university", "ministry") and "--signer" not in more else ()
    ended = sudur("agency", verb, *country.of(agency), *key, "--json", *more)
    assert ended.code == 0, ended
    return json.loads(ended.out)


# --- attestations ------------------------------------------------------------------------------


def test_a_document_goes_abroad(country: Country, sudur: Commands, issue: Issue, tmp_path: Path) -> None:
    receipt, index = issue("azad")
    translation = tmp_path / "degree-en.txt"
    translation.write_text("in English")
    out = tmp_path / "abroad"

    def attest(agency: str, kind: str, *more: str | Path) -> Any:
        key = ("--signer", "desk-1") if agency == "ministry" else ()
        ended = sudur("agency", "attest", receipt, "--kind", kind, *country.of(agency), *key, "--out", out,
                      "--json", *more)  # fmt: skip
        assert ended.code == 0, ended
        return json.loads(ended.out)

    first = attest("bureau", "translation", "--file", translation, "--field", "name=Azad Hassan")
    assert first["subject"] == str(index)
    again = attest("bureau", "translation", "--file", translation, "--field", "name=Azad Hassan")
    assert again == first
    receipt = Path(first["receipt"])
    second = attest("ministry", "legalisation")
    assert second["subject"] == first["index"]
    receipt = Path(second["receipt"])
    third = attest("consulate", "legalisation")
    receipt = Path(third["receipt"])

    assert verdict(sudur, country, receipt, translation)["verdict"] == "ATTESTED_COPY"
    found = verdict(sudur, country, receipt, translation, "--attested", "translation:2")
    assert found["verdict"] == "GENUINE"
    chain = found["proven"]["attestations"]
    assert [(one["kind"], one["agency_names"]["en"], one["stands"]) for one in chain] == [
        ("translation", "Bureau", True),
        ("legalisation", "Ministry", True),
        ("legalisation", "Consulate", True),
    ]
    assert [one.get("value", "file") for one in chain[0]["copy"]] == ["1", "Azad Hassan", "file"]
    text = sudur("verify", receipt, "--trust", country.trust).out
    assert "translation of the document: stands" in text
    assert "by Consulate (agency 4)" in text
    assert verdict(sudur, country, receipt, "--attested", "legalisation:4")["verdict"] == "GENUINE"
    assert verdict(sudur, country, receipt, "--attested", "certified-copy")["verdict"] == "NOT_ATTESTED"

    # The holder's first receipt finds the chain by itself, once it is renewed.
    old = tmp_path / "receipts" / "azad.txt.receipt.json"
    assert verdict(sudur, country, old)["proven"]["attestations"] == []
    online = verdict(sudur, country, old, "--url", country.url)
    assert [one["index"] for one in online["proven"]["attestations"]] == [one["index"] for one in chain]

    change(sudur, country, "revoke", str(index), "--reason", "2", "--yes")
    broken = verdict(sudur, country, receipt, "--url", country.url)
    assert broken["verdict"] == "REVOKED"
    assert [one["broken_by"] for one in broken["proven"]["attestations"]] == [str(index)] * 3
    assert broken["proven"]["changed"]["reason"] == 2
    text = sudur("verify", receipt, "--trust", country.trust, "--url", country.url).out
    assert "reason: obtained by fraud" in text
    assert "by University (agency 1)" in text
    assert "BROKEN" in text
    refused = sudur("agency", "attest", receipt, "--kind", "7", *country.of("consulate"))
    assert_one_line(refused, 1, "Revoked", "do not attest it")


def test_a_revoked_attestation_breaks_the_chain(
    country: Country, sudur: Commands, issue: Issue, tmp_path: Path
) -> None:
    receipt, _ = issue("nur")
    ended = sudur("agency", "attest", receipt, "--kind", "legalisation", *country.of("consulate"), "--out",
                  tmp_path / "out", "--json")  # fmt: skip
    one = json.loads(ended.out)
    attested = Path(one["receipt"])
    change(sudur, country, "revoke", one["index"], "--yes", agency="consulate")
    assert verdict(sudur, country, attested, "--url", country.url)["verdict"] == "GENUINE"
    found = verdict(sudur, country, attested, "--attested", "legalisation:4", "--url", country.url)
    assert found["verdict"] == "CHAIN_BROKEN"
    # It may be given once more then, and stands.
    again = sudur("agency", "attest", receipt, "--kind", "legalisation", *country.of("consulate"), "--out",
                  tmp_path / "again", "--json")  # fmt: skip
    fresh = json.loads(again.out)
    assert int(fresh["index"]) > int(one["index"])
    assert verdict(sudur, country, Path(fresh["receipt"]))["verdict"] == "GENUINE"


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        (["--kind", "dance"], ["--kind", "dance"]),
        (["--kind", "0"], ["--kind"]),
        (["--kind", "1", "--on", "0"], ["--on", "neither this document"]),
        (["--kind", "3", "--field", "=x"], ["--field"]),
        (["--kind", "3", "--field", "type=x"], ["--field"]),
    ],
)
def test_what_cannot_be_attested_is_refused_first(
    country: Country, sudur: Commands, issue: Issue, more: list[str], parts: list[str]
) -> None:
    receipt, _ = issue("solin")
    assert_one_line(sudur("agency", "attest", receipt, *country.of("consulate"), *more), 64, *parts)


def test_who_has_no_right_to_attest_is_refused_by_the_ledger(
    country: Country, sudur: Commands, issue: Issue
) -> None:
    receipt, _ = issue("dilan")
    done_ = sudur("agency", "attest", receipt, "--kind", "1", *country.of("university"), "--signer", "desk-1")
    assert_one_line(done_, 1, "role attest")


# --- status ------------------------------------------------------------------------------------


def test_suspended_reinstated_and_superseded(country: Country, sudur: Commands, issue: Issue) -> None:
    receipt, index = issue("rojin")
    _, newer = issue("rojin-2")
    change(sudur, country, "suspend", str(receipt))
    assert verdict(sudur, country, receipt, "--url", country.url)["verdict"] == "SUSPENDED"
    assert change(sudur, country, "suspend", str(index))["passed_over"][0]["why"] == "is suspended already"
    change(sudur, country, "reinstate", f"ref:{reference_text(index)}")
    assert verdict(sudur, country, receipt, "--url", country.url)["verdict"] == "GENUINE"
    change(sudur, country, "supersede", str(index), "--by", str(newer), "--yes")
    found = verdict(sudur, country, receipt, "--url", country.url)
    assert found["verdict"] == "SUPERSEDED"
    assert found["proven"]["changed"]["replacement"] == str(newer)
    final = change(sudur, country, "reinstate", str(index))
    assert final["passed_over"] == [{"subject": str(index), "why": "is superseded for good"}]
    assert final["changed"] == []


def test_a_list_of_documents_with_every_way_to_name_them(
    country: Country, sudur: Commands, issue: Issue, tmp_path: Path
) -> None:
    (first, a), (_, b), (_, c) = issue("one"), issue("two"), issue("three")
    names = tmp_path / "list.txt"
    names.write_text(f"\ufeff# to revoke\n\n{first}\n{b}\nref:{reference_text(c)}\n{b}\n")
    dry = change(sudur, country, "revoke", "--list", names, "--dry-run")
    assert (dry["changed"], dry["would_change"]) == ([], [str(a), str(b), str(c)])
    found = change(sudur, country, "revoke", "--list", names, "--yes")
    assert [one["subject"] for one in found["changed"]] == [str(a), str(b), str(c)]
    again = change(sudur, country, "revoke", "--list", names, "--yes")
    assert (len(again["changed"]), len(again["passed_over"])) == (0, 3)


def test_all_of_a_period(country: Country, sudur: Commands, issue: Issue) -> None:
    _, index = issue("hevin", agency="ministry")
    found = change(sudur, country, "suspend", "--from", "2020-01-01", "--since", str(index - 1), "--yes",
                   agency="ministry")  # fmt: skip
    assert [one["subject"] for one in found["changed"]] == [str(index)]
    none = change(sudur, country, "reinstate", "--to", "2020-01-01", "--yes", agency="ministry")
    assert none == {"changed": [], "passed_over": [], "would_change": [], "published": True}


def test_many_changes_need_two_officers(
    country: Country, sudur: Commands, issue: Issue, tmp_path: Path
) -> None:
    indexes = [str(issue(f"four-{n}", agency="ministry")[1]) for n in range(3)]
    at = country.of("ministry")
    alone = sudur("agency", "revoke", *indexes, *at, "--signer", "desk-1", "--yes")
    assert alone.code == 1
    assert "2 keys must sign" in alone.err.splitlines()[-1]
    file = tmp_path / "work.submission.json"
    prepared = sudur("agency", "revoke", *indexes, *at, "--signer", "desk-1", "--yes", "--prepare", file)
    assert prepared.code == 0, prepared
    signed = sudur("agency", "sign", file, "--dir", country.dir("ministry"), "--signer", "desk-2", "--yes")
    assert "STATUS" in signed.out, signed
    sent = sudur("agency", "send", file, "--dir", country.dir("ministry"), "--node", country.grpc, "--signer",
                 "desk-1")  # fmt: skip
    assert sent.code == 0, sent
    again = change(sudur, country, "revoke", *indexes, "--yes", agency="ministry")
    assert [one["why"] for one in again["passed_over"]] == ["is revoked already"] * 3


def test_after_a_theft_everything_is_put_right(
    country: Country, sudur: Commands, issue: Issue, tmp_path: Path
) -> None:
    genuine, index = issue("honest")
    victim, spoilt = issue("victim")
    honest, kept = issue("kept", key="desk-2")
    forged, bad = issue("forged", key="desk-2")
    change(sudur, country, "revoke", str(spoilt), "--signer", "desk-2", "--yes")
    authority = ("--dir", country.root / "authority", "--node", country.grpc)
    declared = sudur("authority", "stolen", "1", "2", str(kept - 1), *authority, "--yes")
    assert declared.code == 0, declared
    online = ("--url", country.url)
    assert verdict(sudur, country, forged, *online)["verdict"] == "DOUBTFUL"
    assert verdict(sudur, country, honest, *online)["verdict"] == "DOUBTFUL"
    assert verdict(sudur, country, genuine, *online)["verdict"] == "GENUINE"
    undone = change(sudur, country, "reinstate", "--changed-by-key", "2", "--since", str(kept - 1), "--yes")
    assert [one["subject"] for one in undone["changed"]] == [str(spoilt)]
    assert verdict(sudur, country, victim, *online)["verdict"] == "GENUINE"
    by_key = ("revoke", "--by-key", "2", "--reason", "3", "--yes")
    none = change(sudur, country, *by_key, "--since", str(kept + 1), "--until", str(bad - 1))
    assert none["changed"] == []
    meant = change(sudur, country, *by_key, "--since", str(bad), "--until", str(bad))
    assert [one["subject"] for one in meant["changed"]] == [str(bad)]
    at = (*country.of("university"), "--signer", "desk-1")
    affirmed = sudur("agency", "affirm", str(kept), str(kept), *at, "--yes")
    assert affirmed.code == 0, affirmed
    assert verdict(sudur, country, honest, *online)["verdict"] == "GENUINE"
    assert verdict(sudur, country, forged, *online)["verdict"] == "REVOKED"
    twice = sudur("agency", "affirm", str(kept), str(kept), *at)
    assert "already" in twice.out
    assert index < kept


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        ([], ["say which documents"]),
        (["5", "--by-key", "1"], ["in one way"]),
        (["5", "--since", "3"], ["--since"]),
        (["word"], ["names no leaf"]),
        (["ref:123"], ["reference number"]),
        (["0"], ["REGISTRY"]),
        (["99999999"], ["leaf 99999999"]),
        (["--from", "yesterday"], ["--from", "YYYY-MM-DD"]),
        (["5"], ["documents and attestations have a status"]),
    ],
)
def test_what_names_nothing_is_refused(
    country: Country, sudur: Commands, more: list[str], parts: list[str]
) -> None:
    done_ = sudur("agency", "revoke", *more, *country.of("consulate"), "--yes")
    assert done_.code in (1, 64)
    assert_one_line(done_, done_.code, *parts)


def test_another_agencys_document_is_refused_by_the_ledger(
    country: Country, sudur: Commands, issue: Issue
) -> None:
    _, index = issue("foreign")
    done_ = sudur("agency", "revoke", str(index), *country.of("consulate"), "--yes")
    assert (done_.code, "neither the issuer" in done_.err.splitlines()[-1]) == (1, True)


def test_nobody_is_asked_where_nobody_is(country: Country, sudur: Commands, issue: Issue) -> None:
    _, index = issue("asked")
    done_ = sudur("agency", "revoke", str(index), *country.of("university"), "--signer", "desk-1")
    assert (done_.code, "--yes" in done_.err.splitlines()[-1]) == (64, True)
