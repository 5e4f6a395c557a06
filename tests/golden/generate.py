"""Adds golden files to tests/golden: what verifies today and has to verify for ever.

``python -m tests.golden.generate DIRECTORY SET`` makes a new directory of them, with an index of what
each must come to. It writes over nothing: what was committed once is never made anew. A new kind of proof,
or a format that has changed, gets a new directory; the old ones stay, and tests/golden/test_golden.py goes
on verifying them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from ledger import changes
from ledger.changes import LEDGER, FieldDefinition, Subject
from ledger.codes import code_of, path_of
from ledger.cose_receipts import Inclusion
from ledger.documents import Disclosure, Document, Field
from ledger.notes import SignatureType, VerifierKey
from ledger.pack_builder import PackBuilder
from ledger.pack_deltas import apply_delta
from ledger.packs import Form
from ledger.presented_documents import PresentedDocument
from ledger.receipt_builder import ReceiptBuilder
from ledger.receipt_keys import KeyStatement, ReceiptKey
from ledger.receipts import Receipt
from ledger.records import Attest, Basis, Issue, Status
from ledger.seals import Seal
from ledger.signatures import Algorithm, MlDsa44Signer
from ledger.signing_policy import KindPolicy, SigningPolicy
from ledger.tlog_proof import TlogProof
from ledger.trust import Trust, TrustedLedger
from ledger.trust_renewal import gather, renew
from tests.ledger.issued import Issued
from tests.ledger.portable import KEY as TOKEN_KEY
from tests.ledger.portable import Portable
from tests.ledger.served import served
from tests.ledger.static import StaticLedger
from tests.ledger.world import World, log_key, signer, status
from tools.files import PUBLIC, write_new_file

ORIGIN: Final = "golden.example/log"
LATTICE: Final = MlDsa44Signer(sha256(b"golden lattice").digest())
LOGS: Final = (signer("log"), signer("log 2"), LATTICE)
FILE: Final = b"the bytes of a golden scan"
TRANSLATION: Final = b"the golden translation"
_AGE: Final = 3600
_FAILED: Final = {"NOT_IN_LEDGER": "checkpoint", "CANNOT_TELL": "witnesses", "ALTERED": "document"}
"""The check that fails, of those that do here."""


@dataclass
class Golden:
    """One ledger's whole life, and documents of every fate in it."""

    world: World = field(default_factory=lambda: World(origin=ORIGIN))
    documents: dict[str, tuple[Document, bytes, int]] = field(default_factory=dict)
    stages: dict[str, StaticLedger] = field(default_factory=dict)

    def __post_init__(self) -> None:
        world = self.world
        self.pinned = TrustedLedger.founded(
            world.genesis, ORIGIN, [VerifierKey.parse(log_key("log", ORIGIN))]
        )
        world.define_type()
        licence = (
            FieldDefinition("رقم", {"ar": "رقم", "en": "Number"}, True, True, False, False),
            FieldDefinition("until", {"en": "Valid until"}, True, True, True, False),
        )
        world.change(Subject("type", 2), changes.TypeDefined({"en": "Licence", "ar": "إجازة"}, licence))
        two = SigningPolicy({"issue.archive": KindPolicy(((1, 2),), None)})
        self.office = world.enrol(types=(0, 1, 2), policy=two, submit=2)
        self.translator = world.enrol(roles=("attest",), submit=1)
        self._issue()
        self._change()
        self.stage("founded")
        world.change(LEDGER, changes.LogKeyAdded(log_key("log 2", ORIGIN)))
        world.change(LEDGER, changes.LogKeyEnded(log_key("log", ORIGIN), world.state.size + 2))
        world.idle()
        self.stage("rotated")
        world.change(LEDGER, changes.WitnessPolicyChanged(_policy("w")))
        self.stage("witnessed", "w")
        world.change(LEDGER, changes.WitnessPolicyChanged(_policy("x")))
        self.stage("another witness", "x")
        lattice = VerifierKey(ORIGIN, SignatureType.ML_DSA_44, LATTICE.public_key).format()
        world.change(LEDGER, changes.LogKeyAdded(lattice))
        self.stage("post-quantum", "x")
        world.change(LEDGER, changes.LedgerClosed(sha256(b"golden next").digest(), "golden.example/next"))
        self.revoke("late")
        self.stage("closed", "x")
        world.change(LEDGER, changes.LogKeyEnded(log_key("log 2", ORIGIN), world.state.size + 2))
        self.stage("ended", "x")

    # --- documents ---

    def _issue(self) -> None:
        plain = [Field.text("holder", "ئازاد حسن"), Field.text("expires", "")]
        scan = Field.file("scan.pdf", sha256(FILE).digest())
        self.log("plain", Document.build(self.office, 1, [*plain, scan]))
        self.log("expiring", Document.build(self.office, 1, [plain[0], Field.text("expires", "2026-06-30")]))
        licence = [Field.text("رقم", "٤٢/ب"), Field.text("until", "2030-12-31")]
        self.log("licence", Document.build(self.office, 2, licence))
        free = [Field.text("name", "زينب"), Field.text("secret", "hidden from most"), scan]
        self.log("free", Document.build(self.office, 0, free))
        for name in ("revoked", "suspended", "superseded", "translated", "late", "doubtful"):
            keys = (2,) if name == "doubtful" else (1,)
            self.log(name, Document.build(self.office, 1, [Field.text("holder", name), plain[1]]), keys=keys)
        archive = Document.build(self.office, 1, [Field.text("holder", "of an archive"), plain[1]])
        self.log("archive", archive, Basis.ARCHIVE, keys=(1, 2))
        self.log("moved", replace(archive), Basis.MIGRATED, seed=bytes(16))
        for start in range(0, 300, 100):
            self.world.submit(self.office, [_filler(i) for i in range(start, start + 100)])

    def log(
        self,
        name: str,
        document: Document,
        basis: Basis = Basis.ORIGINAL,
        keys: Iterable[int] = (1,),
        seed: bytes | None = None,
    ) -> None:
        seed = sha256(name.encode()).digest()[:16] if seed is None else seed
        commitment = document.commitment(self.world.genesis, seed)
        leaf = Issue(self.office, document.document_type, basis, commitment).encode()
        at = 1 + self.world.submit(self.office, [leaf], keys=keys)
        self.documents[name] = document, seed, at

    def _change(self) -> None:
        index = {name: at for name, (_, _, at) in self.documents.items()}
        self.revoke("revoked")
        self._status("suspended", Status.SUSPENDED)
        self.world.submit(
            self.office,
            [
                status(
                    self.office,
                    index["superseded"],
                    index["superseded"],
                    Status.SUPERSEDED,
                    index["plain"],
                )
            ],
        )
        text = [Field.text("holder", "translated"), Field.file("en.pdf", sha256(TRANSLATION).digest())]
        self.copy = Document.build(self.translator, 1, text).disclose(bytes(range(16)))
        opened = self.copy.commitment(self.world.genesis, "attested")
        leaf = Attest(self.translator, index["translated"], 3, opened).encode()
        self.attestation = 1 + self.world.submit(self.translator, [leaf])
        self.world.change(Subject("agency", self.office), changes.KeyStolen(2, index["doubtful"] - 1))

    def revoke(self, name: str) -> None:
        self._status(name, Status.REVOKED)

    def _status(self, name: str, to: Status) -> None:
        at = self.documents[name][2]
        self.world.submit(self.office, [status(self.office, at, at, to)])

    # --- what is taken of it ---

    def stage(self, name: str, witness: str = "") -> None:
        witnesses = {witness: self.world.now // 1000} if witness else None
        self.stages[name] = served(self.world, LOGS, witnesses=witnesses)

    def trusted(self, stage: str, before: TrustedLedger | None = None) -> TrustedLedger:
        known = before or self.pinned
        return renew(known, gather(self.stages[stage], known), now_ms=self.world.now).ledger

    def receipt(self, name: str, stage: str, hidden: frozenset[str] = frozenset()) -> Receipt:
        document, seed, at = self.documents[name]
        static = self.stages[stage]
        links: dict[int, Disclosure | None] = {self.attestation: self.copy} if name == "translated" else {}
        builder = ReceiptBuilder(static, self.trusted(stage), static.checkpoint)
        return builder.build(document.disclose(seed, hidden), at, links)


def _policy(name: str) -> str:
    key = VerifierKey(f"{name}.example", SignatureType.ED25519_COSIGNATURE, signer(name).public_key)
    return f"witness {name} {key.format()}\nquorum {name}\n"


def _filler(number: int) -> bytes:
    return Issue(1, 0, Basis.ORIGINAL, sha256(b"golden %d" % number).digest()).encode()


class Writer:
    """Puts files and their rows of the index into a new directory."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self.rows: list[dict[str, Any]] = []
        self._written: dict[str, str] = {}

    def put(self, name: str, data: bytes) -> str:
        if name not in self._written:
            write_new_file(self._directory / name, data, PUBLIC)
            self._written[name] = sha256(data).hexdigest()
        return name

    def row(self, kind: str, desc: str, want: Mapping[str, Any], **given: Any) -> None:
        self.rows.append({"kind": kind, "desc": desc, **given, "want": dict(want)})

    def close(self) -> None:
        index = {"files": dict(sorted(self._written.items())), "cases": self.rows}
        text = json.dumps(index, indent=1, ensure_ascii=False) + "\n"
        write_new_file(self._directory / "index.json", text.encode(), PUBLIC)


def write(directory: Path) -> None:
    """Everything, into a directory that is not there yet."""
    golden, out = Golden(), Writer(directory)
    now = golden.world.now
    trusts = {
        "founded": golden.pinned,
        "renewed": golden.trusted("post-quantum"),
        "ended": golden.trusted("ended", golden.trusted("post-quantum")),
        "own witness": replace(golden.trusted("post-quantum"), own_policy=_policy("w")),
    }
    for name, one in trusts.items():
        file = out.put(f"{name.replace(' ', '-')}.trust.json", Trust((one,)).encode() + b"\n")
        out.row("trust", name, {"log_keys": len(one.log_keys), "end": one.end}, file=file)
    _receipts(golden, out, now)
    _renewals(golden, out, now)
    _proofs(golden, out, now)
    out.close()


def _receipts(golden: Golden, out: Writer, now: int) -> None:
    def put(name: str, stage: str, hidden: frozenset[str] = frozenset()) -> str:
        partly = "-partly" if hidden else ""
        file = f"{name}{partly}.{stage.replace(' ', '-')}.receipt.json"
        return out.put(file, golden.receipt(name, stage, hidden).encode())

    def row(desc: str, file: str, trust: str, code: str, at: int = now, **given: Any) -> None:
        want = {"code": code, "failed": _FAILED.get(code)}
        out.row("receipt", desc, want, file=file, trust=f"{trust}.trust.json", now_ms=at, **given)

    for trust in ("founded", "renewed", "ended"):
        for name, code in (
            ("plain", "GENUINE"),
            ("licence", "GENUINE"),
            ("free", "GENUINE"),
            ("archive", "DOUBTFUL"),
            ("moved", "GENUINE"),
            ("revoked", "REVOKED"),
            ("suspended", "SUSPENDED"),
            ("superseded", "SUPERSEDED"),
            ("doubtful", "DOUBTFUL"),
            ("late", "GENUINE"),
        ):
            row(f"{name}, trust {trust}", put(name, "founded"), trust, code)
        row(f"partly hidden, trust {trust}", put("free", "founded", frozenset({"secret"})), trust, "GENUINE")
        translated = put("translated", "founded")
        row(f"attested, trust {trust}", translated, trust, "GENUINE", attested=["3:2"])
        row(f"attested by another, trust {trust}", translated, trust, "NOT_ATTESTED", attested=["1:2"])
        scan = [sha256(FILE).hexdigest()]
        row(f"with its file, trust {trust}", put("plain", "founded"), trust, "GENUINE", digests=scan)
        other = [sha256(b"another").hexdigest()]
        row(f"with another file, trust {trust}", put("plain", "founded"), trust, "ALTERED", digests=other)
        expired = 1_782_853_200_000  # the first ms of 2026-07-01 at UTC+3
        file = put("expiring", "founded")
        row(f"the last day, trust {trust}", file, trust, "GENUINE", at=expired - 1)
        row(f"expired, trust {trust}", file, trust, "GENUINE_EXPIRED", at=expired)
    for stage in ("rotated", "witnessed", "another witness", "post-quantum"):
        file = put("plain", stage)
        row(f"{stage}: unknown to the first file", file, "founded", "CANNOT_TELL")
        row(f"{stage}: by a renewed file", file, "renewed", "GENUINE")
        row(f"{stage}: by the file of an ended ledger", file, "ended", "GENUINE")
    row("not met by one's own policy", put("plain", "another witness"), "own-witness", "CANNOT_TELL")
    row("met by one's own policy as well", put("plain", "witnessed"), "own-witness", "GENUINE")
    row("revoked after closing", put("late", "closed"), "ended", "REVOKED")
    decades = now + 30 * 365 * 86_400_000
    row("the last head has no age", put("plain", "ended"), "ended", "GENUINE", at=decades, max_age_s=_AGE)
    row("earlier ones have", put("plain", "closed"), "ended", "CANNOT_TELL", at=decades, max_age_s=_AGE)


def _renewals(golden: Golden, out: Writer, now: int) -> None:
    first = golden.trusted("post-quantum")
    for before, after, known in (("founded", "renewed", golden.pinned), ("renewed", "ended", first)):
        stage = "post-quantum" if after == "renewed" else "ended"
        data = gather(golden.stages[stage], known).encode() + b"\n"
        file = out.put(f"{before}-to-{after}.renewal.json", data)
        out.row(
            "renewal",
            f"from {before} to {after}",
            {"file": f"{after}.trust.json"},
            file=file,
            trust=f"{before}.trust.json",
            now_ms=now,
        )


def _proofs(golden: Golden, out: Writer, now: int) -> None:
    stage, trust = "post-quantum", "renewed.trust.json"
    static, trusted = golden.stages[stage], golden.trusted(stage)
    for name, code in (("plain", "GENUINE"), ("revoked", "REVOKED")):
        receipt = golden.receipt(name, stage)
        document, seed, at = golden.documents[name]
        checkpoint = trusted.open(receipt.checkpoint).checkpoint
        path = path_of(at, checkpoint.size, receipt.issue.path)
        printed = code_of((document, seed), trusted.genesis, Basis.ORIGINAL, at, path)
        file = out.put(f"{name}.code.txt", printed.text().encode())
        builder = PackBuilder(static, trusted, static.checkpoint)
        pack = apply_delta(None, builder.delta(Form.SUBTREES, None))
        packed = out.put("post-quantum.pack", pack.encode())
        out.row("code", f"{name}, by a pack", {"code": code}, file=file, pack=packed, trust=trust, now_ms=now)
        issue = receipt.issue
        said = PresentedDocument.of(receipt).encode()
        proof = TlogProof(issue.index, issue.path, receipt.checkpoint, said)
        file = out.put(f"{name}.tlog-proof", proof.encode())
        out.row("tlog-proof", name, {"index": str(at)}, file=file, trust=trust)
    receipt = golden.receipt("plain", stage)
    checkpoint = trusted.open(receipt.checkpoint).checkpoint
    key = signer("golden receipts")
    statement = KeyStatement(trusted.genesis, ORIGIN, checkpoint.size, (ReceiptKey(key.public_key),))
    signed = out.put("keys.statement", statement.sign(LOGS[1:2]))
    time_s = Seal.decode(receipt.seal.leaf).time_ms // 1000
    issue = receipt.issue
    inclusion = Inclusion(trusted.genesis, ORIGIN, checkpoint.size, issue.index, time_s, issue.path)
    file = out.put("plain.cose", inclusion.sign(checkpoint.root, key))
    leaf = out.put("plain.leaf", issue.leaf)
    want = {"root": checkpoint.root.hex()}
    out.row("cose", "plain", want, file=file, leaf=leaf, statement=signed, trust=trust)


def write_signers(directory: Path) -> None:
    """Documents of agencies and authorities with keys of ML-DSA-44, or of both; a status list token."""
    out = Writer(directory)
    for kind in (Algorithm.ML_DSA_44, Algorithm.ED25519_ML_DSA_44):
        issued = Issued(world=World(kind=kind), signed_by=(1, 2))
        name = kind.name.lower().replace("_", "-")
        trust = out.put(f"{name}.trust.json", issued.trust().encode() + b"\n")
        given = {"trust": trust, "now_ms": issued.world.now}
        for state, code in ((None, "GENUINE"), (Status.REVOKED, "REVOKED")):
            if state is not None:
                issued.set_status(state)
            file = out.put(f"{name}.{code.lower()}.receipt.json", issued.receipt().encode())
            out.row("receipt", f"{name}, {code.lower()}", {"code": code, "failed": None}, file=file, **given)
        first = issued.world.state.registry.agency(issued.agency).keys[0]
        out.row("trust", name, {"log_keys": 1, "end": None}, file=trust)
        assert first.algorithm == kind
    portable = Portable()
    portable.issued.set_status(Status.SUSPENDED)
    portable = replace(portable)  # as of now
    trust = out.put("token.trust.json", Trust((portable.trusted,)).encode() + b"\n")
    out.row("trust", "of the token", {"log_keys": 1, "end": None}, file=trust)
    signed = out.put("token-keys.statement", portable.statement().sign([signer("log")]))
    file = out.put("status.jwt", portable.token().sign(TOKEN_KEY))
    want = {"statuses": {str(portable.issued.index): 2}}
    out.row("status-token", "one of them suspended", want, file=file, statement=signed, trust=trust)
    out.close()


SETS: Final = {"life": write, "signers": write_signers}

if __name__ == "__main__":
    SETS[sys.argv[2]](Path(__file__).parent / sys.argv[1])
