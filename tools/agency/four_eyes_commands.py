"""``sudur agency sign`` and ``send``: a submission that several officers sign, each at their own machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ledger.canonical_json import Json
from ledger.envelope_bodies import Letter
from ledger.leaves import LeafType, leaf_type
from ledger.registry_records import AgencyRecord
from tools.agency.directory import AgencyDirectory
from tools.agency.issuing import WORK, Issuer
from tools.agency.session import (
    AgencyNumber,
    Directory,
    FirstTrust,
    OnFirstUse,
    ResourcesUrl,
    Signers,
    agency_session,
    key_files,
    known_membership,
    labels,
    open_keys,
    pinned,
)
from tools.agency.submission_files import (
    SubmissionFile,
    add_signatures,
    check_place,
    load,
    save,
    take_back,
)
from tools.describe import leaf_json
from tools.errors import NotWitnessed, SubmissionFileProblem, Usage
from tools.files import locked
from tools.letters.text import OUTCOMES, field_text
from tools.options import NODES, Json_, Node, PassphraseFile, connect
from tools.register.store import system_ms
from tools.ui import Passphrase, emit_json, printable, quoted, remark, say

_File = Annotated[
    Path,
    typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="A .submission.json file."),
]


def sign(
    file: _File,
    directory: Directory,
    signer: Signers = None,
    show: Annotated[
        int, typer.Option("--show", metavar="N", min=0, help="How many documents are shown in full.")
    ] = 3,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before signing.")] = False,
    node: Annotated[
        str | None,
        typer.Option(metavar=NODES, help="A node, for a first use or when a key is new; else no network."),
    ] = None,
    agency: AgencyNumber = None,
    trust: FirstTrust = None,
    trust_on_first_use: OnFirstUse = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Show what another officer prepared, and sign it with this directory's key.

    Every commitment is computed again from the contents in FILE, so what is shown is what is signed.
    Nothing is sent: hand FILE on, or back to where it was prepared.

    Example: sudur agency sign letters.submission.json --dir desk-2
    """
    here = AgencyDirectory.open(directory)
    files = key_files(here, signer or ())
    with locked(here.path):
        if node is None:
            ledger, membership = here.pinned(), here.membership()
            if ledger is None or membership is None:
                raise Usage(
                    "this directory does not know its ledger and agency yet",
                    where="--dir",
                    fix="give --node and --trust, this once",
                )
        else:
            with connect(node) as client:
                ledger, _ = pinned(here, client, trust, trust_on_first_use)
                membership = known_membership(here, client, agency, files, anew=True)
        if not {one.public.fingerprint for one in files} <= membership.keys.keys():
            raise Usage(
                "the key is not known to be the agency's", where="--signer", fix="give --node, this once"
            )
        work = load(file)
        check_place(work, file, ledger.genesis, membership)
        if not as_json:
            _show(work, show)
        if not yes and not as_json and not _confirmed():
            raise Usage("nothing was signed", where=str(file))
        signed = add_signatures(work, open_keys(files, membership, Passphrase(passphrase_file)), system_ms())
        save(file, signed)
    if as_json:
        emit_json(_facts(signed))
    else:
        numbers = ", ".join(str(one) for one in signed.signers())
        say(f"Signed by {labels(files)}. It bears the signatures of keys {numbers} now.")


def send(
    file: _File,
    directory: Directory,
    node: Node,
    signer: Signers = None,
    url: ResourcesUrl = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Send what the officers have signed, from the directory where it was prepared.

    Like every command that submits it may be given again after any interruption.

    Example: sudur agency send letters.submission.json --dir registry --node 127.0.0.1:7070
    """
    with agency_session(
        directory, node, signer=signer or (), url=url, passphrase=Passphrase(passphrase_file)
    ) as session:
        work = load(file)
        check_place(work, file, session.ledger.genesis, session.membership)
        record = AgencyRecord.decode(session.client.record(f"agency/{session.agency}").record)
        needed = session.outbox.keys_needed(record.policy.latest, work.counts())
        there = work.signers()
        if len(there) < needed:
            raise SubmissionFileProblem(
                f"{needed} keys must sign it, {len(there)} did",
                where=str(file),
                fix="hand it to the next officer: sudur agency sign",
            )
        unwitnessed = 0
        kept = take_back(session.outbox, work, file)
        if kept.kind == WORK and "receipts" in kept.note:
            issuer = Issuer(
                session.outbox, session.client, session.resources, session.here.receipts, session.publication
            )
            outcome = issuer.complete(kept)
            refused = [one.error for one in outcome.refused]
            unwitnessed = len(outcome.unwitnessed)
        else:
            refused = [one.error for one in session.outbox.finish(kept).refused]
            if not refused:
                session.outbox.close(kept)
        placed = [one for one in session.outbox.submissions(kept) if one.first is not None]
    if as_json:
        emit_json(
            {
                "work": kept.number,
                "placed": sum(one.count for one in placed),
                "first_index": placed[0].first if placed else None,
            }
        )
    else:
        for one in placed:
            assert one.first is not None
            say(f"{one.count} records of kind {one.kind}, at {one.first} to {one.first + one.count - 1}")
    if refused:
        raise refused[0]
    if unwitnessed:
        raise NotWitnessed(
            f"{unwitnessed} of them are committed, and not yet witnessed: they have no receipts yet",
            fix="nothing is lost: sudur agency finish writes them",
        )


def _confirmed() -> bool:
    """Whether the person at the terminal wants to sign; without a person, the command itself says so."""
    return not sys.stdin.isatty() or typer.confirm("Sign this?", err=True)


def _facts(work: SubmissionFile) -> dict[str, Json]:
    return {
        "agency": work.agency,
        "kind": work.kind,
        "records": dict(work.counts()),
        "submissions": len(work.submissions),
        "signed_by": list(work.signers()),
    }


def _show(work: SubmissionFile, most: int) -> None:
    """What is about to be signed: counts, the first documents in full, other records decoded."""
    say(f"For agency {work.agency}, prepared as work {work.work} ({printable(work.kind)}):")
    for kind, count in sorted(work.counts().items()):
        say(f"  records of kind {kind}: {count}")
    types: dict[str, int] = {}
    for one in work.openings:
        types[one.fields[0].value.decode()] = types.get(one.fields[0].value.decode(), 0) + 1
    for name, count in sorted(types.items()):
        say(f"  documents of type {name}: {count}")
    for position, one in enumerate(work.openings[:most], 1):
        say(f"Document {position}:")
        for field in one.fields[1:]:
            say(f"  {field_text(field)}")
    if len(work.openings) > most:
        say(f"and {len(work.openings) - most} documents more, of which --show N shows N")
    for said in work.contents():
        if isinstance(said, Letter):
            say("A letter that says:")
            for field in said.document.fields[1:]:
                say(f"  {field_text(field)}")
            continue
        say(f"An answer: {OUTCOMES[said.outcome]}")
        if said.issued is not None:
            say(f"  with the document at index {said.issued.index}")
        if said.successor is not None:
            say(f"  passed on to agency {said.successor}")
        if said.note:
            say(f"  note: {quoted(said.note)}")
    others = [
        leaf for one in work.submissions for leaf in one.leaves() if leaf_type(leaf) is not LeafType.ISSUE
    ]
    for leaf in others[: max(most, 20)]:
        body = "  ".join(f"{name} {value}" for name, value in leaf_json(leaf).items())
        say(f"  {leaf_type(leaf).name}  {body}")
    if len(others) > max(most, 20):
        remark(f"and {len(others) - max(most, 20)} records more: --show N shows N")
    say(f"Signed so far by keys: {', '.join(str(one) for one in work.signers()) or 'none'}")
