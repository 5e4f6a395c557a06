"""A journal in memory that keeps the contract, and fails on command as a cluster's journal can."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from enum import Enum

from node.errors import Conflict
from node.head import Head
from node.journal import CandidateBlock
from tests.node.faults import Injected


class Answer(Enum):
    """What becomes of an append, beside its being answered."""

    LOST = "not committed, and reported as failed"
    DONE = "committed, and reported as failed"
    LATE = "reported as failed, and tried at a later time: see Register.deliver"


@dataclass
class Register:
    """The head that any number of journals share, and one fault that strikes once."""

    head: Head | None = None
    fault: Answer | None = None
    heads: list[Head] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    _late: list[tuple[Head | None, Head]] = field(default_factory=list)

    def deliver(self) -> None:
        """Let what is on its way arrive now."""
        with self.changed:
            late, self._late = self._late, []
            for expected, head in late:
                self._swap(expected, head)

    def append(self, expected: Head | None, head: Head) -> Head | None:
        """Compare and swap; returns what stands there now. Raises Injected when a fault strikes."""
        with self.changed:
            fault, self.fault = self.fault, None
            if fault is Answer.LATE:
                self._late.append((expected, head))
            elif fault is not Answer.LOST:
                self._swap(expected, head)
            if fault is not None:
                raise Injected(f"injected: {fault.value}")
            return self.head

    def _swap(self, expected: Head | None, head: Head) -> None:
        if self.head == expected:
            self.head = head
            self.heads.append(head)
            self.changed.notify_all()


class FakeJournal:
    """One caller's journal on a register. It fails a caller that rebuilds a block whose fate is open."""

    def __init__(self, register: Register) -> None:
        self._register = register
        self._open: tuple[Head | None, Head] | None = None

    def head(self) -> Head | None:
        with self._register.changed:
            return self._register.head

    def append(self, expected: Head | None, block: CandidateBlock) -> Head:
        if self._open is not None and self._open[0] == expected:
            assert self._open[1] == block.head, "a block whose outcome is unknown was rebuilt"
        self._open = (expected, block.head)
        current = self._register.append(expected, block.head)
        self._open = None
        if current != block.head:
            raise Conflict("another head stands there", where="journal", fix="load the head again")
        return block.head

    def wait(self, after: Head | None, timeout_s: float) -> Head | None:
        with self._register.changed:
            self._register.changed.wait_for(lambda: self._register.head != after, timeout_s)
            return self._register.head
