"""Whoever copies a ledger with witnesses: a mirror, a backup. And a node as a whole, over its sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import grpc
import grpc.aio
import pytest

from ledger.changes import LEDGER, WitnessPolicyChanged
from ledger.cosignatures import verify_cosignatures
from ledger.notes import VerifierKey, parse_note
from ledger.registry_records import History
from ledger.trust import TrustedLedger
from node.copying.backup import back_up, restore
from node.copying.remote_blocks import CHANNEL_OPTIONS, RemoteBlocks
from node.cosigning.settings import CosigningSettings
from sudur.v1 import ledger_pb2 as pb
from tests.ledger.world import log_key
from tests.node.served import Served, refused, serve
from tests.node.test_mirror import Mirrored, mirroring, trusted, until
from tests.witnesses import FakeWitness, cosigner_key, policy

NAMES = ("one", "two", "three")
REFRESHED = CosigningSettings(refresh_s=0.2, first_pause_s=0.05, longest_pause_s=0.2)


class Watched:
    """A node that serves, and three witnesses of which its policy asks for two."""

    def __init__(self, served: Served, witnesses: dict[str, FakeWitness], text: str, free: int) -> None:
        self.served = served
        self.witnesses = witnesses
        self.policy = text
        self.free = free

    @property
    def published(self) -> int:
        newest = self.served.node.ledger.witnessed.newest
        return 0 if newest is None else newest.size

    async def until_published(self, size: int) -> None:
        await until(lambda: self.published >= size)

    def close_gates(self) -> None:
        for one in self.witnesses.values():
            one.gate.clear()

    def open_gates(self) -> None:
        for one in self.witnesses.values():
            one.gate.set()


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    key = VerifierKey.parse(log_key("log"))
    witnesses = {name: FakeWitness(name, key).start() for name in NAMES}
    text = policy(2, **{name: one.url for name, one in witnesses.items()})
    try:
        async with serve(tmp_path / "node", cosigning=REFRESHED) as served:
            free = served.size
            await served.change(LEDGER, WitnessPolicyChanged(text))
            yield Watched(served, witnesses, text, free)
    finally:
        for one in witnesses.values():
            one.stop()


async def test_what_each_answer_is_as_of(watched: Watched) -> None:
    served = watched.served
    await watched.until_published(served.size)
    known = served.size
    watched.close_gates()
    answer = await served.submit()
    placement = answer.placement
    signed = parse_note(answer.checkpoint)
    assert int(signed.text.split(b"\n")[1]) == placement.block_size > watched.published
    ledger = await served.stub.GetLedger(pb.GetLedgerRequest())
    newest = await served.stub.GetCheckpoint(pb.GetCheckpointRequest())
    assert ledger.checkpoint.split(b"\n")[1] == newest.checkpoint.split(b"\n")[1] == b"%d" % known
    assert (ledger.block + 1, int(ledger.signed_checkpoint.split(b"\n")[1])) == (
        placement.block,
        placement.block_size,
    )
    of_size = await served.stub.GetCheckpoint(pb.GetCheckpointRequest(size=placement.block_size))
    assert of_size.checkpoint == answer.checkpoint
    index = placement.first_record_index
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.stub.GetInclusionProof(pb.GetInclusionProofRequest(index=index))
    assert refused(caught.value).reason == "OUT_OF_RANGE"
    proof = await served.stub.GetInclusionProof(
        pb.GetInclusionProofRequest(index=index, tree_size=placement.block_size)
    )
    assert proof.checkpoint == answer.checkpoint
    record = await served.stub.GetRegistryRecord(pb.GetRegistryRecordRequest(subject="ledger"))
    assert record.tree_size == placement.block_size, "who changes the registry must see the newest of it"
    head, at_size, newest_signed = [
        await served.http.get(path)
        for path in ("/checkpoint", f"/checkpoint/{placement.block_size}", "/checkpoint/signed")
    ]
    assert head.content.split(b"\n")[1] == b"%d" % known
    assert at_size.content == newest_signed.content == answer.checkpoint
    assert at_size.headers["cache-control"] == head.headers["cache-control"] == "no-cache"
    plain = await served.http.get(f"/checkpoint/{watched.free}")
    assert "immutable" in plain.headers["cache-control"], "nobody is asked for that one"
    info = (await served.http.get("/v1/ledger")).json()
    assert (info["size"], info["published_size"]) == (placement.block_size, known)
    watched.open_gates()
    await watched.until_published(placement.block_size)
    later = await served.stub.GetCheckpoint(pb.GetCheckpointRequest())
    note = parse_note(later.checkpoint)
    assert note.text == signed.text
    assert len(verify_cosignatures(note, [cosigner_key(name) for name in NAMES])) >= 2


async def test_a_new_ledger_that_nobody_has_cosigned_says_so(tmp_path: Path) -> None:
    async with serve(tmp_path / "node") as served:
        await served.change(LEDGER, WitnessPolicyChanged(policy(1, "one")))
        served.node.ledger.witnessed._newest = None  # as a ledger is that was founded with this policy
        answer = await served.http.get("/checkpoint")
        assert (answer.status_code, answer.json()["code"]) == (503, "NOT_PUBLISHED")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.stub.GetCheckpoint(pb.GetCheckpointRequest())
        assert refused(caught.value).reason == "NOT_PUBLISHED"
        ledger = await served.stub.GetLedger(pb.GetLedgerRequest())
        assert (ledger.checkpoint, ledger.block) == (b"", 0)
        assert (await served.http.get("/v1/witnesses")).json()["witnesses"][0]["url"] == ""


def pinned(watched: Watched) -> TrustedLedger:
    """A trust file that knows the policy."""
    since = watched.served.node.ledger.published.state.registry.ledger.witness_policy.entries[-1][0]
    history = History(((0, ""), (since, watched.policy)))
    return replace(trusted(watched.served), witness_policy=history, changed=since)


async def until_size(mirrored: Mirrored, size: int) -> None:
    await until(lambda: mirrored.size >= size)


async def test_a_mirror_shows_what_is_published_and_its_newer_cosignatures(
    watched: Watched, tmp_path: Path
) -> None:
    served = watched.served
    await watched.until_published(served.size)
    address = str(served.node.grpc)
    async with mirroring(tmp_path / "mirror", pinned(watched), address) as mirrored:
        await until_size(mirrored, watched.published)
        watched.close_gates()
        placement = (await served.submit()).placement
        await asyncio.sleep(0.1)
        assert mirrored.size < placement.block_size, "a mirror runs ahead of no witness"
        watched.open_gates()
        await until_size(mirrored, placement.block_size)
        newest = mirrored.running.ledger.witnessed.newest
        assert newest is not None
        assert newest.size == placement.block_size
        # The ledger stands still; what the witnesses say of it gets newer all the same.
        future = time.time() + 100
        for one in watched.witnesses.values():
            one.time_s = lambda: future

        async def times() -> list[int]:
            note = parse_note((await mirrored.http.get("/checkpoint")).content)
            return [one.time_s for one in verify_cosignatures(note, [cosigner_key(n) for n in NAMES])]

        for _ in range(1_500):
            if (await times()).count(int(future)) >= 2:
                break
            await asyncio.sleep(0.02)
        else:
            pytest.fail("the mirror serves no newer cosignatures")
        said = (await mirrored.http.get("/v1/witnesses")).json()
        assert [one["url"] for one in said["witnesses"]] == ["", "", ""], "a mirror asks nobody"
        assert said["published_size"] == placement.block_size


async def test_a_backup_brings_its_cosignatures_back(watched: Watched, tmp_path: Path) -> None:
    served = watched.served
    size = (await served.submit()).placement.block_size
    await watched.until_published(size)
    known = pinned(watched)

    def copied() -> None:
        with grpc.insecure_channel(str(served.node.grpc), options=CHANNEL_OPTIONS) as channel:
            source = RemoteBlocks(channel, "node")
            back_up(source, tmp_path / "backup", known, wall_ms=lambda: 0)
        restore(tmp_path / "backup", tmp_path / "restored", known)

    await asyncio.to_thread(copied)
    address = str(served.node.grpc)
    async with mirroring(tmp_path / "restored", known, address) as mirrored:
        note = parse_note((await mirrored.http.get(f"/checkpoint/{size}")).content)
        assert len(verify_cosignatures(note, [cosigner_key(name) for name in NAMES])) >= 2


async def test_a_ledger_at_rest_is_sealed_anew(tmp_path: Path) -> None:
    async with serve(tmp_path / "node", idle_seal_s=0.3) as served:
        size = served.size
        await until(lambda: served.size >= size + 2)
        blocks = [served.node.ledger.store.block_of(index) for index in (size, size + 1)]
        assert [one.size - one.first_index for one in blocks] == [1, 1]
        assert blocks[1].time_ms - blocks[0].time_ms >= 250
