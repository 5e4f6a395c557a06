"""Codes, and receipts with a pack: read from what a person gave, judged, and what was left open queued."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ledger.code_verifier import verify_code_online
from ledger.codes import MAX_CODE_TEXT, Code, parse_code
from ledger.digits import are_digits, folded
from ledger.errors import FormatError, SudurError
from ledger.judging import Asked
from ledger.opened_pack import OpenedPack
from ledger.pack_verifier import verify_code, verify_receipt_with_pack
from ledger.receipts import Receipt
from ledger.trust import Trust
from ledger.verdicts import Verdict, VerdictCode
from tools.errors import Usage
from tools.options import static_resources
from tools.pack.files import read_pack
from tools.pack.queue import put

_LEAST_DIGITS = 10


def is_code(text: str) -> bool:
    """Whether what a person gave is a code and no file's name: digits, with a link in front perhaps.

    A short one too, since a scan may have been cut short.
    """
    if len(text) > MAX_CODE_TEXT:
        return True
    digits = folded(text.rpartition("#")[2].strip().removeprefix("]Q1").removeprefix("]Q3"))
    return are_digits(digits) and len(digits) >= _LEAST_DIGITS


def judge_code(
    text: str,
    trust: Trust,
    asked: Asked,
    *,
    max_age: int | None,
    url: str | None,
    pack: Path | None,
    queue: Path | None,
) -> Verdict:
    """The verdict on a code, by a node or by a pack; what is read or fetched in vain leads to CANNOT_TELL.

    Raises Usage when neither is given; what writing the queue raises.
    """
    need_a_source(url, pack)
    try:
        code = parse_code(text)
    except FormatError as error:
        return cannot_tell(f"the code cannot be read: {error}")
    if pack is None:
        verdict = _online(code, trust, asked, max_age, url or "")
    else:
        verdict = _offline(code, trust, asked, max_age, pack, queue)
    return _with_link(verdict, code)


def need_a_source(url: str | None, pack: Path | None) -> None:
    """Raises Usage when a code is to be checked by nothing."""
    if url is None and pack is None:
        raise Usage("a code proves nothing by itself", where="RECEIPT|CODE", fix="give --url or --pack")


def judge_receipt_with_pack(
    receipt: Receipt, trust: Trust, asked: Asked, *, max_age: int | None, pack: Path
) -> Verdict:
    """The verdict on a receipt, with the newer of its own and the pack's statuses."""

    def check(opened: OpenedPack) -> Verdict:
        return verify_receipt_with_pack(receipt, opened, trust, asked, greatest_age_s=max_age)

    return _with_pack(pack, trust, check)


def cannot_tell(reason: str) -> Verdict:
    """A verdict on something that no check could even begin on."""
    return Verdict(
        code=VerdictCode.CANNOT_TELL, reason=reason, steps=(), proven=None, origin=None, training=False
    )


def _online(code: Code, trust: Trust, asked: Asked, max_age: int | None, url: str) -> Verdict:
    with static_resources(url) as resources:
        return verify_code_online(code, resources, trust, asked, greatest_age_s=max_age)


def _offline(
    code: Code, trust: Trust, asked: Asked, max_age: int | None, pack: Path, queue: Path | None
) -> Verdict:
    def check(opened: OpenedPack) -> Verdict:
        found = verify_code(code, opened, trust, asked, greatest_age_s=max_age)
        if queue is None or found.left_open is None:
            return found.verdict
        put(queue, found.left_open)
        reason = f"{found.verdict.reason}; kept in {queue} to be checked online"
        return replace(found.verdict, reason=reason.removeprefix("; "))

    return _with_pack(pack, trust, check)


def _with_pack(path: Path, trust: Trust, check: Callable[[OpenedPack], Verdict]) -> Verdict:
    """Open a pack and use it. One that is damaged, or of a ledger that is not trusted, tells nothing."""
    try:
        opened = read_pack(path).open(trust)
    except SudurError as error:
        return cannot_tell(f"the pack cannot be used: {error}")
    return check(opened)


def _with_link(verdict: Verdict, code: Code) -> Verdict:
    """A link is named, since whoever made a false code would have it opened; it decided nothing."""
    if not code.link:
        return verdict
    said = f"a link to {code.host} stands" if code.host else "a link that cannot be read stands"
    note = f"{said} in the code, which proves nothing and was not opened"
    return replace(verdict, reason=f"{verdict.reason}; {note}" if verdict.reason else note)
