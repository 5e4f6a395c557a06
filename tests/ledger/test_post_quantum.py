"""Ledgers whose authority, agencies and log sign with ML-DSA-44: rules, replay, receipts, verdicts, sizes."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest

from ledger import changes
from ledger.changes import AUTHORITY, LEDGER, Change, Subject
from ledger.checkpoints import log_key
from ledger.cosignatures import witness_key
from ledger.errors import ChangeRefused, KeyReused, KeyUse, LeafFormatError, SignatureInvalid
from ledger.leaves import MAX_LEAF_SIZE, NONE
from ledger.notes import parse_note
from ledger.receipts import parse_receipt
from ledger.records import Status
from ledger.registry_changes import found
from ledger.registry_leaf import NO_GENESIS, RegistryLeaf, RegistrySignature
from ledger.signatures import SIGNATURE_SIZES, Algorithm, HybridSigner, MlDsa44Signer
from ledger.signing_policy import KindPolicy, SigningPolicy
from ledger.submissions import MAX_SIGNATURES, KeySignature, SubmissionLeaf, gather_submission
from ledger.trust import Trust, TrustedKey
from ledger.verdicts import VerdictCode
from ledger.verifier import verify_receipt
from ledger.witness_policy import parse_policy
from tests.ledger.issued import FILE, Issued
from tests.ledger.world import (
    ORIGIN,
    World,
    authority_set,
    issue,
    new_key,
    replay,
    sign_change,
    sign_submission,
    signer,
    signer_of_kind,
)

BOTH = Algorithm.ED25519_ML_DSA_44
LATTICE = MlDsa44Signer(bytes(32))
LATTICE_KEY = log_key(ORIGIN, LATTICE.public_key, Algorithm.ML_DSA_44)
FOUR_EYES = SigningPolicy({"issue.original": KindPolicy(((1, 2),))})


def world_of(kind: Algorithm) -> World:
    return World(kind=kind, log=(signer("log"), LATTICE))


@pytest.mark.parametrize("kind", [Algorithm.ML_DSA_44, BOTH])
def test_a_document_issued_verified_and_revoked(kind: Algorithm) -> None:
    issued = Issued(world=world_of(kind), policy=FOUR_EYES, signed_by=(1, 2))
    receipt = parse_receipt(issued.receipt().encode())
    assert len(parse_note(receipt.checkpoint).signatures) == 2
    now = issued.world.now
    verdict = verify_receipt(receipt, issued.trust(), now_ms=now, file_digests=[sha256(FILE).digest()])
    assert verdict.code is VerdictCode.GENUINE, verdict
    issued.set_status(Status.REVOKED)
    verdict = verify_receipt(issued.receipt(), issued.trust(), now_ms=issued.world.now)
    assert verdict.code is VerdictCode.REVOKED
    assert replay(issued.world.blocks).state == issued.world.state


def test_a_verifier_that_knows_only_ed25519_believes_the_same_log() -> None:
    issued = Issued(world=World(log=(signer("log"), LATTICE)))
    receipt = issued.receipt()
    trusted = issued.trusted()
    classical = replace(trusted, log_keys=trusted.log_keys[:1])
    for ledger in (trusted, classical):
        verdict = verify_receipt(receipt, Trust((ledger,)), now_ms=issued.world.now)
        assert verdict.code is VerdictCode.GENUINE


def test_an_ed25519_forger_is_found_out_by_whoever_knows_the_other_key() -> None:
    issued = Issued(world=World(log=(signer("log"), LATTICE)))
    receipt = issued.receipt()
    note = parse_note(receipt.checkpoint)
    stripped = replace(receipt, checkpoint=replace(note, signatures=note.signatures[:1]).encode())
    verdict = verify_receipt(stripped, issued.trust(), now_ms=issued.world.now)
    assert verdict.code is not VerdictCode.GENUINE
    assert "ML-DSA-44" in str(verdict.steps)


def test_a_receipt_from_before_the_log_had_the_key_stays_good() -> None:
    issued = Issued()
    early = issued.receipt()
    index = issued.world.change(LEDGER, changes.LogKeyAdded(LATTICE_KEY.format()))
    issued.world.log = (*issued.world.log, LATTICE)
    record = issued.world.state.registry.ledger
    trusted = issued.trusted().with_replayed(record)
    assert trusted.log_keys[1] == TrustedKey(LATTICE_KEY, None, index)
    early_verdict = verify_receipt(early, Trust((trusted,)), now_ms=issued.world.now)
    assert early_verdict.code is VerdictCode.GENUINE
    assert [key.type for key in record.log_keys_at(index)] == [1]
    assert [key.type for key in record.log_keys_at(index + 1)] == [1, 6]


@pytest.mark.parametrize("kind", [Algorithm.ML_DSA_44, BOTH])
def test_a_bad_signature_and_another_algorithm_are_refused(kind: Algorithm) -> None:
    world = World(kind=kind)
    agency = world.enrol()
    record = issue(agency, "one", 0)
    stranger = signer_of_kind("stranger", kind)
    with pytest.raises(SignatureInvalid):
        world.submit(agency, [record], keys={1: stranger})
    signed = sign_submission(world.genesis, agency, [record], world.now, world.keys[agency])
    leaf = SubmissionLeaf.decode(signed)
    (one,) = leaf.signatures
    cut = replace(leaf, signatures=(replace(one, signature=one.signature[:64]),))
    draft = world.begin()
    with pytest.raises(SignatureInvalid):
        draft.add_submission(gather_submission(cut.encode(), [record]))
    classical = replace(leaf, signatures=(KeySignature(1, 1, one.signature[:64]),))
    with pytest.raises(KeyUse):
        draft.add_submission(gather_submission(classical.encode(), [record]))
    world.submit(agency, [record])


def test_a_key_of_both_kinds_is_one_key_whole_or_in_halves() -> None:
    world = World()
    agency = world.enrol()
    subject = Subject("agency", agency)
    both = HybridSigner(bytes(32))
    world.change(subject, changes.KeysAdded((new_key(2, both),)))
    classical = changes.NewKey(3, 1, both.public_key[:32], "submit", "")
    lattice = changes.NewKey(3, 2, both.public_key[32:], "submit", "")
    other = HybridSigner(bytes([1]) * 32)
    mixed = changes.NewKey(3, 3, both.public_key[:32] + other.public_key[32:], "submit", "")
    for key in (classical, lattice, mixed):
        with pytest.raises(KeyReused):
            world.change(subject, changes.KeysAdded((key,)))
    world.change(subject, changes.KeysAdded((changes.NewKey(3, 2, other.public_key[32:], "submit", ""),)))
    with pytest.raises(KeyReused):
        world.change(subject, changes.KeysAdded((changes.NewKey(4, 3, other.public_key, "submit", ""),)))
    assert replay(world.blocks).state == world.state


# --- what fits ---------------------------------------------------------------------------------


def test_sixteen_officers_with_keys_of_both_kinds_fit_a_submission() -> None:
    size = SIGNATURE_SIZES[BOTH]
    signatures = tuple(KeySignature(n, 3, bytes(size)) for n in range(1, MAX_SIGNATURES + 1))
    leaf = SubmissionLeaf(1, 256, bytes(32), 0, signatures).encode()
    assert len(leaf) == 51 + 16 * (5 + size) == 39_875
    assert SubmissionLeaf.decode(leaf).signatures == signatures


def founded_with(n: int) -> bytes:
    keys = {i: signer_of_kind(f"authority {i}", BOTH) for i in range(1, n + 1)}
    log_keys = (log_key(ORIGIN, signer("log").public_key).format(), LATTICE_KEY.format())
    body = changes.Genesis(ORIGIN, bytes(32), True, 1, log_keys, authority_set(1, keys), "")
    signers = {(AUTHORITY, i): key for i, key in keys.items()}
    return sign_change(NO_GENESIS, Change(LEDGER, NONE, body), signers)


def test_fourteen_authority_keys_of_both_kinds_fit_a_genesis() -> None:
    assert len(founded_with(14)) < MAX_LEAF_SIZE
    assert found(founded_with(14)).ledger.k == 1
    with pytest.raises(LeafFormatError, match="name fewer keys at a time"):
        founded_with(15)


@pytest.mark.parametrize(("n", "k", "fits"), [(11, 6, True), (12, 7, False)])
def test_an_authority_of_eleven_is_replaced_at_once(n: int, k: int, fits: bool) -> None:
    keys = {i: signer_of_kind(f"authority {i}", BOTH) for i in range(n + 1, 2 * n + 1)}
    json = Change(LEDGER, 0, changes.AuthorityReplaced(authority_set(k, keys))).to_json()
    old = [RegistrySignature(0, i, 3, bytes(SIGNATURE_SIZES[BOTH])) for i in range(1, k + 1)]
    new = [RegistrySignature(0, i, 3, bytes(SIGNATURE_SIZES[BOTH])) for i in keys]
    leaf = RegistryLeaf(json, (*old, *new))
    if fits:
        assert RegistryLeaf.decode(leaf.encode()) == leaf
    else:
        with pytest.raises(LeafFormatError):
            leaf.encode()


# --- log keys and witnesses in the registry ----------------------------------------------------


def policy_of(*keys: str) -> str:
    lines = [f"witness w{at} {key} https://w{at}.example/\n" for at, key in enumerate(keys)]
    return "".join(lines) + f"group all all {' '.join(f'w{at}' for at in range(len(keys)))}\nquorum all\n"


def test_seventeen_witnesses_with_ml_dsa_44_fit_the_registry() -> None:
    publics = [MlDsa44Signer(bytes([at]) * 32).public_key for at in range(1, 18)]
    keys = [witness_key(f"w{at}.example", one, Algorithm.ML_DSA_44) for at, one in enumerate(publics)]
    policy = policy_of(*(key.format() for key in keys))
    world = World()
    world.change(LEDGER, changes.WitnessPolicyChanged(policy))
    assert len(parse_policy(world.state.registry.ledger.witness_policy.latest.encode()).witnesses) == 17


def test_a_log_has_ed25519_always_and_no_witness_of_its_own() -> None:
    lattice_only = changes.Genesis(
        ORIGIN, bytes(32), True, 1, (LATTICE_KEY.format(),), authority_set(1, {1: signer("a")}), ""
    )
    with pytest.raises(ChangeRefused, match="needs an Ed25519 log key"):
        found(sign_change(NO_GENESIS, Change(LEDGER, NONE, lattice_only), {(AUTHORITY, 1): signer("a")}))
    world = World(log=(signer("log"), LATTICE))
    with pytest.raises(KeyReused, match="the witness w0 has a key of the log"):
        world.change(LEDGER, changes.WitnessPolicyChanged(policy_of(LATTICE_KEY.format())))
    own = MlDsa44Signer(bytes(range(32)))
    witness = witness_key("w.example", own.public_key, Algorithm.ML_DSA_44)
    world.change(LEDGER, changes.WitnessPolicyChanged(policy_of(witness.format())))
    vkey = log_key(ORIGIN, own.public_key, Algorithm.ML_DSA_44).format()
    with pytest.raises(KeyReused, match="has a key of the log"):
        world.change(LEDGER, changes.LogKeyAdded(vkey))
    with pytest.raises(ChangeRefused, match="the last Ed25519 log key"):
        world.change(LEDGER, changes.LogKeyEnded(world.log_keys[0].format(), 1_000))
    ended = world.change(LEDGER, changes.LogKeyEnded(LATTICE_KEY.format(), 1_000))
    record = world.state.registry.ledger
    assert [len(record.log_keys_at(size)) for size in (1, ended, 1_000, 1_001)] == [2, 2, 2, 1]
