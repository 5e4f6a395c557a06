"""The status list: the vectors of the IETF draft, growth over chunk borders, strict chunks."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import FormatError, TooLarge
from ledger.hashing import leaf_hash, merkle_root
from ledger.merkle_list import MerkleList
from ledger.records import Status
from ledger.status import (
    CHUNK_INDEXES,
    CHUNK_SIZE,
    EMPTY_CHUNK,
    EMPTY_CHUNK_HASH,
    chunk_count,
    chunk_of,
    compress_chunk,
    expand_chunk,
    grown,
    read_status,
    write_status,
)

CASES = json.loads((Path(__file__).parents[1] / "vectors" / "status.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["desc"])
def test_known_answers(case: dict[str, Any]) -> None:
    packed = base64.urlsafe_b64decode(case["lst"] + "=" * (-len(case["lst"]) % 4))
    if case["kind"] == "list":
        data = zlib.decompress(packed)
        assert data.hex() == case["want"]["bytes"]
        assert [read_status(data, i) for i in range(4 * len(data))] == case["want"]["statuses"]
        made = bytearray(len(data))
        for i, one in enumerate(case["want"]["statuses"]):
            write_status(made, i, Status(one))
        assert made == data
    elif isinstance(case["want"], str):
        with pytest.raises(FormatError) as caught:
            expand_chunk(packed)
        assert caught.value.code == case["want"]
    else:
        chunk = expand_chunk(packed)
        assert leaf_hash(chunk).hex() == case["want"]["hash"]
        nonzero = {str(i): read_status(chunk, i).value for i in range(CHUNK_INDEXES) if read_status(chunk, i)}
        assert nonzero == case["want"]["statuses"]


@given(st.lists(st.tuples(st.integers(0, 2**40), st.sampled_from(Status)), max_size=30))
def test_writing_is_read_and_touches_nothing_else(edits: list[tuple[int, Status]]) -> None:
    chunk, model = bytearray(CHUNK_SIZE), {}
    for index, status in edits:
        write_status(chunk, index, status)
        model[index % CHUNK_INDEXES] = status
    assert all(read_status(bytes(chunk), index) is status for index, status in model.items())
    assert sum(byte.bit_count() for byte in chunk) == sum(int(one).bit_count() for one in model.values())


@pytest.mark.parametrize(
    ("size", "chunks"),
    [(0, 0), (1, 1), (65_535, 1), (65_536, 1), (65_537, 2), (131_072, 2), (131_073, 3)],
)
def test_chunks_of_a_size(size: int, chunks: int) -> None:
    assert chunk_count(size) == chunks
    tree = grown(MerkleList(), size)
    assert len(tree) == chunks
    assert tree.root == merkle_root([EMPTY_CHUNK_HASH] * chunks)
    if size:
        assert chunk_of(size - 1) == chunks - 1


def test_growing_keeps_what_was_there() -> None:
    before = MerkleList.of([leaf_hash(b"\x01" + bytes(CHUNK_SIZE - 1))])
    assert grown(before, 65_536) is before
    assert grown(before, 65_537).hashes == (*before.hashes, EMPTY_CHUNK_HASH)


@given(st.lists(st.integers(0, CHUNK_INDEXES - 1), max_size=20))
def test_chunks_travel_compressed(revoked: list[int]) -> None:
    chunk = bytearray(CHUNK_SIZE)
    for index in revoked:
        write_status(chunk, index, Status.REVOKED)
    assert expand_chunk(compress_chunk(bytes(chunk))) == chunk


@given(st.binary(max_size=200))
def test_any_bytes_raise_only_our_errors(data: bytes) -> None:
    with pytest.raises(FormatError):
        expand_chunk(data)


def test_a_bomb_is_not_expanded() -> None:
    with pytest.raises(FormatError):
        expand_chunk(zlib.compress(bytes(20_000_000)))
    with pytest.raises(TooLarge):
        expand_chunk(bytes(2 * CHUNK_SIZE + 1))


@pytest.mark.parametrize("cut", [1, 2, 4, 5])
def test_a_cut_or_longer_chunk_is_refused(cut: int) -> None:
    data = compress_chunk(EMPTY_CHUNK)
    for other in (data[:-cut], data + bytes(cut), compress_chunk(EMPTY_CHUNK[cut:])):
        with pytest.raises(FormatError):
            expand_chunk(other)
