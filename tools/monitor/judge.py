"""A proven stretch of the log against the register: what is there that should not be, what is not there.

The register has what it is about to send before it is sent. So whatever the log holds in the agency's
name and no register knows was made elsewhere: by a thief with a key, or by an insider beside the system.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ledger.canonical_json import Json
from ledger.changes import KeysAdded
from ledger.errors import FormatError, SignatureInvalid
from ledger.records import StatusChange
from ledger.registry_records import KeyRecord
from ledger.signatures import key_fingerprint, verify
from tools.agency.outbox import record_kind
from tools.monitor.findings import Finding, Findings, Level, Standing
from tools.monitor.log import Chunk
from tools.monitor.registers import NOWHERE, OtherRegister, OwnRegister, Row, body_of
from tools.monitor.scan import Concerning, MadeChange, OwnSubmission
from tools.monitor.state import Seen
from tools.registry.change_text import describe, fingerprint

_SHOWN_SUBJECTS: Final = 20


@dataclass(slots=True)
class Judge:
    """For one transaction: it changes ``seen`` and writes ``findings``. ``keys``: the agency's, by number,
    as far as they could be had, for labels and signatures. ``held``: the public keys at hand.
    """

    genesis: bytes
    agency: int
    register: OwnRegister
    others: Sequence[OtherRegister]
    keys: Mapping[int, KeyRecord]
    held: frozenset[bytes]
    seen: Seen
    findings: Findings
    _foreign: list[tuple[int, int]] = field(default_factory=list)
    _counted: int = 0

    # --- the register, as it stands by now ---

    def review(self) -> None:
        """What became of the register since the last reading: rows that went, or came where none can be."""
        seen, size = self.seen, self.seen.tree.size
        settled = 0
        for number, logged in list(seen.unsettled.items()):
            row = self.register.row(number)
            if row is not None and row.first == NOWHERE:
                continue
            del seen.unsettled[number]
            if row is None or row.first == logged:
                settled += logged is not None  # in the register, or gone from it: the count below tells
            elif seen.start < row.first <= size:
                self._not_in_log(row)
        for row in self.register.placed_late(seen.rows, seen.start, size):
            self._not_in_log(row)
        expected, there = seen.placed + settled, self.register.count(seen.start, size)
        if there < expected:
            facts: dict[str, Json] = {"missing": expected - there, "from": str(seen.start)}
            self._alarm("ROWS_GONE", f"{expected} {there} {size}", None, facts)
        for one in self.findings.alarms():
            if one.code == "UNKNOWN_SUBMISSION" and self._is_known(one):
                self.findings.settle(one, Standing.EXPLAINED, "a register knows it")
        self._remember()

    def _is_known(self, one: Finding) -> bool:
        assert one.index is not None
        first, body = one.index + 1, bytes.fromhex(one.facts["body"])
        return self.register.knows(first, body) or any(other.knows(first, body) for other in self.others)

    def _remember(self) -> None:
        seen = self.seen
        waiting = self.register.unsettled().values()
        logged = {number: first for number, first in seen.unsettled.items() if first is not None}
        seen.unsettled = {**dict.fromkeys(waiting), **logged}
        seen.rows = self.register.greatest()
        seen.placed = self.register.count(seen.start, seen.tree.size)

    # --- a chunk ---

    def take(self, chunk: Chunk, found: Concerning) -> None:
        """Judge a chunk that follows what was seen; ``found``: what in it concerns the agency."""
        seen = self.seen
        self._submissions(chunk, found.own)
        for stray in found.strays:
            facts: dict[str, Json] = {"kind": stray.kind.name, "sealed_ms": stray.sealed_ms}
            self._alarm("STRAY_RECORD", str(stray.index), stray.index, facts)
        for made in found.changes:
            self._change(made)
        self._statuses(found.statuses)
        for index, attest in found.attests:
            if attest.subject < index and self._owns(attest.subject):
                seen.tally.attest(attest.agency)
        for index, affirm, sealed_ms in found.affirms:
            facts = {
                "by": affirm.agency,
                "first": str(affirm.first),
                "last": str(affirm.last),
                "sealed_ms": sealed_ms,
            }
            self._put(Level.NOTE, "AFFIRMED", str(index), index, facts)
        for warned in seen.habits.warnings():
            first = warned.facts.get("first")
            facts = {"key": self._key_json(warned.key), "day": warned.day, **warned.facts}
            self._put(
                Level.WARNING, warned.code, warned.identity, None if first is None else int(first), facts
            )
        seen.tally.leaves += len(chunk.leaves)
        seen.tree = chunk.tree
        seen.sealed_ms = None if found.last_seal is None else found.last_seal.time_ms
        self._remember()

    def _submissions(self, chunk: Chunk, own: Sequence[OwnSubmission]) -> None:
        """Both sides in the order of the log: what one has and the other has not is an alarm."""
        rows = self.register.placed(chunk.first, chunk.tree.size)
        row = next(rows, None)
        waiting = self.register.unsettled()
        for one in own:
            while row is not None and row.first < one.first:
                self._not_in_log(row)
                row = next(rows, None)
            known = False
            if row is not None and row.first == one.first:
                known = row.is_of(one, self.register.box)
                if not known:
                    self._not_in_log(row)
                row = next(rows, None)
            self._submission(one, known or self._on_its_way(one, waiting))
        while row is not None:
            self._not_in_log(row)
            row = next(rows, None)

    def _submission(self, one: OwnSubmission, known: bool) -> None:
        seen = self.seen
        kinds = _kinds(one.records)
        seen.tally.submissions += 1
        seen.tally.records += len(one.records)
        if not known and not any(other.knows(one.first, body_of(one.leaf)) for other in self.others):
            self._unknown(one, kinds)
        elif one.index >= seen.fed:
            keys = [signature.number for signature in one.head.signatures]
            seen.habits.feed(one.sealed_ms, keys, kinds, one.index)
            seen.fed = one.index + 1

    def _on_its_way(self, one: OwnSubmission, waiting: dict[bytes, int]) -> bool:
        """Whether the register has sent it and does not know yet, or was told that it was refused."""
        body = body_of(one.leaf)
        number = waiting.get(body)
        if number is None:
            number = self.register.refused().get(body)
            row = None if number is None else self.register.row(number)
            if number is None or row is None:
                return False
            facts: dict[str, Json] = {"work": row.work, "records": len(one.records)}
            self._put(Level.WARNING, "LOGGED_THOUGH_REFUSED", str(one.index), one.index, facts)
        self.seen.unsettled[number] = one.first
        return True

    def _unknown(self, one: OwnSubmission, kinds: dict[str, int]) -> None:
        numbers = [signature.number for signature in one.head.signatures]
        facts: dict[str, Json] = {
            "keys": [self._key_json(number) for number in numbers],
            "signatures": self._signatures(one),
            "claimed_ms": one.head.claimed_ms if one.head.claimed_ms < 1 << 53 else str(one.head.claimed_ms),
            "sealed_ms": one.sealed_ms,
            "block": str(one.block),
            "records": len(one.records),
            "kinds": dict(kinds),
            "first": str(one.first),
            "unusual_hour": self.seen.habits.unusual(one.sealed_ms),
            "body": body_of(one.leaf).hex(),
        }
        self._alarm("UNKNOWN_SUBMISSION", str(one.index), one.index, facts)

    def _not_in_log(self, row: Row) -> None:
        facts: dict[str, Json] = {
            "submission": row.number,
            "work": row.work,
            "kind": row.kind,
            "records": row.count,
            "first": str(row.first),
        }
        self._alarm("NOT_IN_LOG", f"{row.number} {row.first}", row.first - 1, facts)

    # --- what others did ---

    def _change(self, made: MadeChange) -> None:
        facts: dict[str, Json] = {
            "change": made.change.body.NAME,
            "words": describe(made.change),
            "by": [[one.agency, one.number] for one in made.leaf.signatures],
            "sealed_ms": made.sealed_ms,
        }
        self._put(Level.NOTE, "REGISTRY_CHANGE", str(made.index), made.index, facts)
        body, subject = made.change.body, made.change.subject
        if isinstance(body, KeysAdded) and (subject.kind, subject.number) == ("agency", self.agency):
            for key in body.keys:
                facts = {
                    "key": {"number": key.number, "label": key.label, "use": key.use},
                    "fingerprint": fingerprint(key.algorithm, key.public_key),
                    "here": key.public_key in self.held,
                    "sealed_ms": made.sealed_ms,
                }
                self._put(Level.WARNING, "NEW_KEY", f"{made.index} {key.number}", made.index, facts)

    def _statuses(self, changes: Sequence[tuple[int, StatusChange, int]]) -> None:
        """STATUS on the agency's documents by others, gathered by who and what."""
        grouped: dict[tuple[int, str], list[tuple[int, StatusChange, int]]] = {}
        for index, change, sealed_ms in changes:
            if change.subject < index and self._owns(change.subject):
                grouped.setdefault((change.agency, change.status.name), []).append((index, change, sealed_ms))
        for (agency, status), some in grouped.items():
            facts: dict[str, Json] = {
                "by": agency,
                "status": status.lower(),
                "count": len(some),
                "subjects": [str(change.subject) for _, change, _ in some[:_SHOWN_SUBJECTS]],
                "sealed_ms": some[0][2],
            }
            self._put(Level.NOTE, "STATUS_BY_OTHER", str(some[0][0]), some[0][0], facts)

    def _owns(self, index: int) -> bool:
        """Whether a record of the agency is there, as far as its registers and the alarms tell."""
        if self.register.owns(index) or any(other.owns(index) for other in self.others):
            return True
        if self._counted != len(self.findings):
            self._counted = len(self.findings)
            self._foreign = sorted(
                (one.index, one.facts["records"])
                for one in self.findings.all()
                if one.code == "UNKNOWN_SUBMISSION" and one.index is not None
            )
        place = bisect_left(self._foreign, (index,)) - 1
        return place >= 0 and index <= sum(self._foreign[place])

    # --- keys ---

    def _key_json(self, number: int) -> Json:
        key = self.keys.get(number)
        return {
            "number": number,
            "label": None if key is None else key.label,
            "use": None if key is None else key.use,
        }

    def _signatures(self, one: OwnSubmission) -> str:
        """``valid``, ``invalid`` (then the log broke its rules), or ``unchecked``."""
        for signature in one.head.signatures:
            key = self.keys.get(signature.number)
            if key is None:
                return "unchecked"
            message = one.head.message(self.genesis, key_fingerprint(key.algorithm, key.public_key))
            try:
                verify(key.algorithm, key.public_key, message, signature.signature)
            except SignatureInvalid:
                return "invalid"
        return "valid"

    # --- findings ---

    def _alarm(self, code: str, identity: str, index: int | None, facts: dict[str, Json]) -> None:
        self._put(Level.ALARM, code, identity, index, facts)

    def _put(self, level: Level, code: str, identity: str, index: int | None, facts: dict[str, Json]) -> None:
        self.findings.put(level, code, f"{code} {identity}", index, facts)
        self.seen.findings = len(self.findings)


def _kinds(records: Sequence[bytes]) -> dict[str, int]:
    """How many records of each kind, as a signing policy counts them."""
    counts: Counter[str] = Counter()
    samples = {leaf[1:9:7]: leaf for leaf in records}  # the type, and an ISSUE's basis
    for head, count in Counter(leaf[1:9:7] for leaf in records).items():
        try:
            counts[record_kind(samples[head])] += count
        except FormatError:
            counts["unreadable"] += count
    return dict(counts)
