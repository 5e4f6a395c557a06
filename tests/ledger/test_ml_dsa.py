"""ML-DSA-44, alone and beside Ed25519: vectors by another implementation, and both side by side."""

from __future__ import annotations

import copy
import json
import pickle
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from dilithium_py.ml_dsa import ML_DSA_44
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import ml_dsa, signatures
from ledger.errors import FormatError, SignatureInvalid, SudurError
from ledger.signatures import (
    PUBLIC_KEY_SIZES,
    SIGNATURE_SIZES,
    Algorithm,
    HybridSigner,
    MlDsa44Signer,
    signer_of,
)
from tests.vectors import generate_ml_dsa

VECTORS: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "ml_dsa_44.json").read_text("utf-8")
)
POST_QUANTUM = [Algorithm.ML_DSA_44, Algorithm.ED25519_ML_DSA_44]
SEED = bytes(range(32))


def described(case: dict[str, Any]) -> str:
    return str(case.get("desc", ""))


def test_vectors_are_those_that_the_generator_makes() -> None:
    assert generate_ml_dsa.generate() == VECTORS


@pytest.mark.parametrize("case", VECTORS["keys"])
def test_a_seed_gives_the_public_key_of_the_other_implementation(case: dict[str, Any]) -> None:
    signer = signer_of(case["algorithm"], bytes.fromhex(case["seed"]))
    assert signer.algorithm == case["algorithm"]
    assert signer.public_key.hex() == case["public_key"]
    signatures.check_public_key(signer.algorithm, signer.public_key)


@pytest.mark.parametrize("case", VECTORS["signatures"], ids=described)
def test_signatures(case: dict[str, Any]) -> None:
    key, message, signature = (bytes.fromhex(case[name]) for name in ("public_key", "message", "signature"))
    if case["want"] == "ok":
        signatures.verify(case["algorithm"], key, message, signature)
    else:
        with pytest.raises(SudurError) as caught:
            signatures.verify(case["algorithm"], key, message, signature)
        assert caught.value.code == case["want"]


def test_a_key_under_which_anybody_can_sign_is_not_registered() -> None:
    (case,) = (one for one in VECTORS["signatures"] if one["desc"].startswith("forged"))
    key = bytes.fromhex(case["public_key"])
    with pytest.raises(FormatError, match="anybody can sign"):
        signatures.check_public_key(Algorithm.ML_DSA_44, key)
    classical = signer_of(Algorithm.ED25519, SEED).public_key
    with pytest.raises(FormatError, match="anybody can sign"):
        signatures.check_public_key(Algorithm.ED25519_ML_DSA_44, classical + key)


@given(st.binary(max_size=200), st.binary(min_size=32, max_size=32))
@settings(max_examples=10)
def test_each_implementation_accepts_what_the_other_signs(message: bytes, seed: bytes) -> None:
    signer = MlDsa44Signer(seed)
    public, private = ML_DSA_44.key_derive(seed)
    assert signer.public_key == public
    assert ML_DSA_44.verify(public, message, signer.sign(message))
    signatures.verify(Algorithm.ML_DSA_44, public, message, ML_DSA_44.sign(private, message))


def test_signing_is_randomised_and_each_signature_verifies() -> None:
    signer = MlDsa44Signer(SEED)
    made = {signer.sign(b"m") for _ in range(4)}
    assert len(made) == 4
    for signature in made:
        signatures.verify(signer.algorithm, signer.public_key, b"m", signature)


@pytest.mark.parametrize("algorithm", POST_QUANTUM)
def test_a_flipped_bit_in_any_byte_is_refused(algorithm: Algorithm) -> None:
    signer = signer_of(algorithm, SEED)
    signature = signer.sign(b"m")
    for at in range(len(signature)):
        changed = generate_ml_dsa.flipped(signature, 8 * at + at % 8)
        with pytest.raises(SignatureInvalid):
            signatures.verify(algorithm, signer.public_key, b"m", changed)
    for at in range(0, len(signer.public_key), 7):
        changed = generate_ml_dsa.flipped(signer.public_key, 8 * at + at % 8)
        with pytest.raises(SignatureInvalid):
            signatures.verify(algorithm, changed, b"m", signature)


@pytest.mark.parametrize("algorithm", POST_QUANTUM)
def test_no_other_size_of_a_signature_or_a_key(algorithm: Algorithm) -> None:
    signer = signer_of(algorithm, SEED)
    signature = signer.sign(b"m")
    assert len(signature) == SIGNATURE_SIZES[algorithm]
    assert len(signer.public_key) == PUBLIC_KEY_SIZES[algorithm]
    for size in (0, 1, 32, 63, 64, 65, 96, 1312, 2419, 2420, 2421, 2483, 2485, 5000):
        if size != len(signature):
            with pytest.raises(SignatureInvalid):
                signatures.verify(algorithm, signer.public_key, b"m", signature.ljust(size, b"\0")[:size])
        if size != len(signer.public_key):
            key = signer.public_key.ljust(size, b"\0")[:size]
            with pytest.raises(SignatureInvalid):
                signatures.verify(algorithm, key, b"m", signature)
            with pytest.raises(FormatError):
                signatures.check_public_key(algorithm, key)


@given(st.binary(max_size=100) | st.binary(min_size=2420, max_size=2420), st.binary(max_size=60))
@settings(max_examples=50)
def test_any_bytes_are_refused(signature: bytes, message: bytes) -> None:
    key = bytes.fromhex(VECTORS["keys"][0]["public_key"])
    with pytest.raises(SignatureInvalid):
        ml_dsa.verify(key, message, signature)


def test_the_halves_of_one_seed_are_keys_that_nothing_else_is_made_of() -> None:
    signer = HybridSigner(SEED)
    classical, lattice = signer.public_key[:32], signer.public_key[32:]
    assert classical != signer_of(Algorithm.ED25519, SEED).public_key
    assert lattice != signer_of(Algorithm.ML_DSA_44, SEED).public_key
    whole = signatures.key_fingerprints(signer.algorithm, signer.public_key)
    assert whole == (
        sha256(b"\x03" + signer.public_key).digest(),
        *signatures.key_fingerprints(Algorithm.ED25519, classical),
        *signatures.key_fingerprints(Algorithm.ML_DSA_44, lattice),
    )


@pytest.mark.parametrize("algorithm", POST_QUANTUM)
def test_a_signer_hides_its_secret(algorithm: Algorithm) -> None:
    signer = signer_of(algorithm, SEED)
    for text in (repr(signer), str(signer), f"{signer}"):
        assert SEED.hex() not in text
        assert len(text) < 120
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            attempt(signer)


@pytest.mark.parametrize("algorithm", [*POST_QUANTUM, Algorithm.ED25519])
@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_seed_has_one_size(algorithm: Algorithm, size: int) -> None:
    with pytest.raises(FormatError, match="a seed has 32"):
        signer_of(algorithm, bytes(size))


@pytest.mark.parametrize("algorithm", [0, 4, 5, 255])
def test_nothing_else_signs(algorithm: int) -> None:
    with pytest.raises(FormatError, match="signs nothing"):
        signer_of(algorithm, SEED)
