"""Fixtures of the command tests."""

from __future__ import annotations

import pytest

from tests.tools.helpers import Commands


@pytest.fixture(autouse=True)
def _no_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDUR_PASSPHRASE", raising=False)


@pytest.fixture
def sudur(capsys: pytest.CaptureFixture[str]) -> Commands:
    """Runs a command line in this process."""
    return Commands(capsys)
