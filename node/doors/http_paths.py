"""What is in a path of the HTTP API, read strictly, and how an answer that is not JSON is described."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Path
from pydantic import BeforeValidator

from ledger.changes import MAX_AGENCY
from node.doors import http_models as models
from node.doors.http_edge import PROBLEM
from node.doors.resources import TEXT

CSV: Final = "text/csv; charset=utf-8"
_MOST: Final = 2**64 - 1


def _decimal(text: object) -> int:
    """A number in its one decimal form: no sign, no space, no leading zero."""
    canonical = isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= 20
    if not canonical or (str(text)[0] == "0" and text != "0"):
        raise ValueError("a decimal number without leading zeros is expected")
    return int(str(text))


Number = Annotated[int, BeforeValidator(_decimal), Path(ge=0, le=_MOST, examples=[1024])]
AgencyNumber = Annotated[int, BeforeValidator(_decimal), Path(ge=0, le=MAX_AGENCY, examples=[7])]
ReferenceNumber = Annotated[str, Path(description="index and check digits", examples=["101754"])]
Root = Annotated[str, Path(description="64 hexadecimal digits")]
TilePath = Annotated[str, Path(description="<N>[.p/<W>] as in C2SP tlog-tiles", examples=["x001/x234/067"])]

ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    code: {"model": models.Problem, "content": {PROBLEM: {}}, "description": text}
    for code, text in (
        (400, "The path is not in its one form"),
        (404, "Not here, or not yet"),
        (422, "A number is not one"),
    )
}


def raw(media_type: str, text: str) -> dict[int | str, dict[str, Any]]:
    """The answers of a resource that is bytes or text."""
    schema = {"type": "string"} if media_type in (TEXT, CSV) else {"type": "string", "format": "binary"}
    return {200: {"description": text, "content": {media_type: {"schema": schema}}}, **ERRORS}
