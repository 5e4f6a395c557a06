"""Serving until somebody says that it is enough."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable


async def until_told(serve: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run ``serve`` until it ends by itself, or SIGTERM or SIGINT sets the event that it is given."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    for one in signals:
        loop.add_signal_handler(one, stop.set)
    try:
        await serve(stop)
    finally:
        for one in signals:
            loop.remove_signal_handler(one)
