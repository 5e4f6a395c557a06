"""The JSON of look-ups, exchanges and figures, as OpenAPI describes it.

What is sent is made by :mod:`ledger.inquiries` and :mod:`ledger.reports`, which the command line reads
and prints it with; tests hold these models to it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from node.doors.http_models import Agency, Index, Model, Size, TimeMs

Names = Annotated[
    dict[str, str],
    Field(
        examples=[{"en": "Civil registry", "ar": "السجل المدني"}],
        description="by BCP 47 language; none for the authority",
    ),
]
Count = Annotated[int, Field(ge=0, examples=[12])]
DelayMs = Annotated[
    int | None,
    Field(
        examples=[604_800_000],
        description="the bound that it does not pass; null: past 2 years, or no answer",
    ),
]
Reference = Annotated[
    str, Field(pattern=r"^[0-9]{3,22}$", examples=["101754"], description="index and two check digits")
]


class NamedAgency(Model):
    """An agency with its present names."""

    number: Agency
    names: Names


class ReplyAnswer(Model):
    """An ANSWER to a SEND."""

    index: Index
    agency: Agency
    outcome: Literal["received", "answered", "returned"]
    time_ms: TimeMs


class SentAnswer(Model):
    """A SEND and what has become of it. `reminds`: the SEND that is answered in its stead."""

    reference: Reference
    index: Index
    agency: Agency
    recipient: Agency
    kind: Literal["request", "circulated"]
    time_ms: TimeMs
    due_days: int = Field(ge=0, examples=[14], description="days within which an answer is due; 0: none")
    follows: Index | None
    reminds: Index | None
    received: ReplyAnswer | None
    final: ReplyAnswer | None
    overdue: bool


class StandingAnswer(Model):
    """How an ISSUE or ATTEST stands; all but `status` is null when that never changed."""

    status: Literal["valid", "revoked", "suspended", "superseded"]
    changed: Index | None
    time_ms: TimeMs | None
    reason: int | None
    replacement: Index | None


class IssuedAnswer(Model):
    """What an ISSUE declares; type 0 is none."""

    document_type: int = Field(ge=0, examples=[3])
    labels: Names
    basis: Literal["original", "archive", "migrated", "replacement"]


class ReferenceAnswer(Model):
    """The leaf with a reference number. Unproven, and it verifies no paper: read out the `remark`."""

    reference: Reference
    index: Index
    kind: Literal["issue", "status", "attest", "send", "answer", "affirm", "registry", "submission", "seal"]
    agency: NamedAgency
    time_ms: TimeMs
    subject: Index | None
    standing: StandingAnswer | None
    issued: IssuedAnswer | None
    attestation: int | None
    sent: SentAnswer | None
    recipient: NamedAgency | None
    size: Size
    as_of_ms: TimeMs
    remark: str


class ExchangeAnswer(SentAnswer):
    """What has become of a SEND, as of a size."""

    size: Size
    as_of_ms: TimeMs


class SendsAnswer(Model):
    """A page of SENDs to an agency, ascending. `next`: where the next page starts; null: no more."""

    sends: list[SentAnswer]
    next: Index | None
    size: Size
    as_of_ms: TimeMs


class BacklogAnswer(Model):
    """What was asked and has no final answer. Ages in whole days; null when nothing is open."""

    open: Count
    overdue: Count
    median_age_days: int | None
    oldest_age_days: int | None


class DelaysAnswer(Model):
    """The time to the final answer: median, and what nine of ten answers did not pass."""

    answers: Count
    median_ms: DelayMs
    ninth_ms: DelayMs


class DocumentsAnswer(Model):
    """Documents issued of one type on one basis."""

    document_type: int
    basis: Literal["original", "archive", "migrated", "replacement"]
    count: Count


class AttestationsAnswer(Model):
    """Attestations of one kind."""

    attestation: int
    count: Count


class ExchangedAnswer(Model):
    """What the agency sent, and what it did with what was sent to it, in a month."""

    sent: Count
    asked: Count
    reminded: Count
    reopened: Count
    received: Count
    answered: Count
    returned: Count
    late: Count
    delays: DelaysAnswer


class Exchanges(Model):
    """By kind of SEND."""

    request: ExchangedAnswer
    circulated: ExchangedAnswer


class MonthAnswer(Model):
    """One month (UTC)."""

    month: str = Field(pattern=r"^[0-9]{4,}-[0-9]{2}$", examples=["2026-01"])
    documents: list[DocumentsAnswer]
    statuses: dict[Literal["valid", "revoked", "suspended", "superseded"], Count]
    attestations: list[AttestationsAnswer]
    exchanges: Exchanges


class Backlogs(Model):
    """By kind of SEND."""

    request: BacklogAnswer
    circulated: BacklogAnswer


class DelaysByKind(Model):
    """By kind of SEND."""

    request: DelaysAnswer
    circulated: DelaysAnswer


class FiguresAnswer(Model):
    """What an agency, and all below it, did by month; agency 0 is the whole ledger."""

    agency: Agency
    names: Names
    size: Size
    as_of_ms: TimeMs
    backlogs: Backlogs
    delays: DelaysByKind
    months: list[MonthAnswer]
    counters: list[
        Annotated[list[int], Field(min_length=5, max_length=5, examples=[[1, 672, 3, 0, 812]])]
    ] = Field(description="metric, period, a, b, count: what the report is made of (docs/format.md, Figures)")
