"""The HTTP API: static resources for verifiers and caches, JSON for people and scripts, operations.

Reads take microseconds and run on the event loop. Nothing has query parameters: a cache that
ignores them would hand out a wrong proof.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from ledger.canonical_json import Json
from ledger.errors import FormatError, SudurError
from ledger.inquiries import MAX_SENDS, as_of_json, referred_json, sent_json
from ledger.reports import figures_csv, figures_json, report
from node.copying.mirror import Mirror
from node.cosigning.health import Cosigning
from node.doors import http_models as models
from node.doors import inquiry_models as shown
from node.doors.grpc_api import SOFTWARE_VERSION
from node.doors.http_edge import fault, problem, problem_of
from node.doors.http_paths import CSV, ERRORS, AgencyNumber, Number, ReferenceNumber, Root, TilePath, raw
from node.doors.inquiries import AgencyFigures, Inquiries
from node.doors.portable import PortableProofs
from node.doors.portable_http import add_portable
from node.doors.reads import Reads
from node.doors.resources import BYTES, IMMUTABLE, JSON, NEVER, NEWEST, TEXT, Resource, Resources
from node.metrics import MEDIA_TYPE, Metrics

A_DAY: Final = "public, max-age=86400"
"""For decoded entries: the leaf never changes, but how it is shown may with the software."""


def make_app(
    reads: Reads,
    inquiries: Inquiries,
    resources: Resources,
    metrics: Metrics,
    readiness: Callable[[], list[str]],
    portable: PortableProofs,
    cosigning: Callable[[], Cosigning],
    mirror: Mirror | None = None,
) -> FastAPI:
    """The application of one node. ``readiness`` gives the reasons why no submission is taken now."""
    app = FastAPI(
        title="Sudur",
        summary="A verification ledger for official documents: proofs and static resources",
        version=SOFTWARE_VERSION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    _add_problems(app)
    _add_static(app, resources)
    _add_json(app, reads, metrics)
    _add_inquiries(app, inquiries)
    add_portable(app, portable, metrics)
    _add_operations(app, reads, metrics, readiness, cosigning, mirror)
    return app


def _add_problems(app: FastAPI) -> None:
    @app.exception_handler(SudurError)
    async def ours(request: Request, error: SudurError) -> Response:
        return problem_of(error) or fault(error, request.url.path)

    @app.exception_handler(HTTPException)
    async def routing(request: Request, error: HTTPException) -> Response:
        code = HTTPStatus(error.status_code).name
        detail = "nothing is at this path" if error.status_code == 404 else str(error.detail)
        allow = {"allow": "GET, HEAD"} if error.status_code == 405 else None
        return problem(error.status_code, code, detail, headers=allow)

    @app.exception_handler(RequestValidationError)
    async def validation(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        facts = {"where": str(first["loc"][-1]), "fix": "write a decimal number without leading zeros"}
        return problem(422, FormatError.code, f"{facts['where']}: {first['msg']}", facts)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        return fault(error, request.url.path)


def _serve(resource: Resource) -> Response:
    return Response(resource.data, 200, {"cache-control": resource.cache}, resource.media_type)


def _json(model: models.Model, cache: str, status: int = 200) -> Response:
    return Response(model.model_dump_json(), status, {"cache-control": cache}, JSON)


def _add_static(app: FastAPI, resources: Resources) -> None:
    def get(path: str, media_type: str, text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        return app.get(
            path, tags=["static"], summary=text, responses=raw(media_type, text), response_class=Response
        )

    @get("/checkpoint", TEXT, "The newest published checkpoint: enough witnesses have cosigned it")
    async def checkpoint() -> Response:
        return _serve(resources.newest_checkpoint())

    @get("/checkpoint/signed", TEXT, "The newest signed checkpoint, cosigned or not yet")
    async def signed_checkpoint() -> Response:
        return _serve(resources.signed_checkpoint())

    @get("/checkpoint/{size}", TEXT, "The signed checkpoint of a tree size, with its cosignatures so far")
    async def checkpoint_of_size(size: Number) -> Response:
        return _serve(resources.checkpoint(size))

    @get("/tile/entries/{position:path}", BYTES, "An entry bundle: leaves behind their u16 lengths")
    async def bundle(position: TilePath) -> Response:
        return _serve(resources.bundle(position))

    @get("/tile/{level}/{position:path}", BYTES, "A tile: up to 256 hashes of 32 bytes")
    async def tile(level: str, position: TilePath) -> Response:
        return _serve(resources.tile(f"{level}/{position}"))

    @get("/status/list/{root}", BYTES, "The leaf hashes of the status chunks under a status root")
    async def status_list(root: Root) -> Response:
        return _serve(resources.status_list(root))

    @get("/status/chunk/{leaf_hash}", BYTES, "A status chunk (zlib): two bits for each of 65,536 indexes")
    async def status_chunk(leaf_hash: Root) -> Response:
        return _serve(resources.status_chunk(leaf_hash))

    @get("/status/events/{number}", BYTES, "The STATUS and ATTEST leaves on 4,096 subjects")
    async def status_events(number: Number) -> Response:
        return _serve(await asyncio.to_thread(resources.status_events, number))

    @get("/registry/record/{leaf_hash}", JSON, "A registry record: canonical JSON, as it is hashed")
    async def registry_record(leaf_hash: Root) -> Response:
        return _serve(resources.registry_record(leaf_hash))

    @get("/registry/ledger/{root}", JSON, "The ledger record under a registry root: it holds the counts")
    async def registry_ledger(root: Root) -> Response:
        return _serve(resources.registry_ledger(root))

    @get("/registry/tile/{root}/{level}/{position:path}", BYTES, "A tile of the registry, or of a key tree")
    async def registry_tile(root: Root, level: str, position: TilePath) -> Response:
        return _serve(resources.registry_tile(root, f"{level}/{position}"))


def _add_json(app: FastAPI, reads: Reads, metrics: Metrics) -> None:
    def get(
        path: str, model: type[models.Model], text: str
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        return app.get(path, tags=["json"], summary=text, response_model=model, responses=ERRORS)

    @get("/v1/ledger", models.LedgerInfo, "Which ledger this is and where it stands")
    async def ledger() -> Response:
        published, public = reads.published, reads.witnessed
        state, record = published.state, published.state.registry.ledger
        info = models.LedgerInfo(
            genesis=state.genesis.hex(),
            origin=record.origin,
            training=record.training,
            log_keys=[key.vkey for key in record.log_keys if key.may_sign(state.size)],
            rules_version=state.rules,
            software_version=SOFTWARE_VERSION,
            size=published.size,
            root=published.head.root.hex(),
            block=state.block,
            time_ms=state.time_ms,
            documents=state.documents,
            status_root=state.status.root.hex(),
            registry_root=state.registry.root.hex(),
            published_size=0 if public is None else public.size,
            checkpoint="" if public is None else public.note.decode(),
        )
        return _json(info, NEWEST)

    @get("/v1/entry/{index}", models.Entry, "A leaf, decoded")
    async def entry(index: Number) -> Response:
        leaf = reads.leaf(index)
        block = reads.block_of(index)
        made = models.entry(index, leaf, block=block.number, block_size=block.size, time_ms=block.time_ms)
        return _json(made, A_DAY)

    @get("/v1/proof/inclusion/{index}/{size}", models.InclusionAnswer, "That a leaf is in a tree")
    async def inclusion(index: Number, size: Number) -> Response:
        _check_named(size, "size")
        found = reads.inclusions([index], size)
        (proof,) = found.proofs
        metrics.proofs.labels("inclusion").inc()
        answer = models.InclusionAnswer(
            index=index,
            size=found.size,
            leaf_hash=proof.leaf_hash.hex(),
            path=[one.hex() for one in proof.path],
            checkpoint=found.checkpoint.decode(),
        )
        return _json(answer, NEWEST if reads.may_gain(size) else IMMUTABLE)

    @get("/v1/proof/consistency/{old}/{new}", models.ConsistencyAnswer, "That a tree grew out of another")
    async def consistency(old: Number, new: Number) -> Response:
        _check_named(new, "new")
        proof = reads.consistency(old, new)
        metrics.proofs.labels("consistency").inc()
        answer = models.ConsistencyAnswer(
            old_size=proof.old,
            new_size=proof.new,
            path=[one.hex() for one in proof.path],
            checkpoint=proof.checkpoint.decode(),
        )
        return _json(answer, NEWEST if reads.may_gain(new) else IMMUTABLE)

    @get("/v1/lookup/{agency}/{commitment}", models.LookupAnswer, "Where a commitment was logged")
    async def lookup(agency: AgencyNumber, commitment: Root) -> Response:
        try:
            wanted = bytes.fromhex(commitment)
        except ValueError:
            wanted = b""
        if wanted.hex() != commitment:
            raise FormatError("is not lower-case hexadecimal", where="commitment", fix="write 64 digits")
        indexes, size = reads.lookup(agency, wanted)
        answer = models.LookupAnswer(agency=agency, commitment=commitment, indexes=indexes, size=size)
        return _json(answer, NEWEST)


def _add_inquiries(app: FastAPI, inquiries: Inquiries) -> None:
    def get(
        path: str, model: type[models.Model], text: str
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        return app.get(path, tags=["inquiries"], summary=text, response_model=model, responses=ERRORS)

    @get("/v1/reference/{number}", shown.ReferenceAnswer, "What the leaf with a reference number is")
    async def reference(number: ReferenceNumber) -> Response:
        return _newest(referred_json(*inquiries.reference(number)))

    @get("/v1/exchange/{index}", shown.ExchangeAnswer, "What has become of a SEND")
    async def exchange(index: Number) -> Response:
        (sent,), as_of = await inquiries.exchanges([index])
        return _newest({**sent_json(sent, as_of), **as_of_json(as_of)})

    @get("/v1/sends/{recipient}/{start}", shown.SendsAnswer, "The SENDs to an agency from an index on")
    async def sends(recipient: AgencyNumber, start: Number) -> Response:
        page = await inquiries.sends_to(recipient, start, MAX_SENDS)
        listed = [sent_json(one, page.as_of) for one in page.sends]
        return _newest({"sends": listed, "next": page.next, **as_of_json(page.as_of)})

    @get("/v1/figures/{agency}", shown.FiguresAnswer, "An agency's figures; 0: of the whole ledger")
    async def figures(agency: AgencyNumber) -> Response:
        found = await inquiries.figures(agency)
        return await asyncio.to_thread(_figures, found)

    @app.get(
        "/v1/figures/{agency}/csv",
        tags=["inquiries"],
        summary="Its counters as rows for a spreadsheet",
        responses=raw(CSV, "One row a counter"),
        response_class=Response,
    )
    async def figures_rows(agency: AgencyNumber) -> Response:
        found = await inquiries.figures(agency)
        rows = await asyncio.to_thread(figures_csv, agency, found.figures, found.as_of)
        return Response(rows, 200, {"cache-control": NEWEST}, CSV)


def _figures(found: AgencyFigures) -> Response:
    made = report(found.agency.number, found.figures, found.as_of)
    return _newest(figures_json(found.figures, made, found.agency.names))


def _newest(answer: Json) -> Response:
    """An answer as of the newest checkpoint."""
    body = json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
    return Response(body, 200, {"cache-control": NEWEST}, JSON)


def _mirror(mirror: Mirror) -> models.MirrorState:
    contact = mirror.contact
    return models.MirrorState(
        follows=contact.address,
        head_age_ms=mirror.head_age_ms,
        contact_age_ms=mirror.contact_age_ms,
        blocks_behind=mirror.behind,
        fault=contact.fault,
    )


def _check_named(size: int, where: str) -> None:
    """Over gRPC 0 means the newest; here it would be a path whose answer changes."""
    if size == 0:
        raise FormatError("no checkpoint has size 0", where=where, fix="take the size from /checkpoint")


def _add_operations(
    app: FastAPI,
    reads: Reads,
    metrics: Metrics,
    readiness: Callable[[], list[str]],
    cosigning: Callable[[], Cosigning],
    mirror: Mirror | None,
) -> None:
    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        return JSONResponse(app.openapi(), headers={"cache-control": NEWEST})

    @app.get("/healthz", tags=["operations"], summary="The process answers", response_model=models.Alive)
    async def alive() -> Response:
        answer = models.Alive(mirror=None if mirror is None else _mirror(mirror))
        return Response(
            answer.model_dump_json(exclude_none=mirror is None), 200, {"cache-control": NEVER}, JSON
        )

    @app.get(
        "/readyz",
        tags=["operations"],
        summary="Whether the node takes submissions",
        response_model=models.Readiness,
        responses={503: {"model": models.Readiness, "description": "It does not, and why"}},
    )
    async def ready() -> Response:
        reasons = readiness()
        answer = models.Readiness(
            ready=not reasons, reasons=reasons, size=reads.size, block=reads.state.block
        )
        return _json(answer, NEVER, 503 if reasons else 200)

    @app.get(
        "/v1/witnesses",
        tags=["operations"],
        summary="How far publication is, and how each witness is",
        response_model=models.Witnesses,
    )
    async def witnesses() -> Response:
        return _json(models.witnesses(cosigning()), NEVER)

    @app.get(
        "/metrics",
        tags=["operations"],
        summary="Counters, in Prometheus' text format",
        response_class=Response,
        responses={200: {"content": {MEDIA_TYPE: {"schema": {"type": "string"}}}, "description": "All"}},
    )
    async def prometheus() -> Response:
        return Response(metrics.text(), 200, {"cache-control": NEVER}, MEDIA_TYPE)
