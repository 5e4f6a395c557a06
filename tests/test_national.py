"""The national scenario at a hundredth of its size: store, replay and an independent recount agree."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import national


@pytest.mark.slow
def test_the_figures_of_a_country_agree(tmp_path: Path) -> None:
    rows = national.run(tmp_path / "data", scale=0.01)  # asserts that all three are the same
    assert len(rows) == 5
    assert all(row.value > 0 for row in rows)
