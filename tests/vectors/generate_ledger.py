"""Makes ``ledger.json``: a small ledger block by block, with all six records, a theft and its undoing.

Written from docs/format.md with struct, hashlib and json alone, and with the recount of the figures
(tests/ledger/recount.py), which is; nothing of ``ledger`` is imported. Run as ``python -m
tests.vectors.generate_ledger`` from the root of the repository.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from tests.ledger.recount import Recount
from tests.vectors.generate_leaves import (
    NONE,
    ZERO,
    authority_key,
    b64,
    canonical,
    fingerprint,
    key,
    leaf_hash,
    public,
    registry_leaf,
    root,
)

ORIGIN: Final = "ledger.example/vectors"
START_MS: Final = 1_767_225_600_000
DAY_MS: Final = 86_400_000
CHUNK: Final = 16_384
ROOT: Final = [(0, 1, "root 1")]
ROLES: Final = ["attest", "issue", "request"]

Case = dict[str, Any]


def hash_of(name: str) -> bytes:
    return sha256(name.encode()).digest()


def vkey() -> str:
    typed = b"\x01" + public("log")
    identity = sha256(ORIGIN.encode() + b"\n" + typed).digest()[:4]
    return f"{ORIGIN}+{identity.hex()}+{b64(typed)}"


class Ledger:
    """Leaves and records as docs/format.md tells them; each block is given as cases of the vector."""

    def __init__(self) -> None:
        self.leaves: list[bytes] = []
        self.block: list[bytes] = []
        self.seals: list[int] = []
        self.statuses: dict[int, int] = {}
        self.exchanges: dict[int, list[int | None]] = {}
        self.genesis = ZERO
        self.agencies: list[dict[str, Any]] = []
        self.keys: list[list[dict[str, Any]]] = []
        self.cases: list[Case] = []
        self.ledger: dict[str, Any] = {
            "kind": "ledger",
            "origin": ORIGIN,
            "training": True,
            "changed": "0",
            "agencies": 0,
            "types": 0,
            "threshold": [{"from": "0", "value": 1}],
            "authority_keys": [{**authority_key(1, "root 1"), "added": "0", "ended": None}],
            "log_keys": [{"vkey": vkey(), "added": "0", "last_size": None}],
            "witness_policy": [{"from": "0", "value": ""}],
            "rules": [{"from": "0", "value": 1}],
            "closed": None,
        }

    @property
    def next(self) -> int:
        return len(self.leaves) + len(self.block)

    # --- leaves ---

    def found(self) -> None:
        body = {
            "change": "genesis",
            "subject": "ledger",
            "previous": str(NONE),
            "origin": ORIGIN,
            "nonce": b64(hash_of("nonce")),
            "training": True,
            "time_ms": str(START_MS),
            "log_keys": [vkey()],
            "authority": {"k": 1, "keys": [authority_key(1, "root 1")]},
            "witness_policy": "",
        }
        leaf = registry_leaf(canonical(body), ROOT, ZERO)
        self.genesis = leaf_hash(leaf)
        self.block.append(leaf)

    def change(self, number: int, /, **members: Any) -> int:
        """A change of an agency by the authority; returns its index."""
        at = self.next
        previous = self.agencies[number - 1]["changed"] if number <= len(self.agencies) else str(NONE)
        body = {"subject": f"agency/{number}", "previous": previous, **members}
        self.block.append(registry_leaf(canonical(body), ROOT, self.genesis))
        return at

    def enrol(self, number: int, parent: int) -> None:
        values = {
            "names": {"en": f"Agency {number}"},
            "parent": parent,
            "roles": ROLES,
            "types": [0],
            "policy": {},
        }
        at = self.change(number, change="agency_enrolled", **values)
        self.agencies.append(
            {
                "kind": "agency",
                "number": number,
                "changed": str(at),
                **{name: [{"from": str(at), "value": value}] for name, value in values.items()},
                "suspended": [{"from": str(at), "value": None}],
                "successor": [{"from": str(at), "value": None}],
                "affirmed": [],
                "keys": {"count": 0, "root": b64(root([]))},
                "stolen_since": None,
            }
        )
        self.keys.append([])
        self.ledger["agencies"] = number
        fresh = [
            {"number": n, "algorithm": 1, "key": b64(public(f"{number} {n}")), "use": "submit", "label": ""}
            for n in (1, 2)
        ]
        at = self.change(number, change="keys_added", keys=fresh)
        for one in fresh:
            self.keys[-1].append(
                {
                    "kind": "key",
                    "agency": number,
                    **one,
                    "added": str(at),
                    "added_by": [[0, 1]],
                    "ended": None,
                    "stolen": None,
                }
            )
        self._changed(number, at)

    def _changed(self, number: int, at: int) -> None:
        hashes = [leaf_hash(canonical(one)) for one in self.keys[number - 1]]
        self.agencies[number - 1].update(
            {"changed": str(at), "keys": {"count": len(hashes), "root": b64(root(hashes))}}
        )

    def steal(self, number: int, which: int, since: int) -> None:
        at = self.change(number, change="key_stolen", number=which, since=str(since))
        self.keys[number - 1][which - 1]["stolen"] = {"since": str(since), "declared": str(at)}
        self.agencies[number - 1]["stolen_since"] = str(since)
        self._changed(number, at)

    def move(self, number: int, parent: int) -> None:
        at = self.change(number, change="agency_moved", parent=parent)
        self.agencies[number - 1]["parent"].append({"from": str(at), "value": parent})
        self.agencies[number - 1]["changed"] = str(at)

    def amend(self, **members: Any) -> int:
        """A change of the ledger's own record; returns its index."""
        at = self.next
        body = {"subject": "ledger", "previous": self.ledger["changed"], **members}
        self.block.append(registry_leaf(canonical(body), ROOT, self.genesis))
        return at

    def close(self) -> None:
        following = {"genesis": b64(hash_of("next")), "origin": "ledger.example/next"}
        at = str(self.amend(change="ledger_closed", successor=following))
        self.ledger.update({"changed": at, "closed": {"from": at, **following}})

    def end(self, more: int) -> None:
        """End the only log key, ``more`` leaves above the next block's least size."""
        last = str(self.next + 2 + more)
        at = str(self.amend(change="log_key_ended", vkey=vkey(), last_size=last))
        self.ledger["changed"] = at
        self.ledger["log_keys"][0]["last_size"] = last

    def submit(self, agency: int, *records: bytes, by: Sequence[int] = (1,)) -> int:
        """A submission, claimed at the time of the last seal; returns its first record's index."""
        body = struct.pack(">BBII", 1, 0x20, agency, len(records)) + root([leaf_hash(one) for one in records])
        body += struct.pack(">Q", START_MS if not self.seals else self.time)
        leaf = body + bytes((len(by),))
        for number in by:
            name = f"{agency} {number}"
            message = b"sudur/v1/submission\n" + self.genesis + fingerprint(name) + body
            leaf += struct.pack(">HBH", number, 1, 64) + key(name).sign(message).signature
        self.block += [leaf, *records]
        return self.next - len(records)

    def affirm(self, agency: int, target: int, first: int, last: int, by: Sequence[int] = (1,)) -> None:
        at = self.next
        self.submit(agency, struct.pack(">BBIIQQ", 1, 6, agency, target, first, last), by=by)
        self.agencies[target - 1]["affirmed"].append(
            {"first": str(first), "last": str(last), "at": str(at), "by": agency, "keys": list(by)}
        )

    def status(self, agency: int, subject: int, previous: int, to: int, by: Sequence[int] = (1,)) -> int:
        leaf = struct.pack(">BBIQQBBQ", 1, 2, agency, subject, previous, to, 0, NONE)
        self.statuses[subject] = to
        return self.submit(agency, leaf, by=by)

    def ask(self, agency: int, recipient: int, due: int, follows: int = NONE, reminds: bool = False) -> int:
        leaf = send(agency, recipient, due, follows)
        index = self.submit(agency, leaf)
        self.exchanges[index] = [None, None, follows if reminds else None]
        return index

    def answer(self, agency: int, subject: int, outcome: int, by: Sequence[int] = (1,)) -> int:
        index = self.submit(agency, answer(agency, subject, outcome), by=by)
        self.exchanges[subject][outcome != 1] = index
        return index

    # --- blocks ---

    @property
    def time(self) -> int:
        (time_ms,) = struct.unpack_from(">Q", self.leaves[-1], 12)
        return int(time_ms)

    def refused(self, desc: str, want: str) -> None:
        """What was put into the block last does not stand: the block is refused, and begun anew."""
        self.cases.append({"desc": desc, "leaves": self._sealed(1000), "want": want})
        self.block.clear()

    def _sealed(self, later_ms: int) -> list[str]:
        chunk = bytearray(CHUNK)
        for subject, to in self.statuses.items():
            chunk[subject // 4] |= to << 2 * (subject % 4)
        records = [canonical(one) for one in (self.ledger, *self.agencies)]
        seal = struct.pack(
            ">BBHQQQQ",
            1,
            0x30,
            1,
            len(self.seals),
            self.time + later_ms if self.seals else START_MS,
            self.seals[-1] if self.seals else NONE,
            sum(leaf[1] == 1 for leaf in (*self.leaves, *self.block)),
        )
        seal += leaf_hash(bytes(chunk)) + root([leaf_hash(one) for one in records]) + b"\0"
        return [leaf.hex() for leaf in (*self.block, seal)]

    def seal(self, desc: str, later_ms: int = 1000) -> None:
        made = self._sealed(later_ms)
        self.leaves += [bytes.fromhex(leaf) for leaf in made]
        self.block.clear()
        self.seals.append(len(self.leaves) - 1)
        figures = Recount(self.leaves).figures()
        self.cases.append(
            {
                "desc": desc,
                "leaves": made,
                "want": {
                    "root": root([leaf_hash(leaf) for leaf in self.leaves]).hex(),
                    "records": [canonical(one).decode() for one in (self.ledger, *self.agencies)],
                    "statuses": {str(subject): to for subject, to in sorted(self.statuses.items())},
                    "exchanges": {str(index): list(one) for index, one in sorted(self.exchanges.items())},
                    "figures": [[*map(str, one), str(count)] for one, count in sorted(figures.items())],
                },
            }
        )


def issue(agency: int, name: str) -> bytes:
    return struct.pack(">BBIHB", 1, 1, agency, 0, 0) + hash_of(name)


def attest(agency: int, subject: int, kind: int) -> bytes:
    return struct.pack(">BBIQB", 1, 3, agency, subject, kind) + ZERO


def send(agency: int, recipient: int, due: int, follows: int) -> bytes:
    return (
        struct.pack(">BBII", 1, 4, agency, recipient)
        + hash_of("asked")
        + struct.pack(">BHQ", 1, due, follows)
        + hash_of("envelope")
    )


def answer(agency: int, subject: int, outcome: int) -> bytes:
    contents = ZERO if outcome == 1 else hash_of("answer")
    return struct.pack(">BBIQB", 1, 5, agency, subject, outcome) + contents + ZERO


def blocks() -> list[Case]:
    """Agency 1 a ministry, 2 an office under it, 3 a consulate."""
    log = Ledger()
    log.found()
    log.seal("genesis")
    for number, parent in ((1, 0), (2, 1), (3, 0)):
        log.enrol(number, parent)
    log.seal("three agencies, the second under the first")

    first = log.submit(2, issue(2, "a"), issue(2, "b"))
    translated = log.submit(1, attest(1, first, 3))
    legalised = log.submit(3, attest(3, translated, 1))
    log.seal("documents, and a chain of attestations", 3 * 3_600_000)
    log.submit(3, attest(3, translated, 1))
    log.refused("the same attestation again", "DUPLICATE_ATTEST")

    asked = log.ask(3, 2, due=2)
    log.seal("a request")
    log.ask(3, 2, due=0, follows=asked, reminds=True)
    log.answer(2, asked, 1)
    log.move(2, 3)
    log.seal("a reminder, received, and the office moves", 3 * DAY_MS)
    log.submit(1, answer(1, asked, 2))
    log.refused("an answer by the ministry", "NOT_ENTITLED")
    log.answer(2, asked, 2)
    log.seal("a late answer, which counts for the ministry of then", DAY_MS)
    log.submit(2, answer(2, asked, 3))
    log.refused("a second final answer", "ALREADY_ANSWERED")
    log.seal("forty days without a leaf", 40 * DAY_MS)
    log.ask(3, 2, due=1, follows=asked)
    log.seal("reopened")

    stolen = log.next
    one = log.status(2, first, first, 1)
    other = log.status(2, first + 1, first + 1, 3)
    log.seal("what a thief does")
    log.submit(3, attest(3, legalised, 2))
    log.refused("an attestation on a chain that is broken", "SUBJECT_INVALID")
    log.submit(2, struct.pack(">BBIQQBBQ", 1, 2, 2, first, one, 0, 0, NONE), by=(2,))
    log.refused("undone before the theft is known", "STATUS_FINAL")
    log.steal(2, 1, stolen)
    log.seal("the theft declared")
    log.affirm(2, 2, other, other, by=(2,))
    log.affirm(3, 2, first, stolen)
    log.seal("the second revocation was genuine, says the office; and all before the theft, the one above")
    log.submit(2, struct.pack(">BBIQQBBQ", 1, 2, 2, first + 1, other, 0, 0, NONE), by=(2,))
    log.refused("what is affirmed is final", "STATUS_FINAL")
    log.status(2, first, one, 0, by=(2,))
    log.seal("the first is undone")
    log.submit(1, struct.pack(">BBIIQQ", 1, 6, 1, 2, first, first))
    log.refused("the ministry of before affirms no more", "NOT_ENTITLED")
    log.steal(3, 1, 0)
    log.agencies[1]["affirmed"].pop()
    log.seal("the consulate's key turns out stolen, and its affirmation goes")

    reopened = log.ask(1, 3, due=1)
    log.seal("a request that is still open")
    log.close()
    log.seal("the ledger closed")
    for desc, agency, record in (
        ("an ISSUE in a closed ledger", 2, issue(2, "late")),
        ("an ATTEST in a closed ledger", 1, attest(1, first, 2)),
        ("a SEND in a closed ledger", 1, send(1, 3, 1, NONE)),
    ):
        log.submit(agency, record)
        log.refused(desc, "LEDGER_CLOSED")
    log.status(1, translated, translated, 2)
    log.answer(3, reopened, 2, by=(2,))
    log.seal("what stands is suspended, and what was asked is answered")
    log.end(more=2)
    log.seal("the last log key ended, with two leaves to go")
    log.status(1, translated, log.next - 4, 0)
    log.refused("a change that would stand beyond the end", "LEDGER_CLOSED")
    log.statuses[translated] = 2
    log.seal("one leaf to go")
    log.seal("the end")
    log.refused("a seal beyond the end", "LEDGER_CLOSED")
    return log.cases


def main() -> None:
    text = json.dumps(blocks(), indent=1, ensure_ascii=False)
    (Path(__file__).parent / "ledger.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
