"""Proposals: gathered in any order, and nothing that was altered, doubled or of elsewhere gets in."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.canonical_json import encode
from ledger.changes import (
    LEDGER,
    AgencyRenamed,
    AuthorityKey,
    AuthorityReplaced,
    AuthoritySet,
    Change,
    Subject,
    WitnessPolicyChanged,
)
from ledger.errors import FormatError, SignatureInvalid
from ledger.leaves import NONE
from ledger.registry_leaf import RegistryLeaf
from tests.ledger.world import signer
from tools.errors import NameTaken, ProposalProblem, SignaturesMissing
from tools.registry.proposals import Proposal, load_proposal, replace_proposal, save_new_proposal
from tools.signing import NumberedSigner

GENESIS = bytes(range(32))
KEYS = {number: signer(f"authority {number}") for number in range(1, 4)}
SIGNERS = [NumberedSigner(number, key) for number, key in KEYS.items()]
PUBLIC = tuple(AuthorityKey(number, key.algorithm, key.public_key) for number, key in KEYS.items())
RENAMED = Change(Subject("agency", 7), 40, AgencyRenamed({"en": "Registry", "ar": "السجل"})).to_json()
PROPOSAL = Proposal(GENESIS, 0, 2, PUBLIC, RENAMED)


def decoded(value: object) -> Proposal:
    return Proposal.decode(encode(value) + b"\n")


def test_signatures_come_in_any_order() -> None:
    leaves = set()
    for order in permutations(SIGNERS):
        proposal = PROPOSAL
        for position, one in enumerate(order):
            assert proposal.is_complete is (position >= 2)
            proposal = Proposal.decode(proposal.signed_by([one]).encode())
        leaves.add(proposal.leaf())
    (leaf,) = leaves
    assert RegistryLeaf.decode(leaf).json == RENAMED


def test_copies_that_were_signed_apart_are_merged() -> None:
    one, two = (PROPOSAL.signed_by([signer]) for signer in SIGNERS[:2])
    assert one.merged(two) == two.merged(one) == PROPOSAL.signed_by(SIGNERS[:2])
    assert one.merged(one) == one


@pytest.mark.parametrize(
    "other",
    [
        replace(PROPOSAL, genesis=bytes(32)),
        replace(PROPOSAL, json=Change(Subject("agency", 8), 40, AgencyRenamed({"en": "Registry"})).to_json()),
        replace(PROPOSAL, needed=1),
        replace(PROPOSAL, by=3),
    ],
)
def test_what_proposes_something_else_is_not_merged(other: Proposal) -> None:
    with pytest.raises(ProposalProblem, match="do not propose the same"):
        PROPOSAL.merged(other)


def test_one_too_few_is_said_with_the_keys_that_may() -> None:
    with pytest.raises(
        SignaturesMissing, match="2 keys of the authority must sign, 1 did: 1 missing, of keys 1, 3"
    ):
        PROPOSAL.signed_by(SIGNERS[1:2]).leaf()


def test_a_key_signs_once() -> None:
    with pytest.raises(ProposalProblem, match="key 1 has signed"):
        PROPOSAL.signed_by([SIGNERS[0], SIGNERS[0]])


def test_each_key_of_a_new_authority_must_sign() -> None:
    new = signer("authority 4")
    body = AuthorityReplaced(AuthoritySet(2, (*PUBLIC[:2], AuthorityKey(4, new.algorithm, new.public_key))))
    proposal = replace(PROPOSAL, json=Change(LEDGER, 0, body).to_json())
    signed = proposal.signed_by([SIGNERS[0], SIGNERS[2]])
    assert signed.missing() == (0, (2, 4))
    with pytest.raises(SignaturesMissing, match="each key of the new authority must sign: keys 2, 4 missing"):
        signed.leaf()
    whole = Proposal.decode(signed.signed_by([SIGNERS[1], NumberedSigner(4, new)]).encode())
    assert len(RegistryLeaf.decode(whole.leaf()).signatures) == 4


@pytest.mark.parametrize(
    ("desc", "member", "value", "error"),
    [
        ("altered change", "change", RENAMED.decode().replace("Registry", "Registrx"), SignatureInvalid),
        ("another ledger", "genesis", "A" * 43 + "=", SignatureInvalid),
        ("no change", "change", "{}", FormatError),
        ("a change that is not canonical", "change", RENAMED.decode() + " ", FormatError),
        (
            "a name that steers the direction",
            "change",
            RENAMED.decode().replace("Reg", "Re\u202eg"),
            FormatError,
        ),
        ("another format", "format", "sudur-proposal/v2", FormatError),
        ("nobody needed", "needed", 0, FormatError),
        ("more than there are", "signatures", [{}] * 33, FormatError),
        ("keys twice", "keys", [PUBLIC[0].to_json()] * 2, FormatError),
        ("none of the keys that signed", "keys", [PUBLIC[2].to_json()], SignatureInvalid),
        (
            "another public key",
            "keys",
            [{**PUBLIC[2].to_json(), "number": 1}, PUBLIC[1].to_json()],
            SignatureInvalid,
        ),
        ("an extra", "colour", "red", FormatError),
    ],
)
def test_an_altered_file_is_refused(
    tmp_path: Path, desc: str, member: str, value: object, error: type[Exception]
) -> None:
    whole = json.loads(PROPOSAL.signed_by(SIGNERS[:2]).encode())
    whole[member] = value
    with pytest.raises(error):
        decoded(whole)
    (tmp_path / "p").write_bytes(encode(whole) + b"\n")
    with pytest.raises(ProposalProblem, match="is no undamaged proposal"):
        load_proposal(tmp_path / "p")


def test_a_signature_twice_is_refused() -> None:
    whole = json.loads(PROPOSAL.signed_by(SIGNERS[:1]).encode())
    whole["signatures"] *= 2
    with pytest.raises(FormatError, match="none twice"):
        decoded(whole)


def test_a_signature_that_is_moved_to_another_key_is_refused() -> None:
    whole = json.loads(PROPOSAL.signed_by(SIGNERS[:1]).encode())
    whole["signatures"][0]["number"] = 2
    with pytest.raises(SignatureInvalid, match="key 2 is not of this change"):
        decoded(whole)


@given(at=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_a_flipped_byte_never_passes_for_another_proposal(at: int, byte: int) -> None:
    signed = PROPOSAL.signed_by(SIGNERS[:2])
    data = bytearray(signed.encode())
    data[at % len(data)] = byte
    try:
        found = Proposal.decode(bytes(data))
    except (FormatError, SignatureInvalid):
        return
    # What is not signed over is a hint: who signs, how many are needed, by which other keys.
    assert (found.json, found.genesis) == (signed.json, signed.genesis)
    assert [one.signature for one in found.signatures] == [one.signature for one in signed.signatures]


def test_a_file_is_never_written_over_by_a_new_proposal(tmp_path: Path) -> None:
    path = tmp_path / "p"
    save_new_proposal(path, PROPOSAL)
    with pytest.raises(NameTaken):
        save_new_proposal(path, PROPOSAL)
    replace_proposal(path, PROPOSAL.signed_by(SIGNERS[:1]))
    assert load_proposal(path) == PROPOSAL.signed_by(SIGNERS[:1])


def test_a_first_change_of_the_ledger_reads_back() -> None:
    proposal = replace(PROPOSAL, json=Change(LEDGER, NONE, WitnessPolicyChanged("")).to_json())
    assert Proposal.decode(proposal.encode()) == proposal
