"""A whole node behind real sockets, and a client that knows every key: for tests of the two APIs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

import grpc.aio
import httpx
from google.rpc import error_details_pb2, status_pb2

from ledger import changes
from ledger.changes import AUTHORITY, LEDGER, Change, ChangeBody, Subject
from ledger.checkpoints import Checkpoint, open_checkpoint
from ledger.checkpoints import log_key as checkpoint_key
from ledger.leaves import NONE
from ledger.notes import VerifierKey
from ledger.records import UNDECLARED_TYPE
from ledger.registry_leaf import NO_GENESIS
from ledger.signatures import Ed25519Signer, Signer
from ledger.signing_policy import SigningPolicy
from ledger.submissions import pack
from node.config import Address, Settings
from node.run import RunningNode, start_node
from sudur.v1 import ledger_pb2, ledger_pb2_grpc
from tests.ledger.world import (
    ORIGIN,
    START_MS,
    authority_set,
    entitlement,
    issue,
    log_key,
    new_key,
    sign_change,
    sign_submission,
    signer,
)

K = 2
AUTHORITY_KEYS = {n: signer(f"authority {n}") for n in (1, 2, 3)}
LOG: Final = signer("log")
ANY_PORT = Address("127.0.0.1", 0)


def genesis_leaf(log: Sequence[Signer] = (LOG,), policy: str = "") -> bytes:
    """Leaf 0 of the ledger that these tests serve: two of three authority keys decide."""
    log_keys = tuple(checkpoint_key(ORIGIN, one.public_key, one.algorithm).format() for one in log)
    deciding = authority_set(K, AUTHORITY_KEYS)
    body = changes.Genesis(ORIGIN, bytes(32), True, START_MS, log_keys, deciding, policy)
    keys = {(AUTHORITY, n): key for n, key in AUTHORITY_KEYS.items()}
    return sign_change(NO_GENESIS, Change(LEDGER, NONE, body), keys)


def settings(data_dir: Path, **more: Any) -> Settings:
    """Settings with free ports on the loopback interface; the world's genesis is older than any clock."""
    usual = {"grpc": ANY_PORT, "http": ANY_PORT, "stop_grace_s": 2.0, "clock_is_right": True}
    return Settings(data_dir, **{**usual, **more})


@dataclass
class Served:
    """A serving node with its clients. ``keys``: each agency's signers by number."""

    node: RunningNode
    channel: grpc.aio.Channel
    stub: ledger_pb2_grpc.LedgerServiceAsyncStub
    http: httpx.AsyncClient
    genesis: bytes
    keys: dict[int, dict[int, Ed25519Signer]] = field(default_factory=lambda: {AUTHORITY: AUTHORITY_KEYS})
    names: Iterable[int] = field(default_factory=count)

    # --- what is known about the node ---

    @property
    def size(self) -> int:
        return self.node.ledger.published.size

    def open(self, checkpoint: bytes) -> Checkpoint:
        """A checkpoint, after its log signature was verified."""
        return open_checkpoint(checkpoint, ORIGIN, [VerifierKey.parse(log_key("log"))]).checkpoint

    def fresh_name(self) -> str:
        return f"document {next(iter(self.names))}"

    # --- requests ---

    def submission(
        self,
        agency: int,
        records: Sequence[bytes] | None = None,
        *,
        keys: Iterable[int] = (1,),
        claimed_ms: int | None = None,
        genesis: bytes | None = None,
    ) -> ledger_pb2.Submission:
        """A signed submission; of one new document when no records are given."""
        chosen = [issue(agency, self.fresh_name(), UNDECLARED_TYPE)] if records is None else list(records)
        claimed = time.time_ns() // 1_000_000 if claimed_ms is None else claimed_ms
        signers = {n: self.keys[agency][n] for n in keys}
        leaf = sign_submission(genesis or self.genesis, agency, chosen, claimed, signers)
        return ledger_pb2.Submission(leaf=leaf, records=pack(chosen))

    def request(self, submission: ledger_pb2.Submission) -> ledger_pb2.SubmitRequest:
        return ledger_pb2.SubmitRequest(genesis=self.genesis, submission=submission)

    def bulk(self, *submissions: ledger_pb2.Submission) -> ledger_pb2.SubmitBulkRequest:
        return ledger_pb2.SubmitBulkRequest(genesis=self.genesis, submissions=submissions)

    def change_request(
        self,
        subject: Subject,
        body: ChangeBody,
        *,
        by: int = AUTHORITY,
        keys: Iterable[int] = (1, 2),
        previous: int | None = None,
    ) -> ledger_pb2.ChangeRegistryRequest:
        """A signed change on the newest record, or on ``previous``."""
        last = self.node.ledger.published.state.registry.changed(subject) if previous is None else previous
        signers = {(by, n): self.keys[by][n] for n in keys}
        leaf = sign_change(self.genesis, Change(subject, last, body), signers)
        return ledger_pb2.ChangeRegistryRequest(genesis=self.genesis, leaf=leaf)

    # --- calls ---

    async def submit(
        self, agency: int = 1, records: Sequence[bytes] | None = None
    ) -> ledger_pb2.SubmitResponse:
        return await self.stub.Submit(self.request(self.submission(agency, records)))

    async def change(self, subject: Subject, body: ChangeBody) -> ledger_pb2.ChangeRegistryResponse:
        return await self.stub.ChangeRegistry(self.change_request(subject, body))

    async def enrol(
        self,
        *,
        roles: Iterable[str] = ("issue",),
        types: Iterable[int] = (UNDECLARED_TYPE,),
        policy: SigningPolicy | None = None,
        uses: Sequence[str] = ("submit",),
    ) -> int:
        """Enrol the next agency with a key for each use; returns its number."""
        number = len(self.node.ledger.published.state.registry.agencies) + 1
        subject = Subject("agency", number)
        names = {"en": f"Agency {number}", "ar": f"دائرة {number}"}
        await self.change(
            subject, changes.AgencyEnrolled(names, AUTHORITY, entitlement(roles, types, policy))
        )
        self.keys[number] = {n: signer(f"agency {number} key {n}") for n in range(1, len(uses) + 1)}
        added = [new_key(n, self.keys[number][n], use) for n, use in enumerate(uses, 1)]
        await self.change(subject, changes.KeysAdded(tuple(added)))
        return number

    async def define_type(self) -> int:
        """Define the next document type; returns its number."""
        number = len(self.node.ledger.published.state.registry.types) + 1
        fields = (changes.FieldDefinition("holder", {"en": "Holder"}, True, False, False, True),)
        await self.change(Subject("type", number), changes.TypeDefined({"en": "certificate"}, fields))
        return number


@contextlib.asynccontextmanager
async def serve(data_dir: Path, log: Sequence[Signer] = (LOG,), /, **more: Any) -> AsyncIterator[Served]:
    """A new node on ``data_dir``, with agency 1 enrolled when the ledger is new; ``log``: its log keys."""
    async with start_node(settings(data_dir, **more), log, genesis_leaf(log)) as node:
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        async with (
            grpc.aio.insecure_channel(str(node.grpc), options=options) as channel,
            httpx.AsyncClient(base_url=f"http://{node.http}", trust_env=False) as http,
        ):
            stub = ledger_pb2_grpc.LedgerServiceStub(channel)
            ledger = await stub.GetLedger(ledger_pb2.GetLedgerRequest())
            served = Served(node, channel, stub, http, ledger.genesis)
            if not node.ledger.published.state.registry.agencies:
                await served.enrol()
            served.keys[1] = {1: signer("agency 1 key 1")}
            yield served


# --- errors as a client sees them --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Refused:
    """A rich gRPC error, taken apart; details that are not there are None."""

    code: grpc.StatusCode
    info: error_details_pb2.ErrorInfo | None
    bad_request: error_details_pb2.BadRequest | None
    retry: error_details_pb2.RetryInfo | None
    message: str

    @property
    def reason(self) -> str:
        return "" if self.info is None else self.info.reason

    @property
    def fields(self) -> list[str]:
        return [] if self.bad_request is None else [one.field for one in self.bad_request.field_violations]


def taken_apart(status: status_pb2.Status, code: grpc.StatusCode) -> Refused:
    """The details of a google.rpc.Status."""
    found: dict[str, Any] = {}
    for name in ("ErrorInfo", "BadRequest", "RetryInfo"):
        kind = getattr(error_details_pb2, name)
        for packed in status.details:
            message = kind()
            if packed.Unpack(message):
                found[name] = message
    return Refused(
        code, found.get("ErrorInfo"), found.get("BadRequest"), found.get("RetryInfo"), status.message
    )


def refused(error: grpc.aio.AioRpcError) -> Refused:
    """The rich error in what a call raised."""
    status = status_pb2.Status()
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status.ParseFromString(value)
    if status.details:
        assert status.code == error.code().value[0]
        assert status.message == error.details()
    return taken_apart(status, error.code())
