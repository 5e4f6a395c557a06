"""Makes codes.json: codes as digits, and what is read from them.

Written from docs/format.md, section Codes, with struct, hashlib and hmac alone: nothing of ``ledger`` is
imported, so the two must agree and cannot err alike. Run as ``python -m tests.vectors.generate_codes`` from
the root of the repository. Bytes are hexadecimal; ``want`` is what is read, or the code of the error.
"""

from __future__ import annotations

import hmac
import json
import struct
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from tests.vectors.generate_leaves import Case, leaf_hash, root

GENESIS: Final = sha256(b"genesis of the codes").digest()
SEED: Final = bytes(range(16))
FILE: Final = sha256(b"a scan").digest()
TAIL: Final = (0, 3, 5, 8, 10, 13, 15, 17)
NAMES: Final = ["holder", "mother", "born", "expires"]
VALUES: Final = ["ئازاد حسن", "زينب علي", "1990-05-06", "2031-12-31"]
PATH: Final = [sha256(b"path %d" % at).digest() for at in range(8)]
MALFORMED, CUT, MISREAD, LARGE = "MALFORMED_CODE", "CODE_CUT_SHORT", "CODE_MISREAD", "TOO_LARGE"


def digits(data: bytes) -> str:
    groups = [data[at : at + 7] for at in range(0, len(data), 7)]
    return "".join(f"{int.from_bytes(one, 'big'):0{TAIL[len(one)]}d}" for one in groups)


def salt(position: int) -> bytes:
    return hmac.new(SEED, b"sudur/v1/salt" + struct.pack(">H", position), sha256).digest()[:16]


def head(kind: int, length: int) -> bytes:
    return struct.pack(">H", kind << 14 | length)


def sealed(body: bytes) -> bytes:
    """With its length in front and its check behind."""
    data = struct.pack(">H", len(body) + 4) + body
    return data + sha256(data).digest()[:2]


def code(
    slots: list[bytes],
    *,
    flags: int = 0,
    number: int = 7,
    opening: bytes = SEED,
    path: bytes = b"",
    version: int = 1,
    agency: int = 12,
    basis: int = 0,
    index: int = 1_234_567,
    count: int | None = None,
) -> bytes:
    front = struct.pack(">BB4sIHBQ", version, flags, GENESIS[:4], agency, number, basis, index)
    return sealed(front + opening + bytes((len(slots) if count is None else count,)) + b"".join(slots) + path)


def text(value: str, own_salt: bytes = b"") -> bytes:
    data = value.encode()
    return head(0, len(data)) + own_salt + data


def named(name: str, value: str) -> bytes:
    return head(3, len(value.encode())) + bytes((len(name.encode()),)) + name.encode() + value.encode()


def file(name: str, own_salt: bytes = b"") -> bytes:
    return head(1, len(name.encode())) + own_salt + name.encode() + FILE


def field_leaf(position: int, kind: int, name: str, value: bytes) -> bytes:
    return leaf_hash(salt(position) + bytes((kind, len(name.encode()))) + name.encode() + value)


def issue(leaves: list[bytes], number: int) -> str:
    """The ISSUE leaf that these fields stand for."""
    front = b"sudur/v1/document\n" + GENESIS + struct.pack(">IH", 12, len(leaves))
    commitment = sha256(front + root(leaves)).digest()
    return (struct.pack(">BBIHB", 1, 1, 12, number, 0) + commitment).hex()


TYPE_7: Final = field_leaf(0, 0, "type", b"7")
TEXTS: Final = [field_leaf(at, 0, name, VALUES[at - 1].encode()) for at, name in enumerate(NAMES, 1)]
WHOLE: Final = [TYPE_7, *TEXTS, field_leaf(5, 1, "scan.pdf", FILE)]
PLAIN: Final = code([*map(text, VALUES), file("scan.pdf")])


def want(fields: list[Any], number: int, leaves: list[bytes], **more: Any) -> dict[str, Any]:
    found = {"ledger": GENESIS[:4].hex(), "agency": 12, "type": number, "basis": 0, "index": "1234567"}
    return {**found, "fields": fields, "path": [], "link": "", "issue": issue(leaves, number), **more}


def shown(name: str, value: str) -> dict[str, Any]:
    return {"name": name, "value": value}


FIELDS: Final = [
    *[shown(name, value) for name, value in zip(NAMES, VALUES, strict=True)],
    {"name": "scan.pdf", "sha256": FILE.hex()},
]


def good() -> list[Case]:
    plain = digits(PLAIN)
    whole = want(FIELDS, 7, WHOLE)
    hidden = code(
        [text(VALUES[0], salt(1)), head(2, 0) + TEXTS[1], text(VALUES[2], salt(3)), text(VALUES[3], salt(4)),
         file("scan.pdf", salt(5))],
        flags=1, opening=salt(0),
    )  # fmt: skip
    some = [FIELDS[0], {"hidden": TEXTS[1].hex()}, *FIELDS[2:]]
    free = [field_leaf(0, 0, "type", b"0"), field_leaf(1, 0, "اسم", b"x")]
    arabic = plain.translate(str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩"))
    persian = plain.translate(str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹"))
    spaced = "\n".join(plain[at : at + 17] for at in range(0, len(plain), 17))
    link = "https://verify.example.gov/"
    return [
        {"desc": "four fields and a file, with the seed", "text": plain, "want": whole},
        {
            "desc": "the same with its path",
            "text": digits(code([*map(text, VALUES), file("scan.pdf")], flags=2, path=b"".join(PATH))),
            "want": {**whole, "path": [one.hex() for one in PATH]},
        },
        {"desc": "one field hidden", "text": digits(hidden), "want": want(some, 7, WHOLE)},
        {
            "desc": "nothing hidden, but salts",
            "text": digits(code([*(text(one, salt(at)) for at, one in enumerate(VALUES, 1)),
                                 file("scan.pdf", salt(5))], flags=1, opening=salt(0))),
            "want": whole,
        },
        {
            "desc": "type 0: the field bears its name",
            "text": digits(code([named("اسم", "x")], number=0)),
            "want": want([shown("اسم", "x")], 0, free),
        },
        {
            "desc": "no field but the type's",
            "text": digits(code([], number=0)),
            "want": want([], 0, free[:1]),
        },
        {"desc": "Arabic digits", "text": arabic, "want": whole},
        {"desc": "Persian digits", "text": persian, "want": whole},
        {"desc": "in lines, with a carriage return", "text": f" {spaced}\r\n", "want": whole},
        {"desc": "marks of a copy from right-to-left text", "text": f"\u200f{plain}\u200e", "want": whole},
        {"desc": "what a scanner says of the symbol", "text": f"]Q1{plain}", "want": whole},
        {"desc": "a link in front", "text": f"{link}#{plain}", "want": {**whole, "link": link}},
        {
            "desc": "a link as an Arabic keyboard types it",
            "text": f"اففحس:ظظرث#{plain}",
            "want": {**whole, "link": "اففحس:ظظرث"},
        },
    ]  # fmt: skip


def bad() -> list[Case]:
    plain = digits(PLAIN)
    long = code([text("x" * 4_096)])
    wrong = bytearray(PLAIN)
    wrong[30] ^= 1
    cases: list[tuple[str, str, str]] = [
        ("nothing", "", MALFORMED),
        ("letters", "not a code", MALFORMED),
        ("a full-width digit", "１" + plain[1:], MALFORMED),
        ("cut short by one digit", plain[:-1], CUT),
        ("cut short in the middle", plain[: len(plain) // 2], CUT),
        ("ten digits", plain[:10], CUT),
        ("the first group alone", plain[:17], CUT),
        ("without its first group", plain[17:], MALFORMED),
        ("a digit behind it", plain + "0", MALFORMED),
        ("scanned twice", plain * 2, MALFORMED),
        ("a letter behind it", plain + "x", MALFORMED),
        ("a digit wrong", plain[:40] + str((int(plain[40]) + 1) % 10) + plain[41:], MISREAD),
        ("a group that is no 7 bytes", plain[:17] + "9" * 17 + plain[34:], MISREAD),
        ("one bit of the seed wrong", digits(bytes(wrong)), MISREAD),
        ("version 2", digits(code([], version=2)), MALFORMED),
        ("an unknown flag", digits(code([], flags=4)), MALFORMED),
        ("agency 0", digits(code([], agency=0)), MALFORMED),
        ("basis 4", digits(code([], basis=4)), MALFORMED),
        ("index 2^63", digits(code([], index=1 << 63)), MALFORMED),
        ("a count beyond its fields", digits(code([text("x")], count=2)), MALFORMED),
        ("a count below its fields", digits(code([text("x"), text("y")], count=1)), MALFORMED),
        ("a value cut short", digits(code([head(0, 9) + b"x"])), MALFORMED),
        ("a hidden field beside the seed", digits(code([head(2, 0) + FILE])), MALFORMED),
        ("a hidden field with a length", digits(code([head(2, 1) + FILE], flags=1)), MALFORMED),
        ("a named text of a declared type", digits(code([named("a", "x")])), MALFORMED),
        ("a text without name, type 0", digits(code([text("x")], number=0)), MALFORMED),
        ("a text behind a file", digits(code([file("a"), text("x")])), MALFORMED),
        ("two files of one name", digits(code([file("a"), file("a")])), MALFORMED),
        ("a field named type", digits(code([named("type", "x")], number=0)), MALFORMED),
        ("a file without name", digits(code([file("")])), MALFORMED),
        ("a text that is no UTF-8", digits(code([head(0, 1) + b"\xff"])), MALFORMED),
        ("a name that is no UTF-8", digits(code([head(1, 1) + b"\xff" + FILE])), MALFORMED),
        ("a bidirectional override", digits(code([text("\u202eabc")])), MALFORMED),
        ("a path that is cut short", digits(code([], flags=2, path=b"".join(PATH[:7]))), MALFORMED),
        ("a path that no flag names", digits(code([], path=b"".join(PATH))), MALFORMED),
        ("longer than 4,096 bytes", digits(long), MALFORMED),
        ("a length below the least", digits(b"\0\x29" + PLAIN[2:]), MALFORMED),
        ("more characters than are looked at", "0" * 16_385, LARGE),
        ("a link of 256 characters", "a" * 255 + "#" + plain, MALFORMED),
    ]
    return [{"desc": desc, "text": given, "want": error} for desc, given, error in cases]


def groups() -> list[Case]:
    datas = [b"\0", b"\xff", b"\xff" * 2, b"\xff" * 3, b"\xff" * 4, b"\xff" * 5, b"\xff" * 6, b"\xff" * 7,
             bytes(7), bytes(range(1, 21))]  # fmt: skip
    made: list[Case] = [
        {"desc": f"{len(data)} bytes", "digits": digits(data), "want": data.hex()} for data in datas
    ]
    bad = ("256", "65536", "1", "12", "1234", "99999999999999999", "72057594037927936", "12a")
    return [*made, *({"desc": "no bytes", "digits": one, "want": "MALFORMED"} for one in bad)]


def main() -> None:
    made = {"genesis": GENESIS.hex(), "names": NAMES, "digits": groups(), "codes": [*good(), *bad()]}
    path = Path(__file__).parent / "codes.json"
    path.write_text(json.dumps(made, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
