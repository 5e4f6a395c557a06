"""Answering: from what an office decides to the ANSWER in the log, step by step, and finished once.

What was decided is in the register before anything leaves. Then the document is issued, or the letter
passed on, if it comes to that; only then the reply can be sealed, since it names the document's index.
Each step leaves its mark in the register, and :meth:`Answering.carry_on` goes on from there, whoever runs
it next: the document is issued under an id that is the request's own, so once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ledger.canonical_json import Json, Reader, base64_text, encode, parse, parse_base64
from ledger.changes import MAX_AGENCY
from ledger.documents import Document, Field
from ledger.envelope_bodies import Issued, Letter, Reply, ReplyOutcome, reply_plaintext
from ledger.errors import AlreadyAnswered, FormatError, StatusFinal, SubjectInvalid, SudurError, UnknownAgency
from ledger.leaves import NONE
from ledger.proven_status import ProvenStatus
from ledger.records import Answer, Basis, Outcome, SendKind, Status
from ledger.references import reference_digits
from ledger.signing_policy import ISSUE_KINDS
from tools.agency.issuing import Issuer
from tools.agency.outbox import State, Work
from tools.agency.submission_files import export
from tools.errors import AnswerPending, RegisterProblem, RemoteError, Unavailable, Usage
from tools.letters.desk import ANSWER, Desk, new_seed
from tools.letters.envelopes import seal_reply
from tools.register.documents import StoredDocument
from tools.register.letters import Filed

_MAX_DECISION: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Decision:
    """What the final answer to a letter is to be.

    ``document``: what is to be issued with it; ``known``: the register's number of a document that stands
    in the log already. ``successor``: whose business the letter is. ``seed``: the reply's own.
    """

    outcome: ReplyOutcome
    note: str
    seed: bytes
    document: Document | None = None
    known: int | None = None
    successor: int | None = None

    def says(self, other: Decision) -> bool:
        """Whether both say the same; seeds are drawn anew each time."""
        return (self.outcome, self.note, self.document, self.known, self.successor) == (
            other.outcome,
            other.note,
            other.document,
            other.known,
            other.successor,
        )

    def encode(self) -> bytes:
        fields: list[Json] | None = None
        if self.document is not None:
            fields = [base64_text(one.slot()) for one in self.document.fields]
        return encode(
            {
                "outcome": self.outcome.value,
                "note": self.note,
                "seed": base64_text(self.seed),
                "agency": 0 if self.document is None else self.document.agency,
                "type": 0 if self.document is None else self.document.document_type,
                "fields": fields,
                "known": self.known,
                "successor": self.successor,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Decision:
        """Raises FormatError."""
        reader = Reader(parse(data, limit=_MAX_DECISION, where="decision"), "decision")
        agency, number = reader.number("agency", 0, MAX_AGENCY), reader.number("type", 0, 65_535)
        document = None
        if reader.any("fields") is not None:
            slots = [
                parse_base64(one, "field", limit=1 << 16) if isinstance(one, str) else b""
                for one in reader.items("fields", limit=256)
            ]
            document = Document(agency, number, tuple(Field.from_slot(slot) for slot in slots))
        decision = cls(
            ReplyOutcome(reader.text("outcome")),
            reader.text("note", limit=1 << 16, empty=True),
            reader.data("seed", size=16),
            document,
            None if reader.any("known") is None else reader.number("known", 1, 2**53 - 1),
            None if reader.any("successor") is None else reader.number("successor", 1, MAX_AGENCY),
        )
        reader.done()
        return decision


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an answer is. ``waiting``: the work that other officers have to sign first, or None.

    ``index``: the ANSWER's place in the log; ``error``: why it goes no further.
    """

    letter: Filed
    decision: Decision
    waiting: Work | None = None
    index: int | None = None
    error: SudurError | None = None


def external_id(index: int) -> str:
    """Under which id of the agency's own the document of a confirmation is issued: so only once."""
    return f"request {reference_digits(index)}"


class Answering:
    """The final answers of one agency. ``own_receipts``: where receipts of what it issues go."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._register = desk.register
        session = desk.session
        self._issuer = Issuer(
            session.outbox, session.client, session.resources, session.here.receipts, session.publication
        )

    # --- deciding ---

    def decide(self, letter: Filed, decision: Decision, prepare: Path | None = None) -> Progress:
        """Save what the answer is to be, and carry it out as far as it goes.

        ``prepare``: a submission file for the next officer, instead of sending. The same decision again
        goes on with the first. Raises AlreadyAnswered, AnswerPending, SubjectInvalid, StatusFinal,
        NotEntitled, NoEnvelopeKey, TooLarge, TooFewSignatures, Unavailable.
        """
        self._check(letter)
        there = self._decision(letter)
        if there is not None and not there.says(decision):
            raise AnswerPending(
                f"another answer was decided on already, {there.outcome.value}",
                where=letter.name,
                fix="let it be finished: sudur agency inbox; or have it signed",
            )
        if there is None:
            self._check_decision(letter, decision)
            if prepare is None:
                self._check_keys(decision)
            self._save(letter, decision, waiting=prepare is not None)
        return self._go_on(letter, prepare)

    def _check(self, letter: Filed) -> None:
        if letter.final is not None:
            raise AlreadyAnswered(
                f"it has its final answer, at index {letter.final}", index=letter.final, where=letter.name
            )
        if letter.reminds is not None:
            first = self._desk.letters.by_index(letter.reminds)
            raise SubjectInvalid("it is a reminder", where=letter.name, fix=f"answer {first.name}")

    def _check_decision(self, letter: Filed, decision: Decision) -> None:
        """That nothing will stand in the way later: the reply fits, the document stands, there is a key."""
        desk = self._desk
        if decision.document is not None and letter.kind is not SendKind.REQUEST:
            raise Usage("only a request for confirmation has a document issued", where=letter.name)
        if decision.known is not None:
            self._check_standing(self._register.documents.get(decision.known))
        seal_reply(
            self._reply(decision, trial=True), desk.genesis, desk.agency, desk.addressee(letter.agency)
        )
        if decision.successor is not None:
            if desk.present(decision.successor) in (desk.agency, letter.agency):
                raise UnknownAgency("a letter is passed on to a third agency", where="--to")
            desk.addressee(decision.successor)

    def _check_standing(self, document: StoredDocument) -> None:
        log = self._desk.registry.log
        assert document.index is not None
        if document.index < log.size:
            status = ProvenStatus(self._desk.session.resources, log).status(document.index)
            if status is not Status.VALID:
                raise StatusFinal(
                    f"it is {status.name.lower()}",
                    index=document.index,
                    where=f"document {document.number}",
                    fix="answer that it is denied, and say why: --note",
                )

    def _check_keys(self, decision: Decision) -> None:
        """Raises TooFewSignatures when the policy asks for more officers at any of the steps."""
        counts = {"answer": 1}
        if decision.document is not None:
            counts[ISSUE_KINDS[Basis.ARCHIVE]] = 1
        if decision.successor is not None:
            counts["send"] = 1
        self._desk.outbox.check_keys(counts)

    def _save(self, letter: Filed, decision: Decision, *, waiting: bool) -> None:
        assert letter.index is not None
        with self._register.transaction():
            issue = passed = None
            if decision.document is not None:
                external = external_id(letter.index)
                issue = self._issuer.save_once(decision.document, external, Basis.ARCHIVE, waiting=waiting)
            if decision.successor is not None:
                passed = self._pass_on(letter, decision.successor, waiting=waiting)
            self._register.run(
                "INSERT INTO decisions (letter, sealed, issue, passed) VALUES (?, ?, ?, ?)",
                (
                    letter.number,
                    self._register.box.seal("decided", letter.number, decision.encode()),
                    issue and issue.number,
                    passed and passed.number,
                ),
            )
            detail: dict[str, Json] = {"letter": letter.name, "outcome": decision.outcome.value}
            self._register.journal.write(self._desk.outbox.officer, "decide", detail)

    def _pass_on(self, letter: Filed, successor: int, *, waiting: bool) -> Work:
        """The same letter, as this agency's own, which follows the first."""
        desk = self._desk
        old = desk.letters.letter(letter)
        document = Document(desk.agency, old.document.document_type, old.document.fields)
        passed = Letter(document, new_seed(), old.files)
        to = [(desk.present(successor), letter.index)]
        return desk.save_letters(passed, to, letter.kind, letter.due, waiting=waiting)

    # --- carrying out ---

    def carry_on(self) -> list[Progress]:
        """Take every answer that was decided on as far as it goes; what stops one stops no other.

        Raises Unavailable.
        """
        found = []
        for (number,) in list(self._register.rows("SELECT letter FROM decisions ORDER BY letter")):
            letter = self._desk.letters.get(number)
            try:
                found.append(self._go_on(letter))
            except Unavailable:
                raise
            except SudurError as error:
                decision = self._decision(letter)
                assert decision is not None
                found.append(Progress(letter, decision, error=error))
        return found

    def _go_on(self, letter: Filed, prepare: Path | None = None) -> Progress:
        """One answer: each step is looked up in the register, done if it is not, and left if it waits."""
        decision = self._decision(letter)
        found = self._register.row(
            "SELECT issue, passed, submission FROM decisions WHERE letter = ?", (letter.number,)
        )
        assert decision is not None
        assert found is not None
        issue, passed, submission = found
        outbox = self._desk.outbox
        for number in (issue, passed):
            if number is None:
                continue
            work = outbox.work(number)
            if (stop := self._settled(letter, decision, work, prepare)) is not None:
                return stop
        if submission is None:
            if prepare is None:
                self._desk.outbox.check_keys({"answer": 1})
            submission = self._seal(letter, decision, waiting=prepare is not None)
        found = self._register.row("SELECT work FROM submissions WHERE id = ?", (submission,))
        assert found is not None
        work = outbox.work(found[0])
        if (stop := self._settled(letter, decision, work, prepare)) is not None:
            return stop
        return self._done(letter, decision, work)

    def _settled(
        self, letter: Filed, decision: Decision, work: Work, prepare: Path | None
    ) -> Progress | None:
        """Send a step's work. None when it is in the log; else where the answer stops."""
        outbox = self._desk.outbox
        outbox.finish(work)
        (one,) = outbox.submissions(work)
        if one.state is State.PLACED:
            outbox.close(work)
            self._desk.renew()
            return None
        if one.state is State.REFUSED:
            outbox.close(work)
            return self._give_up(letter, decision, RemoteError(f"the node refused: {one.error}"))
        if prepare is not None:
            export(outbox, work, prepare)
        return Progress(letter, decision, waiting=work)

    def _seal(self, letter: Filed, decision: Decision, *, waiting: bool) -> int:
        """Seal and save the reply and its ANSWER; the number of the submission."""
        desk, outbox = self._desk, self._desk.outbox
        assert letter.index is not None
        reply = self._reply(decision, external=external_id(letter.index))
        sealed = seal_reply(reply, desk.genesis, desk.agency, desk.addressee(letter.agency))
        record = Answer(desk.agency, letter.index, Outcome.ANSWERED, sealed.commitment, sealed.digest)
        with self._register.transaction():
            work = outbox.begin(ANSWER, {})
            outbox.add(work, [record.encode()], waiting=waiting, envelopes=[sealed.data])
            (one,) = outbox.submissions(work)
            _, plaintext = reply_plaintext(reply, desk.genesis, desk.agency, letter.agency)
            desk.letters.answered(letter, desk.letters.keep(plaintext), None, None)
            self._register.run(
                "UPDATE decisions SET submission = ? WHERE letter = ?", (one.number, letter.number)
            )
            self._register.journal.write(
                outbox.officer, ANSWER, {"work": work.number, "letter": letter.name, "waiting": waiting}
            )
        return one.number

    def _reply(self, decision: Decision, *, external: str = "", trial: bool = False) -> Reply:
        """The reply; a trial has the largest index that there is, to see whether it fits its envelope."""
        issued = None
        if decision.known is not None:
            issued = self._disclosed(self._register.documents.get(decision.known))
        elif decision.document is not None and trial:
            issued = Issued(NONE - 1, decision.document.disclose(decision.seed))
        elif decision.document is not None:
            document = self._register.documents.by_external(external)
            if document is None:
                raise RegisterProblem("the document that confirms it is missing", where=external)
            issued = self._disclosed(document)
        return Reply(decision.outcome, decision.seed, decision.note, issued, decision.successor)

    def _disclosed(self, document: StoredDocument) -> Issued:
        if document.index is None:
            raise RegisterProblem("is not in the log", where=f"document {document.number}")
        return Issued(document.index, document.document(self._desk.agency).disclose(document.seed))

    def _done(self, letter: Filed, decision: Decision, work: Work) -> Progress:
        """The ANSWER is in the log: the node may forget the letter's envelope, and the decision goes."""
        (one,) = self._desk.outbox.submissions(work)
        assert one.first is not None
        if letter.held:
            self._desk.drop(letter, letter.envelope)
        self._register.run("DELETE FROM decisions WHERE letter = ?", (letter.number,))
        self._desk.refresh()
        return Progress(self._desk.letters.get(letter.number), decision, index=one.first)

    def _give_up(self, letter: Filed, decision: Decision, error: SudurError) -> Progress:
        """Refused for good: it may be decided anew."""
        with self._register.transaction():
            self._register.run("DELETE FROM decisions WHERE letter = ?", (letter.number,))
            self._desk.letters.answered(letter, None, None, None)
        return Progress(letter, decision, error=error)

    def _decision(self, letter: Filed) -> Decision | None:
        found = self._register.row("SELECT sealed FROM decisions WHERE letter = ?", (letter.number,))
        if found is None:
            return None
        try:
            return Decision.decode(self._register.box.open("decided", letter.number, found[0]))
        except (FormatError, ValueError) as error:
            raise RegisterProblem(f"is damaged: {error}", where=f"decision {letter.number}") from None


def document_fields(document: StoredDocument) -> Sequence[Field]:
    """The fields of a document of the register, as a confirmation issues them."""
    return document.fields[1:]
