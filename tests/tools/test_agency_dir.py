"""An agency's directory: keys and membership, and receipts that are never overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.canonical_json import encode
from ledger.documents import Document, Field
from ledger.errors import FormatError, SudurError
from ledger.receipts import (
    ProvenChunk,
    ProvenLeaf,
    ProvenRecord,
    ProvenSubmission,
    Receipt,
    RegistryProof,
)
from ledger.records import Basis
from ledger.status import CHUNK_SIZE
from ledger.verdicts import VerdictCode
from tests.tools.helpers import CHEAP
from tools import files
from tools.agency.directory import AgencyDirectory, Membership, receipt_paths, write_receipt
from tools.agency.issuing import Issued, Outcome, Stuck, not_issued
from tools.errors import FileProblem, Usage
from tools.keyfile import make_key, save_key

GENESIS = bytes(range(32))


def document(text: str) -> Document:
    return Document.build(1, 0, [Field.text("name", text), Field.file("a.pdf", bytes(32))])


def test_receipts_never_share_a_path(tmp_path: Path) -> None:
    (tmp_path / "a.receipt.json").touch()
    names = [path.name for path in receipt_paths(tmp_path, ["a", "a", "b"])]
    assert names == ["a.2.receipt.json", "a.3.receipt.json", "b.receipt.json"]


@pytest.mark.parametrize("name", ["ش" * 118, "ش" * 127 + "a", "a" * 250, "a" * 255, "a" + "𐎀" * 63])
def test_the_longest_names_have_receipts(tmp_path: Path, name: str) -> None:
    paths = receipt_paths(tmp_path, [name, name])
    assert len(set(paths)) == 2
    for path in paths:
        assert len(path.name.encode()) <= 255
        assert path.name.endswith(".receipt.json")
        assert name.startswith(path.name.split(".")[0])
        files.write_new_file(path, b"one")
        files.write_file(path, b"two")
    assert receipt_paths(tmp_path, ["ش" * 118])[0] not in paths


def receipt_of(text: str, chunk: int = 0) -> Receipt:
    """A receipt that proves nothing, of a document with this text."""
    record, leaf = ProvenRecord(b"{}", ()), ProvenLeaf(7, b"leaf", ())
    return Receipt(
        GENESIS,
        document(text).disclose(bytes(16)),
        b"note",
        leaf,
        leaf,
        ProvenChunk(bytes([chunk]) * CHUNK_SIZE, ()),
        ProvenSubmission(leaf, ()),
        RegistryProof(record, record, (), None),
    )


def test_a_receipt_is_never_written_over_anothers(tmp_path: Path) -> None:
    path = tmp_path / "out" / "a.receipt.json"
    assert write_receipt(path, receipt_of("one")) == path
    assert write_receipt(path, receipt_of("one", 1)) == path
    assert path.read_bytes() == receipt_of("one", 1).encode()
    second = write_receipt(path, receipt_of("two"))
    assert second.name == "a.2.receipt.json"
    assert write_receipt(path, receipt_of("two", 1)) == second
    assert path.read_bytes() == receipt_of("one", 1).encode()
    assert second.read_bytes() == receipt_of("two", 1).encode()
    (tmp_path / "out" / "a.3.receipt.json").write_text("a note of somebody's")
    assert write_receipt(path, receipt_of("three")).name == "a.4.receipt.json"


def test_what_was_finished_just_now_is_not_issued_again() -> None:
    def finished(text: str, basis: Basis = Basis.ORIGINAL) -> Issued:
        fields = document(text).fields
        return Issued(fields, basis, Path("r"), None, 7, bytes(32), VerdictCode.GENUINE, "")

    def stuck(*texts: str) -> Stuck:
        documents = tuple((Basis.ORIGINAL, document(text).fields) for text in texts)
        return Stuck(3, documents, FileProblem("x"))

    wanted = [document(text) for text in ("a", "b", "a", "a")]
    assert not_issued(wanted, Basis.ORIGINAL, Outcome()) == [0, 1, 2, 3]
    there = Outcome((finished("a"), finished("a"), finished("z")))
    assert not_issued(wanted, Basis.ORIGINAL, there) == [1, 3]
    assert not_issued(wanted, Basis.ARCHIVE, Outcome((finished("a"),))) == [0, 1, 2, 3]
    assert not_issued(wanted, Basis.ORIGINAL, Outcome((finished("a"),), stuck=(stuck("a", "b"),))) == [3]


def test_keys_are_found_by_label_or_path(tmp_path: Path) -> None:
    here = AgencyDirectory.create(tmp_path / "a")
    save_key(tmp_path / "a" / "desk.key.json", make_key("submit", "desk"), None, CHEAP)
    assert here.find_key("desk").public == here.find_key(str(tmp_path / "a" / "desk.key.json")).public
    assert [one.public.label for one in here.key_files("submit")] == ["desk"]
    assert here.key_files("registry") == []
    with pytest.raises(Usage):
        here.find_key("nobody")


@given(
    data=st.binary(max_size=300)
    | st.dictionaries(
        st.sampled_from(["format", "genesis", "agency", "keys", "leaf"]),
        st.sampled_from(["sudur-agency/v1", "sudur-register/v1", "AA==", "A" * 43 + "="])
        | st.none()
        | st.integers(-5, 5)
        | st.lists(st.dictionaries(st.text(), st.text()))
        | st.text(),
    ).map(encode)
)
def test_any_bytes_give_only_our_errors(data: bytes) -> None:
    for decode in (Membership.decode,):
        with pytest.raises(SudurError):
            decode(data)


def test_what_is_written_is_read() -> None:
    membership = Membership(3, {"ab": 1, "cd": 2})
    assert Membership.decode(membership.encode()) == membership
    with pytest.raises(FormatError):
        Membership.decode(membership.encode() + b" ")
