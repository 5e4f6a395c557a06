"""The one error of TLS; the root of all errors is in ``ledger.errors``."""

from __future__ import annotations

from ledger.errors import SudurError


class TlsProblem(SudurError):
    """A certificate or key cannot be used, or the other side of a connection will not have it."""

    code = "TLS"
