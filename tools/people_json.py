"""JSON as people write it in files that they hand to a command, made canonical."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from ledger.canonical_json import Json, encode, parse
from ledger.errors import FormatError
from tools.files import read_file

MAX_INPUT: Final = 1 << 20


def read_json(path: Path) -> Json:
    """The value in the file; what canonical JSON cannot say is refused. Raises FormatError, FileProblem."""
    data = read_file(path, MAX_INPUT)
    try:
        return parse(encode(json.loads(data, object_pairs_hook=_object)), limit=2 * MAX_INPUT)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"is not JSON: {error}", where=str(path)) from None
    except FormatError as error:
        raise FormatError(error.what, where=str(path)) from None


def _object(pairs: list[tuple[str, Json]]) -> Json:
    """A JSON object in which each name stands once: else a reader may take the other value."""
    value: dict[str, Json] = {}
    for name, one in pairs:
        if name in value:
            raise FormatError(f"the name {name!a} stands twice in one object")
        value[name] = one
    return value
