"""The JSON that the HTTP API answers with, as OpenAPI describes it.

Hashes and keys are lower-case hexadecimal; leaves, which are bytes as hashed, are base64; times are
ms since 1970 UTC; null stands where a format has its "none".
"""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from ledger.hashing import leaf_hash
from ledger.leaves import NONE, LeafType, leaf_type
from ledger.records import Affirm, Answer, Attest, Issue, Send, StatusChange, parse_record
from ledger.registry_leaf import RegistryLeaf
from ledger.seals import Seal
from ledger.submissions import SubmissionLeaf
from node.cosigning.health import Cosigning

_HASH: Final = "5fec1c5dfb7a4f3b2e3d7d0a0e9c8b1a6f5e4d3c2b1a09f8e7d6c5b4a3928170"
_CHECKPOINT: Final = (
    "ledger.example\n1024\nX+wcXft6TzsuPX0KDpyLGm9eTTwrGgn459bFtKOSgXA=\n\n— ledger.example …\n"
)

Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", examples=[_HASH], description="SHA-256, hexadecimal")]
Index = Annotated[int, Field(ge=0, examples=[1017], description="a leaf's position, from 0")]
Size = Annotated[int, Field(ge=1, examples=[1024], description="number of leaves")]
TimeMs = Annotated[int, Field(ge=0, examples=[1_767_225_600_000], description="ms since 1970 UTC")]
Note = Annotated[str, Field(examples=[_CHECKPOINT], description="a signed checkpoint (C2SP signed note)")]
Agency = Annotated[int, Field(ge=0, examples=[7], description="number of an agency; 0: the authority")]


class Model(BaseModel):
    """Immutable, with nothing beside its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Problem(Model):
    """Why a request was refused (RFC 9457). `code` is stable; the texts are for people."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str = Field(examples=["urn:sudur:error:OUT_OF_RANGE"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["index: 1024 is beyond the tree, which has 1024 leaves"])
    code: str = Field(examples=["OUT_OF_RANGE"])
    where: str | None = Field(default=None, examples=["index"])
    fix: str | None = Field(default=None, examples=["ask for an index below the size"])


# --- leaves ------------------------------------------------------------------------------------


class SubmissionKey(Model):
    """A key's signature under a SUBMISSION."""

    number: int = Field(examples=[1])
    algorithm: int = Field(examples=[1])
    signature: str


class RegistryKey(SubmissionKey):
    """A key's signature under a registry change; agency 0 is the authority."""

    agency: Agency


class ExtraRoot(Model):
    """A root of a later addition."""

    kind: int
    root: Hash


class IssueContent(Model):
    """A document was issued."""

    kind: Literal["ISSUE"] = "ISSUE"
    agency: Agency
    document_type: int = Field(examples=[3])
    basis: str = Field(examples=["original"])
    commitment: Hash


class StatusContent(Model):
    """A status changed."""

    kind: Literal["STATUS"] = "STATUS"
    agency: Agency
    subject: Index
    previous: Index
    status: str = Field(examples=["revoked"])
    reason: int
    replacement: int | None


class AttestContent(Model):
    """A document was attested."""

    kind: Literal["ATTEST"] = "ATTEST"
    agency: Agency
    subject: Index
    attestation: int
    commitment: Hash


class SendContent(Model):
    """A request or a circulated document was sent."""

    kind: Literal["SEND"] = "SEND"
    agency: Agency
    recipient: Agency
    commitment: Hash
    sent: str = Field(examples=["request"])
    due_days: int
    follows: int | None
    envelope: Hash


class AnswerContent(Model):
    """What was sent was received, answered or returned."""

    kind: Literal["ANSWER"] = "ANSWER"
    agency: Agency
    subject: Index
    outcome: str = Field(examples=["answered"])
    commitment: Hash
    envelope: Hash


class AffirmContent(Model):
    """Leaves were affirmed as genuine."""

    kind: Literal["AFFIRM"] = "AFFIRM"
    agency: Agency
    target: Agency
    first: Index
    last: Index


class RegistryContent(Model):
    """The registry changed; `change` is the signed JSON."""

    kind: Literal["REGISTRY"] = "REGISTRY"
    change: dict[str, Any]
    signatures: list[RegistryKey]


class SubmissionContent(Model):
    """An agency's signed header over the records that follow it."""

    kind: Literal["SUBMISSION"] = "SUBMISSION"
    agency: Agency
    count: int = Field(examples=[1])
    records_root: Hash
    claimed_ms: TimeMs
    signatures: list[SubmissionKey]


class SealContent(Model):
    """The end of a block."""

    kind: Literal["SEAL"] = "SEAL"
    rules: int
    block: int
    time_ms: TimeMs
    previous: int | None
    documents: int
    status_root: Hash
    registry_root: Hash
    extras: list[ExtraRoot]


Content = Annotated[
    IssueContent
    | StatusContent
    | AttestContent
    | SendContent
    | AnswerContent
    | AffirmContent
    | RegistryContent
    | SubmissionContent
    | SealContent,
    Field(discriminator="kind"),
]


class Entry(Model):
    """A leaf as logged and, for reading, decoded. Believe it after proving `leaf_hash`."""

    index: Index
    leaf_hash: Hash
    leaf: str = Field(description="the leaf's bytes, base64")
    block: int = Field(examples=[12])
    block_size: Size
    time_ms: TimeMs
    content: Content


def decode_leaf(leaf: bytes) -> Content:
    """What a leaf of any type says. Raises FormatError for bytes that are no leaf."""
    kind = leaf_type(leaf)
    if kind is LeafType.REGISTRY:
        return _registry(RegistryLeaf.decode(leaf))
    if kind is LeafType.SUBMISSION:
        return _submission(SubmissionLeaf.decode(leaf))
    if kind is LeafType.SEAL:
        return _seal(Seal.decode(leaf))
    match parse_record(leaf):
        case Issue() as issue:
            return IssueContent(
                agency=issue.agency,
                document_type=issue.document_type,
                basis=issue.basis.name.lower(),
                commitment=issue.commitment.hex(),
            )
        case StatusChange() as change:
            return StatusContent(
                agency=change.agency,
                subject=change.subject,
                previous=change.previous,
                status=change.status.name.lower(),
                reason=change.reason,
                replacement=_or_none(change.replacement),
            )
        case Attest() as attest:
            return AttestContent(
                agency=attest.agency,
                subject=attest.subject,
                attestation=attest.kind,
                commitment=attest.commitment.hex(),
            )
        case Send() as send:
            return SendContent(
                agency=send.agency,
                recipient=send.recipient,
                commitment=send.commitment.hex(),
                sent=send.kind.name.lower(),
                due_days=send.due,
                follows=_or_none(send.follows),
                envelope=send.envelope.hex(),
            )
        case Answer() as answer:
            return AnswerContent(
                agency=answer.agency,
                subject=answer.subject,
                outcome=answer.outcome.name.lower(),
                commitment=answer.commitment.hex(),
                envelope=answer.envelope.hex(),
            )
        case Affirm() as affirm:
            return AffirmContent(
                agency=affirm.agency, target=affirm.target, first=affirm.first, last=affirm.last
            )


def entry(index: int, leaf: bytes, *, block: int, block_size: int, time_ms: int) -> Entry:
    """A leaf with its place and its decoded content."""
    return Entry(
        index=index,
        leaf_hash=leaf_hash(leaf).hex(),
        leaf=b64encode(leaf).decode(),
        block=block,
        block_size=block_size,
        time_ms=time_ms,
        content=decode_leaf(leaf),
    )


def _registry(leaf: RegistryLeaf) -> RegistryContent:
    keys = [
        RegistryKey(
            agency=one.agency, number=one.number, algorithm=one.algorithm, signature=one.signature.hex()
        )
        for one in leaf.signatures
    ]
    return RegistryContent(change=json.loads(leaf.json), signatures=keys)


def _submission(leaf: SubmissionLeaf) -> SubmissionContent:
    keys = [
        SubmissionKey(number=one.number, algorithm=one.algorithm, signature=one.signature.hex())
        for one in leaf.signatures
    ]
    return SubmissionContent(
        agency=leaf.agency,
        count=leaf.count,
        records_root=leaf.records_root.hex(),
        claimed_ms=leaf.claimed_ms,
        signatures=keys,
    )


def _seal(seal: Seal) -> SealContent:
    return SealContent(
        rules=seal.rules,
        block=seal.block,
        time_ms=seal.time_ms,
        previous=_or_none(seal.previous),
        documents=seal.documents,
        status_root=seal.status_root.hex(),
        registry_root=seal.registry_root.hex(),
        extras=[ExtraRoot(kind=kind, root=root.hex()) for kind, root in seal.extras],
    )


def _or_none(index: int) -> int | None:
    return None if index == NONE else index


# --- the rest ----------------------------------------------------------------------------------


class LedgerInfo(Model):
    """Which ledger this is and where it stands: a claim, to compare with what is pinned."""

    genesis: Hash
    origin: str = Field(examples=["ledger.example"])
    training: bool
    log_keys: list[str] = Field(description="verifier keys of the log that may sign now (C2SP vkeys)")
    rules_version: int = Field(examples=[1])
    software_version: str = Field(examples=["0.1.0"])
    size: Size
    root: Hash
    block: int = Field(examples=[12])
    time_ms: TimeMs
    documents: int = Field(examples=[900])
    status_root: Hash
    registry_root: Hash
    published_size: Size = Field(description="that of `checkpoint`; may be behind `size`")
    checkpoint: Note = Field(description="the newest that enough witnesses cosigned; empty while none is")


class WitnessState(Model):
    """A witness of the policy in force, as this node knows it."""

    name: str = Field(examples=["university"])
    key: str = Field(description="its verifier key (C2SP vkey)")
    url: str = Field(description="where this node asks it; empty when it does not")
    cosigned_size: int = Field(description="leaves under its newest cosignature; 0: none")
    cosigned_s: int = Field(description="time in it, seconds since 1970 UTC")
    trouble: str = Field(description="why it does not cosign now; empty when it does", examples=["SILENT"])
    what: str = Field(description="the same in words")
    failures: int = Field(description="times in a row")


class Witnesses(Model):
    """How far publication is."""

    signed_size: Size
    published_size: int = Field(description="leaves under the newest published checkpoint; 0: none yet")
    asked: bool = Field(description="whether a witness policy is in force")
    witnesses: list[WitnessState]


def witnesses(now: Cosigning) -> Witnesses:
    return Witnesses(
        signed_size=now.signed,
        published_size=now.published,
        asked=now.asked,
        witnesses=[
            WitnessState(
                name=one.name,
                key=one.key,
                url=one.url,
                cosigned_size=one.size,
                cosigned_s=one.time_s,
                trouble="" if one.trouble is None else str(one.trouble),
                what=one.what,
                failures=one.failures,
            )
            for one in now.witnesses
        ],
    )


class InclusionAnswer(Model):
    """That a leaf is in the tree whose size and root the checkpoint states (RFC 6962, 2.1.1)."""

    index: Index
    size: Size
    leaf_hash: Hash
    path: list[Hash] = Field(description="from the leaf's sibling up")
    checkpoint: Note


class StatusListEntry(Model):
    """Where the status stands in a status list token: `idx` in the list of the token at `uri`."""

    idx: int = Field(ge=0, le=65_535, examples=[1017])
    uri: str = Field(examples=["https://ledger.example/status/token/0"])


class StatusClaim(Model):
    """What a `status` claim holds (IETF Token Status List)."""

    status_list: StatusListEntry


class ReceiptAnswer(InclusionAnswer):
    """A leaf with its proof under the newest published checkpoint. `status` is null for what has none."""

    leaf: str = Field(description="the leaf's bytes, base64")
    status: StatusClaim | None


class ConsistencyAnswer(Model):
    """That the older tree is the beginning of the newer (RFC 6962, 2.1.2)."""

    old_size: Size
    new_size: Size
    path: list[Hash]
    checkpoint: Note


class LookupAnswer(Model):
    """Where an agency's commitment was logged as issued. Unproven: prove the index, read the leaf."""

    agency: Agency
    commitment: Hash
    indexes: list[Index]
    size: Size


class Readiness(Model):
    """Whether the node takes submissions; if not, why."""

    ready: bool
    reasons: list[str] = Field(examples=[["READ_ONLY: the disk is full"]])
    size: int = Field(ge=0, examples=[1024], description="number of leaves served; 0: none yet")
    block: int


class MirrorState(Model):
    """How old what a mirror serves is, and how it stands with the node that it follows."""

    follows: str = Field(examples=["ledger.example:7070"])
    head_age_ms: int = Field(description="since the newest block was sealed", examples=[800])
    contact_age_ms: int | None = Field(description="since it heard of that node", examples=[120])
    blocks_behind: int = Field(description="as that node last said", examples=[0])
    fault: str = Field(description="why there is no link; empty while there is one", examples=[""])


class Alive(Model):
    """The process answers."""

    alive: bool = True
    mirror: MirrorState | None = Field(None, description="of a mirror alone")
