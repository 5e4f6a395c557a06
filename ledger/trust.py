"""The trust file: which ledgers a verifier believes, and by which keys.

Canonical JSON. Everything a verdict rests on is pinned here by the verifier; nothing in a receipt
or a code can add to it. Format: docs/format.md, section Trust file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ledger.canonical_json import Json, Reader, base64_text, encode, parse
from ledger.checkpoints import check_origin
from ledger.errors import CheckpointUntrusted, FormatError, TrustFormatError
from ledger.notes import SignatureType, VerifierKey
from ledger.witness_policy import WitnessPolicy, parse_policy

MAX_TRUST: Final = 1 << 20
_FORMAT: Final = "sudur-trust/v1"


@dataclass(frozen=True, slots=True)
class TrustedLedger:
    """One ledger: its G, its origin, its log keys, and the C2SP witness policy asked of it.

    An empty ``witness_policy`` asks for no witness: then the operator's word is all there is until
    an auditor looks.
    """

    genesis: bytes
    origin: str
    log_keys: tuple[VerifierKey, ...]
    witness_policy: str
    training: bool

    def policy(self) -> WitnessPolicy | None:
        return parse_policy(self.witness_policy.encode("utf-8")) if self.witness_policy else None

    def to_json(self) -> Json:
        return {
            "genesis": base64_text(self.genesis),
            "origin": self.origin,
            "log_keys": [key.format() for key in self.log_keys],
            "witness_policy": self.witness_policy,
            "training": self.training,
        }

    @classmethod
    def from_json(cls, reader: Reader) -> TrustedLedger:
        keys = reader.items("log_keys", limit=16)
        if not keys or any(not isinstance(key, str) for key in keys):
            raise FormatError("one or more verifier keys are expected", where=reader.at("log_keys"))
        ledger = cls(
            reader.data("genesis", size=32),
            reader.text("origin"),
            tuple(VerifierKey.parse(key) for key in keys),
            reader.text("witness_policy", limit=16_384, empty=True),
            reader.flag("training"),
        )
        reader.done()
        check_origin(ledger.origin)
        for key in ledger.log_keys:
            if key.name != ledger.origin or key.type is not SignatureType.ED25519:
                raise FormatError(
                    f"the key {key.name} cannot sign for {ledger.origin}", where=reader.at("log_keys")
                )
        ledger.policy()
        return ledger


@dataclass(frozen=True, slots=True)
class Trust:
    """The ledgers that a verifier believes; at most 64."""

    ledgers: tuple[TrustedLedger, ...]

    def ledger(self, genesis: bytes) -> TrustedLedger:
        """The trusted ledger with this G. Raises CheckpointUntrusted when there is none."""
        for one in self.ledgers:
            if one.genesis == genesis:
                return one
        raise CheckpointUntrusted(
            f"ledger {genesis.hex()[:16]} is not in the trust file",
            fix="it is of another ledger; a trust file comes from its authority, never from the document",
        )

    def encode(self) -> bytes:
        return encode({"format": _FORMAT, "ledgers": [one.to_json() for one in self.ledgers]})


def parse_trust(data: bytes) -> Trust:
    """Read a trust file; one newline at its end is allowed. Raises TrustFormatError."""
    try:
        reader = Reader(parse(data.removesuffix(b"\n"), limit=MAX_TRUST, where="trust file"), "trust")
        if reader.text("format") != _FORMAT:
            raise FormatError(f"is not {_FORMAT}", where=reader.at("format"))
        ledgers = tuple(TrustedLedger.from_json(one) for one in reader.members("ledgers", limit=64))
        reader.done()
    except FormatError as error:
        raise TrustFormatError(error.what, where=error.where, fix=error.fix) from error
    if len({one.genesis for one in ledgers}) != len(ledgers):
        raise TrustFormatError("a ledger stands twice", where="trust.ledgers")
    return Trust(ledgers)
