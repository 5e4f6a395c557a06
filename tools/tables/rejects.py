"""The rows that were not issued, as a table of their own: where, why, and what they said."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tools.errors import FileProblem
from tools.files import PRIVATE, reason, remove_file, rename
from tools.tables.reading import Fault, Row

ENDING: Final = ".rejected.csv"
_EXTRA: Final = ("rejected row", "rejected column", "reason")


class Rejects:
    """Writes ``TABLE.rejected.csv``, which appears whole when a run has come to its end.

    UTF-8 with a byte order mark, so that a spreadsheet shows its letters. Each run over a table says again
    what it rejects; a run that rejects nothing removes the file of an earlier one.
    """

    def __init__(self, path: Path, header: Sequence[str]) -> None:
        """Raises FileProblem."""
        self.path = path
        self.count = 0
        self._part = path.with_name(f".{path.name}.part")
        try:
            descriptor = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, PRIVATE)
        except OSError as error:
            raise FileProblem(f"cannot be written: {reason(error)}", where=str(path)) from None
        self._file = os.fdopen(descriptor, "w", encoding="utf-8-sig", newline="", errors="surrogatepass")
        self._writer = csv.writer(self._file)
        self._writer.writerow([*_EXTRA, *header])

    def add(self, row: Row, fault: Fault) -> None:
        self.count += 1
        self._writer.writerow([row.number, fault.column, fault.reason, *row.cells])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:  # another run says it all
            self._file.close()
            self._part.unlink(missing_ok=True)
            return
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as failure:
            raise FileProblem(f"cannot be written: {reason(failure)}", where=str(self.path)) from None
        finally:
            self._file.close()
        if self.count:
            rename(self._part, self.path)
        else:
            remove_file(self._part)
            if self.path.exists():
                remove_file(self.path)
