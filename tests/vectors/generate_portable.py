"""Makes portable.json: tlog-proofs, COSE receipts, statements of receipt keys and status tokens.

Run as ``python -m tests.vectors.generate_portable`` from the root of the repository. CBOR, JOSE and the notes
are written out here by hand, so that an error in ``ledger`` does not find its way into the vectors; the
signatures come from the arithmetic of ``generate_ed25519``.
"""

from __future__ import annotations

import json
import zlib
from base64 import b64encode, urlsafe_b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from tests.vectors.generate_ed25519 import sign
from tests.vectors.generate_notes import key_of, seed_of, signature, vkey

Case = dict[str, Any]

ORIGIN: Final = "ledger.example/portable"
GENESIS: Final = sha256(b"sudur test genesis").digest()
LEAVES: Final = [b"\x01\x01" + bytes(38) + bytes((i,)) for i in range(12)]
"""Eleven of the shape of an ISSUE, and one more."""
AS_OF_S: Final = 1_790_000_000
KEY: Final = "receipts.example"
MALFORMED: Final = "MALFORMED_PORTABLE_PROOF"


def root(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return sha256(b"\0" + leaves[0]).digest()
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\1" + root(leaves[:half]) + root(leaves[half:])).digest()


def path(index: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    half = 1 << (len(leaves) - 1).bit_length() - 1
    if index < half:
        return [*path(index, leaves[:half]), root(leaves[half:])]
    return [*path(index - half, leaves[half:]), root(leaves[:half])]


def b64(data: bytes) -> str:
    return b64encode(data).decode()


def b64u(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


# --- CBOR by hand -------------------------------------------------------------------------------


def head(major: int, value: int) -> bytes:
    if value < 24:
        return bytes((major << 5 | value,))
    size = next(n for n in range(4) if value < 1 << (8 << n))
    return bytes((major << 5 | 24 + size,)) + value.to_bytes(1 << size, "big")


def number(value: int) -> bytes:
    return head(0, value) if value >= 0 else head(1, -1 - value)


def data(value: bytes) -> bytes:
    return head(2, len(value)) + value


def text(value: str) -> bytes:
    return head(3, len(value.encode())) + value.encode()


def array(*items: bytes) -> bytes:
    return head(4, len(items)) + b"".join(items)


def mapping(*pairs: tuple[bytes, bytes]) -> bytes:
    """In the order given, which is that of the encoded keys."""
    return head(5, len(pairs)) + b"".join(key + value for key, value in pairs)


# --- the forms ----------------------------------------------------------------------------------


def checkpoint(size: int) -> bytes:
    note = f"{ORIGIN}\n{size}\n{b64(root(LEAVES[:size]))}\n".encode()
    return note + b"\n" + signature(note, ORIGIN)


def tlog_proof(index: int, size: int, extra: bytes) -> bytes:
    lines = ["c2sp.org/tlog-proof@v1", *([f"extra {b64(extra)}"] if extra else []), f"index {index}"]
    hashes = [b64(one) for one in path(index, LEAVES[:size])]
    return "\n".join([*lines, *hashes]).encode() + b"\n\n" + checkpoint(size)


def cose_kid() -> bytes:
    return sha256(
        mapping((number(1), number(1)), (number(-1), number(6)), (number(-2), data(key_of(KEY))))
    ).digest()


def jose_kid() -> str:
    jwk = f'{{"crv":"Ed25519","kty":"OKP","x":"{b64u(key_of(KEY))}"}}'
    return b64u(sha256(jwk.encode()).digest())


def protected(index: int, size: int, alg: int = -8) -> bytes:
    claims = mapping(
        (number(1), text(ORIGIN)), (number(2), text(GENESIS.hex())), (number(6), number(AS_OF_S))
    )
    return mapping(
        (number(1), number(alg)),
        (number(4), data(cose_kid())),
        (number(15), claims),
        (number(395), number(1)),
        (text("sudur.size"), number(size)),
        (text("sudur.index"), number(index)),
    )


def cose(header: bytes, index: int, size: int, hashes: list[bytes], signed_root: bytes) -> bytes:
    proof = array(number(size), number(index), array(*map(data, hashes)))
    unprotected = mapping((number(396), mapping((number(-1), array(data(proof))))))
    signed = array(text("Signature1"), data(header), data(b""), data(signed_root))
    blob = sign(seed_of(KEY), signed)[1]
    return b"\xd2" + array(data(header), unprotected, b"\xf6", data(blob))


def statement(*lines: str, by: str = ORIGIN) -> bytes:
    note = "".join(f"{line}\n" for line in lines).encode()
    return note + b"\n" + signature(note, by)


def stated(size: int = 12) -> list[str]:
    key = f"key {b64(key_of(KEY))}"
    return [
        "sudur/v1/receipt-keys",
        f"genesis {b64(GENESIS)}",
        f"origin {ORIGIN}",
        f"size {size}",
        key,
    ]


def token(chunk: bytes, **changed: Any) -> bytes:
    claims = {
        "exp": AS_OF_S + 21_600,
        "iat": AS_OF_S,
        "iss": ORIGIN,
        "status_list": {"bits": 2, "lst": b64u(zlib.compress(chunk, 9))},
        "sub": "https://ledger.example/status/token/0",
        "sudur": {"genesis": GENESIS.hex(), "size": "12"},
        "ttl": 300,
        **changed,
    }
    header = f'{{"alg":"EdDSA","kid":"{jose_kid()}","typ":"statuslist+jwt"}}'
    payload = json.dumps(claims, separators=(",", ":"), sort_keys=True)
    signed = f"{b64u(header.encode())}.{b64u(payload.encode())}".encode()
    return signed + b"." + b64u(sign(seed_of(KEY), signed)[1]).encode()


# --- the cases ----------------------------------------------------------------------------------


def tlog_proofs() -> list[Case]:
    def case(desc: str, proof: bytes, index: int, want: str = "proven") -> Case:
        return {"desc": desc, "proof": proof.decode(), "leaf": LEAVES[index].hex(), "want": want}

    good = tlog_proof(6, 8, LEAVES[6])
    return [
        case("leaf 6 of 8, the leaf as extra data", good, 6),
        case("leaf 10 of 12, no extra data", tlog_proof(10, 12, b""), 10),
        case("leaf 0 of 1: an empty path", tlog_proof(0, 1, b""), 0),
        case("another leaf", good, 5, "PROOF_INVALID"),
        case("another index", good.replace(b"index 6", b"index 4"), 6, "PROOF_INVALID"),
        case("an index that the tree lacks", good.replace(b"index 6", b"index 8"), 6, "OUT_OF_RANGE"),
        case("an extra line without data", tlog_proof(0, 1, b"x").replace(b"eA==", b""), 0, MALFORMED),
        case("an index with a leading zero", good.replace(b"index 6", b"index 06"), 6, MALFORMED),
        case("a blank line too early", good.replace(b"\nindex", b"\n\nindex"), 6, MALFORMED),
    ]


def cose_receipts() -> list[Case]:
    def case(desc: str, receipt: bytes, index: int, want: str) -> Case:
        return {"desc": desc, "receipt": receipt.hex(), "leaf": LEAVES[index].hex(), "want": want}

    def of(index: int, size: int) -> bytes:
        tree = LEAVES[:size]
        return cose(protected(index, size), index, size, path(index, tree), root(tree))

    eight, hashes = root(LEAVES[:8]), path(6, LEAVES[:8])
    return [
        case("leaf 6 of 8", of(6, 8), 6, eight.hex()),
        case("leaf 10 of 12", of(10, 12), 10, root(LEAVES).hex()),
        case("the path of leaf 6 of 8 as leaf 10 of 12", cose(protected(6, 8), 10, 12, hashes, eight), 6,
             "PROOF_INVALID"),
        case("the same, the header changed too",
             of(6, 8).replace(data(protected(6, 8)), data(protected(10, 12)))
             .replace(data(array(number(8), number(6), array(*map(data, hashes)))),
                      data(array(number(12), number(10), array(*map(data, hashes))))), 6,
             "SIGNATURE_INVALID"),
        case("another leaf", of(6, 8), 5, "SIGNATURE_INVALID"),
        case("another algorithm", cose(protected(6, 8, -7), 6, 8, hashes, eight), 6, MALFORMED),
        case("bytes after the end", of(6, 8) + b"\0", 6, MALFORMED),
        case("without its tag", of(6, 8)[1:], 6, MALFORMED),
        case("an indefinite length", of(6, 8)[:1] + b"\x9f" + of(6, 8)[2:] + b"\xff", 6, MALFORMED),
    ]  # fmt: skip


def statements() -> list[Case]:
    def case(desc: str, note: bytes, want: str = "ok") -> Case:
        return {"desc": desc, "note": note.decode(), "want": want}

    return [
        case("one key", statement(*stated())),
        case("signed by another", statement(*stated(), by="first.example"), "SIGNATURE_INVALID"),
        case("a checkpoint", checkpoint(12), MALFORMED),
        case("a key twice", statement(*stated(), stated()[-1]), MALFORMED),
        case("no key", statement(*stated()[:-1]), MALFORMED),
        case("of another ledger", statement(*stated()[:1], f"genesis {b64(bytes(32))}", *stated()[2:]),
             "CHECKPOINT_UNTRUSTED"),
    ]  # fmt: skip


def tokens() -> list[Case]:
    chunk = bytearray(16_384)
    for index, status in ((3, 1), (6, 2), (7, 3)):
        chunk[index // 4] |= status << 2 * (index % 4)

    def case(desc: str, jwt: bytes, want: Any) -> Case:
        return {"desc": desc, "token": jwt.decode(), "want": want}

    short = {"bits": 2, "lst": b64u(zlib.compress(b"\xc9\x44\xf9", 9))}
    bomb = {"bits": 2, "lst": b64u(zlib.compress(bytes(1 << 22), 9))}
    good = token(bytes(chunk))
    return [
        case("three that are not valid", good, {"3": 1, "6": 2, "7": 3}),
        case("a list of another length", token(b"", status_list=short), MALFORMED),
        case("a bomb", token(b"", status_list=bomb), MALFORMED),
        case("a claim that is not known", token(bytes(chunk), nbf=1), MALFORMED),
        case("a changed signature", good[:-10] + b"AAAAAAAAAA", "SIGNATURE_INVALID"),
    ]


def made() -> dict[str, Any]:
    return {
        "origin": ORIGIN,
        "genesis": GENESIS.hex(),
        "log_key": vkey(ORIGIN, 1),
        "receipt_key": key_of(KEY).hex(),
        "cose_kid": cose_kid().hex(),
        "jose_kid": jose_kid(),
        "tlog_proofs": tlog_proofs(),
        "cose_receipts": cose_receipts(),
        "statements": statements(),
        "status_tokens": tokens(),
    }


def encoded() -> str:
    return json.dumps(made(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    (Path(__file__).parent / "portable.json").write_text(encoded(), encoding="utf-8")
