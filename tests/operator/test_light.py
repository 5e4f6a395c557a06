"""What a light client sees of each attack: caught at once, or accepted until somebody replays the log.

Where it accepts, the same test shows the evidence that an auditor makes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from ledger import changes
from ledger.changes import Subject
from ledger.checkpoints import Checkpoint, sign_checkpoint
from ledger.documents import Document
from ledger.errors import CheckpointUntrusted
from ledger.evidence import Evidence, Fork
from ledger.evidence_making import prove_fork, prove_leaf
from ledger.evidence_verdict import verify_evidence
from ledger.hashing import leaf_hash
from ledger.notes import parse_note
from ledger.records import Status
from ledger.resources import (
    CHECKPOINT,
    registry_record_path,
    status_chunk_path,
    status_events_path,
)
from ledger.signing_policy import KindPolicy, SigningPolicy
from ledger.status import EMPTY_CHUNK, compress_chunk
from ledger.submissions import Submission, SubmissionLeaf
from ledger.tiles import encode_bundle, parse_bundle
from ledger.trust import Trust
from tests.ledger.world import entitlement, signer, status
from tests.operator.cheating import Books, accusation
from tests.operator.scene import Scene
from tests.witnesses import policy

HOUR_MS = 3_600_000


@pytest.fixture
def scene() -> Scene:
    return Scene()


def proven(books: Books, words: str) -> None:
    """That an auditor makes evidence of it, which a third person believes."""
    evidence = accusation(books.blocks, books)
    assert evidence is not None
    assert words in verify_evidence(evidence, books.trust()).what


# --- two histories -----------------------------------------------------------------------------


def test_each_face_of_a_split_looks_genuine(scene: Scene) -> None:
    """Revoked to some, valid to others: neither client can know. Their two heads are the evidence."""
    other = Scene()
    scene.revoke()
    other.books.idle()
    assert scene.ask() == "REVOKED"
    assert other.ask() == "GENUINE"
    one, two = scene.books, other.books
    small, large = sorted((one, two), key=lambda books: books.size)
    genesis = prove_leaf(small.opened(), small.nodes(), 0, small.static.leaves[0])
    evidence = prove_fork(small.opened(), large.opened(), large.nodes(), genesis)
    assert evidence is not None
    assert verify_evidence(evidence, None).kind == "fork"


def test_a_client_that_was_shown_one_face_refuses_the_other(scene: Scene) -> None:
    other = Scene()
    scene.revoke()
    other.books.idle()
    other.books.idle()
    known = scene.receipt_at(scene.issued.document, scene.index)
    assert other.ask(receipt=known) == "CANNOT_TELL PROOF_INVALID"


def test_a_dropped_leaf(scene: Scene) -> None:
    """The operator rebuilds its tree without the document: the holder's receipt and the new head fork."""
    rebuilt = Books()
    rebuilt.define_type()
    rebuilt.enrol(types=(0, 1), submit=2, registry=1)
    for _ in range(20):
        rebuilt.idle()
    assert scene.verdict() == "GENUINE"
    assert scene.ask(rebuilt.static.files.get) == "CANNOT_TELL PROOF_INVALID"
    old = scene.books.opened(scene.receipt.checkpoint)
    fork = prove_fork(old, rebuilt.opened(), rebuilt.nodes(), None)
    assert fork is not None
    assert verify_evidence(fork, rebuilt.trust()).kind == "fork"


def test_a_leaf_left_out_of_what_is_served(scene: Scene) -> None:
    """The tree has it, the entries do not: nothing leads to the root."""
    files = dict(scene.books.static.files)
    for path, body in files.items():
        if path.startswith("tile/entries/"):
            leaves = parse_bundle(body)
            if len(leaves) > scene.index:
                del leaves[scene.index]
                files[path] = encode_bundle(leaves)
    assert scene.ask(files.get).startswith("CANNOT_TELL")


def test_reordered_leaves(scene: Scene) -> None:
    files = dict(scene.books.static.files)
    for path, body in files.items():
        if path.startswith("tile/entries/"):
            leaves = parse_bundle(body)
            if len(leaves) > scene.index:
                leaves[scene.index], leaves[scene.index - 1] = leaves[scene.index - 1], leaves[scene.index]
                files[path] = encode_bundle(leaves)
    assert scene.ask(files.get).startswith("CANNOT_TELL")


# --- issuances ---------------------------------------------------------------------------------


def test_a_forged_issuance_by_no_key_of_the_agency(scene: Scene) -> None:
    """The light client checks the signature itself; offline codes skip that, and accept it until an audit."""
    document, submission = scene.forged({1: signer("the operator")})
    draft = scene.books.lawless()
    at = draft.force_submission(submission)
    scene.books.seal_lawless(draft)
    assert scene.verdict(scene.receipt_at(document, at + 1)) == "NOT_IN_LEDGER"
    proven(scene.books, "SIGNATURE_INVALID")


def test_a_forged_issuance_by_a_key_that_the_operator_registered(scene: Scene) -> None:
    """Its own key stands in the registry root that it signs: the light client accepts, until an audit."""
    document, index = scene.forge_with_own_key()
    assert scene.verdict(scene.receipt_at(document, index)) == "GENUINE"
    proven(scene.books, "registry_root")


def test_a_document_issued_again_by_a_replayed_submission(scene: Scene) -> None:
    """The old signature is good, so both places look genuine; nothing is said that was not said before."""
    books = scene.books
    at = next(i for i, leaf in enumerate(books.static.leaves) if leaf[1] == 0x20)
    count = SubmissionLeaf.decode(books.static.leaves[at]).count
    draft = books.lawless()
    again = draft.force(books.static.leaves[at : at + 1 + count])
    books.seal_lawless(draft)
    moved = scene.receipt_at(scene.issued.document, again + scene.index - at)
    assert scene.verdict(moved) == "GENUINE"
    proven(books, "SUBMISSION_REPEATED")


def test_an_issuance_by_a_stolen_key(scene: Scene) -> None:
    """The operator lets a thief in after the theft was declared. The light client says: doubtful."""
    books = scene.books
    books.change(Subject("agency", 1), changes.KeyStolen(1, books.size))
    document, submission = scene.forged({1: books.keys[1][1]})
    draft = books.lawless()
    at = draft.force_submission(submission)
    books.seal_lawless(draft)
    assert scene.verdict(scene.receipt_at(document, at + 1)) == "DOUBTFUL"
    proven(books, "KEY_STOLEN")


def unregistered_key(scene: Scene) -> tuple[Document, Submission]:
    return scene.forged({9: signer("the operator")})


def kept_back(scene: Scene) -> tuple[Document, Submission]:
    keys = {1: scene.books.keys[1][1]}
    return scene.forged(keys, claimed_ms=scene.books.state.time_ms - 8 * 24 * HOUR_MS)


def suspended(scene: Scene) -> tuple[Document, Submission]:
    scene.books.change(Subject("agency", 1), changes.AgencySuspended())
    return scene.forged({1: scene.books.keys[1][1]})


def foreign_type(scene: Scene) -> tuple[Document, Submission]:
    entitled = changes.AgencyEntitled(entitlement(types=(0,)))
    scene.books.change(Subject("agency", 1), entitled)
    return scene.forged({1: scene.books.keys[1][1]})


def beyond_the_cap(scene: Scene) -> tuple[Document, Submission]:
    capped = SigningPolicy({"issue.original": KindPolicy(cap=1)})
    scene.books.change(
        Subject("agency", 1), changes.AgencyEntitled(entitlement(types=(0, scene.issued.type), policy=capped))
    )
    return scene.forged({1: scene.books.keys[1][1]})


@pytest.mark.parametrize(
    ("attack", "verdict", "words"),
    [
        (unregistered_key, "CANNOT_TELL KEY_UNKNOWN", "KEY_UNKNOWN"),
        (kept_back, "GENUINE", "CLAIMED_TIME_OUTSIDE_WINDOW"),
        (suspended, "NOT_ENTITLED", "AGENCY_SUSPENDED"),
        (foreign_type, "NOT_ENTITLED", "TYPE_NOT_PERMITTED"),
        (beyond_the_cap, "GENUINE", "DAILY_CAP"),
    ],
)
def test_an_issuance_that_the_rules_refuse(
    scene: Scene, attack: Callable[[Scene], tuple[Document, Submission]], verdict: str, words: str
) -> None:
    """Signed by the agency or not: what a light client checks by itself, and what it leaves to auditors."""
    document, submission = attack(scene)
    draft = scene.books.lawless()
    at = draft.force_submission(submission)
    scene.books.seal_lawless(draft)
    assert scene.look(document, at + 1) == verdict
    if attack is not beyond_the_cap:  # counting takes a replay
        proven(scene.books, words)


def test_a_record_that_no_submission_covers(scene: Scene) -> None:
    document, submission = scene.forged({1: signer("the operator")})
    draft = scene.books.lawless()
    at = draft.force(submission.records)
    scene.books.seal_lawless(draft)
    assert scene.look(document, at) == "CANNOT_TELL PROOF_INVALID"
    proven(scene.books, "cannot stand here")


def test_a_document_issued_twice(scene: Scene) -> None:
    """The agency's officer signs it again, and the operator lets it pass."""
    document, keys = scene.issued.document, {1: scene.books.keys[1][1]}
    draft = scene.books.lawless()
    again = scene.books.submission(1, [scene.receipt.issue.leaf], keys=keys)
    at = draft.force_submission(again)
    scene.books.seal_lawless(draft)
    assert scene.look(document, at + 1) == "GENUINE"
    assert scene.ask() == "GENUINE"
    proven(scene.books, "DUPLICATE_ISSUE")


def test_a_replayed_registry_change_lifts_a_suspension(scene: Scene) -> None:
    """The authority's old reinstatement is played again: light clients believe it, until an audit."""
    books, one = scene.books, Subject("agency", 1)
    books.change(one, changes.AgencySuspended())
    reinstated = books.change_leaf(one, changes.AgencyReinstated())
    draft = books.begin()
    draft.add_change(reinstated)
    books.seal(draft)
    books.change(one, changes.AgencySuspended())
    document, submission = scene.forged({1: books.keys[1][1]})
    draft = books.lawless()
    record = draft.registry.agency(1).record
    free = replace(record, suspended=record.suspended.then(draft.next_index, None))
    draft.force([reinstated])
    draft.registry = draft.registry.with_agency(replace(draft.registry.agency(1), record=free))
    at = draft.force_submission(submission)
    books.seal_lawless(draft)
    assert scene.verdict(scene.receipt_at(document, at + 1)) == "GENUINE"
    proven(books, "REGISTRY_CONFLICT")


# --- revocations -------------------------------------------------------------------------------


def test_a_revocation_hidden_by_an_old_chunk(scene: Scene) -> None:
    scene.revoke()
    files = dict(scene.books.static.files)
    new = scene.books.state.status.hashes[0]
    files[status_chunk_path(new)] = compress_chunk(EMPTY_CHUNK)
    assert scene.ask() == "REVOKED"
    assert scene.ask(files.get) == "CANNOT_TELL PROOF_INVALID"


def test_a_revocation_hidden_by_an_old_chunk_in_a_receipt(scene: Scene) -> None:
    """Whoever hands over a receipt swaps the status in it for that of an older one."""
    old = scene.receipt
    scene.revoke()
    new = scene.receipt_at(scene.issued.document, scene.index)
    assert scene.verdict(new) == "REVOKED"
    assert scene.verdict(replace(new, status=old.status)) == "NOT_IN_LEDGER"


def test_a_revocation_hidden_by_an_old_seal(scene: Scene) -> None:
    """The old seal and chunk fit together; the seal is not the last leaf under the new head."""
    old = scene.receipt
    scene.revoke()
    new = scene.receipt_at(scene.issued.document, scene.index)
    assert scene.verdict(replace(new, seal=old.seal, status=old.status)) == "NOT_IN_LEDGER"
    moved = replace(old.seal, index=new.seal.index, path=new.seal.path)
    assert scene.verdict(replace(new, seal=moved, status=old.status)) == "NOT_IN_LEDGER"


def test_a_revocation_hidden_by_a_head_amid_its_block(scene: Scene) -> None:
    """A head that ends right before the STATUS leaf ends in no seal: no client takes it."""
    books = scene.books
    scene.revoke()
    books.serve_size(books.size - 2)
    assert scene.ask().startswith("CANNOT_TELL")


def test_a_revocation_hidden_by_a_false_seal_amid_its_block(scene: Scene) -> None:
    """A seal put behind the STATUS that does not count it: light clients say genuine, until an audit."""
    books = scene.books
    before = books.state.status.root
    draft = books.begin()
    draft.add_submission(scene.revocation())
    said = draft.seal().state.status
    books.seal_lawless(draft, status_root=before)
    files = {**books.static.files, status_chunk_path(leaf_hash(EMPTY_CHUNK)): compress_chunk(EMPTY_CHUNK)}
    assert said.root != before
    assert scene.ask(files.get) == "GENUINE"
    proven(books, "status_root")


def test_a_revocation_hidden_by_an_idle_head(scene: Scene) -> None:
    """The operator serves the head from before. It is genuine as of then; who asks for freshness is told."""
    frozen = dict(scene.books.static.files)
    then = scene.books.state.time_ms
    scene.revoke()
    assert scene.ask(frozen.get, now_ms=then + HOUR_MS) == "GENUINE"
    assert scene.ask(frozen.get, now_ms=then + HOUR_MS, max_age_s=600) == "CANNOT_TELL"


def test_an_idle_head_with_a_witnesss_time(scene: Scene) -> None:
    """The operator cannot make an old head look new: the witness's time is the witness's."""
    books = scene.books
    books.policy = policy(1, "one")
    then = books.state.time_ms
    books.cosign("one", then // 1000)
    assert scene.ask(now_ms=then, max_age_s=600) == "GENUINE"
    assert scene.ask(now_ms=then + HOUR_MS, max_age_s=600) == "CANNOT_TELL"


def test_a_bit_of_the_status_list_that_no_leaf_set(scene: Scene) -> None:
    """The operator revokes what nobody revoked: light clients say revoked, until an audit."""
    draft = scene.books.lawless()
    draft.force_status(scene.index, Status.REVOKED)
    scene.books.seal_lawless(draft)
    assert scene.ask() == "REVOKED"
    proven(scene.books, "status_root")


def test_a_revocation_left_out_of_the_list_of_events(scene: Scene) -> None:
    """The list is a hint who revoked and when: without it the bits still say revoked."""
    scene.revoke()
    files = dict(scene.books.static.files)
    files[status_events_path(0)] = b""
    assert scene.ask(files.get) == "REVOKED"


def test_a_revocation_that_the_agency_never_made(scene: Scene) -> None:
    """The bits say revoked, and the STATUS is signed by no key of the agency: the client trusts neither."""
    draft = scene.books.lawless()
    forged = status(1, scene.index, scene.index, Status.REVOKED)
    draft.force_submission(scene.books.submission(1, [forged], keys={1: signer("the operator")}))
    scene.books.seal_lawless(draft)
    assert scene.ask() == "NOT_IN_LEDGER"
    proven(scene.books, "SIGNATURE_INVALID")


def test_a_revocation_taken_back(scene: Scene) -> None:
    """By the agency, against the rules, and with the operator's help."""
    scene.revoke()
    last = scene.books.size - 2
    draft = scene.books.lawless()
    draft.force_submission(scene.books.submission(1, [status(1, scene.index, last, Status.VALID)]))
    scene.books.seal_lawless(draft)
    assert scene.ask() == "GENUINE"
    proven(scene.books, "STATUS_FINAL")


# --- records, indexes, tiles -------------------------------------------------------------------


def test_a_wrong_registry_record(scene: Scene) -> None:
    """The record of another time in place of this one, and one with another name in it."""
    books = scene.books
    agency = books.state.registry.agency(1).record
    path = registry_record_path(leaf_hash(agency.encode()))
    renamed = replace(agency, names=agency.names.then(5, {"en": "Ministry of Something Else"}))
    files = {**books.static.files, path: renamed.encode()}
    assert scene.ask(files.get) == "CANNOT_TELL PROOF_INVALID"


def test_a_wrong_index(scene: Scene) -> None:
    """The path of the ISSUE under another index, as a receipt and as the operator serves it."""
    issue = scene.receipt.issue
    for index in (issue.index - 1, issue.index + 1, issue.index ^ 4):
        moved = replace(scene.receipt, issue=replace(issue, index=index))
        assert scene.verdict(moved) == "NOT_IN_LEDGER"
        assert scene.ask(receipt=moved).startswith("CANNOT_TELL")


def test_stale_tiles(scene: Scene) -> None:
    """The head is of now, the tiles of before: the width of the last ones tells, and so does the root."""
    old = scene.books.static.files.copy()
    scene.revoke()
    new = scene.books.static.files
    stale = {**new, **{path: body for path, body in old.items() if path.startswith("tile/")}}
    short = {path: body for path, body in stale.items() if path in old or not path.startswith("tile/0/")}
    short[CHECKPOINT] = new[CHECKPOINT]
    assert scene.ask(short.get).startswith("CANNOT_TELL")


# --- heads -------------------------------------------------------------------------------------


def test_a_head_by_an_unregistered_key(scene: Scene) -> None:
    books = scene.books
    head = books.opened().checkpoint
    files = {**books.static.files, CHECKPOINT: sign_checkpoint(head, [signer("another log key")])}
    assert scene.ask(files.get) == "CANNOT_TELL CHECKPOINT_UNTRUSTED"


def test_a_head_by_a_retired_key(scene: Scene) -> None:
    """The log's key ended, and who still has it signs on: whoever renewed the trust file knows, and an
    evidence file made of such a head accuses nobody.
    """
    books = scene.books
    old = books.opened()
    (key,) = books.trusted().log_keys
    ended = replace(books.trusted(), log_keys=(replace(key, last_size=books.size),))
    books.idle()
    with pytest.raises(CheckpointUntrusted, match="had ended"):
        ended.open(books.static.checkpoint)
    other = books.sign(Checkpoint(books.origin, books.size, bytes(32)))
    fork = Evidence(None, Fork(books.static.checkpoint, other, bytes(32), ()))
    assert verify_evidence(fork, books.trust()).kind == "fork"
    with pytest.raises(CheckpointUntrusted, match="had ended"):
        verify_evidence(fork, Trust((ended,)))
    assert old.checkpoint.size == ended.log_keys[0].last_size


def test_a_head_of_another_ledger_under_the_same_key(scene: Scene) -> None:
    books = scene.books
    foreign = books.sign(Checkpoint("other.example/log", books.size, books.opened().checkpoint.root))
    files = {**books.static.files, CHECKPOINT: foreign}
    assert scene.ask(files.get) == "CANNOT_TELL CHECKPOINT_UNTRUSTED"


def test_a_cosignature_replayed_on_another_head(scene: Scene) -> None:
    """The witness signed the head from before the revocation; its line is put below the new one."""
    books = scene.books
    books.policy = policy(1, "one")
    books.cosign("one", books.state.time_ms // 1000)
    old = parse_note(books.static.checkpoint)
    scene.receipt = scene.receipt_at(scene.issued.document, scene.index)
    assert scene.verdict() == "GENUINE"
    scene.revoke()
    assert scene.ask() == "CANNOT_TELL"  # not witnessed
    new = parse_note(books.static.checkpoint)
    books.static.files[CHECKPOINT] = new.with_signatures([old.signatures[-1]]).encode()
    assert scene.ask() == "CANNOT_TELL"


def test_a_seal_in_the_future(scene: Scene) -> None:
    """The time that is shown is ahead of the client's own clock by more than five minutes: it says so."""
    now = scene.books.state.time_ms
    scene.books.idle(later_ms=HOUR_MS)
    assert scene.ask(now_ms=now) == "CANNOT_TELL"


def test_a_block_dated_before_what_it_holds(scene: Scene) -> None:
    """Dated an hour back, the document was made after it was logged: the light client sees that."""
    scene.books.seal_lawless(scene.books.lawless(later_ms=-HOUR_MS))
    assert scene.ask() == "NOT_IN_LEDGER"
    proven(scene.books, "must be later")


def test_a_block_dated_back_by_a_little(scene: Scene) -> None:
    """Within the minutes that clocks may differ, the light client shows the false time, until an audit."""
    scene.books.seal_lawless(scene.books.lawless(later_ms=-1))
    assert scene.ask() == "GENUINE"
    proven(scene.books, "must be later")
