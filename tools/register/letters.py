"""Letters of the register: every SEND of the agency and to it, what it says, and what became of it.

What letters, replies and receipts say is sealed, as documents are; the rest stands in the log anyway.
A letter of the agency's own is as far as its submission is (tools/agency/outbox.py): its index is read from
there, so that no crash comes in between.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

from ledger.envelope_bodies import Letter, Reply
from ledger.envelopes import MAX_PLAINTEXT, read_plaintext
from ledger.errors import FormatError
from ledger.inquiries import Sent
from ledger.leaves import NONE
from ledger.receipts import MAX_RECEIPT, Receipt, parse_receipt
from ledger.records import Send, SendKind
from ledger.references import reference_text
from ledger.signing_policy import utc_day
from tools.errors import RegisterProblem, UnknownLetter

if TYPE_CHECKING:
    from tools.register.store import Register


class Way(IntEnum):
    """Whether a letter is the agency's own, or came to it."""

    SENT = 0
    RECEIVED = 1


@dataclass(frozen=True, slots=True)
class Filed:
    """A letter in the register. ``agency``: the other one. ``index``: None while it is not in the log.

    ``work`` and ``state`` (tools.agency.outbox.State) are of the agency's own letter. ``received_ms`` and
    ``final_ms`` are when it was answered, as the node says; ``fault`` and ``reply_fault`` why an envelope
    does not open: the error's code, and its text while that is fresh. ``doubtful``: a key that signed what
    came (the letter, or the answer to the agency's own) was reported stolen. ``content``, ``reply`` and
    ``receipt`` are there when not None. ``held``: whether the node may still hold the envelope that came.
    """

    number: int
    way: Way
    agency: int
    kind: SendKind
    due: int
    follows: int | None
    commitment: bytes
    envelope: bytes
    index: int | None
    sent_ms: int | None
    reminds: int | None
    received: int | None
    received_ms: int | None
    final: int | None
    final_ms: int | None
    doubtful: bool
    content: int | None
    fault: str | None
    reply: int | None
    reply_fault: str | None
    receipt: int | None
    held: bool
    work: int | None
    state: int | None
    error: str | None

    @property
    def name(self) -> str:
        """Its reference number in groups, or that it has none yet."""
        return "not in the log" if self.index is None else reference_text(self.index)

    @property
    def is_open(self) -> bool:
        """Whether it waits for its final answer."""
        return self.index is not None and self.final is None and self.reminds is None

    def overdue(self, now_ms: int) -> bool:
        """Whether its last day (UTC) has passed without a final answer."""
        if not self.due or not self.is_open or self.sent_ms is None:
            return False
        return utc_day(now_ms) > utc_day(self.sent_ms) + self.due


class Letters:
    """The letters of one register. All methods raise RegisterProblem for what does not open.

    Of a fault the error's code alone is kept: its text may repeat what a letter says. Whoever learns of it
    has the text for as long as the register is open.
    """

    def __init__(self, register: Register) -> None:
        self._register = register
        self._faults: dict[tuple[str, int], str] = {}

    # --- keeping, within a transaction of the caller's ---

    def keep(self, plaintext: bytes) -> int:
        """Seal what a letter or a reply says, or a receipt; the number to find it by."""
        found = self._register.row("SELECT coalesce(max(id), 0) + 1 FROM contents")
        assert found is not None
        number: int = found[0]
        sealed = self._register.box.seal("content", number, zlib.compress(plaintext))
        self._register.run("INSERT INTO contents VALUES (?, ?)", (number, sealed))
        return number

    def add_sent(self, sends: Sequence[Send], places: Sequence[tuple[int, int]], content: int) -> None:
        """Letters of the agency's own that say the same; ``places``: submission and position of each."""
        self._register.run_many(
            "INSERT INTO letters (way, agency, kind, due, follows, commitment, envelope, submission,"
            " position, content) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (int(Way.SENT), *_of(send), submission, position, content)
                for send, (submission, position) in zip(sends, places, strict=True)
            ),
        )

    def add_received(
        self, sent: Sent, send: Send, doubtful: bool, content: int | None, fault: str | None
    ) -> None:
        """A letter to the agency, with what it says, or why that cannot be read."""
        row = self._register.run(
            "INSERT INTO letters (way, agency, kind, due, follows, commitment, envelope, place, doubtful,"
            " content, fault) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (int(Way.RECEIVED), *_of(send, send.agency), sent.index, int(doubtful), content, _code(fault)),
        )
        self._learn("fault", row, fault)
        self._note(row, sent)

    def opened(self, letter: Filed, content: int | None, fault: str | None) -> None:
        """What a letter says after all, or why it still cannot be read."""
        self._register.run(
            "UPDATE letters SET content = ?, fault = ? WHERE id = ?", (content, _code(fault), letter.number)
        )
        self._learn("fault", letter.number, fault)

    def note(self, letter: Filed, sent: Sent) -> None:
        """What became of a letter, as the node says."""
        self._note(letter.number, sent)

    def _note(self, number: int, sent: Sent) -> None:
        received, final = sent.received, sent.final
        self._register.run(
            "UPDATE letters SET sent_ms = ?, reminds = ?, received = ?, received_ms = ?, final = ?,"
            " final_ms = ? WHERE id = ?",
            (
                sent.time_ms,
                sent.reminds,
                received and received.index,
                received and received.time_ms,
                final and final.index,
                final and final.time_ms,
                number,
            ),
        )

    def answered(self, letter: Filed, reply: int | None, fault: str | None, receipt: int | None) -> None:
        """What the final answer to a letter says, or why that cannot be read; and its receipt."""
        self._register.run(
            "UPDATE letters SET reply = ?, reply_fault = ?, receipt = ? WHERE id = ?",
            (reply, _code(fault), receipt, letter.number),
        )
        self._learn("reply_fault", letter.number, fault)

    def set_receipt(self, letter: Filed, receipt: int | None, fault: str | None) -> None:
        """A newer receipt in place of the one that came; or why there is none."""
        self._register.run(
            "UPDATE letters SET receipt = ?, reply_fault = ? WHERE id = ?",
            (receipt, _code(fault), letter.number),
        )
        self._learn("reply_fault", letter.number, fault)
        self._register.run("DELETE FROM contents WHERE id = ?", (letter.receipt,))

    def doubt(self, letter: Filed, doubtful: bool) -> None:
        """Whether what came was signed with a key that was reported stolen since."""
        if doubtful != letter.doubtful:
            self._register.run("UPDATE letters SET doubtful = ? WHERE id = ?", (int(doubtful), letter.number))

    def dropped(self, letter: Filed) -> None:
        """The node no longer holds the envelope that came."""
        self._register.run("UPDATE letters SET held = 0 WHERE id = ?", (letter.number,))

    # --- finding ---

    def by_index(self, index: int, way: Way | None = None) -> Filed:
        """The letter that stands at an index. Raises UnknownLetter."""
        where = "coalesce(l.place, s.first + l.position) = ?"
        found = [one for one in self._select(where, (index,)) if way in (None, one.way)]
        if not found:
            raise UnknownLetter(
                "no such letter is in this register",
                where=reference_text(index),
                fix="take the number from: sudur agency inbox, requests, or circulated",
            )
        return found[0]

    def get(self, number: int) -> Filed:
        """A letter by its number in the register."""
        found = next(self._select("l.id = ?", (number,)), None)
        if found is None:
            raise RegisterProblem("is not in the register", where=f"letter {number}")
        return found

    def of_work(self, work: int) -> list[Filed]:
        """The letters that one work sends."""
        return list(self._select("s.work = ?", (work,)))

    def every(self, way: Way, kind: SendKind | None = None) -> list[Filed]:
        """All letters of a way, in the order in which they came; of one kind."""
        if kind is None:
            return list(self._select("l.way = ?", (int(way),)))
        return list(self._select("l.way = ? AND l.kind = ?", (int(way), int(kind))))

    def unanswered(self) -> list[Filed]:
        """Letters of both ways in the log that wait for their final answer."""
        return [
            one for one in self._select("l.final IS NULL AND l.reminds IS NULL", ()) if one.index is not None
        ]

    def reminders(self, letter: Filed) -> list[Filed]:
        """The letters that remind of this one."""
        return list(self._select("l.reminds = ?", (letter.index,)))

    def next_place(self) -> int:
        """Where a search for new letters to the agency begins."""
        found = self._register.row("SELECT coalesce(max(place) + 1, 0) FROM letters")
        assert found is not None
        place: int = found[0]
        return place

    # --- what they say ---

    def letter(self, filed: Filed) -> Letter:
        """What a letter says. Raises UnknownLetter when that cannot be read."""
        if filed.content is None:
            raise UnknownLetter(
                f"what it says cannot be read: {filed.fault}",
                where=filed.name,
                fix="answer it: sudur agency answer NUMBER more-needed",
            )
        return self.letter_of(filed.content)

    def said_by(self, submission: int) -> list[bytes]:
        """What the letters and the reply of one submission say, as their envelopes seal it; each once."""
        rows = self._register.rows(
            "SELECT DISTINCT content FROM letters WHERE submission = ? UNION SELECT l.reply FROM letters l"
            " JOIN decisions d ON d.letter = l.id WHERE d.submission = ?",
            (submission, submission),
        )
        return [self._content(number, MAX_PLAINTEXT) for (number,) in list(rows)]

    def letter_of(self, content: int) -> Letter:
        """The letter in a content."""
        try:
            route, body = read_plaintext(self._content(content, MAX_PLAINTEXT))
            return Letter.decode(body, route.sender)
        except FormatError as error:
            raise RegisterProblem(f"is damaged: {error}", where=f"content {content}") from None

    def reply(self, filed: Filed) -> Reply | None:
        """What the final answer to a letter says; None when it is not there."""
        if filed.reply is None:
            return None
        try:
            return Reply.decode(read_plaintext(self._content(filed.reply, MAX_PLAINTEXT))[1])
        except FormatError as error:
            raise RegisterProblem(f"is damaged: {error}", where=f"content {filed.reply}") from None

    def receipt(self, filed: Filed) -> Receipt | None:
        """The receipt that was made of the document in the answer."""
        return None if filed.receipt is None else parse_receipt(self._content(filed.receipt, MAX_RECEIPT))

    def _content(self, number: int, most: int) -> bytes:
        found = self._register.row("SELECT sealed FROM contents WHERE id = ?", (number,))
        if found is None:
            raise RegisterProblem("is not in the register", where=f"content {number}")
        sealed = self._register.box.open("content", number, found[0])
        return zlib.decompressobj().decompress(sealed, most + 1)

    def _learn(self, column: str, number: int, fault: str | None) -> None:
        if fault is not None:
            self._faults[column, number] = fault

    def _select(self, where: str, values: Sequence[Any]) -> Iterator[Filed]:
        for row in list(self._register.rows(f"{_LETTER} WHERE {where} ORDER BY l.id", values)):
            number, way, agency, kind, *more = row
            doubtful, held = more[11], more[17]
            more[11], more[17] = bool(doubtful), bool(held)
            for at, column in ((13, "fault"), (15, "reply_fault")):
                if more[at] is not None:
                    more[at] = self._faults.get((column, number), _code(more[at]))
            yield Filed(number, Way(way), agency, SendKind(kind), *more)


_LETTER: Final = (
    "SELECT l.id, l.way, l.agency, l.kind, l.due, l.follows, l.commitment, l.envelope,"
    " coalesce(l.place, s.first + l.position), coalesce(l.sent_ms, s.sealed_ms), l.reminds, l.received,"
    " l.received_ms, l.final, l.final_ms, l.doubtful, l.content, l.fault, l.reply, l.reply_fault, l.receipt,"
    " l.held, s.work, s.state, s.error FROM letters l LEFT JOIN submissions s ON s.id = l.submission"
)


def _code(fault: str | None) -> str | None:
    """The error's code, which tools.letters.desk.fault_of puts first."""
    return None if fault is None else fault.partition(":")[0]


def _of(send: Send, other: int | None = None) -> tuple[int | bytes | None, ...]:
    follows = None if send.follows == NONE else send.follows
    agency = send.recipient if other is None else other
    return agency, int(send.kind), send.due, follows, send.commitment, send.envelope
