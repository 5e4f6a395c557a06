"""The registry: who may change what, histories, thefts, and a root that is over the records alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import changes
from ledger.canonical_json import encode, parse
from ledger.changes import AUTHORITY, LEDGER, Change, ChangeBody, Subject
from ledger.errors import (
    AgencySuspended,
    ChangeRefused,
    FormatError,
    KeyEnded,
    KeyReused,
    KeyStolen,
    KeyUnknown,
    KeyUse,
    LedgerClosed,
    NotEntitled,
    RegistryConflict,
    SignatureInvalid,
    SudurError,
    TooFewSignatures,
    UnknownAgency,
    UnknownType,
)
from ledger.hashing import leaf_hash, merkle_root
from ledger.leaves import NONE
from ledger.notes import SignatureType, VerifierKey
from ledger.registry import Registry
from ledger.registry_changes import (
    MAX_AGENCY_KEYS,
    MAX_DEPTH,
    MAX_RECORD_BY_AGENCY,
    MAX_RECORD_BY_AUTHORITY,
    amend,
    found,
    usable_key,
)
from ledger.registry_leaf import NO_GENESIS, RegistryLeaf
from ledger.registry_records import (
    MAX_LEDGER_KEYS,
    MAX_RECORD,
    AgencyRecord,
    History,
    KeyRecord,
    LedgerRecord,
    LogKeyRecord,
    TypeRecord,
)
from ledger.signatures import Algorithm, Signer
from ledger.signing_policy import KindPolicy, SigningPolicy
from tests.ledger.world import (
    ORIGIN,
    START_MS,
    Keys,
    World,
    authority_set,
    commitment,
    entitlement,
    log_key,
    new_key,
    sign_change,
    signer,
)

CASES = json.loads((Path(__file__).parents[1] / "vectors" / "registry.json").read_text())


def agency(number: int) -> Subject:
    return Subject("agency", number)


def all_records(registry: Registry) -> list[bytes]:
    subjects = [LEDGER]
    subjects += [agency(n) for n in range(1, len(registry.agencies) + 1)]
    subjects += [Subject("type", n) for n in range(1, len(registry.types) + 1)]
    assert [registry.position(subject) for subject in subjects] == list(range(len(subjects)))
    return [registry.record(subject) for subject in subjects]


def check_registry(registry: Registry) -> None:
    """Every record reads back; the registry is what its records make; the root is over them."""
    records = all_records(registry)
    assert registry.root == merkle_root([leaf_hash(one) for one in records])
    assert LedgerRecord.decode(records[0]) == registry.ledger
    for one in registry.agencies.values():
        assert AgencyRecord.decode(one.record.encode()) == one.record
        assert [KeyRecord.decode(key.encode()) for key in one.keys] == list(one.keys)
        assert [key.number for key in one.keys] == list(range(1, len(one.keys) + 1))
        assert one.record.keys_root == merkle_root([leaf_hash(key.encode()) for key in one.keys])
        assert one.record.key_count == len(one.keys)
    for kind in registry.types.values():
        assert TypeRecord.decode(kind.encode()) == kind
    assert registry.ledger.agencies == len(registry.agencies)
    assert registry.ledger.types == len(registry.types)
    again = Registry.of(
        registry.genesis, registry.ledger, registry.agencies.values(), registry.types.values()
    )
    assert again == registry


# --- known answers -----------------------------------------------------------------------------


def stand_on(registry: Registry | None, leaf: bytes, case: dict[str, int]) -> Registry:
    if case["index"] == 0:
        return found(leaf)
    assert registry is not None
    return amend(registry, RegistryLeaf.decode(leaf), case["index"], case["block"])


def test_known_answers() -> None:
    registry: Registry | None = None
    for case in CASES:
        leaf, want = bytes.fromhex(case["leaf"]), case["want"]
        if isinstance(want, str):
            with pytest.raises(SudurError) as caught:
                stand_on(registry, leaf, case)
            assert caught.value.code == want, case["desc"]
            continue
        registry = stand_on(registry, leaf, case)
        assert registry.genesis.hex() == case["genesis"]
        assert [one.decode() for one in all_records(registry)] == want["records"], case["desc"]
        keys = [key.encode().decode() for one in registry.agencies.values() for key in one.keys]
        assert keys == want["keys"], case["desc"]
        assert registry.root.hex() == want["registry_root"], case["desc"]
        check_registry(registry)


# --- genesis -----------------------------------------------------------------------------------


def genesis(signers: Keys | None = None, message: bytes = NO_GENESIS, **changed: Any) -> bytes:
    keys = {n: signer(f"root {n}") for n in (1, 2, 3)}
    values: dict[str, Any] = {
        "origin": ORIGIN,
        "nonce": bytes(32),
        "training": False,
        "time_ms": START_MS,
        "log_keys": (log_key("log"),),
        "authority": authority_set(2, keys),
        "witness_policy": "",
        **changed,
    }
    change = Change(LEDGER, NONE, changes.Genesis(**values))
    signed_by = keys if signers is None else signers
    return sign_change(message, change, {(AUTHORITY, n): key for n, key in signed_by.items()})


def test_a_ledger_is_named_by_its_first_leaf() -> None:
    leaf = genesis()
    assert found(leaf).genesis == leaf_hash(leaf)
    assert found(genesis(nonce=bytes(31) + b"\1")).genesis != leaf_hash(leaf)
    check_registry(found(leaf))


def cosigner_key() -> str:
    return VerifierKey(ORIGIN, SignatureType.ED25519_COSIGNATURE, signer("log").public_key).format()


@pytest.mark.parametrize(
    ("leaf", "error"),
    [
        (lambda: genesis(signers={1: signer("root 1"), 2: signer("root 2")}), TooFewSignatures),
        (lambda: genesis(signers={n: signer("root 1") for n in (1, 2, 3)}), SignatureInvalid),
        (lambda: genesis(message=bytes(31) + b"\1"), SignatureInvalid),
        (lambda: genesis(log_keys=()), ChangeRefused),
        (lambda: genesis(log_keys=(log_key("log", "other"),)), ChangeRefused),
        (lambda: genesis(log_keys=(log_key("log"),) * 2), KeyReused),
        (lambda: genesis(log_keys=(cosigner_key(),)), ChangeRefused),
        (lambda: genesis(log_keys=("nonsense",)), FormatError),
        (lambda: genesis(witness_policy="nonsense"), FormatError),
        (lambda: genesis(authority=authority_set(2, {1: signer("x"), 2: signer("x")})), KeyReused),
    ],
)
def test_no_ledger_begins_so(leaf: Callable[[], bytes], error: type[SudurError]) -> None:
    with pytest.raises(error):
        found(leaf())


def test_a_ledger_begins_with_a_genesis() -> None:
    world = World()
    leaf = world.change_leaf(Subject("type", 1), changes.TypeDefined({"en": "T"}, ()))
    with pytest.raises(ChangeRefused):
        found(leaf)
    body = parse_genesis(world)
    with pytest.raises(ChangeRefused, match="one genesis"):
        world.change(LEDGER, body)


def parse_genesis(world: World) -> ChangeBody:
    return RegistryLeaf.decode(world.reader.leaves[0]).change().body


# --- k of n ------------------------------------------------------------------------------------

TYPE = changes.TypeDefined({"en": "T"}, ())


def define(world: World, keys: Sequence[int] | Keys) -> int:
    return world.change(Subject("type", len(world.state.registry.types) + 1), TYPE, keys=keys)


def test_k_of_n() -> None:
    world = World(k=2, n=3)
    for keys in ((1, 2), (1, 3), (2, 3), (1, 2, 3)):
        define(world, keys)
    for number in (1, 3):
        with pytest.raises(TooFewSignatures):
            define(world, (number,))
    authority = world.keys[AUTHORITY]
    with pytest.raises(SignatureInvalid):
        define(world, {1: authority[1], 2: authority[1]})
    with pytest.raises(SignatureInvalid):
        define(world, {1: authority[1], 2: authority[2], 3: signer("nobody")})
    with pytest.raises(KeyUnknown):
        define(world, {1: authority[1], 2: authority[2], 4: signer("nobody")})
    check_registry(world.state.registry)


def replace_authority(world: World, k: int, keys: Keys, by: Keys) -> int:
    return world.change(LEDGER, changes.AuthorityReplaced(authority_set(k, keys)), keys=by)


def test_the_authority_is_replaced_by_k_old_and_each_new() -> None:
    world = World(k=2, n=3)
    old = dict(world.keys[AUTHORITY])
    four, five = signer("four"), signer("five")
    new = {3: old[3], 4: four, 5: five}
    for by in (
        {4: four, 5: five, 3: old[3]},
        {1: old[1], 2: old[2], 3: old[3], 4: four},
        {1: old[1], 2: old[2], 4: four, 5: five},
        {1: old[1], 4: four, 5: five},
    ):
        with pytest.raises(TooFewSignatures):
            replace_authority(world, 2, new, by)
    index = replace_authority(world, 2, new, {1: old[1], 3: old[3], 4: four, 5: five})
    ledger = world.state.registry.ledger
    assert [(key.number, key.ended) for key in ledger.authority_keys] == [
        (1, index),
        (2, index),
        (3, None),
        (4, None),
        (5, None),
    ]
    with pytest.raises(KeyEnded):
        define(world, {1: old[1], 3: old[3]})
    define(world, {3: old[3], 4: four})
    for keys, error in (
        ({3: old[3], 4: four, 6: old[1]}, KeyReused),
        ({3: old[3], 4: four, 7: signer("seven")}, ChangeRefused),
        ({3: old[3], 4: five}, SignatureInvalid),
        ({1: old[1], 3: old[3]}, KeyEnded),
    ):
        with pytest.raises(error):
            replace_authority(world, 2, keys, {3: old[3], 4: four, 5: five, **keys})
    check_registry(world.state.registry)


def test_a_number_never_stands_for_another_key() -> None:
    world = World(k=1, n=2)
    old = world.keys[AUTHORITY]
    with pytest.raises(ChangeRefused, match="another key"):
        replace_authority(world, 1, {1: signer("new"), 2: old[2]}, old)


def test_a_change_is_not_replayed_nor_moved() -> None:
    world = World()
    number = world.enrol()
    subject = agency(number)
    leaf = world.change_leaf(subject, changes.AgencySuspended())
    draft = world.begin()
    draft.add_change(leaf)
    with pytest.raises(RegistryConflict) as caught:
        draft.add_change(leaf)
    assert caught.value.index == draft.next_index - 1
    world.seal(draft)
    world.change(subject, changes.AgencyReinstated())
    with pytest.raises(RegistryConflict):
        world.begin().add_change(leaf)
    other = World(origin="ledger.example/other")
    other.enrol()
    with pytest.raises(SignatureInvalid):
        other.begin().add_change(leaf)


# --- agencies ----------------------------------------------------------------------------------


@pytest.fixture
def tree() -> World:
    """1 a parent with the role to enrol, 2 its child, 3 the child's child, 4 a stranger."""
    world = World()
    world.define_type()
    world.define_type()
    world.enrol(roles=("enrol", "issue", "attest"), types=(0, 1), registry=1)
    by = {2: world.keys[1][2]}
    for parent, number in ((1, 2), (2, 3)):
        body = changes.AgencyEnrolled({"en": "x"}, parent, entitlement(("enrol", "issue"), (0, 1)))
        world.keys[number] = {1: signer(f"registry {number}"), 2: signer(f"submit {number}")}
        world.change(agency(number), body, by=parent, keys=by)
        keys = tuple(
            new_key(n, key, use)
            for (n, key), use in zip(world.keys[number].items(), ("registry", "submit"), strict=True)
        )
        world.change(agency(number), changes.KeysAdded(keys), by=parent, keys=by)
        by = {1: world.keys[number][1]}
    world.enrol(roles=("enrol",), registry=1)
    check_registry(world.state.registry)
    return world


def registry_key(world: World, number: int) -> dict[int, Signer]:
    one = world.state.registry.agency(number)
    found_key = next(key for key in one.keys if key.use == "registry")
    return {found_key.number: world.keys[number][found_key.number]}


def by_agency(world: World, senior: int, subject: Subject, body: ChangeBody) -> int:
    return world.change(subject, body, by=senior, keys=registry_key(world, senior))


def enrolment(parent: int, roles: Sequence[str], types: Sequence[int]) -> changes.AgencyEnrolled:
    return changes.AgencyEnrolled({"en": "x"}, parent, entitlement(roles, types))


def test_a_parent_gives_no_more_than_it_has(tree: World) -> None:
    for roles, types in ((("circulate",), (0,)), (("issue",), (2,)), (("issue", "request"), ())):
        with pytest.raises(NotEntitled, match="does not have"):
            by_agency(tree, 1, agency(5), enrolment(1, roles, types))
        with pytest.raises(NotEntitled, match="does not have"):
            by_agency(tree, 1, agency(2), changes.AgencyEntitled(entitlement(roles, types)))
    by_agency(tree, 1, agency(3), changes.AgencyEntitled(entitlement(("attest",), (1,))))
    by_agency(tree, 1, agency(5), enrolment(1, ("attest",), ()))
    tree.change(agency(2), changes.AgencyEntitled(entitlement(("circulate",), (2,))))


def test_a_parent_enrols_under_itself_only_and_with_the_role(tree: World) -> None:
    for parent in (AUTHORITY, 2, 4):
        with pytest.raises(NotEntitled):
            by_agency(tree, 1, agency(5), enrolment(parent, (), ()))
    tree.change(agency(1), changes.AgencyEntitled(entitlement(("issue",), (0, 1))))
    with pytest.raises(NotEntitled):
        by_agency(tree, 1, agency(5), enrolment(1, (), ()))


@pytest.mark.parametrize(
    ("body", "by_self", "by_parent"),
    [
        (changes.AgencyRenamed({"en": "y"}), False, True),
        (changes.AgencyMoved(1), False, False),
        (changes.AgencyEntitled(entitlement((), ())), False, True),
        (changes.AgencySuspended(), False, True),
        (changes.SuccessorNamed(1), False, True),
        (changes.KeysAdded((new_key(3, signer("fresh")),)), True, True),
        (changes.KeyEnded(2), True, True),
        (changes.KeyStolen(2, 5), False, False),
    ],
    ids=lambda value: getattr(value, "NAME", value),
)
def test_who_signs_what(tree: World, body: ChangeBody, by_self: bool, by_parent: bool) -> None:
    state = tree.state
    for senior, allowed in ((2, by_self), (1, by_parent), (3, False), (4, False), (AUTHORITY, True)):
        keys = None if senior == AUTHORITY else registry_key(tree, senior)
        leaf = tree.change_leaf(agency(2), body, by=senior, keys=keys)
        draft = tree.begin()
        if allowed:
            draft.add_change(leaf)
            check_registry(draft.registry)
        else:
            with pytest.raises(NotEntitled):
                draft.add_change(leaf)
    assert tree.state == state


@pytest.mark.parametrize(
    ("subject", "body"),
    [
        (LEDGER, changes.WitnessPolicyChanged("")),
        (LEDGER, changes.RulesRaised(2, 10_000)),
        (LEDGER, changes.LogKeyAdded(log_key("second"))),
        (Subject("type", 3), TYPE),
        (agency(5), enrolment(AUTHORITY, (), ())),
    ],
    ids=lambda value: getattr(value, "NAME", str(value)),
)
def test_what_only_the_authority_changes(tree: World, subject: Subject, body: ChangeBody) -> None:
    with pytest.raises(NotEntitled):
        by_agency(tree, 1, subject, body)
    tree.change(subject, body)
    check_registry(tree.state.registry)


def test_several_agencies_sign_nothing_together(tree: World) -> None:
    change = Change(agency(3), tree.state.registry.changed(agency(3)), changes.AgencyRenamed({"en": "z"}))
    keys = {(senior, number): key for senior in (1, 2) for number, key in registry_key(tree, senior).items()}
    with pytest.raises(NotEntitled, match="not by several"):
        tree.begin().add_change(sign_change(tree.genesis, change, keys))


def test_changes_follow_the_registry_policy(tree: World) -> None:
    policy = SigningPolicy({"registry": KindPolicy(((1, 2),))})
    tree.change(agency(2), changes.AgencyEntitled(entitlement(("enrol",), (), policy)))
    with pytest.raises(TooFewSignatures):
        by_agency(tree, 2, agency(3), changes.AgencyRenamed({"en": "y"}))
    second = signer("second registry key")
    tree.change(agency(2), changes.KeysAdded((new_key(3, second, "registry"),)))
    both = {**registry_key(tree, 2), 3: second}
    tree.change(agency(3), changes.AgencyRenamed({"en": "y"}), by=2, keys=both)


def test_suspension_is_lifted_by_who_made_it_or_above(tree: World) -> None:
    by_agency(tree, 1, agency(3), changes.AgencySuspended())
    for senior in (1, 2):
        with pytest.raises(ChangeRefused, match="already"):
            by_agency(tree, senior, agency(3), changes.AgencySuspended())
    with pytest.raises(NotEntitled):
        by_agency(tree, 2, agency(3), changes.AgencyReinstated())
    with pytest.raises(AgencySuspended):
        by_agency(tree, 3, agency(3), changes.KeyEnded(2))
    by_agency(tree, 1, agency(3), changes.AgencyReinstated())
    with pytest.raises(ChangeRefused, match="not suspended"):
        by_agency(tree, 1, agency(3), changes.AgencyReinstated())
    by_agency(tree, 2, agency(3), changes.AgencySuspended())
    by_agency(tree, 1, agency(3), changes.AgencyReinstated())
    tree.change(agency(3), changes.AgencySuspended())
    for senior in (1, 2):
        with pytest.raises(NotEntitled):
            by_agency(tree, senior, agency(3), changes.AgencyReinstated())
    tree.change(agency(3), changes.AgencyReinstated())
    history = tree.state.registry.agency(3).record.suspended
    assert [value for _, value in history.entries] == [None, 1, None, 2, None, AUTHORITY, None]


def test_a_suspension_can_be_taken_over_from_above(tree: World) -> None:
    """Otherwise a parent could suspend first, and lift what the authority meant to last."""
    by_agency(tree, 2, agency(3), changes.AgencySuspended())
    tree.change(agency(3), changes.AgencySuspended())
    with pytest.raises(NotEntitled):
        by_agency(tree, 2, agency(3), changes.AgencyReinstated())
    with pytest.raises(ChangeRefused, match="already"):
        tree.change(agency(3), changes.AgencySuspended())


def test_a_suspended_parent_changes_nothing(tree: World) -> None:
    tree.change(agency(1), changes.AgencySuspended())
    with pytest.raises(AgencySuspended):
        by_agency(tree, 1, agency(2), changes.AgencyRenamed({"en": "y"}))


def test_an_agency_never_comes_under_itself(tree: World) -> None:
    for parent in (1, 2, 3):
        with pytest.raises(ChangeRefused):
            tree.change(agency(1), changes.AgencyMoved(parent))
    with pytest.raises(UnknownAgency):
        tree.change(agency(1), changes.AgencyMoved(9))
    tree.change(agency(3), changes.AgencyMoved(AUTHORITY))
    tree.change(agency(1), changes.AgencyMoved(3))
    assert tree.state.registry.is_above(3, 2)
    assert tree.state.registry.is_above(AUTHORITY, 2)
    assert not tree.state.registry.is_above(2, 3)


def test_successors_do_not_run_in_a_circle(tree: World) -> None:
    tree.change(agency(1), changes.SuccessorNamed(2))
    tree.change(agency(2), changes.SuccessorNamed(3))
    for number, successor in ((3, 1), (3, 2), (3, 3), (2, 2)):
        with pytest.raises(ChangeRefused):
            tree.change(agency(number), changes.SuccessorNamed(successor))
    with pytest.raises(UnknownAgency):
        tree.change(agency(4), changes.SuccessorNamed(9))


@pytest.mark.parametrize("number", [4, 6, 4_294_967_295])
def test_agencies_are_numbered_in_order(tree: World, number: int) -> None:
    with pytest.raises(ChangeRefused, match="numbered in order"):
        tree.change(agency(number), enrolment(AUTHORITY, (), ()))


def test_changes_of_the_unknown(tree: World) -> None:
    for body in (changes.AgencySuspended(), changes.KeyEnded(1), changes.AgencyMoved(1)):
        with pytest.raises(UnknownAgency):
            tree.change(agency(9), body)
    with pytest.raises(NotEntitled):
        by_agency(tree, 1, agency(9), changes.AgencySuspended())
    with pytest.raises(UnknownType):
        tree.change(agency(2), changes.AgencyEntitled(entitlement((), (9,))))
    with pytest.raises(ChangeRefused, match="never changes"):
        tree.change(Subject("type", 1), TYPE)


# --- keys --------------------------------------------------------------------------------------


def test_a_public_key_is_registered_once_ever(tree: World) -> None:
    keys = tree.state.registry.agency(2).keys
    tree.change(agency(2), changes.KeyEnded(2))
    for old in (
        tree.keys[2][2],
        tree.keys[3][1],
        tree.keys[AUTHORITY][1],
    ):
        with pytest.raises(KeyReused):
            tree.change(agency(2), changes.KeysAdded((new_key(len(keys) + 1, old),)))
    twice = signer("twice")
    with pytest.raises(KeyReused):
        tree.change(agency(2), changes.KeysAdded((new_key(3, twice), new_key(4, twice, "registry"))))


def test_keys_are_checked_when_they_are_added(tree: World) -> None:
    good = signer("good").public_key
    envelope = bytes([9]) + bytes(31)
    for key, error in (
        (changes.NewKey(4, 1, good, "submit", ""), ChangeRefused),
        (changes.NewKey(2, 1, good, "submit", ""), ChangeRefused),
        (changes.NewKey(3, 1, good[:-1], "submit", ""), FormatError),
        (changes.NewKey(3, 1, b"\1" + bytes(31), "submit", ""), FormatError),
        (changes.NewKey(3, 2, bytes(1312), "submit", ""), FormatError),
        (changes.NewKey(3, 9, good, "submit", ""), FormatError),
        (changes.NewKey(3, 1, good, "envelope", ""), KeyUse),
        (changes.NewKey(3, Algorithm.X25519, envelope, "submit", ""), KeyUse),
        (changes.NewKey(3, Algorithm.X25519, bytes(32), "envelope", ""), FormatError),
    ):
        with pytest.raises(error):
            tree.change(agency(2), changes.KeysAdded((key,)))
    tree.change(
        agency(2), changes.KeysAdded((changes.NewKey(3, Algorithm.X25519, envelope, "envelope", ""),))
    )
    with pytest.raises(KeyUse):
        usable_key(tree.state.registry.agency(2), 3, "submit", 10_000)


def test_a_key_works_after_it_is_added_and_before_it_ends(tree: World) -> None:
    added = tree.add_keys(2, ["submit"])
    ended = tree.change(agency(2), changes.KeyEnded(3))
    record = tree.state.registry.agency(2).keys[2]
    assert [record.active_at(i) for i in (added - 1, added, added + 1, ended - 1, ended)] == [
        False,
        False,
        True,
        True,
        False,
    ]
    with pytest.raises(KeyEnded):
        usable_key(tree.state.registry.agency(2), 3, "submit", ended)
    usable_key(tree.state.registry.agency(2), 3, "submit", ended - 1)
    with pytest.raises(KeyUnknown):
        tree.change(agency(2), changes.KeyEnded(3))
    for number in (0, 4, 65_535):
        with pytest.raises(KeyUnknown):
            usable_key(tree.state.registry.agency(2), number, "submit", ended)


# --- thefts ------------------------------------------------------------------------------------


def stolen_since(world: World, number: int) -> list[int | None]:
    return [
        None if key.stolen is None else key.stolen.since for key in world.state.registry.agency(number).keys
    ]


def test_thefts_spread_to_what_the_stolen_key_added(tree: World) -> None:
    """1's registry key adds to 2 (before and after), 2's new registry key to 3, and so on."""
    before = tree.change(
        agency(2), changes.KeysAdded((new_key(3, signer("early")),)), by=1, keys=registry_key(tree, 1)
    )
    since = tree.state.size
    thief_key = signer("thief's")
    first = tree.change(
        agency(2),
        changes.KeysAdded((new_key(4, thief_key, "registry"), new_key(5, signer("thief's submit")))),
        by=1,
        keys=registry_key(tree, 1),
    )
    second = tree.change(
        agency(3), changes.KeysAdded((new_key(3, signer("deep")),)), by=2, keys={4: thief_key}
    )
    stranger = tree.state.registry.agency(4)
    stolen = next(iter(registry_key(tree, 1)))
    declared = tree.change(agency(1), changes.KeyStolen(stolen, since))
    assert stolen_since(tree, 2) == [None, None, None, first, first]
    assert stolen_since(tree, 3) == [None, None, second]
    records = tree.state.registry
    assert records.agency(1).record.stolen_since is None  # its submit key is not
    assert records.agency(2).record.stolen_since == first
    assert records.agency(3).record.stolen_since == second
    assert records.agency(4) is stranger
    assert all(key.stolen is None or key.stolen.declared == declared for key in records.agency(3).keys)
    with pytest.raises(KeyStolen):
        tree.change(agency(3), changes.AgencyRenamed({"en": "y"}), by=2, keys={4: thief_key})
    check_registry(records)

    for later in (since, since + 1):
        with pytest.raises(ChangeRefused, match="only move to before"):
            tree.change(agency(1), changes.KeyStolen(stolen, later))
    tree.change(agency(1), changes.KeyStolen(stolen, before))
    assert stolen_since(tree, 2) == [None, None, before, first, first]
    assert tree.state.registry.agency(2).record.stolen_since == before
    tree.change(agency(1), changes.KeyStolen(stolen, 0))
    everything = [key.added for key in tree.state.registry.agency(2).keys]
    assert stolen_since(tree, 2) == everything
    check_registry(tree.state.registry)


def test_the_borders_of_a_theft(tree: World) -> None:
    size = tree.state.size
    with pytest.raises(ChangeRefused, match="after its declaration"):
        tree.change(agency(2), changes.KeyStolen(2, size + 1))
    with pytest.raises(KeyUnknown):
        tree.change(agency(2), changes.KeyStolen(9, 0))
    tree.change(agency(2), changes.KeyStolen(2, size))
    key = tree.state.registry.agency(2).keys[1]
    assert not key.stolen_at(size - 1)
    assert key.stolen_at(size)
    tree.change(agency(2), changes.KeyEnded(2))
    tree.change(agency(2), changes.KeyStolen(2, size - 1))


# --- the ledger's own --------------------------------------------------------------------------


def test_log_keys_come_and_go() -> None:
    world = World()
    old, new = log_key("log"), log_key("log 2")
    with pytest.raises(ChangeRefused, match="last Ed25519 log key"):
        world.change(LEDGER, changes.LogKeyEnded(old, 1000))
    for vkey, error in (
        (old, KeyReused),
        (log_key("log 2", "other"), ChangeRefused),
        (cosigner_key(), ChangeRefused),
        ("nonsense", FormatError),
    ):
        with pytest.raises(error):
            world.change(LEDGER, changes.LogKeyAdded(vkey))
    world.change(LEDGER, changes.LogKeyAdded(new))
    size = world.state.size
    with pytest.raises(ChangeRefused, match="past"):
        world.change(LEDGER, changes.LogKeyEnded(old, size))
    world.change(LEDGER, changes.LogKeyEnded(old, size + 1))
    with pytest.raises(ChangeRefused, match="in use"):
        world.change(LEDGER, changes.LogKeyEnded(old, size + 100))
    with pytest.raises(KeyReused):
        world.change(LEDGER, changes.LogKeyAdded(old))
    check_registry(world.state.registry)


def test_a_ledger_is_closed_once_and_for_all() -> None:
    world = World()
    number = world.enrol()
    following = changes.LedgerClosed(commitment("next"), "next.example")
    with pytest.raises(ChangeRefused, match="follow itself"):
        world.change(LEDGER, replace(following, genesis=world.genesis))
    with pytest.raises(ChangeRefused, match="origin of its own"):
        world.change(LEDGER, replace(following, origin=world.origin))
    at = world.change(LEDGER, following)
    closed = world.state.registry.ledger.closed
    assert closed is not None
    assert (closed.since, closed.genesis, closed.origin) == (at, following.genesis, "next.example")
    with pytest.raises(ChangeRefused, match="once and for all"):
        world.change(LEDGER, replace(following, origin="other.example"))
    for enrolled_or_defined in (world.enrol, world.define_type):
        with pytest.raises(LedgerClosed, match=r"takes nothing new.*next\.example"):
            enrolled_or_defined()
    world.add_keys(number, ["submit"])
    world.change(agency(number), changes.AgencySuspended())
    check_registry(world.state.registry)


def test_a_closed_log_ends_with_its_last_key() -> None:
    world = World()
    world.change(LEDGER, changes.LedgerClosed(commitment("next"), "next.example"))
    assert world.state.registry.ledger.end is None
    size = world.state.size
    with pytest.raises(ChangeRefused, match=f"below {size + 2} leaves"):
        world.change(LEDGER, changes.LogKeyEnded(log_key("log"), size + 1))
    draft = world.begin()
    world.change(LEDGER, changes.LogKeyEnded(log_key("log"), size + 3), draft=draft)
    world.change(LEDGER, changes.WitnessPolicyChanged(""), draft=draft)
    with pytest.raises(LedgerClosed, match="ends with"):
        world.change(LEDGER, changes.WitnessPolicyChanged(""), draft=draft)
    world.seal(draft)
    assert world.state.registry.ledger.end == world.state.size == size + 3
    with pytest.raises(LedgerClosed):
        world.idle()


def test_rules_only_rise_and_only_ahead() -> None:
    world = World()
    block = world.state.block + 1
    for rules, at in ((2, block), (2, 0), (1, block + 5)):
        with pytest.raises(ChangeRefused):
            world.change(LEDGER, changes.RulesRaised(rules, at))
    world.change(LEDGER, changes.RulesRaised(3, block + 5))
    for rules, at in ((3, block + 9), (4, block + 5), (2, block + 9)):
        with pytest.raises(ChangeRefused):
            world.change(LEDGER, changes.RulesRaised(rules, at))
    history = world.state.registry.ledger.rules
    assert [history.at(b) for b in (0, block + 4, block + 5, 2**64 - 1)] == [1, 1, 3, 3]


# --- limits ------------------------------------------------------------------------------------


def names(text: str) -> dict[str, str]:
    return {f"a{chr(97 + i)}": text * 255 for i in range(16)}


def test_no_record_outgrows_its_readers(tree: World) -> None:
    """A parent cannot fill its child's record so that the authority could not suspend it."""
    registry = tree.state.registry
    record = registry.agency(2).record
    entries = record.names.entries
    big = record
    while len(big.encode()) < MAX_RECORD_BY_AGENCY - 6000:
        entries = (*entries, (entries[-1][0] + 1, names("x")))
        big = replace(record, names=History(entries))
    filled = registry.with_agency(replace(registry.agency(2), record=big))
    index = 10_000

    def change(registry: Registry, body: ChangeBody, by: int) -> Registry:
        nonlocal index
        index += 1
        keys = {n: tree.keys[AUTHORITY][n] for n in (1, 2)} if by == AUTHORITY else registry_key(tree, by)
        leaf = sign_change(
            tree.genesis,
            Change(agency(2), registry.changed(agency(2)), body),
            {(by, n): key for n, key in keys.items()},
        )
        return amend(registry, RegistryLeaf.decode(leaf), index, 100)

    def fill(registry: Registry, by: int) -> Registry:
        for _ in range(200):
            try:
                registry = change(registry, changes.AgencyRenamed(names("y")), by)
            except ChangeRefused as error:
                assert "bytes" in str(error)  # noqa: PT017
                return registry
        raise AssertionError("the record grows without end")

    filled = fill(filled, 1)
    assert len(filled.agency(2).record.encode()) <= MAX_RECORD_BY_AGENCY
    filled = change(filled, changes.AgencySuspended(), AUTHORITY)
    filled = fill(filled, AUTHORITY)
    data = filled.agency(2).record.encode()
    assert MAX_RECORD_BY_AUTHORITY - 6000 < len(data) <= MAX_RECORD_BY_AUTHORITY < MAX_RECORD
    assert AgencyRecord.decode(data) == filled.agency(2).record


def test_a_ledger_has_so_many_log_keys_and_no_more() -> None:
    world = World()
    registry = world.state.registry
    many = tuple(LogKeyRecord(log_key(f"log {i}"), 0) for i in range(MAX_LEDGER_KEYS))
    full = registry.with_ledger(replace(registry.ledger, log_keys=many[:-1]))
    for vkey in (log_key("last"), log_key("one more")):
        leaf = RegistryLeaf.decode(
            sign_change(
                world.genesis,
                Change(LEDGER, full.changed(LEDGER), changes.LogKeyAdded(vkey)),
                {(AUTHORITY, n): world.keys[AUTHORITY][n] for n in (1, 2)},
            )
        )
        if len(full.ledger.log_keys) == MAX_LEDGER_KEYS:
            with pytest.raises(ChangeRefused, match="at most"):
                amend(full, leaf, 11, 9)
            break
        full = amend(full, leaf, 10, 9)
        assert LedgerRecord.decode(full.ledger.encode()) == full.ledger


# --- records as bytes --------------------------------------------------------------------------

DECODERS: list[Any] = [KeyRecord.decode, AgencyRecord.decode, TypeRecord.decode, LedgerRecord.decode]


def test_records_are_not_taken_for_one_another(tree: World) -> None:
    registry = tree.state.registry
    records = [
        registry.agency(2).keys[0].encode(),
        registry.agency(2).record.encode(),
        registry.document_type(1).encode(),
        registry.ledger.encode(),
    ]
    for i, decode in enumerate(DECODERS):
        for j, data in enumerate(records):
            if i == j:
                assert decode(data).encode() == data
            else:
                with pytest.raises(FormatError):
                    decode(data)


@given(st.data())
def test_a_changed_record_is_another_or_none(data: st.DataObject) -> None:
    which = data.draw(st.integers(0, 3))
    want = [case for case in CASES if isinstance(case["want"], dict)][-1]["want"]
    records = [want["keys"][1], want["records"][1], want["records"][2], want["records"][0]]
    value = parse(records[which].encode(), limit=MAX_RECORD)
    spot: Any = value
    while True:
        names_or_places = list(spot) if isinstance(spot, dict) else list(range(len(spot)))
        if not names_or_places:
            return
        place = data.draw(st.sampled_from(names_or_places))
        if not isinstance(spot[place], dict | list) or not spot[place] or data.draw(st.booleans()):
            break
        spot = spot[place]
    spot[place] = data.draw(
        st.none() | st.booleans() | st.integers(-1, 70_000) | st.text(max_size=4) | st.just([]) | st.just({})
    )
    changed = encode(value)
    try:
        assert DECODERS[which](changed).encode() == changed
    except FormatError:
        return


@given(st.binary(max_size=80))
def test_any_bytes_raise_only_our_errors(data: bytes) -> None:
    for decode in DECODERS:
        with pytest.raises(FormatError):
            decode(data)


def test_histories_answer_for_every_index() -> None:
    history = History.start(5, "a").then(9, "b").then(10, "c")
    assert [history.at(i) for i in (5, 8, 9, 10, 99)] == ["a", "a", "b", "c", "c"]
    with pytest.raises(KeyError):
        history.at(4)


def test_agencies_stand_at_most_sixteen_deep() -> None:
    world = World()
    deep = 0
    for _ in range(MAX_DEPTH):
        deep = world.enrol(parent=deep, submit=0)
    with pytest.raises(ChangeRefused, match="16 deep"):
        world.enrol(parent=deep, submit=0)
    side = len(world.state.registry.agencies) + 1
    assert world.enrol(submit=0) == side
    with pytest.raises(ChangeRefused, match="16 deep"):
        world.change(agency(side), changes.AgencyMoved(deep))
    with pytest.raises(ChangeRefused, match="16 deep"):
        world.change(agency(1), changes.AgencyMoved(side))


def test_an_agency_registers_at_most_1024_keys() -> None:
    """Ended ones count: a stolen registry key must not fill the ledger with keys."""
    world = World()
    number = world.enrol(submit=0)
    for _ in range(MAX_AGENCY_KEYS // 64):
        world.add_keys(number, ["submit"] * 64)
    with pytest.raises(ChangeRefused, match="at most 1024 keys"):
        world.add_keys(number, ["submit"])
