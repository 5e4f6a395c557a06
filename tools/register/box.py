"""How the register keeps its contents: sealed for this very row, and found again by blind marks.

Everything comes from the one secret in ``register.key.json``. A sealed value is a libsodium secretbox
(XSalsa20-Poly1305) with a random nonce, whose plaintext begins with the table and the row, so that a
value that was moved or swapped is noticed. A blind mark is a keyed BLAKE2b of a text: whoever has the
database and not the key learns which rows bear the same text, and nothing of the text.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from nacl.bindings import crypto_secretbox, crypto_secretbox_NONCEBYTES, crypto_secretbox_open
from nacl.exceptions import CryptoError

from tools.errors import RegisterProblem

_NONCE: Final = crypto_secretbox_NONCEBYTES
_TABLE: Final = 8
_PLACE: Final = _TABLE + 8
MARK_SIZE: Final = 16
TAG_BITS: Final = 40


class Box:
    """Seals and opens for one register. ``secret``: the 32 bytes of its key file."""

    __slots__ = ("_chain", "_marks", "_seal", "_tags")

    def __init__(self, secret: bytes) -> None:
        self._seal = _derived(secret, b"contents")
        self._marks = _derived(secret, b"marks")
        self._tags = _derived(secret, b"tags")
        self._chain = _derived(secret, b"chain")

    def seal(self, table: str, row: int, content: bytes) -> bytes:
        """Seal one value. About 3 µs."""
        return self.seal_run(table, row, [content])[0]

    def seal_run(self, table: str, first: int, contents: Sequence[bytes]) -> list[bytes]:
        """Seal a value for each row from ``first`` on."""
        head = table.encode().ljust(_TABLE)
        nonces = os.urandom(_NONCE * len(contents))
        sealed = []
        for position, content in enumerate(contents):
            nonce = nonces[_NONCE * position : _NONCE * (position + 1)]
            place = head + (first + position).to_bytes(8, "big")
            sealed.append(nonce + crypto_secretbox(place + content, nonce, self._seal))
        return sealed

    def open(self, table: str, row: int, sealed: bytes) -> bytes:
        """The inverse. Raises RegisterProblem for what was altered or stands in another row."""
        where = f"{table}, row {row}"
        try:
            plain = crypto_secretbox_open(sealed[_NONCE:], sealed[:_NONCE], self._seal)
        except (CryptoError, ValueError):
            raise RegisterProblem(
                "does not open: it was altered, or sealed under another key",
                where=where,
                fix="restore the register and register.key.json from one backup",
            ) from None
        if plain[:_PLACE] != table.encode().ljust(_TABLE) + row.to_bytes(8, "big"):
            raise RegisterProblem(
                "holds what was sealed for another row", where=where, fix="restore the register from a backup"
            )
        return plain[_PLACE:]

    def mark(self, purpose: str, text: bytes) -> bytes:
        """The blind mark of a text, 16 bytes: equal for equal texts of one purpose."""
        return blake2b(text, key=self._marks, digest_size=MARK_SIZE, person=purpose.encode()[:16]).digest()

    def tag(self, word: str) -> int:
        """The blind mark of a search word, 40 bits: rarely equal for two words, which searches bear."""
        digest = blake2b(word.encode("utf-8", "surrogatepass"), key=self._tags, digest_size=5).digest()
        return int.from_bytes(digest, "big")

    def link(self, before: bytes, row: bytes) -> bytes:
        """The link of a chain: 32 bytes over the link before and this row."""
        return blake2b(before + row, key=self._chain, digest_size=32).digest()


def _derived(secret: bytes, purpose: bytes) -> bytes:
    return blake2b(purpose, key=secret, digest_size=32, person=b"sudur-register").digest()
