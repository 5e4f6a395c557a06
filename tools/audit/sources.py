"""Where an audit reads: a URL, a directory of static files, a backup. Nothing that any of them gives is
believed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from ledger.backups import MANIFEST
from ledger.errors import OutOfRange
from tools.audit.backup_source import BackupResources
from tools.audit.many_http import ManyHttp
from tools.client_tls import ClientTls
from tools.errors import AnswerWrong, FileProblem, NotFound, Usage
from tools.files import reason
from tools.http_resources import cap_of

_PATH: Final = re.compile(r"[a-z0-9]+(?:[/.][A-Za-z0-9]+)*", re.ASCII)


class DirectoryResources:
    """The static resources of a ledger as files under their paths.

    One name differs, since no file is a directory, too: the checkpoints of sizes are in ``checkpoint.d``.
    """

    def __init__(self, directory: Path) -> None:
        self.name = str(directory)
        self._directory = str(directory)

    def fetch(self, path: str) -> bytes:
        """About 20 µs. Raises NotFound, AnswerWrong (too long), FileProblem."""
        if _PATH.fullmatch(path) is None:
            raise OutOfRange(f"{path!a} is no path of a resource", where=self.name)
        cap = cap_of(path)
        name = path.replace("checkpoint/", "checkpoint.d/", 1) if path.startswith("checkpoint/") else path
        try:
            with open(f"{self._directory}/{name}", "rb", buffering=0) as file:
                data = file.read(cap + 1)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise NotFound("is not there", where=f"{self.name}/{path}") from None
        except OSError as error:
            raise FileProblem(f"cannot be read: {reason(error)}", where=f"{self.name}/{path}") from None
        if len(data) > cap:
            raise AnswerWrong(f"more than {cap} bytes, which this never has", where=f"{self.name}/{path}")
        return data

    def close(self) -> None:
        """Nothing is held open."""


def open_source(where: str, tls: ClientTls) -> DirectoryResources | BackupResources | ManyHttp:
    """What a person named. Raises Usage for what is neither a URL nor a directory."""
    if where.startswith(("http://", "https://")):
        return ManyHttp(where, tls)
    directory = Path(where)
    if not directory.is_dir():
        raise Usage(
            f"{where!a} is neither a URL nor a directory",
            where="URL",
            fix="write http://HOST:PORT, or the name of a directory",
        )
    return BackupResources(directory) if (directory / MANIFEST).exists() else DirectoryResources(directory)
