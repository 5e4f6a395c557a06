"""Packs and deltas: made from static resources, read as they were written, proven as a whole or refused."""

from __future__ import annotations

import random
import zlib
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.checkpoints import sign_checkpoint
from ledger.errors import (
    CheckpointUntrusted,
    PackBehind,
    PackFormatError,
    ProofInvalid,
    SudurError,
    TooLarge,
)
from ledger.opened_pack import OpenedPack, open_pack
from ledger.pack_builder import PackBuilder
from ledger.pack_bytes import (
    MIN_RECORD,
    U32,
    PackReader,
    encode_statuses,
    read_compressed,
    read_record,
    read_statuses,
    statuses_in,
    with_statuses,
)
from ledger.pack_deltas import apply_delta, hash_counts, parse_delta
from ledger.packs import FRONT_BYTES, Form, head_size, parse_pack
from ledger.records import Status
from ledger.trust import Trust
from tests.ledger.packed import Packed, Runs
from tests.ledger.static import StaticLedger
from tests.ledger.world import signer

FORMS = pytest.mark.parametrize("form", list(Form))


@pytest.fixture(scope="module")
def packed() -> Packed:
    made = Packed()
    made.issued.set_status(Status.SUSPENDED)
    return made


@pytest.fixture(scope="module")
def opened(packed: Packed) -> OpenedPack:
    return packed.open()


def sealed(body: bytes) -> bytes:
    """With a right SHA-256 behind it, so that what is wrong inside is what is found."""
    return body + sha256(body).digest()


# --- bytes ---


@FORMS
def test_what_is_written_is_read(packed: Packed, form: Form) -> None:
    pack = packed.open(form).pack
    data = pack.encode()
    assert parse_pack(data) == pack
    assert head_size(data[:FRONT_BYTES]) == len(data)
    assert pack.statuses.keys() == {0}
    assert pack.full == 1


def test_a_pack_is_small(opened: OpenedPack) -> None:
    pack = opened.pack
    hashes = len(pack.subtrees) + len(pack.tail)
    assert len(pack.encode()) - hashes < 2_000


def test_every_cut_and_every_byte_behind_it_is_refused(opened: OpenedPack) -> None:
    data = opened.pack.encode()
    for end in (*range(60), *range(60, len(data), 97), len(data) - 1):
        with pytest.raises(PackFormatError):
            parse_pack(data[:end])
    with pytest.raises(PackFormatError, match="1 bytes too many"):
        parse_pack(data + b"\0")


def test_a_flipped_bit_anywhere_is_damage(opened: OpenedPack) -> None:
    data = opened.pack.encode()
    for at in range(len(data)):
        spoilt = bytearray(data)
        spoilt[at] ^= 1 << at % 8
        with pytest.raises(SudurError):
            parse_pack(bytes(spoilt))


def test_a_flipped_bit_with_a_right_digest_is_refused_or_changes_nothing(
    packed: Packed, opened: OpenedPack
) -> None:
    """Whoever hands out a pack can compute its digest: what is in it has to hold by itself.

    Two things are not under the log's signature: unused bits in zlib, and lines of keys that nobody knows.
    """
    data = opened.pack.encode()[:-32]
    for at in range(0, len(data), 2):
        spoilt = bytearray(data)
        spoilt[at] ^= 1 << at // 2 % 8
        try:
            found = open_pack(parse_pack(sealed(bytes(spoilt))), packed.issued.trust())
        except SudurError:
            continue
        assert replace(found.pack, form=Form.SUBTREES) == opened.pack


def test_a_bomb_is_refused_before_it_goes_off() -> None:
    zeros = zlib.compress(bytes(100 << 20), 9)
    for size in (1, 1 << 20, 64 << 20):
        reader = PackReader(U32.pack(size) + U32.pack(len(zeros)) + zeros, "bomb")
        with pytest.raises(PackFormatError, match="expand"):
            read_compressed(reader)
    with pytest.raises(TooLarge):
        read_compressed(PackReader(U32.pack(100 << 20) + U32.pack(len(zeros)) + zeros, "bomb"))
    small = zlib.compress(b"x")
    with pytest.raises(PackFormatError, match="never expand"):
        read_compressed(PackReader(U32.pack(64 << 20) + U32.pack(len(small)) + small, "bomb"))


def test_no_record_is_so_short_that_millions_would_fit() -> None:
    for size, fits in ((MIN_RECORD, True), (MIN_RECORD - 1, False), (2, False)):
        reader = PackReader(U32.pack(size) + bytes(size), "bomb")
        if fits:
            assert read_record(reader) == bytes(size)
        else:
            with pytest.raises(PackFormatError, match="are allowed"):
                read_record(reader)


STATUSES = st.dictionaries(st.integers(0, 300_000), st.integers(1, 3), max_size=50)


@given(STATUSES)
def test_statuses_come_back(found: dict[int, int]) -> None:
    chunks = with_statuses({}, sorted(found.items()))
    assert dict(statuses_in(chunks)) == found
    written = encode_statuses(statuses_in(chunks))
    reader = PackReader(written, "statuses")
    assert dict(read_statuses(reader, 300_001, least=1, most=50)) == found
    reader.done()


@given(STATUSES, STATUSES)
def test_statuses_change(before: dict[int, int], after: dict[int, int]) -> None:
    changed = {at: after.get(at, 0) for at in before.keys() | after.keys()}
    chunks = with_statuses(with_statuses({}, sorted(before.items())), sorted(changed.items()))
    assert chunks == with_statuses({}, sorted(after.items()))


@pytest.mark.parametrize(
    "written",
    ["00000001", "0000000100", "000000018100", "00000001fd", "0000000105", "ffffffff"],
)
def test_statuses_in_another_form(written: str) -> None:
    """Cut short, valid, not the shortest, cut short, beyond the size; too many."""
    reader = PackReader(bytes.fromhex(written), "statuses")
    with pytest.raises(PackFormatError):
        list(read_statuses(reader, 1, least=1, most=9))


@given(st.binary(max_size=12))
def test_any_varint_has_one_form(data: bytes) -> None:
    reader = PackReader(data, "number")
    try:
        value = reader.varint()
    except SudurError:
        return
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    assert data.startswith(bytes((*written, value)))


# --- proven as a whole ---


@FORMS
def test_all_of_it_is_held_against_the_checkpoint(packed: Packed, form: Form) -> None:
    opened = packed.open(form)
    pack, trust = opened.pack, packed.issued.trust()
    wrong = bytes(32)
    agencies = (pack.records.agencies[0].replace(b"Agency", b"Agenda"),)
    spoilt = {
        "leaves": replace(pack, subtrees=wrong + pack.subtrees[32:]),
        "tail": replace(pack, tail=pack.tail[:-32] + wrong),
        "no statuses": replace(pack, statuses={}),
        "another status": replace(pack, statuses=with_statuses(pack.statuses, [(packed.issued.index, 1)])),
        "record": replace(pack, records=replace(pack.records, agencies=agencies)),
        "no type": replace(pack, records=replace(pack.records, types=())),
        "seal": replace(pack, seal=replace(pack.seal, leaf=pack.seal.leaf[:-1] + b"\1")),
        "seal's path": replace(pack, seal=replace(pack.seal, path=pack.seal.path[:-1])),
    }
    for one in spoilt.values():
        with pytest.raises(SudurError):
            open_pack(one, trust)
    assert open_pack(pack, trust).size == len(packed.static().leaves)


def test_another_ledger_and_another_key(packed: Packed, opened: OpenedPack) -> None:
    other = replace(packed.issued.trusted(), genesis=bytes(32))
    with pytest.raises(CheckpointUntrusted):
        open_pack(opened.pack, Trust((other,)))
    stranger = signer("stranger")
    named = sign_checkpoint(opened.signed.checkpoint, [stranger])
    with pytest.raises(CheckpointUntrusted):
        open_pack(replace(opened.pack, checkpoint=named), packed.issued.trust())


def test_leaf_hashes_are_held_against_their_run(packed: Packed) -> None:
    opened = packed.open(Form.LEAVES)
    runs: list[int] = []
    opened.check_leaves(runs.append)
    assert runs == [1]
    run = bytearray(opened._leaves.tile(0, 0, 256))  # type: ignore[union-attr]
    run[packed.issued.index * 32] ^= 1
    spoilt = open_pack(opened.pack, packed.issued.trust(), Runs([bytes(run)]))
    with pytest.raises(PackFormatError, match="damaged"):
        spoilt.check_leaves()
    leaf = packed.static().leaves[packed.issued.index]
    with pytest.raises(PackFormatError, match="damaged"):
        spoilt.check_leaf(packed.issued.index, leaf)


def test_every_leaf_is_found_at_its_index_and_no_other(packed: Packed) -> None:
    static = packed.static()
    leaves, subtrees = packed.open(Form.LEAVES), packed.open()
    for index, leaf in enumerate(static.leaves):
        leaves.check_leaf(index, leaf)
        with pytest.raises(ProofInvalid):
            leaves.check_leaf((index + 1) % len(static.leaves), leaf)
    for index in range(256, len(static.leaves)):
        subtrees.check_leaf(index, static.leaves[index])


# --- deltas ---


def grown(sizes: list[int]) -> tuple[Packed, list[StaticLedger]]:
    """A ledger at several sizes, about those of the list, with changes of all kinds between them."""
    packed = Packed(filled=False)
    found = []
    for step, size in enumerate(sizes):
        here = len(packed.static().leaves)
        if size - here > 3:
            packed.fill(size - here - 2)
        if step == 1:
            packed.issued.set_status(Status.SUSPENDED)
            packed.issued.world.enrol(types=(0,))
        if step == 2:
            packed.issued.world.define_type()
        found.append(packed.static())
    return packed, found


@FORMS
@pytest.mark.parametrize("sizes", [[40, 60, 90], [200, 256, 300], [250, 700, 1_100], [256, 512, 1_024]])
def test_deltas_lead_from_any_pack_to_any_later_one(form: Form, sizes: list[int]) -> None:
    packed, statics = grown(sizes)
    whole = [packed.open(form, static=one) for one in statics]
    for old, new, static in zip([None, *whole[:-1]], whole, statics, strict=True):
        builder = PackBuilder(static, packed.issued.trusted(), static.checkpoint)
        delta = builder.delta(form, old)
        assert parse_delta(delta.encode()) == delta
        assert apply_delta(None if old is None else old.pack, delta) == new.pack
        counts = [len(one) // 32 for one in (delta.rest, delta.subtrees, delta.tail)]
        assert tuple(counts) == hash_counts(delta.old_size, delta.size)
    last = packed.open(form, old=whole[0], static=statics[2])
    assert last.pack == whole[2].pack


def test_a_run_that_ends_just_there() -> None:
    """Every way in which two trees can lie about the ends of runs."""
    for old in range(520):
        for new in {old, old + 1, 255, 256, 257, 511, 512, 513, 767, 768, 769}:
            if new < old or not new:
                continue
            rest, subtrees, tail = hash_counts(old, new)
            kept = 0 if new // 256 == old // 256 else old % 256
            assert old // 256 + bool(rest) + subtrees == new // 256
            assert (old % 256 if new // 256 == old // 256 else 0) + tail == new % 256
            assert (rest + kept in (0, 256)) or not rest


def test_an_update_of_an_idle_ledger_takes_the_newer_cosignatures(packed: Packed) -> None:
    opened = packed.open()
    static = packed.static()
    builder = PackBuilder(static, packed.issued.trusted(), static.checkpoint + b"")
    delta = builder.delta(Form.SUBTREES, opened)
    assert (delta.rest, delta.subtrees, delta.tail, delta.statuses, delta.records) == (b"", b"", b"", (), ())
    assert apply_delta(opened.pack, delta) == opened.pack
    assert len(delta.encode()) < 1_500


def test_a_delta_of_another_pack() -> None:
    packed, statics = grown([40, 300, 400])
    first, second, third = (packed.open(static=one) for one in statics)
    builder = PackBuilder(statics[2], packed.issued.trusted(), statics[2].checkpoint)
    delta = builder.delta(Form.SUBTREES, second)
    for wrong in (first.pack, third.pack):
        with pytest.raises(PackFormatError, match="begins at"):
            apply_delta(wrong, delta)
    with pytest.raises(PackFormatError, match="begins at a pack"):
        apply_delta(None, delta)
    with pytest.raises(PackFormatError, match="other form"):
        apply_delta(packed.open(Form.LEAVES, static=statics[1]).pack, delta)
    older = PackBuilder(statics[0], packed.issued.trusted(), statics[0].checkpoint)
    with pytest.raises(PackBehind, match="not behind"):
        older.delta(Form.SUBTREES, third)


def test_a_delta_that_was_tampered_with_makes_no_pack_that_opens() -> None:
    packed, statics = grown([200, 300, 700])
    old, new = packed.open(static=statics[1]), packed.open(static=statics[2])
    builder = PackBuilder(statics[2], packed.issued.trusted(), statics[2].checkpoint)
    data = builder.delta(Form.SUBTREES, old).encode()[:-32]
    chance = random.Random(5)
    for at in range(0, len(data), 31):
        spoilt = bytearray(data)
        spoilt[at] ^= 1 << chance.randrange(8)
        try:
            made = open_pack(apply_delta(old.pack, parse_delta(sealed(bytes(spoilt)))), packed.issued.trust())
        except SudurError:
            continue
        assert made.pack == new.pack


def test_records_that_leave_a_gap(opened: OpenedPack, packed: Packed) -> None:
    static = packed.static()
    delta = PackBuilder(static, packed.issued.trusted(), static.checkpoint).delta(Form.SUBTREES, None)
    gap = replace(delta, records=(delta.records[0], ((1, 2), b"{}")))
    with pytest.raises(PackFormatError, match="gap"):
        apply_delta(None, gap)
    with pytest.raises(ProofInvalid):
        apply_delta(None, replace(delta, records=delta.records[:1]))
    for record in (((0, 1), b"{}"), ((3, 1), b"{}"), ((1, 0), b"{}")):
        with pytest.raises(PackFormatError):
            parse_delta(replace(delta, records=(record,)).encode())
    with pytest.raises(PackFormatError, match="ascend"):
        parse_delta(replace(delta, records=delta.records[::-1]).encode())


def test_another_history_is_noticed(packed: Packed) -> None:
    """The log's key signs a second history: the pack of the first is not led over to it."""
    first, second = Packed(filled=False), Packed(filled=False)
    first.fill(100)
    old = first.open()
    second.issued.world.submit(1, [second.static().leaves[second.issued.index][:-32] + bytes(32)])
    second.fill(600)
    static = second.static()
    builder = PackBuilder(static, second.issued.trusted(), static.checkpoint)
    with pytest.raises(ProofInvalid, match="another history"):
        builder.delta(Form.SUBTREES, old)


def test_only_what_is_new_is_fetched() -> None:
    packed, statics = grown([300, 700, 1_300])
    old = packed.open(static=statics[1])
    static = statics[2]
    static.fetched.clear()
    PackBuilder(static, packed.issued.trusted(), static.checkpoint).delta(Form.SUBTREES, old)
    assert not [one for one in static.fetched if one.startswith("status/")], "no status changed"
    assert len(static.fetched) < 20


def test_a_server_that_gives_wrong_runs(packed: Packed) -> None:
    static = packed.static()
    builder = PackBuilder(static, packed.issued.trusted(), static.checkpoint)
    pack = packed.open(Form.LEAVES).pack
    builder.delta(Form.LEAVES, None)
    path = "tile/0/000"
    static.files[path] = bytes(32) + static.files[path][32:]
    fresh = PackBuilder(static, packed.issued.trusted(), static.checkpoint)
    with pytest.raises(SudurError):
        list(fresh.runs(0, 1, pack.subtrees))


def test_records_are_the_registrys_of_now(packed: Packed, opened: OpenedPack) -> None:
    assert opened.agency(packed.issued.agency).number == packed.issued.agency
    assert opened.type(0) is None
    definition = opened.type(packed.issued.type)
    assert definition is not None
    assert [one.name for one in definition.fields] == ["holder", "expires"]
    for missing in (0, 9):
        with pytest.raises(SudurError):
            opened.agency(missing)
    with pytest.raises(SudurError):
        opened.type(9)
