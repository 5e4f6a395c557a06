"""A name for each request, which finds its lines in the logs of all nodes that it went through.

A caller may give one (``x-request-id``, in gRPC's metadata or as an HTTP header); it comes back with the
answer, stands in every line that is logged for the request, and goes along when a call is handed on.
"""

from __future__ import annotations

import re
import uuid
from typing import Final

from structlog.contextvars import bind_contextvars, get_contextvars

HEADER: Final = "x-request-id"
_FIELD: Final = "request_id"
# What breaks no line, no header and no search, whoever sent it.
_SANE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def begin_request(given: str | bytes) -> str:
    """The id that came along, if it is a sane one (A–Z, a–z, 0–9 and . _ -, at most 64), or a new one.

    From here on it is in each line that this task logs, and threads that the task hands work to. A task
    serves one request and ends with it, so nothing has to be undone.
    """
    text = given if isinstance(given, str) else given.decode("latin-1")
    request_id = text if _SANE.fullmatch(text) else uuid.uuid4().hex
    bind_contextvars(**{_FIELD: request_id})
    return request_id


def request_id_now() -> str:
    """The id of the request that is served here; empty outside of one."""
    return str(get_contextvars().get(_FIELD, ""))


def to_hand_on() -> tuple[tuple[str, str], ...]:
    """The metadata that takes this request's id to another node."""
    current = request_id_now()
    return ((HEADER, current),) if current else ()
