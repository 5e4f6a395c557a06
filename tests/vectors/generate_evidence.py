"""Writes tests/vectors/evidence/: one evidence file of each kind, which has to stay proof for ever.

``python -m tests.vectors.generate_evidence``. Only for a kind that has none yet: what was handed to a court
is not made anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ledger.evidence import Evidence
from ledger.evidence_making import prove_fork, prove_leaf, prove_unsealed
from tests.ledger.world import issue
from tests.operator.attacks import books, hidden_revocation, stale_status
from tests.operator.cheating import accusation
from tools.files import PUBLIC, write_file

DIRECTORY: Final = Path(__file__).parent / "evidence"


def fork() -> Evidence | None:
    one, other = books(), books()
    one.submit(1, [issue(1, "shown to some")])
    other.submit(1, [issue(1, "shown to others")])
    other.idle()
    genesis = prove_leaf(one.opened(), one.nodes(), 0, one.static.leaves[0])
    return prove_fork(one.opened(), other.opened(), other.nodes(), genesis)


def unsealed() -> Evidence:
    made = books()
    size = made.size - 1
    made.serve_size(size)
    last, genesis = made.static.leaves[size - 1], made.static.leaves[0]
    return prove_unsealed(made.opened(), last, made.nodes(size), genesis)


def hidden() -> Evidence | None:
    made = books()
    hidden_revocation(made)
    made.idle()
    return accusation(made.blocks, made)


def stale() -> Evidence | None:
    made = books()
    stale_status(made)
    return accusation(made.blocks, made)


def main() -> None:
    for made in (fork, unsealed, hidden, stale):
        path, evidence = DIRECTORY / f"{made.__name__}.evidence.json", made()
        assert evidence is not None
        if not path.exists():
            write_file(path, evidence.encode(), PUBLIC)


if __name__ == "__main__":
    main()
