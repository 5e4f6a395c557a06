"""``sudur trust``: show, check and renew what a verifier believes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ledger.canonical_json import Json
from ledger.errors import FormatError
from ledger.hashing import leaf_hash
from ledger.resources import Resources
from ledger.trust import Trust, TrustedLedger
from ledger.trust_renewal import MAX_RENEWAL, gather
from ledger.witness_policy import parse_policy
from tools.errors import EXIT_NOT_GENUINE, Usage
from tools.files import PUBLIC, read_file, write_file, write_new_file
from tools.options import Json_, MaybeNode, connect, node_resources, static_resources
from tools.pinning import load_trust, only_ledger
from tools.trust.renewing import CarriedSource, Outcome, ServedSource, Source, renew_all
from tools.trust.words import outcome_lines, trust_lines, warnings, why_weaker
from tools.ui import emit_json, remark, say

app = typer.Typer(
    help="What a verifier believes: which ledgers, by which keys and witnesses; renewed by the ledger.",
    no_args_is_help=True,
)
_MAX_POLICY = 16_384
_OLD_DAYS = 30

_File = Annotated[
    Path, typer.Argument(metavar="TRUST.json", exists=True, dir_okay=False, help="The trust file.")
]
_Bundles = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[BUNDLE]…", exists=True, dir_okay=False, help="Files made by `sudur trust bundle`."
    ),
]
_Urls = Annotated[
    list[str] | None,
    typer.Option(
        "--url", metavar="URL", help="Static resources of a node, mirror or cache. Repeatable: one a ledger."
    ),
]
_MaxAge = Annotated[
    int | None,
    typer.Option(metavar="SECONDS", min=0, help="The oldest checkpoint to renew by. Default: any, said."),
]


@app.command()
def show(trust: _File, as_json: Json_ = False) -> None:
    """Say what this file believes, since when and by which keys, in plain words.

    Example: sudur trust show trust.json
    """
    loaded = load_trust(trust)
    if as_json:
        emit_json([one.to_json() for one in loaded.ledgers])
        return
    for line in trust_lines(loaded, _now_ms()):
        say(line)


@app.command()
def check(
    trust: _File,
    bundles: _Bundles = None,
    url: _Urls = None,
    node: MaybeNode = None,
    max_age: _MaxAge = None,
    as_json: Json_ = False,
) -> None:
    """Say whether the file is in order; with a source, whether the ledger still says so. Writes nothing.

    Exit codes: 0 in order; 1 it should be renewed, or a warning is given; 2 cannot tell.

    Example: sudur trust check trust.json --url https://ledger.example.gov
    """
    loaded = load_trust(trust)
    found = warnings(loaded, _now_ms(), _OLD_DAYS)
    changes: list[str] = []
    if bundles or url or node:
        with _sources(bundles or [], url or [], node) as sources:
            outcome = renew_all(loaded, sources, now_ms=_now_ms(), greatest_age_s=max_age)
        if [_lasting(one) for one in outcome.trust.ledgers] != [_lasting(one) for one in loaded.ledgers]:
            changes = outcome_lines(outcome)
        found = warnings(outcome.trust, _now_ms(), _OLD_DAYS)
    if as_json:
        emit_json({"warnings": list(found), "changes": list(changes)})
    else:
        for line in (*found, *(["Renewing it would change:", *changes] if changes else [])):
            say(line)
        if not found and not changes:
            say("In order")
    if found or changes:
        raise typer.Exit(EXIT_NOT_GENUINE)


@app.command()
def renew(
    trust: _File,
    bundles: _Bundles = None,
    url: _Urls = None,
    node: MaybeNode = None,
    max_age: _MaxAge = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask when less is asked for, or more is believed.")
    ] = False,
    as_json: Json_ = False,
) -> None:
    """Renew a trust file by the ledger's own changes, each signed by k of its n authority keys.

    Nobody who serves them need be believed. What was believed stays good for what was signed then, so old
    receipts keep verifying; the file as it was is kept beside, as TRUST.json.before. A ledger that was
    closed hands on trust to the one that follows it: give a URL of each.

    Exit codes: 0 renewed (or nothing was new); 1 refused; 2 cannot tell.

    Example: sudur trust renew trust.json --url https://ledger.example.gov
    """
    if not (bundles or url or node):
        raise Usage("say what to renew it by: --url, --node or a bundle", where="TRUST.json")
    loaded = load_trust(trust)
    with _sources(bundles or [], url or [], node) as sources:
        outcome = renew_all(loaded, sources, now_ms=_now_ms(), greatest_age_s=max_age)
    lines, why = outcome_lines(outcome), why_weaker(outcome)
    for line in () if as_json else lines:
        say(line)
    if why and not yes:
        _ask(why)
    _put(trust, loaded, outcome)
    if as_json:
        emit_json({"changes": list(lines), "weaker": list(why), "ledgers": [*_json(outcome)]})


@app.command()
def bundle(
    trust: _File,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file to write, to be carried.")],
    url: Annotated[str | None, typer.Option(metavar="URL", help="Static resources.")] = None,
    node: MaybeNode = None,
) -> None:
    """Put all that renews this trust file into one file, for a computer without a network.

    Make it for a copy of the very file that is to be renewed: it proves that what that file has seen is
    continued. Nothing in it is secret, and it proves itself.

    Example: sudur trust bundle trust.json --url https://ledger.example.gov --out trust.renewal
    """
    if (url is None) == (node is None):
        raise Usage("name one source: --url or --node")
    loaded = load_trust(trust)
    with _resources(url, node) as (name, resources):
        source = ServedSource(name, resources)
        ledger = only_ledger(loaded, leaf_hash(source.genesis_leaf))
        made = gather(resources, ledger)
    write_new_file(out, made.encode() + b"\n", PUBLIC)
    say(f"{out}: renews {ledger.origin} to {made.seal.index + 1} entries")


@app.command(name="own-policy")
def own_policy(
    trust: _File,
    policy: Annotated[
        Path | None,
        typer.Argument(metavar="[POLICY]", exists=True, dir_okay=False, help="A C2SP witness policy, text."),
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="Ask for nobody beside the authority's.")] = False,
) -> None:
    """Ask for witnesses of your own choice, of every checkpoint, beside those that the authority names.

    No renewal changes it, and it goes over to the ledger that follows a closed one.

    Example: sudur trust own-policy trust.json our-witnesses.txt
    """
    if (policy is None) is not none:
        raise Usage("give a policy file, or --none", where="POLICY")
    text = "" if policy is None else _policy_text(policy)
    loaded = load_trust(trust)
    ledgers = tuple(replace(one, own_policy=text) for one in loaded.ledgers)
    _write(trust, loaded, Trust(ledgers))


# --- helpers -----------------------------------------------------------------------------------


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _lasting(one: TrustedLedger) -> TrustedLedger:
    """Without what every renewal moves on."""
    return replace(one, head=None)


@contextmanager
def _sources(bundles: Sequence[Path], urls: Sequence[str], node: str | None) -> Iterator[list[Source]]:
    with ExitStack() as stack:
        sources: list[Source] = [CarriedSource(str(one), read_file(one, MAX_RENEWAL + 1)) for one in bundles]
        for one, at in [*((url, None) for url in urls), *([(None, node)] if node else [])]:
            sources.append(ServedSource(*stack.enter_context(_resources(one, at))))
        yield sources


@contextmanager
def _resources(url: str | None, node: str | None) -> Iterator[tuple[str, Resources]]:
    """(what to call it, the resources)."""
    if url is not None:
        with static_resources(url) as resources:
            yield url, resources
    elif node is not None:
        with connect(node, 5.0) as client, node_resources(client, client.ledger().resources_url) as opened:
            yield node, opened


def _ask(why: Sequence[str]) -> None:
    """Raises Usage where nobody can be asked, Abort for a no."""
    for line in why:
        remark(f"Note: {line}")
    if not sys.stdin.isatty():
        raise Usage("what is asked for gets weaker, or more is believed", fix="look at it, and give --yes")
    typer.confirm("Renew it so?", abort=True, err=True)


def _put(path: Path, before: Trust, outcome: Outcome) -> None:
    if outcome.trust != before:
        _write(path, before, outcome.trust)


def _write(path: Path, before: Trust, after: Trust) -> None:
    """The old beside it first, then the new in its place, each at once and durably. Raises FileProblem."""
    write_file(path.with_name(path.name + ".before"), before.encode() + b"\n", PUBLIC)
    write_file(path, after.encode() + b"\n", PUBLIC)


def _json(outcome: Outcome) -> Iterator[Json]:
    for one in (*outcome.renewed, *outcome.added):
        yield {
            "origin": one.ledger.origin,
            "genesis": one.ledger.genesis.hex(),
            "size": str(one.signed.checkpoint.size),
            "time_ms": str(one.time_ms),
            "witnessed_s": one.witnessed_s,
        }


def _policy_text(path: Path) -> str:
    data = read_file(path, _MAX_POLICY)
    try:
        parse_policy(data)
    except FormatError as error:
        raise FormatError(error.what, where=f"{path}: {error.where}", fix=error.fix) from None
    return data.decode("utf-8")
