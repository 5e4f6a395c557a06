"""COSE Receipts (RFC 9942): that a leaf is in the log, for verifiers that speak COSE and not C2SP.

A COSE_Sign1 with the root as its detached payload and the inclusion path in its unprotected header. The
signature covers the root only, and a path does not fix an index: the path of leaf 6 of 8 also leads from
index 10 of 12 to the same root. So origin, ledger, size and index stand in the *protected* header too, and a
receipt whose two numbers differ from its path's is refused. Deterministic CBOR. Format: docs/format.md,
section COSE receipt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ledger.checkpoints import MAX_TREE_SIZE, check_origin
from ledger.deterministic_cbor import Cbor, encode, parse
from ledger.errors import CheckpointUntrusted, FormatError, PortableFormatError, ProofInvalid
from ledger.hashing import HASH_SIZE, leaf_hash
from ledger.proofs import root_from_inclusion
from ledger.receipt_keys import EDDSA, KeyStatement, ReceiptKey
from ledger.signatures import ED25519_SIGNATURE_SIZE, Signer, verify_ed25519

MAX_COSE_RECEIPT: Final = 8_192
SIZE_LABEL: Final = "sudur.size"
INDEX_LABEL: Final = "sudur.index"
_TAG: Final = b"\xd2"  # 18, COSE_Sign1
_ALG, _KID, _CLAIMS, _VDS, _VDP = 1, 4, 15, 395, 396
_RFC9162_SHA256: Final = 1
_INCLUSION: Final = -1
_ISS, _SUB, _IAT = 1, 2, 6
_MAX_PATH: Final = 63
_MAX_SECONDS: Final = 2**53 - 1
_WHERE: Final = "COSE receipt"


@dataclass(frozen=True, slots=True)
class Inclusion:
    """What a COSE receipt says: a leaf stands at ``index`` of the ``size`` leaves of the ledger.

    ``genesis`` is G, ``as_of_s`` the time of the seal under that size, in seconds; ``path`` leaf to root.
    """

    genesis: bytes
    origin: str
    size: int
    index: int
    as_of_s: int
    path: tuple[bytes, ...]

    def sign(self, root: bytes, signer: Signer) -> bytes:
        """The receipt, for the root of the ``size`` leaves. About 0.15 ms, and the same bytes each time."""
        protected = encode(self.header(ReceiptKey(signer.public_key).cose_kid))
        return self.pack(protected, signer.sign(_to_be_signed(protected, root)))

    def header(self, kid: bytes) -> dict[int | str, Cbor]:
        """The protected header, under the key of this name."""
        return {
            _ALG: EDDSA,
            _KID: kid,
            _CLAIMS: {_ISS: self.origin, _SUB: self.genesis.hex(), _IAT: self.as_of_s},
            _VDS: _RFC9162_SHA256,
            SIZE_LABEL: self.size,
            INDEX_LABEL: self.index,
        }

    def pack(self, protected: bytes, signature: bytes) -> bytes:
        """The COSE_Sign1, tagged, with the path beside it."""
        proof = encode([self.size, self.index, list(self.path)])
        return _TAG + encode([protected, {_VDP: {_INCLUSION: [proof]}}, None, signature])


@dataclass(frozen=True, slots=True)
class CoseReceipt:
    """A receipt that was read and is not verified yet."""

    inclusion: Inclusion
    kid: bytes
    protected: bytes
    signature: bytes

    def encode(self) -> bytes:
        """The receipt's bytes."""
        return self.inclusion.pack(self.protected, self.signature)

    def verify(self, leaf: bytes, statement: KeyStatement) -> bytes:
        """The root that it shows ``leaf`` under, by a key that ``statement`` gives to this ledger.

        Raises CheckpointUntrusted, ProofInvalid, OutOfRange, SignatureInvalid. No witness has cosigned
        that root: hold it against a checkpoint of the same size.
        """
        said = self.inclusion
        if (said.genesis, said.origin) != (statement.genesis, statement.origin):
            raise CheckpointUntrusted(f"it is of the ledger {said.origin}", where=_WHERE)
        key = statement.by_cose_kid(self.kid)
        root = root_from_inclusion(leaf_hash(leaf), said.index, said.size, said.path)
        verify_ed25519(key.public_key, _to_be_signed(self.protected, root), self.signature)
        return root


def parse_cose_receipt(data: bytes) -> CoseReceipt:
    """Read a receipt of this profile, in its one form.

    Raises PortableFormatError, TooLarge; ProofInvalid when its path is of another index or size than the
    one that is signed.
    """
    if not data.startswith(_TAG):
        raise PortableFormatError("is no COSE_Sign1", where=_WHERE)
    message = parse(data[1:], limit=MAX_COSE_RECEIPT, where=_WHERE)
    match message:
        case [bytes(protected), {396: {-1: [bytes(proof)]}}, None, bytes(signature)]:
            pass
        case _:
            raise PortableFormatError("is no receipt with one inclusion proof", where=_WHERE)
    header = parse(protected, limit=MAX_COSE_RECEIPT, where=_WHERE)
    match parse(proof, limit=MAX_COSE_RECEIPT, where=_WHERE):
        case [int(size), int(index), list(path)] if all(
            isinstance(one, bytes) and len(one) == HASH_SIZE for one in path
        ):
            pass
        case _:
            raise PortableFormatError("is no RFC9162_SHA256 inclusion proof", where=_WHERE)
    said = _inclusion(header, tuple(path))
    kid = header[_KID]
    # Whatever else a header holds, such as an algorithm that is not ours, shows as other bytes here.
    if encode(said.header(kid)) != protected:
        raise PortableFormatError("its protected header is not of this profile", where=_WHERE)
    if (size, index) != (said.size, said.index):
        raise ProofInvalid(
            f"its path is of leaf {index} of {size}, signed is leaf {said.index} of {said.size}",
            where=_WHERE,
            fix="do not accept it: it was altered",
        )
    if len(signature) != ED25519_SIGNATURE_SIZE or said.pack(protected, signature) != data:
        raise PortableFormatError("it holds more than a receipt does", where=_WHERE)
    return CoseReceipt(said, kid, protected, signature)


def _inclusion(header: Cbor, path: tuple[bytes, ...]) -> Inclusion:
    """What the protected header says, in its ranges; other members are not looked at here."""
    match header:
        case {
            4: bytes(kid),
            15: {1: str(origin), 2: str(genesis), 6: int(as_of_s)},
            "sudur.size": int(size),
            "sudur.index": int(index),
        } if len(kid) == HASH_SIZE and 0 <= as_of_s <= _MAX_SECONDS and len(path) <= _MAX_PATH:
            try:
                check_origin(origin)
                said = Inclusion(bytes.fromhex(genesis), origin, size, index, as_of_s, path)
            except (FormatError, ValueError) as error:
                raise PortableFormatError("a bad origin or ledger id", where=_WHERE) from error
            if len(said.genesis) == HASH_SIZE and 0 <= index < size <= MAX_TREE_SIZE:
                return said
    raise PortableFormatError(
        "its protected header does not fix origin, ledger, size and index",
        where=_WHERE,
        fix="it is of another log, or of another kind",
    )


def _to_be_signed(protected: bytes, root: bytes) -> bytes:
    """The Sig_structure (RFC 9052 section 4.4), with the root as the detached payload."""
    return encode(["Signature1", protected, b"", root])
