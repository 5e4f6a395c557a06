"""Who shows which checkpoints of a log: nodes and mirrors, witnesses, and what people have kept.

A source is a URL or a path. At a URL stands a node or mirror (its newest checkpoints, and the tree under
them), or a witness (the checkpoint that it cosigned last). A path is a file or a directory of kept
checkpoints: signed notes, receipts, evidence files, or the directory of an audit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol

from ledger.checkpoints import SignedCheckpoint
from ledger.errors import FormatError, SudurError, VerificationError
from ledger.evidence import MAX_EVIDENCE, Fork, parse_evidence
from ledger.evidence_verdict import open_by_keys
from ledger.receipts import parse_receipt
from ledger.resources import CHECKPOINT, Resources
from ledger.trust import TrustedLedger
from tools.errors import AnswerWrong, NotFound, Unavailable
from tools.files import read_file

SIGNED: Final = f"{CHECKPOINT}/signed"
MAX_FILES: Final = 100_000
_HEADS: Final = "heads"


class Opened(Resources, Protocol):
    """What is read at a URL."""

    def close(self) -> None: ...


@dataclass(slots=True)
class Source:
    """One who shows checkpoints. ``heads``: those that the log signed, the newest first where it is known.

    ``resources`` serve the tree, None where there is none to be had. ``fault``: why it shows nothing, or not
    all. ``foreign``: checkpoints that it shows and the log has not signed, or not by a key that might.
    """

    name: str
    kind: str
    heads: list[SignedCheckpoint] = field(default_factory=list)
    resources: Opened | None = None
    fault: str = ""
    foreign: list[str] = field(default_factory=list)

    def take(self, note: bytes, ledger: TrustedLedger, where: str) -> None:
        """Keep a note if the log signed it, say so if not."""
        try:
            signed = open_by_keys(note, ledger)
        except (VerificationError, FormatError) as error:
            self.foreign.append(f"{where}: {error}")
            return
        if all(signed.note.text != one.note.text for one in self.heads):
            self.heads.append(signed)


def source_of(where: str, ledger: TrustedLedger, opened: Callable[[str], Opened]) -> Source:
    """Ask one source for all that it shows of a log. Raises Usage for what is no URL, nor a path."""
    if where.startswith(("http://", "https://")):
        return _asked(where, ledger, opened(where))
    return _kept(Path(where), ledger)


def _asked(url: str, ledger: TrustedLedger, resources: Opened) -> Source:
    source = Source(url, "node", resources=resources)
    monitored = f"{sha256(ledger.origin.encode()).hexdigest()}/{CHECKPOINT}"
    try:
        try:
            source.take(resources.fetch(CHECKPOINT), ledger, CHECKPOINT)
            with suppress(NotFound, AnswerWrong):
                source.take(resources.fetch(SIGNED), ledger, SIGNED)
        except NotFound:
            source.kind = "witness"
            source.take(resources.fetch(monitored), ledger, monitored)
    except NotFound:
        source.fault = "it is neither a node of a ledger, nor a witness that has cosigned this one"
    except (Unavailable, AnswerWrong) as error:
        source.fault = str(error)
    if source.kind == "witness":
        resources.close()
        source.resources = None
    return source


# --- what was kept -----------------------------------------------------------------------------


def _kept(path: Path, ledger: TrustedLedger) -> Source:
    source = Source(str(path), "kept")
    heads = path / _HEADS
    if heads.is_file():
        source.kind = "audit"
        _take_heads(heads, source, ledger)
        return source
    unread = 0
    try:
        for file in _files(path):
            try:
                notes = _notes_in(file)
            except (OSError, SudurError) as error:
                source.fault = str(error)  # it hides nothing that lies beside it
                continue
            unread += not notes
            for note in notes:
                source.take(note, ledger, str(file))
    except (OSError, SudurError) as error:
        source.fault = str(error)
    if not source.heads and not source.foreign and not source.fault:
        source.fault = f"no checkpoint stands in it ({unread} files of something else)"
    return source


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    seen = 0
    for directory, names, files in os.walk(path):
        names.sort()
        for name in sorted(files):
            seen += 1
            if seen > MAX_FILES:
                raise AnswerWrong(f"more than {MAX_FILES} files", where=str(path))
            yield Path(directory, name)


def _notes_in(file: Path) -> list[bytes]:
    """The checkpoints in a note, a receipt or an evidence file; none in anything else."""
    data = read_file(file, MAX_EVIDENCE + 1)
    if not data.startswith(b"{"):
        return [data] if b"\n\n\xe2\x80\x94 " in data else []
    with suppress(FormatError):
        return [parse_receipt(data).checkpoint]
    with suppress(FormatError):
        breach = parse_evidence(data).breach
        return [breach.small, breach.large] if isinstance(breach, Fork) else [breach.checkpoint]
    return []


def _take_heads(path: Path, source: Source, ledger: TrustedLedger) -> None:
    """The lines of an audit's file of heads. It may be written to right now: the last may be cut short."""
    data = path.read_bytes()
    for line in data[: data.rfind(b"\n") + 1].splitlines():
        try:
            note = json.loads(line)["note"].encode()
        except (ValueError, KeyError, TypeError, AttributeError):
            source.fault = "a line of it cannot be read"
            continue
        source.take(note, ledger, str(path))
