"""An agency's desk: what asking, answering and circulating share.

Letters and answers leave through the outbox like everything else: sealed, saved with their envelopes,
sent, finished once. What comes in is believed only when its record is proven under the newest
checkpoint, signed by whose it is, and its envelope agrees with it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ledger.documents import SEED_SIZE
from ledger.envelope_bodies import Letter, letter_plaintext
from ledger.errors import (
    FormatError,
    NotEntitled,
    ProofInvalid,
    RuleError,
    SudurError,
    VerificationError,
)
from ledger.inquiries import Reply, Sent
from ledger.leaves import NONE
from ledger.proven_records import ProvenRecords
from ledger.proven_registry import ProvenRegistry
from ledger.records import NO_HASH, Outcome, Send, SendKind
from tools.agency.outbox import Outbox, Refusal, State, Work
from tools.agency.session import Session
from tools.client import EnvelopeAccess
from tools.errors import NoEnvelopeKey, NotFound, Usage
from tools.keyfile import PrivateKey
from tools.letters.envelopes import Addressee, find_addressee, seal_letter
from tools.publication import fresh
from tools.register.letters import Filed, Letters
from tools.register.store import Register
from tools.ui import Passphrase, printable

SEND: Final = "send"
"""The kind of a work that sends letters."""

ANSWER: Final = "answer"
"""The kind of a work that answers letters, or marks them as received."""

_AT_ONCE: Final = 256


@dataclass(frozen=True, slots=True)
class Finished:
    """What became of works: the letters that are in the log now, and what was refused."""

    letters: tuple[Filed, ...] = ()
    refused: tuple[Refusal, ...] = ()


class Desk:
    """The desk of one agency, for the length of a session.

    ``records`` and ``registry`` are as of one checkpoint; :meth:`renew` takes the newest.
    """

    def __init__(self, session: Session, passphrase: Passphrase) -> None:
        self.session = session
        self.genesis = session.ledger.genesis
        self._passphrase = passphrase
        self._records: ProvenRecords | None = None
        self._keys: list[PrivateKey] | None = None
        self._settled: list[Work] = []

    @property
    def agency(self) -> int:
        return self.session.agency

    @property
    def outbox(self) -> Outbox:
        return self.session.outbox

    @property
    def register(self) -> Register:
        return self.session.register

    @property
    def letters(self) -> Letters:
        return self.session.register.letters

    # --- the log and the registry, proven ---

    @property
    def records(self) -> ProvenRecords:
        """Raises CheckpointUntrusted, ProofInvalid, Unavailable; as all that is read from it."""
        return self._records or self.renew()

    @property
    def registry(self) -> ProvenRegistry:
        return self.records.registry

    def renew(self) -> ProvenRecords:
        """Read the log as of the newest checkpoint from now on."""
        session = self.session
        registry = ProvenRegistry(session.resources, session.ledger, fresh(session.client))
        self._records = ProvenRecords(registry, self.genesis)
        return self._records

    def title(self, agency: int) -> str:
        """How an agency is named to people: its number and its proven names."""
        try:
            names = self.registry.agency(agency).names.latest
        except RuleError:
            return f"agency {agency}"
        return f"agency {agency} ({printable(' · '.join(names.values()))})"

    def present(self, agency: int) -> int:
        """The agency, or whoever has succeeded it. Raises UnknownAgency."""
        return self.records.heirs(agency)[-1]

    # --- envelopes ---

    @property
    def access(self) -> EnvelopeAccess:
        """In whose name envelopes are fetched and dropped."""
        return EnvelopeAccess(self.agency, self.outbox.signers[0])

    @property
    def keys(self) -> list[PrivateKey]:
        """The agency's envelope keys, old ones too. Raises NoEnvelopeKey, KeyFileError, WrongPassphrase."""
        if self._keys is None:
            self._keys = []
            for file in self.session.here.key_files("envelope"):
                known = self._passphrase.to_open(file.path.name) if file.is_encrypted else None
                self._keys.append(file.open(known))
        if not self._keys:
            raise NoEnvelopeKey(
                f"no envelope key lies in {self.session.here.path}",
                where="--dir",
                fix="make one and have it registered: sudur agency keygen --use envelope",
            )
        return self._keys

    def addressee(self, agency: int) -> Addressee:
        """The newest proven key that a letter or reply to an agency is sealed to: its own, or its heir's.

        Raises UnknownAgency, NoEnvelopeKey.
        """
        return find_addressee(self.registry, agency)

    def fetch(self, digest: bytes) -> bytes:
        """The bytes of an envelope that a record names. Raises NotFound, EnvelopeWrongDigest, Unavailable."""
        if digest == NO_HASH:
            raise NotFound("no envelope goes with it", where="envelope")
        return self.session.client.get_envelope(self.genesis, self.access, digest)

    def drop(self, letter: Filed, digest: bytes) -> None:
        """Have the node forget an envelope whose contents are safe in the register. Raises Unavailable."""
        if digest != NO_HASH:
            self.session.client.drop_envelope(self.genesis, self.access, digest)
        self.letters.dropped(letter)

    # --- letters on their way out ---

    def save_letters(
        self,
        letter: Letter,
        to: Sequence[tuple[int, int | None]],
        kind: SendKind,
        due: int,
        *,
        waiting: bool = False,
    ) -> Work:
        """Seal one letter for each recipient, and save it all, on disk when it returns; nothing is sent.

        ``to``: each recipient, and the index of the letter that this one follows, if it follows one.
        Raises TooLarge, FormatError, UnknownAgency, NoEnvelopeKey.
        """
        sealed = [seal_letter(letter, self.genesis, self.addressee(agency)) for agency, _ in to]
        _, plaintext = letter_plaintext(letter, self.genesis, to[0][0])
        sends = [
            Send(
                self.agency,
                agency,
                one.commitment,
                kind,
                due,
                NONE if follows is None else follows,
                one.digest,
            )
            for (agency, follows), one in zip(to, sealed, strict=True)
        ]
        outbox = self.outbox
        with self.register.transaction():
            work = outbox.begin(SEND, {})
            outbox.add(
                work,
                [send.encode() for send in sends],
                waiting=waiting,
                envelopes=[one.data for one in sealed],
            )
            places = [(one.number, at) for one in outbox.submissions(work) for at in range(one.count)]
            self.letters.add_sent(sends, places, self.letters.keep(plaintext))
            self.register.journal.write(
                outbox.officer,
                SEND,
                {"work": work.number, "kind": kind.name.lower(), "to": [agency for agency, _ in to[:1000]]},
            )
        return work

    def finish(self) -> Finished:
        """Send what any run has left, see :meth:`finish_work`. Raises Unavailable."""
        letters: list[Filed] = []
        refused: list[Refusal] = []
        for kind in (SEND, ANSWER):
            for work in self.outbox.open_works(kind):
                done = self.finish_work(work)
                letters += done.letters
                refused += done.refused
        return Finished(tuple(letters), tuple(refused))

    def finish_work(self, work: Work) -> Finished:
        """Send one work. It is settled unless officers have yet to sign it. Raises Unavailable.

        It stays open until :meth:`close_settled`: a command that is cut off before it has said what it
        sent finds it again, and does not send it once more.
        """
        settled = self.outbox.finish(work)
        if any(one.state is State.WAITING for one in self.outbox.submissions(work)):
            return Finished()
        self._settled.append(work)
        self._records = None
        sent = [one for one in self.letters.of_work(work.number) if one.index is not None]
        return Finished(tuple(sent), settled.refused)

    def close_settled(self) -> None:
        """What was settled has been told of."""
        for work in self._settled:
            self.outbox.close(work)
        self._settled.clear()

    # --- what became of letters ---

    def refresh(self) -> None:
        """Ask how the unanswered letters of both ways stand. One call for 256 of them, 3 ms an answer.

        Raises ProofInvalid and the like for an answer that the node tells of and the log does not have.
        """
        size = self.registry.log.size
        waiting = [one for one in self.letters.unanswered() if one.index is not None and one.index < size]
        for start in range(0, len(waiting), _AT_ONCE):
            part = waiting[start : start + _AT_ONCE]
            states, _ = self.session.client.exchanges([one.index for one in part if one.index is not None])
            proven = [
                self.proven(state, one.follows, (one.received, one.final))
                for one, state in zip(part, states, strict=True)
            ]
            with self.register.transaction():
                for one, state in zip(part, proven, strict=True):
                    self.letters.note(one, state)

    def proven(self, sent: Sent, follows: int | None, known: tuple[int | None, ...] = ()) -> Sent:
        """What a node says of a letter, with its answers proven; those beyond the checkpoint left out.

        Only what is proven is remembered: a lie would otherwise stay when the liar has gone. ``known``:
        answers that were proven before. Raises as :class:`ProvenRecords`.
        """
        if sent.reminds not in (None, follows):
            raise ProofInvalid(f"leaf {sent.index} does not follow leaf {sent.reminds}")
        return replace(
            sent,
            received=self._proven(sent.index, sent.received, known, received=True),
            final=self._proven(sent.index, sent.final, known, received=False),
        )

    def _proven(
        self, subject: int, reply: Reply | None, known: tuple[int | None, ...], *, received: bool
    ) -> Reply | None:
        if reply is None or reply.index >= self.registry.log.size:
            return None
        if reply.index not in known:
            outcome = self.records.answer(reply.index, subject).record.outcome
            if (outcome is Outcome.RECEIVED) != received:
                raise ProofInvalid(f"leaf {reply.index} answers something else than is said")
        return reply


def _index(follows: int | None) -> int:
    return NONE if follows is None else follows


def new_seed() -> bytes:
    """The seed of a new letter or reply."""
    return os.urandom(SEED_SIZE)


def fault_of(error: SudurError) -> str:
    """How an envelope that does not open is remembered: the error's code and what it says."""
    return f"{error.code}: {error}"


UNREADABLE: Final = (FormatError, VerificationError, NotEntitled, NotFound)
"""What is wrong with one envelope, and no reason to stop at it."""


def parse_agencies(texts: Iterable[str], where: str) -> list[int]:
    """Agencies' numbers, each once, in order. Raises Usage."""
    found: dict[int, None] = {}
    for text in texts:
        word = text.strip()
        if not (word.isascii() and word.isdigit() and len(word) <= 10 and 1 <= int(word) < 2**32):
            raise Usage(
                f"{printable(word[:40])!r} is no agency's number", where=where, fix="write it like 3,7,12"
            )
        found[int(word)] = None
    return list(found)
