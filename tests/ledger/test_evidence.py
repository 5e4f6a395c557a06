"""Evidence files: what they prove, and that no honest log can be accused by one."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import canonical_json
from ledger.canonical_json import Json
from ledger.checkpoints import Checkpoint, sign_checkpoint
from ledger.errors import EvidenceFormatError, EvidenceIncomplete, EvidenceProvesNothing, SudurError
from ledger.evidence import BrokenBlock, Evidence, Fork, UnsealedHead, parse_evidence
from ledger.evidence_making import Refused, prove_block, prove_fork, prove_leaf, prove_unsealed, refusal
from ledger.evidence_verdict import verify_evidence
from ledger.hashing import leaf_hashes
from ledger.registry_records import History
from tests.ledger.oracles import NaiveTree
from tests.ledger.world import MemoryReader, answer, issue, send, signer
from tests.operator.attacks import NEEDS_REPLAY, PROVEN, books, forged_issue, hidden_revocation
from tests.operator.cheating import Books, accusation

VECTORS = Path(__file__).parents[1] / "vectors" / "evidence"


@pytest.mark.parametrize("name", PROVEN)
def test_what_breaks_the_rules_is_proven_by_a_file_alone(name: str) -> None:
    cheat, words = PROVEN[name]
    made = books()
    cheat(made)
    made.idle()
    evidence = accusation(made.blocks, made)
    assert evidence is not None
    data = evidence.encode()
    again = parse_evidence(data)
    assert again == evidence
    assert again.encode() == data
    for trust in (None, made.trust()):
        breach = verify_evidence(again, trust)
        assert words in breach.what
        assert breach.kind == "broken block"
        assert breach.genesis == made.genesis
        assert list(breach.signers) == [one.key for one in made.trusted().log_keys]
        assert breach.trusted == (trust is not None)


@pytest.mark.parametrize("name", NEEDS_REPLAY)
def test_what_only_a_replay_shows_is_said_to_need_one(name: str) -> None:
    made = books()
    NEEDS_REPLAY[name](made)
    end = made.size
    made.idle()
    evidence = accusation(made.blocks, made)
    assert evidence is not None
    with pytest.raises(EvidenceIncomplete, match=f"replay the log up to size {end}"):
        verify_evidence(parse_evidence(evidence.encode()), made.trust())


def test_a_broken_first_block() -> None:
    made = Books()
    bad = (made.blocks[0][0], made.lawless().seal().leaves[-1])
    tree = NaiveTree(leaf_hashes(bad))
    signed = made.opened(made.sign(Checkpoint(made.origin, 2, tree.root(2))))
    evidence = prove_block(refusal(None, MemoryReader(), bad), signed, tree)
    assert "block 0" in verify_evidence(parse_evidence(evidence.encode()), made.trust()).what


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("fork", "it signed a tree of 19 leaves with root"),
        ("unsealed", "it signed a tree of 15 leaves that does not end in a SEAL"),
        ("hidden", "block 7, leaves 16 to 18, breaks the rules: leaf 18: the seal does not say"),
        ("stale", "STATUS_STALE: record 0: leaf 13 last changed at index 17, not at 13"),
    ],
)
def test_what_was_evidence_once_stays_evidence(name: str, what: str) -> None:
    """Files that are never made anew: whoever has one in a drawer can show it in twenty years."""
    data = (VECTORS / f"{name}.evidence.json").read_bytes()
    assert what in verify_evidence(parse_evidence(data), None).what


# --- heads -------------------------------------------------------------------------------------


def two_faces(small: int = 0) -> tuple[Books, Books]:
    """Two histories that part after the documents; the second longer by ``small`` idle blocks."""
    one, other = books(), books()
    one.submit(1, [issue(1, "shown to some")])
    other.submit(1, [issue(1, "shown to others")])
    for _ in range(small):
        other.idle()
    return one, other


@pytest.mark.parametrize("longer", [0, 1, 5])
def test_a_fork_is_proven(longer: int) -> None:
    one, other = two_faces(longer)
    small, large = one.opened(), other.opened()
    genesis = prove_leaf(small, one.nodes(), 0, one.static.leaves[0])
    evidence = prove_fork(small, large, other.nodes(), genesis)
    assert evidence is not None
    for trust in (None, one.trust()):
        verdict = verify_evidence(parse_evidence(evidence.encode()), trust)
        assert verdict.kind == "fork"
        assert verdict.size == other.size
    assert isinstance(evidence.breach, Fork)
    breach = evidence.breach
    wrong = [replace(breach, root=small.checkpoint.root), replace(breach, large=small.data)]
    if longer:
        wrong += [replace(breach, small=large.data, large=small.data), replace(breach, consistency=())]
    for one_wrong in wrong:
        with pytest.raises(SudurError):
            verify_evidence(replace(evidence, breach=one_wrong), one.trust())


def test_one_history_is_no_fork() -> None:
    made = books()
    old = made.opened()
    for _ in range(9):
        made.idle()
    assert prove_fork(old, made.opened(), made.nodes(), None) is None
    assert prove_fork(old, old, made.nodes(), None) is None
    same = Fork(old.data, old.data, old.checkpoint.root, ())
    with pytest.raises(EvidenceProvesNothing):
        verify_evidence(Evidence(None, same), made.trust())


def test_a_head_amid_a_block_is_proven() -> None:
    made = books()
    size = made.size - 1
    tree = NaiveTree(leaf_hashes(made.static.leaves))
    signed = made.opened(made.sign_size(size))
    evidence = prove_unsealed(signed, made.static.leaves[size - 1], tree, made.static.leaves[0])
    breach = verify_evidence(parse_evidence(evidence.encode()), None)
    assert breach.kind == "unsealed head"
    assert breach.size == size
    whole = made.opened()
    honest = prove_unsealed(whole, made.static.leaves[-1], made.nodes(), made.static.leaves[0])
    with pytest.raises(EvidenceProvesNothing):
        verify_evidence(honest, made.trust())


# --- no honest log is accused ------------------------------------------------------------------


def test_another_ledgers_heads_prove_nothing() -> None:
    """Under another origin, and by a key that this ledger does not have."""
    one, other = two_faces()
    note, root = one.opened().data, other.opened().checkpoint.root
    forged = sign_checkpoint(other.opened().checkpoint, [signer("no log key")])
    fork = Fork(note, forged, root, ())
    with pytest.raises(SudurError, match="no trusted key"):
        verify_evidence(Evidence(None, fork), one.trust())
    elsewhere = Books(origin="other.example/log")
    with pytest.raises(SudurError):
        verify_evidence(Evidence(None, replace(fork, large=elsewhere.sign_size(2))), one.trust())
    with pytest.raises(SudurError, match="does not show the genesis"):
        verify_evidence(Evidence(None, fork), None)


def _cut(data: bytes, at: int, bit: int) -> bytes:
    return bytes((*data[:at], data[at] ^ 1 << bit, *data[at + 1 :]))


def _samples() -> Sequence[bytes]:
    made = books()
    hidden_revocation(made)
    block = accusation(made.blocks, made)
    one, other = two_faces(2)
    small = one.opened()
    fork = prove_fork(
        small, other.opened(), other.nodes(), prove_leaf(small, one.nodes(), 0, one.static.leaves[0])
    )
    assert block is not None
    assert fork is not None
    return [block.encode(), fork.encode()]


SAMPLES = _samples()


@settings(max_examples=300)
@given(st.sampled_from(SAMPLES), st.data())
def test_a_flipped_bit_never_raises_but_our_errors(sample: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(sample) - 1))
    mutated = _cut(sample, at, data.draw(st.integers(0, 7)))
    try:
        verdict = verify_evidence(parse_evidence(mutated), None)
    except SudurError:
        return
    # Where nothing decides, in the maker's words or in another spelling of the same chunk, all stays proven.
    assert verdict == verify_evidence(parse_evidence(sample), None)


@given(
    st.binary(max_size=400)
    | st.sampled_from(SAMPLES).flatmap(lambda one: st.integers(0, len(one)).map(lambda n: one[:n]))
)
def test_the_parser_raises_only_its_error(data: bytes) -> None:
    with suppress(EvidenceFormatError):
        parse_evidence(data)


def members(value: Json, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The way to each member of a JSON value, and to each item in it."""
    if at:
        yield at
    if isinstance(value, dict):
        for name, one in value.items():
            yield from members(one, (*at, name))
    elif isinstance(value, list):
        for place, one in enumerate(value):
            yield from members(one, (*at, place))


def changed(value: Any, random: Random) -> Json:
    """Something else that may stand in the same place."""
    if isinstance(value, str):
        with suppress(ValueError):
            data = bytearray(b64decode(value, validate=True))
            data[random.randrange(len(data))] ^= 1 << random.randrange(8)
            return b64encode(data).decode()
        return random.choice(["", value * 2, value[: len(value) // 2], "0", str(2**64 - 1), "17"])
    if isinstance(value, list):
        kept = [one for one in value if random.random() < 0.8]
        return random.choice([kept, [*value, *value[:1]], value[::-1], []])
    return random.choice([None, 0, -1, 2**53 - 1, "1", {}])


@settings(max_examples=150)
@given(st.sampled_from(SAMPLES), st.randoms(use_true_random=False))
def test_a_changed_member_never_raises_but_our_errors(sample: bytes, random: Random) -> None:
    """In its canonical form, so that all that comes after parsing is met, too."""
    value: Any = json.loads(sample)
    *above, last = random.choice(list(members(value)))
    place = value
    for name in above:
        place = place[name]
    place[last] = changed(place[last], random)
    with suppress(SudurError):
        verdict = verify_evidence(parse_evidence(canonical_json.encode(value) + b"\n"), None)
        assert verdict == verify_evidence(parse_evidence(sample), None)


def test_parts_swapped_between_files_prove_nothing() -> None:
    """The run of a broken block under the honest head of the same keys, and the other way round."""
    honest, broken = books(), books()
    honest.idle()
    forged_issue(broken)
    evidence = accusation(broken.blocks, broken)
    assert evidence is not None
    assert isinstance(evidence.breach, BrokenBlock)
    swapped = replace(evidence.breach, checkpoint=honest.static.checkpoint)
    with pytest.raises(SudurError):
        verify_evidence(Evidence(evidence.genesis, swapped), honest.trust())
    assert evidence.genesis is not None
    head = UnsealedHead(honest.static.checkpoint, evidence.genesis)
    with pytest.raises(SudurError):
        verify_evidence(replace(evidence, breach=head), honest.trust())


# --- what only a log that lies throughout could be shown with ----------------------------------


def accuse_next(made: Books) -> Evidence:
    """An accusation of the newest block, on the state that the seal before it claims."""
    before = made.sealed[-2].state
    leaves = made.blocks[-1]
    earlier = dict(enumerate(made.static.leaves[: before.size]))
    chunks = {0: made.reader.status_chunk(0)}
    seal, genesis = made.static.leaves[before.seal_index], made.static.leaves[0]
    refused = Refused(before, genesis, seal, leaves, earlier, chunks, "")
    return prove_block(refused, made.opened(), made.nodes())


def tampered(made: Books, **histories: object) -> None:
    """A seal with another record of agency 1."""
    draft = made.lawless()
    agency = draft.registry.agency(1)
    record = replace(agency.record, **histories)  # type: ignore[arg-type]
    draft.registry = draft.registry.with_agency(replace(agency, record=record))
    made.seal_lawless(draft)


def test_a_registry_that_goes_in_circles_ends() -> None:
    """Parents, successors, or parents of the past: nobody follows them for ever."""
    for history in (
        {"parent": History.start(4, 1)},
        {"successor": History.start(4, 2).then(5, 1)},
        {"parent": History.start(4, 999)},
    ):
        made = books()
        tampered(made, **history)
        made.idle()
        with pytest.raises(SudurError):
            verify_evidence(accuse_next(made), None)
    made = books()
    at = 1 + made.submit(2, [send(2, 1)])
    tampered(made, parent=History.start(4, 1).then(made.size, 0))
    draft = made.lawless()
    draft.force_submission(made.submission(1, [answer(1, at)]))
    made.seal_lawless(draft)
    with pytest.raises(EvidenceIncomplete):
        verify_evidence(accuse_next(made), None)


def test_a_seal_that_counts_beyond_all_numbers() -> None:
    for lie in ({"documents": 2**64 - 1}, {"block": 2**64 - 1}, {"time_ms": 2**64 - 1}):
        made = books()
        made.seal_lawless(made.begin(), **lie)
        draft = made.lawless()
        draft.time_ms = 1
        made.seal_lawless(draft)
        with suppress(SudurError):
            verify_evidence(accuse_next(made), None)
