"""Changes in plain words, and whether the registry says already what is wished."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

import pytest

from ledger import changes
from ledger.changes import LEDGER, Change, ChangeBody, NewKey, Subject
from ledger.leaves import NONE
from ledger.registry import Registry
from ledger.registry_records import AgencyRecord, KeyRecord, LedgerRecord, TypeRecord
from ledger.signing_policy import KindPolicy, SigningPolicy
from tests.ledger.test_changes import ALL
from tests.ledger.world import World, authority_set, entitlement, log_key, new_key, signer
from tools.registry.change_text import describe, fingerprint, one_name
from tools.registry.changing import Wish, is_so


@dataclass(frozen=True)
class StateView:
    """The registry of a state, as the tools read one."""

    registry: Registry

    @property
    def ledger(self) -> LedgerRecord:
        return self.registry.ledger

    def agency(self, number: int) -> AgencyRecord:
        return self.registry.agency(number).record

    def key(self, agency: int, number: int) -> KeyRecord:
        return self.registry.agency(agency).keys[number - 1]

    def keys(self, agency: int) -> tuple[KeyRecord, ...]:
        return self.registry.agency(agency).keys

    def type(self, number: int) -> TypeRecord:
        return self.registry.document_type(number)


@pytest.fixture
def world() -> World:
    """Agencies 1 (two submit keys, a registry key) and 2, and type 1."""
    made = World()
    made.define_type()
    made.enrol(submit=2, registry=1)
    made.enrol()
    return made


AGENCY = Subject("agency", 1)
MADE: list[tuple[Subject, ChangeBody]] = [
    (LEDGER, changes.LogKeyAdded(log_key("another"))),
    (LEDGER, changes.WitnessPolicyChanged("quorum none\n")),
    (LEDGER, changes.RulesRaised(2, 90_000)),
    (AGENCY, changes.AgencyRenamed({"en": "New", "ckb": "نوێ"})),
    (AGENCY, changes.AgencyMoved(2)),
    (
        AGENCY,
        changes.AgencyEntitled(
            entitlement(("attest",), (0, 1), SigningPolicy({"status": KindPolicy(((1, 1), (9, 2)), 50)}))
        ),
    ),
    (AGENCY, changes.AgencySuspended()),
    (AGENCY, changes.SuccessorNamed(2)),
    (AGENCY, changes.KeysAdded((new_key(4, signer("fresh"), "submit", "desk-4"),))),
    (AGENCY, changes.KeyEnded(2)),
    (AGENCY, changes.KeyStolen(2, 3)),
    (Subject("type", 2), changes.TypeDefined({"en": "Degree"}, ())),
]


@pytest.mark.parametrize(("subject", "body"), MADE, ids=[body.NAME for _, body in MADE])
def test_what_was_made_is_so(world: World, subject: Subject, body: ChangeBody) -> None:
    wish = Wish(Subject("type") if subject.kind == "type" else subject, body)
    assert is_so(wish, 0, StateView(world.state.registry)) is None
    world.change(subject, body)
    assert is_so(wish, 0, StateView(world.state.registry)) == subject


def test_a_suspension_is_so_for_who_made_it(world: World) -> None:
    world.change(AGENCY, changes.AgencySuspended())
    view = StateView(world.state.registry)
    assert is_so(Wish(AGENCY, changes.AgencySuspended()), 2, view) is None
    assert is_so(Wish(AGENCY, changes.AgencyReinstated()), 0, view) is None
    world.change(AGENCY, changes.AgencyReinstated())
    assert is_so(Wish(AGENCY, changes.AgencyReinstated()), 0, StateView(world.state.registry)) == AGENCY


def test_keys_are_the_same_under_other_numbers(world: World) -> None:
    there = world.state.registry.agency(1).keys[0]
    key = NewKey(9, there.algorithm, there.public_key, "submit", "x")
    view = StateView(world.state.registry)
    assert is_so(Wish(AGENCY, changes.KeysAdded((key,))), 0, view) == AGENCY
    fresh = new_key(10, signer("fresh"), "submit")
    assert is_so(Wish(AGENCY, changes.KeysAdded((key, fresh))), 0, view) is None


def test_an_authority_that_stays_the_same(world: World) -> None:
    keys = {number: world.keys[0][number] for number in (1, 2, 3)}
    view = StateView(world.state.registry)
    assert is_so(Wish(LEDGER, changes.AuthorityReplaced(authority_set(2, keys))), 0, view) == LEDGER
    assert is_so(Wish(LEDGER, changes.AuthorityReplaced(authority_set(3, keys))), 0, view) is None


@pytest.mark.parametrize(("subject", "body"), ALL, ids=[body.NAME for _, body in ALL])
def test_every_change_can_be_told(subject: Subject, body: ChangeBody) -> None:
    lines = describe(Change(subject, NONE, body))
    assert lines
    assert all(unicodedata.category(letter)[0] != "C" for line in lines for letter in line)
    text = "\n".join(lines)
    if subject.kind == "agency":
        assert f"agency {subject.number}" in text
    if isinstance(body, changes.KeysAdded):
        for key in body.keys:
            assert fingerprint(key.algorithm, key.public_key) in text
    if isinstance(body, changes.AuthorityReplaced | changes.Genesis):
        for one in body.authority.keys:
            assert fingerprint(one.algorithm, one.public_key) in text
    if isinstance(body, changes.Genesis):
        assert "witness policy: " in text
    if isinstance(body, changes.KeyStolen):
        assert str(body.since) in text


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (changes.AgencyRenamed({"en": "New"}), '  names: ar "دائرة 1", en "Agency 1" → en "New"'),
        (changes.AgencyMoved(2), '  under: the authority → agency 2 ("Agency 2")'),
        (changes.AgencyEntitled(entitlement((), ())), "  roles: issue → none"),
        (changes.KeyEnded(3), "  it is for registry"),
        (changes.SuccessorNamed(2), 'Name agency 2 ("Agency 2") the successor of agency 1 ("Agency 1")'),
    ],
)
def test_what_was_before_stands_first(world: World, body: ChangeBody, line: str) -> None:
    lines = describe(Change(AGENCY, NONE, body), StateView(world.state.registry))
    assert any(one.startswith(line) for one in lines), lines


def test_a_name_cannot_go_on_as_if_it_were_ours(world: World) -> None:
    """Whoever stands above an agency names it; who signs reads the name in a sentence."""
    evil = 'Health) the successor of agency 12 ("Old'
    world.change(AGENCY, changes.AgencyRenamed({"en": evil}))
    lines = describe(
        Change(Subject("agency", 2), NONE, changes.SuccessorNamed(1)), StateView(world.state.registry)
    )
    quoted = 'Health) the successor of agency 12 (\\"Old'
    assert lines == [f'Name agency 1 ("{quoted}") the successor of agency 2 ("Agency 2")']


def test_a_name_in_the_wanted_language() -> None:
    names = {"ar": "وزارة", "ckb": "وەزارەت", "en": "Ministry"}
    assert one_name(names, ("ckb",)) == "وەزارەت"
    assert one_name(names, ("fr",)) == "Ministry"
    assert one_name({"ar": "وزارة"}, ("fr",)) == "وزارة"
