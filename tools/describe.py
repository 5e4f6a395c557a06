"""Leaves and verdicts as people and scripts read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from enum import IntEnum
from typing import Final

from ledger.attestations import attestation_name
from ledger.canonical_json import Json
from ledger.documents import Field, FieldKind
from ledger.leaves import NONE, LeafType, leaf_type
from ledger.records import REASONS, Status, parse_record
from ledger.references import reference_digits, reference_text
from ledger.registry_leaf import RegistryLeaf
from ledger.seals import Seal
from ledger.submissions import SubmissionLeaf
from ledger.verdicts import BASES, Attested, Changed, Proven, Verdict
from tools.ui import printable, quoted


def moment(time_ms: int) -> str:
    """A time as ``2026-01-31 09:30:00 UTC``; one that no calendar has, as its milliseconds."""
    try:
        return datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, OSError, ValueError):
        return f"{time_ms} ms"


# --- leaves ------------------------------------------------------------------------------------


def leaf_json(leaf: bytes) -> dict[str, Json]:
    """A decoded leaf: its kind, then its fields; hashes in hex, u64s as decimal text. Raises FormatError."""
    kind = leaf_type(leaf)
    body: dict[str, Json]
    if kind is LeafType.REGISTRY:
        change = RegistryLeaf.decode(leaf)
        made = change.change()
        body = {
            "change": made.body.NAME,
            "subject": str(made.subject),
            "previous": _index(made.previous),
            **made.body.body(),
            "signatures": [_values(one) for one in change.signatures],
        }
    elif kind is LeafType.SUBMISSION:
        submission = SubmissionLeaf.decode(leaf)
        body = {
            **_values(submission, leave_out="signatures"),
            "claimed": moment(submission.claimed_ms),
            "signatures": [_values(one) for one in submission.signatures],
        }
    elif kind is LeafType.SEAL:
        seal = Seal.decode(leaf)
        body = {**_values(seal, leave_out="extras"), "time": moment(seal.time_ms)}
        body["extras"] = [{"kind": number, "root": root.hex()} for number, root in seal.extras]
    else:
        body = _values(parse_record(leaf))
        if "kind" in body:  # of an ATTEST or a SEND; the name is the leaf's
            body[_KIND_OF[kind]] = body.pop("kind")
    return {"kind": kind.name, **body}


def leaf_text(index: int, leaf: bytes) -> str:
    """The same, a line a field."""
    lines = [f"{index}  {leaf_json(leaf).pop('kind')}"]
    for name, value in leaf_json(leaf).items():
        if name != "kind":
            lines.append(f"  {name.replace('_', ' ')}: {printable(str(value))}")
    return "\n".join(lines)


_KIND_OF: Final = {LeafType.ATTEST: "attestation", LeafType.SEND: "sent"}
_U64: frozenset[str] = frozenset(
    ("subject", "previous", "replacement", "follows", "first", "last", "block", "documents")
)


def _values(value: object, leave_out: str = "") -> dict[str, Json]:
    found: dict[str, Json] = {}
    for one in fields(value):  # type: ignore[arg-type]  # every leaf and record is a dataclass
        if one.name == leave_out:
            continue
        item = getattr(value, one.name)
        if isinstance(item, bytes):
            found[one.name] = item.hex()
        elif isinstance(item, IntEnum):
            found[one.name] = item.name.lower()
        elif one.name in _U64:
            found[one.name] = _index(item)
        else:
            found[one.name] = item
    return found


def _index(index: int) -> str | None:
    return None if index == NONE else str(index)


# --- verdicts ----------------------------------------------------------------------------------


def verdict_json(verdict: Verdict) -> dict[str, Json]:
    """A verdict for scripts. Nothing of the document stands there unless every proof held."""
    proven = verdict.proven
    return {
        "verdict": verdict.code.value,
        "headline": verdict.headline,
        "reason": verdict.reason,
        "origin": verdict.origin,
        "training": verdict.training,
        "steps": [{"name": one.name, "passed": one.passed, "detail": one.detail} for one in verdict.steps],
        "proven": None if proven is None else _proven_json(proven),
    }


def verdict_text(verdict: Verdict) -> str:
    """A verdict for people: the headline, then who, what, when, and every step."""
    lines = [verdict.headline.upper()]
    if verdict.reason:
        lines.append(printable(verdict.reason[:1].upper() + verdict.reason[1:]))
    if verdict.proven is not None:
        lines += ["", *_proven_lines(verdict.proven)]
    if verdict.origin is not None:
        lines += ["", f"Ledger: {printable(verdict.origin)}"]
    lines += ["", "What was checked:"]
    for step in verdict.steps:
        lines.append(f"  {_MARKS[step.passed]} {step.name}: {printable(step.detail)}")
    return "\n".join(lines)


_MARKS: Final = {True: "ok    ", False: "FAILED", None: "not   "}


def _proven_json(proven: Proven) -> dict[str, Json]:
    return {
        "agency": proven.agency,
        "agency_names": dict(proven.agency_names),
        "type": proven.document_type,
        "type_labels": dict(proven.type_labels),
        "fields": [
            _field_json(one, proven.field_labels.get(one.name, {}), proven.unchecked_files)
            for one in proven.fields
        ],
        "hidden_fields": proven.hidden_fields,
        "unchecked_files": list(proven.unchecked_files),
        "basis": proven.basis.name.lower(),
        "status": proven.status.name.lower(),
        "index": str(proven.index),
        "reference": reference_digits(proven.index),
        "issued_ms": proven.issued_ms,
        "as_of_ms": proven.as_of_ms,
        "size": str(proven.size),
        "witnessed_s": proven.witnessed_s,
        "expires": proven.expires,
        "changed": None if proven.changed is None else _changed_json(proven.changed),
        "attestations": [_attested_json(one) for one in proven.attestations],
    }


def _changed_json(changed: Changed) -> dict[str, Json]:
    return {
        "index": str(changed.index),
        "agency": changed.agency,
        "agency_names": dict(changed.agency_names),
        "changed_ms": changed.changed_ms,
        "reason": changed.reason,
        "replacement": None if changed.replacement is None else str(changed.replacement),
        "doubtful": changed.doubtful,
    }


def _attested_json(link: Attested) -> dict[str, Json]:
    return {
        "index": str(link.index),
        "subject": str(link.subject),
        "kind": attestation_name(link.kind),
        "agency": link.agency,
        "agency_names": dict(link.agency_names),
        "attested_ms": link.attested_ms,
        "status": link.status.name.lower(),
        "doubtful": link.doubtful,
        "stands": link.stands,
        "broken_by": None if link.broken_by is None else str(link.broken_by),
        "copy": [_field_json(one, {}, link.unchecked_files) for one in link.copy],
    }


def _field_json(one: Field, labels: Mapping[str, str], unchecked: Sequence[str]) -> dict[str, Json]:
    value: dict[str, Json] = (
        {"value": one.value.decode("utf-8")}
        if one.kind is FieldKind.TEXT
        else {"sha256": one.value.hex(), "checked": one.name not in unchecked}
    )
    return {"name": one.name, "labels": dict(labels), **value}


def _proven_lines(proven: Proven) -> list[str]:
    lines = [f"Issued by:  {_names(proven.agency_names)} (agency {proven.agency})"]
    kind = _names(proven.type_labels) if proven.type_labels else "of no declared type"
    number = f" (type {proven.document_type})" if proven.document_type else ""
    lines.append(f"Document:   {kind}{number}, {BASES[proven.basis]}")
    if proven.issued_ms is not None:
        lines.append(f"Issued:     {moment(proven.issued_ms)}")
    if proven.expires is not None:
        lines.append(f"Valid:      through {proven.expires}")
    lines.append(f"Status:     {proven.status.name.lower()}, as of {moment(proven.as_of_ms)}")
    if proven.changed is not None:
        lines += _changed_lines(proven.changed)
    lines.append(f"Reference:  {reference_text(proven.index)} (index {proven.index})")
    # What the issuer wrote stands between quotation marks, and apart from what was checked here: no
    # text can pass itself off as a file that was compared.
    texts = [one for one in proven.fields[1:] if one.kind is FieldKind.TEXT]
    if texts or proven.hidden_fields:
        lines += ["", "Compare these with the paper:"]
    for one in texts:
        lines.append(f"  {_field_name(one, proven)}: {quoted(one.value.decode('utf-8'))}")
    if proven.hidden_fields:
        lines.append(f"  ({proven.hidden_fields} more, which the holder does not show)")
    files = [one for one in proven.fields[1:] if one.kind is FieldKind.FILE]
    if files:
        lines += ["", "Files that were issued:"]
    for one in files:
        unchecked = one.name in proven.unchecked_files
        said = "NOT CHECKED, give the file to have it compared" if unchecked else "given, the very same"
        lines.append(f"  {_field_name(one, proven)}: {said}")
    if proven.attestations:
        lines += ["", "Attestations, in order:"]
    for link in proven.attestations:
        lines += _link_lines(link, proven)
    return lines


def _changed_lines(changed: Changed) -> list[str]:
    by = _names(changed.agency_names) + f" (agency {changed.agency})" if changed.agency else "the authority"
    lines = [f"            since {moment(changed.changed_ms)}, by {by}, index {changed.index}"]
    lines.append(f"            reason: {REASONS.get(changed.reason, f'number {changed.reason}')}")
    if changed.doubtful:
        lines.append("            DOUBTFUL: a key that signed this is reported stolen; ask the issuer")
    if changed.replacement is not None:
        lines.append(f"            in its place: the document at index {changed.replacement}")
    return lines


def _link_lines(link: Attested, proven: Proven) -> list[str]:
    """A link of the chain: who, what, when, and whether it stands."""
    on = "the document" if link.subject == proven.index else f"the attestation at index {link.subject}"
    if link.stands:
        said = "stands"
    elif link.status is not Status.VALID:
        said = f"{link.status.name}, DOES NOT STAND"
    elif link.doubtful:
        said = "DOUBTFUL, signed with a key that was reported stolen"
    else:
        said = f"BROKEN, for leaf {link.broken_by} below it does not stand"
    by = f"{_names(link.agency_names)} (agency {link.agency}), {moment(link.attested_ms)}"
    lines = [f"  {attestation_name(link.kind)} of {on}: {said}", f"    by {by}, index {link.index}"]
    for one in link.copy[1:]:
        if one.kind is FieldKind.TEXT:
            lines.append(f"    {quoted(one.name)}: {quoted(one.value.decode('utf-8'))}")
        else:
            unchecked = one.name in link.unchecked_files
            lines.append(
                f"    file {quoted(one.name)}: {'NOT CHECKED' if unchecked else 'given, the very same'}"
            )
    return lines


def _field_name(one: Field, proven: Proven) -> str:
    labels = proven.field_labels.get(one.name, {})
    return _names(labels) if labels else quoted(one.name)


def _names(labels: Mapping[str, str]) -> str:
    return " / ".join(printable(label) for label in labels.values())
