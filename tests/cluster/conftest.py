"""Real etcd for tests. Those that use it bear the mark `cluster`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.cluster.etcd_client import EtcdClient
from tests.cluster.etcds import Etcds


@pytest.fixture
def etcds(tmp_path: Path) -> Iterator[Etcds]:
    """Three members that a test may kill."""
    with Etcds(tmp_path / "etcd") as cluster:
        yield cluster.start()


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcds]:
    """One member for a whole module, which its tests leave as it is."""
    with Etcds(tmp_path_factory.mktemp("steady"), 1) as cluster:
        yield cluster.start()


@pytest.fixture
def client(steady: Etcds) -> Iterator[EtcdClient]:
    """A client of ``steady``."""
    one = steady.client()
    yield one
    one.close()
