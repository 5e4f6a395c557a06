"""An agency's office in a world in memory: its register, its outbox, a thief with its keys, a monitor."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ledger import rules
from ledger.checkpoints import Checkpoint, sign_checkpoint
from ledger.errors import OutOfRange
from ledger.notes import VerifierKey
from ledger.proofs import prove_consistency
from ledger.records import UNDECLARED_TYPE
from ledger.resources import LogTiles
from ledger.submissions import open_submission
from ledger.tiles import TileNodeReader
from ledger.trust import TrustedLedger
from tests.ledger.static import Missing, StaticLedger
from tests.ledger.world import ORIGIN, MemoryReader, World, issue, log_key, signer
from tools.agency.outbox import Outbox
from tools.client import BulkAnswer, ConsistencyAnswer, Placed
from tools.errors import NotFound
from tools.monitor.findings import Finding
from tools.monitor.monitor import Judging, Monitor, Reading
from tools.register.box import Box
from tools.register.store import Register
from tools.signing import NumberedSigner

SECRET = bytes(range(32))
LOG_SIGNER = signer("log")


@dataclass
class Memory(StaticLedger):
    """A ledger in memory that is read as a node is, until it is told to lie."""

    def consistency(self, old_size: int, new_size: int) -> ConsistencyAnswer:
        if new_size > self.tree.size:
            raise OutOfRange(f"{new_size} is beyond the tree")
        try:
            path = prove_consistency(TileNodeReader(LogTiles(self), new_size), old_size, new_size)
        except Missing:
            raise NotFound(f"no checkpoint was signed at size {new_size}") from None
        return ConsistencyAnswer(old_size, new_size, tuple(path), b"")

    def entries(self, start: int, end: int) -> Iterator[bytes]:
        yield from self.leaves[start:end]


class MemorySource:
    """The monitor's way to a :class:`Memory`. ``note``: a checkpoint to show in place of the newest."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.note: bytes | None = None

    def checkpoint(self) -> bytes:
        return self.memory.checkpoint if self.note is None else self.note

    def entries(self, start: int, end: int) -> Iterator[bytes]:
        return self.memory.entries(start, end)

    def consistency(self, old_size: int, new_size: int) -> ConsistencyAnswer:
        return self.memory.consistency(old_size, new_size)


@dataclass
class Office:
    """Agency 1 of a new world, with two submit keys. Time moves with the world's blocks."""

    path: Path
    world: World = field(default_factory=World)
    memory: Memory = field(default_factory=lambda: Memory(ORIGIN, [LOG_SIGNER]))
    agency: int = 1
    names: int = 0

    def __post_init__(self) -> None:
        self.mirrored = 0
        self.replica = MemoryReader()
        self.world.enrol(submit=2, registry=1)
        self.source = MemorySource(self.memory)
        self.ledger = TrustedLedger.founded(self.world.genesis, ORIGIN, (VerifierKey.parse(log_key("log")),))
        self.register = self.open("register.db")
        self.mirror()

    def open(self, name: str) -> Register:
        return Register(self.path / name, Box(SECRET), lambda: self.world.state.time_ms)

    def mirror(self) -> None:
        """Serve the blocks that the world has made."""
        for leaves in self.world.blocks[self.mirrored :]:
            transition = rules.apply(self.replica.state, self.replica, leaves)
            self.replica.apply(transition)
            self.memory.add(transition)
        self.mirrored = len(self.world.blocks)

    # --- what is logged ---

    def documents(self, count: int) -> list[bytes]:
        self.names += count
        return [issue(self.agency, f"paper {self.names - i}", UNDECLARED_TYPE) for i in range(count)]

    def outbox(self, register: Register | None = None, keys: Iterable[int] = (1,)) -> Outbox:
        signers = [NumberedSigner(n, self.world.keys[self.agency][n]) for n in keys]
        return Outbox(register or self.register, self.ledger, self.agency, signers)

    def issue(
        self,
        count: int = 1,
        *,
        keys: Iterable[int] = (1,),
        later_ms: int = 1000,
        register: Register | None = None,
        answered: bool = True,
    ) -> int:
        """Issue through a register, as its tools do; the index of the (last) SUBMISSION.

        Not ``answered``: it is logged, and the answer is lost.
        """
        outbox = self.outbox(register, keys)
        self.world.idle(max(1, later_ms - 1))
        work = outbox.put("issue", self.documents(count), {})
        call = outbox.next_call(work)
        draft = self.world.begin(1)
        indexes = [draft.add_submission(open_submission(one.leaf, one.records)) for one in call]
        self.world.seal(draft)
        state = self.world.state
        if answered:
            placed = [
                Placed(index, index + 1, one.count, state.block, state.size, state.time_ms, False)
                for index, one in zip(indexes, call, strict=True)
            ]
            outbox.settle(call, BulkAnswer(tuple(placed), b""))
        self.mirror()
        return indexes[-1]

    def steal(self, count: int = 1, *, keys: Iterable[int] = (2,), later_ms: int = 1000) -> int:
        """Issue with the agency's keys, past every register; the index of the SUBMISSION."""
        self.world.idle(max(1, later_ms - 1))
        index = self.world.submit(self.agency, self.documents(count), keys=list(keys))
        self.mirror()
        return index

    # --- the monitor ---

    def monitor(self, judging: Judging | None = None, register: Register | None = None) -> Monitor:
        return Monitor(
            register or self.register,
            self.source,
            self.memory,
            self.ledger,
            self.agency,
            judging or Judging(),
            contextlib.nullcontext,
        )

    def read(self, judging: Judging | None = None, start: int | None = None) -> Reading:
        """A reading, told."""
        monitor = self.monitor(judging)
        reading = monitor.read(start)
        monitor.tell(reading.news)
        return reading

    def forge(self, size: int, root: bytes) -> bytes:
        """A checkpoint of the log's own key over any root."""
        return sign_checkpoint(Checkpoint(ORIGIN, size, root), [LOG_SIGNER])


def codes(findings: Sequence[Finding]) -> list[str]:
    return [one.code for one in findings]
