"""The authority's directory: its keys, the log's first key, the genesis leaf and the trust file.

    genesis.leaf                leaf 0, signed by every authority key: what a new node starts from
    trust.json                  what verifiers pin; to be published
    log.key.json                the log's private key, for the node (0600)
    log-ml-dsa-44.key.json      the one of ML-DSA-44 beside it, if the log has one (0600)
    authority-<n>.key.json      the authority's private keys (0600)
    authority-<n>.pub.json      the public half of a key made for an authority that is there already
    change.pending.json         a change that was signed and not seen to its end
    registered.json             a cache: which keys are registered with whom

Holding all keys in one directory is for trying things out and for small authorities. Split, each holder
has a directory with one key, the genesis leaf and the trust file, and signs proposals there.
"""

from __future__ import annotations

import re
import secrets
import shutil
import time
from pathlib import Path
from typing import Final

from ledger.changes import LEDGER, AuthorityKey, AuthoritySet, Change, Genesis
from ledger.checkpoints import log_key
from ledger.leaves import MAX_LEAF_SIZE, NONE
from ledger.registry_changes import found
from ledger.registry_leaf import NO_GENESIS
from ledger.signatures import Algorithm
from ledger.trust import MAX_TRUST, Trust, TrustedLedger
from tools.errors import FileProblem, NameTaken, Usage
from tools.files import (
    PRIVATE,
    PRIVATE_DIRECTORY,
    PUBLIC,
    make_private_directory,
    read_file,
    reason,
    remove_file,
    sync_directory,
    write_new_file,
)
from tools.keyfile import MAX_KEY_FILE, KeyFile, make_key, save_key, save_public_key
from tools.pinning import trusted_by_genesis
from tools.signing import NumberedSigner, signed_change

MAX_KEYS: Final = 16
_KEY: Final = re.compile(r"authority-([1-9][0-9]?)\.key\.json", re.ASCII)


class AuthorityDirectory:
    """The directory at ``path``. Writers hold its lock (``tools.files.locked``)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def is_one(cls, path: Path) -> bool:
        """Whether ``path`` is an authority's directory: one that holds a genesis leaf."""
        return cls(path).genesis_path.is_file()

    @classmethod
    def open(cls, path: Path) -> AuthorityDirectory:
        """One that :meth:`create` made. Raises Usage."""
        directory = cls(path)
        if not cls.is_one(path):
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
        post_quantum: bool,
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
                _fill(cls(temporary), origin, keys, threshold, training, post_quantum, passphrase)
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

    def log_key_paths(self) -> list[Path]:
        """The private keys of the log that lie here, the one of Ed25519 first."""
        paths = (self.log_key_path, self.path / "log-ml-dsa-44.key.json")
        return [path for path in paths if path.exists()]

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


def split(source: AuthorityDirectory, out: Path) -> list[Path]:
    """A directory of its own for each key, ``out/key-<n>``, with genesis and trust; moves the keys.

    A key's copy is on disk before the key is removed here, so that after a crash the same call goes on.
    Raises FileProblem; NameTaken when something else lies in a directory already.
    """
    made = []
    for number, file in source.key_files():
        holder = AuthorityDirectory(out / f"key-{number}")
        make_private_directory(holder.path)
        _put(holder.genesis_path, source.genesis(), PUBLIC)
        _put(holder.trust_path, read_file(source.trust_path, MAX_TRUST), PUBLIC)
        _put(holder.key_path(number), read_file(file.path, MAX_KEY_FILE), PRIVATE)
        remove_file(file.path)
        made.append(holder.path)
    return made


def join(
    path: Path, genesis: bytes, number: int, passphrase: str | None, algorithm: Algorithm | None = None
) -> Path:
    """A new key for an authority that is there: made in ``path``, beside the genesis; its public file.

    Raises FileProblem, NameTaken when a key of this number is there.
    """
    holder = AuthorityDirectory(path)
    make_private_directory(path)
    _put(holder.genesis_path, genesis, PUBLIC)
    _put(holder.trust_path, Trust((trusted_by_genesis(genesis),)).encode() + b"\n", PUBLIC)
    private, public = holder.key_path(number), path / f"authority-{number}.pub.json"
    if public.exists() or not private.exists():  # else a crash came between the two files
        save_key(private, make_key("authority", f"authority-{number}", algorithm), passphrase)
    save_public_key(public, KeyFile(private).public)
    return public


def _put(path: Path, data: bytes, mode: int) -> None:
    """Write a new file, unless it is there with these very bytes. Raises NameTaken."""
    try:
        write_new_file(path, data, mode)
    except NameTaken:
        if read_file(path, len(data)) != data:
            raise


def _fill(
    directory: AuthorityDirectory,
    origin: str,
    keys: int,
    threshold: int,
    training: bool,
    post_quantum: bool,
    passphrase: str | None,
) -> None:
    kind = Algorithm.ED25519_ML_DSA_44 if post_quantum else Algorithm.ED25519
    pairs = [make_key("authority", f"authority-{number}", kind) for number in range(1, keys + 1)]
    logs = {"log": make_key("log", "log")}
    if post_quantum:
        logs["log-ml-dsa-44"] = make_key("log", "log-ml-dsa-44", Algorithm.ML_DSA_44)
    publics = [one.public for one in logs.values()]
    body = Genesis(
        origin=origin,
        nonce=secrets.token_bytes(32),
        training=training,
        time_ms=time.time_ns() // 1_000_000,
        log_keys=tuple(log_key(origin, one.key, one.algorithm).format() for one in publics),
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
    for name, pair in logs.items():
        save_key(directory.path / f"{name}.key.json", pair, None)
    write_new_file(directory.genesis_path, leaf, PUBLIC)
    write_new_file(directory.trust_path, Trust((trusted_by_genesis(leaf),)).encode() + b"\n", PUBLIC)
