"""Certificate options that belong together."""

from __future__ import annotations

from pathlib import Path

from tools.errors import Usage
from transport.certificates import TlsFiles


def tls_files(
    cert_option: str,
    certificate: Path | None,
    key_option: str,
    key: Path | None,
    ca_option: str,
    ca: Path | None,
    *,
    mutual: bool = False,
) -> TlsFiles | None:
    """What belongs together, all of it or nothing. Raises Usage. ``mutual``: the authority is needed too."""
    if certificate is None and key is None and ca is None:
        return None
    needed = {cert_option: certificate, key_option: key} | ({ca_option: ca} if mutual else {})
    missing = [option for option, path in needed.items() if path is None]
    if certificate is None or key is None or missing:
        raise Usage(f"{' and '.join(missing)} must be given as well", where=f"{cert_option}/{ca_option}")
    return TlsFiles(certificate, key, ca)
