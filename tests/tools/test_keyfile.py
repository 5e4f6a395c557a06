"""Key files: at rest, damaged, open to others, under the wrong passphrase; and never shown."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.canonical_json import base64_text, encode
from ledger.errors import SudurError
from ledger.signatures import Algorithm, verify
from tests.tools.helpers import CHEAP
from tools.errors import FileProblem, KeyFileError, WrongPassphrase
from tools.keyfile import (
    FILE_USES,
    KeyFile,
    PrivateKey,
    encode_key,
    load_public_key,
    make_key,
    save_key,
    save_public_key,
)
from tools.ui import Passphrase


def saved(path: Path, passphrase: str | None = "open sesame", use: str = "submit") -> PrivateKey:
    key = make_key(use, "desk-1")
    save_key(path, key, passphrase, CHEAP)
    return key


@pytest.mark.parametrize("passphrase", [None, "open sesame", "كلمة السر", " \n "])
def test_a_key_comes_back(tmp_path: Path, passphrase: str | None) -> None:
    key = saved(tmp_path / "a.key.json", passphrase)
    file = KeyFile(tmp_path / "a.key.json")
    assert file.public == key.public
    assert file.is_encrypted == (passphrase is not None)
    signer = file.open(passphrase).signer
    verify(Algorithm.ED25519, key.public.key, b"message", signer.sign(b"message"))


@pytest.mark.parametrize("use", FILE_USES)
def test_every_use_has_its_algorithm(tmp_path: Path, use: str) -> None:
    key = saved(tmp_path / "k", None, use)
    assert (key.public.algorithm is Algorithm.X25519) == (use in ("envelope", "register"))
    assert KeyFile(tmp_path / "k").open(None) == key


def test_an_envelope_key_signs_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="signs nothing"):
        _ = saved(tmp_path / "k", None, "envelope").signer


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_the_owner_can_read_it(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        saved(tmp_path / "k")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "k").stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o601])
def test_a_key_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    saved(tmp_path / "k")
    (tmp_path / "k").chmod(mode)
    with pytest.raises(KeyFileError, match="chmod 600"):
        KeyFile(tmp_path / "k")


@pytest.mark.parametrize("passphrase", ["open sesam", "Open sesame", "open sesame "])
def test_a_wrong_passphrase_is_named(tmp_path: Path, passphrase: str) -> None:
    saved(tmp_path / "k")
    with pytest.raises(WrongPassphrase, match="not this key's"):
        KeyFile(tmp_path / "k").open(passphrase)


@pytest.mark.parametrize("passphrase", [None, ""])
def test_a_missing_passphrase_is_named(tmp_path: Path, passphrase: str | None) -> None:
    saved(tmp_path / "k")
    with pytest.raises(WrongPassphrase, match="SUDUR_PASSPHRASE"):
        KeyFile(tmp_path / "k").open(passphrase)


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    first = saved(tmp_path / "k", None)
    with pytest.raises(FileProblem, match="not overwritten"):
        saved(tmp_path / "k", None)
    assert KeyFile(tmp_path / "k").open(None) == first
    assert [path.name for path in tmp_path.iterdir()] == ["k"]


@pytest.mark.parametrize("passphrase", [None, "open sesame"])
def test_the_secret_is_never_shown(tmp_path: Path, passphrase: str | None) -> None:
    key = saved(tmp_path / "k", passphrase)
    file = KeyFile(tmp_path / "k")
    shown = f"{key!r} {key} {file!r} {file.open(passphrase)!r} {file.open(passphrase).signer!r}"
    text = base64_text(key.secret)
    assert key.secret.hex() not in shown
    assert text not in shown
    assert repr(key.secret)[2:-1] not in shown
    stored = (tmp_path / "k").read_text()
    assert (text in stored) == (passphrase is None)


def test_every_flipped_bit_of_an_encrypted_key_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "k"
    key = saved(path)
    whole = path.read_bytes()
    for at in range(0, len(whole) * 8, 7):
        damaged = bytearray(whole)
        damaged[at // 8] ^= 1 << at % 8
        path.write_bytes(damaged)
        try:
            found = KeyFile(path).open("open sesame")
        except (KeyFileError, WrongPassphrase):
            continue
        # A changed use or label is a key that the registry does not know so; the pair itself is sound.
        assert (found.secret, found.public.key) == (key.secret, key.public.key)


@pytest.mark.parametrize("cut", [0, 1, 50, -2])
def test_a_cut_file_is_damaged(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "k"
    saved(path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(KeyFileError, match="no undamaged key file"):
        KeyFile(path)


def test_a_file_of_another_pair_is_damaged(tmp_path: Path) -> None:
    one, other = make_key("submit", "a"), make_key("submit", "a")
    mixed = PrivateKey(one.public, other.secret)
    (tmp_path / "k").write_bytes(encode_key(mixed, None))
    (tmp_path / "k").chmod(0o600)
    with pytest.raises(KeyFileError, match="does not belong"):
        KeyFile(tmp_path / "k").open(None)


@pytest.mark.parametrize(("name", "value"), [("memory", 1 << 40), ("operations", 1000), ("memory", 0)])
def test_a_file_cannot_ask_for_all_memory(tmp_path: Path, name: str, value: int) -> None:
    path = tmp_path / "k"
    saved(path)
    content = json.loads(path.read_bytes())
    content["secret"][name] = value
    path.write_bytes(encode(content))
    with pytest.raises(KeyFileError, match=name):
        KeyFile(path)


def test_a_public_key_comes_back(tmp_path: Path) -> None:
    key = make_key("registry", "قسم-٣").public
    save_public_key(tmp_path / "p", key)
    assert load_public_key(tmp_path / "p") == key
    assert len(key.fingerprint) == 64


def test_a_private_key_is_not_taken_for_a_public_one(tmp_path: Path) -> None:
    saved(tmp_path / "k", None)
    with pytest.raises(KeyFileError, match="sudur-public-key/v1 is expected"):
        load_public_key(tmp_path / "k")


@pytest.mark.parametrize("label", ["", ".hidden", "a/b", "..", "a b", "x" * 65, "a\n", "\u202ea"])
def test_labels_that_name_no_file_are_refused(label: str) -> None:
    with pytest.raises(KeyFileError, match="label"):
        make_key("submit", label)


@given(
    data=st.binary(max_size=400)
    | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(
        lambda value: json.dumps({"format": "sudur-key/v1", "secret": value}).encode()
    )
)
def test_any_bytes_give_only_our_errors(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("keys") / "k"
    path.write_bytes(data)
    path.chmod(0o600)
    for read in (KeyFile, load_public_key):
        with pytest.raises(SudurError):
            read(path)


def test_where_a_passphrase_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "passphrase"
    file.write_text("from the file\n")
    assert Passphrase(None).given() is None
    monkeypatch.setenv("SUDUR_PASSPHRASE", "from the environment")
    assert Passphrase(None).given() == "from the environment"
    assert Passphrase(file).given() == "from the file"
    file.write_text("\n")
    with pytest.raises(FileProblem, match="holds no passphrase"):
        Passphrase(file).given()
    file.write_bytes(b"\xff")
    with pytest.raises(FileProblem, match="UTF-8"):
        Passphrase(file).given()
