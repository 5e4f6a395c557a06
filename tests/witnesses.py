"""Witnesses for tests: their keys, their cosignatures, and policies that ask for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ledger.checkpoints import Checkpoint, open_checkpoint, parse_checkpoint
from ledger.cosignatures import cosign
from ledger.errors import SudurError
from ledger.notes import NamedSigner, NoteSignature, SignatureType, VerifierKey, parse_note
from ledger.proofs import verify_consistency
from ledger.signatures import Ed25519Signer
from ledger.witnessing import SIZE_TYPE, parse_add_checkpoint


def cosigner(name: str) -> NamedSigner:
    """The key of a witness; it follows from the name."""
    return NamedSigner(f"witness.example/{name}", Ed25519Signer(sha256(f"witness {name}".encode()).digest()))


def cosigner_key(name: str) -> VerifierKey:
    return cosigner(name).key(SignatureType.ED25519_COSIGNATURE)


def cosigned(note: bytes, name: str, time_s: int) -> NoteSignature:
    """The line that the witness adds to a checkpoint."""
    return cosign(parse_note(note).text, cosigner(name), time_s)


def policy(needed: int, *names: str, **urls: str) -> str:
    """So many of these witnesses, and of those in ``urls``, by name."""
    every = [*names, *urls]
    lines = [f"witness {one} {cosigner_key(one).format()} {urls.get(one, '')}".rstrip() for one in every]
    return "\n".join([*lines, f"group enough {needed} {' '.join(every)}", "quorum enough", ""])


Lie = Callable[["Request"], tuple[int, str, bytes]]
"""What a fake witness answers in place of what the specification demands."""


@dataclass(frozen=True)
class Request:
    """What came, and the witness that it came to."""

    witness: FakeWitness
    body: bytes

    @property
    def note(self) -> bytes:
        return parse_add_checkpoint(self.body).note


class FakeWitness:
    """A witness on loopback that keeps the contract of C2SP tlog-witness, but where ``lie`` says otherwise.

    ``gate``: answers wait for it. ``requests``: (old, size) of each. ``most``: the most at one time.
    """

    def __init__(self, name: str, *log_keys: VerifierKey) -> None:
        self.name = name
        self.log_keys = log_keys
        self.time_s: Callable[[], float] = time.time
        self.lie: Lie | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.requests: list[tuple[int, int]] = []
        self.most = 0
        self.seen: Checkpoint | None = None
        self._at_once = 0
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/sub"

    def start(self) -> FakeWitness:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status, kind, data = fake._counted(self.path, body)
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, request: object, client_address: object) -> None:
                pass

        self._server = Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        self.gate.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _counted(self, path: str, body: bytes) -> tuple[int, str, bytes]:
        with self._lock:
            self._at_once += 1
            self.most = max(self.most, self._at_once)
        try:
            self.gate.wait(30)
            if path != "/sub/add-checkpoint":
                return 404, "text/plain", b"no such path"
            request = Request(self, body)
            return self.answer(request) if self.lie is None else self.lie(request)
        finally:
            with self._lock:
                self._at_once -= 1

    def answer(self, request: Request) -> tuple[int, str, bytes]:
        """As the specification has it."""
        asked = parse_add_checkpoint(request.body)
        note = parse_note(asked.note)
        found = parse_checkpoint(note.text)
        if found.origin not in {key.name for key in self.log_keys}:
            return 404, "text/plain", b""
        try:
            open_checkpoint(asked.note, found.origin, self.log_keys)
        except SudurError:
            return 403, "text/plain", b""
        if asked.old_size > found.size:
            return 400, "text/plain", b""
        with self._lock:
            self.requests.append((asked.old_size, found.size))
            seen = self.seen
            if asked.old_size != (0 if seen is None else seen.size):
                return 409, SIZE_TYPE, b"%d\n" % (0 if seen is None else seen.size)
            if asked.old_size == 0:
                if asked.proof:
                    return 422, "text/plain", b""
            else:
                assert seen is not None
                try:
                    verify_consistency(seen.size, seen.root, found.size, found.root, asked.proof)
                except SudurError:
                    return 422, "text/plain", b""
            self.seen = found
            line = cosign(note.text, cosigner(self.name), int(self.time_s())).line()
            return 200, "text/plain", line


def wait_for(happened: Callable[[], bool], what: str = "it", within_s: float = 20.0) -> None:
    """Return once it is so; fail the test when it is not in time."""
    until = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < until, f"{what} did not happen within {within_s} s"
        time.sleep(0.005)
