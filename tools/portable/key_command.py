"""``sudur node receipt-key``: make the key that signs COSE receipts and status tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ledger.receipt_keys import ReceiptKey
from tools.keyfile import make_key, save_key
from tools.options import Json_, PassphraseFile
from tools.ui import Passphrase, emit_json, say


def receipt_key(
    key: Annotated[Path, typer.Argument(metavar="FILE", dir_okay=False, help="The new private key.")],
    passphrase_file: PassphraseFile = None,
    as_json: Json_ = False,
) -> None:
    """Make a receipt key, for `sudur node start --receipt-key FILE`. Members of a cluster may share it.

    It is not the log's key: that one signs checkpoints, and states in a note that this key is the ledger's.

    Example: sudur node receipt-key receipts.key.json
    """
    made = make_key("receipt", "receipts")
    save_key(key, made, Passphrase(passphrase_file).to_make())
    public = ReceiptKey(made.public.key)
    names = {"file": str(key), "jose_kid": public.jose_kid, "cose_kid": public.cose_kid.hex()}
    if as_json:
        emit_json(names)
    else:
        say(f"Wrote {key}.")
        say(f"Its names: {public.jose_kid} (JOSE), {public.cose_kid.hex()} (COSE)")
