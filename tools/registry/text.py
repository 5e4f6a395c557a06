"""Registry records for people and for scripts."""

from __future__ import annotations

from collections.abc import Sequence

from ledger.canonical_json import Json
from ledger.changes import AUTHORITY
from ledger.registry_leaf import RegistryLeaf
from ledger.registry_records import AgencyRecord, KeyRecord, LedgerRecord, TypeRecord
from tools.describe import leaf_json, moment
from tools.registry.change_text import (
    agency_words,
    all_names,
    describe,
    field_words,
    fingerprint,
    kind_words,
    one_name,
    policy_lines,
    vkey_words,
)
from tools.registry.policy_options import policy_words
from tools.registry.view import RegistryView
from tools.ui import printable, quoted

# --- agencies ----------------------------------------------------------------------------------


def agency_line(record: AgencyRecord, languages: Sequence[str]) -> str:
    """An agency in one line, with whatever is out of the ordinary."""
    states = []
    if record.suspended.latest is not None:
        states.append("SUSPENDED")
    if record.stolen_since is not None:
        states.append(f"KEY STOLEN since index {record.stolen_since}")
    if record.successor.latest is not None:
        states.append(f"succeeded by agency {record.successor.latest}")
    roles = ", ".join(record.roles.latest) or "no role"
    said = "".join(f"  {one}" for one in states)
    return f"agency {record.number}  {one_name(record.names.latest, languages)}  ({roles}){said}"


def agency_lines(
    record: AgencyRecord, keys: Sequence[KeyRecord], view: RegistryView, languages: Sequence[str]
) -> list[str]:
    """An agency with its keys, as it is now."""
    types = []
    for number in record.types.latest:
        label = f" ({one_name(view.type(number).labels, languages)})" if number else " (undeclared)"
        types.append(f"{number}{label}")
    lines = [
        agency_line(record, languages),
        f"  names: {all_names(record.names.latest)}",
        f"  under: {agency_words(record.parent.latest, view, languages)}",
        f"  types: {', '.join(types) or 'none'}",
        *(f"  signing: {one}" for one in policy_words(record.policy.latest)),
    ]
    suspended = record.suspended
    if suspended.latest is not None:
        by = agency_words(suspended.latest, view, languages)
        lines.append(f"  SUSPENDED by {by}, since index {suspended.entries[-1][0]}")
    if record.successor.latest is not None:
        lines.append(f"  successor: {agency_words(record.successor.latest, view, languages)}")
    lines += [f"  affirmed: {one.first} to {one.last}, at index {one.at}" for one in record.affirmed]
    lines.append(f"  enrolled at index {record.enrolled}, last changed at {record.changed}")
    return [*lines, *(f"  {key_line(one)}" for one in keys)]


def agency_json(record: AgencyRecord, keys: Sequence[KeyRecord] | None = None) -> dict[str, Json]:
    """An agency for scripts; with its keys, when they are at hand."""
    return {
        "agency": record.number,
        "names": dict(record.names.latest),
        "parent": record.parent.latest,
        "roles": list(record.roles.latest),
        "types": list(record.types.latest),
        "policy": record.policy.latest.to_json(),
        "suspended_by": record.suspended.latest,
        "successor": record.successor.latest,
        "stolen_since": _index(record.stolen_since),
        "enrolled": str(record.enrolled),
        "changed": str(record.changed),
        "key_count": record.key_count,
        **({} if keys is None else {"keys": [key_json(one) for one in keys]}),
    }


# --- keys --------------------------------------------------------------------------------------


def key_state(one: KeyRecord) -> str:
    """``in use``, or since when it is not."""
    states = []
    if one.stolen is not None:
        states.append(f"STOLEN since index {one.stolen.since} (declared at {one.stolen.declared})")
    if one.ended is not None:
        states.append(f"ended at index {one.ended}")
    return ", ".join(states) or "in use"


def key_line(one: KeyRecord) -> str:
    """A key in one line."""
    name = fingerprint(one.algorithm, one.public_key)[:16]
    kind = kind_words(one.algorithm).removesuffix(",")
    return f"key {one.number}  {one.use}{kind}  {quoted(one.label)}  {name}…  {key_state(one)}"


def key_json(one: KeyRecord) -> dict[str, Json]:
    """A key for scripts."""
    return {
        "number": one.number,
        "use": one.use,
        "algorithm": one.algorithm,
        "label": one.label,
        "fingerprint": fingerprint(one.algorithm, one.public_key),
        "added": str(one.added),
        "ended": _index(one.ended),
        "stolen_since": None if one.stolen is None else str(one.stolen.since),
    }


# --- types and the ledger ----------------------------------------------------------------------


def type_lines(record: TypeRecord) -> list[str]:
    """A document type with its fields, in their order."""
    return [
        f"type {record.number}  {all_names(record.labels)}",
        f"  defined at index {record.defined}",
        *(f"  field {field_words(one)}" for one in record.fields),
    ]


def type_json(record: TypeRecord) -> dict[str, Json]:
    """A document type for scripts."""
    return {
        "type": record.number,
        "labels": dict(record.labels),
        "defined": str(record.defined),
        "fields": [one.to_json() for one in record.fields],
    }


def ledger_lines(record: LedgerRecord) -> list[str]:
    """The ledger itself: who decides, what signs for the log, and how many there are."""
    lines = [
        f"ledger {printable(record.origin)}{', for training' if record.training else ''}",
        f"  {record.agencies} agencies, {record.types} document types",
        f"  rules {record.rules.latest}, last changed at index {record.changed}",
        f"  deciding: {record.k} of {sum(one.ended is None for one in record.authority_keys)} authority keys",
    ]
    for one in record.authority_keys:
        state = "in use" if one.ended is None else f"ended at index {one.ended}"
        lines.append(
            f"  authority key {one.number}{kind_words(one.algorithm).removesuffix(',')}"
            f"  {fingerprint(one.algorithm, one.public_key)[:16]}…  {state}"
        )
    for key in record.log_keys:
        state = "in use" if key.last_size is None else f"signs up to size {key.last_size}"
        lines.append(f"  log key {vkey_words(key.vkey)}  {state}")
    policy = record.witness_policy.latest
    lines += [f"  witnesses: {one}" for one in policy_lines(policy)]
    closed = record.closed
    if closed is not None:
        next_one = f"{printable(closed.origin)} ({closed.genesis.hex()})"
        lines.append(f"  closed at index {closed.since}; followed by {next_one}")
        lines += [] if record.end is None else [f"  ends with {record.end} entries"]
    return lines


def ledger_json(record: LedgerRecord) -> dict[str, Json]:
    """The ledger for scripts."""
    return {
        "origin": record.origin,
        "training": record.training,
        "agencies": record.agencies,
        "types": record.types,
        "changed": str(record.changed),
        "rules": record.rules.latest,
        "threshold": record.k,
        "authority_keys": [
            {
                "number": one.number,
                "algorithm": one.algorithm,
                "fingerprint": fingerprint(one.algorithm, one.public_key),
                "ended": _index(one.ended),
            }
            for one in record.authority_keys
        ],
        "log_keys": [{"vkey": one.vkey, "last_size": _index(one.last_size)} for one in record.log_keys],
        "witness_policy": record.witness_policy.latest,
        "closed": None if record.closed is None else record.closed.to_json(),
        "end": _index(record.end),
    }


# --- changes -----------------------------------------------------------------------------------


def change_lines(index: int, time_ms: int, leaf: RegistryLeaf) -> list[str]:
    """One change of a history: when and where, by whom, and what."""
    by = leaf.signatures[0].agency
    keys = ", ".join(str(one.number) for one in leaf.signatures)
    who = "the authority's" if by == AUTHORITY else f"agency {by}'s"
    plural = "s" if len(leaf.signatures) > 1 else ""
    first, *more = describe(leaf.change())
    return [f"{moment(time_ms)}  index {index}, by {who} key{plural} {keys}", f"  {first}", *_indented(more)]


def change_json(index: int, time_ms: int, leaf: RegistryLeaf) -> dict[str, Json]:
    """One change of a history for scripts."""
    return {"index": str(index), "time": moment(time_ms), **leaf_json(leaf.encode())}


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {one}" for one in lines]


def _index(index: int | None) -> str | None:
    return None if index is None else str(index)
