"""Envelopes in a cluster: put at the leader, held by a majority before a record may name them.

A member that lacks one asks the others. Each deletes by itself what the log lets go of; what a recipient
drops is dropped by all that can be reached, and by the others when its time is over.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import grpc
from grpc_status import rpc_status

from ledger.envelopes import Envelope, Verb, digest_of
from ledger.records import NO_HASH
from node.cluster.member import ClusterMember
from node.cluster.peers import PeerLink, Quorum
from node.cluster.protocol import majority
from node.doors.forward import ForwardedRefusal
from node.doors.grpc_api import now_ms
from node.doors.request_ids import to_hand_on
from node.errors import NoLeader, NotFound, PeerError
from node.letters.envelope_store import EnvelopeStore
from node.letters.envelopes import Authorization, Envelopes, Kept, named_records
from sudur.v1 import ledger_pb2, peer_pb2

KEEP_S: Final = 10.0
FETCH_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class ClusterLetters:
    """See :class:`node.letters.envelopes.Letters`. Blocks for disks and peers: not for an event loop."""

    member: ClusterMember
    own: Envelopes
    store: EnvelopeStore

    def put(self, asked: Authorization, data: bytes) -> Kept:
        """See Letters: at the leader, then at a majority. Raises NoLeader, NoMajority beside."""
        if not self.member.leads:
            request = ledger_pb2.PutEnvelopeRequest(
                genesis=self.member.genesis, authorization=_asked(asked), envelope=data
            )
            handed = to_hand_on()
            answer = self._at_leader(
                lambda link: link.ledger().PutEnvelope(request, timeout=KEEP_S, metadata=handed)
            )
            return Kept(answer.digest, answer.kept_until_ms)
        kept = self.own.put(asked, data)
        self._spread(data, asked.agency)
        return kept

    def get(self, asked: Authorization, digest: bytes) -> bytes:
        """See Letters: from here, or from any member that has it."""
        self.own.check(asked, Verb.GET, digest)
        self._bring(digest)
        return self.own.get(asked, digest)

    def drop(self, asked: Authorization, digest: bytes) -> bool:
        """See Letters: here, and wherever it can be reached."""
        self.own.check(asked, Verb.DROP, digest)
        self._bring(digest)
        dropped = self.own.drop(asked, digest)
        if not dropped:
            return False  # of what is not held here nobody can tell for whom it is
        request = peer_pb2.FetchEnvelopeRequest(digest=digest)
        for link in self._links():
            with suppress(PeerError):
                link.call(lambda stub, s: stub.ForgetEnvelope(request, timeout=s))
        return dropped

    def check_named(self, leaf: bytes, packed: bytes) -> None:
        """See Letters: what a new leader does not hold itself, it brings from the others.

        Not for whoever has no key: a submission names hundreds, and each would be asked of every member.
        """
        missing = [
            record.envelope
            for _, record in named_records(packed)
            if record.envelope != NO_HASH and self.store.find(record.envelope) is None
        ]
        if missing and self.own.is_new(leaf, packed):
            for digest in missing:
                self._bring(digest)
        self.own.check_named(leaf, packed)

    def _links(self) -> tuple[PeerLink, ...]:
        peers = self.member.peers
        return () if peers is None else peers.links

    def _bring(self, digest: bytes) -> None:
        """Have the envelope here, if any member has it."""
        if self.store.find(digest) is not None:
            return
        request = peer_pb2.FetchEnvelopeRequest(digest=digest)
        for link in self._links():
            with suppress(PeerError):
                found = link.call(lambda stub, s: stub.FetchEnvelope(request, timeout=s), FETCH_S)
                if digest_of(found.envelope) == digest:
                    keep(self.store, found.envelope, found.sender)
                    return

    def _spread(self, data: bytes, sender: int) -> None:
        links = self._links()
        request = peer_pb2.KeepEnvelopeRequest(envelope=data, sender=sender)
        quorum: Quorum[str] = Quorum(majority(len(links) + 1) - 1, len(links))
        for link in links:
            quorum.post(link, lambda link=link: _keep(link, request))  # type: ignore[misc]
        quorum.wait(KEEP_S)

    def _at_leader(
        self, ask: Callable[[PeerLink], ledger_pb2.PutEnvelopeResponse]
    ) -> ledger_pb2.PutEnvelopeResponse:
        leader = next((link for link in self._links() if link.name == self.member.leader), None)
        if leader is None:
            raise NoLeader("nobody leads at the moment", retry_ms=200)
        try:
            return ask(leader)
        except grpc.RpcError as error:
            with suppress(ValueError):
                status = rpc_status.from_call(error)
                if status is not None and status.details:
                    raise ForwardedRefusal(status) from None
            self.member.nudge()
            raise NoLeader(
                f"the leader, {leader.name}, did not answer", fix="send it again", retry_ms=200
            ) from None


def keep(store: EnvelopeStore, data: bytes, sender: int) -> None:
    """Hold an envelope that came from another member. Raises EnvelopeFormatError."""
    store.put(data, recipient=Envelope.decode(data).recipient, sender=sender, now_ms=now_ms())


def held(store: EnvelopeStore, digest: bytes) -> tuple[bytes, int]:
    """The bytes, and who put them. Raises NotFound."""
    found, data = store.find(digest), store.data(digest)
    if found is None or data is None:
        raise NotFound("no such envelope is held here", where=digest.hex())
    return data, found.sender


def _keep(link: PeerLink, request: peer_pb2.KeepEnvelopeRequest) -> str:
    link.call(lambda stub, s: stub.KeepEnvelope(request, timeout=s))
    return link.name


def _asked(asked: Authorization) -> ledger_pb2.EnvelopeAuthorization:
    return ledger_pb2.EnvelopeAuthorization(
        agency=asked.agency,
        key_number=asked.key_number,
        time_ms=asked.time_ms,
        signature=asked.signature,
    )
