"""``sudur lookup``: what the public log shows under a reference number, in words for a clerk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import typer

from ledger.errors import FormatError
from ledger.inquiries import (
    REMARK,
    AsOf,
    Issued,
    Named,
    Referred,
    Reply,
    Sent,
    Standing,
    referred_json,
)
from ledger.leaves import LeafType
from ledger.records import REASONS, Outcome, SendKind, Status
from ledger.references import parse_reference, reference_text
from ledger.resources import checkpoint_path
from ledger.verdicts import BASES
from tools.describe import moment
from tools.errors import AnswerWrong, Usage
from tools.inquiring import ask
from tools.options import Json_, MaybeNode
from tools.pinning import ledger_of, load_trust
from tools.proving import ProvenReferred, prove_referred
from tools.ui import emit_json, printable, say

_Url = Annotated[
    str | None, typer.Option("--url", metavar="URL", help="Ask over HTTP, like http://localhost:7080.")
]
_WHAT: Final = {
    LeafType.ISSUE: "a document",
    LeafType.STATUS: "a change of a document's status",
    LeafType.ATTEST: "an attestation",
    LeafType.SEND: "something sent",
    LeafType.ANSWER: "an answer to something sent",
    LeafType.AFFIRM: "an affirmation of an agency's entries after a theft",
    LeafType.REGISTRY: "a change of the registry",
    LeafType.SUBMISSION: "an agency's signature over the entries that follow it",
    LeafType.SEAL: "the end of a block",
}
_NOBODYS: Final = frozenset((LeafType.REGISTRY, LeafType.SEAL))
_SENT: Final = {SendKind.REQUEST: "a request for confirmation", SendKind.CIRCULATED: "a circulated document"}
_OUTCOMES: Final = {
    Outcome.RECEIVED: "received",
    Outcome.ANSWERED: "answered",
    Outcome.RETURNED: "returned",
}


def lookup(
    number: Annotated[
        str, typer.Argument(metavar="NUMBER", help="A reference number; spaces and hyphens do not matter.")
    ],
    node: MaybeNode = None,
    url: _Url = None,
    trust: Annotated[
        Path | None,
        typer.Option(
            metavar="TRUST.json",
            exists=True,
            dir_okay=False,
            help="Prove the entry and its status against this trust file first.",
        ),
    ] = None,
    as_json: Json_ = False,
) -> None:
    """Say what stands under a reference number: whose, what, since when, how it stands now.

    It does not verify a paper: that takes the code on it, and `sudur verify`. Exit codes: 0 found; 1 no
    such entry, or the answer is not what the log proves; 2 nobody answers; 64 wrong usage, a number that
    was misread included.

    Example: sudur lookup "170 000 0079" --url http://localhost:7080 --trust trust.json
    """
    try:
        index = parse_reference(number)
    except FormatError as error:
        raise Usage(error.what, where="NUMBER", fix=error.fix) from None
    inquiry = ask(node, url)
    try:
        found, as_of = inquiry.reference(index)
        if found.index != index:
            raise AnswerWrong("the answer is about another entry", where=f"entry {index}")
        proven = None
        if trust is not None:
            checkpoint = inquiry.resources.fetch(checkpoint_path(as_of.size))
            ledger = ledger_of(load_trust(trust), checkpoint)
            proven = prove_referred(found, as_of, inquiry.resources, ledger)
    finally:
        inquiry.close()
    if as_json:
        signed_ms = None if proven is None else proven.signed_ms
        emit_json({**referred_json(found, as_of), "proven": proven is not None, "signed_ms": signed_ms})
    else:
        say("\n".join(_lines(found, as_of, proven)))


def _lines(found: Referred, as_of: AsOf, proven: ProvenReferred | None) -> list[str]:
    lines = [f"Reference {reference_text(found.index)}", "", f"What:      {_what(found)}"]
    if found.kind not in _NOBODYS:
        lines.append(f"By:        {_named(found.agency)}")
    if found.recipient is not None:
        lines.append(f"To:        {_named(found.recipient)}")
    lines.append(f"Logged:    {moment(found.time_ms)}")
    if proven is not None and proven.signed_ms is not None:
        lines.append(f"Signed:    {moment(proven.signed_ms)}, by the signer's clock")
    if found.subject is not None:
        lines.append(f"About:     reference {reference_text(found.subject)}")
    if found.standing is not None:
        lines += _standing(found.standing)
    if found.sent is not None:
        lines += _sent(found.sent, as_of)
    lines += ["", f"As of {moment(as_of.time_ms)}, {as_of.size} entries."]
    lines.append(_judged(found, proven))
    return [*lines, REMARK]


def _what(found: Referred) -> str:
    if found.issued is not None:
        return f"{_WHAT[found.kind]}: {_issued(found.issued)}"
    if found.attestation is not None:
        return f"{_WHAT[found.kind]} of kind {found.attestation}"
    return _WHAT[found.kind] if found.sent is None else _SENT[found.sent.kind]


def _issued(issued: Issued) -> str:
    kind = f"{_names(issued.labels)} (type {issued.document_type})" if issued.document_type else ""
    return f"{kind or 'of no declared type'}, {BASES[issued.basis]}"


def _standing(standing: Standing) -> list[str]:
    word = standing.status.name
    lines = [f"Status:    {word.lower() if standing.status is Status.VALID else word}"]
    if standing.time_ms is not None:
        lines[0] += f" since {moment(standing.time_ms)}"
    if standing.reason:
        lines.append(f"Reason:    {REASONS.get(standing.reason, f'number {standing.reason}')}")
    if standing.replacement is not None:
        lines.append(f"Replaced:  by reference {reference_text(standing.replacement)}")
    return lines


def _sent(sent: Sent, as_of: AsOf) -> list[str]:
    lines = []
    if sent.reminds is not None:
        lines.append(
            f"Reminder:  of reference {reference_text(sent.reminds)}, which is answered in its stead"
        )
    elif sent.follows is not None:
        lines.append(f"Follows:   reference {reference_text(sent.follows)}")
    if sent.reminds is None:
        lines.append(f"Received:  {_reply(sent.received, sent)}")
        lines.append(f"Answer:    {_reply(sent.final, sent)}")
    if sent.due_days:
        due = f"Due:       within {sent.due_days} day{'' if sent.due_days == 1 else 's'}"
        lines.append(f"{due}, OVERDUE" if sent.overdue(as_of.time_ms) else due)
    return lines


def _reply(reply: Reply | None, sent: Sent) -> str:
    if reply is None:
        return "not yet"
    by = "" if reply.agency == sent.recipient else f", by agency {reply.agency}, its successor"
    return f"{_OUTCOMES[reply.outcome]} {moment(reply.time_ms)}{by} (reference {reference_text(reply.index)})"


def _judged(found: Referred, proven: ProvenReferred | None) -> str:
    if proven is None:
        return "Not proven: without --trust this is what the node says."
    if found.sent is not None:
        return (
            "Proven against the trust file: the entry and each answer shown, but for when they were logged;"
            " that there is no answer cannot be proven."
        )
    return "Proven against the trust file, but for the times at which entries were logged."


def _named(named: Named) -> str:
    return f"{_names(named.names)} (agency {named.number})" if named.number else "the authority"


def _names(labels: Mapping[str, str]) -> str:
    return " / ".join(printable(label) for label in labels.values())
