"""The lines under a checkpoint: those of the log, and those that witnesses add as time goes on.

They are kept apart, for the first never change and the second do. A line is the log's when it bears the
name that the note begins with, its origin: C2SP keys of logs are named so, and a cosigner by the origin's
name would stand for the log itself.
"""

from __future__ import annotations

from ledger.notes import NoteSignature, parse_note, parse_signatures


def split_note(note: bytes) -> tuple[bytes, bytes]:
    """(the note with the log's lines alone, the other lines). Raises NoteFormatError, TooLarge."""
    parsed = parse_note(note)
    origin = parsed.text.split(b"\n", 1)[0].decode()
    others = b"".join(one.line() for one in parsed.signatures if one.name != origin)
    if not others:
        return note, b""
    own = b"".join(one.line() for one in parsed.signatures if one.name == origin)
    return parsed.text + b"\n" + own, others


def join_lines(lines: bytes, more: bytes) -> bytes:
    """Both, ``more`` in place of earlier lines by the same keys. In one order, whichever came first."""
    if not lines or lines == more:
        return more
    found = {(one.name, one.key_id): one for one in (*parse_signatures(lines), *parse_signatures(more))}
    return b"".join(found[place].line() for place in sorted(found))


def signatures_of(lines: bytes) -> tuple[NoteSignature, ...]:
    """The lines, read; none for empty ones."""
    return parse_signatures(lines) if lines else ()
