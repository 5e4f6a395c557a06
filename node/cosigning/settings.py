"""What an operator says of the witnesses beyond the policy, which stands in the registry."""

from __future__ import annotations

import math
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from node.errors import NodeError

_NO_URLS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class CosigningSettings:
    """How witnesses are asked.

    ``urls``: submission prefixes by the policy's names of witnesses, for those that it gives none, or
    another from here. ``ca``: PEM file of the authority that their certificates come from (None: the
    system's). ``without``: names of witnesses that the first signature does not wait for, and whose word
    does not stop it. ``refresh_s``: how often a head that stands still is cosigned anew. ``timeout_s``: for
    one request, from the connection to the last byte. ``first_pause_s`` doubles with each failure up to
    ``longest_pause_s``. ``patience_s``: how long the first signature waits for the witnesses.
    """

    urls: Mapping[str, str] = field(default_factory=lambda: _NO_URLS)
    ca: Path | None = None
    without: tuple[str, ...] = ()
    refresh_s: float = 300.0
    timeout_s: float = 10.0
    first_pause_s: float = 1.0
    longest_pause_s: float = 60.0
    patience_s: float = 30.0

    def __post_init__(self) -> None:
        times = (self.refresh_s, self.timeout_s, self.first_pause_s, self.longest_pause_s, self.patience_s)
        if not all(math.isfinite(one) and one > 0 for one in times):
            raise NodeError("the times at which witnesses are asked are above 0 s", where="settings")
        for name, url in self.urls.items():
            if not is_url(url):
                raise NodeError(
                    f"{url!a} cannot be asked",
                    where=f"witness {name}",
                    fix="give its submission prefix, as https://witness.example/path",
                )

    def context(self) -> ssl.SSLContext:
        """What their certificates are checked with. Raises NodeError for a file that holds none."""
        try:
            return ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
        except (OSError, ssl.SSLError) as error:
            raise NodeError(
                f"its certificates cannot be used: {error}",
                where=str(self.ca),
                fix="give a PEM file with the certificate of the authority",
            ) from error


def is_url(text: str) -> bool:
    """Whether a witness can be asked there."""
    try:
        parts = urlsplit(text)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and (parts.port is None or parts.port > 0)
            and not (parts.query or parts.fragment or parts.username)
        )
    except ValueError:
        return False
