"""What a member of a cluster tells of itself while it works; cluster_metrics.py counts it."""

from __future__ import annotations


class Observer:
    """Is told from any thread, often on the way of a commit: takes microseconds, raises nothing.

    This one does nothing with it. Codes are gRPC's names, ``OK`` when all went well.
    """

    def step(self, name: str, seconds: float) -> None:
        """A step of a commit (node/commit.py) took so long."""

    def decided(self, block: int) -> None:
        """etcd was seen to hold this block as the newest."""

    def term_begun(self) -> None:
        """This member leads."""

    def term_ended(self, why: str) -> None:
        """It does not any more."""

    def peer_called(self, member: str, code: str, seconds: float) -> None:
        """A call to another member has ended."""

    def confirm_repeated(self) -> None:
        """Members are asked again whether they have applied a block, since too few had."""

    def caught_up(self, entries: int) -> None:
        """So many more entries that were missing are applied here."""

    def catch_up_ended(self, code: str) -> None:
        """A run of blocks from another member has ended: ``OK``, or the code of what ended it."""

    def etcd_called(self, kind: str, code: str, seconds: float) -> None:
        """One try of a call to etcd has ended."""

    def etcd_retried(self, kind: str) -> None:
        """A call to etcd is sent again, the same or to another endpoint."""


UNOBSERVED = Observer()
