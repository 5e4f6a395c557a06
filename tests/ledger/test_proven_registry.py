"""The registry read from static resources: what comes back is what the checkpoint commits to, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from ledger.errors import (
    CheckpointUntrusted,
    KeyUnknown,
    ProofInvalid,
    SudurError,
    UnknownAgency,
    UnknownType,
)
from ledger.proven_registry import ProvenRegistry
from tests.ledger.issued import Issued
from tests.ledger.static import StaticLedger


@pytest.fixture(scope="module")
def issued() -> Issued:
    made = Issued()
    for _ in range(257):  # so that the registry tree has more than one tile
        made.world.enrol(submit=0)
    return made


@pytest.fixture(scope="module")
def static(issued: Issued) -> StaticLedger:
    return issued.static()


@pytest.fixture(scope="module")
def registry(issued: Issued, static: StaticLedger) -> ProvenRegistry:
    return ProvenRegistry(static, issued.trusted(), static.checkpoint)


def test_every_record_is_the_one_that_the_rules_have(issued: Issued, registry: ProvenRegistry) -> None:
    want = issued.world.state.registry
    assert registry.root == want.root
    assert registry.ledger == want.ledger
    for number, agency in want.agencies.items():
        assert registry.agency(number) == agency.record
        assert registry.keys(number) == agency.keys
    for number, one in want.types.items():
        assert registry.type(number) == one
    assert registry.key(issued.agency, 2) == want.agencies[issued.agency].keys[1]


def test_a_record_is_fetched_once(issued: Issued, static: StaticLedger) -> None:
    static.fetched.clear()
    _read(issued, static)
    assert len(set(static.fetched)) == len(static.fetched)


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (lambda one: one.agency(0), UnknownAgency),
        (lambda one: one.agency(10_000), UnknownAgency),
        (lambda one: one.keys(10_000), UnknownAgency),
        (lambda one: one.key(1, 0), KeyUnknown),
        (lambda one: one.key(1, 4), KeyUnknown),
        (lambda one: one.type(0), UnknownType),
        (lambda one: one.type(2), UnknownType),
    ],
)
def test_what_is_not_there(
    registry: ProvenRegistry, ask: Callable[[ProvenRegistry], object], error: type[SudurError]
) -> None:
    with pytest.raises(error, match=r"as of size \d+"):
        ask(registry)


def test_another_logs_checkpoint_is_refused(issued: Issued, static: StaticLedger) -> None:
    with pytest.raises(CheckpointUntrusted):
        ProvenRegistry(static, replace(issued.trusted(), log_keys=()), static.checkpoint)


def _read(issued: Issued, static: StaticLedger) -> list[object]:
    registry = ProvenRegistry(static, issued.trusted(), static.checkpoint)
    return [registry.ledger, registry.agency(issued.agency), registry.keys(issued.agency), registry.type(1)]


def test_one_flipped_byte_of_any_resource_gives_nothing_else(issued: Issued, static: StaticLedger) -> None:
    static.fetched.clear()
    want = _read(issued, static)
    refused = 0
    for path in static.fetched:
        data = static.files[path]
        for at in (0, len(data) // 2, len(data) - 1):
            spoilt = replace(static, files=dict(static.files), fetched=[])
            spoilt.files[path] = data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]
            try:
                found = _read(issued, spoilt)
            except SudurError:
                refused += 1
            else:
                assert found == want, path  # the byte is of a tile, beside the paths of these records
    assert refused >= 2 * len(static.fetched)


def test_a_record_in_anothers_place_is_refused(issued: Issued, static: StaticLedger) -> None:
    registry = ProvenRegistry(static, issued.trusted(), static.checkpoint)
    registry._proofs[2] = registry.agency_proof(1)
    with pytest.raises(ProofInvalid, match="in the place of agency 2 stands another record"):
        registry.agency(2)


def test_as_of_an_earlier_checkpoint(issued: Issued, static: StaticLedger) -> None:
    sizes = sorted(int(path.removeprefix("checkpoint/")) for path in static.files if path[11:].isdecimal())
    registry = ProvenRegistry(static, issued.trusted(), static.files[f"checkpoint/{sizes[4]}"])
    assert (registry.log.size, registry.ledger.agencies) == (sizes[4], 1)
    with pytest.raises(UnknownAgency):
        registry.agency(2)
