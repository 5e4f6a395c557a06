"""Which keys are registered, and with which agency, as a node says: unproven.

A wrong answer makes a submission or a change that the ledger refuses, nothing worse.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ledger.canonical_json import Json, Reader, encode, parse
from ledger.changes import AUTHORITY, MAX_AGENCY, MAX_KEY_NUMBER
from ledger.errors import FormatError
from ledger.registry_records import AgencyRecord, KeyRecord, LedgerRecord
from ledger.signatures import key_fingerprint
from tools.client import LedgerClient
from tools.errors import FileProblem
from tools.files import read_file, write_file

_FORMAT: Final = "sudur-registered-keys/v1"
_MAX_CACHE: Final = 64 << 20


def newest_agencies(client: LedgerClient) -> range:
    """The numbers of all agencies, the newest first. One call."""
    count = LedgerRecord.decode(client.record("ledger").record).agencies
    return range(count, 0, -1)


def registered_keys(client: LedgerClient, agency: int) -> dict[str, int]:
    """Key numbers by fingerprint, of the keys that ended as well. One call, and one a key."""
    count = AgencyRecord.decode(client.record(f"agency/{agency}").record).key_count
    return _keys(client, agency, count)


def _keys(client: LedgerClient, agency: int, count: int) -> dict[str, int]:
    keys = {}
    for number in range(1, count + 1):
        record = KeyRecord.decode(client.record(f"agency/{agency}/key/{number}").record)
        keys[key_fingerprint(record.algorithm, record.public_key).hex()] = number
    return keys


@dataclass(frozen=True, slots=True)
class Holder:
    """Who a key is registered with: an agency, or 0 for the authority; and its number there."""

    agency: int
    number: int


class KeyIndex:
    """All registered keys by fingerprint, kept in a file and brought up to date before each use.

    An agency's keys are asked for again only when the root of its key tree is another; so a use costs one
    call an agency, and one a new key. A cache that is damaged is made anew.
    """

    def __init__(self, path: Path, client: LedgerClient) -> None:
        self._path = path
        self._client = client

    def find(self, fingerprints: Iterable[str]) -> dict[str, Holder]:
        """The holder of each of these that is registered. Raises FileProblem, Unavailable."""
        wanted = set(fingerprints)
        ledger = LedgerRecord.decode(self._client.record("ledger").record)
        found = {}
        for key in ledger.authority_keys:
            name = key_fingerprint(key.algorithm, key.public_key).hex()
            if name in wanted:
                found[name] = Holder(AUTHORITY, key.number)
        for agency, keys in self._current(ledger.agencies).items():
            for name in wanted & keys.keys():
                found[name] = Holder(agency, keys[name])
        return found

    def _current(self, agencies: int) -> dict[int, dict[str, int]]:
        known = self._load()
        current: dict[int, tuple[str, dict[str, int]]] = {}
        for number in range(1, agencies + 1):
            record = AgencyRecord.decode(self._client.record(f"agency/{number}").record)
            root = record.keys_root.hex()
            kept = known.get(number)
            if kept is None or kept[0] != root:
                kept = root, _keys(self._client, number, record.key_count)
            current[number] = kept
        if current != known:
            self._save(current)
        return {number: keys for number, (_, keys) in current.items()}

    def _load(self) -> dict[int, tuple[str, dict[str, int]]]:
        if not self._path.exists():
            return {}
        try:
            return _decode(read_file(self._path, _MAX_CACHE))
        except (FileProblem, FormatError):
            return {}

    def _save(self, current: dict[int, tuple[str, dict[str, int]]]) -> None:
        body: Json = {
            "format": _FORMAT,
            "agencies": [
                {"agency": number, "root": root, "keys": keys} for number, (root, keys) in current.items()
            ],
        }
        write_file(self._path, encode(body) + b"\n")


def _decode(data: bytes) -> dict[int, tuple[str, dict[str, int]]]:
    reader = Reader(parse(data.removesuffix(b"\n"), limit=_MAX_CACHE, where="keys"), "keys")
    if reader.text("format") != _FORMAT:
        raise FormatError(f"is not {_FORMAT}", where=reader.at("format"))
    found = {}
    for one in reader.members("agencies", limit=1 << 20):
        keys = one.any("keys")
        numbers = Reader(keys, one.at("keys"))
        found[one.number("agency", 1, MAX_AGENCY)] = (
            one.text("root", limit=64),
            {name: numbers.number(name, 1, MAX_KEY_NUMBER) for name in keys},
        )
        one.done()
    reader.done()
    return found
