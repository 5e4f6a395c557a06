"""Logs to audit: a small ledger with every kind of leaf, served as static files, and ways to make it lie."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path

from ledger import rules
from ledger.leaves import NONE
from ledger.notes import VerifierKey
from ledger.records import NO_HASH, Answer, Attest, Outcome, Send, SendKind, Status, StatusChange
from ledger.state import Transition
from ledger.trust import TrustedLedger
from tests.ledger.static import StaticLedger
from tests.ledger.world import ORIGIN, MemoryReader, World, commitment, issue, log_key, signer
from tools.errors import NotFound

DAY_MS = 86_400_000
LOG = signer("log")


class Files(StaticLedger):
    """Static files in memory, which say that something is missing as every source of an audit does."""

    def fetch(self, path: str) -> bytes:
        if path not in self.files:
            raise NotFound("is not there", where=path)
        return super().fetch(path)

    def copied(self) -> Files:
        return replace(self, **{name: copy(value) for name, value in vars(self).items()})


def served() -> Files:
    return Files(ORIGIN, [LOG])


@dataclass
class ServedWorld(World):
    """A world that serves each block as it is made."""

    files: Files = field(default_factory=served)

    def commit(self, transition: Transition) -> Transition:
        self.files.add(transition)
        return super().commit(transition)

    def copied(self) -> ServedWorld:
        """Another that goes on from here."""
        other = copy(self)
        other.reader = MemoryReader()
        other.reader.__dict__.update({name: copy(value) for name, value in vars(self.reader).items()})
        other.blocks, other.files = list(self.blocks), self.files.copied()
        other.keys = {number: dict(keys) for number, keys in self.keys.items()}
        return other

    @property
    def trusted(self) -> TrustedLedger:
        return TrustedLedger.founded(self.genesis, ORIGIN, [VerifierKey.parse(log_key("log"))])

    def live(self, days: Iterable[int], documents: int = 60) -> None:
        """Days of two agencies: every kind of record that needs no theft."""
        if not self.state.registry.agencies:
            self.define_type()
            parent = self.enrol(types=(0, 1), roles=("issue", "attest", "request"))
            self.enrol(parent=parent, types=(0, 1), roles=("issue", "request"))
        parent, child = 1, 2
        for day in days:
            first = self.submit(child, [issue(child, (day, n)) for n in range(documents)]) + 1
            self.submit(child, [StatusChange(child, first, first, Status.REVOKED, 0, NONE).encode()])
            attested = self.submit(parent, [Attest(parent, first + 1, 1, NO_HASH).encode()]) + 1
            self.submit(parent, [StatusChange(parent, attested, attested, Status.REVOKED, 0, NONE).encode()])
            asked = [(day, 3), (f"letter {day}", 0)]
            sends = [
                Send(parent, child, commitment(name), SendKind.REQUEST, due, NONE, NO_HASH).encode()
                for name, due in asked
            ]
            sent = self.submit(parent, sends) + 1
            self.submit(child, [Answer(child, sent, Outcome.RECEIVED, NO_HASH, NO_HASH).encode()])
            self.idle(DAY_MS)
            self.submit(child, [Answer(child, sent, Outcome.ANSWERED, commitment(-1), NO_HASH).encode()])

    def forge_issues(self, agency: int, names: Sequence[object]) -> Transition:
        """Serve, signed, a block that issues what may be issued already; the world does not go on from it."""
        draft = rules.begin(self.state, Forgetful(self.reader), self.state.time_ms + 1000)
        draft.add_submission(self.submission(agency, [issue(agency, name) for name in names]))
        transition = draft.seal()
        self.files.add(transition)
        return transition


class Forgetful(MemoryReader):
    """Knows of no document that was issued."""

    def __init__(self, known: MemoryReader) -> None:
        self.__dict__.update(known.__dict__)

    def find_issues(self, keys: Sequence[bytes]) -> list[int | None]:
        return [None] * len(keys)


def write(files: Files, directory: Path) -> Path:
    """The same as a directory of files."""
    for path, data in files.files.items():
        name = path.replace("checkpoint/", "checkpoint.d/", 1) if "checkpoint/" in path else path
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return directory
