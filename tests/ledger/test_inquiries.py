"""Answers about leaves and exchanges: their JSON comes back, and what is none is refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import FormatError
from ledger.inquiries import (
    REMARK,
    AsOf,
    Issued,
    Named,
    Referred,
    Reply,
    Sent,
    Standing,
    read_referred,
    referred_json,
)
from ledger.leaves import LeafType
from ledger.records import Basis, Outcome, SendKind, Status

DAY_MS = 86_400_000
AS_OF = AsOf(900, 20_000 * DAY_MS)
ONE, TWO = Named(1, {"en": "One", "ar": "واحد"}), Named(2, {"en": "Two"})
SENT = Sent(
    50, 1, 2, SendKind.REQUEST, 19_990 * DAY_MS, 3, None, None, Reply(60, 2, Outcome.RECEIVED, 7), None
)
ANSWERS = [
    Referred(
        5, LeafType.ISSUE, ONE, 9, standing=Standing(Status.VALID), issued=Issued(0, {}, Basis.ORIGINAL)
    ),
    Referred(
        6,
        LeafType.ISSUE,
        ONE,
        9,
        standing=Standing(Status.SUPERSEDED, 8, 10, 3, 11),
        issued=Issued(4, {"en": "Degree"}, Basis.REPLACEMENT),
    ),
    Referred(
        7, LeafType.ATTEST, TWO, 9, subject=5, standing=Standing(Status.REVOKED, 8, 10, 0), attestation=3
    ),
    Referred(50, LeafType.SEND, ONE, 9, sent=SENT, recipient=TWO),
    Referred(61, LeafType.ANSWER, TWO, 9, subject=50),
    Referred(899, LeafType.SEAL, Named(0, {}), 9),
]


@pytest.mark.parametrize("referred", ANSWERS, ids=lambda one: one.kind.name)
def test_json_comes_back(referred: Referred) -> None:
    made = json.loads(json.dumps(referred_json(referred, AS_OF)))
    assert made["remark"] == REMARK
    assert read_referred(made, "answer") == (referred, AS_OF)


@pytest.mark.parametrize(
    ("due", "final", "reminds", "day", "overdue"),
    [
        (3, False, None, 19_993, False),
        (3, False, None, 19_994, True),
        (0, False, None, 29_999, False),
        (3, True, None, 29_999, False),
        (3, False, 40, 29_999, False),
    ],
)
def test_overdue(due: int, final: bool, reminds: int | None, day: int, overdue: bool) -> None:
    reply = Reply(70, 2, Outcome.ANSWERED, 8) if final else None
    sent = Sent(50, 1, 2, SendKind.REQUEST, 19_990 * DAY_MS, due, None, reminds, None, reply)
    assert sent.overdue(day * DAY_MS) is overdue


@pytest.mark.parametrize(
    ("name", "value", "where"),
    [
        ("kind", "ISSUE", "answer.kind"),
        ("kind", "letter", "answer.kind"),
        ("index", -1, "answer.index"),
        ("index", 2**64 - 1, "answer.index"),
        ("index", True, "answer.index"),
        ("size", 0, "answer.size"),
        ("agency", {"number": 1}, "answer.agency.names"),
        ("agency", {"number": 1, "names": {"en": "a\u202eb"}}, "answer.agency"),
        ("standing", {"status": "burnt"}, "answer.standing.status"),
        ("issued", [], "answer.issued"),
        ("attestation", 0, "answer.attestation"),
        ("more", 1, "answer.more"),
    ],
)
def test_what_is_refused(name: str, value: Any, where: str) -> None:
    made = {**referred_json(ANSWERS[1], AS_OF), name: value}
    with pytest.raises(FormatError) as caught:
        read_referred(made, "answer")
    assert caught.value.where.startswith(where)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**65) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(st.sampled_from(ANSWERS), st.data())
def test_any_json_is_read_or_refused(referred: Referred, data: st.DataObject) -> None:
    made = referred_json(referred, AS_OF)
    name = data.draw(st.sampled_from(sorted(made)))
    inner = made[name]
    if isinstance(inner, dict) and inner and data.draw(st.booleans()):
        made[name] = {**inner, data.draw(st.sampled_from(sorted(inner))): data.draw(JSON)}
    else:
        made[name] = data.draw(JSON)
    try:
        found, as_of = read_referred(made, "answer")
    except FormatError:
        return
    again = json.loads(json.dumps(referred_json(found, as_of)))
    assert read_referred(again, "answer") == (found, as_of)
