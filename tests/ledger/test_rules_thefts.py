"""After a theft: what the thief made final can be undone, unless those who may have affirmed it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ledger import changes
from ledger.changes import AUTHORITY, KeysAdded, KeyStolen, Subject, SuccessorNamed
from ledger.errors import (
    ChangeRefused,
    FormatError,
    NotEntitled,
    StatusFinal,
    StatusStale,
    SubjectInvalid,
    UnknownAgency,
)
from ledger.errors import KeyStolen as Stolen
from ledger.leaves import NONE
from ledger.records import Status
from ledger.registry_changes import MAX_RECORD_BY_AUTHORITY
from ledger.registry_records import MAX_AFFIRMED, MAX_RECORD, Affirmation, AgencyRecord
from ledger.signing_policy import KindPolicy, SigningPolicy
from tests.ledger.book import Book
from tests.ledger.world import World, affirm, attest, entitlement, issue, new_key, signer, status

FINAL = [Status.REVOKED, Status.SUPERSEDED]


def affirmed(book: Book, agency: int) -> list[tuple[int, int, int, tuple[int, ...]]]:
    """The ranges that an agency's record bears: (first, last, by, keys)."""
    record = book.registry.agency(agency).record
    assert AgencyRecord.decode(record.encode()) == record
    return [(one.first, one.last, one.by, one.keys) for one in record.affirmed]


def two_keys(book: Book, agency: int, kind: str, after: int = 1) -> None:
    """From ``after`` records a day, that kind takes two keys."""
    steps = ((1, 2),) if after == 1 else ((1, 1), (after, 2))
    policy = SigningPolicy({kind: KindPolicy(steps)})
    book.change(agency, changes.AgencyEntitled(entitlement(("attest", "issue"), (0, 1), policy)))


# --- AFFIRM ------------------------------------------------------------------------------------


def test_nothing_is_affirmed_before_a_theft(book: Book) -> None:
    document = book.log(3, issue(3, "a"))
    for first, last in ((0, 0), (document, document), (0, book.here - 1)):
        book.refused(SubjectInvalid, 3, affirm(3, 3, first, last), match="record 0.*is doubtful")
    book.change(3, KeyStolen(2, document))
    book.refused(SubjectInvalid, 3, affirm(3, 3, 0, document - 1), match="is doubtful")
    book.log(3, affirm(3, 3, 0, document))


def test_a_stolen_key_for_changes_makes_no_leaf_doubtful(book: Book) -> None:
    """It signs no submission; what it added is stolen with it."""
    document = book.log(3, issue(3, "a"))
    book.change(3, KeyStolen(4, 0))
    book.refused(SubjectInvalid, 3, affirm(3, 3, document, document), match="is doubtful")


def test_the_agency_itself_or_one_above_affirms(book: Book) -> None:
    document = book.log(3, issue(3, "a"))
    book.change(3, KeyStolen(1, document))
    for other in (1, 4, 5, 6):
        book.refused(NotEntitled, other, affirm(other, 3, document, document), match="record 0")
    book.change(3, SuccessorNamed(5))
    book.refused(NotEntitled, 5, affirm(5, 3, document, document))
    book.refused(NotEntitled, AUTHORITY, affirm(0, 3, document, document), keys=(1, 2))
    book.refused(Stolen, 3, affirm(3, 3, document, document), keys=(1,))
    book.refused(Stolen, 3, affirm(3, 3, document, document), keys=(1, 2))
    for target in (0, 7, 2**32 - 1):
        book.refused(UnknownAgency, 3, affirm(3, target, document, document), keys=(2,))
    book.log(3, affirm(3, 3, document, document), keys=(2, 3))
    book.log(2, affirm(2, 3, document, document + 1))
    assert affirmed(book, 3) == [(document, document, 3, (2, 3)), (document, document + 1, 2, (1,))]
    book.change(4, KeyStolen(1, document))
    book.log(2, affirm(2, 4, document, document))
    assert affirmed(book, 4) == [(document, document, 2, (1,))]


def test_only_what_is_below_is_affirmed(book: Book) -> None:
    document = book.log(3, issue(3, "a"))
    book.change(3, KeyStolen(1, document))
    here = book.here
    for last in (here, here + 1, here + 2, 2**40, NONE - 1, NONE):
        book.refused(SubjectInvalid, 3, affirm(3, 3, document, last), match="is not below", keys=(2,))
    at = book.log(3, affirm(3, 3, 0, here - 1), keys=(2,)) - 1
    assert book.registry.agency(3).record.affirmed == (Affirmation(0, here - 1, at, 3, (2,)),)


def test_at_most_1024_ranges(book: Book) -> None:
    document = book.log(3, issue(3, "a"))
    book.change(3, KeyStolen(1, document))
    one = affirm(3, 3, document, document)
    for count in (256, 256, 256, 255):
        book.log(3, *[one] * count, keys=(2,))
    book.refused(SubjectInvalid, 3, one, one, match=f"record 1.*{MAX_AFFIRMED} affirmed", keys=(2,))
    book.log(3, one, keys=(2,))
    book.refused(SubjectInvalid, 3, one, match=f"record 0.*{MAX_AFFIRMED} affirmed", keys=(2,))
    book.refused(SubjectInvalid, 2, affirm(2, 3, document, document))
    assert len(affirmed(book, 3)) == MAX_AFFIRMED
    # The authority can still suspend it, and a theft of the affirming key empties the list.
    book.change(3, changes.AgencySuspended())
    book.change(3, KeyStolen(2, document))
    assert affirmed(book, 3) == []


def test_a_doubtful_range_is_affirmed_as_of_the_next_submission(book: Book) -> None:
    document, last = stolen_revocation(book)
    affirmation, undone = affirm(3, 3, last, last), status(3, document, last, Status.VALID)
    book.log(3, affirmation, undone, keys=(2,))
    assert affirmed(book, 3) == [(last, last, 3, (2,))]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"keys":[2,3]', '"keys":[]'),
        ('"keys":[2,3]', '"keys":[3,2]'),
        ('"keys":[2,3]', '"keys":[2,2]'),
        ('"keys":[2,3]', '"keys":[0,2]'),
        ('"keys":[2,3]', '"keys":[2,65536]'),
        ('"keys":[2,3]', '"keys":["2"]'),
        ('"keys":[2,3]', f'"keys":{list(range(1, 18))}'.replace(" ", "")),
        ('"by":3', '"by":0'),
        ('"by":3,', ""),
        ('"first":"1"', '"first":"3"'),
        ('"first":"1"', '"first":1'),
        ('"last":"2"', '"last":"18446744073709551615"'),
        ('"last":"2"', '"last":"2","more":1'),
    ],
)
def test_an_affirmation_has_one_form(old: str, new: str) -> None:
    """As an agency's record bears it."""
    world = World()
    world.enrol()
    record = replace(
        world.state.registry.agency(1).record, affirmed=(Affirmation(1, 2, 9, 3, (2, 3)),)
    ).encode()
    assert AgencyRecord.decode(record).encode() == record
    changed = record.replace(old.encode(), new.encode())
    assert changed != record
    with pytest.raises(FormatError):
        AgencyRecord.decode(changed)


def test_affirmations_leave_a_record_readable() -> None:
    """However long they are, they fit into what no change of the registry may fill."""
    top = Affirmation(NONE - 2, NONE - 1, NONE, 2**32 - 1, tuple(range(65_520, 65_536)))
    world = World()
    world.enrol()
    record = world.state.registry.agency(1).record
    longest = replace(record, affirmed=(top,) * MAX_AFFIRMED).encode()
    assert len(longest) - len(record.encode()) <= MAX_RECORD - MAX_RECORD_BY_AUTHORITY
    assert AgencyRecord.decode(longest).affirmed[-1] == top


# --- affirmations go with their signers ----------------------------------------------------------


def doubtful(book: Book) -> tuple[int, int]:
    """Agency 3's key 1 is stolen, its key 2 affirmed a leaf; returns the leaf and the AFFIRM's index."""
    document = book.log(3, issue(3, "a"))
    book.change(3, KeyStolen(1, document))
    return document, book.log(3, affirm(3, 3, document, document), keys=(2,))


def test_a_thief_cannot_vouch_for_the_theft(book: Book) -> None:
    document, at = doubtful(book)
    book.log(2, affirm(2, 3, document, document))
    book.change(3, KeyStolen(2, at - 1))
    assert affirmed(book, 3) == [(document, document, 2, (1,))], "only what the stolen key affirmed goes"
    book.refused(Stolen, 3, affirm(3, 3, document, document), keys=(2,))
    book.log(3, affirm(3, 3, document, document), keys=(3,))


def test_a_theft_after_the_affirmation_leaves_it(book: Book) -> None:
    document, at = doubtful(book)
    book.change(3, KeyStolen(2, at))
    assert affirmed(book, 3) == [(document, document, 3, (2,))]
    # It may move earlier, and then counts for the SUBMISSION's index, not the record's.
    book.change(3, KeyStolen(2, at - 1))
    assert affirmed(book, 3) == []


def test_a_theft_above_takes_what_was_affirmed_below(book: Book) -> None:
    document = book.log(4, issue(4, "a"))
    book.change(4, KeyStolen(1, document))
    book.log(2, affirm(2, 4, document, document), keys=(1, 3))
    by_three = book.log(3, affirm(3, 4, document, document))
    book.change(2, KeyStolen(1, document))
    assert len(affirmed(book, 4)) == 2, "one sound key is what the policy asks for"
    book.change(2, KeyStolen(3, document))
    assert affirmed(book, 4) == [(document, document, 3, (1,))]
    book.change(3, KeyStolen(1, by_three))
    assert affirmed(book, 4) == [(document, document, 3, (1,))]


def test_a_theft_that_spreads_takes_affirmations_with_it(book: Book) -> None:
    """The key for changes was stolen; the key that it added affirmed."""
    document = book.log(3, issue(3, "a"))
    book.change(3, KeyStolen(1, document))
    fresh = signer("added by a thief")
    added = book.change(3, KeysAdded((new_key(5, fresh),)), by=3, keys=(4,))
    book.log(3, affirm(3, 3, document, document), keys={5: fresh})
    book.change(3, KeyStolen(4, added + 1))
    assert len(affirmed(book, 3)) == 1
    book.change(3, KeyStolen(4, added))
    assert affirmed(book, 3) == []


def test_four_eyes_of_then_decide_about_an_affirmation(book: Book) -> None:
    document = book.log(3, issue(3, "a"))
    book.change(3, KeyStolen(1, document))
    two_keys(book, 3, "affirm")
    book.log(3, affirm(3, 3, document, document), keys=(2, 3))
    two_keys(book, 3, "attest")
    book.log(3, affirm(3, 3, 0, document), keys=(2, 3))
    book.change(3, KeyStolen(2, document))
    assert affirmed(book, 3) == [(0, document, 3, (2, 3))]


def test_what_a_voided_affirmation_held_can_be_undone(book: Book) -> None:
    document, last = stolen_revocation(book)
    at = book.log(3, affirm(3, 3, last, last), keys=(2,))
    undone = status(3, document, last, Status.VALID)
    book.refused(StatusFinal, 3, undone, keys=(3,))
    book.change(3, KeyStolen(2, at - 1))
    book.log(3, undone, keys=(3,))


# --- undoing what a stolen key made final --------------------------------------------------------


def stolen_revocation(book: Book, to: Status = Status.REVOKED) -> tuple[int, int]:
    """Agency 3's document, put out by its key 1, which then is reported stolen: document and STATUS."""
    document = book.log(3, issue(3, "a"), keys=(2,))
    last = book.log(3, status(3, document, document, to))
    book.refused(StatusFinal, 3, status(3, document, last, Status.VALID), keys=(2,))
    book.change(3, KeyStolen(1, last - 1))
    return document, last


@pytest.mark.parametrize("to", FINAL)
@pytest.mark.parametrize("by", [3, 2, AUTHORITY, 5])
def test_whoever_may_change_it_undoes_it(book: Book, to: Status, by: int) -> None:
    document, last = stolen_revocation(book, to)
    book.change(3, SuccessorNamed(5))
    for stranger in (1, 4, 6):
        book.refused(NotEntitled, stranger, status(stranger, document, last, Status.VALID))
    keys = (1, 2) if by == AUTHORITY else (2,)
    book.refused(StatusStale, by, status(by, document, document, Status.VALID), keys=keys)
    book.refused(StatusStale, by, status(by, document, last, to), keys=keys, match="already")
    book.log(by, status(by, document, last, Status.VALID), keys=keys)
    book.log(5, attest(5, document))


def test_what_undid_it_is_no_less_final(book: Book) -> None:
    """A sound key may put it out itself; that stands, and so does what comes after an undoing."""
    document, last = stolen_revocation(book)
    again = book.log(3, status(3, document, last, Status.SUPERSEDED), keys=(2,))
    book.refused(StatusFinal, 3, status(3, document, again, Status.VALID), keys=(3,), match="superseded")


def test_undone_and_revoked_for_good(book: Book) -> None:
    document, last = stolen_revocation(book)
    back = book.log(3, status(3, document, last, Status.VALID), keys=(2,))
    revoked = book.log(3, status(3, document, back, Status.REVOKED), keys=(3,))
    book.refused(StatusFinal, 2, status(2, document, revoked, Status.VALID))


def test_undone_within_one_submission(book: Book) -> None:
    """What a submission itself made final is sound: its keys are not stolen."""
    document, last = stolen_revocation(book)
    here = book.here + 1
    records = [
        status(3, document, last, Status.VALID),
        status(3, document, here, Status.REVOKED),
        status(3, document, here + 1, Status.VALID),
    ]
    error = book.refused(StatusFinal, 3, *records, keys=(2,), match="record 2")
    assert error.details() == {"index": str(NONE)}
    book.log(3, *records[:2], keys=(2,))


def test_a_theft_since_later_leaves_it_final(book: Book) -> None:
    document = book.log(3, issue(3, "a"))
    last = book.log(3, status(3, document, document, Status.REVOKED))
    undone = status(3, document, last, Status.VALID)
    book.change(3, KeyStolen(1, last))
    book.refused(StatusFinal, 3, undone, keys=(2,))
    book.change(3, KeyStolen(2, 0))
    book.refused(StatusFinal, 3, undone, keys=(3,))
    book.change(3, KeyStolen(1, last - 1))
    book.log(3, undone, keys=(3,))


def test_a_thief_above_is_undone_below(book: Book) -> None:
    document = book.log(4, issue(4, "a"))
    last = book.log(2, status(2, document, document, Status.REVOKED))
    book.change(4, KeyStolen(1, 0))
    book.refused(StatusFinal, 4, status(4, document, last, Status.VALID), keys=(2,))
    book.change(2, KeyStolen(1, last - 1))
    # An affirmation of the issuer's leaves says nothing about a leaf of the one above.
    book.log(4, affirm(4, 4, 0, last), keys=(2,))
    book.log(4, status(4, document, last, Status.VALID), keys=(2,))


def test_a_second_key_that_is_sound_keeps_it_final(book: Book) -> None:
    """One key would have done, and one sound key has signed."""
    document = book.log(3, issue(3, "a"))
    last = book.log(3, status(3, document, document, Status.REVOKED), keys=(1, 2))
    undone = status(3, document, last, Status.VALID)
    book.change(3, KeyStolen(1, 0))
    book.refused(StatusFinal, 3, undone, keys=(3,))
    book.change(3, KeyStolen(2, 0))
    book.log(3, undone, keys=(3,))


def test_four_eyes_make_one_stolen_key_enough_to_undo(book: Book) -> None:
    two_keys(book, 3, "status")
    document = book.log(3, issue(3, "a"))
    last = book.log(3, status(3, document, document, Status.REVOKED), keys=(1, 2))
    two_keys(book, 3, "attest")  # the policy of then counts, not that of now
    undone = status(3, document, last, Status.VALID)
    book.refused(StatusFinal, 3, undone, keys=(3,))
    book.change(3, KeyStolen(1, 0))
    book.log(3, undone, keys=(3,))


def test_only_the_first_step_counts_later(book: Book) -> None:
    """The day's count is not kept for each leaf: with the first step's keys a change is sound."""
    two_keys(book, 3, "status", after=2)
    documents = [book.log(3, issue(3, name)) for name in "ab"]
    first = book.log(3, *[status(3, one, one, Status.REVOKED) for one in documents], keys=(1, 2))
    book.change(3, KeyStolen(1, 0))
    book.refused(StatusFinal, 3, status(3, documents[1], first + 1, Status.VALID), keys=(2, 3))


@pytest.mark.parametrize("by", [3, 2])
def test_affirming_its_neighbours_does_not_make_it_final(book: Book, by: int) -> None:
    document, last = stolen_revocation(book)
    undone = status(3, document, last, Status.VALID)
    book.log(by, affirm(by, 3, 0, last - 1), affirm(by, 3, last + 1, last + 1), keys=(2,))
    book.log(3, undone, keys=(2,))


@pytest.mark.parametrize("by", [3, 2])
def test_an_affirmed_revocation_is_final(book: Book, by: int) -> None:
    document, last = stolen_revocation(book)
    book.log(by, affirm(by, 3, last, last), keys=(2,))
    for agency, keys in ((3, (2,)), (2, (1,)), (AUTHORITY, (1, 2))):
        undone = status(agency, document, last, Status.VALID)
        book.refused(StatusFinal, agency, undone, keys=keys)


def test_what_the_authority_put_out_is_final(book: Book) -> None:
    document = book.log(3, issue(3, "a"))
    last = book.log(AUTHORITY, status(0, document, document, Status.REVOKED), keys=(1, 2))
    for agency, key in ((3, 1), (3, 2), (2, 1)):
        book.change(agency, KeyStolen(key, 0))
    book.refused(StatusFinal, 3, status(3, document, last, Status.VALID), keys=(3,))
    book.refused(StatusFinal, AUTHORITY, status(0, document, last, Status.VALID), keys=(2, 3))


def test_the_last_of_256_is_undone(book: Book) -> None:
    """Its SUBMISSION stands 256 leaves before it."""
    first = book.log(3, *[issue(3, number) for number in range(256)])
    last = book.log(3, *[status(3, first + n, first + n, Status.REVOKED) for n in range(256)])
    book.change(3, KeyStolen(1, last - 1))
    for place in (0, 255):
        book.log(3, status(3, first + place, last + place, Status.VALID), keys=(2,))


def test_many_are_undone_at_once(book: Book) -> None:
    first = book.log(3, *[issue(3, number) for number in range(40)])
    last = book.log(3, *[status(3, first + n, first + n, Status.REVOKED) for n in range(40)])
    book.change(3, KeyStolen(1, last - 1))
    book.log(3, affirm(3, 3, last + 10, last + 19), keys=(2,))
    undone = [status(3, first + n, last + n, Status.VALID) for n in range(40)]
    book.refused(StatusFinal, 3, *undone, keys=(2,), match="record 10")
    book.log(3, *undone[:10], *undone[20:], keys=(2,))


def test_what_a_thief_revoked_is_not_attested_before_it_is_undone(book: Book) -> None:
    document, last = stolen_revocation(book)
    book.refused(SubjectInvalid, 5, attest(5, document), match="is revoked")
    book.log(3, status(3, document, last, Status.VALID), keys=(2,))
    book.log(5, attest(5, document))


def test_an_attestation_that_a_thief_revoked(book: Book) -> None:
    """It is undone like a document's, and may have been attested anew meanwhile: then both stand."""
    document = book.log(1, issue(1, "a"))
    first = book.log(3, attest(3, document), keys=(2,))
    last = book.log(3, status(3, first, first, Status.REVOKED))
    second = book.log(3, attest(3, document), keys=(2,))
    book.change(3, KeyStolen(1, last - 1))
    book.log(3, status(3, first, last, Status.VALID), keys=(2,))
    book.log(5, attest(5, first))
    book.log(5, attest(5, second))


def test_a_theft_never_moves_later(book: Book) -> None:
    _, last = stolen_revocation(book)
    for since in (last - 1, last, last + 1):
        with pytest.raises(ChangeRefused):
            book.change(3, KeyStolen(1, since))


def test_undoing_what_a_thief_revoked_does_not_search_for_each_submission_anew() -> None:
    """256 records are covered by one SUBMISSION; the writer waits while the rules look for it."""
    world = World()
    world.enrol(submit=2)
    first = 1 + world.submit(1, [issue(1, one, 0) for one in range(256)])
    since = world.submit(1, [status(1, first + one, first + one, Status.REVOKED) for one in range(256)])
    world.change(Subject("agency", 1), KeyStolen(1, since))
    undone = [status(1, first + one, since + 1 + one, Status.VALID) for one in range(256)]
    submission, draft = world.submission(1, undone, keys=(2,)), world.begin()
    read: list[int] = []
    leaf = world.reader.leaf

    def counting(index: int) -> bytes:
        read.append(index)
        return leaf(index)

    world.reader.leaf = counting  # type: ignore[method-assign]
    draft.add_submission(submission)
    assert len(read) < 4 * len(undone)
