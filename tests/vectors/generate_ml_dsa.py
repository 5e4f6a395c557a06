"""Makes ml_dsa_44.json: keys and signatures of algorithms 2 and 3, and checkpoints signed with them.

Run as ``python -m tests.vectors.generate_ml_dsa`` from the root of the repository. The arithmetic comes from
``dilithium_py`` and ``generate_ed25519``, which share nothing with what ``ledger`` uses, and the formats are
written out by hand. Signatures are made without the randomness that FIPS 204 calls hedging, so that the file
is the same each time.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from functools import cache
from hashlib import sha256, shake_256
from pathlib import Path
from typing import Any, Final

from dilithium_py.ml_dsa import HASH_ML_DSA_44_WITH_SHA512, ML_DSA_44

from tests.vectors import generate_ed25519

Case = dict[str, Any]
OK: Final = "ok"
INVALID: Final = "SIGNATURE_INVALID"
UNTRUSTED: Final = "CHECKPOINT_UNTRUSTED"
ORIGIN: Final = "ledger.example/sudur"
ROOT: Final = sha256(b"a root").digest()
TEXT: Final = f"{ORIGIN}\n20852163\n{b64encode(ROOT).decode()}\n".encode()
MESSAGE: Final = b"sudur"


def seed_of(name: str) -> bytes:
    return sha256(b"sudur test key " + name.encode()).digest()


@cache
def ml_dsa(seed: bytes) -> tuple[bytes, bytes]:
    """The public and the private key."""
    public, private = ML_DSA_44.key_derive(seed)
    return bytes(public), bytes(private)


def sign(seed: bytes, message: bytes, context: bytes = b"") -> bytes:
    return bytes(ML_DSA_44.sign(ml_dsa(seed)[1], message, context, deterministic=True))


def halves(seed: bytes) -> tuple[bytes, bytes]:
    """The two seeds of a key of algorithm 3."""
    return sha256(b"sudur/v1/seed/ed25519\n" + seed).digest(), sha256(
        b"sudur/v1/seed/ml-dsa-44\n" + seed
    ).digest()


def public_key(algorithm: int, seed: bytes) -> bytes:
    if algorithm == 2:
        return ml_dsa(seed)[0]
    classical, lattice = halves(seed)
    return generate_ed25519.sign(classical, b"")[0] + ml_dsa(lattice)[0]


def signature(algorithm: int, seed: bytes, message: bytes) -> bytes:
    if algorithm == 2:
        return sign(seed, message)
    classical, lattice = halves(seed)
    return generate_ed25519.sign(classical, message)[1] + sign(lattice, message)


def forged(key: bytes, message: bytes) -> bytes:
    """A signature under a key with t1 = 0, made of nothing but the message: z = 0, no hints."""
    mu = shake_256(shake_256(key).digest(64) + b"\0\0" + message).digest(64)
    challenge = shake_256(mu + bytes(4 * 192)).digest(32)
    zeros = sum((1 << 17) << 18 * at for at in range(1024)).to_bytes(2304, "little")
    return challenge + zeros + bytes(84)


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def keys() -> Iterator[Case]:
    for algorithm in (2, 3):
        for seed in (bytes(32), bytes(range(32)), seed_of("agency")):
            yield {
                "algorithm": algorithm,
                "seed": seed.hex(),
                "public_key": public_key(algorithm, seed).hex(),
            }


def signatures() -> Iterator[Case]:
    seed = seed_of("agency")
    key, private = ml_dsa(seed)
    made = sign(seed, MESSAGE)

    def case(desc: str, signed: bytes, want: str = INVALID, message: bytes = MESSAGE) -> Case:
        return _signed(desc, 2, key, message, signed, want)

    yield case("honest", made, OK)
    yield case("an empty message", sign(seed, b""), OK, b"")
    yield case("another message", made, message=b"sudurr")
    yield case("empty", b"")
    yield case("a byte short", made[:-1])
    yield case("a byte long", made + b"\0")
    yield case("with a context", sign(seed, MESSAGE, b"sudur"))
    yield case("hashed before", bytes(HASH_ML_DSA_44_WITH_SHA512.sign(private, MESSAGE, deterministic=True)))
    yield case("a bit of the challenge", flipped(made, 0))
    yield case("a bit of z", flipped(made, 8 * 1000))
    yield case("a bit of the hints", flipped(made, 8 * 2419))
    yield case("a hint that is none, in the padding", made[:-5] + b"\1" + made[-4:])
    yield case("by another key", sign(seed_of("another"), MESSAGE))
    zero = seed[:32] + bytes(1280)
    made = forged(zero, MESSAGE)
    yield _signed("forged under t1 = 0, a key that cannot be registered", 2, zero, MESSAGE, made, OK)
    yield from _both(seed)


def _both(seed: bytes) -> Iterator[Case]:
    key, made = public_key(3, seed), signature(3, seed, MESSAGE)
    other = signature(3, seed_of("another"), MESSAGE)

    def case(desc: str, signed: bytes, want: str = INVALID) -> Case:
        return _signed(f"both: {desc}", 3, key, MESSAGE, signed, want)

    yield case("honest", made, OK)
    yield case("Ed25519 alone", made[:64])
    yield case("ML-DSA-44 alone", made[64:])
    yield case("the Ed25519 half by another", other[:64] + made[64:])
    yield case("the ML-DSA-44 half by another", made[:64] + other[64:])
    yield case("the wrong way round", made[64:] + made[:64])
    yield case("a byte long", made + b"\0")
    yield case("a bit of Ed25519", flipped(made, 300))
    yield case("a bit of ML-DSA-44", flipped(made, 8 * 1000))


def _signed(desc: str, algorithm: int, key: bytes, message: bytes, signed: bytes, want: str) -> Case:
    return {
        "desc": desc,
        "algorithm": algorithm,
        "public_key": key.hex(),
        "message": message.hex(),
        "signature": signed.hex(),
        "want": want,
    }


# --- notes ---


def material(name: str, kind: int) -> bytes:
    seed = seed_of(name)
    return ml_dsa(seed)[0] if kind == 6 else generate_ed25519.sign(seed, b"")[0]


def id_of(name: str, kind: int) -> bytes:
    return sha256(name.encode() + b"\n" + bytes((kind,)) + material(name, kind)).digest()[:4]


def vkey(name: str, kind: int) -> str:
    return f"{name}+{id_of(name, kind).hex()}+{b64encode(bytes((kind,)) + material(name, kind)).decode()}"


def line(name: str, kind: int, blob: bytes) -> str:
    return f"— {name} {b64encode(id_of(name, kind) + blob).decode()}\n"


def tree_message(name: str, time_s: int, origin: str, size: int, root: bytes) -> bytes:
    def text(value: str) -> bytes:
        return len(value.encode()).to_bytes(1, "big") + value.encode()

    numbers = (0).to_bytes(8, "big") + size.to_bytes(8, "big")
    return b"subtree/v1\n\0" + text(name) + time_s.to_bytes(8, "big") + text(origin) + numbers + root


def tree_line(name: str, time_s: int, size: int = 20852163, origin: str = ORIGIN, root: bytes = ROOT) -> str:
    made = sign(seed_of(name), tree_message(name, time_s, origin, size, root))
    return line(name, 6, time_s.to_bytes(8, "big") + made)


def text_line(name: str) -> str:
    return line(name, 1, generate_ed25519.sign(seed_of(name), TEXT)[1])


def messages() -> Iterator[Case]:
    for name, time_s, origin, size in (
        ("a", 0, "b", 0),
        (ORIGIN, 0, ORIGIN, 20852163),
        ("witness.example/w1", 1_700_000_000, ORIGIN, 2**63 - 1),
        ("n" * 255, 2**63 - 1, "o" * 255, 1),
    ):
        yield {
            "name": name,
            "time_s": time_s,
            "origin": origin,
            "size": size,
            "root": ROOT.hex(),
            "message": tree_message(name, time_s, origin, size, ROOT).hex(),
        }


def checkpoints() -> Iterator[Case]:
    classical, lattice = vkey(ORIGIN, 1), vkey(ORIGIN, 6)
    known = [classical, lattice]
    both = text_line(ORIGIN) + tree_line(ORIGIN, 0)

    def case(desc: str, lines: str, keys: list[str], want: str) -> Case:
        return {"desc": desc, "keys": keys, "data": TEXT.decode() + "\n" + lines, "want": want}

    yield case("both lines, both keys known", both, known, OK)
    yield case("both lines, only Ed25519 known", both, [classical], OK)
    yield case("both lines, the other way round", tree_line(ORIGIN, 0) + text_line(ORIGIN), known, OK)
    yield case("a time in the line", text_line(ORIGIN) + tree_line(ORIGIN, 1_700_000_000), known, OK)
    yield case("both lines, only ML-DSA-44 known", both, [lattice], UNTRUSTED)
    yield case("only Ed25519, both known", text_line(ORIGIN), known, UNTRUSTED)
    yield case("only ML-DSA-44, both known", tree_line(ORIGIN, 0), known, UNTRUSTED)
    bad = text_line(ORIGIN) + tree_line(ORIGIN, 0, 20852164)
    yield case("of another size, both known", bad, known, INVALID)
    yield case("of another size, only Ed25519 known", bad, [classical], OK)
    bad = text_line(ORIGIN) + tree_line(ORIGIN, 0, root=bytes(32))
    yield case("of another root", bad, known, INVALID)
    bad = text_line(ORIGIN) + tree_line(ORIGIN, 0, origin="ledger.example/other")
    yield case("of another log", bad, known, INVALID)
    blob = sign(seed_of(ORIGIN), tree_message("ledger.example/other", 0, ORIGIN, 20852163, ROOT))
    yield case("under another name", text_line(ORIGIN) + line(ORIGIN, 6, bytes(8) + blob), known, INVALID)
    blob = sign(seed_of(ORIGIN), tree_message(ORIGIN, 0, ORIGIN, 20852163, ROOT))
    later = (1).to_bytes(8, "big") + blob
    yield case("another time than was signed", text_line(ORIGIN) + line(ORIGIN, 6, later), known, INVALID)
    yield case("no time before it", text_line(ORIGIN) + line(ORIGIN, 6, blob), known, INVALID)
    late = 2**63
    yield case("a time past 2^63-1", text_line(ORIGIN) + tree_line(ORIGIN, late), known, INVALID)
    whole = sign(seed_of(ORIGIN), TEXT)
    yield case("of the text", text_line(ORIGIN) + line(ORIGIN, 6, bytes(8) + whole), known, INVALID)
    yield case("twice", both + tree_line(ORIGIN, 1), known, INVALID)
    yield case("twice, only Ed25519 known", both + tree_line(ORIGIN, 1), [classical], OK)


def cosignatures() -> Iterator[Case]:
    known = [vkey("witness.example/w1", 6), vkey("witness.example/w2", 4)]
    lines = tree_line("witness.example/w1", 1_700_000_000)
    message = b"cosignature/v1\ntime 1700000001\n" + TEXT
    cosigned = generate_ed25519.sign(seed_of("witness.example/w2"), message)[1]
    blob = (1_700_000_001).to_bytes(8, "big") + cosigned

    def case(desc: str, lines: str, want: str, times: dict[str, int] | None = None) -> Case:
        data = f"{TEXT.decode()}\n{text_line(ORIGIN)}{lines}"
        return {"desc": desc, "keys": known, "data": data, "want": want, "times": times or {}}

    yield case("ML-DSA-44", lines, OK, {"witness.example/w1": 1_700_000_000})
    times = {"witness.example/w1": 1_700_000_000, "witness.example/w2": 1_700_000_001}
    yield case("both kinds", lines + line("witness.example/w2", 4, blob), OK, times)
    yield case("no time given", tree_line("witness.example/w1", 0), OK, {"witness.example/w1": 0})
    yield case("of another size", tree_line("witness.example/w1", 1, 7), INVALID)
    yield case("another witness's", tree_line("witness.example/w3", 1), OK)


def generate() -> dict[str, list[Case]]:
    return {
        "keys": list(keys()),
        "signatures": list(signatures()),
        "messages": list(messages()),
        "checkpoints": list(checkpoints()),
        "cosignatures": list(cosignatures()),
    }


if __name__ == "__main__":
    path = Path(__file__).with_name("ml_dsa_44.json")
    path.write_text(json.dumps(generate(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
