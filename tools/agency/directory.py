"""An agency's working directory: its keys, the ledger it is pinned to, and its register.

<label>.key.json       a private key (0600)          <label>.pub.json   its public half
trust.json             the pinned ledger             agency.json        its number, and its keys'
register.db            all that was submitted and issued (tools/register/store.py)
register.key.json      what opens the register (0600)
receipts/              one file a document (0600), unless another place is named
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ledger.canonical_json import Json, Reader, encode, parse
from ledger.changes import MAX_AGENCY, MAX_KEY_NUMBER
from ledger.errors import FormatError, ReceiptFormatError
from ledger.receipts import MAX_RECEIPT, Receipt, parse_receipt
from ledger.trust import Trust, TrustedLedger
from tools.errors import FileProblem, NameTaken, Usage
from tools.files import (
    PUBLIC,
    make_private_directory,
    read_file,
    write_file,
    write_new_file,
)
from tools.keyfile import KeyFile, PrivateKey, save_key, save_public_key
from tools.pinning import load_trust, only_ledger

MAX_NAME: Final = 255
"""Most bytes of a file's name."""
_ENDING: Final = ".receipt.json"
_AGENCY_FORMAT: Final = "sudur-agency/v1"


@dataclass(frozen=True, slots=True)
class Membership:
    """The agency's number, and the number of each of its keys by fingerprint."""

    agency: int
    keys: dict[str, int]

    def encode(self) -> bytes:
        body: Json = {"format": _AGENCY_FORMAT, "agency": self.agency, "keys": self.keys}
        return encode(body) + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> Membership:
        """Raises FormatError."""
        value = parse(data.removesuffix(b"\n"), limit=1 << 20, where="agency.json")
        reader = Reader(value, "agency.json")
        if reader.text("format") != _AGENCY_FORMAT:
            raise FormatError(f"is not {_AGENCY_FORMAT}", where=reader.at("format"))
        number = reader.number("agency", 1, MAX_AGENCY)
        names = reader.any("keys")
        keys = Reader(names, reader.at("keys"))
        reader.done()
        return cls(number, {name: keys.number(name, 1, MAX_KEY_NUMBER) for name in names})


class AgencyDirectory:
    """The directory at ``path``. Writers hold its lock (``tools.files.locked``)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, path: Path) -> AgencyDirectory:
        """One that exists. Raises Usage."""
        if not path.is_dir():
            raise Usage(f"{path} is no directory", where="--dir", fix="make keys first: sudur agency keygen")
        return cls(path)

    @classmethod
    def create(cls, path: Path) -> AgencyDirectory:
        """One that exists, or a new one that only its owner enters. Raises FileProblem."""
        make_private_directory(path)
        return cls(path)

    # --- keys ---

    def add_key(self, key: PrivateKey, passphrase: str | None) -> tuple[Path, Path]:
        """Save a new key pair; the paths of the private and the public file. Raises FileProblem."""
        private, public = self.key_path(key.public.label), self.public_path(key.public.label)
        save_key(private, key, passphrase)
        save_public_key(public, key.public)
        return private, public

    def free_label(self, use: str) -> str:
        """``submit``, or ``submit-2`` and so on when that is taken."""
        number = 1
        while True:
            label = use if number == 1 else f"{use}-{number}"
            if not self.key_path(label).exists() and not self.public_path(label).exists():
                return label
            number += 1

    def key_files(self, use: str) -> list[KeyFile]:
        """The key files of a use, by name. Raises FileProblem, KeyFileError."""
        files = [KeyFile(path) for path in sorted(self.path.glob("*.key.json"))]
        return [one for one in files if one.public.use == use]

    def find_key(self, name: str) -> KeyFile:
        """A key by its label here, or by a path. Raises Usage, KeyFileError."""
        for path in (self.key_path(name), Path(name)):
            if path.is_file():
                return KeyFile(path)
        raise Usage(
            f"there is no key {name!r}", where="--signer", fix=f"name a key in {self.path}, or a key file"
        )

    def key_path(self, label: str) -> Path:
        return self.path / f"{label}.key.json"

    def public_path(self, label: str) -> Path:
        return self.path / f"{label}.pub.json"

    # --- the ledger and the agency's place in it ---

    def pinned(self) -> TrustedLedger | None:
        """The pinned ledger; None before the first use. Raises FileProblem, TrustFormatError."""
        path = self.path / "trust.json"
        return only_ledger(load_trust(path)) if path.exists() else None

    def pin(self, ledger: TrustedLedger) -> Path:
        """Pin the ledger, once. Raises FileProblem."""
        path = self.path / "trust.json"
        write_new_file(path, Trust((ledger,)).encode() + b"\n", PUBLIC)
        return path

    def membership(self) -> Membership | None:
        """What is known of the agency's number and keys. Raises FileProblem."""
        path = self.path / "agency.json"
        if not path.exists():
            return None
        try:
            return Membership.decode(read_file(path, 1 << 20))
        except FormatError as error:
            raise FileProblem(
                f"is damaged: {error}", where=str(path), fix="remove it: it is found again"
            ) from error

    def remember(self, membership: Membership) -> None:
        write_file(self.path / "agency.json", membership.encode())

    # --- what was issued ---

    @property
    def receipts(self) -> Path:
        """Where receipts go when no other place is named."""
        return self.path / "receipts"


def receipt_paths(directory: Path, names: Sequence[str]) -> list[Path]:
    """A free path for each receipt: ``<name>.receipt.json``, or ``<name>.2.receipt.json`` and so on."""
    taken: set[Path] = set()
    paths = []
    for name in names:
        path = next(one for one in _paths(directory, name) if one not in taken and not one.exists())
        taken.add(path)
        paths.append(path)
    return paths


def write_receipt(path: Path, receipt: Receipt) -> Path:
    """Write a receipt at ``path``, or at the next name that is free; returns where it went.

    Only an earlier receipt of the same document is replaced: any other may be the only copy of its
    salts. The directory is made when it is not there. Raises FileProblem.
    """
    data = receipt.encode()
    make_private_directory(path.parent)
    others = _paths(path.parent, path.name.removesuffix(_ENDING), 2)
    while True:
        try:
            write_new_file(path, data)
            return path
        except NameTaken:
            if _is_of_same_document(path, receipt):
                write_file(path, data)
                return path
            path = next(others)


def _paths(directory: Path, name: str, number: int = 1) -> Iterator[Path]:
    """``name`` with the ending of a receipt, then numbered; shortened to what a file system takes."""
    while True:
        ending = _ENDING if number == 1 else f".{number}{_ENDING}"
        short = name.encode()[: MAX_NAME - len(ending)].decode(errors="ignore")
        yield directory / f"{short}{ending}"
        number += 1


def _is_of_same_document(path: Path, receipt: Receipt) -> bool:
    try:
        there = parse_receipt(read_file(path, MAX_RECEIPT + 1))
    except (FileProblem, ReceiptFormatError):
        return False
    return there.document.commitment(there.genesis) == receipt.document.commitment(receipt.genesis)
