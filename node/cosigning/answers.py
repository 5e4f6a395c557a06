"""What a witness's answer means (C2SP tlog-witness, add-checkpoint). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ledger.errors import FormatError
from ledger.notes import NoteSignature, parse_signatures
from ledger.witnessing import SIZE_TYPE, parse_known_size

MAX_ANSWER: Final = 65_536
"""Bytes of an answer that are read; sixteen of the largest cosignatures fit."""
_RETRY_CAP_S: Final = 600.0


class Trouble(StrEnum):
    """Why a witness does not cosign. Two are alarms: somebody has to look, today."""

    SILENT = "SILENT"
    """It cannot be reached, or does not answer in time."""
    REFUSING = "REFUSING"
    """It answers with an error, or asks not to be asked so often."""
    UNKNOWN_LOG = "UNKNOWN_LOG"
    """It does not know this log, or not this log's key."""
    WRONG = "WRONG"
    """It answers what no witness may: a signature that does not verify, a wrong time, rubbish."""
    AHEAD = "AHEAD"
    """It has seen more of this log than is here: this copy is behind, or another signs too. Or it lies."""
    FORKED = "FORKED"
    """It has seen another history of this log than is here. Or it lies."""

    CAUGHT = "CAUGHT"
    """Its audit says that this log has broken its own rules. Or it lies."""
    OLD_SEAL = "OLD_SEAL"
    """It audits, has not seen this head before, and cosigns none that was sealed long ago: the next one."""
    AUDITING = "AUDITING"
    """It audits, and has not come as far as this head: it reads what is served, so it waits for that, too."""

    @property
    def is_alarm(self) -> bool:
        return self in (Trouble.AHEAD, Trouble.FORKED, Trouble.CAUGHT)


@dataclass(frozen=True, slots=True)
class Cosigned:
    """It cosigned; the lines are not verified yet."""

    signatures: tuple[NoteSignature, ...]


@dataclass(frozen=True, slots=True)
class HasSize:
    """It has cosigned another size than was thought: this one, maybe larger than the one it was asked for."""

    size: int


@dataclass(frozen=True, slots=True)
class Failed:
    """``again_s``: it asks not to be asked before so many seconds are over."""

    trouble: Trouble
    what: str
    again_s: float = 0.0


Answer = Cosigned | HasSize | Failed


def read_answer(
    status: int, media_type: str, body: bytes, *, retry_after: str, old: int, size: int
) -> Answer:
    """The meaning of an answer to ``add-checkpoint`` of ``size`` from the size ``old`` on."""
    try:
        if status == 200:
            return Cosigned(parse_signatures(body))
        if status == 409 and old == size and not _names_another(media_type, body, old):
            # Another root for one size is a 409 in one version of the specification, a 422 in the next.
            return _forked(old)
        if status == 409:
            return _has(parse_known_size(body), media_type, old)
    except FormatError as error:
        return Failed(Trouble.WRONG, f"its answer {status} cannot be read: {error}")
    match status:
        case 404:
            return Failed(Trouble.UNKNOWN_LOG, "it does not know this log: its operator has to add it")
        case 403:
            what = "it does not know the key that this log signs with: its operator has to add it"
            return Failed(Trouble.UNKNOWN_LOG, what)
        case 422 if body.startswith(b"CAUGHT"):
            return Failed(Trouble.CAUGHT, "its audit says that this log has broken its own rules")
        case 503 if body.startswith(b"SEAL_OLD"):
            what = "it audits, and cosigns no head that was sealed long before it was shown it"
            return Failed(Trouble.OLD_SEAL, what, _seconds(retry_after))
        case 503 if body.startswith((b"CATCHING_UP", b"NOT_AUDITED")):
            what = "it audits, and has not come as far, or cannot read what is served"
            return Failed(Trouble.AUDITING, what, _seconds(retry_after))
        case 422:
            return _forked(old)
        case 429 | 503:
            return Failed(Trouble.REFUSING, f"it answers {status}: not now", _seconds(retry_after))
    return Failed(Trouble.REFUSING, f"it answers {status}")


def _forked(old: int) -> Failed:
    return Failed(Trouble.FORKED, f"it has seen another tree of {old} leaves than is here")


def _names_another(media_type: str, body: bytes, old: int) -> bool:
    return media_type.split(";")[0].strip() == SIZE_TYPE and body != b"%d\n" % old


def _has(known: int, media_type: str, old: int) -> Answer:
    if media_type.split(";")[0].strip() != SIZE_TYPE:
        return Failed(Trouble.WRONG, f"its answer 409 is of the type {media_type[:80]!a}, not {SIZE_TYPE}")
    if known == old:
        return Failed(Trouble.WRONG, f"it refuses size {old} as old, and names it itself")
    return HasSize(known)


def _seconds(text: str) -> float:
    return min(float(text), _RETRY_CAP_S) if text.isascii() and text.isdigit() and len(text) < 6 else 0.0
