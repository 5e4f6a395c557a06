"""Proofs in the forms that others read: tlog-proofs, COSE receipts, status list tokens, and their keys.

All as of the newest published checkpoint. A tlog-proof needs no more than the log has; the other two are
signed here, by a receipt key that is not the log's, and say what this node says: so a token of the status
list bears the present time only while this copy knows of nothing newer. Format: docs/format.md, section
Portable proofs.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ledger.checkpoints import parse_checkpoint
from ledger.cose_receipts import Inclusion
from ledger.leaves import LeafType, leaf_type
from ledger.notes import parse_note
from ledger.receipt_keys import KeyStatement, ReceiptKey, cose_key_set, jwk_set
from ledger.seals import Seal
from ledger.signatures import Signer
from ledger.status import CHUNK_SIZE, EMPTY_CHUNK, EMPTY_CHUNK_HASH, chunk_count
from ledger.status_tokens import MEDIA_TYPE, StatusReference, StatusToken, token_uri
from ledger.tlog_proof import TlogProof
from node.doors.reads import Inclusions, Reads
from node.doors.resources import NEWEST, TEXT, Resource
from node.errors import NotFound, ReadOnly
from node.ledger_copy import LedgerCopy

COSE: Final = "application/cose"
PLAIN: Final = "text/plain"
JWK_SET: Final = "application/jwk-set+json"
CBOR: Final = "application/cbor"
TOKEN_TTL_S: Final = 300
"""How long a token may be used before a newer one is asked for."""
TOKEN_LIFE_S: Final = 21_600
"""After so long a token counts no more: so long a revocation can be kept from somebody who has an old one."""
_A_MINUTE: Final = "public, max-age=60"
_MINUTE_S: Final = 60
_MOST_TOKENS: Final = 64
_SUBJECTS: Final = (LeafType.ISSUE, LeafType.ATTEST)


@dataclass(frozen=True, slots=True)
class ReceiptSigning:
    """The key that signs receipts and tokens, and what is published of it and of those before it.

    ``statement``: the signed note by which the log's key binds them to the ledger.
    """

    signer: Signer
    statement: bytes
    keys: tuple[ReceiptKey, ...]

    @classmethod
    def stated(
        cls, receipt_keys: Sequence[Signer], log_keys: Sequence[Signer], copy: LedgerCopy
    ) -> ReceiptSigning | None:
        """The first of ``receipt_keys`` signs from now on, all are stated; None when there are none."""
        if not receipt_keys:
            return None
        state = copy.published.state
        keys = tuple(dict.fromkeys(ReceiptKey(one.public_key) for one in receipt_keys))
        statement = KeyStatement(state.genesis, state.registry.ledger.origin, state.size, keys)
        return cls(receipt_keys[0], statement.sign(log_keys), keys)


@dataclass(frozen=True, slots=True)
class LeafProof:
    """A leaf and its proof, as of a published checkpoint. ``reference``: its status, if it can have one."""

    leaf: bytes
    found: Inclusions
    reference: StatusReference | None


class PortableProofs:
    """Belongs to one event loop; a proof takes some 0.2 ms, a token 0.5 ms and is kept for a minute.

    ``base_url``: where readers reach the static resources. ``behind``: why this copy may not be the newest
    there is; empty when it is.
    """

    def __init__(
        self,
        copy: LedgerCopy,
        reads: Reads,
        signing: ReceiptSigning | None,
        base_url: str,
        now_ms: Callable[[], int],
        behind: Callable[[], str],
    ) -> None:
        self._copy = copy
        self._reads = reads
        self._signing = signing
        self._base_url = base_url
        self._now_ms = now_ms
        self._behind = behind
        self._tokens: OrderedDict[tuple[int, int, int], bytes] = OrderedDict()

    @property
    def signs(self) -> bool:
        """Whether this node has a receipt key."""
        return self._signing is not None

    def proof(self, index: int) -> LeafProof:
        """Raises OutOfRange for a leaf that is not published yet."""
        found = self._reads.inclusions([index], 0)
        leaf = self._reads.leaf(index)
        known = leaf_type(leaf) in _SUBJECTS
        return LeafProof(leaf, found, StatusReference.of(index, self._base_url) if known else None)

    def tlog_proof(self, index: int) -> Resource:
        """With the leaf as its extra data."""
        proof = self.proof(index)
        (inclusion,) = proof.found.proofs
        made = TlogProof(index, tuple(inclusion.path), proof.found.checkpoint, proof.leaf)
        return Resource(made.encode(), TEXT, NEWEST)

    def cose_receipt(self, index: int) -> Resource:
        """Raises NotFound where there is no receipt key."""
        signing = self._signer()
        found = self._reads.inclusions([index], 0)
        (inclusion,) = found.proofs
        checkpoint = parse_checkpoint(parse_note(found.checkpoint).text)
        said = Inclusion(
            genesis=self._reads.state.genesis,
            origin=checkpoint.origin,
            size=checkpoint.size,
            index=index,
            as_of_s=self._seal(checkpoint.size).time_ms // 1_000,
            path=tuple(inclusion.path),
        )
        return Resource(said.sign(checkpoint.root, signing.signer), COSE, NEWEST)

    def status_token(self, chunk: int) -> Resource:
        """``/status/token/<chunk>``. Raises NotFound; ReadOnly while this copy may be behind others."""
        signing = self._signer()
        behind = self._behind()
        if behind:
            raise ReadOnly(
                f"no status is vouched for: this copy may not be the newest there is ({behind})",
                where="status token",
                fix="ask another node",
                retry_ms=1_000,
            )
        checkpoint = parse_checkpoint(parse_note(self._reads.checkpoint(0)).text)
        if chunk >= chunk_count(checkpoint.size):
            raise NotFound(
                f"a tree of {checkpoint.size} leaves has {chunk_count(checkpoint.size)} status chunks",
                where="chunk",
                fix="divide the document's index by 65,536",
            )
        seal = self._seal(checkpoint.size)
        # While something newer is signed and not published, what is published was true until then.
        newest = checkpoint.size == self._reads.size
        issued_ms = max(self._now_ms(), seal.time_ms) if newest else seal.time_ms
        issued_s = issued_ms // 1_000 // _MINUTE_S * _MINUTE_S
        name = (chunk, checkpoint.size, issued_s)
        if name not in self._tokens:
            token = StatusToken(
                uri=token_uri(self._base_url, chunk),
                genesis=self._reads.state.genesis,
                origin=checkpoint.origin,
                size=checkpoint.size,
                issued_s=issued_s,
                expires_s=issued_s + TOKEN_LIFE_S,
                ttl_s=TOKEN_TTL_S,
                chunk=self._chunk(seal, chunk),
            )
            self._tokens[name] = token.sign(signing.signer)
            if len(self._tokens) > _MOST_TOKENS:
                self._tokens.popitem(last=False)
        return Resource(self._tokens[name], MEDIA_TYPE, _A_MINUTE)

    # --- the keys ---

    def statement(self) -> Resource:
        """``/receipt-keys``: the log's signed word on which they are. Raises NotFound."""
        return Resource(self._signer().statement, TEXT, NEWEST)

    def jwk_set(self) -> Resource:
        """``/.well-known/jwks.json``. Raises NotFound."""
        return Resource(jwk_set(self._signer().keys), JWK_SET, NEWEST)

    def cose_key_set(self) -> Resource:
        """``/.well-known/scitt-keys``. Raises NotFound."""
        return Resource(cose_key_set(self._signer().keys), CBOR, NEWEST)

    def _signer(self) -> ReceiptSigning:
        if self._signing is None:
            raise NotFound(
                "this node has no receipt key: it signs no COSE receipts and no status tokens",
                where="receipt key",
                fix="ask another node; tlog-proofs, and receipts by sudur, need none",
            )
        return self._signing

    def _seal(self, size: int) -> Seal:
        return Seal.decode(self._copy.store.leaf(size - 1))

    def _chunk(self, seal: Seal, number: int) -> bytes:
        name = self._copy.store.tree_hashes(seal.status_root)[number]
        chunk = EMPTY_CHUNK if name == EMPTY_CHUNK_HASH else self._copy.store.object(name)
        if len(chunk) != CHUNK_SIZE:
            raise NotFound("that object is no status chunk", where="chunk")
        return chunk
