"""The rules: what a block may hold. Every refusal by name, and none leaves a trace in the draft."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from ledger import changes, rules, rules_v1
from ledger.changes import AUTHORITY, LEDGER, Subject
from ledger.errors import (
    AgencySuspended,
    BlockRefused,
    ClaimedTimeOutsideWindow,
    DailyCapExceeded,
    DuplicateIssue,
    KeyEnded,
    KeyStolen,
    KeyUnknown,
    KeyUse,
    NotEntitled,
    RulesVersionUnknown,
    SignatureInvalid,
    StatusFinal,
    StatusStale,
    SubjectInvalid,
    SubmissionRepeated,
    SudurError,
    TooFewSignatures,
    TypeNotPermitted,
    UnknownAgency,
)
from ledger.hashing import leaf_hash, merkle_root
from ledger.leaves import NONE
from ledger.records import Affirm, Attest, Basis, Status
from ledger.rules_v1 import CLAIMED_FUTURE_MS, CLAIMED_PAST_MS, MAX_BLOCK_BYTES, MAX_BLOCK_LEAVES
from ledger.seals import Seal
from ledger.signing_policy import DAY_MS, KindPolicy, SigningPolicy
from ledger.state import Transition
from ledger.status import EMPTY_CHUNK, EMPTY_CHUNK_HASH, read_status
from ledger.submissions import Submission, gather_submission, pack
from tests.ledger.book import agree, refuse, trace
from tests.ledger.world import MemoryReader, World, commitment, entitlement, issue, signer, status

HOUR = 3_600_000


@pytest.fixture
def world() -> World:
    """Agency 1 may issue types 0 and 1 with keys 1 to 3; type 2 is defined, too."""
    made = World()
    made.define_type()
    made.define_type()
    made.enrol(types=(0, 1), submit=3)
    return made


# --- signatures, keys, agencies ----------------------------------------------------------------


def test_a_submission_is_added_whole(world: World) -> None:
    records = [issue(1, i, i % 2, Basis(i % 4)) for i in range(9)]
    index = world.submit(1, records)
    assert world.reader.leaves[index + 1 : index + 10] == records
    assert world.reader.issues[commitment(4) + bytes(3) + b"\1"] == index + 5
    assert world.state.documents == 9
    day = world.state.time_ms // DAY_MS
    assert world.reader.daily[1, "issue.original", day] == 3
    assert world.reader.daily[1, "issue.migrated", day] == 2
    agree(world)


@pytest.mark.parametrize(
    ("keys", "error"),
    [
        ({4: signer("agency 1 key 1")}, KeyUnknown),
        ({0: signer("agency 1 key 1")}, KeyUnknown),
        ({65_535: signer("agency 1 key 1")}, KeyUnknown),
        ({1: signer("agency 1 key 2")}, SignatureInvalid),
        ({1: signer("agency 1 key 1"), 2: signer("agency 1 key 1")}, SignatureInvalid),
        ({1: signer("agency 1 key 1"), 4: signer("nobody")}, KeyUnknown),
    ],
)
def test_signatures_are_by_registered_keys(world: World, keys: Any, error: type[SudurError]) -> None:
    refuse(world.begin(), world.submission(1, [issue(1, "a")], keys=keys), error)


def forged(submission: Submission, **changed: Any) -> Submission:
    one = submission.head.signatures[0]
    head = replace(submission.head, signatures=(replace(one, **changed),))
    return gather_submission(head.encode(), submission.records)


def test_signatures_are_over_this_very_submission(world: World) -> None:
    good = world.submission(1, [issue(1, "a")])
    signature = good.head.signatures[0].signature
    draft = world.begin()
    refuse(draft, forged(good, signature=signature[:-1] + b"\0"), SignatureInvalid)
    refuse(draft, forged(good, signature=signature[:-1]), SignatureInvalid)
    refuse(draft, forged(good, signature=b""), SignatureInvalid)
    refuse(draft, forged(good, algorithm=2), KeyUse)
    refuse(draft, forged(good, algorithm=0), KeyUse)
    later = replace(good.head, claimed_ms=good.head.claimed_ms + 1)
    refuse(draft, gather_submission(later.encode(), good.records), SignatureInvalid)
    other = World(origin="ledger.example/other")
    other.define_type()
    other.enrol(types=(0, 1), submit=3)
    refuse(draft, other.submission(1, [issue(1, "a")]), SignatureInvalid)
    draft.add_submission(good)


def test_unknown_agencies(world: World) -> None:
    for number in (2, 2**32 - 1):
        keys = {1: signer("x")}
        refuse(world.begin(), world.submission(number, [issue(number, "a")], keys=keys), UnknownAgency)


def test_keys_for_another_use(world: World) -> None:
    world.add_keys(1, ["registry"])
    refuse(world.begin(), world.submission(1, [issue(1, "a")], keys=(4,)), KeyUse)


def test_keys_work_from_their_registration_to_their_end_within_one_block(world: World) -> None:
    agency = Subject("agency", 1)
    draft = world.begin()
    world.submit(1, [issue(1, "a")], keys=(2,), draft=draft)
    world.change(agency, changes.KeyEnded(2), draft=draft)
    refuse(draft, world.submission(1, [issue(1, "b")], keys=(2,)), KeyEnded)
    fresh = signer("fresh")
    by_fresh = world.submission(1, [issue(1, "b")], keys={4: fresh})
    refuse(draft, by_fresh, KeyUnknown)
    added = changes.KeysAdded((changes.NewKey(4, 1, fresh.public_key, "submit", ""),))
    world.change(agency, added, draft=draft)
    draft.add_submission(by_fresh)
    world.change(agency, changes.KeyStolen(4, draft.next_index), draft=draft)
    refuse(draft, world.submission(1, [issue(1, "c")], keys={4: fresh}), KeyStolen)
    refuse(draft, world.submission(1, [issue(1, "c")], keys={1: world.keys[1][1], 4: fresh}), KeyStolen)
    world.submit(1, [issue(1, "c")], draft=draft)
    world.seal(draft)
    agree(world)


def test_a_suspended_agency_submits_nothing(world: World) -> None:
    world.change(Subject("agency", 1), changes.AgencySuspended())
    refuse(world.begin(), world.submission(1, [issue(1, "a")]), AgencySuspended)
    world.change(Subject("agency", 1), changes.AgencyReinstated())
    world.submit(1, [issue(1, "a")])


# --- what an agency may issue ------------------------------------------------------------------


def test_types_and_roles_as_of_the_submission(world: World) -> None:
    draft = world.begin()
    refuse(draft, world.submission(1, [issue(1, "a", 2)]), TypeNotPermitted)
    refuse(draft, world.submission(1, [issue(1, "a", 9)]), TypeNotPermitted)
    refuse(draft, world.submission(1, [issue(1, "a", 1), issue(1, "b", 2)]), TypeNotPermitted)
    agency = Subject("agency", 1)
    world.change(agency, changes.AgencyEntitled(entitlement(("issue",), (2,))), draft=draft)
    world.submit(1, [issue(1, "a", 2)], draft=draft)
    refuse(draft, world.submission(1, [issue(1, "b", 0)]), TypeNotPermitted)
    world.change(agency, changes.AgencyEntitled(entitlement(("attest",), (2,))), draft=draft)
    refuse(draft, world.submission(1, [issue(1, "b", 2)]), NotEntitled)
    world.seal(draft)
    agree(world)


def test_one_refused_record_refuses_the_whole_submission(world: World) -> None:
    records = [issue(1, "a"), Attest(1, 2, 1, bytes(32)).encode()]
    refuse(world.begin(), world.submission(1, records), NotEntitled, "record 1")


# --- duplicates --------------------------------------------------------------------------------


def test_a_submission_enters_once(world: World) -> None:
    submission = world.submission(1, [issue(1, "a")])
    draft = world.begin()
    index = draft.add_submission(submission)
    error = refuse(draft, submission, SubmissionRepeated)
    assert error.details() == {"index": str(index)}
    world.seal(draft)
    draft = world.begin()
    assert refuse(draft, submission, SubmissionRepeated).details() == {"index": str(index)}
    # Another signature makes no other submission: the id is over what was signed.
    claimed = submission.head.claimed_ms
    refuse(draft, world.submission(1, [issue(1, "a")], keys=(2,), claimed_ms=claimed), SubmissionRepeated)
    refuse(draft, forged(submission, signature=bytes(64)), SubmissionRepeated)
    agree(world)


def test_a_document_is_issued_once_by_an_agency(world: World) -> None:
    world.enrol(types=(0, 1))
    index = world.submit(1, [issue(1, "a"), issue(1, "b")])
    draft = world.begin()
    repeated = world.submission(1, [issue(1, "x"), issue(1, "y"), issue(1, "b")])
    error = refuse(draft, repeated, DuplicateIssue, "record 2")
    assert error.details() == {"index": str(index + 2)}
    refuse(draft, world.submission(1, [issue(1, "a", 0, Basis.REPLACEMENT)]), DuplicateIssue)
    world.submit(2, [issue(2, "a")], draft=draft)
    inner = world.submit(1, [issue(1, "c")], draft=draft)
    error = refuse(draft, world.submission(1, [issue(1, "d"), issue(1, "c")]), DuplicateIssue, "record 1")
    assert error.details() == {"index": str(inner + 1)}
    world.seal(draft)
    agree(world)


def test_a_duplicate_within_a_submission_names_no_index(world: World) -> None:
    """Neither is in the ledger; a STATUS before them must not shift the position that is named."""
    subject = world.submit(1, [issue(1, "s")]) + 1
    records = [status(1, subject, subject, Status.SUSPENDED), issue(1, "a"), issue(1, "b"), issue(1, "a")]
    error = refuse(world.begin(), world.submission(1, records), DuplicateIssue, "record 3.*record 1")
    assert error.details() == {"index": str(NONE)}
    draft = world.begin()
    inner = world.submit(1, [issue(1, "b")], draft=draft)
    error = refuse(draft, world.submission(1, records), DuplicateIssue, "record 2")
    assert error.details() == {"index": str(inner + 1)}


# --- the claimed time --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "allowed"),
    [
        (-CLAIMED_PAST_MS - 1, False),
        (-CLAIMED_PAST_MS, True),
        (0, True),
        (CLAIMED_FUTURE_MS, True),
        (CLAIMED_FUTURE_MS + 1, False),
    ],
)
def test_the_window_of_claimed_times(world: World, offset: int, allowed: bool) -> None:
    draft = world.begin()
    submission = world.submission(1, [issue(1, "a")], claimed_ms=draft.time_ms + offset)
    if allowed:
        draft.add_submission(submission)
    else:
        refuse(draft, submission, ClaimedTimeOutsideWindow)


@pytest.mark.parametrize("claimed", [0, 2**64 - 1])
def test_claimed_times_far_away(world: World, claimed: int) -> None:
    submission = world.submission(1, [issue(1, "a")], claimed_ms=claimed)
    refuse(world.begin(), submission, ClaimedTimeOutsideWindow)


def test_a_repeat_outside_the_window_is_refused_as_such(world: World) -> None:
    submission = world.submission(1, [issue(1, "a")])
    draft = world.begin()
    draft.add_submission(submission)
    world.seal(draft)
    edge = submission.head.claimed_ms + CLAIMED_PAST_MS - world.state.time_ms
    refuse(world.begin(edge), submission, SubmissionRepeated)
    refuse(world.begin(edge + 1), submission, ClaimedTimeOutsideWindow)


# --- four eyes and caps ------------------------------------------------------------------------


def four_eyes(world: World) -> int:
    policy = SigningPolicy(
        {
            "issue.original": KindPolicy(((1, 1), (5, 2), (8, 3)), cap=10),
            "status": KindPolicy(((1, 2),)),
        }
    )
    return world.enrol(types=(0, 1), policy=policy, submit=3)


def originals(agency: int, first: int, count: int) -> list[bytes]:
    return [issue(agency, f"doc {first + i}") for i in range(count)]


def test_splitting_evades_nothing(world: World) -> None:
    agency = four_eyes(world)
    draft = world.begin()
    for i in range(4):
        world.submit(agency, originals(agency, i, 1), draft=draft)
    refuse(draft, world.submission(agency, originals(agency, 4, 1)), TooFewSignatures)
    world.seal(draft)
    refuse(world.begin(), world.submission(agency, originals(agency, 4, 1)), TooFewSignatures)
    world.submit(agency, originals(agency, 4, 3), keys=(1, 3))
    refuse(world.begin(), world.submission(agency, originals(agency, 7, 1), keys=(1, 2)), TooFewSignatures)
    world.submit(agency, originals(agency, 7, 3), keys=(1, 2, 3))
    over = world.submission(agency, originals(agency, 10, 1), keys=(1, 2, 3))
    refuse(world.begin(), over, DailyCapExceeded)
    # Another basis and another agency count apart.
    world.submit(agency, [issue(agency, "old", 1, Basis.ARCHIVE)])
    world.submit(1, originals(1, 0, 20))
    agree(world)


def test_the_step_counts_the_submission_itself(world: World) -> None:
    agency = four_eyes(world)
    refuse(world.begin(), world.submission(agency, originals(agency, 0, 5)), TooFewSignatures)
    refuse(world.begin(), world.submission(agency, originals(agency, 0, 8), keys=(1, 2)), TooFewSignatures)
    over = world.submission(agency, originals(agency, 0, 11), keys=(1, 2, 3))
    refuse(world.begin(), over, DailyCapExceeded)
    types = [issue(agency, i, i % 2) for i in range(5)]
    refuse(world.begin(), world.submission(agency, types), TooFewSignatures)
    world.submit(agency, originals(agency, 0, 10), keys=(1, 2, 3))


def test_counts_start_anew_each_utc_day_by_the_seals_time(world: World) -> None:
    agency = four_eyes(world)
    midnight = (world.state.time_ms // DAY_MS + 1) * DAY_MS
    draft = world.begin(midnight - 1 - world.state.time_ms)
    world.submit(agency, originals(agency, 0, 4), draft=draft)
    world.seal(draft)
    assert world.state.time_ms == midnight - 1
    draft = world.begin(1)
    # Claimed before midnight, sealed after it: it counts for the new day.
    world.submit(agency, originals(agency, 4, 4), claimed_ms=midnight - HOUR, draft=draft)
    world.seal(draft)
    refuse(world.begin(DAY_MS - 1), world.submission(agency, originals(agency, 8, 1)), TooFewSignatures)
    world.submit(agency, originals(agency, 8, 1), draft=world.begin(DAY_MS))
    days = {day: n for (who, _, day), n in world.reader.daily.items() if who == agency}
    assert days == {midnight // DAY_MS - 1: 4, midnight // DAY_MS: 4}
    agree(world)


def test_every_kind_in_a_submission_meets_its_own_policy(world: World) -> None:
    agency = four_eyes(world)
    subject = world.submit(agency, originals(agency, 0, 1)) + 1
    mixed = [issue(agency, "more"), status(agency, subject, subject, Status.REVOKED)]
    refuse(world.begin(), world.submission(agency, mixed), TooFewSignatures)
    world.submit(agency, mixed, keys=(1, 2))
    agree(world)


# --- STATUS ------------------------------------------------------------------------------------


def test_status_changes_follow_one_another(world: World) -> None:
    subject = world.submit(1, [issue(1, "a")]) + 1
    refuse(world.begin(), world.submission(1, [status(1, subject, 0, Status.REVOKED)]), StatusStale)
    suspend = world.submit(1, [status(1, subject, subject, Status.SUSPENDED)]) + 1
    assert read_status(world.reader.status_chunk(0), subject) is Status.SUSPENDED
    draft = world.begin()
    stale = world.submission(1, [status(1, subject, subject, Status.REVOKED)])
    assert refuse(draft, stale, StatusStale, "record 0").details() == {"index": str(suspend)}
    refuse(draft, world.submission(1, [status(1, subject, suspend, Status.SUSPENDED)]), StatusStale)
    back = world.submit(1, [status(1, subject, suspend, Status.VALID)], draft=draft) + 1
    revoked = world.submit(1, [status(1, subject, back, Status.REVOKED)], draft=draft) + 1
    refuse(draft, world.submission(1, [status(1, subject, revoked, Status.VALID)]), StatusFinal)
    world.seal(draft)
    assert read_status(world.reader.status_chunk(0), subject) is Status.REVOKED
    refuse(world.begin(), world.submission(1, [status(1, subject, revoked, Status.VALID)]), StatusFinal)
    assert world.reader.statuses == {subject: revoked}
    agree(world)


def test_two_changes_of_one_subject_in_one_submission(world: World) -> None:
    subject = world.submit(1, [issue(1, "a")]) + 1
    draft = world.begin()
    first = draft.next_index + 1
    records = [status(1, subject, subject, Status.SUSPENDED), status(1, subject, first, Status.REVOKED)]
    error = refuse(draft, world.submission(1, [records[0]] * 2), StatusStale, "record 1")
    assert error.details() == {"index": str(NONE)}, "the record in the way will not be in the ledger"
    world.submit(1, records, draft=draft)
    world.seal(draft)
    assert world.reader.statuses == {subject: first + 1}
    agree(world)


def test_subjects_are_documents_below(world: World) -> None:
    submission = world.submit(1, [issue(1, "a")])
    revoked = world.submit(1, [status(1, submission + 1, submission + 1, Status.REVOKED)]) + 1
    draft = world.begin()
    here = draft.next_index
    for subject in (0, 1, submission, revoked, here, here + 1, here + 2, 2**40, NONE):
        records = [status(1, subject, subject, Status.REVOKED), issue(1, "b")]
        refuse(draft, world.submission(1, records), SubjectInvalid, "record 0")
    records = [issue(1, "b"), status(1, here + 1, here + 1, Status.REVOKED)]
    refuse(draft, world.submission(1, records), SubjectInvalid, "record 1")
    subject = world.submit(1, [issue(1, "b")], draft=draft) + 1
    world.submit(1, [status(1, subject, subject, Status.REVOKED)], draft=draft)
    world.seal(draft)
    agree(world)


def test_replacements_are_other_documents_below(world: World) -> None:
    submission = world.submit(1, [issue(1, "a"), issue(1, "b")])
    subject = submission + 1
    draft = world.begin()
    for replacement in (subject, submission, 0, draft.next_index + 1, 2**40):
        records = [status(1, subject, subject, Status.SUPERSEDED, replacement)]
        refuse(draft, world.submission(1, records), SubjectInvalid)
    world.submit(1, [status(1, subject, subject, Status.SUPERSEDED, subject + 1)], draft=draft)
    world.submit(1, [status(1, subject + 1, subject + 1, Status.SUPERSEDED)], draft=draft)
    world.seal(draft)
    agree(world)


def test_who_may_change_a_status(world: World) -> None:
    """2 above 3, 3 the issuer; 4 a stranger, then the successor's successor."""
    world.enrol(types=(1,))
    world.enrol(parent=2, types=(1,))
    world.enrol(types=(1,))
    world.enrol(types=(1,))
    first = world.submit(3, [issue(3, i) for i in range(4)]) + 1
    for agency in (1, 4, 5):
        records = [status(agency, first, first, Status.REVOKED)]
        refuse(world.begin(), world.submission(agency, records), NotEntitled)
    world.submit(3, [status(3, first, first, Status.REVOKED)])
    world.submit(2, [status(2, first + 1, first + 1, Status.REVOKED)])
    world.submit(AUTHORITY, [status(0, first + 2, first + 2, Status.REVOKED)], keys=(1, 3))
    world.change(Subject("agency", 3), changes.SuccessorNamed(5))
    world.change(Subject("agency", 5), changes.SuccessorNamed(4))
    refuse(world.begin(), world.submission(1, [status(1, first + 3, first + 3, Status.REVOKED)]), NotEntitled)
    world.submit(4, [status(4, first + 3, first + 3, Status.REVOKED)])
    agree(world)


# --- the authority's own submissions -----------------------------------------------------------


def test_the_authority_changes_statuses_with_k_keys(world: World) -> None:
    subject = world.submit(1, [issue(1, "a")]) + 1
    records = [status(0, subject, subject, Status.REVOKED)]
    draft = world.begin()
    refuse(draft, world.submission(0, records, keys=(1,)), TooFewSignatures)
    authority = world.keys[AUTHORITY]
    refuse(draft, world.submission(0, records, keys={1: authority[1], 2: authority[1]}), SignatureInvalid)
    refuse(draft, world.submission(0, records, keys={1: authority[1], 9: authority[2]}), KeyUnknown)
    refuse(draft, world.submission(0, records, keys={1: authority[1], 2: world.keys[1][2]}), SignatureInvalid)
    refuse(draft, world.submission(0, [issue(0, "a")], keys=(1, 2)), NotEntitled)
    refuse(draft, world.submission(0, [*records, issue(0, "a")], keys=(1, 2)), NotEntitled)
    refuse(draft, world.submission(0, [Affirm(0, 1, 0, 1).encode()], keys=(1, 2)), NotEntitled)
    refuse(draft, forged(world.submission(0, records, keys=(1,)), number=2), TooFewSignatures)
    world.submit(0, records, keys=(2, 3), draft=draft)
    assert world.seal(draft).daily == {(0, "status", world.state.time_ms // DAY_MS): 1}
    agree(world)


def test_ended_keys_of_the_authority(world: World) -> None:
    subject = world.submit(1, [issue(1, "a")]) + 1
    old = dict(world.keys[AUTHORITY])
    new = {2: old[2], 3: old[3], 4: signer("four")}
    body = changes.AuthorityReplaced(
        changes.AuthoritySet(2, tuple(changes.AuthorityKey(n, 1, k.public_key) for n, k in new.items()))
    )
    draft = world.begin()
    records = [status(0, subject, subject, Status.REVOKED)]
    refuse(draft, world.submission(0, records, keys={3: old[3], 4: new[4]}), KeyUnknown)
    world.change(LEDGER, body, keys={**old, **new}, draft=draft)
    refuse(draft, world.submission(0, records, keys={1: old[1], 2: old[2]}), KeyEnded)
    refuse(draft, world.submission(0, records, keys={1: old[1], 2: old[2], 3: old[3]}), KeyEnded)
    world.submit(0, records, keys={3: old[3], 4: new[4]}, draft=draft)
    world.seal(draft)
    agree(world)


# --- registry changes in drafts ----------------------------------------------------------------


def test_a_refused_change_leaves_no_trace(world: World) -> None:
    draft = world.begin()
    world.submit(1, [issue(1, "a")], draft=draft)
    before = trace(draft)
    for leaf in (
        world.change_leaf(Subject("agency", 1), changes.AgencySuspended(), previous=0),
        world.change_leaf(Subject("agency", 1), changes.AgencySuspended(), keys=(1,)),
        world.change_leaf(Subject("agency", 1), changes.AgencyReinstated()),
        b"",
        b"\x01\x10",
        issue(1, "b"),
    ):
        with pytest.raises(SudurError):
            draft.add_change(leaf)
        assert trace(draft) == before


def test_a_transition_names_the_subjects_that_changed(world: World) -> None:
    draft = world.begin()
    body = changes.TypeDefined({"en": "T"}, ())
    world.change(Subject("type", 3), body, draft=draft)
    world.change(Subject("agency", 1), changes.AgencyRenamed({"en": "y"}), draft=draft)
    made = world.seal(draft)
    assert made.subjects == {LEDGER, Subject("type", 3), Subject("agency", 1)}
    assert world.idle().subjects == frozenset()


# --- blocks ------------------------------------------------------------------------------------


def applied(world: World, leaves: Sequence[bytes]) -> Transition:
    return rules.apply(world.state, world.reader, leaves)


def block(world: World) -> tuple[bytes, ...]:
    """A block with two submissions, a change and a status, ready to be applied."""
    subject = world.submit(1, [issue(1, "first")]) + 1
    draft = world.begin()
    world.submit(1, [issue(1, "a"), issue(1, "b", 0)], draft=draft)
    world.change(Subject("agency", 1), changes.AgencyRenamed({"en": "y"}), draft=draft)
    world.submit(1, [status(1, subject, subject, Status.REVOKED)], draft=draft)
    return tuple(draft.seal().leaves)


def test_what_was_built_is_accepted(world: World) -> None:
    leaves = block(world)
    made = applied(world, leaves)
    assert tuple(made.leaves) == leaves
    world.commit(made)
    agree(world)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rules", 2),
        ("block", 0),
        ("previous", 3),
        ("previous", NONE),
        ("documents", 2),
        ("status_root", bytes(32)),
        ("registry_root", bytes(32)),
        ("extras", ((1, bytes(32)),)),
    ],
)
def test_a_seal_says_what_the_block_amounts_to(world: World, field: str, value: Any) -> None:
    leaves = block(world)
    changed = {field: value}
    seal = replace(Seal.decode(leaves[-1]), **changed)
    with pytest.raises(BlockRefused, match=rf"{field}"):
        applied(world, (*leaves[:-1], seal.encode()))
    with pytest.raises(BlockRefused, match="leaf"):
        applied(world, (*leaves[:-1], leaves[-1] + b"\0"))


def test_time_strictly_increases(world: World) -> None:
    leaves = block(world)
    for time_ms in (0, world.state.time_ms - 1, world.state.time_ms):
        with pytest.raises(BlockRefused, match="later"):
            rules.begin(world.state, world.reader, time_ms)
        seal = replace(Seal.decode(leaves[-1]), time_ms=time_ms)
        with pytest.raises(BlockRefused, match="later"):
            applied(world, (*leaves[:-1], seal.encode()))
    rules.begin(world.state, world.reader, world.state.time_ms + 1)


def test_the_shape_of_blocks(world: World) -> None:
    leaves = block(world)
    seal = leaves[-1]
    for bad in (
        (),
        leaves[:-1],
        (seal, seal),
        (leaves[1], *leaves),
        (*leaves[:1], *leaves[2:]),
        (*leaves[:2], *leaves[3:]),
        (leaves[0], leaves[2], leaves[1], *leaves[3:]),
        leaves[1:],
        (*leaves[:3], seal, *leaves[3:]),
        (*leaves[:-1], issue(1, "z"), seal),
        (b"", *leaves),
        (b"\x01\x07" + bytes(30), *leaves),
        (world.reader.leaves[0], *leaves),
        (leaves[0], bytes(70_000), *leaves[2:]),
        (bytes(70_000), *leaves),
        (*leaves[:-1], bytes(70_000)),
        (leaves[0], seal),
    ):
        with pytest.raises(BlockRefused):
            applied(world, bad)
    applied(world, leaves)


def test_every_flipped_bit_of_a_block_is_refused(world: World) -> None:
    leaves = block(world)
    for place, leaf in enumerate(leaves):
        for at in range(0, len(leaf), 3):
            changed = leaf[:at] + bytes((leaf[at] ^ 1 << at % 8,)) + leaf[at + 1 :]
            with pytest.raises(BlockRefused):
                applied(world, (*leaves[:place], changed, *leaves[place + 1 :]))


def test_a_block_follows_its_state(world: World) -> None:
    first = tuple(world.begin().seal().leaves)
    second = tuple(world.begin(2000).seal().leaves)
    world.commit(applied(world, first))
    for other in (first, second):
        with pytest.raises(BlockRefused):
            applied(world, other)


def test_the_first_block() -> None:
    world = World()
    leaves = world.blocks[0]
    nothing = MemoryReader()
    made = rules.apply(None, nothing, leaves)
    assert made.state == world.state
    assert made.subjects == {LEDGER}
    seal = Seal.decode(leaves[1])
    assert (seal.block, seal.previous, seal.documents) == (0, NONE, 0)
    assert seal.status_root == EMPTY_CHUNK_HASH
    for bad in (
        leaves[:1],
        leaves[1:],
        (leaves[0], leaves[0], leaves[1]),
        (leaves[0], replace(seal, previous=0).encode()),
        (leaves[0], replace(seal, block=1).encode()),
        (leaves[0][:-1] + bytes((leaves[0][-1] ^ 1,)), leaves[1]),
        (issue(1, "a"), leaves[1]),
    ):
        with pytest.raises(BlockRefused):
            rules.apply(None, nothing, bad)
    with pytest.raises(BlockRefused):
        rules.apply(world.state, world.reader, leaves)


def test_rules_that_this_software_does_not_have() -> None:
    world = World()
    at = world.state.block + 3
    world.change(LEDGER, changes.RulesRaised(2, at))
    assert world.state.rules == 1
    world.idle()
    assert world.state.rules == 2
    with pytest.raises(RulesVersionUnknown):
        world.begin()
    seal = replace(Seal.decode(world.blocks[-1][-1]), time_ms=world.now + 5000)
    with pytest.raises(RulesVersionUnknown):
        applied(world, (seal.encode(),))


def test_the_limits_of_a_block(world: World) -> None:
    draft = world.begin()
    assert draft.fits(MAX_BLOCK_LEAVES - 1, 0)
    assert not draft.fits(MAX_BLOCK_LEAVES, 0)
    room = MAX_BLOCK_BYTES - 101 - 2
    assert draft.fits(1, room - 2)
    assert not draft.fits(1, room - 1)
    world.submit(1, [issue(1, "a")], draft=draft)
    made = draft.seal()
    used = len(pack(made.leaves))
    assert draft.fits(1, MAX_BLOCK_BYTES - used - 2)
    assert not draft.fits(1, MAX_BLOCK_BYTES - used - 1)
    assert not draft.fits(MAX_BLOCK_LEAVES - 2, 0)


def test_a_full_block_takes_no_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules_v1, "MAX_BLOCK_LEAVES", 6)
    draft = world.begin()
    world.submit(1, [issue(1, "a"), issue(1, "b")], draft=draft)
    refuse(draft, world.submission(1, [issue(1, "c"), issue(1, "d")]), BlockRefused, "at most")
    world.submit(1, [issue(1, "c")], draft=draft)
    with pytest.raises(BlockRefused, match="at most"):
        world.change(Subject("agency", 1), changes.AgencySuspended(), draft=draft)
    made = draft.seal()
    assert len(made.leaves) == 6
    applied(world, made.leaves)


class BrokenDisk(SudurError):
    """A store's own error."""


class BrokenReader(MemoryReader):
    def find_issues(self, keys: Sequence[bytes]) -> list[int | None]:
        raise BrokenDisk("the disk cannot be read")


def test_a_store_that_cannot_be_read_says_nothing_about_the_block(world: World) -> None:
    leaves = block(world)
    broken = BrokenReader()
    broken.__dict__.update(world.reader.__dict__)
    with pytest.raises(BrokenDisk):
        rules.apply(world.state, broken, leaves)
    draft = rules.begin(world.state, broken, world.now + 1)
    refuse(draft, world.submission(1, [issue(1, "new")]), BrokenDisk)


# --- the status list over chunk borders --------------------------------------------------------


def test_the_status_list_grows_over_65536(world: World) -> None:
    """Fill up to one leaf below the border, then cross it seal by seal and change on both sides."""
    for number in range(2):
        draft = world.begin()
        for part in range(127):
            name = f"{number} {part}"
            world.submit(1, [issue(1, f"{name} {i}") for i in range(256)], draft=draft)
        world.seal(draft)
    draft = world.begin()
    while draft.next_index < 65_533:
        count = min(255, 65_533 - draft.next_index - 1)
        start = draft.next_index
        world.submit(1, [issue(1, f"rest {start + i}") for i in range(max(1, count))], draft=draft)
    last = draft.next_index - 1
    world.seal(draft)
    world.idle()
    assert world.state.size == 65_535
    world.idle()
    assert world.state.size == 65_536
    assert list(world.state.status.hashes) == [EMPTY_CHUNK_HASH]
    first = world.submit(1, [issue(1, "beyond"), issue(1, "beyond 2")]) + 1
    assert first == 65_537
    assert list(world.state.status.hashes) == [EMPTY_CHUNK_HASH] * 2
    draft = world.begin()
    world.submit(1, [status(1, one, one, Status.REVOKED) for one in (last, first)], draft=draft)
    made = world.seal(draft)
    assert set(made.status_chunks) == {0, 1}
    assert read_status(made.status_chunks[0], last) is Status.REVOKED
    assert read_status(made.status_chunks[1], first) is Status.REVOKED
    hashes = [leaf_hash(made.status_chunks[number]) for number in (0, 1)]
    assert Seal.decode(made.leaves[-1]).status_root == merkle_root(hashes)
    world.submit(1, [status(1, first + 1, first + 1, Status.SUSPENDED)])
    assert world.state.status.hashes[0] == hashes[0]
    assert read_status(world.reader.chunks[1], first) is Status.REVOKED
    assert read_status(world.reader.chunks[1], first + 1) is Status.SUSPENDED
    assert set(world.reader.chunks) == {0, 1}
    agree(world)


def test_a_subject_in_a_chunk_that_the_block_itself_begins(world: World) -> None:
    """The chunk is not in the reader yet: it begins empty."""
    while world.state.size < 65_280:
        draft = world.begin()
        for _ in range(51):
            start = draft.next_index
            world.submit(1, [issue(1, start + i) for i in range(255)], draft=draft)
        world.seal(draft)
    assert world.state.size < 65_536
    draft = world.begin()
    world.submit(1, [issue(1, f"over {i}") for i in range(256)], draft=draft)
    subject = draft.next_index - 1
    assert subject > 65_536
    world.submit(1, [status(1, subject, subject, Status.REVOKED)], draft=draft)
    made = world.seal(draft)
    wanted = bytearray(EMPTY_CHUNK)
    wanted[(subject - 65_536) // 4] = 1 << 2 * (subject % 4)
    assert made.status_chunks == {1: bytes(wanted)}
    agree(world)
