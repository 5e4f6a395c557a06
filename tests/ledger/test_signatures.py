"""Ed25519 as the ledger defines it: known answers, every edge case, keys and signers."""

from __future__ import annotations

import copy
import json
import pickle
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import signatures
from ledger.errors import FormatError, SignatureInvalid, SudurError
from ledger.signatures import Algorithm, Ed25519Signer, Signer
from tests.vectors import generate_ed25519

VECTORS: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "ed25519.json").read_text(encoding="utf-8")
)


def described(case: dict[str, Any]) -> str:
    return str(case["desc"])


def openssl_accepts(public_key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def test_vectors_are_those_that_the_generator_makes() -> None:
    assert generate_ed25519.generate() == VECTORS


@pytest.mark.parametrize("case", VECTORS["known_answers"], ids=described)
def test_known_answers(case: dict[str, Any]) -> None:
    signer = Ed25519Signer(bytes.fromhex(case["seed"]))
    message = bytes.fromhex(case["message"])
    assert signer.public_key.hex() == case["public_key"]
    assert signer.sign(message).hex() == case["signature"]
    signatures.verify_ed25519(signer.public_key, message, bytes.fromhex(case["signature"]))
    other = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(case["seed"]))
    assert other.sign(message).hex() == case["signature"]


@pytest.mark.parametrize("case", VECTORS["signatures"], ids=described)
def test_edge_cases(case: dict[str, Any]) -> None:
    arguments = (
        bytes.fromhex(case["public_key"]),
        bytes.fromhex(case["message"]),
        bytes.fromhex(case["signature"]),
    )
    if case["want"] == "valid":
        signatures.verify_ed25519(*arguments)
        assert openssl_accepts(*arguments)
    else:
        with pytest.raises(SignatureInvalid) as caught:
            signatures.verify_ed25519(*arguments)
        assert caught.value.code == case["want"]


def test_openssl_takes_more_only_where_a_point_is_of_small_order() -> None:
    for case in VECTORS["signatures"]:
        key, message, signature = (
            bytes.fromhex(case[name]) for name in ("public_key", "message", "signature")
        )
        if case["want"] != "valid" and openssl_accepts(key, message, signature):
            assert {key, signature[:32]} & signatures.SMALL_ORDER_ENCODINGS, case["desc"]


def test_sixty_four_forgeries_are_in_the_table() -> None:
    forged = [case for case in VECTORS["signatures"] if case["desc"].endswith("S 0")]
    assert len(forged) == 64
    assert any(
        generate_ed25519.holds_bytewise(
            bytes.fromhex(case["public_key"]),
            bytes.fromhex(case["message"]),
            bytes.fromhex(case["signature"]),
        )
        for case in forged
    )


@pytest.mark.parametrize("case", VECTORS["public_keys"], ids=described)
def test_public_keys(case: dict[str, Any]) -> None:
    key = bytes.fromhex(case["public_key"])
    if case["want"] == "valid":
        signatures.check_public_key(case["algorithm"], key)
    else:
        with pytest.raises(SudurError) as caught:
            signatures.check_public_key(case["algorithm"], key)
        assert caught.value.code == case["want"]


def test_small_order_encodings_are_all_of_them() -> None:
    derived = generate_ed25519.small_order_encodings()
    assert set(derived) == signatures.SMALL_ORDER_ENCODINGS
    assert sum(derived.values()) == 8
    for y in range(19):
        for sign in (0, 1):
            data = (generate_ed25519.P + y | sign << 255).to_bytes(32, "little")
            point = generate_ed25519.decode(data)
            small = point is not None and generate_ed25519.multiply(8, point) == generate_ed25519.IDENTITY
            assert (data in signatures.SMALL_ORDER_ENCODINGS) == small


def test_small_order_x25519_keys_are_all_of_them() -> None:
    p = generate_ed25519.P
    values = {0, 1, p - 1} | generate_ed25519.x25519_order_8()
    assert {u.to_bytes(32, "little") for u in values} == signatures.SMALL_ORDER_X25519


def test_every_flipped_bit_is_refused() -> None:
    signer = Ed25519Signer(bytes(32))
    message = b"a message"
    data = signer.public_key + message + signer.sign(message)
    signatures.verify_ed25519(data[:32], data[32:-64], data[-64:])
    for bit in range(len(data) * 8):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        flipped = bytes(changed)
        with pytest.raises(SignatureInvalid):
            signatures.verify_ed25519(flipped[:32], flipped[32:-64], flipped[-64:])


@pytest.mark.parametrize("algorithm", [0, 4, 5, 255])
def test_other_algorithms_are_refused_by_number(algorithm: int) -> None:
    with pytest.raises(SignatureInvalid, match=f"algorithm {algorithm} signs nothing"):
        signatures.verify(algorithm, bytes(32), b"", bytes(64))


def test_verify_dispatches() -> None:
    signer: Signer = Ed25519Signer(bytes(32))
    signatures.verify(signer.algorithm, signer.public_key, b"m", signer.sign(b"m"))
    with pytest.raises(SignatureInvalid):
        signatures.verify(signer.algorithm, signer.public_key, b"n", signer.sign(b"m"))


def test_sizes() -> None:
    assert set(signatures.PUBLIC_KEY_SIZES) == set(Algorithm)
    assert set(signatures.SIGNATURE_SIZES) == set(Algorithm) - {Algorithm.X25519}


def test_fingerprint() -> None:
    assert signatures.key_fingerprint(1, b"k" * 32) == sha256(b"\x01" + b"k" * 32).digest()


def test_a_signer_hides_its_secret() -> None:
    seed = bytes(range(32))
    signer = Ed25519Signer(seed)
    for text in (repr(signer), str(signer), f"{signer}"):
        assert seed.hex() not in text
        assert repr(seed) not in text
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(signer)
    with pytest.raises(TypeError, match="not pickled"):
        copy.copy(signer)


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_seed_has_one_size(size: int) -> None:
    with pytest.raises(FormatError):
        Ed25519Signer(bytes(size))


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=70))
def test_any_bytes_raise_only_our_errors(key: bytes, message: bytes, signature: bytes) -> None:
    with pytest.raises(SignatureInvalid):
        signatures.verify_ed25519(key, message, signature)


@given(st.integers(0, 255), st.binary(min_size=32, max_size=32))
def test_any_key_is_checked_with_our_errors(algorithm: int, key: bytes) -> None:
    try:
        signatures.check_public_key(algorithm, key)
    except SudurError:
        return
    if algorithm == Algorithm.ED25519:
        assert generate_ed25519.decode(key) is not None


@settings(max_examples=50)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=300))
def test_signing_agrees_with_openssl(seed: bytes, message: bytes) -> None:
    signer = Ed25519Signer(seed)
    signature = signer.sign(message)
    assert Ed25519PrivateKey.from_private_bytes(seed).sign(message) == signature
    signatures.verify_ed25519(signer.public_key, message, signature)
