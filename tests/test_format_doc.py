"""docs/format.md against itself: the worked example, derived anew from what the document says.

The checks use the standard library alone, with Ed25519, trees and proofs as the document has them,
so that the code and its description cannot err alike. Only the last test runs the code: it makes
the example and compares.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[1]
TEXT: Final = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
EXAMPLE: Final = TEXT[TEXT.index("\n## Worked example\n") : TEXT.index("\n## Known-answer vectors\n")]
ORIGIN: Final = "ledger.example/demo"
WITNESS: Final = "witness.example/w1"
SEEDS: Final = (bytes(range(16)), bytes(range(16, 32)))
NONE: Final = 2**64 - 1
CHUNK: Final = 16_384

Root = Callable[[int, int], bytes]


# --- the document's parts ----------------------------------------------------------------------


def blocks(title: str) -> list[str]:
    """The code blocks under a heading of the example, in order."""
    start = EXAMPLE.index(f"\n### {title}\n") + 1
    end = EXAMPLE.find("\n### ", start)
    part = EXAMPLE[start : None if end < 0 else end]
    return [found[1] for found in re.finditer(r"^```\w*\n(.*?)\n```$", part, re.DOTALL | re.MULTILINE)]


def unhex(text: str) -> bytes:
    return bytes.fromhex("".join(text.split()))


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def hashes_of(texts: Sequence[str]) -> list[bytes]:
    return [base64.b64decode(one, validate=True) for one in texts]


def jcs(value: Any) -> bytes:
    """RFC 8785 for what the formats hold; all names here are ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def read_leaf(block: str) -> bytes:
    """A leaf as it is printed: hexadecimal, with a line of JSON in a REGISTRY."""
    lines = block.split("\n")
    return b"".join(line.encode() if line.startswith("{") else unhex(line) for line in lines)


# --- trees -------------------------------------------------------------------------------------


def leaf_hash(leaf: bytes) -> bytes:
    return sha256(b"\x00" + leaf).digest()


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def split(count: int) -> int:
    """The largest power of two below ``count``."""
    return 1 << (count - 1).bit_length() - 1


def tree_root(hashes: Sequence[bytes]) -> bytes:
    if len(hashes) < 2:
        return hashes[0] if hashes else sha256(b"").digest()
    k = split(len(hashes))
    return node(tree_root(hashes[:k]), tree_root(hashes[k:]))


def check_inclusion(hashed: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    assert 0 <= index < size
    inner = (index ^ (size - 1)).bit_length()
    assert len(path) == inner + (index >> inner).bit_count()
    assert all(len(one) == 32 for one in path)
    for i, one in enumerate(path):
        hashed = node(one, hashed) if i >= inner or index >> i & 1 else node(hashed, one)
    assert hashed == root


def check_consistency(m: int, root_m: bytes, n: int, root_n: bytes, path: Sequence[bytes]) -> None:
    assert 0 <= m <= n
    if m in (0, n):
        assert not path
        assert root_m == (sha256(b"").digest() if m == 0 else root_n)
        assert n > 0 or root_n == sha256(b"").digest()
        return
    t = (m & -m).bit_length() - 1
    index, last = (m - 1) >> t, (n - 1) >> t
    assert index == 0 or path
    seed, rest = (root_m, path) if index == 0 else (path[0], path[1:])
    inner = (index ^ last).bit_length()
    assert len(rest) == inner + (index >> inner).bit_count()
    assert all(len(one) == 32 for one in path)
    a = b = seed
    for i, one in enumerate(rest):
        if i >= inner or index >> i & 1:
            a, b = node(one, a), node(one, b)
        else:
            b = node(b, one)
    assert (a, b) == (root_m, root_n)


def inclusion_path(i: int, x: int, y: int, root: Root) -> list[bytes]:
    if y - x == 1:
        return []
    k = split(y - x)
    if i < x + k:
        return [*inclusion_path(i, x, x + k, root), root(x + k, y)]
    return [*inclusion_path(i, x + k, y, root), root(x, x + k)]


def consistency_path(m: int, x: int, y: int, whole: bool, root: Root) -> list[bytes]:
    if x + m == y:
        return [] if whole else [root(x, y)]
    k = split(y - x)
    if m <= k:
        return [*consistency_path(m, x, x + k, whole, root), root(x + k, y)]
    return [*consistency_path(m - k, x + k, y, False, root), root(x, x + k)]


# --- Ed25519, in extended coordinates ----------------------------------------------------------

P: Final = 2**255 - 19
L: Final = 2**252 + 27742317777372353535851937790883648493
D: Final = -121665 * pow(121666, -1, P) % P
SMALL: Final = frozenset(
    map(bytes.fromhex, re.findall(r"^[0-9a-f]{64}$", TEXT.split("An **X25519** public key")[0], re.MULTILINE))
)

Point = tuple[int, int, int, int]


def add(a: Point, b: Point) -> Point:
    e = (a[1] - a[0]) * (b[1] - b[0]) % P
    f = (a[1] + a[0]) * (b[1] + b[0]) % P
    g, h = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    x, y, z, t = f - e, h - g, h + g, f + e
    return x * y % P, z * t % P, y * z % P, x * t % P


def times(number: int, point: Point) -> Point:
    result: Point = (0, 1, 1, 0)
    while number:
        if number & 1:
            result = add(result, point)
        point = add(point, point)
        number >>= 1
    return result


def encode_point(point: Point) -> bytes:
    inverse = pow(point[2], -1, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def decode_point(data: bytes) -> Point:
    number = int.from_bytes(data, "little")
    sign, y = number >> 255, number % 2**255
    assert y < P
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    assert x * x % P == square
    assert x or not sign
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


BASE: Final = decode_point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


def challenge(r: bytes, key: bytes, message: bytes) -> int:
    return int.from_bytes(hashlib.sha512(r + key + message).digest(), "little") % L


def check_signature(key: bytes, message: bytes, signature: bytes) -> None:
    """Valid exactly as the section Algorithms says."""
    assert len(key) == 32
    assert len(signature) == 64
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    assert key not in SMALL
    assert r not in SMALL
    assert s < L
    x, y, z, t = times(challenge(r, key, message), decode_point(key))
    assert encode_point(add(times(s, BASE), (-x % P, y, z, -t % P))) == r


def public_of(seed: bytes) -> bytes:
    return sign(seed, b"")[0]


def sign(seed: bytes, message: bytes) -> tuple[bytes, bytes]:
    digest = hashlib.sha512(seed).digest()
    secret = int.from_bytes(digest[:32], "little") & ((1 << 254) - 8) | 1 << 254
    key = encode_point(times(secret, BASE))
    nonce = int.from_bytes(hashlib.sha512(digest[32:] + message).digest(), "little") % L
    r = encode_point(times(nonce, BASE))
    return key, r + ((nonce + challenge(r, key, message) * secret) % L).to_bytes(32, "little")


# --- what the example says ---------------------------------------------------------------------

LEAVES: Final = [read_leaf(block) for block in blocks("Leaves")]
HASHES: Final = [leaf_hash(leaf) for leaf in LEAVES]
G: Final = HASHES[0]
SIZE: Final = 13
RECORDS: Final = [line.encode() for line in blocks("Registry")[0].split("\n")]
KEYS: Final = {
    name: (bytes([int(seed, 16)]) * 32, bytes.fromhex(key))
    for name, seed, key in re.findall(
        r"^\| ([^|]+): seed \| 32 times (\w\w) \|\n\| its public key \| `(\w{64})` \|$", EXAMPLE, re.MULTILINE
    )
}
AGENCY_KEYS: Final = ["submit key 1", "registry key 2", "submit key 3", "submit key 4"]


def key_of(agency: int, number: int) -> tuple[bytes, bytes]:
    """Seed and public key."""
    name = f"{AGENCY_KEYS[number - 1]} of agency 1" if agency else f"authority key {number}"
    return KEYS[name]


def vkey(name: str, kind: int, key: bytes) -> tuple[str, bytes]:
    """A vkey and its key ID."""
    key_id = sha256(name.encode() + b"\n" + bytes([kind]) + key).digest()[:4]
    return f"{name}+{key_id.hex()}+{b64(bytes([kind]) + key)}", key_id


LOG_VKEY, LOG_ID = vkey(ORIGIN, 1, KEYS["log key"][1])
WITNESS_VKEY, WITNESS_ID = vkey(WITNESS, 4, KEYS["witness key"][1])
POLICY: Final = f"witness w1 {WITNESS_VKEY}\nquorum w1\n"


def documents() -> list[list[tuple[int, str, bytes, bytes, bytes]]]:
    """The two documents: kind, name, value, salt and field leaf of each field."""
    scan = sha256(b"scan\n").digest()
    contents = [
        [(0, "type", b"1"), (0, "holder", "زينب".encode()), (0, "expires", b"2030-12-31")],
        [(0, "type", b"1"), (0, "holder", "زينب".encode()), (0, "expires", b"2031-12-31"), (1, "scan", scan)],
    ]
    made = []
    for seed, fields in zip(SEEDS, contents, strict=True):
        rows = []
        for i, (kind, name, value) in enumerate(fields):
            salt = hmac.digest(seed, b"sudur/v1/salt" + struct.pack(">H", i), "sha256")[:16]
            hashed = leaf_hash(salt + bytes((kind, len(name))) + name.encode() + value)
            rows.append((kind, name, value, salt, hashed))
        made.append(rows)
    return made


# --- the tests ---------------------------------------------------------------------------------


def test_links_lead_somewhere() -> None:
    titles = re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    wanted = set(re.findall(r"\]\(#([^)]*)\)", TEXT.replace("\n", " ")))
    assert wanted
    assert wanted <= anchors


def test_encodings_of_small_order() -> None:
    assert len(SMALL) == 14
    for data in SMALL:
        y = int.from_bytes(data, "little") % 2**255 % P
        if y not in (0, 1, P - 1):
            point = times(8, decode_point(y.to_bytes(32, "little")))
            assert encode_point(point) == bytes([1]) + bytes(31)


def test_proofs_as_written_hold_for_each_other() -> None:
    """The two ways to make a proof against the two ways to check one; every size up to 20."""
    hashes = [leaf_hash(bytes([i])) for i in range(20)]

    def root(x: int, y: int) -> bytes:
        return tree_root(hashes[x:y])

    for n in range(1, 21):
        for i in range(n):
            check_inclusion(hashes[i], i, n, inclusion_path(i, 0, n, root), root(0, n))
        for m in range(1, n + 1):
            path = consistency_path(m, 0, n, True, root)
            check_consistency(m, root(0, m), n, root(0, n), path)
            for at in range(len(path)):
                with pytest.raises(AssertionError):
                    check_consistency(m, root(0, m), n, root(0, n), [*path[:at], bytes(32), *path[at + 1 :]])


def test_keys() -> None:
    assert len(KEYS) == 7
    for seed, key in KEYS.values():
        assert public_of(seed) == key
    assert blocks("Inputs") == [f"{LOG_VKEY}\n{WITNESS_VKEY}"]


def test_leaves_are_as_long_as_said() -> None:
    said = re.findall(r"^\*\*Leaf (\d+)\*\*[^:]*? (\d+) bytes:", EXAMPLE, re.MULTILINE)
    assert [(int(index), int(size)) for index, size in said] == [(i, len(x)) for i, x in enumerate(LEAVES)]
    assert len(LEAVES) == SIZE
    types = [(leaf[0], leaf[1]) for leaf in LEAVES]
    assert types == [(1, kind) for kind in bytes.fromhex("10301010102001301020010230")]


@pytest.mark.parametrize(
    ("index", "signer", "subject", "previous"),
    [
        (0, (0, 1), "ledger", NONE),
        (2, (0, 1), "type/1", NONE),
        (3, (0, 1), "agency/1", NONE),
        (4, (0, 1), "agency/1", 3),
        (8, (1, 2), "agency/1", 4),
    ],
)
def test_registry_leaf(index: int, signer: tuple[int, int], subject: str, previous: int) -> None:
    leaf = LEAVES[index]
    end = 4 + int.from_bytes(leaf[2:4], "big")
    change = json.loads(leaf[4:end])
    assert jcs(change) == leaf[4:end]
    assert (change["subject"], change["previous"]) == (subject, str(previous))
    count, agency, number, algorithm, length = struct.unpack(">BIHBH", leaf[end : end + 10])
    assert (count, (agency, number), algorithm, length) == (1, signer, 1, 64)
    assert len(leaf) == end + 10 + 64
    seed, key = key_of(agency, number)
    message = b"sudur/v1/registry\n" + (G if index else bytes(32)) + leaf[:end]
    check_signature(key, message, leaf[-64:])
    assert sign(seed, message)[1] == leaf[-64:]


@pytest.mark.parametrize(("index", "numbers", "block"), [(5, [1], 0), (9, [3, 4], 1)])
def test_submission(index: int, numbers: list[int], block: int) -> None:
    leaf = LEAVES[index]
    m = leaf[:50]
    _, _, agency, count, root, _ = struct.unpack(">BBII32sQ", m)
    records = LEAVES[index + 1 : index + 1 + count]
    assert all(record[2:6] == leaf[2:6] for record in records)
    assert root == tree_root([leaf_hash(record) for record in records])
    assert leaf[50] == len(numbers)
    assert len(leaf) == 51 + 69 * len(numbers)
    *printed, last = blocks("Submissions")[block].split("\n\n")
    assert unhex(last) == sha256(b"sudur/v1/submission\n" + G + m).digest()
    prints = []
    for place, number in enumerate(numbers):
        entry = leaf[51 + 69 * place : 51 + 69 * (place + 1)]
        assert struct.unpack(">HBH", entry[:5]) == (number, 1, 64)
        seed, key = key_of(agency, number)
        prints.append(sha256(b"\x01" + key).digest())
        message = b"sudur/v1/submission\n" + G + prints[-1] + m
        assert len(message) == 134
        check_signature(key, message, entry[5:])
        assert sign(seed, message)[1] == entry[5:]
    assert [bytes.fromhex(one) for one in printed[0].split("\n")] == prints
    if len(printed) > 1:
        assert unhex(printed[1]) == message


def test_status_leaf() -> None:
    """It takes document 1 back in favour of no leaf that is named; document 2 is in the same submission."""
    assert struct.unpack(">BBIQQBBQ", LEAVES[11]) == (1, 2, 1, 6, 6, 3, 0, NONE)


@pytest.mark.parametrize(
    ("index", "block", "time", "previous", "issued"),
    [(1, 0, 1767225600000, NONE, 0), (7, 1, 1767225660000, 1, 1), (12, 2, 1767225720000, 7, 2)],
)
def test_seal(index: int, block: int, time: int, previous: int, issued: int) -> None:
    fields = struct.unpack(">BBHQQQQ32s32sB", LEAVES[index])
    assert fields[:7] == (1, 0x30, 1, block, time, previous, issued)
    status_root, registry_root, extras = fields[7:]
    chunk = bytes(CHUNK) if block < 2 else b"\x00\x30" + bytes(CHUNK - 2)
    assert status_root == leaf_hash(chunk)
    assert registry_root == registry_roots()[block]
    assert extras == 0
    if block == 0:
        assert f'"time_ms":"{time}"'.encode() in LEAVES[0]


def registry_roots() -> list[bytes]:
    """Of the three seals, from the records as printed."""
    ledger, agency, kind = RECORDS[:3]
    first = ledger.replace(b'"agencies":1', b'"agencies":0').replace(b'"types":1', b'"types":0')
    members, _ = blocks("Registry")[2].split("\n\n")
    earlier = json.loads(agency) | {"changed": "4", "keys": json.loads(members)}
    return [
        leaf_hash(first),
        tree_root([leaf_hash(ledger), leaf_hash(jcs(earlier)), leaf_hash(kind)]),
        tree_root([leaf_hash(ledger), leaf_hash(agency), leaf_hash(kind)]),
    ]


def test_registry() -> None:
    assert all(jcs(json.loads(record)) == record for record in RECORDS)
    keys = [leaf_hash(record) for record in RECORDS[3:]]
    roots = registry_roots()
    _, table, earlier, first = blocks("Registry")
    said = [bytes.fromhex(line.split()[-1]) for line in table.split("\n")]
    assert said == [*map(leaf_hash, RECORDS), tree_root(keys), roots[2]]
    members, root = earlier.split("\n\n")
    assert json.loads(members) == {"count": 2, "root": b64(tree_root(keys[:2]))}
    assert [first, root] == [one.hex() for one in roots[:2]]
    agency = json.loads(RECORDS[1])
    assert agency["keys"] == {"count": 4, "root": b64(tree_root(keys))}
    assert agency["changed"] == "8"
    for number, record in enumerate(map(json.loads, RECORDS[3:]), 1):
        assert base64.b64decode(record["key"]) == key_of(1, number)[1]
        assert (record["number"], record["added"]) == (number, "4" if number < 3 else "8")
        assert record["added_by"] == [[0, 1] if number < 3 else [1, 2]]


def test_tree() -> None:
    leaves, nodes = blocks("Tree")
    assert [line.split() for line in leaves.split("\n")] == [[str(i), h.hex()] for i, h in enumerate(HASHES)]
    said = {line.split()[0]: bytes.fromhex(line.split()[1]) for line in nodes.split("\n")}
    for span, hashed in said.items():
        first, last = map(int, span.split("-"))
        assert tree_root(HASHES[first : last + 1]) == hashed
    root = said["0-12"]
    check_inclusion(HASHES[10], 10, SIZE, [HASHES[11], said["8-9"], HASHES[12], said["0-7"]], root)
    check_consistency(8, said["0-7"], SIZE, root, [said["8-12"]])
    check_consistency(2, said["0-1"], SIZE, root, [said["2-3"], said["4-7"], said["8-12"]])


@pytest.mark.parametrize(("block", "size", "lines"), [(0, 2, 1), (1, 8, 1), (2, 13, 2)])
def test_checkpoint(block: int, size: int, lines: int) -> None:
    text, _, signatures = f"{blocks('Checkpoints')[block]}\n".partition("\n\n")
    text += "\n"
    assert text == f"{ORIGIN}\n{size}\n{b64(tree_root(HASHES[:size]))}\n"
    found = signatures.removesuffix("\n").split("\n")
    assert len(found) == lines
    dash, name, encoded = found[0].split(" ")
    raw = base64.b64decode(encoded, validate=True)
    assert (dash, name, raw[:4]) == ("\u2014", ORIGIN, LOG_ID)
    check_signature(KEYS["log key"][1], text.encode(), raw[4:])
    for line in found[1:]:
        dash, name, encoded = line.split(" ")
        raw = base64.b64decode(encoded, validate=True)
        assert (dash, name, raw[:4]) == ("\u2014", WITNESS, WITNESS_ID)
        assert len(raw) == 4 + 72
        message = f"cosignature/v1\ntime {int.from_bytes(raw[4:12], 'big')}\n{text}"
        check_signature(KEYS["witness key"][1], message.encode(), raw[12:])
        assert message == f"{blocks('Checkpoints')[3]}\n"
        assert message.startswith("cosignature/v1\ntime 1767225725\n")


def test_documents() -> None:
    rows = re.findall(
        r"^\| (\d) \| (\d) \| (\d) \| `(\w+)` \| `(\w+)` \| `(\w+)` \| `(\w+)` \|$", EXAMPLE, re.MULTILINE
    )
    wanted = [
        (str(number), str(i), str(kind), name, value.hex(), salt.hex(), hashed.hex())
        for number, fields in enumerate(documents(), 1)
        for i, (kind, name, value, salt, hashed) in enumerate(fields)
    ]
    assert rows == wanted
    field, *commitments = blocks("Documents, commitments")
    assert leaf_hash(unhex(field)) == documents()[0][2][4]
    for block, fields, index in zip(commitments, documents(), (6, 10), strict=True):
        root, hashed, commitment = map(unhex, block.split("\n\n"))
        assert root == tree_root([field[4] for field in fields])
        assert hashed == b"sudur/v1/document\n" + G + struct.pack(">IH", 1, len(fields)) + root
        assert sha256(hashed).digest() == commitment
        assert LEAVES[index] == struct.pack(">BBIHB", 1, 1, 1, 1, 0 if index == 6 else 3) + commitment


def test_status_chunks() -> None:
    chunks = [bytes(CHUNK), b"\x00\x30" + bytes(CHUNK - 2)]
    for block, chunk in zip(blocks("Status"), chunks, strict=True):
        hashed, stream = map(unhex, block.split("\n"))
        assert leaf_hash(chunk) == hashed
        assert zlib.decompress(stream) == chunk
    assert chunks[1][6 // 4] >> 2 * (6 % 4) & 3 == 3
    empty = re.search(r"leaf hash of the empty chunk \| `(\w{64})`", TEXT)
    assert empty is not None
    assert empty[1] == leaf_hash(chunks[0]).hex()


def test_trust_file() -> None:
    trust = json.loads(blocks("Trust file and receipt")[0])
    assert jcs(trust).decode() == blocks("Trust file and receipt")[0]
    assert trust == {
        "format": "sudur-trust/v1",
        "ledgers": [
            {
                "genesis": b64(G),
                "origin": ORIGIN,
                "log_keys": [{"vkey": LOG_VKEY, "added": "0", "last_size": None}],
                "witness_policy": [{"from": "0", "value": POLICY}],
                "own_policy": "",
                "training": True,
                "changed": "0",
                "head": None,
                "closed": None,
            }
        ],
    }


def test_receipt() -> None:
    _, data, hidden = blocks("Trust file and receipt")
    receipt = json.loads(data)
    root = tree_root(HASHES)
    assert jcs(receipt).decode() == data
    assert f"({len(data.encode()) + 1} bytes in all)" in EXAMPLE.replace("\n", " ")
    assert receipt["format"] == "sudur-receipt/v1"
    assert receipt["genesis"] == b64(G)
    assert receipt["checkpoint"] == f"{blocks('Checkpoints')[2]}\n"
    for name, index in (("issue", 10), ("seal", 12), ("submission", 9)):
        proven = receipt[name]
        assert (int(proven["index"]), base64.b64decode(proven["leaf"])) == (index, LEAVES[index])
        check_inclusion(HASHES[index], index, SIZE, hashes_of(proven["path"]), root)
    path = hashes_of(receipt["submission"]["records_path"])
    check_inclusion(HASHES[10], 0, 2, path, LEAVES[9][10:42])
    chunk = zlib.decompress(base64.b64decode(receipt["status"]["zlib"]))
    check_inclusion(leaf_hash(chunk), 0, 1, hashes_of(receipt["status"]["path"]), LEAVES[12][36:68])
    assert chunk[10 // 4] >> 2 * (10 % 4) & 3 == 0
    registry = receipt["registry"]
    for position, name in enumerate(("ledger", "agency", "type")):
        record = registry[name]["record"].encode()
        assert record == RECORDS[position]
        check_inclusion(leaf_hash(record), position, 3, hashes_of(registry[name]["path"]), LEAVES[12][68:100])
    keys_root = base64.b64decode(json.loads(RECORDS[1])["keys"]["root"])
    for number, proof in zip((3, 4), registry["keys"], strict=True):
        assert proof["record"].encode() == RECORDS[2 + number]
        check_inclusion(
            leaf_hash(proof["record"].encode()), number - 1, 4, hashes_of(proof["path"]), keys_root
        )
    wanted = []
    for kind, name, value, salt, _ in documents()[1]:
        content = {"sha256": b64(value)} if kind else {"value": value.decode()}
        wanted.append({"name": name, "salt": b64(salt), **content})
    assert receipt["document"] == {"agency": 1, "type": 1, "fields": wanted}
    assert json.loads(hidden) == {"hidden": b64(documents()[1][1][4])}


def test_limits_of_time_in_the_example() -> None:
    """Seals ascend, claimed times are in the window, and the day of expiry ends as the rule says."""
    seals = [int.from_bytes(LEAVES[index][12:20], "big") for index in (1, 7, 12)]
    assert all(a < b for a, b in pairwise(seals))
    for index, sealed in ((5, seals[1]), (9, seals[2])):
        claimed = int.from_bytes(LEAVES[index][42:50], "big")
        assert sealed - 604_800_000 <= claimed <= sealed + 300_000
    days_to_2032 = 365 * 62 + 15  # fifteen leap years from 1972 to 2028
    assert f"from {days_to_2032 * 86_400_000 - 3 * 3_600_000} ms on (2032-01-01 00:00 at UTC+3)" in (
        EXAMPLE.replace("\n", " ")
    )


def vectors(name: str) -> Any:
    return json.loads((ROOT / "tests" / "vectors" / name).read_text(encoding="utf-8"))


def holds(check: Callable[..., None], *arguments: object) -> bool:
    try:
        check(*arguments)
    except (AssertionError, ValueError):
        return False
    return True


def test_tree_vectors() -> None:
    """The algorithms as the document writes them, on the vectors that the code is tested with."""
    data = vectors("tree.json")
    for case in data["roots"]:
        leaves = [leaf_hash(bytes.fromhex(leaf)) for leaf in case["input"]["leaves"]]
        assert tree_root(leaves).hex() == case["want"]
    for case in data["inclusion"]:
        one = case["input"]
        path = [bytes.fromhex(hashed) for hashed in one["path"]]
        hashed, root = bytes.fromhex(one["leaf_hash"]), bytes.fromhex(one["root"])
        proven = holds(check_inclusion, hashed, int(one["index"]), int(one["size"]), path, root)
        assert proven == (case["want"] == "proven"), case["desc"]
    for case in data["consistency"]:
        one = case["input"]
        path = [bytes.fromhex(hashed) for hashed in one["path"]]
        old, new = (bytes.fromhex(one[name]) for name in ("old_root", "new_root"))
        proven = holds(check_consistency, int(one["old"]), old, int(one["new"]), new, path)
        assert proven == (case["want"] == "proven"), case["desc"]


def test_signature_vectors() -> None:
    for case in vectors("ed25519.json")["signatures"]:
        arguments = (bytes.fromhex(case[name]) for name in ("public_key", "message", "signature"))
        assert holds(check_signature, *arguments) == (case["want"] == "valid"), case["desc"]


def test_the_code_makes_this_example() -> None:
    """After a change of the code or the example: python -m tests.vectors.generate_format_example."""
    from tests.vectors import generate_format_example

    streams = [unhex(block.split("\n")[1]) for block in blocks("Status")]
    if any(zlib.compress(zlib.decompress(stream), 9) != stream for stream in streams):
        pytest.skip("this zlib compresses otherwise than the one that made the example")
    assert generate_format_example.section() == EXAMPLE[1:] + "\n"
