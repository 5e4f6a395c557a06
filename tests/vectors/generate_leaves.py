"""Makes the known answers of leaves, registry records, documents and status lists.

    records.json  submission.json  registry.json  seal.json  document.json  status.json

Written from docs/format.md with struct, hashlib and hmac alone: nothing of ``ledger`` is imported,
so the two must agree and cannot err alike. Run as ``python -m tests.vectors.generate_leaves`` from
the root of the repository. Bytes are hexadecimal, u64 values decimal strings where JSON is too
narrow; ``want`` is what is read, or the code of the error.
"""

from __future__ import annotations

import base64
import hmac
import json
import struct
import zlib
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from nacl.signing import SigningKey

NONE: Final = 2**64 - 1
GENESIS: Final = sha256(b"genesis of the vectors").digest()
A: Final = sha256(b"a").digest()
B: Final = sha256(b"b").digest()
ZERO: Final = bytes(32)
MALFORMED: Final = "MALFORMED_LEAF"
INDEXES: Final = frozenset(("subject", "previous", "replacement", "follows", "first", "last"))

Case = dict[str, Any]


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def leaf_hash(leaf: bytes) -> bytes:
    return sha256(b"\x00" + leaf).digest()


def root(hashes: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, over leaf hashes."""
    if len(hashes) < 2:
        return hashes[0] if hashes else sha256(b"").digest()
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return node(root(hashes[:split]), root(hashes[split:]))


def key(name: str) -> SigningKey:
    return SigningKey(sha256(f"vector key {name}".encode()).digest())


def public(name: str) -> bytes:
    return bytes(key(name).verify_key)


def fingerprint(name: str) -> bytes:
    return sha256(b"\x01" + public(name)).digest()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def canonical(value: Any) -> bytes:
    """RFC 8785, for the ASCII names and the integers that occur here."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


# --- records -----------------------------------------------------------------------------------


def issue(agency: int = 7, kind: int = 3, basis: int = 0, commitment: bytes = A) -> bytes:
    return struct.pack(">BBIHB", 1, 1, agency, kind, basis) + commitment


def status(to: int, replacement: int = NONE, reason: int = 0) -> bytes:
    return struct.pack(">BBIQQBBQ", 1, 2, 7, 1000, 2000, to, reason, replacement)


def attest(kind: int = 1, commitment: bytes = A) -> bytes:
    return struct.pack(">BBIQB", 1, 3, 9, 1000, kind) + commitment


def send(kind: int = 1, follows: int = NONE, envelope: bytes = B, due: int = 14) -> bytes:
    return struct.pack(">BBII", 1, 4, 7, 9) + A + struct.pack(">BHQ", kind, due, follows) + envelope


def answer(outcome: int = 2, commitment: bytes = A, envelope: bytes = B) -> bytes:
    return struct.pack(">BBIQB", 1, 5, 9, 1000, outcome) + commitment + envelope


def affirm(first: int = 1000, last: int = 2000) -> bytes:
    return struct.pack(">BBIIQQ", 1, 6, 7, 7, first, last)


def records() -> list[Case]:
    def good(desc: str, leaf: bytes, leaf_type: str, **fields: Any) -> Case:
        shown = {name: str(value) if name in INDEXES else value for name, value in fields.items()}
        return {"desc": desc, "leaf": leaf.hex(), "want": {"type": leaf_type, **shown}}

    def bad(desc: str, leaf: bytes) -> Case:
        return {"desc": desc, "leaf": leaf.hex(), "want": MALFORMED}

    def issued(desc: str, agency: int, kind: int, basis: int) -> Case:
        leaf = issue(agency, kind, basis)
        return good(desc, leaf, "ISSUE", agency=agency, document_type=kind, basis=basis, commitment=A.hex())

    def changed(desc: str, to: int, replacement: int = NONE, reason: int = 0) -> Case:
        return good(
            desc,
            status(to, replacement, reason),
            "STATUS",
            agency=7,
            subject=1000,
            previous=2000,
            status=to,
            reason=reason,
            replacement=replacement,
        )

    def attested(desc: str, kind: int, commitment: bytes) -> Case:
        leaf = attest(kind, commitment)
        return good(desc, leaf, "ATTEST", agency=9, subject=1000, kind=kind, commitment=commitment.hex())

    def sent(desc: str, kind: int, due: int, follows: int, envelope: bytes) -> Case:
        return good(
            desc,
            send(kind, follows, envelope, due),
            "SEND",
            agency=7,
            recipient=9,
            commitment=A.hex(),
            kind=kind,
            due=due,
            follows=follows,
            envelope=envelope.hex(),
        )

    def answered(desc: str, outcome: int, commitment: bytes, envelope: bytes) -> Case:
        return good(
            desc,
            answer(outcome, commitment, envelope),
            "ANSWER",
            agency=9,
            subject=1000,
            outcome=outcome,
            commitment=commitment.hex(),
            envelope=envelope.hex(),
        )

    cases = [
        issued("an original of type 3", 7, 3, 0),
        issued("an undeclared type, confirmed from an archive", 7, 0, 1),
        issued("migrated from an older system, greatest numbers", 2**32 - 1, 65_535, 2),
        issued("a replacement", 1, 1, 3),
        changed("revoked", 1),
        changed("suspended, with a reason", 2, reason=255),
        changed("valid again", 0),
        changed("superseded, the replacement not named", 3),
        changed("superseded by leaf 1500", 3, replacement=1500),
        attested("legalised, no copy", 1, ZERO),
        attested("an attestation of a kind yet to be named", 255, A),
        sent("a request for confirmation, due in 14 days", 1, 14, NONE, B),
        sent("a circulated document that follows leaf 900, no envelope", 2, 0, 900, ZERO),
        answered("received", 1, ZERO, ZERO),
        answered("answered", 2, A, B),
        answered("returned", 3, ZERO, B),
        good("affirmed", affirm(), "AFFIRM", agency=7, target=7, first=1000, last=2000),
        good("one leaf affirmed", affirm(5, 5), "AFFIRM", agency=7, target=7, first=5, last=5),
        bad("an empty range", affirm(6, 5)),
        bad("basis 4", issue(basis=4)),
        bad("status 4", status(4)),
        bad("a revocation that names a replacement", status(1, replacement=1500)),
        bad("attestation kind 0", attest(0)),
        bad("send kind 0", send(0)),
        bad("send kind 3", send(3)),
        bad("outcome 0", answer(0)),
        bad("outcome 4", answer(4)),
        bad("received, with a commitment", answer(1, A, ZERO)),
        bad("received, with an envelope", answer(1, ZERO, B)),
        bad("format version 2", b"\x02" + issue()[1:]),
        bad("format version 0", b"\x00" + issue()[1:]),
        bad("type 0", b"\x01\x00" + issue()[2:]),
        bad("type 7", b"\x01\x07" + issue()[2:]),
        bad("an ISSUE under the type of a STATUS", b"\x01\x02" + issue()[2:]),
        bad("a SUBMISSION is no record", b"\x01\x20" + issue()[2:]),
        bad("nothing", b""),
        bad("one byte", b"\x01"),
        bad("a header alone", b"\x01\x01"),
    ]
    for name, leaf in (
        ("ISSUE", issue()),
        ("STATUS", status(1)),
        ("ATTEST", attest()),
        ("SEND", send()),
        ("ANSWER", answer()),
        ("AFFIRM", affirm()),
    ):
        cases += [bad(f"{name}, a byte short", leaf[:-1]), bad(f"{name}, a byte long", leaf + b"\0")]
    return cases


# --- submissions -------------------------------------------------------------------------------


def submission_body(agency: int, count: int, records_root: bytes, claimed: int = 1_767_225_600_000) -> bytes:
    return struct.pack(">BBII", 1, 0x20, agency, count) + records_root + struct.pack(">Q", claimed)


def signed(body: bytes, names: dict[int, str]) -> bytes:
    parts = [body, bytes((len(names),))]
    for number, name in names.items():
        message = b"sudur/v1/submission\n" + GENESIS + fingerprint(name) + body
        signature = key(name).sign(message).signature
        parts += [struct.pack(">HBH", number, 1, len(signature)), signature]
    return b"".join(parts)


def packed(leaves: Sequence[bytes]) -> bytes:
    return b"".join(struct.pack(">H", len(leaf)) + leaf for leaf in leaves)


def submissions() -> list[Case]:
    def case(desc: str, leaf: bytes, leaves: Sequence[bytes] | bytes, want: Any) -> Case:
        body = leaves if isinstance(leaves, bytes) else packed(leaves)
        return {
            "desc": desc,
            "genesis": GENESIS.hex(),
            "leaf": leaf.hex(),
            "packed": body.hex(),
            "want": want,
        }

    def good(desc: str, leaves: Sequence[bytes], names: dict[int, str]) -> Case:
        records_root = root([leaf_hash(one) for one in leaves])
        body = submission_body(7, len(leaves), records_root)
        leaf = signed(body, names)
        signatures = [
            {
                "number": number,
                "algorithm": 1,
                "message": (b"sudur/v1/submission\n" + GENESIS + fingerprint(name) + body).hex(),
                "signature": key(name)
                .sign(b"sudur/v1/submission\n" + GENESIS + fingerprint(name) + body)
                .signature.hex(),
            }
            for number, name in names.items()
        ]
        return case(
            desc,
            leaf,
            leaves,
            {
                "agency": 7,
                "count": len(leaves),
                "records_root": records_root.hex(),
                "claimed_ms": "1767225600000",
                "id": sha256(b"sudur/v1/submission\n" + GENESIS + body).hexdigest(),
                "fingerprints": [fingerprint(name).hex() for name in names.values()],
                "signatures": signatures,
            },
        )

    two = [issue(), issue(commitment=B)]
    body = submission_body(7, 2, root([leaf_hash(one) for one in two]))
    leaf = signed(body, {1: "one"})
    raw = leaf[50:]
    signature = leaf[51:]
    return [
        good("one record, one key", [issue()], {1: "one"}),
        good("three records, two keys", [issue(), issue(commitment=B), status(1)], {1: "one", 300: "two"}),
        good("256 records", [issue(commitment=sha256(bytes((i,))).digest()) for i in range(256)], {2: "one"}),
        case("as the malformed ones below, but whole", leaf, two[:1], "WRONG_COUNT"),
        case("a record too many", leaf, [*two, issue(commitment=ZERO)], "WRONG_COUNT"),
        case("no record", leaf, [], "WRONG_COUNT"),
        case("records in another order", leaf, two[::-1], "WRONG_RECORDS_ROOT"),
        case("another record", leaf, [two[0], issue(commitment=ZERO)], "WRONG_RECORDS_ROOT"),
        case("another agency's record", leaf, [two[0], issue(8)], "FOREIGN_RECORD"),
        case("a seal among the records", leaf, [two[0], b"\x01\x30" + bytes(99)], MALFORMED),
        case("records cut short", leaf, packed(two)[:-1], MALFORMED),
        case("a length alone after the records", leaf, packed(two) + b"\0", MALFORMED),
        case("count 0", signed(submission_body(7, 0, sha256(b"").digest()), {1: "one"}), [], MALFORMED),
        case("count 257", signed(submission_body(7, 257, A), {1: "one"}), [issue()] * 257, MALFORMED),
        case("no signature", body + b"\0", two, MALFORMED),
        case("17 signatures", body + b"\x11" + struct.pack(">HBH", 1, 1, 0) * 17, two, MALFORMED),
        case("one key twice", body + b"\x02" + signature + signature, two, MALFORMED),
        case("keys out of order", body + b"\x02" + signature + b"\x00\x00" + signature[2:], two, MALFORMED),
        case("a byte after its end", leaf + b"\0", two, MALFORMED),
        case("a byte short", leaf[:-1], two, MALFORMED),
        case("ends before its signature count", body, two, MALFORMED),
        case("more signatures counted than there are", body + b"\x02" + raw[1:], two, MALFORMED),
        case("another leaf type", b"\x01\x30" + leaf[2:], two, MALFORMED),
    ]


# --- seals -------------------------------------------------------------------------------------


def seal(extras: Sequence[tuple[int, bytes]] = (), count: int | None = None, previous: int = 77) -> bytes:
    body = struct.pack(">BBHQQQQ", 1, 0x30, 1, 12, 1_767_225_600_000, previous, 40) + A + B
    return (
        body
        + bytes((len(extras) if count is None else count,))
        + b"".join(bytes((kind,)) + one for kind, one in extras)
    )


def seals() -> list[Case]:
    def good(desc: str, extras: Sequence[tuple[int, bytes]] = (), previous: int = 77) -> Case:
        want = {
            "rules": 1,
            "block": "12",
            "time_ms": "1767225600000",
            "previous": str(previous),
            "documents": "40",
            "status_root": A.hex(),
            "registry_root": B.hex(),
            "extras": [[kind, one.hex()] for kind, one in extras],
        }
        return {"desc": desc, "leaf": seal(extras, previous=previous).hex(), "want": want}

    def bad(desc: str, leaf: bytes) -> Case:
        return {"desc": desc, "leaf": leaf.hex(), "want": MALFORMED}

    return [
        good("a seal"),
        good("the first seal", previous=NONE),
        good("two further roots", ((0, A), (200, B))),
        bad("a kind twice", seal(((5, A), (5, B)))),
        bad("kinds out of order", seal(((5, A), (4, B)))),
        bad("more roots counted than there are", seal(((5, A),), count=2)),
        bad("fewer roots counted than there are", seal(((5, A),), count=0)),
        bad("a byte short", seal()[:-1]),
        bad("a byte long", seal() + b"\0"),
        bad("half a further root", seal(((5, A),))[:-10]),
        bad("another leaf type", b"\x01\x20" + seal()[2:]),
    ]


# --- documents ---------------------------------------------------------------------------------


def documents() -> list[Case]:
    seed = bytes(range(16))

    def fields(kind: int, *more: tuple[int, str | bytes, bytes]) -> list[tuple[int, bytes, bytes]]:
        head = (0, b"type", str(kind).encode())
        return [head, *((k, n.encode() if isinstance(n, str) else n, v) for k, n, v in more)]

    def case(desc: str, kind: int, entries: list[tuple[int, bytes, bytes]], code: str | None = None) -> Case:
        made: Case = {
            "desc": desc,
            "genesis": GENESIS.hex(),
            "seed": seed.hex(),
            "agency": 7,
            "document_type": kind,
            "fields": [{"kind": k, "name": n.decode(), "value": v.hex()} for k, n, v in entries],
        }
        if code:
            return {**made, "want": code}
        salts = [
            hmac.digest(seed, b"sudur/v1/salt" + struct.pack(">H", i), "sha256")[:16]
            for i in range(len(entries))
        ]
        leaves = [
            leaf_hash(salt + bytes((k, len(n))) + n + v)
            for salt, (k, n, v) in zip(salts, entries, strict=True)
        ]
        head = b"sudur/v1/document\n" + GENESIS + struct.pack(">IH", 7, len(entries))
        want = {
            "salts": [one.hex() for one in salts],
            "field_leaves": [one.hex() for one in leaves],
            "commitment": sha256(head + root(leaves)).hexdigest(),
        }
        return {**made, "want": want}

    text = "سارا ئەحمەد".encode()
    refused = "MALFORMED_DOCUMENT"
    many = [(0, str(i), b"") for i in range(256)]
    return [
        case("the type alone", 0, fields(0)),
        case(
            "a text, an empty value and a file",
            3,
            fields(3, (0, "holder", text), (0, "note", b""), (1, "f", A)),
        ),
        case("a value with a zero-width non-joiner", 3, fields(3, (0, "v", "نامه\u200cای".encode()))),
        case("256 fields", 9, fields(9, *many[:255])),
        case("257 fields", 9, fields(9, *many), refused),
        case("the type of another", 4, fields(3), refused),
        case("no type", 3, fields(3)[1:], refused),
        case("a name twice", 3, fields(3, (0, "v", b"1"), (0, "v", b"2")), refused),
        case("an empty name", 3, fields(3, (0, "", b"1")), refused),
        case("a name of 256 bytes", 3, fields(3, (0, "n" * 256, b"1")), refused),
        case("a newline", 3, fields(3, (0, "v", b"a\nb")), refused),
        case("a right-to-left override", 3, fields(3, (0, "v", "1\u202e2".encode())), refused),
        case("an isolate in a name", 3, fields(3, (0, "v\u2067", b"1")), refused),
        case("not UTF-8", 3, fields(3, (0, "v", b"\xff")), refused),
        case("half a surrogate pair in UTF-8", 3, fields(3, (0, "v", b"\xed\xa0\x80")), refused),
        case("a file that is no digest", 3, fields(3, (1, "f", b"short")), refused),
        case("a value of 16,385 bytes", 3, fields(3, (0, "v", b"x" * 16_385)), refused),
    ]


# --- the status list ---------------------------------------------------------------------------


def statuses() -> list[Case]:
    def lst(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    def chunk(desc: str, values: dict[int, int]) -> Case:
        data = bytearray(16_384)
        for index, value in values.items():
            data[index // 4] |= value << index % 4 * 2
        want = {"hash": leaf_hash(bytes(data)).hex(), "statuses": {str(i): v for i, v in values.items()}}
        return {"desc": desc, "kind": "chunk", "lst": lst(zlib.compress(bytes(data), 9)), "want": want}

    def bad(desc: str, data: bytes, code: str = "MALFORMED") -> Case:
        return {"desc": desc, "kind": "chunk", "lst": lst(data), "want": code}

    return [
        {
            "desc": "the 2-bit example of the Token Status List draft",
            "kind": "list",
            "lst": "eNo76fITAAPfAgc",
            "want": {"bytes": "c944f9", "statuses": [1, 2, 0, 3, 0, 1, 0, 1, 1, 2, 3, 3]},
        },
        chunk("an empty chunk", {}),
        chunk("the first and the last index", {0: 1, 65_535: 3}),
        chunk("four in one byte", {4: 1, 5: 2, 6: 3, 8: 2}),
        bad("a byte too few", zlib.compress(bytes(16_383))),
        bad("a byte too many", zlib.compress(bytes(16_385))),
        bad("a bomb", zlib.compress(bytes(10_000_000), 9)),
        bad("bytes after its end", zlib.compress(bytes(16_384)) + b"\0"),
        bad("cut short", zlib.compress(bytes(16_384))[:-1]),
        bad("not zlib", b"not zlib"),
        bad("nothing", b""),
        bad("too many bytes", bytes(32_769), "TOO_LARGE"),
    ]


# --- the registry ------------------------------------------------------------------------------


ORIGIN: Final = "ledger.example/vectors"


def vkey(name: str, kind: int = 1, origin: str = ORIGIN) -> str:
    material = bytes((kind,)) + public(name)
    identity = sha256(origin.encode() + b"\n" + material).digest()[:4]
    return f"{origin}+{identity.hex()}+{b64(material)}"


def registry_leaf(change: bytes, signers: Sequence[tuple[int, int, str]], genesis: bytes) -> bytes:
    head = struct.pack(">BBH", 1, 0x10, len(change)) + change
    parts = [head, bytes((len(signers),))]
    for agency, number, name in signers:
        signature = key(name).sign(b"sudur/v1/registry\n" + genesis + head).signature
        parts += [struct.pack(">IHBH", agency, number, 1, len(signature)), signature]
    return b"".join(parts)


def authority_key(number: int, name: str) -> dict[str, Any]:
    return {"number": number, "algorithm": 1, "key": b64(public(name))}


def agency_key(number: int, name: str, use: str = "submit") -> dict[str, Any]:
    return {"number": number, "algorithm": 1, "key": b64(public(name)), "use": use, "label": f"desk {number}"}


FOUNDED: Final = {
    "change": "genesis",
    "subject": "ledger",
    "previous": str(NONE),
    "origin": ORIGIN,
    "nonce": b64(bytes(32)),
    "training": True,
    "time_ms": "1767225600000",
    "log_keys": [vkey("log")],
    "authority": {"k": 2, "keys": [authority_key(1, "root 1"), authority_key(2, "root 2")]},
    "witness_policy": "",
}
POLICY: Final = {"issue.original": {"steps": [[1, 1], [100, 2]], "cap": 500}}
ENROLLED: Final = {
    "change": "agency_enrolled",
    "subject": "agency/1",
    "previous": str(NONE),
    "names": {"ar": "وزارة", "en": "Ministry"},
    "parent": 0,
    "roles": ["enrol", "issue"],
    "types": [0, 1],
    "policy": POLICY,
}
DEFINED: Final = {
    "change": "type_defined",
    "subject": "type/1",
    "previous": str(NONE),
    "labels": {"en": "Degree"},
    "fields": [
        {
            "name": "holder",
            "labels": {"en": "Holder"},
            "required": True,
            "shown": True,
            "expiry": False,
            "identity": True,
        }
    ],
}
BOTH: Final = ((0, 1, "root 1"), (0, 2, "root 2"))


def registry() -> list[Case]:
    """Leaves 0, 2, 3, … of one ledger, with every record and the registry root after each.

    Each ``change`` case stands on those before it; ``index`` is its leaf's, ``block`` its block's.
    Cases that are refused change nothing.
    """
    cases: list[Case] = []
    first = registry_leaf(canonical(FOUNDED), BOTH, ZERO)
    genesis = leaf_hash(first)
    ledger: dict[str, Any] = {
        "kind": "ledger",
        "origin": ORIGIN,
        "training": True,
        "changed": "0",
        "agencies": 0,
        "types": 0,
        "threshold": [{"from": "0", "value": 2}],
        "authority_keys": [{**authority_key(n, f"root {n}"), "added": "0", "ended": None} for n in (1, 2)],
        "log_keys": [{"vkey": vkey("log"), "added": "0", "last_size": None}],
        "witness_policy": [{"from": "0", "value": ""}],
        "rules": [{"from": "0", "value": 1}],
        "closed": None,
    }
    agencies: list[dict[str, Any]] = []
    types: list[dict[str, Any]] = []
    keys: list[dict[str, Any]] = []
    at = 0

    def case(desc: str, leaf: bytes, want: str | None = None) -> None:
        made: Case = {"desc": desc, "genesis": genesis.hex(), "index": at, "block": at, "leaf": leaf.hex()}
        if want is not None:
            cases.append({**made, "want": want})
            return
        stored = [canonical(one) for one in (ledger, *agencies, *types)]
        cases.append(
            {
                **made,
                "want": {
                    "records": [one.decode() for one in stored],
                    "keys": [canonical(one).decode() for one in keys],
                    "registry_root": root([leaf_hash(one) for one in stored]).hex(),
                },
            }
        )

    def sign(change: dict[str, Any], signers: Sequence[tuple[int, int, str]] = BOTH) -> bytes:
        return registry_leaf(canonical(change), signers, genesis)

    def key_root() -> dict[str, Any]:
        return {"count": len(keys), "root": b64(root([leaf_hash(canonical(one)) for one in keys]))}

    case("genesis", first)
    case(
        "genesis, one signature of two",
        registry_leaf(canonical(FOUNDED), BOTH[:1], ZERO),
        "TOO_FEW_SIGNATURES",
    )
    case(
        "genesis, signed for another ledger", registry_leaf(canonical(FOUNDED), BOTH, A), "SIGNATURE_INVALID"
    )
    case(
        "genesis with a previous",
        registry_leaf(canonical({**FOUNDED, "previous": "0"}), BOTH, ZERO),
        "CHANGE_REFUSED",
    )
    case(
        "genesis with a log key of another name",
        registry_leaf(canonical({**FOUNDED, "log_keys": [vkey("log", origin="other")]}), BOTH, ZERO),
        "CHANGE_REFUSED",
    )
    case(
        "genesis with a cosigner's key as log key",
        registry_leaf(canonical({**FOUNDED, "log_keys": [vkey("log", kind=4)]}), BOTH, ZERO),
        "CHANGE_REFUSED",
    )

    at = 2
    case("a type, signed for no ledger", registry_leaf(canonical(DEFINED), BOTH, ZERO), "SIGNATURE_INVALID")
    case("a type, one authority key of two", sign(DEFINED, BOTH[:1]), "TOO_FEW_SIGNATURES")
    case("type 2 before type 1", sign({**DEFINED, "subject": "type/2"}), "CHANGE_REFUSED")
    types.append(
        {
            "kind": "type",
            "number": 1,
            "defined": "2",
            "labels": DEFINED["labels"],
            "fields": DEFINED["fields"],
        }
    )
    ledger["types"] = 1
    case("a document type", sign(DEFINED))

    at = 4
    case("the same change again", sign(DEFINED), "REGISTRY_CONFLICT")
    case("an agency with an unknown type", sign({**ENROLLED, "types": [2]}), "UNKNOWN_TYPE")
    case("an agency under an unknown one", sign({**ENROLLED, "parent": 9}), "UNKNOWN_AGENCY")
    history = {
        name: [{"from": "4", "value": ENROLLED[name]}]
        for name in ("names", "parent", "roles", "types", "policy")
    }
    agencies.append(
        {
            "kind": "agency",
            "number": 1,
            "changed": "4",
            **history,
            "suspended": [{"from": "4", "value": None}],
            "successor": [{"from": "4", "value": None}],
            "affirmed": [],
            "keys": key_root(),
            "stolen_since": None,
        }
    )
    ledger["agencies"] = 1
    case("an agency", sign(ENROLLED))

    at = 6
    added = {
        "change": "keys_added",
        "subject": "agency/1",
        "previous": "4",
        "keys": [agency_key(1, "desk 1"), agency_key(2, "clerk", "registry")],
    }
    case("a key of the authority once more", sign({**added, "keys": [agency_key(1, "root 1")]}), "KEY_REUSED")
    case("a key number left out", sign({**added, "keys": [agency_key(2, "desk 2")]}), "CHANGE_REFUSED")
    small = {**agency_key(1, "desk 1"), "key": b64(b"\x01" + bytes(31))}
    case("a key of small order", sign({**added, "keys": [small]}), "MALFORMED")
    for number, (name, use) in enumerate((("desk 1", "submit"), ("clerk", "registry")), 1):
        keys.append(
            {
                "kind": "key",
                "agency": 1,
                **agency_key(number, name, use),
                "added": "6",
                "added_by": [[0, 1], [0, 2]],
                "ended": None,
                "stolen": None,
            }
        )
    agencies[0]["changed"] = "6"
    agencies[0]["keys"] = key_root()
    case("two keys", sign(added))

    at = 8
    more = {**added, "previous": "6", "keys": [agency_key(3, "desk 3")]}
    case("a key, signed by a key that submits", sign(more, [(1, 1, "desk 1")]), "KEY_USE")
    case("signed by authority and agency", sign(more, [*BOTH, (1, 2, "clerk")]), "NOT_ENTITLED")
    case("signed by a key that is not registered", sign(more, [(1, 9, "clerk")]), "KEY_UNKNOWN")
    keys.append(
        {
            "kind": "key",
            "agency": 1,
            **agency_key(3, "desk 3"),
            "added": "8",
            "added_by": [[1, 2]],
            "ended": None,
            "stolen": None,
        }
    )
    agencies[0]["changed"] = "8"
    agencies[0]["keys"] = key_root()
    case("a key, added by the agency itself", sign(more, [(1, 2, "clerk")]))

    at = 10
    stolen = {"change": "key_stolen", "subject": "agency/1", "previous": "8", "number": 2, "since": "7"}
    case("a theft, declared by the agency", sign(stolen, [(1, 2, "clerk")]), "NOT_ENTITLED")
    case("a theft in the future", sign({**stolen, "since": "11"}), "CHANGE_REFUSED")
    keys[1]["stolen"] = {"since": "7", "declared": "10"}
    keys[2]["stolen"] = {"since": "8", "declared": "10"}
    agencies[0].update({"changed": "10", "keys": key_root(), "stolen_since": "8"})
    case("a theft, and with it the key that the stolen one added", sign(stolen))

    at = 12
    again = {**stolen, "previous": "10"}
    case("a theft that moves later", sign({**again, "since": "9"}), "CHANGE_REFUSED")
    replaced = {
        "change": "authority_replaced",
        "subject": "ledger",
        "previous": "0",
        "authority": {"k": 1, "keys": [authority_key(2, "root 2"), authority_key(3, "root 3")]},
    }
    third = (0, 3, "root 3")
    case("a new authority, a new key silent", sign(replaced), "TOO_FEW_SIGNATURES")
    case("a new authority, one old key of two", sign(replaced, [BOTH[1], third]), "TOO_FEW_SIGNATURES")
    ledger["authority_keys"][0]["ended"] = "12"
    ledger["authority_keys"].append({**authority_key(3, "root 3"), "added": "12", "ended": None})
    ledger["threshold"].append({"from": "12", "value": 1})
    ledger["changed"] = "12"
    case("a new authority", sign(replaced, [*BOTH, third]))

    at = 14
    suspended = {"change": "agency_suspended", "subject": "agency/1", "previous": "10"}
    case("signed by an ended key of the authority", sign(suspended, BOTH[:1]), "KEY_ENDED")
    agencies[0]["changed"] = "14"
    agencies[0]["suspended"].append({"from": "14", "value": 0})
    case("an agency suspended", sign(suspended, [third]))

    at = 16
    base = {"change": "rules_raised", "subject": "ledger", "previous": "12", "rules": 2, "block": "40"}
    good = sign(base, [third])
    case("rules raised in the past", sign({**base, "block": "16"}, [third]), "CHANGE_REFUSED")
    for desc, text in {
        "a member that nobody knows": canonical({**base, "more": 1}),
        "a member missing": canonical({k: v for k, v in base.items() if k != "block"}),
        "a member twice": b'{"block":"40",' + canonical(base)[1:],
        "a space": canonical(base).replace(b":", b": ", 1),
        "a fraction": canonical(base).replace(b'"rules":2', b'"rules":2.0'),
        "a number where a decimal string belongs": canonical({**base, "block": 40}),
        "an unknown change": canonical({**base, "change": "rules_lowered"}),
        "about another kind of subject": canonical({**base, "subject": "agency/1"}),
        "not an object": b"[]",
        "no JSON": b"",
    }.items():
        case(desc, registry_leaf(text, [third], genesis), "MALFORMED")
    case("a byte after its end", good + b"\0", MALFORMED)
    case("a byte short", good[:-1], MALFORMED)
    case("no signatures", good[: -9 - 64 - 1] + b"\0", MALFORMED)
    case("ends in its JSON", good[:40], MALFORMED)
    case("a signature twice", good[: -9 - 64 - 1] + b"\x02" + good[-9 - 64 :] * 2, MALFORMED)
    ledger["changed"] = "16"
    ledger["rules"].append({"from": "40", "value": 2})
    case("rules raised", good)

    at = 18
    following = {"genesis": b64(A), "origin": "ledger.example/next"}
    closing = {"change": "ledger_closed", "subject": "ledger", "previous": "16", "successor": following}
    itself = {**closing, "successor": {**following, "genesis": b64(genesis)}}
    case("a ledger that is to follow itself", sign(itself, [third]), "CHANGE_REFUSED")
    bare = {**closing, "successor": b64(A)}
    case("a successor without its origin", sign(bare, [third]), "MALFORMED")
    last = {"change": "log_key_ended", "subject": "ledger", "vkey": vkey("log"), "last_size": "100"}
    case("the last log key ended", sign({**last, "previous": "16"}, [third]), "CHANGE_REFUSED")
    ledger["changed"] = "18"
    ledger["closed"] = {"from": "18", **following}
    case("the ledger closed", sign(closing, [third]))

    at = 20
    again = {**closing, "previous": "18"}
    case("closed again", sign(again, [third]), "CHANGE_REFUSED")
    late = {
        "change": "type_defined",
        "subject": "type/2",
        "previous": str(NONE),
        "labels": {"en": "Late"},
        "fields": [],
    }
    case("a type defined in a closed ledger", sign(late, [third]), "LEDGER_CLOSED")
    ending = {**last, "previous": "18"}
    short = {**ending, "last_size": "21"}
    case("the end below that of its own block", sign(short, [third]), "CHANGE_REFUSED")
    ledger["changed"] = "20"
    ledger["log_keys"][0]["last_size"] = "22"
    case("the last log key of a closed ledger ended", sign({**ending, "last_size": "22"}, [third]))
    return cases


def main() -> None:
    here = Path(__file__).parent
    for name, cases in {
        "records": records(),
        "submission": submissions(),
        "registry": registry(),
        "seal": seals(),
        "document": documents(),
        "status": statuses(),
    }.items():
        (here / f"{name}.json").write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
