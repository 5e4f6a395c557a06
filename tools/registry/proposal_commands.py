"""Reading, signing, merging and sending proposals: the same for the authority and for agencies."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ledger.changes import Change
from ledger.registry_leaf import RegistryLeaf
from tools.client import LedgerClient
from tools.errors import ProposalProblem, Usage
from tools.files import locked
from tools.options import NODES, Json_, Node, PassphraseFile, connect
from tools.registry.change_commands import Directory, ask, change_lines, proposal_json, state_lines
from tools.registry.change_text import describe
from tools.registry.changing import Made, following, keys_to_follow, send, stale
from tools.registry.proposals import Proposal, load_proposal, replace_proposal, save_new_proposal, whose
from tools.registry.seats import Seat, open_seat
from tools.registry.view import NodeRegistry, RegistryView
from tools.ui import Passphrase, emit_json, remark, say

_File = Annotated[
    Path,
    typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="The proposal, as it was handed over."),
]
_MaybeNode = Annotated[
    str | None,
    typer.Option("--node", metavar=NODES, help="A node to ask what the registry says now. Not needed."),
]


def show(file: _File, node: _MaybeNode = None, as_json: Json_ = False) -> None:
    """Say in plain words what a proposal changes, who signed it and what is missing.

    Example: sudur authority show suspend-7.proposal --node 127.0.0.1:7070
    """
    proposal = load_proposal(file)
    if as_json:
        emit_json(proposal_json(proposal))
        return
    _tell(proposal, node)
    for line in state_lines(proposal):
        say(line)


def sign(
    file: _File,
    directory: Directory,
    node: _MaybeNode = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before signing.")] = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Show what a proposal changes, and add the signatures of the keys in this directory.

    No network is needed. With a node at hand what is replaced is shown beside what replaces it, and a
    proposal that somebody else's change has overtaken is refused. The file is replaced by the signed one.

    Example: sudur authority sign suspend-7.proposal --dir key-2
    """
    seat = open_seat(directory)
    with locked(directory):
        proposal = load_proposal(file)
        seat.check(proposal)
        if not as_json:
            _tell(proposal, node)
        elif node is not None:
            _check_current(proposal.change(), node)
        if sys.stdin.isatty() and not yes:
            ask("Sign this?")
        signed = seat.sign(proposal, Passphrase(passphrase_file))
        if signed == proposal:
            raise _why_not(proposal, seat)
        replace_proposal(file, signed)
    if as_json:
        emit_json(proposal_json(signed))
        return
    for line in state_lines(signed):
        say(line)


def merge(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", exists=True, dir_okay=False, help="Copies that were signed apart."),
    ],
    as_json: Json_ = False,
) -> None:
    """Put the signatures of several copies of one proposal into the first of them.

    Example: sudur authority merge suspend-7.proposal from-basra.proposal
    """
    first, *others = files
    if not others:
        raise Usage("one file has nothing to be merged with", where="FILE")
    merged = load_proposal(first)
    for path in others:
        try:
            merged = merged.merged(load_proposal(path))
        except ProposalProblem as error:
            error.where = error.where or f"{first}, {path}"
            raise
    replace_proposal(first, merged)
    if as_json:
        emit_json(proposal_json(merged))
        return
    for line in state_lines(merged):
        say(line)


def send_(file: _File, node: Node, as_json: Json_ = False) -> None:
    """Send a proposal that enough keys have signed; else say how many are missing.

    Sent again it is recognised, and not made twice. An enrolment is followed by a second proposal, for the
    agency's keys, which is written beside the first.

    Example: sudur authority send suspend-7.proposal --node 127.0.0.1:7070
    """
    proposal = load_proposal(file)
    proposal.check_complete()
    with connect(node) as client:
        made = send(client, proposal)
        follow = _follow(client, proposal, made, file)
    if as_json:
        emit_json(
            {
                "subject": str(made.subject),
                "index": str(made.index),
                "then": None if follow is None else str(follow),
            }
        )
        return
    say(f"Made, at index {made.index}: {describe(proposal.change())[0]}")
    if follow is not None:
        say(f"Its keys are a change of their own, to be signed and sent likewise: {follow}")


def _follow(client: LedgerClient, proposal: Proposal, made: Made, file: Path) -> Path | None:
    """Write the proposal of the keys beside that of the enrolment, unless it, or they, are there."""
    added = keys_to_follow(client, proposal, made.subject.number) if proposal.then else None
    if added is None:
        return None
    path = file.with_name(f"{file.stem}-keys{file.suffix}")
    if not path.exists():
        save_new_proposal(path, added)
    elif load_proposal(path).json != added.json:
        raise ProposalProblem(
            "another proposal is there already", where=str(path), fix="move it away, and send again"
        )
    return path


def _tell(proposal: Proposal, node: str | None) -> None:
    made = proposal.change()
    if node is None:
        _lines(proposal, made, None)
        remark("No node was asked: what the registry says now is not shown")
        return
    with connect(node) as client:
        _lines(proposal, made, NodeRegistry(client))
        _refuse_stale(client, made)


def _lines(proposal: Proposal, made: Change, view: RegistryView | None) -> None:
    for line in change_lines(proposal, view):
        say(line)
    say(f"For {whose(proposal.by)} to sign, in the ledger {proposal.genesis.hex()}")


def _check_current(made: Change, node: str) -> None:
    with connect(node) as client:
        _refuse_stale(client, made)


def _refuse_stale(client: LedgerClient, made: Change) -> None:
    """Raises RegistryConflict when the subject was changed after the proposal was made."""
    newer = following(client, made)
    if newer is not None and not _is_same(newer[1], made):
        raise stale(made, newer)


def _is_same(leaf: RegistryLeaf, made: Change) -> bool:
    return leaf.json == made.to_json()


def _why_not(proposal: Proposal, seat: Seat) -> ProposalProblem | Usage:
    here = {file.public.key for file in seat.key_files}
    mine = [number for number, key in sorted(proposal.may_sign().items()) if key.public_key in here]
    signed = {one.number for one in proposal.signatures}
    done = [number for number in mine if number in signed]
    if not mine:
        return Usage(
            f"no key in {seat.path} may sign this proposal", where="--dir", fix="sign where such a key lies"
        )
    if done:
        return ProposalProblem(f"key {done[0]} has signed this proposal already", where=str(seat.path))
    return ProposalProblem("enough keys have signed this proposal already", fix="send it")


COMMANDS: tuple[tuple[str, Callable[..., Any]], ...] = (
    ("show", show),
    ("sign", sign),
    ("merge", merge),
    ("send", send_),
)
