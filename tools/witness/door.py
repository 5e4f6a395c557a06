"""The HTTP side of a witness: C2SP tlog-witness, and what its operator watches.

POST /add-checkpoint               200, 400, 403, 404, 409, 422 as the specification says; 503: not now
GET  /<SHA-256 of origin>/checkpoint   the newest checkpoint cosigned
GET  /logs                         what was seen last of each log (only this witness has that)
GET  /healthz, /readyz, /metrics   for the operator
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Final

import structlog
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.types import Receive, Scope, Send

from ledger.canonical_json import base64_text
from ledger.checkpoints import SignedCheckpoint
from ledger.errors import CheckpointUntrusted, FormatError, ProofInvalid, SignatureInvalid, SudurError
from ledger.notes import Note, parse_note
from ledger.witnessing import (
    ADD_CHECKPOINT,
    MAX_ADD_CHECKPOINT,
    SIZE_TYPE,
    parse_add_checkpoint,
    parse_any_checkpoint,
)
from tools.witness.answers import Answers
from tools.witness.auditing import Auditing
from tools.witness.keeper import Asked, Keeper
from tools.witness.known_logs import KnownLogs
from tools.witness.logs import WitnessedLog
from tools.witness.metrics import WitnessMetrics
from tools.witness.refusals import (
    BodyTooLong,
    Caught,
    Inconsistent,
    Malformed,
    NotAudited,
    NotNow,
    Refusal,
    Stale,
    UnknownLog,
    Untrusted,
)

BODY_S: Final = 10.0
"""Within so many seconds a request's body must be here."""
TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"
_ADD: Final = f"/{ADD_CHECKPOINT}"
_MONITORED: Final = "/checkpoint"
_log = structlog.get_logger("witness.door")

Headers = dict[str, str]


class Answer:
    """Status, media type, body, and headers beside those that every answer has."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, media_type: str, body: bytes, headers: Headers | None = None) -> None:
        self.status = status
        self.body = body
        self.headers = {"content-type": media_type, "cache-control": "no-store", **(headers or {})}


class Door:
    """The ASGI application."""

    def __init__(
        self,
        keeper: Keeper,
        logs: KnownLogs,
        metrics: WitnessMetrics,
        about: Mapping[str, object],
        auditing: Auditing | None = None,
    ) -> None:
        """``about``: what /logs says of the witness itself. ``auditing``: asked before it cosigns."""
        self._keeper = keeper
        self._logs = logs
        self._metrics = metrics
        self._about = about
        self._auditing = auditing
        self._answers = Answers()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"a witness speaks HTTP only, not {scope['type']}")
        started = time.perf_counter()
        path, method = scope["path"], scope["method"]
        try:
            if path == _ADD:
                answer = await self._add(method, scope, receive)
                self._metrics.answered(answer.status, time.perf_counter() - started)
            else:
                answer = self._get(method, path)
        except Exception as error:
            _log.error("request failed", path=path, exc_info=error)
            answer = Answer(503, TEXT, b"the witness failed; its log tells why\n", {"retry-after": "5"})
        await _send(send, answer, body=method != "HEAD")

    # --- add-checkpoint ------------------------------------------------------------------------

    async def _add(self, method: str, scope: Scope, receive: Receive) -> Answer:
        if method != "POST":
            return Answer(405, TEXT, b"POST a checkpoint here\n", {"allow": "POST"})
        origin = ""
        try:
            asked = parse(await _body(scope, receive))
            origin = asked.checkpoint.origin
            lines = await self._cosigned(asked)
        except Refusal as error:
            return self._refused(error, origin)
        return Answer(200, TEXT, lines)

    async def _cosigned(self, asked: Asked) -> bytes:
        origin = asked.checkpoint.origin
        try:
            log, asked = self._verified(asked, now=False)
        except (UnknownLog, Untrusted):
            # A log, or a key, may have been added this very moment.
            log, asked = self._verified(asked, now=True)
        if log.caught:
            raise Caught(log.caught, where=origin)
        if self._auditing is not None:
            self._keeper.precheck(asked)
            known = self._keeper.heads.get(origin)
            if known is None or known.checkpoint.size != asked.checkpoint.size:
                await self._audited(self._auditing, log, asked)
        return await self._answers.expect(self._keeper.ask(asked))

    async def _audited(self, auditing: Auditing, log: WitnessedLog, asked: Asked) -> None:
        if log.ledger is None or not log.url:
            raise NotAudited("this witness cosigns only what it can audit", where=log.origin, retry_s=3_600)
        if not asked.checkpoint.size:
            raise Inconsistent("an empty ledger ends in no seal", where=log.origin)
        note = Note(asked.text, tuple(asked.lines))
        signed = SignedCheckpoint(asked.checkpoint, note.encode(), note)
        await auditing.approve(log.ledger, log.url, signed)

    def _verified(self, asked: Asked, *, now: bool) -> tuple[WitnessedLog, Asked]:
        """The log that asks, and the request with its log's verified lines alone. Raises Refusal."""
        origin = asked.checkpoint.origin
        log = self._logs.logs(now=now).get(origin)
        if log is None or log.off or not log.keys:
            raise UnknownLog(f"the log {origin!a} is not known here")
        ledger = None if self._auditing is None else self._auditing.ledger(origin)
        if ledger is not None:
            try:
                return self._opened(replace(log, ledger=ledger), asked)
            except Untrusted:
                pass  # a trust file that was renewed since may know more than the replay
        return self._opened(log, asked)

    def _opened(self, log: WitnessedLog, asked: Asked) -> tuple[WitnessedLog, Asked]:
        try:
            return log, replace(asked, lines=log.verified(Note(asked.text, tuple(asked.lines))))
        except (CheckpointUntrusted, SignatureInvalid, FormatError) as error:
            raise Untrusted(error.what, where=error.where) from None
        except ProofInvalid as error:
            raise Inconsistent(error.what, where=error.where) from None

    def _refused(self, error: Refusal, origin: str) -> Answer:
        self._metrics.refused.labels(error.code).inc()
        if isinstance(error, Inconsistent):
            self._metrics.inconsistent.labels(origin).inc()
            _log.error("log contradicts itself", origin=origin, code=error.code, reason=str(error))
        elif not isinstance(error, Stale):
            _log.info("refused", origin=origin, code=error.code, reason=str(error))
        if isinstance(error, Stale):
            return Answer(error.status, SIZE_TYPE, b"%d\n" % error.known_size)
        headers: Headers = {}
        if isinstance(error, NotNow):
            headers["retry-after"] = str(error.retry_s)
        if isinstance(error, BodyTooLong):
            headers["connection"] = "close"
        return Answer(error.status, TEXT, f"{error.code}: {error}\n".encode(errors="replace"), headers)

    # --- reading -------------------------------------------------------------------------------

    def _get(self, method: str, path: str) -> Answer:
        if method not in ("GET", "HEAD"):
            return Answer(405, TEXT, b"there is only reading here\n", {"allow": "GET, HEAD"})
        if path == "/logs":
            return Answer(200, JSON, self._seen(), {"access-control-allow-origin": "*"})
        if path.endswith(_MONITORED):
            return self._newest(path[1 : -len(_MONITORED)])
        if path == "/healthz":
            return Answer(200, JSON, b'{"alive": true}\n')
        if path == "/readyz":
            return self._ready(self._keeper.fault)
        if path == "/metrics":
            return Answer(200, CONTENT_TYPE_LATEST, self._metrics.text())
        return Answer(404, TEXT, b"there is nothing here\n")

    def _newest(self, name: str) -> Answer:
        for origin, head in self._keeper.heads.items():
            if sha256(origin.encode()).hexdigest() == name:
                return Answer(200, TEXT, head.note, {"access-control-allow-origin": "*"})
        return Answer(404, TEXT, b"no checkpoint of that log was cosigned here\n")

    def _seen(self) -> bytes:
        heads = self._keeper.heads
        logs = []
        for origin, log in sorted(self._logs.logs().items()):
            head = heads.get(origin)
            logs.append(
                {
                    "origin": origin,
                    "url": log.url,
                    "off": log.off,
                    "caught": log.caught,
                    "checkpoint": f"/{sha256(origin.encode()).hexdigest()}{_MONITORED}",
                    "size": None if head is None else head.checkpoint.size,
                    "root": None if head is None else base64_text(head.checkpoint.root),
                    "time": None if head is None else head.time_s,
                    "note": None if head is None else head.note.decode(),
                }
            )
        return json.dumps({**self._about, "logs": logs}, ensure_ascii=False).encode() + b"\n"

    def _ready(self, fault: SudurError | None) -> Answer:
        if fault is None:
            return Answer(200, JSON, b'{"ready": true}\n')
        told = {"ready": False, "reasons": [f"{fault.code}: {fault}"]}
        return Answer(503, JSON, json.dumps(told, ensure_ascii=False).encode() + b"\n")


def parse(body: bytes) -> Asked:
    """A request as it came, nothing of it verified. Raises Malformed."""
    try:
        request = parse_add_checkpoint(body)
        note = parse_note(request.note)
        checkpoint = parse_any_checkpoint(note.text)
    except FormatError as error:
        raise Malformed(error.what, where=error.where) from None
    return Asked(request.old_size, request.proof, checkpoint, note.text, note.signatures)


async def _body(scope: Scope, receive: Receive) -> bytes:
    """The whole body. Raises BodyTooLong, as soon as it is known to be too long or does not come."""
    said = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    if said.isdigit() and int(said[:20]) > MAX_ADD_CHECKPOINT:
        raise BodyTooLong(f"at most {MAX_ADD_CHECKPOINT} bytes are read", where=ADD_CHECKPOINT)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise BodyTooLong("the connection ended in the middle", where=ADD_CHECKPOINT)
                body += message.get("body", b"")
                if len(body) > MAX_ADD_CHECKPOINT:
                    raise BodyTooLong(f"at most {MAX_ADD_CHECKPOINT} bytes are read", where=ADD_CHECKPOINT)
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise BodyTooLong(f"not all of it came within {BODY_S:.0f} s", where=ADD_CHECKPOINT) from None


async def _send(send: Send, answer: Answer, *, body: bool) -> None:
    headers = {**answer.headers, "content-length": str(len(answer.body)), "x-content-type-options": "nosniff"}
    named = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": named})
    await send({"type": "http.response.body", "body": answer.body if body else b""})
