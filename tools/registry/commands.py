"""``sudur registry``: who may issue what, as a node says, or as a checkpoint proves.

With a trust file every record is proven: its path leads to the registry root of the seal that the
checkpoint ends in, and the checkpoint is signed by the log, and cosigned as the trust file asks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from ledger.changes import Subject
from ledger.errors import FormatError, UnknownAgency
from ledger.leaves import LeafType, leaf_type
from ledger.proven_registry import ProvenRegistry
from ledger.registry_leaf import RegistryLeaf
from ledger.resources import CHECKPOINT
from ledger.seals import Seal
from ledger.trust import TrustedLedger
from tools.client import LedgerClient
from tools.describe import moment
from tools.errors import Usage
from tools.options import Json_, MaybeNode, connect, node_resources, static_resources
from tools.pinning import check_node, load_trust, only_ledger
from tools.registry.change_text import one_name
from tools.registry.changing import chain, changes_of
from tools.registry.text import (
    agency_json,
    agency_line,
    agency_lines,
    change_json,
    change_lines,
    ledger_json,
    ledger_lines,
    type_json,
    type_lines,
)
from tools.registry.view import NodeRegistry, RegistryView
from tools.ui import emit_json, remark, say

app = typer.Typer(no_args_is_help=True, help="Look at the registry: agencies, keys, document types, changes.")

_GREATEST_AGE_S: Final = 86_400
_LOCALE: Final = ("LC_ALL", "LC_MESSAGES", "LANG")
_Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="Read static resources, like http://localhost:7080."),
]
_Trust = Annotated[
    Path | None,
    typer.Option(
        "--trust",
        metavar="TRUST.json",
        exists=True,
        dir_okay=False,
        help="Prove all against this trust file.",
    ),
]
_Language = Annotated[
    str | None,
    typer.Option(metavar="LANG", help="Names in this language, like ckb. Default: the terminal's, then en."),
]
_Subject = Annotated[str, typer.Argument(metavar="SUBJECT", help="ledger, or agency/7, or type/3.")]


@dataclass(frozen=True, slots=True)
class Source:
    """The registry at hand, and its leaves: proven, or as the node says."""

    view: RegistryView
    client: LedgerClient | None
    proven: ProvenRegistry | None

    def changes(self, subject: Subject) -> Iterator[tuple[int, RegistryLeaf]]:
        """The changes of a subject, the newest first."""
        if self.proven is None:
            assert self.client is not None
            yield from changes_of(self.client, subject)
            return
        log = self.proven.log
        yield from chain(_changed(self.proven, subject), lambda index: log.leaf(index).leaf)

    def time_ms(self, index: int) -> int:
        """The time of the block that the leaf at ``index`` is in: its seal's. Reads to that seal."""
        for leaf in self._leaves(index):
            if leaf_type(leaf) is LeafType.SEAL:
                return Seal.decode(leaf).time_ms
        raise FormatError("no seal follows", where=f"index {index}")

    def _leaves(self, start: int) -> Iterator[bytes]:
        if self.proven is None:
            assert self.client is not None
            return self.client.entries(start)
        log = self.proven.log
        return (log.leaf(index).leaf for index in range(start, log.size))


def _changed(registry: ProvenRegistry, subject: Subject) -> int:
    if subject.kind == "ledger":
        return registry.ledger.changed
    if subject.kind == "agency":
        return registry.agency(subject.number).changed
    return registry.type(subject.number).defined


# --- commands ----------------------------------------------------------------------------------


@app.command("list")
def list_(
    node: MaybeNode = None,
    url: _Url = None,
    trust: _Trust = None,
    types: Annotated[bool, typer.Option("--types", help="Document types in place of agencies.")] = False,
    language: _Language = None,
    as_json: Json_ = False,
) -> None:
    """List the agencies, a line each; or the document types.

    Example: sudur registry list --url http://localhost:7080 --trust trust.json
    """
    languages = _languages(language)
    with ExitStack() as stack:
        view = _source(stack, node, url, trust).view
        ledger = view.ledger
        if types:
            records = [view.type(number) for number in range(1, ledger.types + 1)]
            if as_json:
                emit_json([type_json(one) for one in records])
                return
            for one in records:
                say(f"type {one.number}  {one_name(one.labels, languages)}  {len(one.fields)} fields")
            return
        agencies = [view.agency(number) for number in range(1, ledger.agencies + 1)]
        if as_json:
            emit_json([agency_json(one) for one in agencies])
            return
        for record in agencies:
            say(agency_line(record, languages))


@app.command()
def show(
    subject: _Subject,
    node: MaybeNode = None,
    url: _Url = None,
    trust: _Trust = None,
    language: _Language = None,
    as_json: Json_ = False,
) -> None:
    """Show one agency with its keys, one document type with its fields, or the ledger itself.

    Example: sudur registry show agency/7 --url http://localhost:7080 --trust trust.json
    """
    wanted = _parsed(subject)
    with ExitStack() as stack:
        view = _source(stack, node, url, trust).view
        if wanted.kind == "ledger":
            value, lines = ledger_json(view.ledger), ledger_lines(view.ledger)
        elif wanted.kind == "type":
            record = view.type(wanted.number)
            value, lines = type_json(record), type_lines(record)
        else:
            agency, keys = view.agency(wanted.number), view.keys(wanted.number)
            value, lines = agency_json(agency, keys), agency_lines(agency, keys, view, _languages(language))
    if as_json:
        emit_json(value)
        return
    for line in lines:
        say(line)


@app.command()
def tree(
    node: MaybeNode = None,
    url: _Url = None,
    trust: _Trust = None,
    language: _Language = None,
    as_json: Json_ = False,
) -> None:
    """Show who stands under whom.

    Example: sudur registry tree --node localhost:7070
    """
    with ExitStack() as stack:
        view = _source(stack, node, url, trust).view
        agencies = {number: view.agency(number) for number in range(1, view.ledger.agencies + 1)}
    below: dict[int, list[int]] = {}
    for number, record in agencies.items():
        below.setdefault(record.parent.latest, []).append(number)
    if as_json:
        emit_json([{"agency": n, "parent": one.parent.latest} for n, one in agencies.items()])
        return
    for depth, number in _walk(below):
        say("  " * depth + agency_line(agencies[number], _languages(language)))


@app.command()
def history(
    subject: _Subject,
    node: MaybeNode = None,
    url: _Url = None,
    trust: _Trust = None,
    as_json: Json_ = False,
) -> None:
    """Tell every change of an agency, a document type or the ledger: when, what, and whose keys signed it.

    Example: sudur registry history agency/7 --url http://localhost:7080 --trust trust.json
    """
    wanted = _parsed(subject)
    with ExitStack() as stack:
        source = _source(stack, node, url, trust)
        found = [(index, source.time_ms(index), leaf) for index, leaf in source.changes(wanted)]
    if not found:
        raise UnknownAgency(f"{wanted} is not in the registry")
    found.reverse()
    if as_json:
        emit_json([change_json(index, time_ms, leaf) for index, time_ms, leaf in found])
        return
    for index, time_ms, leaf in found:
        for line in change_lines(index, time_ms, leaf):
            say(line)


def _walk(below: dict[int, list[int]]) -> Iterator[tuple[int, int]]:
    """(depth, agency) from the authority down; a node that lies about parents cannot make it endless."""
    waiting = [(0, number) for number in reversed(below.get(0, []))]
    while waiting:
        depth, number = waiting.pop()
        yield depth, number
        waiting += [(depth + 1, one) for one in reversed(below.get(number, []))]


# --- where it is read from ---------------------------------------------------------------------


def _source(stack: ExitStack, node: str | None, url: str | None, trust: Path | None) -> Source:
    """Raises Usage, CheckpointUntrusted, PolicyUnmet, WrongLedger, ProofInvalid, Unavailable."""
    if (node is None) == (url is None):
        raise Usage("name one source: --node or --url")
    if trust is None:
        if node is None:
            raise Usage("what a URL serves is only as good as its proofs", where="--url", fix="give --trust")
        client = stack.enter_context(connect(node, 5.0))
        remark("Not proven: the node's word alone. Give --trust to have every record proven")
        return Source(NodeRegistry(client), client, None)
    ledger = only_ledger(load_trust(trust))
    if node is not None:
        client = stack.enter_context(connect(node, 5.0))
        resources = stack.enter_context(node_resources(client, check_node(client, ledger)))
    else:
        assert url is not None
        resources = stack.enter_context(static_resources(url))
    proven = ProvenRegistry(resources, ledger, resources.fetch(CHECKPOINT))
    witnessed = _check_witnesses(proven, ledger)
    remark(f"Proven as of {moment(proven.log.seal.time_ms)}, size {proven.log.size}{witnessed}")
    return Source(proven, None, proven)


def _check_witnesses(proven: ProvenRegistry, ledger: TrustedLedger) -> str:
    """Raises PolicyUnmet unless the checkpoint is cosigned as the trust file asks."""
    now_s = int(time.time())
    since = ledger.witnessed(proven.log.signed, now_s=now_s, greatest_age_s=_GREATEST_AGE_S)
    return "" if since is None else f", witnessed {now_s - since} s ago"


def _parsed(subject: str) -> Subject:
    try:
        return Subject.parse(subject)
    except FormatError as error:
        raise Usage(error.what, where="SUBJECT") from None


def _languages(wanted: str | None) -> Sequence[str]:
    """The wanted language, or the terminal's."""
    if wanted is not None:
        return (wanted,)
    said = next((os.environ[one] for one in _LOCALE if os.environ.get(one)), "")
    return (said.replace(".", "_").partition("_")[0],)
