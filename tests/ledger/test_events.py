"""The list of what happened to the subjects of a status chunk: read strictly, believed by nobody."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from ledger.errors import ProofInvalid
from ledger.leaves import LeafType
from ledger.resources import Event, SubjectEvents, encode_events, fetch_events

S, A = LeafType.STATUS, LeafType.ATTEST
CHUNK = 65_536


@dataclass
class Fixed:
    """Serves one body."""

    data: bytes

    def fetch(self, path: str) -> bytes:
        assert path == "status/events/1"
        return self.data


def test_events_are_read_as_they_were_written() -> None:
    events = [Event(CHUNK, A, CHUNK + 7), Event(CHUNK, S, CHUNK + 9), Event(2 * CHUNK - 1, S, 2**64 - 2)]
    assert fetch_events(Fixed(encode_events(events)), 1) == events
    assert fetch_events(Fixed(b""), 1) == []


@pytest.mark.parametrize(
    "events",
    [
        [Event(CHUNK + 1, S, CHUNK + 9), Event(CHUNK, S, CHUNK + 10)],
        [Event(CHUNK, S, CHUNK + 9), Event(CHUNK, S, CHUNK + 9)],
        [Event(CHUNK, S, CHUNK + 9), Event(CHUNK, A, CHUNK + 8)],
        [Event(CHUNK, LeafType.ISSUE, CHUNK + 9)],
    ],
)
def test_what_is_not_in_its_form_is_refused(events: list[Event]) -> None:
    with pytest.raises(ProofInvalid):
        fetch_events(Fixed(encode_events(events)), 1)


@pytest.mark.parametrize("data", [b"x", bytes(10), bytes(12), bytes(11 << 20), b"\0\0\x09" + bytes(8)])
def test_bytes_that_are_no_events_are_refused(data: bytes) -> None:
    with pytest.raises(ProofInvalid):
        fetch_events(Fixed(data), 1)


def test_only_leaves_between_the_subject_and_the_end_are_looked_at() -> None:
    low, fine, late = Event(CHUNK + 5, A, 3), Event(CHUNK + 5, A, CHUNK + 6), Event(CHUNK + 5, A, CHUNK + 90)
    known = SubjectEvents(Fixed(encode_events([low, fine, late])), CHUNK + 90)
    assert known.on(CHUNK + 5, A) == [CHUNK + 6]
    assert known.on(CHUNK + 5, S) == []
    assert known.on(CHUNK + 6, A) == []
