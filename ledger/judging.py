"""From what was proven to the verdict: the first thing that applies decides.

Format: docs/format.md, section Verification, the table of verdicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ledger.attestations import WantedAttestation, attestation_name
from ledger.checks import moment
from ledger.document_form import end_of
from ledger.documents import Field, FieldKind
from ledger.errors import TypeNotPermitted
from ledger.records import Issue, Status
from ledger.verdicts import Attested, VerdictCode


@dataclass(frozen=True, slots=True)
class Asked:
    """What the verifier brings along: the clock, digests of files that came with the document, the type
    that it has to be of, the attestations that it has to bear.
    """

    now_ms: int
    file_digests: tuple[bytes, ...] = ()
    expected_type: int | None = None
    attested: tuple[WantedAttestation, ...] = ()


def check_expected_type(issue: Issue, asked: Asked) -> None:
    """That a document is of the type that was asked for, if one was. Raises TypeNotPermitted."""
    if asked.expected_type is not None and issue.document_type != asked.expected_type:
        raise TypeNotPermitted(
            f"it is of type {issue.document_type}, type {asked.expected_type} is asked for"
        )


def judge(
    asked: Asked,
    *,
    status: Status,
    doubtful: bool,
    expires: str | None,
    as_of_ms: int,
    fields: Sequence[Field],
    chain: Sequence[Attested] = (),
) -> tuple[VerdictCode, str]:
    """The verdict on a document whose every proof held, and the sentence beside it.

    ``expires``: its day of expiry, if it shows one. ``fields``: those shown.
    """
    as_of = f"as of {moment(as_of_ms)}"
    if status is Status.REVOKED:
        return VerdictCode.REVOKED, f"it was issued and has been revoked since, {as_of}"
    if status is Status.SUPERSEDED:
        return VerdictCode.SUPERSEDED, f"another document has taken its place, {as_of}"
    if status is Status.SUSPENDED:
        return VerdictCode.SUSPENDED, f"the issuer has suspended it, {as_of}; ask the issuer"
    if doubtful:
        return VerdictCode.DOUBTFUL, "ask the issuing agency to affirm it"
    fault = _chain_fault(asked, chain, fields)
    if fault is not None:
        return fault
    if expires is not None and asked.now_ms >= end_of(expires):
        return VerdictCode.GENUINE_EXPIRED, f"it was valid through {expires}"
    broken = [one for one in chain if not one.stands]
    return VerdictCode.GENUINE, f"the document itself; {_why_broken(broken[0])}" if broken else ""


def _chain_fault(
    asked: Asked, chain: Sequence[Attested], fields: Sequence[Field]
) -> tuple[VerdictCode, str] | None:
    """What the attestations take from a document that stands.

    Anybody with the role can attest anybody's document, and later revoke that. So only those links
    count that were asked for, that show a copy, or whose copy a given file is.
    """
    for wanted in asked.attested:
        links = [one for one in chain if wanted.names(one)]
        if not links:
            return VerdictCode.NOT_ATTESTED, f"it bears no {wanted}"
        if not any(one.stands for one in links):
            return VerdictCode.CHAIN_BROKEN, _why_broken(links[0])
    for link in chain:
        if link.copy and not link.stands:
            return VerdictCode.CHAIN_BROKEN, _why_broken(link)
    for digest in asked.file_digests:
        if has_file(fields, digest):
            continue
        links = [one for one in chain if has_file(one.copy, digest)]
        if not any(wanted.names(one) for wanted in asked.attested for one in links):
            only = f"only the {attestation_name(links[0].kind)} by agency {links[0].agency} does"
            why = f"the issuer does not vouch for a file, {only}; if you accept that, ask for it"
            return VerdictCode.ATTESTED_COPY, why
    return None


def has_file(fields: Sequence[Field], digest: bytes) -> bool:
    """Whether a file with this SHA-256 is among the fields."""
    return any(one.kind is FieldKind.FILE and one.value == digest for one in fields)


def unchecked_files(fields: Sequence[Field], digests: Sequence[bytes]) -> tuple[str, ...]:
    """The names of the file fields for which no file was given."""
    return tuple(one.name for one in fields if one.kind is FieldKind.FILE and one.value not in digests)


def _why_broken(link: Attested) -> str:
    name = f"the {attestation_name(link.kind)} by agency {link.agency}, at index {link.index},"
    if link.status is not Status.VALID:
        return f"{name} is {link.status.name.lower()}"
    if link.doubtful:
        return f"{name} was signed with a key that was reported stolen"
    return f"{name} stands on leaf {link.broken_by}, which does not stand"
