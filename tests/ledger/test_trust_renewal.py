"""Trust renewed by the ledger's own changes: what it takes over, what it refuses, and what stays good."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import changes
from ledger.changes import LEDGER, Change
from ledger.checkpoints import Checkpoint, sign_checkpoint
from ledger.errors import (
    CheckpointUntrusted,
    PolicyUnmet,
    ProofInvalid,
    RegistryConflict,
    SudurError,
    TooFewSignatures,
    TrustFormatError,
    WrongLedger,
)
from ledger.hashing import leaf_hashes, merkle_root
from ledger.notes import SignatureType, VerifierKey
from ledger.receipt_builder import ReceiptBuilder
from ledger.receipts import ProvenLeaf, ProvenRecord, Receipt
from ledger.seals import Seal
from ledger.tiles import entries_path
from ledger.trust import Trust, TrustedLedger
from ledger.trust_renewal import ChainedChange, Renewal, Since, follow, gather, parse_renewal, renew
from ledger.verdicts import VerdictCode
from ledger.verifier import verify_receipt
from tests.ledger.issued import SEED, Issued
from tests.ledger.oracles import NaiveTree
from tests.ledger.served import served
from tests.ledger.static import StaticLedger
from tests.ledger.world import authority_set, commitment, log_key, sign_change, signer

LOG, NEXT = signer("log"), signer("log 2")
BOTH = (LOG, NEXT)


def policy(name: str) -> str:
    key = VerifierKey(f"{name}.example", SignatureType.ED25519_COSIGNATURE, signer(name).public_key)
    return f"witness {name} {key.format()}\nquorum {name}\n"


class Life:
    """A ledger whose log key was rotated: blocks before, the change, blocks after."""

    def __init__(self, later_ms: int = 1000) -> None:
        self.issued = Issued()
        world = self.world = self.issued.world
        self.first = world.state.size
        self.early = len(world.blocks)
        world.change(LEDGER, changes.LogKeyAdded(log_key("log 2")))
        self.last_size = world.state.size + 2
        world.change(LEDGER, changes.LogKeyEnded(log_key("log"), self.last_size))
        world.idle(later_ms)
        world.idle()
        self.pinned = self.issued.trusted()

    def static(self, blocks: int | None = None, **witnesses: int) -> StaticLedger:
        return served(self.world, BOTH, blocks=blocks, witnesses=witnesses)

    def renew(self, trusted: TrustedLedger | None = None, blocks: int | None = None) -> TrustedLedger:
        before = trusted or self.pinned
        return renew(before, gather(self.static(blocks), before), now_ms=self.world.now).ledger

    def receipt(self, static: StaticLedger, trusted: TrustedLedger) -> Receipt:
        return ReceiptBuilder(static, trusted, static.checkpoint).build(
            self.issued.document.disclose(SEED), self.issued.index
        )


@pytest.fixture(scope="module")
def life() -> Life:
    return Life()


def judged(receipt: Receipt, trusted: TrustedLedger, now_ms: int, age_s: int | None = None) -> VerdictCode:
    return verify_receipt(receipt, Trust((trusted,)), now_ms=now_ms, greatest_age_s=age_s).code


# --- what it takes over ------------------------------------------------------------------------


def test_keys_come_with_their_last_sizes_and_old_receipts_stay_good(life: Life) -> None:
    renewed = life.renew()
    assert [(one.key.format(), one.last_size) for one in renewed.log_keys] == [
        (log_key("log"), life.last_size),
        (log_key("log 2"), None),
    ]
    assert renewed.head is not None
    assert (renewed.head.size, renewed.head.time_ms) == (life.world.state.size, life.world.state.time_ms)
    old = life.receipt(life.static(life.early), life.pinned)
    new = life.receipt(life.static(), renewed)
    now = life.world.now
    assert judged(old, renewed, now) is VerdictCode.GENUINE
    assert judged(new, renewed, now) is VerdictCode.GENUINE
    assert judged(new, life.pinned, now) is VerdictCode.CANNOT_TELL, "it does not know the new key"


def test_renewing_twice_changes_nothing(life: Life) -> None:
    assert life.renew(life.renew()) == life.renew()


def test_it_goes_in_steps_as_well(life: Life) -> None:
    assert life.renew(life.renew(blocks=life.early + 1)) == life.renew()


def test_a_stolen_old_key_signs_nothing_newer(life: Life) -> None:
    """Nor anything that looks newer than the last renewal, though it may sign old sizes."""
    renewed = life.renew()
    stolen = served(life.world, [LOG], blocks=life.early)
    note = sign_checkpoint(Checkpoint(life.world.origin, life.early, stolen.tree.root()), [LOG])
    assert renewed.open(note).checkpoint.size == life.early
    too_late = sign_checkpoint(Checkpoint(life.world.origin, life.last_size + 1, bytes(32)), [LOG])
    with pytest.raises(CheckpointUntrusted, match="had ended before"):
        renewed.open(too_late)
    # The same size and key, and a time of today: made up, and found out by what was seen since.
    forged = Issued()
    forged.world.idle(later_ms=40 * 86_400_000)
    fake = served(forged.world, [LOG])
    assert fake.tree.size <= life.last_size
    receipt = life.receipt(fake, replace(life.pinned, genesis=forged.world.genesis))
    assert judged(receipt, life.pinned, forged.world.now) is VerdictCode.GENUINE, "nothing was seen yet"
    assert judged(receipt, renewed, forged.world.now) is VerdictCode.NOT_IN_LEDGER


def test_a_policy_holds_from_where_it_was_made() -> None:
    life = Life()
    early = life.receipt(life.static(life.early), life.pinned)
    life.world.change(LEDGER, changes.WitnessPolicyChanged(policy("w")))
    life.world.change(LEDGER, changes.WitnessPolicyChanged(policy("x")))
    life.world.idle()
    now_s = life.world.now // 1000
    with pytest.raises(PolicyUnmet):
        life.renew()
    static = life.static(w=now_s, x=now_s)
    found = renew(life.pinned, gather(static, life.pinned), now_ms=life.world.now)
    assert found.witnessed_s == now_s
    trusted = found.ledger
    assert judged(early, trusted, life.world.now) is VerdictCode.GENUINE, "none was asked for then"
    first = life.receipt(life.static(len(life.world.blocks) - 2, w=now_s), trusted)
    assert judged(first, trusted, life.world.now) is VerdictCode.GENUINE
    asking = replace(trusted, own_policy=policy("own"))
    assert judged(early, asking, life.world.now) is VerdictCode.CANNOT_TELL
    later = life.receipt(life.static(w=now_s), trusted)
    assert judged(later, trusted, life.world.now) is VerdictCode.CANNOT_TELL, "it is the first one's witness"


def test_ones_own_policy_is_asked_of_the_renewal_and_stays(life: Life) -> None:
    asking = replace(life.pinned, own_policy=policy("own"))
    with pytest.raises(PolicyUnmet):
        renew(asking, gather(life.static(), asking), now_ms=life.world.now)
    static = life.static(own=life.world.now // 1000)
    assert renew(asking, gather(static, asking), now_ms=life.world.now).ledger.own_policy == policy("own")


def test_a_closed_ledger_and_its_end() -> None:
    life = Life()
    now = life.world.now
    following = changes.LedgerClosed(commitment("next"), "next.example")
    life.world.change(LEDGER, following)
    closed = life.renew()
    assert closed.closed is not None
    assert (closed.closed.genesis, closed.end) == (following.genesis, None)
    end = life.world.state.size + 2
    life.world.change(LEDGER, changes.LogKeyEnded(log_key("log 2"), end))
    trusted = life.renew(closed)
    assert trusted.end == end
    assert trusted.is_final(end)
    decades = now + 30 * 365 * 86_400_000
    last = life.receipt(life.static(), trusted)
    assert judged(last, trusted, decades, age_s=3600) is VerdictCode.GENUINE, "nothing newer can come"
    earlier = life.receipt(life.static(len(life.world.blocks) - 1), trusted)
    assert judged(earlier, trusted, decades) is VerdictCode.GENUINE
    assert judged(earlier, trusted, decades, age_s=3600) is VerdictCode.CANNOT_TELL
    late = renew(life.pinned, gather(life.static(), life.pinned), now_ms=decades, greatest_age_s=60)
    assert late.ledger == trusted, "an ended ledger can be renewed by its last head at any time"


# --- what it refuses ---------------------------------------------------------------------------


def refused(life: Life, renewal: Renewal, trusted: TrustedLedger | None = None) -> SudurError:
    with pytest.raises(SudurError) as error:
        renew(trusted or life.pinned, renewal, now_ms=life.world.now)
    return error.value


def test_a_chain_that_is_cut_short_or_mixed_up(life: Life) -> None:
    whole = gather(life.static(), life.pinned)
    first, second, third = whole.chain
    assert isinstance(refused(life, replace(whole, chain=(first,))), CheckpointUntrusted)
    early = gather(life.static(life.early + 1), life.pinned)
    mixed = replace(early, chain=whole.chain)
    assert isinstance(refused(life, mixed), ProofInvalid | CheckpointUntrusted)
    assert isinstance(refused(life, replace(whole, chain=early.chain)), ProofInvalid)
    assert isinstance(refused(life, replace(whole, chain=(first, third))), RegistryConflict)
    assert isinstance(refused(life, replace(whole, chain=(first, third, second))), SudurError)
    moved = replace(second, index=second.index + 1)
    assert isinstance(refused(life, replace(whole, chain=(first, moved, third))), RegistryConflict)
    late = replace(third, index=third.index + 1)
    assert isinstance(refused(life, replace(whole, chain=(first, second, late))), ProofInvalid)
    repeated = replace(whole, chain=(first, first))
    assert isinstance(refused(life, repeated), ProofInvalid)


def test_a_change_that_too_few_signed(life: Life) -> None:
    whole = gather(life.static(), life.pinned)
    made = Change(LEDGER, whole.chain[-1].index, changes.LogKeyAdded(log_key("thief")))
    leaf = sign_change(life.world.genesis, made, {(0, 1): life.world.keys[0][1]})
    chain = (*whole.chain, ChainedChange(whole.chain[-1].index + 1, leaf))
    with pytest.raises(TooFewSignatures):
        follow(life.world.genesis, chain)


def test_changes_of_agencies_are_no_part_of_the_chain(life: Life) -> None:
    whole = gather(life.static(), life.pinned)
    other = next(leaf for block in life.world.blocks[1:] for leaf in block if leaf[1] == 0x10)
    assert b'"ledger"' not in other
    chain = (whole.chain[0], ChainedChange(2, other))
    assert "no later change" in str(refused(life, replace(whole, chain=chain)))


def test_another_ledger(life: Life) -> None:
    whole = gather(life.static(), life.pinned)
    other = replace(life.pinned, genesis=bytes(32))
    assert isinstance(refused(life, whole, other), WrongLedger)


def test_nothing_is_taken_back(life: Life) -> None:
    """An older state of the log, or another one, after a newer was seen."""
    renewed = life.renew()
    older = gather(life.static(life.early + 1), life.pinned)
    assert "not a continuation" in str(refused(life, older, renewed))
    shorter = gather(life.static(len(life.world.blocks) - 1), life.pinned)
    assert "were seen before" in str(refused(life, shorter, renewed))


def test_a_fork_is_seen_by_whoever_renews_twice() -> None:
    life = Life()
    renewed = life.renew()
    life.world.idle()
    on = gather(life.static(), renewed)
    assert on.since is not None
    assert renew(renewed, on, now_ms=life.world.now).ledger.head != renewed.head
    assert "does not show" in str(refused(life, replace(on, since=None), renewed))
    forked = Life(later_ms=999)
    forked.world.idle()
    assert forked.world.genesis == life.world.genesis
    other = served(forked.world, BOTH)
    assert isinstance(refused(life, gather(other, renewed), renewed), ProofInvalid)


def test_an_old_checkpoint_is_too_old_if_one_says_so(life: Life) -> None:
    whole = gather(life.static(), life.pinned)
    late = life.world.now + 100_000
    assert renew(life.pinned, whole, now_ms=late, greatest_age_s=100).witnessed_s is None
    with pytest.raises(PolicyUnmet, match="old"):
        renew(life.pinned, whole, now_ms=late, greatest_age_s=99)


def test_a_file_that_was_edited_by_hand_is_no_continuation(life: Life) -> None:
    renewed = life.renew()
    longer = replace(renewed, log_keys=(replace(renewed.log_keys[0], last_size=9), renewed.log_keys[1]))
    assert "not a continuation" in str(refused(life, gather(life.static(), life.pinned), longer))


class Thief:
    """Holds the authority's keys that were retired, and none of the log's: what it would have one believe."""

    def __init__(self) -> None:
        issued = Issued()
        world = issued.world
        self.old = {(0, n): world.keys[0][n] for n in (1, 2)}
        fresh = {n: signer(f"new root {n}") for n in (4, 5)}
        both = {1: world.keys[0][1], 2: world.keys[0][2], **fresh}
        leaf = world.change_leaf(LEDGER, changes.AuthorityReplaced(authority_set(2, fresh)), keys=both)
        draft = world.begin()
        draft.add_change(leaf)
        world.seal(draft)
        self.world, self.now = world, world.now + 10_000
        self.static = served(world, [LOG])
        self.honest = gather(self.static, issued.trusted())
        self.seen = renew(issued.trusted(), self.honest, now_ms=self.now).ledger

    def renewal(self, *before: ChainedChange) -> Renewal:
        """A key of its own, put in behind ``before``, under a tree that goes on from the one seen."""
        leaves = list(self.static.leaves)
        made = Change(LEDGER, before[-1].index, changes.LogKeyAdded(log_key("thief")))
        forged = ChainedChange(len(leaves), sign_change(self.world.genesis, made, self.old))
        chain = (*before, forged)
        record = replace(follow(self.world.genesis, chain).ledger, agencies=1, types=1)
        records = [record.encode(), b"agency", b"type"]
        root = merkle_root(leaf_hashes(records))
        seal = replace(Seal.decode(self.honest.seal.leaf), registry_root=root, time_ms=self.now - 1000)
        leaves += [forged.leaf, seal.encode()]
        tree, size, seen = NaiveTree(leaf_hashes(leaves)), len(leaves), len(self.static.leaves)
        listed = NaiveTree(leaf_hashes(records)).inclusion(0, len(records))
        note = sign_checkpoint(Checkpoint(self.world.origin, size, tree.root(size)), [signer("thief")])
        known = [one for one in before if one.index < seen]
        return Renewal(
            chain,
            note,
            ProvenLeaf(size - 1, leaves[-1], tuple(tree.inclusion(size - 1, size))),
            ProvenRecord(records[0], tuple(listed)),
            Since(
                seen,
                tuple(tree.consistency(seen, size)),
                tuple(tuple(tree.inclusion(one.index, size)) for one in known),
            ),
        )


def test_retired_keys_of_the_authority_lead_nowhere() -> None:
    """They can still sign a chain from before their end; the head that was seen has another."""
    thief = Thief()
    genesis, rotated = thief.honest.chain
    with pytest.raises(ProofInvalid, match="not those that the trust file rests on"):
        renew(thief.seen, thief.renewal(genesis), now_ms=thief.now)
    other = sign_change(
        thief.world.genesis, Change(LEDGER, 0, changes.LogKeyAdded(log_key("another"))), thief.old
    )
    with pytest.raises(ProofInvalid, match="does not lead to the root"):
        renew(thief.seen, thief.renewal(genesis, replace(rotated, leaf=other)), now_ms=thief.now)


# --- carried -----------------------------------------------------------------------------------


def test_it_can_be_carried(life: Life) -> None:
    seen = life.renew(blocks=life.early)
    made = gather(life.static(), seen)
    assert made.since is not None
    data = made.encode()
    assert parse_renewal(data) == parse_renewal(data + b"\n") == made
    assert renew(seen, parse_renewal(data), now_ms=life.world.now).ledger == life.renew()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"trust-renewal/v1", b"trust-renewal/v2"),
        (b'"since":null', b'"since":{"path":[]}'),
        (b'"since":null', b'"since":null,"too":1'),
        (b'"chain":[', b'"chain":[1,'),
        (b'"index":"0"', b'"index":0'),
    ],
)
def test_a_damaged_file_is_refused(life: Life, old: bytes, new: bytes) -> None:
    data = gather(life.static(), life.pinned).encode()
    assert old in data
    with pytest.raises(TrustFormatError):
        parse_renewal(data.replace(old, new, 1))


def test_no_flipped_bit_goes_through(life: Life) -> None:
    """Each is refused, or renews to the very same."""
    seen = life.renew(blocks=life.early)
    data = bytearray(gather(life.static(), seen).encode())
    want = life.renew()
    for at in range(0, len(data), 53):
        data[at] ^= 1
        try:
            found = renew(seen, parse_renewal(bytes(data)), now_ms=life.world.now).ledger
        except SudurError:
            pass
        else:
            assert found == want
        data[at] ^= 1


@given(noise=st.binary(max_size=200))
def test_any_bytes_raise_only_our_error(noise: bytes) -> None:
    with pytest.raises(TrustFormatError):
        parse_renewal(noise)


def test_a_server_that_leads_nowhere(life: Life) -> None:
    static = life.static()
    static.files["checkpoint"] = sign_checkpoint(Checkpoint(life.world.origin, 1, bytes(32)), [NEXT])
    with pytest.raises(ProofInvalid):
        gather(static, life.pinned)
    broken = life.static()
    broken.files[entries_path(0, broken.tree.size)] = b"\x00\x01\x00"
    with pytest.raises(ProofInvalid):
        gather(broken, life.pinned)


def test_since_is_of_the_head_that_was_seen(life: Life) -> None:
    seen = life.renew(blocks=life.early)
    made = gather(life.static(), seen)
    assert made.since is not None
    assert "does not show" in str(refused(life, replace(made, since=replace(made.since, size=2)), seen))
