"""The queue: what was verified offline and left something open, in a private file, until there is a network.

It holds ISSUE leaves and the time at which each was asked about, nothing of any document: what the log
shows to anybody, and that this office was shown it. So its mode is 0600, entries go as soon as they are
settled, and nobody is asked for a passphrase that would lie beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ledger.left_open import MAX_QUEUE, LeftOpen, Settling, encode_queue, parse_queue
from ledger.resources import CHECKPOINT, Resources
from ledger.trust import Trust
from ledger.verdicts import Verdict, VerdictCode
from tools.files import locked, read_file, write_file
from tools.pinning import ledger_of

_WAIT_S = 5.0


def read_queue(path: Path) -> tuple[LeftOpen, ...]:
    """Empty when there is none yet. Raises FileProblem, FormatError."""
    return parse_queue(read_file(path, MAX_QUEUE)) if path.exists() else ()


def put(path: Path, entry: LeftOpen) -> None:
    """Add an entry, durably; one of the same leaf takes the older's place.

    Raises FileProblem, FormatError, TooLarge when the queue is full, DirectoryInUse.
    """
    with _held(path):
        kept = [one for one in read_queue(path) if (one.genesis, one.index, one.issue) != _leaf(entry)]
        write_file(path, encode_queue([*kept, entry]))


def settle(path: Path, trust: Trust, resources: Resources, now_ms: int) -> list[tuple[LeftOpen, Verdict]]:
    """What the network says of each entry of its ledger; those that are settled leave the queue.

    Raises CheckpointUntrusted, ProofInvalid, FileProblem, FormatError, and what the source raises.
    """
    note = resources.fetch(CHECKPOINT)
    ledger = ledger_of(trust, note)
    found: list[tuple[LeftOpen, Verdict]] = []
    entries = [one for one in read_queue(path) if one.genesis == ledger.genesis]
    if entries:
        settling = Settling(resources, ledger, note, now_ms)
        found = [(one, settling.verdict(one)) for one in entries]
    done = {one for one, verdict in found if verdict.code is not VerdictCode.CANNOT_TELL}
    if done:
        with _held(path):  # what came in meanwhile stays
            write_file(path, encode_queue([one for one in read_queue(path) if one not in done]))
    return found


def _leaf(entry: LeftOpen) -> tuple[bytes, int, bytes]:
    return entry.genesis, entry.index, entry.issue


@contextmanager
def _held(path: Path) -> Iterator[None]:
    with locked(path.parent, _WAIT_S):
        yield
