"""A proposal: a registry change on its way to enough signatures, as a file that is handed around.

Whoever prepares a change writes the file; each holder of a key reads what it says, signs it on a machine
of their own, with no network, and passes it on. Copies that were signed apart are merged. The file holds
the change exactly as it is signed, which keys may sign it and how many must, as the registry stood when
it was made, and the signatures so far. The ledger checks all of it again: what is wrong here makes a
change that is refused, nothing worse.

Canonical JSON with a newline. Nothing in it is secret.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Final

from ledger.canonical_json import Json, Reader, base64_text, encode, parse
from ledger.changes import (
    MAX_AGENCY,
    MAX_KEY_NUMBER,
    AuthorityKey,
    AuthorityReplaced,
    Change,
    NewKey,
    parse_change,
)
from ledger.errors import FormatError, SignatureInvalid, SudurError
from ledger.leaves import MAX_LEAF_SIZE
from ledger.registry_leaf import MAX_SIGNATURES, RegistryLeaf, RegistrySignature
from ledger.signatures import verify
from tools.errors import ProposalProblem, SignaturesMissing
from tools.files import PUBLIC, read_file, write_file, write_new_file
from tools.signing import NumberedSigner, gather_change, sign_change

MAX_PROPOSAL: Final = 1 << 20
_FORMAT: Final = "sudur-proposal/v1"
_MAX_KEYS: Final = 1024


@dataclass(frozen=True, slots=True)
class Proposal:
    """``by``: who signs, 0 the authority, else an agency; ``needed`` of ``keys`` must.

    ``then``: the keys that an enrolment is to be followed by, in a change of its own.
    """

    genesis: bytes
    by: int
    needed: int
    keys: tuple[AuthorityKey, ...]
    json: bytes
    then: tuple[NewKey, ...] = ()
    signatures: tuple[RegistrySignature, ...] = ()

    def change(self) -> Change:
        """Raises FormatError."""
        return parse_change(self.json)

    def may_sign(self) -> dict[int, AuthorityKey]:
        """Keys by number: those that count towards ``needed``, and those of a new authority."""
        return {key.number: key for key in (*self._incoming(), *self.keys)}

    def missing(self) -> tuple[int, tuple[int, ...]]:
        """How many more of the keys must sign, and which keys of a new authority have yet to."""
        signed = {one.number for one in self.signatures}
        counted = len(signed & {key.number for key in self.keys})
        incoming = tuple(key.number for key in self._incoming() if key.number not in signed)
        return max(self.needed - counted, 0), incoming

    @property
    def is_complete(self) -> bool:
        return self.missing() == (0, ())

    def check_complete(self) -> None:
        """Raises SignaturesMissing, which says how many and whose."""
        count, incoming = self.missing()
        signed = sorted(one.number for one in self.signatures)
        if count:
            free = sorted({key.number for key in self.keys} - set(signed))
            raise SignaturesMissing(
                f"{self.needed} keys of {whose(self.by)} must sign, {self.needed - count} did:"
                f" {count} missing, of {_numbers(free)}",
                fix="have it signed where those keys lie, then send it again",
            )
        if incoming:
            raise SignaturesMissing(
                f"each key of the new authority must sign: {_numbers(incoming)} missing",
                fix="have it signed where those keys lie, then send it again",
            )

    def signed_by(self, signers: Iterable[NumberedSigner]) -> Proposal:
        """With signatures more. Raises ProposalProblem for a key that signed already."""
        proposal = self
        for one in signers:
            if any(one.number == signature.number for signature in proposal.signatures):
                raise ProposalProblem(f"key {one.number} has signed this proposal already")
            signature = sign_change(self.json, self.genesis, one, self.by)
            proposal = proposal._with((*proposal.signatures, signature))
        return proposal

    def merged(self, other: Proposal) -> Proposal:
        """With the signatures of both copies. Raises ProposalProblem when they propose different things."""
        if replace(self, signatures=()) != replace(other, signatures=()):
            raise ProposalProblem("the two files do not propose the same change")
        ours = {one.number: one for one in self.signatures}
        return self._with({**{one.number: one for one in other.signatures}, **ours}.values())

    def leaf(self) -> bytes:
        """The REGISTRY leaf. Raises SignaturesMissing."""
        self.check_complete()
        return gather_change(self.json, self.signatures)

    def _with(self, signatures: Iterable[RegistrySignature]) -> Proposal:
        return replace(self, signatures=tuple(sorted(signatures, key=lambda one: one.number)))

    def _incoming(self) -> tuple[AuthorityKey, ...]:
        body = self.change().body
        return body.authority.keys if isinstance(body, AuthorityReplaced) else ()

    # --- the file ---

    def encode(self) -> bytes:
        body: Json = {
            "format": _FORMAT,
            "genesis": base64_text(self.genesis),
            "by": self.by,
            "needed": self.needed,
            "keys": [key.to_json() for key in self.keys],
            "change": self.json.decode("utf-8"),
            "then": [key.to_json() for key in self.then],
            "signatures": [
                {
                    "number": one.number,
                    "algorithm": one.algorithm,
                    "signature": base64_text(one.signature),
                }
                for one in self.signatures
            ],
        }
        return encode(body) + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> Proposal:
        """Every signature in it is verified. Raises FormatError, SignatureInvalid."""
        reader = Reader(parse(data.removesuffix(b"\n"), limit=MAX_PROPOSAL, where="proposal"), "proposal")
        if reader.text("format") != _FORMAT:
            raise FormatError(f"is not {_FORMAT}", where=reader.at("format"))
        by = reader.number("by", 0, MAX_AGENCY)
        proposal = cls(
            reader.data("genesis", size=32),
            by,
            reader.number("needed", 1, 16),
            tuple(AuthorityKey.from_json(one) for one in reader.members("keys", limit=_MAX_KEYS)),
            reader.text("change", limit=MAX_LEAF_SIZE).encode("utf-8"),
            tuple(NewKey.from_json(one) for one in reader.members("then", limit=64)),
            tuple(_signature(one, by) for one in reader.members("signatures", limit=MAX_SIGNATURES)),
        )
        reader.done()
        _check(proposal)
        return proposal


def _check(proposal: Proposal) -> None:
    for numbers in ([key.number for key in proposal.keys], [one.number for one in proposal.signatures]):
        if any(a >= b for a, b in pairwise(numbers)):
            raise FormatError("key numbers must strictly ascend, none twice", where="proposal")
    keys = proposal.may_sign()
    message = RegistryLeaf(proposal.json, ()).message(proposal.genesis)
    for one in proposal.signatures:
        key = keys.get(one.number)
        if key is None or key.algorithm != one.algorithm:
            raise SignatureInvalid(f"key {one.number} is none that may sign this", where="proposal")
        try:
            verify(key.algorithm, key.public_key, message, one.signature)
        except SudurError as error:
            raise SignatureInvalid(
                f"the signature of key {one.number} is not of this change: {error.what}",
                where="proposal",
                fix="the file was altered after it was signed; have it made again",
            ) from None


def _signature(reader: Reader, by: int) -> RegistrySignature:
    signature = RegistrySignature(
        by,
        reader.number("number", 1, MAX_KEY_NUMBER),
        reader.number("algorithm", 1, 255),
        reader.data("signature"),
    )
    reader.done()
    return signature


def load_proposal(path: Path) -> Proposal:
    """Raises FileProblem; ProposalProblem for what is no undamaged proposal."""
    data = read_file(path, MAX_PROPOSAL)
    try:
        return Proposal.decode(data)
    except (FormatError, SignatureInvalid) as error:
        raise ProposalProblem(
            f"is no undamaged proposal: {error}", where=str(path), fix="have it handed over again"
        ) from error


def save_new_proposal(path: Path, proposal: Proposal) -> None:
    """Raises NameTaken, FileProblem."""
    write_new_file(path, proposal.encode(), PUBLIC)


def replace_proposal(path: Path, proposal: Proposal) -> None:
    """Put it in place of its earlier form, at once. Raises FileProblem."""
    write_file(path, proposal.encode(), PUBLIC)


def whose(by: int) -> str:
    """Who signs, in words."""
    return f"agency {by}" if by else "the authority"


def _numbers(numbers: Iterable[int]) -> str:
    listed = [str(one) for one in numbers]
    return f"key{'s' if len(listed) > 1 else ''} {', '.join(listed)}" if listed else "no key in use"
