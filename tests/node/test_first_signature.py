"""A node asks what the witnesses have seen, before it signs anything after a start."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ledger.checkpoints import log_key
from ledger.witnessing import SIZE_TYPE
from node.cosigning.collector import collecting
from node.cosigning.first_signature import check_witnesses
from node.cosigning.settings import CosigningSettings
from node.errors import WitnessesAhead, WitnessesSilent
from node.node import LedgerNode
from tests.node.test_collector import FAST
from tests.node.world import ORIGIN, World, placed, small_settings, submit
from tests.witnesses import FakeWitness, policy, wait_for

SETTINGS = replace(FAST, patience_s=0.2, timeout_s=0.5)


@dataclass
class Site:
    """A node's place, and two of three witnesses that are enough."""

    root: Path
    world: World = field(default_factory=World)
    witnesses: dict[str, FakeWitness] = field(default_factory=dict)

    def __post_init__(self) -> None:
        key = log_key(ORIGIN, self.world.log.public_key)
        self.witnesses = {name: FakeWitness(name, key).start() for name in ("one", "two", "three")}
        self.world.policy = policy(2, **{name: one.url for name, one in self.witnesses.items()})

    @property
    def data(self) -> Path:
        return self.root / "data"

    def open(self, settings: CosigningSettings = SETTINGS) -> LedgerNode:
        core = replace(
            small_settings(), before_signing=lambda held, proofs: check_witnesses(held, proofs, settings)
        )
        if not self.data.exists():
            made = LedgerNode.create(
                self.data, self.world.genesis_leaf, [self.world.log], clock=self.world.clock, settings=core
            )
            made.sequencer.start()
            return made
        return self.world.open(self.data, core)

    def run(self, blocks: int, *, cosigned: bool = True) -> int:
        """Open, commit some blocks, have them published, close; the size."""
        node = self.open()
        try:
            if node.published.head.block == 0:
                self.world.furnish(node)
            for _ in range(blocks):
                submit(node.sequencer, self.world.issues())
            size = node.published.size
            if cosigned:
                with collecting(node, SETTINGS):
                    seen = self.witnesses.values()
                    wait_for(lambda: all(one.seen and one.seen.size == size for one in seen))
            return size
        finally:
            node.close()

    def keep(self, name: str) -> None:
        """A snapshot of the whole machine: data and mark."""
        shutil.copytree(self.data, self.root / name)
        shutil.copy(self.root / "data.mark", self.root / f"{name}.mark")

    def back_to(self, name: str) -> None:
        shutil.rmtree(self.data)
        shutil.copytree(self.root / name, self.data)
        shutil.copy(self.root / f"{name}.mark", self.root / "data.mark")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    try:
        yield made
    finally:
        for one in made.witnesses.values():
            one.stop()


def test_the_newest_copy_starts_and_its_checkpoint_is_no_new_one(site: Site) -> None:
    size = site.run(2)
    node = site.open()
    node.close()
    assert site.witnesses["one"].requests[-1] == (size, size)


def test_a_machine_set_back_with_its_mark_does_not_sign(site: Site) -> None:
    site.run(1)
    site.keep("snapshot")
    newest = site.run(3)
    site.back_to("snapshot")
    with pytest.raises(WitnessesAhead, match=f"has cosigned {newest} leaves"):
        site.open()
    # Nothing was signed: the very newest one that was still starts.
    assert all(one.seen is not None and one.seen.size == newest for one in site.witnesses.values())


def test_a_copy_that_went_its_own_way_does_not_sign(site: Site) -> None:
    site.run(1)
    site.keep("other")
    site.run(1)
    site.keep("cosigned")
    # The copy, cut off from its witnesses, logs something else, and more of it.
    site.back_to("other")
    silent = replace(SETTINGS, without=("one", "two", "three"))
    node = site.open(silent)
    submit(node.sequencer, *[site.world.issues() for _ in range(3)])
    node.close()
    with pytest.raises(WitnessesAhead, match="another tree"):
        site.open()
    site.back_to("cosigned")
    site.open().close()


def test_a_ledger_begun_again_on_an_empty_machine_does_not_sign(site: Site) -> None:
    site.run(2)
    shutil.rmtree(site.data)
    (site.root / "data.mark").unlink()
    with pytest.raises(WitnessesAhead):
        site.open()


def test_one_silent_witness_of_three_is_not_waited_for(site: Site) -> None:
    site.run(1)
    site.witnesses["two"].stop()
    site.open().close()


def test_two_silent_ones_stop_the_start_until_an_operator_says_so(site: Site) -> None:
    site.run(1)
    for name in ("one", "two"):
        site.witnesses[name].stop()
    with pytest.raises(WitnessesSilent, match="one, two did not answer"):
        site.open()
    site.open(replace(SETTINGS, without=("one",))).close()


def test_an_operator_may_disbelieve_a_witness(site: Site) -> None:
    site.run(1)
    site.witnesses["three"].lie = lambda _: (409, SIZE_TYPE, b"99999999\n")
    with pytest.raises(WitnessesAhead, match="three"):
        site.open()
    site.open(replace(SETTINGS, without=("three",))).close()


def test_witnesses_that_never_heard_of_the_log_stop_nobody(site: Site) -> None:
    for one in site.witnesses.values():
        one.lie = lambda _: (404, "text/plain", b"")
    node = site.open()
    site.world.furnish(node)
    assert placed(submit(node.sequencer, site.world.issues())[0][0]).block > 0
    node.close()


def test_a_witness_that_lags_is_taken_from_where_it_is(site: Site) -> None:
    site.run(1)
    site.run(3, cosigned=False)
    site.open().close()
    seen = {one.seen.size for one in site.witnesses.values() if one.seen is not None}
    assert len(seen) == 1


@pytest.mark.parametrize("code", [b"NOT_AUDITED", b"CATCHING_UP"])
def test_witnesses_that_audit_what_this_node_does_not_serve_yet_stop_nobody(site: Site, code: bytes) -> None:
    site.run(1)
    site.run(1, cosigned=False)
    for one in site.witnesses.values():
        one.lie = lambda _: (503, "text/plain", code + b": it cannot be read\n")
    site.open().close()


def test_an_other_tree_of_this_size_stops_the_start_in_either_reading_of_the_specification(
    site: Site,
) -> None:
    size = site.run(1)
    for kind, body in (("text/plain", b"conflict\n"), (SIZE_TYPE, b"%d\n" % size)):
        site.witnesses["one"].lie = lambda _, kind=kind, body=body: (409, kind, body)
        with pytest.raises(WitnessesAhead, match="another tree"):
            site.open()
