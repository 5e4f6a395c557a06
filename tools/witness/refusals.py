"""Why a witness does not cosign. Each refusal is one status code of C2SP tlog-witness, or 503."""

from __future__ import annotations

from typing import ClassVar

from tools.errors import ToolError


class Refusal(ToolError):
    """No cosignature. ``status``: the HTTP status that says so."""

    code = "WITNESS"
    status: ClassVar[int]


class Malformed(Refusal):
    """The request cannot be read, or its old size is above that of the checkpoint."""

    code = "MALFORMED"
    status = 400


class BodyTooLong(Malformed):
    """The request's body is too long, or does not come: the connection is of no more use."""


class Untrusted(Refusal):
    """No trusted key of the log signed it, or a line of one of them does not verify."""

    code = "UNTRUSTED"
    status = 403


class UnknownLog(Refusal):
    code = "UNKNOWN_LOG"
    status = 404


class Stale(Refusal):
    """The old size is not the size cosigned last, which is ``known_size``."""

    code = "STALE"
    status = 409

    def __init__(self, known_size: int, old_size: int) -> None:
        super().__init__(f"size {known_size} was cosigned last, not {old_size}")
        self.known_size = known_size


class Inconsistent(Refusal):
    """What the log signed is not shown to extend what was cosigned before."""

    code = "INCONSISTENT"
    status = 422


class Forked(Inconsistent):
    """The log has signed another root for a size that was cosigned: it cannot deny that."""

    code = "FORKED"


class Caught(Inconsistent):
    """The log has signed what breaks its own rules. Nothing of it is cosigned any more."""

    code = "CAUGHT"


class NotNow(Refusal):
    """Nothing is wrong with the request; ``retry_s``: when to try again."""

    code = "NOT_NOW"
    status = 503

    def __init__(self, what: str, *, retry_s: int = 1, where: str = "", fix: str = "") -> None:
        super().__init__(what, where=where, fix=fix)
        self.retry_s = retry_s


class Busy(NotNow):
    """More requests wait than this witness lets wait."""

    code = "BUSY"


class StorageFailed(NotNow):
    """The state could not be written, so nothing may be cosigned."""

    code = "STORAGE"


class CatchingUp(NotNow):
    """The log is being audited up to what is asked for."""

    code = "CATCHING_UP"


class NotAudited(NotNow):
    """What is asked for could not be audited: nobody served it, or not what was signed."""

    code = "NOT_AUDITED"


class SealOld(NotNow):
    """A head that is new to this witness was sealed long ago: it may have been made to look so.

    It extends what was cosigned, all the same; the next block that is sealed is cosigned with it.
    """

    code = "SEAL_OLD"


class SealAhead(NotNow):
    """A head was sealed in this witness's future."""

    code = "SEAL_AHEAD"


class ClockWrong(NotNow):
    """A cosignature says when; this clock cannot."""

    code = "CLOCK"


class Stopped(NotNow):
    code = "STOPPING"


class StateLost(ToolError):
    """The state is not the newest that this key has cosigned by: another copy, or an old one."""

    code = "STATE_LOST"
