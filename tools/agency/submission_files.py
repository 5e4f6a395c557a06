"""Submission files: one officer's work on the way to the next officer's signature.

A file holds SUBMISSIONs with the signatures so far, their records, and what opens them: of ISSUE records
the seeds and fields, of SENDs and ANSWERs what their envelopes say. So the next officer's tool recomputes
every commitment, shows what is to be signed, and signs it on another machine without any network. It is
as private as the documents in it (0600).

Canonical JSON with a newline: {"format": "sudur-submission/v1", "genesis", "agency", "work", "kind",
"submissions": [{"claimed", "records", "signatures": [{"key", "algorithm", "public_key", "signature"}]}],
"openings": [{"seed", "fields": [[kind, name, value]]}], "said": [plaintext]}; bytes in base64, u64 in
decimal text, a file's value in base64; ``openings`` are those of the ISSUE records, in their order,
``said`` what the SENDs and ANSWERs commit to, each once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ledger.canonical_json import Json, Reader, base64_text, encode, parse, parse_base64, u64_text
from ledger.changes import MAX_AGENCY, MAX_KEY_NUMBER
from ledger.documents import MAX_FIELDS, SEED_SIZE, Commitments, Document, Field, FieldKind
from ledger.envelope_bodies import Letter, Reply
from ledger.envelopes import MAX_PLAINTEXT, read_plaintext
from ledger.errors import CommitmentMismatch, FormatError, SignatureInvalid
from ledger.hashing import leaf_hashes, merkle_root
from ledger.records import MAX_RECORDS, NO_HASH, Answer, Issue, Record, Send, parse_record
from ledger.signatures import key_fingerprint, verify
from ledger.signing_policy import DAY_MS, RecordKind
from ledger.submissions import MAX_SIGNATURES, KeySignature, SubmissionLeaf, unpack
from tools.agency.directory import Membership
from tools.agency.outbox import DROPPED, Outbox, State, Work, record_kind
from tools.errors import FileProblem, SubmissionFileProblem
from tools.files import read_file, write_file, write_new_file
from tools.signing import NumberedSigner

MAX_FILE: Final = 256 << 20
MAX_SUBMISSIONS: Final = 256
_FORMAT: Final = "sudur-submission/v1"
_TOO_OLD_MS: Final = 7 * DAY_MS


@dataclass(frozen=True, slots=True)
class Signed:
    """A key's signature, and the key, so that the next officer can check it."""

    number: int
    algorithm: int
    public_key: bytes
    signature: bytes

    def to_json(self) -> Json:
        return {
            "key": self.number,
            "algorithm": self.algorithm,
            "public_key": base64_text(self.public_key),
            "signature": base64_text(self.signature),
        }

    @classmethod
    def from_json(cls, reader: Reader) -> Signed:
        one = cls(
            reader.number("key", 1, MAX_KEY_NUMBER),
            reader.number("algorithm", 1, 255),
            reader.data("public_key", limit=4096),
            reader.data("signature", limit=4096),
        )
        reader.done()
        return one


@dataclass(frozen=True, slots=True)
class Unsent:
    """A SUBMISSION on its way. ``records``: as they travel, packed."""

    claimed_ms: int
    records: bytes
    signatures: tuple[Signed, ...]

    def leaves(self) -> list[bytes]:
        return unpack(self.records, most=MAX_RECORDS)

    def leaf(self, agency: int) -> SubmissionLeaf:
        """The SUBMISSION as far as it is signed."""
        leaves = self.leaves()
        ordered = sorted(self.signatures, key=lambda one: one.number)
        signatures = tuple(KeySignature(one.number, one.algorithm, one.signature) for one in ordered)
        return SubmissionLeaf(
            agency, len(leaves), merkle_root(leaf_hashes(leaves)), self.claimed_ms, signatures
        )

    def to_json(self) -> Json:
        return {
            "claimed": u64_text(self.claimed_ms),
            "records": base64_text(self.records),
            "signatures": [one.to_json() for one in self.signatures],
        }

    @classmethod
    def from_json(cls, reader: Reader) -> Unsent:
        one = cls(
            reader.u64("claimed"),
            reader.data("records", limit=1 << 20),
            tuple(Signed.from_json(each) for each in reader.members("signatures", limit=MAX_SIGNATURES)),
        )
        reader.done()
        return one


@dataclass(frozen=True, slots=True)
class Opening:
    """What opens an ISSUE's commitment."""

    seed: bytes
    fields: tuple[Field, ...]

    def to_json(self) -> Json:
        return {"seed": base64_text(self.seed), "fields": [_field_json(one) for one in self.fields]}

    @classmethod
    def from_json(cls, reader: Reader) -> Opening:
        seed = reader.data("seed", size=SEED_SIZE)
        fields = tuple(_field(item, reader.at("fields")) for item in reader.items("fields", limit=MAX_FIELDS))
        reader.done()
        return cls(seed, fields)


@dataclass(frozen=True, slots=True)
class SubmissionFile:
    """A work on its way from officer to officer. ``work``: its number in the register that it is of."""

    genesis: bytes
    agency: int
    work: int
    kind: str
    submissions: tuple[Unsent, ...]
    openings: tuple[Opening, ...]
    said: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        body = {
            "format": _FORMAT,
            "genesis": base64_text(self.genesis),
            "agency": self.agency,
            "work": self.work,
            "kind": self.kind,
            "submissions": [one.to_json() for one in self.submissions],
            "openings": [one.to_json() for one in self.openings],
            "said": [base64_text(one) for one in self.said],
        }
        return encode(body) + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> SubmissionFile:
        """Read and check everything that needs no key: shapes, counts, and each commitment.

        Raises FormatError, SubmissionFileProblem.
        """
        value = parse(data.removesuffix(b"\n"), limit=MAX_FILE, where="submission file")
        reader = Reader(value, "submission file")
        if reader.text("format") != _FORMAT:
            raise FormatError(f"is not {_FORMAT}", where=reader.at("format"))
        file = cls(
            reader.data("genesis", size=32),
            reader.number("agency", 1, MAX_AGENCY),
            reader.number("work", 1, 2**53 - 1),
            reader.text("kind", limit=64),
            tuple(Unsent.from_json(one) for one in reader.members("submissions", limit=MAX_SUBMISSIONS)),
            tuple(
                Opening.from_json(one)
                for one in reader.members("openings", limit=MAX_SUBMISSIONS * MAX_RECORDS)
            ),
            tuple(
                parse_base64(one, reader.at("said"), limit=MAX_PLAINTEXT) if isinstance(one, str) else b""
                for one in reader.items("said", limit=MAX_SUBMISSIONS * MAX_RECORDS)
            ),
        )
        reader.done()
        file._check_contents()
        return file

    def records(self) -> Iterator[Record]:
        """All records, in order. Raises LeafFormatError."""
        for one in self.submissions:
            yield from map(parse_record, one.leaves())

    def contents(self) -> Iterator[Letter | Reply]:
        """What the SENDs and ANSWERs say. Raises FormatError, CommitmentMismatch."""
        for plaintext in self.said:
            route, body = read_plaintext(plaintext)
            is_letter = Letter.FORMAT.encode() in body[:4096]
            yield Letter.decode(body, route.sender) if is_letter else Reply.decode(body)

    def counts(self) -> dict[RecordKind, int]:
        """How many records of each kind that a policy counts."""
        counts: dict[RecordKind, int] = {}
        for one in self.submissions:
            for leaf in one.leaves():
                kind = record_kind(leaf)
                counts[kind] = counts.get(kind, 0) + 1
        return counts

    def signers(self) -> list[int]:
        """The numbers of the keys that have signed all of it."""
        numbers = [{key.number for key in one.signatures} for one in self.submissions]
        return sorted(set.intersection(*numbers)) if numbers else []

    def _check_contents(self) -> None:
        openings = iter(self.openings)
        said: set[bytes] = set()
        used: set[bytes] = set()
        for one in self.contents():
            said.add(_committed(one, self.genesis, self.agency))
        commitments = Commitments(self.genesis, self.agency)
        if not self.submissions:
            raise SubmissionFileProblem("holds nothing to sign", where="submission file")
        for position, record in enumerate(self.records()):
            if record.agency != self.agency:
                raise SubmissionFileProblem(
                    f"is of agency {record.agency}, the file of agency {self.agency}",
                    where=f"record {position}",
                )
            if isinstance(record, Send | Answer) and record.commitment != NO_HASH:
                used.add(record.commitment)
                if record.commitment not in said:
                    raise SubmissionFileProblem(
                        "what the file says is not what it commits to: one of them was altered",
                        where=f"record {position}",
                        fix="sign nothing of this file; have it prepared again, and ask who changed it",
                    )
            if not isinstance(record, Issue):
                continue
            opening = next(openings, None)
            if opening is None:
                raise SubmissionFileProblem("is not opened by the file", where=f"record {position}")
            Document(self.agency, record.document_type, opening.fields).check()
            slots = [field.slot() for field in opening.fields]
            if commitments.of(opening.seed, slots) != record.commitment:
                raise SubmissionFileProblem(
                    "its contents are not those that the record commits to: one of them was altered",
                    where=f"record {position}",
                    fix="sign nothing of this file; have it prepared again, and ask who changed it",
                )
        if next(openings, None) is not None or said != used:
            raise SubmissionFileProblem("holds contents that no record commits to", where="submission file")


def _committed(said: Letter | Reply, genesis: bytes, agency: int) -> bytes:
    return said.commitment(genesis) if isinstance(said, Letter) else said.commitment(genesis, agency)


def load(path: Path) -> SubmissionFile:
    """Read a submission file. Raises FileProblem, SubmissionFileProblem."""
    try:
        return SubmissionFile.decode(read_file(path, MAX_FILE))
    except (FormatError, CommitmentMismatch) as error:
        raise SubmissionFileProblem(f"is no sound submission file: {error}", where=str(path)) from error
    except SubmissionFileProblem as error:
        raise SubmissionFileProblem(error.what, where=f"{path}, {error.where}", fix=error.fix) from None


def save(path: Path, file: SubmissionFile) -> None:
    """Put a file in place of what it was, for its owner alone. Raises FileProblem."""
    write_file(path, file.encode())


def check_place(file: SubmissionFile, path: Path, genesis: bytes, membership: Membership) -> None:
    """Whether a file is of this ledger and agency, and every signature in it that of one of its keys.

    Raises SubmissionFileProblem.
    """
    if file.genesis != genesis:
        raise SubmissionFileProblem(
            f"is of another ledger, {file.genesis.hex()[:16]}", where=str(path), fix="sign nothing of it"
        )
    if file.agency != membership.agency:
        raise SubmissionFileProblem(
            f"is of agency {file.agency}, this directory is agency {membership.agency}'s", where=str(path)
        )
    for position, one in enumerate(file.submissions):
        leaf = one.leaf(file.agency)
        if len({key.number for key in one.signatures}) != len(one.signatures):
            raise SubmissionFileProblem("one key signed twice", where=f"{path}, submission {position}")
        for key in one.signatures:
            fingerprint = key_fingerprint(key.algorithm, key.public_key)
            if membership.keys.get(fingerprint.hex()) != key.number:
                raise SubmissionFileProblem(
                    f"key {key.number} is not known to be this agency's",
                    where=f"{path}, submission {position}",
                    fix="give --node, so that the agency's keys are looked up again",
                )
            try:
                verify(key.algorithm, key.public_key, leaf.message(genesis, fingerprint), key.signature)
            except SignatureInvalid:
                raise SubmissionFileProblem(
                    f"the signature of key {key.number} is not over these records",
                    where=f"{path}, submission {position}",
                    fix="have it prepared again, and ask who changed it",
                ) from None


def add_signatures(file: SubmissionFile, keys: Sequence[NumberedSigner], now_ms: int) -> SubmissionFile:
    """With these keys' signatures as well; a key that has signed is left as it is.

    Raises SubmissionFileProblem for what is too old to be logged any more.
    """
    signed = []
    for position, one in enumerate(file.submissions):
        if one.claimed_ms < now_ms - _TOO_OLD_MS:
            raise SubmissionFileProblem(
                "was prepared more than 7 days ago, and would be refused",
                where=f"submission {position}",
                fix="have it prepared again",
            )
        leaf = one.leaf(file.agency)
        there = {key.number for key in one.signatures}
        added = [_sign(leaf, file.genesis, key) for key in keys if key.number not in there]
        ordered = sorted((*one.signatures, *added), key=lambda key: key.number)
        signed.append(replace(one, signatures=tuple(ordered)))
    return replace(file, submissions=tuple(signed))


def export(outbox: Outbox, work: Work, path: Path) -> None:
    """Write what waits of a work as a new submission file. Raises NameTaken, FileProblem."""
    signers = {key.number: key.signer for key in outbox.signers}
    submissions, openings = [], []
    said: dict[bytes, None] = {}
    for one in outbox.submissions(work):
        if one.state is not State.WAITING:
            continue
        leaf = SubmissionLeaf.decode(one.leaf)
        signatures = tuple(
            Signed(key.number, key.algorithm, signers[key.number].public_key, key.signature)
            for key in leaf.signatures
        )
        submissions.append(Unsent(leaf.claimed_ms, one.records, signatures))
        if one.document is not None:
            documents = outbox.register.documents.run(one.document, one.count)
            openings += [Opening(document.seed, document.fields) for document in documents]
        said |= dict.fromkeys(outbox.register.letters.said_by(one.number))
    file = SubmissionFile(
        outbox.ledger.genesis,
        outbox.agency,
        work.number,
        work.kind,
        tuple(submissions),
        tuple(openings),
        tuple(said),
    )
    data = file.encode()
    if len(data) > MAX_FILE:
        raise FileProblem(f"would be larger than {MAX_FILE} bytes", where=str(path), fix="split the work")
    write_new_file(path, data)
    outbox.register.journal.write(outbox.officer, "prepare", {"work": work.number, "file": path.name})


def take_back(outbox: Outbox, file: SubmissionFile, path: Path) -> Work:
    """Put the signatures of a file into the register that the work is of; then it may be sent.

    Raises SubmissionFileProblem for a work or a submission that this register does not have so.
    """
    work = outbox.work(file.work)
    there = {one.leaf[:50]: one for one in outbox.submissions(work)}
    with outbox.register.transaction():
        for position, unsent in enumerate(file.submissions):
            leaf = unsent.leaf(file.agency)
            one = there.get(leaf.body())
            if one is None or one.records != unsent.records:
                raise SubmissionFileProblem(
                    "is not what waits in this register",
                    where=f"{path}, submission {position}",
                    fix="send it where it was prepared, and the newest file of it",
                )
            if one.error == DROPPED:
                raise SubmissionFileProblem("was given up", where=f"{path}, work {work.number}")
            if one.state is not State.PLACED:
                outbox.set_leaf(one, leaf.encode(), State.PREPARED)
        outbox.register.journal.write(
            outbox.officer, "send", {"work": work.number, "keys": [str(one) for one in file.signers()]}
        )
    return work


def _sign(leaf: SubmissionLeaf, genesis: bytes, key: NumberedSigner) -> Signed:
    public = key.signer.public_key
    message = leaf.message(genesis, key_fingerprint(key.signer.algorithm, public))
    return Signed(key.number, int(key.signer.algorithm), public, key.signer.sign(message))


def _field_json(field: Field) -> Json:
    value = field.value.decode() if field.kind is FieldKind.TEXT else base64_text(field.value)
    return [int(field.kind), field.name, value]


def _field(item: Json, where: str) -> Field:
    if not (isinstance(item, list) and len(item) == 3 and all(isinstance(one, str) for one in item[1:])):
        raise FormatError("a field is [kind, name, value]", where=where)
    kind, name, value = item
    if kind == FieldKind.TEXT and type(kind) is int:
        return Field.text(name, value)
    if kind == FieldKind.FILE and type(kind) is int:
        return Field.file(name, parse_base64(value, where, limit=32))
    raise FormatError("a field's kind is 0 or 1", where=where)
