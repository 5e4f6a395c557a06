"""What each algorithm costs: ``python -m benchmarks.signing``. A few seconds.

Signing and verifying a SUBMISSION's message, a checkpoint with one log key and with both, and the bytes of
a document that is issued alone. The baseline is Ed25519 in the same run.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.report import Row, best, markdown
from ledger.checkpoints import Checkpoint, log_key, open_checkpoint, sign_checkpoint
from ledger.signatures import SIGNATURE_SIZES, Algorithm, signer_of, verify
from ledger.submissions import KeySignature, SubmissionLeaf

ROUNDS = 20
MESSAGE = bytes(134)
"""As long as what a key signs of a SUBMISSION."""
ORIGIN = "ledger.example/benchmark"


def run() -> list[Row]:
    """Measure everything; the rows in the order of the table."""
    rows = _signatures() + _checkpoints()
    alone, both = (_leaf_size(one) for one in (Algorithm.ED25519, Algorithm.ED25519_ML_DSA_44))
    what = "SUBMISSION with one signature of both algorithms"
    return [*rows, Row(what, both, "bytes", f"with Ed25519 {alone} bytes", both / alone)]


def _signatures() -> list[Row]:
    rows: list[Row] = []
    baseline: dict[str, float] = {}
    for algorithm in (Algorithm.ED25519, Algorithm.ML_DSA_44, Algorithm.ED25519_ML_DSA_44):
        signer = signer_of(algorithm, bytes(32))
        signature = signer.sign(MESSAGE)
        signing = _each(partial(signer.sign, MESSAGE))
        verifying = _each(partial(verify, algorithm, signer.public_key, MESSAGE, signature))
        for what, seconds in (("sign", signing), ("verify", verifying)):
            rows.append(_row(f"{algorithm.label}: {what}", seconds, baseline.setdefault(what, seconds)))
    return rows


def _checkpoints() -> list[Row]:
    checkpoint = Checkpoint(ORIGIN, 17_000_000, bytes(32))
    both = [signer_of(one, bytes(32)) for one in (Algorithm.ED25519, Algorithm.ML_DSA_44)]
    signing, opening = [], []
    for signers in (both[:1], both):
        keys = [log_key(ORIGIN, one.public_key, one.algorithm) for one in signers]
        signing.append(_each(partial(sign_checkpoint, checkpoint, signers)))
        opening.append(_each(partial(open_checkpoint, sign_checkpoint(checkpoint, signers), ORIGIN, keys)))
    return [
        _row("a checkpoint, both log keys: sign", signing[1], signing[0]),
        _row("a checkpoint, both log keys: open", opening[1], opening[0]),
    ]


def _leaf_size(algorithm: Algorithm) -> int:
    signature = KeySignature(1, algorithm, bytes(SIGNATURE_SIZES[algorithm]))
    return len(SubmissionLeaf(1, 1, bytes(32), 0, (signature,)).encode())


def _each(does: Callable[[], object], times: int = 50) -> float:
    """Seconds for one, the best of several rounds of many: ML-DSA-44 tries until a signature comes out."""

    def many() -> None:
        for _ in range(times):
            does()

    return best(many, ROUNDS) / times


def _row(name: str, seconds: float, baseline: float) -> Row:
    return Row(name, seconds * 1e6, "µs", f"with Ed25519 alone {baseline * 1e6:.0f} µs", seconds / baseline)


if __name__ == "__main__":
    print(markdown(run()))
