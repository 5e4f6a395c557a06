"""SEAL leaves: one form, exact length, kinds in order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import FormatError, LeafFormatError
from ledger.seals import Seal

CASES = json.loads((Path(__file__).parents[1] / "vectors" / "seal.json").read_text())
U16, U64 = st.integers(0, 2**16 - 1), st.integers(0, 2**64 - 1)
HASH = st.binary(min_size=32, max_size=32)
EXTRAS = st.dictionaries(st.integers(0, 255), HASH, max_size=5).map(
    lambda roots: tuple(sorted(roots.items()))
)
SEALS = st.builds(Seal, U16, U64, U64, U64, U64, HASH, HASH, EXTRAS)


@given(SEALS)
def test_what_is_written_is_read(seal: Seal) -> None:
    leaf = seal.encode()
    assert len(leaf) == 101 + 33 * len(seal.extras)
    assert Seal.decode(leaf) == seal


@given(SEALS, st.data())
def test_another_length_is_refused(seal: Seal, data: st.DataObject) -> None:
    leaf = seal.encode()
    for other in (leaf[: data.draw(st.integers(0, len(leaf) - 1))], leaf + b"\0", leaf + bytes(33)):
        with pytest.raises(LeafFormatError):
            Seal.decode(other)


@given(st.binary(max_size=240))
def test_any_bytes_raise_only_our_errors(rest: bytes) -> None:
    leaf = b"\x01\x30" + rest
    try:
        assert Seal.decode(leaf).encode() == leaf
    except LeafFormatError:
        return


@pytest.mark.parametrize("kinds", [(1, 1), (2, 1), (0, 5, 4)])
def test_kinds_of_further_roots_ascend(kinds: tuple[int, ...]) -> None:
    extras = tuple((kind, bytes(32)) for kind in kinds)
    with pytest.raises(LeafFormatError, match="ascend"):
        Seal.decode(Seal(1, 1, 1, 1, 1, bytes(32), bytes(32), extras).encode())


def test_a_seal_may_carry_all_256_kinds_but_one() -> None:
    extras = tuple((kind, bytes(32)) for kind in range(255))
    seal = Seal(1, 1, 1, 1, 1, bytes(32), bytes(32), extras)
    assert Seal.decode(seal.encode()) == seal


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["desc"])
def test_known_answers(case: dict[str, Any]) -> None:
    leaf = bytes.fromhex(case["leaf"])
    if isinstance(case["want"], str):
        with pytest.raises(FormatError) as caught:
            Seal.decode(leaf)
        assert caught.value.code == case["want"]
        return
    seal, want = Seal.decode(leaf), case["want"]
    assert seal == Seal(
        rules=want["rules"],
        block=int(want["block"]),
        time_ms=int(want["time_ms"]),
        previous=int(want["previous"]),
        documents=int(want["documents"]),
        status_root=bytes.fromhex(want["status_root"]),
        registry_root=bytes.fromhex(want["registry_root"]),
        extras=tuple((kind, bytes.fromhex(root)) for kind, root in want["extras"]),
    )
    assert seal.encode() == leaf
