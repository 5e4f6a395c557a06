"""The client side of the benchmarks: an agency with a key, signed bulks, and what a call costs it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import partial

import grpc

from ledger import changes
from ledger.changes import AUTHORITY, Change, Subject
from ledger.hashing import leaf_hashes, merkle_root
from ledger.leaves import NONE
from ledger.records import MAX_RECORDS, Basis, Issue
from ledger.signatures import Ed25519Signer, key_fingerprint
from ledger.submissions import KeySignature, SubmissionLeaf
from sudur.v1 import ledger_pb2, ledger_pb2_grpc
from tests.ledger.world import entitlement, new_key, sign_change, signer

BULK = 64
"""Submissions in one bulk call: 16,384 records."""

_OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


@dataclass
class Agency:
    """Agency 1 of the benchmark ledger, enrolled on first use."""

    channel: grpc.Channel
    stub: ledger_pb2_grpc.LedgerServiceStub
    genesis: bytes
    key: Ed25519Signer
    number: int = 1

    @classmethod
    def at(cls, address: str) -> Agency:
        channel = grpc.insecure_channel(address, options=_OPTIONS)
        stub = ledger_pb2_grpc.LedgerServiceStub(channel)
        genesis = stub.GetLedger(ledger_pb2.GetLedgerRequest()).genesis
        agency = cls(channel, stub, genesis, signer("benchmark agency"))
        subject = Subject("agency", 1)
        record = stub.GetRegistryRecord(ledger_pb2.GetRegistryRecordRequest(subject="ledger")).record
        if b'"agencies":0' in record:
            enrolled = changes.AgencyEnrolled({"en": "Benchmark"}, AUTHORITY, entitlement(types=(0,)))
            index = agency._change(Change(subject, NONE, enrolled))
            agency._change(Change(subject, index, changes.KeysAdded((new_key(1, agency.key),))))
        return agency

    def _change(self, change: Change) -> int:
        leaf = sign_change(self.genesis, change, {(AUTHORITY, 1): signer("authority 1")})
        answer = self.stub.ChangeRegistry(ledger_pb2.ChangeRegistryRequest(genesis=self.genesis, leaf=leaf))
        return int(answer.index)

    def submission(self, count: int = MAX_RECORDS) -> ledger_pb2.Submission:
        """A signed submission of ``count`` fresh random commitments."""
        head = Issue(self.number, 0, Basis.ORIGINAL, bytes(32)).encode()[:-32]
        noise = os.urandom(32 * count)
        records = [head + noise[at : at + 32] for at in range(0, len(noise), 32)]
        root = merkle_root(leaf_hashes(records))
        bare = SubmissionLeaf(self.number, count, root, time.time_ns() // 1_000_000, ())
        message = bare.message(self.genesis, key_fingerprint(1, self.key.public_key))
        signed = KeySignature(1, 1, self.key.sign(message))
        leaf = SubmissionLeaf(self.number, count, root, bare.claimed_ms, (signed,)).encode()
        length = len(records[0]).to_bytes(2, "big")
        return ledger_pb2.Submission(leaf=leaf, records=length + length.join(records))

    def bulk(self) -> ledger_pb2.SubmitBulkRequest:
        """One call's worth: 64 submissions of 256 records."""
        return ledger_pb2.SubmitBulkRequest(
            genesis=self.genesis, submissions=[self.submission() for _ in range(BULK)]
        )


def check_placed(answer: ledger_pb2.SubmitBulkResponse) -> None:
    """Every submission of a bulk has its place, or the figures mean nothing."""
    if not all(one.WhichOneof("outcome") == "placement" for one in answer.results):
        raise RuntimeError(f"refused: {answer.results[0].error.message}")


connect = partial(grpc.insecure_channel, options=_OPTIONS)
