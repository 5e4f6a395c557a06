"""A node of the cheating operator: static resources over real HTTP, of whichever face it shows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[str], bytes | None]
"""What stands under a path, None for 404."""


class _Handler(BaseHTTPRequestHandler):
    answer: Answer

    def do_GET(self) -> None:
        body = self.answer(self.path.removeprefix("/"))
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *args: Any) -> None:
        """Nothing: a test says what it has to say."""


@contextmanager
def served(answer: Answer) -> Iterator[str]:
    """The URL at which ``answer`` is served, for as long as the block runs."""
    handler = type("Handler", (_Handler,), {"answer": staticmethod(answer)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
