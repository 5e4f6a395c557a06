"""Searching sealed documents by words: an inverted index of blind tags, in sorted runs.

A posting is a u64, the tag of a folded word in the upper 40 bits (``Box.tag``), the document's number
less the run's first in the lower 24; a run is such postings in order, big-endian, in one blob, so that a
word is found by bisection without reading the rest. Documents that come together make one run, and
sixteen small runs are merged into one, so that there are few
whatever the number of documents. A tag that two words share shows as a false candidate: whoever asks
opens the document.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from math import log
from typing import TYPE_CHECKING, Final

from tools.register.box import Box
from tools.register.folding import words

if TYPE_CHECKING:
    from sqlite3 import Blob

    from tools.register.store import Register

_OFFSET_BITS: Final = 24
_LARGEST_SPAN: Final = 1 << _OFFSET_BITS
_FAN: Final = 16
_TOP_LEVEL: Final = 3
"""Runs of this level are not merged: a run that large is made by a bulk, or of 4,096 single documents."""

_LARGE: Final = 2048
_CACHED_WORDS: Final = 200_000
_MAX_ASKED: Final = 64
_MAX_SEEDS: Final = 20_000
"""Most postings that are read to gather candidates: the rarest words come first."""

_MAX_JUDGED: Final = 400
"""Most candidates of which every word is looked up."""


@dataclass(frozen=True, slots=True)
class Match:
    """A document that bears some of the words. ``score``: 0 to 1."""

    document: int
    score: float


class Tagger:
    """Turns texts into postings. Remembers the words that it has seen, since most come again."""

    def __init__(self, box: Box) -> None:
        self._tag = box.tag
        self._tags: dict[str, tuple[int, ...]] = {}
        self._folded: dict[str, int] = {}

    def tags(self, word: str) -> tuple[int, ...]:
        """The tags of what a word folds to, in place: shifted over the offset."""
        for known in (self._tags, self._folded):
            if len(known) > _CACHED_WORDS:
                known.clear()
        found = []
        for one in words(word):
            tag = self._folded.get(one)
            if tag is None:
                tag = self._folded[one] = self._tag(one) << _OFFSET_BITS
            found.append(tag)
        self._tags[word] = tags = tuple(found)
        return tags

    def postings(self, texts: Sequence[str]) -> bytes:
        """The run of documents that follow one another, of which these are the texts. 10 µs each."""
        known, look = self._tags.get, self.tags
        entries: list[int] = []
        add = entries.append
        for offset, text in enumerate(texts):
            for word in text.split():
                for tag in known(word) or look(word):
                    add(tag | offset)
        entries.sort()
        return _bytes(array("Q", entries))


class Search:
    """The search index of one register."""

    def __init__(self, register: Register) -> None:
        self._register = register
        self._tagger = Tagger(register.box)

    def add(self, first: int, count: int, postings: bytes) -> None:
        """Index documents that follow one another, within a transaction of the caller's."""
        level = _TOP_LEVEL if count >= _LARGE else 0
        self._put(level, first, count, postings)
        self._merge(level)

    def find(self, text: str, limit: int) -> list[Match]:
        """The documents that bear most of a text's words, rare words counting more."""
        tags = list(dict.fromkeys(chain.from_iterable(map(self._tagger.tags, text.split()))))[:_MAX_ASKED]
        total = self._register.row("SELECT coalesce(max(id), 0) FROM documents")
        if not tags or total is None or not total[0]:
            return []
        with self._runs() as runs:
            counts = {tag: sum(len(run.range(tag)) for run in runs) for tag in tags}
            weights = {tag: log(1 + total[0] / max(count, 1)) for tag, count in counts.items()}
            seeds: dict[int, float] = {}
            left = _MAX_SEEDS
            for tag in sorted(tags, key=lambda tag: counts[tag]):
                for run in runs:
                    found = run.documents(tag, left)
                    left -= len(found)
                    for document in found:
                        seeds[document] = seeds.get(document, 0.0) + weights[tag]
            judged = sorted(seeds, key=lambda one: (-seeds[one], one))[:_MAX_JUDGED]
            whole = sum(weights.values())
            matches = []
            for document in judged:
                near = [run for run in runs if run.first <= document < run.first + run.span]
                borne = (tag for tag in tags if any(run.has(tag, document) for run in near))
                score = sum(weights[tag] for tag in borne) / whole
                matches.append(Match(document, score))
        return sorted(matches, key=lambda one: (-one.score, one.document))[:limit]

    def _put(self, level: int, first: int, span: int, entries: bytes) -> None:
        self._register.run(
            "INSERT INTO postings (level, document, span, entries) VALUES (?, ?, ?, ?)",
            (level, first, span, entries),
        )

    def _merge(self, level: int) -> None:
        """Sixteen runs of a level become one of the next."""
        found = self._register.row("SELECT count(*) FROM postings WHERE level = ?", (level,))
        if found is None or found[0] < _FAN or level == _TOP_LEVEL:
            return
        runs = list(
            self._register.rows(
                "SELECT id, document, span, entries FROM postings WHERE level = ? ORDER BY document", (level,)
            )
        )
        first = runs[0][1]
        span = runs[-1][1] + runs[-1][2] - first
        if span > _LARGEST_SPAN:  # so far apart that an offset would not hold it: as they are, then
            self._register.run("UPDATE postings SET level = ? WHERE level = ?", (_TOP_LEVEL, level))
            return
        merged = array("Q")
        for _, start, _, entries in runs:
            part = _array(entries)
            merged.extend(array("Q", (entry + start - first for entry in part)) if start != first else part)
        self._register.run("DELETE FROM postings WHERE level = ?", (level,))
        self._put(level + 1, first, span, _bytes(array("Q", sorted(merged))))
        self._merge(level + 1)

    @contextmanager
    def _runs(self) -> Iterator[list[_Run]]:
        register = self._register
        rows = list(
            register.rows("SELECT id, document, span, length(entries) FROM postings ORDER BY document")
        )
        opened: list[_Run] = []
        try:
            for row, first, span, length in rows:
                opened.append(_Run(first, span, length // 8, register.blob("postings", "entries", row)))
            yield opened
        finally:
            for run in opened:
                run.blob.close()


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of postings, read by bisection."""

    first: int
    span: int
    count: int
    blob: Blob

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, position: int) -> int:
        return int.from_bytes(self._read(position, position + 1), "big")

    def range(self, tag: int) -> range:
        """Where the postings of a tag (shifted) are."""
        return range(bisect_left(self, tag), bisect_left(self, tag + _LARGEST_SPAN))

    def documents(self, tag: int, most: int) -> list[int]:
        found = self.range(tag)[: max(most, 0)]
        entries = _array(self._read(found.start, found.stop))
        return [self.first + entry - tag for entry in entries]

    def _read(self, start: int, stop: int) -> bytes:
        self.blob.seek(8 * start)
        return self.blob.read(8 * (stop - start))

    def has(self, tag: int, document: int) -> bool:
        entry = tag + document - self.first
        at = bisect_left(self, entry)
        return at < self.count and self[at] == entry


def _array(data: bytes) -> array[int]:
    entries = array("Q", data)
    if sys.byteorder == "little":
        entries.byteswap()
    return entries


def _bytes(entries: array[int]) -> bytes:
    if sys.byteorder == "little":
        entries.byteswap()
    return entries.tobytes()
