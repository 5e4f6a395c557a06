"""The paths of portable proofs: one resource for a leaf's proof in three forms, tokens, keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from fastapi import FastAPI, Request
from starlette.responses import Response

from ledger.canonical_json import base64_text
from ledger.status_tokens import MEDIA_TYPE
from node.doors import http_models as models
from node.doors.http_edge import PROBLEM, problem
from node.doors.http_paths import ERRORS, Number, raw
from node.doors.negotiation import choose
from node.doors.portable import CBOR, COSE, JWK_SET, PLAIN, LeafProof, PortableProofs
from node.doors.resources import JSON, NEWEST, TEXT, Resource
from node.metrics import Metrics

VARY: Final = {"vary": "Accept"}
"""Caches must not hand the form that one caller wanted to another."""
_FORMS: Final = {
    JSON: "application/json: the path, and what the status is asked by",
    PLAIN: "text/plain: a C2SP tlog-proof",
    COSE: "application/cose: a COSE Receipt (RFC 9942)",
}
_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "model": models.ReceiptAnswer,
        "description": "The proof, in the form that the Accept header asks for; JSON when it asks for none",
        "content": {
            TEXT: {"schema": {"type": "string"}},
            COSE: {"schema": {"type": "string", "format": "binary"}},
        },
    },
    406: {
        "model": models.Problem,
        "content": {PROBLEM: {}},
        "description": "None of the forms that this node has",
    },
    **ERRORS,
}
_BEHIND: Final[dict[int | str, dict[str, Any]]] = {
    503: {"model": models.Problem, "content": {PROBLEM: {}}, "description": "The copy may not be the newest"}
}


def add_portable(app: FastAPI, portable: PortableProofs, metrics: Metrics) -> None:
    """Add them to the application of a node."""

    def receipt_of(form: str, index: int) -> Resource:
        if form == PLAIN:
            return portable.tlog_proof(index)
        if form == COSE:
            return portable.cose_receipt(index)
        return Resource(_answer(index, portable.proof(index)).model_dump_json().encode(), JSON, NEWEST)

    @app.get(
        "/v1/receipt/{index}",
        tags=["portable"],
        summary="The newest published proof of a leaf, in the form that is asked for",
        response_model=models.ReceiptAnswer,
        responses=_ANSWERS,
    )
    async def receipt(index: Number, request: Request) -> Response:
        forms = [form for form in _FORMS if form != COSE or portable.signs]
        form = choose(request.headers.getlist("accept"), forms)
        if form is None:
            return _none_of(forms)
        made = receipt_of(form, index)
        metrics.proofs.labels("inclusion").inc()
        return _serve(made, VARY)

    def get(
        path: str, media_type: str, text: str, more: dict[int | str, dict[str, Any]] | None = None
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        answers = {**raw(media_type, text), **(more or {})}
        return app.get(path, tags=["portable"], summary=text, responses=answers, response_class=Response)

    @get("/status/token/{chunk}", MEDIA_TYPE, "The status of 65,536 indexes as a Token Status List", _BEHIND)
    async def status_token(chunk: Number) -> Response:
        return _serve(portable.status_token(chunk))

    @get("/receipt-keys", TEXT, "Which receipt keys are this ledger's: a note signed by the log's key")
    async def receipt_keys() -> Response:
        return _serve(portable.statement())

    @get("/.well-known/jwks.json", JWK_SET, "The receipt keys as a JWK Set")
    async def jwks() -> Response:
        return _serve(portable.jwk_set())

    @get("/.well-known/scitt-keys", CBOR, "The receipt keys as a COSE_KeySet")
    async def cose_keys() -> Response:
        return _serve(portable.cose_key_set())


def _answer(index: int, proof: LeafProof) -> models.ReceiptAnswer:
    (inclusion,) = proof.found.proofs
    reference = proof.reference
    return models.ReceiptAnswer(
        index=index,
        size=proof.found.size,
        leaf_hash=inclusion.leaf_hash.hex(),
        path=[one.hex() for one in inclusion.path],
        checkpoint=proof.found.checkpoint.decode(),
        leaf=base64_text(proof.leaf),
        status=None if reference is None else models.StatusClaim.model_validate(reference.claim()),
    )


def _none_of(forms: list[str]) -> Response:
    detail = "no form that the Accept header names is to be had here"
    if COSE not in forms:
        detail += "; this node has no receipt key, so it signs no COSE receipts"
    facts = {"where": "Accept", "fix": "ask for one of: " + "; ".join(_FORMS[form] for form in forms)}
    return problem(406, "NOT_ACCEPTABLE", detail, facts, VARY)


def _serve(resource: Resource, more: dict[str, str] | None = None) -> Response:
    headers = {"cache-control": resource.cache, **(more or {})}
    return Response(resource.data, 200, headers, resource.media_type)
