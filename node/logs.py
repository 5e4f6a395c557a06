"""Logs: one event a line, as JSON for machines or in colour for people, all on standard error."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable
from typing import Any, Literal

import structlog

LogFormat = Literal["json", "console"]
_LOG = structlog.get_logger("node")


def report(event: str, error: BaseException, *, log: Any = _LOG) -> None:
    """Log an error with its trace as text: no frame's variables, which may be large, or secret."""
    trace = "".join(traceback.format_tb(error.__traceback__))
    log.error(event, error=f"{type(error).__name__}: {error}", trace=trace)


def guarded(callback: Callable[..., None], *arguments: object) -> None:
    """Call another's callback, which must not end this thread: a closed event loop, for one, raises."""
    try:
        callback(*arguments)
    except Exception as error:
        report("callback_failed", error)


def configure_logs(style: LogFormat = "json", level: int = logging.INFO) -> None:
    """Send structlog's events, and those of the standard library, to standard error. Call once."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[structlog.types.Processor] = (
        [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer(ensure_ascii=False)]
        if style == "json"
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # It tells of each request that went well: several lines a block, and some a minute for ever.
    logging.getLogger("httpx").setLevel(max(level, logging.WARNING))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
