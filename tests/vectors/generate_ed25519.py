"""Makes ed25519.json: known answers and edge cases of Ed25519, from an arithmetic of its own.

Run as ``python -m tests.vectors.generate_ed25519`` from the root of the repository.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha512
from pathlib import Path
from typing import Any, Final

P: Final = 2**255 - 19
L: Final = 2**252 + 27742317777372353535851937790883648493
D: Final = -121665 * pow(121666, -1, P) % P
ROOT_OF_MINUS_ONE: Final = pow(2, (P - 1) // 4, P)
IDENTITY: Final = (0, 1)

Point = tuple[int, int]
Case = dict[str, Any]

VALID: Final = "valid"
REFUSED: Final = "SIGNATURE_INVALID"

# RFC 8032, section 7.1: seed, public key, message, signature.
RFC_8032: Final = {
    "TEST 1": (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555f"
            "b8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        ),
    ),
    "TEST 2": (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da08"
            "5ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        ),
    ),
    "TEST 3": (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18"
            "ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
        ),
    ),
    "TEST SHA(abc)": (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        sha512(b"abc").hexdigest(),
        (
            "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909"
            "351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704"
        ),
    ),
}


def add(a: Point, b: Point) -> Point:
    (x1, y1), (x2, y2) = a, b
    t = D * x1 * x2 * y1 * y2 % P
    inverse = pow(1 - t * t, -1, P)
    return (x1 * y2 + x2 * y1) * (1 - t) * inverse % P, (y1 * y2 + x1 * x2) * (1 + t) * inverse % P


def multiply(n: int, a: Point) -> Point:
    result = IDENTITY
    while n:
        if n & 1:
            result = add(result, a)
        a, n = add(a, a), n >> 1
    return result


def encode(a: Point) -> bytes:
    return (a[1] | (a[0] & 1) << 255).to_bytes(32, "little")


def decode(data: bytes) -> Point | None:
    """The point, if there is one; reads encodings that are not canonical as lenient libraries do."""
    value = int.from_bytes(data, "little")
    sign, y = value >> 255, value % 2**255 % P
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT_OF_MINUS_ONE % P
    if (x * x - square) % P:
        return None
    return (-x % P if x & 1 != sign else x), y


def _base_point() -> Point:
    point = decode((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
    assert point is not None
    return point


BASE: Final = _base_point()


def small_order_points() -> list[Point]:
    """The eight points whose order divides 8, as multiples 0 to 7 of one of order 8."""
    for y in range(2, 100):
        point = decode(y.to_bytes(32, "little"))
        if point is None:
            continue
        torsion = multiply(L, point)
        if multiply(4, torsion) != IDENTITY:
            return [multiply(n, torsion) for n in range(8)]
    raise AssertionError("no point of order 8 found")


def small_order_encodings() -> dict[bytes, bool]:
    """Each 32-byte string that leads to such a point, with whether it is canonical."""
    found = {}
    for x, y in small_order_points():
        for value in (y, y + P):
            for sign in (0, 1):
                if value < 2**255 and (x == 0 or sign == x & 1):
                    data = (value | sign << 255).to_bytes(32, "little")
                    found[data] = data == encode((x, y))
    return found


def challenge(r: bytes, a: bytes, message: bytes) -> int:
    return int.from_bytes(sha512(r + a + message).digest(), "little") % L


def holds_bytewise(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """The equation alone, without cofactor and without looking at encodings."""
    a = decode(public_key)
    if a is None:
        return False
    h, s = challenge(signature[:32], public_key, message), int.from_bytes(signature[32:], "little")
    return encode(add(multiply(s, BASE), multiply(8 * L - h, a))) == signature[:32]


def holds_with_cofactor(public_key: bytes, message: bytes, signature: bytes) -> bool:
    a, r = decode(public_key), decode(signature[:32])
    if a is None or r is None:
        return False
    h, s = challenge(signature[:32], public_key, message), int.from_bytes(signature[32:], "little")
    return multiply(8 * s, BASE) == multiply(8, add(r, multiply(h, a)))


def sign(seed: bytes, message: bytes) -> tuple[bytes, bytes]:
    """The public key and the signature, as RFC 8032 says."""
    digest = sha512(seed).digest()
    scalar = int.from_bytes(digest[:32], "little") & (2**254 - 8) | 2**254
    public_key = encode(multiply(scalar, BASE))
    nonce = int.from_bytes(sha512(digest[32:] + message).digest(), "little") % L
    r = encode(multiply(nonce, BASE))
    return public_key, r + _scalar(nonce + challenge(r, public_key, message) * scalar)


def _scalar(value: int) -> bytes:
    return (value % L).to_bytes(32, "little")


def _case(desc: str, public_key: bytes, message: bytes, signature: bytes, want: str) -> Case:
    return {
        "desc": desc,
        "public_key": public_key.hex(),
        "message": message.hex(),
        "signature": signature.hex(),
        "want": want,
    }


def known_answers() -> Iterator[Case]:
    for name, (seed, public_key, message, signature) in RFC_8032.items():
        made = sign(bytes.fromhex(seed), bytes.fromhex(message))
        assert made == (bytes.fromhex(public_key), bytes.fromhex(signature)), name
        yield {"desc": f"RFC 8032 {name}", "seed": seed, "public_key": public_key, "message": message} | {
            "signature": signature
        }


def signatures() -> Iterator[Case]:
    message = b"sudur"
    points = small_order_points()
    encodings = small_order_encodings()
    canonical = [data for data, is_canonical in encodings.items() if is_canonical]
    odd = [data for data, is_canonical in encodings.items() if not is_canonical]
    zero = bytes(32)

    yield from _honest(message)

    # With S = 0 and a key of small order, R = -h·A holds for some of these without any secret.
    for a in canonical:
        for r in canonical:
            yield _case(f"forged: A {a.hex()[:8]}…, R {r.hex()[:8]}…, S 0", a, message, r + zero, REFUSED)
    yield from _forged_that_hold(canonical + odd, odd)

    scalar, nonce = 0x5D0D, 0xC0FFEE
    key = encode(multiply(scalar, BASE))
    for r in encodings:
        s = _scalar(challenge(r, key, message) * scalar)
        yield _case(f"good key, R of small order {r.hex()[:8]}…{r.hex()[-2:]}", key, message, r + s, REFUSED)

    for n, torsion in enumerate(points[1:], 1):
        r = encode(add(multiply(nonce, BASE), torsion))
        signature = r + _scalar(nonce + challenge(r, key, message) * scalar)
        assert holds_with_cofactor(key, message, signature)
        assert not holds_bytewise(key, message, signature)
        yield _case(
            f"good key, R with torsion {n}: holds with the cofactor only", key, message, signature, REFUSED
        )

    yield from _mixed_keys(points, scalar, message)


def _honest(message: bytes) -> Iterator[Case]:
    key, signature = sign(bytes(range(32)), message)
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    yield _case("honest", key, message, signature, VALID)
    yield _case("honest, another message", key, message + b".", signature, REFUSED)
    for times in (1, 2, 7, 15):
        raised = (s + times * L).to_bytes(32, "little")
        yield _case(f"S + {times} L", key, message, r + raised, REFUSED)
    yield _case("S = L", key, message, r + L.to_bytes(32, "little"), REFUSED)
    yield _case("S = 2^256 - 1", key, message, r + b"\xff" * 32, REFUSED)
    yield _case("S negated", key, message, r + (L - s).to_bytes(32, "little"), REFUSED)
    yield _case(
        "sign bit of R flipped", key, message, r[:31] + bytes((r[31] ^ 0x80,)) + signature[32:], REFUSED
    )
    yield _case("sign bit of A flipped", key[:31] + bytes((key[31] ^ 0x80,)), message, signature, REFUSED)
    yield _case("signature of 63 bytes", key, message, signature[:63], REFUSED)
    yield _case("signature of 65 bytes", key, message, signature + b"\0", REFUSED)
    yield _case("no signature", key, message, b"", REFUSED)
    yield _case("key of 31 bytes", key[:31], message, signature, REFUSED)
    off_curve = next(
        y.to_bytes(32, "little") for y in range(2, 100) if decode(y.to_bytes(32, "little")) is None
    )
    yield _case("A not on the curve", off_curve, message, signature, REFUSED)
    yield _case("R not on the curve", key, message, off_curve + signature[32:], REFUSED)
    yield _case("A with y = p + 3", (P + 3).to_bytes(32, "little"), message, signature, REFUSED)


def _forged_that_hold(keys: list[bytes], odd: list[bytes]) -> Iterator[Case]:
    """For each small-order key, a message for which the equation holds for a good-looking R."""
    for key in keys:
        a = decode(key)
        assert a is not None
        nonce = 1
        r = encode(multiply(nonce, BASE))
        message = next(
            text
            for text in (f"forged {n}".encode() for n in range(1000))
            if multiply(challenge(r, key, text), a) == IDENTITY
        )
        signature = r + _scalar(nonce)
        kind = "not canonical" if key in odd else "canonical"
        assert holds_bytewise(key, message, signature)
        yield _case(
            f"forged: A of small order, {kind}, R = B, S = 1, the equation holds",
            key,
            message,
            signature,
            REFUSED,
        )


def _mixed_keys(points: list[Point], scalar: int, message: bytes) -> Iterator[Case]:
    """Keys a·B + T. They are no different point class to a verifier that compares R bytewise."""
    for n, torsion in enumerate(points[1:], 1):
        key = encode(add(multiply(scalar, BASE), torsion))
        wanted = {True: "holds bytewise", False: "holds with the cofactor only"}
        for nonce in range(1, 1000):
            r = encode(multiply(nonce, BASE))
            signature = r + _scalar(nonce + challenge(r, key, message) * scalar)
            bytewise = holds_bytewise(key, message, signature)
            assert holds_with_cofactor(key, message, signature)
            desc = wanted.pop(bytewise, None)
            if desc:
                want = VALID if bytewise else REFUSED
                yield _case(f"A with torsion {n}: {desc}", key, message, signature, want)
            if not wanted:
                break
        for nonce in range(1, 1000):
            r = encode(add(multiply(nonce, BASE), torsion))
            signature = r + _scalar(nonce + challenge(r, key, message) * scalar)
            if holds_bytewise(key, message, signature):
                yield _case(f"A and R with torsion {n}: holds bytewise", key, message, signature, VALID)
                break


def public_keys() -> Iterator[Case]:
    key, _ = sign(bytes(range(32)), b"")
    mixed = encode(add(multiply(5, BASE), small_order_points()[1]))

    def case(desc: str, algorithm: int, data: bytes, want: str) -> Case:
        return {"desc": desc, "algorithm": algorithm, "public_key": data.hex(), "want": want}

    yield case("Ed25519", 1, key, VALID)
    yield case("Ed25519 with torsion", 1, mixed, VALID)
    for data, canonical in small_order_encodings().items():
        kind = "canonical" if canonical else "not canonical"
        yield case(f"Ed25519 of small order, {kind}", 1, data, "MALFORMED")
    for y in range(2, 19):
        for sign_bit in (0, 1):
            data = (P + y | sign_bit << 255).to_bytes(32, "little")
            yield case(f"Ed25519 with y = p + {y}, sign {sign_bit}", 1, data, "MALFORMED")
    for y in range(2, 100):
        data = y.to_bytes(32, "little")
        yield case(f"Ed25519 with y = {y}", 1, data, VALID if decode(data) is not None else "MALFORMED")
    for size in (0, 31, 33, 64):
        yield case(f"Ed25519 of {size} bytes", 1, (key * 2)[:size], "MALFORMED")
    yield case("ML-DSA-44 with t1 = 0", 2, b"\x01" * 32 + bytes(1280), "MALFORMED")
    yield case("ML-DSA-44 of 1311 bytes", 2, bytes(1311), "MALFORMED")
    yield case("Ed25519 and ML-DSA-44 with t1 = 0", 3, key + bytes(1312), "MALFORMED")
    yield case("Ed25519 and ML-DSA-44 of 32 bytes", 3, key, "MALFORMED")
    yield case("X25519", 4, (9).to_bytes(32, "little"), VALID)
    yield case("X25519 of 31 bytes", 4, bytes(31), "MALFORMED")
    for u in (0, 1, P - 1, P, P + 1, 2**255 - 1, 2**255 + 9):
        yield case(f"X25519, u = {u:x}", 4, u.to_bytes(32, "little"), "MALFORMED")
    for u in x25519_order_8():
        yield case("X25519 of order 8", 4, u.to_bytes(32, "little"), "MALFORMED")
    yield case("algorithm 0", 0, key, "MALFORMED")
    yield case("algorithm 5", 5, key, "MALFORMED")


def x25519_order_8() -> set[int]:
    """The u-coordinates, (1 + y) / (1 - y), of the points of order 8."""
    return {
        (1 + y) * pow(1 - y, -1, P) % P for x, y in small_order_points() if multiply(4, (x, y)) != IDENTITY
    }


def generate() -> dict[str, list[Case]]:
    return {
        "known_answers": list(known_answers()),
        "signatures": list(signatures()),
        "public_keys": list(public_keys()),
    }


def main() -> None:
    target = Path(__file__).with_name("ed25519.json")
    target.write_text(json.dumps(generate(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
