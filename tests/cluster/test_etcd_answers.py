"""What the client makes of a row of answers, of which some never come: a server that speaks as told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import pairwise

import grpc
import pytest

from node.cluster.etcd_client import EtcdClient, Found, Guard, Put
from node.errors import EtcdError, EtcdFull, EtcdRefused, EtcdUnavailable, OutcomeUnknown
from sudur.etcd import v3_pb2 as pb
from sudur.etcd import v3_pb2_grpc

Spoken = tuple[grpc.StatusCode, str]
NO_LEADER: Spoken = (grpc.StatusCode.UNAVAILABLE, "etcdserver: no leader")
TIMED_OUT: Spoken = (grpc.StatusCode.UNAVAILABLE, "etcdserver: request timed out")
FULL: Spoken = (grpc.StatusCode.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded")
DENIED: Spoken = (grpc.StatusCode.PERMISSION_DENIED, "etcdserver: permission denied")
SILENCE: None = None
OURS, THEIRS = b"ours", b"theirs"


@dataclass
class Script:
    """Several members' answers in turn, the last one again and again; keeps the requests."""

    answers: list[Spoken | pb.TxnResponse | None] = field(default_factory=list)
    asked: list[tuple[int, bytes]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def answer(self, member: int, request: pb.TxnRequest, context: grpc.ServicerContext) -> pb.TxnResponse:
        self.asked.append((member, request.SerializeToString(deterministic=True)))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, tuple):
            context.abort(*answer)
        if answer is SILENCE:
            self.ended.wait(30)
            return pb.TxnResponse()
        return answer


@dataclass
class Member(v3_pb2_grpc.KVServicer):
    """One endpoint of the script."""

    script: Script
    number: int

    def Txn(self, request: pb.TxnRequest, context: grpc.ServicerContext) -> pb.TxnResponse:  # noqa: N802
        return self.script.answer(self.number, request, context)


def made() -> pb.TxnResponse:
    return pb.TxnResponse(succeeded=True, header=pb.ResponseHeader(revision=7))


def stands(value: bytes) -> pb.TxnResponse:
    found = pb.RangeResponse(kvs=[pb.KeyValue(key=b"k", value=value, mod_revision=7)])
    return pb.TxnResponse(responses=[pb.ResponseOp(response_range=found)])


def stop(server: grpc.Server) -> None:
    server.stop(None).wait()


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def told(script: Script) -> Iterator[EtcdClient]:
    """A client of three members that answer as the script says."""
    with ExitStack() as stack:
        endpoints = []
        for number in range(3):
            server = grpc.server(stack.enter_context(ThreadPoolExecutor(8)))
            # What Member leaves out answers UNIMPLEMENTED; the stubs rightly call it abstract.
            v3_pb2_grpc.add_KVServicer_to_server(Member(script, number), server)  # type: ignore[abstract]
            endpoints.append(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
            server.start()
            stack.callback(stop, server)
        stack.callback(script.ended.set)
        yield stack.enter_context(closing(EtcdClient(endpoints, attempt_s=0.2, deadline_s=1.0)))


@pytest.mark.parametrize(
    ("answers", "want"),
    [
        ([made()], None),
        ([NO_LEADER, made()], None),
        ([TIMED_OUT, made()], None),
        ([SILENCE, made()], None),
        ([SILENCE, stands(OURS)], OURS),
        ([SILENCE, TIMED_OUT, NO_LEADER, stands(THEIRS)], THEIRS),
        ([stands(THEIRS)], THEIRS),
        ([NO_LEADER], EtcdUnavailable),
        ([TIMED_OUT], OutcomeUnknown),
        ([SILENCE], OutcomeUnknown),
        ([SILENCE, NO_LEADER], OutcomeUnknown),
        ([TIMED_OUT, FULL], OutcomeUnknown),
        ([TIMED_OUT, DENIED], OutcomeUnknown),
        ([NO_LEADER, FULL], EtcdFull),
        ([FULL], EtcdFull),
        ([NO_LEADER, DENIED], EtcdRefused),
    ],
)
def test_a_swap_says_only_what_is_certain(
    script: Script,
    told: EtcdClient,
    answers: list[Spoken | pb.TxnResponse | None],
    want: bytes | type[EtcdError] | None,
) -> None:
    script.answers = list(answers)
    guards, puts = [Guard(b"k", b"before")], [Put(b"k", OURS)]
    if isinstance(want, type):
        with pytest.raises(want) as error:
            told.swap(guards, puts)
        assert type(error.value) is want
        assert error.value.fix
    else:
        answer = told.swap(guards, puts)
        assert answer.done is (want is None)
        assert answer.found == (() if want is None else (Found(want, 7, 0),))
    assert len({request for _, request in script.asked}) == 1, "what is sent again is identical"
    members = [number for number, _ in script.asked]
    assert all(one != other for one, other in pairwise(members))


def test_who_answered_last_is_asked_first(script: Script, told: EtcdClient) -> None:
    script.answers = [NO_LEADER, made()]
    for _ in range(3):
        told.swap([], [Put(b"k", OURS)])
    assert [number for number, _ in script.asked] == [0, 1, 1, 1]
