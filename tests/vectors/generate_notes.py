"""Makes notes.json, checkpoints.json, cosignatures.json and witness_policy.json.

Run as ``python -m tests.vectors.generate_notes`` from the root of the repository. The formats are
written out here by hand, so that an error in ``ledger`` does not find its way into the vectors; the
signatures come from the arithmetic of ``generate_ed25519``.
"""

from __future__ import annotations

import json
from base64 import b64encode
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from tests.vectors import generate_ed25519

Case = dict[str, Any]

ORIGIN: Final = "ledger.example/sudur"
TEXT: Final = b"If it is not in the register,\n\nit was not issued.\n"
OK: Final = "ok"
MALFORMED: Final = "MALFORMED_NOTE"
INVALID: Final = "SIGNATURE_INVALID"
UNTRUSTED: Final = "CHECKPOINT_UNTRUSTED"
UNMET: Final = "POLICY_UNMET"
BAD_POLICY: Final = "MALFORMED_TRUST"
TOO_LARGE: Final = "TOO_LARGE"


def seed_of(name: str) -> bytes:
    return sha256(b"sudur test key " + name.encode()).digest()


@cache
def key_of(name: str) -> bytes:
    return generate_ed25519.sign(seed_of(name), b"")[0]


def id_of(name: str, kind: int) -> bytes:
    return sha256(name.encode() + b"\n" + bytes((kind,)) + key_of(name)).digest()[:4]


def vkey(name: str, kind: int) -> str:
    material = b64encode(bytes((kind,)) + key_of(name)).decode()
    return f"{name}+{id_of(name, kind).hex()}+{material}"


def line(name: str, key_id: bytes, blob: bytes) -> bytes:
    return f"— {name} {b64encode(key_id + blob).decode()}\n".encode()


def signature(text: bytes, name: str) -> bytes:
    return line(name, id_of(name, 1), generate_ed25519.sign(seed_of(name), text)[1])


def cosignature(text: bytes, name: str, time_s: int) -> bytes:
    message = b"cosignature/v1\ntime " + str(time_s).encode() + b"\n" + text
    blob = time_s.to_bytes(8, "big") + generate_ed25519.sign(seed_of(name), message)[1]
    return line(name, id_of(name, 4), blob)


def shown(data: bytes) -> Case:
    """Bytes as a field of a case: as text where they are text, else in hexadecimal."""
    try:
        return {"data": data.decode()}
    except UnicodeDecodeError:
        return {"data_hex": data.hex()}


def notes() -> dict[str, Any]:
    first, second = signature(TEXT, "first.example"), signature(TEXT, "second.example/k")
    keys = [vkey("first.example", 1), vkey("second.example/k", 1)]
    signed = TEXT + b"\n" + first
    unknown = line("unknown.example", b"\1\2\3\4", b"anything")
    wrong = line("first.example", id_of("first.example", 1), bytes(64))

    def case(desc: str, data: bytes, want: str, signers: list[str] | None = None, known: Any = keys) -> Case:
        return {"desc": desc, "keys": known} | shown(data) | {"want": want, "signers": signers or []}

    def body(desc: str, lines: bytes, want: str = MALFORMED) -> Case:
        return case(desc, signed + lines, want)

    key_part = b64encode(id_of("first.example", 1) + bytes(64)).decode()
    cases = [
        case("one signature", signed, OK, ["first.example"]),
        case("two signatures", signed + second, OK, ["first.example", "second.example/k"]),
        case("an unknown key is ignored", TEXT + b"\n" + unknown + first, OK, ["first.example"]),
        case("a known name with another ID is ignored", signed + line("first.example", b"\0\0\0\0", b"x"), OK)
        | {"signers": ["first.example"]},
        case(
            "a known ID under another name is ignored",
            signed + line("x", id_of("first.example", 1), b"x"),
            OK,
        )
        | {"signers": ["first.example"]},
        case("a name in Arabic", TEXT + b"\n" + signature(TEXT, "سجل.example"), OK)
        | {"keys": [vkey("سجل.example", 1)], "signers": ["سجل.example"]},
        case("a text of one newline", b"\n\n" + signature(b"\n", "first.example"), OK, ["first.example"]),
        case(
            "DEL and C1 characters in the text",
            b"\x7f\xc2\x85\n\n" + signature(b"\x7f\xc2\x85\n", "first.example"),
            OK,
        )
        | {"signers": ["first.example"]},
        case("a hundred signatures", signed + unknown * 99, OK, ["first.example"]),
        case("a hundred and one signatures", signed + unknown * 100, TOO_LARGE),
        case("only unknown keys", TEXT + b"\n" + unknown, INVALID),
        case("no known keys", signed, INVALID, known=[]),
        case(
            "a known key's signature of something else",
            TEXT + b"\n" + signature(b"x\n", "first.example"),
            INVALID,
        ),
        case("one good, one bad signature by known keys", TEXT + b"\n" + wrong + second, INVALID),
        case("a known key signs twice", signed + first, INVALID),
        case("a known key signs well, then badly", signed + wrong, INVALID),
        body(
            "a known key with a short signature",
            line("second.example/k", id_of("second.example/k", 1), b"x"),
            INVALID,
        ),
        case("the text changed", b"i" + signed[1:], INVALID),
        case("a blank line less in the text", signed.replace(b"\n\n", b"\n", 1), INVALID),
        case("empty", b"", MALFORMED),
        case("no signatures", TEXT, MALFORMED),
        case("no signature line", TEXT + b"\n", MALFORMED),
        case("one newline before the signatures", b"text\n" + first, MALFORMED),
        case("no last newline", signed[:-1], MALFORMED),
        case("a blank line at the end", signed + b"\n", MALFORMED),
        case("a blank line between signatures", signed + b"\n" + second, INVALID),
        case("not UTF-8", b"\xff" + signed, MALFORMED),
        case("a surrogate in UTF-8", b"\xed\xa0\x80" + signed, MALFORMED),
        case("carriage return", signed.replace(b",\n", b",\r\n"), MALFORMED),
        case("tab", b"\t" + signed, MALFORMED),
        case("NUL", b"\0" + signed, MALFORMED),
        body("hyphen for the dash", first.replace("—".encode(), b"-")),
        body("no space after the dash", first.replace("— ".encode(), "—".encode())),
        body("no name", f"— {key_part}\n".encode()),
        body("an empty name", f"—  {key_part}\n".encode()),
        body("a plus in the name", f"— a+b {key_part}\n".encode()),
        body("a no-break space in the name", f"— a\u00a0b {key_part}\n".encode()),
        body("a line separator in the name", f"— a\u2028b {key_part}\n".encode()),
        body("two spaces", f"— a  {key_part}\n".encode()),
        body("something after the signature", f"— a {key_part} x\n".encode()),
        body("a space at the end", f"— a {key_part} \n".encode()),
        body("no signature", b"\xe2\x80\x94 a \n"),
        body("a key ID alone", line("a", b"\1\2\3\4", b"")),
        body("three bytes", line("a", b"\1\2\3", b"")),
        body("base64 without padding", f"— a {key_part.rstrip('=')}\n".encode()),
        body("base64 with one pad too many", f"— a {key_part}=\n".encode()),
        body("base64 with bits after its end", "— a AQIDBAV=\n".encode()),
        body("URL-safe base64", "— a AQIDBP__\n".encode()),
        body("base64 in the middle of which is padding", "— a AQ==AQIDBA==\n".encode()),
    ]
    name = "first.example"
    good = vkey(name, 1)
    raw = key_of(name)

    def with_id(label: str, kind: int, material: bytes) -> str:
        key_id = sha256(label.encode() + b"\n" + bytes((kind,)) + material).digest()[:4]
        return f"{label}+{key_id.hex()}+{b64encode(bytes((kind,)) + material).decode()}"

    vkeys = [
        {"desc": "Ed25519", "vkey": good, "want": OK},
        {"desc": "cosigner", "vkey": vkey(name, 4), "want": OK},
        {"desc": "published with the specification", "want": OK}
        | {"vkey": "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"},
        {"desc": "another ID", "vkey": good.replace(id_of(name, 1).hex(), "00000000"), "want": MALFORMED},
        {"desc": "ID in capitals", "want": MALFORMED}
        | {"vkey": good.replace(id_of(name, 1).hex(), id_of(name, 1).hex().upper())},
        {"desc": "another name", "vkey": "x" + good, "want": MALFORMED},
        {"desc": "no name", "vkey": with_id("", 1, raw), "want": MALFORMED},
        {"desc": "a space in the name", "vkey": with_id("a b", 1, raw), "want": MALFORMED},
        {"desc": "a newline in the name", "vkey": with_id("a\nb", 1, raw), "want": MALFORMED},
        {"desc": "a name of 255 bytes", "vkey": with_id("n" * 255, 1, raw), "want": OK},
        {"desc": "a name of 256 bytes", "vkey": with_id("n" * 256, 1, raw), "want": MALFORMED},
        {"desc": "ML-DSA-44", "vkey": with_id(name, 6, bytes(1312)), "want": MALFORMED},
        {"desc": "type 6 of 32 bytes", "vkey": with_id(name, 6, raw), "want": MALFORMED},
        {"desc": "31 bytes", "vkey": with_id(name, 1, raw[:31]), "want": MALFORMED},
        {"desc": "33 bytes", "vkey": with_id(name, 1, raw + b"\0"), "want": MALFORMED},
        {"desc": "of small order", "vkey": with_id(name, 1, bytes(32)), "want": MALFORMED},
        {"desc": "no key", "vkey": f"{name}+00000000+", "want": MALFORMED},
        {"desc": "two parts", "vkey": "a+00000000", "want": MALFORMED},
        {"desc": "empty", "vkey": "", "want": MALFORMED},
        {"desc": "a newline at the end", "vkey": good + "\n", "want": MALFORMED},
    ]
    for one in vkeys:
        one["name"] = one["vkey"].partition("+")[0] if one["want"] == OK else ""
    return {"notes": cases, "vkeys": vkeys}


ROOT: Final = sha256(b"root").digest()
ROOT_TEXT: Final = b64encode(ROOT).decode()


def checkpoint_text(origin: str = ORIGIN, size: str = "20852163", root: str = ROOT_TEXT) -> bytes:
    return f"{origin}\n{size}\n{root}\n".encode()


def checkpoints() -> dict[str, Any]:
    good = checkpoint_text()

    def text(desc: str, data: bytes, want: str = MALFORMED) -> Case:
        case = {"desc": desc} | shown(data) | {"want": want}
        if want == OK:
            origin, size, _ = data.decode().split("\n", 2)
            case |= {"origin": origin, "size": size, "root": ROOT.hex()}
        return case

    texts = [
        text("plain", good, OK),
        text("size 0", checkpoint_text(size="0"), OK),
        text("size 2^63 - 1", checkpoint_text(size=str(2**63 - 1)), OK),
        text("an origin with a space", checkpoint_text("a log"), OK),
        text("an origin of 255 bytes", checkpoint_text("o" * 255), OK),
        text("an origin of 256 bytes", checkpoint_text("o" * 256)),
        text("an origin of 128 Arabic letters", checkpoint_text("س" * 128)),
        text("no origin", checkpoint_text("")),
        text("a tab in the origin", checkpoint_text("a\tb")),
        text("DEL in the origin", checkpoint_text("a\x7f")),
        text("a C1 control in the origin", checkpoint_text("a\x85b")),
        text("size 2^63", checkpoint_text(size=str(2**63))),
        text("a size of 5000 digits", checkpoint_text(size="9" * 5000)),
        text("a leading zero", checkpoint_text(size="01")),
        text("size 00", checkpoint_text(size="00")),
        text("a negative size", checkpoint_text(size="-1")),
        text("a plus sign", checkpoint_text(size="+1")),
        text("a space before the size", checkpoint_text(size=" 1")),
        text("an underscore", checkpoint_text(size="1_0")),
        text("Arabic digits", checkpoint_text(size="٢٠")),
        text("a superscript digit", checkpoint_text(size="2²")),
        text("no size", checkpoint_text(size="")),
        text("hexadecimal size", checkpoint_text(size="0x10")),
        text("a root of 31 bytes", checkpoint_text(root=b64encode(ROOT[:31]).decode())),
        text("a root of 33 bytes", checkpoint_text(root=b64encode(ROOT + b"\0").decode())),
        text("no root", checkpoint_text(root="")),
        text("root without padding", checkpoint_text(root=ROOT_TEXT[:-1])),
        text("root with bits after its end", checkpoint_text(root=b64encode(bytes(32)).decode()[:-2] + "B=")),
        text("root in hexadecimal", checkpoint_text(root=ROOT.hex())),
        text("an extension line", good + b"extension\n"),
        text("an empty line at the end", good + b"\n"),
        text("no last newline", good[:-1]),
        text("carriage returns", good.replace(b"\n", b"\r\n")),
        text("two lines", b"origin\n1\n"),
        text("empty", b""),
        text("not UTF-8", b"\xff" + good),
    ]

    log = [vkey(ORIGIN, 1)]
    other = checkpoint_text("other.example/log")

    def note(desc: str, data: bytes, want: str, keys: list[str] | None = None) -> Case:
        return (
            {"desc": desc, "origin": ORIGIN, "keys": log if keys is None else keys}
            | shown(data)
            | {"want": want}
        )

    signed = good + b"\n" + signature(good, ORIGIN)
    return {
        "texts": texts,
        "notes": [
            note("signed by the log", signed, OK),
            note("with cosignatures", signed + cosignature(good, "witness.example/w1", 1_700_000_000), OK),
            note(
                "another log's, signed by it",
                other + b"\n" + signature(other, "other.example/log"),
                UNTRUSTED,
            ),
            note(
                "another log's, its key trusted",
                other + b"\n" + signature(other, "other.example/log"),
                UNTRUSTED,
            )
            | {"keys": [*log, vkey("other.example/log", 1)]},
            note(
                "another log's, signed by this one's key", other + b"\n" + signature(other, ORIGIN), UNTRUSTED
            ),
            note(
                "ours, signed by a trusted key of another name",
                good + b"\n" + signature(good, "x"),
                UNTRUSTED,
            )
            | {"keys": [*log, vkey("x", 1)]},
            note("only cosigned", good + b"\n" + cosignature(good, ORIGIN, 1), UNTRUSTED, [vkey(ORIGIN, 4)]),
            note("no trusted keys", signed, UNTRUSTED, []),
            note(
                "a signature that fails", good + b"\n" + signature(checkpoint_text(size="1"), ORIGIN), INVALID
            ),
            note("signed twice", signed + signature(good, ORIGIN), INVALID),
            note("an extension line, signed", good + b"x\n\n" + signature(good + b"x\n", ORIGIN), MALFORMED),
            note("no signature", good, MALFORMED),
            note("bytes after the end", signed + b"x", MALFORMED),
        ],
    }


def cosignatures() -> dict[str, Any]:
    text = checkpoint_text()
    witnesses = ["witness.example/w1", "witness.example/w2"]
    first, second = witnesses
    head = text + b"\n" + signature(text, ORIGIN)
    now = 1_700_000_000
    late = 2**63

    def case(desc: str, lines: bytes, want: str, times: dict[str, int] | None = None) -> Case:
        keys = [vkey(name, 4) for name in witnesses]
        return {"desc": desc, "keys": keys} | shown(head + lines) | {"want": want, "times": times or {}}

    as_log = generate_ed25519.sign(seed_of(first), text)[1]
    good = cosignature(text, first, now)
    message_v2 = b"cosignature/v2\ntime 5\n" + text
    return {
        "signed": [
            {"desc": f"time {time_s}", "seed": seed_of(first).hex(), "name": first, "time_s": time_s}
            | {"text": text.decode(), "want": cosignature(text, first, time_s).decode()}
            for time_s in (0, 1, now, 2**63 - 1)
        ],
        "verified": [
            case("none", b"", OK),
            case("one", good, OK, {first: now}),
            case("two", good + cosignature(text, second, now + 1), OK, {first: now, second: now + 1}),
            case("the latest time there is", cosignature(text, first, 2**63 - 1), OK, {first: 2**63 - 1}),
            case("an unknown witness", cosignature(text, "stranger.example", now), OK),
            case("a witness under another name", good.replace(b"w1", b"w9"), OK),
            case("time past 2^63 - 1", cosignature(text, first, late), INVALID),
            case("of another checkpoint", cosignature(checkpoint_text(size="1"), first, now), INVALID),
            case("another time", line(first, id_of(first, 4), (5).to_bytes(8, "big") + as_log), INVALID),
            case("a log's signature as cosignature", line(first, id_of(first, 4), as_log), INVALID),
            case(
                "another version of the message",
                line(
                    first,
                    id_of(first, 4),
                    (5).to_bytes(8, "big") + generate_ed25519.sign(seed_of(first), message_v2)[1],
                ),
                INVALID,
            ),
            case("a byte too many", line(first, id_of(first, 4), bytes(73)), INVALID),
            case("a byte too few", line(first, id_of(first, 4), bytes(71)), INVALID),
            case("the same line twice", good + good, INVALID),
            case("two times by one witness", good + cosignature(text, first, now + 9), INVALID),
        ],
    }


def witness_policy() -> dict[str, Any]:
    names = ["X1", "X2", "X3", "Y1", "Y2", "Y3"]
    keys = {name: vkey(f"{name.lower()}.example", 4) for name in names}
    lines = {name: f"witness {name} {keys[name]}\n" for name in names}
    log = f"log {vkey(ORIGIN, 1)}\n"
    nested = (
        f"# who must have seen it\n\n{log}\n{lines['X1']}{lines['X2']}{lines['X3']}"
        f"group X-witnesses 2 X1 X2 X3\n{lines['Y1']}{lines['Y2']}{lines['Y3']}"
        "group Y-witnesses any Y1 Y2 Y3\ngroup X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y\n"
    )
    x1, x2 = lines["X1"], lines["X2"]
    many = [f"witness w{n} {vkey(f'w{n}', 4)}\n" for n in range(65)]

    def parse(desc: str, text: str, want: str = BAD_POLICY, quorum: str | None = None) -> Case:
        return {"desc": desc, "data": text, "want": want, "quorum": quorum}

    parsed = [
        parse("nested groups", nested, OK, "X-and-Y"),
        parse("no witnesses", "quorum none\n", OK),
        parse("one witness", x1 + "quorum X1\n", OK, "X1"),
        parse("tabs and spaces", f" \twitness\t X1  {keys['X1']} \n\tquorum X1\t\n", OK, "X1"),
        parse(
            "URLs",
            f"log {vkey(ORIGIN, 1)} https://a.example/\n"
            f"witness X1 {keys['X1']} https://b.example/\nquorum X1\n",
            OK,
            "X1",
        ),
        parse("lines after the quorum", "quorum none\n" + x1 + log, OK),
        parse("a comment with letters beyond ASCII", "  # سجل\nquorum none\n", OK),
        parse(
            "a name with a no-break space",
            f"witness a\u00a0b {keys['X1']}\nquorum a\u00a0b\n",
            OK,
            "a\u00a0b",
        ),
        parse(
            "names that look like thresholds",
            f"witness 2 {keys['X1']}\ngroup all all 2\nquorum all\n",
            OK,
            "all",
        ),
        parse("64 witnesses", "".join(many[:64]) + "quorum w63\n", OK, "w63"),
        parse("65 witnesses", "".join(many) + "quorum w63\n", TOO_LARGE),
        parse("no quorum", x1),
        parse("empty", ""),
        parse("two quorums", "quorum none\nquorum none\n"),
        parse("quorum of an unknown name", "quorum X1\n"),
        parse("quorum before its witness", "quorum X1\n" + x1),
        parse("quorum of two names", x1 + x2 + "quorum X1 X2\n"),
        parse("no last newline", "quorum none"),
        parse("carriage return", "quorum none\r\n"),
        parse("DEL", "# \x7f\nquorum none\n"),
        parse("unknown keyword", "witnesses X1\nquorum none\n"),
        parse("keyword in capitals", "QUORUM none\n"),
        parse("a witness named none", f"witness none {keys['X1']}\nquorum none\n"),
        parse("a group named none", x1 + "group none any X1\nquorum none\n"),
        parse("none as a member", x1 + "group g any X1 none\nquorum g\n"),
        parse("a name twice", x1 + f"witness X1 {keys['X2']}\nquorum X1\n"),
        parse("a group named as a witness", x1 + "group X1 any X1\nquorum X1\n"),
        parse("a public key twice", x1 + f"witness Z {keys['X1']}\nquorum X1\n"),
        parse(
            "a public key under another key name", x1 + f"witness Z {_renamed('x1.example', 4)}\nquorum X1\n"
        ),
        parse("a log twice", log + log + "quorum none\n"),
        parse("a witness key for a log", f"log {keys['X1']}\nquorum none\n"),
        parse("a log key for a witness", f"witness X1 {vkey('x1.example', 1)}\nquorum X1\n"),
        parse("a broken key", "log abc\nquorum none\n"),
        parse("something after the URL", f"log {vkey(ORIGIN, 1)} https://a.example/ x\nquorum none\n"),
        parse("a witness without key", "witness X1\nquorum none\n"),
        parse("a group without members", x1 + "group g any\nquorum X1\n"),
        parse("a group of itself", x1 + "group g any X1 g\nquorum g\n"),
        parse("a member twice", x1 + "group g any X1 X1\nquorum g\n"),
        parse("a member of two groups", x1 + "group g any X1\ngroup h any X1\nquorum g\n"),
        parse("a member defined later", "group g any X1\n" + x1 + "quorum g\n"),
        parse("threshold 0", x1 + "group g 0 X1\nquorum g\n"),
        parse("threshold above the members", x1 + x2 + "group g 3 X1 X2\nquorum g\n"),
        parse("threshold with a leading zero", x1 + "group g 01 X1\nquorum g\n"),
        parse("threshold in words", x1 + "group g one X1\nquorum g\n"),
        parse("threshold in Arabic digits", x1 + "group g ١ X1\nquorum g\n"),
    ]

    now = 1_700_000_000

    def check(
        desc: str,
        times: dict[str, int],
        want: int | str | None,
        now_s: int | None,
        age: int | None,
        text: str = nested,
    ) -> Case:
        by_key = [{"key": keys[name], "time_s": time_s} for name, time_s in times.items()]
        return {"desc": desc, "policy": text, "cosignatures": by_key, "now_s": now_s} | {
            "greatest_age_s": age,
            "want": want,
        }

    met = {"X1": now - 30, "X2": now - 20, "Y1": now - 10}
    checked = [
        check("met", met, now - 30, now, 60),
        check("met, of any age", dict.fromkeys(met, 5), 5, now, None),
        check("met, without a clock", dict.fromkeys(met, 5), 5, None, 60),
        check("at the greatest age", met, now - 30, now, 30),
        check("a second past the greatest age", met, UNMET, now, 29),
        check("a third X is newer", met | {"X3": now - 5}, now - 20, now, 29),
        check("the oldest Y does not matter", met | {"Y2": now - 9999}, now - 30, now, 60),
        check("one X only", {"X1": now, "Y1": now}, UNMET, now, 60),
        check("no Y", {"X1": now, "X2": now, "X3": now}, UNMET, now, 60),
        check("nobody", {}, UNMET, now, 60),
        check("five minutes ahead", met | {"Y1": now + 300}, now - 30, now, 60),
        check("more than five minutes ahead", met | {"Y1": now + 301}, UNMET, now, 60),
        check("ahead, without a clock", dict.fromkeys(met, now + 9999), now + 9999, None, None),
        check("quorum none", {}, None, now, 60, "quorum none\n"),
        check("quorum of one witness", {"X1": now}, now, now, 60, x1 + "quorum X1\n"),
        check("a stranger does not count", {"X2": now}, UNMET, now, 60, x1 + "quorum X1\n"),
        check("a witness outside the quorum", {"X2": now}, UNMET, now, 60, x1 + x2 + "quorum X1\n"),
    ]
    return {"parsed": parsed, "checked": checked}


def _renamed(name: str, kind: int) -> str:
    """The vkey of ``name``'s public key under another key name."""
    material = bytes((kind,)) + key_of(name)
    key_id = sha256(b"renamed.example\n" + material).digest()[:4]
    return f"renamed.example+{key_id.hex()}+{b64encode(material).decode()}"


def generate() -> dict[str, Any]:
    """The content of each file, by its name without ending."""
    return {
        "notes": notes(),
        "checkpoints": checkpoints(),
        "cosignatures": cosignatures(),
        "witness_policy": witness_policy(),
    }


def main() -> None:
    for name, content in generate().items():
        target = Path(__file__).with_name(f"{name}.json")
        target.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
