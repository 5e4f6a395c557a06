"""Makes journal.json: lines of a verifying office's journal, and what an implementer must find in them.

Built from docs/format.md with hashlib, hmac and PyNaCl alone, without the code under test. Run as
``python -m tests.vectors.generate_journal`` from the root of the repository; a second run changes nothing.
"""

from __future__ import annotations

import hmac
import json
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from nacl.secret import SecretBox
from nacl.signing import SigningKey

SECRET: Final = sha256(b"journal vectors").digest()
GENESIS: Final = sha256(b"journal ledger").digest()
ROOT: Final = sha256(b"journal root").digest()
NOW: Final = 1_800_000_000_000


def b64(data: bytes) -> str:
    return b64encode(data).decode()


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digits(data: bytes) -> str:
    sizes = (0, 3, 5, 8, 10, 13, 15, 17)
    groups = [data[at : at + 7] for at in range(0, len(data), 7)]
    return "".join(str(int.from_bytes(one, "big")).zfill(sizes[len(one)]) for one in groups)


def salt(number: int) -> bytes:
    salts = hmac.digest(SECRET, b"sudur/v1/journal salts", "sha256")
    return hmac.digest(salts, number.to_bytes(8, "big"), "sha256")[:16]


def entry(number: int, before: bytes, verdict: str, given: bytes, sealed: dict[str, Any] | None) -> bytes:
    box = SecretBox(hmac.digest(SECRET, b"sudur/v1/journal box", "sha256"))
    inside = None if sealed is None else number.to_bytes(8, "big") + canonical(sealed)
    nonce = sha256(b"nonce %d" % number).digest()[:24]
    relied = {"genesis": b64(GENESIS), "size": "9000", "root": b64(ROOT), "as_of_ms": str(NOW - 60_000)}
    members = {
        "number": str(number),
        "time_ms": str(NOW + number),
        "officer": "desk-1",
        "checked": b64(sha256(b"sudur/v1/checked\n" + salt(number) + sha256(given).digest()).digest()),
        "verdict": verdict,
        "relied": None if sealed is None else relied,
        "sealed": None if inside is None else b64(bytes(box.encrypt(inside, nonce))),
        "before": b64(sha256(before).digest()),
    }
    signature = SigningKey(SECRET).sign(b"sudur/v1/journal\n" + canonical(members)).signature
    return canonical({**members, "signature": b64(signature)})


def vectors() -> dict[str, Any]:
    public = bytes(SigningKey(SECRET).verify_key)
    key = {"algorithm": 1, "public_key": b64(public), "use": "journal", "label": "journal"}
    lines = [canonical({"format": "sudur-journal/v1", "made_ms": str(NOW), "key": key})]
    receipt = b"receipt\n" + GENESIS + (4_000).to_bytes(8, "big") + b'{"agency":7}'
    given: list[tuple[str, bytes, dict[str, Any] | None]] = [
        (
            "GENUINE",
            receipt,
            {
                "index": "4000",
                "agency": 7,
                "basis": 0,
                "signed": {"at": "3990", "keys": [1, 3]},
            },
        ),
        ("REVOKED", b"code\n" + bytes(range(40)), {"index": "17", "agency": 2, "basis": 2, "signed": None}),
        ("CANNOT_TELL", b"bytes\nnothing that can be read", None),
    ]
    wanted = []
    for number, (verdict, data, sealed) in enumerate(given, 1):
        lines.append(entry(number, lines[-1], verdict, data, sealed))
        body = number.to_bytes(4, "big") + sha256(lines[-1]).digest()[:8]
        wanted.append(
            {
                "verdict": verdict,
                "digest": sha256(data).hexdigest(),
                "sealed": sealed,
                "code": digits(body + sha256(body).digest()[:2]),
            }
        )
    head = sha256(lines[-1]).hexdigest()
    return {
        "secret": SECRET.hex(),
        "lines": [line.decode() for line in lines],
        "want": {"head": head, "entries": wanted},
    }


def main() -> None:
    text = json.dumps(vectors(), indent=1, ensure_ascii=False) + "\n"
    (Path(__file__).parent / "journal.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
