"""How an error of ours becomes a gRPC status: the table at the top of ledger.proto, in code.

An error's class decides by its ``code``; a class whose code is not in the table goes by that of its
nearest ancestor which is (a clock that is unsound answers READ_ONLY), and whatever else may be tried
again is READ_ONLY too. What the table does not know at all is a fault of the node: INTERNAL, with
nothing but a request id for the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from ledger.errors import DailyCapExceeded, FormatError, SudurError
from ledger.signing_policy import DAY_MS
from node.doors.forward import ForwardedRefusal
from node.doors.request_ids import HEADER
from node.errors import ReadOnly, RetryableError

DOMAIN: Final = "sudur"
MAX_MESSAGE: Final = 1_024
MAX_VALUE: Final = 256
"""A status travels in a header, and peers refuse long ones: texts are cut to so many characters."""

_TABLE: Final[dict[grpc.StatusCode, str]] = {
    grpc.StatusCode.INVALID_ARGUMENT: (
        "MALFORMED MALFORMED_LEAF MALFORMED_ENVELOPE REFERENCE_INVALID TOO_LARGE WRONG_COUNT"
        " WRONG_RECORDS_ROOT FOREIGN_RECORD"
    ),
    grpc.StatusCode.OUT_OF_RANGE: "OUT_OF_RANGE",
    grpc.StatusCode.NOT_FOUND: "NOT_FOUND UNKNOWN_AGENCY UNKNOWN_TYPE",
    grpc.StatusCode.UNAUTHENTICATED: "KEY_UNKNOWN SIGNATURE_INVALID",
    grpc.StatusCode.PERMISSION_DENIED: (
        "KEY_ENDED KEY_STOLEN KEY_USE TOO_FEW_SIGNATURES AGENCY_SUSPENDED TYPE_NOT_PERMITTED NOT_ENTITLED"
    ),
    grpc.StatusCode.FAILED_PRECONDITION: (
        "WRONG_LEDGER CLAIMED_TIME_OUTSIDE_WINDOW SUBJECT_INVALID STATUS_FINAL CHANGE_REFUSED LEDGER_CLOSED"
        " RULES_VERSION_UNKNOWN REFUSED_BY_PEER ENVELOPE_MISSING ENVELOPE_WRONG_RECIPIENT"
    ),
    grpc.StatusCode.ALREADY_EXISTS: "DUPLICATE_ISSUE DUPLICATE_ATTEST ALREADY_ANSWERED KEY_REUSED",
    grpc.StatusCode.ABORTED: "STATUS_STALE REGISTRY_CONFLICT",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "DAILY_CAP QUEUE_FULL RATE_LIMITED DISK_FULL ENVELOPE_QUOTA",
    grpc.StatusCode.UNAVAILABLE: (
        "READ_ONLY NO_LEADER NO_MAJORITY OUTCOME_UNKNOWN NOT_PUBLISHED MIRROR STOPPING"
    ),
}
REASONS: Final = {reason: code for code, reasons in _TABLE.items() for reason in reasons.split()}
"""Each reason of the contract and its gRPC code."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error as the contract tells it: the gRPC code, the stable reason, the rich status."""

    code: grpc.StatusCode
    reason: str
    status: status_pb2.Status

    def trailing_metadata(self, request_id: str) -> tuple[tuple[str, str | bytes], ...]:
        """The header in which gRPC carries rich details, and the request's id."""
        return (("grpc-status-details-bin", self.status.SerializeToString()), (HEADER, request_id))


def reason_of(error: SudurError) -> str | None:
    """The contract's reason for an error; None when it is not the caller's business."""
    for kind in type(error).__mro__:
        code = kind.__dict__.get("code")
        if code in REASONS:
            return str(code)
    return ReadOnly.code if isinstance(error, RetryableError) else None


def refuse(error: SudurError, *, now_ms: int, field: str = "") -> Refusal | None:
    """The refusal for any error of ours; None when it has to be reported as a fault of the node.

    ``field`` is the request field that could not be read, for a FormatError that does not name one
    itself. ``now_ms`` tells when a daily cap ends.
    """
    if isinstance(error, ForwardedRefusal):
        return _forwarded(error.status)
    reason = reason_of(error)
    if reason is None:
        return None
    facts = {"where": error.where, "fix": error.fix, **error.details()}
    details: list[Message] = [
        error_details_pb2.ErrorInfo(
            reason=reason,
            domain=DOMAIN,
            metadata={name: _cut(value, MAX_VALUE) for name, value in facts.items() if value},
        )
    ]
    if isinstance(error, FormatError):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=_cut(field or error.where, MAX_VALUE), description=_cut(error.what, MAX_VALUE)
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    retry_ms = _retry_ms(error, now_ms)
    if retry_ms is not None:
        seconds, rest = divmod(retry_ms, 1_000)
        delay = duration_pb2.Duration(seconds=seconds, nanos=rest * 1_000_000)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    code = REASONS[reason]
    return Refusal(code, reason, _status(code, _cut(str(error), MAX_MESSAGE), details))


def _forwarded(status: status_pb2.Status) -> Refusal:
    """What another node said, as it said it."""
    code = next((one for one in grpc.StatusCode if one.value[0] == status.code), grpc.StatusCode.UNKNOWN)
    info = error_details_pb2.ErrorInfo()
    found = any(detail.Unpack(info) for detail in status.details)
    return Refusal(code, info.reason if found else code.name, status)


def fault(request_id: str) -> Refusal:
    """The answer to a call that failed for no reason of the caller's. It tells nothing of the cause."""
    code = grpc.StatusCode.INTERNAL
    details = [error_details_pb2.RequestInfo(request_id=request_id)]
    message = f"the node failed; its log tells why under request {request_id}"
    return Refusal(code, "INTERNAL", _status(code, message, details))


def _retry_ms(error: SudurError, now_ms: int) -> int | None:
    if isinstance(error, RetryableError):
        return error.retry_ms
    if isinstance(error, DailyCapExceeded):
        return DAY_MS - now_ms % DAY_MS
    return None


def _status(code: grpc.StatusCode, message: str, details: Sequence[Message]) -> status_pb2.Status:
    packed = []
    for detail in details:
        one = any_pb2.Any()
        one.Pack(detail)
        packed.append(one)
    return status_pb2.Status(code=code.value[0], message=message, details=packed)


def _cut(text: str, most: int) -> str:
    """One line of Unicode text, short enough; lone surrogates, which no wire carries, are replaced."""
    line = " ".join(text.split()).encode(errors="replace").decode()
    return line if len(line) <= most else line[: most - 1] + "…"
