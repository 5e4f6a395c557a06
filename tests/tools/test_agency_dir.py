"""An agency's directory: batches that are there whole or not at all, receipts never overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.canonical_json import encode
from ledger.documents import Document, Field
from ledger.errors import FormatError, SudurError
from ledger.records import Basis, Issue
from ledger.signatures import Ed25519Signer
from ledger.verdicts import VerdictCode
from tests.tools.helpers import CHEAP
from tools import files
from tools.agency_dir import AgencyDirectory, Job, Membership, PendingDocument, receipt_paths
from tools.authority_dir import Enrolment
from tools.errors import FileProblem, Usage
from tools.issuing import Issued, not_issued
from tools.keyfile import make_key, save_key
from tools.signing import NumberedSigner, signed_submission

GENESIS = bytes(range(32))


def document(text: str) -> Document:
    return Document.build(1, 0, [Field.text("name", text), Field.file("a.pdf", bytes(32))])


def job(*texts: str) -> Job:
    pending = tuple(
        PendingDocument(document(text).disclose(bytes(16)), Path(f"/r/{text}.receipt.json")) for text in texts
    )
    records = [Issue(1, 0, Basis.ORIGINAL, one.disclosure.commitment(GENESIS)).encode() for one in pending]
    signer = NumberedSigner(1, Ed25519Signer(bytes(32)))
    return Job(GENESIS, 1, Basis.ORIGINAL, pending, (signed_submission(1, records, 5, GENESIS, [signer]),))


def test_a_batch_comes_back_in_order(tmp_path: Path) -> None:
    here = AgencyDirectory.create(tmp_path / "a")
    first, second = here.save([job("a", "b"), job("c")]), here.save([job("نور")])
    assert here.pending() == [first, second]
    assert [here.load(path) for path in here.jobs(first)] == [job("a", "b"), job("c")]
    here.finish(first)
    assert here.pending() == [second]
    assert here.save([job("d")]) > second
    assert sorted(path.name for path in (tmp_path / "a" / "pending").iterdir()) == ["00000002", "00000003"]


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_batch_that_was_not_saved_whole_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    here = AgencyDirectory.create(tmp_path / "a")
    steps = iter(range(1, 100))

    def write(path: Path, data: bytes) -> None:
        if next(steps) == step:
            raise FileProblem("cannot be written: No space left on device")
        files.write_new_file(path, data)

    def rename(old: Path, new: Path) -> None:
        raise FileProblem("cannot be renamed")

    monkeypatch.setattr("tools.agency_dir.write_new_file", write)
    if step == 3:
        monkeypatch.setattr("tools.agency_dir.rename", rename)
    with pytest.raises(FileProblem):
        here.save([job("a"), job("b")])
    assert here.pending() == []
    assert list((tmp_path / "a" / "pending").iterdir()) == []


def test_a_damaged_job_is_not_skipped(tmp_path: Path) -> None:
    here = AgencyDirectory.create(tmp_path / "a")
    (path,) = here.jobs(here.save([job("a")]))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FileProblem, match="is damaged"):
        here.load(path)


def test_receipts_never_share_a_path(tmp_path: Path) -> None:
    (tmp_path / "a.receipt.json").touch()
    names = [path.name for path in receipt_paths(tmp_path, ["a", "a", "b"])]
    assert names == ["a.2.receipt.json", "a.3.receipt.json", "b.receipt.json"]


def test_what_was_finished_just_now_is_not_issued_again() -> None:
    def finished(text: str, basis: Basis = Basis.ORIGINAL) -> Issued:
        return Issued(document(text).fields, basis, Path("r"), 7, bytes(32), VerdictCode.GENUINE, "")

    wanted = [document(text) for text in ("a", "b", "a", "a")]
    assert not_issued(wanted, Basis.ORIGINAL, []) == [0, 1, 2, 3]
    assert not_issued(wanted, Basis.ORIGINAL, [finished("a"), finished("a"), finished("z")]) == [1, 3]
    assert not_issued(wanted, Basis.ARCHIVE, [finished("a")]) == [0, 1, 2, 3]


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
        st.sampled_from(["format", "genesis", "agency", "basis", "documents", "submissions", "keys", "leaf"]),
        st.sampled_from(["sudur-pending/v1", "sudur-agency/v1", "sudur-enrolment/v1", "AA==", "A" * 43 + "="])
        | st.none()
        | st.integers(-5, 5)
        | st.lists(st.dictionaries(st.text(), st.text()))
        | st.text(),
    ).map(encode)
)
def test_any_bytes_give_only_our_errors(data: bytes) -> None:
    for decode in (Job.decode, Membership.decode, Enrolment.decode):
        with pytest.raises(SudurError):
            decode(data)


def test_what_is_written_is_read() -> None:
    membership = Membership(3, {"ab": 1, "cd": 2})
    assert Membership.decode(membership.encode()) == membership
    with pytest.raises(FormatError):
        Membership.decode(membership.encode() + b" ")
