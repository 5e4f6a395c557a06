"""Asking: letters of the agency's own, their answers as they come, reminders, and asking again.

A request is what an office read off a paper; a circulated document goes to many at once. Both are letters
of one commitment, sealed for each recipient. An answer counts when its ANSWER is proven to be in the
log and signed by whom the letter went to, or its successor; a document that it confirms is proven by a
receipt like any other. Only then the node is told to forget its envelope.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ledger.documents import Document, Field
from ledger.envelope_bodies import Issued, Letter, Reply, ReplyOutcome, reply_plaintext
from ledger.envelopes import MAX_BODY, Attachment
from ledger.errors import (
    DocumentFormatError,
    NotEntitled,
    SubjectInvalid,
    SudurError,
    TooLarge,
)
from ledger.receipt_builder import ReceiptBuilder
from ledger.receipts import Receipt
from ledger.records import Answer, Send
from ledger.trust import Trust
from ledger.verdicts import Verdict
from ledger.verifier import verify_receipt
from tools.agency.issuing import digest_file, file_name
from tools.agency.outbox import Work
from tools.errors import FileProblem, NoEnvelopeKey, Unavailable, UnknownLetter, Usage
from tools.files import open_file, reason
from tools.letters.desk import UNREADABLE, Desk, fault_of, new_seed
from tools.letters.envelopes import unseal_reply
from tools.register.letters import Filed, Way

SCAN_FIELD = "scan"
"""The field of a request in which the picture of the paper stands."""


class Asking:
    """The agency's own letters."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._letters = desk.letters

    # --- sending ---

    def check_recipients(self, recipients: Sequence[int]) -> None:
        """That each is another agency which can be written to.

        Raises UnknownAgency, SubjectInvalid for the agency itself, Usage for one that was handed over,
        NoEnvelopeKey, which names all that have none, and when nobody could answer this one.
        """
        desk, without = self._desk, []
        here = {one.public.key for one in desk.keys}
        if desk.addressee(desk.agency).key.public_key not in here:
            raise NoEnvelopeKey(
                "the newest envelope key of this agency does not lie here, and answers are sealed to it",
                where="--dir",
                fix="put its key file here, or have another key registered",
            )
        for agency in recipients:
            if agency == desk.agency:
                raise SubjectInvalid(f"agency {agency} cannot send to itself", where="--to")
            heir = desk.present(agency)
            if heir != agency:
                raise Usage(
                    f"agency {agency} was handed over to {desk.title(heir)}",
                    where="--to",
                    fix=f"write to agency {heir}",
                )
            try:
                desk.addressee(agency)
            except NoEnvelopeKey:
                without.append(desk.title(agency))
        if without:
            raise NoEnvelopeKey(
                f"no key that an envelope could be sealed to: {', '.join(without)}",
                where="--to",
                fix="leave them out, and have them register one: sudur agency keygen --use envelope",
            )

    def twin(self, sent: Sequence[Filed], letter: Letter, to: Sequence[int], due: int) -> list[Filed]:
        """Those of letters that say the same to the same agencies; all of them, or none.

        So the same command, given again after a crash, finishes its work and does not begin it anew.
        """
        found: dict[int, list[Filed]] = {}
        for one in sent:
            if one.work is not None and one.follows is None and one.due == due:
                found.setdefault(one.work, []).append(one)
        for letters in found.values():
            same = self._letters.letter(letters[0]).document == letter.document
            if same and [one.agency for one in letters] == list(to):
                return letters
        return []

    def remind(self, letters: Sequence[Filed]) -> Work:
        """Save a reminder of letters that say the same, each sealed to the newest key. Nothing is sent.

        Raises SubjectInvalid for one that is answered, or not in the log.
        """
        for one in letters:
            if not one.is_open:
                raise SubjectInvalid(
                    "there is nothing to remind of",
                    where=one.name,
                    fix="ask again: sudur agency request reopen" if one.final is not None else "",
                )
        first, present = letters[0], self._desk.present
        to = [(present(one.agency), one.index) for one in letters]
        return self._desk.save_letters(self._letters.letter(first), to, first.kind, 0)

    def reopen(self, one: Filed, to: int | None, due: int, letter: Letter | None = None) -> Work:
        """Save a letter that asks once more after an answer; of another agency, when it is said to be its.

        ``letter``: what it says instead. Raises SubjectInvalid for one that waits for its answer.
        """
        if one.final is None:
            raise SubjectInvalid(
                "it has no answer yet", where=one.name, fix="remind of it: sudur agency request remind"
            )
        agency = one.agency if to is None else to
        heir = self._desk.present(agency)
        return self._desk.save_letters(
            letter or self._letters.letter(one), [(heir, one.index)], one.kind, due
        )

    # --- answers ---

    def collect(self) -> None:
        """Learn what became of all letters, and take in the answers that are new.

        Each is fetched, opened, proven, kept, and only then dropped by the node. Raises ProofInvalid when
        the node shows what the log does not have, NoEnvelopeKey, Unavailable: what was taken stays.
        """
        self._desk.renew()
        self._desk.refresh()
        for one in self._letters.every(Way.SENT):
            if one.final is None or one.reminds is not None:
                continue
            if one.reply is None:
                self._take(one, one.final)
            elif one.held:
                self._drop(one, one.final)

    def _take(self, one: Filed, final: int) -> None:
        desk = self._desk
        if final >= desk.registry.log.size:
            return
        assert one.index is not None
        logged = desk.records.answer(final, one.index)
        answer = logged.record
        send = Send.decode(desk.registry.log.leaf(one.index).leaf)
        keys = desk.keys
        try:
            reply = unseal_reply(desk.fetch(answer.envelope), answer, send, desk.genesis, keys)
        except UNREADABLE as error:
            self._letters.answered(one, None, fault_of(error), None)
            return
        receipt, fault = self._confirmation(answer, reply)
        with desk.register.transaction():
            _, plaintext = reply_plaintext(reply, desk.genesis, answer.agency, desk.agency)
            kept = None if receipt is None else self._letters.keep(receipt.encode())
            self._letters.answered(one, self._letters.keep(plaintext), fault, kept)
            self._letters.doubt(one, logged.doubtful)
            desk.register.journal.write(
                desk.outbox.officer, "answered", {"letter": one.name, "outcome": reply.outcome.value}
            )
        desk.drop(one, answer.envelope)

    def _drop(self, one: Filed, final: int) -> None:
        """The answer is safe in the register: an earlier run could not tell the node so."""
        self._desk.drop(one, Answer.decode(self._desk.registry.log.leaf(final).leaf).envelope)

    def _confirmation(self, answer: Answer, reply: Reply) -> tuple[Receipt | None, str | None]:
        """The receipt of the document that a reply confirms; or why what it names is no such document."""
        if reply.issued is None:
            return None, None
        issuer = reply.issued.document.agency
        try:
            if answer.agency not in self._desk.records.heirs(issuer):
                raise NotEntitled(f"the document that confirms it is of agency {issuer}")
            return self._built(reply.issued), None
        except Unavailable:
            raise
        except SudurError as error:
            return None, fault_of(error)

    def _built(self, issued: Issued) -> Receipt:
        session, log = self._desk.session, self._desk.registry.log
        builder = ReceiptBuilder(session.resources, session.ledger, log.signed.data)
        return builder.build(issued.document, issued.index)

    def renewed(self, one: Filed) -> tuple[Receipt, Verdict] | None:
        """The receipt of the document that an answer confirmed, proven as of now, and the verdict on it.

        None without such a document, and when what the answer names cannot be proven: the letter says why.
        """
        reply = self._letters.reply(one)
        if reply is None or reply.issued is None or one.final is None or one.index is None:
            return None
        receipt, fault = self._confirmation(self._desk.records.answer(one.final, one.index).record, reply)
        with self._desk.register.transaction():
            kept = None if receipt is None else self._letters.keep(receipt.encode())
            self._letters.set_receipt(one, kept, fault)
        return None if receipt is None else (receipt, self.verdict(receipt))

    def looked_at_again(self, one: Filed) -> Filed:
        """A letter with whether its answer is doubtful as of now: a key may be reported stolen any day."""
        if one.final is not None and one.index is not None and one.reminds is None:
            self._letters.doubt(one, self._desk.records.answer(one.final, one.index).doubtful)
        return self._letters.get(one.number)

    def verdict(self, receipt: Receipt) -> Verdict:
        """What a receipt proves, by the pinned ledger alone."""
        trust = Trust((self._desk.session.ledger,))
        return verify_receipt(receipt, trust, now_ms=self._desk.register.now_ms())

    def passed_on(self, one: Filed) -> tuple[int, int] | None:
        """Where a letter that was transferred went on: the agency, and the index of the SEND. Proven."""
        reply = self._letters.reply(one)
        if reply is None or reply.outcome is not ReplyOutcome.TRANSFERRED or reply.successor is None:
            return None
        desk = self._desk
        heir = desk.present(reply.successor)
        assert one.index is not None
        for sent in desk.session.client.sends_to(heir, one.index):
            if sent.follows == one.index and sent.index < desk.registry.log.size:
                found = desk.records.send(sent.index).record
                if found.follows == one.index and found.recipient == heir:
                    return heir, sent.index
        return None


def make_letter(
    agency: int,
    document_type: int,
    fields: Sequence[Field],
    files: Sequence[tuple[str, Path]],
    *,
    enclose: bool,
) -> Letter:
    """A letter of fields and files; ``files``: the name of each one's field, and where it lies.

    ``enclose``: their bytes go with it, else only their SHA-256. Raises TooLarge, which says how much
    there is and how much fits, DocumentFormatError, FileProblem.
    """
    attached, last = [], [*fields]
    left = MAX_BODY
    for name, path in files:
        if not enclose:
            last.append(Field.file(name, digest_file(path)))
            continue
        data = _read(path, left)
        left -= len(data)
        one = Attachment(name, data)
        last.append(Field.file(name, one.digest))
        attached.append(one)
    document = Document.build(agency, document_type, last)
    letter = Letter(document, new_seed(), tuple(attached))
    size = len(letter.encode())
    if size > MAX_BODY:
        raise TooLarge(
            f"the letter has {size} bytes, an envelope takes {MAX_BODY}",
            where="envelope",
            fix="make the picture smaller, or shorten the fields; a circulated file can go --without-bytes",
        )
    return letter


def _read(path: Path, most: int) -> bytes:
    try:
        with open_file(path) as file:
            size = path.stat().st_size
            data = file.read(most + 1)
    except OSError as error:
        raise FileProblem(f"cannot be read: {reason(error)}", where=str(path)) from None
    if len(data) > most:
        raise TooLarge(
            f"has {max(size, len(data))} bytes, {most} are left in the envelope",
            where=str(path),
            fix="scan it smaller (grey, 100 dpi, JPEG); a circulated file can go --without-bytes",
        )
    return data


def check_names(files: Sequence[Path]) -> list[tuple[str, Path]]:
    """The field of each file is its name. Raises DocumentFormatError for two of one name."""
    named = [(file_name(path), path) for path in files]
    names = [name for name, _ in named]
    for name in names:
        if names.count(name) > 1:
            raise DocumentFormatError("two files bear this name", where=name, fix="rename one of them")
    return named


def own(letters: Sequence[Filed], index: int, name: str) -> Filed:
    """The letter at an index, of those that are given. Raises UnknownLetter."""
    for one in letters:
        if one.index == index:
            return one
    raise UnknownLetter("is none of the letters that were sent from here", where=name)
