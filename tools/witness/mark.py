"""The mark of a witness: who it is, and how far its key has gone, outside of its state.

It lies beside the key, not beside the state, for it is the key that promises. A state restored from a
backup, another directory begun anew, a second program with the same key: each of them would cosign what
contradicts an earlier cosignature, and each shows here. What it cannot show is a mark that went back together
with its state, or a copy of both on another machine; see docs/witnesses.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ledger.canonical_json import Reader, encode, parse
from ledger.errors import FormatError
from ledger.notes import SignatureType, VerifierKey
from node.errors import NotFound, StoreDamaged
from node.slots import HEADER_SIZE, Slots
from tools.errors import KeyFileError
from tools.witness.heads import Place, Remembered
from tools.witness.refusals import StateLost

_MAGIC: Final = b"sudur witness mark v1\n"
_NEW_KEY: Final = (
    "nothing may be cosigned with this key again unless the newest state comes back; else make a new key"
    " (docs/witnesses.md)"
)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who cosigns: its Ed25519 key under its name, and whether it audits.

    A key makes one kind of statement for as long as it lives: so that is settled when it is made.
    """

    key: VerifierKey
    audits: bool

    def encode(self) -> bytes:
        return encode({"vkey": self.key.format(), "audits": self.audits})

    @classmethod
    def decode(cls, data: bytes) -> Identity:
        """Raises FormatError."""
        reader = Reader(parse(data, limit=HEADER_SIZE), "witness")
        found = cls(VerifierKey.parse(reader.text("vkey", limit=1_024)), reader.flag("audits"))
        reader.done()
        if found.key.type is not SignatureType.ED25519_COSIGNATURE:
            raise FormatError("is no key that cosigns", where=reader.at("vkey"))
        return found


class Mark:
    """An open mark, locked against other processes for as long as it is open."""

    def __init__(self, slots: Slots, identity: Identity) -> None:
        """Use :meth:`open`. Takes the slots over."""
        self._slots = slots
        self.identity = identity

    @property
    def path(self) -> Path:
        return self._slots.path

    @staticmethod
    def path_for(key: Path) -> Path:
        """Where the mark of a key lies, unless somebody says otherwise."""
        return key.with_name(f"{key.name}.mark")

    @staticmethod
    def create(path: Path, identity: Identity) -> None:
        """Make the mark of a new key, durably. Raises KeyFileError when there is one already."""
        if path.exists():
            raise KeyFileError("there is a mark already", where=str(path), fix="choose another name")
        Slots.create(path, _MAGIC + identity.encode() + b"\n", b"")

    @classmethod
    def open(cls, path: Path, *, sync: Callable[[int], None] = os.fdatasync) -> Mark:
        """Open and lock. Raises StateLost when it is not there or damaged, DataInUse."""
        try:
            slots = Slots.open(path, _MAGIC, what="mark", user="witness", fix=_NEW_KEY, sync=sync)
        except (NotFound, StoreDamaged) as error:
            raise StateLost(error.what, where=str(path), fix=_NEW_KEY) from None
        try:
            head = slots.header.rstrip(b"\0")
            return cls(slots, Identity.decode(head[len(_MAGIC) :].removesuffix(b"\n")))
        except FormatError as error:
            slots.close()
            raise StateLost(f"it is damaged: {error}", where=str(path), fix=_NEW_KEY) from None

    def check(self, found: Remembered) -> None:
        """Raise StateLost unless ``found`` is the newest state that this key has cosigned by.

        The state may be one write ahead: that write was not answered. It may not be behind, nor another.
        """
        if not self._slots.record:
            if found.place.sequence:
                raise StateLost(
                    f"this key has cosigned nothing, the state has {found.place.sequence} writes",
                    where=str(self._slots.path),
                    fix="the mark was made anew, or the state is another key's; bring back the right one",
                )
            return
        kept = Place.decode(self._slots.record)
        if kept is None:
            raise StateLost("it holds no place", where=str(self._slots.path), fix=_NEW_KEY)
        if kept in (found.place, found.before):
            return
        if kept.state != found.place.state:
            what = "the state is not the one that this key has cosigned by"
        elif kept.sequence > found.place.sequence:
            what = (
                f"the state went back: it has {found.place.sequence} writes, and this key has cosigned"
                f" after {kept.sequence}"
            )
        else:
            what = "the state was written to under another mark: one of the two is a copy"
        raise StateLost(what, where=str(self._slots.path), fix=_NEW_KEY)

    def keep(self, place: Place) -> None:
        """Make ``place`` the newest. Durable; one fsync. OSError, StateLost when the file is gone."""
        try:
            self._slots.write(place.encode())
        except StoreDamaged as error:
            raise StateLost(error.what, where=error.where, fix=error.fix) from None

    def close(self) -> None:
        """Unlock and close; closing twice is no error."""
        self._slots.close()
