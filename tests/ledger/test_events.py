"""The list of what happened to 4,096 subjects: read strictly, believed by nobody."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from ledger.errors import ProofInvalid
from ledger.leaves import LeafType
from ledger.resources import MAX_EVENTS_BYTES, Event, SubjectEvents, encode_events, fetch_events

S, A = LeafType.STATUS, LeafType.ATTEST
SPAN = 4_096


@dataclass
class Fixed:
    """Serves one body."""

    data: bytes

    def fetch(self, path: str) -> bytes:
        assert path == "status/events/1"
        return self.data


def test_events_are_read_as_they_were_written() -> None:
    events = [Event(SPAN, A, SPAN + 7), Event(SPAN, S, SPAN + 9), Event(2 * SPAN - 1, S, 2**64 - 2)]
    assert fetch_events(Fixed(encode_events(events)), 1) == events
    assert fetch_events(Fixed(b""), 1) == []


@pytest.mark.parametrize(
    "events",
    [
        [Event(SPAN + 1, S, SPAN + 9), Event(SPAN, S, SPAN + 10)],
        [Event(SPAN, S, SPAN + 9), Event(SPAN, S, SPAN + 9)],
        [Event(SPAN, S, SPAN + 9), Event(SPAN, A, SPAN + 8)],
        [Event(SPAN, LeafType.ISSUE, SPAN + 9)],
    ],
)
def test_what_is_not_in_its_form_is_refused(events: list[Event]) -> None:
    with pytest.raises(ProofInvalid):
        fetch_events(Fixed(encode_events(events)), 1)


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        bytes(10),
        bytes(12),
        bytes(MAX_EVENTS_BYTES + 11),
        b"\0\0\x09" + bytes(8),
        b"\x10\0\x02" + bytes(8),
    ],
)
def test_bytes_that_are_no_events_are_refused(data: bytes) -> None:
    with pytest.raises(ProofInvalid):
        fetch_events(Fixed(data), 1)


def test_only_leaves_between_the_subject_and_the_end_are_looked_at() -> None:
    low, fine, late = Event(SPAN + 5, A, 3), Event(SPAN + 5, A, SPAN + 6), Event(SPAN + 5, A, SPAN + 90)
    known = SubjectEvents(Fixed(encode_events([low, fine, late])), SPAN + 90)
    assert known.on(SPAN + 5, A) == [SPAN + 6]
    assert known.on(SPAN + 5, S) == []
    assert known.on(SPAN + 6, A) == []
