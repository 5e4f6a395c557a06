"""Makes the known answers of envelopes: ``envelopes.json``.

Written from docs/format.md with struct, hashlib, hmac and libsodium's crypto_box alone: nothing of
``ledger`` is imported, and the sealed boxes are put together by hand, around a key pair that is not
random. Run as ``python -m tests.vectors.generate_envelopes`` from the root of the repository. Bytes are
hexadecimal, and followed by as many zeros as it takes to ``size``. ``want`` is what is read, or the code
of the error.
"""

from __future__ import annotations

import base64
import hmac
import json
import struct
from collections.abc import Sequence
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any, Final

from nacl.public import Box, PrivateKey

GENESIS: Final = sha256(b"genesis of the vectors").digest()
SECRET: Final = sha256(b"envelope key of agency 9").digest()
EPHEMERAL: Final = sha256(b"ephemeral key of the vectors").digest()
SEED: Final = bytes(range(16))
SCAN: Final = b"scan\n"
MOST: Final = 65_536 - 8 - 48
SENDER, RECIPIENT, KEY = 7, 9, 2

Case = dict[str, Any]


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def root(hashes: Sequence[bytes]) -> bytes:
    if len(hashes) < 2:
        return hashes[0]
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return node(root(hashes[:split]), root(hashes[split:]))


def commitment(label: str, agency: int, fields: Sequence[tuple[int, str, bytes]]) -> bytes:
    """As a document's, under another label."""
    hashes = []
    for i, (kind, name, value) in enumerate(fields):
        salt = hmac.digest(SEED, b"sudur/v1/salt" + struct.pack(">H", i), "sha256")[:16]
        leaf = salt + bytes((kind, len(name.encode()))) + name.encode() + value
        hashes.append(sha256(b"\0" + leaf).digest())
    head = f"sudur/v1/{label}\n".encode() + GENESIS + struct.pack(">IH", agency, len(fields))
    return sha256(head + root(hashes)).digest()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def body(told: bytes, files: Sequence[tuple[str, bytes]] = ()) -> bytes:
    parts = [struct.pack(">I", len(told)), told, bytes((len(files),))]
    for name, data in files:
        parts += [bytes((len(name.encode()),)), name.encode(), struct.pack(">I", len(data)), data]
    return b"".join(parts)


def inside(
    content: bytes,
    bound: bytes,
    *,
    genesis: bytes = GENESIS,
    sender: int = SENDER,
    recipient: int = RECIPIENT,
    padding: bytes | None = None,
) -> bytes:
    head = struct.pack(">32sII32s", genesis, sender, recipient, bound)
    size = len(head) + len(content)
    full = min((size + 4095) // 4096 * 4096, MOST)
    return head + content + (bytes(full - size) if padding is None else padding)


def sealed(plaintext: bytes, secret: bytes = SECRET) -> bytes:
    """Header and crypto_box_seal: ephemeral public key ‖ box, its nonce BLAKE2b of both public keys."""
    ours, theirs = PrivateKey(EPHEMERAL), PrivateKey(secret).public_key
    nonce = blake2b(bytes(ours.public_key) + bytes(theirs), digest_size=24).digest()
    box = Box(ours, theirs).encrypt(plaintext, nonce).ciphertext
    return struct.pack(">BBIH", 1, 4, RECIPIENT, KEY) + bytes(ours.public_key) + box


# --- letters -----------------------------------------------------------------------------------

TYPE_FIELD = (0, "type", b"0")
HOLDER = (0, "holder", "زينب".encode())
SCAN_FIELD = (1, "scan", sha256(SCAN).digest())
LETTER_FIELDS = (TYPE_FIELD, HOLDER, SCAN_FIELD)
LETTER: Final[Case] = {
    "format": "sudur-letter/v1",
    "type": 0,
    "seed": b64(SEED),
    "fields": [
        {"name": "type", "value": "0"},
        {"name": "holder", "value": "زينب"},
        {"name": "scan", "sha256": b64(sha256(SCAN).digest())},
    ],
}
CIRCULATED = commitment("circulated", SENDER, LETTER_FIELDS)
LETTER_BODY = body(canonical(LETTER), [("scan", SCAN)])
LETTER_READ = {
    "type": 0,
    "fields": [[kind, name, value.hex()] for kind, name, value in LETTER_FIELDS],
    "files": [["scan", SCAN.hex()]],
}

# --- replies -----------------------------------------------------------------------------------

NOTE = "صدرت في 1998"
REPLY_FIELDS = (
    (0, "outcome", b"confirmed"),
    (0, "note", NOTE.encode()),
    (0, "issued", b"1234"),
    (0, "successor", b""),
)
B: Final = sha256(b"b").digest()
SHOWN_SALT = bytes(range(16, 32))
HIDDEN = sha256(b"hidden field").digest()
REPLY = {
    "format": "sudur-reply/v1",
    "outcome": "confirmed",
    "seed": b64(SEED),
    "note": NOTE,
    "issued": {
        "index": "1234",
        "document": {
            "agency": SENDER,
            "type": 0,
            "fields": [{"name": "type", "salt": b64(SHOWN_SALT), "value": "0"}, {"hidden": b64(HIDDEN)}],
        },
    },
    "successor": None,
}
ANSWERED = commitment("answer", SENDER, REPLY_FIELDS)
REPLY_BODY = body(canonical(REPLY))
REPLY_READ: Final[Case] = {
    "outcome": "confirmed",
    "note": NOTE,
    "issued": "1234",
    "successor": None,
    "files": [],
}
MOVED = {**REPLY, "outcome": "transferred", "note": "", "issued": None, "successor": 12}
MOVED_FIELDS = (
    (0, "outcome", b"transferred"),
    (0, "note", b""),
    (0, "issued", b""),
    (0, "successor", b"12"),
    (1, "letter", sha256(SCAN).digest()),
)
MOVED_TO = commitment("answer", SENDER, MOVED_FIELDS)
MOVED_READ = {
    "outcome": "transferred",
    "note": "",
    "issued": None,
    "successor": 12,
    "files": [["letter", SCAN.hex()]],
}


def outer(desc: str, envelope: bytes, want: str, digest: bytes | None = None) -> Case:
    short = envelope.rstrip(b"\0")
    digest = digest or sha256(envelope).digest()
    return {
        "desc": desc,
        "envelope": short.hex(),
        "size": len(envelope),
        "digest": digest.hex(),
        "want": want,
    }


def inner(kind: str, desc: str, plaintext: bytes, bound: bytes, want: Any) -> Case:
    short = plaintext.rstrip(b"\0")
    return {
        "desc": desc,
        "kind": kind,
        "plaintext": short.hex(),
        "size": len(plaintext),
        "commitment": bound.hex(),
        "want": want,
    }


def letter(desc: str, plaintext: bytes, want: Any, bound: bytes = CIRCULATED) -> Case:
    return inner("letter", desc, plaintext, bound, want)


def reply(desc: str, plaintext: bytes, want: Any, bound: bytes = ANSWERED) -> Case:
    return inner("reply", desc, plaintext, bound, want)


def envelopes() -> list[Case]:
    plaintext = inside(LETTER_BODY, CIRCULATED)
    good = sealed(plaintext)
    head = good[:8]
    malformed = "MALFORMED_ENVELOPE"
    return [
        outer("a letter with its file", good, "opened"),
        outer("other bytes than the log names", good, "ENVELOPE_WRONG_DIGEST", sha256(b"x").digest()),
        outer("one bit of the box flipped", good[:-1] + bytes((good[-1] ^ 1,)), "ENVELOPE_WRONG_KEY"),
        outer("sealed to another key", sealed(plaintext, bytes(range(32))), "ENVELOPE_WRONG_KEY"),
        outer("65,537 bytes", head + bytes(65_529), "TOO_LARGE"),
        outer("the largest, of nothing but zeros", head + bytes(65_528), "ENVELOPE_WRONG_KEY"),
        outer("nothing", b"", malformed),
        outer("half a header", head[:5], malformed),
        outer("a header alone", head, malformed),
        outer("version 2", b"\x02" + good[1:], malformed),
        outer("algorithm 1", good[:1] + b"\x01" + good[2:], malformed),
        outer("to agency 0", good[:2] + bytes(4) + good[6:], malformed),
        outer("to key 0", good[:6] + bytes(2) + good[8:], malformed),
        outer("one byte too many", good + b"\0", malformed),
        outer("one byte too few", good[:-1], malformed),
    ]


def plaintexts() -> list[Case]:
    malformed = "MALFORMED_ENVELOPE"
    told = canonical(LETTER)
    alone = body(told)
    denied = {**REPLY, "outcome": "denied"}
    maybe = {**REPLY, "outcome": "perhaps"}
    no_note = {name: value for name, value in REPLY.items() if name != "note"}
    successor = {**MOVED, "outcome": "denied"}
    moved = body(canonical(MOVED), [("letter", SCAN)])
    cut = alone[:-1] + b"\1\4scan\xff\xff\xff\xff"
    no_text = alone[:-1] + b"\1\1\xff\0\0\0\0"
    clash = body(canonical(MOVED), [("note", SCAN)])
    ones = b"\1" * (4096 - 72 - len(LETTER_BODY))
    full = body(canonical({**LETTER, "fields": LETTER["fields"][:2]}))
    return [
        letter("with its file", inside(LETTER_BODY, CIRCULATED), LETTER_READ),
        letter("with a file that goes another way", inside(alone, CIRCULATED), {**LETTER_READ, "files": []}),
        reply("a confirmation, the document issued", inside(REPLY_BODY, ANSWERED), REPLY_READ),
        reply("passed on to a successor, with a file", inside(moved, MOVED_TO), MOVED_READ, MOVED_TO),
        letter("for another ledger", inside(LETTER_BODY, CIRCULATED, genesis=B), "ENVELOPE_WRONG_LEDGER"),
        letter("another sender", inside(LETTER_BODY, CIRCULATED, sender=8), "ENVELOPE_WRONG_SENDER"),
        letter("sender 0", inside(LETTER_BODY, CIRCULATED, sender=0), malformed),
        letter("another recipient", inside(LETTER_BODY, CIRCULATED, recipient=8), "ENVELOPE_WRONG_RECIPIENT"),
        letter("another commitment", inside(LETTER_BODY, ANSWERED), "ENVELOPE_WRONG_COMMITMENT"),
        letter("a field missing", inside(full, CIRCULATED), "COMMITMENT_MISMATCH"),
        letter("another's commitment on both sides", inside(LETTER_BODY, B), "COMMITMENT_MISMATCH", B),
        letter("a file that is not its field's", inside(body(told, [("scan", B)]), CIRCULATED),
               "COMMITMENT_MISMATCH"),
        letter("a file for a text field", inside(body(told, [("holder", SCAN)]), CIRCULATED), malformed),
        letter("a file twice", inside(body(told, [("scan", SCAN)] * 2), CIRCULATED), malformed),
        letter("JSON with spaces", inside(body(json.dumps(LETTER).encode()), CIRCULATED), "MALFORMED"),
        letter("a reply", inside(REPLY_BODY, CIRCULATED), malformed),
        letter("padding that is not zero", inside(LETTER_BODY, CIRCULATED, padding=ones), malformed),
        letter("a page more padding", inside(LETTER_BODY, CIRCULATED) + bytes(4096), malformed),
        letter("no padding", inside(LETTER_BODY, CIRCULATED, padding=b""), malformed),
        letter("no body", inside(b"", CIRCULATED, padding=b""), malformed),
        letter("JSON cut short", inside(struct.pack(">I", 2**32 - 1) + b"{}", CIRCULATED), malformed),
        letter("a file cut short", inside(cut, CIRCULATED), malformed),
        letter("a file's name that is no UTF-8", inside(no_text, CIRCULATED), malformed),
        reply("a letter", inside(LETTER_BODY, ANSWERED), malformed),
        reply("a denial that issues a document", inside(body(canonical(denied)), ANSWERED), malformed),
        reply("a denial that names a successor", inside(body(canonical(successor)), ANSWERED), malformed),
        reply("an outcome that there is not", inside(body(canonical(maybe)), ANSWERED), "MALFORMED"),
        reply("a member missing", inside(body(canonical(no_note)), ANSWERED), "MALFORMED"),
        reply("a member more", inside(body(canonical({**REPLY, "more": 1})), ANSWERED), "MALFORMED"),
        reply("a file under a name that is taken", inside(clash, MOVED_TO), malformed, MOVED_TO),
        reply("another's commitment on both sides", inside(REPLY_BODY, B), "COMMITMENT_MISMATCH", B),
    ]  # fmt: skip


def main() -> None:
    path = Path(__file__).with_name("envelopes.json")
    held = {
        "genesis": GENESIS.hex(),
        "sender": SENDER,
        "recipient": RECIPIENT,
        "secret_key": SECRET.hex(),
        "envelopes": envelopes(),
        "plaintexts": plaintexts(),
    }
    path.write_text(json.dumps(held, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
