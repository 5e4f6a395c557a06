"""Errors as gRPC statuses: the table in the .proto is the table in the code."""

from __future__ import annotations

import re
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2

from ledger import errors
from ledger.errors import (
    BlockRefused,
    DailyCapExceeded,
    DuplicateIssue,
    LeafFormatError,
    NoteFormatError,
    SudurError,
    UnknownAgency,
)
from node.doors.grpc_errors import MAX_MESSAGE, MAX_VALUE, REASONS, fault, reason_of, refuse
from node.errors import ClockUnsound, DiskFull, QueueFull, StoreDamaged
from tests.node.served import Refused, taken_apart

PROTO = Path(__file__).resolve().parents[2] / "proto" / "sudur" / "v1" / "ledger.proto"


def told(error: SudurError, **more: object) -> Refused:
    refusal = refuse(error, now_ms=int(str(more.get("now_ms", 0))), field=str(more.get("field", "")))
    assert refusal is not None
    return taken_apart(refusal.status, refusal.code)


def test_the_table_is_the_one_in_the_contract() -> None:
    rows = re.findall(r"^//   ([A-Z_]+) +([A-Z_]+) +\S", PROTO.read_text(), re.MULTILINE)
    assert len(rows) > 30
    assert {reason: code.name for reason, code in REASONS.items()} == dict(rows)


def test_every_refusal_of_the_rules_is_the_callers_business() -> None:
    inside = {"REFUSED", "BLOCK_REFUSED", "SUBMISSION_REPEATED"}  # never reach a caller as errors
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = {kind.code for kind in kinds if issubclass(kind, errors.RuleError)}
    assert codes - inside <= set(REASONS)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NoteFormatError("x"), "MALFORMED"),
        (LeafFormatError("x"), "MALFORMED_LEAF"),
        (ClockUnsound("x"), "READ_ONLY"),
        (QueueFull("x"), "QUEUE_FULL"),
        (StoreDamaged("x"), None),
        (BlockRefused("x"), None),
        (SudurError("x"), None),
    ],
)
def test_a_class_goes_by_its_nearest_known_ancestor(error: SudurError, reason: str | None) -> None:
    assert reason_of(error) == reason
    assert (refuse(error, now_ms=0) is None) == (reason is None)


def test_info_holds_where_fix_and_facts() -> None:
    error = DuplicateIssue("issued before", index=2**63, where="record 7", fix="leave it out")
    refusal = told(error)
    assert refusal.code is grpc.StatusCode.ALREADY_EXISTS
    assert refusal.info is not None
    assert (refusal.info.domain, refusal.info.reason) == ("sudur", "DUPLICATE_ISSUE")
    assert dict(refusal.info.metadata) == {
        "where": "record 7",
        "fix": "leave it out",
        "index": "9223372036854775808",
    }
    assert refusal.message == "record 7: issued before; leave it out"
    assert (refusal.bad_request, refusal.retry) == (None, None)


def test_what_is_unknown_is_left_out() -> None:
    info = told(UnknownAgency("none")).info
    assert info is not None
    assert not info.metadata


def test_unreadable_fields_are_named() -> None:
    refusal = told(LeafFormatError("too short", where="SUBMISSION"), field="submission.leaf")
    assert refusal.fields == ["submission.leaf"]
    assert told(LeafFormatError("too short", where="start")).fields == ["start"]


def test_when_to_try_again() -> None:
    retry = told(DiskFull("full", retry_ms=1_250)).retry
    assert retry is not None
    assert (retry.retry_delay.seconds, retry.retry_delay.nanos) == (1, 250_000_000)
    day = told(DailyCapExceeded("cap"), now_ms=5 * 86_400_000 + 86_399_000).retry
    assert day is not None
    assert (day.retry_delay.seconds, day.retry_delay.nanos) == (1, 0)


def test_texts_fit_a_header_whatever_they_hold() -> None:
    refusal = told(LeafFormatError("a\nb\0c\ud800" + "ى" * 5_000, where="w" * 5_000, fix="f" * 5_000))
    assert "\n" not in refusal.message
    assert refusal.message.encode()
    assert len(refusal.message) == MAX_MESSAGE
    assert refusal.info is not None
    assert {len(value) for value in refusal.info.metadata.values()} == {MAX_VALUE}


def test_a_fault_tells_a_request_id_and_nothing_else() -> None:
    refusal = fault("abc123")
    assert refusal.code is grpc.StatusCode.INTERNAL
    (detail,) = refusal.status.details
    info = error_details_pb2.RequestInfo()
    assert detail.Unpack(info)
    assert info.request_id == "abc123"
    assert "abc123" in refusal.status.message
