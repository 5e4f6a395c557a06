"""Commands of an agency that work in a session: the options that all of them share, written once.

    @in_session
    def revoke(session: Session, which: …) -> None: …

is a command with ``revoke``'s own options and, behind them, --dir, --node, --signer and the others that
:func:`tools.agency.session.agency_session` takes; it is called within that session.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, Final, get_type_hints

from tools.agency.session import (
    AgencyNumber,
    Directory,
    FirstTrust,
    OnFirstUse,
    ResourcesUrl,
    Signers,
    agency_session,
)
from tools.options import Node, PassphraseFile
from tools.publication import DEFAULT_WAIT_S, Wait
from tools.ui import Passphrase

_SHARED: Final[tuple[tuple[str, Any, Any], ...]] = (
    ("directory", Directory, inspect.Parameter.empty),
    ("node", Node, inspect.Parameter.empty),
    ("signer", Signers, None),
    ("agency", AgencyNumber, None),
    ("trust", FirstTrust, None),
    ("trust_on_first_use", OnFirstUse, False),
    ("url", ResourcesUrl, None),
    ("wait", Wait, DEFAULT_WAIT_S),
    ("passphrase_file", PassphraseFile, None),
)


def in_session(command: Callable[..., None]) -> Callable[..., None]:
    """Make a command of a function whose first parameter is the session; all others are options."""

    @wraps(command)
    def run(**values: Any) -> None:
        shared = {name: values.pop(name) for name, _, _ in _SHARED}
        with agency_session(
            shared["directory"],
            shared["node"],
            signer=shared["signer"] or (),
            agency=shared["agency"],
            trust=shared["trust"],
            trust_on_first_use=shared["trust_on_first_use"],
            url=shared["url"],
            passphrase=Passphrase(shared["passphrase_file"]),
            wait_s=shared["wait"],
        ) as session:
            command(session, **values)

    hints = get_type_hints(command, include_extras=True)
    own = list(inspect.signature(command).parameters.values())[1:]
    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [one.replace(kind=kind, annotation=hints[one.name]) for one in own]
    parameters += [
        inspect.Parameter(name, kind, default=default, annotation=annotation)
        for name, annotation, default in _SHARED
    ]
    del run.__wrapped__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run
