"""Letters and answers as people and scripts read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ledger.canonical_json import Json
from ledger.documents import Field, FieldKind
from ledger.envelope_bodies import Letter, Reply, ReplyOutcome
from ledger.records import SendKind
from ledger.references import reference_digits, reference_text
from ledger.signing_policy import DAY_MS
from ledger.verdicts import HEADLINES, Verdict
from tools.agency.outbox import State
from tools.describe import moment
from tools.letters.desk import Desk
from tools.letters.inbox import Candidate, Difference
from tools.register.letters import Filed, Way
from tools.ui import printable, quoted

OUTCOMES = {
    ReplyOutcome.CONFIRMED: "confirmed",
    ReplyOutcome.DENIED: "denied: it is not genuine",
    ReplyOutcome.NO_RECORD: "no record of it was found",
    ReplyOutcome.MORE_NEEDED: "more is needed to answer",
    ReplyOutcome.DIFFERS: "there is such a document, but it differs",
    ReplyOutcome.TRANSFERRED: "passed on to another agency",
}


def state_of(letter: Filed, now_ms: int) -> str:
    """How far a letter is, in a word or two."""
    if letter.state is not None and letter.index is None:
        return {
            State.WAITING: "waits for other officers",
            State.PREPARED: "not sent yet",
            State.REFUSED: "refused",
        }[State(letter.state)]
    if letter.reminds is not None:
        return "reminder"
    if letter.final is not None:
        return "answered"
    if letter.overdue(now_ms):
        return "overdue"
    return "open" if letter.received is None else "received"


def letter_json(desk: Desk, letter: Filed, *, contents: bool = True) -> dict[str, Json]:
    """A letter with how it stands; its fields and its answer too, unless ``contents`` is False."""
    now_ms = desk.register.now_ms()
    body: dict[str, Json] = {
        "number": None if letter.index is None else reference_digits(letter.index),
        "index": None if letter.index is None else str(letter.index),
        "agency": letter.agency,
        "kind": letter.kind.name.lower(),
        "state": state_of(letter, now_ms),
        "error": letter.error,
        "sent_ms": letter.sent_ms,
        "due_days": letter.due,
        "overdue": letter.overdue(now_ms),
        "follows": None if letter.follows is None else reference_digits(letter.follows),
        "received_ms": letter.received_ms,
        "final_ms": letter.final_ms,
        "reminders": [
            None if one.index is None else reference_digits(one.index)
            for one in desk.letters.reminders(letter)
        ],
        "doubtful": letter.doubtful,
        "fault": letter.fault,
    }
    if not contents:
        return body
    body["letter"] = None if letter.content is None else fields_json(desk.letters.letter(letter))
    reply = desk.letters.reply(letter)
    body["answer"] = None if reply is None else reply_json(reply)
    body["answer_fault"] = letter.reply_fault
    return body


def fields_json(letter: Letter) -> dict[str, Json]:
    enclosed = {one.name: len(one.data) for one in letter.files}
    return {
        "type": letter.document.document_type,
        "fields": [
            {"name": one.name, "value": one.value.decode()}
            if one.kind is FieldKind.TEXT
            else {"name": one.name, "sha256": one.value.hex(), "enclosed_bytes": enclosed.get(one.name)}
            for one in letter.document.fields[1:]
        ],
    }


def reply_json(reply: Reply) -> dict[str, Json]:
    return {
        "outcome": reply.outcome.value,
        "note": reply.note,
        "document": None if reply.issued is None else reference_digits(reply.issued.index),
        "successor": reply.successor,
    }


def candidate_json(candidate: Candidate) -> dict[str, Json]:
    one = candidate.document
    return {
        "document": one.number,
        "index": None if one.index is None else str(one.index),
        "score": round(candidate.score, 4),
        "differences": [
            {"name": each.name, "asked": each.asked, "there": each.there, "in_writing_only": each.folds}
            for each in candidate.differences
            if not each.same
        ],
    }


# --- for people --------------------------------------------------------------------------------


def letter_line(desk: Desk, letter: Filed) -> str:
    """A letter in one line: number, state, kind, whom, age, due."""
    now_ms = desk.register.now_ms()
    preposition = "to" if letter.way is Way.SENT else "from"
    parts = [
        letter.name,
        state_of(letter, now_ms),
        f"{letter.kind.name.lower()} {preposition} {desk.title(letter.agency)}",
    ]
    if letter.sent_ms is not None:
        parts.append(_age(now_ms - letter.sent_ms))
        if letter.due and letter.final is None:
            parts.append(f"due {moment(letter.sent_ms + letter.due * DAY_MS)[:10]}")
    if letter.follows is not None and letter.reminds is None:
        parts.append(f"follows {reference_text(letter.follows)}")
    if reminders := len(desk.letters.reminders(letter)):
        parts.append(f"{reminders} reminder{'s' if reminders > 1 else ''}")
    if letter.doubtful:
        what = "it" if letter.way is Way.RECEIVED else "the answer"
        parts.append(f"DOUBTFUL: a key that signed {what} is reported stolen")
    return "  ".join(parts)


def letter_lines(desk: Desk, letter: Filed) -> Iterator[str]:
    """What a letter says, or why that cannot be read; and why it was refused."""
    if letter.error is not None:
        yield f"    refused: {printable(letter.error)}"
    if letter.content is None:
        yield f"    its envelope is bad: {printable(letter.fault or '')}"
        return
    said = desk.letters.letter(letter)
    enclosed = {one.name: len(one.data) for one in said.files}
    for one in said.document.fields[1:]:
        yield f"    {field_text(one)}{_enclosed(one, enclosed)}"


def field_text(one: Field) -> str:
    """A field with its value in quotes: nothing in it can steer a terminal, or look like another field."""
    if one.kind is FieldKind.TEXT:
        return f"{printable(one.name)}: {quoted(one.value.decode())}"
    return f"file {printable(one.name)}: SHA-256 {one.value.hex()}"


def reply_lines(desk: Desk, letter: Filed, verdict: Verdict | None = None) -> Iterator[str]:
    """What the final answer says, and what its document proves."""
    if letter.reply_fault is not None:
        yield f"    its answer is bad: {printable(letter.reply_fault)}"
    reply = desk.letters.reply(letter)
    if reply is None:
        return
    yield f"    answer: {OUTCOMES[reply.outcome]}"
    if reply.successor is not None:
        yield f"    to: {desk.title(reply.successor)}"
    if reply.note:
        yield f"    note: {quoted(reply.note)}"
    if reply.issued is not None:
        yield f"    document: number {reference_text(reply.issued.index)}"
        for one in reply.issued.document.shown[1:]:
            yield f"      {field_text(one)}"
    elif reply.outcome is ReplyOutcome.CONFIRMED and letter.kind is SendKind.REQUEST:
        yield "    it names no document: nothing but this answer stands for it"
    if verdict is not None:
        why = f": {printable(verdict.reason)}" if verdict.reason else ""
        yield f"    proven: {HEADLINES[verdict.code]}{why}"


def candidate_lines(candidates: Sequence[Candidate]) -> Iterator[str]:
    """Documents of the register that may be meant, with every field that is not the same."""
    for candidate in candidates:
        one = candidate.document
        place = "not in the log" if one.index is None else f"number {reference_text(one.index)}"
        differing = [each for each in candidate.differences if not each.same]
        same = len(candidate.differences) - len(differing)
        compared = f"{same} of {len(candidate.differences)} fields are the same"
        yield f"    {100 * candidate.score:3.0f} %  --document {one.number}, {place}: {compared}"
        for each in differing:
            yield f"           {_difference(each)}"


def _difference(one: Difference) -> str:
    asked = "nothing" if one.asked is None else quoted(one.asked)
    there = "nothing" if one.there is None else quoted(one.there)
    writing = " (in writing alone)" if one.folds else ""
    return f"{printable(one.name)}: the letter has {asked}, the register {there}{writing}"


def _enclosed(one: Field, enclosed: dict[str, int]) -> str:
    if one.kind is FieldKind.TEXT:
        return ""
    size = enclosed.get(one.name)
    return " (comes another way)" if size is None else f" ({size} bytes enclosed)"


def _age(age_ms: int) -> str:
    days = max(age_ms, 0) // DAY_MS
    return "today" if days == 0 else f"{days} day{'s' if days > 1 else ''} old"
