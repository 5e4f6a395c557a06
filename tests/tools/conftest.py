"""Fixtures of the command tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tools.helpers import Commands
from tests.tools.offices import Offices, offices


@pytest.fixture(autouse=True)
def _no_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PASSPHRASE", "TLS_CA", "TLS_CERT", "TLS_KEY"):
        monkeypatch.delenv(f"SUDUR_{name}", raising=False)


@pytest.fixture
def sudur(capsys: pytest.CaptureFixture[str]) -> Commands:
    """Runs a command line in this process."""
    return Commands(capsys)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Offices]:
    """One ledger with its offices, for all tests of letters."""
    with offices(tmp_path_factory.mktemp("offices")) as here:
        yield here
