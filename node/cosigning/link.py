"""The connection to one witness: one request at a time, bounded in time and size."""

from __future__ import annotations

import asyncio
import ssl
from types import TracebackType
from typing import Final, Self

import httpx

from ledger.witnessing import ADD_CHECKPOINT, format_add_checkpoint
from node.cosigning.answers import MAX_ANSWER, Answer, Failed, Trouble, read_answer
from node.proofs import Proofs

_KEPT_S: Final = 90.0


class WitnessLink:
    """Belongs to the event loop that it is used on."""

    def __init__(self, url: str, context: ssl.SSLContext, timeout_s: float) -> None:
        self.url = url
        self._timeout_s = timeout_s
        self._client = httpx.AsyncClient(
            verify=context,
            timeout=timeout_s,
            limits=httpx.Limits(max_connections=1, keepalive_expiry=_KEPT_S),
            follow_redirects=False,
            trust_env=False,
            headers={"accept-encoding": "identity", "user-agent": "sudur"},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def add(self, note: bytes, size: int, old: int, proofs: Proofs) -> Answer:
        """Ask for a cosignature of a signed checkpoint; ``old`` is at most ``size``. Raises nothing of the
        network's: whatever goes wrong there is an answer, too.
        """
        path = [] if old in (0, size) else proofs.consistency(old, size)
        body = format_add_checkpoint(old, path, note)
        where = f"{self.url.rstrip('/')}/{ADD_CHECKPOINT}"
        try:
            async with asyncio.timeout(self._timeout_s):
                try:
                    return await self._post(where, body, old, size)
                except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                    # A kept connection that the other side has just closed; a new one tells.
                    return await self._post(where, body, old, size)
        except TimeoutError:
            return Failed(Trouble.SILENT, f"no answer within {self._timeout_s:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return Failed(Trouble.SILENT, f"cannot be reached: {str(error) or type(error).__name__}"[:300])

    async def _post(self, where: str, body: bytes, old: int, size: int) -> Answer:
        async with self._client.stream("POST", where, content=body) as response:
            data = bytearray()
            async for part in response.aiter_raw():
                data += part
                if len(data) > MAX_ANSWER:
                    return Failed(Trouble.WRONG, f"its answer has more than {MAX_ANSWER} bytes")
            return read_answer(
                response.status_code,
                response.headers.get("content-type", ""),
                bytes(data),
                retry_after=response.headers.get("retry-after", ""),
                old=old,
                size=size,
            )
