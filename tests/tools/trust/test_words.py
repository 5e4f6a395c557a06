"""What a person is asked about before a renewal: whatever is let through more than before."""

from __future__ import annotations

from dataclasses import replace

from ledger.notes import SignatureType, VerifierKey
from ledger.registry_records import History
from ledger.signatures import MlDsa44Signer
from ledger.trust import Trust, TrustedKey, TrustedLedger
from ledger.trust_renewal import gather, renew
from tests.ledger.issued import Issued
from tests.ledger.world import ORIGIN, signer
from tools.trust.renewing import Outcome
from tools.trust.words import why_weaker

WITNESS = VerifierKey("w.example", SignatureType.ED25519_COSIGNATURE, signer("w").public_key)
POLICY = f"witness w {WITNESS.format()}\nquorum w\n"
LATTICE = VerifierKey(ORIGIN, SignatureType.ML_DSA_44, MlDsa44Signer(bytes(32)).public_key)


def asked(before: TrustedLedger, after: TrustedLedger) -> list[str]:
    issued = Issued()
    found = renew(issued.trusted(), gather(issued.static(), issued.trusted()), now_ms=issued.world.now)
    one = replace(found, before=before, ledger=after)
    return why_weaker(Outcome(Trust((after,)), (one,), (), ()))


def test_a_gap_between_two_policies_is_asked_about() -> None:
    known = replace(Issued().trusted(), witness_policy=History(((0, POLICY),)))
    again = replace(known, witness_policy=History(((0, POLICY), (7, ""), (9, POLICY))))
    (line,) = asked(known, again)
    assert "no witness is asked" in line
    assert asked(known, known) == []


def test_an_ml_dsa_44_key_that_goes_is_asked_about() -> None:
    plain = Issued().trusted()
    both = replace(plain, log_keys=(*plain.log_keys, TrustedKey(LATTICE)))
    ended = replace(plain, log_keys=(*plain.log_keys, TrustedKey(LATTICE, 9)))
    (line,) = asked(both, ended)
    assert "ML-DSA-44" in line
    assert asked(plain, both) == asked(both, both) == []
