"""REGISTRY leaves and the changes inside them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import changes
from ledger.canonical_json import encode
from ledger.changes import LEDGER, Change, ChangeBody, Subject, parse_change
from ledger.errors import FormatError, LeafFormatError
from ledger.leaves import NONE
from ledger.registry_leaf import RegistryLeaf, RegistrySignature
from ledger.signing_policy import KindPolicy, SigningPolicy
from tests.ledger.world import authority_set, entitlement, log_key, new_key, signer

AGENCY = Subject("agency", 7)
FIELD = changes.FieldDefinition("holder", {"en": "Holder", "ckb": "خاوەن"}, True, False, False, True)
POLICY = SigningPolicy({"status": KindPolicy(((1, 1), (5, 2)), 9), "registry": KindPolicy(((1, 2),))})
KEYS = {1: signer("a"), 2: signer("b")}
ALL: list[tuple[Subject, ChangeBody]] = [
    (LEDGER, changes.Genesis("origin", bytes(32), True, 1, (log_key("log"),), authority_set(2, KEYS), "")),
    (LEDGER, changes.AuthorityReplaced(authority_set(1, KEYS))),
    (LEDGER, changes.LogKeyAdded(log_key("log"))),
    (LEDGER, changes.LogKeyEnded(log_key("log"), 2**64 - 1)),
    (LEDGER, changes.LedgerClosed(bytes(32), "next.example")),
    (LEDGER, changes.WitnessPolicyChanged("")),
    (LEDGER, changes.RulesRaised(2, 2**64 - 1)),
    (
        AGENCY,
        changes.AgencyEnrolled(
            {"en": "A", "ar-IQ": "دائرة"}, 3, entitlement(("issue", "enrol"), (0, 9), POLICY)
        ),
    ),
    (AGENCY, changes.AgencyRenamed({"ku": "ناو"})),
    (AGENCY, changes.AgencyMoved(0)),
    (AGENCY, changes.AgencyEntitled(entitlement((), ()))),
    (AGENCY, changes.AgencySuspended()),
    (AGENCY, changes.AgencyReinstated()),
    (AGENCY, changes.SuccessorNamed(8)),
    (AGENCY, changes.KeysAdded((new_key(1, KEYS[1]), new_key(2, KEYS[2], "registry", "desk 2")))),
    (AGENCY, changes.KeyEnded(3)),
    (AGENCY, changes.KeyStolen(3, 2**64 - 1)),
    (Subject("type", 65_535), changes.TypeDefined({"en": "T"}, (FIELD,))),
]


def as_json(subject: Subject = AGENCY, previous: Any = "5", **members: Any) -> bytes:
    return encode({"subject": str(subject), "previous": previous, **members})


def body_json(body: ChangeBody, **changed: Any) -> bytes:
    subject = next(subject for subject, one in ALL if type(one) is type(body))
    return as_json(subject, change=body.NAME, **{**body.body(), **changed})


@pytest.mark.parametrize(("subject", "body"), ALL, ids=[body.NAME for _, body in ALL])
def test_every_change_comes_back(subject: Subject, body: ChangeBody) -> None:
    for previous in (0, 5, NONE):
        change = Change(subject, previous, body)
        json = change.to_json()
        assert parse_change(json) == change
        assert parse_change(json).to_json() == json


@pytest.mark.parametrize(("subject", "body"), ALL, ids=[body.NAME for _, body in ALL])
def test_every_member_is_needed_and_no_more(subject: Subject, body: ChangeBody) -> None:
    whole = {"subject": str(subject), "previous": "5", "change": body.NAME, **body.body()}
    for name in whole:
        with pytest.raises(FormatError):
            parse_change(encode({k: v for k, v in whole.items() if k != name}))
    others: list[Any] = [None, -1, [], {}, "\u202e", True]
    for other in others:
        for name, value in whole.items():
            if type(value) is not type(other):
                with pytest.raises(FormatError):
                    parse_change(encode({**whole, name: other}))
    with pytest.raises(FormatError, match="extra"):
        parse_change(encode({**whole, "extra": 1}))
    wrong = next(one for one in (LEDGER, AGENCY, Subject("type", 1)) if one.kind != subject.kind)
    with pytest.raises(FormatError):
        parse_change(encode({**whole, "subject": str(wrong)}))


def test_every_kind_of_change_is_covered() -> None:
    assert {type(body) for _, body in ALL} == set(ChangeBody.__args__)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "agency",
        "agency/",
        "agency/0",
        "agency/01",
        "agency/-1",
        "agency/4294967296",
        "type/0",
        "type/65536",
        "ledger/1",
        "Ledger",
        "agency/1\n",
        "agency/١",
        "agency/99999999999",
    ],
)
def test_subjects_have_one_spelling(text: str) -> None:
    with pytest.raises(FormatError):
        Subject.parse(text)


@pytest.mark.parametrize("text", ["ledger", "agency/1", "agency/4294967295", "type/65535"])
def test_subjects_are_read(text: str) -> None:
    assert str(Subject.parse(text)) == text


KEY = new_key(1, KEYS[1]).to_json()
RIGHTS = entitlement().to_json()
ENROLLED = ALL[6][1]


@pytest.mark.parametrize(
    "json",
    [
        body_json(changes.AgencyRenamed({"en": "A"}), names={}),
        body_json(changes.AgencyRenamed({"en": "A"}), names={"english": "A"}),
        body_json(changes.AgencyRenamed({"en": "A"}), names={"EN": "A"}),
        body_json(changes.AgencyRenamed({"en": "A"}), names={"en-": "A"}),
        body_json(changes.AgencyRenamed({"en": "A"}), names={"en": ""}),
        body_json(changes.AgencyRenamed({"en": "A"}), names={"en": "a" * 256}),
        body_json(changes.AgencyRenamed({"en": "A"}), names={"en": "Ministry\u202e"}),
        body_json(changes.AgencyRenamed({"en": "A"}), names={"en": "Minis\ntry"}),
        body_json(changes.AgencyRenamed({"en": "A"}), names={f"a{chr(98 + i)}": "x" for i in range(17)}),
        body_json(ENROLLED, roles=["issue", "enrol"]),
        body_json(ENROLLED, roles=["issue", "issue"]),
        body_json(ENROLLED, roles=["king"]),
        body_json(ENROLLED, types=[1, 0]),
        body_json(ENROLLED, types=[1, 1]),
        body_json(ENROLLED, types=[65_536]),
        body_json(ENROLLED, types=[True]),
        body_json(ENROLLED, parent=2**32),
        body_json(ENROLLED, policy={"other": {"steps": [[1, 1]], "cap": None}}),
        body_json(changes.KeysAdded(()), keys=[]),
        body_json(changes.KeysAdded(()), keys=[{**KEY, "number": 0}]),
        body_json(changes.KeysAdded(()), keys=[{**KEY, "number": 65_536}]),
        body_json(changes.KeysAdded(()), keys=[{**KEY, "use": "sign"}]),
        body_json(changes.KeysAdded(()), keys=[{**KEY, "label": "desk\u202e1"}]),
        body_json(changes.KeysAdded(()), keys=[{**KEY, "label": "desk\x00"}]),
        body_json(changes.KeysAdded(()), keys=[{**KEY, "label": "x" * 65}]),
        body_json(changes.KeysAdded(()), keys=[{**KEY, "key": KEY["key"].rstrip("=")}]),
        body_json(changes.KeysAdded(()), keys=[{**KEY, "algorithm": 0}]),
        body_json(changes.KeysAdded(()), keys=[{**KEY, "more": 0}]),
        body_json(changes.KeysAdded(()), keys=[KEY] * 65),
        body_json(ALL[1][1], authority={"k": 3, "keys": authority_set(1, KEYS).to_json()["keys"]}),
        body_json(ALL[1][1], authority={"k": 0, "keys": authority_set(1, KEYS).to_json()["keys"]}),
        body_json(ALL[1][1], authority={"k": 1, "keys": authority_set(1, KEYS).to_json()["keys"][::-1]}),
        body_json(ALL[1][1], authority={"k": 1, "keys": authority_set(1, KEYS).to_json()["keys"][:1] * 2}),
        body_json(ALL[1][1], authority={"k": 1, "keys": []}),
        body_json(ALL[-1][1], fields=[FIELD.to_json()] * 2),
        body_json(ALL[-1][1], fields=[{**FIELD.to_json(), "name": "type"}]),
        body_json(ALL[-1][1], fields=[{**FIELD.to_json(), "name": ""}]),
        body_json(ALL[-1][1], fields=[{**FIELD.to_json(), "name": "a\u202eb"}]),
        body_json(ALL[-1][1], fields=[{**FIELD.to_json(), "required": 1}]),
        body_json(ALL[-1][1], fields=[{**FIELD.to_json(), "name": str(i), "expiry": True} for i in range(2)]),
        body_json(ALL[-1][1], fields=[{**FIELD.to_json(), "name": str(i)} for i in range(201)]),
        body_json(ALL[0][1], nonce="AAAA"),
        body_json(ALL[0][1], origin="x" * 256),
        body_json(ALL[0][1], log_keys=[""]),
        body_json(ALL[0][1], log_keys=["x"] * 9),
        body_json(ALL[5][1], rules=0),
        body_json(ALL[5][1], block="01"),
        as_json(change="agency_suspended", previous=5),
        as_json(change="agency_suspended", previous="18446744073709551616"),
        b"{}",
        b"null",
        b"[" * 60_000,
    ],
)
def test_other_shapes_are_refused(json: bytes) -> None:
    with pytest.raises(FormatError):
        parse_change(json)


# --- the leaf ----------------------------------------------------------------------------------

U8, U16, U32 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32))
SIGNATURES = st.dictionaries(
    st.tuples(U32, U16), st.tuples(U8, st.binary(max_size=70)), min_size=1, max_size=32
).map(lambda by: tuple(RegistrySignature(*place, *by[place]) for place in sorted(by)))
LEAVES = st.builds(RegistryLeaf, st.binary(max_size=80), SIGNATURES)


@given(LEAVES)
def test_leaves_come_back(leaf: RegistryLeaf) -> None:
    data = leaf.encode()
    assert RegistryLeaf.decode(data) == leaf
    assert data.startswith(leaf.signed_part())
    assert leaf.message(bytes(32)) == b"sudur/v1/registry\n" + bytes(32) + leaf.signed_part()


@given(LEAVES, st.data())
def test_leaves_of_another_length_are_refused(leaf: RegistryLeaf, data: st.DataObject) -> None:
    encoded = leaf.encode()
    for other in (encoded[: data.draw(st.integers(0, len(encoded) - 1))], encoded + b"\0"):
        with pytest.raises(LeafFormatError):
            RegistryLeaf.decode(other)


@given(st.binary(max_size=150))
def test_any_bytes_raise_only_our_errors(rest: bytes) -> None:
    leaf = b"\x01\x10" + rest
    try:
        made = RegistryLeaf.decode(leaf)
        assert made.encode() == leaf
        made.change()
    except FormatError:
        return


@pytest.mark.parametrize("order", [((0, 1), (0, 1)), ((0, 2), (0, 1)), ((1, 1), (0, 9)), ()])
def test_key_references_ascend(order: tuple[tuple[int, int], ...]) -> None:
    leaf = RegistryLeaf(b"{}", tuple(RegistrySignature(a, n, 1, b"") for a, n in order))
    with pytest.raises(LeafFormatError):
        RegistryLeaf.decode(leaf.encode())


def test_at_most_32_signatures() -> None:
    leaf = RegistryLeaf(b"{}", tuple(RegistrySignature(0, n, 1, b"") for n in range(33)))
    with pytest.raises(LeafFormatError):
        RegistryLeaf.decode(leaf.encode())


@pytest.mark.parametrize("size", [65_530, 65_535, 65_536, 1_000_000])
def test_what_fits_no_leaf_is_not_written(size: int) -> None:
    with pytest.raises(LeafFormatError):
        RegistryLeaf(bytes(size), (RegistrySignature(0, 1, 1, bytes(64)),)).encode()
