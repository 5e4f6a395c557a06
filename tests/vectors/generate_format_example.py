"""Writes the section "Worked example" of docs/format.md, by running the code.

Everything in it follows from the seeds below, so a second run changes nothing. Run as
``python -m tests.vectors.generate_format_example`` from the root of the repository. What it writes
is checked by tests/test_format_doc.py, which does without the code.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from textwrap import fill, wrap
from typing import Final

from ledger import rules
from ledger.canonical_json import base64_text
from ledger.changes import (
    LEDGER,
    AgencyEnrolled,
    AuthorityKey,
    AuthoritySet,
    Change,
    ChangeBody,
    Entitlement,
    FieldDefinition,
    Genesis,
    KeysAdded,
    NewKey,
    Subject,
    TypeDefined,
)
from ledger.cosignatures import cosign, cosigned_message
from ledger.documents import Document, Field, Shown, salt
from ledger.hashing import leaf_hash, merkle_root
from ledger.leaves import NONE, LeafType
from ledger.notes import NamedSigner, SignatureType, VerifierKey, parse_note
from ledger.proofs import verify_consistency, verify_inclusion
from ledger.receipt_builder import ReceiptBuilder
from ledger.receipts import Receipt
from ledger.records import Basis, Issue, Status
from ledger.registry import Registry
from ledger.registry_leaf import NO_GENESIS, RegistryLeaf
from ledger.rules_v1 import Draft
from ledger.signatures import Ed25519Signer, key_fingerprint
from ledger.signing_policy import KindPolicy, SigningPolicy
from ledger.status import EMPTY_CHUNK, compress_chunk
from ledger.submissions import SubmissionLeaf, gather_submission
from ledger.trust import Trust, TrustedLedger
from ledger.verdicts import VerdictCode
from ledger.verifier import verify_receipt
from tests.ledger.static import StaticLedger
from tests.ledger.world import Keys, MemoryReader, sign_change, sign_submission, status

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "format.md"
BEGIN: Final = "## Worked example\n"
END: Final = "## Known-answer vectors\n"

ORIGIN: Final = "ledger.example/demo"
WITNESS: Final = "witness.example/w1"
NONCE: Final = bytes([5]) * 32
SEALED_MS: Final = (1_767_225_600_000, 1_767_225_660_000, 1_767_225_720_000)
CLAIMED_MS: Final = (1_767_225_659_000, 1_767_225_719_000)
WITNESSED_S: Final = 1_767_225_725
NOW_MS: Final = 1_767_225_760_000
AGE_S: Final = 3600
SEEDS: Final = (bytes(range(16)), bytes(range(16, 32)))
SCAN: Final = b"scan\n"
KINDS: Final = {0: "genesis", 2: "type_defined", 3: "agency_enrolled", 4: "keys_added", 8: "keys_added"}
SIGNERS: Final = (
    ("authority key 1", 1),
    ("log key", 2),
    ("submit key 1 of agency 1", 3),
    ("witness key", 4),
    ("registry key 2 of agency 1", 6),
    ("submit key 3 of agency 1", 7),
    ("submit key 4 of agency 1", 8),
)


def signer(seed: int) -> Ed25519Signer:
    return Ed25519Signer(bytes([seed]) * 32)


class Example:
    """Three blocks, the documents in them, and the receipt of the second document."""

    def __init__(self) -> None:
        self.log_vkey = VerifierKey(ORIGIN, SignatureType.ED25519, signer(2).public_key).format()
        witness = NamedSigner(WITNESS, signer(4))
        self.witness_vkey = witness.key(SignatureType.ED25519_COSIGNATURE).format()
        self.policy = f"witness w1 {self.witness_vkey}\nquorum w1\n"
        self.reader = MemoryReader()
        self.static = StaticLedger(ORIGIN, [signer(2)])
        self.registries: list[Registry] = []
        self.documents = (
            Document.build(1, 1, [Field.text("holder", "زينب"), Field.text("expires", "2030-12-31")]),
            Document.build(
                1,
                1,
                [
                    Field.text("holder", "زينب"),
                    Field.text("expires", "2031-12-31"),
                    Field.file("scan", sha256(SCAN).digest()),
                ],
            ),
        )
        self._genesis()
        self._second_block()
        self._third_block()
        bare = self.static.fetch("checkpoint/13")
        note = parse_note(bare)
        self.cosigned = cosigned_message(note.text, WITNESSED_S)
        self.checkpoint = note.with_signatures([cosign(note.text, witness, WITNESSED_S)]).encode()
        entry = TrustedLedger.founded(
            self.genesis, ORIGIN, (VerifierKey.parse(self.log_vkey),), self.policy, training=True
        )
        self.trust = Trust((entry,))
        builder = ReceiptBuilder(self.static, entry, self.checkpoint)
        self.receipt = builder.build(self.documents[1].disclose(SEEDS[1]), 10)
        self.superseded = builder.build(self.documents[0].disclose(SEEDS[0]), 6)

    @property
    def genesis(self) -> bytes:
        assert self.reader.state is not None
        return self.reader.state.genesis

    @property
    def leaves(self) -> list[bytes]:
        return self.reader.leaves

    def verdict(self, receipt: Receipt, now_ms: int, age_s: int | None = None) -> VerdictCode:
        """With the file at hand where there is one."""
        digests = [field.value for field in receipt.document.shown if field.name == "scan"]
        verdict = verify_receipt(
            receipt, self.trust, now_ms=now_ms, greatest_age_s=age_s, file_digests=digests
        )
        return verdict.code

    def _genesis(self) -> None:
        authority = AuthoritySet(1, (AuthorityKey(1, 1, signer(1).public_key),))
        body = Genesis(ORIGIN, NONCE, True, SEALED_MS[0], (self.log_vkey,), authority, self.policy)
        leaf = sign_change(NO_GENESIS, Change(LEDGER, NONE, body), {(0, 1): signer(1)})
        transition = rules.genesis(leaf)
        self.reader.apply(transition)
        self.static.add(transition)
        self.registries.append(transition.state.registry)

    def _begin(self, block: int) -> Draft:
        assert self.reader.state is not None
        return rules.begin(self.reader.state, self.reader, SEALED_MS[block])

    def _seal(self, draft: Draft) -> None:
        transition = draft.seal()
        self.reader.apply(transition)
        self.static.add(transition)
        self.registries.append(transition.state.registry)

    def _change(
        self, draft: Draft, subject: Subject, previous: int, body: ChangeBody, by: tuple[int, int], seed: int
    ) -> None:
        draft.add_change(sign_change(self.genesis, Change(subject, previous, body), {by: signer(seed)}))

    def _submit(self, draft: Draft, records: list[bytes], claimed_ms: int, keys: Keys) -> None:
        leaf = sign_submission(self.genesis, 1, records, claimed_ms, keys)
        draft.add_submission(gather_submission(leaf, records))

    def _issue(self, document: int, basis: Basis) -> bytes:
        commitment = self.documents[document].commitment(self.genesis, SEEDS[document])
        return Issue(1, 1, basis, commitment).encode()

    def _second_block(self) -> None:
        draft = self._begin(1)
        fields = (
            FieldDefinition("holder", {"ar": "الاسم", "en": "Holder"}, True, False, False, True),
            FieldDefinition("expires", {"en": "Valid until"}, False, True, True, False),
        )
        defined = TypeDefined({"en": "Certificate"}, fields)
        self._change(draft, Subject("type", 1), NONE, defined, (0, 1), 1)
        policy = SigningPolicy(
            {
                "issue.original": KindPolicy(((1, 1), (100, 2)), 1000),
                "issue.replacement": KindPolicy(((1, 2),)),
            }
        )
        enrolled = AgencyEnrolled({"en": "Registry Office"}, 0, Entitlement(("issue",), (1,), policy))
        self._change(draft, Subject("agency", 1), NONE, enrolled, (0, 1), 1)
        keys = KeysAdded(
            (
                NewKey(1, 1, signer(3).public_key, "submit", "desk 1"),
                NewKey(2, 1, signer(6).public_key, "registry", "head"),
            )
        )
        self._change(draft, Subject("agency", 1), 3, keys, (0, 1), 1)
        self._submit(draft, [self._issue(0, Basis.ORIGINAL)], CLAIMED_MS[0], {1: signer(3)})
        self._seal(draft)

    def _third_block(self) -> None:
        draft = self._begin(2)
        keys = KeysAdded(
            (
                NewKey(3, 1, signer(7).public_key, "submit", "desk 2"),
                NewKey(4, 1, signer(8).public_key, "submit", "desk 3"),
            )
        )
        self._change(draft, Subject("agency", 1), 4, keys, (1, 2), 6)
        records = [self._issue(1, Basis.REPLACEMENT), status(1, 6, 6, Status.SUPERSEDED)]
        self._submit(draft, records, CLAIMED_MS[1], {3: signer(7), 4: signer(8)})
        self._seal(draft)


class Page:
    """Markdown, line by line."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def text(self, text: str) -> None:
        self.lines += [fill(text, 118, break_long_words=False, break_on_hyphens=False), ""]

    def raw(self, *lines: str) -> None:
        self.lines += [*lines, ""]

    def block(self, *lines: str, language: str = "") -> None:
        self.raw(f"```{language}", *lines, "```")

    def heading(self, text: str) -> None:
        self.raw(f"### {text}")


def in_lines(data: bytes) -> str:
    return "\n".join(wrap(data.hex(), 96))


def parts(data: bytes, *ends: int) -> str:
    """Hexadecimal, with a space at each of these offsets."""
    return " ".join(data[a:b].hex() for a, b in zip((0, *ends), (*ends, len(data)), strict=True))


def write_inputs(page: Page, example: Example) -> None:
    page.heading("Inputs")
    rows = ["| what | value |", "|---|---|"]
    for name, seed in SIGNERS:
        rows.append(f"| {name}: seed | 32 times {seed:02x} |")
        rows.append(f"| its public key | `{signer(seed).public_key.hex()}` |")
    rows += [
        f"| origin | `{ORIGIN}` |",
        "| nonce | 32 times 05 |",
        f"| seal times; the first is also the genesis's time | {', '.join(map(str, SEALED_MS))} |",
        f"| claimed times | {', '.join(map(str, CLAIMED_MS))} |",
        f"| witness | `{WITNESS}`, cosigning at {WITNESSED_S} s |",
        f"| document seeds | {', '.join(f'`{seed.hex()}`' for seed in SEEDS)} |",
        f"| the file | the {len(SCAN)} bytes `{SCAN.hex()}` |",
    ]
    page.raw(*rows)
    page.text("Verifier keys: the log's (type 01) and the witness's (type 04).")
    page.block(example.log_vkey, example.witness_vkey)


def write_leaf(page: Page, index: int, leaf: bytes, seals: int) -> None:
    title = f"**Leaf {index}**, {LeafType(leaf[1]).name}"
    match LeafType(leaf[1]):
        case LeafType.REGISTRY:
            body = RegistryLeaf.decode(leaf).json
            zeros = " (the signed message has 32 zero bytes for G)" if index == 0 else ""
            page.text(
                f"{title}, {KINDS[index]}, {len(leaf)} bytes: header, JSON of {len(body)} bytes,"
                f" signatures{zeros}."
            )
            page.block(leaf[:4].hex(), body.decode(), in_lines(leaf[4 + len(body) :]))
        case LeafType.SEAL:
            page.text(
                f"{title} of block {seals}, {len(leaf)} bytes: header · rules · block · time · previous ·"
                " documents · status root · registry root · count."
            )
            page.block(
                parts(leaf[:36], 2, 4, 12, 20, 28), leaf[36:68].hex(), leaf[68:100].hex(), leaf[100:].hex()
            )
        case LeafType.SUBMISSION:
            page.text(
                f"{title}, {len(leaf)} bytes: header · agency · count · records root · claimed time; then"
                " signature count; then for each key number · algorithm · length · signature."
            )
            lines = [parts(leaf[:50], 2, 6, 10, 42), leaf[50:51].hex()]
            for at in range(51, len(leaf), 69):
                lines += [parts(leaf[at : at + 5], 2, 3), in_lines(leaf[at + 5 : at + 69])]
            page.block(*lines)
        case LeafType.STATUS:
            page.text(
                f"{title}, {len(leaf)} bytes: header · agency · subject · previous · status · reason ·"
                " replacement."
            )
            page.block(parts(leaf, 2, 6, 14, 22, 23, 24))
        case _:
            page.text(f"{title}, {len(leaf)} bytes: header · agency · type · basis · commitment.")
            page.block(parts(leaf, 2, 6, 8, 9))


def write_tree(page: Page, hashes: Sequence[bytes]) -> None:
    page.heading("Tree")
    page.text(
        "Leaf hashes; the first is G. In this order they are also the tile `/tile/0/000.p/13`, the first"
        " eight `/tile/0/000.p/8`, the first two `/tile/0/000.p/2`."
    )
    page.block(*[f"{index:<2}  {one.hex()}" for index, one in enumerate(hashes)])
    spans = [
        (0, 1),
        (2, 3),
        (4, 5),
        (6, 7),
        (8, 9),
        (10, 11),
        (0, 3),
        (4, 7),
        (8, 11),
        (8, 12),
        (0, 7),
        (0, 12),
    ]
    nodes = {(a, b): merkle_root(list(hashes[a : b + 1])) for a, b in spans}
    notes = {(0, 1): "   root of size 2", (0, 7): "   root of size 8", (0, 12): "   root of size 13"}
    page.text("Nodes, by the leaves under them (8-12 is node 8-11 and leaf 12):")
    page.block(*[f"{f'{a}-{b}':<5}  {one.hex()}{notes.get((a, b), '')}" for (a, b), one in nodes.items()])
    root = nodes[0, 12]
    verify_inclusion(hashes[10], 10, 13, [hashes[11], nodes[8, 9], hashes[12], nodes[0, 7]], root)
    verify_consistency(8, nodes[0, 7], 13, root, [nodes[8, 12]])
    verify_consistency(2, nodes[0, 1], 13, root, [nodes[2, 3], nodes[4, 7], nodes[8, 12]])
    page.text(
        "Inclusion proof of leaf 10 in size 13: leaf 11, node 8-9, leaf 12, node 0-7 (inner = bit_length(10"
        " XOR 12) = 3, and popcount(10 >> 3) = 1 more). Consistency proof of size 8 in size 13: node 8-12"
        " (t = 3, index 0, so the root of size 8 itself is where it starts); of size 2: node 2-3, node 4-7,"
        " node 8-12."
    )


def write_checkpoints(page: Page, example: Example) -> None:
    page.heading("Checkpoints")
    page.text(
        "`/checkpoint/2`, `/checkpoint/8`, and `/checkpoint/13` with the witness's cosignature. Each ends"
        " with a newline; there is an empty line before the signatures."
    )
    for data in (
        example.static.fetch("checkpoint/2"),
        example.static.fetch("checkpoint/8"),
        example.checkpoint,
    ):
        page.block(data.decode().rstrip("\n"))
    page.text("What the witness signed, with its last newline:")
    page.block(example.cosigned.decode().rstrip("\n"))


def write_documents(page: Page, example: Example) -> None:
    page.heading("Documents, commitments")
    page.text(
        "Agency 1, type 1. The value of `holder` is four letters, 8 bytes. The second document has a file"
        " field; its value is the digest of the file."
    )
    rows = ["| document | i | kind | name | value | salt | field leaf |", "|---|---|---|---|---|---|---|"]
    for number, (document, seed) in enumerate(zip(example.documents, SEEDS, strict=True), 1):
        for i, field in enumerate(document.fields):
            one = salt(seed, i)
            cells = (field.value.hex(), one.hex(), Shown(field, one).hash().hex())
            rows.append(
                f"| {number} | {i} | {int(field.kind)} | `{field.name}` | "
                + " | ".join(f"`{cell}`" for cell in cells)
                + " |"
            )
    page.raw(*rows)
    page.text("Before hashing, field leaf 2 of document 1 is 0x00, then:")
    expires = example.documents[0].fields[2]
    name = expires.name.encode()
    page.block(in_lines(salt(SEEDS[0], 2) + bytes((0, len(name))) + name + expires.value))
    page.text(
        "For each document: root over the field leaves, the bytes hashed for the commitment, the commitment:"
    )
    for document, seed, index in zip(example.documents, SEEDS, (6, 10), strict=True):
        root = merkle_root([Shown(field, salt(seed, i)).hash() for i, field in enumerate(document.fields)])
        count = len(document.fields)
        hashed = b"sudur/v1/document\n" + example.genesis + bytes((0, 0, 0, 1, 0, count)) + root
        assert sha256(hashed).digest() == example.leaves[index][9:]
        page.block(root.hex(), "", in_lines(hashed), "", sha256(hashed).hexdigest())


def write_submissions(page: Page, example: Example) -> None:
    page.heading("Submissions")
    page.text(
        "Leaf 5: key fingerprint; the 134 signed bytes; the id. Its records root is the leaf hash of leaf"
        " 6, the only record."
    )
    first, second = (SubmissionLeaf.decode(example.leaves[index]) for index in (5, 9))
    fingerprint = key_fingerprint(1, signer(3).public_key)
    message = first.message(example.genesis, fingerprint)
    page.block(fingerprint.hex(), "", in_lines(message), "", first.identity(example.genesis).hex())
    page.text(
        "Leaf 9: the fingerprints of keys 3 and 4; the id. Its records root is the node over the leaf"
        " hashes of leaves 10 and 11, node 10-11 of the log as it happens. The signed bytes are made as"
        " those of leaf 5, once for each key. Keys 3 and 4 may sign here, since leaf 8 stands before leaf 9."
    )
    prints = [key_fingerprint(1, signer(seed).public_key).hex() for seed in (7, 8)]
    page.block(*prints, "", second.identity(example.genesis).hex())
    page.text(
        "What travels to a node: leaf 5, and as packed records `0029` ‖ leaf 6; leaf 9, and `0029` ‖ leaf"
        " 10 ‖ `0020` ‖ leaf 11."
    )


def write_registry(page: Page, example: Example) -> None:
    page.heading("Registry")
    _, second, third = example.registries
    agency = third.agencies[1]
    records = [third.ledger.encode(), agency.record.encode(), third.types[1].encode()]
    keys = [key.encode() for key in agency.keys]
    page.text("The records under the third seal. Ledger, agency 1, type 1; then the key records.")
    page.block(*[one.decode() for one in (*records, *keys)])
    names = ["ledger", "agency 1", "type 1", *[f"key {key.number}" for key in agency.keys]]
    hashes = {name: leaf_hash(one).hex() for name, one in zip(names, (*records, *keys), strict=True)}
    hashes |= {"keys root": agency.key_tree.root.hex(), "root": third.root.hex()}
    page.block(*[f"{name:<9}  {one}" for name, one in hashes.items()])
    earlier = second.agencies[1].record
    members = json.dumps(
        {"count": earlier.key_count, "root": base64_text(earlier.keys_root)}, separators=(",", ":")
    )
    changed = agency.record.encode().replace(b'"changed":"8"', b'"changed":"4"')
    start, end = changed.index(b'{"count"'), changed.index(b',"kind"')
    assert changed[:start] + members.encode() + changed[end:] == earlier.encode()
    assert (second.ledger, second.types) == (third.ledger, third.types)
    page.text(
        'Under the second seal the agency\'s record has `"changed":"4"` and these `keys`, the root over'
        " key records 1 and 2; the other two records are the same. The registry root:"
    )
    page.block(members, "", second.root.hex())
    page.text(
        'Under the first seal there is the ledger record alone, with `"agencies":0` and `"types":0`; the'
        " registry root is its leaf hash:"
    )
    page.block(example.registries[0].root.hex())


def write_status(page: Page, example: Example) -> None:
    page.heading("Status")
    page.text(
        "One chunk, empty under the first two seals. Under the third, leaf 11 has made leaf 6 superseded:"
        " byte 1 is 0x30, all others are 0. The status root is the chunk's leaf hash. Empty chunk, then the"
        " other: leaf hash, and one of many possible zlib streams."
    )
    chunk = example.reader.chunks[0]
    assert chunk == b"\x00\x30" + bytes(len(chunk) - 2)
    for one in (EMPTY_CHUNK, chunk):
        page.block(leaf_hash(one).hex(), in_lines(compress_chunk(one)))


def write_receipt(page: Page, example: Example) -> None:
    page.heading("Trust file and receipt")
    page.text("A trust file, and the receipt of document 2 under the checkpoint of size 13.")
    page.block(example.trust.encode().decode(), language="json")
    data = example.receipt.encode()
    page.block(data.decode().rstrip("\n"), language="json")
    past_ms = 1_956_517_200_000
    assert example.verdict(example.receipt, NOW_MS, AGE_S) is VerdictCode.GENUINE
    assert example.verdict(example.receipt, past_ms - 1) is VerdictCode.GENUINE
    assert example.verdict(example.receipt, past_ms) is VerdictCode.GENUINE_EXPIRED
    assert example.verdict(example.superseded, NOW_MS, AGE_S) is VerdictCode.SUPERSEDED
    page.text(
        f"The receipt ends with a newline ({len(data)} bytes in all). With the clock at {NOW_MS} and a"
        f" greatest age of {AGE_S} s its verdict is GENUINE, of a replacement, witnessed since {WITNESSED_S}"
        f" s, for a training ledger; from {past_ms} ms on (2032-01-01 00:00 at UTC+3) GENUINE_EXPIRED, if no"
        " greatest age is set. A receipt of document 1 under the same checkpoint is SUPERSEDED. To hide"
        " `holder`, the second item of `fields` becomes this, and all else stays:"
    )
    field = example.documents[1].fields[1]
    hidden = base64_text(Shown(field, salt(SEEDS[1], 1)).hash())
    page.block(json.dumps({"hidden": hidden}, separators=(",", ":")), language="json")


def section() -> str:
    """The whole section, from its heading up to the next one."""
    example, page = Example(), Page()
    page.lines.append(BEGIN)
    page.text(
        "A training ledger of three blocks: genesis and seal; then a type, an agency, two keys of it, a"
        " submission of one ISSUE, and the seal; then two more keys, which the agency itself adds, a"
        " submission signed by both, of an ISSUE with a file and of a STATUS on the first ISSUE, and the"
        " seal. Bytes are hexadecimal; spaces and line breaks in them are for print only. JSON is printed"
        " as it is, each on one line. Ed25519 is deterministic, so a program that issues must arrive at the"
        " same bytes."
    )
    write_inputs(page, example)
    page.heading("Leaves")
    seals = 0
    for index, leaf in enumerate(example.leaves):
        write_leaf(page, index, leaf, seals)
        seals += leaf[1] == LeafType.SEAL
    write_tree(page, [leaf_hash(leaf) for leaf in example.leaves])
    write_checkpoints(page, example)
    write_documents(page, example)
    write_submissions(page, example)
    write_registry(page, example)
    write_status(page, example)
    write_receipt(page, example)
    return "\n".join(page.lines) + "\n"


def main() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    begin, end = text.index(f"\n{BEGIN}") + 1, text.index(f"\n{END}") + 1
    DOCUMENT.write_text(text[:begin] + section() + text[end:], encoding="utf-8")


if __name__ == "__main__":
    main()
