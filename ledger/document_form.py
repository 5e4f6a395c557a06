"""What a type asks of a document: its fields in their order, which may not be hidden, until when it is valid.

Format: docs/format.md, sections Documents and Verification (check 8).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta, timezone
from typing import Final

from ledger.documents import Document, FieldKind, Hidden, Shown
from ledger.errors import CommitmentMismatch, DocumentFormatError
from ledger.registry_records import TypeRecord

EXPIRY_ZONE: Final = timezone(timedelta(hours=3))
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


def check_form(slots: Sequence[Shown | Hidden], definition: TypeRecord) -> str | None:
    """The type's fields in the type's order, then files; returns the day of expiry.

    Raises CommitmentMismatch, DocumentFormatError.
    """
    if len(slots) < 1 + len(definition.fields):
        raise CommitmentMismatch("it does not have all the fields of its type")
    expires = None
    for slot, wanted in zip(slots[1:], definition.fields, strict=False):
        if isinstance(slot, Hidden):
            if wanted.shown:
                raise CommitmentMismatch(
                    f"the field {wanted.name} may not be hidden", fix="ask the holder to show it"
                )
            continue
        if (slot.field.kind, slot.field.name) != (FieldKind.TEXT, wanted.name):
            raise CommitmentMismatch(f"the field {slot.field.name} stands where {wanted.name} belongs")
        if wanted.required and not slot.field.value:
            raise CommitmentMismatch(f"the field {wanted.name} is empty")
        if wanted.expiry and slot.field.value:
            expires = slot.field.value.decode("utf-8")
            end_of(expires)
    for slot in slots[1 + len(definition.fields) :]:
        if isinstance(slot, Shown) and slot.field.kind is not FieldKind.FILE:
            raise CommitmentMismatch(f"the field {slot.field.name} is not one of its type")
    return expires


def check_document_form(document: Document, definition: TypeRecord) -> None:
    """Whether a document is one that a verifier will accept for its type, before it is issued.

    Raises CommitmentMismatch or DocumentFormatError.
    """
    check_form(document.disclose(bytes(16)).slots, definition)


def check_expiry(day: str) -> None:
    """Whether a text is a day of expiry as verifiers read it. Raises DocumentFormatError."""
    end_of(day)


def end_of(day: str) -> int:
    """The first ms after a day, at UTC+3. Raises DocumentFormatError."""
    try:
        if not _DATE.fullmatch(day):
            raise ValueError
        start = datetime.combine(date.fromisoformat(day), time(), EXPIRY_ZONE)
    except ValueError:
        raise DocumentFormatError(f"{day!r} is no day of the form YYYY-MM-DD") from None
    return int(start.timestamp() * 1000) + 86_400_000
