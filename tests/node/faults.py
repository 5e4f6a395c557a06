"""Storage that fails on command: each step lost, or done and yet reported as failed."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from rocksdict import Checkpoint, Rdict

from node.database import Batch, Database
from node.node import NodeSettings
from node.sequencer import SequencerSettings


class Step(Enum):
    """The durable steps of a commit, in order."""

    WRITE_BLOCK = "write the block's batch"
    SYNC_BLOCK = "sync it"
    SYNC_MARK = "sync the mark"
    WRITE_CHECKPOINT = "write the checkpoint"


class How(Enum):
    LOST = "lost"
    DONE = "done, but reported as failed"


class Injected(OSError):
    """The error that a test asked for."""


@dataclass
class Faults:
    """``arm`` one fault; it strikes once, at the next time that its step is reached."""

    step: Step | None = None
    how: How = How.LOST
    struck: int = 0
    broken: bool = False
    _backup: Path | None = field(default=None, repr=False)

    def arm(self, step: Step, how: How) -> None:
        self.step, self.how = step, how

    def due(self, step: Step, how: How) -> bool:
        return self.step is step and self.how is how

    def strike(self) -> Injected:
        step, self.step = self.step, None
        self.struck += 1
        assert step is not None
        return Injected(f"injected: {step.value}, {self.how.value}")

    def settings(self, **settings: Any) -> NodeSettings:
        """Settings of a node whose disk obeys these faults."""
        return NodeSettings(
            sequencer=SequencerSettings(**{"disk_floor": 0, **settings}),
            database=lambda path: FaultyDatabase(path, self),
            sync_mark=self.sync_mark,
        )

    def sync_mark(self, descriptor: int) -> None:
        if self.due(Step.SYNC_MARK, How.LOST):
            raise self.strike()
        os.fdatasync(descriptor)
        if self.due(Step.SYNC_MARK, How.DONE):
            raise self.strike()

    def before_unsynced(self, path: Path, root: Rdict) -> None:
        """Remember what the disk holds, if the sync to come is to lose what is written now."""
        if self.due(Step.SYNC_BLOCK, How.LOST):
            self._backup = path.with_name("synced")
            Checkpoint(root).create_checkpoint(str(self._backup))

    def on_open(self, path: Path) -> None:
        if self.broken:
            raise Injected("injected: cannot be opened")
        if self._backup is not None:
            shutil.rmtree(path)
            self._backup.rename(path)
            self._backup = None


class FaultyDatabase(Database):
    """RocksDB itself, with faults between it and the store."""

    def __init__(self, path: Path, faults: Faults) -> None:
        faults.on_open(path)
        self._faults = faults
        super().__init__(path)

    def write(self, batch: Batch) -> None:
        faults = self._faults
        # A checkpoint is stored alone; a block's batch has its head and much more.
        step = Step.WRITE_CHECKPOINT if len(batch.raw) == 1 else Step.WRITE_BLOCK
        if faults.due(step, How.LOST):
            raise faults.strike()
        if step is Step.WRITE_BLOCK:
            faults.before_unsynced(self.path, self._root)
        super().write(batch)
        if faults.due(step, How.DONE):
            raise faults.strike()

    def sync(self) -> None:
        faults = self._faults
        if faults.due(Step.SYNC_BLOCK, How.LOST):
            raise faults.strike()
        super().sync()
        if faults.due(Step.SYNC_BLOCK, How.DONE):
            raise faults.strike()
