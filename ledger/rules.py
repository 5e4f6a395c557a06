"""The one way to decide what is valid, dispatched by rules version.

The sequencer builds with :func:`begin`, every replica accepts and every auditor checks with
:func:`apply`; both run the same draft, so a block that was built is a block that is accepted.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Final

from ledger import rules_v1
from ledger.errors import BlockRefused, FormatError, RuleError, RulesVersionUnknown, VerificationError
from ledger.leaves import LeafType, leaf_type
from ledger.registry_changes import found
from ledger.rules_v1 import Draft
from ledger.seals import Seal
from ledger.state import Reader, State, Transition
from ledger.submissions import Hashed, SubmissionLeaf, gather_submission

_VERSIONS: Final[dict[int, ModuleType]] = {1: rules_v1}
SUPPORTED: Final = frozenset(_VERSIONS)
_REFUSALS: Final = (FormatError, VerificationError, RuleError)


def begin(state: State, reader: Reader, time_ms: int) -> Draft:
    """A draft of the block after ``state``, sealed at ``time_ms``.

    Raises RulesVersionUnknown, and BlockRefused for a time that is not later than the last seal's.
    """
    version = _VERSIONS.get(state.rules)
    if version is None:
        raise RulesVersionUnknown(
            f"block {state.block + 1} is under rules version {state.rules}",
            fix=f"upgrade: this software has versions {sorted(SUPPORTED)}",
        )
    draft: Draft = version.Draft(state, reader, time_ms)
    return draft


def genesis(leaf: bytes) -> Transition:
    """Block 0: the genesis change and its seal, which bears the change's own time.

    Raises RuleError, FormatError, SignatureInvalid.
    """
    return rules_v1.seal_genesis(found(leaf), leaf)


def apply(
    state: State | None, reader: Reader, leaves: Sequence[bytes], hashed: Hashed | None = None
) -> Transition:
    """Check one whole block on top of ``state`` (None: an empty ledger) and return what it changes.

    About 2 µs a leaf in bulk, and half of that with ``hashed``, when the caller has hashed the leaves: that
    is taken as it is. Raises BlockRefused, naming the leaf and the rule, for anything
    that the rules would not have built. The reader's own errors pass through: a disk that cannot
    be read says nothing about the block.
    """
    start = 0 if state is None else state.size
    if not leaves:
        raise BlockRefused("a block without leaves")
    try:
        seal = Seal.decode(leaves[-1])
    except FormatError as error:
        raise BlockRefused(str(error), where=f"leaf {start + len(leaves) - 1}") from error
    if state is None:
        transition = _apply_genesis(leaves)
    else:
        transition = _replay(begin(state, reader, seal.time_ms), leaves, hashed, start)
    if transition.leaves[-1] != leaves[-1]:
        raise BlockRefused(
            f"the seal does not say what the block amounts to: {_difference(seal, transition)}",
            where=f"leaf {start + len(leaves) - 1}",
        )
    return transition


def _apply_genesis(leaves: Sequence[bytes]) -> Transition:
    if len(leaves) != 2:
        raise BlockRefused("block 0 is the genesis and its seal", where="leaf 0")
    try:
        return genesis(leaves[0])
    except _REFUSALS as error:
        raise BlockRefused(str(error), where="leaf 0") from error


def _replay(draft: Draft, leaves: Sequence[bytes], hashed: Hashed | None, start: int) -> Transition:
    at, last = 0, len(leaves) - 1
    while at < last:
        try:
            kind = leaf_type(leaves[at])
            if kind is LeafType.SUBMISSION:
                count = SubmissionLeaf.decode(leaves[at]).count
                after = min(at + 1 + count, last)
                hashes = None if hashed is None else hashed.hashes[at + 1 : after]
                root = None if hashed is None else hashed.roots.get(start + at)
                records = leaves[at + 1 : after]
                draft.add_submission(gather_submission(leaves[at], records, hashes, root))
            elif kind is LeafType.REGISTRY:
                after = at + 1
                draft.add_change(leaves[at])
            else:
                raise BlockRefused(f"a {kind.name} leaf cannot stand here")
        except _REFUSALS as error:
            raise BlockRefused(f"{error.code}: {error}", where=f"leaf {start + at}") from error
        at = after
    try:
        return draft.seal()
    except _REFUSALS as error:
        raise BlockRefused(f"{error.code}: {error}", where=f"leaf {start + last}") from error


def _difference(seal: Seal, transition: Transition) -> str:
    ours = Seal.decode(transition.leaves[-1])
    names = [name for name in Seal.__slots__ if getattr(seal, name) != getattr(ours, name)]
    return ", ".join(names) if names else "its bytes"
