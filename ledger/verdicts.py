"""What a verifier is told: one verdict, in words that a clerk can act on, and what was proven.

A verdict never shows a field that was not proven, is never a generic failure, and always says as
of when it holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from ledger.documents import Field
from ledger.records import Basis, Status


class VerdictCode(Enum):
    """Stable machine codes.

    ``exit_code``: 0 genuine, 1 not to be accepted as it is, 2 cannot tell. An expired document is 1
    though it is genuine: a script that looks at nothing else must not let it pass.
    """

    GENUINE = "GENUINE"
    GENUINE_EXPIRED = "GENUINE_EXPIRED"
    DOUBTFUL = "DOUBTFUL"
    REVOKED = "REVOKED"
    SUSPENDED = "SUSPENDED"
    SUPERSEDED = "SUPERSEDED"
    NOT_ENTITLED = "NOT_ENTITLED"
    WRONG_TYPE = "WRONG_TYPE"
    ALTERED = "ALTERED"
    FALSE_ATTESTATION = "FALSE_ATTESTATION"
    CHAIN_BROKEN = "CHAIN_BROKEN"
    NOT_ATTESTED = "NOT_ATTESTED"
    ATTESTED_COPY = "ATTESTED_COPY"
    NOT_IN_LEDGER = "NOT_IN_LEDGER"
    WRONG_LEDGER = "WRONG_LEDGER"
    CANNOT_TELL = "CANNOT_TELL"

    @property
    def exit_code(self) -> int:
        if self is VerdictCode.GENUINE:
            return 0
        return 2 if self in (VerdictCode.CANNOT_TELL, VerdictCode.DOUBTFUL) else 1


HEADLINES: Mapping[VerdictCode, str] = {
    VerdictCode.GENUINE: "Genuine",
    VerdictCode.GENUINE_EXPIRED: "Genuine, but expired",
    VerdictCode.DOUBTFUL: "Doubtful: signed with a key that was reported stolen",
    VerdictCode.REVOKED: "Revoked: do not accept",
    VerdictCode.SUSPENDED: "Suspended: do not accept for now",
    VerdictCode.SUPERSEDED: "Superseded: ask for the newer document",
    VerdictCode.NOT_ENTITLED: "Not valid: the issuer was not entitled to issue it",
    VerdictCode.WRONG_TYPE: "Another kind of document than was asked for",
    VerdictCode.ALTERED: "Altered: this is not what was issued",
    VerdictCode.FALSE_ATTESTATION: "False attestation: it bears one that was never given",
    VerdictCode.CHAIN_BROKEN: "Genuine, but an attestation on it does not stand any more",
    VerdictCode.NOT_ATTESTED: "Genuine, but not attested as was asked for",
    VerdictCode.ATTESTED_COPY: "Genuine, but the file is only a copy that another agency attested",
    VerdictCode.NOT_IN_LEDGER: "Not in the ledger: nothing proves that it was issued",
    VerdictCode.WRONG_LEDGER: "Of another ledger: not one that you trust",
    VerdictCode.CANNOT_TELL: "Cannot tell",
}

BASES: Mapping[Basis, str] = {
    Basis.ORIGINAL: "issued as an original",
    Basis.ARCHIVE: "confirmed from an archive",
    Basis.MIGRATED: "migrated from an older system",
    Basis.REPLACEMENT: "issued as a replacement",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One of the checks, in order: what it showed, or why it failed. ``passed`` None: it was not made."""

    name: str
    passed: bool | None
    detail: str


@dataclass(frozen=True, slots=True)
class Attested:
    """One link of the chain of attestations on a document, in the order of the log.

    ``subject`` is the document's index or an earlier link's; ``broken_by`` the index of what stands below
    this link and is not valid any more, None when all of it is. ``copy`` are the shown fields of the
    attested copy or translation.
    """

    index: int
    subject: int
    kind: int
    agency: int
    agency_names: Mapping[str, str]
    attested_ms: int
    status: Status
    doubtful: bool
    broken_by: int | None
    copy: tuple[Field, ...]
    unchecked_files: tuple[str, ...]

    @property
    def stands(self) -> bool:
        """Whether it may be relied on: itself, and all that it stands on."""
        return self.status is Status.VALID and not self.doubtful and self.broken_by is None


@dataclass(frozen=True, slots=True)
class Changed:
    """What made a document's status what it is: when, by whom (0: the authority), why.

    ``reason`` is the number in the log; ``replacement`` the index of the document in its place, if named.
    ``doubtful``: a key that signed it is reported stolen; then no document stands in its place.
    """

    index: int
    agency: int
    agency_names: Mapping[str, str]
    changed_ms: int
    reason: int
    replacement: int | None
    doubtful: bool


@dataclass(frozen=True, slots=True)
class Proven:
    """What the proofs establish. Times are ms since 1970.

    ``genesis``, ``size`` and ``root`` are of the ledger and the checkpoint that it all rests on.
    ``issued_ms`` is the time that the issuer claimed, within the rules' window of the block's; None where
    that was not checked, offline;
    ``as_of_ms`` is the time of the seal under the checkpoint, and the status is as of then.
    ``witnessed_s``: since when the witness policy was met, None when none is asked for.
    ``unchecked_files``: file fields for which no file was given.
    """

    agency: int
    agency_names: Mapping[str, str]
    document_type: int
    type_labels: Mapping[str, str]
    field_labels: Mapping[str, Mapping[str, str]]
    fields: tuple[Field, ...]
    hidden_fields: int
    unchecked_files: tuple[str, ...]
    basis: Basis
    status: Status
    index: int
    issued_ms: int | None
    as_of_ms: int
    genesis: bytes
    size: int
    root: bytes
    witnessed_s: int | None
    expires: str | None
    attestations: tuple[Attested, ...] = ()
    changed: Changed | None = None
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """``reason`` is one sentence beside the headline: what is wrong and what to do.

    It is "" when genuine, unless an attestation that nobody asked for does not stand, or something could
    not be checked offline.
    ``proven`` is None unless every proof held.
    """

    code: VerdictCode
    reason: str
    steps: tuple[Step, ...]
    proven: Proven | None
    origin: str | None
    training: bool

    @property
    def headline(self) -> str:
        """The first line: short, and unmistakable for a training ledger."""
        headline = HEADLINES[self.code]
        return f"TRAINING LEDGER, NOT A REAL DOCUMENT. {headline}" if self.training else headline
