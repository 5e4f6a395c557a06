"""Rows in order, as RocksDB gives them, and what happens at a block of a file that cannot be read."""

from __future__ import annotations

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


def test_rows_from_a_key_on(tmp_path: Path) -> None:
    rows = written(tmp_path)
    opened = Database(tmp_path)
    try:
        assert list(opened.rows(FIGURES)) == rows
        assert list(opened.rows(FIGURES, rows[COUNT - 3][0])) == rows[-3:]
        assert list(opened.rows(FIGURES, rows[-1][0] + b"\0")) == []
        assert opened.first_from(FIGURES, rows[9][0] + b"\0") == rows[10]
    finally:
        opened.close()


def test_rows_do_not_end_silently_at_a_damaged_block(tmp_path: Path) -> None:
    written(tmp_path)
    table = max(tmp_path.glob("*.sst"), key=lambda one: one.stat().st_size)
    data = bytearray(table.read_bytes())
    data[len(data) // 2] ^= 0xFF
    table.write_bytes(data)
    opened = Database(tmp_path)
    try:
        seen: list[tuple[bytes, bytes]] = []
        with pytest.raises(StoreDamaged, match="checksum"):
            seen.extend(opened.rows(FIGURES))
        assert 0 < len(seen) < COUNT
        with pytest.raises(StoreDamaged):
            list(opened.rows(FIGURES, (COUNT // 2).to_bytes(4, "big")))
    finally:
        opened.close()
