"""Makes packs.json: a pack in both forms, a delta, and the verdicts on codes by them.

Written from docs/format.md, sections Packs and Codes, with struct, hashlib, hmac, json and zlib alone:
nothing of ``ledger`` is imported, so the two must agree and cannot err alike. Run as ``python -m
tests.vectors.generate_packs`` from the root of the repository. Bytes are hexadecimal. The log has 600 leaves:
most are no leaves at all, since nobody who verifies by a pack sees them.
"""

from __future__ import annotations

import hmac
import json
import struct
import zlib
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from tests.vectors.generate_codes import digits, head, sealed, text
from tests.vectors.generate_leaves import Case, b64, canonical, leaf_hash, root
from tests.vectors.generate_notes import signature, vkey

ORIGIN: Final = "ledger.example/packs"
OTHER: Final = "other.example/packs"
OTHER_GENESIS: Final = sha256(b"another ledger").digest()
START_MS: Final = 1_767_225_600_000
OLD, NEW = 300, 600
SEED: Final = bytes(range(100, 116))
RUN: Final = 256
LEAF_0: Final = b"\x01\x10 the genesis of the packs"
GENESIS: Final = leaf_hash(LEAF_0)
OPEN: Final = "sudur-pack/v1\n", "sudur-pack-delta/v1\n"


def salt(position: int) -> bytes:
    return hmac.new(SEED, b"sudur/v1/salt" + struct.pack(">H", position), sha256).digest()[:16]


def field_leaves(values: Sequence[str], number: int) -> list[bytes]:
    names = ["type", "holder", "expires"]
    return [
        leaf_hash(salt(at) + bytes((0, len(name))) + name.encode() + value.encode())
        for at, (name, value) in enumerate(zip(names, [str(number), *values], strict=True))
    ]


def issue(values: Sequence[str], agency: int = 1, number: int = 1, basis: int = 0) -> bytes:
    leaves = field_leaves(values, number)
    front = b"sudur/v1/document\n" + GENESIS + struct.pack(">IH", agency, len(leaves))
    return struct.pack(">BBIHB", 1, 1, agency, number, basis) + sha256(front + root(leaves)).digest()


def history(value: Any, since: int = 1) -> list[Any]:
    return [{"from": str(since), "value": value}]


def agency(number: int, types: list[int], stolen: int | None, affirmed: list[Any]) -> bytes:
    return canonical(
        {
            "kind": "agency", "number": number, "changed": "1", "names": history({"en": f"Office {number}"}),
            "parent": history(0), "roles": history(["issue"]), "types": history(types), "policy": history({}),
            "suspended": history(None), "successor": history(None), "affirmed": affirmed,
            "keys": {"count": 1, "root": b64(sha256(b"keys").digest())},
            "stolen_since": None if stolen is None else str(stolen),
        }
    )  # fmt: skip


def type_record() -> bytes:
    fields = [
        {"name": "holder", "labels": {"en": "Holder"}, "required": True, "shown": False, "expiry": False,
         "identity": True},
        {"name": "expires", "labels": {"en": "Until"}, "required": False, "shown": True, "expiry": True,
         "identity": False},
    ]  # fmt: skip
    record = {"kind": "type", "number": 1, "defined": "1", "labels": {"en": "Certificate"}, "fields": fields}
    return canonical(record)


def ledger_record() -> bytes:
    key = {"vkey": vkey(ORIGIN, 1), "added": "0", "last_size": None}
    return canonical(
        {
            "kind": "ledger", "origin": ORIGIN, "training": False, "changed": "0", "agencies": 2, "types": 1,
            "threshold": history(1, 0),
            "authority_keys": [
                {"number": 1, "algorithm": 1, "key": b64(bytes(32)), "added": "0", "ended": None}
            ],
            "log_keys": [key], "witness_policy": history("", 0), "rules": history(1, 0), "closed": None,
        }
    )  # fmt: skip


def records(stolen: int | None) -> list[bytes]:
    sound = [("410", "500"), ("590", "595")] if stolen else []
    affirmed = [{"first": one, "last": one, "at": at, "by": 1, "keys": [1]} for one, at in sound]
    return [ledger_record(), agency(1, [0, 1], stolen, affirmed), agency(2, [0], None, []), type_record()]


DOCUMENTS: Final = {
    10: ["ئازاد حسن", ""], 20: ["revoked", ""], 30: ["suspended", ""], 40: ["expired", "2026-01-01"],
    50: ["superseded", ""], 400: ["doubtful", ""], 410: ["affirmed", ""], 590: ["in the tail", ""],
}  # fmt: skip
STATUSES: Final = {20: 1, 30: 2, 50: 3}


def log() -> list[bytes]:
    """The leaf hashes but for the seals."""
    leaves = [b"leaf %d" % at for at in range(NEW)]
    leaves[0] = LEAF_0
    for at, values in DOCUMENTS.items():
        leaves[at] = issue(values)
    leaves[60] = issue(["not permitted", ""], agency=2)
    return [leaf_hash(one) for one in leaves]


def status_root(statuses: dict[int, int]) -> bytes:
    chunk = bytearray(16_384)
    for index, value in statuses.items():
        chunk[index // 4] |= value << 2 * (index % 4)
    return leaf_hash(bytes(chunk))


class Size:
    """The log at a size: its seal last."""

    def __init__(self, size: int, statuses: dict[int, int], stolen: int | None) -> None:
        self.size, self.statuses, self.records = size, statuses, records(stolen)
        self.time_ms = START_MS + size * 1000
        registry_root = root([leaf_hash(one) for one in self.records])
        body = struct.pack(">BBHQQQQ", 1, 0x30, 1, size, self.time_ms, 0, len(DOCUMENTS) + 1)
        self.seal = body + status_root(statuses) + registry_root + b"\0"
        self.hashes: list[bytes] = [*LOG[: size - 1], leaf_hash(self.seal)]
        self.root = root(self.hashes)
        note = f"{ORIGIN}\n{size}\n{b64(self.root)}\n".encode()
        self.note = note + b"\n" + signature(note, ORIGIN)

    @property
    def full(self) -> int:
        return self.size // RUN

    def run(self, number: int) -> bytes:
        return b"".join(self.hashes[number * RUN : (number + 1) * RUN])

    def roots(self, first: int = 0) -> bytes:
        return b"".join(root(self.hashes[n * RUN : (n + 1) * RUN]) for n in range(first, self.full))

    def tail(self) -> bytes:
        return b"".join(self.hashes[self.full * RUN :])

    def sealed(self) -> bytes:
        path = path_of(self.hashes, self.size - 1)
        parts = [struct.pack(">I", len(self.note)), self.note, struct.pack(">H", len(self.seal)), self.seal]
        return b"".join([*parts, bytes((len(path),)), *path])


def path_of(hashes: Sequence[bytes], index: int) -> list[bytes]:
    """PATH of RFC 6962, section 2.1.1."""
    if len(hashes) < 2:
        return []
    split = 1 << (len(hashes) - 1).bit_length() - 1
    if index < split:
        return [*path_of(hashes[:split], index), root(hashes[split:])]
    return [*path_of(hashes[split:], index - split), root(hashes[:split])]


def leb128(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes((*found, value))


def statuses_bytes(statuses: dict[int, int]) -> bytes:
    found, after = struct.pack(">I", len(statuses)), 0
    for index, value in sorted(statuses.items()):
        found += leb128(4 * (index - after) + value)
        after = index + 1
    return found


def compressed(data: bytes) -> bytes:
    packed = zlib.compress(data, 9)
    return struct.pack(">II", len(data), len(packed)) + packed


def framed(magic: str, form: int, body: bytes) -> bytes:
    front = magic.encode() + bytes((form,))
    data = front + struct.pack(">I", len(front) + 4 + len(body) + 32) + body
    return data + sha256(data).digest()


def pack(at: Size, form: int) -> bytes:
    listed = b"".join(struct.pack(">I", len(one)) + one for one in at.records)
    body = [GENESIS, at.sealed(), at.roots(), at.tail(), statuses_bytes(at.statuses), compressed(listed)]
    runs = [at.run(n) for n in range(at.full)] if form == 2 else []
    return framed(OPEN[0], form, b"".join(body)) + b"".join(runs)


def delta(old: Size, new: Size, form: int) -> bytes:
    names = [(0, 0), (1, 1), (1, 2), (2, 1)]
    changed = [
        struct.pack(">BII", *name, len(after)) + after
        for name, before, after in zip(names, old.records, new.records, strict=True)
        if before != after
    ]
    rest = b"".join(new.hashes[old.size : (old.full + 1) * RUN])
    moved = {
        index: new.statuses.get(index, 0)
        for index in old.statuses.keys() | new.statuses.keys()
        if old.statuses.get(index) != new.statuses.get(index)
    }
    body = [
        GENESIS, struct.pack(">Q", old.size), old.root, new.sealed(), rest, new.roots(old.full + 1),
        new.tail(), statuses_bytes(moved), compressed(b"".join(changed)),
    ]  # fmt: skip
    runs = [new.run(n) for n in range(old.full, new.full)] if form == 2 else []
    return framed(OPEN[1], form, b"".join(body)) + b"".join(runs)


LOG: Final[list[bytes]] = log()
OLDER: Final[Size] = Size(OLD, {30: 2}, None)
# The old seal stands in the new log, too.
LOG[OLD - 1] = OLDER.hashes[-1]
NEWER: Final[Size] = Size(NEW, STATUSES, 350)


def code(
    index: int,
    values: Sequence[str],
    *,
    with_path: bool = True,
    office: int = 1,
    basis: int = 0,
    seed: bytes = SEED,
    genesis: bytes = GENESIS,
    number: int = 1,
) -> str:
    run = index // RUN
    path = b"".join(path_of(LOG[run * RUN : (run + 1) * RUN], index % RUN)) if with_path and run < 2 else b""
    front = struct.pack(">BB4sIHBQ", 1, 2 * bool(path), genesis[:4], office, number, basis, index)
    return digits(sealed(front + seed + bytes((len(values),)) + b"".join(map(text, values)) + path))


def hidden_expiry() -> str:
    leaves = field_leaves(DOCUMENTS[10], 1)
    front = struct.pack(">BB4sIHBQ", 1, 3, GENESIS[:4], 1, 1, 0, 10)
    slots = [text(DOCUMENTS[10][0], salt(1)), head(2, 0) + leaves[2]]
    path = b"".join(path_of(LOG[:RUN], 10))
    return digits(sealed(front + salt(0) + b"\x02" + b"".join(slots) + path))


def cases() -> list[Case]:
    now = NEWER.time_ms + 60_000

    def case(desc: str, given: str, want: str, leaves: str | None = None, **more: Any) -> Case:
        asked = {"now_ms": now, "greatest_age_s": None, "type": None, **more}
        return {"desc": desc, "text": given, **asked, "want": want, "want_leaves": leaves or want}

    genuine = code(10, DOCUMENTS[10])
    return [
        case("genuine", genuine, "GENUINE"),
        case("genuine, in the tail, no path", code(590, DOCUMENTS[590]), "GENUINE"),
        case("revoked", code(20, DOCUMENTS[20]), "REVOKED"),
        case("suspended", code(30, DOCUMENTS[30]), "SUSPENDED"),
        case("superseded", code(50, DOCUMENTS[50]), "SUPERSEDED"),
        case("past its day", code(40, DOCUMENTS[40]), "GENUINE_EXPIRED", now_ms=START_MS + 86_400_000),
        case("on its last day", code(40, DOCUMENTS[40]), "GENUINE"),
        case("at or after a theft", code(400, DOCUMENTS[400]), "DOUBTFUL"),
        case("affirmed", code(410, DOCUMENTS[410]), "GENUINE"),
        case("a type that is not its issuer's", code(60, ["not permitted", ""], office=2), "NOT_ENTITLED"),
        case("a letter changed", code(10, ["ئازاد حسین", ""]), "NOT_IN_LEDGER"),
        case("another seed", code(10, DOCUMENTS[10], seed=bytes(16)), "NOT_IN_LEDGER"),
        case("another basis", code(10, DOCUMENTS[10], basis=1), "NOT_IN_LEDGER"),
        case("another agency", code(10, DOCUMENTS[10], office=2), "NOT_IN_LEDGER"),
        case("another index", code(11, DOCUMENTS[10]), "NOT_IN_LEDGER"),
        case("a type that is not defined", code(10, DOCUMENTS[10], number=2), "NOT_IN_LEDGER"),
        case("a required field is empty", code(10, ["", ""]), "ALTERED"),
        case("too few fields", code(10, ["x"]), "ALTERED"),
        case("the expiry hidden", hidden_expiry(), "ALTERED"),
        case("no path", code(10, DOCUMENTS[10], with_path=False), "CANNOT_TELL", "GENUINE"),
        case("newer than the pack", code(600, DOCUMENTS[10]), "CANNOT_TELL"),
        case("of a ledger that is not trusted", code(10, DOCUMENTS[10], genesis=bytes(32)), "WRONG_LEDGER"),
        case("of another trusted ledger", code(10, DOCUMENTS[10], genesis=OTHER_GENESIS), "CANNOT_TELL"),
        case("the clock behind", genuine, "CANNOT_TELL", now_ms=NEWER.time_ms - 300_001),
        case("the clock just right", genuine, "GENUINE", now_ms=NEWER.time_ms - 300_000),
        case("too old", genuine, "CANNOT_TELL", greatest_age_s=59),
        case("just young enough", genuine, "GENUINE", greatest_age_s=60),
        case("another type than was asked for", genuine, "WRONG_TYPE", type=2),
    ]


def trusted(genesis: bytes, origin: str) -> Case:
    key = {"vkey": vkey(origin, 1), "added": "0", "last_size": None}
    return {
        "genesis": b64(genesis), "origin": origin, "log_keys": [key], "witness_policy": history("", 0),
        "own_policy": "", "changed": "0", "head": None, "closed": None, "training": False,
    }  # fmt: skip


def bad() -> list[Case]:
    good = pack(NEWER, 1)

    def again(data: bytes) -> bytes:
        return data[:-32] + sha256(data[:-32]).digest()

    def spoilt(at: int, value: int) -> bytes:
        return again(good[:at] + bytes((value,)) + good[at + 1 :])

    note_at = len(OPEN[0]) + 5 + 32 + 4
    roots_at = good.index(NEWER.roots())
    statuses_at = good.index(statuses_bytes(STATUSES))
    made = [
        ("cut short", good[:-1], "MALFORMED_PACK"),
        ("a byte behind it", good + b"\0", "MALFORMED_PACK"),
        ("a bit wrong, its digest not", good[:500] + bytes((good[500] ^ 1,)) + good[501:], "MALFORMED_PACK"),
        ("form 3", spoilt(14, 3), "MALFORMED_PACK"),
        ("a wrong root, its digest right", spoilt(roots_at, good[roots_at] ^ 1), "PROOF_INVALID"),
        ("a status more than there are", spoilt(statuses_at + 3, 4), "MALFORMED_PACK"),
        ("another status", spoilt(statuses_at + 4, 4 * 20 + 2), "PROOF_INVALID"),
        ("another origin", spoilt(note_at, ord("L")), "CHECKPOINT_UNTRUSTED"),
    ]
    return [{"desc": desc, "pack": data.hex(), "want": error} for desc, data, error in made]


def main() -> None:
    trust = {"format": "sudur-trust/v1", "ledgers": [trusted(GENESIS, ORIGIN), trusted(OTHER_GENESIS, OTHER)]}
    forms = ((1, "subtrees"), (2, "leaves"))
    made = {
        "trust": canonical(trust).decode(),
        "packs": [
            {"desc": name, "old": pack(OLDER, form).hex(), "delta": delta(OLDER, NEWER, form).hex(),
             "want": pack(NEWER, form).hex()}
            for form, name in forms
        ],
        "codes": cases(),
        "refused": bad(),
    }  # fmt: skip
    path = Path(__file__).parent / "packs.json"
    path.write_text(json.dumps(made, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
