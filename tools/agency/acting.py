"""What every command that logs records other than documents does: through the outbox, once, and told of.

``act`` saves the records as a work, checks that enough keys sign, and sends; with ``prepare`` it writes a
submission file for the next officer instead. What an earlier run left open is finished first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ledger.canonical_json import Json
from tools.agency.issuing import WORK, Issuer, Outcome
from tools.agency.outbox import Submitted, Work, record_kind
from tools.agency.session import Session
from tools.agency.submission_files import export
from tools.ui import remark

Prepare = Annotated[
    Path | None,
    typer.Option(
        "--prepare",
        metavar="FILE",
        dir_okay=False,
        help="Send nothing: write a submission file for the next officer to sign.",
    ),
]


@dataclass(frozen=True, slots=True)
class Acted:
    """What became of a work: its submissions that are in the log, or None while others have to sign."""

    work: Work
    placed: tuple[Submitted, ...] | None

    def indexes(self) -> list[int]:
        """The index of each record, in the order in which they were given."""
        return [
            one.first + position
            for one in self.placed or ()
            if one.first is not None
            for position in range(one.count)
        ]


def finish_earlier(session: Session) -> Outcome:
    """Finish whatever earlier commands left open; what became of documents.

    Raises Unavailable, and the node's refusal of a work other than documents, which is then closed.
    """
    open_works = session.outbox.open_works()
    if open_works:
        remark("Finishing earlier work first")
    outcome = Outcome()
    if any(one.kind == WORK for one in open_works):
        outcome = Issuer(
            session.outbox, session.client, session.resources, session.here.receipts, session.publication
        ).finish_pending()
    for work in open_works:
        if work.kind != WORK:
            complete(session, work)
    return outcome


def act(
    session: Session,
    kind: str,
    records: Sequence[bytes],
    note: dict[str, Json],
    prepare: Path | None,
    identity: bytes | None = None,
) -> Acted:
    """Log these records of the agency, or prepare them for the next officer.

    ``identity``: the mark by which the same command finds the work again.

    Raises TooFewSignatures before anything is saved, Unavailable (run the command again), and the node's
    refusal; a submission of 256 records stands or falls as one.
    """
    if prepare is None:
        session.outbox.check_keys(dict(Counter(map(record_kind, records))))
    work = session.outbox.put(kind, records, note, waiting=prepare is not None, identity=identity)
    if prepare is not None:
        export(session.outbox, work, prepare)
        remark(f"{len(records)} records wait for other officers: hand {prepare} to the next of them")
        return Acted(work, None)
    return complete(session, work)


def complete(session: Session, work: Work) -> Acted:
    """Send what is prepared of a work; close it when all of it is settled. Raises as :func:`act`."""
    settled = session.outbox.finish(work)
    waiting = any(one.first is None and one.error is None for one in session.outbox.submissions(work))
    if waiting:
        return Acted(work, None)
    session.outbox.close(work)
    if settled.refused:
        raise settled.refused[0].error
    return Acted(work, tuple(one for one in session.outbox.submissions(work) if one.first is not None))
