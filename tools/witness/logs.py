"""The logs that a witness cosigns for, and the two files that they are told from.

A list for any C2SP log, in the form that public witness networks hand out:

    logs/v0
    vkey <vkey>
    origin <the first line of its checkpoints, if that is not the name in the vkey>
    contact <free text>
    qpd <requests a day that the log means to make>

A log with several keys, as in a rotation, stands there once for each. A trust file names ledgers of ours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ledger.checkpoints import check_origin
from ledger.errors import CheckpointUntrusted, FormatError, TooLarge, TrustFormatError
from ledger.notes import Note, NoteSignature, SignatureType, VerifierKey, known_signatures, verify_text
from ledger.subtrees import verify_tree
from ledger.trust import MAX_TRUST, Trust, TrustedLedger, parse_trust
from ledger.witnessing import has_extensions, parse_any_checkpoint
from tools.errors import Usage
from tools.files import read_file

MAX_LIST: Final = 4 << 20
MAX_LOGS: Final = 4_096
MAX_LOG_KEYS: Final = 16
_HEADER: Final = "logs/v0"
_QPD: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class WitnessedLog:
    """A log: what its checkpoints begin with, and by which keys it is believed.

    ``url``: of its public resources, "" when unknown. ``ledger``: a ledger of ours, which can be audited.
    ``off``: somebody switched it off. ``caught``: what its audit found, "" as long as that is nothing.
    """

    origin: str
    keys: tuple[VerifierKey, ...]
    url: str = ""
    ledger: TrustedLedger | None = None
    off: bool = False
    caught: str = ""

    def __post_init__(self) -> None:
        check_origin(self.origin)
        if self.ledger is None and len(self.keys) > MAX_LOG_KEYS:
            raise TooLarge(f"more than {MAX_LOG_KEYS} keys", where=self.origin)

    @classmethod
    def of_ledger(cls, ledger: TrustedLedger, url: str = "") -> WitnessedLog:
        """A ledger of ours: its keys are those of its trust file, each up to the size that it may sign."""
        return cls(ledger.origin, tuple(one.key for one in ledger.log_keys), url, ledger)

    def verified(self, note: Note) -> tuple[NoteSignature, ...]:
        """The lines by this log's keys, each verified; about 50 µs each.

        Raises CheckpointUntrusted when there is none, SignatureInvalid when one does not verify, and of a
        ledger what :meth:`TrustedLedger.open` raises besides.
        """
        if self.ledger is not None:
            size = self.ledger.open(note.encode()).checkpoint.size
            return tuple(line for line, _ in known_signatures(note, self.ledger.keys_at(size)))
        signed = known_signatures(note, self._able(note))
        if not signed:
            raise CheckpointUntrusted("no trusted key of the log signed it", where=self.origin)
        head = parse_any_checkpoint(note.text)
        for signature, key in signed:
            if key.type is SignatureType.ML_DSA_44:
                verify_tree(key, signature.blob, head.origin, head.size, head.root)
            else:
                verify_text(key, note.text, signature.blob)
        return tuple(signature for signature, _ in signed)

    def _able(self, note: Note) -> tuple[VerifierKey, ...]:
        """The keys whose signature covers all that is cosigned: with ML-DSA-44 not lines after the third."""
        if not has_extensions(note.text):
            return self.keys
        return tuple(key for key in self.keys if key.type is SignatureType.ED25519)


def log_key(vkey: str) -> VerifierKey:
    """The key of a log. FormatError for anything else."""
    key = VerifierKey.parse(vkey)
    if key.type not in (SignatureType.ED25519, SignatureType.ML_DSA_44):
        raise FormatError(f"a key of type {key.type:02x} signs no checkpoints", where=key.name)
    return key


def read_logs(path: Path, url: str = "") -> tuple[WitnessedLog, ...]:
    """The logs of a list or of a trust file; ``url`` is that of a trust file's only ledger.

    Raises FileProblem, FormatError, Usage.
    """
    data = read_file(path, MAX_LIST)
    if not data.startswith(b"{"):
        if url:
            raise Usage("a list of logs has no URLs", where=str(path), fix="give a trust file")
        return parse_list(data)
    if len(data) > MAX_TRUST:
        raise TooLarge(f"{len(data)} bytes, a trust file has at most {MAX_TRUST}", where=str(path))
    return trusted_logs(parse_trust(data), url)


def trusted_logs(trust: Trust, url: str = "") -> tuple[WitnessedLog, ...]:
    """The ledgers of a trust file as logs. Raises Usage."""
    if url and len(trust.ledgers) != 1:
        raise Usage(f"one URL for {len(trust.ledgers)} ledgers", fix="give trust files with one ledger each")
    return tuple(WitnessedLog.of_ledger(one, url) for one in trust.ledgers)


def parse_list(data: bytes) -> tuple[WitnessedLog, ...]:
    """Read a list of logs. TooLarge, and TrustFormatError with the line number for what is none."""
    if len(data) > MAX_LIST:
        raise TooLarge(f"{len(data)} bytes, at most {MAX_LIST} are read", where="list of logs")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise TrustFormatError("not UTF-8", where="list of logs") from None
    begun = False
    entries: list[_Entry] = []
    for number, line in enumerate(text.split("\n"), 1):
        where = f"list of logs, line {number}"
        word, _, rest = line.strip(" \t\r").partition(" ")
        if not word or word.startswith("#"):
            continue
        if (word == _HEADER and not rest) != (not begun):
            raise TrustFormatError(f"the first line is {_HEADER}, and no other", where=where)
        if not begun:
            begun = True
            continue
        _read_line(entries, word, rest.strip(" \t"), where)
    if not begun:
        raise TrustFormatError(f"there is no line {_HEADER}", where="list of logs")
    return merged([WitnessedLog(entry.origin or entry.key.name, (entry.key,)) for entry in entries])


def merged(logs: Sequence[WitnessedLog]) -> tuple[WitnessedLog, ...]:
    """Each origin once, with all its keys. What stands later tells the URL and the ledger."""
    found: dict[str, WitnessedLog] = {}
    for log in logs:
        known = found.get(log.origin, WitnessedLog(log.origin, ()))
        keys = (*known.keys, *(key for key in log.keys if key not in known.keys))
        found[log.origin] = WitnessedLog(log.origin, keys, log.url or known.url, log.ledger or known.ledger)
    if len(found) > MAX_LOGS:
        raise TooLarge(f"more than {MAX_LOGS} logs", where="list of logs")
    return tuple(found.values())


@dataclass(slots=True)
class _Entry:
    """A log of a list, while its lines are read."""

    key: VerifierKey
    origin: str = ""


def _read_line(entries: list[_Entry], word: str, rest: str, where: str) -> None:
    try:
        if word == "vkey":
            entries.append(_Entry(log_key(rest)))
            return
        if not entries:
            raise FormatError("a log begins with its vkey")
        if word == "origin":
            check_origin(rest)
            entries[-1].origin = rest
        elif word == "qpd":
            if not _QPD.fullmatch(rest):
                raise FormatError("qpd is a number")
        elif word != "contact":
            raise FormatError(f"{word[:20]!a} is not known here")
    except FormatError as error:
        raise TrustFormatError(error.what, where=where) from None
