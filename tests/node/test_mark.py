"""The mark file: what is kept survives any torn write; nobody else can hold it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from ledger.checkpoints import Checkpoint, sign_checkpoint
from ledger.signatures import Ed25519Signer
from node.errors import DataInUse, NotFound, StoreDamaged
from node.head import Head
from node.mark import Mark
from tests.node.world import ORIGIN, seed

LOG = Ed25519Signer(seed("log"))
HEADER, SLOT = 4096, 135_168


def note(size: int) -> bytes:
    return sign_checkpoint(Checkpoint(ORIGIN, size, seed(str(size))), [LOG])


def read(path: Path) -> bytes | None:
    mark = Mark.open(path)
    try:
        return mark.note
    finally:
        mark.close()


def test_what_is_kept_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "data.mark"
    mark = Mark.create(path)
    assert mark.note is None
    mark.close()
    assert read(path) is None
    for size in (2, 9, 10, 4_000_000_000):
        mark = Mark.open(path)
        mark.keep(note(size))
        assert mark.note == note(size)
        mark.close()
        mark.close()
        assert read(path) == note(size)
    assert path.stat().st_size == HEADER + 2 * SLOT


def test_creating_twice_keeps_what_is_there(tmp_path: Path) -> None:
    mark = Mark.create(tmp_path / "m")
    mark.keep(note(7))
    mark.close()
    mark = Mark.create(tmp_path / "m")
    assert mark.note == note(7)
    mark.close()


def test_it_is_durable_before_keep_returns(tmp_path: Path) -> None:
    seen: list[bytes] = []
    path = tmp_path / "m"
    mark = Mark.create(path, sync=lambda descriptor: seen.append(os.pread(descriptor, 1 << 20, 0)))
    mark.keep(note(5))
    assert len(seen) == 1
    assert note(5) in seen[0]
    mark.keep(note(5))
    assert len(seen) == 1, "the same note is not written again"
    mark.close()


def test_a_torn_write_leaves_the_note_before(tmp_path: Path) -> None:
    path = tmp_path / "m"
    mark = Mark.create(path)
    mark.keep(note(5))
    mark.keep(note(8))
    mark.close()
    whole = path.read_bytes()
    start = HEADER + (whole.index(note(8)) - HEADER) // SLOT * SLOT
    size = 4 + int.from_bytes(whole[start : start + 4], "big") + 32
    for cut in (0, 1, 20, size // 2, size - 1):
        torn = whole[: start + cut] + bytes(size - cut)
        path.write_bytes(torn + whole[len(torn) :])
        assert read(path) == note(5)
    path.write_bytes(whole)
    assert read(path) == note(8)


def test_vote_and_note_are_kept_beside_each_other(tmp_path: Path) -> None:
    path = tmp_path / "m"
    mark = Mark.create(path)
    new = mark.vote
    assert (new.epoch, new.frozen, new.head, new.members) == (1, 0, None, b"")
    head = Head(seed("G"), 2, 7, 1, 5, 99, seed("root"), seed("digest"))
    vote = replace(new, epoch=2, frozen=3, head=head, members=b"[]")
    mark.keep_vote(vote)
    mark.keep(note(5))
    mark.close()
    mark = Mark.open(path)
    assert (mark.vote, mark.note) == (vote, note(5))
    mark.close()


def test_every_mark_is_of_a_member_of_its_own(tmp_path: Path) -> None:
    marks = [Mark.create(tmp_path / name) for name in "ab"]
    assert len({mark.vote.member for mark in marks}) == 2
    for mark in marks:
        mark.close()


def test_a_failed_write_is_followed_by_one_that_does_not_touch_the_good_slot(tmp_path: Path) -> None:
    path = tmp_path / "m"
    failing = True

    def sync(descriptor: int) -> None:
        if failing:
            raise OSError("no")
        os.fdatasync(descriptor)

    mark = Mark.create(path)
    mark.keep(note(5))
    mark.close()
    mark = Mark.open(path, sync=sync)
    for size in (6, 7):
        with pytest.raises(OSError, match="no"):
            mark.keep(note(size))
        assert mark.note == note(5)
        assert note(5) in path.read_bytes()
    failing = False
    mark.keep(note(8))
    mark.close()
    assert read(path) == note(8)


@pytest.mark.parametrize(
    "content",
    [b"", b"not a mark", b"sudur mark v2\n".ljust(HEADER + 2 * SLOT, b"\0")],
    ids=["empty", "foreign", "version"],
)
def test_another_file_is_no_mark(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m"
    path.write_bytes(content)
    with pytest.raises(StoreDamaged, match="no mark file"):
        Mark.open(path)


def test_both_slots_damaged(tmp_path: Path) -> None:
    path = tmp_path / "m"
    mark = Mark.create(path)
    mark.keep(note(5))
    mark.keep(note(8))
    mark.close()
    data = bytearray(path.read_bytes())
    data[HEADER + 20] ^= 1
    data[HEADER + SLOT + 20] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreDamaged, match="neither"):
        Mark.open(path)
    data.append(0)
    path.write_bytes(data)
    with pytest.raises(StoreDamaged, match="no mark file"):
        Mark.open(path)


def test_absent_and_in_use(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        Mark.open(tmp_path / "m")
    mark = Mark.create(tmp_path / "m")
    with pytest.raises(DataInUse, match="one writer"):
        Mark.open(tmp_path / "m")
    mark.close()
    Mark.open(tmp_path / "m").close()


def test_a_note_too_long_is_refused(tmp_path: Path) -> None:
    mark = Mark.create(tmp_path / "m")
    with pytest.raises(StoreDamaged):
        mark.keep(bytes(SLOT))
    mark.close()
