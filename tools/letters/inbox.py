"""What comes to an agency: letters taken in from the log and the node, and marked as received.

A letter is kept in the register as soon as its record is proven and its envelope was looked at. One
whose envelope does not open is kept too, with the reason. It is tried again when the keys here have
changed, each time that it has become twice as old, and when it is asked for by number; a reminder may
bring the same letter in an envelope that opens. So letters that never open slow nobody down for long.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ledger.documents import FieldKind
from ledger.envelope_bodies import Letter, letter_plaintext
from ledger.errors import CommitmentMismatch, EnvelopeWrongDigest, NotEntitled, ProofInvalid
from ledger.inquiries import Sent
from ledger.leaves import NONE, LeafType, leaf_type
from ledger.records import NO_HASH, Answer, Outcome, Send, SendKind
from ledger.references import reference_text
from tools.agency.outbox import Work
from tools.errors import UnknownLetter
from tools.letters.desk import ANSWER, UNREADABLE, Desk, fault_of
from tools.letters.envelopes import unseal_letter
from tools.register.documents import StoredDocument, text_of
from tools.register.folding import words
from tools.register.letters import Filed, Way

_HOUR_MS: Final = 3_600_000

_TRIED: Final = "tried"
"""The fact of when letters that do not open were tried last, and with which keys."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A field of a letter beside the same field of a document of the register; None: it has none.

    ``folds``: the two differ in writing alone (ى for ي, ٣ for 3), which a person has to judge.
    """

    name: str
    asked: str | None
    there: str | None

    @property
    def same(self) -> bool:
        return self.asked == self.there

    @property
    def folds(self) -> bool:
        if self.same or self.asked is None or self.there is None:
            return False
        return list(words(self.asked)) == list(words(self.there))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A document of the register that may be the one that is asked about. ``score``: 0 to 1."""

    score: float
    document: StoredDocument
    differences: tuple[Difference, ...]


class Inbox:
    """The letters to one agency."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._letters = desk.letters

    # --- taking in ---

    def take_in(self, predecessors: Sequence[int] = ()) -> None:
        """Keep what has come since, and learn what has become of what is there.

        ``predecessors``: agencies that were handed over to this one, whose letters it answers as well.
        Raises ProofInvalid when the node shows what the log does not have, NotEntitled for one that is no
        predecessor, NoEnvelopeKey, Unavailable: what was taken in before stays.
        """
        desk = self._desk
        desk.renew()
        unread = self._unread()
        for agency in predecessors:
            if desk.agency not in desk.records.heirs(agency):
                raise NotEntitled(f"{desk.title(agency)} was not handed over to this agency", where="--for")
        self._take_all(desk.agency, self._letters.next_place())
        for agency in predecessors:
            self._take_all(agency, 0)
        desk.refresh()
        self._adopt()
        if self._retry(unread):
            self._adopt()
        self.let_go()

    def _take_all(self, recipient: int, start: int) -> None:
        """What was sent to an agency, up to the checkpoint, but for what is there already."""
        desk = self._desk
        there = {one.index for one in self._letters.every(Way.RECEIVED)} if start == 0 else set()
        for sent in desk.session.client.sends_to(recipient, start):
            if sent.index >= desk.registry.log.size:
                break
            if sent.index not in there:
                self._take(sent, recipient)

    def _take(self, sent: Sent, recipient: int) -> None:
        desk = self._desk
        proven = desk.records.send(sent.index)
        send = proven.record
        if send.recipient != recipient:
            raise ProofInvalid(f"leaf {sent.index} went to agency {send.recipient}, not {recipient}")
        state = desk.proven(sent, None if send.follows == NONE else send.follows)
        letter, fault = self._open(send)
        with desk.register.transaction():
            content = None if letter is None else self._keep(letter)
            self._letters.add_received(state, send, proven.doubtful, content, fault)

    def _open(self, send: Send) -> tuple[Letter | None, str | None]:
        desk = self._desk
        keys = desk.keys
        try:
            return unseal_letter(desk.fetch(send.envelope), send, desk.genesis, keys), None
        except UNREADABLE as error:
            return None, fault_of(error)

    def _unread(self) -> list[Filed]:
        """The letters that cannot be read and wait for an answer, or remind of one that does."""
        return [one for one in self._letters.every(Way.RECEIVED) if one.content is None and one.final is None]

    def _adopt(self) -> None:
        """Read what does not open by a reminder that does: it commits to the same letter."""
        unread = self._unread()
        if not unread:
            return
        said: dict[tuple[int | None, bytes], int] = {
            (one.reminds, one.commitment): one.content
            for one in self._letters.every(Way.RECEIVED)
            if one.reminds is not None and one.content is not None
        }
        with self._desk.register.transaction():
            for one in unread:
                content = said.get((one.index, one.commitment))
                if content is not None:
                    self._letters.opened(one, content, None)

    def _retry(self, before: list[Filed]) -> bool:
        """Open again what may open by now; whether there was anything to try.

        ``before``: what could not be read when this look began. What came since was tried just now.
        """
        register = self._desk.register
        unread = self._unread()
        if not unread:
            return False
        keys, now_ms = self._key_mark(), register.now_ms()
        kept = register.fact(_TRIED) or b""
        tried_ms, known = int.from_bytes(kept[:8], "big"), kept[8:] == keys
        old = {one.number for one in before}
        again = [
            one
            for one in unread
            if one.number in old
            and one.envelope != NO_HASH
            and (not known or _altered(one) or _age(one, now_ms) != _age(one, tried_ms))
        ]
        for one in again:
            self._open_again(one)
        if again or not known or any(one.number not in old for one in unread):
            register.put_fact(_TRIED, now_ms.to_bytes(8, "big") + keys)
        return bool(again)

    def _key_mark(self) -> bytes:
        """Changes when the envelope keys that lie here do."""
        keys = {one.public.key for one in self._desk.session.here.key_files("envelope")}
        return hashlib.sha256(b"".join(sorted(keys))).digest()

    def _open_again(self, one: Filed) -> None:
        assert one.index is not None
        letter, fault = self._open(self._desk.records.send(one.index).record)
        with self._desk.register.transaction():
            self._letters.opened(one, None if letter is None else self._keep(letter), fault)

    def _keep(self, letter: Letter) -> int:
        return self._letters.keep(letter_plaintext(letter, self._desk.genesis, self._desk.agency)[1])

    # --- finding ---

    def look(self, letters: Sequence[Filed]) -> list[Filed]:
        """Letters with whether they are doubtful as of now: a key may be reported stolen any day."""
        for one in letters:
            if one.index is not None and one.final is None:
                self._letters.doubt(one, self._desk.records.send(one.index).doubtful)
        return [self._letters.get(one.number) for one in letters]

    def look_into(self, index: int) -> Filed:
        """The letter at an index, tried again if it does not open. Raises as :meth:`find`."""
        one = self.find(index)
        if one.content is None and one.final is None:
            self._open_again(one)
        (one,) = self.look([one])
        return one

    def find(self, index: int) -> Filed:
        """The letter to this agency at an index.

        Raises UnknownLetter; NotEntitled for one that went to another agency, or was sent from here.
        """
        try:
            return self._letters.by_index(index, Way.RECEIVED)
        except UnknownLetter:
            log = self._desk.registry.log
            leaf = log.leaf(index).leaf if index < log.size else b""
            if not leaf or leaf_type(leaf) is not LeafType.SEND:
                raise
            send = Send.decode(leaf)
            if self._desk.agency in self._desk.records.heirs(send.recipient):
                raise
            raise NotEntitled(
                f"it went to agency {send.recipient}, and only that agency or its successor answers it",
                where=reference_text(index),
            ) from None

    def candidates(self, letter: Letter, limit: int = 5) -> list[Candidate]:
        """The documents of the register that share most with a letter, the likeliest first.

        They are searched for with folded letters; whether a field is the same is for its very letters.
        """
        asked = {
            one.name: one.value.decode() for one in letter.document.fields[1:] if one.kind is FieldKind.TEXT
        }
        found = self._desk.register.documents.candidates(text_of(letter.document.fields[1:]), limit)
        return [Candidate(score, one, _compared(asked, one)) for score, one in found]

    def candidates_for(self, one: Filed) -> list[Candidate]:
        """The same for a request that waits for its answer; none for anything else."""
        if one.kind is not SendKind.REQUEST or one.content is None or one.final is not None:
            return []
        return self.candidates(self._letters.letter(one))

    # --- marking as received ---

    def let_go(self) -> None:
        """Have the node forget circulated letters that are received, and safe here. Raises Unavailable."""
        for one in self._letters.every(Way.RECEIVED, SendKind.CIRCULATED):
            if one.held and one.content is not None and one.received is not None:
                self._desk.drop(one, one.envelope)

    def receive(self, letters: list[Filed]) -> Work | None:
        """Save that these letters are received, those left out that are marked or answered already."""
        chosen = [one for one in letters if one.is_open and one.received is None]
        if not chosen:
            return None
        desk = self._desk
        desk.outbox.check_keys({"answer": len(chosen)})
        records = [
            Answer(desk.agency, one.index, Outcome.RECEIVED, NO_HASH, NO_HASH).encode()
            for one in chosen
            if one.index is not None
        ]
        return desk.outbox.put(ANSWER, records, {"received": [one.name for one in chosen]})


def choose(letters: Sequence[Filed], most: int) -> list[Filed]:
    """At most so many letters, in their order: the oldest that can be read, then the oldest that cannot.

    So no number of letters that do not open hides one that does.
    """
    first = sorted(letters, key=lambda one: one.content is None)[:most]
    chosen = {one.number for one in first}
    return [one for one in letters if one.number in chosen]


def _altered(one: Filed) -> bool:
    """Whether the node gave out other bytes than the log names. No sender can bring that about."""
    return one.fault is not None and one.fault.startswith(EnvelopeWrongDigest.code)


def _age(one: Filed, time_ms: int) -> int:
    """How often a letter's age has doubled since its first hour."""
    return (max(time_ms - (one.sent_ms or 0), 0) // _HOUR_MS).bit_length()


def check_file(letter: Letter, digest: bytes) -> str:
    """Which of a letter's files has this SHA-256: its name. Raises CommitmentMismatch."""
    for one in letter.document.fields:
        if one.kind is FieldKind.FILE and one.value == digest:
            return one.name
    raise CommitmentMismatch(
        "this file is none of those that the letter was sent with",
        fix="it was altered on its way, or belongs to another letter: ask the sender",
    )


def _compared(asked: dict[str, str], there: StoredDocument) -> tuple[Difference, ...]:
    values = {one.name: one.value.decode() for one in there.fields[1:] if one.kind is FieldKind.TEXT}
    names = dict.fromkeys((*asked, *values))
    return tuple(Difference(name, asked.get(name), values.get(name)) for name in names)
