"""What an audit can find out, by name, with all that a third person needs to be shown it.

Two kinds matter. :class:`LogLied`: the log's own signature stands under what cannot be, and whoever has
the error's parts can prove it. :class:`ServedWrong`: a server gave what no signature covers; another
server may still give what is right, and nothing is shown about the log itself.
"""

from __future__ import annotations

from ledger.checkpoints import SignedCheckpoint
from ledger.errors import BlockRefused
from ledger.evidence_making import Refused
from ledger.state import State
from ledger.tree import Tree
from tools.errors import CannotTell, ToolError, Unavailable, Usage


class AuditError(ToolError):
    """Something stands in the way of an audit, or was found by it."""

    code = "AUDIT"


class LogLied(AuditError):
    """The log has signed what cannot be. ``signed`` is the checkpoint that says so."""

    code = "LOG_LIED"

    def __init__(self, what: str, *, signed: SignedCheckpoint, where: str = "", fix: str = "") -> None:
        super().__init__(
            what, where=where, fix=fix or "keep the evidence, and hand it to the authority and to auditors"
        )
        self.signed = signed


class BlockBroken(LogLied):
    """A block under a signed checkpoint breaks the rules.

    ``leaves`` are the block's. ``tree`` is the one before it, and ``path`` the consistency proof that the
    tree with the block is the beginning of the tree of ``signed``: together they show that the log has signed
    these leaves, there. ``before`` is the state that they were judged on (None: an empty ledger), ``refused``
    the rule that they break, with the rule's own error as its cause; ``refusal`` holds what that rests on.
    """

    code = "BLOCK_BROKEN"

    def __init__(
        self,
        *,
        signed: SignedCheckpoint,
        leaves: tuple[bytes, ...],
        tree: Tree,
        path: tuple[bytes, ...],
        before: State | None,
        refused: BlockRefused,
        refusal: Refused,
    ) -> None:
        first = tree.size
        super().__init__(
            f"a block that the log has signed breaks the rules: {refused}",
            signed=signed,
            where=f"leaves {first} to {first + len(leaves) - 1}",
        )
        self.first = first
        self.leaves = leaves
        self.tree = tree
        self.path = path
        self.before = before
        self.refused = refused
        self.refusal = refusal


class EndsAmidBlock(LogLied):
    """A checkpoint was signed whose last leaf is no seal: nothing says what was revoked as of it.

    ``leaf`` stands at index size - 1, shown to be under ``signed``.
    """

    code = "ENDS_AMID_BLOCK"

    def __init__(self, *, signed: SignedCheckpoint, leaf: bytes) -> None:
        size = signed.checkpoint.size
        super().__init__(
            "the log has signed a checkpoint that ends amid a block", signed=signed, where=f"size {size}"
        )
        self.leaf = leaf


class HistoryForked(LogLied):
    """Two checkpoints were signed that cannot both be.

    ``earlier`` is of a size no greater than that of ``signed``. ``root`` is the root that the tree of
    ``signed`` has at the earlier size, ``path`` the consistency proof that shows it (empty for equal sizes,
    where the two roots themselves differ).
    """

    code = "HISTORY_FORKED"

    def __init__(
        self, *, signed: SignedCheckpoint, earlier: SignedCheckpoint, root: bytes, path: tuple[bytes, ...]
    ) -> None:
        super().__init__(
            f"the log has signed two histories: the checkpoint of {signed.checkpoint.size} leaves does not"
            f" extend the one of {earlier.checkpoint.size}",
            signed=signed,
            where=f"size {earlier.checkpoint.size}",
        )
        self.earlier = earlier
        self.root = root
        self.path = path


class ServedWrong(AuditError):
    """A server gave something that is not under the checkpoint that it gave; ``path`` names it."""

    code = "SERVED_WRONG"

    def __init__(self, what: str, *, path: str, fix: str = "") -> None:
        super().__init__(what, where=path, fix=fix or "ask another server; and tell the operator of this one")
        self.path = path


class NotServed(ServedWrong):
    """A server does not give what belongs under the checkpoint that it gave: nothing is shown of either."""

    code = "NOT_SERVED"


class Interrupted(Unavailable):
    """The audit was asked to stop; what it had finished is kept."""

    code = "INTERRUPTED"


class StateDamaged(CannotTell):
    """The auditor's own directory cannot be read, or does not fit together. It says nothing about the log."""

    code = "AUDIT_STATE_DAMAGED"

    def __init__(self, what: str, *, where: str) -> None:
        super().__init__(
            f"the state of this audit is damaged ({what})",
            where=where,
            fix="run it again with --rebuild: it begins anew and keeps the checkpoints it has seen",
        )


class StateOfAnother(Usage):
    """The directory holds the audit of another ledger."""

    code = "AUDIT_STATE_OF_ANOTHER"
