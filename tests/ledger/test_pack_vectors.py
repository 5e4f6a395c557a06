"""Packs, deltas and verdicts as docs/format.md alone would have them: tests/vectors/packs.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from ledger.codes import parse_code
from ledger.errors import SudurError
from ledger.judging import Asked
from ledger.opened_pack import OpenedPack, open_pack
from ledger.pack_deltas import DELTA_FRONT_BYTES, apply_delta, delta_size, parse_delta
from ledger.pack_verifier import verify_code
from ledger.packs import FRONT_BYTES, Form, Pack, head_size, parse_pack
from ledger.trust import parse_trust
from tests.ledger.packed import Runs

VECTORS: Final = json.loads(
    (Path(__file__).parents[1] / "vectors" / "packs.json").read_text(encoding="utf-8")
)
TRUST: Final = parse_trust(VECTORS["trust"].encode())
RUN_BYTES: Final = 8_192


def parted(data: bytes) -> tuple[Pack, list[bytes]]:
    """The head, and the runs behind it."""
    size = head_size(data[:FRONT_BYTES])
    return parse_pack(data[:size]), [data[at : at + RUN_BYTES] for at in range(size, len(data), RUN_BYTES)]


@pytest.fixture(scope="module")
def opened() -> dict[Form, OpenedPack]:
    found = {}
    for case in VECTORS["packs"]:
        pack, runs = parted(bytes.fromhex(case["want"]))
        found[pack.form] = open_pack(pack, TRUST, Runs(runs))
    return found


@pytest.mark.parametrize("case", VECTORS["packs"], ids=lambda case: case["desc"])
def test_a_pack_and_its_delta(case: dict[str, Any]) -> None:
    old, new = bytes.fromhex(case["old"]), bytes.fromhex(case["want"])
    for data in (old, new):
        pack, runs = parted(data)
        open_pack(pack, TRUST, Runs(runs)).check_leaves()
        assert parse_pack(pack.encode()) == pack
    delta = bytes.fromhex(case["delta"])
    size = delta_size(delta[:DELTA_FRONT_BYTES])
    read = parse_delta(delta[:size])
    assert parse_delta(read.encode()) == read
    pack, runs = parted(old)
    assert apply_delta(pack, read) == parted(new)[0]
    brought = [delta[at : at + RUN_BYTES] for at in range(size, len(delta), RUN_BYTES)]
    assert runs + brought == parted(new)[1]


@pytest.mark.parametrize("case", VECTORS["codes"], ids=lambda case: case["desc"])
@pytest.mark.parametrize("form", list(Form))
def test_verdicts(opened: dict[Form, OpenedPack], case: dict[str, Any], form: Form) -> None:
    asked = Asked(case["now_ms"], (), case["type"])
    found = verify_code(
        parse_code(case["text"]), opened[form], TRUST, asked, greatest_age_s=case["greatest_age_s"]
    )
    assert found.verdict.code.value == case["want" if form is Form.SUBTREES else "want_leaves"]


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["desc"])
def test_refused(case: dict[str, Any]) -> None:
    with pytest.raises(SudurError) as caught:
        open_pack(parse_pack(bytes.fromhex(case["pack"])), TRUST)
    assert caught.value.code == case["want"]
