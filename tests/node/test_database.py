"""Rows of one moment, and what happens at a block of a file that cannot be read."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from node.database import FIGURES, Database
from node.errors import StoreDamaged

COUNT = 20_000


def written(path: Path) -> list[tuple[bytes, bytes]]:
    """A closed database with figures in one file, and its rows."""
    rows = [(n.to_bytes(4, "big"), (7_919 * n).to_bytes(64, "big")) for n in range(COUNT)]
    opened = Database(path)
    batch = opened.batch()
    for key, row in rows:
        batch.put(FIGURES, key, row)
    opened.write(batch)
    opened.compact()
    opened.close()
    return rows


def test_rows_and_one_beside_them(tmp_path: Path) -> None:
    rows = written(tmp_path)
    opened = Database(tmp_path)
    try:
        prefix = rows[512][0][:3]
        keys, found, beside = opened.prefixed(FIGURES, prefix, rows[9][0])
        assert list(zip(keys, found, strict=True)) == rows[512:768]
        assert beside == rows[9][1]
        assert opened.prefixed(FIGURES, b"none", b"") == ([], [], None)
        assert opened.prefixed(FIGURES, rows[-1][0], rows[-1][0]) == (
            *([one] for one in rows[-1]),
            rows[-1][1],
        )
    finally:
        opened.close()


def test_they_are_of_one_moment(tmp_path: Path) -> None:
    """Another thread writes all of them anew, again and again: never is an old one seen beside a new one."""
    opened = Database(tmp_path)
    stop = threading.Event()

    def write() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            batch = opened.batch()
            for key in (b"", *(b"p%d" % n for n in range(50))):
                batch.put(FIGURES, key, turn.to_bytes(8, "big"))
            opened.write(batch)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        turns: set[bytes | None] = set()
        while len(turns) < 20:
            _, rows, beside = opened.prefixed(FIGURES, b"p", b"")
            assert set(rows) <= {beside}
            turns.add(beside)
    finally:
        stop.set()
        writer.join()
        opened.close()


def test_what_cannot_be_read_is_not_left_out(tmp_path: Path) -> None:
    written(tmp_path)
    table = max(tmp_path.glob("*.sst"), key=lambda one: one.stat().st_size)
    data = bytearray(table.read_bytes())
    data[len(data) // 2] ^= 0xFF
    table.write_bytes(data)
    opened = Database(tmp_path)
    try:
        with pytest.raises(StoreDamaged, match="checksum"):
            opened.prefixed(FIGURES, b"", b"")
        with pytest.raises(StoreDamaged, match="checksum"):
            list(opened.rows(FIGURES))
    finally:
        opened.close()
