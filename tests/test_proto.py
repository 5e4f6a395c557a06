"""The gRPC contract: generated code is as committed, documented to the last field, and usable as typed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from google.rpc import status_pb2

from ledger.errors import RuleError
from sudur.v1 import ledger_pb2, ledger_pb2_grpc

PROTO = Path(__file__).resolve().parents[1] / "proto"
GENERATE = PROTO / "generate.py"

# Field numbers inside descriptor.proto, of which source-info paths are made.
FILE_MESSAGES, FILE_ENUMS, FILE_SERVICES = 4, 5, 6
MESSAGE_FIELDS, MESSAGE_NESTED, MESSAGE_ENUMS, MESSAGE_ONEOFS = 2, 3, 4, 8
ENUM_VALUES, SERVICE_METHODS = 2, 2


def run_generate(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(GENERATE), *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> FileDescriptorProto:
    """The contract as protoc reads it, comments included."""
    target = tmp_path_factory.mktemp("descriptor") / "set.bin"
    includes = [f"-I{PROTO}", f"-I{Path(status_pb2.__file__).parents[2]}"]
    options = ["--include_source_info", f"--descriptor_set_out={target}"]
    command = [sys.executable, "-m", "grpc_tools.protoc", *includes, *options, "sudur/v1/ledger.proto"]
    subprocess.run(command, cwd=PROTO, check=True)
    (file,) = FileDescriptorSet.FromString(target.read_bytes()).file
    return file


def declarations(file: FileDescriptorProto) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and source-info path of everything that is declared in ``file``."""

    def message(
        declared: DescriptorProto, path: tuple[int, ...], name: str
    ) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield name, path
        for i, field in enumerate(declared.field):
            yield f"{name}.{field.name}", (*path, MESSAGE_FIELDS, i)
        for i, oneof in enumerate(declared.oneof_decl):
            yield f"{name}.{oneof.name}", (*path, MESSAGE_ONEOFS, i)
        for i, nested in enumerate(declared.nested_type):
            yield from message(nested, (*path, MESSAGE_NESTED, i), f"{name}.{nested.name}")

    for i, top in enumerate(file.message_type):
        yield from message(top, (FILE_MESSAGES, i), top.name)
    for i, enum in enumerate(file.enum_type):
        yield enum.name, (FILE_ENUMS, i)
        for j, value in enumerate(enum.value):
            yield value.name, (FILE_ENUMS, i, ENUM_VALUES, j)
    for i, service in enumerate(file.service):
        yield service.name, (FILE_SERVICES, i)
        for j, method in enumerate(service.method):
            yield f"{service.name}.{method.name}", (FILE_SERVICES, i, SERVICE_METHODS, j)


def rule_codes(kind: type[RuleError]) -> set[str]:
    """The codes of a class of errors and of all below it."""
    return {kind.code}.union(*(rule_codes(below) for below in kind.__subclasses__()))


def test_regenerated_code_is_what_is_committed() -> None:
    done = run_generate("--check")
    assert (done.returncode, done.stdout) == (0, "generated files are up to date\n"), done.stderr


def test_check_names_what_differs(tmp_path: Path) -> None:
    shutil.copytree(PROTO / "sudur", tmp_path / "sudur")
    package = tmp_path / "sudur" / "v1"
    (package / "ledger_pb2.py").write_text("changed = True\n")
    (package / "ledger_pb2_grpc.pyi").unlink()
    (package / "old_pb2.pyi").touch()
    done = run_generate("--check", tmp_path)
    assert done.returncode == 1
    assert done.stdout.count("\n") == 1
    for expected in (
        "ledger_pb2.py (changed)",
        "ledger_pb2_grpc.pyi (missing)",
        "old_pb2.pyi (has no source)",
    ):
        assert expected in done.stdout
    assert "ledger_pb2.pyi" not in done.stdout


def test_everything_declared_has_a_leading_comment(described: FileDescriptorProto) -> None:
    comments = {tuple(at.path): at.leading_comments.strip() for at in described.source_code_info.location}
    declared = list(declarations(described))
    assert len(declared) > 100
    assert [name for name, path in declared if not comments.get(path)] == []


def test_each_call_has_a_request_and_a_response_of_its_own(described: FileDescriptorProto) -> None:
    (service,) = described.service
    used: list[str] = []
    for method in service.method:
        assert method.input_type == f".sudur.v1.{method.name}Request"
        assert method.output_type == f".sudur.v1.{method.name}Response"
        used += [method.input_type, method.output_type]
    assert len(used) == len(set(used))
    fields = {field.type_name for message in described.message_type for field in message.field}
    assert fields.isdisjoint(used), "a request or response is also used as a field"


def test_names_follow_the_usual_lint(described: FileDescriptorProto) -> None:
    assert described.package == "sudur.v1"
    assert [service.name for service in described.service] == ["LedgerService"]
    for enum in described.enum_type:
        prefix = "".join(f"_{c}" if c.isupper() else c.upper() for c in enum.name).lstrip("_")
        assert (enum.value[0].name, enum.value[0].number) == (f"{prefix}_UNSPECIFIED", 0)
        assert all(value.name.startswith(f"{prefix}_") for value in enum.value)
    for message in described.message_type:
        assert all(field.name == field.name.lower() for field in message.field)
        numbers = [field.number for field in message.field]
        assert numbers == list(range(1, len(numbers) + 1)), f"{message.name} has gaps in its field numbers"


def test_indexes_sizes_and_times_are_unsigned_64_bits(described: FileDescriptorProto) -> None:
    endings = ("index", "indexes", "size", "_ms", "block")
    for message in described.message_type:
        for field in message.field:
            if field.name.endswith(endings) and field.type != FieldDescriptorProto.TYPE_MESSAGE:
                assert field.type == FieldDescriptorProto.TYPE_UINT64, f"{message.name}.{field.name}"


def test_the_table_of_reasons_and_the_calls_agree() -> None:
    text = (PROTO / "sudur" / "v1" / "ledger.proto").read_text(encoding="utf-8")
    head, _, calls = text.partition('syntax = "proto3";')
    codes = {code.name for code in grpc.StatusCode}
    table: dict[str, str] = {}
    for line in head.splitlines():
        words = line.removeprefix("//").split()
        if len(words) > 2 and words[1] in codes:
            assert words[0] not in table, f"{words[0]} stands twice"
            table[words[0]] = words[1]
    service = " ".join(calls.partition("\nmessage ")[0].replace("//", " ").split())
    named: set[str] = set()
    for code, inside in re.findall(r"\b([A-Z_]{5,}) \(([^)]*)\)", service):
        if code in codes:
            reasons = re.findall(r"\b[A-Z][A-Z_]{5,}\b", inside)
            assert [table.get(reason) for reason in reasons] == [code] * len(reasons), (code, inside)
            named |= {code, *reasons}
    assert table.keys() <= named, f"no call names {table.keys() - named}"
    # Bases, and what only a node among nodes sees, never reach a client.
    inner = {"REFUSED", "SUBMISSION_REPEATED", "BLOCK_REFUSED"}
    assert rule_codes(RuleError) - inner <= table.keys(), "a rule's error is missing in the table"


class Echo(ledger_pb2_grpc.LedgerServiceServicer):
    """A service that answers from its request: enough to use each shape of call, as typed."""

    async def SubmitBulk(  # noqa: N802
        self,
        request: ledger_pb2.SubmitBulkRequest,
        context: grpc.aio.ServicerContext[ledger_pb2.SubmitBulkRequest, ledger_pb2.SubmitBulkResponse],
    ) -> ledger_pb2.SubmitBulkResponse:
        results = [
            ledger_pb2.SubmitBulkResult(placement=ledger_pb2.Placement(record_count=len(submission.records)))
            if submission.records
            else ledger_pb2.SubmitBulkResult(error=status_pb2.Status(code=3, message="no records"))
            for submission in request.submissions
        ]
        return ledger_pb2.SubmitBulkResponse(results=results, checkpoint=b"note")

    async def StreamEntries(  # noqa: N802
        self,
        request: ledger_pb2.StreamEntriesRequest,
        context: grpc.aio.ServicerContext[ledger_pb2.StreamEntriesRequest, ledger_pb2.StreamEntriesResponse],
    ) -> AsyncIterator[ledger_pb2.StreamEntriesResponse]:
        for index in range(request.start, request.end):
            yield ledger_pb2.StreamEntriesResponse(first_index=index, leaves=[b"leaf"])


async def test_the_modules_serve_calls_and_streams() -> None:
    server = grpc.aio.server()
    # What Echo leaves out answers UNIMPLEMENTED; the stubs rightly call it abstract.
    ledger_pb2_grpc.add_LedgerServiceServicer_to_server(Echo(), server)  # type: ignore[abstract]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub: ledger_pb2_grpc.LedgerServiceAsyncStub = ledger_pb2_grpc.LedgerServiceStub(channel)
            submissions = [ledger_pb2.Submission(records=b"abc"), ledger_pb2.Submission()]
            bulk = await stub.SubmitBulk(ledger_pb2.SubmitBulkRequest(submissions=submissions))
            assert [result.WhichOneof("outcome") for result in bulk.results] == ["placement", "error"]
            assert bulk.results[0].placement.record_count == 3
            assert bulk.results[1].error.message == "no records"
            call = stub.StreamEntries(ledger_pb2.StreamEntriesRequest(start=5, end=8))
            assert [batch.first_index async for batch in call] == [5, 6, 7]
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.GetLedger(ledger_pb2.GetLedgerRequest())
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    finally:
        await server.stop(grace=1)


def test_a_blocking_client_has_types_too() -> None:
    with grpc.insecure_channel("127.0.0.1:9") as channel:
        stub: ledger_pb2_grpc.LedgerServiceStub = ledger_pb2_grpc.LedgerServiceStub(channel)
        call: grpc.UnaryUnaryMultiCallable[ledger_pb2.GetLedgerRequest, ledger_pb2.GetLedgerResponse]
        call = stub.GetLedger
        with pytest.raises(grpc.RpcError) as refused:
            call(ledger_pb2.GetLedgerRequest(), timeout=5)
        assert isinstance(refused.value, grpc.Call)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
