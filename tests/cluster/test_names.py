"""A member leads under the name that the list has it by, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from node.cluster.errors import MemberUnknown
from tests.cluster.etcds import Etcds
from tests.cluster.serving import cluster, until

pytestmark = pytest.mark.cluster


@pytest.fixture
def etcds_of_one(tmp_path: Path) -> Iterator[Etcds]:
    with Etcds(tmp_path / "etcd", 1) as one:
        yield one.start()


async def test_one_that_was_started_under_anothers_name(tmp_path: Path, etcds_of_one: Etcds) -> None:
    """It would take the lead as that one, and all others would hand their writes to that one."""
    async with cluster(tmp_path, etcds_of_one) as nodes:
        member = nodes.followers[0].running.member
        assert member.peers is not None
        taken = nodes.leader.name
        member.settings = replace(member.settings, name=taken)
        await until(lambda: isinstance(member.fault, MemberUnknown), "it says so")
        assert "--name" in str(member.fault)
        third = nodes.followers[1]
        await asyncio.to_thread(nodes.leader.running.member.stop)
        await until(lambda: third.running.member.leads, "another leads")
