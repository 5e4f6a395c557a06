"""The authority's directory: its keys, the log's first key, the genesis leaf and the trust file.

    genesis.leaf                leaf 0, signed by every authority key: what a new node starts from
    trust.json                  what verifiers pin; to be published
    log.key.json                the log's private key, for the node (0600)
    authority-<n>.key.json      the authority's private keys (0600)
    enrolment.json              an enrolment that was begun and not finished

Holding all keys in one directory is for trying things out and for small authorities; signatures are
values of their own (``tools.signing``), so keys can lie in different places.
"""

from __future__ import annotations

import re
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ledger.canonical_json import Reader, base64_text, encode, parse
from ledger.changes import LEDGER, MAX_AGENCY, AuthorityKey, AuthoritySet, Change, Genesis, NewKey
from ledger.checkpoints import log_key
from ledger.errors import FormatError
from ledger.leaves import MAX_LEAF_SIZE, NONE
from ledger.registry_changes import found
from ledger.registry_leaf import NO_GENESIS
from ledger.trust import Trust, TrustedLedger
from tools.errors import FileProblem, Usage
from tools.files import (
    PRIVATE_DIRECTORY,
    PUBLIC,
    read_file,
    reason,
    remove_file,
    sync_directory,
    write_file,
    write_new_file,
)
from tools.keyfile import KeyFile, make_key, save_key
from tools.pinning import trusted_by_genesis
from tools.signing import NumberedSigner, signed_change

MAX_KEYS: Final = 16
_KEY: Final = re.compile(r"authority-([1-9][0-9]?)\.key\.json", re.ASCII)
_ENROLMENT_FORMAT: Final = "sudur-enrolment/v1"


@dataclass(frozen=True, slots=True)
class Enrolment:
    """Two changes that belong together: the agency, and then its keys."""

    agency: int
    leaf: bytes
    keys: tuple[NewKey, ...]

    def encode(self) -> bytes:
        return encode(
            {
                "format": _ENROLMENT_FORMAT,
                "agency": self.agency,
                "leaf": base64_text(self.leaf),
                "keys": [key.to_json() for key in self.keys],
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Enrolment:
        """Raises FormatError."""
        reader = Reader(parse(data, limit=1 << 20, where="enrolment"), "enrolment")
        if reader.text("format") != _ENROLMENT_FORMAT:
            raise FormatError(f"is not {_ENROLMENT_FORMAT}", where=reader.at("format"))
        enrolment = cls(
            reader.number("agency", 1, MAX_AGENCY),
            reader.data("leaf"),
            tuple(NewKey.from_json(one) for one in reader.members("keys", limit=64)),
        )
        reader.done()
        return enrolment


class AuthorityDirectory:
    """The directory at ``path``. Writers hold its lock (``tools.files.locked``)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, path: Path) -> AuthorityDirectory:
        """One that :meth:`create` made. Raises Usage."""
        directory = cls(path)
        if not directory.genesis_path.is_file():
            raise Usage(
                f"{path} is no authority's directory",
                where="--dir",
                fix="make one first: sudur authority init",
            )
        return directory

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        origin: str,
        keys: int,
        threshold: int,
        training: bool,
        passphrase: str | None,
    ) -> AuthorityDirectory:
        """Make all of it, or nothing: it is put together beside ``path`` and then renamed.

        The log's key is never encrypted: a node starts without anybody at the keyboard. Raises Usage
        when something is there already, NoteFormatError or ChangeRefused for an origin that will not do.
        """
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise Usage(
                f"{path} is there already, and is not empty", where="--dir", fix="name a new directory"
            )
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
        try:
            temporary.mkdir(mode=PRIVATE_DIRECTORY, parents=True)
            try:
                _fill(cls(temporary), origin, keys, threshold, training, passphrase)
                temporary.rename(path)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
            sync_directory(path.parent)
        except OSError as error:
            raise FileProblem(f"cannot be made: {reason(error)}", where=str(path)) from None
        return cls(path)

    @property
    def genesis_path(self) -> Path:
        return self.path / "genesis.leaf"

    @property
    def trust_path(self) -> Path:
        return self.path / "trust.json"

    @property
    def log_key_path(self) -> Path:
        return self.path / "log.key.json"

    def key_path(self, number: int) -> Path:
        return self.path / f"authority-{number}.key.json"

    def genesis(self) -> bytes:
        """Leaf 0. Raises FileProblem."""
        return read_file(self.genesis_path, MAX_LEAF_SIZE)

    def ledger(self) -> TrustedLedger:
        """The ledger that this directory began. Raises FileProblem, FormatError, SignatureInvalid."""
        return trusted_by_genesis(self.genesis())

    def key_files(self) -> list[tuple[int, KeyFile]]:
        """The authority's keys that lie here, by number. Raises KeyFileError, FileProblem."""
        numbers = sorted(
            int(match[1]) for path in self.path.iterdir() if (match := _KEY.fullmatch(path.name))
        )
        return [(number, KeyFile(self.key_path(number))) for number in numbers]

    # --- an enrolment in the works ---

    @property
    def _enrolment_path(self) -> Path:
        return self.path / "enrolment.json"

    def enrolment(self) -> Enrolment | None:
        """The enrolment that was begun and not finished. Raises FileProblem."""
        path = self._enrolment_path
        if not path.exists():
            return None
        try:
            return Enrolment.decode(read_file(path, 1 << 20))
        except FormatError as error:
            raise FileProblem(f"is damaged: {error}", where=str(path)) from error

    def begin(self, enrolment: Enrolment) -> None:
        write_file(self._enrolment_path, enrolment.encode())

    def end(self) -> None:
        remove_file(self._enrolment_path)


def _fill(
    directory: AuthorityDirectory,
    origin: str,
    keys: int,
    threshold: int,
    training: bool,
    passphrase: str | None,
) -> None:
    pairs = [make_key("authority", f"authority-{number}") for number in range(1, keys + 1)]
    log = make_key("log", "log")
    body = Genesis(
        origin=origin,
        nonce=secrets.token_bytes(32),
        training=training,
        time_ms=time.time_ns() // 1_000_000,
        log_keys=(log_key(origin, log.public.key).format(),),
        authority=AuthoritySet(
            threshold,
            tuple(
                AuthorityKey(number, pair.public.algorithm, pair.public.key)
                for number, pair in enumerate(pairs, 1)
            ),
        ),
        witness_policy="",
    )
    change = Change(LEDGER, NONE, body)
    signers = [NumberedSigner(number, pair.signer) for number, pair in enumerate(pairs, 1)]
    leaf = signed_change(change, NO_GENESIS, signers)
    found(leaf)
    for number, pair in enumerate(pairs, 1):
        save_key(directory.key_path(number), pair, passphrase)
    save_key(directory.log_key_path, log, None)
    write_new_file(directory.genesis_path, leaf, PUBLIC)
    write_new_file(directory.trust_path, Trust((trusted_by_genesis(leaf),)).encode() + b"\n", PUBLIC)
